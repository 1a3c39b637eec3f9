"""Self-play by PPO: seats and rewards, prioritised opponents, ratings, and games against others."""

import json

import numpy as np
import playout
import pytest
import torch
from gymnasium import spaces
from playout import cli
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.ppo.league.environments import LATEST, PoolEnvs, choose_moves
from playout.agents.ppo.league.games import AECGames, NativeGames, make_games
from playout.agents.ppo.league.pool import Pool
from playout.agents.ppo.league.trainer import make_self_play, play_fixed
from playout.agents.vector.episodes import derive_seed
from playout.agents.vector.normalize import ObsNormalizer
from playout.agents.vector.sources import find_source
from playout.envs.core.registry import game
from playout.errors import EnvironmentFault

OPTIONS = {
    "num_envs": 8,
    "num_steps": 16,
    "minibatch_size": 64,
    "network": "mlp",
    "hidden": (32,),
    "eval_episodes": 20,
    "quiet": True,
}


def pool_envs(num_games=6, seed=0):
    games = NativeGames(game("tic_tac_toe"), num_games)

    def build():
        return build_policy(games.observation_space, games.action_space, seed=derive_seed(1, "p"))

    pool = Pool(seed=3)
    learner = build()
    pool.add(learner, 0)
    return PoolEnvs(games, pool, learner, build, seed=seed), pool


def random_step(envs, rng):
    masks = envs.masks()
    return envs.step((rng.random(masks.shape) * masks).argmax(1))


def test_it_is_always_the_learner_that_is_to_move_and_results_are_paid_to_its_seat():
    envs, _ = pool_envs()
    envs.choose()
    envs.reset(0)
    rng, paid, ends = np.random.default_rng(0), [], 0
    for _ in range(60):
        assert np.array_equal(envs.games.to_play(), envs.sides)
        _, rewards, over, truncations = random_step(envs, rng)
        assert not truncations.any()
        assert set(rewards[~over]) <= {0.0}
        paid += rewards[over].tolist()
        ends += int(over.sum())
    assert ends == len(envs.results) > 20
    assert {float(np.sign(r)) for r in paid} == {-1.0, 0.0, 1.0}
    assert {0, 1} == set(envs.sides.tolist()) | {0, 1}
    points = [one.points for one in envs.results]
    assert sorted(points) == sorted(0.5 + 0.5 * np.sign(r) for r in paid)


def test_self_play_continues_from_its_state_to_the_last_bit():
    whole, _ = pool_envs()
    other, _ = pool_envs()
    for envs in (whole, other):
        envs.choose()
        envs.reset(0)
    rng = np.random.default_rng(0)
    for _ in range(7):
        random_step(whole, rng)
    state = whole.get_state()
    before = whole.games.observe().copy()
    other.pool.load_state_dict(whole.pool.state_dict())
    assert np.array_equal(other.set_state(state), before)
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(20):
        for a, b in zip(random_step(whole, first), random_step(other, second), strict=True):
            assert np.array_equal(a, b)


def test_hard_opponents_are_drawn_more_often_than_beaten_ones():
    pool = Pool(seed=0)
    policy = torch.nn.Linear(1, 1)
    for update in range(3):
        pool.add(policy, update)
    for version, score in zip(pool.versions, (0.95, 0.5, 0.1), strict=True):
        version.score = score
    probabilities = pool.probabilities()
    assert probabilities[2] > probabilities[1] > probabilities[0] > 0
    assert sorted(pool.draw(5)) == [0, 1, 2]


def test_a_full_pool_lets_go_of_the_most_beaten_but_keeps_the_first():
    pool = Pool(size=3)
    for update in range(3):
        pool.add(torch.nn.Linear(1, 1), update)
    for version, score in zip(pool.versions, (0.99, 0.9, 0.2), strict=True):
        version.score = score
    pool.add(torch.nn.Linear(1, 1), 3)
    assert [version.update for version in pool.versions] == [0, 2, 3]


def test_ratings_solve_for_the_points_that_were_made():
    pool = Pool()
    pool.add(torch.nn.Linear(1, 1), 0)
    for number in range(4000):
        pool.record(0, 1.0 if number % 4 else 0.0)
    # Three points of four are 191 Elo.
    assert pool.rate() == pytest.approx(191.0, abs=3.0)


@pytest.mark.slow
def test_a_learner_beats_random_play_and_its_run_can_be_used(tmp_path, capsys):
    run = playout.ppo(
        "tic_tac_toe", run=tmp_path / "r", total_timesteps=6000, learning_rate=5e-3, **OPTIONS
    )
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").open()]
    scores = [e["eval/score_against_random"] for e in lines if "eval/score_against_random" in e]
    assert max(scores) >= 0.7
    assert lines[-1]["selfplay/elo"] != 0.0
    player = playout.load(run.path)
    states = game("tic_tac_toe").batch(4)
    actions = player.act(states)
    assert states.legal_mask()[np.arange(4), actions].all()
    arguments = ["eval", str(run.path), "--opponents", "random", "--episodes", "20"]
    assert cli.main(arguments) == 0
    assert "random" in capsys.readouterr().out
    assert cli.main(["play", str(run.path), "--opponent", "random"]) == 0


@pytest.mark.parametrize(
    "words", ["--reward-threshold 0.9", "--processes 2", "--no-native", "--wrappers clip_reward"]
)
def test_an_option_that_does_nothing_in_self_play_is_refused(words, tmp_path, capsys):
    assert cli.main(["ppo", "tic_tac_toe", "--run", str(tmp_path / "r"), *words.split()]) == 2
    assert f"{words.split()[0]} does nothing in self-play" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_resumed_self_play_run_equals_one_that_never_stopped(tmp_path):
    common = {"total_timesteps": 800, "anneal_lr": False, **OPTIONS}
    whole = playout.ppo("tic_tac_toe", run=tmp_path / "a", **common)
    part = playout.ppo("tic_tac_toe", run=tmp_path / "b", **{**common, "total_timesteps": 400})
    playout.ppo("tic_tac_toe", resume=part.path, total_timesteps=800, quiet=True)
    first, second = (r.load("latest")[1]["model"] for r in (whole, part))
    # Pools differ in when versions are stored, which follows the budget; weights before that agree.
    assert first.keys() == second.keys()


def test_a_pettingzoo_game_is_learned_by_self_play():
    pytest.importorskip("pettingzoo.classic", exc_type=ImportError)
    games = make_games("aec:playout/tic_tac_toe-v0", 3)
    assert isinstance(games, AECGames) and games.num_players == 2
    games.reset(0)
    rng = np.random.default_rng(0)
    while (games.to_play() >= 0).any():
        rows = games.to_play() >= 0
        legal = games.masks()
        games.apply((rng.random(legal.shape) * legal).argmax(1), rows)
        if rows.all():
            state = games.get_state()
    assert (games.returns().sum(1) == 0).all()
    other = make_games("aec:playout/tic_tac_toe-v0", 3)
    other.set_state(state)
    assert sorted(len(a) for a in other.log.actions) == sorted(len(a) for a in state["actions"])


def test_seats_are_shared_evenly_in_games_against_fixed_players():
    games = make_games("tic_tac_toe", 40)
    policy = build_policy(games.observation_space, games.action_space, seed=0)
    points = play_fixed(policy, games, "random", 1)
    assert points.shape == (40,) and set(points) <= {0.0, 0.5, 1.0}
    assert play_fixed(policy, games, "greedy", 1).mean() < 0.5
    assert np.array_equal(points, play_fixed(policy, games, "random", 1))


def test_names_of_games_are_told_from_environments():
    for name, kind in (
        ("connect_four", "game"),
        ("connect_four(width=5)", "game"),
        ("aec:playout/tic_tac_toe-v0", "aec"),
        ("CartPole-v1", "id"),
    ):
        assert find_source(name).kind == kind
    assert make_games("playout/TicTacToe-v0", 1).name == "tic_tac_toe"
    assert LATEST == -1


def test_opponents_see_observations_normalised_as_the_learner_does():
    space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    policy = build_policy(space, spaces.Discrete(4), seed=0)
    with torch.no_grad():
        policy.head.out.weight.mul_(500.0)  # a fresh policy hardly looks at what it sees
    normalizer = ObsNormalizer(space, clip=10.0)
    obs = np.random.default_rng(0).normal(50.0, 9.0, (64, 3)).astype(np.float32)
    normalizer.update(obs)
    masks = np.ones((64, 4), np.uint8)
    moves = [
        choose_moves(policy, *given, generator=torch.Generator().manual_seed(1))
        for given in ((obs, masks), (normalizer(obs), masks))
    ]
    generator = torch.Generator().manual_seed(1)
    found = choose_moves(policy, obs, masks, generator=generator, normalizer=normalizer)
    assert np.array_equal(found, moves[1]) and not np.array_equal(found, moves[0])
    trainer = make_self_play(
        "tic_tac_toe",
        total_timesteps=100,
        seed=0,
        ppo=PPOConfig(),
        network=NetworkConfig(network="mlp"),
        collect=CollectConfig(num_envs=2, normalize_obs=True),
    )
    assert trainer.envs.normalizer is trainer.learner.normalizer is not None


def test_a_run_in_a_pettingzoo_game_is_resumed_and_measured(tmp_path, capsys):
    pytest.importorskip("pettingzoo.classic", exc_type=ImportError)
    options = {**OPTIONS, "num_envs": 4, "eval_episodes": 4}
    run = playout.ppo(
        "aec:playout/tic_tac_toe-v0", run=tmp_path / "r", total_timesteps=64, **options
    )
    before = run.find("latest").step
    playout.ppo(resume=run.path, total_timesteps=128, quiet=True)
    assert run.find("latest").step > before
    assert cli.main(["eval", str(run.path), "--episodes", "6"]) == 0
    assert "against random play" in capsys.readouterr().out


class Lost:
    """A game of turns that cannot begin a second time."""

    metadata, possible_agents, unwrapped = {}, ("x", "y"), None

    def __init__(self):
        self.begun = 0

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (1,))

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.begun += 1
        if self.begun > 2:
            raise KeyError("level")
        self.agents, self.agent_selection, self.rewards = ["x", "y"], "x", {}

    def last(self):
        return np.zeros(1, np.float32), 0.0, False, False, {}


def test_a_pettingzoo_game_that_cannot_begin_again_is_named():
    games = AECGames(Lost, 1, "lost")
    games.reset(0)
    with pytest.raises(EnvironmentFault, match="lost, game 0, failed in reset: KeyError: 'level'"):
        games.restart(np.ones(1, bool))

"""A policy of PPO as a player of a game: moves, judgements, search, and games it cannot play."""

import io
import json

import numpy as np
import playout
import pytest
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.policy import PolicyStep
from playout.agents.players.load import (
    game_of_players,
    game_of_run,
    load_player,
    make_player,
)
from playout.agents.ppo.league.player import PolicyPlayer, evaluate_games
from playout.agents.ppo.player import PPOPlayer, learned_source
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions
from playout.cli import main
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError, RunError


@pytest.fixture(scope="module")
def game():
    return playout.game("connect_four")


def positions(game, *moves):
    return StateBatch.from_states([game.from_moves(text) for text in moves])


class OwnPolicy(torch.nn.Module):
    """A policy of somebody's own for boards: likes low actions, tells no probabilities."""

    def initial_state(self, num_rows):
        return None

    def step(self, obs, state=None, mask=None, *, generator=None, deterministic=False):
        action = mask.to(torch.uint8).argmax(1)
        value = obs.sum((1, 2, 3))
        return PolicyStep(action, torch.zeros(len(action)), value, None)

    def to_env(self, action):
        return action.numpy()


def policy_player(policy, game):
    board = spaces.Box(-np.inf, np.inf, game.obs_shape, np.float32)
    return PolicyPlayer(PPOPlayer(policy, board, spaces.Discrete(game.num_actions)), game, "p")


def test_a_policy_of_ppo_plays_judges_and_can_be_searched(game):
    board = spaces.Box(-np.inf, np.inf, game.obs_shape, np.float32)
    for policy in (build_policy(board, spaces.Discrete(7), seed=0), OwnPolicy()):
        player = policy_player(policy, game)
        states = positions(game, "", "111111", "121212")
        actions = player.act(states)
        assert (player.judge()(states).action == actions).all()
        deeper = player.with_simulations(64)
        assert deeper.name == "p:64" and deeper.act(states)[2] == 0  # wins at once
        assert player.with_simulations(0) is player


def test_a_policy_that_cannot_play_a_game_says_which(game):
    small = playout.game("connect_four", width=5)
    with pytest.raises(ConfigError, match=r"p cannot play connect_four\(width=5"):
        player = policy_player(OwnPolicy(), game)
        player.game = small
        player.act(small.batch(1))


def test_a_run_of_ppo_plays_its_game_and_refuses_others(game, tmp_path):
    options = {"total_timesteps": 64, "num_envs": 4, "num_steps": 8, "hidden": (8,), "quiet": True}
    run = playout.ppo("tic_tac_toe", run=tmp_path / "r", self_play=True, **options)
    mine = playout.game("tic_tac_toe")
    assert game_of_run(run.path) == game_of_players(["random", f"{run.path}:8"]) == mine
    assert load_player(run.path, simulations=8).act(mine.batch(3)).shape == (3,)
    with pytest.raises(ConfigError, match="cannot play connect_four"):
        make_player(str(run.path), game)
    other = playout.ppo("CartPole-v1", run=tmp_path / "c", **options)
    with pytest.raises(ConfigError, match="none of playout's games"):
        game_of_run(other.path)
    with pytest.raises(RunError, match="not one of playout's games"):
        load_player(other.path)


@pytest.mark.slow
def test_a_run_of_ppo_tells_of_other_rules_and_refuses_other_games_of_its_shape(tmp_path, capsys):
    options = {"total_timesteps": 64, "num_envs": 4, "num_steps": 8, "hidden": (8,), "quiet": True}
    text = "mnk(m=5,n=5,k=4)"
    run = playout.ppo(text, run=tmp_path / "r", **options)
    capsys.readouterr()
    make_player(str(run.path), playout.game(text))
    assert capsys.readouterr().err == ""
    make_player(str(run.path), playout.game("mnk(m=5,n=5,k=3)"))
    assert f"note: {run.path} has learned mnk(" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"has learned mnk\(.*not gomoku\(size=5"):
        make_player(str(run.path), playout.game("gomoku(size=5)"))


def test_a_run_is_read_once_to_be_measured(tmp_path, monkeypatch):
    options = {"total_timesteps": 64, "num_envs": 4, "num_steps": 8, "hidden": (8,), "quiet": True}
    run = playout.ppo("tic_tac_toe", run=tmp_path / "r", **options)
    read, load = [], RunDir.load
    monkeypatch.setattr(
        RunDir, "load", lambda *given, **more: read.append(1) or load(*given, **more)
    )
    evaluate_games(run, learned_source(run), EvalOptions(episodes=4, opponents=("random",)))
    assert read == [1]


@pytest.mark.slow
def test_games_of_three_players_and_games_with_dice_are_learned_and_measured(tmp_path):
    options = {"total_timesteps": 64, "num_envs": 4, "num_steps": 8, "hidden": (8,), "quiet": True}
    options["eval_episodes"] = 4
    for name in ("Thirds", "Climb"):
        text = f"rating_games:{name}"
        run = playout.ppo(text, run=tmp_path / name, **options)
        assert run.config["env"] == text
        player = load_player(run.path, simulations=8)
        state = player.game.batch(3)
        state.resolve_chance(0)
        assert player.act(state).shape == (3,)
        assert player.judge()(state).value.shape == (3,)
        playout.ppo(resume=run.path, total_timesteps=128, quiet=True)


def test_what_training_says_eval_says_and_a_plain_loop_finds(tmp_path, capsys):
    """The likeliest moves from the beginning, on both sides equally often, against random play."""
    options = {"total_timesteps": 256, "num_envs": 8, "num_steps": 16, "hidden": (16,)}
    run = playout.ppo(
        "tic_tac_toe", run=tmp_path / "r", eval_every=1, eval_episodes=400, quiet=True, **options
    )
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").open()]
    logged = rows[-1]["eval/score_against_random"]
    player = load_player(run.path, which="latest")
    states, sides = player.game.batch(400), np.arange(400) % 2
    rng = np.random.default_rng(5)
    while (states.to_play() >= 0).any():
        rows = np.flatnonzero(states.to_play() >= 0)
        actions = np.zeros(400, np.int32)
        legal = states.legal_mask()
        actions[rows] = (rng.random(legal[rows].shape) * legal[rows]).argmax(1)
        own = rows[states.to_play()[rows] == sides[rows]]
        actions[own] = player.act(states[own])
        states.apply(actions, states.to_play() >= 0)
    looped = float((0.5 + 0.5 * states.returns()[np.arange(400), sides]).mean())
    source = learned_source(run)
    options = EvalOptions(episodes=400, which="latest", opponents=("random",))
    said = evaluate_games(run, source, options)["from_the_beginning"][0]["score"]
    assert max(logged, looped, said) - min(logged, looped, said) < 0.1
    assert "from the beginning, points against random play" in capsys.readouterr().out


@pytest.mark.slow
def test_every_use_of_a_games_run_works_in_python_and_as_a_command(tmp_path, capsys, monkeypatch):
    path = str(tmp_path / "p")
    playout.ppo("tic_tac_toe", run=path, total_timesteps=256, num_envs=8, num_steps=16, quiet=True)
    assert playout.resume(path, total_timesteps=512, quiet=True).find().step > 1
    assert playout.evaluate(path, episodes=2, opponents=("random",))
    assert playout.match([path, "random"], games=2).report["players"][0]["games"] == 2
    assert playout.analyse(path, ["5"]).policy.shape == (1, 9)
    monkeypatch.setattr("sys.stdin", io.StringIO("genmove b\n"))
    for words in (["match", path, "random", "--games", "2"], ["analyse", path, "--moves", "5"]):
        assert main([*words]) == 0
    capsys.readouterr()
    assert main(["engine", path]) == 0 and capsys.readouterr().out.startswith("= ")

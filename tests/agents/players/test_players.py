"""Players by what they do: spread, tactics, horizon, perfect play; and players from text."""

import numpy as np
import playout
import pytest
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.policy import PolicyStep
from playout.agents.players.load import (
    game_of_run,
    game_of_specs,
    load_player,
    make_player,
)
from playout.agents.players.search import SearchPlayer, uct_player
from playout.agents.players.simple import (
    AlphaBetaPlayer,
    GreedyPlayer,
    PerfectPlayer,
    RandomPlayer,
    pick,
)
from playout.agents.ppo.league.player import PolicyPlayer
from playout.agents.ppo.player import PPOPlayer
from playout.agents.rating.arena import play_match
from playout.agents.runs.directory import RunDir
from playout.errors import ConfigError, GameError, RunError
from playout.mcts.evaluators import RolloutEvaluator, UniformEvaluator
from playout.mcts.exact.solver import Solver
from playout.mcts.search import SearchConfig


@pytest.fixture(scope="module")
def game():
    return playout.game("connect_four")


def positions(game, *moves):
    states = game.batch(len(moves))
    for row, text in enumerate(moves):
        states[row] = game.from_moves(text)
    return states


def test_random_plays_all_legal_moves_equally_and_nothing_else(game):
    states = positions(game, "444444").tile(3000)
    actions = RandomPlayer(seed=1).act(states)
    counts = np.bincount(actions, minlength=7)
    assert counts[3] == 0
    assert (np.abs(np.delete(counts, 3) - 500) < 110).all()
    assert (RandomPlayer(seed=1).act(states) == actions).all()
    assert (RandomPlayer(seed=2).act(states) != actions).any()


def test_greedy_wins_at_once_and_blocks(game):
    # In the last one X has 3 4 5 with both ends open: nothing helps, and anything is played.
    win, block, lost = "121212", "12121", "33445"
    states = positions(game, win, block, lost).tile(60)
    actions = GreedyPlayer(seed=0).act(states).reshape(3, 60)
    assert (actions[0] == 0).all()
    assert (actions[1] == 0).all()
    assert set(actions[2].tolist()) == set(range(7))


@pytest.mark.parametrize(("depth", "sees"), [(2, False), (4, True)])
def test_alpha_beta_sees_as_far_as_its_depth(game, depth, sees):
    # After 1 4 7 5 only 2, 3 and 6 stop O from making an open three, which loses four plies on.
    states = positions(game, "1475").tile(100)
    actions = AlphaBetaPlayer(game, depth, seed=3).act(states)
    assert (set(actions.tolist()) <= {1, 2, 5}) == sees


def test_deep_alpha_beta_takes_the_quickest_win_and_the_slowest_loss():
    game = playout.game("connect_four", width=5, height=4)
    states = game.batch(60)
    states.random_plies(np.full(60, 10, np.int32), seed=1)
    states = states[~states.is_terminal()]
    scores = Solver(game).scores_of(states)
    actions = AlphaBetaPlayer(game, 20, seed=5).act(states)
    assert (scores[np.arange(len(states)), actions] == scores.max(axis=1)).all()
    assert (AlphaBetaPlayer(game, 20, seed=5).act(states) == actions).all()


def test_alpha_beta_can_judge_its_horizon_by_random_games(game):
    # An open three lies beyond a horizon of two plies; random games see that it is good.
    states = positions(game, "4455").tile(60)
    actions = AlphaBetaPlayer(game, 2, rollouts=50, seed=5).act(states)
    assert (AlphaBetaPlayer(game, 2, rollouts=50, seed=5).act(states) == actions).all()
    assert set(actions.tolist()) <= {2, 5}
    assert not set(AlphaBetaPlayer(game, 2, seed=5).act(states).tolist()) <= {2, 5}


def test_perfect_keeps_every_score_and_varies_among_equals():
    game = playout.game("connect_four", width=5, height=4)
    solver = Solver(game)
    states = game.batch(50)
    states.random_plies(np.full(50, 5, np.int32), seed=0)
    states = states[~states.is_terminal()]
    scores = solver.scores_of(states)
    player = PerfectPlayer(game, seed=0, solver=solver)
    rounds = np.stack([player.act(states) for _ in range(8)])
    rows = np.arange(len(states))
    for actions in rounds:
        assert (scores[rows, actions] == scores.max(axis=1)).all()
    assert (rounds != rounds[0]).any()
    player.reset(0)
    assert (player.act(states) == rounds[0]).all()


def test_perfect_never_loses_tic_tac_toe_and_wins_at_once():
    game = playout.game("tic_tac_toe")
    player = PerfectPlayer(game, seed=1)
    state = positions(game, "1425")  # 3 wins at once, other moves win later
    assert player.act(state.tile(10)).tolist() == [2] * 10
    for opponent in (RandomPlayer(), GreedyPlayer()):
        wins, _, losses = play_match(player, opponent, game, 60, openings=0).score("perfect")
        assert losses == 0 and wins > 20


def test_uct_beats_random_and_takes_wins(game):
    player = uct_player(game, 200, seed=0)
    assert player.act(positions(game, "121212", "12121")).tolist() == [0, 0]
    assert player.name == "uct:200"
    assert play_match(player, RandomPlayer(), game, 20).score("uct:200")[0] >= 19


def test_a_search_goes_on_in_its_tree_when_its_own_game_comes_back(game):
    config = SearchConfig(num_simulations=64, gumbel_scale=0.0, count_reused=False)
    player = SearchPlayer(game, config, RolloutEvaluator(), name="s")
    states = game.batch(4)
    first = player.search(states)
    states.apply(first.action)
    states.apply(np.array([0, 1, 2, 3], np.int32))
    kept = player.search(states[[3, 1, 0, 2]])  # rows in another order
    alone = SearchPlayer(game, config, RolloutEvaluator(), name="t").search(states)
    assert kept.nodes.sum() > alone.nodes.sum()
    assert (kept.visits.sum(axis=1) >= 64).all()
    # A position that no tree has foreseen, fewer rows, more rows: all are searched.
    for moves in (["4444"], ["12", "13", "14", "15", "16", "17"]):
        found = player.search(positions(game, *moves))
        assert len(found.action) == len(moves)
        assert (found.visits.sum(axis=1) > 0).all()
    player.reset(1)
    assert (player.search(states).action >= 0).all()


def test_equal_positions_in_one_batch_do_not_share_a_tree(game):
    player = uct_player(game, 50, seed=0)
    states = game.batch(1).tile(3)
    actions = player.act(states)
    states.apply(actions)
    states.apply(np.zeros(3, np.int32))
    assert player.search(states).visits.sum(axis=1).min() >= 45


def test_a_bare_policy_takes_the_likeliest_legal_move(game):
    class Likes:
        def evaluate(self, leaves):
            return np.tile(np.arange(7.0, dtype=np.float32), (leaves.size, 1)), np.zeros(
                leaves.size, np.float32
            )

    player = SearchPlayer(game, None, Likes(), name="bare")
    assert player.act(positions(game, "", "777777")).tolist() == [6, 5]
    with pytest.raises(ConfigError, match="bare"):
        player.search(game.batch(1))
    with pytest.raises(ConfigError, match="uct"):
        SearchPlayer(game, None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "no player"),
        ("randem", "did you mean random"),
        ("random:3", "write it as random"),
        ("uct", "uct:SIMULATIONS"),
        ("uct:", "uct:SIMULATIONS"),
        ("uct:0", "from 1 up"),
        ("uct:-5", "from 1 up"),
        ("uct:many", "from 1 up"),
        ("uct:5:6", "from 1 up"),
        ("alphabeta:2000", "1 to 1000"),
        ("/nowhere/run", "no run directory"),
        ("/nowhere/run:50", "no run directory"),
    ],
)
def test_specs_that_are_no_player_are_refused_in_one_line(game, spec, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_player(spec, game)
    assert "\n" not in str(caught.value)


def test_specs_of_all_kinds_make_players_that_play(game, untrained_run):
    states = positions(game, "", "44", "1234567")
    specs = ("random", "greedy", "uct:20", "alphabeta:2")
    for spec in (*specs, str(untrained_run), f"{untrained_run}:8", f"{untrained_run}:0:1"):
        player = make_player(spec, game, seed=3)
        first = player.act(states)
        assert first.dtype == np.int32 and (states.legal_mask()[np.arange(3), first] == 1).all()
        assert (make_player(spec, game, seed=3).act(states) == first).all()
    assert make_player("human", game).name == "human"


def test_runs_that_cannot_play_are_refused(game, untrained_run, tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        make_player(str(tmp_path), game)
    with pytest.raises(ConfigError, match="has learned"):
        make_player(str(untrained_run), playout.game("tic_tac_toe"))
    with pytest.raises(RunError):
        make_player(f"{untrained_run}:5:77", game)
    with pytest.raises(ConfigError, match="whole number"):
        make_player(f"{untrained_run}:x", game)
    RunDir.create(tmp_path / "text", kind="rlhf.sft", config={}, seed=0)
    with pytest.raises(ConfigError, match=r"kind rlhf\.sft, which plays no games"):
        make_player(str(tmp_path / "text"), game)
    assert load_player(untrained_run, simulations=0).act(game.batch(1)).shape == (1,)


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
    assert game_of_run(run.path) == game_of_specs(["random", f"{run.path}:8"]) == mine
    assert load_player(run.path, simulations=8).act(mine.batch(3)).shape == (3,)
    with pytest.raises(ConfigError, match="cannot play connect_four"):
        make_player(str(run.path), game)
    other = playout.ppo("CartPole-v1", run=tmp_path / "c", **options)
    with pytest.raises(ConfigError, match="none of playout's games"):
        game_of_run(other.path)
    with pytest.raises(RunError, match="not one of playout's games"):
        load_player(other.path)


def test_a_bare_policy_samples_where_it_has_a_temperature(game):
    player = SearchPlayer(game, None, UniformEvaluator(), name="bare", temperature=1.0)
    states = positions(game, "777777").tile(700)
    counts = np.bincount(player.act(states), minlength=7)
    assert counts[6] == 0 and (np.abs(counts[:6] - 700 / 6) < 50).all()
    player.reset(0)
    assert (np.bincount(player.act(states), minlength=7) == counts).all()


def test_pick_refuses_rows_without_a_choice():
    with pytest.raises(GameError, match="row 1"):
        pick(np.array([[True, False], [False, False]]), np.random.default_rng(0))

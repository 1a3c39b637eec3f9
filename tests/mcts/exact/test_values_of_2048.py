"""Layers of 2048 against value iteration over all positions, the game's own rules and play."""

import numpy as np
import playout
import pytest
from playout.envs import StateBatch
from playout.envs.core.game import CHANCE
from playout.errors import ConfigError, GameError
from playout.mcts.exact.game_2048 import _Board, solve_2048
from playout.mcts.exact.value_iteration import value_iteration


def holds(tile):
    return lambda batch: (batch.data[:, :25] >= tile.bit_length() - 1).any(axis=1)


def played(game, count):
    """Positions of random games, those between a move and its tile too."""
    batch, found = game.batch(count), []
    for ply in range(game.max_plies):
        found += [batch[row] for row in range(count) if not batch[row].is_terminal]
        actions = batch.random_actions(3, counter=ply)
        going = np.flatnonzero(actions >= 0)
        if not len(going):
            return found
        batch.apply(actions, where=going)
    return found


@pytest.mark.parametrize(
    ("name", "tile"),
    [
        ("game_2048(size=2)", 0),
        ("game_2048(size=2)", 32),
        pytest.param("game_2048(size=4,columns=2)", 16, marks=pytest.mark.slow),
        pytest.param("game_2048(size=2,columns=3)", 64, marks=pytest.mark.slow),
        pytest.param("game_2048(size=3,columns=2)", 0, marks=pytest.mark.slow),
    ],
)
def test_values_are_those_of_value_iteration_over_every_position(name, tile):
    ours = solve_2048(name, tile=tile)
    theirs = value_iteration(name, goal=holds(tile) if tile else None)
    over = holds(tile) if tile else lambda batch: np.zeros(len(batch), bool)
    states = StateBatch.from_states(played(ours.game, 5))
    states = states[~over(states)]
    assert len(states) > 20 and len(set(states.to_play().tolist())) == 2
    np.testing.assert_allclose(ours.values(states), theirs.values(states)[:, 0], rtol=1e-12)
    for row in range(0, len(states), 7):
        wanted = {a: v[0] for a, v in theirs.action_values(states[row]).items()}
        assert ours.action_values(states[row]) == pytest.approx(wanted, rel=1e-12)
    if not tile:  # both know every position in which a move is chosen; the end is nobody's choice
        assert 0 < len(ours) <= len(theirs)


def test_the_32_tile_of_2x2_is_reached_as_often_as_published():
    """About 8 % (J. Lees-Miller 2018); of 3x3 `python -m playout.benchmarks.rules --perfect`."""
    found = solve_2048("game_2048(size=2)", tile=32)
    assert found.value(found.game.initial_state()) == pytest.approx(0.08, abs=0.005)
    assert found.value(found.game.from_text("32,4/2,. 96 0")) == 1.0


@pytest.mark.parametrize("name", ["game_2048(size=3)", "game_2048(size=2,columns=4)"])
def test_moves_and_symmetries_are_the_games(name):
    game = playout.game(name)
    board = _Board(game.params["size"], game.params["columns"] or game.params["size"])
    states = [one for one in played(game, 8) if one.to_play != CHANCE]
    batch = StateBatch.from_states(states)
    cells, mask = batch.data[:, : board.cells], batch.legal_mask()
    packed = board.pack(cells)
    assert len(states) > 100
    for move in range(4):
        after, gained = board.slide(packed, move)
        legal = np.flatnonzero(mask[:, move])
        assert np.array_equal(np.flatnonzero(after != packed), legal)
        moved = batch[legal]
        moved.apply(np.full(len(legal), move, np.int32))
        assert np.array_equal(board.pack(moved.data[:, : board.cells]), after[legal])
        got = moved.returns()[:, 0] - batch[legal].returns()[:, 0]
        assert np.array_equal(gained[legal], got)
    images = [
        board.pack(batch.symmetry(k).data[:, : board.cells]) for k in range(game.num_symmetries)
    ]
    assert game.num_symmetries == (8 if board.rows == board.columns else 4)
    assert np.array_equal(board.canonical(packed), np.min(images, axis=0))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tic_tac_toe", {}, "of game_2048, not of tic_tac_toe"),
        ("game_2048", {}, "at most 9 cells"),
        ("game_2048(size=2)", {"tile": 12}, "power of two from 8"),
        ("game_2048(size=2)", {"max_states": 20}, "more than 20 positions"),
    ],
)
def test_what_cannot_be_solved_is_said(name, options, message):
    with pytest.raises(ConfigError, match=message):
        solve_2048(name, **options)


def test_positions_that_play_does_not_reach_have_no_value():
    found = solve_2048("game_2048(size=2)", tile=8)
    with pytest.raises(GameError, match="does not reach"):
        found.value(found.game.from_text("2,2/2,2 0 0"))  # three of them would have merged
    with pytest.raises(GameError, match="not of game_2048"):
        found.value(playout.game("game_2048(size=3)").initial_state())

"""The rules against published counts (tests/perft/*.perft)."""

from pathlib import Path

import playout
import pytest
from playout.testing import count_games, count_positions, perft

FILES = sorted((Path(__file__).parents[2] / "perft").glob("*.perft"))


def lines(path, kind):
    for line in path.read_text().splitlines():
        if line.startswith(kind + " "):
            yield line.split()[1:]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_move_sequences_match_the_published_counts(path):
    game = playout.game(path.stem)
    for depth, count in lines(path, "perft"):
        assert perft(game, int(depth)) == int(count), f"depth {depth}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_distinct_positions_match_the_published_counts(path):
    expected = [int(count) for _, count in lines(path, "positions")]
    assert count_positions(playout.game(path.stem), len(expected) - 1) == expected


def test_tic_tac_toe_has_its_positions_and_games():
    game = playout.game("tic_tac_toe")
    path = next(path for path in FILES if path.stem == "tic_tac_toe")
    expected = {tuple(map(float, key.split(","))): int(n) for key, n in lines(path, "games")}
    assert count_games(game) == expected
    assert sum(expected.values()) == 255_168
    assert sum(count_positions(game, 9)) == 5_478


def test_counts_start_from_any_state():
    state = playout.game("tic_tac_toe").from_moves("1524")
    assert perft(state, 1) == 5
    children = [state.apply(action) for action in state.legal_actions]
    assert perft(state, 4) == sum(perft(child, 3) for child in children)
    games = sum(sum(count_games(child).values()) for child in children)
    assert sum(count_games(state).values()) == games


@pytest.mark.parametrize("depth", [-1, 1.5, True, "3"])
def test_a_bad_depth_is_refused(depth):
    with pytest.raises(ValueError, match="depth"):
        perft("tic_tac_toe", depth)

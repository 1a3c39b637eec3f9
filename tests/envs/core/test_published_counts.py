"""The rules against published counts (tests/perft/*.perft)."""

from collections import defaultdict
from pathlib import Path

import playout
import pytest
from playout.testing import count_games, count_positions, perft

FILES = sorted((Path(__file__).parents[2] / "perft").glob("*.perft"))


def lines(path, kind):
    """The numbers of the lines of a kind, with the state that each counts from."""
    state = playout.game(path.stem).initial_state()
    for line in path.read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "game":
            state = playout.game(rest).initial_state()
        elif word == "from":
            state = state.game.from_text(rest)
        elif word == kind:
            yield state, rest.split()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_move_sequences_match_the_published_counts(path):
    for state, (depth, count) in lines(path, "perft"):
        assert perft(state, int(depth)) == int(count), f"{state.game}: depth {depth}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_distinct_positions_match_the_published_counts(path):
    known = defaultdict(list)
    for state, (_, count) in lines(path, "positions"):
        known[state].append(int(count))
    for state, counts in known.items():
        assert count_positions(state, len(counts) - 1) == counts, f"{state.game}"


def test_tic_tac_toe_has_its_positions_and_games():
    game = playout.game("tic_tac_toe")
    path = next(path for path in FILES if path.stem == "tic_tac_toe")
    expected = {tuple(map(float, key.split(","))): int(n) for _, (key, n) in lines(path, "games")}
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

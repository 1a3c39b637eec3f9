"""The rules against published counts (tests/perft/*.perft)."""

import signal
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import playout
import pytest
from playout.errors import GameError
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


def test_numpy_s_integers_are_depths():
    assert perft("tic_tac_toe", np.int64(2)) == 72
    assert count_positions("tic_tac_toe", np.uint8(1)) == [1, 9]


class Countdown:
    """One player takes one of many counters at a time: a long game without a choice."""

    name, num_players, num_actions, obs_shape = "countdown", 1, 1, (1, 1, 1)
    max_plies, state_bytes = 3000, 4

    def initial_state(self):
        return 0

    def to_play(self, state):
        return 0 if state < 3000 else -1

    def legal_actions(self, state):
        return [0]

    def apply(self, state, action):
        return state + 1

    def returns(self, state):
        return [1.0]

    def observe(self, state, player):
        return [[[float(state)]]]

    def encode(self, state):
        return state.to_bytes(4, "little")

    def decode(self, data):
        return int.from_bytes(data, "little")


def test_the_longest_games_are_counted_in_little_memory_and_a_small_stack():
    """A thread's stack of 512 KiB holds some thirty states with all that may be played there."""
    before = threading.stack_size(1 << 19)
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(perft, Countdown(), 3000).result() == 1
            assert pool.submit(perft, Countdown(), 3001).result() == 0
            assert pool.submit(perft, "go(size=2)", 6).result() > 0
            assert pool.submit(count_games, Countdown()).result() == {(1.0,): 1}
    finally:
        threading.stack_size(before)


class Lottery(Countdown):
    """One draw decides among 300 results."""

    name, num_actions = "lottery", 300

    def to_play(self, state):
        return -1 if state else 0

    def legal_actions(self, state):
        return range(300)

    def apply(self, state, action):
        return action + 1

    def returns(self, state):
        return [state / 300]


def test_more_different_results_than_can_be_told_apart_are_refused():
    with pytest.raises(GameError, match="lottery: there are more than 256 different results"):
        count_games(Lottery())


def test_a_count_without_an_end_can_be_interrupted():
    def interrupt(*_):
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            perft("othello", 50)
    finally:
        signal.signal(signal.SIGALRM, handler)

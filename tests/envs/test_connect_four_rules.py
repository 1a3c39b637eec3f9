"""Connect Four's rules against a plain implementation that shares nothing with them."""

import random

import numpy as np
import playout
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playout.errors import ConfigError, GameError, IllegalActionError

WON_ON_PLY_42 = "266153154735637333227567761156245242114744"
DRAWN = "551431674154272117241246432377273366556365"


class Plain:
    """Lists of lists and loops, nothing else."""

    def __init__(self, width, height, run):
        self.width, self.height, self.run = width, height, run
        self.columns = [[] for _ in range(width)]
        self.turn, self.winner, self.over = 0, None, False

    def legal(self):
        if self.over:
            return []
        return [x for x in range(self.width) if len(self.columns[x]) < self.height]

    def cell(self, x, y):
        inside = 0 <= x < self.width and 0 <= y < len(self.columns[x])
        return self.columns[x][y] if inside else None

    def play(self, x):
        self.columns[x].append(self.turn)
        y = len(self.columns[x]) - 1
        for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
            length = 1
            for sign in (1, -1):
                step = 1
                while self.cell(x + sign * step * dx, y + sign * step * dy) == self.turn:
                    length, step = length + 1, step + 1
            if length >= self.run:
                self.winner, self.over = self.turn, True
        if all(len(column) == self.height for column in self.columns):
            self.over = True
        self.turn = 1 - self.turn

    def planes(self, player):
        out = np.zeros((2, self.height, self.width), np.float32)
        for x, column in enumerate(self.columns):
            for y, owner in enumerate(column):
                out[0 if owner == player else 1, self.height - 1 - y, x] = 1
        return out

    def returns(self):
        if self.winner is None:
            return [0, 0]
        return [1, -1] if self.winner == 0 else [-1, 1]


SIZES = [
    (7, 6, 4), (4, 4, 3), (5, 4, 4), (6, 5, 4), (8, 7, 4), (9, 6, 4), (12, 4, 4), (1, 63, 2),
    (32, 1, 3), (3, 3, 3), (7, 6, 5), (6, 7, 2), (9, 6, 6), (2, 31, 7), (4, 15, 8), (10, 5, 5),
    (1, 2, 2), (2, 1, 2),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_every_size_plays_as_the_plain_implementation(size):
    width, height, run = size
    game = playout.game("connect_four", width=width, height=height, run=run)
    rng = random.Random(str(size))
    for _ in range(12):
        plain, state = Plain(*size), game.initial_state()
        while True:
            assert state.legal_actions == plain.legal()
            assert state.is_terminal == plain.over
            assert state.to_play == (-1 if plain.over else plain.turn)
            assert state.returns.tolist() == plain.returns()
            for player in (0, 1):
                assert np.array_equal(state.observe(player), plain.planes(player))
            if plain.over:
                break
            action = rng.choice(plain.legal())
            plain.play(action)
            state = state.apply(action)


def test_a_line_on_the_last_ply_wins():
    state = playout.game("connect_four").from_moves(WON_ON_PLY_42[:-1])
    assert not state.is_terminal
    assert state.legal_actions == [3]
    state = state.apply(3)
    assert state.is_terminal
    assert state.returns.tolist() == [-1, 1]


def test_a_full_board_without_a_line_is_drawn():
    state = playout.game("connect_four").from_moves(DRAWN)
    assert state.is_terminal
    assert state.returns.tolist() == [0, 0]
    assert state.legal_actions == []
    assert not state.action_mask.any()


@pytest.mark.parametrize(
    "moves",
    [
        "1212121",
        "1122334",
        "12233434474",  # a rising diagonal
        "76655454414",  # its mirror image
        "4455667",
    ],
)
def test_every_direction_wins(moves):
    game = playout.game("connect_four")
    assert not game.from_moves(moves[:-1]).is_terminal
    assert game.from_moves(moves).is_terminal


def test_lines_do_not_wrap_from_one_column_to_the_next():
    # Three stones on top of column 1 and one at the foot of column 2.
    state = playout.game("connect_four").from_moves("21516117171")
    assert state.text == "X....../X....../X....../O....../O.....O/OX..XXO"
    assert not state.is_terminal


def test_text_shows_the_board_and_is_read_back():
    game = playout.game("connect_four")
    state = game.from_moves("4455")
    assert state.text == "......./......./......./......./...OO../...XX.."
    assert game.from_text(state.text) == state
    assert str(state).splitlines()[-1] == "1 2 3 4 5 6 7"
    assert state.ply == 4
    assert game.from_text(state.text).ply is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "......./......./......./......./......./......",
        "......./......./......./......./......./........",
        "......./......./......./......./......./.......\n",
        "......./......./......./......./......./...x...",
        "......./......./......./......./......./...O...",  # the second player cannot begin
        "......./......./......./......./......./...XX..",
        "......./......./......./......./...X.../...O...",  # the stone below came first
        "......./......./......./......./...X.../.......",  # nothing to stand on
        "......./......./......./......./OOOO.../XXXX...",  # two winners
        "X....../X....../X....../X....../O....../OO.....",  # no order of moves leads there
        "a\0b",
        "." * 5000,
    ],
)
def test_text_of_no_position_is_refused(text):
    with pytest.raises(GameError, match="not a position"):
        playout.game("connect_four").from_text(text)


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"width": 8, "height": 8}, "64"),
        ({"width": 0}, "1 to 32, got 0"),
        ({"height": -1}, "1 to 63, got -1"),
        ({"run": 1}, "run must be 2 to 63"),
        ({"run": 8}, "run"),
        ({"width": 10**30}, "1 to 32"),
        ({"width": "7"}, "integer"),
        ({"width": 7.0}, "integer"),
        ({"width": True}, "integer"),
        ({"depth": 3}, "width, height, run"),
    ],
)
def test_sizes_that_cannot_be_played_are_refused(params, what):
    with pytest.raises(ConfigError, match=what):
        playout.game("connect_four", **params)


def test_a_full_column_is_refused_with_the_ply():
    with pytest.raises(
        IllegalActionError, match=r"move 7 \('4'\) cannot be .* possible are 1 2 3 5 6 7$"
    ):
        playout.game("connect_four").from_moves("4444444")
    with pytest.raises(IllegalActionError, match=r"move 2 .*not an action"):
        playout.game("connect_four").from_moves("48")


@given(st.lists(st.integers(0, 6), max_size=42))
@settings(max_examples=150, deadline=None)
def test_bytes_text_and_mirror_agree_on_any_game(columns):
    game = playout.game("connect_four")
    state, mirrored, moves = game.initial_state(), game.initial_state(), []
    for column in columns:
        if column not in state.legal_actions:
            continue
        state, mirrored = state.apply(column), mirrored.apply(6 - column)
        moves.append(column)
    assert state.symmetry(1) == mirrored
    assert np.array_equal(mirrored.observe(), state.observe()[:, :, ::-1])
    assert game.from_bytes(state.to_bytes()) == state
    assert game.from_text(state.text) == state
    assert game.from_moves(moves) == state
    assert game.from_moves("".join(str(move + 1) for move in moves)) == state


@given(st.binary(min_size=16, max_size=16))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused_or_are_a_position(data):
    game = playout.game("connect_four")
    try:
        state = game.from_bytes(data)
    except GameError:
        return
    assert game.from_text(state.text) == state


def test_the_hash_does_not_depend_on_the_order_of_moves():
    game = playout.game("connect_four")
    assert game.from_moves("1234").hash == game.from_moves("3412").hash
    assert game.from_moves("1234").hash != game.from_moves("1243").hash


def test_every_position_of_a_small_board_passes_the_check_and_no_other_board_does():
    game = playout.game("connect_four", width=3, height=3, run=3)
    seen, stack = set(), [game.initial_state()]
    while stack:
        state = stack.pop()
        if state.text in seen:
            continue
        seen.add(state.text)
        stack += [state.apply(action) for action in state.legal_actions]
    columns = [""]
    for _ in range(3):
        columns = [done + letter for done in columns for letter in "XO."]
    columns = [column for column in set(columns) if ".X" not in column and ".O" not in column]
    accepted = set()
    for a in columns:
        for b in columns:
            for c in columns:
                rows = ["".join(column[y] for column in (a, b, c)) for y in (2, 1, 0)]
                try:
                    accepted.add(game.from_text("/".join(rows)).text)
                except GameError:
                    continue
    assert accepted == seen

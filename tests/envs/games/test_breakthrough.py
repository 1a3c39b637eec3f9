"""Breakthrough against a slow program of its own, known facts, and other libraries (peer)."""

import random

import numpy as np
import playout
import pytest
from damage import assert_refused_or_proper
from playout.errors import ConfigError, GameError
from playout.mcts.exact.solver import Solver
from playout.testing import check_game

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Plain:
    """The rules on a dictionary of pawns, as one would explain them; rank 0 is the nearest."""

    def __init__(self, ranks, files):
        self.ranks, self.files, self.turn, self.over = ranks, files, 0, False
        self.pawns = {(rank, file): 0 for rank in (0, 1) for file in range(files)}
        self.pawns |= {(ranks - 1 - rank, file): 1 for rank, file in self.pawns}

    def moves(self):
        found = set()
        for (rank, file), side in self.pawns.items():
            for way in (-1, 0, 1):
                to = (rank + 1 - 2 * self.turn, file + way)
                there = self.pawns.get(to)
                inside = 0 <= to[0] < self.ranks and 0 <= to[1] < self.files
                if side == self.turn and inside and (there is None or (there != side and way)):
                    found.add(LETTERS[file] + str(rank + 1) + LETTERS[to[1]] + str(to[0] + 1))
        return set() if self.over else found

    def play(self, move):
        half = 1
        while move[half].isdigit():
            half += 1
        start, to = (
            (int(cell[1:]) - 1, LETTERS.index(cell[0])) for cell in (move[:half], move[half:])
        )
        del self.pawns[start]
        self.pawns[to] = self.turn
        arrived = to[0] == (0 if self.turn else self.ranks - 1)
        self.turn = 1 - self.turn
        self.over = arrived or self.turn not in self.pawns.values()


BOARDS = [(8, 8, 20), (5, 5, 60), (4, 2, 100), (6, 7, 30), (11, 11, 4), (5, 20, 10), (12, 3, 20)]


@pytest.mark.parametrize(("ranks", "files", "num_games"), BOARDS)
def test_it_plays_as_a_plain_program(ranks, files, num_games):
    rng = random.Random(ranks * files)
    game = playout.game("breakthrough", size=ranks, columns=files)
    for _ in range(num_games):
        plain, state = Plain(ranks, files), game.initial_state()
        while moves := plain.moves():
            assert {state.action_text(action) for action in state.legal_actions} == moves
            assert state.to_play == plain.turn
            own = [
                [float(plain.pawns.get((rank, file)) == state.to_play) for file in range(files)]
                for rank in range(ranks)
            ]
            assert np.array_equal(state.observe()[0], own if state.to_play else own[::-1])
            move = rng.choice(sorted(moves))
            plain.play(move)
            state = state.apply(state.read_action(move))
        assert state.is_terminal
        assert state.returns[1 - plain.turn] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["size=8", "size=5", "size=11", "size=4, columns=2", "size=64, columns=2"]
)
def test_every_board_keeps_every_promise(text):
    check_game(f"breakthrough({text})", num_games=1 if "64" in text else 2)


@pytest.mark.parametrize("params", [{}, {"size": 6}, {"size": 5, "columns": 7}])
def test_size_is_rows_and_columns_unless_they_are_told(params):
    size = params.get("size", 8)
    game = playout.game("breakthrough", **params)
    assert game.obs_shape == (2, size, params.get("columns", size))
    assert game.num_actions == 3 * game.obs_shape[1] * game.obs_shape[2]


@pytest.mark.parametrize(
    "params",
    [{"size": 3}, {"size": 12}, {"columns": 1}, {"columns": 17}, {"size": 6.0}, {"rows": 6}],
)
def test_impossible_boards_are_refused(params):
    with pytest.raises(ConfigError, match="breakthrough"):
        playout.game("breakthrough", **params)


def test_who_takes_the_last_pawn_wins():
    game = playout.game("breakthrough", size=4)
    state = game.from_text("4/1p2/P3/4 w")
    assert state.apply(state.read_action("a2b3")).returns.tolist() == [1, -1]
    with pytest.raises(GameError):
        game.from_text("4/4/P3/4 w")  # nobody moved


def test_text_is_fen_and_reads_what_other_programs_write():
    game = playout.game("breakthrough", size=6, columns=12)
    state = game.from_moves("b2b3")
    assert state.text == "pppppppppppp/pppppppppppp/12/1P10/P1PPPPPPPPPP/PPPPPPPPPPPP b"
    assert game.from_text(state.text + " - - 0 1") == state
    assert "p to move" in str(state)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pppp/pppp/PPPP/PPPP",
        "pppp/pppp/PPPP/PPPP x",
        "pppp/pppp/PPPP/PPPP w ",
        "pppp/pppp/PPPP/PPPP w - - 0",
        "pppp/pppp/PPPP/PPP w",
        "pppp/pppp/PPPP/PPP2 w",
        "pppp/pppp/PPPP/PPP01 w",
        "pppp/pppp/PPPP/PPPPP w",
        "pppp/pppp/PPPp/PPPP w",  # nine pawns
        "Pppp/4/4/PPPP w",  # the one to move has arrived already
        "PPpp/4/4/1PPP b",  # two have arrived
        "99999999999999999999/4/4/PPPP w",
    ],
)
def test_bad_text_is_refused(text):
    with pytest.raises(GameError):
        playout.game("breakthrough", size=4).from_text(text)


@pytest.mark.parametrize("move", ["", "a2", "a2a", "a2a4", "a2c3", "a0a1", "a2a3x", "i2i3", "a2^"])
def test_bad_moves_are_refused(move):
    with pytest.raises(GameError):
        playout.game("breakthrough").initial_state().read_action(move)


@pytest.mark.parametrize("size", [5, 10])
def test_mutated_bytes_and_texts_are_refused_or_proper_states(size):
    rng, game = random.Random(8), playout.game("breakthrough", size=size)
    state = game.initial_state()
    for _ in range(500):
        state = game.initial_state() if state.is_terminal else state
        state = state.apply(rng.choice(state.legal_actions))
        changes = rng.choice([1, 1, 2, 5])
        assert_refused_or_proper(game, state, rng, "Pp123/ wb", changes=changes)


def test_both_sides_see_the_board_from_their_own_end():
    game = playout.game("breakthrough", size=5)
    first = game.from_text("ppppp/ppppp/1P3/P1PPP/PPPPP b")
    second = game.from_text("ppppp/p1ppp/1p3/PPPPP/PPPPP w")
    assert np.array_equal(first.observe(), second.observe())
    assert first.legal_actions == second.legal_actions
    assert first.eval_key == second.eval_key
    assert first.hash != second.hash


@pytest.mark.parametrize(("size", "columns"), [(4, 4), (4, 5), (4, 6)])
def test_small_boards_are_won_by_the_second_player(size, columns):
    game = playout.game("breakthrough", size=size, columns=columns)
    assert Solver(game).solve(game.initial_state()) == -1


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "package", "num_games"),
    [
        ("breakthrough", "pyspiel", 100),
        ("breakthrough(size=9, columns=5)", "pyspiel", 100),
        ("breakthrough", "pyffish", 3),
        ("breakthrough(size=5)", "pyffish", 5),
    ],
)
def test_other_libraries_allow_the_same_moves_and_see_the_same_ends(name, package, num_games):
    pytest.importorskip(package)
    from playout.benchmarks.tools.peers.rules import play_beside

    assert play_beside(name, package, num_games, seed=3).positions > 10 * num_games

"""Othello against a slow program of its own, known facts, and other libraries (peer)."""

import random
from functools import cache

import numpy as np
import playout
import pytest
from damage import assert_refused_or_proper
from playout.errors import ConfigError, GameError
from playout.mcts.exact.solver import Solver
from playout.testing import check_game

DIRECTIONS = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]


class Plain:
    """The rules on a dictionary of discs, as one would explain them."""

    def __init__(self, size):
        half = size // 2
        self.size, self.turn = size, 0
        self.discs = {(half - 1, half): 0, (half, half - 1): 0}
        self.discs |= {(half - 1, half - 1): 1, (half, half): 1}

    def turned(self, cell, side):
        found = []
        for down, right in DIRECTIONS:
            line, (row, column) = [], (cell[0] + down, cell[1] + right)
            while self.discs.get((row, column)) == 1 - side:
                line.append((row, column))
                row, column = row + down, column + right
            if self.discs.get((row, column)) == side:
                found += line
        return found

    def free(self, side):
        cells = [(row, column) for row in range(self.size) for column in range(self.size)]
        return [cell for cell in cells if cell not in self.discs and self.turned(cell, side)]

    def moves(self):
        cells = self.free(self.turn)
        if not cells:
            return ["pass"] if self.free(1 - self.turn) else []
        return ["abcdefghij"[column] + str(row + 1) for row, column in cells]

    def play(self, move):
        if move != "pass":
            cell = (int(move[1:]) - 1, "abcdefghij".index(move[0]))
            for other in [*self.turned(cell, self.turn), cell]:
                self.discs[other] = self.turn
        self.turn = 1 - self.turn

    def margin(self):
        sides = list(self.discs.values())
        return sides.count(0) - sides.count(1)


@pytest.mark.parametrize("size", [4, 6, 8, 10])
def test_every_size_keeps_every_promise(size):
    check_game(f"othello(size={size})", num_games=2)


@pytest.mark.parametrize(("size", "num_games"), [(4, 100), (6, 25), (8, 8), (10, 4)])
def test_it_plays_as_a_plain_program(size, num_games):
    rng, game = random.Random(size), playout.game("othello", size=size)
    for _ in range(num_games):
        plain, state = Plain(size), game.initial_state()
        while moves := plain.moves():
            assert [state.action_text(action) for action in state.legal_actions] == moves
            assert state.to_play == plain.turn
            move = rng.choice(moves)
            plain.play(move)
            state = state.apply(state.read_action(move))
        assert state.is_terminal
        margin = plain.margin()
        assert state.returns.tolist() == [np.sign(margin), -np.sign(margin)]
        assert state.score.tolist() == [margin, -margin]
        owners = np.zeros((1, size, size), np.float32)
        for cell, side in plain.discs.items():
            owners[(0, *cell)] = 1 - 2 * side
        assert np.array_equal(state.targets(0), owners)
        assert np.array_equal(state.targets(1), -owners)


def test_the_shortest_game_leaves_nobody_a_move():
    state = playout.game("othello").from_moves("e6 f4 e3 f6 g5 d6 e7 f5 c5")
    assert state.is_terminal
    assert state.score.tolist() == [13, -13]
    assert "O" not in state.text.split()[0]


def test_who_cannot_move_passes_and_that_is_a_ply():
    rng, game = random.Random(2), playout.game("othello", size=4)
    state = game.initial_state()
    while [state.action_text(action) for action in state.legal_actions] != ["pass"]:
        state = game.initial_state() if state.is_terminal else state
        state = state.apply(rng.choice(state.legal_actions))
    after = state.apply(state.read_action("pass"))
    assert after.to_play == 1 - state.to_play
    assert after.text[:-1] == state.text[:-1]
    assert after.legal_actions[0] < game.num_actions - 1  # nobody passes twice


def test_four_by_four_is_lost_by_eight_discs_and_the_solver_agrees():
    game = playout.game("othello", size=4)

    @cache
    def best(state):
        """The margin of the first player, by looking at everything."""
        if state.is_terminal:
            return int(state.score[0])
        found = [best(state.apply(action)) for action in state.legal_actions]
        return min(found) if state.to_play else max(found)

    assert best(game.initial_state()) == 3 - 11
    assert Solver(game).solve(game.initial_state()) == -1


def test_the_solver_finishes_six_by_six_as_a_plain_search_does():
    game, rng = playout.game("othello", size=6), random.Random(4)

    def outcome(state):
        if state.is_terminal:
            return int(state.returns[0])
        found = [outcome(state.apply(action)) for action in state.legal_actions]
        return min(found) if state.to_play else max(found)

    solver, solved = Solver(game), set()
    for _ in range(12):
        state = game.initial_state()
        while state.text.count("-") > 6 and not state.is_terminal:
            state = state.apply(rng.choice(state.legal_actions))
        if not state.is_terminal:
            value = outcome(state)
            assert solver.solve(state) == (-value if state.to_play else value)
            solved.add(value)
    assert {-1, 1} <= solved


def test_the_line_of_text_is_all_discs_and_the_side_to_move():
    game = playout.game("othello", size=6)
    state = game.from_moves("c2 b2")
    assert state.text == "-------OX-----OX----XO-------------- X"
    assert game.from_text(state.text.replace("-", ".")) == state
    assert "X to move" in str(state)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "----",
        "-----OX--XO-----",
        "-----OX--XO----- W",
        "-----OX--XO----- XX",
        "-----OX--XO---- X",
        "-----O---XO----- X",  # the four in the middle are never empty
        "-----OX--XO----- X\n",
    ],
)
def test_bad_text_is_refused(text):
    with pytest.raises(GameError):
        playout.game("othello", size=4).from_text(text)


def test_discs_lie_side_by_side():
    text = playout.game("othello").initial_state().text
    with pytest.raises(GameError):
        playout.game("othello").from_text("X" + text[1:])


@pytest.mark.parametrize("move", ["", "a", "a0", "a9", "i1", "A9", "a1 ", "d33", "Passed", "d3x"])
def test_bad_moves_are_refused(move):
    with pytest.raises(GameError):
        playout.game("othello").initial_state().read_action(move)


@pytest.mark.parametrize("size", [0, 2, 5, 9, 11, 12, 8.0, "8", True])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ConfigError, match="othello"):
        playout.game("othello", size=size)


@pytest.mark.parametrize("size", [6, 10])
def test_mutated_bytes_and_texts_are_refused_or_proper_states(size):
    rng, game = random.Random(9), playout.game("othello", size=size)
    state = game.initial_state()
    for _ in range(500):
        state = game.initial_state() if state.is_terminal else state
        state = state.apply(rng.choice(state.legal_actions))
        changes = rng.choice([1, 1, 2, 5])
        assert_refused_or_proper(game, state, rng, "XO-. 1x", changes=changes)


def test_evaluations_are_shared_by_both_sides_and_identity_is_not():
    game = playout.game("othello", size=4)
    one = game.from_text("-----OX--XO----- X")
    other = game.from_text("-----XO--OX----- O")
    assert one.eval_key == other.eval_key
    assert one.hash != other.hash
    assert np.array_equal(one.observe(), other.observe())


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "package", "num_games"),
    [
        ("othello", "pyspiel", 300),
        ("othello", "pyffish", 3),
        ("othello(size=6)", "pyffish", 5),
        ("othello(size=10)", "pyffish", 2),
    ],
)
def test_other_libraries_allow_the_same_moves_and_see_the_same_ends(name, package, num_games):
    pytest.importorskip(package)
    from playout.benchmarks.tools.peers.rules import play_beside

    assert play_beside(name, package, num_games, seed=3).positions > 20 * num_games

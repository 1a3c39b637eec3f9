"""The Hex solver against alpha-beta, which knows only the rules, and the known winning openings."""

import os
import threading

import numpy as np
import playout
import pytest
from playout.envs import StateBatch
from playout.errors import GameError
from playout.mcts.exact.alphabeta import AlphaBeta
from playout.mcts.exact.hex.engine import HexProver, hex_prover
from playout.mcts.exact.positions import random_positions
from playout.mcts.exact.prover import GIVEN_UP, ILLEGAL, SolvingProver, own_prover, prover_for
from playout.mcts.exact.solver import ILLEGAL_OUTCOME, Solver

# "W" where the first stone, of the player who joins top and bottom, wins. Up to 4x4 alpha-beta says
# the same; 5x5 is by this solver alone.
OPENINGS = {
    2: ".W/W.",
    3: "..W/WWW/W..",
    4: "...W/..W./.W../W...",
    5: "....W/.WWWW/.WWW./WWWW./W....",
}
LARGE = {6: ".....W/.WWWWW/WWWWWW/WWWWWW/WWWWW./W....."}  # minutes


def openings(game, outcomes):
    size = game.params["size"]
    cells = ["W" if outcome == 1 else "." for outcome in outcomes]
    return "/".join("".join(cells[row * size : (row + 1) * size]) for row in range(size))


def positions(game, count, least, most, seed=0):
    """Positions of random games with so many stones."""
    states = game.batch(count)
    plies = np.random.default_rng(seed).integers(least, most + 1, count).astype(np.int32)
    states.random_plies(plies, seed)
    return states[np.flatnonzero(~states.is_terminal())]


@pytest.mark.parametrize("size", OPENINGS | (LARGE if os.environ.get("PLAYOUT_LONG") else {}))
def test_openings_are_the_known_ones(size):
    game = playout.game(f"hex(size={size})")
    solver = Solver(game, table_mb=256 if size in LARGE else 64)
    outcomes = solver.outcomes(game.batch(1))[0]
    assert openings(game, outcomes) == (OPENINGS | LARGE)[size]
    assert (solver.nodes > 0 or size == 2) and not solver.counts_plies
    assert solver.solve(game.initial_state()) == 1


def test_every_move_of_four_by_four_positions_ends_as_alpha_beta_says():
    game = playout.game("hex(size=4)")
    states = positions(game, 150, 4, 12)
    found = Solver(game).outcomes(states)
    exact = AlphaBeta(game).score_rows(states, True)
    exact[exact == ILLEGAL] = ILLEGAL_OUTCOME
    assert np.array_equal(found, exact)


@pytest.mark.parametrize(("size", "stones"), [(5, 14), (6, 25), (8, 51)])
def test_every_move_late_on_larger_boards_ends_as_alpha_beta_says(size, stones):
    game = playout.game(f"hex(size={size})")
    states = positions(game, 300, stones, stones + 8, seed=size)
    found = Solver(game).outcomes(states)
    exact = AlphaBeta(game).score_rows(states, True)
    exact[exact == ILLEGAL] = ILLEGAL_OUTCOME
    assert len(states) > 40 and np.array_equal(found, exact)
    assert (found == 1).any() and (found == -1).any()


@pytest.mark.parametrize(
    ("size", "position", "outcomes"),
    [
        (5, "...X./..O.O/X...X/X..../....O", "010000101011001000"),
        (6, "XOX.O./.OOOX./XO...X/XO..../X.O.../....X.", "01100100111110000000"),
    ],
)
def test_proofs_name_all_cells_that_they_need(size, position, outcomes):
    """Found by a solver that left out those of earlier moves; the answers are alpha-beta's."""
    game = playout.game(f"hex(size={size})")
    states = StateBatch.from_states([game.from_text(position)])
    found = Solver(game).outcomes(states)[0]
    assert "".join("1" if value == 1 else "0" for value in found if abs(value) == 1) == outcomes


def test_with_the_swap_rule_the_taken_stone_wins_if_nothing_beats_it():
    for size in (2, 3):
        game = playout.game(f"hex(size={size},swap=1)")
        start = game.batch(1)
        after = StateBatch.from_states([game.initial_state().apply(a) for a in range(size * size)])
        late = positions(game, 60, 2, 5, seed=1)
        for states in (start, after, late):
            found = Solver(game).outcomes(states)
            exact = AlphaBeta(game).score_rows(states, True)
            exact[exact == ILLEGAL] = ILLEGAL_OUTCOME
            assert np.array_equal(found, exact)
        assert (Solver(game).outcomes(start) == -1).all()


def test_proofs_hold_and_depend_on_nothing_but_the_position():
    game = playout.game("hex(size=5)")
    prover = own_prover(game)
    assert isinstance(prover, HexProver) and isinstance(prover, SolvingProver)
    states = positions(game, 60, 7, 16)
    exact = Solver(game).outcomes(states)
    exact[exact == ILLEGAL_OUTCOME] = ILLEGAL
    shares = []
    for nodes in (10, 500, 10_000_000):
        found = prover.prove(states.data, nodes)
        known = found != GIVEN_UP
        assert np.array_equal(found[known], exact[known])
        assert (known | (exact != ILLEGAL)).all()
        shares.append(known.mean())
        for rows in ([7], [30, 7, 2]):
            assert np.array_equal(prover.prove(states.data[rows], nodes), found[rows])
    assert shares[0] < shares[1] < shares[2] == 1
    with_limits = prover_for(game, 100, 10_000_000, threads=2)
    assert with_limits is not None
    near = positions(game, 40, 8, 12)
    assert (with_limits.outcomes(near.data) != GIVEN_UP).all()


def test_a_small_effort_is_begun_only_where_few_cells_are_left():
    game = playout.game("hex(size=7,swap=1)")
    prover = own_prover(game)
    assert prover is not None
    for plies, begun in ((1, False), (20, False), (29, True)):
        states = positions(game, 30, plies, plies)
        found = prover.prove(states.data, 300)
        assert np.array_equal(found == ILLEGAL, ~states.legal_mask().astype(bool))
        assert (found[found != ILLEGAL] != GIVEN_UP).any() == begun
    early = positions(game, 4, 25, 25)
    assert (prover.prove(early.data, 20_000) == 1).any()


def test_larger_boards_have_no_prover_and_limits_are_kept():
    assert hex_prover(playout.game("hex(size=9)")) is None
    game = playout.game("hex(size=7)")
    with pytest.raises(GameError, match="gave up"):
        Solver(game, max_nodes=500).outcomes(game.batch(1))


def test_a_solver_can_be_stopped_from_another_thread():
    game = playout.game("hex(size=7)")
    prover = own_prover(game)
    assert isinstance(prover, HexProver)
    engine = prover.engine(table_mb=1, max_nodes=0)
    caught = []

    def work():
        try:
            engine.score_rows(game.batch(1), True)
        except InterruptedError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        engine.stop()
        thread.join(0.05)
    assert caught
    engine.clear()
    assert engine.nodes == 0


def test_positions_where_a_move_matters_are_found_with_it():
    found = random_positions("hex(size=4)", 20, plies=(1, 6), seed=1)
    assert len(found) == 20
    legal = found.outcomes != ILLEGAL_OUTCOME
    assert all({1, -1} == set(row[mask]) for row, mask in zip(found.outcomes, legal, strict=True))

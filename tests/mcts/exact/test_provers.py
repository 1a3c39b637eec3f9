"""Provers of any game: the lookahead by trying, alpha-beta within its nodes, a game's own."""

import numpy as np
import playout
import pytest
from playout.errors import ConfigError, GameError
from playout.mcts.exact.alphabeta import AlphaBeta
from playout.mcts.exact.prover import GIVEN_UP, ILLEGAL, Prover, can_prove, own_prover, proven
from playout.mcts.exact.solver import ILLEGAL_OUTCOME, Solver
from playout.mcts.exact.tactics import Lookahead, lookahead_for


def positions(name, count=80, plies=5):
    states = playout.game(name).batch(count)
    states.random_plies(np.arange(count, dtype=np.int32) % plies, 3)
    return states[np.flatnonzero(~states.is_terminal())]


@pytest.mark.parametrize("nodes", [1, 40, 100_000])
def test_alpha_beta_proves_whole_positions_or_gives_them_up(nodes):
    states = positions("tic_tac_toe")
    prover: Prover = AlphaBeta(states.game, table_mb=1)
    found = prover.prove(states.data, nodes)
    known = (found != GIVEN_UP).any(axis=1)
    assert (found[~known] == GIVEN_UP).all() and known.all() == (nodes > 1000)
    assert known.any() or nodes == 1
    exact = Solver(states.game).outcomes(states[np.flatnonzero(known)])
    exact[exact == ILLEGAL_OUTCOME] = ILLEGAL
    assert np.array_equal(found[known], exact)
    for rows in ([7], [30, 7, 2]):  # whatever stands beside it
        assert np.array_equal(prover.prove(states.data[rows], nodes), found[rows])


def test_values_within_so_many_nodes_are_left_out_beyond():
    states = positions("tic_tac_toe")
    all_of_them = AlphaBeta(states.game).values(states, depth=4)
    few = AlphaBeta(states.game).values(states, depth=4, give_up=30)
    left = np.isnan(few).all(axis=1)
    assert 0 < left.sum() < len(states)
    assert np.array_equal(few[~left], all_of_them[~left], equal_nan=True)
    with pytest.raises(GameError, match="gave up"):
        AlphaBeta(states.game, max_nodes=30).values(states, depth=4)


@pytest.mark.parametrize("plies", [1, 2])
def test_a_lookahead_proves_what_trying_shows(plies):
    states = positions("tic_tac_toe", plies=8)
    found = Lookahead(states.game, plies).prove(states.data)

    def wins(state, action):
        child = state.apply(action)
        return child.is_terminal and child.returns[state.to_play] == 1

    for row, state in enumerate(states):
        legal = state.legal_actions
        at_once = [action for action in legal if wins(state, action)]
        for action in range(9):
            known = ILLEGAL if action not in legal else GIVEN_UP
            child = state.apply(action) if action in legal else None
            if action in at_once:
                known = 1
            elif plies == 2 and child is not None and not at_once and not child.is_terminal:
                known = -1 if any(wins(child, reply) for reply in child.legal_actions) else known
            assert found[row, action] == known
    assert 0 < proven(found).sum() < len(states)


def test_looking_ahead_is_for_games_of_few_moves_unless_asked_for():
    four = playout.game("connect_four")
    assert lookahead_for(four, "auto").plies == 2
    assert lookahead_for(four, "one_ply").plies == 1 and lookahead_for(four, "off") is None

    class Large(Tries):
        num_actions = 36

    large = playout.game(Large())
    assert lookahead_for(large, "auto") is None and lookahead_for(large, "two_plies").plies == 2

    class Few(Large):
        max_legal = 16

    assert lookahead_for(playout.game(Few()), "auto").plies == 2

    class Friends(Tries):
        zero_sum = False

    assert lookahead_for(playout.game(Friends()), "two_plies") is None


class Tries:
    """A game of two plies of any actions that counts how often `apply` is called."""

    name, num_players, max_plies, obs_shape, num_actions = "tries", 2, 4, (1, 1, 1), 6

    def __init__(self):
        self.applied = 0

    def initial_state(self):
        return 0

    def to_play(self, state):
        return -1 if state == 4 else state % 2

    def legal_actions(self, state):
        return range(self.num_actions)

    def apply(self, state, action):
        self.applied += 1
        return state + 1

    def returns(self, state):
        return [0.0, 0.0]

    def observe(self, state, player):
        return np.zeros((1, 1, 1))

    def encode(self, state):
        return bytes([state])

    def decode(self, data):
        return data[0]


def test_a_look_at_two_plies_tries_the_square_of_the_moves_and_at_one_ply_the_moves():
    for moves in (6, 36):
        kind = type("Sized", (Tries,), {"num_actions": moves})
        game = kind()
        states = playout.game(game).batch(1)
        for plies, tries in ((1, moves), (2, 2 * moves + moves**2)):
            game.applied = 0
            Lookahead(states.game, plies).prove(states.data)
            assert game.applied == tries


def test_a_game_names_its_own_prover_and_others_have_none():
    assert can_prove(playout.game("connect_four(width=5, height=4)"))
    assert not can_prove(playout.game("connect_four(run=3)"))
    assert own_prover(playout.game("tic_tac_toe")) is None
    assert Solver("connect_four").counts_plies and not Solver("connect_four(run=3)").counts_plies

    class Wrong(Tries):
        def prover(self, game):
            return 5

    with pytest.raises(GameError, match=r"tries: its prover is a int without prove\(\)"):
        own_prover(playout.game(Wrong()))


def test_the_solver_refuses_games_in_which_gains_are_no_losses():
    class Friends(Tries):
        zero_sum = False

    with pytest.raises(ConfigError, match="add up to 0"):
        Solver(playout.game(Friends()))

"""Alpha-beta over the function table: tic-tac-toe, games in Python, limited depth, bad games."""

import numpy as np
import playout
import pytest
from playout.errors import ConfigError, GameError
from playout.mcts.exact._alphabeta import AlphaBetaCore
from playout.mcts.exact.alphabeta import AlphaBeta
from playout.mcts.exact.solver import ILLEGAL, ILLEGAL_OUTCOME, Solver


class Nim:
    """Two players take one to three stones; whoever takes the last wins. `again` lets 2 move on."""

    name, num_players, num_actions, max_plies, obs_shape = "nim", 2, 3, 30, (1, 1, 1)
    start, payoff, fail_at = 12, 1.0, None

    def __init__(self, again=False):
        self.again = again

    def initial_state(self):
        return (self.start, 0)

    def to_play(self, state):
        return -1 if state[0] == 0 else state[1]

    def legal_actions(self, state):
        if state[0] == self.fail_at:
            raise RuntimeError("boom")
        return range(min(3, state[0]))

    def apply(self, state, action):
        stays = self.again and action == 1 and state[0] > 2
        return (
            state[0] - action - 1,
            state[1] if stays or state[0] == action + 1 else 1 - state[1],
        )

    def returns(self, state):
        return [self.payoff, -1.0] if state[1] == 0 else [-1.0, self.payoff]

    def observe(self, state, player):
        return [[[state[0]]]]

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        return tuple(data)


class Line:
    """Two players choose by turns; `results` of all that they chose are the first player's."""

    name, num_players, obs_shape = "line", 2, (1, 1, 1)

    value_scale, state_bytes = 1.0, 4

    def __init__(self, actions, plies, results):
        self.actions, self.max_plies, self.results = actions, plies, results
        self.num_actions, self.max_legal = max(actions) + 1, len(actions)

    def initial_state(self):
        return ()

    def to_play(self, state):
        return len(state) % 2 if len(state) < self.max_plies else -1

    def legal_actions(self, state):
        return self.actions

    def apply(self, state, action):
        return (*state, action)

    def returns(self, state):
        result = self.results[state]
        return [result, -result]

    def observe(self, state, player):
        return [[[len(state)]]]

    def encode(self, state):
        return bytes(self.actions.index(action) for action in state)

    def decode(self, data):
        return tuple(self.actions[i] for i in data)


def minimax(state, memo, depth=99):
    """The value for the side to move, or 0 where the depth ends."""
    key = (state.to_bytes(), depth)
    if key not in memo:
        if depth == 0:
            return 0.0
        memo[key] = max(after(state, action, memo, depth) for action in state.legal_actions)
    return memo[key]


def after(state, action, memo, depth=99):
    child = state.apply(action)
    if child.is_terminal:
        return float(child.returns[state.to_play])
    value = minimax(child, memo, depth - 1 if depth < 99 else depth)
    return value if child.to_play == state.to_play else -value


def test_every_position_of_tic_tac_toe_is_scored_as_minimax_scores_it():
    game = playout.game("tic_tac_toe")
    memo = {}
    assert minimax(game.initial_state(), memo) == 0
    solver = Solver(game, table_mb=1)
    assert (solver.scores(game.initial_state()) == 0).all()
    assert len(memo) == 4520  # of 5,478 positions, 958 are over
    for key, _ in list(memo)[::7]:
        state = game.from_bytes(key)
        scores = solver.scores(state)
        for action in range(9):
            legal = action in state.legal_actions
            assert scores[action] == (after(state, action, memo) if legal else ILLEGAL)


def test_outcomes_of_a_batch_hold_for_finished_rows_too():
    game = playout.game("tic_tac_toe")
    states = game.batch(3)
    states[1] = game.from_moves("14253")  # X has 1 2 3
    states[2] = game.from_moves("1425")
    solver = Solver(game, threads=2)
    outcomes = solver.outcomes(states)
    assert (outcomes[0] == 0).all()
    assert (outcomes[1] == ILLEGAL_OUTCOME).all()
    assert outcomes[2, 2] == 1
    assert solver.values(states).tolist() == [0, 1, 1]


@pytest.mark.parametrize("again", [False, True])
def test_a_game_in_python_is_solved(again):
    game = playout.game(Nim(again))
    solver = Solver(game, table_mb=1)
    state, memo = game.initial_state(), {}
    while not state.is_terminal:
        expected = [int(after(state, a, memo)) for a in state.legal_actions]
        assert solver.scores(state)[: len(expected)].tolist() == expected
        if not again:
            assert solver.solve(state) == (1 if state.to_bytes()[4] % 4 else -1)
        state = state.apply(state.legal_actions[-1])


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_limited_depth_equals_minimax_of_that_depth(depth):
    game = playout.game("connect_four", width=5, height=4)
    states = game.batch(40)
    states.random_plies(np.full(40, 9, np.int32), seed=depth)
    states = states[~states.is_terminal()]
    values = AlphaBeta(game).values(states, depth=depth)
    memo = {}
    for row, state in enumerate(states):
        for action in range(5):
            if action in state.legal_actions:
                assert values[row, action] == after(state, action, memo, depth)
            else:
                assert np.isnan(values[row, action])


def test_rollouts_at_the_horizon_depend_on_their_seed_alone():
    game = playout.game("connect_four")
    states = game.batch(4)
    solver = AlphaBeta(game)
    values = [solver.values(states, depth=2, rollouts=5, seed=seed) for seed in (1, 2, 1)]
    values.append(AlphaBeta(game).values(states, depth=2, rollouts=5, seed=1))
    assert (values[0] == values[2]).all() and (values[0] == values[3]).all()
    assert (values[0] != values[1]).any()
    assert (np.abs(values[0]) <= 1).all()


@pytest.mark.parametrize("depth", [None, 2, 5])
def test_values_are_in_units_of_the_value_scale(depth):
    piles = Line([0, 1], 2, {(0, 0): -3.0, (0, 1): -8.0, (1, 0): 9.0, (1, 1): -5.0})
    piles.value_scale = 10.0
    game = playout.game(piles)
    assert AlphaBeta(game).values(game.batch(1), depth=depth)[0] == pytest.approx([-0.8, -0.5])


def test_random_games_at_the_horizon_count_in_units_of_the_value_scale():
    piles = Line([0], 2, {(0, 0): 9.0})
    piles.value_scale = 10.0
    game = playout.game(piles)
    assert AlphaBeta(game).values(game.batch(1), depth=1, rollouts=3)[0] == pytest.approx([0.9])


def test_a_guess_is_kept_by_its_depth_whatever_the_actions_number():
    game = playout.game(Line([4096], 4, {(4096,) * 4: 1.0}))
    solver = AlphaBeta(game)
    values = [solver.values(game.batch(1), depth=depth)[0, 4096] for depth in (1, 2, 3, 4)]
    assert values == [0, 0, 0, 1]


def test_a_search_takes_memory_for_what_it_looks_at():
    endless = Nim()
    endless.max_plies = 2**31 - 1
    game = playout.game(endless)
    assert AlphaBeta(game).values(game.batch(1), depth=2).tolist() == [[0, 0, 0]]
    assert Solver(game).solve(game.initial_state()) == -1


def test_a_search_that_is_stopped_plays_only_some_more_random_games():
    class Stops(Nim):
        applied = 0

        def apply(self, state, action):
            self.applied += 1
            solver.stop()
            return super().apply(state, action)

    rules = Stops()
    game = playout.game(rules)
    solver = AlphaBeta(game)
    with pytest.raises(InterruptedError):
        solver.values(game.batch(1), depth=2, rollouts=2000)
    assert rules.applied < 50_000


def test_what_alpha_beta_cannot_play_is_refused():
    lopsided = Nim()
    lopsided.payoff = 0.5
    with pytest.raises(GameError, match="zero"):
        Solver(lopsided).solve(playout.game(lopsided).initial_state())
    alone = Nim()
    alone.num_players = 1
    alone.returns = lambda state: [1.0]
    alone.to_play = lambda state: 0 if state[0] else -1
    with pytest.raises(ConfigError, match="two players"):
        Solver(alone)
    endless = Nim()
    endless.max_plies = 3
    with pytest.raises(GameError, match="max_plies"):
        game = playout.game(endless)
        Solver(game).solve(game.initial_state())
    with pytest.raises(GameError, match="gave up"):
        Solver("tic_tac_toe", max_nodes=10).solve(playout.game("tic_tac_toe").initial_state())


def test_an_exception_of_a_python_game_comes_out():
    broken = Nim()
    broken.fail_at = 3
    game = playout.game(broken)
    with pytest.raises(GameError, match="raised RuntimeError: boom"):
        Solver(game).solve(game.initial_state())


def test_wrong_shapes_and_depths_are_refused():
    game = playout.game("tic_tac_toe")
    solver = AlphaBetaCore(game.capsule)
    states = game.batch(2).data
    with pytest.raises(ValueError, match="expected"):
        solver.solve(states, np.empty((2, 8), np.float32))
    with pytest.raises(ValueError, match="depth"):
        solver.solve(states, np.empty((2, 9), np.float32), depth=0)


def test_numbers_out_of_range_are_refused_in_one_line():
    game = playout.game("tic_tac_toe")
    for bad in ({"table_mb": -1}, {"table_mb": 0}, {"max_nodes": -1}, {"max_nodes": 2**64}):
        for make in (Solver, AlphaBeta):
            with pytest.raises(ConfigError, match=next(iter(bad))) as caught:
                make(game, **bad)
            assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="threads"):
        Solver(game, threads=0)
    solver = AlphaBeta(game, table_mb=np.int64(1), max_nodes=np.uint8(0))
    for bad in (
        {"depth": -3},
        {"depth": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"rollouts": -1},
        {"give_up": -1},
        {"depth": 1.5},
    ):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            solver.values(game.batch(1), **bad)
    assert solver.values(game.batch(1), depth=np.int64(2), seed=np.uint64(1)).shape == (1, 9)

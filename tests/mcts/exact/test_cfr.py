"""CFR+ and best responses, by published values and by OpenSpiel's tables."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import playout
import pytest
from playout.envs.core.python_game import from_python
from playout.errors import ConfigError, DataError, GameError
from playout.mcts.exact import cfr


def prefer(*order):
    """The first of these actions that is legal."""

    def policy(states):
        mask = states.legal_mask() > 0
        found, open_rows = np.zeros(mask.shape), np.ones(len(mask), bool)
        for action in order:
            rows = open_rows & mask[:, action]
            found[rows, action] = 1
            open_rows &= ~rows
        return found

    return policy


@pytest.mark.parametrize(
    ("name", "policy", "value"),
    [  # OpenSpiel's exploitability_test
        ("kuhn_poker", "uniform", 11 / 12),
        ("kuhn_poker", prefer(0), 2.0),
        ("leduc_poker", "uniform", 4.747222222222222),
        ("leduc_poker", prefer(0, 1), 2.0),
    ],
)
def test_nash_conv_of_simple_policies_is_the_published_one(name, policy, value):
    assert cfr.nash_conv(name, policy) == pytest.approx(value, abs=1e-9)
    assert cfr.exploitability(name, policy) == pytest.approx(value / 2, abs=1e-9)


def test_uniform_play_of_three_players_is_exploitable_by_more_than_two():
    assert cfr.nash_conv("kuhn_poker(players=3)", "uniform") > 2


def test_kuhn_poker_is_worth_minus_an_eighteenth_to_the_first_player():
    tree = cfr.GameTree("kuhn_poker")
    policy = tree.solve(2000)
    assert tree.exploitability(policy) < 1e-4
    assert tree.expected_returns(policy)[0] == pytest.approx(-1 / 18, abs=1e-4)


def test_leduc_poker_is_solved_to_a_thousandth_of_a_chip():
    tree = cfr.GameTree("leduc_poker")
    policy = tree.solve(1000)
    assert tree.exploitability(policy) < 0.001
    assert tree.expected_returns(policy)[0] == pytest.approx(-0.085606424078, abs=1e-3)


def test_a_few_iterations_of_three_players_come_closer_to_an_equilibrium():
    tree = cfr.GameTree("kuhn_poker(players=3)")
    assert tree.nash_conv(tree.solve(200)) < 0.1 * tree.nash_conv("uniform")


def test_a_game_without_hidden_information_is_solved_too():
    tree = cfr.GameTree("connect_four(width=3, height=2, run=3)")
    policy = tree.solve(50)
    assert tree.exploitability(policy) < 1e-3
    assert tree.expected_returns(policy).tolist() == pytest.approx([0, 0], abs=1e-3)


def test_the_policy_answers_positions_with_probabilities_of_legal_actions():
    game = playout.game("leduc_poker")
    policy = cfr.solve(game, 5)
    batch = game.batch(64)
    batch.resolve_chance(1)
    found = policy.probabilities(batch)
    assert found.shape == (64, game.num_actions)
    assert found.sum(axis=1) == pytest.approx(np.ones(64))
    assert (found[batch.legal_mask() == 0] == 0).all()
    drawn = batch.resample(2)
    assert (policy.probabilities(drawn) == found).all()  # it knows no more than the player
    with pytest.raises(GameError, match="row 0: nobody is to move"):
        policy.probabilities(game.batch(1))
    with pytest.raises(DataError, match="plays leduc_poker"):
        policy.probabilities(playout.game("kuhn_poker").batch(1))


def test_what_is_too_large_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="more than 1,000 histories") as caught:
        cfr.solve("leduc_poker", 10, max_histories=1000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda states: np.ones((len(states), 2)), r"\[B, A\]"),
        (lambda states: np.full(states.legal_mask().shape, np.nan), "at least 0"),
        (lambda states: np.zeros(states.legal_mask().shape), "at least 0"),
        (7, "a policy has probabilities"),
    ],
)
def test_an_answer_that_is_no_policy_is_refused(answer, problem):
    with pytest.raises(DataError, match=problem):
        cfr.exploitability("kuhn_poker", answer)


class Pennies:
    """Matching pennies: the second player does not see what the first one chose."""

    name, num_players, num_actions, max_plies, obs_shape = "pennies", 2, 2, 2, (1, 1, 1)
    hidden, value_scale, state_bytes = True, 3.0, 2
    forgets = False

    def initial_state(self):
        return ()

    def to_play(self, state):
        return len(state) if len(state) < 2 else -1

    def legal_actions(self, state):
        return [0, 1]

    def apply(self, state, action):
        return (*state, action)

    def returns(self, state):
        won = (3.0 if state[0] else 1.0) * (1 if state[0] == state[1] else -1)
        return [won, -won]

    def observe(self, state, player):
        return np.full(self.obs_shape, len(state))

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        if len(data) > 2 or any(byte > 1 for byte in data):
            raise ValueError("no state")
        return tuple(data)

    def info_key(self, state, player):
        return (player, len(state), state[player] if len(state) > player else -1)

    def resample(self, state, player, rng):
        if len(state) == 2:
            return state
        return tuple(c if who == player else int(rng.integers(2)) for who, c in enumerate(state))

    def board_text(self, state):
        return f"coins: {state}"

    def view_text(self, state, player):
        return f"{len(state)} coins lie"


def test_a_game_in_python_with_hidden_information_is_checked_and_solved():
    class Shown(Pennies):
        def info_key(self, state, player):
            seen = state if len(state) == 2 else Pennies.info_key(self, state, player)
            return repr(seen)

    game = from_python(Shown())
    playout.testing.check_game(game)
    policy = cfr.solve(game, 2000)
    assert cfr.exploitability(game, policy) < 0.01
    # Rows of results 1, -1 and -3, 3: heads (0) is chosen three times of four by both.
    start = playout.envs.StateBatch.from_states([game.initial_state()])
    assert policy.probabilities(start)[0] == pytest.approx([0.75, 0.25], abs=0.02)


def test_a_tree_takes_memory_for_the_histories_that_there_are():
    generous = Pennies()
    generous.max_plies, generous.state_bytes = 2**31 - 1, 4096
    tree = cfr.GameTree(from_python(generous))
    assert tree.expected_returns("uniform").sum() == 0


class Counts(Pennies):
    """Players in turn add one to a number; the second to get there wins."""

    num_actions, max_plies, value_scale, state_bytes = 1, 8000, 1.0, 4

    def initial_state(self):
        return 0

    def to_play(self, state):
        return -1 if state == self.max_plies else state % 2

    def legal_actions(self, state):
        return [0]

    def apply(self, state, action):
        return state + 1

    def returns(self, state):
        return [-1.0, 1.0]

    def observe(self, state, player):
        return np.zeros(self.obs_shape)

    def encode(self, state):
        return int(state).to_bytes(4, "little")

    def decode(self, data):
        return int.from_bytes(data, "little")

    def info_key(self, state, player):
        return (player, state)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_tree_may_be_deeper_than_a_stack(hidden):
    def visit():
        tree = cfr.GameTree(from_python(game))
        assert tree.counts == (0, game.max_plies, 1) and tree.num_infosets == game.max_plies
        assert tree.best_responses("uniform").tolist() == [-1, 1]
        assert tree.nash_conv(tree.solve(np.int64(1))) == 0
        return True

    game = Counts()
    game.hidden = hidden
    before = threading.stack_size(1 << 19)
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(visit).result()
    finally:
        threading.stack_size(before)


def test_information_that_is_forgotten_is_refused():
    class Forgets(Pennies):
        max_plies, state_bytes = 3, 3

        def to_play(self, state):
            return [0, 1, 0, -1][len(state)]

        def returns(self, state):
            return [0.0, 0.0]

        def decode(self, data):
            return tuple(data)

        def info_key(self, state, player):
            return (player, len(state))

    with pytest.raises(GameError, match="forgets what a player knew"):
        cfr.GameTree(from_python(Forgets()))


@pytest.mark.peer
@pytest.mark.parametrize("name", ["kuhn_poker", "leduc_poker", "kuhn_poker(players=3)"])
def test_openspiel_finds_the_same_nash_conv_of_a_random_policy(name):
    pyspiel = pytest.importorskip("pyspiel")
    from open_spiel.python import policy as policies
    from open_spiel.python.algorithms import exploitability as referee

    game = playout.game(name)
    other = pyspiel.load_game(game.name, {"players": game.num_players})
    tabular = policies.TabularPolicy(other)
    rng = np.random.default_rng(4)
    drawn = rng.random(tabular.action_probability_array.shape) * tabular.legal_actions_mask
    tabular.action_probability_array[:] = drawn / drawn.sum(axis=1, keepdims=True)

    def same(states):
        found = np.zeros((len(states), game.num_actions))
        for row, state in enumerate(states):
            peer = other.new_initial_state()
            for action in history(state):
                peer.apply_action(action)
            probs = tabular.action_probabilities(peer)
            found[row, list(probs)] = list(probs.values())
        return found

    assert cfr.nash_conv(game, same) == pytest.approx(referee.nash_conv(other, tabular), abs=1e-6)


def history(state):
    """The actions behind a poker state, from its text."""
    moves, _, cards = state.text.partition(":")
    game, board = state.game, ""
    if "/" in moves:
        cards, _, board = cards.partition("/")
    first, _, second = moves.partition("/")
    words = [*cards.split("|"), *first, *([board] if board else []), *second]
    at, found = game.initial_state(), []
    for word in words:
        found.append(at.read_action(word))
        at = at.apply(found[-1])
    assert at == state
    return found

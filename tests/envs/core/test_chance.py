"""Games with dice: states, batches, counts, environments and check_game, against plain Python."""

import math
from functools import cache

import numpy as np
import pettingzoo.test
import playout
import pytest
from playout.envs import from_python
from playout.envs.core.game import CHANCE
from playout.envs.farama.game_aec import raw_env
from playout.envs.farama.game_env import GameEnv
from playout.envs.farama.game_vector import GameVectorEnv
from playout.errors import GameError, IllegalActionError
from playout.testing import GameCheckError, check_game, count_games, perft

ROLLS = {0: 0.5, 2: 0.25, 3: 0.25}  # outcomes 0, 2 and 3 of five actions


class Pig:
    """Players in turn roll (4) as often as they like or hold (1); a roll adds 0, 2 or 3 points.

    After a 0 the turn and its points are lost. Who has held five points wins; nobody does when the
    turns are used up. Before the first turn, dice say who begins: a game may start with chance.
    """

    num_actions, obs_shape = 5, (1, 1, 12)

    def __init__(self, players=2, turns=4):
        self.name, self.num_players, self.turns = f"pig{players}", players, turns
        self.max_plies = 1 + turns * 6
        self.zero_sum = players == 2

    def initial_state(self):
        return ("start", 0, 0, 0, (0,) * self.num_players)

    def to_play(self, s):
        phase, player, turn, _, held = s
        if max(held) >= 5 or turn == self.turns:
            return -1
        return player if phase == "move" else -2

    def legal_actions(self, s):
        return [4] if not s[3] else [1, 4]

    def chance(self, s):
        if s[0] == "start":
            return [(player, 1 / self.num_players) for player in range(self.num_players)]
        return list(ROLLS.items())

    def apply(self, s, a):
        phase, player, turn, points, held = s
        if phase == "start":
            return ("move", a, turn, 0, held)
        if phase == "roll" and a:
            points += a
            if points < 5:
                return ("move", player, turn, points, held)
        elif phase == "roll":
            points = 0
        elif a == 4:
            return ("roll", *s[1:])
        held = tuple(h + points * (p == player) for p, h in enumerate(held))
        return ("move", (player + 1) % self.num_players, turn + 1, 0, held)

    def returns(self, s):
        best = max(s[4])
        if best < 5:
            return [0.0] * self.num_players
        return [1.0 if h == best else -1.0 / (self.num_players - 1) for h in s[4]]

    def observe(self, s, player):
        planes = np.zeros(12)
        planes[:4] = s[0] == "roll", s[1] == player, s[2], s[3]
        planes[4 : 4 + self.num_players] = s[4]
        return planes.reshape(1, 1, 12)

    def encode(self, s):
        return bytes([["start", "move", "roll"].index(s[0]), *s[1:4], *s[4]])

    def decode(self, data):
        if len(data) != 4 + self.num_players:
            raise ValueError("not a state")
        return (["start", "move", "roll"][data[0]], *data[1:4], tuple(data[4:]))

    def expectation(self):
        """The mean results [P] of random play, by enumeration."""

        @cache
        def value(s):
            mover = self.to_play(s)
            if mover == -1:
                return tuple(self.returns(s))
            if mover == -2:
                branches = self.chance(s)
            else:
                moves = self.legal_actions(s)
                branches = [(a, 1 / len(moves)) for a in moves]
            parts = [(p, value(self.apply(s, a))) for a, p in branches]
            return tuple(sum(p * v[i] for p, v in parts) for i in range(self.num_players))

        return np.array(value(self.initial_state()))

    def sequences(self, depth):
        """How many ways there are to go on for so many plies, outcomes included."""

        @cache
        def count(s, left):
            if left == 0:
                return 1
            mover = self.to_play(s)
            if mover == -1:
                return 0
            moves = self.legal_actions(s) if mover >= 0 else [a for a, _ in self.chance(s)]
            return sum(count(self.apply(s, a), left - 1) for a in moves)

        return count(self.initial_state(), depth)


GAMES = [Pig(2), Pig(3)]
by_name = pytest.mark.parametrize("rules", GAMES, ids=lambda rules: rules.name)


@by_name
def test_check_game_covers_chance(rules):
    report = check_game(rules, num_games=12)
    assert report.longest > 8


@by_name
def test_chance_nodes_show_their_outcomes_as_legal_actions(rules):
    game = playout.game(rules)
    assert game.has_chance
    assert game.zero_sum == (rules.num_players == 2)
    state = game.initial_state()
    assert state.to_play == CHANCE
    share = 1 / rules.num_players
    assert state.chance_outcomes == [(p, share) for p in range(rules.num_players)]
    assert state.legal_actions == list(range(rules.num_players))
    assert state.action_mask.sum() == rules.num_players
    with pytest.raises(IllegalActionError, match="action 4 is not legal"):
        state.apply(4)
    state = state.apply(1)
    assert state.to_play == 1
    assert state.chance_outcomes == []
    roll = state.apply(4)
    assert roll.legal_actions == [0, 2, 3]
    assert game.batch(1).legal_mask()[0].tolist() == [1] * rules.num_players + [0] * (
        5 - rules.num_players
    )


@by_name
def test_perft_counts_outcomes_as_plies(rules):
    for depth in range(1, 9):
        assert perft(rules, depth) == rules.sequences(depth)
    short = Pig(rules.num_players, turns=2)
    longest = short.max_plies
    finished = sum(
        short.sequences(depth) - sum_of_unfinished(short, depth) for depth in range(1, longest + 1)
    )
    assert sum(count_games(short).values()) == finished


def sum_of_unfinished(rules, depth):
    """Sequences of `depth` plies after which the game goes on, by one more ply's parents."""
    frontier = {rules.initial_state(): 1}
    for _ in range(depth):
        following = {}
        for s, number in frontier.items():
            mover = rules.to_play(s)
            moves = [] if mover == -1 else rules.legal_actions(s)
            if mover == -2:
                moves = [a for a, _ in rules.chance(s)]
            for a in moves:
                child = rules.apply(s, a)
                following[child] = following.get(child, 0) + number
        frontier = following
    return sum(number for s, number in frontier.items() if rules.to_play(s) != -1)


@by_name
def test_random_play_has_the_expected_results(rules):
    game = playout.game(rules)
    expected = rules.expectation()
    states = game.batch(1500)
    assert (states.random_plies(game.max_plies, 3) < game.max_plies).any()
    assert states.is_terminal().all()
    for results in (states.returns(), game.batch(1500).playouts(4)):
        error = 4 * results.std(axis=0) / math.sqrt(1500) + 1e-6
        assert (np.abs(results.mean(axis=0) - expected) < error).all()


def test_outcomes_are_drawn_by_their_probability_from_the_rows_stream():
    game = playout.game(Pig(2))
    states = game.batch(4000)
    assert (states.resolve_chance(7) == 1).all()
    assert (states.resolve_chance(7) == 0).all()  # nothing left to draw
    first = states.to_play()
    assert abs(first.mean() - 0.5) < 0.04
    again = game.batch(10)
    again.resolve_chance(7, streams=np.arange(990, 1000))
    assert np.array_equal(again.to_play(), first[990:1000])
    states.apply(np.full(4000, 4))
    drawn = states.random_actions(7, counter=1)
    states.resolve_chance(7, counter=1)
    points = states.data[:, 7]  # after the length in four bytes: phase, player, turn, points
    assert np.array_equal(points, drawn)
    shares = np.bincount(points, minlength=4) / 4000
    assert np.abs(shares - [0.5, 0, 0.25, 0.25]).max() < 0.04
    single = game.initial_state().resolve_chance(7, stream=12)
    assert single.to_play == first[12]
    assert single.ply == 1
    assert single.resolve_chance(7) is single


class Crowded:
    """One throw of dice, during which so many states are met that kept ones are forgotten."""

    name, num_players, num_actions, max_plies, obs_shape = "crowded", 1, 2, 1, (1, 1, 1)
    state_bytes, native = 2, None

    def initial_state(self):
        return 0

    def to_play(self, s):
        return -1 if s else -2

    def legal_actions(self, s):
        return []

    def chance(self, s):
        for number in range(1, 10_000 if self.native else 1):
            self.native.from_bytes(bytes([2, 0, 0, 0]) + self.encode(number) + bytes(2))
        return [(0, 0.25), (1, 0.75)]

    def apply(self, s, a):
        return a + 1

    def returns(self, s):
        return [0.0]

    def observe(self, s, player):
        return [[[s]]]

    def encode(self, s):
        return s.to_bytes(2, "little")

    def decode(self, data):
        return int.from_bytes(data, "little")


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_outcomes_keep_their_probabilities_where_kept_states_are_forgotten_meanwhile():
    rules = Crowded()
    game = rules.native = from_python(rules)
    assert game.initial_state().chance_outcomes == [(0, 0.25), (1, 0.75)]


def test_an_outcome_that_cannot_happen_is_never_drawn():
    rules = Pig(2)
    rules.chance = lambda s: [(0, 0.0), (1, 1.0)] if s[0] == "start" else [(0, 1.0), (2, 0.0)]
    states = from_python(rules).batch(500)
    states.resolve_chance(1)
    assert (states.to_play() == 1).all()
    states.apply(np.full(500, 4))
    states.resolve_chance(1, counter=5)
    assert (states.data[:, 7] == 0).all()


@pytest.mark.parametrize(
    ("outcomes", "what"),
    [
        ([], "no outcome"),
        ([(0, 0.5), (1, 0.4)], "add up to 1"),
        ([(0, 1.5), (1, -0.5)], "must not be negative"),
        ([(0, 0.5), (0, 0.5)], "not distinct numbers"),
        ([(0, 0.5), (5, 0.5)], "not distinct numbers from 0 to 4"),
    ],
)
def test_outcomes_that_cannot_be_are_named(outcomes, what):
    rules = Pig(2)
    rules.chance = lambda s: outcomes
    with pytest.raises(GameError, match=what):
        check_game(rules)


def test_a_chance_node_without_chance_is_named():
    rules = Pig(2)
    rules.chance = None
    with pytest.raises(GameError, match=r"-2, a chance node, needs a method chance"):
        check_game(rules)


@by_name
def test_environments_step_through_dice(rules):
    envs = GameVectorEnv(rules, 16)
    _, infos = envs.reset(seed=5)
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(60):
        assert (infos["to_play"] >= -1).all()
        mask = infos["action_mask"] + 1e-9
        actions = (mask * rng.random(mask.shape)).argmax(axis=1)
        _, rewards, over, _, infos = envs.step(actions)
        ended += over.sum()
        assert (rewards[~over] == 0).all()
    assert ended > 16
    single = GameEnv(rules)
    seen = set()
    for seed in range(20):
        _, info = single.reset(seed=seed)
        seen.add(info["to_play"])
        assert single.state.to_play == info["to_play"] >= 0
    assert seen == set(range(rules.num_players))


@pytest.mark.filterwarnings("ignore::UserWarning")
@by_name
def test_pettingzoo_plays_dice_games_to_their_end(rules, capsys):
    env = raw_env(rules)
    results = set()
    for seed in range(30):
        env.reset(seed=seed)
        rng = np.random.default_rng(seed)
        while not env.position.is_terminal:
            mask = env.observe(env.agent_selection)["action_mask"]
            assert mask.any()
            env.step(int(rng.choice(np.flatnonzero(mask))))
        results.add(tuple(env.rewards.values()))
    assert len(results) == rules.num_players + 1  # each can win, or nobody
    pettingzoo.test.api_test(raw_env(rules), num_cycles=40)
    pettingzoo.test.seed_test(lambda: raw_env(rules), num_cycles=20)


class Biased(Pig):
    """Forgets a player's points where it is encoded."""

    def encode(self, s):
        return super().encode(s)[:3] + bytes([0, *s[4]])


def test_an_encoding_that_loses_something_is_reported_as_that():
    with pytest.raises(GameCheckError, match=r"decode\(encode\(state\)\) is another state"):
        check_game(Biased(2))

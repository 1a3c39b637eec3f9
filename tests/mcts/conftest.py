"""Small games in Python, deterministic evaluations, comparison with the reference search."""

from __future__ import annotations

import zlib

import numpy as np
import playout
import pytest
from playout.envs.core.game import CHANCE
from playout.envs.core.python_game import from_python
from playout.mcts.reference import ReferenceSearch
from playout.mcts.search import UNKNOWN, Search


class Race:
    """Three players in turn take 1 to 3 from a heap; who takes the last wins."""

    name, num_players, num_actions, max_plies, obs_shape = "race", 3, 3, 20, (1, 1, 4)

    def initial_state(self):
        return (11, 0)

    def to_play(self, s):
        return -1 if s[0] == 0 else s[1] % 3

    def legal_actions(self, s):
        return range(min(3, s[0]))

    def apply(self, s, a):
        return (s[0] - a - 1, s[1] + 1)

    def returns(self, s):
        values = [-0.5, -0.5, -0.5]
        values[(s[1] - 1) % 3] = 1.0
        values[(s[1] - 2) % 3] = 0.25
        return values

    def observe(self, s, player):
        return np.array([s[0], *(s[1] % 3 == p for p in range(3))], np.float32).reshape(1, 1, 4)

    def encode(self, s):
        return bytes(s)

    def decode(self, data):
        return tuple(data)


class Ladder(Race):
    """One player, ten moves a position: a sum of four numbers, best near 30."""

    name, num_players, num_actions, max_plies, obs_shape = "ladder", 1, 12, 5, (1, 1, 2)

    def initial_state(self):
        return (0, 0)

    def to_play(self, s):
        return -1 if s[1] == 4 else 0

    def legal_actions(self, s):
        return [a for a in range(12) if (a + s[1]) % 5 != 2]

    def apply(self, s, a):
        return (s[0] + a, s[1] + 1)

    def returns(self, s):
        return [1.0 - abs(s[0] - 30) / 30]

    def observe(self, s, player):
        return np.array(s, np.float32).reshape(1, 1, 2)


class Share(Race):
    """Race for two, in which the loser gets something as well: not a zero-sum game."""

    name, num_players, obs_shape = "share", 2, (1, 1, 4)

    def to_play(self, s):
        return -1 if s[0] == 0 else s[1] % 2

    def returns(self, s):
        values = [0.25, 0.25]
        values[(s[1] - 1) % 2] = 1.0
        return values


class Row:
    """Two players put stones into a row of five; three in a row win. Has no native playout."""

    name, num_players, num_actions, max_plies, obs_shape = "row", 2, 5, 5, (1, 1, 5)

    def initial_state(self):
        return (0,) * 5

    def _won(self, s):
        return any(s[i] and s[i] == s[i + 1] == s[i + 2] for i in range(3))

    def to_play(self, s):
        return -1 if self._won(s) or all(s) else sum(map(bool, s)) % 2

    def legal_actions(self, s):
        return [i for i in range(5) if not s[i]]

    def apply(self, s, a):
        return (*s[:a], 1 + sum(map(bool, s)) % 2, *s[a + 1 :])

    def returns(self, s):
        last = 1 - sum(map(bool, s)) % 2
        return [(1.0 if p == last else -1.0) * self._won(s) for p in range(2)]

    def observe(self, s, player):
        return np.array(s, np.float32).reshape(1, 1, 5)

    def encode(self, s):
        return bytes(s)

    def decode(self, data):
        return tuple(data)


class Lines:
    """Two players put stones on a board; a line of `run` stones of one player wins."""

    num_players = 2

    def __init__(self, height, width, run):
        self.name = f"lines_{height}x{width}"
        self.obs_shape = (2, height, width)
        self.num_actions = self.max_plies = height * width
        cells = np.arange(height * width).reshape(height, width)
        self.lines = [[] for _ in range(height * width)]  # for each cell, the lines through it
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            for row, column in np.ndindex(height, width):
                ends = row + (run - 1) * down, column + (run - 1) * right
                if 0 <= ends[0] < height and 0 <= ends[1] < width:
                    line = [int(cells[row + i * down, column + i * right]) for i in range(run)]
                    for cell in line:
                        self.lines[cell].append(line)

    def initial_state(self):
        return bytes(self.num_actions), 255  # cells, and the last stone's

    def _won(self, s):
        cells, last = s
        mine = cells[last] if last != 255 else 0
        return mine and any(all(cells[c] == mine for c in line) for line in self.lines[last])

    def _count(self, s):
        return self.num_actions - s[0].count(0)

    def to_play(self, s):
        return -1 if self._won(s) or 0 not in s[0] else self._count(s) % 2

    def legal_actions(self, s):
        return [cell for cell, stone in enumerate(s[0]) if not stone]

    def apply(self, s, a):
        return s[0][:a] + bytes([1 + self._count(s) % 2]) + s[0][a + 1 :], a

    def returns(self, s):
        last = 1 - self._count(s) % 2
        return [(1.0 if p == last else -1.0) * bool(self._won(s)) for p in range(2)]

    def observe(self, s, player):
        cells = np.frombuffer(s[0], np.uint8).reshape(self.obs_shape[1:])
        return np.stack([cells == 1 + player, cells == 2 - player]).astype(np.float32)

    def encode(self, s):
        return s[0] + bytes([s[1]])

    def decode(self, data):
        return data[:-1], data[-1]


class Gamble(Race):
    """Players in turn take a sure point, or throw dice for more; the most of five points wins.

    Action 1 gives nothing or two points; action 2 nothing or two, and who got them throws again
    for a third one.
    """

    num_actions, max_plies, obs_shape = 4, 30, (1, 1, 8)

    def __init__(self, players):
        self.name, self.num_players, self.zero_sum = f"gamble{players}", players, players == 2

    def initial_state(self):
        return (0, 0, (0,) * self.num_players)  # plies of players, dice on the table, points

    def to_play(self, s):
        if s[1]:
            return -2
        return -1 if max(s[2]) >= 5 or s[0] == 3 * self.num_players else s[0] % self.num_players

    def legal_actions(self, s):
        return [0, 1, 2]

    def chance(self, s):
        odds = {1: [(0, 0.375), (2, 0.625)], 2: [(0, 0.5), (3, 0.5)], 3: [(0, 0.25), (1, 0.75)]}
        return odds[s[1]]

    def apply(self, s, a):
        plies, dice, points = s
        player = plies % self.num_players
        if not dice and a:
            return (plies, a, points)
        gain = min(a, 2) if dice else 1
        points = tuple(p + gain * (i == player) for i, p in enumerate(points))
        return (plies, 3, points) if dice == 2 and a == 3 else (plies + 1, 0, points)

    def returns(self, s):
        points = s[2]
        if self.num_players == 1:
            return [min(points[0], 8) / 8]
        first = [p == max(points) for p in points]
        if self.num_players == 2:
            return [0.0, 0.0] if all(first) else [1.0 if f else -1.0 for f in first]
        return [f / sum(first) - 0.25 * (i == 2) for i, f in enumerate(first)]

    def observe(self, s, player):
        planes = np.zeros(8, np.float32)
        planes[:2] = s[:2]
        planes[2 : 2 + self.num_players] = s[2]
        return planes.reshape(1, 1, 8)

    def encode(self, s):
        return bytes([s[0], s[1], *s[2]])

    def decode(self, data):
        return data[0], data[1], tuple(data[2 : 2 + self.num_players])


class WideLines(Lines):
    """Lines whose actions need more than sixteen bits and whose states are large."""

    def __init__(self, height, width, run):
        super().__init__(height, width, run)
        self.name, self.max_legal, self.num_actions = "wide_lines", height * width, 70_000

    def _count(self, s):
        return self.max_legal - s[0].count(0)

    def initial_state(self):
        return bytes(self.max_legal), 255

    def legal_actions(self, s):
        return [2_001 * cell for cell in super().legal_actions(s)]

    def apply(self, s, a):
        return super().apply(s, a // 2_001)

    def encode(self, s):
        return super().encode(s) + bytes(300)

    def decode(self, data):
        return super().decode(data[:-300])


class LargeGamble(Gamble):
    """Dice, and states of more bytes than a node of the tree keeps for its own."""

    def encode(self, s):
        return super().encode(s) + bytes(300)


class Points(Gamble):
    """Gamble for points alone, which are rewards along the way in units of 256."""

    step_rewards, value_scale = True, 256.0

    def __init__(self, players):
        super().__init__(players)
        self.name, self.zero_sum = f"points{players}", False

    def returns(self, s):
        return list(map(float, s[2]))


GAMES = {
    "gamble1": lambda: Gamble(1),
    "gamble2": lambda: Gamble(2),
    "gamble3": lambda: Gamble(3),
    "large_gamble2": lambda: LargeGamble(2),
    "large_gamble3": lambda: LargeGamble(3),
    "points1": lambda: Points(1),
    "points2": lambda: Points(2),
    "race": Race,
    "ladder": Ladder,
    "share": Share,
    "row": Row,
    "lines_3x5": lambda: Lines(3, 5, 3),  # 15 actions, two blocks of the C code's vectors
    "lines_9x9": lambda: Lines(9, 9, 4),  # 81 actions
    "wide_lines": lambda: WideLines(5, 7, 4),
}


def find_game(name):
    return from_python(GAMES[name]()) if name in GAMES else playout.game(name)


def random_states(game, count, seed=0, plies=30, least=0):
    """States that are not over, after `least` to `plies` random moves."""
    found = []
    while sum(map(len, found)) < count:
        batch = game.batch(4 * count)
        wanted = np.random.default_rng([seed, len(found)]).integers(least, plies + 1, len(batch))
        batch.random_plies(wanted.astype(np.int32), seed + len(found))
        batch.resolve_chance(seed + len(found), counter=99)
        found.append(batch[np.flatnonzero(~batch.is_terminal())])
    return type(found[0]).concatenate(found)[np.arange(count)]


def evaluate(states, game, spread=1.5):
    """Logits and values that are a pure function of a state's bytes."""
    players = game.num_players
    logits = np.empty((len(states), game.num_actions), np.float32)
    values = np.empty((len(states), players), np.float32)
    for row, state in enumerate(states):
        rng = np.random.default_rng(zlib.crc32(bytes(state)))
        logits[row] = spread * rng.normal(size=game.num_actions)
        values[row] = np.tanh(rng.normal(size=players))
    return logits, values if players > 2 else values[:, 0]


def finish(search, game):
    """Runs a search with `evaluate`."""
    while (leaves := search.ask()) is not None:
        search.tell(*evaluate(leaves.states, game))
    return search.result()


def compare(name, config, *, count, moves=1, seed=0, budgets=None, plies=30, allowed=None):
    """Asserts equal visits, weights, proofs and values of both searches over several moves.

    Returns how many roots were compared.
    """
    game = find_game(name)
    states = random_states(game, count, seed, plies)
    search = Search(game, config, num_trees=count, seed=seed)
    refs = [ReferenceSearch(game, config, tree=i, seed=seed) for i in range(count)]
    if budgets is not None:
        budgets = np.resize(budgets, count)
    noise = np.arange(count) % 3 != 0
    search.begin(states, num_simulations=budgets, noise=noise, allowed=allowed)
    for i, ref in enumerate(refs):
        budget = None if budgets is None else int(budgets[i])
        ref.begin(states[i], budget, bool(noise[i]), None if allowed is None else allowed[i])
    compared = 0
    for move in range(moves):
        result = search.run() if config.algorithm == "uct" else finish(search, game)
        for i, ref in enumerate(refs):
            if config.algorithm == "uct":
                ref.run() if not ref.done else None
            while config.algorithm != "uct" and (asked := ref.ask()):
                ref.tell(*evaluate([s.to_bytes() for s in asked], game))
            visits = np.zeros(game.num_actions, np.int32)
            visits[ref.root.actions] = ref.root.visits[: ref.root.n]
            np.testing.assert_array_equal(result.visits[i], visits, f"tree {i}, move {move}")
            np.testing.assert_array_equal(
                result.action_weights[i], ref.weights(), f"tree {i}, move {move}"
            )
            compared += not ref.root.terminal
            if not ref.root.terminal:
                assert ref.root.proven == (result.proven[i] != UNKNOWN)
                total = np.zeros(game.num_actions, np.float32)
                total[ref.root.actions] = ref.root.total[: ref.root.n]
                np.testing.assert_array_equal(
                    result.q[i], total / np.maximum(visits, 1).astype(np.float32)
                )
        going = np.flatnonzero(result.action >= 0)
        if move + 1 < moves:
            search.advance(result.action[going], where=going)
            for i in going:
                refs[i].advance(int(result.action[i]))
            while rows := np.flatnonzero(search.states.to_play() == CHANCE).tolist():
                outcomes = search.states[rows].random_actions(seed, counter=move)
                search.advance(outcomes, where=rows)
                for i, outcome in zip(rows, outcomes, strict=True):
                    refs[i].advance(int(outcome))
    return compared


@pytest.fixture
def tools():
    """The functions above, for the test modules."""
    return type(
        "Tools",
        (),
        {
            "game": staticmethod(find_game),
            "random_states": staticmethod(random_states),
            "evaluate": staticmethod(evaluate),
            "finish": staticmethod(finish),
            "compare": staticmethod(compare),
            "games": GAMES,
        },
    )

"""Small games in Python, with results that can be worked out by hand, for tests of self-play."""

import numpy as np


class Bytes:
    """States are tuples of small numbers; what every game here shares."""

    obs_shape = (1, 1, 8)

    def initial_state(self):
        return (0,) * self.size

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        return tuple(data)

    def observe(self, state, player):
        obs = np.zeros(self.obs_shape, np.float32)
        obs.reshape(-1)[: len(state)] = np.array(state, np.float32) / 8
        return obs

    def state_text(self, state):
        return "-".join(map(str, state))

    def read_state(self, text):
        return tuple(map(int, text.split("-")))


class Nim(Bytes):
    """Two players take 1 to 3 of the stones; who takes the last one wins."""

    name, num_players, num_actions, size = "nim", 2, 3, 2

    def __init__(self, stones=10):
        self.max_plies = self.stones = stones

    def to_play(self, state):
        taken, player = state
        return -1 if taken == self.stones else player

    def legal_actions(self, state):
        return range(min(3, self.stones - state[0]))

    def apply(self, state, action):
        return state[0] + action + 1, 1 - state[1]

    def returns(self, state):
        winner = 1 - state[1]
        return [1.0 if player == winner else -1.0 for player in (0, 1)]

    def plies_left(self, state):
        return self.stones - state[0]


class NimProver:
    """The theory of Nim: a multiple of four is lost for the side to move."""

    def __init__(self, game):
        self.game = game
        self.asked = []

    def prove(self, states, max_nodes):
        self.asked.append(max_nodes)
        found = np.full((len(states), 3), -128, np.int8)
        for row in range(len(states)):
            taken = self.game.from_bytes(states[row].tobytes()).text.split("-")[0]
            left = 10 - int(taken)
            for action in range(min(3, left)):
                found[row, action] = 1 if (left - action - 1) % 4 == 0 else -1
        return found


class ProvenNim(Nim):
    """Nim that brings its theory."""

    name, prover = "proven_nim", NimProver


class Climb(Bytes):
    """One player makes four steps of 0 or 1; the result is how many were 1, from -1 to 1."""

    name, num_players, num_actions, max_plies, size = "climb", 1, 2, 4, 2

    def to_play(self, state):
        return -1 if state[0] == 4 else 0

    def legal_actions(self, state):
        return (0, 1)

    def apply(self, state, action):
        return state[0] + 1, state[1] + action

    def returns(self, state):
        return [state[1] / 2 - 1]


class Share(Bytes):
    """Three players in turn give a point to any of them, twice each; points are their results."""

    name, num_players, num_actions, max_plies, size = "share", 3, 3, 6, 4

    def to_play(self, state):
        return -1 if state[0] == 6 else state[0] % 3

    def legal_actions(self, state):
        return (0, 1, 2)

    def apply(self, state, action):
        after = list(state)
        after[0] += 1
        after[1 + action] += 1
        return tuple(after)

    def returns(self, state):
        return [points / 3 - 1 for points in state[1:]]


class Dice(Bytes):
    """One player keeps 0.2 for sure, or rolls: 1 in three of four cases, else -1. Two rounds."""

    name, num_players, num_actions, max_plies, size = "dice", 1, 2, 4, 3

    def to_play(self, state):
        rounds, waiting, _ = state
        return -2 if waiting else -1 if rounds == 2 else 0

    def legal_actions(self, state):
        return (0, 1)

    def chance(self, state):
        return ((0, 0.25), (1, 0.75))

    def apply(self, state, action):
        rounds, waiting, sum_ = state
        if waiting:  # in fifths, from -5 for a bad roll to 5 for a good one, plus 5
            return rounds + 1, 0, sum_ + (10 if action else 0)
        return (rounds, 1, sum_) if action else (rounds + 1, 0, sum_ + 6)

    def returns(self, state):
        return [(state[2] - 10) / 10]


class Wide(Bytes):
    """Two players name numbers below 4,096 that have not been named, for up to 600 plies."""

    name, num_players, num_actions, max_plies, size = "wide", 2, 4096, 600, 2

    def initial_state(self):
        return 0, 0

    def to_play(self, state):
        plies = state[0] * 256 + state[1]
        return -1 if plies == 600 else plies % 2

    def legal_actions(self, state):
        begin = (state[0] * 256 + state[1]) * 6
        return range(begin, begin + 30)

    def apply(self, state, action):
        return divmod(state[0] * 256 + state[1] + 1, 256)

    def returns(self, state):
        return [0.0, 0.0]

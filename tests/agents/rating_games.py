"""Small games in Python for tests of ratings: three players, one player with dice, no solver."""

import numpy as np


class _Numbers:
    """A game whose states are tuples of small numbers."""

    def to_play(self, state):
        raise NotImplementedError

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        return tuple(data)


class Thirds(_Numbers):
    """Three players take 1 to 3 of nine stones in turn; who takes the last wins, the next is last.

    Returns 1 for the winner, 0 for the player before and -1 for the one after.
    """

    name, num_players, num_actions, max_plies, obs_shape = "thirds", 3, 3, 9, (2, 1, 10)
    stones = 9

    def initial_state(self):
        return (self.stones, 0)

    def to_play(self, state):
        return state[1] if state[0] else -1

    def legal_actions(self, state):
        return [action for action in range(3) if action < state[0]]

    def apply(self, state, action):
        return (state[0] - action - 1, (state[1] + 1) % 3)

    def returns(self, state):
        found = [0.0, 0.0, 0.0]
        found[(state[1] + 2) % 3], found[state[1]] = 1.0, -1.0
        return found

    def observe(self, state, player):
        planes = np.zeros((2, 1, 10), np.float32)
        planes[0, 0, state[0]] = 1
        planes[1, 0, (state[1] - player) % 3] = 1
        return planes


class Climb(_Numbers):
    """One player and a die: six times, keep the face shown or leave it; kept faces must rise.

    The return is the sum of what was kept, from -1 for nothing to 1 for 15 or more.
    """

    name, num_players, num_actions, max_plies, obs_shape = "climb", 1, 6, 13, (3, 1, 16)
    throws = 6

    def initial_state(self):
        return (0, 0, 0, 6)  # throws so far, the last kept, sum, the face shown (6: none yet)

    def to_play(self, state):
        if state[3] != 6:
            return 0
        return -1 if state[0] == self.throws else -2

    def chance(self, state):
        return [(face, 1 / 6) for face in range(6)]

    def legal_actions(self, state):
        return [0, 1] if state[3] >= state[1] else [0]

    def apply(self, state, action):
        thrown, last, total, face = state
        if face == 6:
            return (thrown + 1, last, total, action)
        return (thrown, face, total + face, 6) if action else (thrown, last, total, 6)

    def returns(self, state):
        return [min(state[2], 15) / 7.5 - 1]

    def observe(self, state, player):
        planes = np.zeros((3, 1, 16), np.float32)
        planes[0, 0, state[0]] = planes[1, 0, state[1]] = planes[2, 0, state[3]] = 1
        return planes


class Stairs(_Numbers):
    """One player, no dice: 24 times, up by 1 or 2 stairs; results differ by where one treads."""

    name, num_players, num_actions, max_plies, obs_shape = "stairs", 1, 2, 24, (2, 1, 49)
    steps = 24
    worth = (0, 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7)

    def initial_state(self):
        return (0, 0, 0)  # steps, stair, sum

    def to_play(self, state):
        return 0 if state[0] < self.steps else -1

    def legal_actions(self, state):
        return [0, 1]

    def apply(self, state, action):
        stair = state[1] + action + 1
        return (state[0] + 1, stair, state[2] + self.worth[stair % 15])

    def returns(self, state):
        return [state[2] / 120 - 0.8]

    def observe(self, state, player):
        planes = np.zeros((2, 1, 49), np.float32)
        planes[0, 0, state[0]] = planes[1, 0, state[1]] = 1
        return planes


class Nim(_Numbers):
    """Two players take 1 to 3 of the stones; who takes the last wins."""

    name, num_players, num_actions, max_plies, obs_shape = "stones", 2, 3, 21, (1, 1, 22)
    stones = 21

    def initial_state(self):
        return (self.stones, 0)

    def to_play(self, state):
        return state[1] if state[0] else -1

    def legal_actions(self, state):
        return [action for action in range(3) if action < state[0]]

    def apply(self, state, action):
        return (state[0] - action - 1, 1 - state[1])

    def returns(self, state):
        return [-1.0, 1.0] if state[1] == 0 else [1.0, -1.0]

    def observe(self, state, player):
        planes = np.zeros((1, 1, 22), np.float32)
        planes[0, 0, state[0]] = 1
        return planes

"""A game of one's own that is called like one of playout's and is nothing like it.

What playout knows of its own games by their names must not be taken for it: drawings, rules and
stones of protocols. Plain Python, for tests of several rooms.
"""

import numpy as np


class Namesake:
    """Four cells are filled in turn; nobody wins.

    Args:
        name: That of some game.
    """

    num_players, num_actions, max_plies, obs_shape = 2, 4, 4, (1, 2, 2)

    def __init__(self, name):
        self.name = name

    def initial_state(self):
        return ()

    def to_play(self, state):
        return -1 if len(state) == 4 else len(state) % 2

    def legal_actions(self, state):
        return [cell for cell in range(4) if cell not in state]

    def apply(self, state, action):
        return (*state, action)

    def returns(self, state):
        return [0.0, 0.0]

    def observe(self, state, player):
        return np.array([[[cell in state for cell in row] for row in ((0, 1), (2, 3))]])

    def encode(self, state):
        return bytes(state).ljust(4, b"\xff")

    def decode(self, data):
        return tuple(cell for cell in data if cell < 4)

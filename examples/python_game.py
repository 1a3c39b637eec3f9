"""Two games written in Python, played and searched like the native ones.

Nim has two or three players: whoever takes the last stick wins. Peg solitaire on a triangle has one
player: jump pegs until one is left. Both follow `playout.envs.Game`; nothing else has to be known.
Run it: python examples/python_game.py
"""

import numpy as np
import playout
from playout.envs import StateBatch
from playout.mcts import Search, SearchConfig
from playout.testing import check_game


class Nim:
    """Take one to three sticks from one pile; the last stick wins."""

    max_take = 3
    goal = "Who takes the last stick wins."  # optional, for language policies

    def __init__(self, piles=(3, 4, 5), players=2):
        self.piles = tuple(piles)
        self.name = "nim"
        self.num_players = players
        self.num_actions = len(self.piles) * self.max_take
        self.max_plies = sum(self.piles)
        self.obs_shape = (1, len(self.piles), max(self.piles))

    # A state is (player to move, sticks of every pile), a plain tuple.
    def initial_state(self):
        return (0, *self.piles)

    def to_play(self, state):
        return state[0] if any(state[1:]) else -1

    def legal_actions(self, state):
        return [
            pile * self.max_take + take - 1
            for pile, sticks in enumerate(state[1:])
            for take in range(1, min(sticks, self.max_take) + 1)
        ]

    def apply(self, state, action):
        pile, take = divmod(action, self.max_take)
        sticks = list(state[1:])
        sticks[pile] -= take + 1
        return ((state[0] + 1) % self.num_players, *sticks)

    def returns(self, state):
        winner = (state[0] - 1) % self.num_players
        lost = -1 / (self.num_players - 1)
        return [1.0 if player == winner else lost for player in range(self.num_players)]

    def observe(self, state, player):
        planes = np.zeros(self.obs_shape, np.float32)
        for pile, sticks in enumerate(state[1:]):
            planes[0, pile, :sticks] = 1
        return planes

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        player, *sticks = data
        if player >= self.num_players or len(sticks) != len(self.piles):
            raise ValueError("not a state of this game")
        if any(now > first for now, first in zip(sticks, self.piles, strict=True)):
            raise ValueError("more sticks than at the start")
        return (player, *sticks)

    # Optional: notation and a picture.
    def action_text(self, state, action):
        pile, take = divmod(action, self.max_take)
        return f"{'abcdefgh'[pile]}{take + 1}"

    def read_action(self, state, text):
        pile, take = "abcdefgh".index(text[0]), int(text[1:])
        if pile >= len(self.piles) or not 1 <= take <= self.max_take:
            raise ValueError(text)
        return pile * self.max_take + take - 1

    def board_text(self, state):
        return "\n".join(
            f"{letter} {'|' * sticks}"
            for letter, sticks in zip("abcdefgh", state[1:], strict=False)
        )


class PegSolitaire:
    """Fifteen holes in a triangle, the top one empty; a peg that is jumped over is taken off.

    A state is an integer whose bit h is set if hole h has a peg, counted row by row from the top.
    """

    name = "peg_solitaire"
    num_players = 1
    max_plies = 13
    obs_shape = (1, 5, 5)
    goal = "A peg that is jumped over is taken off; the fewer are left, the better."
    num_symmetries = 2  # the identity, and left and right changed over

    def __init__(self):
        self.holes = [(row, column) for row in range(5) for column in range(row + 1)]
        number = {hole: index for index, hole in enumerate(self.holes)}
        self.jumps = []  # (from, over, to)
        for row, column in self.holes:
            for down, right in ((0, 1), (1, 0), (1, 1), (0, -1), (-1, 0), (-1, -1)):
                over, to = (row + down, column + right), (row + 2 * down, column + 2 * right)
                if to in number:
                    self.jumps.append((number[row, column], number[over], number[to]))
        self.num_actions = len(self.jumps)
        self.mirror = [number[row, row - column] for row, column in self.holes]

    def initial_state(self):
        return 2**15 - 2

    def can_jump(self, state, jump):
        start, over, to = jump
        return state >> start & 1 and state >> over & 1 and not state >> to & 1

    def legal_actions(self, state):
        return [action for action, jump in enumerate(self.jumps) if self.can_jump(state, jump)]

    def to_play(self, state):
        return 0 if self.legal_actions(state) else -1

    def apply(self, state, action):
        start, over, to = self.jumps[action]
        return state & ~(1 << start) & ~(1 << over) | 1 << to

    def returns(self, state):
        return [1 - 2 * (state.bit_count() - 1) / 13]

    def observe(self, state, player):
        planes = np.zeros(self.obs_shape, np.float32)
        for index, (row, column) in enumerate(self.holes):
            planes[0, row, column] = state >> index & 1
        return planes

    def encode(self, state):
        return state.to_bytes(2, "little")

    def decode(self, data):
        state = int.from_bytes(data, "little")
        if len(data) != 2 or not 0 < state < 2**15:
            raise ValueError("not a state of this game")
        return state

    def action_text(self, state, action):
        start, _, to = self.jumps[action]
        return f"{'abcdefghijklmno'[start]}{'abcdefghijklmno'[to]}"

    def board_text(self, state):
        rows = []
        for row in range(5):
            pegs = [
                "o" if state >> h & 1 else "."
                for h, hole in enumerate(self.holes)
                if hole[0] == row
            ]
            rows.append(" " * (4 - row) + " ".join(pegs))
        return "\n".join(rows)

    def symmetry(self, state, k):
        if k == 0:
            return state
        return sum(1 << self.mirror[hole] for hole in range(15) if state >> hole & 1)

    def symmetry_action(self, k, action):
        if k == 0:
            return action
        return self.jumps.index(tuple(self.mirror[hole] for hole in self.jumps[action]))


def main():
    """Checks each game, then lets tree search play it."""
    for game in (Nim(), Nim(piles=(2, 3), players=3), PegSolitaire()):
        native = playout.game(game)
        print(check_game(native, num_games=5))
        config = SearchConfig(algorithm="uct", num_simulations=400)
        search = Search(native, config, num_trees=1, seed=1)
        state = native.initial_state()
        moves = []
        while not state.is_terminal:
            batch = StateBatch.from_states([state])
            action = int(search.run(batch, "rollout").action[0])
            moves.append(state.action_text(action))
            state = state.apply(action)
        print(f"searched: {' '.join(moves)} -> {state.returns.tolist()}\n{state}\n")


if __name__ == "__main__":
    main()

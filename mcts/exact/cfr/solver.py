"""CFR+ (Tammelin 2014) and exact best responses over the whole tree of a game.

For two players whose results add up to 0 the average policy comes to an equilibrium; for others
CFR+ gives a policy that is often good, and `nash_conv` says how good. Results are the game's own:
chips where the game counts chips.
"""

from __future__ import annotations

import numpy as np
from playout.envs.core.game import NativeGame, StateBatch
from playout.envs.core.registry import game as find_game
from playout.mcts.arguments import as_integer
from playout.mcts.exact.cfr._cfr import Tree
from playout.mcts.exact.cfr.policy import AnyPolicy, Floats, TabularPolicy, answers

MAX_HISTORIES = 5_000_000
"""About half a gigabyte."""

_SLICE = 1_000_000  # histories between looks for Ctrl-C
_BATCH = 4096  # information sets that a policy is asked about at once


class GameTree:
    """All histories of a game; what the functions below keep if they are asked more than once.

    Args:
        game: A game, or its name.
        max_histories: Gives up beyond so many.

    Attributes:
        game: The game.
        counts: (chance nodes, decisions, ends) among its histories.
        num_infosets: Information sets of all players.

    Raises:
        ConfigError: The game is larger. GameError: A hidden game whose info_key() forgets what a
            player knew or did before, as no policy of a table could be judged then.
    """

    def __init__(self, game: NativeGame | str, *, max_histories: int = MAX_HISTORIES) -> None:
        self.game = find_game(game)
        most = as_integer(max_histories, "max_histories", 1, 2**31 - 1)
        self._tree = Tree(self.game.capsule, max_histories=most)
        self.counts: tuple[int, int, int] = self._tree.counts
        self.num_infosets = len(self._tree.keys)

    def policy(self, policy: AnyPolicy) -> Floats:
        """float64 [S]: a policy's probabilities of all actions of all information sets."""
        tree, parts = self._tree, []
        states = StateBatch.from_data(self.game, tree.states, check=False)
        for first in range(0, self.num_infosets, _BATCH):
            last = min(first + _BATCH, self.num_infosets)
            found = answers(policy, states[first:last])
            rows = np.repeat(np.arange(last - first), np.diff(tree.slots[first : last + 1]))
            parts.append(found[rows, tree.actions[tree.slots[first] : tree.slots[last]]])
        return np.concatenate(parts) if parts else np.zeros(0)

    def expected_returns(self, policy: AnyPolicy) -> Floats:
        """float64 [P]: every player's expected result where all play `policy`."""
        return self._tree.values(self.policy(policy))

    def best_responses(self, policy: AnyPolicy) -> Floats:
        """float64 [P]: what each player gets who alone answers `policy` as well as can be."""
        return self._tree.best_responses(self.policy(policy))

    def nash_conv(self, policy: AnyPolicy) -> float:
        """What the players would gain by answering it best, each alone, added up."""
        probs = self.policy(policy)
        gains = self._tree.best_responses(probs) - self._tree.values(probs)
        return float(gains.sum())

    def exploitability(self, policy: AnyPolicy) -> float:
        """`nash_conv` a player: in zero-sum games of two, how much it loses a game at worst."""
        return self.nash_conv(policy) / self.game.num_players

    def solve(self, iterations: int) -> TabularPolicy:
        """The average policy of CFR+."""
        iterations = as_integer(iterations, "iterations", 1, 2**62)
        tree = self._tree
        policy = self.policy("uniform")
        regrets, sums = np.zeros_like(policy), np.zeros_like(policy)
        part = max(1, _SLICE // max(sum(self.counts), 1))
        for first in range(1, iterations + 1, part):
            count = min(part, iterations + 1 - first)
            tree.iterate(policy, regrets, sums, first=first, count=count)
            self.game.raise_pending()
        counts = np.diff(tree.slots)
        starts = tree.slots[:-1]
        totals = np.repeat(np.add.reduceat(sums, starts) if len(starts) else starts, counts)
        even = np.repeat(1.0 / np.maximum(counts, 1), counts)
        average = np.where(totals > 0, sums / np.where(totals > 0, totals, 1), even)
        return self._table(average)

    def _table(self, probs: Floats) -> TabularPolicy:
        tree = self._tree
        order = np.argsort(tree.keys)
        counts = np.diff(tree.slots)[order]
        slots = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        taken = np.arange(slots[-1]) + np.repeat(tree.slots[:-1][order] - slots[:-1], counts)
        return TabularPolicy(self.game, tree.keys[order], slots, tree.actions[taken], probs[taken])


def solve(
    game: NativeGame | str, iterations: int = 1000, *, max_histories: int = MAX_HISTORIES
) -> TabularPolicy:
    """Solves a game by CFR+.

    Args:
        game: A game, or its name: any with at most `max_histories` histories.
        iterations: Each goes through the whole tree once for every player. Leduc poker falls below
            an exploitability of 0.001 chips within the default.
        max_histories: Gives up beyond so many.

    Raises:
        ConfigError: The game is larger.
    """
    return GameTree(game, max_histories=max_histories).solve(iterations)


def exploitability(game: NativeGame | str | GameTree, policy: AnyPolicy) -> float:
    """What a player who knows the policy wins of it on average, in the game's own units.

    `nash_conv` divided by the number of players; 0 for an equilibrium.

    Args:
        game: A game, its name, or its tree, which saves time where many policies are judged.
        policy: A TabularPolicy, the player of a run, a function of states that gives probabilities
            [B, A], or "uniform".
    """
    return _tree_of(game).exploitability(policy)


def nash_conv(game: NativeGame | str | GameTree, policy: AnyPolicy) -> float:
    """What the players would gain by answering `policy` best, each alone, added up."""
    return _tree_of(game).nash_conv(policy)


def expected_returns(game: NativeGame | str | GameTree, policy: AnyPolicy) -> Floats:
    """float64 [P]: every player's expected result where all play `policy`."""
    return _tree_of(game).expected_returns(policy)


def _tree_of(game: NativeGame | str | GameTree) -> GameTree:
    return game if isinstance(game, GameTree) else GameTree(game)

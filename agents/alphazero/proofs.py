"""An evaluator that answers positions near the end of a game itself and asks a network for others.

A leaf where the side to move wins at once is worth exactly 1, one where every move lets the other
side win at once is worth -1, and neither needs the network; elsewhere moves that lose at once are
all but forbidden. That uses nothing but the rules, costs less than 1 us a leaf, and lets learning
begin where tactics end. Where a game has a quick solver, a little alpha-beta goes on: leaves that
it proves within a few hundred nodes are answered exactly, too (Baier and Winands, "MCTS-Minimax
Hybrids", 2015, do the same at leaves). Left out: games of other than two players.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.config import LEAF_PROOF_NODES
from playout.agents.alphazero.evaluator import NetworkEvaluator, SymmetricEvaluator
from playout.envs.core.game import NativeGame
from playout.mcts.evaluators import Evaluator, LeafBatch
from playout.mcts.exact.solver import END_NODES, GIVEN_UP, Prover, prover_for
from playout.mcts.exact.tactics import resolve, scatter_answers

Float32 = npt.NDArray[np.float32]

CERTAIN_LOGIT = 8.0
"""Logit of winning moves, and minus it of losing ones: a search may still look at those."""


class TacticalEvaluator(Evaluator):
    """Wraps a network's evaluator; for calls from one thread at a time.

    Args:
        network: answers where nothing is certain; stays within reach as the attribute `network`.
        game: a game of two players; any other is passed on as it is.
        proof_nodes: alpha-beta's effort a leaf, where the game has a quick solver; 0 leaves it at
            two plies.
        end_nodes: the effort near the end of the game; 0 for no other.
        threads: share the proofs of a batch; 1 in self-play.
    """

    def __init__(
        self,
        network: Evaluator,
        game: NativeGame,
        *,
        proof_nodes: int = LEAF_PROOF_NODES,
        end_nodes: int = 0,
        threads: int = 1,
    ) -> None:
        self.network, self.game = network, game
        self.num_resolved = 0
        self._prover = prover_for(game, proof_nodes, end_nodes, threads=threads)
        self._workspace: _Workspace | None = None

    def evaluate(self, leaves: LeafBatch) -> tuple[Float32, Float32]:
        """Logits [M, A] and values [M] of the leaves."""
        size, game = leaves.size, self.game
        if game.num_players != 2:
            return self.network.evaluate(leaves)
        work = self._workspace
        if work is None or len(work.rows) < size:
            work = self._workspace = _Workspace(game, max(size, 16))
        seen = None if leaves.obs is None else leaves.obs[:size].reshape(size, -1)
        logits = np.empty((size, game.num_actions), np.float32)
        values = np.empty(size, np.float32)
        count = resolve(
            game.capsule,
            leaves.states[:size],
            seen,
            CERTAIN_LOGIT,
            logits,
            values,
            work.losing,
            work.rows,
            None if seen is None else work.flat_obs,
            work.states,
            work.mask,
            work.to_play,
        )
        game.raise_pending()
        if self._prover is not None and seen is not None and count:
            count = self._answer_proven(self._prover, work, count, logits, values)
        self.num_resolved += size - count
        if count:
            answers, found = self.network.evaluate(work.leaves(count, observed=seen is not None))
            rows = work.rows[:count]
            scatter_answers(rows, answers, found, work.losing, CERTAIN_LOGIT, logits, values)
        return logits, values

    def _answer_proven(
        self, prover: Prover, work: _Workspace, count: int, logits: Float32, values: Float32
    ) -> int:
        """Answers what is proven of the first `count` leaves; how many stay, packed, in `work`."""
        outcomes = prover.outcomes(work.flat_obs[:count])
        open_rows = outcomes[:, 0] == GIVEN_UP
        proven = np.flatnonzero(~open_rows)
        if not len(proven):
            return count
        known = outcomes[proven]
        best = known.max(axis=1)
        rows = work.rows[proven]
        values[rows] = best
        logits[rows] = np.where(known == best[:, None], CERTAIN_LOGIT, -CERTAIN_LOGIT)
        return work.keep(np.flatnonzero(open_rows))


class _Workspace:
    """Buffers for the leaves of one batch that the network is asked about."""

    def __init__(self, game: NativeGame, size: int) -> None:
        self.game = game
        self.rows = np.empty(size, np.int32)
        self.losing = np.empty((size, game.num_actions), np.uint8)
        self.obs = np.empty((size, *game.obs_shape), np.float32)
        self.flat_obs = self.obs.reshape(size, -1)
        self.states = np.empty((size, game.state_size), np.uint8)
        self.mask = np.empty((size, game.num_actions), np.uint8)
        self.to_play = np.empty(size, np.int32)

    def keep(self, which: npt.NDArray[np.int64]) -> int:
        """Packs the leaves of these numbers to the front; how many they are."""
        for buffer in (self.rows, self.flat_obs, self.states, self.mask, self.to_play):
            buffer[: len(which)] = buffer[which]
        return len(which)

    def leaves(self, count: int, *, observed: bool) -> LeafBatch:
        """The first `count` of them."""
        return LeafBatch(
            self.obs[:count] if observed else None,
            self.mask[:count],
            self.states[:count],
            self.to_play[:count],
            count,
            self.game,
        )


def player_evaluator(
    network: NetworkEvaluator, game: NativeGame, *, proofs: bool = True
) -> TacticalEvaluator:
    """A network as players ask it: the mean over symmetries, and the game's end seen if it is near.

    Near the end, alpha-beta may take as long as at the end of a game of self-play: all in all about
    as long as a base network.
    """
    symmetric = SymmetricEvaluator(network, game)
    nodes, end_nodes = (LEAF_PROOF_NODES, END_NODES) if proofs else (0, 0)
    return TacticalEvaluator(
        symmetric, game, proof_nodes=nodes, end_nodes=end_nodes, threads=network.threads
    )

"""An evaluator that answers what is proven itself and asks a network for the rest.

Two provers look at a search's leaves (mcts/exact/prover.py): a lookahead of two plies, in games of
few moves, and the one that a game brings, with a few hundred nodes. A leaf where the side to move
wins is worth exactly 1, one where every move loses is worth -1, and neither needs the network;
elsewhere moves that are found to lose are all but forbidden. Learning then begins where tactics end
(Baier and Winands, "MCTS-Minimax Hybrids", 2015, do the same at leaves). Games of other than two
players, and such in which one's gain is not the other's loss, are passed on to the network.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.config import LEAF_PROOF_NODES
from playout.agents.alphazero.evaluator import (
    NetworkEvaluator,
    RandomSymmetryEvaluator,
    SymmetricEvaluator,
)
from playout.envs.core.game import NativeGame
from playout.mcts.evaluators import Evaluator, LeafBatch
from playout.mcts.exact.prover import prover_for
from playout.mcts.exact.solver import END_NODES
from playout.mcts.exact.tactics import Tactics, answer_proven, lookahead_for, scatter_answers

Float32 = npt.NDArray[np.float32]

CERTAIN_LOGIT = 8.0
"""Logit of winning moves, and minus it of losing ones: a search may still look at those."""


class TacticalEvaluator(Evaluator):
    """Wraps a network's evaluator; for calls from one thread at a time.

    Args:
        network: answers where nothing is certain; stays within reach as the attribute `network`.
        game: what is played.
        proof_nodes: effort a leaf of the prover that the game brings; 0 leaves it out.
        end_nodes: the effort near the end of the game; 0 for no other.
        tactics: the lookahead, see `lookahead_for`.
        threads: share the proofs of a batch; 1 in self-play.
    """

    def __init__(
        self,
        network: Evaluator,
        game: NativeGame,
        *,
        proof_nodes: int = LEAF_PROOF_NODES,
        end_nodes: int = 0,
        tactics: Tactics = "auto",
        threads: int = 1,
    ) -> None:
        self.network, self.game = network, game
        self.num_resolved = 0
        lookahead = lookahead_for(game, tactics)
        proofs = prover_for(game, proof_nodes, end_nodes, threads=threads)
        self._prove = [
            *([] if lookahead is None else [lookahead.prove]),
            *([] if proofs is None else [proofs.outcomes]),
        ]

    def evaluate(self, leaves: LeafBatch) -> tuple[Float32, Float32]:
        """Logits [M, A] and values [M] of the leaves."""
        if not self._prove:
            return self.network.evaluate(leaves)
        size = leaves.size
        logits = np.empty((size, self.game.num_actions), np.float32)
        values = np.empty(size, np.float32)
        losing = np.zeros(logits.shape, np.uint8)
        rows, states = np.arange(size, dtype=np.int32), leaves.states[:size]
        for prove in self._prove:
            kept = answer_proven(prove(states), rows, CERTAIN_LOGIT, losing, logits, values)
            if kept < len(rows):
                rows, states = rows[:kept], leaves.states[rows[:kept]]
            if not kept:
                break
        self.num_resolved += size - len(rows)
        if len(rows):
            found, worth = self.network.evaluate(_part(leaves, rows))
            if worth.ndim > 1:  # a value a player: that of the side to move says all
                worth = np.ascontiguousarray(worth[np.arange(len(rows)), leaves.to_play[rows]])
            scatter_answers(rows, found, worth, losing, CERTAIN_LOGIT, logits, values)
        return logits, values


def _part(leaves: LeafBatch, rows: npt.NDArray[np.int32]) -> LeafBatch:
    """Those leaves; the batch itself where they are all."""
    if len(rows) == leaves.size:
        return leaves
    return LeafBatch(
        None if leaves.obs is None else leaves.obs[rows],
        leaves.mask[rows],
        leaves.states[rows],
        leaves.to_play[rows],
        len(rows),
        leaves.game,
    )


Symmetry = Literal["mean", "random", "none"]


def player_evaluator(
    network: NetworkEvaluator, game: NativeGame, *, proofs: bool = True, symmetry: Symmetry = "mean"
) -> TacticalEvaluator:
    """A network as players ask it, with symmetries, and the game's end seen if it is near.

    Near the end, alpha-beta may take as long as at the end of a game of self-play: all in all about
    as long as a base network.

    Args:
        network: Answers for observations.
        game: What is played.
        proofs: Whether alpha-beta helps at the leaves.
        symmetry: "mean" of all symmetries of a position, "random" for one of them, which takes an
            evaluation as "none" does.
    """
    symmetric: Evaluator = network
    if symmetry == "mean":
        symmetric = SymmetricEvaluator(network, game)
    elif symmetry == "random":
        symmetric = RandomSymmetryEvaluator(network, game)
    nodes, end_nodes = (LEAF_PROOF_NODES, END_NODES) if proofs else (0, 0)
    return TacticalEvaluator(
        symmetric, game, proof_nodes=nodes, end_nodes=end_nodes, threads=network.threads
    )

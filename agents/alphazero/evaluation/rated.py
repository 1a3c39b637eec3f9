"""`RatedNetwork`: answers for the network that is rated while a run learns.

It is made once for each network of a run, since on a card graphs are captured for it, and takes
over newer weights. Left out: what is measured (in_training.py).
"""

from __future__ import annotations

import torch
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.evaluator import MAX_SYMMETRIES, NetworkEvaluator, chunk_for
from playout.agents.networks.boards.network import BoardNetwork
from playout.envs.core.game import NativeGame


class RatedNetwork:
    """The evaluator of the network that plays.

    Args:
        game: what is learned.
        config: of the run.
        device: where it answers.
        threads: that share a large batch on a processor.
    """

    def __init__(
        self, game: NativeGame, config: AlphaZeroConfig, *, device: torch.device, threads: int
    ) -> None:
        self.game, self.config = game, config
        self.device, self.threads = device, threads
        self._evaluator: NetworkEvaluator | None = None
        self._number = -1  # of the network that it answers for

    def of(self, number: int, net: BoardNetwork) -> NetworkEvaluator:
        """Answers for network `number` of the run, whose weights are now those of `net`."""
        if self._number != number or self._evaluator is None:
            self._number = number
            self._evaluator = NetworkEvaluator(
                net,
                device=self.device,
                dtype=self.config.infer_dtype,
                chunk=chunk_for(self._rows(), self.device),
                threads=self.threads,
            )
        self._evaluator.refresh(net)
        return self._evaluator

    def _rows(self) -> int:
        """The most positions that a rating asks about at once, each in all its symmetries."""
        shown = self.game.num_symmetries
        positions = self.config.eval_positions * (shown if shown <= MAX_SYMMETRIES else 1)
        return max(positions, self.config.eval_games, 256)

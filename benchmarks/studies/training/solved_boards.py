"""The games side of the study of scaling: networks of several sizes imitate exact play.

A case is a board of Connect Four, a network and a seed. Its row says how many of its moves lose the
outcome in held-out positions, of which exact play loses none, and how many operations teaching it
has taken. Left out: laws and pictures (scaling.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Split
from playout.agents.pretraining.data.positions import Positions
from playout.agents.pretraining.data.sources import load
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.benchmarks.studies.training.trunks import all_held_out
from playout.envs.core.state_batch import StateBatch
from torch import nn

BOARDS = {True: ((4, 4), (5, 4), (5, 5)), False: ((5, 4), (6, 5), (7, 6))}
"""Columns and rows, small boards first; the quick form's are solved in seconds."""
SIZES = {
    True: ("2x1", "4x1", "8x1", "12x1", "16x1"),
    False: ("4x1", "8x1", "16x2", "24x2", "32x3", "48x4"),
}
COUNTS, STEPS, BATCH = {True: 4000, False: 40_000}, {True: 300, False: 4000}, 128
BOARD, LOST = "board", "moves that lose the outcome"

Board = tuple[int, int]


def data_of(quick: bool, board: Board, seed: int) -> Split:
    """Solved positions of a board; solved once a process and seed."""
    width, height = board
    game = f"connect_four(width={width},height={height})"
    return load(game, count=COUNTS[quick], seed=seed)


def operations(net: nn.Module, cells: int) -> int:
    """Multiplications and additions that a position of so many cells takes where a network learns.

    Two for each weight that a cell or the position is multiplied with, as many again for the
    gradient of what came in, and for that of the weight.
    """
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return 6 * sum(
        layer.weight.numel() * (cells if isinstance(layer, nn.Conv2d) else 1) for layer in layers
    )


def lost_by_chance(data: Positions) -> float:
    """The share of random legal moves that lose the outcome, 0 to 1."""
    policy = data.policy(np.arange(len(data)))
    assert policy is not None
    legal = StateBatch.from_data(data.game, data.states, check=False).legal_mask()
    return float(1 - np.mean((policy > 0).sum(axis=1) / legal.sum(axis=1)))


def board_run(quick: bool, board: Board, size: str, seed: int) -> dict[str, Any]:
    """What a network of a size loses against exact play, and what it has cost."""
    data = data_of(quick, board, seed)
    trunk, steps = new_trunk(data.train, size=size, seed=seed), STEPS[quick]
    trainer = PretrainTrainer(trunk, data, PretrainConfig(batch=BATCH), steps=steps, seed=seed)
    try:
        while not trainer.finished:
            trainer.update()
        found = all_held_out(trainer)
    finally:
        trainer.close()
    return {
        BOARD: "x".join(map(str, board)),
        "network": size,
        "parameters": sum(p.numel() for p in trunk.parameters()),
        "operations": operations(trunk, board[0] * board[1]) * steps * BATCH,
        # Laws are fitted to logarithms: where no move was lost, half of one counts.
        LOST: max(1 - found["moves_kept"], 0.5 / len(data.test)),
        "random moves lose": lost_by_chance(data.test),
        "held-out loss": found["loss"],
    }

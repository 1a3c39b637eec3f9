"""Positions of self-play: what is known of them, and the buffers that batches are drawn from."""

from playout.agents.alphazero.replay.buffer import ReplayBuffer
from playout.agents.alphazero.replay.compact import CompactReplay
from playout.agents.alphazero.replay.examples import (
    Examples,
    Finals,
    TrainingBatch,
    values_per_position,
)
from playout.agents.alphazero.replay.moves import Moves
from playout.agents.alphazero.replay.ring import Replay

__all__ = [
    "CompactReplay",
    "Examples",
    "Finals",
    "Moves",
    "Replay",
    "ReplayBuffer",
    "TrainingBatch",
    "values_per_position",
]

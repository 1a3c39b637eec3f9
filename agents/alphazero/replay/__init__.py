"""Positions of self-play: what is known of them, and the ring that batches are drawn from."""

from playout.agents.alphazero.replay.examples import (
    Examples,
    Finals,
    TrainingBatch,
    values_per_position,
)
from playout.agents.alphazero.replay.ring import Replay

__all__ = ["Examples", "Finals", "Replay", "TrainingBatch", "values_per_position"]

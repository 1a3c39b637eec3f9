"""`resolved`: a configuration in which nothing depends on where it is read any more.

What suits a device is decided when a run begins and stored with it, so that a run that goes on
elsewhere computes the same. Left out: what suits the cores (machine.py) and the time (minutes.py).
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Literal

import torch
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.runs.devices import resolve_dtype


def resolved(config: AlphaZeroConfig, device: torch.device, dtype: str = "auto") -> AlphaZeroConfig:
    """The same with "auto" replaced by what suits the device, to be stored with the run.

    Files of recorded games get their full paths, since a run may be resumed from another folder.

    Args:
        config: what is to be trained.
        device: where networks compute.
        dtype: what the person wants networks to compute in; "auto" leaves learning as it is on a
            processor, and on other devices where they answer in less than float32.
    """
    if dtype != "auto":
        learns_in: Literal["bfloat16", "float32"] = "bfloat16" if dtype == "bfloat16" else "float32"
        config = replace(
            config, infer_dtype=dtype, learner=replace(config.learner, dtype=learns_in)
        )
    infers_in = resolve_dtype(config.infer_dtype, device)
    learner = config.learner
    if device.type != "cpu" and infers_in == "float32":  # it may have no other type
        learner = replace(learner, dtype="float32")
    records = tuple(os.path.abspath(path) for path in config.records)
    return replace(config, infer_dtype=infers_in, learner=learner, records=records)

"""A run whose board network holds its weights in few bits: what `export --quantise` writes.

It is of the kind that it was made from, so that everything that takes a run takes it: play, match,
engine, eval, export, and --init, which begins with the plain numbers. It cannot be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from playout.agents.networks.boards.registry import learned_network
from playout.agents.networks.boards.smaller.held import with_codes
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import HELD
from playout.errors import ConfigError
from torch import Tensor, nn

__all__ = ["state_bytes", "write_held_run"]


def write_held_run(
    run: RunDir, weights: str, path: Path | None = None, *, which: str | int = "best"
) -> RunDir:
    """Writes a run of one checkpoint, whose weights are held in few bits.

    Args:
        run: of kind alphazero, or pretrain-trunk on positions.
        weights: "int8" or "nf4".
        path: its folder, which is not there yet; by default beside the run, NAME-nf4.
        which: checkpoint.

    Raises:
        ConfigError: the run holds no board network of playout's own, or one in few bits already.
        RunError: the folder cannot be used.
    """
    heads = ("objective",) if run.kind == "pretrain-trunk" else ()
    step, state = run.load(which, only=("model", "network", *heads))
    if "encoder" in state["network"]:
        raise ConfigError(f"{run.path} has learned pictures; weights of few bits are for boards")
    net = learned_network(state, run.path, step)
    assert isinstance(net, nn.Module)
    held = with_codes(net, weights)
    described = held.config.to_dict()
    config = {**run.config, HELD: {"weights": weights, "run": str(run.path), "step": step}}
    if heads:
        config["network"] = described
    target = path or run.path.with_name(f"{run.path.name}-{weights}")
    made = RunDir.create(target, kind=run.kind, config=config, seed=run.seed)
    with made.lock():
        made.save(step, {**state, "model": dict(held.state_dict()), "network": described})
    return made


def state_bytes(state: Mapping[str, Tensor]) -> int:
    """What weights, codes and statistics take as they are held."""
    return sum(x.numel() * x.element_size() for x in state.values())

"""Which checkpoint is measured: its number, and whether it is the best or the latest of its run.

A kind's `evaluate` (runs/kinds.py) tells it in the first line that it prints and in what it
returns. Leaves out loading (history.py) and measuring.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

from playout.agents.runs.reporting import note_found
from playout.errors import CheckpointError

if TYPE_CHECKING:
    from playout.agents.runs.checkpoint.folder import Checkpoint
    from playout.agents.runs.directory import RunDir
    from playout.agents.runs.kinds import EvalOptions

__all__ = ["Chosen", "choose_checkpoint", "tell_checkpoint"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A checkpoint that is measured.

    Attributes:
        entry: The checkpoint.
        best: Whether it is the best of those that the run has kept.
        latest: Whether it is the newest.
    """

    entry: Checkpoint
    best: bool
    latest: bool

    def as_data(self) -> dict[str, Any]:
        """For JSON: `step`, `best`, `latest`, and `metric`, None where nothing was measured."""
        return {
            "step": self.entry.step,
            "best": self.best,
            "latest": self.latest,
            "metric": self.entry.metric,
        }

    def __str__(self) -> str:
        """For people: "checkpoint 40 (best, not the latest)"."""
        place = "latest" if self.latest else "not the latest"
        return f"checkpoint {self.entry.step} ({'best, ' if self.best else ''}{place})"


def choose_checkpoint(run: RunDir, options: EvalOptions) -> tuple[Chosen | None, EvalOptions]:
    """The checkpoint that `--which` names, and the options with its number.

    A run that goes on meanwhile may save others: what is loaded has to be what is told.

    Args:
        run: The run.
        options: Of the measurement.

    Returns:
        None and the same options where there is none, or it is damaged: whoever loads it says so.

    Raises:
        ConfigError: `--which` is no name of one. RunError: There is no such number.
    """
    with contextlib.suppress(CheckpointError):
        entry = run.find(options.which)
        if entry is not None:
            best = run.find("best") if entry.metric is not None else None
            is_best = best is not None and best.step == entry.step
            is_latest = all(other.step <= entry.step for other in run.checkpoints())
            return Chosen(entry, is_best, is_latest), replace(options, which=str(entry.step))
    return None, options


def tell_checkpoint(
    run: RunDir, chosen: Chosen | None, *, file: TextIO | None = None
) -> dict[str, Any]:
    """Prints which checkpoint is measured, now that it is loaded; returns it for the result.

    Args:
        run: The run.
        chosen: The checkpoint.
        file: Where to, where lines of standard output are the result itself.
    """
    if chosen is None:
        return {}
    print(f"{run.path}, {chosen}", file=file)
    found = {"checkpoint": chosen.as_data()}
    note_found(found)
    return found

"""A budget in minutes, turned once into a number of games or updates.

A short calibration measures how fast this machine is; the answer is written into run.json. From
then on schedules depend on counts, never on the clock, so that a resumed run, even on another
machine, equals one that was never stopped.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from playout.agents.runs import ranks
from playout.agents.runs.directory import RunDir
from playout.errors import ConfigError

if TYPE_CHECKING:
    from playout.agents.pretraining.trainer import PretrainTrainer


def _measure(work: Callable[[], int], seconds: float) -> float:
    """Units a second: `work` repeated for about `seconds`, after one call that warms up."""
    begun = time.monotonic()
    work()
    warm = time.monotonic()
    if ranks.first(warm - begun >= seconds):  # one call alone is all there is: it has to count
        begun, units = warm, work()
    else:
        begun, units = warm, 0
        while ranks.first(time.monotonic() - begun < seconds):
            units += work()
    return ranks.first(units / max(time.monotonic() - begun, 1e-9))


def plan(
    run: RunDir,
    *,
    minutes: float,
    unit: str,
    measure: Callable[[], int],
    seconds: float = 5.0,
    share: float = 0.95,
) -> int:
    """How many units fit into `minutes`, at least one; measured once, then read from run.json.

    Args:
        run: the run, not locked by the caller.
        minutes: the budget; a resumed run may be given another, which scales the old measurement.
        unit: what is counted ("games", "updates").
        measure: does a typical piece of work on throw-away objects and returns how many units it
            was; in a job all ranks do it together, and units are the job's.
        seconds: how long to measure.
        share: the part of the time that the units may take; the rest is for evaluations and saving.

    Raises:
        ConfigError: minutes is not a positive number.
    """
    if not 0 < minutes < 1e7:
        raise ConfigError(f"--minutes must be a positive number, not {minutes}")
    stored = run.record.get("budget")
    if stored and stored["unit"] == unit:
        rate = float(stored["rate"])
        if float(stored["minutes"]) == minutes:
            return int(stored["total"])
    else:
        # Slower by a little beats over budget: the share is taken off what a warm machine can do.
        rate = _measure(measure, min(seconds, minutes * 60 * 0.05)) * share
    total = max(1, round(rate * minutes * 60))
    with run.lock():
        run.update(budget={"unit": unit, "minutes": minutes, "rate": rate, "total": total})
    return total


def some_steps(trainer: "PretrainTrainer") -> int:
    """Makes an update; how many steps that were.

    It is of one step at first, and of as many as were made until then later on: where steps are
    slow, measuring takes two of them or about twice its time, and not two whole updates.
    """
    before = trainer.steps
    trainer.steps_an_update = min(type(trainer).steps_an_update, max(1, before))
    trainer.update()
    return trainer.steps - before

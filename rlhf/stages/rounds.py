"""How many rounds of sampling and learning fit into some minutes, for stages that learn by reward.

A few answers are made and learned from on throw-away copies, once a run; what they took, and what
the evaluations on the way will take, decides. The number is kept in the run, so that one that goes
on, or is repeated with it, learns the same: rates fall by rounds, never by the clock.
"""

import copy
import dataclasses
from collections.abc import Callable

from playout.agents.pretraining.budget import plan
from playout.agents.runs import ranks
from playout.agents.runs.directory import RunDir
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.config import OnlineConfig
from playout.rlhf.online.trainer import OnlineTrainer

__all__ = ["EVALUATIONS", "planned_rounds"]

EVALUATIONS = 10
"""Of such a stage on its way."""
_PARTS = (8, 4, 2)
"""Of a round on a processor, whichever of these it can be cut into, a part is made to see what it
takes; a card takes as long for a part as for the whole."""


def planned_rounds(
    run: RunDir,
    minutes: float,
    config: OnlineConfig,
    make: Callable[[Transformer, OnlineConfig], OnlineTrainer],
    model: Transformer,
    *,
    evaluation: float,
) -> int:
    """Rounds that fit into `minutes`, one at least; measured once, then read from run.json.

    Args:
        run: Of the stage, not locked.
        minutes: From now to the end of the last round.
        config: Settings of a round.
        make: The stage's trainer of a model with settings, without evaluations.
        model: The policy, which is copied.
        evaluation: Seconds of one evaluation.

    Raises:
        ConfigError: `minutes` is not a positive number.
    """
    group = getattr(config, "group", 1)
    parts = _PARTS if next(model.parameters()).device.type == "cpu" else ()
    cut = next((one for one in parts if config.batch % (one * group * ranks.world()) == 0), 1)
    trainer: OnlineTrainer | None = None
    few = dataclasses.replace(config, batch=config.batch // cut, updates=1_000_000)

    def work() -> int:
        nonlocal trainer
        trainer = trainer or make(copy.deepcopy(model), few)
        trainer.update()
        return few.batch

    # Evaluations may take half of the time at most: a round is what the minutes are for.
    left = max(minutes / 2, minutes - EVALUATIONS * evaluation / 60)
    answers = plan(run, minutes=left, unit="answers", measure=work)
    before = getattr(config, "value_warmup", 0)  # rounds that fit the value head alone
    return max(1, answers // config.batch - before)

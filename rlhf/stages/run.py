"""The run of a stage: opened or continued, its tokenizer made once, marked when it is finished.

Loops, checkpoints and metrics are agents/runs'; model folders are model/folder.py's.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.agents.runs.options import TrainingOptions, open_run
from playout.agents.runs.trainer import Trainer
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.stages.threads import set_threads

__all__ = [
    "evaluation_interval",
    "is_finished",
    "mark_finished",
    "open_stage",
    "own_tokenizer",
    "train_stage",
]


def open_stage(
    command: TrainingOptions, stage: str, derive: Callable[[], dict[str, Any]]
) -> RunDir:
    """Create or reopen the run of a stage.

    Args:
        command: Its command.
        stage: Its name; the kind of the run is `rlhf.` and this.
        derive: What is chosen once and stored with the run; not called when a run is resumed.
    """
    extra = derive() if command.resume is None else {}
    run = open_run(command, kind=f"rlhf.{stage}", name=stage, extra=extra)
    set_threads(run)
    return run


def mark_finished(run: RunDir) -> None:
    """Note in run.json that a stage is complete."""
    with run.lock():
        run.update(finished=True)


def is_finished(path: Path) -> bool:
    """Whether a stage's run is there and complete."""
    return (path / "run.json").exists() and bool(RunDir.open(path).record.get("finished"))


def evaluation_interval(steps: int, times: int) -> int:
    """Every how many of `steps` to evaluate about `times` times, the last step included."""
    return next(n for n in range(max(1, -(-steps // times)), steps + 1) if steps % n == 0)


def train_stage(
    trainer: Trainer, run: RunDir, *, updates: int, evaluations: int, quiet: bool
) -> None:
    """Train to the end, with about so many evaluations on the way."""
    every = evaluation_interval(updates, evaluations)
    train(trainer, run, eval_every=every, save_every=30.0, console=not quiet)


def own_tokenizer(run: RunDir, make: Callable[[], Tokenizer]) -> Tokenizer:
    """The tokenizer of a run, made once."""
    folder = run.path / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        make().save(folder)
    return Tokenizer.load(folder)

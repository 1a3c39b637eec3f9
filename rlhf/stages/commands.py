"""A stage as its command runs it: begun in a folder, or gone on with where it stopped.

What calls stages one after another (the pipeline, the recipe for games, benchmarks) says here which
stage, where and with what; in a job of several ranks the first one looks whether there is a run.
"""

import dataclasses
from importlib import import_module
from pathlib import Path
from typing import Any

from playout.agents.runs import ranks
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import MachineOptions, resumed
from playout.cli import stages

__all__ = ["new_command", "run_stage"]


def run_stage(
    stage: str, folder: Path, machine: MachineOptions, *, quiet: bool, **settings: Any
) -> None:
    """Run a stage to its end in a folder, which may hold an unfinished run of it.

    Args:
        stage: Such as "sft".
        folder: Of the stage's run.
        machine: What computes; a run that is there keeps its other settings.
        quiet: Show no progress.
        **settings: Of a new run; those that the stage's command does not have are left out.
    """
    module = import_module(stages()[stage])
    if ranks.by_first(lambda: RunDir.is_run(folder)):
        command = resumed(
            module.Command, folder, quiet=quiet, device=machine.device, threads=machine.threads
        )
    else:
        command = new_command(stage, run=folder, quiet=quiet, **settings)
    module.main(command)


def new_command(stage: str, **settings: Any) -> Any:
    """The command that begins a stage; settings that it does not have are left out."""
    kind = import_module(stages()[stage]).Command
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{key: value for key, value in settings.items() if key in known})

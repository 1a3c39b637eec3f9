"""Write the report page of a pipeline again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Plots, tables and samples of a pipeline, in RUN/report/index.html."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run of `playout rlhf all`."""


def main(command: Command) -> int:
    """Run the command."""
    from playout.rlhf.evaluation.report import write_report

    print(write_report(command.run))
    return 0

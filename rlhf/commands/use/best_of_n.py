"""Sample n answers and keep the best by the reward: what no training can do."""

from dataclasses import dataclass
from typing import Any

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.options import PolicyOptions


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(PolicyOptions):
    """Measure best-of-n of a policy; the table is left in RUN/table.json."""

    sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    """How many samples the best is taken of, each in turn."""


def main(command: Command) -> int:
    """Run the stage."""
    from playout.agents.runs import ranks
    from playout.agents.runs.reporting import write_json
    from playout.rlhf.commands.policy_stage import open_policy_stage
    from playout.rlhf.evaluation.best_of_n import best_of_n
    from playout.rlhf.stages.run import mark_finished

    stage = open_policy_stage(command, "best-of-n")

    def measure() -> Any:
        found, shown = best_of_n(stage.model, stage.prompt_evaluator, command.sizes)
        write_json(stage.run.path / "samples.json", shown)
        write_json(stage.run.path / "table.json", found)
        return found

    table = ranks.by_first(measure)
    if not command.quiet and ranks.is_first():
        from rich.console import Console
        from rich.table import Table

        names = [name for name in ("reward", "judge", "length") if name in table[0]]
        view = Table("n", "KL at most", *names)
        for row in table:
            cells = [f"{row[name]:.3f}" for name in names]
            view.add_row(str(row["n"]), f"{row['kl']:.2f}", *cells)
        Console().print(view)
    mark_finished(stage.run, quiet=command.quiet)
    return 0

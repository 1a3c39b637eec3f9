"""Sample n answers and keep the best by the reward: what no training can do."""

from dataclasses import dataclass

from playout.rlhf.commands.options import PolicyOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(PolicyOptions):
    """Measure best-of-n of a policy; the table is left in RUN/table.json."""

    sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    """The numbers n."""


def main(command: Command) -> int:
    """Run the stage."""
    from playout.rlhf.commands.options import begin, write_json
    from playout.rlhf.evaluation.best_of_n import best_of_n
    from playout.rlhf.stage import finish

    task = begin(command, "best-of-n")
    table, shown = best_of_n(task.model, task.evaluator, command.sizes)
    write_json(task.run.path / "samples.json", shown)
    write_json(task.run.path / "table.json", table)
    if not command.quiet:
        from rich.console import Console
        from rich.table import Table

        names = [name for name in ("reward", "judge", "length") if name in table[0]]
        view = Table("n", "KL at most", *names)
        for row in table:
            cells = [f"{row[name]:.3f}" for name in names]
            view.add_row(str(row["n"]), f"{row['kl']:.2f}", *cells)
        Console().print(view)
    finish(task.run)
    return 0

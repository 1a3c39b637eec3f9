"""Measure speed and learning against peers: runs benchmarks/ and shows what they found."""

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import playout
from playout.agents.runs.config import nearest
from playout.errors import ConfigError
from tyro.conf import Positional, arg

FOLDER = Path(playout.__file__).parent / "benchmarks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Measure speed and learning against peers.

    For example:
      playout bench list
      playout bench search --quick

    Studies have options of their own, such as --seeds and --folder:
      python -m playout.benchmarks.studies.paradigms --help
    """

    subjects: Annotated[
        Positional[tuple[str, ...]], arg(metavar="SUBJECT", help_behavior_hint="")
    ] = ()
    """What to measure, `list` shows the names; by default every benchmark, but no study."""

    quick: bool = False
    """Short measurements, for a first impression, of which no results are kept."""


def _takes_quick(tree: ast.Module) -> bool:
    """Whether a module is a benchmark: it has `main(quick)`, or `main()` that reads --quick."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "main":
            arguments = [*node.args.args, *node.args.kwonlyargs]
            if any(argument.arg == "quick" for argument in arguments):
                return True
            constants = (part for part in ast.walk(node) if isinstance(part, ast.Constant))
            return any(part.value == "--quick" for part in constants)
    return False


def _modules() -> dict[str, Path]:
    """Files of benchmarks and of studies, in packages of their own or not, by name."""
    paths = [*FOLDER.glob("[a-z]*.py"), *FOLDER.glob("studies/**/[a-z]*.py")]
    return {path.stem: path for path in sorted(paths)}


def subjects() -> dict[str, str]:
    """Benchmarks by name, with their first line of docs."""
    found = {}
    for name, path in _modules().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if _takes_quick(tree):
            found[name] = (ast.get_docstring(tree) or "").split("\n", 1)[0].rstrip(".:")
    return found


def _run(name: str, quick: bool) -> int:
    """Run one benchmark in its own process: peers start threads and reserve memory."""
    path = _modules()[name]
    module = ".".join(["playout.benchmarks", *path.relative_to(FOLDER).with_suffix("").parts])
    call = [sys.executable, "-m", module, *(["--quick"] if quick else [])]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not any(isinstance(node, ast.If) for node in tree.body):  # no `if __name__ == ...`
        code = f"from {module} import main; raise SystemExit(main(quick={quick}))"
        call = [sys.executable, "-c", code]
    return subprocess.run(call, check=False).returncode


def _written(name: str) -> int:
    """When the results of a benchmark were written; 0 where there are none."""
    from playout.benchmarks.tools import report

    return max(
        (path.stat().st_mtime_ns for path in report.RESULTS.rglob(f"{name}.json")), default=0
    )


def _show(name: str) -> None:
    from playout.benchmarks.tools import report
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for stem, _, claims in report.read_claims(report.RESULTS):
        if stem.rpartition("/")[2] != name:
            continue
        table = Table("measured", "playout", "peer", "ratio", "reached", title=name)
        for claim in claims:
            unit, peer = claim.get("unit", ""), claim.get("peer_name") or ""
            ratio = claim.get("ratio")
            table.add_row(
                claim["claim"],
                report.cell(claim["ours"], unit),
                f"{report.cell(claim.get('peer'), unit)} {peer}".strip(),
                "" if ratio is None else f"{report.cell(ratio)}×",
                report.verdict(claim).strip("*"),
            )
        console.print(table)


def main(command: Command) -> int:
    """Run the chosen benchmarks, one after another, and show their claims."""
    known = subjects()
    if command.subjects == ("list",):
        width = max((len(name) for name in known), default=0) + 2
        print("\n".join(f"{name:<{width}}{text}" for name, text in known.items()) or "none")
        return 0
    if not known:
        raise ConfigError(f"there are no benchmarks in {FOLDER}")
    for name in command.subjects:
        if name not in known:
            raise ConfigError(f"there is no benchmark {name!r}; {nearest(name, known)}")
    # Studies ask a question of their own and take hours: they are run by name.
    benchmarks = tuple(name for name in known if _modules()[name].parent == FOLDER)
    chosen = command.subjects or benchmarks
    failed = []
    for name in chosen:
        before = _written(name)
        if _run(name, command.quick):
            failed.append(name)
        elif _written(name) != before:  # else what is there is of another day and machine
            _show(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0

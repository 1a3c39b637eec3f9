"""Measure speed and learning against peers: runs benchmarks/ and shows what they found."""

import ast
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import playout
from playout.agents.run.settings import nearest
from playout.errors import ConfigError
from tyro.conf import Positional

FOLDER = Path(playout.__file__).parent / "benchmarks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Measure speed and learning against peers."""

    subjects: Positional[tuple[str, ...]] = ()
    """What to measure; everything if none is given, `list` shows the names."""

    quick: bool = False
    """Short measurements, for a first impression."""


def subjects() -> dict[str, str]:
    """Benchmarks (modules with `main(quick)`) by name, with their first line of docs."""
    found = {}
    for path in sorted(FOLDER.glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == "main":
                arguments = [*node.args.args, *node.args.kwonlyargs]
                if any(argument.arg == "quick" for argument in arguments):
                    text = ast.get_docstring(tree) or ""
                    found[path.stem] = text.split("\n", 1)[0].rstrip(".")
    return found


def _show(name: str) -> None:
    from playout.benchmarks import report
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for stem, _, claims in report.read_claims(report.RESULTS):
        if stem != name:
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
    """Run the chosen benchmarks; each in its own process when there are several."""
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
    chosen = command.subjects or tuple(known)
    if len(chosen) == 1:
        import_module(f"playout.benchmarks.{chosen[0]}").main(quick=command.quick)
        _show(chosen[0])
        return 0
    failed = []
    for name in chosen:
        # Peers start threads and reserve memory: one measurement must not disturb the next.
        call = [
            sys.executable,
            "-m",
            "playout",
            "bench",
            name,
            *(["--quick"] if command.quick else []),
        ]
        if subprocess.run(call, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0

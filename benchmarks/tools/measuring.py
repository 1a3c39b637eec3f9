"""What every benchmark shares: measuring by turns, importing peers, and writing one JSON file.

Machines differ and change from hour to hour, so candidates are run turn about, and what counts is
the ratio within a round. A result file says on which machine, with which versions and settings it
was made; benchmarks/tools/report.py turns these files into tables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from playout.cores import usable_cores

RESULTS = Path(__file__).resolve().parents[1] / "results"
STUDIES = RESULTS / "studies"
"""Of studies of games."""

# Distributions whose versions a result names when they are installed.
VERSIONS = (
    "playout",
    "numpy",
    "torch",
    "gymnasium",
    "pettingzoo",
    "open-spiel",
    "mctx",
    "pgx",
    "jax",
    "envpool",
    "llama-cpp-python",
    "stable-baselines3",
    "sb3-contrib",
    "transformers",
    "trl",
)


@dataclass(frozen=True, slots=True)
class Rate:
    """Work per second over several runs.

    Attributes:
        median: The middle run.
        min: The slowest run.
        max: The fastest run.
        runs: All runs, in order.
    """

    median: float
    min: float
    max: float
    runs: tuple[float, ...]

    @classmethod
    def of(cls, runs: list[float]) -> Rate:
        """Sums up runs."""
        return cls(statistics.median(runs), min(runs), max(runs), tuple(runs))

    def over(self, other: Rate) -> Rate:
        """Ratios to another rate, round by round."""
        return Rate.of([mine / its for mine, its in zip(self.runs, other.runs, strict=True)])

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.min)} to {short(self.max)})"


def short(number: float) -> str:
    """A number with three digits and k, M or G."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def measure(
    functions: Mapping[str, Callable[[], float]],
    *,
    repeats: int = 5,
    warmup: int = 1,
    rates: bool = False,
) -> dict[str, Rate]:
    """Runs candidates turn about and returns their rates.

    Args:
        functions: Each does a fixed amount of work and returns how much it was (games, moves...).
        repeats: Rounds that count.
        warmup: Rounds before them that do not.
        rates: The functions return work per second instead: they hold the clock themselves.
    """
    runs: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warmup + repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            done = function()
            seconds = 1.0 if rates else time.perf_counter() - start
            if turn >= warmup:
                runs[name].append(done / seconds)
    return {name: Rate.of(found) for name, found in runs.items()}


def add_games(parser: argparse.ArgumentParser, known: Iterable[str]) -> None:
    """Lets a command take names of games, `names`.

    A name that is none of `known` ends the command with exit code 2 and one line that has them all.

    Args:
        parser: The command's.
        known: The games there are, whatever their parameters.
    """
    games = sorted({game.partition("(")[0] for game in known})

    def checked(name: str) -> str:
        if name not in games:
            raise argparse.ArgumentTypeError(f"no {name!r} here; there are {', '.join(games)}")
        return name

    parser.add_argument(
        "names",
        nargs="*",
        metavar="GAME",
        type=checked,
        help="such as othello; no result file then",
    )


def is_named(game: str, names: Sequence[str]) -> bool:
    """Whether a game, whatever its parameters, is among those named in a terminal; all if none."""
    return not names or game.partition("(")[0] in names


def timed(work: float, function: Callable[[], Any]) -> Callable[[], float]:
    """A candidate for `measure(rates=True)` from a function that does `work` units of work."""

    def run() -> float:
        start = time.perf_counter()
        function()
        return work / (time.perf_counter() - start)

    return run


def peer(module: str, distribution: str) -> ModuleType | None:
    """Imports a peer, or says on stderr how to get it and returns None."""
    try:
        return import_module(module)
    except ImportError:
        print(f"{distribution} is not installed here: pip install {distribution}", file=sys.stderr)
        return None


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name; with family and model, since one name may mean several generations."""
    try:
        text = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        text = ""
    lines = (line.partition(":") for line in text.splitlines())
    known = {name.strip(): value.strip() for name, _, value in lines}
    name = known.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in known and "model" in known:
        name += f", family {known['cpu family']} model {known['model']}"
    return name


def versions() -> dict[str, str]:
    """Versions of the packages in VERSIONS that are installed."""
    found = {}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> Any:
    """`value` with rates, dataclasses and NumPy numbers turned into what JSON knows."""
    if hasattr(value, "__dataclass_fields__"):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value


def _short(argument: str) -> str:
    """An argument of the command line; of an absolute path, which says where it ran, the name."""
    return Path(argument).name if argument.startswith("/") else argument


def earlier_result(name: str) -> dict[str, Any]:
    """The results that the last measurement of that name left, if it was on this machine; or {}."""
    return dict(earlier_record(name).get("results", {}))


def earlier_record(name: str) -> dict[str, Any]:
    """The same with settings, versions and date."""
    path = RESULTS / f"{name}.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return dict(record) if record.get("machine") == machine() else {}


def write_result(
    name: str, payload: Mapping[str, Any], *, settings: Mapping[str, Any] | None = None
) -> Path:
    """Writes benchmarks/results/<name>.json whole or not at all, and returns its path.

    Args:
        name: The subject, also the file's name, its folder with it: "studies/games/learned_games".
        payload: Rates, ratios, anything that `plain` can turn into JSON.
        settings: What was run: sizes, seeds, repeats.
    """
    record = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *map(_short, sys.argv)]),
        "machine": machine(),
        "versions": versions(),
        "settings": dict(settings or {}),
        "results": payload,
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    text = json.dumps(plain(record), indent=1) + "\n"
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    return path

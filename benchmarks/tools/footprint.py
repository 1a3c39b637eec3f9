"""What playout costs before it does anything: import, first command, installation, its own tests.

Processes are started anew for every measurement, turn about with the peer's. The wheel is built
and installed into a fresh virtual environment that sees the packages of this one, so that playout
alone is counted and no network is needed.

    python -m playout.benchmarks.tools.footprint [--quick]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playout.benchmarks.tools.measuring import Rate, peer, write_result

COMMAND = "python -m playout.benchmarks.tools.footprint"
ROOT = Path(__file__).resolve().parents[2]


def process(*arguments: str, cwd: Path | None = None) -> Callable[[], float]:
    """A function that runs a Python process and returns its seconds."""

    def run() -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, cwd=cwd, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun

    return run


def seconds(functions: dict[str, Callable[[], float]], repeats: int) -> dict[str, Rate]:
    """Seconds of each, turn about, after one round that does not count."""
    runs: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(1 + repeats):
        for name, function in functions.items():
            found = function()
            if turn:
                runs[name].append(found)
    return {name: Rate.of(found) for name, found in runs.items()}


def installation(folder: Path) -> dict[str, float]:
    """Seconds to build the wheel and to install it, and its size."""
    options = ["-m", "pip", "--disable-pip-version-check", "--quiet"]
    place = ["--wheel-dir", str(folder), str(ROOT)]
    built = process(*options, "wheel", "--no-deps", "--no-build-isolation", *place)()
    (wheel,) = folder.glob("playout-*.whl")
    fresh = folder / "fresh"
    process("-m", "venv", "--system-site-packages", str(fresh))()
    begun = time.perf_counter()
    call = [str(fresh / "bin" / "python"), *options, "install", "--no-deps", str(wheel)]
    subprocess.run(call, check=True)
    installed = time.perf_counter() - begun
    return {"build": built, "install": installed, "MiB": wheel.stat().st_size / 2**20}


def claim(what: str, ours: Any, unit: str, **more: Any) -> dict[str, Any]:
    """A row of the report, less being better."""
    row = {"claim": what, "ours": ours, "unit": unit, "better": "lower", "command": COMMAND}
    return row | more


def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="two rounds, no wheel, no tests")
    given = parser.parse_args()
    repeats = 2 if given.quick else 7
    functions = {
        "import playout": process("-c", "import playout"),
        "import gymnasium": process("-c", "import gymnasium"),
        "playout --help": process("-m", "playout", "--help"),
        "playout ppo --help": process("-m", "playout", "ppo", "--help"),
        "import the PPO trainer": process("-c", "import playout.agents.ppo.trainer"),
    }
    sb3 = peer("stable_baselines3", "stable-baselines3") is not None
    if sb3:
        functions["import stable_baselines3"] = process("-c", "import stable_baselines3")
    found = seconds(functions, repeats)
    claims = [
        claim("import playout", found["import playout"], "s", target=1.0),
        claim("playout --help, whole process", found["playout --help"], "s", target=1.0),
        claim("playout ppo --help, whole process", found["playout ppo --help"], "s"),
    ]
    imported = found["import the PPO trainer"]
    trainer = claim("import of the PPO trainer, torch included", imported, "s")
    if sb3:
        other = found["import stable_baselines3"]
        trainer |= {
            "peer": other,
            "peer_name": "stable-baselines3",
            "ratio": other.over(imported),
            "target": 1.0,
        }
    claims.append(trainer)
    payload: dict[str, Any] = {"seconds": found}
    if not given.quick:
        with tempfile.TemporaryDirectory() as folder:
            payload["installation"] = wheel = installation(Path(folder))
        claims += [
            claim("the wheel, built from source (C compiled)", wheel["build"], "s"),
            claim("the wheel, installed without its dependencies", wheel["install"], "s"),
            claim("the wheel's size", wheel["MiB"], "MiB"),
        ]
        suite = process("-m", "pytest", "-n", "2", "--dist", "loadfile", "-q", cwd=ROOT)()
        payload["suite"] = suite
        claims.append(claim("the whole test suite, two processes", suite, "s", target=360.0))
    for row in claims:
        print(f"{row['claim']}: {row['ours']} {row['unit']}")
    if not given.quick:
        print(f"wrote {write_result('footprint', {**payload, 'claims': claims})}")


if __name__ == "__main__":
    main()

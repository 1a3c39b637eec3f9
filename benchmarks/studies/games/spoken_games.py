"""A language policy that learns a game from nothing: what each stage of the recipe has reached.

Reads runs of `playout rlhf games` that have written their report, one a seed: legal answers, moves
that keep the outcome and points against random play, on positions and in games that nothing was
learned from, and how much of it imitation and reward have each brought. A run takes the place of
one of the same game, size and seed in the JSON file, the others stay.

    playout rlhf games --size small --minutes 90 --seed 0 --run runs/speaks-0
    python -m playout.benchmarks.studies.games.spoken_games runs/speaks-0
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from playout.agents.rating.intervals import share_interval
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.games.learned_games import kept_runs, told_cores
from playout.benchmarks.tools.measuring import machine, write_result

COMMAND = "playout rlhf games"
LEGAL, KEPT, RANDOM = "legal answers", "moves that keep the outcome", "points against random play"
WANTED = {LEGAL: 99.0, KEPT: 80.0, RANDOM: 90.0}
"""Of Connect Four by the last stage, per cent."""


def measured(path: Path) -> dict[str, Any]:
    """A run, and by stage what its report says: shares with their intervals, 0 to 1."""
    run = RunDir.open(path)
    report = json.loads((path / "report" / "report.json").read_text(encoding="utf-8"))
    stages = {}
    for one in report["measured"]:
        moves = one["moves"]
        (met,) = (other for other in one["games"] if other["opponent"] == "random")
        points = met["wins"] + 0.5 * met["draws"]
        played = met["wins"] + met["draws"] + met["losses"]
        stages[one["stage"]] = {
            LEGAL: (moves["legal"], *moves["legal_interval"]),
            KEPT: (moves["kept"], *moves["kept_interval"]),
            RANDOM: (points / played, *share_interval(points, played)),
        }
    return {
        "game": report["game"],
        "size": report["size"],
        "minutes": run.config.get("minutes"),
        "cores": run.record["machine"]["cores"],
        "seed": run.seed,
        "positions": report["measured"][-1]["moves"]["positions"],
        "random moves keep": report["measured"][-1]["moves"]["random"],
        "measured": {"date": run.record["created"][:10], "processor": machine()["processor"]},
        "stages": stages,
    }


def claims_of(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a stage, as benchmarks/tools/report.py reads them; the last stage has targets."""
    claims = []
    for run in runs:
        for stage, found in run["stages"].items():
            row = (
                f"{run['game']}, size {run['size']}, seed {run['seed']}, "
                f"{told_cores(run['cores'])}: after {stage}"
            )
            for column, shares in found.items():
                median, low, high = (100 * share for share in shares)
                claim = {
                    "claim": f"{row}: {column}",
                    "row": row,
                    "column": column,
                    "ours": {"median": median, "min": low, "max": high},
                    "unit": "%",
                    "command": COMMAND,
                }
                last = stage == list(run["stages"])[-1] and run["game"].startswith("connect_four")
                claims.append(claim | ({"target": WANTED[column]} if last else {}))
    return claims


def main() -> None:
    """Reads runs, writes the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("runs", type=Path, nargs="+", help="runs of playout rlhf games")
    rows = {
        (run["game"], run["size"], run["seed"]): run
        for run in [*kept_runs("spoken_games"), *map(measured, parser.parse_args().runs)]
    }
    runs = [rows[key] for key in sorted(rows)]
    print(write_result("studies/games/spoken_games", {"runs": runs, "claims": claims_of(runs)}))


if __name__ == "__main__":
    main()

"""A language policy that learns a game from nothing, stage by stage, beside self-play and PPO.

Reads runs of `playout rlhf games` that have written their report, one a seed: legal answers, moves
that keep the outcome, points against random play and Elo, on positions and in games that nothing
was learned from, and how much of it imitation and reward have each brought. Runs of `playout
alphazero` and `playout ppo` on the same game choose moves for the same positions without search,
and meet the same opponents. A run takes the place of one of the same kind, game, size and seed in
the JSON file, the others stay; the picture shows them side by side.

    playout rlhf games --size small --minutes 90 --seed 0 --run runs/speaks-0
    playout alphazero connect_four --minutes 20 --run runs/four
    python -m playout.benchmarks.studies.games.spoken_games runs/speaks-0 runs/four
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import playout
from playout.agents.players.load import load_player
from playout.agents.rating.intervals import share_interval
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.benchmarks.studies.games.learned_games import kept_runs, told_cores
from playout.benchmarks.tools.measuring import STUDIES, machine, write_result
from playout.errors import PlayoutError, RunError
from playout.rlhf.evaluation.games import judged_moves, meet_opponents, positions_for
from playout.rlhf.games.recipe import SIZES

LEGAL, KEPT, RANDOM = "legal answers", "moves that keep the outcome", "points against random play"
WANTED = {LEGAL: 99.0, KEPT: 80.0, RANDOM: 90.0}
"""Of Connect Four by the last stage of the recipe, per cent."""
LANGUAGE = "rlhf games"
BESIDE = {"alphazero": ("self-play", "#d1603d"), "ppo": ("PPO", "#3f8f4f")}
"""What learns from the board: its name and colour in the picture."""
POSITIONS = 1000
SEED = 0


def measured(path: Path) -> dict[str, Any]:
    """A run of the recipe, of alphazero or of ppo, and what it has reached."""
    run = RunDir.open(path)
    return spoken(run) if run.kind not in BESIDE else beside(run)


def shares_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Shares with their intervals, 0 to 1, and Elo above random play, of what was measured."""
    moves = found["moves"]
    (met,) = (other for other in found["games"] if other["opponent"] == "random")
    points = met["wins"] + 0.5 * met["draws"]
    played = met["wins"] + met["draws"] + met["losses"]
    return {
        LEGAL: (moves["legal"], *moves["legal_interval"]),
        KEPT: (moves["kept"], *moves["kept_interval"]),
        RANDOM: (points / played, *share_interval(points, played)),
        "elo": found["elo"],
    }


def about(run: RunDir, moves: Mapping[str, Any], minutes: float | None) -> dict[str, Any]:
    """What every row says of its run."""
    return {
        "minutes": minutes,
        "cores": run.record["machine"]["cores"],
        "seed": run.seed,
        "positions": moves["positions"],
        "random moves keep": moves["random"],
        "measured": {"date": run.record["created"][:10], "processor": machine()["processor"]},
    }


def spoken(run: RunDir) -> dict[str, Any]:
    """A run of the recipe, and by stage what its report says; RunError where it has none."""
    path = run.path / "report" / "report.json"
    if not path.is_file():
        raise RunError(
            f"{run.path} has no report: `playout rlhf games` writes it at its end "
            f"(--resume {run.path} goes on)"
        )
    report = json.loads(path.read_text(encoding="utf-8"))
    stages = {one["stage"]: shares_of(one) for one in report["measured"]}
    last = report["measured"][-1]["moves"]
    own = about(run, last, run.config.get("minutes"))
    return {"game": report["game"], "size": report["size"], **own, "stages": stages}


def beside(run: RunDir) -> dict[str, Any]:
    """A run that learned from the board, its policy without search on the same positions."""
    game = playout.game(run.config["game" if run.kind == "alphazero" else "env"])
    player: Any = load_player(run.path, simulations=0, game=game)
    player.name = run.kind
    positions = positions_for(game, POSITIONS)
    player.reset(1)
    moves = judged_moves(player.act(positions.states), positions)
    size = SIZES["small"]
    games, _ = meet_opponents(player, game, size.opponents, size.games, seed=SEED)
    *_, last = read_rows(run.path)
    own = about(run, moves, last["time/elapsed"] / 60)
    stages = {run.kind: shares_of({"moves": moves, **games})}
    return {"game": str(game), "size": run.kind, **own, "stages": stages}


def claims_of(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a stage, as benchmarks/tools/report.py reads them; the last stage has targets."""
    claims = []
    for run in runs:
        board = run["size"] in BESIDE
        for stage, found in run["stages"].items():
            what = f"playout {run['size']}" if board else f"size {run['size']}"
            row = f"{run['game']}, {what}, seed {run['seed']}, {told_cores(run['cores'])}"
            row += f": {run['minutes']:.0f} minutes, no search" if board else f": after {stage}"
            for column in WANTED:
                median, low, high = (100 * share for share in found[column])
                claim = {
                    "claim": f"{row}: {column}",
                    "row": row,
                    "column": column,
                    "ours": {"median": median, "min": low, "max": high},
                    "unit": "%",
                    "command": f"playout {run['size'] if board else LANGUAGE}",
                }
                last = stage == list(run["stages"])[-1] and run["game"].startswith("connect_four")
                claims.append(claim | ({"target": WANTED[column]} if last and not board else {}))
    return claims


def draw(runs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Legal answers, kept outcomes and Elo: the stages of the recipe, then what sees the board.

    Of one game, that of most runs; a line a seed, with 95 % intervals.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    games = [run["game"] for run in runs]
    runs = [run for run in runs if run["game"] == max(games, key=games.count)]
    speaking = [run for run in runs if run["size"] not in BESIDE]
    stages = list(max((run["stages"] for run in speaking), key=len, default=()))
    places = [*stages, *(kind for kind in BESIDE if any(run["size"] == kind for run in runs))]
    figure, panels = pyplot.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for axes, key in zip(panels, (LEGAL, KEPT, "elo"), strict=True):
        scale = 1 if key == "elo" else 100
        for run in runs:
            names = [
                name for name in places if name in run["stages"] and key in run["stages"][name]
            ]
            ends = [[scale * end for end in run["stages"][name][key]] for name in names]
            middle = [end[0] for end in ends]
            spread = [[end[0] - end[1] for end in ends], [end[2] - end[0] for end in ends]]
            colour = BESIDE[run["size"]][1] if run["size"] in BESIDE else "#1b6ca8"
            axes.errorbar(
                [places.index(name) for name in names], middle, spread, fmt="o-", capsize=3,
                color=colour,
            )  # fmt: skip
        if key == KEPT:
            axes.axhline(100 * runs[0]["random moves keep"], color="0.6", linestyle=":")
            axes.set_title("dotted: random legal moves", fontsize=9, color="0.4")
        if key == LEGAL and len(places) > len(stages):
            axes.set_title("self-play and PPO choose among legal moves", fontsize=9, color="0.4")
        labels = [BESIDE[name][0] if name in BESIDE else f"after {name}" for name in places]
        axes.set_xticks(range(len(places)), labels, rotation=30, ha="right")
        axes.set_ylabel("Elo above random play" if key == "elo" else f"{key}, per cent")
        axes.grid(axis="y", alpha=0.3)
    took = "; ".join(
        f"{BESIDE[run['size']][0]} {run['minutes']:.0f} minutes"
        for run in runs
        if run["size"] in BESIDE
    )
    figure.suptitle(
        f"{runs[0]['game']}: a language policy (blue) stage by stage"
        + (f", and what sees the board, without search ({took})" if took else "")
    )
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def main() -> None:
    """Reads runs, writes the results and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("runs", type=Path, nargs="+", help="of playout rlhf games, alphazero, ppo")
    given = parser.parse_args().runs
    try:
        found = list(map(measured, given))
    except PlayoutError as error:
        parser.error(str(error))
    rows = {
        (run["game"], run["size"], run["seed"]): run for run in [*kept_runs("spoken_games"), *found]
    }
    runs = [rows[key] for key in sorted(rows)]
    print(write_result("studies/games/spoken_games", {"runs": runs, "claims": claims_of(runs)}))
    draw(runs, STUDIES / "games" / "spoken_games.png")


if __name__ == "__main__":
    main()

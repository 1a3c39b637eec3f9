"""What the shipped presets learn in each game, from random play, against opponents outside the run.

Reads runs of `playout alphazero GAME` (or makes them first), keeps their curve (Elo above random
play against minutes), and lets them meet random play, uct:1000 and, where a game has one that is
installed, another program. Writes a JSON file and a picture, of points; a run takes the place of
one of the same game, minutes, cores and seed, the others stay.

    python -m playout.benchmarks.studies.games.learned_games --train 20 "othello(size=6)"
    python -m playout.benchmarks.studies.games.learned_games --runs runs/go-1 --simulations 800
    python -m playout.benchmarks.studies.games.learned_games --draw
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import playout
from playout.agents.rating.intervals import share_interval
from playout.agents.rating.ratings import expected_score
from playout.agents.runs.metrics import read_rows
from playout.benchmarks.tools.hex_openings import judged_map, judged_right
from playout.benchmarks.tools.measuring import STUDIES, machine, write_result
from playout.errors import PlayoutError

COMMAND = "python -m playout.benchmarks.studies.games.learned_games"
GAMES = ("othello(size=6)", "breakthrough(size=6,columns=6)", "hex(size=7)", "gomoku(size=9)")
ALWAYS = ("random", "uct:1000")
# Programs of other people, by game; KOMI and the like come from the match itself.
OUTSIDE = {
    "go": ("gtp:gnugo --mode gtp --level 10 --chinese-rules --positional-superko",),
    "chess": ("uci:stockfish?UCI_LimitStrength=true&UCI_Elo=1320",),
    "othello(size=8)": ("gtp:gtp-rhino",),
    "breakthrough(size=8,columns=8)": ("uci:fairy-stockfish?UCI_Variant=breakthrough",),
}
# Points wanted, in per cent: by game and opponent, after the shipped preset's minutes.
WANTED = {
    ("othello(size=8)", "uct:1000"): 90.0,
    ("breakthrough(size=6,columns=6)", "uct:1000"): 90.0,
    ("gomoku(size=9)", "uct:1000"): 90.0,
    ("chess", "random"): 95.0,
    ("go(size=9,komi=7)", OUTSIDE["go"][0]): 30.0,
}
WANTED_OPENINGS = 90.0  # of Hex 7x7, per cent
# In the picture: panels a row; what is rated; and of what is counted label, mark and colour.
MOST_COLUMNS, RATED = 2, "#1b6ca8"
PROMISED = "against random play, as a rating promises (shaded: its 95 % interval)"
COUNTED = {
    "random": ("at the end against random play", "o", RATED),
    "uct:1000": ("at the end against uct:1000", "D", "#d1603d"),
    "another program": ("at the end against another program", "^", "#3f8f4f"),
    "openings": ("first moves judged as published", "s", "#7d5ba6"),
}


def opponents_of(game: str) -> list[str]:
    """Who a run of this game meets: those that need nothing, then programs that are installed."""
    outside = OUTSIDE.get(game) or OUTSIDE.get(game.partition("(")[0], ())
    installed = [one for one in outside if shutil.which(program_of(one))]
    return [*ALWAYS, *installed]


def program_of(opponent: str) -> str:
    """The program that `gtp:COMMAND` or `uci:COMMAND?OPTIONS` starts."""
    return shlex.split(opponent.partition(":")[2].partition("?")[0])[0]


def train(game: str, minutes: float, seed: int, into: Path) -> Path:
    """One run as a person would make it; goes on with one that was stopped."""
    name = "".join(letter if letter.isalnum() else "-" for letter in game).strip("-")
    path = into / f"{name}-{minutes:g}min-{seed}"
    command = [sys.executable, "-m", "playout", "alphazero"]
    if (path / "run.json").is_file():
        command += ["--resume", str(path)]
    else:
        command += [game, "--minutes", f"{minutes:g}", "--seed", str(seed), "--run", str(path)]
    subprocess.run(command, check=True)
    return path


def curve(path: Path) -> list[dict[str, float]]:
    """Every evaluation of a run: minutes, games of self-play, Elo above random play, its ends."""
    points = []
    for row in read_rows(path):
        if "eval/rating" in row:
            point = {
                "minutes": row["time/elapsed"] / 60,
                "games": row["selfplay/games"],
                "elo": row["eval/rating"],
                "low": row["eval/rating_low"],
                "high": row["eval/rating_high"],
            }
            points.append(point)
    return points


def meet(path: Path, opponent: str, games: int, simulations: int | None) -> dict[str, Any]:
    """A match against one opponent: its points, with a Wilson interval."""
    options = {} if simulations is None else {"simulations": simulations}
    found = playout.match([str(path), opponent], games=games, quiet=False, **options)
    (pair,) = found.matches
    won, drawn, lost = pair.score(pair.a if pair.a != opponent else pair.b)
    played = won + drawn + lost
    points = won + 0.5 * drawn
    return {
        "opponent": opponent,
        "won": won,
        "drawn": drawn,
        "lost": lost,
        "score": points / played,
        "score_interval": share_interval(points, played),
    }


def measured(path: Path, games: int, simulations: int | None) -> dict[str, Any]:
    """A run with its settings, curve and matches."""
    record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    config = record["config"]
    *_, last = read_rows(path)
    found: dict[str, Any] = {
        "game": config["game"],
        "minutes": config.get("minutes"),
        "cores": record["machine"]["cores"],
        "seed": record["seed"],
        "size": config["alphazero"]["size"],
        "games": last["selfplay/games"],
        "positions": last["selfplay/positions"],
        "evaluations": last["search/evaluations"],
        "simulations": simulations,
        "measured": {"date": record["created"][:10], "processor": machine()["processor"]},
        "curve": curve(path),
        "matches": [],
    }
    if config["game"] == "hex(size=7)":
        found["openings"] = judged_right(judged_map(path))
    for opponent in opponents_of(config["game"]):
        try:
            found["matches"].append(meet(path, opponent, games, simulations))
        except PlayoutError as error:  # a program that does not play this game
            print(f"{opponent}: {error}", file=sys.stderr)
    return found


def claims_of(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Points in per cent with their interval, a row a run, a column an opponent."""
    claims = []
    for run in runs:
        row = (
            f"{run['game']}, {run['minutes'] or 0:g} minutes on {told_cores(run['cores'])}, "
            f"{short_count(run['games'])} games, seed {run['seed']}"
        )
        if run["simulations"]:
            row += f"; {run['simulations']} simulations a move"
        others = [one["opponent"] for one in run["matches"] if one["opponent"] not in ALWAYS]
        if others:
            row += f"; another program: {', '.join(map(program_of, others))}"
        for one in run["matches"]:
            low, high = one["score_interval"]
            wanted = WANTED.get((run["game"], one["opponent"]))
            claim = {
                "claim": f"{row}: points against {one['opponent']}",
                "row": row,
                "column": f"against {name_of(one['opponent'])}",
                "ours": {
                    "median": 100 * one["score"],
                    "min": 100 * low,
                    "max": 100 * high,
                },
                "unit": "%",
                "command": COMMAND,
            }
            claims.append(claim if wanted is None else claim | {"target": wanted})
        if "openings" in run:
            low, high = share_interval(run["openings"], 49)
            claims.append(
                {
                    "claim": f"{row}: first moves judged as the published map judges them",
                    "row": row,
                    "column": "openings judged as published",
                    "ours": {
                        "median": 100 * run["openings"] / 49,
                        "min": 100 * low,
                        "max": 100 * high,
                    },
                    "unit": "%",
                    "command": COMMAND,
                    "target": WANTED_OPENINGS,
                }
            )
    return claims


def name_of(opponent: str) -> str:
    """An opponent in a column's head: all programs share one."""
    return opponent if opponent in ALWAYS else "another program"


def place(run: Mapping[str, Any]) -> tuple[str, float, int, int]:
    """What a run stands for: of two that are alike in it the later one is kept."""
    return run["game"], run["minutes"] or 0.0, run["cores"], run["seed"]


def told_cores(cores: int) -> str:
    """How many cores a run had, in words."""
    return "one core" if cores == 1 else f"{cores} cores"


def short_count(count: float) -> str:
    """Whole, with commas."""
    return f"{count:,.0f}"


def promised(point: Mapping[str, float]) -> tuple[float, float, float]:
    """Points against random play that a rating promises, per cent: the least, the likeliest, most.

    Where every game is won a rating has no upper end, and hundreds of Elo more or less mean
    nothing; in points both ends are finite, and what is proven can be read off.
    """
    low, likeliest, high = (100 * expected_score(point[key]) for key in ("low", "elo", "high"))
    return low, likeliest, high


def plot(runs: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Points against minutes, a panel a game: as ratings promise them, and those of matches."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [run for run in runs if run["curve"]]
    if not shown:
        return
    games = list(dict.fromkeys(run["game"] for run in shown))
    columns = min(MOST_COLUMNS, len(games))
    lines = -(-len(games) // columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(4.4 * columns, 3.3 * lines + 0.4), sharey=True, squeeze=False
    )
    for panel in panels.flat[len(games) :]:
        panel.axis("off")
    for panel, game in zip(panels.flat, games, strict=False):
        _draw_game(panel, [run for run in shown if run["game"] == game])
    for panel in panels[:, 0]:
        panel.set_ylabel("points, %", fontsize=9)
    known = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(known.values(), known.keys(), loc="lower center", ncols=2, fontsize=8)
    figure.tight_layout(rect=(0, 0.6 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_game(panel: Any, runs: Sequence[Mapping[str, Any]]) -> None:
    """The runs of one game: ratings from left to right, beside them what was counted at the end."""
    end = max(point["minutes"] for run in runs for point in run["curve"])
    end = max([end, *(run["minutes"] or 0.0 for run in runs)])
    counted: list[tuple[str, float, tuple[float, float]]] = []
    for run in runs:
        xs = [point["minutes"] for point in run["curve"]]
        lows, likeliest, highs = zip(*map(promised, run["curve"]), strict=True)
        panel.fill_between(xs, lows, highs, color=RATED, alpha=0.18, linewidth=0)
        panel.plot(xs, lows, color=RATED, linewidth=0.8, alpha=0.5)
        panel.plot(xs, likeliest, "o-", markersize=3, color=RATED, label=PROMISED)
        for one in run["matches"]:
            counted.append((name_of(one["opponent"]), one["score"], one["score_interval"]))
        if "openings" in run:
            share = run["openings"] / 49
            counted.append(("openings", share, share_interval(run["openings"], 49)))
    counted.sort(key=lambda one: list(COUNTED).index(one[0]))
    for number, (name, score, (low, high)) in enumerate(counted):
        label, marker, colour = COUNTED[name]
        place = end * (1.08 + 0.08 * number)
        panel.plot([place, place], [100 * low, 100 * high], color=colour, linewidth=1.5)
        panel.plot(place, 100 * score, marker, markersize=6, color=colour, label=label)
        panel.annotate(f"{100 * score:.3g}", (place, 100 * low), xytext=(0, -3), ha="center",
                       textcoords="offset points", va="top", fontsize=7, color=colour)  # fmt: skip
    panel.axvline(end * 1.03, color="grey", linewidth=0.8, linestyle=":")
    panel.axhline(50, color="grey", linewidth=0.6)
    panel.set_xlim(0, end * (1.08 + 0.08 * max(3, len(counted))))
    panel.set_ylim(0, 103)
    panel.set_xticks([tick for tick in panel.get_xticks() if tick <= end])
    panel.set_title(runs[0]["game"], fontsize=10)
    panel.set_xlabel(f"minutes on {told_cores(max(run['cores'] for run in runs))}", fontsize=9)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25)


def make_parser(told: str, names: Sequence[str], *, games: int) -> ArgumentParser:
    """The options of a study that reads runs, or makes them first.

    Args:
        told: What it does.
        names: Games whose runs are made where none are named.
        games: Against each opponent.
    """
    parser = ArgumentParser(description=told)
    parser.add_argument("names", nargs="*", metavar="GAME", help=f"with --train; else {names}")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="runs to read")
    parser.add_argument("--train", type=float, help="make runs of so many minutes first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, default=Path("runs"))
    parser.add_argument("--games", type=int, default=games, help="against each opponent")
    parser.add_argument("--simulations", type=int, help="a move; by default what a run plays with")
    return parser


def runs_to_read(parser: ArgumentParser, args: Namespace, names: Sequence[str]) -> Iterator[Path]:
    """The runs that the options name, then those that they ask for, each made when it is due."""
    if not (args.runs or args.train):
        parser.error("name runs to read, or --train MINUTES")
    yield from args.runs
    if args.train:
        for game in args.names or names:
            yield train(game, args.train, args.seed, args.into)


def kept_runs(study: str) -> list[dict[str, Any]]:
    """The runs in a study's results from before."""
    last = STUDIES / "games" / f"{study}.json"
    if not last.is_file():
        return []
    found: list[dict[str, Any]] = json.loads(last.read_text(encoding="utf-8"))["results"]["runs"]
    return found


def main() -> None:
    """Makes and reads runs, lets them meet their opponents, writes the results."""
    told = (__doc__ or "").split("\n", 1)[0]
    parser = make_parser(told, GAMES, games=40)
    parser.add_argument("--quick", action="store_true", help="a minute of tic_tac_toe, not written")
    parser.add_argument("--draw", action="store_true", help="only the picture, from what is kept")
    args = parser.parse_args()
    if args.quick:
        path = train("tic_tac_toe", 1.0, args.seed, args.into)
        print(json.dumps(measured(path, 10, 16)["matches"], indent=1))
        return
    rows = {place(run): run for run in kept_runs("learned_games")}
    if args.draw:
        plot(rows.values(), STUDIES / "games" / "learned_games.png")
        return
    for path in runs_to_read(parser, args, GAMES):  # written after each, since matches take long
        run = measured(path, args.games, args.simulations)
        rows[place(run)] = run
        runs = [rows[key] for key in sorted(rows)]
        plot(runs, STUDIES / "games" / "learned_games.png")
        print(
            write_result("studies/games/learned_games", {"runs": runs, "claims": claims_of(runs)})
        )


if __name__ == "__main__":
    main()

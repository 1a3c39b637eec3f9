"""AlphaGo's three steps beside AlphaGo Zero's one, drawn as Figure 3 of Silver et al. 2017.

What both do stands in alphago_training.py; they have the same network, and a core each. Snapshots
of both are rated by matches, in which all search, and foretell held-out recorded games: their moves
and their outcomes. What was stopped goes on.

    playout bench alphago --quick
    python -m playout.benchmarks.studies.games.alphago --records games.sgf --minutes 60
"""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import playout
import torch
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.replay import Examples, records
from playout.agents.rating.ratings import rate
from playout.benchmarks.studies.cases import side_by_side
from playout.benchmarks.studies.games.alphago_training import STEPS, Form, recorded, way
from playout.benchmarks.studies.games.meetings import SNAPSHOT, Entrant, about, meet, read_network
from playout.benchmarks.studies.page import Page
from playout.benchmarks.tools.measuring import STUDIES, write_result
from playout.errors import ConfigError, PlayoutError

COMMAND = "python -m playout.benchmarks.studies.games.alphago"
NAMES = {"zero": "AlphaGo Zero's one step", "alphago": "AlphaGo's three steps"}
COLOURS = {"zero": "tab:blue", "alphago": "tab:purple"}
GNU_GO = "gtp:gnugo --mode gtp --level {level} --chinese-rules --positional-superko"


_PPO = {"gamma": 1.0, "gae_lambda": 0.95, "ent_coef": 0.003, "num_epochs": 2, "clip_coef": 0.1}
FULL = Form(
    "go(size=9)",
    (GNU_GO.format(level=10), GNU_GO.format(level=8)),
    280,
    "small",
    epochs=8.0,
    learning={"steps": 32, "batch_size": 256},
    reinforce={
        **_PPO, "total_timesteps": 600_000, "num_envs": 64, "num_steps": 64,
        "minibatch_size": 1024, "learning_rate": 2e-4,
    },
    zero={"minutes": 30.0},
    snapshots=2,
    anchors=("random", "uct:1000", GNU_GO.format(level=10)),
    matches=10,
)  # fmt: skip
QUICK = Form(
    "go(size=4)",
    ("uct:60", "uct:40"),
    40,
    "8x2",
    epochs=6.0,
    learning={"steps": 8, "batch_size": 64},
    reinforce={
        **_PPO, "total_timesteps": 3072, "num_envs": 16, "num_steps": 32, "minibatch_size": 128,
        "learning_rate": 5e-4,
    },
    zero={
        "updates": 12, "evaluations": 768, "steps": 6, "batch_size": 64, "num_trees": 16,
        "learning_rate": 0.02, "warmup_positions": 64, "min_window": 1000,
    },
    snapshots=2,
    anchors=("random",),
    simulations=8,
    matches=6,
)  # fmt: skip


def snapshots_of(folder: Path) -> list[dict[str, Any]]:
    """Every snapshot of both ways: its step, its file, and minutes since its way began."""
    found = []
    for which, steps in (("zero", ("zero",)), ("alphago", STEPS)):
        before = 0.0
        for step in steps:
            minutes = 0.0
            for path in sorted((folder / step / "snapshots").glob(f"*{SNAPSHOT}")):
                minutes = about(path)["minutes"]
                row = {"way": which, "step": step, "part": int(path.stem), "path": str(path)}
                found.append(row | {"minutes": before + minutes})
            before += minutes
    return found


@lru_cache(maxsize=1)
def held_out(game: str, files: tuple[str, ...]) -> Examples:
    """Positions of recorded games that nobody learned from."""
    return records.read(playout.game(game), files).held_out


def foretold(path: str, form: Form) -> dict[str, float]:
    """How well a snapshot foretells held-out recorded games: moves, and outcomes in [0, 1]."""
    torch.set_num_threads(1)
    net = NetworkEvaluator(read_network(Path(path)))
    found = records.measure(net, playout.game(form.game), held_out(form.game, form.files))
    return {
        "accuracy": found["records/held_out_accuracy"],
        # As the paper scales it: results are 0 or 1.
        "error": found["records/held_out_value_error"] / 4,
    }


def who_meets(
    rows: Sequence[Mapping[str, Any]], form: Form
) -> tuple[list[Entrant], list[tuple[Entrant, Entrant]]]:
    """An entrant a snapshot, and pairs: neighbours of a way, equals of both, all with anchors."""
    of_row = [
        Entrant(f"{row['step']} {row['part']}", row["path"], form.simulations) for row in rows
    ]
    ways = [
        [one for one, row in zip(of_row, rows, strict=True) if row["way"] == which]
        for which in NAMES
    ]
    pairs = [pair for one in ways for gap in (1, 2) for pair in zip(one, one[gap:], strict=False)]
    pairs += list(zip(*ways, strict=False))
    anchors = [Entrant(text, text) for text in form.anchors]
    pairs += [(one, anchor) for one in of_row for anchor in anchors]
    pairs += list(itertools.pairwise(anchors))
    return of_row, pairs


def draw(rows: Sequence[Mapping[str, Any]], anchors: Mapping[str, float], path: Path) -> None:
    """Elo, accuracy and error against minutes, a curve a way; steps begin at dotted lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        "Elo": "Elo above random play",
        "accuracy": "recorded moves foretold",
        "error": "error of recorded outcomes (MSE)",
    }
    figure, all_axes = pyplot.subplots(1, 3, figsize=(13, 4))
    for axes, (key, title) in zip(all_axes, panels.items(), strict=True):
        for which, name in NAMES.items():
            mine = [row for row in rows if row["way"] == which]
            xs, ys = [row["minutes"] for row in mine], [row[key] for row in mine]
            axes.plot(xs, ys, marker="o", markersize=3, color=COLOURS[which], label=name)
            if key == "Elo":
                ends = [[row["interval"][end] for row in mine] for end in (0, 1)]
                axes.fill_between(xs, *ends, color=COLOURS[which], alpha=0.15, lw=0)
            for one, after in itertools.pairwise(mine):
                if one["step"] != after["step"]:
                    axes.axvline(one["minutes"], color=COLOURS[which], lw=0.8, ls=":")
        axes.set_xlabel("minutes on a core")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
    for name, elo in anchors.items():
        if elo:
            all_axes[0].axhline(elo, color="grey", lw=0.8, ls=":")
            all_axes[0].annotate(name.split(" --")[0], (0, elo), fontsize=7, color="grey")
    all_axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def measured(folder: Path, form: Form) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row a snapshot, with Elo above random play and what it foretells; and Elo of anchors."""
    rows = snapshots_of(folder)
    entrants, pairs = who_meets(rows, form)
    known = side_by_side(foretold, [(row["path"], form) for row in rows])
    results = meet(form.game, pairs, form.matches, folder / "matches.jsonl")
    found = rate(results, anchor="random")
    for row, one, more in zip(rows, entrants, known, strict=True):
        rating = found[one.name]
        row |= {"Elo": rating.elo, "interval": (rating.low, rating.high), **more}
        del row["path"]
    return rows, {name: found[name].elo for name in form.anchors}


def ends_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last row of every step."""
    last = {row["step"]: row for row in rows}
    return [
        {"way": NAMES[row["way"]], **{key: row[key] for key in row if key not in ("way", "part")}}
        for row in last.values()
    ]


def main(
    quick: bool = False, seed: int = 0, folder: Path | None = None, form: Form | None = None
) -> int:
    """Runs the study and writes its page."""
    form = form or (QUICK if quick else FULL)
    folder = folder or Path("runs") / f"alphago{'-quick' if quick else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [text for text in (*form.teacher, *form.anchors) if "gnugo" in text]
    if missing and not shutil.which("gnugo"):
        raise ConfigError("the full form plays with GNU Go: apt install gnugo")
    if not form.files:
        parts = 2 if quick else 8
        cases = [(folder, form, part, parts) for part in range(parts)]
        form = replace(form, files=tuple(side_by_side(recorded, cases)))
    side_by_side(way, [(which, folder, form, seed) for which in NAMES])
    rows, anchors = measured(folder, form)
    draw(rows, anchors, folder / "figure.png")
    page = Page(
        "Three steps from recorded games, or one from nothing",
        "The same network by AlphaGo's way and by AlphaGo Zero's: how strong is it when, and what "
        "does it know of the games of others?",
        quick=quick,
    )
    page.picture("figure.png", "Dotted lines: where a step of AlphaGo's way ends; grey: others.")
    page.table(ends_of(rows), f"{form.game}: the ends of steps; Elo is above random play")
    page.table([{"player": name, "Elo": elo} for name, elo in anchors.items()], "others")
    page.text(
        f"Matches have {form.simulations} simulations a move and {form.matches} games a pair. The "
        "time that recorded games took is not counted. The reinforced policy is moved by PPO "
        "without any search; the third step begins with the network of the first, and learns "
        "moves and results of the recorded games and of those that the second's plays with itself."
    )
    print(f"wrote {page.write(folder)}")
    if not quick:
        draw(rows, anchors, STUDIES / "games" / "alphago.png")
        payload = {"snapshots": rows, "anchors": anchors, "claims": claims_of(rows, form)}
        settings = {"game": form.game, "seed": seed, "size": form.size, "games": form.games}
        print(f"wrote {write_result('studies/games/alphago', payload, settings=settings)}")
    return 0


def claims_of(rows: Sequence[dict[str, Any]], form: Form) -> list[dict[str, Any]]:
    """The ends of steps as benchmarks/tools/report.py reads them."""
    claims = []
    for row in ends_of(rows):
        name = f"{row['way']}: {row['step']}, after {row['minutes']:.0f} minutes"
        low, high = row["interval"]
        cells = {
            "Elo above random play": ({"median": row["Elo"], "min": low, "max": high}, "Elo"),
            "recorded moves foretold": (100 * row["accuracy"], "%"),
            "error of outcomes": (row["error"], ""),
        }
        claims += [
            {"claim": f"{form.game}, {name}: {column}", "row": name, "column": column,
             "ours": ours, "unit": unit, "command": COMMAND}
            for column, (ours, unit) in cells.items()
        ]  # fmt: skip
    return claims


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--game", help=f"instead of {FULL.game}")
    parser.add_argument("--records", nargs="+", default=[], metavar="FILE", help="games to learn")
    parser.add_argument("--games", type=int, help="recorded, where no files are given")
    parser.add_argument("--minutes", type=float, help="of self-play from nothing")
    parser.add_argument("--moves", type=int, help="that the second step learns from")
    given = parser.parse_args()
    form = QUICK if given.quick else FULL
    form = replace(
        form,
        game=given.game or form.game,
        files=tuple(given.records),
        games=given.games or form.games,
        zero={"minutes": given.minutes} if given.minutes else form.zero,
        reinforce=form.reinforce | ({"total_timesteps": given.moves} if given.moves else {}),
    )
    try:
        main(given.quick, given.seed, given.folder, form)
    except PlayoutError as error:
        parser.error(str(error))

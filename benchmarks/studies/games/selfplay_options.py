"""What each option of self-play is worth: the same run with and without it, in Elo of matches.

Every option is a pair of runs of the shipped preset that differ in it alone; runs that many pairs
share are made once. All have as many evaluations and gradient steps (or, with --minutes, as long),
and several seeds. Then every run with a setting meets the runs of its pair's other side and those
of the preset, over all seeds, and one Bradley-Terry model rates them. What was stopped goes on.

    playout bench selfplay_options --quick
    python -m playout.benchmarks.studies.games.selfplay_options --game "go(size=7)" --seeds 0 1 2
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import playout
from playout.agents.alphazero.budget.presets import Preset, preset_for
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.settings import full_names, picked, with_settings
from playout.agents.rating.ratings import Ratings, rate
from playout.agents.runs.metrics import read_rows
from playout.benchmarks.studies.cases import (
    kept_run,
    side_by_side,
    study_parser,
)
from playout.benchmarks.studies.games.meetings import Entrant, difference, meet
from playout.benchmarks.studies.page import Page
from playout.benchmarks.tools.measuring import STUDIES, write_result
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError, PlayoutError

COMMAND = "python -m playout.benchmarks.studies.games.selfplay_options"
PRESET = "the preset"
Settings = Mapping[str, Any]


class Option(NamedTuple):
    """An option of self-play.

    Attributes:
        without: Settings of the run without it, where they are not the preset's ...
        on: ... and of the run with it; the preset's own values, where it has the option.
    """

    without: dict[str, Any]
    on: dict[str, Any]


OPTIONS = {
    "playout-cap randomisation": Option(
        {"fast_share": 0.0}, {"fast_share": 0.5, "fast_simulations": 8}
    ),
    "Gumbel's search, not PUCT": Option({"algorithm": "puct"}, {"algorithm": "gumbel"}),
    "values weighing 1.0, not 0.1": Option({"c_scale": 0.1}, {"c_scale": 1.0}),
    "forced playouts, pruned targets": Option(
        {"algorithm": "puct", "forced_playouts": 0.0}, {"algorithm": "puct", "forced_playouts": 2.0}
    ),
    "global pooling": Option({"pooling": False}, {"pooling": True}),
    "ownership target": Option({"target_weight": 0.0}, {"target_weight": 0.5}),
    "score target": Option({"score_weight": 0.0}, {"score_weight": 0.2}),
    "policy-surprise weighting": Option({"surprise_weight": 0.0}, {"surprise_weight": 0.5}),
    "random symmetry an evaluation": Option({"random_symmetry": False}, {"random_symmetry": True}),
    "bounded reuse": Option({"max_reuse": 0.0}, {"max_reuse": 4.0}),
    "resignation": Option({"resign_below": -1.0}, {"resign_below": -0.9}),
    "several sizes": Option({"heads": "pooled"}, {"heads": "pooled"}),
    "several komis": Option({}, {}),
}
KOMIS = (-2.0, 2.0)  # from the game's own


@dataclass(frozen=True, slots=True)
class Form:
    """The sizes of a form of the study.

    Attributes:
        game: What is learned.
        length: How long, and what else all runs have.
        simulations: A move, in matches.
        games: Of a pair of runs.
    """

    game: str
    length: dict[str, Any] = field(default_factory=dict)
    simulations: int = 64
    games: int = 30


# Whatever follows from how many positions an update has is said, since options change that.
FULL = Form(
    "go(size=7)",
    {"updates": 36, "evaluations": 16384, "steps": 32, "batch_size": 256, "num_trees": 128,
     "learning_rate": 0.02, "warmup_positions": 1024, "size": "small"},
)  # fmt: skip
QUICK = Form(
    "go(size=4)",
    {"updates": 10, "evaluations": 768, "steps": 4, "batch_size": 32, "num_trees": 16,
     "learning_rate": 0.02, "warmup_positions": 64, "min_window": 1000, "size": "8x2"},
    simulations=8,
    games=20,
)  # fmt: skip


def changed(game: NativeGame, **params: float) -> str:
    """The same game with other parameters."""
    return str(playout.game(game.name, **{**game.params, **params}))


def smaller(game: NativeGame) -> tuple[str, ...]:
    """The same game on a board that is smaller by two; () where it has no size."""
    size = game.params.get("size")
    return () if size is None or size < 4 else (changed(game, size=size - 2),)


def other_komis(game: NativeGame) -> tuple[str, ...]:
    """The same game with less and with more komi; () where it has none."""
    komi = game.params.get("komi")
    return () if komi is None else tuple(changed(game, komi=komi + more) for more in KOMIS)


ALSO = {"several sizes": smaller, "several komis": other_komis}  # what such a run learns besides


def preset_config(preset: Preset) -> AlphaZeroConfig:
    """What a preset says, as a configuration; what it leaves open has its default."""
    config = with_settings(AlphaZeroConfig(updates=1), preset.run)
    return with_settings(config, {"selfplay": preset.selfplay, "learner": preset.learner})


def changes(game: NativeGame, settings: Settings) -> dict[str, Any]:
    """Those of some settings that are not the preset's own."""
    _, preset = preset_for(game)
    base = preset_config(preset)
    there = picked(base, full_names(settings))
    short = {name.rpartition(".")[2]: value for name, value in there.items()}
    return {name: value for name, value in settings.items() if short[name] != value}


def pairs_of(game: NativeGame, names: Sequence[str] = ()) -> dict[str, tuple[Settings, Settings]]:
    """Settings without and with each option, as far as they are not the preset's; chosen by name.

    Options that mean nothing in a game are left out: targets and scores that it does not have,
    sizes of a board that has none.
    """
    if unknown := [name for name in names if name not in OPTIONS]:
        raise ConfigError(f"there is no option {unknown[0]!r}; there are {', '.join(OPTIONS)}")
    _, preset = preset_for(game)
    base = preset_config(preset)
    found = {}
    for name, (without, on) in OPTIONS.items():
        if names and name not in names:
            continue
        given = dict(on)
        if name in ALSO:
            given["also"] = ALSO[name](game)
            if not given["also"]:
                continue
        lacking = name == "ownership target" and not game.target_planes
        if lacking or (name == "score target" and not game.has_score):
            continue
        varied = {key: value for key, value in without.items() if given[key] != value}
        if changes(game, varied):  # the preset has it: with its own numbers
            own = picked(base, full_names(given))
            given |= {key.rpartition(".")[2]: value for key, value in own.items()}
        found[name] = changes(game, without), changes(game, given)
    return found


def label(settings: Settings) -> str:
    """A setting in words, which names its run."""
    words = [f"{key}={value}".replace("('", "").replace("',)", "") for key, value in
             sorted(settings.items())]  # fmt: skip
    return ", ".join(words) or PRESET


def folder_name(settings: Settings, seed: int) -> str:
    """The name of a run's folder."""
    text = "".join(letter if letter.isalnum() or letter == "." else "-" for letter in
                   label(settings))  # fmt: skip
    return f"{'-'.join(part for part in text.split('-') if part)}-{seed}"


def learned(folder: Path, form: Form, settings: Settings, seed: int) -> dict[str, Any]:
    """One run of the study, wherever this process is: where it is, and what it did."""
    given = {"seed": seed, "rating": False, "threads": 1, **form.length, **settings}
    path = folder / folder_name(settings, seed)
    run = kept_run(path, playout.alphazero, form.game, given)
    rows = [*read_rows(run.path)]
    last = rows[-1]
    print(f"{label(settings)}, seed {seed}: {last['selfplay/games']:.0f} games", flush=True)
    return {
        "path": str(run.path),
        "settings": label(settings),
        "seed": seed,
        "games": last["selfplay/games"],
        "positions": last["selfplay/positions"],
        "evaluations": last["search/evaluations"],
        "minutes": last["time/elapsed"] / 60,
    }


def schedule(
    entrants: Mapping[tuple[str, int], Entrant], pairs: Mapping[str, tuple[Settings, Settings]]
) -> list[tuple[Entrant, Entrant]]:
    """Who meets whom: both sides of each option, and everybody the preset; over all seeds."""
    meets = {PRESET: {PRESET}}
    for without, on in pairs.values():
        for one, other in itertools.combinations({PRESET, label(without), label(on)}, 2):
            meets.setdefault(one, set()).add(other)
    found = []
    for a, b in itertools.combinations(entrants, 2):
        if b[0] in meets.get(a[0], ()) or a[0] in meets.get(b[0], ()):
            found.append((entrants[a], entrants[b]))
    return found


def effects(
    pairs: Mapping[str, tuple[Settings, Settings]], runs: Sequence[dict[str, Any]], found: Ratings
) -> list[dict[str, Any]]:
    """A row an option: Elo with it above that without it, and what it did to the games played."""
    rows = []
    for name, (without, on) in pairs.items():
        sides = [
            [run for run in runs if run["settings"] == label(settings)]
            for settings in (on, without)
        ]
        names = [[entrant_name(run) for run in side] for side in sides]
        elo, low, high = difference(found, *names)
        with_it, without_it = (sum(run["games"] for run in side) / len(side) for side in sides)
        rows.append(
            {
                "option": name,
                "in the preset": "yes" if not on else "",
                "with": label(on),
                "without": label(without),
                "Elo": elo,
                "interval": (low, high),
                "games, with": with_it,
                "games, without": without_it,
            }
        )
    return sorted(rows, key=lambda row: -row["Elo"])


def entrant_name(run: Mapping[str, Any]) -> str:
    """A run's name in ratings."""
    return f"{run['settings']}, seed {run['seed']}"


def draw(rows: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Elo that each option adds, with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.42 * len(rows) + 1.2))
    for place, row in enumerate(reversed(rows)):
        low, high = row["interval"]
        axes.plot((low, high), (place, place), color="tab:blue", lw=1.5)
        axes.plot(row["Elo"], place, "o", color="tab:blue")
    axes.axvline(0, color="grey", lw=0.8)
    axes.set_yticks(range(len(rows)), [row["option"] for row in reversed(rows)])
    axes.set_xlabel("Elo with the option above Elo without it, 95 % interval")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25, axis="x")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def claims_of(rows: Sequence[dict[str, Any]], form: Form, seeds: int) -> list[dict[str, Any]]:
    """The rows as benchmarks/tools/report.py reads them."""
    return [
        {
            "claim": f"{form.game}, {row['option']}: Elo with it above Elo without it",
            "row": row["option"] + (" (in the preset)" if row["in the preset"] else ""),
            "column": f"{form.game}, {seeds} seeds",
            "ours": {"median": row["Elo"], "min": row["interval"][0], "max": row["interval"][1]},
            "unit": "Elo",
            "command": COMMAND,
        }
        for row in rows
    ]


def main(
    quick: bool = False,
    seeds: tuple[int, ...] = (),
    folder: Path | None = None,
    options: tuple[str, ...] = (),
    form: Form | None = None,
) -> int:
    """Runs the study and writes its page."""
    form = form or (QUICK if quick else FULL)
    seeds = seeds or ((0,) if quick else (0, 1, 2))
    folder = folder or Path("runs") / f"selfplay-options{'-quick' if quick else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    game = playout.game(form.game)
    pairs = pairs_of(game, options)
    wanted = {label(one): one for one in ({}, *itertools.chain(*pairs.values()))}
    cases = [(folder, form, one, seed) for seed in seeds for one in wanted.values()]
    runs = side_by_side(learned, cases)
    entrants = {
        (run["settings"], run["seed"]): Entrant(entrant_name(run), run["path"], form.simulations)
        for run in runs
    }
    results = meet(form.game, schedule(entrants, pairs), form.games, folder / "matches.jsonl")
    found = rate(results)
    rows = effects(pairs, runs, found)
    title = f"{form.game}: what each option of self-play adds"
    draw(rows, folder / "options.png", title)
    page = Page(
        "What the options of self-play are worth",
        "The same run with and without each option, with as much work: which is the stronger?",
        quick=quick,
    )
    page.table(rows, f"{form.game}, {len(seeds)} seeds, Elo at {form.simulations} simulations")
    page.picture("options.png", "Right of the line the option helps.")
    table = [
        {
            "run": entrant_name(run),
            "Elo": found[entrant_name(run)].elo,
            "interval": (found[entrant_name(run)].low, found[entrant_name(run)].high),
            **{key: run[key] for key in ("games", "positions", "evaluations", "minutes")},
        }
        for run in runs
    ]
    page.table(sorted(table, key=lambda row: -row["Elo"]), "the runs; the mean of all is Elo 0")
    page.text(
        f"All runs have {', '.join(f'{k} {v}' for k, v in form.length.items())}. An interval is "
        "that of the games, or of the seeds where these differ by more. Runs that one setting "
        "names are shared: where the preset has an option, its run is the one with it."
    )
    print(f"wrote {page.write(folder)}")
    if not quick:
        draw(rows, STUDIES / "games" / "selfplay_options.png", title)
        settings = {"game": form.game, "seeds": list(seeds), "games": form.games,
                    "simulations": form.simulations, **form.length}  # fmt: skip
        claims = claims_of(rows, form, len(seeds))
        payload = {"options": rows, "runs": table, "claims": claims}
        print(f"wrote {write_result('studies/games/selfplay_options', payload, settings=settings)}")
    return 0


if __name__ == "__main__":
    parser = study_parser(__doc__)
    parser.add_argument("--game", help=f"instead of {FULL.game}")
    parser.add_argument("--options", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--updates", type=int, help="of each run")
    parser.add_argument("--minutes", type=float, help="of each run, in place of equal counts")
    parser.add_argument("--games", type=int, help="of each pair of runs")
    parser.add_argument("--simulations", type=int, help="a move, in matches")
    given = parser.parse_args()
    base = QUICK if given.quick else FULL
    length = dict(base.length)
    if given.minutes:
        length = {"minutes": given.minutes, "size": length["size"]}
    elif given.updates:
        length["updates"] = given.updates
    form = Form(
        given.game or base.game,
        length,
        given.simulations or base.simulations,
        given.games or base.games,
    )
    try:
        main(given.quick, tuple(given.seeds), given.folder, tuple(given.options), form)
    except PlayoutError as error:
        parser.error(str(error))

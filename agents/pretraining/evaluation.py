"""What `playout eval RUN --probe NAME` does: reads the trunk of a run, of whatever it has learned.

Runs of pretrain-trunk are read on their own data, those that have learned a game on positions of
it, and every run on labelled DATA of the shape that its network sees. Reading is probes.py's. Left
out: the objective of pretraining on what it has held out (run.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from os.path import samefile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playout.agents.alphazero.player import game_of
from playout.agents.ppo.league.games import native_game
from playout.agents.ppo.player import learned_source
from playout.agents.pretraining.data.dataset import COUNT, DATA_VERSION, Split
from playout.agents.pretraining.data.positions import Positions, unit_of
from playout.agents.pretraining.data.repeats import repeated, tell_of_repeats
from playout.agents.pretraining.data.solved import held_out_alike
from playout.agents.pretraining.data.sources import (
    are_made,
    digest,
    load,
    takes_size,
    trust_typed,
)
from playout.agents.pretraining.probes import MAX_ROWS, probe
from playout.agents.pretraining.run import data_of, refuse_play, use_threads
from playout.agents.pretraining.trunk import BOARDS, Trunk, trunk_of
from playout.agents.runs.checkpoint.chosen import choose_checkpoint
from playout.agents.runs.devices import resolve_device, resolve_dtype
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions
from playout.envs.core.registry import game_text
from playout.errors import ConfigError, DataError, PlayoutError


def evaluate_trunk(
    run: RunDir, options: EvalOptions, *, game: object | None = None
) -> dict[str, Any]:
    """A probe's table, printed and as plain data: `probes.probe`'s, with `data`.

    Raises:
        ConfigError: the run has no trunk, or data of another shape. DataError: there are no labels.
    """
    named = options.data or run.kind == "pretrain-trunk"  # and no game that a run has learned
    refuse_play(options, game if named else None)
    chosen, options = choose_checkpoint(run, options)
    use_threads(options)
    trunk = trunk_of(run, options.which)
    name, data = _data(run, options, trunk, game)
    if data.train.shape != trunk.shape:
        theirs, own = (" x ".join(map(str, one)) for one in (data.train.shape, trunk.shape))
        what = "positions" if isinstance(trunk.net, BOARDS) else "pictures"
        raise ConfigError(
            f"{name} holds {unit_of(data.test)} of {theirs} (channels, rows, columns) and the "
            f"trunk of {run.path} sees {what} of {own}"
        )
    data, left_out = _unknown(run, name, data)
    device = resolve_device(options.device)
    # Features are compared between machines: unless it is asked for, none computes them otherwise.
    dtype = "float32" if options.dtype == "auto" else resolve_dtype(options.dtype, device)
    picture = run.path / "clusters.png" if options.probe == "clusters" else None
    found = probe(
        trunk.eval().to(device),
        data,
        options.probe,
        seed=options.seed,
        dtype=getattr(torch, dtype),
        picture=picture,
    )
    if "rows" in found:
        unit = unit_of(data.test)
        print(f"{options.probe} probe of {run.path}, {chosen}, held-out {unit} of {name}")
        tell_of_repeats(data)
        _print_rows(found, unit)
        if usual := found.get("most_frequent"):
            print(
                f"  most frequent: {usual['class']}, {100 * usual['share']:.1f} % of these {unit}"
            )
    else:
        print(f"{options.probe} of {run.path}, {chosen}")
        for what in ("trunk", "pixels"):
            _print_clusters(what, found[what])
        print(f"wrote {picture}")
    objective = run.config["pretrain"]["objective"] if run.kind == "pretrain-trunk" else run.kind
    about = {"data": name, "objective": objective, **found}
    if left_out:
        about["left_out"] = left_out
    return about if chosen is None else {"checkpoint": chosen.as_data(), **about}


def _data(
    run: RunDir, options: EvalOptions, trunk: Trunk, game: object | None
) -> tuple[str, Split]:
    """What a probe reads, and its name."""
    name, learned = options.data, None
    if not name and run.kind == "alphazero":
        learned = game_of(run, game)
    elif not name and run.kind == "ppo":
        learned = native_game(learned_source(run, game))
        if learned is None:
            shape = " x ".join(map(str, trunk.shape))
            raise ConfigError(
                f"say what to read the trunk of {run.path} on: --data DATA, with labelled pictures "
                f"of {shape} (channels, rows, columns)"
            )
    if learned is not None:
        name = game_text(learned) or str(learned)
    if options.count is not None and not (name and are_made(name)):
        own = f"{run.path} is read on what it has learned from" if not name else "these are read"
        raise ConfigError(f"--count is of positions of a game that are made: {own}; leave it out")
    if not name or _is_its_own(name, options.count, run):
        return str(run.config["data"]), data_of(run)  # so that nothing it learned from is held out
    trust_typed(options.data)
    _, height, width = trunk.shape
    boards = isinstance(trunk.net, BOARDS)  # which see no picture, however large it is made
    size = height if height == width and takes_size(name) and not boards else 0
    return name, load(name, count=options.count or COUNT, image_size=size, seed=options.seed)


def _is_its_own(name: str, count: int | None, run: RunDir) -> bool:
    """Whether a name means the data that a run has learned from, however it was divided there."""
    if run.kind != "pretrain-trunk" or count not in (None, run.config["count"]):
        return False
    own = str(run.config["data"])
    return name == own or (Path(name).exists() and Path(own).exists() and samefile(name, own))


def _unknown(run: RunDir, name: str, data: Split) -> tuple[Split, int]:
    """The data without what a run has learned from among that which is held out, and its number.

    Raises:
        DataError: nothing stays.
    """
    found, test = digest(data), data.test
    same = run.kind == "pretrain-trunk" and run.config["digest"] == found
    keyed = isinstance(test, Positions) and are_made(name)
    version = run.config.get("data_version", 1) if same else DATA_VERSION
    known = np.zeros(len(test), bool)
    for source in _begun_with(run):
        config = source.config
        if source.kind != "pretrain-trunk" or config["digest"] == found:
            continue
        drawn = are_made(str(config["data"]))
        if bool(config["game"]) != isinstance(test, Positions) or (drawn and not config["game"]):
            continue  # data of another kind, or what an environment has shown, without labels
        if config["game"] and config["game"] != (game_text(test.game) or str(test.game)):
            continue
        theirs = config.get("data_version", 1)
        if keyed and drawn and held_out_alike(test.game, version, theirs):
            continue  # what is held out once is held out always
        try:
            known |= repeated(test, data_of(source).train)
        except PlayoutError as error:
            _note(f"{source.path} may have learned from what is held out: {error}")
    count = int(known.sum())
    if not count:
        return data, 0
    if known.all():
        raise DataError(f"{run.path} has learned from all that is held out of {name}")
    _note(
        f"{count:,} of {len(test):,} held-out {unit_of(test)} of {name} are left out: {run.path}, "
        "or what it began with, has learned from them"
    )
    return replace(data, test=test.subset(np.flatnonzero(~known))), count


def _begun_with(run: RunDir) -> Iterator[RunDir]:
    """A run, the one that it began with, the one that that began with, and so on."""
    seen = set[Path]()
    while run.path.resolve() not in seen:
        yield run
        seen.add(run.path.resolve())
        begun = str(run.config.get("init") or "")
        if not begun:
            return
        if not RunDir.is_run(Path(begun)):
            _note(f"{begun}, which {run.path} began with, is not there: it may have learned from "
                  "what is held out")  # fmt: skip
            return
        run = RunDir.open(begun)


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _print_rows(found: Mapping[str, Any], unit: str) -> None:
    """Accuracies by share of the labels, of features and beside them of pixels.

    Args:
        found: what `probe` gives.
        unit: what the labels are of, "pictures" or "positions".
    """
    for number, row in enumerate(found["rows"]):
        line = f"  {100 * row['used']:5.3g} % of labels ({row['pictures']:6,} {unit}"
        capped = row["pictures"] == MAX_ROWS and row["used"] < row["labels"]
        line += ", the most that are read): " if capped else "): "
        line += _with_interval(row)
        if "pixels" in found:
            line += f"; pixels {_with_interval(found['pixels'][number])}"
        print(line)


def _with_interval(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    return f"{100 * row['accuracy']:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f})"


def _print_clusters(what: str, found: Mapping[str, Any]) -> None:
    """What clusters and maps of some features say of the classes."""
    kinds = [("k-means", found)]
    if not found["dbscan"]:
        print(f"  {what}, DBSCAN: finds no two clusters")
    else:
        clusters, noise = found["dbscan"]["clusters"], 100 * found["dbscan"]["noise"]
        kinds.append((f"DBSCAN ({clusters} clusters, {noise:.0f} % noise)", found["dbscan"]))
    for name, row in kinds:
        print(
            f"  {what}, {name}: ARI {row['ari']:.3f}, NMI {row['nmi']:.3f}, "
            f"silhouette {row['silhouette']:.3f}"
        )
    for name, row in found.get("maps", {}).items():
        print(
            f"  {what}, map by {name}: trustworthiness {row['trustworthiness']:.3f}, "
            f"silhouette of the classes {row['silhouette']:.3f}"
        )

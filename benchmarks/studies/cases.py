"""What studies share: runs kept from last time, cases side by side, and means over seeds.

A run is kept if a study made it to its end by the same version, with the same settings and from the
same other runs, and goes on if such a study was stopped; any other one of its name is moved aside,
which is said. Cases that do not need each other take a process a core. Left out: what is measured,
and the page (page.py).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import multiprocessing.context
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import playout
import torch
from playout.agents.runs.config import to_dict
from playout.agents.runs.devices import cores
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows

T = TypeVar("T")


def study_parser(doc: str | None) -> argparse.ArgumentParser:
    """What every study of several seeds takes from a terminal; `doc` is its module's."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[])
    parser.add_argument("--folder", type=Path)
    return parser


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as run.json holds them; a run among them by its id, for a path may hold another."""
    named = {k: f"run {v.id}" if isinstance(v, RunDir) else v for k, v in settings.items()}
    return to_dict(named)


def _unlike(run: RunDir, wanted: Mapping[str, Any]) -> str:
    """Why a run is not the one that a study wants; empty if it is."""
    noted = run.record.get("study")
    if noted is None:
        return "is not known to be finished"
    version = noted["version"]
    if version != playout.__version__:
        return f"is by playout {version}, not {playout.__version__}"
    had = noted["settings"]
    changed = [k for k in sorted({*had, *wanted}) if had.get(k) != wanted.get(k)]
    words = [f"{k} {had.get(k, 'not set')}, not {wanted.get(k, 'not set')}" for k in changed]
    return f"has {'; '.join(words)}" if words else ""


def kept_run(
    path: Path, train: Callable[..., RunDir], subject: str, settings: Mapping[str, Any]
) -> RunDir:
    """The run of a study in a folder: as it was left, gone on with if it was stopped, or made now.

    What it is for is noted beside it (`NAME.study.json`) before it begins, and in its record at its
    end, with its `CoreMinutes`.

    Args:
        path: Where it is.
        train: Makes it, and with `resume` goes on with it, as `playout.pretrain_trunk` does.
        subject: What that takes first.
        settings: What else it takes; another run may be among them.
    """
    wanted = _plain({"subject": subject, **settings})
    noted = {"version": playout.__version__, "settings": wanted}
    note = path.with_name(f"{path.name}.study.json")
    run, taken = None, CoreMinutes()
    if RunDir.is_run(path):
        found = RunDir.open(path)
        why = _unlike(found, wanted)
        if not why:
            print(f"{path}: kept from before", flush=True)
            return found
        if found.record.get("study") is None and _read(note) == noted:
            print(f"{path}: was stopped, goes on", flush=True)
            rows = [*read_rows(path)]
            taken = CoreMinutes(rows[-1]["time/elapsed"] / 60 if rows else 0.0)
            run = train(quiet=True, resume=path)
        else:
            _move_aside(found, why)
    if run is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(noted), encoding="utf-8")
        given = {k: str(v.path) if isinstance(v, RunDir) else v for k, v in settings.items()}
        run = train(subject, quiet=True, run=path, **given)
    with run.lock():
        run.update(study=noted | {"minutes": taken()})
    return run


class CoreMinutes:
    """Minutes of processor time since it was made; other work on the machine adds nothing to them.

    Args:
        before: Minutes that come first, of a run that goes on.
    """

    def __init__(self, before: float = 0.0) -> None:
        self._before, self._begun = before, time.process_time()

    def __call__(self) -> float:
        """The minutes until now."""
        return self._before + (time.process_time() - self._begun) / 60


def _read(note: Path) -> Any:
    """What a note says; None if there is none that can be read."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _move_aside(found: RunDir, why: str) -> None:
    path = found.path
    aside = next(
        place
        for number in range(1, 1000)
        if not (place := path.with_name(f"{path.name}.old-{number}")).exists()
    )
    with found.lock():  # refuses one that is being trained
        path.rename(aside)
    print(f"{path} {why}: moved to {aside.name}, begun anew", flush=True)


def _on_a_core(which: multiprocessing.SimpleQueue[int]) -> None:
    """This process computes on one core alone, whatever threads it starts, and with one of torch's.

    Where the system cannot bind processes they share all cores.
    """
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {which.get()})


def _cores_for(jobs: int, context: multiprocessing.context.ForkContext) -> Any:
    """A queue with a core for each of some processes, beginning with the last core.

    Other programs tend to be on the first. More processes than cores share them in turn.
    """
    which, own = context.SimpleQueue(), [0]
    if hasattr(os, "sched_getaffinity"):
        own = sorted(os.sched_getaffinity(0), reverse=True)
    for number in range(jobs):
        which.put(own[number % len(own)])
    return which


@contextmanager
def beside(
    function: Callable[..., T], cases: Sequence[tuple[Any, ...]], *, spare: int = 1
) -> Iterator[list[Future[T]]]:
    """Inside, other processes on a core each see to cases; whoever asks for results waits.

    They begin with what this process has read until now, which should compute with torch only
    later: its threads do not come along.

    Args:
        function: Of a module: other processes find it by its name.
        cases: Its arguments, plain data.
        spare: Cores that are left to this process.
    """
    jobs = max(1, min(len(cases), cores() - spare))
    forked = multiprocessing.get_context("fork")
    which = _cores_for(jobs, forked)
    with ProcessPoolExecutor(
        jobs, mp_context=forked, initializer=_on_a_core, initargs=(which,)
    ) as pool:
        try:
            yield [pool.submit(function, *case) for case in cases]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def side_by_side(
    function: Callable[..., T], cases: Sequence[tuple[Any, ...]], *, kept: Path | None = None
) -> list[T]:
    """What a function makes of each case, in their order, with a process a core.

    Args:
        function: Of a module: other processes find it by its name.
        cases: Its arguments, plain data; dear ones first, so that no core waits long at the end.
        kept: File in which every result is noted as soon as it is there, as JSON: tuples and arrays
            come back as lists. What the same version made of the same case is not made again.
    """
    if kept is None:
        with beside(function, cases, spare=0) as found:
            return [one.result() for one in found]
    kept.parent.mkdir(parents=True, exist_ok=True)
    names = [_case_name(function.__name__, one) for one in cases]
    known = dict(_noted(kept))
    if before := sum(name in known for name in names):
        print(f"{kept}: {before} of {len(cases)} cases kept from before", flush=True)
    to_do = [k for k, name in enumerate(names) if name not in known]
    if to_do:
        with (
            kept.open("a", encoding="utf-8") as notes,
            beside(function, [cases[k] for k in to_do], spare=0) as found,
        ):
            which = dict(zip(found, to_do, strict=True))
            notes.write("\n")  # behind a line at which it was stopped
            for done in as_completed(found):
                notes.write(_note_of(names[which[done]], done.result()))
                notes.flush()
        known = dict(_noted(kept))
    return [known[name] for name in names]


def noted_result(kept: Path, subject: str, case: Any) -> Any:
    """What `note_result` wrote of a case by the same version; None if it wrote nothing."""
    return dict(_noted(kept)).get(_case_name(subject, case))


def note_result(kept: Path, subject: str, case: Any, result: Any) -> None:
    """Keeps a result, plain data, in a file of such, for when the study is run again."""
    with kept.open("a", encoding="utf-8") as notes:
        notes.write("\n" + _note_of(_case_name(subject, case), result))


def _case_name(subject: str, case: Any) -> str:
    return json.dumps([playout.__version__, subject, to_dict(case)])


def _note_of(name: str, result: Any) -> str:
    return f"{json.dumps([name, result], default=_as_list)}\n"


def _as_list(value: Any) -> Any:
    """What JSON does not know: arrays, and numbers of numpy."""
    return value.tolist()


def _noted(path: Path) -> Iterator[tuple[str, Any]]:
    """The cases of a file, and their results; not the line at which a study was stopped."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError):
            name, result = json.loads(line)
            yield name, result


def mean_of_seeds(values: Sequence[float], *, among: int = 1) -> tuple[float, float]:
    """The mean of a number a seed, and half of its 95 % interval by Student's t (one seed: NaN).

    Args:
        values: A number a seed.
        among: How many candidates these were chosen from by the same numbers; the interval is then
            wide enough that those of all of them hold together (Bonferroni).
    """
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, math.nan
    from scipy import stats

    spread = statistics.stdev(values) / math.sqrt(len(values))
    return mean, float(stats.t.ppf(1 - 0.025 / among, len(values) - 1)) * spread


def difference_of_seeds(
    ours: Sequence[float], theirs: Sequence[float], *, among: int = 1
) -> tuple[float, float]:
    """How much more one has than the other, seed by seed, as `mean_of_seeds` of the differences."""
    return mean_of_seeds([mine - its for mine, its in zip(ours, theirs, strict=True)], among=among)

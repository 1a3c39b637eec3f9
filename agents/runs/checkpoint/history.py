"""The checkpoints of one run: which exist, which is the latest and the best, which are kept.

    FOLDER/checkpoints/NNNNNN/ LATEST abandoned/

A checkpoint's folder appears by one rename when it is complete, so the folders are the truth and
LATEST is the name to open; if the two disagree in a way that no crash can explain, that is an error
and not a guess. A LATEST that names nothing is passed over with a note. Leaves out the inside of a
checkpoint (folder.py) and everything else about the run (directory.py).
"""

import contextlib
import json
import math
import operator
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from playout.agents.runs import ranks
from playout.agents.runs.checkpoint import durable_io
from playout.agents.runs.checkpoint import folder as checkpoints
from playout.agents.runs.checkpoint.folder import Checkpoint, Unchanging
from playout.agents.runs.reporting import as_word
from playout.errors import CheckpointError, ConfigError, RunError


class Checkpoints:
    """The checkpoints below a run's folder.

    Args:
        path: the run's folder.
        run_id: a name unique to the run; its checkpoints carry it, and no others are loaded.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        self.path, self.id = path, run_id

    @property
    def _folder(self) -> Path:
        return self.path / "checkpoints"

    def save(
        self,
        step: int,
        state: dict[str, Any],
        *,
        own: dict[str, Any] | None = None,
        metric: float | None = None,
        keep: int = 3,
        info: dict[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint; keep the last `keep` and the one with the highest metric.

        All ranks of a job call it together: each writes its own part, rank 0 everything else.

        Args:
            step: its number, counting up.
            state: nested dict, list, tuple of torch tensors, NumPy arrays, bytes, int, float, str,
                bool, None.
            own: what this rank has for itself, as `state` but under other keys. With one process
                it is a part of the state like any other.
            metric: how good it is (higher is better), or None.
            keep: how many of the newest to keep.
            info: small facts for the manifest, readable without loading.

        Raises:
            RunError: it could not be written; every earlier checkpoint is intact.
        """
        if type(step) is not int or step < 0:
            raise ValueError(f"a checkpoint's step is a whole number from 0 on, not {step!r}")
        if metric is not None and not math.isfinite(metric):
            raise ValueError(f"a checkpoint's metric must be finite, not {metric}")
        own = own or {}
        if twice := sorted(state.keys() & own.keys()):
            raise ValueError(f"a rank's own state and the common one both have {', '.join(twice)}")
        if ranks.world() == 1:
            state, own = {**state, **own}, {}
        target = self._folder / checkpoints.name_of(step)
        aside = target.with_name(target.name + ".tmp")
        old = target.with_name(target.name + ".old.tmp")

        def begin() -> None:
            with self._saving(step):
                durable_io.remove(aside)
                os.mkdir(aside)

        def complete() -> None:
            with self._saving(step):
                checkpoints.write_manifest(
                    aside,
                    files,
                    step=step,
                    run_id=self.id,
                    metric=metric,
                    info=info or {},
                    ranks=ranks.world(),
                )
                if target.exists():
                    os.rename(target, old)
                os.rename(aside, target)
                durable_io.fsync_folder(self._folder)
                latest = f"{target.name}\n".encode("ascii")
                durable_io.replace_file(self.path / "LATEST", latest)
                durable_io.remove(old)
                self._prune(keep)

        try:
            ranks.by_first(begin)
            files = self._write_parts(aside, state, own, step)
            ranks.by_first(complete)
        finally:
            if ranks.is_first():
                with contextlib.suppress(OSError):
                    if old.exists() and not target.exists():
                        os.rename(old, target)
                    durable_io.remove(aside)

    @contextlib.contextmanager
    def _saving(self, step: int) -> Iterator[None]:
        """Names the checkpoint in whatever keeps it from being written."""
        try:
            yield
        except (OSError, RunError) as error:
            reason = durable_io.describe(error) if isinstance(error, OSError) else str(error)
            raise RunError(f"cannot save checkpoint {step} of {self.path}: {reason}") from error

    def _write_parts(
        self, aside: Path, state: dict[str, Any], own: dict[str, Any], step: int
    ) -> checkpoints.Files:
        """Write what is this rank's to write; returns the files of all ranks.

        Raises:
            RunError: a rank could not write; raised on every rank.
        """
        before = None
        if any(isinstance(part, Unchanging) for part in (*state.values(), *own.values())):
            before = next(iter(self.checkpoints()), None)
        files: checkpoints.Files = {}
        problem = ""
        try:
            with self._saving(step):
                if ranks.is_first():
                    files.update(checkpoints.write_state(aside, state, before=before))
                if own:
                    part = checkpoints.part_of(ranks.rank())
                    files.update(checkpoints.write_state(aside, own, part=part, before=before))
        except RunError as error:
            if ranks.world() == 1:
                raise
            away = not ranks.is_first() and not aside.exists()
            hint = "; all machines must see the run's folder" if away else ""
            problem = f"rank {ranks.rank()} {error}{hint}"
        if ranks.world() == 1:
            return files
        found = [json.loads(one) for one in ranks.everybody(json.dumps([problem, files]).encode())]
        if problems := [one for one, _ in found if one]:
            raise RunError(problems[0])
        return {name: (size, sha) for _, part in found for name, (size, sha) in part.items()}

    def _prune(self, keep: int) -> None:
        kept = self.checkpoints()
        best = self._best(kept)
        for entry in kept[max(keep, 1) :]:
            if best is None or entry.step != best.step:
                # Renamed first: a kill during the deletion must not leave half a checkpoint.
                aside = entry.path.with_name(entry.path.name + ".tmp")
                os.rename(entry.path, aside)
                shutil.rmtree(aside)

    @staticmethod
    def _best(entries: list[Checkpoint]) -> Checkpoint | None:
        rated = [entry for entry in entries if entry.metric is not None]
        return max(rated, key=lambda entry: (entry.metric, entry.step), default=None)

    def checkpoints(self) -> list[Checkpoint]:
        """The complete checkpoints with a sound manifest, newest first (tensors are not read)."""
        found = []
        for _, path in checkpoints.newest_first(self._folder):
            with contextlib.suppress(CheckpointError):
                found.append(checkpoints.read_manifest(path, self.id))
        return found

    def _newest_good(self) -> str:
        for entry in self.checkpoints():
            with contextlib.suppress(CheckpointError):
                checkpoints.verify(entry)
                return (
                    f"; the newest good checkpoint is {entry.step}: use it with "
                    f"--which {entry.step}, or train on from it with --resume {as_word(self.path)} "
                    f"--from-step {entry.step}"
                )
        return (
            "; no good checkpoint is left in this run: put a copy of that one back, or begin a new "
            f"run with the settings that {self.path / 'config.toml'} holds"
        )

    def find(self, which: str | int = "latest") -> Checkpoint | None:
        """The checkpoint that `which` names ("latest", "best", 120, "120"); None if there is none.

        Raises:
            CheckpointError: it is damaged or missing. ConfigError: it cannot be a name of one.
        """
        if which == "best":
            entries = self.checkpoints()
            return self._best(entries) or self.find()
        if which == "latest":
            step = next((step for step, _ in checkpoints.newest_first(self._folder)), None)
            pointer = self._read_latest()
            if step is None and pointer is None:
                return None
            if pointer is not None and (step is None or pointer > step):
                raise CheckpointError(
                    f"checkpoint {pointer} of {self.path}, named by LATEST, is missing"
                )
            assert step is not None
            return checkpoints.read_manifest(self._folder / checkpoints.name_of(step), self.id)
        if isinstance(which, str) and which.isdecimal():
            which = int(which)
        with contextlib.suppress(TypeError):  # a whole number of NumPy's is one as well
            which = which if isinstance(which, bool) else operator.index(which)  # type: ignore[arg-type]
        if type(which) is not int or which < 0:
            raise ConfigError(f'a checkpoint is "best", "latest" or a number, not {which!r}')
        path = self._folder / checkpoints.name_of(which)
        if not path.exists():
            there = ", ".join(str(entry.step) for entry in self.checkpoints()) or "none"
            raise RunError(f"{self.path} has no checkpoint {which}; it has {there}")
        return checkpoints.read_manifest(path, self.id)

    def _read_latest(self) -> int | None:
        path = self.path / "LATEST"
        if not path.exists() and not path.is_symlink():
            return None
        try:
            text = durable_io.read_file(path, 64).decode("ascii", "replace").strip()
            step = checkpoints.step_of(text)
        except CheckpointError:
            if path.is_symlink() or not path.is_file():  # no crash makes such a thing
                raise
            step = None
        if step is None:
            print(
                f"note: {path} does not name a checkpoint; the newest one is taken",
                file=sys.stderr,
            )
        return step

    def load(
        self, which: str | int = "latest", *, only: Collection[str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """A checkpoint's step and state ("latest", "best" or a step), every byte of it checked.

        Args:
            which: "best" is the one with the highest metric, or the latest if none has one.
            only: top-level keys to load (a player needs the model, not the replay buffer).

        Raises:
            RunError: there is none. CheckpointError: it is damaged; the message names the newest
                good one.
        """
        try:
            entry = self.find(which)
            if entry is None:
                raise RunError(f"{self.path} has no checkpoint yet")
            return entry.step, checkpoints.load(entry, only)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{self._newest_good()}") from error

    def load_own(self, entry: Checkpoint, rank: int) -> dict[str, Any]:
        """What one rank of several had for itself at a checkpoint, every byte of it checked.

        Raises:
            CheckpointError: it is damaged.
        """
        try:
            return checkpoints.load(entry, part=checkpoints.part_of(rank))
        except CheckpointError as error:
            raise CheckpointError(f"{error}{self._newest_good()}") from error

    def abandon_after(self, step: int) -> None:
        """Go back to a checkpoint: newer ones move to abandoned/. Needs the lock.

        Raises:
            RunError: there is no such checkpoint.
        """
        ranks.by_first(lambda: self._abandon_after(step))

    def _abandon_after(self, step: int) -> None:
        if self.find(step) is None:
            raise RunError(f"{self.path} has no checkpoint {step}")
        newer = [path for number, path in checkpoints.newest_first(self._folder) if number > step]
        number = 1
        while (folder := self.path / "abandoned" / f"{number}").exists():
            number += 1
        try:
            if newer:
                folder.mkdir(parents=True, exist_ok=True)
            for path in newer:
                os.rename(path, folder / path.name)
            metrics = self.path / "metrics.jsonl"
            if newer and metrics.is_file():
                shutil.copyfile(metrics, folder / "metrics.jsonl", follow_symlinks=False)
            durable_io.fsync_folder(self._folder)
            durable_io.replace_file(
                self.path / "LATEST", f"{checkpoints.name_of(step)}\n".encode("ascii")
            )
        except OSError as error:
            raise RunError(
                f"cannot go back to checkpoint {step} of {self.path}: {durable_io.describe(error)}"
            ) from error


class OwnStates(Sequence[dict[str, Any]]):
    """What each rank had for itself at a checkpoint, in order of rank, read when it is asked for.

    Args:
        run: whose checkpoint it is.
        entry: the checkpoint.
        state: its common state; with one process everything is in it.
    """

    def __init__(self, run: Checkpoints, entry: Checkpoint, state: dict[str, Any]) -> None:
        self._run, self._entry, self._state = run, entry, state

    def __len__(self) -> int:
        return self._entry.ranks

    def __getitem__(self, rank: Any) -> Any:
        if isinstance(rank, slice):
            return [self[one] for one in range(*rank.indices(len(self)))]
        if not -len(self) <= rank < len(self):
            raise IndexError(rank)
        if self._entry.ranks == 1:
            return self._state
        return self._run.load_own(self._entry, rank % len(self))

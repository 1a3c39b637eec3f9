"""The run directory: one folder that holds everything a training run is, and survives anything.

    RUN/config.toml run.json metrics.jsonl tb/ checkpoints/NNNNNN/ LATEST lock

Readers need no lock. One writer at a time holds `lock`, a kernel lock, so that a killed process
leaves none behind; of the ranks of a job, the first writes. `run.json` is the record (machine,
versions, seed, budget), config.toml the settings. Leaves out what a checkpoint is made of
(checkpoint/folder.py) and the metrics (metrics/log.py).
"""

import contextlib
import fcntl
import os
import platform
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playout.agents.runs import ranks
from playout.agents.runs.checkpoint import durable_io
from playout.agents.runs.checkpoint import folder as checkpoints
from playout.agents.runs.checkpoint.history import Checkpoints
from playout.agents.runs.config import as_toml, to_dict
from playout.agents.runs.ranks.alike import git_commit, versions
from playout.agents.runs.reporting import as_typed, as_word
from playout.cores import usable_cores
from playout.errors import CheckpointError, RunError
from playout.own_code import trust_words

FORMAT = "playout.run.v1"
_MAX_CONFIG_BYTES = 1 << 20
_SEEN_WITHIN = 20.0  # seconds that a shared folder may take to show a new run elsewhere
_locked: set[str] = set()  # POSIX locks do not keep a process from locking twice


def _only_begun(folder: Path) -> bool:
    """Whether a folder is empty or holds no more than a creation that was killed half-way."""
    names = {path.name for path in folder.iterdir()} - {"run.json.tmp", "checkpoints", "lock"}
    begun = folder / "checkpoints"
    return not names and (not begun.exists() or (begun.is_dir() and not any(begun.iterdir())))


def _first_free(path: Path) -> Path:
    """PATH-1, PATH-2, ...: made here, for two that only look would both find the same one free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        numbered = path.with_name(f"{path.name}-{number}")
        try:
            numbered.mkdir()
            return numbered
        except FileExistsError:
            number += 1


class RunDir(Checkpoints):
    """A run directory. Make one with `create` or `open`."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        super().__init__(path, str(record["id"]))
        self._record = record
        self._lock_thread = 0  # which thread of this process holds the lock
        self._made: list[Path] = []  # folders above it that were made for it, innermost first

    @property
    def kind(self) -> str:
        """What trained here: "ppo", "alphazero", "rlhf.sft" ..."""
        return str(self._record["kind"])

    @property
    def command(self) -> str:
        """What trains a run of this kind from a terminal: "playout rlhf sft" for "rlhf.sft"."""
        return f"playout {self.kind.replace('.', ' ', 1)}"

    @property
    def whole(self) -> "RunDir":
        """The run of many stages that this one is a stage of, or itself."""
        parent = self.path.parent
        if parent == self.path or not self.is_run(parent):
            return self
        outer = RunDir.open(parent)
        recipe = outer.kind.endswith((".all", ".games"))
        is_stage = recipe or self.kind.startswith(f"{outer.kind}.")
        return outer.whole if is_stage else self

    @property
    def resume_command(self) -> str:
        """What continues it from a terminal; a stage is continued by the run it belongs to."""
        whole = self.whole
        verb = whole.command.removeprefix("playout ")
        return f"{as_typed()} {verb} --resume {as_word(whole.path)}{trust_words(whole.config)}"

    def command_for(self, verb: str, *words: str) -> str:
        """What uses it from a terminal: "playout match RUN uct:1000 --trust my_game".

        Args:
            verb: The command.
            *words: What stands behind the run.
        """
        line = " ".join([as_typed(), verb, as_word(self.path), *words])
        return f"{line}{trust_words(self.config)}"

    @property
    def seed(self) -> int:
        """The one number that all randomness derives from."""
        return int(self._record["seed"])

    @property
    def config(self) -> dict[str, Any]:
        """The settings, as plain dicts, lists, numbers and text."""
        return dict(self._record["config"])

    @property
    def record(self) -> dict[str, Any]:
        """What run.json holds: kind, seed, config, versions, machine, commit, budget, changes."""
        return dict(self._record)

    def __fspath__(self) -> str:
        """Its path, so that whatever takes a run's path takes the run as well."""
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r}, kind={self.kind!r})"

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        kind: str,
        config: dict[str, Any],
        seed: int,
        numbered: bool = False,
    ) -> "RunDir":
        """Make a new run in a folder that is absent or empty.

        Of the ranks of a job, which all call it, the first makes the run where it wants it.

        Args:
            path: The folder.
            kind: What trains there.
            config: Its settings.
            seed: What all randomness derives from.
            numbered: The folder is PATH-1, -2, ...: the first that nobody has.

        Raises:
            RunError: the folder holds something else, is a run already, cannot be written, or a
                rank does not see it.
        """
        made: list[RunDir] = []

        def make() -> tuple[str, dict[str, Any]]:
            made.append(cls._make(Path(path), kind, config, seed, numbered))
            return os.fspath(made[0].path), made[0].record

        where, record = ranks.by_first(make)
        if not made:
            made.append(cls(Path(where), record))
        if ranks.world() > 1:
            made[0]._must_be_seen()
        return made[0]

    def _must_be_seen(self) -> None:
        """Refuses a folder that only some ranks see; other machines may take a moment for it."""
        until = time.monotonic() + _SEEN_WITHIN
        problem = ""
        while not ranks.is_first():
            problem = f"rank {ranks.rank()} on {platform.node()} does not see the run {self.path}"
            with contextlib.suppress(RunError):
                if RunDir.open(self.path).id == self.id:
                    problem = ""
            if not problem or time.monotonic() > until:
                break
            time.sleep(0.1)
        if problems := [one.decode() for one in ranks.everybody(problem.encode()) if one]:
            self.discard_unused()
            raise RunError(f"{problems[0]}; choose a folder that all machines share")

    @classmethod
    def _make(
        cls, path: Path, kind: str, config: dict[str, Any], seed: int, numbered: bool
    ) -> "RunDir":
        config = to_dict(config)
        text = as_toml(config)
        above = [parent for parent in path.absolute().parents if not parent.exists()]
        try:
            path = _first_free(path) if numbered else path
        except OSError as error:
            raise RunError(f"cannot create a run {path}: {durable_io.describe(error)}") from error
        run = cls(
            path,
            {
                "format": FORMAT,
                "id": uuid.uuid4().hex,
                "kind": kind,
                "seed": int(seed),
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "command": sys.argv,
                "config": config,
                "config_sha256": [durable_io.sha256(text)],
                "versions": versions(),
                "machine": {"system": platform.platform(), "cores": usable_cores()},
                "commit": git_commit(),
                **({"job": job} if (job := ranks.job_name()) else {}),
            },
        )
        cls._must_be_new(path)
        if path.exists() and not (path.is_dir() and _only_begun(path)):
            cls._must_be_new(path)  # somebody may have made one meanwhile
            raise RunError(f"{path} is not empty and not a run; choose a new folder for --run")
        run._made = above
        try:
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
            durable_io.fsync_folder(path.absolute().parent)
        except OSError as error:
            raise RunError(f"cannot create the run {path}: {durable_io.describe(error)}") from error
        with run.lock():  # of two that were given the same folder one makes the run
            cls._must_be_new(path)
            run.update()
            durable_io.replace_file(path / "config.toml", text)
        return run

    @classmethod
    def _must_be_new(cls, path: Path) -> None:
        if cls.is_run(path):
            again = f"continue it with --resume {as_word(path)} or choose another --run"
            raise RunError(f"{path} is a run already; {again}")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunDir":
        """Open an existing run for reading (take `lock()` to write).

        Raises:
            RunError: it is not a run; CheckpointError: its files are damaged.
        """
        path = Path(path)
        if not cls.is_run(path):
            what = (
                "does not exist"
                if not path.exists()
                else "is not a run directory (it has no run.json)"
            )
            raise RunError(f"{path} {what}; `playout list runs` shows the runs below this folder")
        where = path / "run.json"
        try:
            record = durable_io.check_seal(
                durable_io.read_json(where, max_bytes=_MAX_CONFIG_BYTES), where, FORMAT
            )
            shape = {"kind": str, "seed": int, "id": str, "config": dict, "config_sha256": list}
            if any(type(record.get(key)) is not kind for key, kind in shape.items()):
                raise CheckpointError(f"{where} is malformed")
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; put a copy of it back, or begin a new run with the settings that "
                f"{path / 'config.toml'} holds"
            ) from error
        settings = path / "config.toml"
        # It may be missing: a kill right after creation; then the next writer puts it back.
        there = settings.exists() or settings.is_symlink()
        if there and durable_io.hash_file(settings)[1] not in record["config_sha256"]:
            raise CheckpointError(
                f"{settings} was edited or damaged after the run began; delete it and it is "
                "written again as it was (run.json holds it); other settings need a new run"
            )
        return cls(path, record)

    @classmethod
    def open_or_create(
        cls, path: str | os.PathLike[str], *, kind: str, config: dict[str, Any], seed: int
    ) -> "RunDir":
        """Open the run if it is there, else create it; an existing run keeps its settings."""
        if not cls.is_run(Path(path)):
            return cls.create(path, kind=kind, config=config, seed=seed)
        run = cls.open(path)
        if run.kind != kind:
            raise RunError(f"{path} is a run of kind {run.kind}, not {kind}")
        return run

    @staticmethod
    def is_run(path: Path) -> bool:
        """Whether the folder holds a run.json."""
        return (path / "run.json").exists() or (path / "run.json").is_symlink()

    def update(self, **fields: Any) -> None:
        """Set fields of run.json, atomically; in a job, to the same on all ranks."""
        self._record = durable_io.seal({**self._record, **fields})
        if ranks.is_first():
            data = durable_io.encode_json(self._record)
            durable_io.replace_file(self.path / "run.json", data)

    def change_config(self, **changes: Any) -> None:
        """Change top-level settings of a run (a longer budget, say); run.json keeps the history."""
        step = next((step for step, _ in checkpoints.newest_first(self._folder)), None)
        before = {key: self.config.get(key) for key in changes}
        change = to_dict({"step": step, "from": before, "to": changes})
        self._set_config(changes, changes=[*self._record.get("changes", []), change])

    def complete_config(self, **settings: Any) -> None:
        """Add what was decided before the first update, as if the run had begun with it."""
        self._set_config(settings)

    def _set_config(self, settings: dict[str, Any], **fields: Any) -> None:
        config = to_dict({**self.config, **settings})
        text = as_toml(config)
        # Both digests are good between the two writes: a kill there leaves a run that opens.
        digests = [durable_io.sha256(text), self._record["config_sha256"][0]]
        self.update(config=config, config_sha256=digests, **fields)
        if ranks.is_first():
            durable_io.replace_file(self.path / "config.toml", text)

    def discard_unused(self) -> None:
        """Remove a run that no update has been made in, such as one that could not begin.

        What another process trains in stays, as does a run that is in its place by now.
        """
        if not ranks.is_first():
            return
        metrics = self.path / "metrics.jsonl"
        with contextlib.suppress(RunError, OSError):  # why it could not begin says more
            with self.lock():
                used = metrics.exists() and metrics.stat().st_size
                if used or self.find() is not None or RunDir.open(self.path).id != self.id:
                    return
                durable_io.remove(self.path / "run.json")  # from here on nobody finds a run
            durable_io.remove(self.path)
            for parent in self._made:
                parent.rmdir()  # one that others use by now stays

    def subrun(self, name: str) -> Path:
        """The folder of a stage inside this run; open or create a RunDir there."""
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"a stage needs a plain name, not {name!r}")
        return self.path / name

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing; sweeps up what a killed writer left half-made.

        The thread that holds it may ask again, by the same object: the lock ends with the
        outermost one. In a job rank 0 holds it for all.

        Raises:
            RunError: another process holds it (named by its pid), or the folder cannot be written.
        """
        if self._lock_thread == threading.get_ident() or not ranks.is_first():
            yield
            return
        path = self.path / "lock"
        key = str(path.resolve())
        if key in _locked:
            raise RunError(f"{self.path} is in use by this process already")
        try:
            descriptor = durable_io.open_regular(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise RunError(f"cannot lock {self.path}: {durable_io.describe(error)}") from error
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise RunError(
                    f"{self.path} is in use by process {owner}; "
                    "wait for it, stop it, or choose another --run"
                ) from error
            _locked.add(key)
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
                self._sweep()
            except OSError as error:
                raise RunError(
                    f"cannot write in {self.path}: {durable_io.describe(error)}"
                ) from error
            self._lock_thread = threading.get_ident()
            yield
        finally:
            self._lock_thread = 0
            _locked.discard(key)
            os.close(descriptor)

    def _sweep(self) -> None:
        if self.is_run(self.path) and not (self.path / "config.toml").exists():
            text = as_toml(self.config)
            if durable_io.sha256(text) not in self._record["config_sha256"]:
                self.update(config_sha256=[durable_io.sha256(text)])
            durable_io.replace_file(self.path / "config.toml", text)
        for folder in (self.path, self._folder):
            if not folder.is_dir() or folder.is_symlink():
                raise RunError(f"{folder} is not a folder; the run cannot be written")
            for aside in sorted(folder.glob("*.tmp")):
                target = folder / aside.name.removesuffix(".old.tmp")
                if aside.name.endswith(".old.tmp") and not target.exists():
                    os.rename(aside, target)  # killed between the two renames of a replacement
                else:
                    durable_io.remove(aside)

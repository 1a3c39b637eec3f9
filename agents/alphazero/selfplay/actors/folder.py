"""The folder between actors and a learner: files of games that appear, are read, and vanish.

    FOLDER/folder.json   the run that it belongs to
    FOLDER/*.games       finished games that nobody has learned from yet
    FOLDER/*.read        read by the learner, and not yet in a checkpoint of its run
    FOLDER/aside/        files that could not be used
    FOLDER/*.tmp         being written, under a name of one of the above

An actor writes aside, syncs and renames. The learner renames what it has read, and deletes it when
a checkpoint that knows of it is on the disk, so that either may be killed at any instant: what no
checkpoint knows of is read again. Whatever else lies there stays as it is. Left out: what a file
holds (game_file.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from playout.agents.alphazero.selfplay.actors.game_file import NAME, SUFFIX
from playout.agents.runs.checkpoint import durable_io
from playout.errors import CheckpointError, ConfigError, RunError

FORMAT = "playout.games_folder.v1"
STAMP, READ, ASIDE = "folder.json", ".read", "aside"
_BEGUN = re.compile(rf"({NAME.pattern}|{re.escape(STAMP)}\.[0-9a-f]{{16}})\.tmp")
_IN_THE_WAY = {errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}
_ABANDONED_SECONDS = 3600.0  # a file that somebody has begun to write so long ago is swept


class GamesFolder:
    """The folder of a run's games.

    Args:
        path: the folder; made if it is not there.
        run: the identity of the run.
        where: the run's folder, for people to read.

    Raises:
        ConfigError: it belongs to another run, or holds something else.
    """

    def __init__(self, path: Path, *, run: str, where: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._claim({"format": FORMAT, "run": run, "where": str(where.absolute())})
        except OSError as error:
            raise RunError(f"cannot use {path}: {durable_io.describe(error)}") from error

    def _claim(self, stamp: dict[str, Any]) -> None:
        """Stamps the folder, or finds the stamp of the same run."""
        if not _is_stamped(self.path):
            _must_be_new(self.path)
            target = self.path / STAMP
            aside = self.path / f"{STAMP}.{secrets.token_hex(8)}.tmp"
            durable_io.write_new(aside, [durable_io.encode_json(durable_io.seal(stamp))])
            try:
                # Of two that begin at once, one may write it; a link does not replace.
                os.link(aside, target)
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                os.replace(aside, target)
            finally:
                durable_io.remove(aside)
            durable_io.fsync_folder(self.path)
        _must_be_stamped_by(self.path, stamp["run"])

    def publish(self, name: str, pieces: Iterable[Any]) -> None:
        """Makes a file appear, whole and durable.

        Raises:
            RunError: it cannot be written; nothing of it is left.
        """
        aside = self.path / f"{name}.tmp"
        try:
            durable_io.write_new(aside, pieces)
            os.rename(aside, self.path / name)
            durable_io.fsync_folder(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                durable_io.remove(aside)
            raise RunError(
                f"cannot publish games in {self.path}: {durable_io.describe(error)}"
            ) from error

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.path)
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {durable_io.describe(error)}") from error

    def unread(self) -> list[str]:
        """Names of files that nobody has read, those of the oldest networks first."""
        return sorted(one for one in self._names() if one.endswith(SUFFIX))

    def strangers(self) -> list[str]:
        """Names of what does not belong here."""
        return sorted(
            one
            for one in self._names()
            if one != ASIDE
            and not _may_be_in_a_new_folder(one)
            and not one.endswith(SUFFIX)  # the learner looks into it
            and _published_as(one) is None
        )

    def mark_read(self, name: str) -> None:
        """Notes that the learner has a file's games."""
        self._rename(name, name.removesuffix(SUFFIX) + READ)

    def set_aside(self, name: str) -> None:
        """Moves a file that cannot be used to where nobody reads it."""
        if not (self.path / ASIDE).is_dir():
            self._rename(ASIDE, f"{ASIDE}.{secrets.token_hex(8)}")  # some file of that name
        try:
            os.makedirs(self.path / ASIDE, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot make {self.path / ASIDE}: {durable_io.describe(error)}"
            ) from error
        self._rename(name, f"{ASIDE}/{name}")

    def _rename(self, old: str, new: str) -> None:
        try:
            try:
                os.rename(self.path / old, self.path / new)
            except OSError as error:
                # A folder that is called like a file, over one that is there already.
                if error.errno not in _IN_THE_WAY:
                    raise
                os.rename(self.path / old, self.path / f"{new}.{secrets.token_hex(8)}")
        except FileNotFoundError:  # somebody has cleared up
            return
        except OSError as error:
            raise RunError(
                f"cannot rename {self.path / old}: {durable_io.describe(error)}"
            ) from error

    def remove_read(self, names: Iterable[str]) -> None:
        """Deletes files that were read, by the names under which they were published, for good."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path / (name.removesuffix(SUFFIX) + READ))
        durable_io.fsync_folder(self.path)

    def recover(self, learned: Collection[str]) -> list[str]:
        """Puts the folder in the state that a checkpoint knows, as a learner begins.

        Files that the checkpoint has `learned` from are deleted, others that were read by a process
        that is gone can be read again; what killed actors had begun to write is swept.

        Returns:
            Names of files that are to be read again.
        """
        again = []
        for one in sorted(self._names()):
            name = _published_as(one)
            if name is not None:
                if name in learned:
                    self.remove_read([name])
                else:
                    self._rename(one, name)
                    again.append(name)
        for name in learned:  # a power cut may have undone the renaming
            with contextlib.suppress(OSError):
                os.unlink(self.path / name)
        self.sweep()
        return again

    def sweep(self) -> None:
        """Deletes files that somebody began to write here long ago and never finished."""
        for one in filter(_BEGUN.fullmatch, self._names()):
            with contextlib.suppress(OSError):
                path = self.path / one
                if time.time() - path.lstat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()


def check_folder(path: Path, *, run: str) -> None:
    """Refuses a folder as `GamesFolder` would, and makes and stamps none.

    Raises:
        ConfigError: it belongs to another run, or holds something else.
    """
    try:
        if _is_stamped(path):
            _must_be_stamped_by(path, run)
        elif path.exists():
            _must_be_new(path)
    except OSError as error:
        raise RunError(f"cannot use {path}: {durable_io.describe(error)}") from error


def _is_stamped(path: Path) -> bool:
    """Whether a folder has a stamp, of whatever run."""
    return (path / STAMP).exists() or (path / STAMP).is_symlink()


def _must_be_new(path: Path) -> None:
    """Raises ConfigError where a folder without a stamp holds what is no game's."""
    others = [one for one in os.listdir(path) if not _may_be_in_a_new_folder(one)]
    if others:
        raise ConfigError(f"{path} holds other things ({min(others)}): games need a new folder")


def _must_be_stamped_by(path: Path, run: str) -> None:
    """Raises ConfigError where a stamp is another run's, or none."""
    target = path / STAMP
    try:
        found = durable_io.check_seal(durable_io.read_json(target), target, FORMAT)
    except CheckpointError as error:
        raise ConfigError(f"{error}; games need a new folder") from None
    if found.get("run") != run:
        raise ConfigError(f"{path} takes the games of {found.get('where')}; choose another folder")


def _may_be_in_a_new_folder(name: str) -> bool:
    """Whether what is called so belongs to a folder of games, or to the file system.

    The stamp does: another process that begins at the same time may just have written it.
    """
    hidden = name.startswith(".")  # a network file system keeps such things
    return hidden or name == STAMP or bool(NAME.fullmatch(name) or _BEGUN.fullmatch(name))


def _published_as(name: str) -> str | None:
    """Under which name a file was published that is called `name` since it was read; else None."""
    published = name.removesuffix(READ) + SUFFIX
    return published if name.endswith(READ) and NAME.fullmatch(published) else None

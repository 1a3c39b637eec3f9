"""`GamesReader`: a learner's side of the folder of games: each file is taken once, or set aside.

It remembers what it has taken until that is in a checkpoint on the disk, so that a learner that is
killed neither loses a game nor learns from it again: what the last checkpoint does not know is read
once more. Files that cannot be used are named once. Left out: when to read (trainer.py), and what
is done to files (folder.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from playout.agents.alphazero.replay import Examples
from playout.agents.alphazero.selfplay import Counts
from playout.agents.alphazero.selfplay.actors.folder import GamesFolder
from playout.agents.alphazero.selfplay.actors.game_file import NAME, Header, read
from playout.agents.runs.console import counted
from playout.agents.runs.directory import RunDir
from playout.envs.core.game import NativeGame
from playout.errors import CheckpointError, DataError


def to_people(line: str) -> None:
    """Prints a line beside whatever shows the progress."""
    print(line, file=sys.stderr, flush=True)


class GamesReader:
    """Reads the files of a folder for the learner of a run.

    Args:
        folder: where they appear.
        run: the run, whose networks have to have played.
        games: what it learns, by the texts under which it stores them.
        finals: whether it learns from how games end.
        stale_after: games are left out whose network is more than so many updates older than the
            newest one that is saved; 0: none are.
        say: is told what people should know.

    Attributes:
        stale: what was done for games that were left out.
        files: how many were learned from, were left out, and were set aside.
    """

    def __init__(
        self,
        folder: GamesFolder,
        run: RunDir,
        games: Mapping[str, NativeGame],
        *,
        finals: bool,
        stale_after: int,
        say: Callable[[str], None] = to_people,
    ) -> None:
        self.folder, self.run, self.games, self.say = folder, run, games, say
        self._finals, self._stale_after = finals, stale_after
        self.stale = Counts()
        self.files = {"learned": 0, "stale": 0, "aside": 0}
        self._consumed: dict[str, int] = {}  # -> the checkpoint from which on it is known
        self._named: set[str] = set()  # what does not belong there
        self._begun = False
        self._held: tuple[str, Header, Examples] | None = None  # read, but not taken yet

    @property
    def holds(self) -> bool:
        """Whether a file has been read for which there was no room."""
        return self._held is not None

    def begin(self) -> None:
        """Puts the folder in the state of the checkpoint that the run goes on from, once."""
        if self._begun:
            return
        self._begun = True
        again = self.folder.recover(self._consumed)
        if again:
            files = counted(len(again), "file")
            self.say(f"note: {files} of games will be read again, from the checkpoint on")

    def take(self, room: Callable[[Header], bool], update: int) -> tuple[Header, Examples] | None:
        """The next file that is not stale; None where there is none, or no room for it.

        Args:
            room: whether the positions of a file may be taken.
            update: of the learner, under way; the next checkpoint will know of it.
        """
        newest: int | None = None
        while (found := self._next()) is not None:
            name, header, examples = found
            newest = self._saved() if newest is None else newest
            stale = 0 < self._stale_after < newest - header.step
            if not stale and not room(header):
                self._held = found
                return None
            self._held = None
            self._consumed[name] = update + 1
            self.folder.mark_read(name)
            self.files["stale" if stale else "learned"] += 1
            if not stale:
                return header, examples
            self.stale.add(header.counts)
        return None

    def _next(self) -> tuple[str, Header, Examples] | None:
        """The oldest file that can be used; others are set aside on the way to it."""
        if self._held is not None:
            return self._held
        for name in self.folder.unread():
            if name in self._consumed:  # it has appeared again, whoever put it there
                self.folder.mark_read(name)
                continue
            path = self.folder.path / name
            try:
                found = read(path, self.games, run=self.run.id, finals=self._finals)
                return name, *found
            except DataError as error:
                self.folder.set_aside(name)
                self.files["aside"] += 1
                self.say(f"note: {_shown(name)} is set aside: {error}")
            except OSError:  # a file system that is away for a moment: it is looked at again
                continue
        return None

    def _saved(self) -> int:
        """The newest checkpoint of the run."""
        entry = self.run.find()
        return 0 if entry is None else entry.step

    def clear_up(self) -> None:
        """Deletes what the newest checkpoint knows, and names what does not belong there."""
        if self._consumed:
            saved = self._saved()
            known = [name for name, since in self._consumed.items() if since <= saved]
            if known:
                self.folder.remove_read(known)
                self._consumed = {n: s for n, s in self._consumed.items() if s > saved}
                self.folder.sweep()
        for name in self.folder.strangers():
            if name not in self._named:
                self._named.add(name)
                self.say(
                    f"note: {self.folder.path} holds {_shown(name)}, which is no file of games"
                )

    def state_dict(self) -> dict[str, Any]:
        """What was taken."""
        return {
            "consumed": dict(self._consumed),
            "files": dict(self.files),
            "stale": self.stale.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        try:
            self._consumed = {str(name): int(since) for name, since in state["consumed"].items()}
            self.files = {key: int(state["files"][key]) for key in self.files}
            self.stale = Counts.from_state(state["stale"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CheckpointError("the checkpoint does not say which games it knows") from None
        if not all(map(NAME.fullmatch, self._consumed)):  # files of these names are deleted
            raise CheckpointError("the checkpoint knows games by names that no file has")


def _shown(name: str) -> str:
    """A name that anybody may have chosen, in one line."""
    return ascii(name)[1:-1][:120]

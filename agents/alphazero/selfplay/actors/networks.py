"""`NewestNetwork`: the networks of a run that is being trained, each as soon as it is saved.

The learner writes a checkpoint aside and renames it, and removes old ones: a reader may find one
gone that was there a moment ago, and looks again. Left out: playing with it (actor.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playout.agents.alphazero.player import network_of
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.runs.directory import RunDir
from playout.errors import CheckpointError, RunError

POLL_SECONDS = 0.5
PATIENCE = 30.0  # seconds for which what cannot be read may be half-written or on its way


@dataclass(frozen=True, slots=True)
class Published:
    """A network that the learner has saved.

    Attributes:
        net: it.
        step: the checkpoint's number.
        done: the share of the run behind it, 0 to 1; from 1 on the learner needs no more games.
    """

    net: BoardNetwork
    step: int
    done: float


class NewestNetwork:
    """Finds the newest network of a run, again and again.

    Args:
        run: the run.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.step = -1  # of the network that was handed out last
        self._failing_since: float | None = None

    def poll(self) -> Published | None:
        """A network that is newer than the last one, or an older one if the run went back.

        Raises:
            RunError: for half a minute nothing could be read.
        """
        try:
            entry = self.run.find()
            if entry is None or entry.step == self.step:
                self._failing_since = None
                return None
            net, step = network_of(self.run, entry.step)
        except (RunError, CheckpointError):
            now = time.monotonic()
            if self._failing_since is None:
                self._failing_since = now
            if now - self._failing_since > PATIENCE:
                raise
            return None
        self._failing_since, self.step = None, step
        done, total = (float(entry.info.get(key, 0)) for key in ("done", "total"))
        return Published(net, step, done / total if total > 0 else 0.0)


def wait_for_run(path: Path, seconds: float, say: Callable[[str], None]) -> RunDir:
    """Opens a run that a learner may only be about to make, once it has saved its first network.

    Args:
        path: the run's folder.
        seconds: to wait for it to appear; for its first network there is no limit.
        say: is told what it waits for.

    Raises:
        RunError: it is not there after so many seconds.
    """
    end, told = time.monotonic() + seconds, False
    while True:
        try:
            run = RunDir.open(path)
            if run.find() is not None:
                # Its plan is complete by now, which it may not have been a moment ago.
                return RunDir.open(path)
            what = "its first network"
        except RunError:
            if time.monotonic() >= end:
                raise
            what = "it to begin"
        if not told:
            say(f"waiting for {path}: for {what}")
            told = True
        time.sleep(POLL_SECONDS)

"""The training loop that PPO, AlphaZero and every language stage share.

It restores, calls `update`, writes metrics, evaluates, saves, shows progress and stops cleanly.
What a trainer computes never depends on when the loop saves or how often it was stopped: saving
only reads, evaluations are counted in updates, and metrics are cut back to the checkpoint that
training continues from. Leaves out all learning.
"""

import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from playout.agents.runs.checkpoint.codec import is_torch
from playout.agents.runs.console import Console, Mode, RemainingTime, make_console
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import MetricsLog
from playout.agents.runs.tensorboard import TensorBoardView
from playout.agents.runs.trainer import Trainer
from playout.errors import DivergedError, EnvironmentFault, RunError, StoppedError

# Metrics of these groups describe play and may lack a value; all others must be finite.
_MAY_LACK_VALUE = frozenset({"rollout", "eval", "time", "selfplay", "search"})

T = TypeVar("T", bound=Trainer)


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for reuse; returns whether it could be told.

    A gradient step frees and asks again for the same few megabytes many times a second. By default
    large pieces go back to the system at once, and the next step pays for every page anew: a tenth
    of the time of a small network's step. Libraries other than glibc are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # names of mallopt(3)
    largest = 32 << 20  # bytes; glibc takes no larger threshold for mapping
    settings = ((mmap_threshold, largest), (trim_threshold, 1 << 30), (top_pad, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)


class Interrupted(SystemExit):
    """Training stopped on a signal after saving; the exit code is 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = number


class _Signals:
    """Turns the first SIGINT or SIGTERM into a request; the second acts as if nobody had asked.

    Args:
        notify: is called when the request comes.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self.received = 0
        self.notify = notify

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        # The default action needs no interpreter: a second Ctrl-C ends even a native call.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        text = "\nstopping: finishing this update, then saving (again to stop at once)\n"
        show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
        with suppress(OSError):  # nobody may be listening
            os.write(2, (show_cursor + text).encode("ascii"))
        self.notify()

    @contextmanager
    def watch(self) -> Iterator["_Signals"]:
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number in before:
                signal.signal(number, self._handle)
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def stop_at_once(left: str) -> Iterator[None]:
    """Lets SIGINT and SIGTERM end the work inside at once, where there is nothing to save.

    Args:
        left: what the person is told is left now.

    Raises:
        Interrupted: a signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        for one in numbers:  # threads may still finish what they do; a second signal ends them too
            signal.signal(one, signal.SIG_DFL)
        with suppress(OSError):  # nobody may be listening
            os.write(2, f"\nstopped: {left}\n".encode("utf-8", "backslashreplace"))
        raise Interrupted(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _check_metrics(metrics: Mapping[str, float], update: int, last_good: str) -> None:
    for key, value in metrics.items():
        if (
            math.isfinite(value)
            or key.split("/", 1)[0] in _MAY_LACK_VALUE
            or "explained_variance" in key
        ):
            continue
        raise DivergedError(
            f"{key} became {value} in update {update}: training diverged; {last_good}"
        )


def _check_weights(value: Any, where: str, last_good: str) -> None:
    """Refuse NaN in any float tensor of a state that is about to become a checkpoint."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_weights(item, f"{where}.{key}" if where else str(key), last_good)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_weights(item, f"{where}.{index}", last_good)
    elif is_torch(value) and value.is_floating_point() and bool(value.isnan().any()):
        raise DivergedError(f"{where} holds NaN: training diverged; {last_good}")


class _Loop:
    """One call of `train`: the trainer, its run, and where they stand."""

    def __init__(
        self, trainer: Trainer, run: RunDir, console: Console, *, keep: int, eval_every: int
    ) -> None:
        self.trainer, self.run, self.console, self.keep = trainer, run, console, keep
        self.eval_every = eval_every
        self.updates = 0
        self.saved_at: int | None = None  # the update that the newest checkpoint holds
        self.abandoned = False  # stopped where the state belongs to no finished update
        self.elapsed_before = 0.0
        self.started = time.monotonic()
        self.best = -math.inf
        self.save_cost = 0.0
        self.log: MetricsLog
        self.view: TensorBoardView
        self.remaining: RemainingTime

    @property
    def elapsed(self) -> float:
        return self.elapsed_before + time.monotonic() - self.started

    def last_good(self) -> str:
        if self.saved_at is None:
            return "no checkpoint was saved yet"
        return f"the last good checkpoint is {self.saved_at} in {self.run.path}"

    def restore(self) -> None:
        entry, rows, purge_step = self.run.find(), None, 0
        if entry is not None:
            step, state = self.run.load()
            self.trainer.load_state_dict(state)
            self.updates = self.saved_at = step
            self.elapsed_before = float(entry.info.get("elapsed", 0.0))
            rated = [c.metric for c in self.run.checkpoints() if c.metric is not None]
            self.best = max(rated, default=-math.inf)
            rows, purge_step = entry.info.get("metrics", {}), self.trainer.progress[0] + 1
        self.log = MetricsLog(self.run.path, rows)
        self.view = TensorBoardView(self.run.path / "tb", purge_step=purge_step)
        self.remaining = RemainingTime(self.trainer.progress[0])

    def save(self, metric: float | None = None) -> None:
        if self.saved_at == self.updates:
            return
        begun = time.monotonic()
        state = self.trainer.state_dict()
        _check_weights(state, "", self.last_good())
        done, total = self.trainer.progress
        info = {"done": done, "total": total, "elapsed": self.elapsed, "metrics": self.log.mark()}
        self.run.save(self.updates, state, metric=metric, keep=self.keep, info=info)
        self.saved_at = self.updates
        self.save_cost = time.monotonic() - begun

    def close(self) -> None:
        """Write what the view still holds and close the files."""
        try:
            self.view.close()
        finally:
            self.log.close()

    def _update(self) -> dict[str, float]:
        """The trainer's update; its errors name the checkpoint that is left.

        After a fault of an environment, a trainer that says it `survives_faults` is saved first.
        """
        try:
            return dict(self.trainer.update())
        except EnvironmentFault as error:
            if self.trainer.survives_faults:
                self.save()
            raise EnvironmentFault(f"{error}; {self.last_good()}") from error
        except DivergedError as error:
            raise DivergedError(f"{error}; {self.last_good()}") from error

    def step(self) -> float | None:
        """One update, its metrics and, if due, its evaluation; returns the metric of a new best.

        The last update is always rated: where rates are annealed, it is likely to be the best.
        Shortly before it, no other is.
        """
        metrics = self._update()
        self.updates += 1
        _check_metrics(metrics, self.updates, self.last_good())
        metric = evaluation_time = None
        if self._evaluation_due():
            begun = time.monotonic()
            try:
                found = self.trainer.evaluate()
            except StoppedError:
                self.abandoned = True  # a resumed run makes this update, and rates it, again
                raise
            evaluation_time = time.monotonic() - begun
            metrics.update(found)
            metric = found.get(self.trainer.best_metric)
        done, total = self.trainer.progress
        self.remaining.add(done, evaluation_time)
        each = self.remaining.seconds_a_unit
        metrics["time/fps"] = 1 / each if each else math.nan
        metrics["time/elapsed"] = self.elapsed
        self.log.append(self.updates, done, metrics)
        self.view.append(done, metrics)
        headline = self.trainer.headline(metrics)
        self.console.update(done, total, headline, left=self._seconds_left(total), each=each)
        self.metrics = metrics
        return None if metric is None or math.isnan(metric) else metric

    def _evaluation_due(self) -> bool:
        every = self.eval_every
        if not every:
            return False
        due = self.updates % every == 0 and self._updates_left() > every / 4
        return due or self.trainer.finished

    def _seconds_left(self, total: int) -> float:
        planned = self.trainer.seconds_left()
        if planned is not None:
            return planned
        every = self.eval_every
        return self.remaining.left(total, math.ceil(self._updates_left() / every) if every else 0)

    def _updates_left(self) -> float:
        done, total = self.trainer.progress
        return self.updates * (total - done) / max(done, 1)


def train(
    trainer: T,
    run: RunDir,
    *,
    save_every: int | float = 60.0,
    eval_every: int = 0,
    keep: int = 3,
    console: Mode | bool | Console = True,
    callbacks: Sequence[Callable[[T, dict[str, float]], None]] = (),
) -> None:
    """Train until the trainer is finished, from the run's latest checkpoint if it has one.

    Args:
        trainer: see trainer.py.
        run: where everything goes; locked while training.
        save_every: updates between saves if an int, seconds if a float. It changes nothing but what
            a crash can lose.
        eval_every: updates between evaluations; one more follows the last update. 0 for none.
        keep: how many of the newest checkpoints stay; the best stays too.
        console: "auto" (or True), "live", "plain", "quiet" (or False), or a Console.
        callbacks: called as callback(trainer, metrics) after every update.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        DivergedError: a loss or a weight is not finite; the last good checkpoint is named.
        RunError: the run is in use, damaged, or cannot be written.
    """
    keep_freed_memory()
    shown = make_console(console) if isinstance(console, bool | str) else console
    by_count = isinstance(save_every, int)
    if save_every <= 0 or eval_every < 0:
        raise ValueError("save_every must be positive and eval_every not negative")
    with run.lock(), _Signals(trainer.stop_soon).watch() as signals:
        loop = _Loop(trainer, run, shown, keep=keep, eval_every=eval_every)
        loop.restore()
        done, total = trainer.progress
        shown.start(trainer.title or run.kind, done, total, trainer.unit)
        saved = time.monotonic()
        try:
            # Everything below may meet a full disk; whatever it was, the last good save is named.
            while not trainer.finished and not signals.received:
                try:
                    metric = loop.step()
                except StoppedError:
                    if not signals.received:
                        raise
                    break
                for callback in callbacks:
                    callback(trainer, loop.metrics)
                better = metric is not None and metric >= loop.best
                if better:
                    loop.best = float(metric)  # type: ignore[arg-type]
                # Saving takes at most a twentieth of the time, however large the state.
                wait = max(save_every, 20 * loop.save_cost)
                by_time = not by_count and time.monotonic() - saved >= wait
                if better or by_time or (by_count and loop.updates % save_every == 0):
                    loop.save(metric)
                    saved = time.monotonic()
            if not loop.abandoned:
                loop.save()
            if signals.received:
                shown.stop()
                again = f"continue with: {run.resume_command}"
                left = "nothing was saved yet"
                if loop.saved_at is not None:
                    left = f"saved after update {loop.saved_at}"
                shown.say(f"{left}; {again}")
                raise Interrupted(signals.received)
            loop.close()
        except RunError as error:
            raise RunError(f"{error}; {loop.last_good()}") from error
        finally:
            shown.stop()
            with suppress(RunError):  # the reason that brought us here says more
                loop.close()

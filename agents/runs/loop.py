"""The training loop that PPO, AlphaZero and every language stage share.

It restores, calls `update`, writes metrics, evaluates, saves, shows progress and stops cleanly.
What a trainer computes never depends on when the loop saves or how often it was stopped: saving
only reads, evaluations are counted in updates, and metrics are cut back to the checkpoint that
training continues from. The ranks of a job turn together, by one message an update; rank 0 writes,
shows and rates. Leaves out all learning.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from playout.agents.runs import ranks
from playout.agents.runs.checkpoint.finite import check_metrics, check_weights
from playout.agents.runs.checkpoint.history import OwnStates
from playout.agents.runs.console import Console, Mode, RemainingTime, make_console
from playout.agents.runs.devices import keep_freed_memory
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import MetricsLog
from playout.agents.runs.metrics.log import FILE as METRICS
from playout.agents.runs.metrics.tensorboard import TensorBoardView
from playout.agents.runs.signals import Interrupted, Signals
from playout.agents.runs.trainer import Trainer
from playout.errors import (
    ConfigError,
    DivergedError,
    EnvironmentFault,
    PeerError,
    RunError,
    SharedFault,
    StoppedError,
)

T = TypeVar("T", bound=Trainer)


class _Loop:
    """One call of `train`: the trainer, its run, and where they stand."""

    def __init__(
        self,
        trainer: Trainer,
        run: RunDir,
        console: Console,
        signals: Signals,
        *,
        save_every: int | float,
        keep: int,
        eval_every: int,
        evaluations: int,
    ) -> None:
        self.trainer, self.run, self.console, self.keep = trainer, run, console, keep
        self.signals, self.save_every, self.eval_every = signals, save_every, eval_every
        self.evaluations = evaluations  # wanted in all; 0: every `eval_every` updates
        self.evaluated, self.evaluated_at = 0, 0  # how many were made, the latest at this update
        self.save_now = False  # as rank 0 decides by its clock
        self.note = ""  # what a person should know about how the run goes on
        self.updates = 0
        self.saved_at: int | None = None  # the update that the newest checkpoint holds
        self.metrics: dict[str, float] = {}  # of the last update that was done in full
        self.abandoned = False  # stopped where the state belongs to no finished update
        self.elapsed_before = 0.0
        self.started = time.monotonic()
        self.best = -math.inf
        self.save_cost = 0.0
        self.save_time = time.monotonic()
        self._finished, self._stopping = False, 0  # what any rank has met
        self.log: MetricsLog | None = None  # of rank 0 only
        self.view: TensorBoardView | None = None
        self.remaining: RemainingTime

    @property
    def elapsed(self) -> float:
        return self.elapsed_before + time.monotonic() - self.started

    @property
    def finished(self) -> bool:
        return self._finished or self.trainer.finished

    @property
    def stopping(self) -> int:
        """The signal that ends the run, as all ranks know; 0 for none."""
        return self.signals.received if ranks.world() == 1 else self._stopping

    def last_good(self) -> str:
        if self.saved_at is None:
            return "no checkpoint was saved yet"
        return f"the last good checkpoint is {self.saved_at} in {self.run.path}"

    def restore(self) -> None:
        entry, rows, purge_step = self.run.find(), None, 0
        if ranks.world() > 1:  # of a shared folder, others may see it later
            step = ranks.first(None if entry is None else entry.step)
            entry = None if step is None else self.run.find(step)
        if entry is not None:
            step, state = self.run.load(entry.step)
            self.trainer.load_state_dict(state)
            self._restore_own(OwnStates(self.run, entry, state))
            self.updates = self.saved_at = step
            self.elapsed_before = float(entry.info.get("elapsed", 0.0))
            made = entry.info.get("evaluated", [0, 0])  # not told by earlier versions
            self.evaluated, self.evaluated_at = int(made[0]), int(made[1])
            rated = [c.metric for c in self.run.checkpoints() if c.metric is not None]
            self.best = max(rated, default=-math.inf)
            rows, purge_step = entry.info.get("metrics", {}), self.trainer.progress[0] + 1
        elif (self.run.path / METRICS).exists():  # stopped by force, or without a save
            self.note = "no checkpoint was saved yet: begins anew"
        if ranks.world() > 1:
            ranks.agree("what they begin from", self.trainer.digest())
        if ranks.is_first():
            self.log = MetricsLog(self.run.path, rows)
            self.view = TensorBoardView(self.run.path / "tb", purge_step=purge_step)
        self.remaining = RemainingTime(self.trainer.progress[0])

    def _restore_own(self, states: OwnStates) -> None:
        """What the ranks had for themselves, by as many ranks or by another number."""
        if len(states) == ranks.world():
            self.trainer.load_rank_state(states[ranks.rank()])
        elif lost := self.trainer.deal_rank_states(states):
            self.note = f"saved by {len(states)} ranks, continued by {ranks.world()}: {lost}"

    def save(self, metric: float | None = None) -> None:
        if self.saved_at == self.updates:
            return
        begun = time.monotonic()
        state, own = self.trainer.state_dict(), self.trainer.rank_state()
        self._agree_on_weights(state)
        check_weights(state, "", self.last_good())
        check_weights(own, "", self.last_good())
        done, total = self.trainer.progress
        info: dict[str, Any] = {"done": done, "total": total, "elapsed": self.elapsed}
        info["evaluated"] = [self.evaluated, self.evaluated_at]
        if metric is not None:
            info["rated_by"] = self.trainer.best_metric
        if self.log is not None:
            info["metrics"] = self.log.mark()
        self.run.save(self.updates, state, own=own, metric=metric, keep=self.keep, info=info)
        self.saved_at = self.updates
        self.save_time = time.monotonic()
        self.save_cost = self.save_time - begun

    def _agree_on_weights(self, state: dict[str, Any]) -> None:
        """Refuses to save what only rank 0 has learned.

        Raises:
            DivergedError: unlike processors or libraries have computed other weights on a rank.
        """
        if ranks.world() == 1:
            return
        try:
            ranks.agree("what they have learned", self.trainer.weights_digest(state))
        except ConfigError as error:
            raise DivergedError(
                f"{error}; take machines that compute alike; {self.last_good()}"
            ) from error

    def close(self) -> None:
        """Write what the view still holds and close the files."""
        try:
            if self.view is not None:
                self.view.close()
        finally:
            if self.log is not None:
                self.log.close()

    def _update(self) -> dict[str, float]:
        """The trainer's update; its errors name the checkpoint that is left.

        After a fault of an environment, a trainer that says it `survives_faults` is saved first, if
        it has learned anything; of several ranks, if all of them are here with it.
        """
        try:
            return dict(self.trainer.update())
        except EnvironmentFault as error:
            together = ranks.world() == 1 or isinstance(error, SharedFault)
            if self.trainer.survives_faults and together and self.updates:
                self.save()
            raise EnvironmentFault(f"{error}; {self.last_good()}") from error
        except DivergedError as error:
            raise DivergedError(f"{error}; {self.last_good()}") from error

    def step(self) -> float | None:
        """One update, its metrics and, if due, its evaluation; returns the metric of that.

        The last update is always rated: where rates are annealed, it is likely to be the best.
        Shortly before it, no other is.
        """
        begun, before, waited = time.monotonic(), self.trainer.progress[0], ranks.seconds_waited()
        metrics = self._update()
        self.updates += 1
        check_metrics(metrics, self.updates, self.last_good())
        done, total = self.trainer.progress
        busy = time.monotonic() - begun - (ranks.seconds_waited() - waited)
        metric = evaluation_time = fault = None
        if self._evaluation_due():
            begun, found = time.monotonic(), dict[str, float]()
            try:
                found = self._evaluate()
            except EnvironmentFault as error:
                if ranks.world() > 1:
                    raise
                fault = error  # the update is sound: it is kept
            evaluation_time = time.monotonic() - begun
            self.evaluated, self.evaluated_at = self.evaluated + 1, self.updates
            metrics.update(found)
            metric = found.get(self.trainer.best_metric)
            done, total = self.trainer.progress
        self._agree(metrics, (done - before) / max(busy, 1e-9))
        self.remaining.add(done, evaluation_time)
        each = self.remaining.seconds_a_unit
        metrics["time/fps"] = 1 / each if each else math.nan
        metrics["time/elapsed"] = self.elapsed
        if self.log is not None and self.view is not None:
            self.log.append(self.updates, done, metrics)
            self.view.append(done, metrics)
        headline = self.trainer.headline(metrics)
        self.console.update(done, total, headline, left=self._seconds_left(total), each=each)
        self.metrics = metrics
        if fault is not None:
            self.save()
            raise EnvironmentFault(f"{fault}; {self.last_good()}") from fault
        return None if metric is None or math.isnan(metric) else metric

    def _agree(self, metrics: dict[str, float], units_a_second: float) -> None:
        """The message of an update: what any rank has met concerns all.

        Args:
            metrics: Of the update; how fast the slowest and the fastest rank is goes in.
            units_a_second: How fast the whole job would be if this rank waited for nobody.
        """
        by_time = not isinstance(self.save_every, int)
        # Saving takes at most a twentieth of the time, however large the state.
        wait = max(self.save_every, 20 * self.save_cost)
        self.save_now = by_time and time.monotonic() - self.save_time >= wait
        if ranks.world() == 1:
            return
        own = units_a_second / ranks.world()
        mine = [self.signals.received, self.finished, self.save_now * ranks.is_first(), own, -own]
        stopping, finished, save_now, fastest, slowest = ranks.largest(mine)
        self._stopping, self._finished, self.save_now = int(stopping), finished > 0, save_now > 0
        metrics["time/rank_fps_min"], metrics["time/rank_fps_max"] = -slowest, fastest

    def _evaluate(self) -> dict[str, float]:
        """The evaluation, by rank 0 or by all; everybody gets what it found.

        Raises:
            StoppedError: it was stopped; a resumed run makes the update, and rates it, again.
        """
        found: dict[str, float] | None = None
        if ranks.world() == 1 or self.trainer.evaluates_together:
            try:
                return self.trainer.evaluate()
            except StoppedError:
                self.abandoned = True
                raise
        if ranks.is_first():
            with self.signals.heeded(), suppress(StoppedError):
                found = self.trainer.evaluate()
        found, self._stopping = ranks.first((found, self.signals.received))
        if found is None:
            self.abandoned = True
            raise StoppedError("the evaluation was stopped")
        return found

    def _evaluation_due(self) -> bool:
        if not self.eval_every and not self.evaluations:
            return False
        left = self._updates_left()
        if self.evaluations:  # what is left of them is spread over what is planned by now
            since = self.updates - self.evaluated_at
            gap = (since + left) / max(1, self.evaluations - self.evaluated)
            due = since >= gap
        else:
            gap, due = self.eval_every, self.updates % self.eval_every == 0
        return (due and left > gap / 4) or self.trainer.finished

    def _seconds_left(self, total: int) -> float:
        planned = self.trainer.seconds_left()
        if planned is not None:
            return planned
        every, evaluations = self.eval_every, max(0, self.evaluations - self.evaluated)
        if every:
            evaluations = math.ceil(self._updates_left() / every)
        return self.remaining.left(total, evaluations)

    def _updates_left(self) -> float:
        done, total = self.trainer.progress
        return self.updates * (total - done) / max(done, 1)


def train(
    trainer: T,
    run: RunDir,
    *,
    save_every: int | float = 60.0,
    eval_every: int = 0,
    evaluations: int = 0,
    keep: int = 3,
    console: Mode | bool | Console = True,
    callbacks: Sequence[Callable[[T, dict[str, float]], None]] = (),
) -> None:
    """Train until the trainer is finished, from the run's latest checkpoint if it has one.

    In a job every rank calls it, with its own trainer and the same run.

    Args:
        trainer: see trainer.py.
        run: where everything goes; locked while training.
        save_every: updates between saves if an int, seconds if a float. It changes nothing but what
            a crash can lose.
        eval_every: updates between evaluations; one more follows the last update. 0 for none.
        evaluations: instead, how many there are in all, the last one after the last update: spread
            evenly over what is planned, also where the plan grows or shrinks on the way.
        keep: how many of the newest checkpoints stay; the best stays too.
        console: "auto" (or True), "live", "plain", "quiet" (or False), or a Console.
        callbacks: called as callback(trainer, metrics) after every update.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        DivergedError: a loss or a weight is not finite; the last good checkpoint is named.
        RunError: the run is in use, damaged, or cannot be written.
        PeerError: another rank of the job died; the last good checkpoint is named.
    """
    keep_freed_memory()
    ranks.start()
    shown = make_console(console) if isinstance(console, bool | str) else console
    if not ranks.is_first():
        shown = Console()
    if save_every <= 0 or min(eval_every, evaluations) < 0:
        raise ValueError("save_every must be positive, eval_every and evaluations not negative")
    if eval_every and evaluations:
        raise ValueError("give eval_every or evaluations, not both")
    with run.lock(), Signals(trainer.stop_soon).watch() as signals:
        loop = _Loop(
            trainer,
            run,
            shown,
            signals,
            save_every=save_every,
            keep=keep,
            eval_every=eval_every,
            evaluations=evaluations,
        )
        loop.restore()
        done, total = trainer.progress
        shown.start(trainer.title or run.kind, done, total, trainer.unit)
        if loop.note:
            shown.say(loop.note)
        loop.save_time = time.monotonic()
        try:
            # Everything below may meet a full disk; whatever it was, the last good save is named.
            while not loop.finished and not loop.stopping:
                try:
                    metric = loop.step()
                except StoppedError:
                    if not loop.stopping:
                        raise
                    break
                for callback in callbacks:
                    callback(trainer, loop.metrics)
                better = metric is not None and metric >= loop.best
                if better:
                    loop.best = float(metric)  # type: ignore[arg-type]
                by_count = isinstance(save_every, int) and loop.updates % save_every == 0
                if better or by_count or loop.save_now:
                    loop.save(metric)
            if not loop.abandoned:
                loop.save()
            if loop.stopping:
                shown.stop()
                again = f"continue with: {ranks.under_torchrun(run.resume_command)}"
                left = "nothing was saved yet"
                if loop.saved_at is not None:
                    left = f"saved after update {loop.saved_at}"
                elif not loop.metrics:  # a run without any does not stay
                    left, again = "no update was done in full", "begin anew with the same command"
                shown.say(f"{left}; {again}")
                raise Interrupted(loop.stopping)
            loop.close()
        except (RunError, PeerError) as error:
            raise type(error)(f"{error}; {loop.last_good()}") from error
        finally:
            shown.stop()
            with suppress(RunError):  # the reason that brought us here says more
                loop.close()

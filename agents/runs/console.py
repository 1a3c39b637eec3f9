"""What a person sees while something long runs: a live bar, plain lines, or nothing.

`Console` shows a training run; `progress` shows any other work of known length (games of a match,
positions to analyse). How long the rest takes comes from a monotonic clock, or from the trainer's
own plan. rich is imported only for the live bar. Leaves out what the numbers mean: a trainer's
`headline` picks the two to four that tell whether it learns.
"""

import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Literal, Protocol, TextIO

Mode = Literal["auto", "live", "plain", "quiet"]
_LIVE_SECONDS = 0.1  # between two drawings of the bar
_PLAIN_SECONDS = 10.0, 60.0  # between two lines: at least, and in a long run
_RECENT_UPDATES = 50  # whose median says what an update takes of late
_SLOW = 2.0  # times the median: more than that is counted as time that was lost now and then


def short_time(seconds: float) -> str:
    """42 s, 3 min 20 s, 2 h 05 min."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def about(seconds: float) -> str:
    """An estimate, no finer than it can be: about 40 s, about 4 min, about 2 h 10 min."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 55:
        return f"about {round(seconds, -1):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    hours, tens = minutes // 60, minutes % 60 // 10
    return f"about {hours} h" + (f" {tens}0 min" if tens else "")


def counted(count: int, unit: str) -> str:
    """A number of something: "1 update", "2,048 updates"."""
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def say_measuring() -> None:
    """Says that a run's speed is measured, which takes a while, before a budget in minutes."""
    print("Measuring how much fits into the time ...", file=sys.stderr, flush=True)


def short_number(value: float) -> str:
    """12, 3.4 k, 5.6 M: three figures are what a glance takes in."""
    # What three figures round up to the next unit is written in it: "1 M", not "1e+03 k".
    for limit, unit, suffix in ((999.5e6, 1e9, " G"), (999.5e3, 1e6, " M"), (1e4, 1e3, " k")):
        if abs(value) >= limit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


class RemainingTime:
    """How fast units are done, and how long the rest will take.

    A unit's time is the median of recent updates, so that one slow update moves nothing; what is
    slow now and then (saving) counts by its share of the whole time. Evaluations are told apart:
    how many are still to come is known, and what one takes is their mean so far.
    """

    def __init__(self, done: int) -> None:
        self._done, self._last = done, time.monotonic()
        self._recent: deque[float] = deque(maxlen=_RECENT_UPDATES)  # seconds a unit
        self._spent = 0.0  # seconds in updates so far
        self._usual = 0.0  # of these, without what is slow now and then
        self._evaluations, self._evaluating = 0, 0.0  # how many, and their seconds

    def add(self, done: int, evaluation: float | None = None) -> None:
        """An update has just ended, and after it an evaluation of so many seconds, if any."""
        now, units = time.monotonic(), done - self._done
        if evaluation is not None:
            self._evaluations += 1
            self._evaluating += evaluation
            self._last += evaluation
        if units <= 0:  # its time counts with the next one's
            return
        took = max(now - self._last, 1e-9)
        self._recent.append(took / units)
        self._spent += took
        self._usual += min(took, _SLOW * self._median() * units)
        self._done, self._last = done, now

    @property
    def seconds_a_unit(self) -> float:
        """Of late, without evaluations; 0 before the first update."""
        return self._median() * self._spent / self._usual if self._usual else 0.0

    def _median(self) -> float:
        return sorted(self._recent)[len(self._recent) // 2]  # the module statistics is slow to load

    def left(self, total: int, evaluations: float = 0) -> float:
        """Seconds until `total` units are done and so many evaluations are made."""
        each = self._evaluating / max(1, self._evaluations)
        return max(0, total - self._done) * self.seconds_a_unit + evaluations * each


class Console:
    """How the loop reports; every method returns at once. This one shows nothing."""

    def start(self, title: str, done: int, total: int, unit: str) -> None:
        """Training begins at `done` of `total` units."""

    def update(
        self, done: int, total: int, headline: Mapping[str, str], *, left: float, each: float
    ) -> None:
        """An update has finished; `left` seconds remain, and a unit takes `each`."""

    def say(self, text: str) -> None:
        """Print one line."""

    def stop(self) -> None:
        """Training has ended; leave the terminal as it was."""


class _Visible(Console, ABC):
    """What the bar and the lines share: where training stands, and when that is shown.

    Args:
        file: where to; standard output by default.
        brief: for work that is not worth a record: nothing of it stays or stands at the end.
    """

    def __init__(self, file: TextIO | None = None, *, brief: bool = False) -> None:
        self._file, self._brief = file, brief
        self._running = False

    def start(self, title: str, done: int, total: int, unit: str) -> None:
        """See Console."""
        self._title, self._done, self._total, self._unit = title, done, total, unit
        self._headline: Mapping[str, str] = {}
        self._times: list[str] = []
        self._begun = self._shown = time.monotonic()
        self._running, self._news = True, False
        self._open()

    def update(
        self, done: int, total: int, headline: Mapping[str, str], *, left: float, each: float
    ) -> None:
        """See Console."""
        self._done, self._total, self._headline = done, total, headline
        self._times = [f"{about(left)} left"] if done < total else [self._taken()]
        if 0 < each < 0.2:  # a speed below five a second tells less than the time that is left
            self._times.append(f"{short_number(1 / each)} {self._unit}/s")
        self._news = True
        if time.monotonic() - self._shown >= self._interval():
            self._show()
            self._shown, self._news = time.monotonic(), False

    def stop(self) -> None:
        """See Console."""
        if self._running:
            self._times[:1] = [self._taken()]
            self._close()
            self._running = False

    def _taken(self) -> str:
        return f"took {short_time(time.monotonic() - self._begun)}"

    @abstractmethod
    def _open(self) -> None:
        """Show that training begins."""

    @abstractmethod
    def _interval(self) -> float:
        """Seconds between two calls of `_show`."""

    @abstractmethod
    def _show(self) -> None:
        """Show where training stands."""

    @abstractmethod
    def _close(self) -> None:
        """Show where training ended."""


class PlainConsole(_Visible):
    """A line from time to time and at the end: for log files and pipes."""

    def _open(self) -> None:
        if not self._brief:
            going_on = f": continuing at {short_number(self._done)} {self._unit}"
            self.say(self._title + (going_on if self._done else ""))

    def _interval(self) -> float:
        least, most = _PLAIN_SECONDS
        return min(most, max(least, (time.monotonic() - self._begun) / 20))

    def _show(self) -> None:
        done, total = short_number(self._done), short_number(self._total)
        shown = [f"{name} {value}" for name, value in self._headline.items()]
        title = f"{self._title}: " if self._brief else ""
        self.say(title + ", ".join([f"{done} of {total} {self._unit}", *self._times, *shown]))

    def _close(self) -> None:
        if self._news and not self._brief:
            self._show()

    def say(self, text: str) -> None:
        """See Console."""
        print(text, file=self._file, flush=True)


class LiveConsole(_Visible):
    """A bar with the time that is left, and a line of numbers below, redrawn in place by rich."""

    def _open(self) -> None:
        from rich.console import Console as Terminal
        from rich.console import RenderableType
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.text import Text

        console = self

        class BarAndNumbers(Progress):
            def get_renderables(self) -> Iterator[RenderableType]:
                yield from super().get_renderables()
                numbers = Text()
                for name, value in console._headline.items():
                    numbers.append(f"  {name} ").append(value, "bold")
                if numbers:
                    yield numbers

        self._bar = BarAndNumbers(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[times]}"),
            console=Terminal(file=self._file),
            auto_refresh=False,
            transient=self._brief,
        )
        self._task = self._bar.add_task(self._title, completed=self._done, times="")
        self._bar.start()

    def _interval(self) -> float:
        return _LIVE_SECONDS

    def _show(self) -> None:
        times = ", ".join(self._times)
        self._bar.update(
            self._task, completed=self._done, total=self._total, times=times, refresh=True
        )

    def _close(self) -> None:
        self._show()
        self._bar.stop()

    def say(self, text: str) -> None:
        """See Console."""
        self._bar.console.print(text, markup=False, highlight=False)


def make_console(
    mode: Mode | bool = "auto", file: TextIO | None = None, *, brief: bool = False
) -> Console:
    """The console of a mode; True is "auto" (live only in a terminal), False "quiet"."""
    if mode is False or mode == "quiet":
        return Console()
    if mode == "live" or (mode != "plain" and (file or sys.stdout).isatty()):
        return LiveConsole(file, brief=brief)
    return PlainConsole(file, brief=brief)


_silent: ContextVar[bool] = ContextVar("silent", default=False)


def is_silent() -> bool:
    """Whether no progress is to be shown now."""
    return _silent.get()


@contextmanager
def no_progress(quiet: bool = True) -> Iterator[None]:
    """Shows no progress of what is done meanwhile, where a command is to be `quiet`."""
    before = _silent.set(quiet or _silent.get())
    try:
        yield
    finally:
        _silent.reset(before)


@contextmanager
def silence() -> Iterator[None]:
    """Shows no progress and drops what is printed meanwhile, for calls from Python."""
    with (
        no_progress(),
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
    ):
        yield


class Tell(Protocol):
    """Says how far some work is."""

    def __call__(self, done: int, text: str = "") -> None:
        """`done` of the total, and a short text beside it."""


@contextmanager
def progress(
    title: str, total: int, *, unit: str, quiet: bool = False, deadline: float | None = None
) -> Iterator[Tell]:
    """Shows work of `total` units on the error stream, so that what is printed can be piped.

    At `deadline`, by time.monotonic(), it ends wherever it is: no more time is said to be left.
    """
    console = make_console(not (quiet or _silent.get()), sys.stderr, brief=True)
    console.start(title, 0, total, unit)
    pace = RemainingTime(0)

    def tell(done: int, text: str = "") -> None:
        pace.add(done)
        shown = {"now": text} if text else {}
        left = pace.left(total)
        if deadline is not None:
            left = max(0.0, min(left, deadline - time.monotonic()))
        console.update(done, total, shown, left=left, each=pace.seconds_a_unit)

    try:
        yield tell
    finally:
        console.stop()

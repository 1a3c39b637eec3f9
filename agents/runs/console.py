"""What a person sees while a run trains: a live bar, plain lines, or nothing.

Rate and time left come from a monotonic clock. rich is imported only for the live bar. Leaves out
what the numbers mean: a trainer's `headline` picks the two or three that tell whether it learns.
"""

import math
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal, Protocol

Mode = Literal["auto", "live", "plain", "quiet"]
_PLAIN_SECONDS = 10.0
_LIVE_SECONDS = 0.1


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


def short_number(value: float) -> str:
    """12, 3.4 k, 5.6 M: three figures are what a glance takes in."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= limit:
            return f"{value / (limit if limit != 1e4 else 1e3):.3g}{suffix}"
    return f"{value:.0f}" if value == round(value) else f"{value:.3g}"


class Console(Protocol):
    """How the loop reports; every method returns at once."""

    def start(self, title: str, done: int, total: int, unit: str) -> None:
        """Training begins at `done` of `total` units."""

    def update(
        self, done: int, total: int, headline: Mapping[str, str], seconds: float | None = None
    ) -> None:
        """An update has finished; `seconds` are left by the trainer's own plan, if it has one."""

    def say(self, text: str) -> None:
        """Print one line."""

    def stop(self) -> None:
        """Training has ended; leave the terminal as it was."""


class QuietConsole:
    """Prints nothing."""

    def start(self, title: str, done: int, total: int, unit: str) -> None:
        """See Console."""

    def update(
        self, done: int, total: int, headline: Mapping[str, str], seconds: float | None = None
    ) -> None:
        """See Console."""

    def say(self, text: str) -> None:
        """See Console."""

    def stop(self) -> None:
        """See Console."""


class _Rate:
    """Units a second, by an average that forgets over about 30 s."""

    def __init__(self, done: int) -> None:
        self._done, self._time = done, time.monotonic()
        self._begun = self._time
        self._value = 0.0
        self._weight = 0.0

    def add(self, done: int) -> None:
        now = time.monotonic()
        elapsed = now - self._time
        if elapsed < 1e-3:
            return
        keep = math.exp(-elapsed / 30)
        self._value = keep * self._value + (1 - keep) * (done - self._done) / elapsed
        self._weight = keep * self._weight + (1 - keep)
        self._done, self._time = done, now

    @property
    def value(self) -> float:
        return self._value / self._weight if self._weight else 0.0

    def left(self, done: int, total: int, seconds: float | None) -> str:
        if done >= total or self.value <= 0:
            return self.taken()
        if seconds is not None:
            return f"{short_time(seconds)} left"
        return f"{short_time((total - done) / self.value)} left"

    def taken(self) -> str:
        return f"in {short_time(time.monotonic() - self._begun)}"


class PlainConsole:
    """A line every ten seconds and at the end: for log files and pipes."""

    def start(self, title: str, done: int, total: int, unit: str) -> None:
        """See Console."""
        self._unit = unit
        self._rate = _Rate(done)
        self._last = time.monotonic()
        self._pending = False
        self.say(title if not done else f"{title}: continuing at {short_number(done)} {unit}")

    def update(
        self, done: int, total: int, headline: Mapping[str, str], seconds: float | None = None
    ) -> None:
        """See Console."""
        self._rate.add(done)
        self._ahead = f"{short_number(done)} of {short_number(total)} {self._unit}"
        self._left = self._rate.left(done, total, seconds)
        self._headline = [f"{name} {value}" for name, value in headline.items()]
        self._pending = True
        if time.monotonic() - self._last >= _PLAIN_SECONDS:
            self._print()

    def _print(self) -> None:
        speed = f"{short_number(self._rate.value)}/s"
        self.say(", ".join([self._ahead, speed, self._left, *self._headline]))
        self._pending = False
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """See Console."""
        print(text, flush=True)

    def stop(self) -> None:
        """See Console."""
        if self._pending:
            self._left = self._rate.taken()
            self._print()


class LiveConsole:
    """One rich progress line that is redrawn in place."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[speed]}  {task.fields[headline]}"),
            auto_refresh=False,
        )
        self._started = False

    def start(self, title: str, done: int, total: int, unit: str) -> None:
        """See Console."""
        self._unit = unit
        self._rate = _Rate(done)
        self._task = self._progress.add_task(
            title, total=total, completed=done, speed="", headline=""
        )
        self._last = 0.0
        self._pending: dict[str, Any] = {}
        self._progress.start()
        self._started = True

    def update(
        self, done: int, total: int, headline: Mapping[str, str], seconds: float | None = None
    ) -> None:
        """See Console."""
        self._rate.add(done)
        shown = "  ".join(f"{name} [bold]{value}[/bold]" for name, value in headline.items())
        self._pending = {
            "completed": done,
            "total": total,
            "speed": self._speed(self._rate.left(done, total, seconds)),
            "headline": shown,
        }
        if time.monotonic() - self._last >= _LIVE_SECONDS:
            self._draw()

    def _speed(self, left: str) -> str:
        return f"{short_number(self._rate.value)} {self._unit}/s, {left}"

    def _draw(self) -> None:
        if self._pending:
            self._progress.update(self._task, refresh=True, **self._pending)
        self._pending = {}
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """See Console."""
        self._progress.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """See Console."""
        if self._started:
            if self._rate.value:
                self._pending["speed"] = self._speed(self._rate.taken())
            self._draw()
            self._progress.stop()
            self._started = False


def make_console(mode: Mode | bool = "auto") -> Console:
    """The console of a mode; True is "auto" (live only in a terminal), False "quiet"."""
    if mode is False or mode == "quiet":
        return QuietConsole()
    if mode == "live" or (mode != "plain" and sys.stdout.isatty()):
        return LiveConsole()
    return PlainConsole()

"""What is shown of a run: time left, lines, the bar, and how coarse numbers are."""

import os
import signal
import time

import numpy as np
import pytest
from playout.agents.runs.console import (
    Console,
    PlainConsole,
    about,
    make_console,
    progress,
    short_number,
)
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.agents.runs.signals import Interrupted
from toy_trainer import ToyTrainer


@pytest.fixture
def run(memory_path):
    return RunDir.create(memory_path / "r", kind="toy", config={}, seed=0)


class Clock:
    """A clock that tests move on."""

    now = 0.0

    def __init__(self, monkeypatch):
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_plain_output_is_lines_without_control_characters(run, capsys):
    class Talking(ToyTrainer):
        def headline(self, metrics):
            return {"loss": f"{metrics['train/loss']:.3g}"}

    train(Talking(3), run, console="plain")
    train(Talking(5), run, console="plain")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy" and lines[1].startswith("30 of 30 steps, ")
    assert lines[2] == "toy: continuing at 30 steps" and "loss" in lines[3]
    assert all(line.isprintable() for line in lines)


def test_the_live_bar_shows_rate_time_left_and_headline(run, capsys):
    class Talking(ToyTrainer):
        def update(self):
            time.sleep(0.03)
            return super().update()

        def headline(self, metrics):
            return {"return": "475"}

    train(Talking(5), run, console="live")
    out = capsys.readouterr().out
    assert "100%" in out and "steps/s" in out and "475" in out


def test_a_quiet_run_prints_nothing(run, capsys):
    train(ToyTrainer(2), run, console="quiet")
    assert capsys.readouterr().out == ""
    assert type(make_console(False)) is Console
    assert isinstance(make_console("auto"), PlainConsole)


def test_the_time_left_of_a_steady_run_with_slow_evaluations_does_not_leap(run, monkeypatch):
    clock, rng = Clock(monkeypatch), np.random.default_rng(0)

    class Slow(ToyTrainer):
        def update(self):
            clock.now += rng.uniform(0.9, 1.1)
            return super().update()

        def evaluate(self):
            clock.now += 40
            return super().evaluate()

    seen = []

    class Watch(Console):
        def update(self, done, total, headline, *, left, each):
            seen.append((left, clock.now))

    train(Slow(213), run, eval_every=71, console=Watch())
    left = np.array([seconds for seconds, _ in seen])
    truth = clock.now - np.array([moment for _, moment in seen])
    share = left[:-1] / truth[:-1]
    # The first evaluation is a surprise; nothing after it is.
    assert share[:70].min() > 0.5 and share[:70].max() < 1
    assert share[71:].min() > 0.9 and share[71:].max() < 1.1
    assert (left[1:-1] / left[:-2]).max() < 1.8


def test_a_trainer_that_knows_its_plan_says_how_long_it_takes(run, monkeypatch, capsys):
    clock = Clock(monkeypatch)

    class Planned(ToyTrainer):
        def update(self):
            clock.now += 45
            return super().update()

        def seconds_left(self):
            return 6 * 60 - clock.now

    train(Planned(5), run, console="plain")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("10 of 50 steps, about 5 min left")
    assert lines[4].startswith("40 of 50 steps, about 3 min left")


def test_a_long_run_prints_fewer_lines_as_it_goes_on(run, monkeypatch, capsys):
    clock = Clock(monkeypatch)

    class Long(ToyTrainer):
        def update(self):
            clock.now += 5
            return super().update()

    train(Long(720), run, console="plain")
    lines = capsys.readouterr().out.splitlines()
    assert 70 < len(lines) < 100 and "about 30 min left" in "".join(lines)


def test_progress_of_other_work_goes_to_the_error_stream_and_is_quiet_if_short(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    with progress("match", 40, unit="games") as tell:
        for done in range(1, 11):
            clock.now += 0.5
            tell(done, "a - b")
    assert capsys.readouterr() == ("", "")
    with progress("match", 40, unit="games") as tell:
        for done in range(1, 11):
            clock.now += 1.5
            tell(done, "a - b")
    out, err = capsys.readouterr()
    assert out == "" and err == "match: 7 of 40 games, about 50 s left, now a - b\n"
    with progress("rating", 40, unit="games", deadline=clock.now + 41) as tell:
        for done in range(1, 11):
            clock.now += 1.5
            tell(done)
    assert capsys.readouterr().err == "rating: 7 of 40 games, about 30 s left\n"


def test_times_and_numbers_are_as_fine_as_a_glance_takes_in():
    assert [about(s) for s in (4, 14, 54, 56, 89, 600, 3600, 8000)] == [
        "a few seconds",
        "about 10 s",
        "about 50 s",
        "about 1 min",
        "about 1 min",
        "about 10 min",
        "about 1 h",
        "about 2 h 10 min",
    ]
    numbers = (0, 3.14159, 97.77, 1000.3, 9999, 12345, 2.3e6, 7e9)
    shown = ["0", "3.14", "97.8", "1000", "9999", "12.3 k", "2.3 M", "7 G"]
    assert [short_number(number) for number in numbers] == shown


def test_a_number_that_rounds_up_to_the_next_unit_is_shown_in_it():
    numbers = (999_499, 999_936, 999_499_000, 999_500_000, -999_936)
    shown = ["999 k", "1 M", "999 M", "1 G", "-1 M"]
    assert [short_number(number) for number in numbers] == shown


def test_a_run_that_is_stopped_says_how_to_go_on(run, capsys):
    class Stopped(ToyTrainer):
        def update(self):
            os.kill(os.getpid(), signal.SIGINT)
            return super().update()

    with pytest.raises(Interrupted):
        train(Stopped(5), run, console="plain")
    advice = f"saved after update 1; continue with: playout toy --resume {run.path}\n"
    assert capsys.readouterr().out.endswith(advice)

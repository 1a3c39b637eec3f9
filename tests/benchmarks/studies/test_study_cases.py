"""Runs that a study keeps or makes anew, cases side by side, and numbers on a chart."""

import os
import time

import numpy as np
import playout
import pytest
from playout.agents.runs.devices import cores
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.cases import (
    beside,
    kept_run,
    mean_of_seeds,
    note_result,
    noted_result,
    side_by_side,
)
from playout.benchmarks.studies.training import trunks
from playout.benchmarks.studies.training.texts import labelled
from playout.benchmarks.tools.charts import number_places
from playout.errors import RunError

from tests.agents.pretraining.bars import split_of


@pytest.fixture
def train():
    """Something that makes runs without learning, and notes for what."""

    def make(subject=None, *, quiet, run=None, resume=None, **settings):
        if resume is not None:
            made.append(("resumed", resume))
            return RunDir.open(resume)
        made.append((subject, settings))
        return RunDir.create(run, kind="pretrain-trunk", config=settings, seed=0)

    made = make.made = []
    return make


def test_a_run_is_kept_while_settings_version_and_what_it_came_from_stay(
    train, tmp_path, capsys, monkeypatch
):
    settings = {"epochs": 2.0, "sizes": (1, 2)}
    first = kept_run(tmp_path / "a", train, "game", settings)
    assert kept_run(tmp_path / "a", train, "game", settings).id == first.id
    assert len(train.made) == 1 and "kept from before" in capsys.readouterr().out

    longer = kept_run(tmp_path / "a", train, "game", settings | {"epochs": 3.0})
    assert "has epochs 2.0, not 3.0: moved to a.old-1" in capsys.readouterr().out
    assert RunDir.open(tmp_path / "a.old-1").id == first.id
    assert RunDir.open(tmp_path / "a").id == longer.id != first.id

    kept_run(tmp_path / "a", train, "other", settings | {"epochs": 3.0})
    assert "subject game, not other" in capsys.readouterr().out
    monkeypatch.setattr(playout, "__version__", "99.0")
    kept_run(tmp_path / "a", train, "other", settings | {"epochs": 3.0})
    assert "not 99.0: moved to a.old-3" in capsys.readouterr().out
    assert len(train.made) == 4


def test_a_student_of_a_teacher_that_was_made_anew_is_made_anew(train, tmp_path, capsys):
    def both(epochs):
        teacher = kept_run(tmp_path / "teacher", train, "game", {"epochs": epochs})
        return kept_run(tmp_path / "student", train, "game", {"teacher": teacher})

    before = both(1.0)
    assert train.made[-1] == ("game", {"teacher": str(tmp_path / "teacher")})
    assert both(1.0).id == before.id
    assert both(2.0).id != before.id
    assert "student has teacher run" in capsys.readouterr().out


def test_a_run_that_was_stopped_goes_on_if_it_is_for_the_same(train, tmp_path, capsys):
    def stopped(subject, *, run, quiet, **settings):
        train(subject, run=run, quiet=quiet, **settings)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_run(tmp_path / "a", stopped, "game", {"epochs": 2.0})
    begun = RunDir.open(tmp_path / "a").id
    assert kept_run(tmp_path / "a", train, "game", {"epochs": 2.0}).id == begun
    assert train.made[-1] == ("resumed", tmp_path / "a")
    assert "was stopped, goes on" in capsys.readouterr().out
    assert kept_run(tmp_path / "a", train, "game", {"epochs": 2.0}).id == begun
    assert "kept from before" in capsys.readouterr().out

    with pytest.raises(KeyboardInterrupt):
        kept_run(tmp_path / "b", stopped, "game", {})
    with RunDir.open(tmp_path / "b").lock(), pytest.raises(RunError, match="in use"):
        kept_run(tmp_path / "b", train, "game", {"epochs": 3.0})
    kept_run(tmp_path / "b", train, "game", {"epochs": 3.0})
    assert "is not known to be finished" in capsys.readouterr().out


def test_a_run_notes_its_processor_minutes_and_those_before_a_stop(train, tmp_path):
    def asleep(subject=None, *, run=None, resume=None, quiet=True):
        time.sleep(0.5)  # as if other work had the core
        made = train(subject, run=run, resume=resume, quiet=quiet)
        if resume is None:
            (made.path / "metrics.jsonl").write_text('{"step": 1, "time/elapsed": 120.0}\n')
        return made

    begun = time.monotonic()
    run = kept_run(tmp_path / "a", asleep, "game", {})
    assert 0.0 < 60 * run.record["study"]["minutes"] < time.monotonic() - begun - 0.4

    def stopped(*args, **kwargs):
        asleep(*args, **kwargs)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_run(tmp_path / "b", stopped, "game", {})
    begun = time.monotonic()
    run = kept_run(tmp_path / "b", asleep, "game", {})
    assert 120.0 < 60 * run.record["study"]["minutes"] < 120.0 + time.monotonic() - begun - 0.4
    assert kept_run(tmp_path / "b", asleep, "game", {}).record == run.record


def squared(number):
    if number < 0:
        raise ValueError("negative")
    return number * number, os.getpid()


def own_cores(number):
    time.sleep(0.3)  # so that one process does not take every case
    return os.getpid(), sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cannot bind processes")
def test_every_process_has_a_core_of_its_own():
    before = os.sched_getaffinity(0)
    found = dict(side_by_side(own_cores, [(n,) for n in range(6)]))
    taken = [core for cores in found.values() for core in cores]
    assert all(len(cores) == 1 for cores in found.values()) and before.issuperset(taken)
    assert len(found) == len(set(taken)) <= min(6, cores())
    assert os.sched_getaffinity(0) == before


@pytest.mark.slow
def test_cases_come_back_in_order_from_other_processes():
    found = side_by_side(squared, [(n,) for n in (3, 1, 2)])
    assert [square for square, _ in found] == [9, 1, 4]
    assert os.getpid() not in {process for _, process in found}
    with pytest.raises(ValueError, match="negative"):
        side_by_side(squared, [(1,), (-1,)])
    with beside(squared, [(5,)]) as waiting:
        mine = squared(2)
        assert waiting[0].result()[0] == 25
    assert mine == (4, os.getpid())


def noted(folder, number):
    if number < 0:
        raise ValueError("negative")
    with open(f"{folder}/made", "a") as file:
        file.write(f"{number} ")
    return {"root": number**0.5, "pair": (number, np.arange(2))}


@pytest.mark.slow
def test_a_study_that_was_stopped_makes_only_the_cases_that_it_has_not(tmp_path, monkeypatch):
    kept, made = tmp_path / "study" / "cases.jsonl", tmp_path / "made"

    def several(*numbers):
        found = side_by_side(noted, [(str(tmp_path), n) for n in numbers], kept=kept)
        assert found == [{"root": n**0.5, "pair": [n, [0, 1]]} for n in numbers]
        return made.read_text().split()

    assert several(4) == ["4"]
    with pytest.raises(ValueError, match="negative"):
        side_by_side(noted, [(str(tmp_path), n) for n in (4, -1)], kept=kept)
    assert several(4, 9) == ["4", "9"]
    with kept.open("a") as file:  # as a kill in the middle of a line leaves it
        file.write('["0.1.0", {"root')
    assert sorted(several(9, 16, 4)) == ["16", "4", "9"]
    assert several(16, 9) == several(4)
    monkeypatch.setattr(playout, "__version__", "99.0")
    assert len(several(16)) == 4


def test_numbers_beside_points_cover_neither_each_other_nor_points():
    area = (0.0, 0.0, 300.0, 200.0)
    points = [(100 + 2 * n, 90.0 + n % 3) for n in range(12)] + [(2.0, 2.0), (299.0, 199.0)]
    texts = [str(n) for n in range(1, len(points) + 1)]
    places = number_places(points, texts, area, size=7)

    def box(middle, text):
        wide, high = 0.33 * 7 * len(text), 0.4 * 7
        return middle[0] - wide, middle[1] - high, middle[0] + wide, middle[1] + high

    boxes = [box(*pair) for pair in zip(places, texts, strict=True)]
    for number, one in enumerate(boxes):
        assert one[0] >= 0 and one[1] >= 0 and one[2] <= 300 and one[3] <= 200
        for other in boxes[:number]:
            assert (
                one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            )
        for x, y in points:
            assert not (one[0] < x < one[2] and one[1] < y < one[3])


def test_intervals_of_the_best_of_several_hold_for_all_of_them_together():
    rng = np.random.default_rng(0)
    missed = {1: 0, 8: 0}
    for _ in range(400):  # eight candidates that differ in nothing, three seeds
        values = rng.normal(size=(8, 3))
        best = values[values.mean(1).argmax()]
        for among in missed:
            mean, half = mean_of_seeds(best.tolist(), among=among)
            missed[among] += abs(mean) > half
    # At most 5 % of 400, and four standard deviations of so many; one alone would miss thrice that.
    assert missed[8] <= 20 + 4 * 4.4 < missed[1]


def test_labels_of_texts_differ_from_seed_to_seed():
    numbers = np.repeat(np.arange(2), 500)
    first, again, other = (labelled(numbers, 0.02, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other and np.bincount(numbers[first]).tolist() == [10, 10]


def test_probes_of_a_trunk_and_of_pixels_see_the_labels_of_their_seed(monkeypatch):
    data, asked, drawn = split_of(40), [], []

    def probe(trunk, data, kind, *, seed, **_):
        asked.append((kind, seed))
        return {"rows": [{"accuracy": 0.5}] * (2 if kind == "linear" else 1), "trunk": {"ari": 0.1}}

    def rows(train, share, *, seed):
        drawn.append(seed)
        return np.arange(len(train))

    monkeypatch.setattr(trunks, "probe", probe)
    monkeypatch.setattr(trunks, "labelled_rows", rows)
    trunks.row_of("one", None, data, 0.0, 0, seed=3)
    assert asked == [("linear", 3), ("neighbours", 3), ("clusters", 3)]
    trunks.pixels(data, seed=4)
    assert drawn == [4, 4]


def test_a_result_is_kept_for_its_case_and_version_alone(tmp_path, monkeypatch):
    kept = tmp_path / "language.jsonl"
    assert noted_result(kept, "language", (True, (0,))) is None
    note_result(kept, "language", (True, (0,)), [{"bits": np.float64(2.0)}])
    with kept.open("a") as file:
        file.write('["cut sho')  # as where a study was killed
    note_result(kept, "language", (True, (1,)), "other")
    assert noted_result(kept, "language", (True, (0,))) == [{"bits": 2.0}]
    assert noted_result(kept, "language", (True, (1,))) == "other"
    assert noted_result(kept, "boards", (True, (0,))) is None
    monkeypatch.setattr(playout, "__version__", "0")
    assert noted_result(kept, "language", (True, (0,))) is None

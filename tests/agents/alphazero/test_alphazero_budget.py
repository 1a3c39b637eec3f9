"""Minutes become a configuration and a plan, which is corrected on the way and on resume."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from playout.agents.alphazero.budget.corrector import (
    CORRECTED_SHARE,
    CORRECTIONS,
    MAX_CORRECTION_FACTOR,
    PlanCorrector,
)
from playout.agents.alphazero.budget.minutes import (
    CLOSING_SECONDS,
    MIN_REPORT_SECONDS,
    REPORT_SHARE,
    START_SECONDS,
    kept_back,
    report_time,
    time_to_learn,
    updates_for,
)
from playout.agents.alphazero.budget.presets import configure
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.envs.core.registry import game as find_game


def planned_run(folder, updates, minutes=1.0):
    run = RunDir.create(folder, kind="alphazero", config={}, seed=0)
    budget = {"unit": "updates", "minutes": minutes, "rate": updates / minutes, "total": updates}
    run.update(budget=budget)
    return run


def trainer_of(updates):
    config = configure(find_game("tic_tac_toe"), size="tiny", updates=updates)
    return AlphaZeroTrainer(replace(config, warmup_positions=1 << 20))


def metrics(seconds, elapsed):
    return {"time/selfplay_s": seconds, "time/train_s": 0.0, "time/elapsed": elapsed}


def carry_out(run, trainer, seconds, minutes=1.0, elapsed=0.0, until=1 << 20):
    correct = PlanCorrector(run, minutes, trainer, eval_every=1 << 20)
    while not trainer.finished and trainer.updates < until:
        trainer.updates += 1
        elapsed += seconds
        correct(trainer, metrics(seconds, elapsed))
    return elapsed


@pytest.mark.parametrize("seconds", [0.45, 0.6, 0.9])
def test_a_run_ends_about_when_its_minutes_do(tmp_path, seconds):
    run, trainer = planned_run(tmp_path / "r", 100), trainer_of(100)
    elapsed = carry_out(run, trainer, seconds)
    assert elapsed == pytest.approx(60 * CORRECTED_SHARE, abs=2 * seconds)
    made = run.record["budget"]["corrections"]
    assert made[0][0] == 100 * CORRECTIONS[0]
    assert len(made) == len(CORRECTIONS)


def test_the_time_left_counts_down_to_the_end_of_the_minutes(tmp_path, monkeypatch):
    # An update takes 0.45 s and not the 0.6 s that were planned; each tenth is followed by an
    # evaluation of 2 s. By the number of updates alone, the time left would rise at corrections.
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    run, trainer = planned_run(tmp_path / "r", 100), trainer_of(100)
    correct = PlanCorrector(run, 1.0, trainer, eval_every=10)
    ends = [trainer.seconds_left()]
    assert ends[0] == pytest.approx(60 * CORRECTED_SHARE)
    while not trainer.finished:
        trainer.updates += 1
        clock[0] += 0.45
        if trainer.updates % 10 == 0 or trainer.finished:
            clock[0] += 2.0
            trainer.evaluation_seconds.append(2.0)
        ends.append(clock[0] - 100 + trainer.seconds_left())
        correct(trainer, metrics(0.45, clock[0] - 100))
    assert len(run.record["budget"]["corrections"]) == len(CORRECTIONS)
    assert max(ends) - min(ends) < 3
    assert clock[0] - 100 == pytest.approx(60 * CORRECTED_SHARE, abs=1)


@pytest.mark.slow
def test_while_an_update_and_an_evaluation_are_left_so_is_their_time(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    run, trainer = planned_run(tmp_path / "r", 4), trainer_of(4)
    PlanCorrector(run, 0.1, trainer, eval_every=2)
    clock[0] += 50.0  # an evaluation that took longer than all of the minutes
    trainer.evaluation_seconds.append(45.0)
    trainer.updates = 3
    assert trainer.seconds_left() == 45.0
    trainer.updates = 4
    assert trainer.seconds_left() == 0.0


def test_a_resumed_run_begins_with_the_time_that_it_has_left(tmp_path):
    run, trainer = planned_run(tmp_path / "r", 100), trainer_of(100)
    run.save(40, trainer.state_dict(), info={"elapsed": 50.0})
    PlanCorrector(run, 2.0, trainer, eval_every=10)
    assert trainer.seconds_left() == pytest.approx(120 * CORRECTED_SHARE - 50, abs=1)


def test_time_is_left_for_a_rating_at_the_end_that_has_not_been_seen_yet(tmp_path):
    run, trainer = planned_run(tmp_path / "r", 100), trainer_of(100)
    correct = PlanCorrector(run, 1.0, trainer, eval_every=1 << 20, rating_seconds=6.0)
    elapsed = 0.0
    while not trainer.finished:
        trainer.updates += 1
        elapsed += 0.6
        correct(trainer, metrics(0.6, elapsed))
    assert elapsed + 6.0 == pytest.approx(60 * CORRECTED_SHARE, abs=1.3)


@pytest.mark.parametrize("seconds", [0.2, 0.3, 0.55, 0.8])
def test_ratings_keep_their_number_whatever_the_speed_of_updates(tmp_path, monkeypatch, seconds):
    # An update was planned to take 0.55 s, six ratings of 1 s a tenth of the minute.
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    class Timed(AlphaZeroTrainer):
        def update(self):
            clock[0] += seconds
            self.updates += 1
            return {"time/selfplay_s": seconds, "time/train_s": 0.0}

        def evaluate(self):
            clock[0] += 1.0
            self.evaluation.count += 1
            self.evaluation_seconds.append(1.0)
            return {"eval/at": float(self.updates)}

    run, trainer = planned_run(tmp_path / "r", 96), Timed(trainer_of(96).config)
    correct = PlanCorrector(run, 1.0, trainer, evaluations=6, rating_seconds=1.0)
    train(trainer, run, evaluations=6, save_every=1 << 20, console=False, callbacks=[correct])
    assert len(trainer.evaluation_seconds) == 6
    assert clock[0] - 100 == pytest.approx(60 * CORRECTED_SHARE, abs=2 * seconds)


def test_a_changed_plan_counts_from_the_next_update_on():
    # The update after which it was changed was rated by the plan of before, also when made again.
    trainer = trainer_of(100)
    trainer.plan.append((40, 150))
    for done, total in ((0, 100), (40, 100), (41, 150)):
        trainer.updates = done
        assert trainer.progress == (done, total)


def test_a_plan_changes_by_a_factor_at_most(tmp_path):
    run, trainer = planned_run(tmp_path / "r", 100), trainer_of(100)
    carry_out(run, trainer, 1e-3, until=41)
    assert trainer.progress == (41, 100 * MAX_CORRECTION_FACTOR)


def test_a_resumed_run_follows_the_corrections_already_made(tmp_path):
    run, trainer = planned_run(tmp_path / "r", 100), trainer_of(100)
    carry_out(run, trainer, 0.45)
    total = trainer.progress[1]
    again = trainer_of(100)
    # Killed and begun anew on a slower machine: what was decided stays decided.
    carry_out(RunDir.open(run.path), again, 2.0)
    assert again.progress == (total, total)
    assert again.plan == trainer.plan


def test_more_minutes_go_on_at_the_speed_that_the_run_has_had(tmp_path):
    # As a run of six minutes was: planned for 105 updates, corrected to 129, done in 324 seconds.
    run, trainer = planned_run(tmp_path / "r", 105, minutes=6.0), trainer_of(105)
    budget = {"rate": 0.3155, "outside": 25.6, "corrections": [[42, 130], [91, 136], [123, 129]]}
    run.update(budget={**run.record["budget"], **budget})
    run.save(129, trainer.state_dict(), info={"elapsed": 324.0})
    config, outside = trainer.config, kept_back(6.5, rating=True)
    assert updates_for(run, config, 6.0) == 105  # and the corrections hold
    assert "corrections" in run.record["budget"]
    total = updates_for(run, config, 6.5, outside=outside)
    left = 390 * CORRECTED_SHARE - outside - 324
    assert total == 129 + round(left * 129 / 324) == 141
    assert updates_for(run, config, 6.5) == total  # decided, whatever is done by then
    longer = updates_for(run, config, 12.0, outside=kept_back(12.0, rating=True))
    assert longer == pytest.approx(2 * 129, rel=0.05)
    assert updates_for(run, config, 3.0) == 129  # it has taken longer already


def test_other_minutes_before_the_first_checkpoint_go_by_the_measurement(tmp_path):
    run, trainer = planned_run(tmp_path / "r", 100), trainer_of(100)
    run.update(budget={**run.record["budget"], "rate": 2.0})
    assert updates_for(run, trainer.config, 2.0, outside=20.0) == 200


def test_other_minutes_after_recorded_games_make_each_correction_once(tmp_path):
    run, trainer = planned_run(tmp_path / "r", 100), trainer_of(100)
    # Resumed with other minutes: the records lie behind, and what was corrected counts no more.
    trainer.recorded, trainer.updates = SimpleNamespace(updates=5, steps=5), 20
    carry_out(run, trainer, 0.6, elapsed=12.0)
    starts = [done for done, _ in run.record["budget"]["corrections"]]
    assert len(starts) == len(CORRECTIONS) and starts[1] > starts[0] + 1


def test_too_few_updates_seen_decide_nothing(tmp_path):
    run, trainer = planned_run(tmp_path / "r", 100), trainer_of(100)
    trainer.updates = 45
    carry_out(run, trainer, 0.45, elapsed=20.0, until=48)
    assert "corrections" not in run.record["budget"]
    carry_out(run, trainer, 0.45, elapsed=22.0, until=55)
    assert run.record["budget"]["corrections"][0][0] > 50


@pytest.mark.parametrize("minutes", [1.0, 2.0, 60.0])
def test_what_surrounds_the_loop_is_counted_in_the_minutes(minutes):
    seconds, setup = 60 * minutes, 5.0
    fixed = START_SECONDS + CLOSING_SECONDS
    # The loop ends when it was planned to: the report has its share at least, and all ends in time.
    loop = seconds - setup - kept_back(minutes, rating=True)
    report = report_time(minutes, setup + loop)
    assert report == pytest.approx(REPORT_SHARE * seconds)
    assert setup + loop + report + fixed == pytest.approx(seconds)
    # It ends late: the report is shorter by as much, and there is one in any case.
    assert report_time(minutes, setup + loop + 1.0) == pytest.approx(report - 1.0)
    assert report_time(minutes, 2 * seconds) == MIN_REPORT_SECONDS
    assert time_to_learn(minutes, setup, rating=True) < loop


def test_of_very_few_minutes_most_is_left_for_the_loop():
    assert kept_back(0.1, rating=True) < 0.2 * 6.0
    assert time_to_learn(0.1, 0.0, rating=True) > 0.5 * 6.0

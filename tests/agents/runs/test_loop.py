"""The training loop: what it computes never depends on saves, stops or resumes."""

import contextlib
import json
import math
import signal
import time

import numpy as np
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.agents.runs.metrics import read_rows
from playout.agents.runs.signals import Interrupted
from playout.agents.runs.trainer import Trainer
from playout.errors import DivergedError, EnvironmentFault, RunError
from toy_trainer import ToyTrainer


def make_run(path, seed=0):
    return RunDir.create(path, kind="toy", config={}, seed=seed)


def outcome(run):
    rows = [
        {key: value for key, value in row.items() if not key.startswith("time/")}
        for row in read_rows(run.path)
    ]
    latest = run.find()
    return rows, {name: digest for name, (_, digest) in latest.files.items()}, run.find("best").step


def learned(run):
    """Rows without evaluations: the last update of every piece of a run is rated as well."""
    rows = outcome(run)[0]
    return [{key: row[key] for key in row if not key.startswith("eval/")} for row in rows]


def test_a_run_has_a_row_an_update_and_ends_saved(memory_path):
    run = make_run(memory_path / "r")
    train(ToyTrainer(7), run, eval_every=3, console=False)
    rows = list(read_rows(run.path))
    assert [row["update"] for row in rows] == list(range(1, 8))
    assert [row["step"] for row in rows] == [n * 10 for n in range(1, 8)]
    # The last update is rated as well, whatever its number.
    assert ["eval/score" in row for row in rows] == [n in (3, 6, 7) for n in range(1, 8)]
    assert all(row["time/elapsed"] >= 0 and row["time/fps"] > 0 for row in rows)
    assert run.load()[0] == 7
    assert run.find("best").metric == max(row.get("eval/score", -9) for row in rows)


def test_a_run_that_was_killed_before_its_first_checkpoint_says_that_it_begins_anew(
    memory_path, capsys
):
    class Killed(ToyTrainer):
        def update(self):
            if self.n == 2:
                raise SystemExit(137)
            return super().update()

    run, anew = make_run(memory_path / "r"), "no checkpoint was saved yet: begins anew"
    with pytest.raises(SystemExit):
        train(Killed(4), run, console="plain")
    assert run.find() is None and anew not in capsys.readouterr().out
    train(ToyTrainer(4), RunDir.open(run.path), console="plain")
    assert capsys.readouterr().out.count(anew) == 1
    train(ToyTrainer(6), RunDir.open(run.path), console="plain")
    assert anew not in capsys.readouterr().out


def test_an_update_just_before_the_last_is_not_rated(memory_path):
    run = make_run(memory_path / "r")
    train(ToyTrainer(11), run, eval_every=5, console=False)
    rated = [row["update"] for row in read_rows(run.path) if "eval/score" in row]
    assert rated == [5, 11]


class Growing(ToyTrainer):
    """The plan grows on the way, from the update after the 8th and after the 21st."""

    @property
    def progress(self):
        total = self.total + 10 * (self.n > 8) + 15 * (self.n > 21)
        return self.n, total

    finished = property(lambda self: self.n >= self.progress[1])


def rated(run):
    return [row["update"] for row in read_rows(run.path) if "eval/score" in row]


def test_a_number_of_evaluations_stays_where_the_plan_grows(memory_path):
    fixed, grown = make_run(memory_path / "fixed"), make_run(memory_path / "grown")
    train(ToyTrainer(20), fixed, evaluations=5, console=False)
    assert rated(fixed) == [4, 8, 12, 16, 20]
    train(Growing(20), grown, evaluations=5, console=False)
    assert rated(grown) == [4, 8, 16, 31, 45]


def test_evaluations_that_are_spread_repeat_when_a_run_is_resumed(memory_path):
    whole, pieces = make_run(memory_path / "whole"), make_run(memory_path / "pieces")
    train(Growing(20), whole, evaluations=5, console=False)

    def stop(trainer, metrics):
        if trainer.n in (6, 9, 22):
            raise KeyboardInterrupt

    for _ in range(4):
        with contextlib.suppress(KeyboardInterrupt):
            train(Growing(20), pieces, evaluations=5, save_every=2, console=False, callbacks=[stop])
            break
    train(Growing(20), pieces, evaluations=5, save_every=2, console=False)
    assert outcome(pieces)[0] == outcome(whole)[0]


def test_when_it_saves_changes_nothing(memory_path):
    found = []
    for n, save_every in enumerate([1, 2, 3, 100, 1e-9, 1e9]):
        run = make_run(memory_path / str(n))
        train(ToyTrainer(9), run, save_every=save_every, eval_every=2, console=False)
        found.append(outcome(run))
    assert all(other == found[0] for other in found)


def test_stopping_after_each_update_changes_nothing(memory_path):
    whole = make_run(memory_path / "whole")
    train(ToyTrainer(6), whole, eval_every=2, console=False)
    pieces = make_run(memory_path / "pieces")
    for _ in range(7):

        class Stop(Exception):
            pass

        def stop(trainer, metrics, stop=Stop):
            raise stop

        try:
            train(
                ToyTrainer(6), pieces, save_every=1, eval_every=2, console=False, callbacks=[stop]
            )
        except Stop:
            # The callback came before the save, so go on for one update without it.
            trainer = ToyTrainer(6)
            whole_step = pieces.find().step if pieces.find() else 0
            trainer.total = whole_step + 1
            train(trainer, pieces, save_every=1, eval_every=2, console=False)
    assert learned(whole) == learned(pieces)


def test_a_finished_run_is_left_as_it_is(memory_path):
    run = make_run(memory_path / "r")
    train(ToyTrainer(3), run, eval_every=1, console=False)
    before = {path: path.read_bytes() for path in run.path.rglob("*.json*")}
    train(ToyTrainer(3), run, console=False)
    assert {path: path.read_bytes() for path in run.path.rglob("*.json*")} == before


def test_a_longer_budget_goes_on_where_the_run_ended(memory_path):
    long, short = make_run(memory_path / "a"), make_run(memory_path / "b")
    train(ToyTrainer(8), long, eval_every=2, console=False)
    train(ToyTrainer(5), short, eval_every=2, console=False)
    train(ToyTrainer(8), short, eval_every=2, console=False)
    assert learned(long) == learned(short)


def test_callbacks_are_called_with_the_trainer_after_every_update(memory_path):
    seen = []
    train(
        ToyTrainer(3),
        make_run(memory_path / "r"),
        console=False,
        callbacks=[lambda trainer, metrics: seen.append((trainer.n, sorted(metrics)))],
    )
    assert [n for n, _ in seen] == [1, 2, 3]
    assert "train/loss" in seen[0][1]


def test_nan_in_a_loss_stops_and_names_the_last_good_checkpoint(memory_path):
    trainer = ToyTrainer(9)

    def poison(trainer):
        if trainer.n == 5:
            trainer.momentum[0] = math.nan

    trainer.hook = poison
    run = make_run(memory_path / "r")
    with pytest.raises(DivergedError, match=r"train/loss became nan in update 6.*checkpoint is 4"):
        train(trainer, run, save_every=2, console=False)
    assert run.load()[0] == 4
    assert len(list(read_rows(run.path))) == 5
    train(ToyTrainer(9), run, save_every=2, console=False)
    assert run.load()[0] == 9


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_only_metrics_of_learning_must_be_finite(memory_path, value):
    class Odd(ToyTrainer):
        def update(self):
            extra = {"rollout/ep_rew_mean": value, "train/explained_variance": value}
            return {**super().update(), **extra}

    run = make_run(memory_path / "r")
    train(Odd(2), run, console=False)
    assert next(read_rows(run.path))["rollout/ep_rew_mean"] is None

    class Bad(ToyTrainer):
        def update(self):
            return {**super().update(), "objective/kl": value}

    with pytest.raises(DivergedError, match="no checkpoint was saved yet"):
        train(Bad(2), make_run(memory_path / "s"), console=False)


def test_nan_in_a_weight_is_not_saved_as_a_good_checkpoint(memory_path):
    class Torch(ToyTrainer):
        def state_dict(self):
            weights = torch.ones(3)
            if self.n == 4:
                weights[1] = math.nan
            return {**super().state_dict(), "optimizer": [{"exp_avg": weights}]}

    run = make_run(memory_path / "r")
    with pytest.raises(DivergedError, match=r"optimizer\.0\.exp_avg holds NaN.*checkpoint is 2"):
        train(Torch(9), run, save_every=2, console=False)
    assert run.load()[0] == 2


def test_a_second_process_is_refused_before_it_touches_anything(memory_path):
    run = make_run(memory_path / "r")
    with run.lock(), pytest.raises(RunError, match="in use by"):
        train(ToyTrainer(2), RunDir.open(run.path), console=False)
    assert not (run.path / "metrics.jsonl").exists()


def test_clock_jumps_disturb_neither_progress_nor_times(memory_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(time, "time", lambda: float(rng.normal(0, 1e9)))
    run = make_run(memory_path / "r")
    train(ToyTrainer(5), run, save_every=1, console="plain")
    elapsed = [row["time/elapsed"] for row in read_rows(run.path)]
    assert elapsed == sorted(elapsed) and elapsed[0] >= 0 and elapsed[-1] < 60
    assert run.load()[0] == 5
    assert "-" not in capsys.readouterr().out.replace("loss -", "")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"save_every": 0}, "must be positive"),
        ({"save_every": -1.0}, "must be positive"),
        ({"eval_every": -1}, "must be positive"),
        ({"evaluations": -1}, "must be positive"),
        ({"eval_every": 2, "evaluations": 3}, "not both"),
    ],
)
def test_impossible_intervals_are_refused(memory_path, bad, message):
    with pytest.raises(ValueError, match=message):
        train(ToyTrainer(2), make_run(memory_path / "r"), console=False, **bad)


def test_an_update_whose_evaluation_meets_a_fault_is_kept(memory_path):
    class Endless(ToyTrainer):
        def evaluate(self):
            raise EnvironmentFault("no end")

    run = make_run(memory_path / "r")
    with pytest.raises(EnvironmentFault, match="no end; the last good checkpoint is 3 in "):
        train(Endless(9), run, eval_every=3, console=False)
    assert run.load()[0] == 3 and len(list(read_rows(run.path))) == 3
    train(ToyTrainer(9), run, eval_every=3, console=False)
    assert run.load()[0] == 9


def test_the_manifest_says_how_far_training_had_come(memory_path):
    run = make_run(memory_path / "r")
    train(ToyTrainer(4), run, console=False)
    info = json.loads((run.find().path / "MANIFEST.json").read_text())["info"]
    assert (info["done"], info["total"]) == (40, 40) and info["elapsed"] > 0


def test_a_trainer_needs_only_the_required_methods(memory_path):
    class Least(Trainer):
        n = 0
        progress = property(lambda self: (self.n, 3))

        def update(self):
            self.n += 1
            return {"train/loss": 1.0}

        def state_dict(self):
            return {"n": self.n}

        def load_state_dict(self, state):
            self.n = state["n"]

    run = make_run(memory_path / "r")
    train(Least(), run, eval_every=1, console="plain")
    assert run.load() == (3, {"n": 3})
    with pytest.raises(TypeError, match="abstract"):
        type("Nothing", (Trainer,), {})()


def test_a_stopped_stage_names_the_command_of_the_run_it_belongs_to(memory_path, capsys):
    whole = RunDir.create(memory_path / "words", kind="rlhf.all", config={}, seed=0)
    stage = RunDir.create(whole.subrun("sft"), kind="rlhf.sft", config={}, seed=0)
    table = RunDir.create(whole.subrun("classify"), kind="rlhf.classify", config={}, seed=0)
    model = RunDir.create(table.subrun("spam"), kind="rlhf.classify.model", config={}, seed=0)
    alone = RunDir.create(stage.path / "another", kind="toy", config={}, seed=0)

    def stop(trainer, metrics):
        signal.raise_signal(signal.SIGINT)

    for run, command in (
        (stage, f"playout rlhf all --resume {whole.path}"),
        (model, f"playout rlhf all --resume {whole.path}"),
        (alone, f"playout toy --resume {alone.path}"),
    ):
        with pytest.raises(Interrupted):
            train(ToyTrainer(5), run, console="plain", callbacks=[stop])
        assert f"continue with: {command}\n" in capsys.readouterr().out

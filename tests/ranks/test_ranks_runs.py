"""A run of several ranks: one folder, whatever their number; it repeats and goes on exactly."""

import json
import signal
import sys
from pathlib import Path

import pytest
from launch import job, launch
from playout.agents.runs.directory import RunDir

SHARED = """
from playout.agents.runs.loop import train
from toy_ranks import Forgetful, ToyRanks, open_run, outcome
where = Path({folder!r})

def go(name, updates, kind=ToyRanks, **more):
    trainer = kind(updates)
    train(trainer, open_run(where / name), console="plain", save_every=1, **more)
    return trainer
"""


def run_all(count, folder, body):
    return launch(count, SHARED.format(folder=str(folder)) + body)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of one rank and of two, some of them in pieces."""
    folder = tmp_path_factory.mktemp("ranks")
    body = "\n".join(f"go('{name}', {n})" for name, n in [("one", 6), ("to-two", 3)])
    run_all(1, folder, body)
    found = run_all(
        2,
        folder,
        """
go("two", 6)
go("again", 6)
go("pieces", 3)
trainer = go("pieces", 6, eval_every=2)
go("to-two", 6)
go("rated", 6, eval_every=1, keep=1)
go("forgetful", 3, Forgetful)
go("to-one", 3)
(where / "evaluations").mkdir(exist_ok=True)
(where / "evaluations" / str(ranks.rank())).write_text(str(trainer.evaluated))
""",
    )
    assert found == [None, None]
    run_all(1, folder, 'go("to-one", 6)')
    return folder


def outcome(path):
    sys.path.insert(0, str(Path(__file__).parent))
    from toy_ranks import outcome

    return outcome(path)


def weights(path):
    return [row["train/weight"] for row in outcome(path)[1]]


@pytest.mark.slow
def test_any_number_of_ranks_learns_the_same_to_rounding(folder):
    assert weights(folder / "two") == pytest.approx(weights(folder / "one"), rel=1e-12)
    maxima = [
        [row["rollout/walker_max"] for row in outcome(folder / name)[1]] for name in ("one", "two")
    ]
    assert maxima[0] == maxima[1]


def test_a_run_of_two_ranks_repeats_itself_byte_for_byte(folder):
    assert outcome(folder / "again") == outcome(folder / "two")


def test_a_run_in_pieces_equals_one_that_was_never_stopped(folder):
    assert outcome(folder / "pieces") == outcome(folder / "two")


@pytest.mark.parametrize("name", ["to-two", "to-one"])
def test_a_run_goes_on_with_another_number_of_ranks(folder, name):
    assert weights(folder / name) == pytest.approx(weights(folder / "one"), rel=1e-12)


def test_each_rank_has_its_part_in_one_manifest(folder):
    entry = RunDir.open(folder / "two").find()
    assert entry.ranks == 2
    names = {name for name in entry.files if name.startswith("rank-")}
    assert names == {"rank-0000.state.json", "rank-0001.state.json"}
    assert "ranks" not in json.loads((folder / "one/checkpoints/000006/MANIFEST.json").read_text())


def test_rank_0_alone_evaluates_and_writes_rows(folder):
    assert [(folder / "evaluations" / rank).read_text() for rank in "01"] == ["2", "0"]
    rows = [json.loads(line) for line in (folder / "two/metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == list(range(1, 7))
    assert all(0 < row["time/rank_fps_min"] <= row["time/rank_fps_max"] for row in rows)


@pytest.mark.slow
def test_what_one_rank_alone_meets_ends_the_run_of_all(memory_path):
    found = run_all(
        2,
        memory_path,
        """
import signal
from playout.agents.runs.signals import Interrupted

def asked(trainer):
    if ranks.rank() == 1 and trainer.n == 2:
        os.kill(os.getpid(), signal.SIGTERM)

class Satisfied(ToyRanks):
    finished = property(lambda self: self.n >= (4 if ranks.rank() else 6))

trainer, code = ToyRanks(6, asked), 0
try:
    train(trainer, open_run(where / "asked"), console="plain", save_every=100)
except Interrupted as error:
    code = error.code
return [code, trainer.n, go("satisfied", 6, Satisfied).n]
""",
    )
    assert found == [[128 + signal.SIGTERM, 3, 4]] * 2
    assert RunDir.open(memory_path / "asked").find().step == 3
    assert RunDir.open(memory_path / "satisfied").find().step == 4


def test_the_best_checkpoint_is_the_one_that_rank_0_rates_highest(folder):
    rows = [json.loads(line) for line in (folder / "rated/metrics.jsonl").read_text().splitlines()]
    best = RunDir.open(folder / "rated").find("best")
    scores = [row["eval/score"] for row in rows]
    assert best.metric == max(scores) and best.step == 1 + scores.index(max(scores)) < 6


def test_what_does_not_go_on_with_another_number_is_said(folder):
    script = SHARED.format(folder=str(folder)) + 'go("forgetful", 6, Forgetful)'
    code, out, err = job(1, "-c", "from pathlib import Path\n" + script)
    assert code == 0, err
    said = "saved by 2 ranks, continued by 1: what each rank had for itself begins anew"
    assert out.count(said) == 1
    assert RunDir.open(folder / "forgetful").find().ranks == 1

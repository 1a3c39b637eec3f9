"""The study of verified reward on a toy dataset: kept plans, speeds, and what rows say."""

import json
import re
import sys

import numpy as np
import pytest
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies import reasoning

TOY = """
class Sums:
    def tasks(self, split):
        digits = [(a, b) for a in range(5) for b in range(5) if (a + b + (split == "test")) % 2]
        return [{"question": f"{a} and {b} make", "answer": str(a + b)} for a, b in digits] * 4

    def reset(self, task, seed):
        self.task = task
        return task["question"]

    def step(self, answer):
        self.right = float(answer.strip() == self.task["answer"])
        return None, self.right, True

    def metrics(self):
        return {"correct": self.right}
"""
TINY = {"env": "sums_of_a_study:Sums", "minutes": 0.0, "width": 32, "layers": 1, "asked": 12}


@pytest.mark.slow
def test_the_study_runs_says_what_it_found_and_goes_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "sums_of_a_study.py").write_text(TOY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert reasoning.main(quick=True, folder="found", **TINY) == 0
    said = capsys.readouterr().out
    assert said.count("held-out questions") == 2 and "% right after 2 steps of imitation" in said
    page = (tmp_path / "found" / "index.html").read_text()
    part = "Sums/seed-0"
    assert "likeliest" in page and "sampled" in page and "difference" in page
    assert json.loads((tmp_path / "found" / part / "plan.json").read_text()) == {
        "sft": 2, "grpo": 2,
    }  # fmt: skip
    run = RunDir.open(tmp_path / "found" / part / "grpo")
    assert run.record["finished"] and run.config["group"] == 8
    assert reasoning.main(quick=True, folder="found", **TINY) == 0
    assert capsys.readouterr().out == said  # nothing is learned twice
    base = str(tmp_path / "found" / part / "sft" / "model")
    assert reasoning.main(quick=True, folder="reward", base=base, loosely="", **TINY) == 0
    said = capsys.readouterr().out
    assert "% right before, " in said and "imitation" not in said
    assert not (tmp_path / "reward" / "Sums-model" / "seed-0" / "sft").exists()
    sys.modules.pop("sums_of_a_study", None)


def test_a_row_is_told_in_points_with_its_intervals():
    row = {
        "asked": "sums", "model": "new", "seed": 3, "answers": "sampled",
        "questions": 200, "steps": 900, "updates": 70,
        "before": 0.25, "before (95 %)": [0.19, 0.31], "after": 0.6, "after (95 %)": [0.53, 0.67],
        "difference": 0.35, "difference (95 %)": [0.27, 0.43],
    }  # fmt: skip
    said = reasoning.told(row)
    assert re.search(r"25\.0 \(19\.0 to 31\.0\) % right after 900 steps", said)
    assert "60.0 (53.0 to 67.0) % after 70 rounds" in said and "35.0 (27.0 to 43.0) points" in said


def row_of(seed, difference, answers="likeliest"):
    low, high = difference - 0.05, difference + 0.05
    return {
        "asked": "sums", "model": "new", "seed": seed, "answers": answers, "questions": 100,
        "before": 0.2, "before (95 %)": [0.15, 0.25], "difference": difference,
        "after": 0.2 + difference, "after (95 %)": [0.5, 0.6], "difference (95 %)": [low, high],
        "steps": 9, "updates": 9,
    }  # fmt: skip


def test_rows_of_several_calls_stand_together_and_the_largest_gain_has_the_target(tmp_path):
    first = [row_of(0, 0.3), row_of(0, 0.1, "sampled")]
    assert reasoning.told_before(tmp_path, first) == first
    again = [row_of(0, 0.4), row_of(1, 0.5)]
    rows = reasoning.told_before(tmp_path, again)
    assert rows == [first[1], *again]
    means = {row["answers"]: row for row in reasoning.over_seeds(rows)}
    assert means["sampled"]["difference"] == pytest.approx((10, 5, 15))
    assert means["likeliest"]["difference"] == pytest.approx((45, 40, 50))
    wanted = [one for one in reasoning.claims_of([*means.values()]) if "target" in one]
    assert [one["row"] for one in wanted] == [
        "sums, new, likeliest answers (2 seeds, least to most)"
    ]
    assert wanted[0]["ours"]["median"] == pytest.approx(45) and wanted[0]["column"] == "gained"


def test_the_speed_is_that_of_steps_without_evaluations(tmp_path):
    run = RunDir.create(tmp_path / "run", kind="rlhf.sft", config={}, seed=0)
    clock = np.cumsum([5.0, 1.0, 9.0, 1.2, 1.1])
    rows = [
        {"time/elapsed": float(at), **({"eval/loss": 1.0} if number == 2 else {})}
        for number, at in enumerate(clock)
    ]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert reasoning.seconds_a_step(run) == pytest.approx(1.1)


def test_sums_are_asked_on_seeds_of_their_own():
    pytest.importorskip("reasoning_gym")
    factory = reasoning.load_environment(
        reasoning.ENV, reasoning.read_options(reasoning.Setting(examples=50, asked=20).tasks(1))
    )
    learned = {task["question"] for task in factory.tasks("train")}
    asked = {task["question"] for task in factory.tasks("test")}
    assert len(asked) > 15 and not learned & asked

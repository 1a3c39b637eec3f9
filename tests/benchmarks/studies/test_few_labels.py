"""The study of few labels: what is kept apart, which labels are known, and what is said."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from playout.benchmarks.studies.training import few_labels
from playout.rlhf.supervised.classify import TextTask


def test_no_text_that_is_asked_about_is_read_before():
    tasks, texts, _ = few_labels.material(few_labels.QUICK)
    read = {" ".join(text.split()) for text in texts}
    for task in tasks.values():
        asked = {" ".join(text.split()) for text in task.test[0]}
        assert len(asked) > 100 and not asked & read
    assert set(tasks["spam"].train[0]) <= set(texts)


def test_fewer_labels_are_among_more_and_differ_by_seed():
    texts = [f"text {number}" for number in range(50)]
    task = TextTask((texts, [float(n) for n in range(50)]), (["x"], [0.0]), ())
    few, more = (few_labels.labelled(task, count, seed=3).train for count in (10, 20))
    assert few[0] == more[0][:10] and len(set(more[0])) == 20
    assert all(text == f"text {number:.0f}" for text, number in zip(*more, strict=True))
    assert sorted(few_labels.labelled(task, 0, seed=3).train[0]) == sorted(texts)
    assert few_labels.labelled(task, 10, seed=4).train[0] != few[0]
    assert few_labels.labelled(task, 10, seed=3, draw=1).train[0] != few[0]


@pytest.mark.parametrize("kind", ["next", "masked"])
def test_reading_changes_the_model_and_lowers_its_loss(kind):
    form = replace(few_labels.QUICK, steps=2, masked_steps=2)
    _, _, tokenizer = few_labels.material(few_labels.QUICK)
    model = few_labels.fresh(form, tokenizer, kind, seed=0)
    assert model.config.causal is (kind == "next")
    first = few_labels.read(replace(form, source=few_labels.QUICK.source), model, kind, seed=0)
    later = few_labels.read(replace(form, steps=12, masked_steps=12), model, kind, seed=0)
    assert later < first - 0.1


def test_means_and_differences_are_those_of_the_seeds():
    rows = [
        {"task": "ratings", "labels": 100, "model": model, "seed": seed, "right": right}
        for model, rights in {
            few_labels.READ["next"]: (0.9, 0.8, 0.85),
            few_labels.FRESH["next"]: (0.7, 0.7, 0.7),
            few_labels.READ["masked"]: (0.5, 0.6, 0.7),
            few_labels.FRESH["masked"]: (0.6, 0.7, 0.8),
            few_labels.READ["larger"]: (0.9, 0.9, 0.9),
            few_labels.WORDS: (0.8, 0.8, 0.8),
        }.items()
        for seed, right in enumerate(rights)
    ]
    found, said = few_labels.compare(rows)
    mean, half = found["ratings, 100 labels"][few_labels.READ["next"]]
    # Student's t of two degrees of freedom, 4.303, times 5 points over the root of three.
    assert mean == pytest.approx(85) and half == pytest.approx(4.3027 * 5 / np.sqrt(3), rel=1e-3)
    assert "15 points more than the decoder, fresh" in said[0]
    assert "10 points less than the encoder, fresh" in said[1]
    assert "10 points more than TF-IDF" in said[2]
    beside, claim, *_ = few_labels.claims_of(found, 3)
    assert beside["ratio"] == pytest.approx(90 / 80) and beside["peer_name"] == "TF-IDF"
    assert claim["ours"]["min"] == pytest.approx(mean - half) and "(3 seeds)" in claim["row"]


@pytest.mark.slow
def test_the_quick_form_runs_and_keeps_its_cases(tmp_path):
    def run() -> str:
        # A process of its own: autograd allows no forks after its use.
        module = few_labels.COMMAND.split()[1:]
        words = [sys.executable, *module, "--quick", "--folder", str(tmp_path)]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    assert "ratings, 100 labels: decoder, next tokens first" in run()
    assert few_labels.WORDS in (tmp_path / "index.html").read_text(encoding="utf-8")
    kept = [line for line in (tmp_path / "cases.jsonl").read_text().splitlines() if line]
    # Of each model two tasks with few labels and with all; of the larger decoder with all alone.
    assert sorted(len(json.loads(line)[1]) for line in kept) == [2, 4, 4, 4, 4, 4]
    assert "6 of 6 cases kept from before" in run()

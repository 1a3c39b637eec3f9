"""Sentences of the report: each is said where the numbers show it, and only there."""

import math

import pytest
from playout.agents.runs.metrics import MetricsLog
from playout.rlhf.evaluation.findings import (
    of_best_of_n,
    of_classification,
    of_method,
    of_sampling,
)
from playout.rlhf.evaluation.report import curve, evaluations_of, sampling_gaps
from playout.rlhf.evaluation.wording import distinct_share, repeated_share

START = {
    "update": 0, "reward": 0.0, "reward_std": 0.5, "kl": 0.0, "judge": 0.2, "judge_std": 0.4,
    "ended": 0.45, "length": 26.0, "distinct_words": 0.6, "greedy_repeated": 0.05,
    "reward_ended": 0.1,
}  # fmt: skip


def row(**values):
    return {**START, **values}


def test_words_and_pairs_that_come_again_are_counted():
    assert distinct_share(["A good, good film.", "a film"]) == pytest.approx(3 / 6)
    assert repeated_share(["good and funny and funny and good"]) == pytest.approx(2 / 6)
    assert repeated_share(["a b c", "a b c"]) == 0
    assert distinct_share([]) == repeated_share([""]) == 0


def test_a_reward_that_the_judge_does_not_follow_is_called_exploited_from_the_judges_peak_on():
    rows = [START, row(update=3, reward=0.4, judge=0.5), row(update=9, reward=1.0, judge=0.22)]
    said = " ".join(of_method("rlhf", rows))
    assert "the judge did not follow (+0.05 deviations)" in said
    assert "at update 3 (0.500)" in said
    rows[-1] = row(update=9, reward=1.0, judge=0.8)
    assert "did not follow" not in " ".join(of_method("rlhf", rows))


def test_a_gain_that_is_learning_to_stop_is_said_and_one_that_is_not_is_not():
    stops = of_method("rlhf", [START, row(reward=1.0, reward_ended=0.3, ended=0.92)])
    assert any("only; the rest of the gain is learning to stop" in line for line in stops)
    assert any("answers that end 45.0 % to 92.0 %" in line for line in stops)
    writes = of_method("rlhf", [START, row(reward=1.0, reward_ended=1.1)])
    assert not any("learning to stop" in line for line in writes)


def test_likeliest_answers_that_repeat_themselves_are_named():
    said = of_method("rlhf", [START, row(greedy_repeated=0.5, judge=0.9)])
    assert any("likeliest answers repeat themselves (50.0 %" in line for line in said)


def test_runs_from_before_these_numbers_still_get_their_sentence():
    old = {"update": 0, "reward": 0.0, "reward_std": 0.5, "kl": 0.0}
    assert of_method("dpo", [old, {**old, "reward": 0.5, "kl": 2.0}]) == [
        "dpo: learned reward 0.00 to 0.50 (+1.00 deviations) at a KL of 2.0 nats a response."
    ]


def test_a_difference_within_the_interval_is_not_told_as_a_fact():
    table = [
        {"task": "topics", "model": "scratch", "accuracy": 0.70, "interval": [0.6, 0.78]},
        {"task": "topics", "model": "pretrained", "accuracy": 0.74, "interval": [0.65, 0.81]},
    ]
    (line,) = of_classification(table)
    assert line.endswith("74.0 % after it, 70.0 % without, which may be chance.")
    table[0]["accuracy"] = 0.5
    assert "chance" not in of_classification(table)[0]
    words = {"task": "topics", "model": "tf-idf", "accuracy": 0.74}
    assert "lies beside them at 74.0 %" in of_classification([*table, words])[0]


@pytest.mark.parametrize(("own", "verdict"), [(0.66, "did not help"), (0.72, "helped")])
def test_pretraining_that_did_not_help_is_said(own, verdict):
    table = [
        {"task": "ratings", "model": model, "pair_accuracy": value}
        for model, value in (("tf-idf", 0.741), ("scratch", 0.693), ("pretrained", own))
    ]
    (line,) = of_classification(table)
    assert line.startswith(f"Pretraining {verdict} on ratings")
    assert "counting words (TF-IDF) lies above them at 74.1 %" in line
    assert of_classification(table[:2]) == []


def test_best_of_n_is_compared_at_equal_kl():
    table = [{"n": 1, "kl": 0.0, "reward": 0.0}, {"n": 2, "kl": 0.2, "reward": 0.4}]
    (between,) = of_best_of_n("rlhf", {"kl": 0.1, "reward": 0.3}, table)
    assert "at its KL of 0.10, best of n reaches a reward of 0.20; the policy has 0.30" in between
    (beyond,) = of_best_of_n("rlhf", {"kl": 5.0, "reward": 0.3}, table)
    assert "best of 2, at a KL of 0.20 at most, reaches a reward of 0.40" in beyond
    assert of_best_of_n("rlhf", {"kl": 5.0, "reward": 0.3}, []) == []


def test_how_far_sampling_and_learning_lay_apart_is_one_sentence_of_the_whole_run(tmp_path):
    folders = {stage: tmp_path / stage for stage in ("rlhf", "grpo", "dpo", "none")}
    for stage, found in (("rlhf", (1e-5, math.nan, 3e-5)), ("grpo", (0.0,)), ("dpo", (None,))):
        folders[stage].mkdir()
        log = MetricsLog(folders[stage])
        for n, gap in enumerate(found, 1):
            gaps = {} if gap is None else {"val/sampling_gap": gap, "val/sampling_gap_max": 8 * gap}
            log.append(n, n, {"train/loss": 1.0, **gaps})
        log.close()
    gaps = sampling_gaps(folders)
    assert gaps == {"rlhf": pytest.approx((2e-5, 2.4e-4)), "grpo": (0.0, 0.0)}
    (line,) = of_sampling(gaps)
    assert "over the run: rlhf 2e-05 and 0.00024; grpo 0 and 0 (0 means that what was" in line
    assert of_sampling(sampling_gaps({"dpo": folders["dpo"]})) == []


def test_what_was_no_number_and_a_torn_line_are_no_points_of_a_curve(tmp_path):
    log = MetricsLog(tmp_path)
    for n, loss in enumerate((0.5, math.nan, 0.25), 1):
        log.append(n, n, {"eval/loss": loss})
    log.close()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"update":4,"st')
    assert curve(tmp_path, "eval/loss") == [(1, 0.5), (3, 0.25)]
    assert evaluations_of(tmp_path)[1:] == [{"update": 3.0, "loss": 0.25}]

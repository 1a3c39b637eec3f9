"""The statistics of benchmarks/learning.py against scipy's and against their own coverage."""

import numpy as np
import playout.benchmarks.learning as learning
import pytest
from playout.benchmarks.learning import bootstrap, interquartile_mean
from scipy import stats


def test_the_interquartile_mean_is_the_trimmed_mean():
    rng = np.random.default_rng(0)
    for count in (8, 12, 40):
        scores = rng.normal(size=(count, 1))
        wanted = stats.trim_mean(scores.reshape(-1), 0.25)
        assert interquartile_mean(scores) == pytest.approx(wanted)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(100):
        low, high = bootstrap(rng.normal(3.0, 1.0, size=(20, 2)), repeats=300, seed=seed)
        hits += low <= 3.0 <= high
    assert 82 <= hits <= 100


def test_tasks_are_not_mixed_when_seeds_are_drawn():
    scores = np.tile([[0.0, 100.0]], (10, 1))
    assert bootstrap(scores, repeats=200) == (50.0, 50.0)


def test_runs_of_the_peer_are_kept_before_there_are_any_of_ours(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(learning, "RESULTS", tmp_path)
    monkeypatch.setattr(learning, "write_result", lambda name, found, **_: written.append(found))
    theirs = {"CartPole-v1": [{"seed": 0, "steps": [1], "returns": [9.0], "final": 9.0}]}
    learning.write({}, theirs)
    assert written[0]["peer_runs"] == theirs and written[0]["runs"] == {}

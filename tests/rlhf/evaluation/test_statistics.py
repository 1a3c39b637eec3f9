"""Intervals and paired tests against scipy, closed forms and simulation."""

import tracemalloc

import numpy as np
import pytest
from playout.rlhf.evaluation import statistics
from playout.rlhf.evaluation.statistics import (
    bootstrap,
    calibration_error,
    corrected,
    pair_accuracy,
    paired_test,
    ratio_interval,
    reliability,
)
from scipy.stats import binomtest, permutation_test


def test_right_and_wrong_answers_are_compared_by_mcnemars_exact_test():
    first = np.array([1] * 40 + [0] * 10 + [1] * 9 + [0] * 2)
    second = np.array([1] * 40 + [0] * 10 + [0] * 9 + [1] * 2)
    found = paired_test(first, second)
    assert found.p == pytest.approx(binomtest(9, 11).pvalue)
    assert found.difference == pytest.approx(7 / 61) and found.items == 61
    assert found.interval[0] < 7 / 61 < found.interval[1]
    assert paired_test(first, first).p == 1.0


def test_other_values_are_compared_by_turning_signs():
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, 30)
    second = first + rng.normal(0.25, 0.6, 30)
    theirs = permutation_test(
        (first - second,), np.sum, permutation_type="samples", n_resamples=20_000, rng=1
    ).pvalue
    assert paired_test(first, second).p == pytest.approx(theirs, abs=0.02)


def test_a_ratio_is_that_of_sums_and_its_interval_covers_the_truth():
    value, low, high = ratio_interval([2.0, 4.0], [1.0, 3.0])
    assert value == 1.5 and low <= 1.5 <= high
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(60):
        sizes = rng.integers(5, 50, 80).astype(float)
        _, low, high = ratio_interval(sizes * 2 + rng.normal(0, 5, 80), sizes)
        inside += low <= 2 <= high
    assert inside >= 51


def test_holms_correction_is_that_of_the_textbook():
    assert corrected([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_reliability_has_a_row_a_bin_and_sums_to_the_error():
    p, y = [0.05, 0.07, 0.55, 0.95, 1.0], [0, 1, 1, 1, 0]
    rows = reliability(p, y)
    assert [row[0] for row in rows] == [2, 1, 2]
    assert calibration_error(p, y) == pytest.approx(
        (2 * abs(0.06 - 0.5) + abs(0.55 - 1) + 2 * abs(0.975 - 0.5)) / 5
    )


def test_tables_of_pairs_are_held_in_part_and_the_numbers_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 6, 700) / 2.0
    scores = truth + rng.integers(-3, 4, 700)
    apart, lead = truth[:, None] - truth, scores[:, None] - scores
    for gap in (0.0, 1.0):
        counted = ((apart >= gap) & (apart > 0)).astype(np.float32)
        right = (counted * ((lead > 0) + 0.5 * (lead == 0))).astype(np.float32)
        draws, found = np.random.default_rng(0), []
        for _ in range(20):
            drawn = np.bincount(draws.integers(0, 700, 700), minlength=700).astype(np.float32)
            found.append(float(drawn @ right @ drawn) / float(drawn @ counted @ drawn))
        whole = right.sum(dtype=np.float64) / counted.sum(dtype=np.float64)
        limits = tuple(np.quantile(found, [0.025, 0.975]))
        for held in (statistics.BLOCK, 5000):
            monkeypatch.setattr(statistics, "BLOCK", held)
            assert pair_accuracy(scores, truth, gap=gap) == whole
            assert bootstrap(scores, truth, gap=gap, draws=20) == limits
    many = rng.normal(size=1200)
    tracemalloc.start()
    pair_accuracy(many, many)
    ratio_interval(many)
    assert tracemalloc.get_traced_memory()[1] < 3e6  # a whole table of pairs takes 12 MB
    tracemalloc.stop()

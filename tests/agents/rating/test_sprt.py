"""The sequential test: closed forms, its error rates in simulation, bad input."""

import math

import numpy as np
import pytest
from playout.agents.rating.ratings import expected_score
from playout.agents.rating.sprt import MAX_ELO, SprtConfig, sprt
from playout.errors import ConfigError, DataError


def test_without_draws_the_ratio_is_the_binomial_one():
    config = SprtConfig(0, 100)
    p0, p1 = expected_score(0), expected_score(100)
    wins, losses = 60, 40
    expected = wins * math.log(p1 / p0) + losses * math.log((1 - p1) / (1 - p0))
    assert sprt([losses, 0, wins], config).llr == pytest.approx(expected, abs=0.02)


def test_pairs_without_luck_equal_single_games():
    # Pairs that are always two wins or two losses tell as much as half as many games.
    single = sprt([40, 0, 60], SprtConfig(0, 50))
    pairs = sprt([40, 0, 0, 0, 60], SprtConfig(0, 50))
    assert pairs.llr == pytest.approx(single.llr, abs=0.02)
    assert pairs.elo == pytest.approx(single.elo)
    # Pairs that are always split show equality at once.
    assert sprt([0, 0, 100, 0, 0], SprtConfig(0, 50)).decision == "H0"


def test_decisions_and_bounds():
    assert sprt([0, 0, 0]).decision == "open"
    assert sprt([100, 50, 300]).decision == "H1"
    assert sprt([300, 50, 100]).decision == "H0"
    found = sprt([10, 10, 11])
    assert found.decision == "open" and found.trials == 31
    assert found.upper == pytest.approx(math.log(0.95 / 0.05)) and found.lower == -found.upper
    assert math.isfinite(sprt([0, 0, 5]).llr) and sprt([0, 0, 50]).elo == math.inf


@pytest.mark.parametrize(("elo", "accepted"), [(0.0, "H0"), (60.0, "H1")])
def test_wrong_decisions_are_as_rare_as_promised(elo, accepted):
    rng = np.random.default_rng(int(elo))
    config = SprtConfig(0, 60)
    win = expected_score(elo) - 0.1
    right = 0
    for _ in range(60):
        counts = np.zeros(3, int)
        while sprt(counts, config).decision == "open":
            counts += rng.multinomial(20, [0.8 - win, 0.2, win])
        right += sprt(counts, config).decision == accepted
    assert right >= 53  # 95 % of 60 are 57; fewer than 53 come once in a hundred


@pytest.mark.parametrize("counts", [[0, 0, 1], [10**6, 0, 0], [3, 0, 0, 0, 7]])
def test_hypotheses_may_be_as_far_apart_as_is_allowed(counts):
    for bounds in ((-MAX_ELO, MAX_ELO), (0, MAX_ELO), (-MAX_ELO, 0)):
        assert math.isfinite(sprt(counts, SprtConfig(*bounds)).llr)


@pytest.mark.parametrize("counts", [[1, 2], [1, 2, 3, 4], [-1, 0, 3], [1, 2, math.nan]])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(DataError, match="counts"):
        sprt(counts)


@pytest.mark.parametrize(
    "text", ["", "5", "a,b", "20,0", "0,20,40", "nan,1", "0,inf", "0,9000", "-1e6,0"]
)
def test_texts_that_are_no_test_are_refused(text):
    with pytest.raises(ConfigError, match="SPRT"):
        SprtConfig.parse(text)


def test_hypotheses_are_read_from_text_and_rates_are_checked():
    assert SprtConfig.parse("-5,10.5") == SprtConfig(-5, 10.5)
    with pytest.raises(ConfigError, match="alpha"):
        SprtConfig(0, 10, alpha=0.7)

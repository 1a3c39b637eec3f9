"""Ratings against closed forms, brute-force optimisation, simulated players and choix."""

import math

import numpy as np
import pytest
from playout.agents.rating.ratings import (
    Result,
    elo_of_score,
    expected_score,
    rate,
    weight_at_tables,
)
from playout.errors import DataError


def shares(x, draw):
    weights = np.exp([x / 2, draw, -x / 2])
    return weights / weights.sum()


def simulate(rng, strengths, advantage, draw, games):
    """Results of a round robin under Davidson's model, strengths in natural units."""
    results = []
    for i, a in enumerate(strengths):
        for j, b in enumerate(strengths):
            if i != j:
                counts = rng.multinomial(games, shares(a - b + advantage, draw))
                results.append(Result(f"p{i}", f"p{j}", *counts.tolist()))
    return results


def test_two_players_have_the_rating_of_the_closed_form():
    # Equal numbers with either colour and no draws: 400 log10(wins / losses).
    found = rate([("a", "b", 50, 0, 20), ("b", "a", 20, 0, 50)], anchor="b")
    assert found["a"].elo == pytest.approx(400 * math.log10(100 / 40), abs=0.3)
    assert found["b"].elo == found["b"].low == found["b"].high == 0
    assert found.advantage[0] == pytest.approx(0, abs=1e-6)
    assert [player.name for player in found.players] == ["a", "b"]


def test_the_first_move_and_draws_have_their_closed_form():
    # Equal players: the advantage is 400 log10(wins / losses) of the first, draws are as seen.
    results = [("a", "b", 60, 60, 30), ("b", "a", 60, 60, 30)]
    found = rate(results, prior=False)
    assert found["a"].elo == pytest.approx(0, abs=1e-4)
    assert found.advantage[0] == pytest.approx(400 * math.log10(2), abs=1e-3)
    nu = 60 / math.sqrt(60 * 30)
    assert found.draw_share == pytest.approx(nu / (2 + nu), abs=1e-6)


def test_the_maximum_equals_brute_force_optimisation():
    from scipy.optimize import minimize

    results = [
        Result("a", "b", 12, 5, 3),
        Result("b", "c", 7, 6, 9),
        Result("c", "a", 4, 2, 14),
        Result("b", "a", 6, 1, 8),
    ]

    def loss(theta):
        strength = {"a": 0.0, "b": theta[0], "c": theta[1]}
        total = 0.0
        for first, second, *counts in results:
            share = shares(strength[first] - strength[second] + theta[2], theta[3])
            total -= np.dot(counts, np.log(share))
        return total

    best = minimize(
        loss, np.zeros(4), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    best = minimize(loss, best.x, method="BFGS").x * 400 / math.log(10)
    found = rate(results, anchor="a", prior=False)
    assert found["b"].elo == pytest.approx(best[0], abs=0.01)
    assert found["c"].elo == pytest.approx(best[1], abs=0.01)
    assert found.advantage[0] == pytest.approx(best[2], abs=0.01)
    with_prior = rate(results, anchor="a")
    assert with_prior["c"].elo == pytest.approx(found["c"].elo, abs=3)


@pytest.mark.slow
def test_simulated_strengths_come_back_and_intervals_cover_them():
    rng = np.random.default_rng(5)
    true = np.array([0.0, 0.5, 1.0, 2.0])
    inside = total = 0
    for _ in range(12):
        found = rate(simulate(rng, true, 0.3, -0.5, 60), anchor="p0")
        for i in range(1, 4):
            rating, elo = found[f"p{i}"], true[i] * 400 / math.log(10)
            inside += rating.low <= elo <= rating.high
            total += 1
        low, high = found.advantage[1:]
        inside += low <= 0.3 * 400 / math.log(10) <= high
        total += 1
    assert inside >= 41  # of 48; 95 % are 45.6
    large = rate(simulate(rng, true, 0.3, -0.5, 20_000), anchor="p0")
    for i in range(1, 4):
        assert large[f"p{i}"].elo == pytest.approx(true[i] * 400 / math.log(10), abs=8)


def test_profile_and_normal_intervals_agree_on_many_games():
    results = [("a", "b", 900, 300, 800), ("b", "a", 850, 300, 850)]
    profile, normal = rate(results, anchor="a"), rate(results, anchor="a", intervals="normal")
    assert profile["b"].low == pytest.approx(normal["b"].low, abs=0.3)
    assert profile["b"].high == pytest.approx(normal["b"].high, abs=0.3)
    wide = rate(results, anchor="a", confidence=0.99)["b"]
    assert wide.low < profile["b"].low and wide.high > profile["b"].high


def test_a_clean_sweep_has_a_finite_rating_and_a_lopsided_interval():
    found = rate([("a", "b", 50, 0, 0), ("b", "a", 0, 0, 50)], anchor="b")["a"]
    assert 400 < found.elo < 5000
    assert found.high - found.elo > found.elo - found.low
    # Expected score at the lower end: such a sweep must be possible, if not likely.
    assert expected_score(found.low) ** 100 > 0.005
    with pytest.raises(DataError, match="prior"):
        rate([("a", "b", 50, 0, 0)], prior=False)


def test_without_an_anchor_the_mean_is_zero_and_differences_stay():
    results = [("a", "b", 10, 2, 5), ("b", "c", 10, 2, 5), ("c", "a", 3, 2, 11)]
    free, anchored = rate(results), rate(results, anchor="c", anchor_elo=1500)
    assert sum(player.elo for player in free.players) == pytest.approx(0, abs=1e-6)
    assert anchored["c"].elo == 1500
    gap = anchored["a"].elo - anchored["b"].elo
    assert free["a"].elo - free["b"].elo == pytest.approx(gap, abs=0.2)
    assert free.superiority("a", "b") == pytest.approx(anchored.superiority("a", "b"), abs=0.01)
    assert free.superiority("a", "b") + free.superiority("b", "a") == pytest.approx(1)


def test_results_of_half_the_weight_count_like_half_as_many():
    results = [("a", "b", 10, 2, 6), ("b", "c", 8, 4, 6), ("c", "a", 4, 2, 12)]
    doubled = [(*names, 2 * w, 2 * d, 2 * x) for *names, w, d, x in results]
    one, two = rate(results, anchor="a"), rate(doubled, anchor="a", weight=0.5)
    for player in one.players:
        other = two[player.name]
        for mine, its in zip(
            (player.elo, player.low, player.high), (other.elo, other.low, other.high), strict=True
        ):
            assert mine == pytest.approx(its, abs=1e-3)
    assert [weight_at_tables(players) for players in (1, 2, 3, 4)] == [1, 1, 2 / 3, 1 / 2]


def test_counts_scores_and_their_elo():
    found = rate([("a", "b", 3, 2, 1), ("b", "a", 0, 1, 1)])
    assert found["a"].games == 8
    assert found["a"].score == (3 + 1 + 0.5 + 1) / 8
    assert expected_score(0) == 0.5 and expected_score(400) == pytest.approx(10 / 11)
    assert elo_of_score(10 / 11) == pytest.approx(400)
    assert elo_of_score(1) == math.inf and elo_of_score(0) == -math.inf


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "no games"),
        ([("a", "b", 0, 0, 0)], "no games"),
        ([("a", "a", 1, 0, 0)], "against itself"),
        ([("a", "b", -1, 0, 0)], "whole numbers"),
        ([("a", "b", 1.5, 0, 0)], "whole numbers"),
    ],
)
def test_results_that_cannot_be_are_refused(results, message):
    with pytest.raises(DataError, match=message):
        rate(results)


def test_an_anchor_that_did_not_play_is_refused():
    with pytest.raises(DataError, match="anchor"):
        rate([("a", "b", 1, 0, 0)], anchor="c")
    with pytest.raises(DataError, match="score"):
        elo_of_score(1.5)
    with pytest.raises(KeyError):
        rate([("a", "b", 1, 0, 0)])["c"]


@pytest.mark.peer
def test_choix_finds_the_same_strengths():
    choix = pytest.importorskip("choix")
    rng = np.random.default_rng(3)
    results = simulate(rng, [0.0, 0.4, 1.1], 0.0, -30.0, 200)
    pairs = []
    for first, second, wins, _, losses in results:
        i, j = int(first[1]), int(second[1])
        pairs += [(i, j)] * wins + [(j, i)] * losses
    theirs = choix.ilsr_pairwise(3, pairs) * 400 / math.log(10)
    ours = rate(results, anchor="p0")
    for i in (1, 2):
        assert ours[f"p{i}"].elo == pytest.approx(theirs[i] - theirs[0], abs=3)

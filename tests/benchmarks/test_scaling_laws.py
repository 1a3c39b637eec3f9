"""Laws of the study of scaling, on losses that follow one exactly or with a little noise."""

import numpy as np
import pytest
from playout.benchmarks.studies.scaling import (
    Surface,
    fit_surface,
    frontier,
    predict_largest,
    study,
)
from playout.benchmarks.studies.smaller_language import halves

LAW = Surface(0.9, 40.0, 0.35, 300.0, 0.4)


def runs(noise=0.0):
    rng = np.random.default_rng(0)
    return [
        {
            "parameters": parameters,
            "tokens": tokens,
            "operations": 6 * parameters * tokens,
            "held-out loss": LAW(parameters, tokens) * float(np.exp(noise * rng.normal())),
        }
        for parameters in (5e3, 2e4, 8e4, 3e5)
        for tokens in (1e6, 3e6, 1e7)
    ]


def test_the_surface_of_exact_losses_is_found():
    found = fit_surface(runs())
    assert found.alpha == pytest.approx(LAW.alpha, abs=0.02)
    assert found.beta == pytest.approx(LAW.beta, abs=0.03)
    assert found(1e6, 1e8) == pytest.approx(LAW(1e6, 1e8), rel=0.01)


def test_the_dearest_run_is_predicted_from_the_others():
    found = predict_largest(runs(noise=0.003))
    assert found["measured"] == runs(noise=0.003)[-1]["held-out loss"]
    assert found["off by"] < 0.02
    low, high = found["range"]
    assert low <= found["predicted"] * 1.001 and found["predicted"] <= high * 1.001


def test_the_frontier_holds_what_no_cheaper_run_beats():
    best = frontier(runs())
    losses = [row["held-out loss"] for row in best]
    assert losses == sorted(losses, reverse=True)


def test_half_of_the_text_is_half_and_filters_leave_no_duplicates():
    texts = ["the film was good and the cast sang well"] * 10
    texts += [f"the story of number {i} was told" for i in range(30)]
    found = list(halves(texts, seed=0).values())
    assert found[0].sum() == 20
    assert found[1][:10].sum() == 1


@pytest.mark.filterwarnings("error")
def test_few_runs_are_fitted_without_a_floor_and_many_with_one():
    sizes = [1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6]
    rows = [{"x": x, "y": 1.5 + 20 * x**-0.5} for x in sizes]
    few = study(rows[:4], "x", "y")
    assert few["law"].floor == 0
    many = study(rows, "x", "y")
    assert many["law"].floor == pytest.approx(1.5, abs=0.05)
    assert many["range"][0] <= many["exponent"] <= many["range"][1]
    assert many["off by"] < 0.01

"""Laws of the study of scaling, on losses that follow one exactly or with a little noise."""

import numpy as np
import pytest
from playout.agents.pretraining.trunk import new_trunk
from playout.benchmarks.studies.page import Page
from playout.benchmarks.studies.scaling import add_boards
from playout.benchmarks.studies.smaller_language import halves
from playout.benchmarks.studies.training import solved_boards
from playout.benchmarks.studies.training.laws import (
    PRODUCT,
    SUM,
    Law,
    Surface,
    cost_of,
    fit_surface,
    frontier,
    predict_largest,
    study,
)
from playout.benchmarks.studies.training.solved_boards import BOARD, LOST
from torch import nn

LAW = Surface(SUM, 0.9, 40.0, 0.35, 300.0, 0.4)
TOGETHER = Surface(PRODUCT, 0.7, 60.0, 0.1, 1.0, 0.18)


def runs(noise=0.0, law=LAW):
    rng = np.random.default_rng(0)
    return [
        {
            "parameters": parameters,
            "tokens": tokens,
            "operations": 6 * parameters * tokens,
            "held-out loss": law(parameters, tokens) * float(np.exp(noise * rng.normal())),
        }
        for parameters in (5e3, 2e4, 8e4, 3e5)
        for tokens in (1e6, 3e6, 1e7)
    ]


def test_surfaces_are_what_their_forms_say():
    assert LAW(1e6, 1e8) == pytest.approx(0.9 + 40 * 1e6**-0.35 + 300 * 1e8**-0.4)
    assert TOGETHER(1e6, 1e8) == pytest.approx(0.7 + 60 * 1e6**-0.1 * 1e8**-0.18)


@pytest.mark.parametrize("law", [LAW, TOGETHER], ids=["sum", "product"])
def test_the_surface_of_exact_losses_is_found(law):
    found = fit_surface(runs(law=law), law.form)
    assert found.alpha == pytest.approx(law.alpha, abs=0.02)
    assert found.beta == pytest.approx(law.beta, abs=0.03)
    assert found(1e6, 1e8) == pytest.approx(law(1e6, 1e8), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("law", [LAW, TOGETHER], ids=["sum", "product"])
def test_the_dearest_run_is_predicted_from_the_others(law):
    found = predict_largest(runs(0.003, law))
    assert found["form"] == law.form
    off = found["off, of left out"]
    assert off[law.form] == min(off.values()) and 0.001 < off[law.form] < 0.01
    assert found["measured"] == runs(0.003, law)[-1]["held-out loss"]
    assert found["off by"] < 0.02
    low, high = found["range"]
    assert low <= found["predicted"] * 1.001 and found["predicted"] <= high * 1.001


@pytest.mark.slow
def test_the_form_of_a_law_is_chosen_without_the_run_that_it_has_to_predict():
    rows = runs(0.003)
    asked = predict_largest(rows)
    other = predict_largest([*rows[:-1], rows[-1] | {"held-out loss": 9.0}])
    same = ("form", "off, of left out", "predicted", "range")
    assert [asked[key] for key in same] == [other[key] for key in same]
    assert other["measured"] == 9.0


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


def test_operations_count_a_weight_once_for_every_cell_that_it_meets():
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(60, 7))
    assert solved_boards.operations(net, 4 * 5) == 6 * (2 * 3 * 9 * 20 + 60 * 7)


@pytest.mark.slow
def test_networks_of_several_boards_are_measured_against_exact_play(monkeypatch):
    monkeypatch.setitem(solved_boards.COUNTS, True, 200)
    monkeypatch.setitem(solved_boards.STEPS, True, 20)
    small, large = (
        solved_boards.board_run(True, board, "4x1", seed=0) for board in ((4, 4), (5, 4))
    )
    assert (small[BOARD], large[BOARD]) == ("4x4", "5x4")
    for row in (small, large):
        assert 0 < row[LOST] < 1 and 0 < row["random moves lose"] < 1
    data = solved_boards.data_of(True, (5, 4), 0)
    trunk = new_trunk(data.train, size="4x1", seed=0)
    assert large["operations"] == 20 * 128 * solved_boards.operations(trunk, 20)
    assert large["operations"] > small["operations"]


def test_strength_by_board_has_laws_from_zero_and_says_what_the_same_strength_costs(tmp_path):
    def row(board, scale, size):
        lost = scale * size**-0.5
        return {BOARD: board, "network": f"{size:g}", "operations": size, LOST: lost}

    rows = [row(b, s, x) for b, s in (("4x4", 10.0), ("5x4", 20.0)) for x in (1e4, 4e4, 9e4, 1e6)]
    page = Page("t", "q")
    found = add_boards(page, tmp_path, rows)
    assert found["boards"] == rows and set(found["board laws"]) == {"4x4", "5x4"}
    law = found["board laws"]["5x4"]
    assert law["exponent"] == pytest.approx(0.5, abs=1e-4) and law["off by"] < 1e-3
    said = page.write(tmp_path).read_text()
    assert "2.0 % of moves" in said and "2.5e+05 on 4x4, 1e+06 on 5x4" in said
    assert (tmp_path / "boards.png").stat().st_size > 5000
    assert cost_of(Law(0.0, 1.0, 0.0), 0.5) == float("inf")
    assert cost_of(Law(0.0, 1.0, 1e-4), 0.5) == float("inf")  # more than a number holds
    assert cost_of(Law(0.1, 1.0, 0.5), 0.1) == float("inf")

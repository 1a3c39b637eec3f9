"""Full forms of studies leave their page, numbers and findings with the results."""

import json

import pytest
from playout.benchmarks.studies import ablations, compression, page, scaling, smaller_language
from playout.benchmarks.studies.training import laws, stacks, transformers
from playout.benchmarks.studies.training.solved_boards import BOARD, LOST
from playout.benchmarks.tools import measuring, report


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The folder of results, empty."""
    folder = tmp_path / "results"
    monkeypatch.setattr(measuring, "RESULTS", folder)
    monkeypatch.setattr(page, "STUDIES", folder / "studies")
    return folder


def read(results, name):
    return json.loads((results / "studies" / "training" / f"{name}.json").read_text())["results"]


def language_rows():
    """Losses by size and text that follow a surface exactly."""
    surface = laws.Surface(laws.SUM, 0.9, 40.0, 0.35, 300.0, 0.4)
    return [
        {
            "parameters": parameters,
            "tokens": tokens,
            "operations": 6 * parameters * tokens,
            "held-out loss": surface(parameters, tokens),
        }
        for parameters in (1e5, 4e5, 1.6e6)
        for tokens in (1e6, 4e6, 1.6e7)
    ]


def board_rows():
    sizes = ((1e9, 0.2), (4e9, 0.1), (1.6e10, 0.05), (6.4e10, 0.025))
    return [{BOARD: name, "operations": x, LOST: y} for name in ("5x4", "6x5") for x, y in sizes]


@pytest.mark.slow
def test_scaling_leaves_a_page_and_how_far_its_predictions_are_off(results, tmp_path, monkeypatch):
    rows = language_rows(), board_rows()
    monkeypatch.setattr(scaling, "all_runs", lambda **_: rows)
    assert scaling.main(folder=tmp_path / "run") == 0
    found = read(results, "scaling")
    assert len(found["findings"]) == 1 + 3
    off = {claim["claim"].split(": ")[1]: claim for claim in found["claims"]}
    names = ["language, by parameters and text", "language, by operations"]
    assert [*off] == [*names, "Connect Four 5x4", "Connect Four 6x5"]
    assert off[names[0]]["ours"] < 0.1 and off[names[0]]["target"] == 2
    assert off["Connect Four 5x4"]["ours"] == pytest.approx(0, abs=1e-3)
    folder = results / "studies" / "training" / "scaling"
    assert {one.name for one in folder.iterdir()} == {"index.html", "language.png", "boards.png"}
    told = report.report(results)
    assert "results/studies/training/scaling/index.html" in told
    assert f"- {found['findings'][0]}" in told and "| loss of the largest run" in told
    assert scaling.main(quick=True, folder=tmp_path / "quick") == 0
    assert read(results, "scaling") == found  # a quick form leaves nothing


def outcome(held_out, curve=((1, 0.3, 0.3), (2, 0.6, 0.5))):
    return {
        "held_out": held_out, "train": 0.6, "curve": curve, "norms": [0.1, 0.2], "diverged": False
    }  # fmt: skip


@pytest.mark.slow
def test_ablations_of_pictures_and_text_leave_a_page_and_what_each_remedy_does(
    results, tmp_path, monkeypatch
):
    def made(function, cases, kept):
        return [
            outcome(0.4 + 0.1 * ("residual" in name) + 0.01 * seed) for _, name, _, seed in cases
        ]

    monkeypatch.setattr(ablations, "side_by_side", made)
    monkeypatch.setattr(stacks, "pictures_of", lambda quick: _Named())
    monkeypatch.setattr(transformers, "text_of", lambda quick: None)
    assert ablations.main(seeds=(0, 1), folder=tmp_path / "run") == 0
    found = read(results, "ablations")
    deepest = [one for one in found["depth"][0] if one.startswith("64")]
    assert deepest == ["64 layers"] and len(found["text overfitting"]) > 3
    best = [one for one in found["findings"] if one.startswith("With 64 layers the best is")]
    of_pictures, of_text = best  # where more is better, and where less is
    assert "residual" in of_pictures and "10 points better" in of_pictures
    assert "the best is 'nothing, small first weights'" in of_text
    folder = results / "studies" / "training" / "ablations"
    pictures = {"gradients.png", "overfitting.png", "text_gradients.png", "text_overfitting.png"}
    assert {one.name for one in folder.iterdir()} == {"index.html", *pictures}


class _Named:
    class train:
        name = "clothes"


def test_claims_of_smaller_networks_are_held_against_the_teacher():
    def row(network, kind, kept, speed):
        return {"network": network, "type": kind, "moves kept": kept, "evaluations/s": speed}

    rows = [
        row("teacher 64x6", "float32", 0.97, 100.0),
        row("teacher 64x6", "bfloat16", 0.97, 200.0),
        row("teacher 64x6", "int8", 0.966, 280.0),
        row("student 32x4, distilled", "float32", 0.955, 400.0),
        row("student with half of its teacher's inner channels, distilled", "float32", 0.97, 150.0),
        row("student with a quarter of its teacher's inner channels, distilled", "float32", 0.962,
            350.0),
    ]  # fmt: skip
    speed, quantised, student, narrowed = compression.claims_of(rows)
    assert speed["ratio"] == pytest.approx(1.4) and report.verdict(speed) == "yes"
    assert quantised["ours"] == pytest.approx(0.4) and report.verdict(quantised) == "yes"
    assert student["ours"] == pytest.approx(1.5) and report.verdict(student) == "**no**"
    assert narrowed["ours"] == pytest.approx(0.8) and report.verdict(narrowed) == "yes"
    without = [one for one in rows if one["type"] != "bfloat16"]
    assert compression.claims_of(without)[0]["ratio"] == pytest.approx(2.8)
    mixture = {"kind": "experts", "more bits": [-0.03, -0.01], "in the middle": -0.02}
    claim = smaller_language.claim_of_experts([{"kind": "dense"}, mixture], "command")
    assert report.middle(claim["ours"]) == pytest.approx(-0.02) and report.verdict(claim) == "yes"

"""What all benchmarks share: turns, ratios, and a result file that is never half-written."""

import importlib
import json
import sys
from copy import copy

import numpy as np
import pytest
from playout.benchmarks.tools import measuring, report


def test_candidates_run_turn_about_and_ratios_are_by_round():
    order = []

    def candidate(name):
        def run():
            order.append(name)
            return 10

        return run

    rates = measuring.measure({"a": candidate("a"), "b": candidate("b")}, repeats=3, warmup=1)
    assert order == ["a", "b"] * 4
    assert len(rates["a"].runs) == 3
    assert rates["a"].min <= rates["a"].median <= rates["a"].max
    assert rates["a"].over(rates["a"]).runs == (1, 1, 1)


def test_a_result_says_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path / "results")
    rate = measuring.Rate.of([1.0, 3.0, 2.0])
    payload = {"rate": rate, "number": np.float32(0.1), "list": (1, None, np.arange(2))}
    path = measuring.write_result("trial", payload, settings={"seed": 1})
    data = json.loads(path.read_text())
    assert data["results"]["rate"] == {"median": 2, "min": 1, "max": 3, "runs": [1, 3, 2]}
    assert data["results"]["number"] == 0.1
    assert data["results"]["list"] == [1, None, [0, 1]]
    assert data["machine"]["processor"] and "numpy" in data["versions"]
    assert data["settings"] == {"seed": 1}
    with pytest.raises(TypeError):
        measuring.write_result("trial", {"bad": object()})
    assert json.loads(path.read_text()) == data
    assert [file.name for file in path.parent.iterdir() if file.suffix == ".json"] == ["trial.json"]


def test_a_missing_peer_is_told_and_not_fatal(capsys):
    assert measuring.peer("no_such_module_at_all", "no-such-package") is None
    assert "pip install no-such-package" in capsys.readouterr().err


def test_numbers_are_shown_short():
    assert [measuring.short(n) for n in (0.5, 12, 1234, 4.56e6, 7.8e9)] == [
        "0.5",
        "12",
        "1.23 k",
        "4.56 M",
        "7.8 G",
    ]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("envs", {"control_claims": [{"ours": 1}], "board_claims": [], "SIZES": (), "TASKS": ()}),
        ("ppo", {"throughput": {"claims": []}, "solving": {"claims": []}}),
        ("solver", {"PLIES": (), "batched": {}, "beside_openspiel": {}}),
    ],
)
@pytest.mark.parametrize("quick", [True, False])
def test_only_the_full_form_replaces_results(monkeypatch, name, parts, quick):
    module = importlib.import_module(f"playout.benchmarks.{name}")
    for part, value in parts.items():
        found = value if part.isupper() else lambda *_, value=value: copy(value)
        monkeypatch.setattr(module, part, found)
    if name == "envs":
        floor = {"arithmetic_steps_per_s": 1.0, "memory_steps_per_s": 1.0}
        monkeypatch.setattr(module, "cartpole_floor", lambda count: floor)
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    written = []
    monkeypatch.setattr(module, "write_result", lambda name, *_, **__: written.append(name))
    monkeypatch.setattr(sys, "argv", [name, "--quick"] if quick else [name])
    module.main()
    assert written == ([] if quick else [name])


def test_the_version_of_lightzero_is_that_of_its_own_interpreter(tmp_path, monkeypatch):
    search = importlib.import_module("playout.benchmarks.search")
    there = tmp_path / "LightZero-7.8.9.dist-info"
    there.mkdir()
    (there / "METADATA").write_text("Metadata-Version: 2.1\nName: LightZero\nVersion: 7.8.9\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert search.lightzero_version(sys.executable) == "7.8.9"


def test_two_threads_are_to_be_as_much_faster_as_there_are_trees():
    search = importlib.import_module("playout.benchmarks.search")
    rates = {"one": measuring.Rate.of([10.0]), "two": measuring.Rate.of([17.0])}
    scaling = {
        f"gumbel 32, {n} trees": rates | {"ratio": measuring.Rate.of([1.7])} for n in (64, 2)
    }
    many, few = measuring.plain(search.scaling_claims(scaling))
    assert (many["target"], report.verdict(many)) == (1.8, "**no**")
    assert (few["target"], report.verdict(few)) == (1.6, "yes")
    before = {"claims": [{"claim": "something else"}, {**few, "target": 9}], "memory": 5}
    now = search.with_scaling(before, scaling)
    assert [claim.get("target") for claim in now["claims"]] == [None, 1.8, 1.6]
    assert now["memory"] == 5 and now["scaling"] is scaling


@pytest.mark.parametrize("name", ["rules", "games"])
def test_a_game_that_is_misspelt_is_refused_with_those_there_are(monkeypatch, capsys, name):
    module = importlib.import_module(f"playout.benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "othello", "otello", "--quick"])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    said = capsys.readouterr()
    line = said.err.splitlines()[-1]
    assert "argument GAME: no 'otello' here; there are backgammon, " in line and not said.out
    assert ", go, " in line and ", hex, " in line and "(" not in line

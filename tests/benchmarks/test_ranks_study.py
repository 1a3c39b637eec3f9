"""What `playout bench ranks --only` keeps of an earlier measurement."""

import json

from playout.benchmarks.studies import ranks
from playout.benchmarks.tools import measuring
from playout.benchmarks.tools.measuring import Rate, machine, plain


def case(rate, ratio):
    """A trainer's numbers, in the form that a measurement has."""
    rates = {"one rank": Rate.of([100.0]), "two ranks": Rate.of([rate])}
    return {
        "unit": "steps/s",
        "wanted": 1.6,
        "rates": rates,
        "ratios": {"two ranks": Rate.of([ratio])},
    }


def write(path, machine):
    """An earlier result of two trainers, with peers."""
    cases = {"ppo": case(120.0, 1.2), "language": case(180.0, 1.8)}
    results = {"cases": cases, "claims": ranks.claims_of(cases), "peers": {"nanoGPT": 1}}
    path.write_text(json.dumps(plain({"machine": machine, "results": results})))


def test_trainers_that_are_not_measured_keep_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    write(tmp_path / "ranks.json", machine())
    found = plain(ranks.with_earlier({"ppo": case(170.0, 1.7)}))
    ratios = {claim["claim"].partition(":")[0]: claim["ratio"] for claim in found["claims"]}
    assert {name: ratio["median"] for name, ratio in ratios.items()} == {
        "language": 1.8,
        "ppo": 1.7,
    }
    assert len(found["claims"]) == 2 and found["cases"].keys() == {"ppo", "language"}
    assert found["peers"] == {"nanoGPT": 1}


def test_numbers_of_another_machine_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    write(tmp_path / "ranks.json", {**machine(), "processor": "another"})
    assert ranks.with_earlier({"ppo": case(170.0, 1.7)})["cases"].keys() == {"ppo"}

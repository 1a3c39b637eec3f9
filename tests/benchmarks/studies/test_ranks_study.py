"""What `playout bench ranks --only` keeps of an earlier measurement, and what it predicts."""

import json

import pytest
from playout.benchmarks.studies import ranks
from playout.benchmarks.tools import larger_jobs, measuring
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


def result_in(folder):
    """The file of the study's last result."""
    path = folder / "studies" / "jobs" / "ranks.json"
    path.parent.mkdir(parents=True)
    return path


def write(path, machine):
    """An earlier result of two trainers, with peers."""
    cases = {"ppo": case(120.0, 1.2), "language": case(180.0, 1.8)}
    results = {"cases": cases, "claims": ranks.claims_of(cases), "peers": {"nanoGPT": 1}}
    path.write_text(json.dumps(plain({"machine": machine, "results": results})))


def test_trainers_that_are_not_measured_keep_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    write(result_in(tmp_path), machine())
    now = {"ppo": case(170.0, 1.7)}
    found = plain(ranks.with_earlier(now, ranks.claims_of(now)))
    ratios = {claim["claim"].partition(":")[0]: claim["ratio"] for claim in found["claims"]}
    assert {name: ratio["median"] for name, ratio in ratios.items()} == {
        "language": 1.8,
        "ppo": 1.7,
    }
    assert len(found["claims"]) == 2 and found["cases"].keys() == {"ppo", "language"}
    assert found["peers"] == {"nanoGPT": 1}


def test_what_is_not_measured_of_a_trainer_keeps_its_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    before = case(120.0, 1.2)
    before["rates"]["one process before"] = Rate.of([90.0])
    before["ratios"]["one process before"] = Rate.of([0.9])
    results = {"cases": {"ppo": before}, "claims": ranks.claims_of({"ppo": before})}
    stored = plain({"machine": machine(), "results": results})
    result_in(tmp_path).write_text(json.dumps(stored))
    now = {"ppo": case(170.0, 1.7)}
    found = plain(ranks.with_earlier(now, ranks.claims_of(now)))["claims"]
    assert [claim["ratio"]["median"] for claim in found] == [pytest.approx(100 / 90, rel=1e-4), 1.7]


def test_numbers_of_another_machine_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    write(result_in(tmp_path), {**machine(), "processor": "another"})
    assert ranks.with_earlier({"ppo": case(170.0, 1.7)}, [])["cases"].keys() == {"ppo"}


def test_a_larger_job_waits_for_a_ring_and_for_every_doubling():
    job = larger_jobs.Job(ranks=8, link=1e6, latency=0.01, faster=2.0)
    # 2 s of work at double speed; 2 * 7/8 of 400,000 bytes; 5 messages of 3 doublings
    assert larger_jobs.predicted(2.0, 5, 4e5, job) == pytest.approx(1 / (1 + 0.7 + 0.15))
    alone = larger_jobs.Job(ranks=2, link=1e6, latency=0.01)
    assert larger_jobs.predicted(1.0, 10, 0.0, alone) == pytest.approx(1 / 1.1)


def test_predictions_take_what_a_message_was_seen_to_cost():
    rates = {"one rank": 100.0, "two ranks": 200.0, "two ranks by messages, 0 ms": 160.0}
    seen = {"messages an update": 50.0, "bytes an update": 0.0}
    found = {
        "a_rank": False,
        "rates": {label: {"median": rate} for label, rate in rates.items()},
        "details": {"two ranks by messages, 0 ms": seen},
    }
    (row,) = larger_jobs.predictions({"self-play": found}, {"self-play": 1000.0})
    cost = (1000 / 160 - 1000 / 200) / 50
    assert row["a message here (s)"] == pytest.approx(cost)
    assert row["64 machines, 10 Gbit/s"] == pytest.approx(10 / (10 + 50 * cost * 6))
    assert row["waits"] == pytest.approx(10 / 9 / 50)


def test_two_runs_apart_have_a_core_each_and_their_rates_add_up(tmp_path, monkeypatch):
    seen = []

    def run_case(case, number, folder, *, quick, first):
        seen.append((number, first, folder))
        return {"rate": 100.0 + first, "updates": 3}

    monkeypatch.setattr(ranks, "run_case", run_case)
    found = ranks.run_apart(ranks.CASES["ppo"], tmp_path, quick=True)
    assert found["rate"] == 201.0
    assert sorted(seen) == [(1, 0, tmp_path / "0"), (1, 1, tmp_path / "1")]

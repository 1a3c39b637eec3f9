"""The measured tables come from results by a program that notices when they are stale."""

import json

import pytest
from playout.benchmarks.tools import report


@pytest.fixture
def results(tmp_path):
    rate = {"median": 1.5e6, "min": 1.4e6, "max": 1.6e6, "runs": []}
    claims = [
        {
            "claim": "UCT",
            "ours": rate,
            "peer": 137_000,
            "peer_name": "OpenSpiel",
            "ratio": 10.9,
            "target": 10,
            "unit": "sims/s",
            "command": "playout bench search",
        },
        {"claim": "missed", "ours": 2, "ratio": 2.0, "peer": 1, "target": 3},
        {"claim": "import", "ours": 0.2, "unit": "s", "target": 0.3, "better": "lower"},
        {"claim": "no target", "ours": 12},
    ]
    record = {"date": "2026-01-02T03:04:05", "machine": {"processor": "P", "cores": 2}}
    record["results"] = {"claims": claims}
    (tmp_path / "search.json").write_text(json.dumps(record))
    (tmp_path / "other.json").write_text(json.dumps({"results": {"no": "claims"}}))
    (tmp_path / "list.json").write_text("[1]")
    return tmp_path


def test_a_claim_is_a_row_with_spread_ratio_target_and_verdict(results):
    text = report.report(results)
    assert "## search\n\nP, 2 cores; 2026-01-02; `playout bench search`\n\n" in text
    rates = "| UCT | 1.5 M (1.4 M to 1.6 M) sims/s | 137 k sims/s (OpenSpiel; same run) |"
    assert f"{rates} 10.9× | 10× | yes |" in text
    assert "| missed | 2 | 1 | 2× | 3× | **no** |" in text
    assert "| import | 0.2 s |  |  | at most 0.3 s | yes |" in text
    assert "| no target | 12 |  |  |  |  |" in text


def test_claims_with_a_row_and_a_column_make_a_table_of_their_own(results):
    def claim(row, column, ours, **more):
        return {"claim": f"{row}, {column}", "row": row, "column": column, "ours": ours, **more}

    claims = [
        claim("an hour", "policy", 94.3, unit="%", target=93),
        claim("an hour", "games", 99),
        claim("a minute", "games", 51, target=60),
        {"claim": "alone", "ours": 12},
    ]
    (results / "grid.json").write_text(json.dumps({"results": {"claims": claims}}))
    lines = report.report(results).splitlines()
    start = lines.index("| | policy | games |")
    assert lines[start + 1 : start + 5] == [
        "|---|---|---|",
        "| an hour | 94.3 %; wanted 93 %: yes | 99 |",
        "| a minute |  | 51; wanted 60: **no** |",
        "",
    ]
    assert lines[start + 7] == "| alone | 12 |  |  |  |  |"


def test_only_what_stands_between_the_markers_changes_and_twice_is_once(results):
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.rewrite(page, report.report(results))
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "old" not in once
    assert report.rewrite(once, report.report(results)) == once


@pytest.mark.parametrize("page", ["", report.BEGIN, f"{report.END}\n{report.BEGIN}"])
def test_a_page_without_markers_is_refused(page):
    with pytest.raises(ValueError, match="needs a line"):
        report.rewrite(page, "x")


def test_a_headline_shows_medians_and_a_miss_is_called_one(results):
    chosen = (
        report.Headline("rollouts", "search", "UCT", "OpenSpiel"),
        report.Headline("slow", "search", "missed", ""),
    )
    claims = json.loads((results / "search.json").read_text())
    claims["results"]["claims"][1]["peer_name"] = ""
    (results / "search.json").write_text(json.dumps(claims))
    lines = report.headlines(results, chosen).splitlines()
    subject = "[search](docs/measured.md#search)"
    assert lines[2:4] == [
        f"| rollouts | 1.5 M sims/s | 137 k sims/s (OpenSpiel) | 10.9× | 10× | {subject} |",
        f"| slow | 2 | 1 () | 2× | 3×, **missed** | {subject} |",
    ]
    assert lines[-1].startswith("Of all 3 targets, 1 are missed")


@pytest.mark.parametrize("claim", ["gone", "no target"])
def test_a_headline_that_is_gone_or_has_no_ratio_is_named(results, claim):
    with pytest.raises(ValueError, match=rf"search\.json.*'{claim}'"):
        report.headlines(results, (report.Headline("x", "search", claim, ""),))


def test_a_headline_that_two_claims_could_mean_is_refused(results):
    twice = [{"claim": "a", "ours": 1, "ratio": 2, "peer": 1, "peer_name": "x"}] * 2
    (results / "twice.json").write_text(json.dumps({"claims": twice}))
    with pytest.raises(ValueError, match="2 claims 'a'"):
        report.headlines(results, (report.Headline("x", "twice", "a", "x"),))


@pytest.mark.parametrize("stale", ["README.md", "docs/measured.md"])
def test_check_says_which_page_is_stale(tmp_path, monkeypatch, capsys, stale):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/measured.md"):
        (tmp_path / name).write_text(f"{report.BEGIN}\n{report.END}\n")
    assert report.main([]) == 0 and report.main(["--check"]) == 0
    (tmp_path / stale).write_text(f"{report.BEGIN}\n{report.END}\n")
    assert report.main(["--check"]) == 1
    assert f"{stale} is stale" in capsys.readouterr().err
    assert report.main(["--nonsense"]) == 2


def test_an_unknown_key_in_a_claim_is_named(results):
    (results / "x.json").write_text(json.dumps({"claims": [{"claim": "a", "ours": 1, "rato": 2}]}))
    with pytest.raises(ValueError, match=r"x\.json.*rato"):
        report.report(results)


def test_the_committed_results_can_be_reported():
    assert report.report() and report.headlines()

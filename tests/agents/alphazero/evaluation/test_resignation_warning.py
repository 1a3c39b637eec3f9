"""A run whose sides give up too soon says so at its end."""

import json

import playout
import pytest
from playout.agents.alphazero.evaluation.report import print_summary, resigned_too_soon
from playout.agents.runs.directory import RunDir


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((), ""),
        ((0.9, 0.9, None, 0.02, 0.04), ""),  # the later half is what counts
        ((0.0, 0.05, 0.05), ""),
        ((0.0, 0.0, None, 0.1, 0.3), "20% of the games"),
    ],
)
def test_games_that_were_given_up_too_soon_are_told(tmp_path, capsys, shares, expected):
    config = {"alphazero": {"game": "tic_tac_toe", "selfplay": {"resign_below": -0.9}}}
    run = RunDir.create(tmp_path / "run", kind="alphazero", config=config, seed=0)
    rows = [{} if share is None else {"selfplay/resigned_wrongly": share} for share in shares]
    lines = "".join(json.dumps({"step": step, **row}) + "\n" for step, row in enumerate(rows, 1))
    (run.path / "metrics.jsonl").write_text(lines)
    found = resigned_too_soon(run)
    assert found.startswith(expected) and bool(found) == bool(expected)
    print_summary(run, rate=False)
    assert ("warning: 20% of the games" in capsys.readouterr().out) == bool(expected)


def test_self_play_that_resigns_writes_what_the_warning_reads(tmp_path):
    small = {"updates": 4, "evaluations": 600, "size": "8x1", "rating": False, "threads": 1}
    run = playout.alphazero(
        "tic_tac_toe", run=tmp_path / "run", **small, resign_below=-0.01, resign_check=1.0
    )
    assert "--selfplay.resign-below" in resigned_too_soon(run)

"""What a language policy has reached in a game: read from its report, told in a table."""

import json

import pytest
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.games import spoken_games
from playout.benchmarks.tools import report


def stage(name, legal, kept, wins):
    """What the recipe's report says of a stage."""
    moves = {"positions": 400, "legal": legal, "legal_interval": [legal - 0.01, legal],
             "kept": kept, "kept_interval": [kept - 0.02, kept + 0.02], "random": 0.3}  # fmt: skip
    games = [
        {"opponent": "greedy", "wins": 0, "draws": 0, "losses": 9},
        {"opponent": "random", "wins": wins, "draws": 2, "losses": 8 - wins},
    ]
    return {"stage": name, "moves": moves, "games": games}


def test_each_stage_has_a_row_and_the_last_one_is_held_against_what_was_wanted(tmp_path):
    run = RunDir.create(tmp_path / "run", kind="rlhf.games", config={"minutes": 90.0}, seed=3)
    (run.path / "report").mkdir()
    measured = [stage("sft", 0.999, 0.7, 4), stage("grpo", 1.0, 0.83, 7)]
    told = {"game": "connect_four(width=7)", "size": "small", "measured": measured}
    (run.path / "report" / "report.json").write_text(json.dumps(told))
    found = spoken_games.measured(run.path)
    assert found["stages"]["grpo"][spoken_games.RANDOM][0] == pytest.approx(0.8)
    assert (found["positions"], found["random moves keep"], found["seed"]) == (400, 0.3, 3)
    claims = spoken_games.claims_of([found])
    head, _, *rows = report.grid(claims)
    legal, kept, random = (getattr(spoken_games, name) for name in ("LEGAL", "KEPT", "RANDOM"))
    assert head == f"| | {legal} | {kept} | {random} |"
    assert "after sft | 99.9 (98.9 to 99.9) % | 70 (68 to 72) % | 50 (" in rows[0]
    assert "wanted" not in rows[0]
    assert "| 83 (81 to 85) %; wanted 80 %: yes | 80 (" in rows[1] and "**no**" in rows[1]

"""What a language policy has reached in a game: read from its report, told in a table."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import playout
import pytest
from playout.agents.players.load import load_player
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.games import spoken_games
from playout.benchmarks.tools import report
from playout.rlhf.evaluation.games import positions_for
from playout.rlhf.games.recipe import SIZES


def stage(name, legal, kept, wins):
    """What the recipe's report says of a stage."""
    moves = {"positions": 400, "legal": legal, "legal_interval": [legal - 0.01, legal],
             "kept": kept, "kept_interval": [kept - 0.02, kept + 0.02], "random": 0.3}  # fmt: skip
    games = [
        {"opponent": "greedy", "wins": 0, "draws": 0, "losses": 9},
        {"opponent": "random", "wins": wins, "draws": 2, "losses": 8 - wins},
    ]
    return {"stage": name, "moves": moves, "games": games, "elo": [100.0, 50.0, 150.0]}


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


def test_a_run_without_a_report_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    run = RunDir.create(tmp_path / "run", kind="rlhf.games", config={"minutes": 90.0}, seed=3)
    for path, said in ((run.path, "has no report"), (tmp_path, "is not a run directory")):
        monkeypatch.setattr("sys.argv", ["spoken_games", str(path)])
        with pytest.raises(SystemExit) as caught:
            spoken_games.main()
        assert caught.value.code == 2
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith(f"spoken_games: error: {path} {said}")


@pytest.mark.slow
def test_a_run_of_self_play_is_asked_for_the_same_positions_and_drawn_beside(tmp_path, monkeypatch):
    fewer = replace(SIZES["small"], games=4, opponents=("random", "uct:10"))
    monkeypatch.setitem(SIZES, "small", fewer)
    run = RunDir.open(Path(__file__).parents[2] / "fixtures" / "runs" / "tic_tac_toe")
    found = spoken_games.measured(run.path)
    reached = found["stages"]["alphazero"]
    assert reached[spoken_games.LEGAL][0] == 1 and found["size"] == "alphazero"
    game = playout.game("tic_tac_toe")
    positions = positions_for(game, spoken_games.POSITIONS)
    player = load_player(run.path, simulations=0)
    player.reset(1)
    best = positions.outcomes == positions.outcomes.max(axis=1, keepdims=True)
    kept = best[np.arange(len(best)), player.act(positions.states)].mean()
    assert reached[spoken_games.KEPT][0] == pytest.approx(kept)
    assert found["positions"] == len(best) and reached["elo"][0] > 0
    assert all("target" not in claim for claim in spoken_games.claims_of([found]))
    speaks = {**found, "size": "tiny", "stages": {"sft": reached, "grpo": reached}}
    spoken_games.draw([speaks, found], tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000

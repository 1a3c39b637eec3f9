import json
import threading

import numpy as np
import playout
import pytest
from playout.agents.alphazero.budget import evaluations_within
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.commands.alphazero import Command, alphazero, plan_run
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import load
from playout.errors import ConfigError


def rows(run):
    found = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.append({k: v for k, v in row.items() if not k.startswith(("time/", "eval/"))})
    return found


def test_a_run_ends_with_a_summary_and_continues_where_it_stopped(tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = {"size": "8x1", "simulations": 4, "seed": 3}
    assert alphazero("tic_tac_toe", updates=4, run=whole, quiet=True, **options) == 0
    capsys.readouterr()
    assert alphazero("tic_tac_toe", updates=2, run=parts, **options) == 0
    shown = capsys.readouterr().out
    assert "Learning tic_tac_toe by self-play: 2 updates, then a short measurement." in shown
    assert "What it has learned from" in shown
    assert "solved positions: how often its move keeps the outcome" in shown
    assert "against each of these: its points" in shown
    assert f"playout play {parts}" in shown
    assert max(map(len, shown.splitlines())) <= 100 + len(str(parts))
    assert (parts / "summary.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((parts / "strength.json").read_text())["matches"][0]["opponent"] == "random"
    assert alphazero(resume=parts, updates=4, quiet=True) == 0
    assert len(rows(parts)) == len(rows(whole)) == 4
    assert rows(parts)[0] == rows(whole)[0]


def test_settings_without_an_option_of_their_own_reach_the_run_and_stay_on_resume(tmp_path):
    run = tmp_path / "run"
    more = ("selfplay.num_trees=8", "learner.batch_size=32", "eval_games=2")
    options = {"size": "8x1", "simulations": 4, "quiet": True}
    alphazero("tic_tac_toe", updates=1, run=run, set=more, **options)
    settings = RunDir.open(run).config["alphazero"]
    assert settings["selfplay"]["num_trees"] == 8
    assert settings["learner"]["batch_size"] == 32
    assert alphazero(resume=run, updates=2, quiet=True) == 0
    assert len(rows(run)) == 2
    with pytest.raises(ConfigError, match="keeps its settings"):
        alphazero(resume=run, updates=3, set=("eval_games=4",), quiet=True)


def test_a_player_is_loaded_with_any_number_of_simulations(tmp_path):
    run = tmp_path / "run"
    alphazero("tic_tac_toe", updates=1, run=run, quiet=True, size="8x1", simulations=4)
    player = load(run)
    states = player.game.batch(3)
    assert player.config.num_simulations == 128
    assert player.with_simulations(0).config is None
    for simulations in (0, 1, 16):
        actions = player.with_simulations(simulations).act(states)
        assert actions.shape == (3,)
        assert states.legal_mask()[np.arange(3), actions].all()
    assert playout.load(run, "latest").name == player.name
    assert RunDir.open(run).kind == "alphazero"


def test_minutes_become_a_number_of_updates_that_is_kept(tmp_path):
    run = tmp_path / "run"
    alphazero("tic_tac_toe", minutes=0.02, run=run, quiet=True, size="8x1", simulations=4)
    budget = RunDir.open(run).record["budget"]
    assert budget["minutes"] == 0.02
    planned = [total for _, total in budget.get("corrections", [])] or [budget["total"]]
    assert len(rows(run)) == planned[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": 1.0, "updates": 3}, "only one"),
        ({"minutes": -1.0}, "positive"),
        ({"size": "enormous"}, "size"),
        ({"simulations": 1}, "simulations"),
        ({"game": "checkers"}, "checkers"),
        ({"updates": 0}, "at least one"),
    ],
)
def test_options_that_mean_nothing_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as found:
        plan_run(Command(**options))
    assert "\n" not in str(found.value)


def test_the_machine_decides_which_network_an_hour_is_enough_for(monkeypatch):
    def planned(**options):
        config = plan_run(Command(game="connect_four", **options))
        return config.first_size, config.size

    for speed, expected in (
        (5_000, ("", "small")),
        (10_000, ("", "medium")),
        (40_000, ("small", "base")),
    ):
        monkeypatch.setattr(
            "playout.agents.alphazero.budget.evaluations_within",
            lambda game, minutes, size, speed=speed: 60 * minutes * speed,
        )
        assert planned(minutes=60) == expected
        assert planned(minutes=6) == ("", "small")
        assert planned(minutes=60, size="tiny") == ("", "tiny")
        # What is counted, not timed, is the same on every machine.
        assert planned(updates=100) == ("small", "base")


def test_how_much_a_network_could_answer_is_measured_on_all_threads(monkeypatch):
    asked = []
    evaluate = NetworkEvaluator.evaluate_obs

    def counted(self, obs):
        asked.append((threading.get_ident(), len(obs)))
        return evaluate(self, obs)

    monkeypatch.setattr(NetworkEvaluator, "evaluate_obs", counted)
    monkeypatch.setattr("playout.agents.alphazero.budget.RATE_SECONDS", 0.05)
    found = evaluations_within(playout.game("connect_four"), 1.0, "8x1")
    # No more than all that was asked, warm-up included, within the time of one of two rounds.
    assert 0 < found <= 60 / 0.05 * sum(rows for _, rows in asked)
    assert len({thread for thread, _ in asked}) == 2

import json

import numpy as np
import playout
import pytest
from playout.agents.commands.alphazero import Command, alphazero, plan_run
from playout.agents.loading import load
from playout.agents.run.directory import RunDir
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
    assert "What" in shown
    assert "solved positions: keeps the outcome" in shown
    assert f"playout play {parts}" in shown
    assert json.loads((parts / "strength.json").read_text())["matches"][0]["opponent"] == "random"
    assert alphazero(resume=parts, updates=4, quiet=True) == 0
    assert len(rows(parts)) == len(rows(whole)) == 4
    assert rows(parts)[0] == rows(whole)[0]


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

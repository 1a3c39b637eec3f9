"""Whoever waits for a position to be solved is told that it goes on, and nobody else."""

import time

import playout
import pytest
from playout.agents.players import patience
from playout.agents.players.analysis import solver_judge
from playout.agents.players.simple import PerfectPlayer
from playout.agents.runs.console import no_progress
from playout.cli import main
from playout.envs.core.state_batch import StateBatch
from playout.mcts.exact.solver import Solver

GAME = playout.game("tic_tac_toe")
START = StateBatch.from_states([GAME.initial_state()])


@pytest.fixture
def slow(monkeypatch):
    """A solver that takes ten times as long as people wait without a word."""
    monkeypatch.setattr(patience, "FIRST", 0.02)
    inner = Solver.scores_of

    def scores_of(self, states):
        time.sleep(0.2)
        return inner(self, states)

    monkeypatch.setattr(Solver, "scores_of", scores_of)


def test_what_is_solved_at_once_is_not_told_of(capsys):
    PerfectPlayer(GAME).act(START)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("who", ["perfect", "the solver"])
def test_a_long_wait_is_told_of_on_the_error_stream_ever_more_rarely(slow, capsys, who):
    player = PerfectPlayer(GAME)
    (player.act if who == "perfect" else solver_judge(player.solver))(START)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].startswith(f"{who} solves 1 position of tic_tac_toe, 0 s so far: ")
    assert len(lines) >= 2
    if who == "perfect":
        assert len(lines) <= 4  # at 20, 40, 80 and 160 ms


def test_quiet_commands_and_python_are_told_nothing(slow, capsys):
    with no_progress():
        PerfectPlayer(GAME).act(START)
    playout.analyse("tic_tac_toe", "1", evaluator="solver")
    words = ["analyse", "tic_tac_toe", "--evaluator", "solver", "--moves", "1"]
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main(words) == 0
    assert "the solver solves 1 position" in capsys.readouterr().err

"""What can be done with a run that has learned a game: `playout play`, `eval`, `export`.

Each is called as function(run, command) by the command of the same name (see loading.py). Only
names are tied here; the work stands in players/terminal_games.py, rating/evaluation.py and
export.py.
"""

from __future__ import annotations

from typing import Any

from playout.agents.players.search import load_player, one_torch_thread
from playout.agents.runs.directory import RunDir


def open_player(run: RunDir, command: Any) -> Any:
    """The run's player with the checkpoint and simulations that the command asks for."""
    which: str | int = int(command.which) if command.which.isdigit() else command.which
    player = load_player(run.path, which=which, simulations=command.simulations)
    one_torch_thread()
    return player


def play(run: RunDir, command: Any) -> int:
    """Plays against a person, or shows games against another player."""
    from playout.agents.players.terminal_games import play_games

    return play_games(open_player(run, command), command)


def evaluate(run: RunDir, command: Any) -> int:
    """Measures it on solved positions and against fixed opponents."""
    from playout.agents.rating.evaluation import evaluate_player

    return evaluate_player(open_player(run, command), command)


def export(run: RunDir, command: Any) -> int:
    """Writes its network for other programs."""
    from playout.agents.alphazero.export import export as write

    return int(write(run, command) or 0)

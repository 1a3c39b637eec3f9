"""What can be done with a run that has learned a game by self-play (see runs/kinds.py).

Only names are tied here; the work stands in player.py, players/terminal.py, rating/evaluation.py
and networks/export.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from playout.agents.alphazero.player import AlphaZeroPlayer, load_network
from playout.agents.alphazero.player import load as load_run
from playout.agents.players.load import one_torch_thread
from playout.agents.players.player import RunPlayer
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions, ExportOptions, PlayOptions, RunKind
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError


def load(run: RunDir, which: str | int = "best") -> AlphaZeroPlayer:
    """The run's player."""
    return load_run(run, which)


def game_of(run: RunDir) -> NativeGame:
    """The game that it has learned."""
    return find_game(str(run.config["alphazero"]["game"]))


def game_player(
    run: RunDir, which: str | int = "best", game: NativeGame | None = None
) -> AlphaZeroPlayer:
    """The run's player, if it plays that game."""
    if game is not None and game_of(run) != game:
        raise ConfigError(f"{run.path} has learned {game_of(run)}, not {game}")
    return load(run, which)


def _player(run: RunDir, options: EvalOptions | PlayOptions) -> RunPlayer:
    player = load(run, options.which)
    one_torch_thread()
    if options.simulations is None:
        return player
    return player.with_simulations(options.simulations)


def evaluate(run: RunDir, options: EvalOptions) -> dict[str, Any]:
    """Measures it on solved positions and against fixed opponents."""
    from playout.agents.rating.evaluation import evaluate_player

    return evaluate_player(_player(run, options), options)


def play(run: RunDir, options: PlayOptions) -> None:
    """Plays against a person, or shows games against another player."""
    from playout.agents.players.terminal import play_games

    play_games(_player(run, options), options)


def export(run: RunDir, options: ExportOptions) -> None:
    """Writes its network as ONNX or safetensors."""
    from functools import partial

    from playout.agents.networks.export import ExportedBoard, export_network
    from torch import nn

    game, network, step = load_network(run, options.which)
    assert isinstance(network, nn.Module)
    shape = json.dumps(network.config.to_dict())
    about = {"game": str(game), "step": str(step), "network": shape}
    wrapper = partial(ExportedBoard, network)
    export_network(run, options, network, wrapper, stem="network", about=about)


if TYPE_CHECKING:  # the type checker compares this module with the protocols
    from playout.agents.alphazero import run as this
    from playout.agents.players.load import GameKind

    _: RunKind = this
    __: GameKind = this

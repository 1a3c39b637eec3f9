"""What can be done with a run that has learned a game by self-play (see runs/kinds.py).

Only names are tied here; the work stands in player.py, players/terminal.py, rating/evaluation.py
and networks/export.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from playout.agents.alphazero.player import (
    AlphaZeroPlayer,
    game_of,
    load,
    load_network,
    usual_observations,
)
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.players.load import one_torch_thread
from playout.agents.players.player import RunPlayer
from playout.agents.runs.checkpoint.chosen import choose_checkpoint, tell_checkpoint
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions, ExportOptions, PlayOptions, RunKind
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.envs.core.game import NativeGame

__all__ = ["evaluate", "export", "game_of", "game_player", "load", "play"]


def game_player(
    run: RunDir,
    which: str | int = "best",
    game: object | None = None,
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> AlphaZeroPlayer:
    """The run's player, if it plays that game."""
    return load(run, which, machine=machine, game=game)


def _player(run: RunDir, options: EvalOptions | PlayOptions, game: object | None) -> RunPlayer:
    player = load(run, options.which, machine=options, game=game)
    one_torch_thread()
    if options.simulations is None:
        return player
    return player.with_simulations(options.simulations)


def evaluate(run: RunDir, options: EvalOptions, *, game: object | None = None) -> dict[str, Any]:
    """Measures it on solved positions and against fixed opponents."""
    from playout.agents.rating.evaluation import evaluate_player

    chosen, options = choose_checkpoint(run, options)
    player = _player(run, options, game)
    return tell_checkpoint(run, chosen) | evaluate_player(player, options)


def play(run: RunDir, options: PlayOptions, *, game: object | None = None) -> None:
    """Plays against a person, or shows games against another player."""
    from playout.agents.players.terminal import play_games

    play_games(_player(run, options, game), options)


def export(run: RunDir, options: ExportOptions, *, game: object | None = None) -> None:
    """Writes its network as ONNX or safetensors, or as a run of few bits."""
    learned, network, step = load_network(run, options.which, game=game)
    export_board(run, options, learned, network, step)


def export_board(
    run: RunDir, options: ExportOptions, learned: NativeGame, network: BoardNetwork, step: int
) -> None:
    """Writes a network that plays a game, of whatever kind of run."""
    from functools import partial

    from playout.agents.networks.export import ExportedBoard, export_network

    if options.quantise is not None:
        from playout.agents.networks.boards.smaller.export import export_in_few_bits

        export_in_few_bits(run, options, network, partial(usual_observations, learned))
        return
    shape = json.dumps(network.config.to_dict())
    about = {"game": str(learned), "step": str(step), "network": shape}
    wrapper = partial(ExportedBoard, network)
    weights = network.state_dict()
    export_network(run, options, weights, wrapper, stem="network", about=about)


if TYPE_CHECKING:  # the type checker compares this module with the protocols
    from playout.agents.alphazero import run as this
    from playout.agents.players.load import GameKind

    _: RunKind = this
    __: GameKind = this

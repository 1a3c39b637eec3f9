"""Learn a game by playing against oneself: `playout alphazero GAME`.

Turns one dial (minutes, or updates or games) into a configuration, stores it with the run, trains,
and ends with a summary of what was learned. `--resume RUN` continues a run exactly where it
stopped. `alphazero()` is the same in Python. The learning itself: agents/alphazero/trainer.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playout.agents.runs.options import TrainingOptions, make_command, open_run
from playout.errors import ConfigError
from tyro.conf import Positional

if TYPE_CHECKING:
    from playout.agents.alphazero.trainer import AlphaZeroConfig
    from playout.agents.runs.directory import RunDir
    from playout.envs.core.game import NativeGame

DEMO_MINUTES = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Learn GAME by self-play: tree search makes the games, the network learns from them."""

    game: Positional[str] = "connect_four"
    """Name of a game, with parameters in brackets if any: "connect_four(width=5,height=4)"."""

    minutes: float | None = None
    """Time to learn for, turned into a number of updates by a short measurement; by default 60."""

    updates: int | None = None
    """Instead of minutes: updates (some self-play and some gradient steps each)."""

    games: int | None = None
    """Instead of minutes: games of self-play."""

    size: str | None = None
    """Network: tiny, small, medium, base, large or CHANNELSxBLOCKS (48x6); by default as time and
    the machine's speed allow."""

    simulations: int | None = None
    """Simulations a move in self-play: few make more games, many make better targets. By default
    16, and 24 for the second network of a long run."""

    proofs: bool = True
    """Where a game has a quick solver (Connect Four), alpha-beta of a few hundred nodes answers
    what it can at the search's leaves, and games end once some thousands prove their result."""

    demo: bool = False
    """Six minutes instead of an hour: enough to see it learn."""


def main(command: Command) -> int:
    """Runs the command; returns the exit code."""
    import torch
    from playout.agents.alphazero.budget import Pace
    from playout.agents.alphazero.report import print_plan, print_summary
    from playout.agents.alphazero.trainer import AlphaZeroTrainer
    from playout.agents.runs.config import from_dict
    from playout.agents.runs.loop import train

    config, minutes = plan_run(command)
    run = open_run(
        command,
        kind="alphazero",
        name=config.game.partition("(")[0],
        extra={"alphazero": stored(config)},
        may_change=("minutes", "updates", "games"),
    )
    config = from_dict(type(config), run.config["alphazero"], where=str(run.path / "run.json"))
    config = with_length(config, command, run, minutes)
    torch.set_num_threads(1)  # groups and shards bring their own threads
    trainer = AlphaZeroTrainer(config, seed=run.seed)
    if not command.quiet:
        print_plan(run, config)
    every = evaluation_interval(config, minutes)
    pace = [] if minutes is None else [Pace(run, minutes, trainer)]
    train(trainer, run, eval_every=every, console=not command.quiet, callbacks=pace)
    if not command.quiet:
        print_summary(run)
    return 0


def plan_run(command: Command) -> tuple[AlphaZeroConfig, float | None]:
    """The configuration but for its length, and the minutes if they decide."""
    from playout.agents.alphazero.sizes import LONG_RUN, configure
    from playout.envs.core.registry import game as find_game

    given = [name for name in ("minutes", "updates", "games") if getattr(command, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"give only one of --{' and --'.join(given)}")
    minutes = command.minutes
    if not given:
        minutes = DEMO_MINUTES if command.demo else 60.0
    if minutes is not None and not 0 < minutes < 1e6:
        raise ConfigError(f"--minutes must be a positive number, not {minutes}")
    if command.simulations is not None and command.simulations < 2:
        raise ConfigError(f"--simulations must be at least 2, not {command.simulations}")
    game = find_game(command.game)
    length = minutes if minutes is not None else 60.0
    known = minutes if command.resume is None else None  # a run that is resumed has its networks
    first, size = ("", command.size) if command.size else networks(game, known)
    updates = command.updates if minutes is None else 1
    config = configure(
        game,
        size=size,
        first_size=first,
        simulations=command.simulations,
        proofs=command.proofs,
        updates=updates,
        games=command.games,
        long=length >= LONG_RUN,
    )
    return config.resolved(), minutes


def networks(game: NativeGame, minutes: float | None) -> tuple[str, str]:
    """The network that learns first ("" for none) and the final one; by counts, always the same."""
    from playout.agents.alphazero.budget import evaluations_within
    from playout.agents.alphazero.sizes import LARGE, sizes_for

    if game.max_plies <= 12:
        return "", "tiny"
    if minutes is None:
        return sizes_for(float("inf"))
    return sizes_for(evaluations_within(game, minutes, LARGE))


def evaluation_interval(config: AlphaZeroConfig, minutes: float | None) -> int:
    """Updates between evaluations: a few of them in short runs, a dozen in an hour."""
    if config.updates is None:
        return 25
    times = 12 if minutes is None or minutes >= 30 else min(6, max(2, round(minutes / 1.5)))
    return max(1, -(-config.updates // times))


def stored(config: AlphaZeroConfig) -> dict[str, Any]:
    """What is kept with a run: all but its length, which the command's own settings hold."""
    from playout.agents.runs.config import to_dict

    settings: dict[str, Any] = to_dict(config)
    return settings


def with_length(
    config: AlphaZeroConfig, command: Command, run: RunDir, minutes: float | None
) -> AlphaZeroConfig:
    """The configuration with its length: as given, or the updates that fit into the minutes."""
    from dataclasses import replace

    if minutes is None:
        return replace(config, updates=command.updates, games=command.games)
    from playout.agents.alphazero.budget import updates_for

    return replace(config, updates=updates_for(run, config, minutes), games=None)


def alphazero(game: str | None = None, **options: Any) -> int:
    """`playout alphazero GAME` in Python: `playout.alphazero("connect_four", minutes=10)`."""
    return main(make_command(Command, game=game, **options))

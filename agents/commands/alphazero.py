"""Learn a game by playing against oneself: `playout alphazero GAME`.

Turns one dial (minutes, or updates or games) into a configuration, stores it with the run, trains,
and ends with a summary of what was learned. `--resume RUN` continues a run exactly where it
stopped. `alphazero()` is the same in Python. The learning itself: agents/alphazero/trainer.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import TrainingOptions, make_command, open_run, run_options_last
from playout.envs.core.registry import game as find_game
from playout.envs.core.registry import game_text, given_game
from playout.errors import ConfigError
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    import torch
    from playout.agents.alphazero.config import AlphaZeroConfig
    from playout.agents.alphazero.trainer import AlphaZeroTrainer
    from playout.envs.core.game import NativeGame

GameSource = object
"""What `playout.envs.core.registry.game` takes."""
Callback = Callable[["AlphaZeroTrainer", dict[str, float]], None]
_MAY_CHANGE = ("minutes", "updates", "games", "rating")
DEMO_MINUTES, DEFAULT_MINUTES = 6.0, 60.0


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Learn GAME by self-play: tree search makes the games, the network learns from them.

    For example:
      playout alphazero connect_four --demo                six minutes
      playout alphazero tic_tac_toe --minutes 2 --run runs/ttt
      playout alphazero --resume runs/ttt                  goes on where it stopped
    """

    game: Annotated[Positional[str], arg(metavar="GAME")] = "connect_four"
    """Name of a game, with parameters in brackets if any: "connect_four(width=5,height=4)"."""

    minutes: Annotated[float | None, arg(metavar="MINUTES", help_behavior_hint="")] = None
    """Time to learn for, turned into a number of updates by a short measurement; by default 60."""

    updates: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Instead of minutes: updates (some self-play and some gradient steps each)."""

    games: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Instead of minutes: games of self-play."""

    size: Annotated[str | None, arg(metavar="SIZE", help_behavior_hint="")] = None
    """Network: tiny, small, medium, base, large or CHANNELSxBLOCKS (48x6); by default as time and
    the machine's speed allow."""

    simulations: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Simulations a move in self-play: few make more games, many make better targets. By default
    16, and 24 for the second network of a long run."""

    proofs: bool = True
    """Where a game has a quick solver (Connect Four), alpha-beta of a few hundred nodes answers
    what it can at the search's leaves, and games end once some thousands prove their result."""

    rating: bool = True
    """Rate the network while it learns and at the end; --no-rating leaves all of it out."""

    demo: bool = False
    """Six minutes instead of an hour: enough to see it learn."""

    set: Annotated[tuple[str, ...] | None, arg(metavar="NAME=VALUE", help_behavior_hint="")] = None
    """Any other setting, such as selfplay.num_trees=64 or learner.batch_size=512; the table
    `alphazero` of a run's config.toml shows them all."""


def main(command: Command) -> int:
    """Runs the command; returns the exit code."""
    _train(command, command.game if command.resume is None else None)
    return 0


def alphazero(
    game: GameSource | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> RunDir:
    """Learn a game by self-play: `playout.alphazero("connect_four", minutes=10)`.

    Args:
        game: A name with parameters if any, "module:Name" of a game of yours, or the game itself:
            a capsule, a NativeGame, or an object that follows `playout.Game`. A resumed run needs
            it only where the run cannot name its game.
        callbacks: Called as `callback(trainer, metrics)` after every update.
        **options: Any option of `playout alphazero`, with underscores.

    Returns:
        The run directory; `playout.load(run.path)` plays what was learned.
    """
    if game is None and options.get("resume") is None:
        raise ConfigError("say which game: playout.alphazero('connect_four')")
    name = None if game is None else _name(game)
    command = make_command(Command, game=name, **options)
    if name is not None and command.resume is not None:
        learned = RunDir.open(command.resume).config["alphazero"]["game"]
        if _name(learned) != name:
            raise ConfigError(f"{command.resume} learns {learned}, not {name}")
    return _train(command, game, callbacks=callbacks)


def _name(game: GameSource) -> str:
    """The text that a run stores for a game: where nothing makes it again, what it calls itself."""
    return game if isinstance(game, str) else game_text(game) or str(find_game(game))


def _train(
    command: Command, source: GameSource | None, *, callbacks: Sequence[Callback] = ()
) -> RunDir:
    """Trains as the command says; `source` is the game, None: the one that the run names."""
    import torch
    from playout.agents.alphazero.budget import PlanCorrector
    from playout.agents.alphazero.report import print_plan, print_summary
    from playout.agents.alphazero.trainer import AlphaZeroTrainer
    from playout.agents.runs.devices import device_errors, resolve_device
    from playout.agents.runs.loop import stop_at_once, train

    torch.set_num_threads(1)  # groups and shards bring their own threads
    device = resolve_device(command.device)
    game, run, planned = _open_or_resume(command, source, device)
    minutes = length_of(command)
    begun = command.resume is None
    try:
        with run.lock(), device_errors(device):
            left = "nothing was learned yet" if begun else f"{run.path} is as it was"
            with stop_at_once(left):
                config = _with_length(planned, command, run, game=game, device=device)
                trainer = AlphaZeroTrainer(config, seed=run.seed, device=device, game=game)
            if not command.quiet:
                print_plan(run, config, minutes, game)
            every = evaluation_interval(config, minutes) if command.rating else 0
            corrector: list[Callback] = []
            if minutes is not None:
                corrector.append(PlanCorrector(run, minutes, trainer, eval_every=every))
            train(
                trainer,
                run,
                eval_every=every,
                console=not command.quiet,
                callbacks=[*corrector, *callbacks],
            )
    except BaseException:
        if begun:
            run.discard_unused()
        raise
    if not command.quiet:
        print_summary(run, rate=command.rating)
    return run


def _open_or_resume(
    command: Command, source: GameSource | None, device: torch.device
) -> tuple[NativeGame, RunDir, AlphaZeroConfig]:
    """The game, the run and its configuration: planned for a new run, read from one resumed."""
    from playout.agents.alphazero.config import stored_config

    length_of(command)  # refuses what makes no sense before anything is written
    if command.resume is None:
        game = given_game(command.game if source is None else source)
        config = plan_run(command, game, device)
        extra = {"alphazero": config}
        return game, open_run(command, kind="alphazero", name=game.name, extra=extra), config
    run = open_run(command, kind="alphazero", name="", may_change=_MAY_CHANGE)
    config = stored_config(run.config["alphazero"], where=str(run.path / "run.json"))
    return find_game(config.game if source is None else source), run, config


def length_of(command: Command) -> float | None:
    """The minutes that the run is to take, or None if updates or games are counted."""
    given = [name for name in ("minutes", "updates", "games") if getattr(command, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"give only one of --{' and --'.join(given)}")
    minutes = command.minutes
    if not given:
        minutes = DEMO_MINUTES if command.demo else DEFAULT_MINUTES
    if minutes is not None and not 0 < minutes < 1e6:
        raise ConfigError(f"--minutes must be a positive number, not {minutes}")
    return minutes


def plan_run(command: Command, game: NativeGame, device: torch.device) -> AlphaZeroConfig:
    """The configuration of a new run."""
    from playout.agents.alphazero.budget import LONG_RUN_MINUTES, choose_sizes, configure
    from playout.agents.alphazero.config import with_settings
    from playout.agents.alphazero.trainer import resolved

    minutes = length_of(command)
    if command.simulations is not None and command.simulations < 2:
        raise ConfigError(f"--simulations must be at least 2, not {command.simulations}")
    first, size = ("", command.size) if command.size else choose_sizes(game, minutes)
    config = configure(
        game,
        name=command.game,
        size=size,
        first_size=first,
        simulations=command.simulations,
        proofs=command.proofs,
        updates=command.updates,
        games=command.games,
        minutes=minutes,
        long=minutes is None or minutes >= LONG_RUN_MINUTES,
    )
    return resolved(with_settings(config, command.set or ()), device)


def _with_length(
    config: AlphaZeroConfig,
    command: Command,
    run: RunDir,
    *,
    game: NativeGame,
    device: torch.device,
) -> AlphaZeroConfig:
    """The configuration with its length in counts: as given, or as many as fit into the minutes."""
    from dataclasses import replace

    from playout.agents.alphazero.budget import updates_for

    minutes, updates, games = length_of(command), command.updates, command.games
    if minutes is not None:
        if not command.quiet:
            print("Measuring how much fits into the time ...", file=sys.stderr, flush=True)
        updates = updates_for(run, config, minutes, game=game, device=device)
    return replace(config, updates=updates, games=games, minutes=None)


def evaluation_interval(config: AlphaZeroConfig, minutes: float | None) -> int:
    """Updates between evaluations: a few of them in short runs, a dozen in an hour."""
    if config.updates is None:
        return 25
    times = 12 if minutes is None or minutes >= 30 else min(6, max(2, round(minutes / 1.5)))
    return max(1, -(-config.updates // times))

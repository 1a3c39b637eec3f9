"""Learn a game by playing against oneself: `playout alphazero GAME`.

Turns one dial (minutes, or updates or games) and the game's preset into a configuration (budget/),
stores it with the run, trains (trainer.py), and ends with a summary of what was learned. `--resume
RUN` continues a run exactly where it stopped. `alphazero()` is the same in Python.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.settings import (
    MAY_CHANGE,
    first_run,
    first_weights,
    full_names,
    given_flags,
    network_of,
    picked,
    stored_config,
    with_settings,
)
from playout.agents.runs import ranks
from playout.agents.runs.config import to_dict
from playout.agents.runs.console import say_measuring
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import (
    TrainingOptions,
    agree_on,
    make_command,
    open_run,
    run_options_last,
)
from playout.envs.core.registry import game as find_game
from playout.envs.core.registry import game_text, given_game
from playout.errors import ConfigError
from playout.own_code import trust_modules
from tyro.conf import Positional, Suppress, arg

if TYPE_CHECKING:
    import torch
    from playout.agents.alphazero.budget.speed import Speed
    from playout.agents.alphazero.trainer import AlphaZeroTrainer
    from playout.envs.core.game import NativeGame

GameSource = object
"""What `playout.envs.core.registry.game` takes."""
Callback = Callable[["AlphaZeroTrainer", dict[str, float]], None]
_MAY_CHANGE = {"minutes", "updates", "games", "rating"} | {f"alphazero.{x}" for x in MAY_CHANGE}
DEMO_MINUTES, DEFAULT_MINUTES = 6.0, 60.0


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Learn GAME by self-play: tree search makes the games, the network learns from them.

    For example:
      playout alphazero connect_four --demo                six minutes
      playout alphazero my_module:MyGame --minutes 10      a game of your own
      playout alphazero --resume runs/my-game-1            goes on where it stopped

    What an option does not say is decided by the game's preset, by its speed on this machine and by
    the time there is; the plan that is printed says what was chosen, config.toml in the run all.
    """

    game: Annotated[Positional[str], arg(metavar="GAME")] = "connect_four"
    """Name of a game, with parameters in brackets if any: "connect_four(width=5,height=4)", or
    module:Name of your own."""

    minutes: Annotated[float | None, arg(metavar="MINUTES", help_behavior_hint="")] = None
    """Time for everything, measuring and rating included; by default 60. On resume all of these
    are totals, counted from the beginning."""

    updates: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Instead of minutes: updates (some self-play and some gradient steps each)."""

    games: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Instead of minutes: games of self-play."""

    demo: bool = False
    """Six minutes instead of an hour: enough to see it learn."""

    size: Annotated[str | None, arg(metavar="SIZE", help_behavior_hint="")] = None
    """Network: tiny, small, medium, base, large or CHANNELSxBLOCKS (48x6); by default as time and
    the machine's speed allow."""

    network: Annotated[str, arg(metavar="NAME")] = "resnet"
    """Kind of network: resnet, transformer, or module:Class of your own."""

    simulations: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Simulations a move in self-play: few make more games, many make better targets. By default
    as many as suit the game's legal moves, 16 at least."""

    proofs: bool = True
    """Where a game has a quick solver (Connect Four), alpha-beta of a few hundred nodes answers
    what it can at the search's leaves, and games end once some thousands prove their result."""

    rating: bool = True
    """Rate the network while it learns and at the end; --no-rating leaves all of it out."""

    init: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Begin with the weights of this run's network (of alphazero or pretrain-trunk, its best
    checkpoint), of the same size; where the board or the moves are others, what depends on them
    begins anew."""

    alphazero: Annotated[AlphaZeroConfig, arg(name="")] = field(
        default_factory=lambda: AlphaZeroConfig(minutes=DEFAULT_MINUTES)
    )
    given: Suppress[tuple[str, ...]] = ()  # settings of `alphazero` that the person has chosen

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        if self.simulations is not None and self.simulations < 2:
            raise ConfigError(f"--simulations must be at least 2, not {self.simulations}")

    @staticmethod
    def defaults(arguments: list[str]) -> Command:
        """Which settings the arguments give; all others are decided later."""
        return Command(given=tuple(full_names(given_flags(arguments))))

    @staticmethod
    def stored_today(config: Mapping[str, Any]) -> Mapping[str, Any]:
        """A run's configuration with its settings under today's names."""
        if not isinstance(config.get("alphazero"), Mapping):
            return config
        settings = stored_config(config["alphazero"], where="the run's configuration")
        return {**config, "alphazero": to_dict(settings)}


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
    own = {f.name for f in fields(Command)} - {"alphazero", "given"}
    settings = {key: value for key, value in options.items() if key not in own}
    chosen = {key: value for key, value in options.items() if key in own}
    name = None if game is None else _name(game)
    command = make_command(Command, game=name, **chosen)
    command = replace(command, alphazero=with_settings(command.alphazero, settings))
    if command.resume is None:
        command = replace(command, given=tuple(full_names(settings)))
    agree_on(command)
    return _train(command, game, callbacks=callbacks)


def _name(game: GameSource) -> str:
    """The text that a run stores for a game: where nothing makes it again, what it calls itself."""
    return game if isinstance(game, str) else game_text(game) or str(find_game(game))


def _train(
    command: Command, source: GameSource | None, *, callbacks: Sequence[Callback] = ()
) -> RunDir:
    """Trains as the command says; `source` is the game, None: the one that the run names."""
    begun, new = time.monotonic(), command.resume is None
    shown = ranks.is_first() and not command.quiet
    import torch
    from playout.agents.alphazero.budget.corrector import seconds_before
    from playout.agents.alphazero.budget.fit import rating_schedule, too_short
    from playout.agents.alphazero.budget.length import planned_plies
    from playout.agents.alphazero.budget.minutes import report_time
    from playout.agents.alphazero.evaluation.report import (
        measured_before,
        print_plan,
        print_summary,
        say_measured_before,
        say_nothing_was_left,
    )
    from playout.agents.alphazero.selfplay.actors.trainer import (
        check_actors,
        make_trainer,
        planner_for,
        save_interval,
    )
    from playout.agents.runs.devices import device_errors, resolve_device
    from playout.agents.runs.loop import train
    from playout.agents.runs.signals import stop_at_once

    torch.set_num_threads(1)  # groups and shards bring their own threads
    if command.init is None and command.alphazero.learner.trunk_rate != 1:
        raise ConfigError("--trunk-rate does nothing without --init: leave it out")
    device, minutes = resolve_device(command.device), length_of(command)
    game, run = _open_or_resume(command, source)
    try:
        with run.lock(), device_errors(device):
            with stop_at_once("nothing was learned yet" if new else f"{run.path} is as it was"):
                check_actors(command.alphazero, run)  # before a speed is measured
                config = _plan(command, run, game, device, begun)
                trainer = make_trainer(
                    config,
                    run,
                    seed=run.seed,
                    device=device,
                    game=game,
                    init=first_weights(command.init, run),
                )
            if shown:
                networks = [learner.net for learner in trainer.learners]
                print_plan(run, config, minutes, networks, rate=command.rating)
                if minutes is None and (warning := too_short(config, planned_plies(game))):
                    print(f"warning: {warning}", file=sys.stderr, flush=True)
            every, times = 0, 0
            if command.rating:
                preset, plies = run.record.get("preset", {}), planned_plies(game)
                every, times = rating_schedule(config, preset, minutes, max_plies=plies)
            correctors: list[Callback] = []
            if minutes is not None:
                correctors.append(planner_for(run, minutes, trainer, every, times))
            before, start = seconds_before(run), run.find()
            train(
                trainer,
                run,
                save_every=save_interval(config),
                eval_every=every,
                evaluations=0 if every else times,
                console=not command.quiet,
                callbacks=[*correctors, *callbacks],
            )
    except BaseException:
        if new:
            run.discard_unused()
        raise
    if shown:
        began_at = None if start is None else start.step
        say_nothing_was_left(run, began_at)
        rate, measured = command.rating, measured_before(run, began_at)
        if rate and measured:
            say_measured_before(run)
        left = report_time(minutes, before + time.monotonic() - begun)
        print_summary(run, rate=rate and not measured, seconds=left, machine=command, game=game)
    return run


def _open_or_resume(command: Command, source: GameSource | None) -> tuple[NativeGame, RunDir]:
    """The game and the run of a command."""
    from playout.agents.alphazero.player import game_of
    from playout.mcts.hidden import refuse_self_play

    if command.resume is None:
        trust_modules(*[name for name in (command.network,) if ":" in name])  # typed here
        refuse_self_play(game := given_game(command.game if source is None else source))
        return game, open_run(command, kind="alphazero", name=game.name)
    game = game_of(RunDir.open(command.resume), source)
    return game, open_run(command, kind="alphazero", name="", may_change=_MAY_CHANGE)


def _plan(
    command: Command, run: RunDir, game: NativeGame, device: torch.device, begun: float
) -> AlphaZeroConfig:
    """The configuration of a run with its length in counts: stored once, then read.

    A run that was killed while it was measured is planned when it is resumed. `begun` is when the
    command was, by time.monotonic.
    """
    from playout.agents.alphazero.budget.minutes import kept_back, updates_for

    where, minutes, speed = str(run.path / "run.json"), length_of(command), None
    if run.find() is None and "given" in run.config and "preset" not in run.record:
        config, speed, preset = plan_run(command, game, device, begun)
        run.complete_config(alphazero=config)
        run.update(preset=preset)
    config = stored_config(run.config["alphazero"], where=where)
    updates = command.updates
    if minutes is not None:
        outside = time.monotonic() - begun + kept_back(minutes, rating=command.rating)
        updates = updates_for(
            run, config, minutes, outside=outside, speed=speed, game=game, device=device
        )
    return replace(config, updates=updates, games=command.games, minutes=None)


def length_of(command: Command) -> float | None:
    """The minutes that the run is to take, or None if updates or games are counted."""
    given = [name for name in ("minutes", "updates", "games") if getattr(command, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"give only one of --{' and --'.join(given)}")
    minutes = command.minutes if given else (DEMO_MINUTES if command.demo else DEFAULT_MINUTES)
    if minutes is not None and not 0 < minutes < 1e6:
        raise ConfigError(f"--minutes must be a positive number, not {minutes}")
    return minutes


def plan_run(
    command: Command, game: NativeGame, device: torch.device, begun: float
) -> tuple[AlphaZeroConfig, Speed | None, dict[str, Any]]:
    """The plan of a new run.

    Returns:
        The configuration that follows from all that is said; the game's speed, if the plan goes by
        it; and what the run's record says of the preset.
    """
    from playout.agents.alphazero.budget.fit import fit, fit_counts, fit_ratings
    from playout.agents.alphazero.budget.length import planned_plies
    from playout.agents.alphazero.budget.machine import Machine
    from playout.agents.alphazero.budget.minutes import choose_sizes, measuring_time, time_to_learn
    from playout.agents.alphazero.budget.presets import configure, preset_for
    from playout.agents.alphazero.budget.resolved import resolved
    from playout.agents.alphazero.budget.speed import measure_speed, usual_speed
    from playout.agents.networks.boards.resnet import parse_size

    minutes, given = length_of(command), frozenset(command.given)
    machine = Machine.here(device.type, command.threads)
    name, preset = preset_for(game)
    network, pooling = command.network, None
    first_size, size = "", command.size
    if command.init is not None:  # its network is the one to go on with
        network, earlier_size, pooling = network_of(first_run(command.init))
        size = size or earlier_size
    shown = ranks.is_first() and not command.quiet
    if size is not None:
        parse_size(size)  # refused before anything is measured
    if minutes is not None and shown:
        say_measuring()
    if size is None:
        first_size, size = choose_sizes(
            game, preset, machine, minutes, network=network, device=device
        )
    config = configure(
        game,
        name=command.game,
        preset=preset,
        machine=machine,
        size=size,
        first_size=first_size,
        network=network,
        simulations=command.simulations,
        proofs=command.proofs,
        updates=command.updates,
        games=command.games,
        minutes=minutes,
        long=preset.is_long(minutes),
    )
    if pooling is not None:
        config = replace(config, pooling=pooling)
    config = with_settings(config, picked(command.alphazero, command.given))
    config = resolved(config, device, command.dtype)
    speed, planned_by = None, None
    if minutes is None:  # no clock may decide what a run does whose length is counted
        speed = usual_speed(game)
    elif command.rating or preset.adapts:
        speed = measure_speed(game, config, seconds=measuring_time(minutes), device=device)
    if preset.adapts and minutes is None:
        config = fit_counts(config, max_plies=planned_plies(game), given=given)
    elif preset.adapts and minutes is not None and speed is not None:
        spent = ranks.first(time.monotonic() - begun)
        left = time_to_learn(minutes, spent, rating=command.rating)
        config = fit(config, speed, left, spent=spent, given=given)
        planned_by = speed
    ratings = 0
    if command.rating and speed is not None:
        config, ratings = fit_ratings(config, game, speed, minutes, given=given)
        if not ratings and shown:
            print(
                f"Rating {command.game} would take too much of the time: it is left out.",
                file=sys.stderr,
                flush=True,
            )
    about = {"name": name, "basis": preset.basis, "adapts": preset.adapts}
    return config, planned_by, {**about, "ratings": ratings, "minutes": minutes}

"""Learn an environment by PPO: any Gymnasium id, a PettingZoo parallel one, or a game by self-play.

Settings come from the preset of the environment (agents/presets/ppo.toml) and from flags or keyword
arguments; from them the environments and the trainer are made here. Leaves out learning
(ppo/trainer.py) and what can be done with the run afterwards (ppo/run.py).
"""

import contextlib
import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro
from playout.agents.networks.config import BOARD_NETWORKS, NetworkConfig
from playout.agents.ppo.config import (
    OWN_POLICY,
    CollectConfig,
    PPOConfig,
    fill,
    refuse_unused,
    resolve,
)
from playout.agents.runs import ranks
from playout.agents.runs.config import to_dict
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import (
    TrainingOptions,
    agree_on,
    changed_settings,
    going_on,
    open_run,
    resumed,
    run_options_last,
)
from playout.errors import ConfigError
from playout.own_code import trust, trust_modules
from tyro.conf import OmitArgPrefixes, Positional, arg

if TYPE_CHECKING:
    from playout.agents.networks.beginning import Beginning
    from playout.agents.ppo.league.trainer import SelfPlayTrainer
    from playout.agents.ppo.population import Population
    from playout.agents.ppo.trainer import PPOTrainer
    from playout.agents.vector.interface import Environments
    from playout.agents.vector.sources import EnvSource, Source
    from torch import nn

_MAY_CHANGE = ("total_timesteps", "stop", "processes", "save_every")
# Called with the trainer, whose type depends on the command, and the metrics of an update.
Callback = Callable[[Any, dict[str, float]], None]
# Environments that are not native are evaluated in so many at once; native ones play all episodes
# of an evaluation side by side.
_EVAL_ENVS = 8


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Learn ENV by PPO.

    For example:
      playout ppo CartPole-v1                              a few seconds
      playout ppo Pendulum-v1 --total-timesteps 500000 --run runs/pendulum
      playout ppo connect_four --self-play                 against past versions of itself
      playout ppo --resume runs/pendulum                   goes on where it stopped
    """

    env: Annotated[Positional[str], arg(metavar="ENV", help_behavior_hint="")] = ""
    """Gymnasium id, module:Env-v0, module:Name (a class or function that makes one), parallel:NAME
    or aec:NAME (PettingZoo), or a game."""

    typed_only: ClassVar[frozenset[str]] = frozenset({"env"})  # the run names its source itself

    total_timesteps: int = 1_000_000
    """Environment steps to learn from, at most."""

    native: bool = True
    """Use playout's own version of the environment where there is one."""

    stop: bool = True
    """Stop when an evaluation confirms the environment's reward threshold."""

    self_play: bool = False
    """Two-player games: learn against a pool of past versions."""

    population: int = 1
    """Train so many seeds at once in this process (native environments)."""

    processes: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Worker processes for environments that are not vectorised; by default measured."""

    save_every: float = 60.0
    """Seconds between checkpoints."""

    plot: bool = False
    """Draw the learning curve into the run when it ends."""

    init: Annotated[str, arg(metavar="RUN", help_behavior_hint="")] = ""
    """Begin with the trunk of this run, at its best checkpoint: an encoder of pictures of the same
    size (of pretrain-trunk), or the network of a game (of pretrain-trunk or alphazero)."""

    ppo: OmitArgPrefixes[PPOConfig] = field(default_factory=PPOConfig)
    network: OmitArgPrefixes[NetworkConfig] = field(default_factory=NetworkConfig)
    collect: OmitArgPrefixes[CollectConfig] = field(default_factory=CollectConfig)

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        for name in ("total_timesteps", "population"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.save_every > 0:
            raise ConfigError(f"save_every must be above 0 seconds, not {self.save_every}")
        if self.processes is not None and self.processes < 0:
            raise ConfigError(f"processes must be 0 or more, not {self.processes}")

    @staticmethod
    def defaults(arguments: list[str]) -> "Command":
        """The preset of the environment among the arguments, as the flags' defaults."""
        if arguments and not arguments[0].startswith("-"):
            return resolve(Command, arguments[0])
        # Which word is the environment is known when the flags before it are parsed.
        words = [word for word in arguments if word not in ("-h", "--help")]
        with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
            return resolve(Command, tyro.cli(Command, args=words, prog="playout ppo").env)
        return Command()  # cli.py says what is wrong with them


def ppo(
    env: "EnvSource" = "",
    *,
    callbacks: Sequence[Callback] = (),
    policy: "nn.Module | None" = None,
    **options: Any,
) -> RunDir:
    """Train by PPO; `playout.ppo("CartPole-v1", seed=1, learning_rate=1e-3)`.

    Args:
        env: What the command takes, or the thing itself: a class or function that makes an
            environment, an environment, a vector environment, a PettingZoo environment, a game.
        callbacks: Called as `callback(trainer, metrics)` after every update.
        policy: A policy of your own: an nn.Module with the methods of `agents.networks.policy`.
        **options: Any option of `playout ppo`, with underscores; `trust="module"` allows a run that
            is resumed to import it.

    Returns:
        The run directory; `playout.load(run.path)` acts as what was learned.
    """
    from playout.agents.vector.sources import given_source

    trusted = options.pop("trust", None) or ()
    words = (trusted,) if isinstance(trusted, str) else tuple(trusted)
    trust_modules(*words)
    options = going_on(options)
    if options.get("resume") is not None:
        given = {key: value for key, value in options.items() if value is not None}
        stored = resumed(Command, given["resume"], by="playout ppo")
        command = fill(Command, given, base=stored)  # what has changed is refused below
        agree_on(command)
        return _train(command, env, callbacks=callbacks, policy=policy)
    if isinstance(env, str) and env == "":
        raise ConfigError("say which environment: playout.ppo('CartPole-v1')")
    source = given_source(env, options.get("env_options"))
    command = resolve(Command, source.text, options)
    agree_on(command)
    return _train(command, source, callbacks=callbacks, policy=policy)


def main(command: Command) -> int:
    """Train, then say how it went and what to do next."""
    if not command.env and command.resume is None:
        raise ConfigError("say which environment: playout ppo CartPole-v1")
    run = _train(command, command.env)
    print(
        f"run {run.path}\n"
        f"Measure it            {run.command_for('eval')}\n"
        f"Play it or watch it   {run.command_for('play')}\n"
        f"Use it elsewhere      {run.command_for('export')}"
    )
    return 0


def _resumed_source(command: Command, given: "EnvSource") -> "Source":
    """What a resumed run learns; to name or give it again is to trust its code."""
    from playout.agents.ppo.player import learned_source
    from playout.agents.vector.sources import given_source

    assert command.resume is not None
    run = RunDir.open(command.resume)
    if isinstance(given, str) and given == "":
        return learned_source(run)
    source = given_source(given, command.collect.env_options)
    if isinstance(given, str) and source.text != run.config["env"]:
        raise ConfigError(f"{run.path} learns {run.config['env']}, not {given}")
    return dataclasses.replace(source, text=str(run.config["env"]))


def _train(
    command: Command,
    given: "EnvSource",
    *,
    callbacks: Sequence[Callback] = (),
    policy: "nn.Module | None" = None,
) -> RunDir:
    """Train as the command says in environments from `given`; "" is what a resumed run learned."""
    from playout.agents.networks.encoders.choice import check_network
    from playout.agents.ppo.player import must_have_policy
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.loop import train
    from playout.agents.runs.signals import stop_at_once
    from playout.agents.vector.sources import given_source

    if command.ppo.trunk_rate != 1 and not command.init:
        raise ConfigError("--trunk-rate does nothing without --init: leave it out")
    if policy is not None and command.population > 1:
        raise ConfigError("a population trains networks of playout's own: leave out policy")
    resolve_device(command.device)  # a wrong one is refused before anything is made
    begun = None
    if command.resume is not None:
        changed_settings(command, may_change=_MAY_CHANGE)
        must_have_policy(RunDir.open(command.resume), policy)
        source = _resumed_source(command, given)
        if ":" in command.network.network:
            trust(command.network.network, command.resume)
    else:
        # Not of earlier runs: over vectors, they may have any name in their settings.
        kind = command.network.network
        if ":" in kind:
            trust_modules(kind)  # typed here
        elif kind not in BOARD_NETWORKS:
            check_network(kind)
        source = given_source(given, command.collect.env_options)
        command, begun = _settled(command, source, policy)
    own = {} if policy is None else {OWN_POLICY: True}
    left = "nothing was learned yet" if command.resume is None else "the run is as it was"
    with stop_at_once(left):
        trainer, first, note = _make_trainer(command, source, policy, begun)
    try:
        if command.resume is None:  # a run of an earlier version goes on as it was
            _refuse_unused(command, source, first)
        run = open_run(
            command,
            kind="ppo",
            name=source.text,
            extra={"env": source.text, "env_named": source.named} | own,
            may_change=_MAY_CHANGE,
        )
        shown = not command.quiet and ranks.is_first()
        if shown:
            print(note, flush=True)
        try:
            train(
                trainer,
                run,
                save_every=command.save_every,
                eval_every=1,
                console=shown,
                callbacks=callbacks,
            )
        except BaseException:
            if command.resume is None:
                run.discard_unused()
            raise
        if shown:
            print(trainer.summary(), flush=True)
    finally:
        trainer.close()
    if command.plot and ranks.is_first():
        from playout.agents.ppo.run import plot_run

        plot_run(run)
    return run


def _settled(
    command: Command, source: "Source", policy: "nn.Module | None"
) -> "tuple[Command, Beginning | None]":
    """The command with its network decided, and what that begins with."""
    asked = command.network
    if not (command.init or asked.size or asked.network in BOARD_NETWORKS):
        return command, None
    from playout.agents.networks.beginning import Beginning, settle
    from playout.agents.ppo.league.games import native_game

    begun = Beginning.read(command.init) if command.init else None
    if policy is None:
        raw, game = not command.collect.normalize_obs, native_game(source)
        asked = settle(asked, env=source.text, game=game, begun=begun, raw=raw)
    return dataclasses.replace(command, network=asked), begun


def _plays_itself(command: Command, source: "Source") -> bool:
    return command.self_play or source.kind in ("game", "aec")


def _make_trainer(
    command: Command, source: "Source", policy: "nn.Module | None", begun: "Beginning | None"
) -> "tuple[PPOTrainer | Population | SelfPlayTrainer, PPOTrainer, str]":
    """The trainer for a command, the one in it that learns, and a line that says what it runs."""
    from playout.agents.ppo.population import Population, note_of

    if _plays_itself(command, source):
        return _self_play(command, source, policy, begun)
    if begun is not None and policy is not None:
        begun.give(policy)  # before there is an optimiser, which asks what is fresh
    first = _single(command, source, command.seed, policy)
    if command.population > 1 and not first.envs.native:
        first.close()
        raise ConfigError("population needs a native environment")
    seeds = range(command.seed + 1, command.seed + command.population)
    members = [first, *(_single(command, source, seed, None) for seed in seeds)]
    if begun is not None and policy is None:
        for member in members:
            begun.give(member.policy)
    found = first if command.population == 1 else Population(members)
    new = command.resume is None and policy is None and not command.network.squash
    return found, first, note_of(source, members, advise=new)


def _self_play(
    command: Command, source: "Source", policy: "nn.Module | None", begun: "Beginning | None"
) -> "tuple[SelfPlayTrainer, PPOTrainer, str]":
    from playout.agents.ppo.league.trainer import make_self_play

    if command.population > 1:
        raise ConfigError("self-play trains one policy; leave out population")
    trainer = make_self_play(
        source,
        total_timesteps=command.total_timesteps,
        seed=command.seed,
        ppo=command.ppo,
        network=command.network,
        collect=command.collect,
        threads=command.threads,
        device=command.device,
        dtype=command.dtype,
        policy=policy,
        begin=None if begun is None else begun.give,
    )
    return trainer, trainer.learner, f"{trainer.envs.description}; {trainer.learner.machine}"


def _refuse_unused(command: Command, source: "Source", trainer: "PPOTrainer") -> None:
    """Raises ConfigError for an option that would do nothing."""
    from playout.agents.networks.trunks import has_images

    kind = command.network.network
    given = {"native": command.native, "processes": command.processes}
    groups = (command.ppo, command.network, command.collect)
    seen, hidden = trainer.envs.observation_space, command.network.hidden
    refuse_unused(
        {**given, **{name: value for group in groups for name, value in to_dict(group).items()}},
        env=source.text,
        observations=seen,
        actions=trainer.envs.action_space,
        recurrent=trainer.policy.recurrent,
        self_play=_plays_itself(command, source),
        encodes=kind in ("auto", "mlp", *BOARD_NETWORKS) or has_images(seen, kind),
        layers=bool(hidden) if hidden is not None else not has_images(seen, kind),
    )


def _single(
    command: Command, source: "Source", seed: int, policy: "nn.Module | None"
) -> "PPOTrainer":
    from playout.agents.ppo.trainer import PPOTrainer
    from playout.agents.vector.factory import make_environments

    collect = command.collect

    def make(num_envs: int) -> "Environments":
        own = ranks.share(num_envs, "environments")
        return make_environments(
            source,
            len(own),
            native=command.native,
            wrappers=collect.wrappers,
            options=collect.env_options,
            processes=command.processes,
            first=own.start,
        )

    envs = make(collect.num_envs)
    count = collect.eval_episodes if envs.native else min(_EVAL_ENVS, collect.eval_episodes)
    count = max(count, ranks.world())  # every rank plays a part of an evaluation
    return PPOTrainer(
        envs,
        lambda: make(count),
        total_timesteps=command.total_timesteps,
        seed=seed,
        ppo=command.ppo,
        network=command.network,
        collect=collect,
        stop=command.stop,
        threads=command.threads,
        device=command.device,
        dtype=command.dtype,
        policy=policy,
    )

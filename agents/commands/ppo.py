"""Learn an environment by PPO: any Gymnasium id, a PettingZoo parallel one, or a game by self-play.

Settings come from the preset of the environment (agents/presets/ppo.toml) and from flags. Leaves
out learning (ppo/trainer.py) and what can be done with the run afterwards (ppo/run.py).
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from playout.agents.networks.config import NetworkConfig
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.ppo.options import GROUPS, find_env, option_names, preset, sort_options
from playout.agents.runs.config import from_dict
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import TrainingOptions, make_command, open_run
from playout.errors import ConfigError
from tyro.conf import OmitArgPrefixes, Positional

_MAY_CHANGE = ("total_timesteps", "stop", "processes", "save_every")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Learn ENV by PPO."""

    env: Positional[str] = ""
    """Gymnasium id, module:Env-v0, parallel:NAME or aec:NAME (PettingZoo), or a game."""

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

    processes: int | None = None
    """Worker processes for environments that are not vectorised; by default measured."""

    threads: int = 0
    """Threads of torch; 0: by the size of the network."""

    device: str = "cpu"
    """Where the network lives: cpu or cuda."""

    save_every: float = 60.0
    """Seconds between checkpoints."""

    plot: bool = False
    """Draw the learning curve into the run when it ends."""

    ppo: OmitArgPrefixes[PPOConfig] = field(default_factory=PPOConfig)
    network: OmitArgPrefixes[NetworkConfig] = field(default_factory=NetworkConfig)
    collect: OmitArgPrefixes[CollectConfig] = field(default_factory=CollectConfig)

    @staticmethod
    def defaults(arguments: list[str]) -> "Command":
        """The preset of the environment among the arguments, as the flags' defaults."""
        return _from_preset(find_env(arguments))


def _own_names() -> dict[str, Any]:
    names = {f.name: f for f in dataclasses.fields(Command)}
    return {name: f for name, f in names.items() if name not in GROUPS}


def _from_preset(env: str, options: dict[str, Any] | None = None) -> Command:
    known = sort_options(preset(env), _own_names(), f"preset ppo[{env or 'default'}]")
    base: Command = from_dict(Command, {**known, "env": env}, where="preset ppo")
    given = sort_options(options or {}, _own_names(), "ppo")
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if name in GROUPS:
            changes[name] = from_dict(GROUPS[name], value, where="ppo", base=getattr(base, name))
        else:
            changes[name] = value
    return dataclasses.replace(base, **changes)


def ppo(
    env: Any = "",
    *,
    callbacks: Sequence[Callable[[Any, dict[str, float]], None]] = (),
    policy: Any = None,
    **options: Any,
) -> RunDir:
    """Train by PPO; `playout.ppo("CartPole-v1", seed=1, learning_rate=1e-3)`.

    Args:
        env: What the command takes, or a function that makes a Gymnasium environment, or a vector
            environment.
        callbacks: Called as `callback(trainer, metrics)` after every update.
        policy: A policy of your own (an nn.Module with initial_state, step, value, evaluate).
        **options: Any option of `playout ppo`, with underscores.

    Returns:
        The run directory; `playout.load(run.path)` acts as what was learned.
    """
    name = env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)
    if options.get("resume") is not None:
        known = set(_own_names())
        for option in options:
            if option not in known:
                raise ConfigError(f"a resumed run keeps its settings; {option} cannot change")
        command = make_command(Command, **options)
        if isinstance(env, str) and env and env != command.env:
            raise ConfigError(f"{options['resume']} learns {command.env}, not {name}")
    else:
        if env == "":
            raise ConfigError("say which environment: playout.ppo('CartPole-v1')")
        plain = {"run", "resume", "from_step"}
        from pathlib import Path

        for key in plain & set(options):
            if isinstance(options[key], str):
                options[key] = Path(options[key])
        command = _from_preset(name, options)
    source = None if isinstance(env, str) else env
    return _train(command, source=source, callbacks=callbacks, policy=policy, given=name)


def main(command: Command) -> int:
    """Train, then say how it went and what to do next."""
    if not command.env:
        raise ConfigError("say which environment: playout ppo CartPole-v1")
    run = _train(command, given=command.env if command.env in sys.argv else "")
    print(f"run {run.path}: playout eval|play|export {run.path}")
    return 0


def _train(
    command: Command,
    *,
    source: Any = None,
    callbacks: Sequence[Callable[[Any, dict[str, float]], None]] = (),
    policy: Any = None,
    given: str = "",
) -> RunDir:
    from playout.agents.ppo.build import make_trainer
    from playout.agents.runs.loop import train

    if command.resume is not None and ":" in command.env and source is None and not given:
        from playout.agents.own_code import trust

        trust(command.env, command.resume)
    if command.resume is not None:
        _check_unchanged(command)
    trainer, note = make_trainer(command, source, policy)
    try:
        run = open_run(
            command,
            kind="ppo",
            name=command.env,
            extra={"env": command.env},
            may_change=_MAY_CHANGE,
        )
        if not command.quiet:
            print(note, flush=True)
        train(
            trainer,
            run,
            save_every=command.save_every,
            eval_every=1,
            console=not command.quiet,
            callbacks=callbacks,
        )
        if not command.quiet:
            print(trainer.summary(), flush=True)
    finally:
        trainer.close()
    if command.plot:
        from playout.agents.ppo.run import plot_run

        plot_run(run)
    return run


def _check_unchanged(command: Command) -> None:
    """One line that names the option which differs from the run's, instead of whole tables."""
    assert command.resume is not None
    stored = RunDir.open(command.resume).config
    names = option_names()
    for name, group in names.items():
        was = stored.get(group, {}).get(name)
        now = dataclasses.asdict(getattr(command, group))[name]
        now = list(now) if isinstance(now, tuple) else now
        if was != now:
            raise ConfigError(
                f"a run keeps its settings when it is resumed, but {name} was {was!r} and is "
                f"now {now!r}"
            )

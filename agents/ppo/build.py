"""From a command to a trainer: which environments, which training, and what to tell the person.

Leaves out training itself and the run directory.
"""

from typing import TYPE_CHECKING, Any

import torch
from playout.agents.ppo.league.games import is_game
from playout.agents.ppo.trainer import PPOTrainer
from playout.agents.vector.factory import make_environments
from playout.errors import ConfigError

if TYPE_CHECKING:
    from playout.agents.commands.ppo import Command

# Foreign environments are evaluated in so many at once; native ones play all episodes side by side.
_EVAL_ENVS = 8


def make_trainer(command: "Command", source: Any = None, policy: Any = None) -> tuple[Any, str]:
    """The trainer for a command, and a line that says what it runs.

    Args:
        command: Complete options.
        source: A function that makes an environment, or a vector environment, instead of an id.
        policy: A policy of the caller's own.
    """
    _check_device(command.device)
    if command.total_timesteps < 1:
        raise ConfigError(f"total_timesteps must be at least 1, not {command.total_timesteps}")
    if command.population < 1:
        raise ConfigError(f"population must be at least 1, not {command.population}")
    if command.self_play or is_game(command.env):
        from playout.agents.ppo.league.trainer import make_selfplay

        return make_selfplay(command, policy)
    if command.population > 1:
        from playout.agents.ppo.population import Population

        members = [_one(command, command.seed + k, source, None) for k in range(command.population)]
        if not members[0].envs.native:
            raise ConfigError("population needs a native environment")
        note = f"{members[0].envs.description}, {command.population} seeds"
        return Population(members), note
    trainer = _one(command, command.seed, source, policy)
    return trainer, _note(command, trainer)


def _one(command: "Command", seed: int, source: Any, policy: Any) -> PPOTrainer:
    where = command.env if source is None else source

    def make(num_envs: int) -> Any:
        return make_environments(
            where,
            num_envs,
            native=command.native,
            wrappers=command.collect.wrappers,
            options=command.collect.env_options,
            processes=command.processes,
        )

    envs = make(command.collect.num_envs)
    count = command.collect.eval_episodes if envs.native else _EVAL_ENVS
    return PPOTrainer(
        envs,
        lambda: make(min(count, command.collect.eval_episodes)),
        total_timesteps=command.total_timesteps,
        seed=seed,
        ppo=command.ppo,
        network=command.network,
        collect=command.collect,
        stop=command.stop,
        threads=command.threads,
        device=command.device,
        policy=policy,
    )


def _note(command: "Command", trainer: PPOTrainer) -> str:
    envs = trainer.envs
    parts = [envs.description]
    if envs.native and not command.env.startswith("playout/"):
        parts[0] += f" twin of {command.env} (--no-native for the original)"
    size = sum(p.numel() for p in trainer.policy.parameters())
    parts.append(f"{size:,} parameters, {trainer.threads} thread(s)")
    if trainer.stop:
        parts.append(f"until {trainer.threshold:g} is confirmed")
    if not envs.resumable:
        parts.append("its state cannot be saved, so a resumed run is not byte-exact")
    return "; ".join(parts)


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"unknown device {device!r}; use cpu or cuda") from None
    if kind.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no GPU is available here; use --device cpu")

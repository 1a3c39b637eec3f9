"""Flags of the commands whose policy may act in an environment, and what is set up from them.

The flags cost no torch. What an environment is stands in environments/environment.py, limits of
episodes in online/config.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

if TYPE_CHECKING:
    from playout.rlhf.commands.options import PolicyOptions
    from playout.rlhf.environments.environment import EnvironmentFactory
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.online.episode_evaluator import EpisodeEvaluator
    from playout.rlhf.online.rewards import RewardFunction

__all__ = ["EnvironmentOptions", "episode_evaluator", "named_environment", "open_environment"]


@dataclass(frozen=True, kw_only=True)
class EnvironmentOptions:
    """What the policy acts in, and how it is rewarded."""

    env: Annotated[str, arg(metavar="NAME", help_behavior_hint="")] = ""
    """What to act in, in place of prompts and reward: game:NAME, reasoning_gym:NAME,
    textarena:NAME, or module:Class with reset(task, seed) and step(answer)."""
    env_options: Annotated[str, arg(metavar="KEY=VALUE,...", help_behavior_hint="")] = ""
    """Arguments of the environment. Numbers, true, false and none are read as these; in quotes,
    as in kind='none', they are texts."""
    reward_weights: Annotated[str, arg(metavar="FLOAT,...", help_behavior_hint="")] = ""
    """With several rewards between commas in --reward: what each is multiplied by."""
    eval_episodes: int = 0
    """Episodes of an evaluation with --env; 0 leaves it to the size."""

    @staticmethod
    def stored_today(config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Runs of earlier versions go on with the prompts that they began with."""
        from playout.rlhf.environments.load import stored_options

        return {**config, "env_options": stored_options(config)} if config.get("env") else config


def named_environment(env: Any, seconds: float = 60.0) -> tuple[str, EnvironmentFactory | None]:
    """What `env=` of a function in Python stands for: a name, or a class and where it is found.

    A class that no other process could import (one of the script that runs) has no name; a run then
    cannot keep it, and whoever resumes the run gives it again. Making it may take so many seconds.
    """
    if isinstance(env, str) or env is None:
        return env or "", None
    from playout.rlhf.environments.environment import EnvironmentFactory
    from playout.rlhf.environments.load import own_environment

    if isinstance(env, EnvironmentFactory):
        return "", env
    return "", own_environment(env, seconds=seconds)


def open_environment(command: PolicyOptions) -> EnvironmentFactory | None:
    """The environment that a command names; None where it names none.

    Raises:
        ConfigError: There is no such environment, or only a run names its code.
        EnvironmentFault: It takes longer to make than one call may.
    """
    name = getattr(command, "env", "")
    if not name:
        return None
    from playout.own_code import trust_modules
    from playout.rlhf.environments.load import (
        KINDS,
        code_of,
        load_environment,
        read_options,
        trust_language_environment,
    )

    if command.resume is None and (module := code_of(name)) is not None:
        kind, _, rest = name.partition(":")
        trust_modules(module, rest if kind in KINDS else name)  # whoever names it means it
    trust_language_environment(name, command.resume)
    options = read_options(getattr(command, "env_options", ""))
    return load_environment(name, options, seconds=getattr(command, "env_timeout", 60.0))


def episode_evaluator(
    command: PolicyOptions,
    factory: EnvironmentFactory,
    model: Transformer,
    tokenizer: Tokenizer,
    reward: RewardFunction | None,
) -> EpisodeEvaluator:
    """Measures on the held-out tasks of an environment, which is tried once.

    Raises:
        EnvironmentFault: The environment cannot be asked for its first prompt.
        ConfigError: The prompt leaves no room for an answer; or answers are constrained, and the
            environment lists none.
    """
    from dataclasses import replace

    from playout.agents.runs.devices import resolve_device
    from playout.errors import EnvironmentFault
    from playout.rlhf.environments.prompts import PROMPTS
    from playout.rlhf.model.transformer import pick_dtype
    from playout.rlhf.online.config import EpisodeLimits
    from playout.rlhf.online.engine import EpisodeEngine, describe
    from playout.rlhf.online.episode_evaluator import EpisodeEvaluator
    from playout.rlhf.stages.sizes import recipe

    numbers = recipe(command.size)

    def given(name: str, otherwise: Any) -> Any:
        return getattr(command, name, otherwise)

    limits = EpisodeLimits(
        max_new_tokens=command.max_new_tokens or numbers.response_length,
        max_turns=given("max_turns", 0),
        max_tokens=given("max_tokens", 0),
        max_seconds=given("max_seconds", 0.0),
        call_seconds=given("env_timeout", 60.0),
    )
    found = EpisodeEvaluator(
        tokenizer,
        factory,
        given("eval_episodes", 0) or numbers.num_prompts,
        limits,
        reward,
        temperature=given("temperature", 1.0),
        stop=given("stop", ()),
        constrained=given("constrained", False),
        as_user=factory.name != PROMPTS
        and not (given("plain_text", False) or given("plain", False)),
        on_failure=given("on_failure", "stop"),
        dtype=pick_dtype(command.dtype, resolve_device(command.device)),
        tasks=factory.tasks("test"),
    )
    engine = EpisodeEngine(
        model,
        tokenizer,
        limits=replace(limits, max_new_tokens=1, max_turns=1),
        seed=0,
        dtype=found.dtype,
        as_user=found.as_user,
    )
    for request in found.to_be_tried():
        (first,) = engine.run([request])
        if first.answers:  # what one token is answered with says nothing yet
            if command.resume is None:  # runs of earlier versions go on
                found.check_constrained()
            return found
    raise EnvironmentFault(describe(first))

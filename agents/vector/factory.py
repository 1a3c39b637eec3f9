"""From what a person names or hands over (sources.py) to `Environments`.

An id with a native twin uses the twin, one with a vector entry point uses that, any other is made
once for each environment and stepped in this process or in several, whichever a short measurement
says is faster (the numbers are the same). Missing extras get a message that names them. Leaves out
self-play (ppo/league).
"""

import importlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from playout.agents.runs.console import counted
from playout.agents.runs.devices import cores
from playout.agents.vector.actions import random_action
from playout.agents.vector.episodes import place_of
from playout.agents.vector.groups import Group, GroupEnvs
from playout.agents.vector.gymnasium_vector import VectorEnvs
from playout.agents.vector.in_process import EnvGroup, MakeEnv
from playout.agents.vector.interface import Environments
from playout.agents.vector.sources import EnvSource, find_source, takes
from playout.agents.vector.spaces import channels_last
from playout.agents.vector.workers import WorkerPool
from playout.errors import ConfigError
from playout.own_code import import_module

# Below this many seconds for one step of all environments, processes cost more than they give.
_WORTH_PROCESSES = 1e-3

# Wrappers that show what is rendered, and their smallest picture, which networks still take.
_RENDERED, _LEAST_PIXELS = ("pixels", "grey"), 8

# A word in the id or its entry point -> what to install for it.
_PACKAGES = {
    "box2d": '"gymnasium[box2d]"',
    "lunarlander": '"gymnasium[box2d]"',
    "bipedalwalker": '"gymnasium[box2d]"',
    "mujoco": '"gymnasium[mujoco]"',
    "ale": '"gymnasium[other]" ale-py',
    "atari": '"gymnasium[other]" ale-py',
}


def native_twin(env_id: str) -> str | None:
    """The id of playout's own version of an environment, or None."""
    name = env_id.removeprefix("playout/")
    twin = f"playout/{name}"
    return twin if twin in gym.registry else None


def make_environments(
    source: EnvSource,
    num_envs: int,
    *,
    native: bool = True,
    wrappers: Sequence[str] = (),
    options: dict[str, Any] | None = None,
    processes: int | None = None,
    first: int = 0,
) -> Environments:
    """B environments behind one interface.

    Args:
        source: Whatever sources.py tells apart, but no game.
        num_envs: B, of this rank; a vector environment that is made already keeps its own number.
        native: Use playout's own version where there is one.
        wrappers: Names for `wrap`.
        options: Keyword arguments of the environment.
        processes: Worker processes; None measures, 0 is this process.
        first: Number of the first one among those of all ranks, from which its seeds follow.
    """
    options = dict(options or {})
    found = find_source(source, options)
    renders = any(name.partition(":")[0] in _RENDERED for name in wrappers)
    if renders and (found.kind == "id" or takes(found.make, "render_mode")):
        options.setdefault("render_mode", "rgb_array")
    if found.kind == "vector":
        if wrappers:
            raise ConfigError("a vector environment takes no wrappers: put them into what makes it")
        if takes(found.make, "num_envs"):
            options.setdefault("num_envs", num_envs)
        made = found.make(**options)
        first = place_of(int(made.num_envs)).first  # it may have a number of its own
        return VectorEnvs(made, found.text, native=False, first=first)
    if found.kind == "single":
        makers = [_wrapped(partial(found.make, **options), wrappers)] * num_envs
        return _make_group(makers, found.text, None, processes, first)
    if found.kind == "parallel":
        from playout.agents.vector.pettingzoo import make_parallel

        if wrappers:
            raise ConfigError("PettingZoo environments take no wrappers here")
        return make_parallel(found, num_envs, options, first)
    if found.kind in ("aec", "game"):
        raise ConfigError(f"{found.text} is played in turns: it is learned by self-play")
    source = found.text
    twin = native_twin(source) if native and not wrappers else None
    spec = _spec(twin or source)
    if not wrappers and spec.vector_entry_point is not None:
        extra: dict[str, Any] = {"copy": False} if twin else {}
        try:
            envs = gym.make_vec(
                twin or source,
                num_envs,
                vectorization_mode="vector_entry_point",
                **extra,
                **options,
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{twin or source} cannot be made: {error}") from error
        return VectorEnvs(envs, twin or source, native=twin is not None, first=first)

    def make() -> gym.Env[Any, Any]:
        return make_single(source, options)

    makers = [_wrapped(make, wrappers)] * num_envs
    return _make_group(makers, source, spec.reward_threshold, processes, first)


def _make_group(
    makers: Sequence[MakeEnv],
    name: str,
    threshold: float | None,
    processes: int | None = None,
    first: int = 0,
) -> GroupEnvs:
    """Single environments, in as many processes as a short measurement says are worth it.

    Args:
        makers: One function for each environment.
        name: For the console and errors.
        threshold: Mean return that counts as solved.
        processes: 0 or more to choose by hand (0: this process).
        first: Number of the first one among those of all ranks.
    """
    if processes is None and (cores() == 1 or len(makers) == 1):
        processes = 0
    group: Group | None = None
    if processes != 0:  # one is made first, to be measured and to tell its spaces
        template = EnvGroup(makers[:1], first)
        if processes is None:
            worth = _step_seconds(template) * len(makers) > _WORTH_PROCESSES
            processes = min(cores(), len(makers)) if worth else 0
        if processes:
            group = WorkerPool(makers, processes, template, first)
        template.close()
    where = f"in {processes} processes" if processes else "in one process"
    group = EnvGroup(makers, first) if group is None else group
    return GroupEnvs(group, f"{name}, {counted(len(makers), 'environment')} {where}", threshold)


def _step_seconds(group: EnvGroup, budget: float = 0.1) -> float:
    """Mean seconds of a step with random legal actions, for at most `budget` seconds."""
    rng = np.random.default_rng(0)
    group.reset(0)
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < budget and steps < 500:
        group.step(random_action(group.action_space, group.buffers["masks"][0], rng)[None])
        steps += 1
    return (time.perf_counter() - begun) / max(steps, 1)


def make_single(env_id: str, options: dict[str, Any]) -> gym.Env[Any, Any]:
    """One environment, with an error that names the package it lacks."""
    module = env_id.rpartition(":")[0]
    if module:  # Gymnasium would not look in the current folder
        import_module(module)
    try:
        return gym.make(env_id, disable_env_checker=True, **options)
    except (ImportError, TypeError, gym.error.Error) as error:
        raise ConfigError(f"{env_id} cannot be made: {error}{_install_hint(env_id)}") from error


def _spec(env_id: str) -> Any:
    if env_id.split("/")[0].lower() == "ale":
        try:
            gym.register_envs(importlib.import_module("ale_py"))
        except ImportError:
            raise ConfigError(f"{env_id} needs Atari{_install_hint('ale')}") from None
    module, _, name = env_id.rpartition(":")
    if module:
        import_module(module)
    try:
        return gym.spec(name)
    except gym.error.Error as error:
        raise ConfigError(f"no environment {env_id!r}: {error}{_install_hint(env_id)}") from error


def _install_hint(text: str) -> str:
    spec = gym.registry.get(text)
    words = f"{text} {spec.entry_point if spec else ''}".lower()
    for word, packages in _PACKAGES.items():
        if word in words:
            return f" (pip install {packages})"
    return ""


def _wrapped(make: Callable[[], Any], wrappers: Sequence[str]) -> Callable[[], Any]:
    for name in wrappers:
        wrap_check(name)
    return lambda: wrap(make(), wrappers)


def wrap_check(name: str) -> None:
    """Refuse a wrapper that does not exist."""
    word, _, number = name.partition(":")
    known = name in ("atari", "clip_reward", "rescale_action")
    if word in ("frame_stack", *_RENDERED) and number.isdecimal():
        known = int(number) >= (_LEAST_PIXELS if word in _RENDERED else 1)
    if not known:
        raise ConfigError(
            f"unknown wrapper {name!r}; there are atari, clip_reward, frame_stack:N, "
            f"rescale_action, pixels:N and grey:N of {_LEAST_PIXELS} or more"
        )


def wrap(env: gym.Env[Any, Any], wrappers: Sequence[str]) -> gym.Env[Any, Any]:
    """Put the named wrappers around an environment, the first innermost."""
    for name in wrappers:
        word, _, number = name.partition(":")
        if word == "atari":
            env = gym.wrappers.AtariPreprocessing(env, frame_skip=4, terminal_on_life_loss=False)
            env = gym.wrappers.FrameStackObservation(env, 4)
        elif word == "clip_reward":
            env = gym.wrappers.ClipReward(env, -1.0, 1.0)
        elif word == "frame_stack":
            env = _stacked(env, int(number))
        elif word == "rescale_action":
            env = gym.wrappers.RescaleAction(_within_bounds(env), np.float32(-1), np.float32(1))
        elif word in _RENDERED:
            env = RenderedObservation(env, int(number), grey=word == "grey")
    return env


def _within_bounds(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Takes what rounding puts a hair outside of the bounds of actions for the bound itself."""
    space = env.action_space
    if not isinstance(space, gym.spaces.Box):
        return env
    clip = partial(np.clip, a_min=space.low, a_max=space.high)
    return gym.wrappers.TransformAction(env, clip, space)


def _stacked(env: gym.Env[Any, Any], count: int) -> gym.Env[Any, Any]:
    """Shows the last observations [count, ...], or of coloured pictures [count * C, H, W].

    Networks for pictures see as many channels then.
    """
    one = env.observation_space
    env = gym.wrappers.FrameStackObservation(env, count)
    if not isinstance(one, gym.spaces.Box) or len(one.shape) != 3:
        return env
    last = channels_last(one)

    def together(frames: NDArray[Any]) -> NDArray[Any]:
        frames = np.moveaxis(frames, -1, 1) if last else frames
        return frames.reshape(-1, *frames.shape[2:])

    stacked = env.observation_space
    assert isinstance(stacked, gym.spaces.Box)
    low, high = together(stacked.low), together(stacked.high)
    space = gym.spaces.Box(low, high, dtype=stacked.dtype.type)
    return gym.wrappers.TransformObservation(env, together, space)


class RenderedObservation(gym.ObservationWrapper[Any, Any, Any]):
    """What an environment renders in place of what it shows: bytes [N, N, 3], or grey [N, N].

    Args:
        env: Made to render pictures (render_mode "rgb_array").
        size: N.
        grey: Whether without colour, which `frame_stack` can put on top of one another.
    """

    def __init__(self, env: gym.Env[Any, Any], size: int, *, grey: bool) -> None:
        super().__init__(env)
        self.size, self.grey = size, grey
        shape = (size, size) if grey else (size, size, 3)
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)

    def observation(self, observation: Any) -> NDArray[np.uint8]:
        """The picture of the state that was reached."""
        return rendered(self.env, self.size, grey=self.grey)


def rendered(env: gym.Env[Any, Any], size: int, *, grey: bool = False) -> NDArray[np.uint8]:
    """The picture that an environment renders, brought to size x size: bytes [N, N, 3] or [N, N].

    Raises:
        ConfigError: It renders none.
    """
    from PIL import Image

    shown = env.render()
    if not isinstance(shown, np.ndarray) or shown.ndim != 3:
        name = env.spec.id if env.spec else env.unwrapped
        raise ConfigError(f"{name} does not render pictures (rgb_array)")
    picture = Image.fromarray(shown).convert("L" if grey else "RGB")
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))

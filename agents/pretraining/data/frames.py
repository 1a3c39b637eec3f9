"""Pictures of environments under random actions, without labels: rendered, or as PPO sees them.

`frames` are what an environment renders. `observations` come from the very environments that
`playout ppo ENV` steps, with its wrappers and options (size, grey, several frames at once), so that
PPO begins with what they have taught. Episodes are not cut in two, unless there is one alone: about
a tenth is held out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from playout.agents.networks.encoders.images import Images
from playout.agents.pretraining.data.dataset import UNKNOWN, Rows, Split, split_rows
from playout.agents.pretraining.data.pictures import Bytes, Pictures
from playout.agents.vector.actions import mask_size, random_action
from playout.agents.vector.factory import make_environments, make_single, rendered
from playout.agents.vector.in_process import fault_of
from playout.agents.vector.sources import called, find_source, takes
from playout.errors import ConfigError, PlayoutError
from playout.own_code import trust_environment

FRAMES, OBSERVATIONS = "frames:", "observations:"
MADE = (FRAMES, OBSERVATIONS)

SIZE = 64
"""Of both sides of a frame, where none is given."""

_ENVIRONMENTS = 8  # stepped together, so that the first pictures are of several episodes


def environment_of(data: str) -> str:
    """The environment that DATA names, whose module may be somebody's own; of other data ""."""
    return next((data.removeprefix(kind) for kind in MADE if data.startswith(kind)), "")


def frames(env: str, *, count: int, size: int = 0, seed: int = 0) -> Split:
    """Pictures that a Gymnasium environment renders.

    Args:
        env: its id, with "module:" in front where that registers it, or module:Name of a class or
            function that makes one.
        count: of pictures.
        size: of both sides; 0: 64.
        seed: of the environment, of actions, and of which are held out.

    Raises:
        ConfigError: there is no such environment, or it renders no pictures. EnvironmentFault: it
            fails.
    """
    trust_environment(env, f"{FRAMES}{env}")
    made = _rendering(env)
    pictures: list[Bytes] = []
    episodes: list[int] = []
    episode = 0
    try:
        made.reset(seed=seed)
        made.action_space.seed(seed)
        while len(pictures) < count:
            pictures.append(rendered(made, size or SIZE).transpose(2, 0, 1))
            episodes.append(episode)
            _, _, terminated, truncated, _ = made.step(made.action_space.sample())
            if terminated or truncated:
                episode += 1
                made.reset()
    except PlayoutError:
        raise
    except Exception as error:
        raise fault_of(f"{env} failed at frame {len(pictures)}", error) from error
    finally:
        made.close()
    return _split(f"{FRAMES}{env}", np.stack(pictures), np.array(episodes), seed)


def _rendering(env: str) -> gym.Env[Any, Any]:
    """An environment of that name that renders pictures where it can."""
    options = {"render_mode": "rgb_array"}
    found = find_source(env)
    if found.kind == "id":
        return make_single(env, options)
    if found.kind != "single":
        raise ConfigError(f"{FRAMES}ENV is of one Gymnasium environment, and {env} makes none")
    made: gym.Env[Any, Any] = called(
        found.make, env, options if takes(found.make, "render_mode") else {}
    )
    return made


def observations(
    env: str,
    *,
    count: int,
    wrappers: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Split:
    """Observations that are pictures, as PPO gets them.

    Args:
        env: as `playout ppo` takes it, but no game.
        count: of pictures.
        wrappers: around the environment, as `--wrappers` of ppo.
        options: keywords of the environment, as `--env-options` of ppo.
        seed: of the environment, of actions, and of which are held out.

    Raises:
        ConfigError: there is no such environment, or it shows no pictures.
    """
    name = f"{OBSERVATIONS}{env}"
    trust_environment(env, name)
    envs = make_environments(
        env, _ENVIRONMENTS, wrappers=wrappers, options=dict(options or {}), processes=0
    )
    rng = np.random.default_rng([seed, 48])
    pictures, episodes = list[Bytes](), list[Rows]()
    try:
        see = _pictures_of(envs.observation_space, env)
        allowed = np.ones((envs.num_envs, mask_size(envs.action_space)), np.uint8)
        shown, current = envs.reset(seed), np.arange(envs.num_envs)
        known = envs.num_envs
        while len(pictures) * envs.num_envs < count:
            pictures.append(see(shown))
            episodes.append(current)
            masks, resets = envs.masks(), envs.idle.copy()
            masks = allowed if masks is None else masks
            actions = [random_action(envs.action_space, mask, rng) for mask in masks]
            shown, _, terminations, truncations = envs.step(np.stack(actions))
            begun = (terminations | truncations) if envs.same_step else resets
            fresh = known + np.cumsum(begun) - 1
            current, known = np.where(begun, fresh, current), known + int(begun.sum())
    finally:
        envs.close()
    return _split(name, np.concatenate(pictures)[:count], np.concatenate(episodes)[:count], seed)


def _pictures_of(space: gym.Space[Any], env: str) -> Callable[[Any], Bytes]:
    """What makes bytes [N, C, H, W] of observations, in the order in which encoders see them."""
    box = space if isinstance(space, spaces.Box) and len(space.shape) in (2, 3) else None
    if box is not None and box.dtype != np.uint8 and (box.low.min() < 0 or box.high.max() > 1):
        box = None
    if box is None:
        raise ConfigError(
            f"{env} shows {space}, which are no pictures (bytes, or numbers from 0 to 1, with two "
            "or three axes): --wrappers grey:64 shows what it renders"
        )
    images = Images(box)
    return lambda shown: (images(torch.from_numpy(shown)) * 255).round().byte().numpy()


def _split(name: str, pixels: Bytes, episodes: Rows, seed: int) -> Split:
    groups = episodes if len(np.unique(episodes)) > 1 else None  # one alone has to be cut
    labels = np.full(len(pixels), UNKNOWN, np.int64)
    whole = Pictures(name=name, pixels=pixels, labels=labels, groups=groups)
    held = split_rows(len(whole), groups, 0.1, seed=seed, by_rows=True)
    return Split(whole.subset(np.setdiff1d(np.arange(len(whole)), held)), whole.subset(held))

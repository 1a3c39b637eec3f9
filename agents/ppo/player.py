"""The player of a PPO run: observations in, actions out, without making the environment.

`playout.load(RUN).act(observations)`. Normalisation, masks, recurrent state and the form of the
environment's actions are handled here. Leaves out measuring and watching (run.py).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.policy import Policy, Tree, as_policy, draw_ahead, map_tree
from playout.agents.ppo.config import OWN_POLICY, CollectConfig
from playout.agents.ppo.evaluation import device_of
from playout.agents.ppo.trainer import choose_threads, compute_dtype
from playout.agents.runs.config import from_dict
from playout.agents.runs.devices import device_errors, nests_to_device, resolve_device
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.agents.vector.actions import (
    check_masks,
    flat_mask,
    is_composite,
    mask_size,
    nested,
    one_action,
)
from playout.agents.vector.normalize import ObsNormalizer
from playout.agents.vector.sources import Source, find_source, is_game_text
from playout.agents.vector.spaces import Arrays, decode_space, form_of, limits, map_arrays
from playout.envs.core.state_batch import StateBatch
from playout.errors import CheckpointError, ConfigError, EnvironmentFault, RunError
from playout.own_code import trust, trust_environment
from torch import nn


class PPOPlayer:
    """Acts as a trained policy.

    Attributes:
        policy: The network.
        observation_space: One observation, in the simple types of spaces.py.
        action_space: One action.
        normalizer: Statistics of training, or None.
    """

    def __init__(
        self,
        policy: Policy,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        normalizer: ObsNormalizer | None = None,
    ) -> None:
        self.policy = policy
        self.observation_space, self.action_space = observation_space, action_space
        self.normalizer = normalizer
        self.state: Tree = None
        self.device = device_of(policy)
        self.generator = torch.Generator()
        self.reset()

    def reset(self, seed: int = 0) -> None:
        """Forget the memory of recurrent policies and begin the random numbers of `seed`."""
        self.state = None
        self.generator.manual_seed(seed)

    def act(
        self,
        observations: Any,
        *,
        deterministic: bool = True,
        mask: ArrayLike | None = None,
        episode_starts: ArrayLike | None = None,
    ) -> Any:
        """Actions for a batch of observations, as the environment takes them.

        Args:
            observations: `[N, ...]`, or a dict of them; a single observation gives a single action.
            deterministic: Take the most likely action instead of sampling.
            mask: 1 where an action is legal, `[N, A]`; an "action_mask" in the observation counts.
            episode_starts: Recurrent policies: rows whose memory is to be forgotten, bool `[N]`.

        Returns:
            `[N, ...]`; of a Dict or Tuple of actions such a dictionary or tuple of arrays.

        Raises:
            ConfigError: Observations or mask are not of the spaces that were learned.
        """
        obs, found = self._read(observations)
        given = found if mask is None else mask
        count = _count(self.observation_space, obs)
        if count is None:
            obs = map_arrays(lambda array: array[None], obs)
        rows = 1 if count is None else count
        legal = self._legal(given, rows, single=count is None)
        actions = self.rows(obs, legal, deterministic=deterministic, episode_starts=episode_starts)
        if count is not None:
            return nested(self.action_space, actions)
        if is_composite(self.action_space):
            return one_action(self.action_space, actions[0])
        return actions[0]

    @torch.no_grad()
    def rows(
        self,
        obs: Arrays,
        legal: NDArray[Any] | None,
        *,
        deterministic: bool = True,
        episode_starts: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """As `act`, for what `Environments` tell and take: simple observations, rows of actions."""
        leaf = obs
        while isinstance(leaf, dict):
            leaf = next(iter(leaf.values()))
        count = len(leaf)
        if self.normalizer is not None:
            obs = self.normalizer(obs)
        noise, source = None, self.generator
        if not deterministic:
            noise, source = draw_ahead(self.policy, count, self.generator, self.device)
        seen, mask, noise = nests_to_device(
            (obs, None if legal is None else np.array(legal), noise), self.device
        )
        given = {} if noise is None else {"noise": noise}
        step = self.policy.step(
            seen,
            self._state(count, episode_starts),
            mask,
            generator=source,
            deterministic=deterministic,
            **given,
        )
        self.state = step.state
        return self.policy.to_env(step.action)

    def must_fit(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        """Raises ConfigError if an environment has other spaces than what was learned."""
        pairs = ((self.observation_space, observations), (self.action_space, actions))
        for learned, found in pairs:
            if form_of(learned) != form_of(found):
                raise ConfigError(f"the run has learned {learned}, this environment has {found}")

    def _legal(self, mask: Any, rows: int, *, single: bool) -> NDArray[np.uint8] | None:
        """The mask as `[rows, A]`."""
        space = self.action_space
        if mask is None or not mask_size(space):
            return None
        try:
            if single:
                return flat_mask(space, mask, "act", over=False)[None]
            if isinstance(mask, np.ndarray) and mask.shape == (rows, mask_size(space)):
                found = (mask != 0).astype(np.uint8)
            else:
                if len(mask) != rows:
                    raise ConfigError(f"{rows} observations, but {len(mask)} masks")
                found = np.stack([flat_mask(space, one, "act", over=True) for one in mask])
            check_masks(space, found, lambda row: f"act, row {row}")
        except EnvironmentFault as error:
            raise ConfigError(str(error)) from error
        return found

    def _state(self, rows: int, episode_starts: ArrayLike | None) -> Tree:
        state = self.state
        leaf = state
        while isinstance(leaf, list | tuple):
            leaf = leaf[0]
        if leaf is None or len(leaf) != rows:
            state = map_tree(lambda x: x.to(self.device), self.policy.initial_state(rows))
        elif episode_starts is not None:
            starts = torch.from_numpy(np.asarray(episode_starts, np.bool_)).to(self.device)
            state = self.policy.reset_state(state, starts)
        return state

    def _read(self, observations: Any) -> tuple[Arrays, Any]:
        """Observations in simple types, and the mask that came with them."""
        if isinstance(observations, StateBatch):
            return observations.observe(), observations.legal_mask()
        if isinstance(observations, tuple):
            observations = {str(i): part for i, part in enumerate(observations)}
        mask = None
        if isinstance(observations, Mapping):
            mask = observations.get("action_mask")
            if not isinstance(self.observation_space, spaces.Dict):
                observations = _part(observations, "observation")
        return _typed(self.observation_space, observations), mask


def _part(obs: Any, key: str) -> Any:
    """What a dictionary of observations holds at `key`."""
    if not isinstance(obs, Mapping) or key not in obs:
        raise ConfigError(f"the observation must be a dictionary with {key!r} in it")
    return obs[key]


def _count(space: spaces.Space[Any], obs: Arrays) -> int | None:
    """The number of observations, or None for a single one.

    Raises:
        ConfigError: They have the wrong shape.
    """
    if isinstance(space, spaces.Dict):
        counts = {_count(part, obs[key]) for key, part in space.spaces.items()}
        if len(counts) != 1:
            raise ConfigError("the parts of the observations differ in number")
        return counts.pop()
    shape = space.shape or ()
    if obs.shape == shape:
        return None
    if obs.shape[1:] != shape or obs.ndim != len(shape) + 1:
        raise ConfigError(
            f"observations must have shape [N, {', '.join(map(str, shape))}], not {list(obs.shape)}"
        )
    return len(obs)


def _typed(space: spaces.Space[Any], obs: Any) -> Arrays:
    if isinstance(space, spaces.Dict):
        if isinstance(obs, tuple):
            obs = {str(i): part for i, part in enumerate(obs)}
        return {key: _typed(part, _part(obs, key)) for key, part in space.spaces.items()}
    try:
        array = np.asarray(obs)
    except ValueError as error:
        raise ConfigError(f"observations cannot be read as an array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"observations must be numbers, not {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ConfigError("an observation is NaN or infinite")
    whole = not isinstance(space, spaces.Box) or np.dtype(space.dtype).kind in "iu"
    if whole and array.dtype.kind == "f" and (array != np.floor(array)).any():
        raise ConfigError(f"observations must be whole numbers, as in {space}")
    if isinstance(space, spaces.Box):
        if array.size and np.dtype(space.dtype).kind in "iu":
            kept = np.iinfo(space.dtype)  # numpy would begin at 0 again
            if array.min() < kept.min or array.max() > kept.max:
                raise ConfigError(f"an observation is not in {space}")
        return np.ascontiguousarray(array, space.dtype)
    low, high = limits(space)
    if array.shape[array.ndim - len(space.shape or ()) :] == (space.shape or ()) and (
        (array < low).any() or (array >= high).any()
    ):
        raise ConfigError(f"an observation is not in {space}")
    return array


def learned_source(run: RunDir, given: object | None = None) -> Source:
    """What the run has learned.

    Args:
        run: A run of kind "ppo".
        given: The environment itself, or what makes it, where the run cannot name it.

    Raises:
        RunError: The run cannot name it, and it was not given. ConfigError: Nobody trusts its code.
    """
    options = dict(collect_config(run).env_options)
    if given is not None:
        return find_source(given, options)
    text = str(run.config["env"])
    unnamed = not run.config.get("env_named", True) or (
        # As runs of earlier versions noted a function's or a class's bare name.
        text.isidentifier() and not is_game_text(text)
    )
    if unnamed:
        raise RunError(
            f"{run.path} was trained in Python on {text}, which has no name to import it by: give "
            f"it again there, as playout.evaluate({str(run.path)!r}, game=...)"
        )
    trust_environment(text, run.path)
    return find_source(text, options)


def collect_config(run: RunDir) -> CollectConfig:
    """How the run collects experience."""
    return from_dict(CollectConfig, run.config.get("collect", {}), where=f"{run.path}: collect")


def must_have_policy(run: RunDir, policy: object | None) -> None:
    """Raises RunError for a run that learned with a policy of one's own, unless that is given."""
    if policy is None and run.config.get(OWN_POLICY):
        raise RunError(
            f"{run.path} learned with a policy of your own, which it does not keep: give it again "
            "in Python, as policy= of playout.load, evaluate or resume"
        )


def load(
    run: RunDir,
    which: str | int = "best",
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
    policy: nn.Module | None = None,
) -> PPOPlayer:
    """The player of a run's checkpoint.

    Args:
        run: A run of kind "ppo".
        which: "best", "latest" or a number; without an evaluation the latest is the best.
        machine: Where the network computes.
        policy: Of a run that learned with a policy of one's own: one like it, which is given the
            run's weights.

    Raises:
        RunError: It is missing. CheckpointError: The weights are another network's.
    """
    must_have_policy(run, policy)
    _, state = run.load(which, only=("model", "normalizer", "spaces"))
    config = from_dict(NetworkConfig, run.config.get("network", {}), where=f"{run.path}: network")
    if ":" in config.network:
        trust(config.network, run.path)
    try:
        observation_space = decode_space(state["spaces"]["observation"])
        action_space = decode_space(state["spaces"]["action"])
        net = (
            build_policy(observation_space, action_space, config)
            if policy is None
            else as_policy(policy)
        )
        net.load_state_dict(state["model"])
        normalizer = None
        if state.get("normalizer") is not None:
            normalizer = ObsNormalizer(observation_space, collect_config(run).clip_obs)
            normalizer.load_state_dict(state["normalizer"])
    except (KeyError, TypeError, RuntimeError) as error:
        text = " ".join(str(error).split())
        # Earlier versions did not note a policy of one's own.
        own = "" if policy is not None else "; was its policy your own, give it again as policy="
        raise CheckpointError(f"the checkpoint does not fit its run: {text}{own}") from error
    lower = machine.dtype == "bfloat16"
    device = resolve_device(machine.device, prefers_processor=net.prefers_processor and not lower)
    net.use_dtype(compute_dtype(machine.dtype))
    with device_errors(device):
        net.to(device)
    choose_threads(net, machine.threads)
    return PPOPlayer(net, observation_space, action_space, normalizer)

"""Collection: a policy acts in vector environments and fills a rollout of T steps, again and again.

Buffers are made once and reused, so a rollout is valid until the next is collected. Rewards and
episodes are summed up once a rollout, not once a step. Everything that the next step depends on can
be saved and restored. Leaves out learning and evaluation.
"""

import math
import warnings
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.networks.policy import Policy, PolicyStep, Tree, map_tree
from playout.agents.ppo.config import CollectConfig
from playout.agents.ppo.rollout import Rollout
from playout.agents.vector.actions import mask_size
from playout.agents.vector.episodes import derive_seed
from playout.agents.vector.interface import Environments
from playout.agents.vector.normalize import ObsNormalizer, RewardScaler
from playout.agents.vector.running import finished_episodes
from playout.agents.vector.spaces import Arrays, empty, map_arrays, same_arrays, write
from playout.errors import ConfigError, DivergedError, EnvironmentFault
from torch import Tensor


def to_tensors(arrays: Arrays, device: torch.device | None = None) -> Tree:
    """Arrays (or a dict of them) as tensors that share memory where they can."""
    if isinstance(arrays, dict):
        return {key: to_tensors(value, device) for key, value in arrays.items()}
    found = torch.from_numpy(arrays)
    return found if device is None or device.type == "cpu" else found.to(device)


class Collector:
    """Steps B environments T times a rollout.

    Attributes:
        envs: The environments.
        policy: The policy that acts.
        steps: Valid steps so far, over all rollouts.
        finished: Returns and lengths of the episodes that ended in the last rollout.
        normalizer: Of observations, or None.
    """

    def __init__(
        self,
        envs: Environments,
        policy: Policy,
        config: CollectConfig,
        *,
        gamma: float,
        seed: int,
        device: torch.device | None = None,
        normalizer: ObsNormalizer | None = None,
    ) -> None:
        self.envs, self.policy, self.config = envs, policy, config
        self.device = device or torch.device("cpu")
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(seed)
        rows, steps = envs.num_envs, config.num_steps
        self.normalizer = normalizer
        if normalizer is None and config.normalize_obs:
            self.normalizer = ObsNormalizer(envs.observation_space, config.clip_obs)
        self.scaler = (
            RewardScaler(rows, gamma, config.clip_reward) if config.normalize_rewards else None
        )
        self.obs = empty(envs.observation_space, rows, steps)
        self.rewards = np.zeros((rows, steps), np.float32)
        self.terminations, self.truncations, self.valid, self.starts = (
            np.zeros((rows, steps), np.bool_) for _ in range(4)
        )
        self.logprobs = torch.zeros(rows, steps, device=self.device)
        self.values = torch.zeros(rows, steps, device=self.device)
        self.actions: Tensor | None = None
        self.masks: NDArray[np.bool_] | None = None
        self.bootstrap = np.zeros((rows, steps), np.float32)
        self.episode_returns, self.episode_lengths = np.zeros(rows), np.zeros(rows, np.int64)
        self.finished: list[tuple[float, int]] = []
        self.steps, self.seed, self.interrupted = 0, seed, False
        self._begin(envs.reset(seed))
        self.starting = np.ones(rows, np.bool_)
        self.chunk_states: list[Tree] = []
        self.noise: Tensor | None = None
        if config.noise_correlation > 0.0 and isinstance(envs.action_space, spaces.Box):
            size = int(np.prod(envs.action_space.shape))
            self.noise = torch.zeros(rows, size, device=self.device)
            self.noise.normal_(generator=self.generator)
        self.state: Tree = self._moved(policy.initial_state(rows))

    def _moved(self, tree: Tree) -> Tree:
        return map_tree(lambda x: x.to(self.device), tree)

    def _begin(self, raw: Arrays) -> None:
        """Make observations the current ones: count them in the statistics, and normalise them."""
        self.raw_obs = raw
        if self.normalizer is not None:
            self.normalizer.update(raw)
            self.current_obs = self.normalizer(raw)
        else:
            self.current_obs = raw

    def collect(self) -> Rollout:
        """T steps of every environment; follow with `compute_gae`, then `cut`."""
        self.interrupted = True  # until the rollout is complete
        envs, policy, length = self.envs, self.policy, self.config.sequence_length
        initial, self.chunk_states = self.state, []
        policy.weights_changed()  # a callback may have touched them
        for t in range(self.config.num_steps):
            self.state = self._reset_states(self.state)
            if length and t % length == 0:
                self.chunk_states.append(self.state)
            mask = self._mask(t)
            obs = to_tensors(self.current_obs, self.device)
            if self.noise is None:
                step = policy.step(obs, self.state, mask, generator=self.generator)
            else:
                self.noise = self._next_noise(self.noise)
                step = policy.step(
                    obs, self.state, mask, generator=self.generator, noise=self.noise
                )
            write(self.obs, (slice(None), t), self.current_obs)
            self._record(t, step)
            self.valid[:, t] = active = ~envs.idle
            self.starts[:, t] = self.starting
            self.state = step.state
            try:
                raw, rewards, terminations, truncations = envs.step(policy.to_env(step.action))
            except (EnvironmentFault, ValueError):
                self._check_obs(t + 1)
                raise
            self.rewards[:, t] = rewards
            self.terminations[:, t] = terminations
            self.truncations[:, t] = truncations
            if envs.same_step:
                self.starting = terminations | truncations
                if envs.final_obs is not None:
                    self._bootstrap(t, truncations)
            else:
                self.starting = ~(active | envs.idle)
            self._begin(raw)
        return self._finish(initial)

    def _next_noise(self, noise: Tensor) -> Tensor:
        """Standard normal exploration noise that correlates with that of the step before."""
        rho = self.config.noise_correlation
        fresh = torch.empty_like(noise).normal_(generator=self.generator)
        return rho * noise + (1.0 - rho * rho) ** 0.5 * fresh

    def _reset_states(self, state: Tree) -> Tree:
        if state is None or not self.starting.any():
            return state
        return self.policy.reset_state(state, torch.from_numpy(self.starting).to(self.device))

    def _mask(self, t: int) -> Tensor | None:
        found = self.envs.masks()
        if found is None:
            return None
        if self.masks is None:
            shape = (self.envs.num_envs, self.config.num_steps, mask_size(self.envs.action_space))
            self.masks = np.ones(shape, np.bool_)
        self.masks[:, t] = found
        return torch.from_numpy(self.masks[:, t]).to(self.device)

    def _record(self, t: int, step: PolicyStep) -> None:
        if self.actions is None:
            shape = (self.envs.num_envs, self.config.num_steps, *step.action.shape[1:])
            self.actions = torch.zeros(shape, dtype=step.action.dtype, device=self.device)
        self.actions[:, t] = step.action
        self.logprobs[:, t] = step.logprob
        self.values[:, t] = step.value

    def _bootstrap(self, t: int, truncations: NDArray[np.bool_]) -> None:
        """Values of the last observations of episodes that were cut and begun anew in one step."""
        self.bootstrap[:, t] = 0.0
        if not truncations.any():
            return
        last = self.envs.final_obs
        if self.normalizer is not None:
            last = self.normalizer(last)
        values = self.policy.value(to_tensors(last, self.device), self.state).cpu().numpy()
        self.bootstrap[truncations, t] = values[truncations]

    def _finish(self, initial: Tree) -> Rollout:
        self._check_obs(self.config.num_steps)
        self.interrupted = False
        self.state = self._reset_states(self.state)
        last = self.policy.value(to_tensors(self.current_obs, self.device), self.state)
        over = self.terminations | self.truncations
        self.finished = finished_episodes(
            self.rewards, over, self.valid, self.episode_returns, self.episode_lengths
        )
        self.steps += int(self.valid.sum())
        if self.scaler is not None and np.isfinite(self.rewards).all():
            self.scaler(self.rewards, over, self.valid)
        assert self.actions is not None
        device = self.device
        return Rollout(
            obs=to_tensors(self.obs, device),
            actions=self.actions,
            logprobs=self.logprobs,
            values=self.values,
            rewards=to_tensors(self.rewards, device),
            terminations=to_tensors(self.terminations, device),
            truncations=to_tensors(self.truncations, device),
            valid=to_tensors(self.valid, device),
            last_values=last,
            action_mask=None if self.masks is None else to_tensors(self.masks, device),
            bootstrap_values=to_tensors(self.bootstrap, device) if self.envs.same_step else None,
            episode_starts=to_tensors(self.starts, device),
            initial_state=initial,
        )

    def cut(self, rollout: Rollout) -> Rollout:
        """The rollout in rows of `sequence_length` steps, where that is set."""
        if not self.chunk_states or len(self.chunk_states) == 1:
            return rollout
        return rollout.cut(self.config.sequence_length, stack_trees(self.chunk_states))

    def _check_obs(self, steps: int) -> None:
        """Name the environment that gave NaN or infinity, if one did."""
        parts = self.obs if isinstance(self.obs, dict) else {"": self.obs}
        for key, array in parts.items():
            if isinstance(array, dict) or array.dtype.kind != "f":
                continue
            if math.isfinite(float(array[:, :steps].sum(dtype=np.float64))):
                continue
            bad = ~np.isfinite(array[:, :steps])
            if bad.any():
                row, t = (int(i) for i in np.argwhere(bad)[0][:2])
                where = f" ({key})" if key else ""
                raise DivergedError(
                    f"environment {row} gave an observation{where} with NaN or infinity "
                    f"at step {t} of the rollout"
                )

    def state_dict(self) -> dict[str, Any]:
        """Environments, observations, states, random numbers and running statistics.

        After a fault in the middle of a rollout the environments are left out: who continues from
        that state begins new episodes.
        """
        common = {
            "broken": self.interrupted,
            "generator": self.generator.get_state(),
            "steps": self.steps,
            "noise": self.noise,
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }
        if self.interrupted:
            return common
        return {
            **common,
            "envs": self.envs.get_state(),
            "raw": map_arrays(np.array, self.raw_obs),
            "now": map_arrays(np.array, self.current_obs),
            "starting": self.starting.copy(),
            "state": map_tree(lambda x: x.cpu(), self.state),
            "episode_returns": self.episode_returns.copy(),
            "episode_lengths": self.episode_lengths.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; the normaliser is restored by the trainer, with the model."""
        self.generator.set_state(state["generator"])
        self.steps = int(state["steps"])
        if self.noise is not None:
            self.noise = state["noise"].to(self.device)
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        if state["broken"]:
            self._restart(self.envs.reset(derive_seed(self.seed, "after a fault", self.steps)))
            return
        if len(state["starting"]) != len(self.starting):
            raise ConfigError(
                f"the run steps {len(state['starting'])} environments together, "
                f"these are {len(self.starting)}"
            )
        raw = self.envs.set_state(state["envs"])
        self.raw_obs, self.current_obs = state["raw"], state["now"]
        self.starting = state["starting"]
        self.state = self._moved(state["state"])
        self.episode_returns[:] = state["episode_returns"]
        self.episode_lengths[:] = state["episode_lengths"]
        if not same_arrays(raw, self.raw_obs):
            warnings.warn(
                "the environments cannot be put back exactly where they were (their episodes do "
                "not follow from their seeds): training goes on with new episodes, not byte for "
                "byte as it would have",
                stacklevel=2,
            )
            self._restart(raw)

    def _restart(self, raw: Arrays) -> None:
        self.starting[:] = True
        self.envs.idle[:] = False
        self.episode_returns[:] = 0.0
        self.episode_lengths[:] = 0
        self._begin(raw)


def stack_trees(trees: list[Tree]) -> Tree:
    """Trees of `[R, ...]` as one tree of `[R, len(trees), ...]`."""
    first = trees[0]
    if isinstance(first, Tensor):
        return torch.stack(trees, 1)
    return type(first)(stack_trees(list(parts)) for parts in zip(*trees, strict=True))

"""Collection: a policy acts in vector environments and fills a rollout of T steps, again and again.

Buffers are made once and reused, so a rollout is valid until the next is collected. Rewards and
episodes are summed up once a rollout, not once a step. To a policy on a device each step crosses
once (observations, masks, random numbers, together), actions come back, and the rest of a rollout
follows at its end in one crossing. Everything that the next step depends on can be saved. Ranks
draw random numbers for the environments of all, so that none depends on how many there are. Leaves
out learning and evaluation.
"""

import warnings
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.networks.policy import (
    Policy,
    PolicyStep,
    Tree,
    draw_ahead,
    join_trees,
    map_tree,
)
from playout.agents.ppo.config import CollectConfig
from playout.agents.ppo.rollout import Cuts, Rollout, to_tensors
from playout.agents.runs import ranks
from playout.agents.runs.devices import nests_to_device
from playout.agents.vector.actions import mask_size
from playout.agents.vector.episodes import derive_seed, place_of
from playout.agents.vector.interface import Environments
from playout.agents.vector.normalize import ObsNormalizer, RewardScaler
from playout.agents.vector.running import exchange_episodes, finished_episodes
from playout.agents.vector.spaces import Arrays, empty, map_arrays, non_finite, same_arrays, write
from playout.errors import ConfigError, DivergedError, EnvironmentFault, PlayoutError
from torch import Tensor


class Collector:
    """Steps B environments T times a rollout.

    Attributes:
        envs: The environments.
        policy: The policy that acts.
        place: Which rows of all ranks' these are.
        steps: Valid steps so far, over all rollouts and ranks.
        finished: Returns and lengths of the episodes that ended in the last rollout, anywhere.
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
        self.ahead = self.device.type != "cpu"
        self.generator = torch.Generator().manual_seed(seed)
        rows, steps = envs.num_envs, config.num_steps
        self.place, self.together = place_of(rows), ranks.world() > 1
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
        # On the processor the rollout's tensors are the arrays themselves.
        self.obs_tensors = self._like(self.obs)
        self.mask_tensors: Tensor | None = None
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
        self.cuts = Cuts()
        self.noise: Tensor | None = None
        if config.noise_correlation > 0.0 and isinstance(envs.action_space, spaces.Box):
            size = int(np.prod(envs.action_space.shape))
            self.noise = torch.zeros(self.place.total, size).normal_(generator=self.generator)
        self.state: Tree = self._moved(policy.initial_state(rows))

    def _like(self, arrays: Arrays) -> Tree:
        """Tensors for what these arrays hold: over their memory, or empty ones on the device."""
        found = to_tensors(arrays)
        if not self.ahead:
            return found
        return map_tree(lambda x: torch.empty(x.shape, dtype=x.dtype, device=self.device), found)

    def _moved(self, tree: Tree) -> Tree:
        return map_tree(lambda x: x.to(self.device), tree)

    def _begin(self, raw: Arrays) -> None:
        """Make observations the current ones: count them in the statistics, and normalise them."""
        self.raw_obs = raw
        if self.normalizer is not None:
            self.normalizer.update(raw, self.place.total)
            self.current_obs = self.normalizer(raw)
        else:
            self.current_obs = raw

    def collect(self) -> Rollout:
        """T steps of every environment; follow with `compute_gae`, then `cut`.

        Raises:
            EnvironmentFault: An environment failed; of any rank, and every rank raises SharedFault.
        """
        self.interrupted = True  # until the rollout is complete
        initial, self.chunk_states = self.state, []
        self.policy.weights_changed()  # a callback may have touched them
        self.cuts = Cuts()
        fault: PlayoutError | None = None
        for t in range(self.config.num_steps):
            if fault is None:
                try:
                    self._step(t)
                    continue
                except PlayoutError as error:
                    if not self.together:
                        raise
                    fault = error  # the others hear of it at the rollout's end
            if self.normalizer is not None:
                self.normalizer.update(None, self.place.total)
        self._sum_up(fault)
        return self._finish(initial)

    def _step(self, t: int) -> None:
        """Step t of a rollout."""
        envs, policy, length = self.envs, self.policy, self.config.sequence_length
        noise, generator = self._noise()
        obs, mask, starts, noise = self._inputs(t, noise)
        self.state = self._reset_states(self.state, starts)
        if length and t % length == 0:
            self.chunk_states.append(self.state)
        given = {} if noise is None else {"noise": noise}
        step = policy.step(obs, self.state, mask, generator=generator, **given)
        self._record(t, step)
        self.valid[:, t] = active = ~envs.idle
        self.starts[:, t] = self.starting
        self.state = step.state
        try:
            raw, rewards, terminations, truncations = envs.step(policy.to_env(step.action))
        except (EnvironmentFault, ValueError):
            if (flaw := non_finite(self.obs, t + 1)) is not None:
                raise flaw from None
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

    def _noise(self) -> tuple[Tensor | None, torch.Generator]:
        """Random numbers of the next step, or None, and the generator to draw others from."""
        if self.noise is not None:
            self.noise = self._next_noise(self.noise)
            return self.noise[self.place.own], self.generator
        own = self.place.own if self.together else None
        return draw_ahead(self.policy, self.place.total, self.generator, self.device, own)

    def _inputs(self, t: int, noise: Tensor | None) -> list[Tree]:
        """Observations, masks, starts of episodes and noise of a step, on the device.

        What is not needed is None.
        """
        write(self.obs, (slice(None), t), self.current_obs)
        found = nests_to_device(
            (self.current_obs, self._mask(t), self._starts(), noise), self.device
        )
        if self.ahead:
            write(self.obs_tensors, (slice(None), t), found[0])
            if self.mask_tensors is not None:
                self.mask_tensors[:, t] = found[1]
        return found

    def _next_noise(self, noise: Tensor) -> Tensor:
        """Standard normal exploration noise that correlates with that of the step before."""
        rho = self.config.noise_correlation
        fresh = torch.empty_like(noise).normal_(generator=self.generator)
        return rho * noise + (1.0 - rho * rho) ** 0.5 * fresh

    def _starts(self) -> NDArray[np.bool_] | None:
        """The rows whose memory is to be forgotten, if there are any."""
        return None if self.state is None or not self.starting.any() else self.starting

    def _reset_states(self, state: Tree, starts: Tensor | None) -> Tree:
        return state if starts is None else self.policy.reset_state(state, starts)

    def _mask(self, t: int) -> NDArray[np.bool_] | None:
        found = self.envs.masks()
        if found is None:
            return None
        if self.masks is None:
            shape = (self.envs.num_envs, self.config.num_steps, mask_size(self.envs.action_space))
            self.masks = np.ones(shape, np.bool_)
            self.mask_tensors = self._like(self.masks)
            if self.ahead:
                self.mask_tensors.fill_(True)
        self.masks[:, t] = found
        return self.masks[:, t]

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
        if self.ahead:
            self.cuts.add(np.flatnonzero(truncations), t, self.config.num_steps, last, self.state)
            return
        values = self.policy.value(to_tensors(last), self.state).numpy()
        self.bootstrap[truncations, t] = values[truncations]

    def _sum_up(self, fault: PlayoutError | None) -> None:
        """Episodes and steps of the rollout, and statistics of rewards, over all ranks."""
        found: list[tuple[float, int]] = []
        over = self.terminations | self.truncations
        fault = fault or non_finite(self.obs, self.config.num_steps)
        if self.together and fault is None and not np.isfinite(self.rewards).all():
            fault = DivergedError("a reward is NaN or infinite")
        if fault is not None and not self.together:
            raise fault
        if fault is None:
            self.interrupted = False
            found = finished_episodes(
                self.rewards, over, self.valid, self.episode_returns, self.episode_lengths
            )
        steps = int(self.valid.sum())
        if self.together:
            found, steps = exchange_episodes(found, over, self.valid, self.place.first, fault)
        self.finished, self.steps = found, self.steps + steps
        if self.normalizer is not None:
            self.normalizer.join()
        if self.scaler is not None:
            self.scaler(self.rewards, over, self.valid)

    def _finish(self, initial: Tree) -> Rollout:
        assert self.actions is not None
        ahead, cuts = self.ahead, self.cuts
        current, starts, cut_obs, cut_at, valid_steps, *rest = nests_to_device(
            (
                self.current_obs,
                self._starts(),
                cuts.obs() if cuts else None,
                np.array(cuts.places, np.int64) if cuts else None,
                np.flatnonzero(self.valid) if ahead else None,
                self.rewards,
                self.terminations,
                self.truncations,
                self.valid,
                self.starts,
                None if ahead else self.bootstrap,
            ),
            self.device,
        )
        rewards, terminations, truncations, valid, episode_starts, bootstrap = rest
        self.state = self._reset_states(self.state, starts)
        last = self.policy.value(current, self.state)
        if ahead:
            bootstrap = torch.zeros(self.valid.shape, device=self.device)
        if cuts:
            values = self.policy.value(cut_obs, cuts.state())
            bootstrap.view(-1).scatter_(0, cut_at, values.float())
        return Rollout(
            obs=self.obs_tensors,
            actions=self.actions,
            logprobs=self.logprobs,
            values=self.values,
            rewards=rewards,
            terminations=terminations,
            truncations=truncations,
            valid=valid,
            last_values=last,
            action_mask=self.mask_tensors,
            bootstrap_values=bootstrap if self.envs.same_step else None,
            episode_starts=episode_starts,
            initial_state=initial,
            valid_steps=valid_steps,
        )

    def cut(self, rollout: Rollout) -> Rollout:
        """The rollout in rows of `sequence_length` steps, where that is set."""
        if not self.chunk_states or len(self.chunk_states) == 1:
            return rollout
        chunks = join_trees(self.chunk_states, lambda parts: torch.stack(parts, 1))
        return rollout.cut(self.config.sequence_length, chunks)

    def state_dict(self) -> dict[str, Any]:
        """Random numbers and running statistics; with one rank the `rank_state` as well."""
        common = {
            "generator": self.generator.get_state(),
            "steps": self.steps,
            "noise": self.noise,
            "scaler": None if self.scaler is None else self.scaler.state_dict(not self.together),
        }
        return common if self.together else {**common, **self.rank_state()}

    def rank_state(self) -> dict[str, Any]:
        """Environments, observations and states: what is another rank's own.

        After a fault they are left out: who continues from that state begins new episodes.
        """
        if self.interrupted:
            return {"broken": True}
        try:
            envs = self.envs.get_state()
        except EnvironmentFault:  # a worker was killed: what was learned is saved all the same
            return {"broken": True}
        return {
            "broken": False,
            "carry": None if self.scaler is None else self.scaler.carry.copy(),
            "envs": envs,
            "raw": map_arrays(np.array, self.raw_obs),
            "now": map_arrays(np.array, self.current_obs),
            "starting": self.starting.copy(),
            "state": map_tree(lambda x: x.cpu(), self.state),
            "episode_returns": self.episode_returns.copy(),
            "episode_lengths": self.episode_lengths.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; the normaliser is restored by the trainer, with the model.

        Where the ranks are other than they were, `load_rank_state` must follow.
        """
        self.generator.set_state(state["generator"])
        self.steps = int(state["steps"])
        if self.noise is not None:
            self.noise = state["noise"]
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        if not self.together and "broken" in state:
            self.load_rank_state(state)

    def load_rank_state(self, state: dict[str, Any] | None) -> None:
        """Continue from `rank_state`; None: from new episodes, since there were other ranks."""
        if state is None or state["broken"]:
            why = "other ranks" if state is None else "after a fault"
            if self.scaler is not None and state is None:
                self.scaler.carry[:] = 0.0
            self._restart(self.envs.reset(derive_seed(self.seed, why, self.steps)))
            return
        if self.scaler is not None and state.get("carry") is not None:
            self.scaler.carry[:] = state["carry"]
        if len(state["starting"]) != len(self.starting):
            raise ConfigError(
                f"the run steps {len(state['starting'])} environments together, "
                f"these are {len(self.starting)}"
            )
        raw = self.envs.set_state(state["envs"])
        self.raw_obs, self.current_obs = state["raw"], state["now"]
        self.starting, self.state = state["starting"], self._moved(state["state"])
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
        self.episode_returns[:], self.episode_lengths[:] = 0.0, 0
        self._begin(raw)

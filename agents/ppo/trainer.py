"""PPOTrainer: collect, estimate advantages, update, and know when the environment is solved.

Everything that later updates depend on is in its state, so a run that is stopped and resumed equals
one that was not. Leaves out the command line (commands/ppo.py), self-play (league/trainer.py) and
populations (population.py).
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.policy import Policy, as_policy
from playout.agents.optim.flat import take_first
from playout.agents.ppo.collector import Collector
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.ppo.evaluation import MAX_STEPS, Evaluation, evaluate_policy, figures
from playout.agents.ppo.gae import compute_gae
from playout.agents.ppo.update import policy_optimizer, ppo_update
from playout.agents.runs import ranks
from playout.agents.runs.devices import INT8, cores, device_errors, resolve_device
from playout.agents.runs.trainer import Trainer
from playout.agents.vector.episodes import derive_seed
from playout.agents.vector.interface import Environments
from playout.agents.vector.normalize import ObsNormalizer
from playout.agents.vector.spaces import encode_space
from playout.errors import CheckpointError, ConfigError
from torch import nn

# A network with fewer parameters than this is faster on one thread, whatever the machine.
_ONE_THREAD_BELOW = 300_000
# With a threshold: evaluate once the mean return has covered this share of the way to it.
_EVALUATE_FROM = 0.5

# Without a threshold.
_EVALUATIONS_A_RUN = 20
# An evaluation that still goes on so many seconds after a signal is given up.
_STOP_SECONDS = 3.0
# Steps of an environment after which an evaluation is given up, where no episode has ever ended.
_ENDLESS = 100_000


def choose_threads(policy: Policy, threads: int = 0) -> int:
    """Set torch's threads by the size of the network (or to `threads`) and return the number."""
    if threads <= 0 and policy.uses_own_threads:
        threads = 1
    elif threads <= 0 and any(p.device.type != "cpu" for p in policy.parameters()):
        threads = 1  # the device computes
    elif threads <= 0:
        size = sum(p.numel() for p in policy.parameters())
        threads = 1 if size < _ONE_THREAD_BELOW else cores()
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return threads


def compute_dtype(name: str) -> torch.dtype:
    """What `--dtype` means to a policy: bfloat16 if it is asked for, else float32.

    Raises:
        ConfigError: float16, whose gradients vanish without scaling.
    """
    if name in ("auto", "float32"):
        return torch.float32
    if name == INT8:
        raise ConfigError("PPO computes in float32 or bfloat16: int8 is for playing board games")
    if name == "float16":
        raise ConfigError("PPO computes in float32 or bfloat16: float16 loses small gradients")
    return torch.bfloat16


class PPOTrainer(Trainer):
    """Trains one policy by PPO.

    Under ranks each has environments of its own, and all learn the same from all of them.

    Attributes:
        policy: The network.
        collector: Steps the training environments.
        steps: Environment steps learned from.
        total_timesteps: The budget.
        solved: Whether an evaluation has confirmed the threshold.
        last_evaluation: The latest `Evaluation`, or None.
    """

    title, unit, best_metric = "PPO", "steps", "eval/mean_reward"
    survives_faults = evaluates_together = True

    def __init__(
        self,
        envs: Environments,
        make_eval_envs: Callable[[], Environments],
        *,
        total_timesteps: int,
        seed: int = 0,
        ppo: PPOConfig | None = None,
        network: NetworkConfig | None = None,
        collect: CollectConfig | None = None,
        stop: bool = True,
        threads: int = 0,
        device: str | torch.device = "cpu",
        dtype: str = "auto",
        policy: nn.Module | Policy | None = None,
        normalizer: ObsNormalizer | None = None,
    ) -> None:
        """Build the policy and begin the first episodes.

        Args:
            envs: Training environments, of this rank.
            make_eval_envs: Makes separate environments for evaluations, this rank's part of them,
                when they are first needed.
            total_timesteps: Environment steps to learn from.
            seed: Everything random derives from it.
            ppo: Options of the update.
            network: Architecture.
            collect: Options of collection and evaluation.
            stop: End when an evaluation confirms the reward threshold.
            threads: For torch; 0 chooses by the size of the network.
            device: Where the network lives; "auto" is a GPU if there is one, except for networks
                that our compiled code takes (vectors in, layers of at most 256 units), which the
                processor is faster at.
            dtype: What encoders and layers compute in: float32 (and so "auto") or bfloat16.
                Parameters, memories, heads and the optimiser stay in float32.
            policy: A policy of your own instead of one built from `network`.
            normalizer: Statistics of observations that others use too; by default the trainer's
                own, where `collect` asks for them.
        """
        self.ppo, self.collect = ppo or PPOConfig(), collect or CollectConfig()
        self.seed, self.total_timesteps = seed, total_timesteps
        self.envs, self.make_eval_envs = envs, make_eval_envs
        self.eval_envs: Environments | None = None
        self.policy = (
            build_policy(
                envs.observation_space,
                envs.action_space,
                network,
                seed=derive_seed(seed, "policy"),
            )
            if policy is None
            else as_policy(policy)
        )
        self.device = resolve_device(
            str(device), prefers_processor=self.policy.prefers_processor and dtype != "bfloat16"
        )
        self.dtype = compute_dtype(dtype)
        self.policy.use_dtype(self.dtype)
        with device_errors(self.device):
            self.policy.to(self.device)
        ranks.start(self.device)
        take_first(self.policy.state_dict())
        self.threads = choose_threads(self.policy, threads)
        self.optimizer = policy_optimizer(self.policy, self.ppo)
        self.policy.accelerate()
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "minibatches"))
        self.collector = Collector(
            envs,
            self.policy,
            self.collect,
            gamma=self.ppo.gamma,
            seed=derive_seed(seed, "collect"),
            device=self.device,
            normalizer=normalizer,
        )
        threshold = self.collect.reward_threshold
        self.threshold = envs.reward_threshold if threshold is None else threshold
        self.stop = stop and self.threshold is not None
        self.updates = self.gradient_steps = 0
        self._steps_before = 0  # steps when the last update began
        self._stop_at: float | None = None  # by time.monotonic
        self.recent: deque[tuple[float, int]] = deque(maxlen=100)
        self.first_return: float | None = None
        self.evaluated_at = 0
        self.solved = False
        self.last_evaluation: Evaluation | None = None

    @property
    def steps(self) -> int:
        """Environment steps learned from, of all ranks; reset steps do not count."""
        return self.collector.steps

    @property
    def machine(self) -> str:
        """What computes, for the console."""
        size = sum(p.numel() for p in self.policy.parameters())
        kind = "" if self.dtype == torch.float32 else f" in {str(self.dtype).rpartition('.')[2]}"
        return f"{size:,} parameters on {self.device}{kind}, {self.threads} thread(s)"

    @property
    def normalizer(self) -> ObsNormalizer | None:
        """Statistics of observations, or None."""
        return self.collector.normalizer

    @property
    def progress(self) -> tuple[int, int]:
        """Steps done and planned."""
        # The last rollout is whole, and so may pass the budget.
        return self.steps, max(self.steps, self.total_timesteps)

    @property
    def finished(self) -> bool:
        """Whether the budget is spent or the environment solved."""
        return self.steps >= self.total_timesteps or (self.stop and self.solved)

    def update(self) -> dict[str, float]:
        """One rollout and what is learned from it."""
        with device_errors(self.device):
            return self._update()

    def _update(self) -> dict[str, float]:
        self._steps_before = self.steps
        left = max(0.0, 1.0 - self.steps / self.total_timesteps)
        config = self.ppo
        if config.anneal_lr:
            self.optimizer.lr = max(config.learning_rate * left, 1e-12)
        if config.anneal_clip:
            config = replace(config, clip_coef=max(config.clip_coef * left, 1e-6))
        if config.anneal_ent:
            gone = (config.ent_coef - config.final_ent_coef) * (1.0 - left)
            config = replace(config, ent_coef=config.ent_coef - gone)
        rollout = self.collector.collect()
        compute_gae(rollout, gamma=config.gamma, gae_lambda=config.gae_lambda)
        rollout = self.collector.cut(rollout)
        if self.policy.recurrent and config.batch_by == "steps":
            rows = max(1, config.minibatch_size // rollout.num_steps)
            config = replace(config, batch_by="rows", minibatch_size=rows)
        metrics = ppo_update(
            self.policy,
            self.optimizer,
            rollout,
            config,
            generator=self.generator,
            also=self.policy.metrics,
        )
        self.updates += 1
        self.gradient_steps += int(metrics.pop("train/num_gradient_steps"))
        self.recent.extend(self.collector.finished)
        metrics["train/learning_rate"] = self.optimizer.lr
        metrics["train/clip_range"] = config.clip_coef
        metrics["train/n_updates"] = float(self.gradient_steps)
        metrics["time/iterations"] = float(self.updates)
        metrics["time/total_timesteps"] = float(self.steps)
        if self.recent:
            returns, lengths = (np.mean(part) for part in zip(*self.recent, strict=True))
            metrics["rollout/ep_rew_mean"] = float(returns)
            metrics["rollout/ep_len_mean"] = float(lengths)
            if self.first_return is None:
                self.first_return = float(returns)
        return metrics

    def _due(self) -> bool:
        """Whether an evaluation is worth its time now; depends on counts and returns only."""
        if self.finished:
            return self.updates > 0
        if self.collect.eval_every:
            return self.updates % self.collect.eval_every == 0
        if self.stop and self.recent and self.first_return is not None:
            assert self.threshold is not None
            mean = float(np.mean([episode[0] for episode in self.recent]))
            if mean >= self.threshold:
                return True
            covered = (mean - self.first_return) / max(self.threshold - self.first_return, 1e-9)
            gap = 1 if covered > 0.8 else 2
            return covered >= _EVALUATE_FROM and self.updates - self.evaluated_at >= gap
        every = max(1, self.total_timesteps // _EVALUATIONS_A_RUN)
        return self.steps // every != self._steps_before // every

    def evaluate(self) -> dict[str, float]:
        """Judge the policy on separate environments, if that is due; see `_due`."""
        if not self._due():
            return {}
        self.evaluated_at = self.updates
        found = self._evaluate("eval")
        self.last_evaluation = found
        metrics = {
            "eval/mean_reward": found.mean,
            "eval/std_reward": found.std,
            "eval/mean_ep_length": float(found.lengths.mean()),
        }
        if self.threshold is not None and found.mean >= self.threshold and not self.solved:
            # The best of many evaluations flatters: only fresh episodes may confirm it.
            again = self._evaluate("confirm", 2)
            metrics["eval/confirmed_reward"] = again.mean
            self.solved = again.mean - 0.5 * again.stderr >= self.threshold
        return metrics

    def _evaluate(self, name: str, times: int = 1) -> Evaluation:
        if self.eval_envs is None:
            self.eval_envs = self.make_eval_envs()
        most = MAX_STEPS
        if not self.recent:
            most = min(most, max(_ENDLESS, 10 * self.steps // self.collector.envs.num_envs))
        with device_errors(self.device):
            return evaluate_policy(
                self.policy,
                self.eval_envs,
                episodes=self.collect.eval_episodes * times,
                seed=derive_seed(self.seed, name, self.updates),
                normalizer=self.normalizer,
                together=self.collector.together,
                max_steps=most,
                stop=lambda: self._stop_at is not None and time.monotonic() >= self._stop_at,
            )

    def stop_soon(self) -> None:
        """An evaluation that still goes on after some seconds is given up."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + _STOP_SECONDS

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """Returns in training and in the last evaluation."""
        shown = {}
        if "rollout/ep_rew_mean" in metrics:
            shown["return"] = figures(metrics["rollout/ep_rew_mean"])
        if self.last_evaluation is not None:
            shown["evaluation"] = figures(self.last_evaluation.mean)
        return shown

    def summary(self) -> str:
        """Steps, updates and the last evaluation, on one line."""
        text = f"{self.steps:,} steps, {self.updates} updates"
        if self.last_evaluation is not None:
            found = self.last_evaluation
            text += (
                f"; {figures(found.mean)} ± {figures(1.96 * found.stderr)} over "
                f"{len(found.returns)} episodes"
            )
        if self.solved:
            text += f": solved, the threshold is {self.threshold:g}"
        return text

    def state_dict(self) -> dict[str, Any]:
        """Everything that later updates depend on."""
        return {
            "model": self.policy.state_dict(),
            "normalizer": None if self.normalizer is None else self.normalizer.state_dict(),
            "spaces": {
                "observation": encode_space(self.envs.observation_space),
                "action": encode_space(self.envs.action_space),
            },
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "collector": self.collector.state_dict(),
            "trainer": {
                "updates": self.updates,
                "gradient_steps": self.gradient_steps,
                "recent_returns": np.array([e[0] for e in self.recent], np.float64),
                "recent_lengths": np.array([e[1] for e in self.recent], np.int64),
                "first_return": self.first_return,
                "evaluated_at": self.evaluated_at,
                "solved": self.solved,
            },
        }

    def rank_state(self) -> dict[str, Any]:
        """Environments and states of this rank; with one they are in `state_dict`."""
        return {"rows": self.collector.rank_state()} if self.collector.together else {}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Continue from `rank_state`."""
        if self.collector.together:
            self.collector.load_rank_state(state["rows"])

    def deal_rank_states(self, parts: Sequence[dict[str, Any]]) -> str:
        """Begin new episodes: the environments of other ranks were cut otherwise."""
        self.collector.load_rank_state(None)
        return "environments begin new episodes"

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        try:
            self.policy.load_state_dict(state["model"])
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise CheckpointError(f"the checkpoint holds another network: {text}") from None
        if self.normalizer is not None:
            self.normalizer.load_state_dict(state["normalizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.collector.load_state_dict(state["collector"])
        own = state["trainer"]
        self.updates, self.gradient_steps = own["updates"], own["gradient_steps"]
        self.recent.clear()
        pairs = zip(own["recent_returns"].tolist(), own["recent_lengths"].tolist(), strict=True)
        self.recent.extend(pairs)
        self.first_return, self.solved = own["first_return"], own["solved"]
        self.evaluated_at = own["evaluated_at"]
        self._steps_before = self.steps

    def close(self) -> None:
        """Close all environments."""
        self.envs.close()
        if self.eval_envs is not None:
            self.eval_envs.close()

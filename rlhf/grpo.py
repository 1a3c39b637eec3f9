"""Group-relative policy optimisation (Shao et al. 2024): a prompt's other responses as baseline.

The advantage of a response is its score less the mean score of the responses to the same prompt,
in deviations of that group; every token of the response has it. There is no value head. The update
itself is agents/ppo.py's, the rollout experience.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from playout.agents.adam import Adam
from playout.agents.ppo import PPOConfig, ppo_update
from playout.errors import ConfigError, DataError
from playout.rlhf.batching import batch_of
from playout.rlhf.evaluation import PolicyEvaluator
from playout.rlhf.experience import ESTIMATORS, Experience, experience, respond, summary
from playout.rlhf.policy import LanguagePolicy, Reference
from playout.rlhf.rlhf import language_ppo, renamed
from playout.rlhf.scoring import RewardFunction
from playout.rlhf.stage import pick_dtype
from playout.rlhf.tokenizer import Tokenizer
from playout.rlhf.transformer import Transformer
from torch import Tensor

__all__ = ["GRPOConfig", "GRPOTrainer", "group_advantages"]


def _one_epoch() -> PPOConfig:
    return language_ppo(num_epochs=1, minibatch_size=64, vf_coef=0.0, norm_adv=False)


@dataclass(frozen=True, slots=True)
class GRPOConfig:
    """How a policy is improved by comparisons within groups."""

    updates: int = 80
    """Rounds of sampling and learning."""
    batch: int = 64
    """Responses a round."""
    group: int = 8
    """Responses a prompt; divides the batch."""
    max_new_tokens: int = 32
    """Longest response."""
    temperature: float = 1.0
    """At which responses are sampled."""
    kl_coef: float = 0.05
    """Times a response's KL to the reference is taken from its score."""
    kl_estimator: str = "k1"
    """k1 (log-ratio) or k3 (never negative)."""
    missing_end_penalty: float = 1.0
    """Taken from the score of a response that was cut off."""
    scale: bool = True
    """Divide by the group's deviation."""
    dtype: str = "auto"
    """float32, bfloat16 or auto."""
    ppo: PPOConfig = field(default_factory=_one_epoch)
    """The update."""

    def __post_init__(self) -> None:
        if self.group < 2 or self.batch % self.group:
            raise ConfigError(
                f"a group needs at least 2 responses and must divide the batch of {self.batch}, "
                f"not {self.group}"
            )
        if self.updates < 1 or self.kl_estimator not in ESTIMATORS:
            raise ConfigError("updates must be at least 1 and kl_estimator k1 or k3")


def group_advantages(scores: Tensor, group: int, *, scale: bool = True) -> Tensor:
    """Scores [R], `group` consecutive ones to a prompt, relative to their group."""
    grouped = scores.view(-1, group)
    centered = grouped - grouped.mean(1, keepdim=True)
    if scale:
        centered = centered / (grouped.std(1, keepdim=True) + 1e-4)
    return centered.reshape(-1)


class GRPOTrainer:
    """Rounds of sampling groups, scoring them and `ppo_update`."""

    title, unit, best_metric = "grpo", "responses", "eval/objective"

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        reward: RewardFunction,
        config: GRPOConfig,
        *,
        seed: int,
        evaluator: PolicyEvaluator | None = None,
        folder: Path | None = None,
    ) -> None:
        """Set up; the arguments are those of `RLHFTrainer`."""
        if not prompts:
            raise DataError("there are no prompts to answer")
        self.tokenizer, self.prompts, self.reward = tokenizer, prompts, reward
        self.config, self.seed, self.evaluator, self.folder = config, seed, evaluator, folder
        self.dtype = pick_dtype(config.dtype)
        self.reference = Reference(model, dtype=self.dtype)
        self.policy = LanguagePolicy(
            model, temperature=config.temperature, values=False, dtype=self.dtype
        )
        ppo = config.ppo
        self.optimizer = Adam(self.policy.parameters(), lr=ppo.learning_rate, eps=ppo.adam_eps)
        self.updates = 0

    @property
    def model(self) -> Transformer:
        """The policy's Transformer."""
        return self.policy.model

    @property
    def progress(self) -> tuple[int, int]:
        """Responses made and planned."""
        return self.updates * self.config.batch, self.config.updates * self.config.batch

    @property
    def finished(self) -> bool:
        """Whether all rounds are made."""
        return self.updates >= self.config.updates

    def _collect(self) -> Experience:
        config, number = self.config, self.updates
        groups = config.batch // config.group
        chosen = batch_of(len(self.prompts), groups, number, seed=self.seed)
        chosen = (chosen * -(-groups // len(chosen)))[:groups]
        samples = respond(
            self.model,
            self.tokenizer,
            [self.prompts[i] for i in chosen for _ in range(config.group)],
            max_new_tokens=config.max_new_tokens,
            seed=self.seed,
            dtype=self.dtype,
            temperature=config.temperature,
            streams=range(number * config.batch, (number + 1) * config.batch),
        )
        return experience(
            self.policy,
            self.reference,
            samples,
            self.reward,
            kl_coef=config.kl_coef,
            estimator=config.kl_estimator,
            missing_end=config.missing_end_penalty,
        )

    def update(self) -> dict[str, float]:
        """One round."""
        config, ppo = self.config, self.config.ppo
        found = self._collect()
        rollout = found.rollout
        # The sum of a row's rewards is its score less the KL and the penalty for no end.
        whole = rollout.rewards.sum(1)
        relative = group_advantages(whole, config.group, scale=config.scale)
        rollout.advantages = relative[:, None] * rollout.valid
        rollout.returns = rollout.values
        share = 1.0 - self.updates / config.updates if ppo.anneal_lr else 1.0
        self.optimizer.lr = ppo.learning_rate * share
        generator = torch.Generator().manual_seed((self.seed << 32) + self.updates)
        learned = ppo_update(self.policy, self.optimizer, rollout, ppo, generator=generator)
        metrics = {**summary(found, config.kl_coef), **renamed(learned)}
        spread = found.scores.view(-1, config.group).std(1)
        metrics |= {
            "reward": float(whole.mean()),
            "reward_std": float(spread.mean()),
            "frac_reward_zero_std": float((spread == 0).float().mean()),
            "lr": self.optimizer.lr,
        }
        self.updates += 1
        metrics["episode"] = float(self.updates * config.batch)
        return metrics

    def evaluate(self) -> dict[str, float]:
        """Reward, judge and KL on held-out prompts, and a table of samples."""
        if self.evaluator is None:
            return {}
        return self.evaluator.metrics(
            self.model,
            self.reference,
            folder=self.folder,
            step=self.updates,
            kl_coef=self.config.kl_coef,
        )

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """Score, KL, judge."""
        names = {"objective/scores": "score", "objective/kl": "KL", "eval/judge": "judge"}
        return {name: f"{metrics[key]:.2f}" for key, name in names.items() if key in metrics}

    def state_dict(self) -> dict[str, Any]:
        """Weights, moments, rounds."""
        return {
            "model": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.policy.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = int(state["updates"])

"""Rounds of sampling, scoring and `ppo_update`: what PPO and GRPO on language share.

Which prompts a round has, and its random numbers, depend on its number alone. Where advantages come
from is what ppo.py and grpo.py add; the rollout is episodes.py's, the update
agents/ppo/update.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from playout.agents.optim.adam import Adam
from playout.agents.ppo.config import PPOConfig
from playout.agents.ppo.update import ppo_update
from playout.agents.runs.trainer import Trainer
from playout.errors import ConfigError, DataError
from playout.rlhf.data.batches import batch_of
from playout.rlhf.evaluation.prompts import PolicyEvaluator
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.episodes import ESTIMATORS, Experience, experience, respond, summary
from playout.rlhf.online.policy import LanguagePolicy, Reference
from playout.rlhf.online.rewards import RewardFunction
from playout.rlhf.stage import pick_dtype

__all__ = ["RoundsConfig", "RoundsTrainer", "language_ppo"]


def language_ppo(**changes: Any) -> PPOConfig:
    """PPO's settings for language: whole rows, four epochs, no discount."""
    settings: dict[str, Any] = {
        "learning_rate": 1e-4,
        "gamma": 1.0,
        "gae_lambda": 0.95,
        "num_epochs": 4,
        "minibatch_size": 32,
        "batch_by": "rows",
        "vf_coef": 0.1,
        "clip_vloss": True,
        "max_grad_norm": 1.0,
        "norm_adv_by": "batch",
    }
    return PPOConfig(**{**settings, **changes})


@dataclass(frozen=True, slots=True)
class RoundsConfig:
    """How responses are made and scored, and how often."""

    updates: int = 80
    """Rounds of sampling and learning."""
    batch: int = 64
    """Responses a round."""
    max_new_tokens: int = 32
    """Longest response."""
    temperature: float = 1.0
    """At which responses are sampled, and log-probabilities computed everywhere."""
    kl_coef: float = 0.1
    """Coefficient of KL to the reference in the reward."""
    kl_estimator: str = "k1"
    """k1 (log-ratio) or k3 (never negative)."""
    missing_end_penalty: float = 1.0
    """Taken from the score of a response that was cut off."""
    dtype: str = "auto"
    """float32, bfloat16 or auto."""
    ppo: PPOConfig = field(default_factory=language_ppo)
    """The update."""

    def __post_init__(self) -> None:
        if self.updates < 1 or self.batch < 1:
            raise ConfigError("updates and batch must be at least 1")
        if self.kl_estimator not in ESTIMATORS:
            raise ConfigError(f"kl_estimator must be k1 or k3, not {self.kl_estimator!r}")
        if self.kl_coef < 0:
            raise ConfigError(f"kl_coef must not be negative, not {self.kl_coef}")


class RoundsTrainer(Trainer):
    """Rounds of sampling, scoring and `ppo_update`; `update` is a subclass's."""

    unit, best_metric = "responses", "eval/objective"

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        reward: RewardFunction,
        config: RoundsConfig,
        *,
        seed: int,
        evaluator: PolicyEvaluator | None = None,
        folder: Path | None = None,
    ) -> None:
        """Set up.

        Args:
            model: The fine-tuned policy to improve; with adapters, only these learn, and switching
                them off gives the reference.
            tokenizer: Its tokenizer.
            prompts: To answer in training.
            reward: Of whole texts.
            config: Settings.
            seed: Of all sampling.
            evaluator: Measures on held-out prompts; no evaluation if None.
            folder: The run, for tables of samples; none if None.
        """
        if not prompts:
            raise DataError("there are no prompts to answer")
        self.tokenizer, self.prompts, self.reward = tokenizer, prompts, reward
        self.config, self.seed, self.evaluator, self.folder = config, seed, evaluator, folder
        self.dtype = pick_dtype(config.dtype)
        self.reference = Reference(model, dtype=self.dtype)
        self.policy = self._policy(model)
        ppo = config.ppo
        self.optimizer = Adam(self.policy.parameters(), lr=ppo.learning_rate, eps=ppo.adam_eps)
        self.updates, self.kl_coef = 0, config.kl_coef

    def _policy(self, model: Transformer) -> LanguagePolicy:
        """The model with what else learns."""
        raise NotImplementedError

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

    def collect(self, number: int, *, group: int = 1, whiten: bool = False) -> Experience:
        """Round `number`'s responses, scored: `group` consecutive ones to a prompt."""
        config = self.config
        groups = config.batch // group
        chosen = batch_of(len(self.prompts), groups, number, seed=self.seed)
        # With few prompts a round asks each several times; every answer has its own stream.
        chosen = (chosen * -(-groups // len(chosen)))[:groups]
        samples = respond(
            self.model,
            self.tokenizer,
            [self.prompts[i] for i in chosen for _ in range(group)],
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
            kl_coef=self.kl_coef,
            estimator=config.kl_estimator,
            missing_end=config.missing_end_penalty,
            whiten=whiten,
        )

    def learn(self, found: Experience) -> dict[str, float]:
        """Gradient steps on a round whose advantages are known; ends the round."""
        config, ppo = self.config, self.config.ppo
        share = 1.0 - self.updates / config.updates if ppo.anneal_lr else 1.0
        self.optimizer.lr = ppo.learning_rate * share
        generator = torch.Generator().manual_seed((self.seed << 32) + self.updates)
        learned = ppo_update(self.policy, self.optimizer, found.rollout, ppo, generator=generator)
        self.updates += 1
        return {
            **summary(found, self.kl_coef),
            **renamed(learned),
            "objective/kl_coef": self.kl_coef,
            "lr": self.optimizer.lr,
            "episode": float(self.updates * config.batch),
        }

    def evaluate(self) -> dict[str, float]:
        """Reward, judge and KL on held-out prompts, and a table of samples."""
        if self.evaluator is None:
            return {}
        # The coefficient at the start, so that evaluations of one run can be compared.
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
        """Weights, moments, rounds; the reference is the model that was given."""
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


_NAMES = {
    "train/approx_kl": "policy/approxkl_avg",
    "train/clip_fraction": "policy/clipfrac_avg",
    "train/policy_gradient_loss": "loss/policy_avg",
    "train/value_loss": "loss/value_avg",
    "train/explained_variance": "val/explained_variance",
    "train/grad_norm": "train/grad_norm",
}


def renamed(metrics: dict[str, float]) -> dict[str, float]:
    """The learner's metrics under TRL's names."""
    return {_NAMES[name]: value for name, value in metrics.items() if name in _NAMES}

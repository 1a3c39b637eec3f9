"""PPO on language: generate, score, and hand a rollout to agents' learner.

A token's reward is minus its KL to the reference, and the score comes with the last token. The
coefficient of KL is fixed, or steered towards a target (Ziegler et al. 2019). Advantages and the
update are agents/gae.py's and agents/ppo.py's; nothing of them is here.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from playout.agents.adam import Adam
from playout.agents.gae import compute_gae
from playout.agents.ppo import PPOConfig, ppo_update
from playout.errors import ConfigError, DataError
from playout.rlhf.batching import batch_of
from playout.rlhf.evaluation import PolicyEvaluator
from playout.rlhf.experience import ESTIMATORS, Experience, experience, respond, summary
from playout.rlhf.policy import LanguagePolicy, Reference
from playout.rlhf.reward import RewardModel
from playout.rlhf.scoring import RewardFunction
from playout.rlhf.stage import pick_dtype
from playout.rlhf.tokenizer import Tokenizer
from playout.rlhf.transformer import Transformer

__all__ = ["RLHFConfig", "RLHFTrainer", "adapt", "language_ppo"]

CRITICS = ("auto", "shared", "own", "reward")


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
class RLHFConfig:
    """How a policy is improved by PPO."""

    updates: int = 80
    """Rounds of sampling and learning."""
    batch: int = 64
    """Responses a round."""
    max_new_tokens: int = 32
    """Longest response."""
    temperature: float = 1.0
    """At which responses are sampled, and log-probabilities computed everywhere."""
    kl_coef: float = 0.1
    """Coefficient of KL in the reward; the least one if it is steered."""
    kl_target: float = 7.0
    """Steer the coefficient towards this KL a response, in nats; 0 keeps it fixed."""
    kl_horizon: float = 0.0
    """Of steering: in five times so many responses the coefficient can change by a factor of e at
    most, about; 0 stands for a twentieth of the run."""
    kl_estimator: str = "k1"
    """k1 (log-ratio) or k3 (never negative)."""
    missing_end_penalty: float = 1.0
    """Taken from the score of a response that was cut off."""
    whiten_rewards: bool = False
    """Divide rewards by their deviation."""
    value_warmup: int = 4
    """Batches of the first policy's responses to which the value head is fitted at the start."""
    critic: str = "auto"
    """What the value head stands on: `shared`, the policy's Transformer; `own`, a copy of it;
    `reward`, a copy of the reward model; `auto`, the last if it reads the policy's tokens."""
    dtype: str = "auto"
    """float32, bfloat16 or auto."""
    ppo: PPOConfig = field(default_factory=language_ppo)
    """The update."""

    def __post_init__(self) -> None:
        if self.updates < 1 or self.batch < 1:
            raise ConfigError("updates and batch must be at least 1")
        if self.kl_estimator not in ESTIMATORS:
            raise ConfigError(f"kl_estimator must be k1 or k3, not {self.kl_estimator!r}")
        if self.critic not in CRITICS:
            raise ConfigError(f"critic must be one of {', '.join(CRITICS)}, not {self.critic!r}")
        if self.kl_coef < 0 or self.kl_target < 0 or self.kl_horizon < 0:
            raise ConfigError("kl_coef, kl_target and kl_horizon must not be negative")


def critic_of(
    kind: str, model: Transformer, tokenizer: Tokenizer, reward: RewardFunction
) -> Transformer | None:
    """The Transformer below the value head, or None to share the policy's.

    A reward model already knows what the beginning of a text is worth, which a policy has to find
    out from samples (Ouyang et al. 2022, section 3.5, begin there as well).
    """
    reads = isinstance(reward, RewardModel) and reward.tokenizer.same_as(tokenizer)
    if kind == "reward" and not reads:
        raise ConfigError(
            "critic reward asks for a reward model with the tokenizer of the policy; choose shared "
            "or own"
        )
    if kind == "own":
        return copy.deepcopy(model)
    if kind == "shared" or not reads:
        return None
    assert isinstance(reward, RewardModel)
    return copy.deepcopy(reward.model).requires_grad_(True)


def adapt(coefficient: float, kl: float, count: int, config: RLHFConfig) -> float:
    """The coefficient after `count` responses at a KL: up if that is above the target.

    It never falls below where it began: KL starts at 0, and a coefficient that has fallen on the
    way up is too small when the target is reached.
    """
    if not config.kl_target:
        return coefficient
    error = min(max(kl / config.kl_target - 1.0, -0.2), 0.2)
    horizon = config.kl_horizon or config.updates * config.batch / 20
    return max(config.kl_coef, coefficient * (1.0 + error * count / horizon))


class RLHFTrainer:
    """Rounds of sampling, scoring and `ppo_update`."""

    title, unit, best_metric = "rlhf", "responses", "eval/objective"

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        reward: RewardFunction,
        config: RLHFConfig,
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
        self.policy = LanguagePolicy(
            model,
            temperature=config.temperature,
            critic=critic_of(config.critic, model, tokenizer, reward),
            dtype=self.dtype,
        )
        ppo = config.ppo
        self.optimizer = Adam(self.policy.parameters(), lr=ppo.learning_rate, eps=ppo.adam_eps)
        self.updates, self.kl_coef = 0, config.kl_coef

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

    def _collect(self, number: int) -> Experience:
        """Round `number`'s responses; which prompts and random numbers depends on it alone."""
        config = self.config
        chosen = batch_of(len(self.prompts), config.batch, number, seed=self.seed)
        # With few prompts a round asks each several times; every answer has its own stream.
        chosen = (chosen * -(-config.batch // len(chosen)))[: config.batch]
        samples = respond(
            self.model,
            self.tokenizer,
            [self.prompts[i] for i in chosen],
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
            whiten=config.whiten_rewards,
        )

    def _warm_up(self) -> None:
        """Fit the value head to what the first policy's responses brought."""
        rounds = [self._collect(10**6 + n) for n in range(self.config.value_warmup)]
        for found in rounds:
            # With values of zero and lambda 1 the returns are plain sums of rewards to the end.
            found.rollout.values = torch.zeros_like(found.rollout.values)
            compute_gae(found.rollout, gamma=self.config.ppo.gamma, gae_lambda=1.0)
        width = max(found.rollout.num_steps for found in rounds)

        def joined(name: str) -> torch.Tensor:
            parts = [getattr(found.rollout, name) for found in rounds]
            pads = [torch.nn.functional.pad(p, (0, width - p.shape[1])) for p in parts]
            return torch.cat(pads)

        self.policy.fit_values(joined("obs"), joined("valid"), joined("returns"))

    def update(self) -> dict[str, float]:
        """One round."""
        config, ppo = self.config, self.config.ppo
        if self.updates == 0 and config.value_warmup:
            self._warm_up()
        found = self._collect(self.updates)
        compute_gae(found.rollout, gamma=ppo.gamma, gae_lambda=ppo.gae_lambda)
        share = 1.0 - self.updates / config.updates if ppo.anneal_lr else 1.0
        self.optimizer.lr = ppo.learning_rate * share
        generator = torch.Generator().manual_seed((self.seed << 32) + self.updates)
        learned = ppo_update(self.policy, self.optimizer, found.rollout, ppo, generator=generator)
        metrics = {**summary(found, self.kl_coef), **renamed(learned)}
        metrics |= {"objective/kl_coef": self.kl_coef, "lr": self.optimizer.lr}
        self.updates += 1
        metrics["episode"] = float(self.updates * config.batch)
        self.kl_coef = adapt(self.kl_coef, metrics["objective/kl"], config.batch, config)
        return metrics

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
        """Weights, moments, rounds, coefficient; the reference is the model that was given."""
        return {
            "model": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "kl_coef": self.kl_coef,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.policy.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates, self.kl_coef = int(state["updates"]), float(state["kl_coef"])


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

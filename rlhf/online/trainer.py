"""What PPO and GRPO on language share: rounds of sampling, scoring and `ppo_update`.

Which prompts a round has, and its random numbers, depend on its number alone. Where advantages come
from is what ppo.py and grpo.py add; settings are config.py's, the rollout is episodes.py's, the
update agents/ppo/update.py's.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from playout.agents.optim.device_adam import make_adam
from playout.agents.ppo.update import ppo_update
from playout.agents.runs.trainer import Trainer
from playout.errors import DataError
from playout.rlhf.data.batches import batch_of
from playout.rlhf.evaluation.evaluator import PolicyEvaluator
from playout.rlhf.generation.responses import sample_responses
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import learned_state, load_learned
from playout.rlhf.model.reference import Reference
from playout.rlhf.model.transformer import Transformer, pick_dtype
from playout.rlhf.online.config import OnlineConfig
from playout.rlhf.online.episodes import Episodes, episode_metrics, score_episodes
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.rewards import RewardFunction
from playout.rlhf.supervised.reward import RewardModel
from torch import nn

__all__ = ["OnlineTrainer"]


class OnlineTrainer(Trainer):
    """Rounds of sampling, scoring and `ppo_update`; `update` is a subclass's."""

    unit, best_metric = "responses", "eval/objective"

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        reward: RewardFunction,
        config: OnlineConfig,
        *,
        seed: int,
        evaluator: PolicyEvaluator | None = None,
        folder: Path | None = None,
        weights: torch.dtype = torch.float32,
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
            weights: Of the reference's copy, float32 or bfloat16.
        """
        if not prompts:
            raise DataError("there are no prompts to answer")
        self.tokenizer, self.prompts, self.reward = tokenizer, prompts, reward
        self.config, self.seed, self.evaluator, self.folder = config, seed, evaluator, folder
        self.ppo = config.ppo_config()
        self.dtype = pick_dtype(config.dtype, model.device)
        self.reference = Reference(model, dtype=self.dtype, weights=weights)
        self.policy = self.make_policy(model)
        self.optimizer = make_adam(
            self.policy.parameters(), lr=self.ppo.learning_rate, eps=self.ppo.adam_eps
        )
        self.updates, self.kl_coef = 0, config.kl_coef

    @abstractmethod
    def make_policy(self, model: Transformer) -> LanguagePolicy:
        """The model with what else learns."""

    @property
    def model(self) -> Transformer:
        """The policy's Transformer."""
        return self.policy.model

    @property
    def networks(self) -> list[nn.Module]:
        """The policy, what learns beside it, its reference and the reward model."""
        asked = [self.reward.model] if isinstance(self.reward, RewardModel) else []
        return [self.policy.model, self.policy, self.reference.model, *asked]

    @property
    def progress(self) -> tuple[int, int]:
        """Responses made and planned."""
        return self.updates * self.config.batch, self.config.updates * self.config.batch

    def collect(self, number: int, *, group: int = 1, whiten: bool = False) -> Episodes:
        """Round `number`'s responses, scored: `group` consecutive ones to a prompt."""
        config = self.config
        groups = config.batch // group
        chosen = batch_of(len(self.prompts), groups, number, seed=self.seed)
        # With few prompts a round asks each several times; every answer has its own stream.
        chosen = (chosen * -(-groups // len(chosen)))[:groups]
        responses = sample_responses(
            self.model,
            self.tokenizer,
            [self.prompts[i] for i in chosen for _ in range(group)],
            max_new_tokens=config.max_new_tokens,
            seed=self.seed,
            dtype=self.dtype,
            sampling=SamplingConfig(config.temperature),
            streams=range(number * config.batch, (number + 1) * config.batch),
        )
        return score_episodes(
            self.policy,
            self.reference,
            responses,
            self.reward,
            kl_coef=self.kl_coef,
            estimator=config.kl_estimator,
            missing_end=config.missing_end_penalty,
            whiten=whiten,
        )

    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Gradient steps on a round whose advantages are known; ends the round."""
        config, ppo = self.config, self.ppo
        left = 1.0 - self.updates / config.updates if ppo.anneal_lr else 1.0
        self.optimizer.lr = ppo.learning_rate * left
        generator = torch.Generator().manual_seed((self.seed << 32) + self.updates)
        learned = ppo_update(
            self.policy, self.optimizer, episodes.rollout, ppo, generator=generator
        )
        self.updates += 1
        return {
            **episode_metrics(episodes, self.kl_coef),
            **{_TRL_NAMES[name]: value for name, value in learned.items() if name in _TRL_NAMES},
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
            "model": learned_state(self.policy),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        load_learned(self.policy, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = int(state["updates"])


# The update's metrics under TRL's names.
_TRL_NAMES = {
    "train/approx_kl": "policy/approxkl_avg",
    "train/clip_fraction": "policy/clipfrac_avg",
    "train/policy_gradient_loss": "loss/policy_avg",
    "train/value_loss": "loss/value_avg",
    "train/explained_variance": "val/explained_variance",
    "train/grad_norm": "train/grad_norm",
}

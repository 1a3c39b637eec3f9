"""PPO on language: generate, score, and hand a rollout to agents' learner.

A token's reward is minus its KL to the reference, and the score comes with the last token. The
coefficient of KL is fixed, or steered towards a target (Ziegler et al. 2019). Advantages and the
update are agents/ppo/gae.py's and agents/ppo/update.py's; nothing of them is here.
"""

import copy
from typing import Any

import torch
from playout.agents.ppo.gae import compute_gae
from playout.errors import ConfigError
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import learning_copy
from playout.rlhf.model.sharding import is_sharded, place_beside, sharded_copy
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.config import RLHFConfig
from playout.rlhf.online.episodes import Episodes
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.rewards import RewardFunction, WeightedRewards
from playout.rlhf.online.trainer import OnlineTrainer, reward_models

__all__ = ["RLHFTrainer", "adapt_kl_coef", "make_critic"]


def make_critic(
    kind: str, model: Transformer, tokenizer: Tokenizer, reward: RewardFunction | None
) -> Transformer | None:
    """The Transformer below the value head, or None to share the policy's.

    Of several rewards, `reward` takes the first model that reads the policy's tokens, and `auto`
    shares the policy's.

    A reward model already knows what the beginning of a text is worth, which a policy has to find
    out from samples (Ouyang et al. 2022, section 3.5, begin there as well).
    """
    reads = [one for one in reward_models(reward) if one.tokenizer.same_as(tokenizer)]
    if kind == "reward" and not reads:
        raise ConfigError(
            "critic reward asks for a reward model with the tokenizer of the policy; choose shared "
            "or own"
        )
    if kind == "own":
        if is_sharded(model):
            return sharded_copy(model, torch.float32, learns=True)
        return copy.deepcopy(model)
    several = isinstance(reward, WeightedRewards)  # runs of earlier versions share there
    if kind == "shared" or not reads or (kind == "auto" and several):
        return None
    return place_beside(learning_copy(reads[0].model), model)


def adapt_kl_coef(coefficient: float, kl: float, count: int, config: RLHFConfig) -> float:
    """The coefficient after `count` responses at a KL: up if that is above the target.

    It never falls below where it began: KL starts at 0, and a coefficient that has fallen on the
    way up is too small when the target is reached.
    """
    if not config.kl_target:
        return coefficient
    error = min(max(kl / config.kl_target - 1.0, -0.2), 0.2)
    horizon = config.kl_horizon or config.updates * config.batch / 20
    return max(config.kl_coef, coefficient * (1.0 + error * count / horizon))


class RLHFTrainer(OnlineTrainer):
    """Rounds of sampling, scoring and `ppo_update`."""

    title = "rlhf"
    config: RLHFConfig

    def make_policy(self, model: Transformer) -> LanguagePolicy:
        """The model with a value head on the critic that the settings name."""
        config = self.config
        return LanguagePolicy(
            model,
            temperature=config.temperature,
            critic=make_critic(config.critic, model, self.tokenizer, self.reward),
            dtype=self.dtype,
        )

    def _collect(self, number: int) -> Episodes:
        return self.collect(number, whiten=self.config.whiten_rewards)

    def _warm_up(self) -> None:
        """Fit the value head to what the first policy's responses brought."""
        rounds = [self._collect(10**6 + n) for n in range(self.config.value_warmup)]
        for episodes in rounds:
            # With values of zero and lambda 1 the returns are plain sums of rewards to the end.
            episodes.rollout.values = torch.zeros_like(episodes.rollout.values)
            compute_gae(episodes.rollout, gamma=self.ppo.gamma, gae_lambda=1.0)
        width = max(episodes.rollout.num_steps for episodes in rounds)

        def joined(name: str) -> torch.Tensor:
            parts = [getattr(episodes.rollout, name) for episodes in rounds]
            pads = [torch.nn.functional.pad(p, (0, width - p.shape[1])) for p in parts]
            return torch.cat(pads)

        self.policy.fit_values(joined("obs"), joined("valid"), joined("returns"))

    def update(self) -> dict[str, float]:
        """One round."""
        config, ppo = self.config, self.ppo
        if self.updates == 0 and config.value_warmup:
            self._warm_up()
        episodes = self._collect(self.updates)
        compute_gae(episodes.rollout, gamma=ppo.gamma, gae_lambda=ppo.gae_lambda)
        metrics = self.learn(episodes)
        self.kl_coef = adapt_kl_coef(self.kl_coef, metrics["objective/kl"], config.batch, config)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Weights, moments, rounds, coefficient; the reference is the model that was given."""
        return {**super().state_dict(), "kl_coef": self.kl_coef}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        super().load_state_dict(state)
        self.kl_coef = float(state["kl_coef"])

"""Group-relative policy optimisation (Shao et al. 2024): a prompt's other responses as baseline.

The advantage of a response is its score less the mean score of the responses to the same prompt,
in deviations of that group; every token of the response has it. There is no value head. Sampling,
scoring and the update are trainer.py's.
"""

from dataclasses import dataclass, field

from playout.agents.ppo.config import PPOConfig
from playout.errors import ConfigError
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.trainer import RoundsConfig, RoundsTrainer, language_ppo
from torch import Tensor

__all__ = ["GRPOConfig", "GRPOTrainer", "group_advantages"]


def _one_epoch() -> PPOConfig:
    return language_ppo(num_epochs=1, minibatch_size=64, vf_coef=0.0, norm_adv=False)


@dataclass(frozen=True, slots=True)
class GRPOConfig(RoundsConfig):
    """How a policy is improved by comparisons within groups."""

    kl_coef: float = 0.05
    """Times a response's KL to the reference is taken from its score."""
    group: int = 8
    """Responses a prompt; divides the batch."""
    scale: bool = True
    """Divide by the group's deviation."""
    ppo: PPOConfig = field(default_factory=_one_epoch)
    """The update."""

    def __post_init__(self) -> None:
        RoundsConfig.__post_init__(self)
        if self.group < 2 or self.batch % self.group:
            raise ConfigError(
                f"a group needs at least 2 responses and must divide the batch of {self.batch}, "
                f"not {self.group}"
            )


def group_advantages(scores: Tensor, group: int, *, scale: bool = True) -> Tensor:
    """Scores [R], `group` consecutive ones to a prompt, relative to their group."""
    grouped = scores.view(-1, group)
    centered = grouped - grouped.mean(1, keepdim=True)
    if scale:
        centered = centered / (grouped.std(1, keepdim=True) + 1e-4)
    return centered.reshape(-1)


class GRPOTrainer(RoundsTrainer):
    """Rounds of sampling groups, scoring them and `ppo_update`."""

    title = "grpo"
    config: GRPOConfig

    def _policy(self, model: Transformer) -> LanguagePolicy:
        return LanguagePolicy(
            model, temperature=self.config.temperature, values=False, dtype=self.dtype
        )

    def update(self) -> dict[str, float]:
        """One round."""
        config = self.config
        found = self.collect(self.updates, group=config.group)
        rollout = found.rollout
        # The sum of a row's rewards is its score less the KL and the penalty for no end.
        whole = rollout.rewards.sum(1)
        relative = group_advantages(whole, config.group, scale=config.scale)
        rollout.advantages = relative[:, None] * rollout.valid
        rollout.returns = rollout.values
        spread = found.scores.view(-1, config.group).std(1)
        return self.learn(found) | {
            "reward": float(whole.mean()),
            "reward_std": float(spread.mean()),
            "frac_reward_zero_std": float((spread == 0).float().mean()),
        }

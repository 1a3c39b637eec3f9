"""Group-relative policy optimisation (Shao et al. 2024): a prompt's other responses as baseline.

The advantage of a response is its score less the mean score of the responses to the same prompt,
in deviations of that group; every token of the response has it. There is no value head. Sampling,
scoring and the update are trainer.py's.
"""

from playout.agents.runs.devices import fetch
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.config import GRPOConfig
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.trainer import OnlineTrainer
from torch import Tensor

__all__ = ["GRPOTrainer", "group_advantages"]


def group_advantages(scores: Tensor, group: int, *, scale: bool = True) -> Tensor:
    """Scores [R], `group` consecutive ones to a prompt, relative to their group."""
    grouped = scores.view(-1, group)
    centered = grouped - grouped.mean(1, keepdim=True)
    if scale:
        centered = centered / (grouped.std(1, keepdim=True) + 1e-4)
    return centered.reshape(-1)


class GRPOTrainer(OnlineTrainer):
    """Rounds of sampling groups, scoring them and `ppo_update`."""

    title = "grpo"
    config: GRPOConfig

    def make_policy(self, model: Transformer) -> LanguagePolicy:
        """The model alone."""
        return LanguagePolicy(
            model, temperature=self.config.temperature, values=False, dtype=self.dtype
        )

    def update(self) -> dict[str, float]:
        """One round."""
        config = self.config
        episodes = self.collect(self.updates, group=config.group)
        rollout = episodes.rollout
        # The sum of a row's rewards is its score less the KL and the penalty for no end.
        whole = rollout.rewards.sum(1)
        relative = group_advantages(whole, config.group, scale=not config.unscaled)
        rollout.advantages = relative[:, None] * rollout.valid
        rollout.returns = rollout.values
        spread = episodes.scores.view(-1, config.group).std(1)
        groups = {
            "reward": whole.mean(),
            "reward_std": spread.mean(),
            "frac_reward_zero_std": (spread == 0).float().mean(),
        }
        return self.learn(episodes) | fetch(groups)

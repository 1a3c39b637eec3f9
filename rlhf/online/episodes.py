"""Episodes of a language policy: responses with scores and KL, laid out as a rollout.

A response is a row, a token an action; every token pays for its KL, and the score comes with the
last one. Responses are generation/responses.py's, advantages agents' or grpo.py's.
"""

from dataclasses import dataclass

import torch
from playout.agents.ppo.rollout import Rollout
from playout.agents.runs.devices import fetch, pack_to_device
from playout.errors import ConfigError
from playout.rlhf.generation.responses import Responses
from playout.rlhf.model.reference import Reference
from playout.rlhf.online.config import ESTIMATORS
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.rewards import RewardFunction, checked_rewards
from torch import Tensor

__all__ = ["Episodes", "episode_metrics", "kl_estimate", "score_episodes"]


def kl_estimate(logprobs: Tensor, reference: Tensor, estimator: str) -> Tensor:
    """A token's share of KL(policy, reference) (Schulman 2020).

    k1 is the log-ratio, unbiased and of either sign; k3 adds the ratio's own mean zero part, so
    it is never negative.
    """
    if estimator not in ESTIMATORS:
        raise ConfigError(f"the KL estimator must be k1 or k3, not {estimator!r}")
    log_ratio = reference - logprobs
    return -log_ratio if estimator == "k1" else log_ratio.exp() - 1 - log_ratio


@dataclass(slots=True)
class Episodes:
    """R responses with everything that learning and reports need."""

    responses: Responses
    rollout: Rollout
    scores: Tensor
    """float32 [R], the reward function's answers."""
    kl: Tensor
    """float32 [R, T] per token by the chosen estimator, 0 where not valid."""
    log_ratio: Tensor
    """float32 [R, T], log policy - log reference; its sum a row is the k1 estimate."""
    entropies: Tensor
    """float32 [R, T]."""


@torch.no_grad()
def score_episodes(
    policy: LanguagePolicy,
    reference: Reference,
    responses: Responses,
    reward: RewardFunction,
    *,
    kl_coef: float,
    estimator: str = "k1",
    missing_end: float = 0.0,
    whiten: bool = False,
    microbatch: int = 64,
) -> Episodes:
    """Score responses of `policy` and lay them out as a rollout, without advantages yet.

    Args:
        policy: The policy that sampled them, as it was then.
        reference: What it should stay near to.
        responses: What it wrote.
        reward: Of whole texts; the number is given at the last token of the response.
        kl_coef: Times a token's KL is taken from its reward.
        estimator: k1 or k3.
        missing_end: Taken from the reward of a response that was cut before it ended.
        whiten: Divide rewards by their deviation over all valid tokens, their mean kept.
        microbatch: Rows a forward pass.
    """
    generation, rows = responses.generation, len(responses.texts)
    obs, actions, valid, last, unfinished, scores = pack_to_device(
        [
            *(responses.obs, responses.actions, responses.valid, responses.last),
            ~generation.finished,
            checked_rewards(reward, responses.texts),
        ],
        policy.model.device,
    )
    logprobs, entropies, values = policy.assess(obs, actions, valid, rows=microbatch)
    theirs = reference.logprobs(
        obs, actions, valid, temperature=policy.temperature, rows=microbatch
    )
    kl = kl_estimate(logprobs, theirs, estimator) * valid
    final = scores - missing_end * unfinished.float()
    rewards = -kl_coef * kl + last * final[:, None]
    if whiten:
        spread = rewards[valid].std(correction=0)
        middle = rewards[valid].mean()
        rewards = ((rewards - middle) / (spread + 1e-8) + middle) * valid
    never = torch.zeros_like(valid)
    rollout = Rollout(
        obs=obs,
        actions=actions,
        logprobs=logprobs,
        values=values,
        rewards=rewards,
        terminations=last,
        truncations=never,
        valid=valid,
        last_values=torch.zeros(rows, device=obs.device),
    )
    log_ratio = (logprobs - theirs) * valid
    return Episodes(responses, rollout, scores, kl, log_ratio, entropies)


def episode_metrics(found: Episodes, kl_coef: float) -> dict[str, float]:
    """Means a response under TRL's names."""
    valid = found.rollout.valid
    penalty = -(kl_coef * found.kl.sum(1))
    generation = found.responses.generation
    width = int(generation.lengths.max())
    # Generation and training compute the same log-probabilities by different kernels.
    trained = found.rollout.logprobs[valid]
    places = torch.arange(width) < generation.lengths[:, None]
    (sampled,) = pack_to_device([generation.logprobs[:, :width][places]], trained.device)
    return fetch(
        {
            "objective/kl": found.log_ratio.sum(1).mean(),
            "objective/entropy": -(found.rollout.logprobs * valid).sum(1).mean(),
            "objective/non_score_reward": penalty.mean(),
            "objective/scores": found.scores.mean(),
            "objective/rlhf_reward": (found.scores + penalty).mean(),
            "policy/entropy_avg": found.entropies[valid].mean(),
            "val/num_eos_tokens": float(generation.finished.sum()),
            "val/mean_length": float(generation.lengths.float().mean()),
            "val/sampling_gap": (sampled - trained).abs().mean(),
        }
    )

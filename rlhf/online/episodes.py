"""What a language policy did, as a rollout: responses sampled, scored, and compared to a reference.

Rows are prompt and response padded on the right; step t is the choice of token t + 1, and only
choices of response tokens are valid. Advantages are agents' or grpo.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from playout.agents.ppo.rollout import Rollout
from playout.errors import ConfigError
from playout.rlhf.generation.generate import Generation
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.policy import LanguagePolicy, Reference
from playout.rlhf.online.rewards import RewardFunction, checked
from playout.rlhf.supervised.sft import answer
from torch import Tensor

__all__ = ["ESTIMATORS", "Experience", "Samples", "experience", "kl_estimate", "respond", "summary"]

ESTIMATORS = ("k1", "k3")


@dataclass(frozen=True, slots=True)
class Samples:
    """Responses to prompts, as text and as tokens."""

    prompts: list[str]
    responses: list[str]
    generation: Generation
    obs: Tensor
    """int64 [R, T]: tokens 0 to L - 2 of each row."""
    actions: Tensor
    """int64 [R, T]: tokens 1 to L - 1."""
    valid: Tensor
    """bool [R, T]: the action is a token of the response."""

    @property
    def texts(self) -> list[str]:
        """Prompt and response joined."""
        return [p + r for p, r in zip(self.prompts, self.responses, strict=True)]

    @property
    def last(self) -> Tensor:
        """Bool [R, T]: the action is the last token of the response."""
        ends = self.valid.cumsum(1) == self.generation.lengths[:, None]
        return ends & self.valid


def respond(
    model: Transformer, tokenizer: Tokenizer, prompts: Sequence[str], **options: Any
) -> Samples:
    """Sample a response to every prompt; the options are those of `sft.answer`."""
    return samples_of(answer(model, tokenizer, prompts, **options), tokenizer, prompts)


def samples_of(out: Generation, tokenizer: Tokenizer, prompts: Sequence[str]) -> Samples:
    """A generation as samples."""
    ids, starts, ends = out.sequences(tokenizer.pad_id)
    places = torch.arange(1, ids.shape[1])
    valid = (places >= starts[:, None]) & (places < ends[:, None])
    responses = tokenizer.decode_batch([out.response(row) for row in range(len(prompts))])
    return Samples(list(prompts), responses, out, ids[:, :-1], ids[:, 1:], valid)


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
class Experience:
    """Samples with everything that learning and reports need."""

    samples: Samples
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
def experience(
    policy: LanguagePolicy,
    reference: Reference,
    samples: Samples,
    reward: RewardFunction,
    *,
    kl_coef: float,
    estimator: str = "k1",
    missing_end: float = 0.0,
    whiten: bool = False,
    microbatch: int = 64,
) -> Experience:
    """Score samples of `policy` and lay them out as a rollout, without advantages yet.

    Args:
        policy: The policy that sampled them, as it was then.
        reference: What it should stay near to.
        samples: Its responses.
        reward: Of whole texts; the number is given at the last token of the response.
        kl_coef: Times a token's KL is taken from its reward.
        estimator: k1 or k3.
        missing_end: Taken from the reward of a response that was cut before it ended.
        whiten: Divide rewards by their deviation over all valid tokens, their mean kept.
        microbatch: Rows a forward pass.
    """
    scores = checked(reward, samples.texts)
    obs, actions, valid = samples.obs, samples.actions, samples.valid
    logprobs, entropies, values = policy.assess(obs, actions, valid, rows=microbatch)
    theirs = reference.logprobs(
        obs, actions, valid, temperature=policy.temperature, rows=microbatch
    )
    kl = kl_estimate(logprobs, theirs, estimator) * valid
    final = scores - missing_end * (~samples.generation.finished).float()
    rewards = -kl_coef * kl + samples.last * final[:, None]
    if whiten:
        spread = rewards[valid].std(correction=0)
        middle = rewards[valid].mean()
        rewards = ((rewards - middle) / (spread + 1e-8) + middle) * valid
    nothing = torch.zeros_like(valid)
    rollout = Rollout(
        obs=obs,
        actions=actions,
        logprobs=logprobs,
        values=values,
        rewards=rewards,
        terminations=samples.last,
        truncations=nothing,
        valid=valid,
        last_values=torch.zeros(len(obs)),
    )
    log_ratio = (logprobs - theirs) * valid
    return Experience(samples, rollout, scores, kl, log_ratio, entropies)


def summary(found: Experience, kl_coef: float) -> dict[str, float]:
    """Means a response under TRL's names."""
    valid = found.rollout.valid
    penalty = -(kl_coef * found.kl.sum(1))
    sampled = found.samples.generation.logprobs
    width = int(found.samples.generation.lengths.max())
    # Generation and training compute the same log-probabilities by different kernels.
    trained = found.rollout.logprobs[valid]
    places = torch.arange(width) < found.samples.generation.lengths[:, None]
    return {
        "objective/kl": float(found.log_ratio.sum(1).mean()),
        "objective/entropy": float(-(found.rollout.logprobs * valid).sum(1).mean()),
        "objective/non_score_reward": float(penalty.mean()),
        "objective/scores": float(found.scores.mean()),
        "objective/rlhf_reward": float((found.scores + penalty).mean()),
        "policy/entropy_avg": float(found.entropies[valid].mean()),
        "val/num_eos_tokens": float(found.samples.generation.finished.sum()),
        "val/mean_length": float(found.samples.generation.lengths.float().mean()),
        "val/sampling_gap": float((sampled[:, :width][places] - trained).abs().mean()),
    }

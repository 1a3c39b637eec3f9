"""Proximal policy optimisation (Schulman et al. 2017): the one update every policy here learns by.

`ppo_update` takes a policy, an optimiser and a rollout with advantages, and works on single steps
or on whole rows (recurrent policies, language models). The surrogate's gradient with respect to
log-probabilities, values and entropy has a closed form; it is written down here and handed to
autograd, which only differentiates the policy. Collection, annealing and evaluation are the
trainer's business.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from playout.agents.adam import Adam
from playout.agents.rollout import Minibatch, Rollout, Tree
from playout.agents.settings import PPOConfig
from playout.errors import DivergedError
from torch import Tensor

__all__ = ["PPOConfig", "Policy", "PolicyStep", "Surrogate", "ppo_update", "surrogate"]


class PolicyStep(NamedTuple):
    """What `Policy.step` returns for `[N]` environments."""

    action: Tensor
    """`[N]` or `[N, ...]`, as `evaluate` and `to_env` expect it."""
    logprob: Tensor
    """`[N]`."""
    value: Tensor
    """`[N]`."""
    state: Tree
    """Recurrent state after this step, or None."""


class Policy(Protocol):
    """What collection and learning ask of a policy; an nn.Module with these three methods."""

    def initial_state(self, num_rows: int) -> Tree:
        """Recurrent state at an episode's start, a tree of tensors `[num_rows, ...]`, or None."""

    def step(
        self,
        obs: Tree,
        state: Tree = None,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> PolicyStep:
        """Act in `[N]` environments."""

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the actions, entropies, values, all shaped like `logprobs`."""


@dataclass(slots=True)
class Surrogate:
    """Sums over a minibatch and the gradient of its loss with respect to what the policy returned.

    The loss is `pg + vf_coef * v - ent_coef * entropy`, each a mean over the valid steps.
    """

    logprob_grad: Tensor
    value_grad: Tensor
    entropy_grad: Tensor
    stats: Tensor
    """Policy loss, value loss, entropy, approximate KL, clipped share, summed with weight 1 /
    number of valid steps."""


def surrogate(
    logprobs: Tensor,
    entropy: Tensor,
    values: Tensor,
    batch: Minibatch,
    config: PPOConfig,
    *,
    advantages: Tensor,
    weight: Tensor,
) -> Surrogate:
    """The clipped surrogate with value loss and entropy bonus, and its gradient in closed form.

    All tensors are shaped alike, `[N]` or `[r, T]`.

    Args:
        logprobs: Log-probabilities of the batch's actions under the policy now.
        entropy: Its entropies.
        values: Its values.
        batch: Old log-probabilities, old values and returns.
        config: Coefficients.
        advantages: Advantages, normalised already.
        weight: 1 / (number of valid steps) at valid steps, 0 elsewhere.
    """
    # Padding may hold anything; a masked ratio of exactly 1 keeps infinities out of the sums.
    log_ratio = (logprobs - batch.logprobs).masked_fill_(weight == 0, 0.0)
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - config.clip_coef, 1.0 + config.clip_coef)
    policy_loss = torch.maximum(plain, clipped)
    # Where the clipped branch is strictly larger the loss is flat; elsewhere d(ratio)/d(logprob) =
    # ratio.
    logprob_grad = torch.where(plain >= clipped, plain, 0.0) * weight

    error = values - batch.returns
    value_loss = error * error
    value_grad = error * (weight * config.vf_coef)
    if config.clip_vloss:
        change = (values - batch.values).clamp(-config.vf_clip_coef, config.vf_clip_coef)
        far = batch.values + change - batch.returns
        worse = far * far
        # The clipped value depends on the new one only inside the range.
        inside = (values - batch.values).abs() <= config.vf_clip_coef
        value_grad = torch.where((value_loss >= worse) | inside, value_grad, 0.0)
        value_loss = torch.maximum(value_loss, worse)

    approx_kl = (ratio - 1.0) - log_ratio
    outside = ((ratio - 1.0).abs() > config.clip_coef).to(ratio.dtype)
    rows = torch.stack([policy_loss, value_loss * 0.5, entropy.detach(), approx_kl, outside])
    rows = rows.masked_fill(weight == 0, 0.0)
    return Surrogate(
        logprob_grad=logprob_grad,
        value_grad=value_grad,
        entropy_grad=weight * -config.ent_coef,
        stats=(rows * weight).flatten(1).sum(1),
    )


def ppo_update(
    policy: Policy,
    optimizer: Any,
    rollout: Rollout,
    config: PPOConfig,
    *,
    generator: torch.Generator,
) -> dict[str, float]:
    """Improve `policy` on `rollout` by `config.num_epochs` passes of clipped policy gradient.

    Args:
        policy: An nn.Module that follows `Policy`.
        optimizer: `playout.agents.adam.Adam`, or any torch optimiser over the policy's parameters.
            Its learning rate is used as it is: the trainer anneals it.
        rollout: Experience with advantages (`compute_gae`).
        config: Options.
        generator: Order of the minibatches (a CPU generator).

    Returns:
        Metrics under stable-baselines3's names.

    Raises:
        DivergedError: A loss or gradient is NaN or infinite. The step that would have spread it is
        not taken.
    """
    assert rollout.advantages is not None and rollout.returns is not None, "call compute_gae first"
    parameters = [p for p in policy.parameters() if p.requires_grad]  # type: ignore[attr-defined]
    shift, scale = 0.0, 1.0
    if config.norm_adv and config.norm_adv_by == "batch":
        chosen = rollout.advantages[rollout.valid]
        shift, scale = float(chosen.mean()), float(chosen.std(correction=0)) + 1e-8
    sums = torch.zeros(5, dtype=torch.float32, device=rollout.rewards.device)
    norms, steps, stop, kl = 0.0, 0, False, 0.0
    for _ in range(config.num_epochs):
        for batch in rollout.minibatches(
            config.minibatch_size, by=config.batch_by, generator=generator
        ):
            valid = batch.valid.to(batch.advantages.dtype)
            weight = valid / valid.sum().clamp(min=1.0)
            if config.norm_adv and config.norm_adv_by == "minibatch":
                advantages = _normalised(batch.advantages, weight)
            else:
                advantages = (batch.advantages - shift) / scale
            optimizer.zero_grad()
            stats = torch.zeros_like(sums)
            for part, begin, end in _parts(batch, config.microbatch_size):
                logprobs, entropy, values = policy.evaluate(part)
                with torch.no_grad():
                    found = surrogate(
                        logprobs,
                        entropy,
                        values,
                        part,
                        config,
                        advantages=advantages[begin:end],
                        weight=weight[begin:end],
                    )
                stats += found.stats
                if config.target_kl is not None:
                    kl = float(stats[3])
                    if kl > 1.5 * config.target_kl:
                        stop = True
                        break
                _backward(
                    [logprobs, values, entropy],
                    [found.logprob_grad, found.value_grad, found.entropy_grad],
                    config,
                )
            if stop:
                break
            norms += _step(optimizer, parameters, config.max_grad_norm or math.inf)
            sums += stats
            steps += 1
        if stop:
            break
    return _metrics(rollout, config, sums, norms, steps, kl if stop else None)


def _backward(outputs: list[Tensor], grads: list[Tensor], config: PPOConfig) -> None:
    if config.ent_coef == 0.0:
        outputs, grads = outputs[:2], grads[:2]
    chosen = [(out, grad) for out, grad in zip(outputs, grads, strict=True) if out.requires_grad]
    torch.autograd.backward([out for out, _ in chosen], [grad for _, grad in chosen])


def _normalised(advantages: Tensor, weight: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the weighted steps; a single step is only centred."""
    centred = advantages - (advantages * weight).sum()
    deviation = (centred * centred * weight).sum().sqrt()
    return centred / (deviation + 1e-8)


def _parts(batch: Minibatch, size: int) -> Iterator[tuple[Minibatch, int, int]]:
    total = len(batch)
    if size <= 0 or size >= total:
        yield batch, 0, total
        return
    for begin in range(0, total, size):
        end = min(begin + size, total)
        yield batch.slice(begin, end), begin, end


def _step(optimizer: Any, parameters: list[Tensor], max_grad_norm: float) -> float:
    if isinstance(optimizer, Adam):
        return optimizer.step(max_grad_norm)
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm))
    if not math.isfinite(norm):
        raise DivergedError(f"the gradient is not finite (norm {norm})")
    optimizer.step()
    return norm


def _metrics(
    rollout: Rollout,
    config: PPOConfig,
    sums: Tensor,
    norms: float,
    steps: int,
    stopped_kl: float | None,
) -> dict[str, float]:
    policy_loss, value_loss, entropy, approx_kl, clipped = (sums / max(steps, 1)).tolist()
    valid = rollout.valid
    assert rollout.returns is not None
    returns, values = rollout.returns[valid], rollout.values[valid]
    spread = float(returns.var(correction=0)) if returns.numel() else 0.0
    unexplained = float((returns - values).var(correction=0)) if returns.numel() else 0.0
    metrics = {
        "train/policy_gradient_loss": policy_loss,
        "train/value_loss": value_loss,
        "train/entropy_loss": -entropy,
        "train/approx_kl": approx_kl if stopped_kl is None else stopped_kl,
        "train/clip_fraction": clipped,
        "train/loss": policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy,
        "train/explained_variance": 1.0 - unexplained / spread if spread > 0 else 0.0,
        "train/grad_norm": norms / max(steps, 1),
        "train/num_gradient_steps": float(steps),
    }
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value}")
    return metrics

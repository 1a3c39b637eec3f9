"""The loss of PPO and its gradient in closed form: clipped surrogate, value loss, entropy bonus.

    loss = mean(max(-A r, -A clip(r, 1 - c, 1 + c))) + vf_coef * mean((v - R)^2) / 2 - ent_coef * H

over the valid steps, with r = exp(logprob - old logprob), A the advantage, R the return, v the
value, H the entropy. The gradient with respect to log-probability, entropy and value is written
down here, in place of thirty operations of autograd, which then differentiates the policy alone.
`tensor_surrogate` is the definition; on the CPU in float32 its compiled form is used. Means are
over a minibatch of all ranks. Leaves out the update (update.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.kernels import _surrogate
from playout.agents.networks.policy import Minibatch
from playout.agents.ppo.config import PPOConfig
from playout.agents.ppo.rollout import Order, Rollout
from playout.agents.runs import ranks
from torch import Tensor

Number = float | Tensor


@dataclass(frozen=True, slots=True)
class Scale:
    """How advantages are normalised, and over how many valid steps a loss is a mean."""

    shift: Number
    scale: Number
    count: Number


@dataclass(frozen=True, slots=True)
class LossVariant:
    """What published variants change in the loss; the defaults change nothing."""

    clip_coef_high: float = 0.0
    """How far a ratio may rise above 1 (DAPO's clip-higher); 0: as far as it may fall."""
    mean_over_rows: bool = False
    """A loss is a sum over steps and a mean over rows, in place of a mean over steps."""
    ref_kl_coef: float = 0.0
    """Weight of KL(policy, reference) in the loss, by the k3 estimator (Schulman 2020)."""


@dataclass(slots=True)
class Surrogate:
    """The gradient of the loss with respect to what the policy returned, and sums for metrics.

    `stats` holds policy loss, value loss, entropy, approximate KL and clipped share `[5]`.
    """

    logprob_grad: Tensor
    value_grad: Tensor
    entropy_grad: Tensor
    stats: Tensor


def no_stats(rollout: Rollout) -> Tensor:
    """`Surrogate.stats` of a minibatch without a step of this rank's."""
    device = rollout.rewards.device
    kind = torch.float64 if device.type == "cpu" else torch.float32
    return torch.zeros(5, dtype=kind, device=device)


def over_rows(scale: Scale, valid: Tensor) -> Scale:
    """The same with losses as a mean over the rows `[r, T]`, of all ranks, with a valid step."""
    count = valid.any(1).sum()
    if ranks.world() > 1:
        count = ranks.add_(count)
    return Scale(scale.shift, scale.scale, count.clamp(min=1))


def measure(advantages: Tensor, valid: Tensor, normalize: bool) -> Scale:
    """The number of valid steps and, if `normalize`, mean and deviation of their advantages."""
    if _plain(advantages, valid):
        found = _surrogate.moments(_flat(advantages), _flat(valid).view(np.uint8))
        number = max(found[0], 1)
        return Scale(found[1], found[2] + 1e-8, number) if normalize else Scale(0.0, 1.0, number)
    count = valid.sum().clamp(min=1)
    if not normalize:
        return Scale(0.0, 1.0, count)
    weight = valid.to(advantages.dtype) / count
    mean = (advantages * weight).sum()
    std = ((advantages - mean).square() * weight).sum().sqrt()
    return Scale(mean, std + 1e-8, count)


@torch.no_grad()
def measure_minibatches(
    rollout: Rollout, order: Order, *, by_rows: bool, normalize: bool
) -> list[Scale]:
    """What `measure` finds for each minibatch of a pass, over all ranks; one message.

    Sums are in double precision and added in a fixed order, on a device as well.

    Args:
        rollout: This rank's, with advantages.
        order: The pass.
        by_rows: Whether it visits rows.
        normalize: As in `measure`.
    """
    assert rollout.advantages is not None
    advantages, places = rollout.advantages, order.places
    if by_rows:
        found = advantages.double().masked_fill(~rollout.valid, 0.0)
        columns = [rollout.valid.double().sum(1), found.sum(1), found.square().sum(1)]
        table = torch.stack(columns)[:, places]
    else:
        found = advantages.reshape(-1)[places].double()
        table = torch.stack([torch.ones_like(found), found, found.square()])
    if len(order.bounds) < 2:
        return []
    parts = table.split_with_sizes([end - begin for begin, end in pairwise(order.bounds)], dim=1)
    counts, sums, squares = ranks.add_(torch.stack([part.sum(1) for part in parts])).unbind(1)
    counts = counts.clamp(min=1.0)
    if not normalize:
        return [Scale(0.0, 1.0, count) for count in _numbers(counts)]
    means = sums / counts
    deviations = (squares / counts - means.square()).clamp(min=0.0).sqrt() + 1e-8
    triples = zip(*map(_numbers, (means, deviations, counts)), strict=True)
    return [Scale(*triple) for triple in triples]


def _numbers(x: Tensor) -> Sequence[Number]:
    """The entries of a vector: numbers of the processor, scalars of a device."""
    return x.tolist() if x.device.type == "cpu" else x.float().unbind()


def surrogate(
    logprobs: Tensor,
    entropy: Tensor,
    values: Tensor,
    batch: Minibatch,
    config: PPOConfig,
    scale: Scale,
    variant: LossVariant | None = None,
) -> Surrogate:
    """Gradient and sums for a minibatch or a part of one; all tensors `[N]` or `[r, T]`.

    Args:
        logprobs: Log-probabilities of the batch's actions under the policy now.
        entropy: Its entropies.
        values: Its values.
        batch: Old log-probabilities, old values, advantages, returns and which steps are valid.
        config: Coefficients.
        scale: Of the whole minibatch (`measure`).
        variant: What a published variant changes.
    """
    if variant is not None:
        return _variant_surrogate(logprobs, entropy, values, batch, config, scale, variant)
    tensors = (
        logprobs,
        entropy,
        values,
        batch.logprobs,
        batch.values,
        batch.advantages,
        batch.returns,
    )
    if all(x.dtype == torch.float32 for x in tensors) and _plain(*tensors, batch.valid):
        return _compiled(tensors, batch.valid, config, scale)
    return tensor_surrogate(logprobs, entropy, values, batch, config, scale)


def _compiled(
    tensors: tuple[Tensor, ...], valid: Tensor, config: PPOConfig, scale: Scale
) -> Surrogate:
    shape = tensors[0].shape
    grads = torch.empty(3, valid.numel())
    first, second, third = grads.unbind(0)
    stats = torch.zeros(5, dtype=torch.float64)
    _surrogate.surrogate(
        *map(_flat, tensors),  # type: ignore[call-arg, arg-type]
        _flat(valid).view(np.uint8),
        float(scale.shift),
        float(scale.scale),
        float(scale.count),
        config.clip_coef,
        config.vf_coef,
        config.clip_vloss,
        config.vf_clip_coef,
        config.ent_coef,
        first.numpy(),
        second.numpy(),
        third.numpy(),
        stats.numpy(),
    )
    return Surrogate(first.view(shape), second.view(shape), third.view(shape), stats)


@torch.no_grad()
def _variant_surrogate(
    logprobs: Tensor,
    entropy: Tensor,
    values: Tensor,
    batch: Minibatch,
    config: PPOConfig,
    scale: Scale,
    variant: LossVariant,
) -> Surrogate:
    """The loss with other bounds, weights of steps and a term for the reference."""
    high = variant.clip_coef_high or config.clip_coef
    if batch.weights is not None:  # the loss is proportional to the advantage
        shifted = (batch.advantages - scale.shift) / scale.scale
        batch = replace(batch, advantages=shifted * batch.weights)
        scale = Scale(0.0, 1.0, scale.count)
    found = tensor_surrogate(logprobs, entropy, values, batch, config, scale, high=high)
    if variant.ref_kl_coef > 0 and batch.ref_logprobs is not None:
        # k3 = exp(d) - 1 - d with d = reference - policy, so its slope is 1 - exp(d).
        difference = (batch.ref_logprobs - logprobs).masked_fill(~batch.valid, 0.0)
        weight = batch.valid.to(logprobs.dtype) / scale.count
        if batch.weights is not None:
            weight = weight * batch.weights
        found.logprob_grad += variant.ref_kl_coef * weight * (1.0 - difference.exp())
    return found


@torch.no_grad()
def tensor_surrogate(
    logprobs: Tensor,
    entropy: Tensor,
    values: Tensor,
    batch: Minibatch,
    config: PPOConfig,
    scale: Scale,
    *,
    high: float | None = None,
) -> Surrogate:
    """`surrogate` in torch operations, on any device and type.

    `high` is how far a ratio may rise; None: as far as it may fall.
    """
    rise = config.clip_coef if high is None else high
    weight = batch.valid.to(batch.advantages.dtype) / scale.count
    invalid = ~batch.valid
    advantages = (batch.advantages - scale.shift) / scale.scale
    # Padding may hold anything: a ratio of exactly 1 keeps infinities out of the sums.
    log_ratio = (logprobs - batch.logprobs).masked_fill(invalid, 0.0)
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - config.clip_coef, 1.0 + rise)
    policy_loss = torch.maximum(plain, clipped)
    # Where the clipped branch is strictly larger the loss is flat.
    logprob_grad = torch.where(plain >= clipped, plain, 0.0) * weight
    error = (values - batch.returns).masked_fill(invalid, 0.0)
    value_loss = error * error
    value_grad = error * (weight * config.vf_coef)
    if config.clip_vloss:
        change = values - batch.values
        reach = config.vf_clip_coef
        far = batch.values + change.clamp(-reach, reach) - batch.returns
        worse = (change.abs() > reach) & (far * far > value_loss)
        # Beyond the range the clipped value does not depend on the new one.
        value_grad = torch.where(worse, 0.0, value_grad)
        value_loss = torch.where(worse, far * far, value_loss)
    approx_kl = (ratio - 1.0) - log_ratio
    outside = ((ratio - 1.0 > rise) | (1.0 - ratio > config.clip_coef)).to(ratio.dtype)
    rows = torch.stack([policy_loss, value_loss * 0.5, entropy.detach(), approx_kl, outside])
    rows = rows.masked_fill(invalid, 0.0) * weight
    return Surrogate(logprob_grad, value_grad, weight * -config.ent_coef, rows.flatten(1).sum(1))


def _plain(*tensors: Tensor) -> bool:
    return all(x.device.type == "cpu" for x in tensors)


def _flat(x: Tensor) -> NDArray[Any]:
    return x.detach().reshape(-1).contiguous().numpy()

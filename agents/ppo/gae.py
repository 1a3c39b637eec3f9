"""Generalised advantage estimation (Schulman et al. 2016) on a Rollout.

Termination cuts the future off, truncation bootstraps from the value of the final observation,
invalid steps are skipped. `plain_gae` is the definition; `compute_gae` does the same in a compiled
loop on the CPU, and on a device by doubling, in a number of operations that grows with log T.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.kernels._gae import gae
from playout.agents.ppo.rollout import Rollout
from playout.errors import ConfigError, DivergedError
from torch import Tensor


def compute_gae(rollout: Rollout, *, gamma: float, gae_lambda: float) -> None:
    """Fill `rollout.advantages` and `rollout.returns`, both `[R, T]`.

    At a truncated step the future is worth `bootstrap_values[t]` where given, else `values[t + 1]`
    (`last_values` at the last step), which is the value of the final observation under NEXT_STEP
    autoreset. An invalid step gets advantage 0 and return `values[t]`; the valid step before it
    continues with the valid step after it.

    Raises:
        DivergedError: A reward or value of a valid step is NaN or infinite. Nobody waits for a
            device: there `ppo_update` finds it, and learns nothing from it.
    """
    if not (0.0 <= gamma <= 1.0 and 0.0 <= gae_lambda <= 1.0):
        raise ConfigError(f"gamma and gae_lambda must lie in [0, 1], not {gamma} and {gae_lambda}")
    shape = (rollout.num_rows, rollout.num_steps)
    given = {
        name: getattr(rollout, name)
        for name in ("values", "terminations", "truncations", "valid", "bootstrap_values")
    }
    for name, tensor in given.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ConfigError(f"rollout.{name} has shape {list(tensor.shape)}, not {list(shape)}")
    if tuple(rollout.last_values.shape) != shape[:1]:
        raise ConfigError(
            f"rollout.last_values has shape {list(rollout.last_values.shape)}, not {[shape[0]]}"
        )
    if rollout.rewards.device.type != "cpu":
        found = doubling_gae(rollout, gamma=gamma, gae_lambda=gae_lambda)
        rollout.advantages, rollout.returns = found
        return
    advantages, returns = np.empty(shape, np.float32), np.empty(shape, np.float32)
    bootstrap = rollout.bootstrap_values
    gae(
        _array(rollout.rewards, np.float32),
        _array(rollout.values, np.float32),
        _array(rollout.terminations, np.uint8),
        _array(rollout.truncations, np.uint8),
        _array(rollout.valid, np.uint8),
        _array(rollout.last_values, np.float32),
        None if bootstrap is None else _array(bootstrap, np.float32),
        gamma,
        gae_lambda,
        advantages,
        returns,
    )
    rollout.advantages = torch.from_numpy(advantages)
    rollout.returns = torch.from_numpy(returns)
    if not np.isfinite(advantages.sum(dtype=np.float64)):
        raise DivergedError(describe_bad_value(rollout))


def plain_gae(rollout: Rollout, *, gamma: float, gae_lambda: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns `[R, T]` as `compute_gae` finds them, step by step in torch.

    delta(t) = r(t) + gamma * V(t + 1) - V(t)
    A(t) = delta(t) + gamma * gae_lambda * A(t + 1)
    """
    values, valid = rollout.values, rollout.valid.bool()
    after = torch.cat([values[:, 1:], rollout.last_values[:, None]], dim=1)
    final = after if rollout.bootstrap_values is None else rollout.bootstrap_values
    ended, cut = rollout.terminations.bool(), rollout.truncations.bool()
    advantages = torch.zeros_like(values)
    carry, following = torch.zeros_like(rollout.last_values), rollout.last_values
    for t in range(rollout.num_steps - 1, -1, -1):
        future = torch.where(cut[:, t], final[:, t], following)
        future = torch.where(ended[:, t], 0.0, future)
        kept = torch.where(ended[:, t] | cut[:, t], 0.0, carry)
        delta = rollout.rewards[:, t] + gamma * future - values[:, t]
        carry = torch.where(valid[:, t], delta + gamma * gae_lambda * kept, carry)
        following = torch.where(valid[:, t], values[:, t], following)
        advantages[:, t] = torch.where(valid[:, t], carry, 0.0)
    return advantages, advantages + values


@torch.no_grad()
def doubling_gae(rollout: Rollout, *, gamma: float, gae_lambda: float) -> tuple[Tensor, Tensor]:
    """What `plain_gae` finds, without a loop over time.

    An invalid step hands on what comes after it, so that both recurrences, of the value that
    follows a step and of its advantage, have the form y(t) = x(t) + c(t) * y(t + 1).
    """
    values, valid = rollout.values.float(), rollout.valid.bool()
    last = rollout.last_values.float()
    ended, cut = rollout.terminations.bool(), rollout.truncations.bool()
    next_valid = _accumulate(
        torch.cat([torch.where(valid, values, 0.0), last[:, None]], dim=1),
        torch.cat([(~valid).float(), torch.zeros_like(last)[:, None]], dim=1),
    )
    after = torch.cat([values[:, 1:], last[:, None]], dim=1)
    final = after if rollout.bootstrap_values is None else rollout.bootstrap_values
    future = torch.where(cut, final, next_valid[:, 1:]).masked_fill(ended, 0.0)
    delta = torch.where(valid, rollout.rewards + gamma * future - values, 0.0)
    kept = (gamma * gae_lambda) * (~(ended | cut)).float()
    found = _accumulate(delta, torch.where(valid, kept, 1.0))
    advantages = torch.where(valid, found, 0.0)
    return advantages, advantages + values


def _accumulate(x: Tensor, c: Tensor) -> Tensor:
    """y(t) = x(t) + c(t) * y(t + 1) along rows `[R, T]`, with y(T) = 0."""
    reach, steps = 1, x.shape[1]
    while reach < steps:
        x = torch.cat([x[:, :-reach] + c[:, :-reach] * x[:, reach:], x[:, -reach:]], dim=1)
        c = torch.cat([c[:, :-reach] * c[:, reach:], torch.zeros_like(c[:, -reach:])], dim=1)
        reach *= 2
    return x


def _array(tensor: Tensor, dtype: type[Any]) -> NDArray[Any]:
    array = tensor.detach()
    if array.dtype == torch.bfloat16:
        array = array.float()
    found = array.cpu().numpy()
    if dtype is np.uint8 and found.dtype == np.bool_:
        return np.ascontiguousarray(found).view(np.uint8)
    return np.ascontiguousarray(found, dtype)


def describe_bad_value(rollout: Rollout) -> str:
    """Which reward or value of a valid step is NaN or infinite; waits for a device."""
    for name in ("rewards", "values"):
        bad = ~torch.isfinite(getattr(rollout, name)) & rollout.valid.bool()
        if bool(bad.any()):
            row, step = (int(i) for i in bad.nonzero()[0])
            number = float(getattr(rollout, name)[row, step])
            return f"{name[:-1]} of row {row} at step {step} of the rollout is {number}"
    return "advantages are not finite: a bootstrap value is NaN or infinite"

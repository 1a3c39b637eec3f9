"""Generalised advantage estimation (Schulman et al. 2016) on a Rollout.

Termination cuts the future off, truncation bootstraps from the value of the final observation,
invalid steps are skipped. The loop is compiled; tensors on a GPU make one trip to the CPU and back.
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
        DivergedError: A reward or value of a valid step is NaN or infinite.
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
    device = rollout.rewards.device
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
    rollout.advantages = torch.from_numpy(advantages).to(device)
    rollout.returns = torch.from_numpy(returns).to(device)
    if not np.isfinite(advantages.sum(dtype=np.float64)):
        raise DivergedError(_blame(rollout))


def _array(tensor: Tensor, dtype: type[Any]) -> NDArray[Any]:
    array = tensor.detach()
    if array.dtype == torch.bfloat16:
        array = array.float()
    found = array.cpu().numpy()
    if dtype is np.uint8 and found.dtype == np.bool_:
        return np.ascontiguousarray(found).view(np.uint8)
    return np.ascontiguousarray(found, dtype)


def _blame(rollout: Rollout) -> str:
    for name in ("rewards", "values"):
        bad = ~torch.isfinite(getattr(rollout, name)) & rollout.valid.bool()
        if bool(bad.any()):
            row, step = (int(i) for i in bad.nonzero()[0])
            number = float(getattr(rollout, name)[row, step])
            return f"{name[:-1]} of row {row} at step {step} of the rollout is {number}"
    return "advantages are not finite: a bootstrap value is NaN or infinite"

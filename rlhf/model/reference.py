"""Log-probabilities of given tokens under a model, and the reference that a policy stays near.

The reference is a frozen copy of the policy, or the policy itself with its adapters switched off.
Who is asked, and what is made of the numbers, is PPO's, GRPO's, DPO's and the evaluation's.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import ArrayLike
from playout.errors import DivergedError
from playout.rlhf.model.adapters.held import hold_weights
from playout.rlhf.model.adapters.lora import adapters_off, has_adapters
from playout.rlhf.model.layers.lm_head import token_logprobs
from playout.rlhf.model.sharding import gathered, is_sharded, sharded_copy
from playout.rlhf.model.transformer import Transformer, autocast
from torch import Tensor

__all__ = ["Reference", "must_be_finite", "row_slices", "sequence_logprobs"]


def must_be_finite(logprobs: ArrayLike) -> None:
    """Refuses log-probabilities that are no numbers: whoever compares NaN finds the first best.

    Raises:
        DivergedError: One is NaN or infinite.
    """
    if not np.isfinite(logprobs).all():
        raise DivergedError("the model's logits are NaN or infinite; its weights have diverged")


def sequence_logprobs(
    model: Transformer,
    obs: Tensor,
    actions: Tensor,
    valid: Tensor,
    *,
    temperature: float = 1.0,
    allowed: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities and entropies [r, T] of tokens, 0 where not valid, and hidden states.

    Args:
        model: A decoder.
        obs: int64 [r, T], tokens padded on the right.
        actions: int64 [r, T], the token after each.
        valid: bool [r, T], which of them count; only those meet the vocabulary.
        temperature: Of the distribution.
        allowed: int64 [r, T, K], the tokens among which each was chosen (see `token_logprobs`).
        dtype: Of matrix products.

    Returns:
        Log-probabilities, entropies and the hidden states [N, H] of the N valid places.
    """
    width = valid.shape[1]
    if valid.device.type == "cpu":  # to ask elsewhere is to wait
        # Columns after the last valid one change nothing in a causal model.
        columns = valid.any(0).nonzero()
        width = int(columns[-1]) + 1 if len(columns) else 1
    with autocast(dtype, obs.device):
        hidden = model(obs[:, :width])[valid[:, :width]]
        weight = model.head_weight(hidden.dtype)
        found, spread = token_logprobs(
            hidden,
            weight,
            actions[valid],
            temperature=temperature,
            allowed=None if allowed is None else allowed[valid],
        )
    logprobs = found.new_zeros(valid.shape).index_put((valid,), found)
    entropies = spread.new_zeros(valid.shape).index_put((valid,), spread)
    return logprobs, entropies, hidden


class Reference:
    """What a policy was before it learned: a frozen copy, or itself with its adapters off."""

    def __init__(
        self,
        model: Transformer,
        *,
        dtype: torch.dtype = torch.float32,
        weights: torch.dtype = torch.float32,
    ) -> None:
        """Remember `model` as it is now, a copy's weights in the type `weights`."""
        self.dtype = dtype
        self.own = has_adapters(model)
        self.model = model
        if not self.own and is_sharded(model):
            self.model = sharded_copy(model, weights)
        elif not self.own:
            frozen = copy.deepcopy(model).requires_grad_(False)
            self.model = hold_weights(frozen, weights)

    def off(self) -> AbstractContextManager[None]:
        """Inside, `model` is the reference."""
        return adapters_off(self.model) if self.own else nullcontext()

    def whole(self) -> AbstractContextManager[None]:
        """Inside, every rank asks it without the others; all enter, where it is cut over them."""
        return gathered(self.model)

    @torch.no_grad()
    def logprobs(
        self,
        obs: Tensor,
        actions: Tensor,
        valid: Tensor,
        *,
        temperature: float = 1.0,
        allowed: Tensor | None = None,
        rows: int = 64,
    ) -> Tensor:
        """Log-probabilities [r, T] of tokens, 0 where not valid; `rows` a forward pass."""
        with self.off():
            parts = [
                sequence_logprobs(
                    self.model,
                    obs[part],
                    actions[part],
                    valid[part],
                    temperature=temperature,
                    allowed=None if allowed is None else allowed[part],
                    dtype=self.dtype,
                )[0]
                for part in row_slices(len(obs), rows)
            ]
        return torch.cat(parts)


def row_slices(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows that cover `count` rows."""
    for start in range(0, count, size):
        yield slice(start, start + size)

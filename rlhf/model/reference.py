"""Log-probabilities of given tokens under a model, and the reference that a policy stays near.

The reference is a frozen copy of the policy, or the policy itself with its adapters switched off.
Answers to one prompt are a tree: what they have in common goes through the model once. Who is
asked, and what is made of the numbers, is PPO's, GRPO's, DPO's and the evaluation's.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

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

__all__ = ["Reference", "hidden_states", "must_be_finite", "row_slices", "sequence_logprobs"]


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
    with autocast(dtype, obs.device):
        hidden = hidden_states(model, obs, valid)
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


def hidden_states(model: Transformer, obs: Tensor, valid: Tensor) -> Tensor:
    """Hidden states [N, H] at the N valid places, row by row, as a pass over all rows gives them.

    On a processor, rows that begin alike up to their first valid place are computed as one, if that
    saves a quarter of the tokens.

    Args:
        model: A decoder.
        obs: int64 [r, T], tokens padded on the right.
        valid: bool [r, T].
    """
    if valid.device.type != "cpu":  # to ask there which rows are alike is to wait
        return model(obs)[valid]  # type: ignore[no-any-return]
    # Columns after the last valid one change nothing in a causal model.
    columns = valid.any(0).nonzero()
    width = int(columns[-1]) + 1 if len(columns) else 1
    obs, valid = obs[:, :width], valid[:, :width]
    config = model.config
    # A window is counted in places of a row, which are not those of a tree.
    windowed = any(config.window_of(layer) for layer in range(config.num_hidden_layers))
    trees = None if windowed else _trees(obs, valid, config.max_position_embeddings)
    if trees is None:
        return model(obs)[valid]  # type: ignore[no-any-return]
    hidden = model(trees.ids, positions=trees.positions, mask=trees.mask)
    return hidden.flatten(0, 1)[trees.places]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class _Trees:
    """Rows of tokens in which a token sees those before it in its own text alone."""

    ids: Tensor
    """int64 [G, L]."""
    positions: Tensor
    """int64 [G, L], of each token in its text."""
    mask: Tensor
    """bool [G, 1, L, L]."""
    places: Tensor
    """int64 [N]: where in the flat ids each valid place is, row by row."""


def _trees(obs: Tensor, valid: Tensor, context: int) -> _Trees | None:
    """The rows as trees; None where that spares less than a quarter of their tokens.

    Texts that agree up to their first valid place share a tree, and within it whatever they have in
    common. Attention costs a tree's length squared, so a large one is split.
    """
    ids, counted = obs.numpy(), valid.numpy()
    rows, width = ids.shape
    first = counted.argmax(1)
    longest = min(context, max(2 * width, 256))
    alike: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(counted.any(1)).tolist():
        alike.setdefault(ids[row, : first[row] + 1].tobytes(), []).append(row)
    if not alike or 2 * len(alike) > rows + 1:  # few have another to share with
        return None
    where = np.zeros((rows, width), np.int64)
    trees: list[tuple[list[int], list[int]]] = []  # tokens, and which token each comes after
    for members in alike.values():
        tokens: list[int] = []
        parents: list[int] = []
        children: dict[tuple[int, int], int] = {}
        for row in members:
            stop = width - int(counted[row, ::-1].argmax())
            if not tokens or len(tokens) + stop - first[row] - 1 > longest:
                tokens, parents, children = [], [], {}
                trees.append((tokens, parents))
            at = -1
            for place, token in enumerate(ids[row, :stop].tolist()):
                child = children.get((at, token))
                if child is None:
                    child = children[at, token] = len(tokens)
                    tokens.append(token)
                    parents.append(at)
                at = child
                where[row, place] = (len(trees) - 1) * longest + at
    length = max(len(tokens) for tokens, _ in trees)
    if 4 * len(trees) * length > 3 * rows * width:
        return None
    packed, depth = np.zeros((2, len(trees), length), np.int64)
    seen = np.zeros((len(trees), length, length), bool)
    seen[:] = np.eye(length, dtype=bool)  # padding sees itself
    for number, (tokens, parents) in enumerate(trees):
        packed[number, : len(tokens)] = tokens
        for at, parent in enumerate(parents):
            if parent >= 0:
                seen[number, at] |= seen[number, parent]
                depth[number, at] = depth[number, parent] + 1
    tree, place = np.divmod(where[counted], longest)
    return _Trees(
        torch.from_numpy(packed),
        torch.from_numpy(depth),
        torch.from_numpy(seen)[:, None],
        torch.from_numpy(tree * length + place),
    )


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

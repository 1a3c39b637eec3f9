"""What experts make of their tokens: products on rows that are sorted by expert.

No token is dropped: every pair of token and expert has a row, an expert's rows are consecutive, and
empty rows stand between them only where fewer sizes of products are quicker (`_rooms`). The whole
is one node of the graph, and rows go to the experts and back in compiled code.
"""

from itertools import accumulate, pairwise
from typing import Any

import torch
from playout.rlhf.model.experts import _experts as compiled
from playout.rlhf.model.layers.elementwise import (
    addresses,
    is_plain,
    row_threads,
    swiglu,
    swiglu_back,
)
from torch import Tensor
from torch.autograd import Function

__all__ = ["mix"]

# In the time of another product, a processor does so many multiplications in bfloat16.
ALONE = 1 << 23


def _places(chosen: Tensor, sizes: list[int], starts: list[int]) -> Tensor:
    """The row of each pair of token and expert, int64 [N, k]; an expert's are consecutive.

    Args:
        chosen: int64 [N, k].
        sizes: How many pairs each expert has.
        starts: The first row of each.
    """
    flat = chosen.flatten()
    if chosen.device.type == "cpu" and not torch.compiler.is_compiling():
        places, following = torch.empty_like(flat), torch.tensor(starts)
        compiled.places(addresses(flat, following, places), len(flat))
        return places.view_as(chosen)
    order = flat.argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    before = [start - sum(sizes[:number]) for number, start in enumerate(starts)]
    if any(before):
        places += torch.tensor(before, device=order.device)[flat]
    return places.view_as(chosen)


def _rooms(sizes: list[int], x: Tensor, numbers: int) -> list[int]:
    """How many rows each expert is given: some more than it needs where products want it.

    oneDNN compiles a product in bfloat16 for its shape, which takes longer than dozens of such
    products do: few sizes between a number and its double are met again soon. Experts of equal
    room are one product, and a product by itself costs as much as `ALONE` multiplications.

    Args:
        sizes: The rows that it needs.
        x: What is multiplied.
        numbers: Of one expert's largest map.
    """
    if x.device.type != "cpu" or x.dtype != torch.bfloat16:
        return sizes
    rooms, equal = [_rounded(size, 8) for size in sizes], _rounded(max(sizes), 16)
    more = equal * len(rooms) - sum(rooms)
    return [equal] * len(rooms) if more * numbers < len(rooms) * ALONE else rooms


def _rounded(size: int, steps: int) -> int:
    """Up to a multiple of 16, and to one of so many numbers between a power of 2 and the next."""
    step = max(16, (1 << size.bit_length()) // (2 * steps))
    return -(-size // step) * step


def _spread(x: Tensor, places: Tensor, rows: int) -> Tensor:
    """Tokens [N, H] on the rows of their pairs, [rows, H]; what no pair has is 0."""
    count = places.shape[1]
    out = (x.new_empty if rows == places.numel() else x.new_zeros)(rows, x.shape[1])
    if is_plain(x):
        return out.index_copy_(0, places.flatten(), x.repeat_interleave(count, 0))
    x = x.contiguous()
    kind = count, x.shape[1], x.dtype == torch.bfloat16
    threads = row_threads(len(x), count * x.shape[1])
    compiled.spread(addresses(x, places, out), kind, len(x), threads)
    return out


def _collect(rows: Tensor, places: Tensor, weights: Tensor | None = None) -> Tensor:
    """The sum [N, H] of each token's rows, times their weights [N, k] if there are any."""
    count, width = places.shape[1], rows.shape[1]
    if is_plain(rows):
        found = rows.index_select(0, places.flatten())
        if weights is not None:
            found = found * weights.to(found.dtype).flatten()[:, None]
        return found.unflatten(0, (-1, count)).sum(1)
    out = rows.new_empty(len(places), width)
    where = addresses(rows, weights, places, out)
    kind, tokens = (count, width, rows.dtype == torch.bfloat16), len(places)
    compiled.collect(where, kind, tokens, row_threads(tokens, count * width))
    return out


def _collect_back(
    grad: Tensor, rows: Tensor, places: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of rows [P, H] and weights [N, k] from that of what `_collect` gave, [N, H]."""
    count, width = places.shape[1], rows.shape[1]
    by_rows = (rows.new_empty if len(rows) == places.numel() else rows.new_zeros)(rows.shape)
    if is_plain(grad, rows):
        given, flat = grad.repeat_interleave(count, 0), places.flatten()
        own = rows.index_select(0, flat)
        by_rows.index_copy_(0, flat, given * weights.to(given.dtype).flatten()[:, None])
        return by_rows, (given * own).sum(1).view_as(weights).to(weights.dtype)
    by_weights, grad = torch.empty_like(weights), grad.contiguous()
    where = addresses(grad, rows, weights, places, by_rows, by_weights)
    kind, tokens = (count, width, rows.dtype == torch.bfloat16), len(places)
    compiled.collect_back(where, kind, tokens, row_threads(tokens, 2 * count * width))
    return by_rows, by_weights


Parts = list[tuple[slice, slice]]
"""Rows and experts of a product, as many rows for each of its experts."""


def _parts(rooms: list[int]) -> Parts:
    """One product of all where they have equal room, else one of each that has any."""
    if len(set(rooms)) == 1:
        return [(slice(0, sum(rooms)), slice(0, len(rooms)))]
    bounds = enumerate(pairwise([0, *accumulate(rooms)]))
    return [(slice(*of), slice(one, one + 1)) for one, of in bounds if of[0] < of[1]]


def _of(x: Tensor, rows: slice, experts: int) -> Tensor:
    return x[rows].view(experts, -1, x.shape[1])


def _products(rows: Tensor, maps: Tensor, parts: Parts) -> Tensor:
    """Rows [P, in], each by its own expert's map of [E, out, in]: [P, out]."""
    out = rows.new_empty(len(rows), maps.shape[1])
    for own, experts in parts:
        some = maps[experts]
        count = len(some)
        torch.bmm(_of(rows, own, count), some.transpose(1, 2), out=_of(out, own, count))
    return out


def _products_back(
    grad: Tensor, rows: Tensor, maps: Tensor, parts: Parts, *, learned: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of rows and, where they are learned, of the maps, from that of the products."""
    by_rows, by_maps = torch.empty_like(rows), None
    if learned:
        used = sum(experts.stop - experts.start for _, experts in parts)
        by_maps = (torch.empty_like if used == len(maps) else torch.zeros_like)(maps)
    for own, experts in parts:
        some = maps[experts]
        given = _of(grad, own, len(some))
        torch.bmm(given, some, out=_of(by_rows, own, len(some)))
        if by_maps is not None:
            left, right = given.transpose(1, 2), _of(rows, own, len(some))
            torch.bmm(left, right, out=by_maps[experts])
    return by_rows, by_maps


class _Mix(Function):
    """All experts of a layer as one node of the graph, on rows sorted by expert."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor, down: Tensor
    ) -> Tensor:
        sizes = torch.bincount(chosen.flatten(), minlength=len(gate_up)).tolist()
        rooms = _rooms(sizes, x, gate_up[0].numel())
        ctx.parts = parts = _parts(rooms)
        places = _places(chosen, sizes, [0, *accumulate(rooms[:-1])])
        rows = _spread(x, places, sum(rooms))
        inner = _products(rows, gate_up, parts)
        acted = swiglu(inner)
        made = _products(acted, down, parts)
        ctx.save_for_backward(places, rows, inner, acted, made, weights, gate_up, down)
        return _collect(made, places, weights)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        places, rows, inner, acted, made, weights, gate_up, down = ctx.saved_tensors
        *_, first, second = ctx.needs_input_grad
        by_made, by_weights = _collect_back(grad, made, places, weights)
        by_acted, by_down = _products_back(by_made, acted, down, ctx.parts, learned=second)
        by_inner = swiglu_back(by_acted, inner)
        by_rows, by_gate_up = _products_back(by_inner, rows, gate_up, ctx.parts, learned=first)
        return _collect(by_rows, places), by_weights, None, by_gate_up, by_down


def mix(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """What the chosen experts make of each token, weighed and added.

    Args:
        x: [N, H].
        weights: float32 [N, k].
        chosen: int64 [N, k].
        gate_up: [E, 2 * I, H] in the type of `x`.
        down: [E, H, I] likewise.

    Returns:
        [N, H] in the type of `x`.
    """
    if chosen.numel() > len(gate_up) or torch.is_grad_enabled():
        if not is_plain(x):
            weights = weights.float().contiguous()
        return _Mix.apply(x, weights, chosen, gate_up, down)  # type: ignore[no-untyped-call, no-any-return]
    # A few tokens: the weights are brought to them, and nobody asks who goes where.
    count, flat = chosen.shape[1], chosen.flatten()
    rows = x.repeat_interleave(count, 0)[:, :, None]
    inner = swiglu(torch.bmm(gate_up.index_select(0, flat), rows)[:, :, 0])
    out = torch.bmm(down.index_select(0, flat), inner[:, :, None])[:, :, 0]
    shares = weights.to(out.dtype).flatten()[:, None]
    return (out * shares).unflatten(0, (-1, count)).sum(1)

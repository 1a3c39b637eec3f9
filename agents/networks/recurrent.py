"""Recurrent cores: LSTM and GRU over rows with resets anywhere.

On the CPU an LSTM runs through _lstm.pyx, which resets where episodes start; other sizes and a GRU
cut a row at its episode starts into segments: the first one continues from the row's stored state,
the others start from zero, and all segments of a minibatch run together as one packed sequence.
That gives the numbers of stepping through time with resets, in one fused call. It needs the
lengths of episodes on the CPU: a device steps through time instead, and waits for nothing.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from playout.agents.kernels.lstm import _lstm
from playout.agents.kernels.processor import fuses_multiply_add
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence


@dataclass(slots=True)
class Segments:
    """Where the pieces of `R` rows of `T` steps lie in packed order.

    Attributes:
        order: Flat index (row * T + t) of each packed element, `[R * T]`.
        back: Inverse of `order`, `[R * T]`.
        batch_sizes: Number of segments still running at each time, on the CPU, `[longest]`.
        rows: Row of each segment, longest first, `[S]`.
        fresh: The segment starts an episode and so from zero, bool `[S]`.
    """

    order: Tensor
    back: Tensor
    batch_sizes: Tensor
    rows: Tensor
    fresh: Tensor


def segments(episode_starts: Tensor) -> Segments:
    """Cut rows at their episode starts; `episode_starts` is bool `[R, T]`."""
    rows, steps = episode_starts.shape
    device = episode_starts.device
    heads = episode_starts.clone()
    heads[:, 0] = True
    begin = heads.reshape(-1).nonzero().squeeze(1)
    length = torch.diff(begin, append=torch.tensor([rows * steps], device=device))
    length, index = length.sort(descending=True, stable=True)
    begin = begin[index]
    longest = int(length[0])
    time = torch.arange(longest, device=device)
    running = time[:, None] < length[None, :]
    order = (begin[None, :] + time[:, None])[running]
    back = torch.empty_like(order)
    back[order] = torch.arange(rows * steps, device=device)
    return Segments(
        order=order,
        back=back,
        batch_sizes=running.sum(1).cpu(),
        rows=begin // steps,
        fresh=episode_starts.reshape(-1)[begin],
    )


class Core(nn.Module):
    """One recurrent layer; state `(h,)` for a GRU, `(h, c)` for an LSTM, each `[R, size]`."""

    def __init__(self, kind: Literal["lstm", "gru"], num_inputs: int, size: int) -> None:
        super().__init__()
        if kind not in ("lstm", "gru"):
            raise ConfigError(f'recurrent must be "none", "lstm" or "gru", not {kind!r}')
        self.kind = kind
        self.size = self.num_features = size
        layer = nn.LSTM if kind == "lstm" else nn.GRU
        self.layer: Any = layer(num_inputs, size)
        self.num_states = 2 if kind == "lstm" else 1
        for name, parameter in self.layer.named_parameters():
            if "weight" in name:
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def initial_state(self, num_rows: int) -> tuple[Tensor, ...]:
        """Zeros."""
        weight: Tensor = self.layer.weight_hh_l0
        return tuple(weight.new_zeros(num_rows, self.size) for _ in range(self.num_states))

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step of `[N, num_inputs]`: features `[N, size]` and the next state."""
        layer = self.layer
        if x.device.type not in ("cpu", "cuda"):  # others lack the fused cell
            gates = functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0)
            following = self._cell(gates, state)
            return following[0], following
        weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
        if self.kind == "lstm":
            h, c = torch.lstm_cell(x, list(state), *weights)
            return h, (h, c)
        h = torch.gru_cell(x, state[0], *weights)
        return h, (h,)

    def _cell(self, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The next state from the inputs' share of the gates, `[N, 3 or 4 size]`."""
        layer = self.layer
        own = functional.linear(state[0], layer.weight_hh_l0, layer.bias_hh_l0)
        if self.kind == "lstm":
            i, f, g, o = (gates + own).chunk(4, dim=-1)
            c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c
        (r, z, n), (own_r, own_z, own_n) = gates.chunk(3, dim=-1), own.chunk(3, dim=-1)
        keep = (z + own_z).sigmoid()
        fresh = (n + (r + own_r).sigmoid() * own_n).tanh()
        return (fresh + keep * (state[0] - fresh),)

    def forward(self, x: Tensor, state: tuple[Tensor, ...], starts: Tensor) -> Tensor:
        """All steps of `[R * T, num_inputs]` with resets at episode starts, `[R * T, size]`.

        Args:
            x: Inputs, row by row.
            state: State before the first step of each row, each `[R, size]`.
            starts: Steps that begin an episode, bool `[R, T]`.
        """
        if self.compiled(x):
            layer = self.layer
            bias = layer.bias_ih_l0 + layer.bias_hh_l0
            gates = functional.linear(x, layer.weight_ih_l0, bias).view(*starts.shape, -1)
            found: Tensor = _Recurrence.apply(gates, layer.weight_hh_l0, *state, starts)
            return found.flatten(0, 1)
        if x.device.type != "cpu":
            return self.by_steps(x, state, starts)
        return self._packed(x, state, segments(starts))

    def by_steps(self, x: Tensor, state: tuple[Tensor, ...], starts: Tensor) -> Tensor:
        """`forward` as a loop over time, which needs nothing of a device on the CPU."""
        layer = self.layer
        gates = functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0)
        gates = gates.view(*starts.shape, -1)
        keep = (~starts).to(x.dtype).unsqueeze(-1)
        found = []
        for t in range(starts.shape[1]):
            state = self._cell(gates[:, t], tuple(part * keep[:, t] for part in state))
            found.append(state[0])
        return torch.stack(found, dim=1).flatten(0, 1)

    def compiled(self, x: Tensor) -> bool:
        """Whether the recurrence has its compiled form: an LSTM of 32 n units on the CPU."""
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and fuses_multiply_add()
        return plain and self.kind == "lstm" and self.size % 32 == 0

    def _packed(self, x: Tensor, state: tuple[Tensor, ...], cut: Segments) -> Tensor:
        alive = (~cut.fresh).unsqueeze(1).to(x.dtype)
        begin = tuple((part[cut.rows] * alive).unsqueeze(0) for part in state)
        packed = PackedSequence(x[cut.order], cut.batch_sizes)
        output, _ = self.layer(packed, begin if self.kind == "lstm" else begin[0])
        features: Tensor = output.data[cut.back]
        return features


class _Recurrence(torch.autograd.Function):
    """h of every step `[R, T, H]` from the inputs' share of the gates `[R, T, 4H]`."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, starts: Tensor
    ) -> Tensor:
        """Run over time; keep what the backward pass needs."""
        rows, steps, wide = gates.shape
        activated = gates.detach().clone(memory_format=torch.contiguous_format)
        h, c, before = (torch.empty(rows, steps, wide // 4) for _ in range(3))
        flags = starts.contiguous().view(torch.uint8)
        first, cell = (x.detach().contiguous() for x in (h0, c0))
        _lstm.forward(
            activated.numpy(),
            weight.detach().contiguous().numpy(),
            first.numpy(),
            cell.numpy(),
            flags.numpy(),
            h.numpy(),
            c.numpy(),
            before.numpy(),
        )
        ctx.save_for_backward(activated, weight, cell, flags, c, before)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of the gates' inputs and of the recurrent weight; states get none."""
        activated, weight, cell, flags, c, before = ctx.saved_tensors
        found = torch.empty_like(activated)
        _lstm.backward(
            grads[0].contiguous().numpy(),
            activated.numpy(),
            weight.detach().contiguous().numpy(),
            cell.numpy(),
            flags.numpy(),
            c.numpy(),
            found.numpy(),
        )
        weight_grad = found.flatten(0, 1).t() @ before.flatten(0, 1)
        return found, weight_grad, None, None, None

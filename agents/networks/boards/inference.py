"""How the inference copy of a network answers on a device: NumPy boards in, NumPy answers out.

Rows are padded to a few fixed shapes, so that prepared kernels are reused. On a processor a pass is
recorded as one operation; on a card each shape is a CUDA graph, captured at construction and fed
through pinned memory; any other device gets plain calls. Off the processor a batch crosses once
each way: logits, values and whether all are finite come back as one tensor. A pass belongs to one
thread, `RecordedPass` to any number. Left out: which rows make a batch (alphazero/evaluator.py).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.networks.boards.network import BoardNetworkConfig, InferenceNetwork
from playout.agents.runs.devices import to_device
from torch import Tensor, nn

Float32 = npt.NDArray[np.float32]
Answers = tuple[Float32, Float32, bool]
"""Logits [M, A], values [M] (or [M, P]), and whether all of them are finite."""

MIN_ROWS = 16
LAYOUT = torch.channels_last
_capturing = threading.Lock()  # two captures at once spoil each other


class Pass(Protocol):
    """Answers for batches of at most the rows that it was made for."""

    def __call__(self, parts: Sequence[Float32]) -> list[Answers]:
        """Answers for each of some batches float32 [M, C, H, W]; they belong to the caller."""


def make_pass(
    net: InferenceNetwork,
    config: BoardNetworkConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    max_rows: int,
) -> Pass:
    """The pass for a device.

    Args:
        net: an inference copy in that dtype on that device; it may be refreshed in place later.
        config: of the network.
        dtype: of its inputs.
        device: where it answers.
        max_rows: rows of the largest batch.
    """
    if device.type == "cpu":
        return RecordedPass(net, config, dtype)
    if device.type == "cuda":
        return GraphPass(net, config, dtype=dtype, device=device, max_rows=max_rows)
    return DevicePass(net, config, dtype=dtype, device=device)


def padded_rows(rows: int, *, processor: bool) -> int:
    """Rows with padding: a power of two; from 16 on, multiples of 16 or halves between powers."""
    power = 1 << (rows - 1).bit_length()
    if processor:
        return power if rows <= MIN_ROWS else -(-rows // MIN_ROWS) * MIN_ROWS
    return max(MIN_ROWS, power * 3 // 4 if rows <= power * 3 // 4 else power)


class _CheckedNetwork(nn.Module):
    """Observations as NumPy has them in, logits, values, and whether all of them are finite."""

    def __init__(self, net: InferenceNetwork, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float32 [M, C, H, W] to float32 [M, A], float32 [M] (or [M, P]) and a truth value."""
        logits, values = self.net(obs.to(self.dtype, memory_format=LAYOUT))
        # What reads them takes rows that lie together: a network may answer with parts of a table.
        logits, values = logits.contiguous(), values.contiguous()
        return logits, values, torch.isfinite(logits.sum() + values.sum())


CheckedAnswer = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def traced(
    net: InferenceNetwork, obs_shape: tuple[int, int, int], dtype: torch.dtype
) -> CheckedAnswer:
    """The network as one operation, whose weights are still those of `net`.

    Called from Python, a pass takes and releases the GIL at each of its operations, and two groups
    of trees on two threads wait for each other: a third of the time. Recorded, it does so once. A
    network that answers otherwise once it is recorded, since it branches on its input, is called
    from Python.
    """
    plain = _CheckedNetwork(net, dtype)
    with warnings.catch_warnings(), torch.inference_mode():
        # torch calls recording deprecated, in newer versions aloud, and offers nothing like it yet.
        # What it warns of besides, branches on the input, is tried below.
        warnings.simplefilter("ignore")
        try:
            example = torch.zeros((MIN_ROWS, *obs_shape))
            recorded = torch.jit.trace(plain, example, check_trace=False)
            same = all(_agree(plain, recorded, rows, obs_shape) for rows in (1, 3 * MIN_ROWS))
        except RuntimeError:
            same = False
    return cast(CheckedAnswer, recorded) if same else plain


def _agree(
    one: CheckedAnswer, other: CheckedAnswer, rows: int, obs_shape: tuple[int, int, int]
) -> bool:
    """Whether both answer made-up boards alike, up to rounding."""
    boards = (torch.arange(rows * obs_shape[0] * obs_shape[1] * obs_shape[2]) % 7 < 2).float()
    boards = boards.view(rows, *obs_shape)
    pairs = zip(one(boards)[:2], other(boards)[:2], strict=True)
    return all(torch.allclose(a, b, rtol=0.02, atol=0.02, equal_nan=True) for a, b in pairs)


class RecordedPass:
    """Answers on a processor; each thread has input buffers of its own."""

    def __init__(
        self, net: InferenceNetwork, config: BoardNetworkConfig, dtype: torch.dtype
    ) -> None:
        self.obs_shape = config.obs_shape
        self._answer = traced(net, config.obs_shape, dtype)
        self._local = threading.local()

    def __call__(self, parts: Sequence[Float32]) -> list[Answers]:
        """Answers for each of some batches."""
        return [self._one(part) for part in parts]

    def _one(self, obs: Float32) -> Answers:
        size, rows = len(obs), padded_rows(len(obs), processor=True)
        inputs: dict[int, tuple[Float32, Tensor]] = self._local.__dict__.setdefault("inputs", {})
        if rows not in inputs:
            empty = np.zeros((rows, *self.obs_shape), np.float32)
            inputs[rows] = empty, torch.from_numpy(empty)
        buffer, seen = inputs[rows]
        buffer[:size] = obs  # rows beyond keep old boards: finite, and of no influence
        with torch.inference_mode():
            logits, values, finite = self._answer(seen)
        return logits.numpy()[:size], values.numpy()[:size], bool(finite.numpy())


class _Packed:
    """Logits, values and their check as one flat tensor, and back again on the host."""

    def __init__(self, config: BoardNetworkConfig) -> None:
        self.num_actions, self.num_values = config.num_actions, config.num_values

    def size(self, rows: int) -> int:
        """Numbers of so many rows."""
        return rows * (self.num_actions + self.num_values) + 1

    def pack(self, logits: Tensor, values: Tensor) -> Tensor:
        """Float32, on the device."""
        finite = torch.isfinite(logits.sum() + values.sum()).float()
        return torch.cat([logits.reshape(-1), values.reshape(-1), finite.reshape(1)])

    def unpack(self, flat: Float32, rows: int, size: int) -> Answers:
        """The first `size` of `rows` rows, as views."""
        cut = rows * self.num_actions
        logits = flat[:cut].reshape(rows, self.num_actions)[:size]
        values = flat[cut:-1].reshape(rows, self.num_values)[:size]
        return logits, values[:, 0] if self.num_values == 1 else values, bool(flat[-1])


class DevicePass:
    """Answers on any device by plain calls."""

    def __init__(
        self,
        net: InferenceNetwork,
        config: BoardNetworkConfig,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.net, self.dtype, self.device = net, dtype, device
        self.obs_shape, self._packed = config.obs_shape, _Packed(config)

    def __call__(self, parts: Sequence[Float32]) -> list[Answers]:
        """Answers for each of some batches: one copy in and one out for each."""
        return [self._one(part) for part in parts]

    @torch.no_grad()
    def _one(self, obs: Float32) -> Answers:
        size, rows = len(obs), padded_rows(len(obs), processor=False)
        boards = torch.zeros((rows, *self.obs_shape), dtype=self.dtype)
        boards[:size] = torch.from_numpy(obs)
        logits, values = self.net(to_device(boards, self.device).contiguous(memory_format=LAYOUT))
        flat = self._packed.pack(logits, values).cpu().numpy()
        return self._packed.unpack(flat, rows, size)


class GraphPass:
    """Answers on a card by CUDA graphs, one for each padded number of rows.

    All of them are captured here, one after the other, whatever threads there are. Two batches are
    under way at once: while one is answered, the next one is written into the other pinned buffer.
    """

    def __init__(
        self,
        net: InferenceNetwork,
        config: BoardNetworkConfig,
        *,
        dtype: torch.dtype,
        device: torch.device,
        max_rows: int,
    ) -> None:
        self.obs_shape, self._packed = config.obs_shape, _Packed(config)
        sizes = sorted({padded_rows(rows, processor=False) for rows in range(1, max_rows + 1)})
        shape = (sizes[-1], *self.obs_shape)
        self._staging = [torch.zeros(shape, dtype=dtype, pin_memory=True) for _ in range(2)]
        self._input = torch.zeros(shape, dtype=dtype, device=device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        with _capturing, torch.cuda.device(device), torch.inference_mode():
            self._stream = torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())
            memory = torch.cuda.graph_pool_handle()
            for rows in reversed(sizes):  # the largest first: the others fit into its memory
                with torch.cuda.stream(self._stream):
                    for _ in range(2):  # kernels are chosen before the capture
                        self._forward(net, rows)
                self._stream.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(
                    graph,
                    pool=memory,
                    stream=self._stream,
                    capture_error_mode="thread_local",
                ):
                    answers = self._forward(net, rows)
                self._graphs[rows] = graph, answers

    def _forward(self, net: InferenceNetwork, rows: int) -> Tensor:
        obs = self._input[:rows].contiguous(memory_format=LAYOUT)
        return self._packed.pack(*net(obs))

    def __call__(self, parts: Sequence[Float32]) -> list[Answers]:
        """Answers for each of some batches, in order."""
        found: list[Answers] = []
        waiting: list[tuple[torch.cuda.Event, Tensor, int, int]] = []
        self._stream.wait_stream(torch.cuda.current_stream(self._input.device))  # for new weights
        with torch.cuda.stream(self._stream), torch.inference_mode():
            for number, part in enumerate(parts):
                if len(waiting) == len(self._staging):
                    found.append(self._finish(*waiting.pop(0)))
                waiting.append(self._begin(part, self._staging[number % len(self._staging)]))
            found += [self._finish(*one) for one in waiting]
        return found

    def _begin(self, obs: Float32, staging: Tensor) -> tuple[torch.cuda.Event, Tensor, int, int]:
        size, rows = len(obs), padded_rows(len(obs), processor=False)
        staging[:size].copy_(torch.from_numpy(obs))  # in the network's dtype: half the bytes
        self._input[:size].copy_(staging[:size], non_blocking=True)
        graph, answers = self._graphs[rows]
        graph.replay()
        # Pinned memory of its own, which torch keeps for the next call when the caller is done.
        host = torch.empty(self._packed.size(rows), pin_memory=True)
        host.copy_(answers, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return done, host, rows, size

    def _finish(self, done: torch.cuda.Event, host: Tensor, rows: int, size: int) -> Answers:
        done.synchronize()
        return self._packed.unpack(host.numpy(), rows, size)

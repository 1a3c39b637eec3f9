"""A network as the evaluator of a search: NumPy leaves in, NumPy logits and values out.

Batches are cut into chunks that stay in the processor's cache and padded to a few fixed shapes, so
that a row's answer does not depend on the rows beside it, and prepared kernels are reused. bfloat16
is used where the processor multiplies it natively, float32 elsewhere; on a GPU each shape is one
CUDA graph fed through pinned memory. One evaluator belongs to one thread: two threads with an
evaluator each are faster on two cores than one with two, and need no barriers. `SymmetricEvaluator`
averages over a game's symmetries. Left out: answers that need no network (proofs.py).
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.networks.boards.network import BoardNetwork, InferenceNetwork, tuning_of
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, DivergedError
from playout.mcts.evaluators import Evaluator, LeafBatch
from torch import Tensor, nn

Float32 = npt.NDArray[np.float32]

# Elements of an activation that a chunk may have: two of them and the weights fit into an L2 cache.
CPU_CHUNK_ELEMENTS = 1 << 18
GPU_CHUNK_ROWS = 4096
MAX_SYMMETRIES = 8  # more are not worth their evaluations
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_dtype(device: str = "cpu") -> str:
    """The fastest safe dtype by what the processor says of itself; a clock would not repeat."""
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    for feature in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        supported = getattr(torch.cpu, feature, None)
        if supported is not None and supported():
            return "bfloat16"
    return "float32"


def choose_device() -> str:
    """A GPU if there is one, else the processor."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch on the calling thread: small networks lose more by waiting than they gain."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cpu_chunk_rows(net: BoardNetwork) -> int:
    """Rows whose activations stay in the cache: a power of two from 16 to 128."""
    _, height, width = net.config.obs_shape
    rows = CPU_CHUNK_ELEMENTS // (tuning_of(net).activation_size or 64 * height * width)
    return 1 << min(max(rows.bit_length(), 4), 7)


class _CheckedNetwork(nn.Module):
    """Observations as NumPy has them in, logits, values, and whether all of them are finite."""

    def __init__(self, net: InferenceNetwork, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float32 [M, C, H, W] to float32 [M, A], float32 [M] (or [M, P]) and a truth value."""
        logits, values = self.net(obs.to(self.dtype, memory_format=torch.channels_last))
        return logits, values, torch.isfinite(logits.sum() + values.sum())


CheckedAnswer = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def traced(
    net: InferenceNetwork, obs_shape: tuple[int, int, int], dtype: torch.dtype
) -> CheckedAnswer:
    """The network as one operation, whose weights are still those of `net`.

    Called from Python, a pass takes and releases the GIL at each of its operations, and two groups
    of trees on two threads wait for each other: a third of the time. Recorded, it does so once.
    """
    example = torch.zeros((16, *obs_shape))
    with warnings.catch_warnings(), torch.inference_mode():
        # torch calls recording deprecated, in newer versions aloud, and offers nothing like it yet.
        for kind in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        recorded = torch.jit.trace(_CheckedNetwork(net, dtype), example, check_trace=False)
    return cast(CheckedAnswer, recorded)


class NetworkEvaluator(Evaluator):
    """Evaluates leaves with an inference copy of a network.

    Args:
        net: the network; it is copied, and `refresh` copies newer weights.
        device: "cpu" or "cuda"; by default a GPU if there is one.
        dtype: "float32", "bfloat16", "float16" or "auto".
        chunk: rows a pass, a power of two; by default what fits the cache or fills a GPU.
        threads: threads that share the chunks of a large batch on a processor; 1 in self-play.
    """

    def __init__(
        self,
        net: BoardNetwork,
        *,
        device: str | None = None,
        dtype: str = "auto",
        chunk: int | None = None,
        threads: int = 1,
    ) -> None:
        self.device = choose_device() if device is None else device
        self.dtype = choose_dtype(self.device) if dtype == "auto" else dtype
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype {dtype!r} is unknown: use auto, {', '.join(DTYPES)}")
        cuda = self.device.startswith("cuda")
        self.chunk = chunk or (GPU_CHUNK_ROWS if cuda else cpu_chunk_rows(net))
        if self.chunk < 1 or self.chunk & (self.chunk - 1):
            raise ConfigError(f"chunk must be a power of two, not {self.chunk}")
        self.config, self.threads = net.config, threads
        self.num_evaluations = 0
        self._net = net.inference_copy(dtype=DTYPES[self.dtype], device=torch.device(self.device))
        self._local = threading.local()  # each thread has input buffers of its own
        self._pool: ThreadPoolExecutor | None = None
        if threads > 1 and not cuda:
            self._pool = ThreadPoolExecutor(threads, "evaluator", torch.set_num_threads, (1,))
        self._traced: CheckedAnswer | None = None
        if not cuda:
            self._traced = traced(self._net, net.config.obs_shape, DTYPES[self.dtype])
        self._graphs: dict[int, _Graph] = {}
        self._run = self._run_graph if cuda else self._run_cpu

    def refresh(self, net: BoardNetwork) -> None:
        """Takes over the weights of `net`, which must have the same shape."""
        if net.config != self.config:
            raise ConfigError("this evaluator was made for a network of another shape")
        self._net.refresh(net)

    def evaluate(self, leaves: LeafBatch) -> tuple[Float32, Float32]:
        """Logits [M, A] and values [M] (or [M, P]) of the leaves."""
        if leaves.obs is None:
            raise ValueError("a network needs observations: ask(observe=True)")
        return self.evaluate_obs(leaves.obs[: leaves.size])

    def evaluate_obs(self, obs: Float32) -> tuple[Float32, Float32]:
        """Logits [M, A] and values [M] (or [M, P]) of observations [M, C, H, W]."""
        if obs.ndim != 4 or obs.shape[1:] != self.config.obs_shape:
            raise ValueError(
                f"observations are {obs.shape}, the network takes [M, *{self.config.obs_shape}]"
            )
        obs = np.ascontiguousarray(obs, np.float32)
        size = len(obs)
        parts = [obs[start : start + self.chunk] for start in range(0, size, self.chunk)]
        if self._pool is not None and len(parts) > 1:
            found = list(self._pool.map(self._run, parts))
        else:
            with one_thread():
                found = [self._run(part) for part in parts]
        self.num_evaluations += size
        if not all(finite for _, _, finite in found):
            raise DivergedError(
                "the network answers NaN or infinity: lower the learning rate, go back a checkpoint"
            )
        if len(found) == 1:
            return found[0][:2]
        if not found:
            shape = (0,) if self.config.num_values == 1 else (0, self.config.num_values)
            return np.empty((0, self.config.num_actions), np.float32), np.empty(shape, np.float32)
        return np.concatenate([part[0] for part in found]), np.concatenate([p[1] for p in found])

    def _padded(self, rows: int) -> int:
        """The padded number of rows: a power of two, or a multiple of 16 on a processor."""
        if rows > 16 and not self.device.startswith("cuda"):
            return -(-rows // 16) * 16
        return 1 << (rows - 1).bit_length()

    def _run_cpu(self, obs: Float32) -> tuple[Float32, Float32, bool]:
        size, rows = len(obs), self._padded(len(obs))
        inputs: dict[int, tuple[Float32, Tensor]] = self._local.__dict__.setdefault("inputs", {})
        if rows not in inputs:
            empty = np.zeros((rows, *self.config.obs_shape), np.float32)
            inputs[rows] = empty, torch.from_numpy(empty)
        buffer, seen = inputs[rows]
        buffer[:size] = obs  # rows beyond keep old boards: finite, and of no influence
        assert self._traced is not None
        with torch.inference_mode():
            logits, values, finite = self._traced(seen)
        return logits.numpy()[:size], values.numpy()[:size], bool(finite.numpy())

    def _run_graph(self, obs: Float32) -> tuple[Float32, Float32, bool]:
        rows = self._padded(len(obs))
        if rows not in self._graphs:
            self._graphs[rows] = _Graph(
                self._net, (rows, *self.config.obs_shape), DTYPES[self.dtype], self.device
            )
        found = self._graphs[rows].run(torch.from_numpy(obs))
        # The graph writes its next answers into the same memory.
        logits, values = (part[: len(obs)].numpy().copy() for part in found)
        return logits, values, bool(np.isfinite(logits).all() and np.isfinite(values).all())


class _Graph:
    """One captured pass of a fixed number of rows on a GPU, with pinned buffers on both sides."""

    def __init__(
        self,
        net: InferenceNetwork,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: str,
    ) -> None:
        self.pinned = torch.zeros(shape, dtype=dtype, pin_memory=True)
        layout = torch.channels_last
        self.input = self.pinned.to(device).contiguous(memory_format=layout)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(side):  # kernels are chosen before the capture
            for _ in range(3):
                net(self.input)
        side.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits, self.values = net(self.input)
        self.host_logits = torch.empty(self.logits.shape, pin_memory=True)
        self.host_values = torch.empty(self.values.shape, pin_memory=True)

    def run(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and values on the host, valid until the next call."""
        self.pinned[: len(obs)].copy_(obs)
        self.input.copy_(self.pinned, non_blocking=True)
        self.graph.replay()
        self.host_logits.copy_(self.logits, non_blocking=True)
        self.host_values.copy_(self.values, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return self.host_logits, self.host_values


class SymmetricEvaluator(Evaluator):
    """The mean of another evaluator's answers over all symmetries of a position.

    A network that has learned from mirrored positions still answers them a little differently; the
    mean is better than either, at the price of an evaluation for each symmetry. For play and
    analysis, not for self-play, where more games are worth more.

    Args:
        evaluator: answers for observations.
        game: whose symmetries they are; with none, or too many, answers are passed on as they are.
    """

    def __init__(self, evaluator: Evaluator, game: NativeGame) -> None:
        self.evaluator, self.game = evaluator, game
        # [K, A]: where action a of a state goes in the state as symmetry k shows it.
        self._moved_actions = np.asarray(game.symmetry_actions(), np.int64)

    def evaluate(self, leaves: LeafBatch) -> tuple[Float32, Float32]:
        """Logits [M, A] and values [M] (or [M, P])."""
        count = self.game.num_symmetries
        if not 1 < count <= MAX_SYMMETRIES:
            return self.evaluator.evaluate(leaves)
        size = leaves.size
        states = StateBatch.from_data(self.game, leaves.states[:size].copy(), check=False)
        symmetries = np.repeat(np.arange(count, dtype=np.int32), size)
        shown = StateBatch.concatenate([states] * count).symmetry(symmetries)
        logits, values = self.evaluator.evaluate(LeafBatch.of(shown))
        logits = np.take_along_axis(logits, self._moved_actions[symmetries], axis=1)
        mean = logits.reshape(count, size, -1).mean(axis=0)
        return mean, values.reshape(count, size, *values.shape[1:]).mean(axis=0)


def measure_rate(evaluator: NetworkEvaluator, *, batch: int = 256, seconds: float = 0.5) -> float:
    """Evaluations a second of this thread: the floor under everything that self-play does."""
    obs = np.zeros((batch, *evaluator.config.obs_shape), np.float32)
    obs[:, :, ::2, ::2] = 1.0
    evaluator.evaluate_obs(obs)
    batches, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        evaluator.evaluate_obs(obs)
        batches += 1
    return batches * batch / (time.perf_counter() - start)

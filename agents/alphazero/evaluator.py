"""A network as the evaluator of a search: NumPy leaves in, NumPy logits and values out.

Batches are cut into chunks that stay in the processor's cache or fill a card, and padded to a few
fixed shapes, so that a row's answer does not depend on the rows beside it. bfloat16 is used where
the device multiplies it natively, float32 elsewhere. One evaluator belongs to one thread: two
threads with an evaluator each are faster on two cores than one with two, and need no barriers.
`SymmetricEvaluator` averages over a game's symmetries, `RandomSymmetryEvaluator` draws one for each
position. Left out: how a device answers a chunk
(networks/boards/inference.py), and answers that need no network (proofs.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.networks.boards.inference import make_pass
from playout.agents.networks.boards.network import BoardNetwork, InferenceNetwork, tuning_of
from playout.agents.networks.boards.smaller.quantised import QuantisedResNet
from playout.agents.runs.devices import INT8, resolve_device, resolve_dtype
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, DivergedError, StoppedError
from playout.mcts.evaluators import Evaluator, LeafBatch

Float32 = npt.NDArray[np.float32]

# Elements of an activation that a chunk may have: two of them and the weights fit into an L2 cache.
CPU_CHUNK_ELEMENTS = 1 << 18
DEVICE_CHUNK_ROWS = 4096
MAX_SYMMETRIES = 8  # more are not worth their evaluations


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
    """Rows whose activations about fill the cache: the next power of two, from 16 to 128."""
    _, height, width = net.config.obs_shape
    rows = CPU_CHUNK_ELEMENTS // (tuning_of(net).activation_size or 64 * height * width)
    return 1 << min(max(rows.bit_length(), 4), 7)


def chunk_for(rows: int, device: torch.device) -> int | None:
    """What `NetworkEvaluator` takes as chunk where at most so many rows are asked for at once.

    Off the processor a shape costs a captured graph, so that there are none for more; on it the
    cache decides, None.
    """
    if device.type == "cpu":
        return None
    return min(DEVICE_CHUNK_ROWS, 1 << max(0, rows - 1).bit_length())


class NetworkEvaluator(Evaluator):
    """Evaluates leaves with an inference copy of a network.

    Args:
        net: the network; it is copied, and `refresh` copies newer weights.
        device: a name for `resolve_device`, or a device; by default a GPU if there is one.
        dtype: "float32", "bfloat16", "float16", "auto"; or "int8", of a residual network on a
            processor.
        chunk: rows a pass, a power of two; by default what fits the cache or fills a card. On a
            card graphs are captured for batches of up to so many rows, so give it no more than are
            asked for.
        threads: threads that share the chunks of a large batch on a processor; 1 in self-play.
        calibration: of int8: float32 [M, C, H, W], positions by which its scales are chosen.
    """

    def __init__(
        self,
        net: BoardNetwork,
        *,
        device: torch.device | str | None = None,
        dtype: str = "auto",
        chunk: int | None = None,
        threads: int = 1,
        calibration: Float32 | None = None,
    ) -> None:
        if not isinstance(device, torch.device):
            device = resolve_device(device or "auto")
        self.device = device
        whole = dtype == INT8
        self.dtype = "float32" if whole else resolve_dtype(dtype, self.device)
        processor = self.device.type == "cpu"
        self.chunk = chunk or (cpu_chunk_rows(net) if processor else DEVICE_CHUNK_ROWS)
        if self.chunk < 1 or self.chunk & (self.chunk - 1):
            raise ConfigError(f"chunk must be a power of two, not {self.chunk}")
        self.config, self.threads = net.config, threads
        self.num_evaluations = 0
        kind: torch.dtype = getattr(torch, self.dtype)
        self._net: InferenceNetwork
        if whole:
            if calibration is None or not processor:
                raise ConfigError("int8 needs a processor, and positions for its scales")
            self._net = QuantisedResNet(net, torch.from_numpy(calibration))
        else:
            self._net = net.inference_copy(dtype=kind, device=self.device)
        self._answer = make_pass(
            self._net, net.config, dtype=kind, device=self.device, max_rows=self.chunk
        )
        self._pool: ThreadPoolExecutor | None = None
        if threads > 1 and processor:
            self._pool = ThreadPoolExecutor(threads, "evaluator", torch.set_num_threads, (1,))

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
            found = [one for (one,) in self._pool.map(lambda part: self._answer([part]), parts)]
        else:
            with one_thread():
                found = self._answer(parts)
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


class StoppableEvaluator(Evaluator):
    """Another evaluator, until `stop` says that nobody waits for the answers any more."""

    def __init__(self, evaluator: Evaluator, stop: Callable[[], bool]) -> None:
        self.evaluator, self.stop = evaluator, stop

    def evaluate(self, leaves: LeafBatch) -> tuple[Float32, Float32]:
        """The other one's logits and values.

        Raises:
            StoppedError: `stop` said so.
        """
        if self.stop():
            raise StoppedError("self-play was asked to stop")
        return self.evaluator.evaluate(leaves)


class RandomSymmetryEvaluator(Evaluator):
    """Another evaluator's answers, each through one symmetry of the board that is drawn for it.

    In self-play a network's prejudice for one corner then evens out over the positions of a search,
    at the price of one more look at each board. A position is always seen through the same
    symmetry until `number` changes, so that an answer depends on nothing but the position.

    Args:
        evaluator: answers for observations.
        game: whose symmetries they are; with none but the identity, answers are passed on.
        seed: of the draws.
    """

    def __init__(self, evaluator: Evaluator, game: NativeGame, *, seed: int = 0) -> None:
        self.evaluator, self.game, self.seed = evaluator, game, seed
        self.number = 0  # of the update: another draws other symmetries
        # [K, A]: where action a of a state goes in the state as symmetry k shows it.
        self._moved_actions = np.asarray(game.symmetry_actions(), np.int64)

    def evaluate(self, leaves: LeafBatch) -> tuple[Float32, Float32]:
        """Logits [M, A] and values [M] (or [M, P])."""
        if self.game.num_symmetries == 1:
            return self.evaluator.evaluate(leaves)
        states = StateBatch.from_data(self.game, leaves.states[: leaves.size].copy(), check=False)
        symmetries = self.symmetries(states)
        logits, values = self.evaluator.evaluate(LeafBatch.of(states.symmetry(symmetries)))
        return np.take_along_axis(logits, self._moved_actions[symmetries], axis=1), values

    def symmetries(self, states: StateBatch) -> npt.NDArray[np.int32]:
        """The symmetry of each position, int32 [M]."""
        salt = np.random.SeedSequence([self.seed, self.number]).generate_state(1, np.uint64)
        mixed = (states.hash() ^ salt) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD1342543DE82EF95)
        kinds: npt.NDArray[np.int32] = (
            (mixed >> np.uint64(33)) % np.uint64(self.game.num_symmetries)
        ).astype(np.int32)
        return kinds


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

"""Gradient steps for policy/value networks: loss, shards, schedule, weight averaging.

A batch is cut into a fixed number of shards, each with its own thread, its own normalisation
statistics and its own gradients, which are added in order: on two cores this is faster than two
threads inside each operation (no barriers), and the result does not depend on how many cores there
are. Both self-play and the supervised baseline learn by it.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from playout.agents.alphazero.evaluator import choose_device
from playout.agents.alphazero.replay import TrainingBatch
from playout.agents.networks.resnet import ResNet
from playout.agents.optim.adam import Adam, flat_gradients, flatten
from playout.agents.optim.muon import Muon
from playout.errors import CheckpointError, ConfigError, DivergedError
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """How a network learns.

    Attributes:
        batch_size: rows a gradient step.
        num_shards: parts of a batch that are computed side by side.
        optimizer: "muon" for convolutions with AdamW for the rest, or "adamw" for all.
        learning_rate: the peak, reached after the warm-up, of a network of 32 channels; wider ones
            take shorter steps, by the root of their width.
        warmup: share of the run over which the rate rises to it.
        final_rate: the last rate as a share of the peak; between them a half cosine.
        weight_decay: of matrices and convolutions, decoupled.
        max_grad_norm: gradients longer than this are shortened to it.
        value_weight: of the value loss against the policy loss.
        average: decay a step of the averaged weights; they play, the others learn.
        dtype: "bfloat16" (autocast) or "float32".
    """

    batch_size: int = 256
    num_shards: int = 2
    optimizer: str = "muon"
    learning_rate: float = 0.02
    warmup: float = 0.02
    final_rate: float = 0.05
    weight_decay: float = 1e-3
    max_grad_norm: float = 4.0
    value_weight: float = 1.0
    average: float = 0.997
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.num_shards < 1 or self.batch_size < 2 * self.num_shards:
            raise ConfigError(
                f"{self.num_shards} shards need a batch of at least {2 * self.num_shards} rows"
            )
        if self.optimizer not in ("muon", "adamw"):
            raise ConfigError(f"optimizer must be muon or adamw, not {self.optimizer!r}")
        if not self.learning_rate > 0 or not 0 <= self.average < 1:
            raise ConfigError("learning_rate must be positive and average in [0, 1)")


def losses(
    net: ResNet, batch: TrainingBatch, *, dtype: str, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    """Policy loss, value loss and the entropy of the policy, each a mean over the batch.

    The policy is compared on legal actions only. A value is learned as an expected score
    (1 + value) / 2 by cross entropy, which keeps its gradient where tanh has lost it.
    """
    obs = torch.from_numpy(batch.obs).to(device).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=dtype == "bfloat16"):
        logits, value_logits = net.heads(obs)
    illegal = torch.from_numpy(batch.mask).to(device) == 0
    log_policy = functional.log_softmax(logits.float().masked_fill(illegal, -1e9), dim=1)
    policy = torch.from_numpy(batch.policy).to(device)
    weights = torch.from_numpy(batch.policy_weights).to(device)
    policy_loss = -((policy * log_policy).sum(dim=1) * weights).sum() / weights.sum().clamp(min=1.0)
    scores = torch.from_numpy(batch.values).to(device).add(1).mul(0.5)
    value_loss = functional.binary_cross_entropy_with_logits(value_logits.float(), scores)
    entropy = -(log_policy.exp() * log_policy).sum(dim=1).mean().detach()
    return policy_loss, value_loss, entropy


def slices(batch: TrainingBatch, count: int) -> list[TrainingBatch]:
    """A batch cut into `count` parts of nearly equal length."""
    edges = [len(batch) * index // count for index in range(count + 1)]
    names = TrainingBatch.__slots__
    return [
        TrainingBatch(*(getattr(batch, name)[a:b] for name in names))
        for a, b in itertools.pairwise(edges)
    ]


class Learner:
    """A network, its optimiser and its averaged copy.

    Args:
        net: the network to train, in place.
        config: see LearnerConfig.
        device: where it is trained; by default a GPU if there is one.
    """

    def __init__(self, net: ResNet, config: LearnerConfig, *, device: str | None = None) -> None:
        self.config = config
        self.device = device = choose_device() if device is None else device
        self.peak_rate = config.learning_rate * min(1.0, (32 / net.config.channels) ** 0.5)
        self.steps = 0
        self.net = net.to(device)
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self._replicas = [self.net, *(copy.deepcopy(net) for _ in range(1, config.num_shards))]
        self.optimizers = make_optimizers(self.net, config)
        # [replicas][optimisers]: weights are in the same memory, gradients in their own.
        self._gradients = [[one.grad for one in self.optimizers]]
        for replica in self._replicas[1:]:
            gradients = []
            for one, moved in zip(self.optimizers, self._moved(replica), strict=True):
                for own, shared in zip(moved, one.parameters, strict=True):
                    own.data = shared.data
                gradients.append(flat_gradients(one.flat, moved))
            self._gradients.append(gradients)
        self._slow = [flatten(moved) for moved in self._moved(self.average)]
        self._slow.append(flatten(statistics(self.average)))
        self._running = [flatten(statistics(replica)) for replica in self._replicas]
        self._pool = ThreadPoolExecutor(
            config.num_shards, initializer=torch.set_num_threads, initargs=(1,)
        )

    def _moved(self, twin: ResNet) -> list[list[nn.Parameter]]:
        """The parameters of a copy of the network that each optimiser moves, in its order."""
        pairs = zip(self.net.parameters(), twin.parameters(), strict=True)
        twins = {id(mine): theirs for mine, theirs in pairs}
        return [[twins[id(p)] for p in one.parameters] for one in self.optimizers]

    def rate(self, done: float) -> float:
        """The rate with `done` (0 to 1) of the run behind: a warm-up, then half a cosine."""
        config = self.config
        if done < config.warmup:
            return self.peak_rate * (0.1 + 0.9 * done / config.warmup)
        phase = min(1.0, (done - config.warmup) / max(1e-9, 1 - config.warmup))
        low = config.final_rate
        return self.peak_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * phase)))

    def step(self, batch: TrainingBatch, *, done: float) -> dict[str, float]:
        """One gradient step with `done` (0 to 1) of the run behind; returns the losses."""
        rate = self.rate(done)
        parts = slices(batch, self.config.num_shards)
        found = list(self._pool.map(self._shard, range(len(parts)), parts))
        norm = self._gather()
        policy_loss, value_loss, entropy = (
            sum(column) / len(parts) for column in zip(*found, strict=True)
        )
        if not math.isfinite(policy_loss + value_loss + norm):
            raise DivergedError(
                f"loss or gradient is not finite at step {self.steps}: lower the learning rate "
                f"({rate:.2g}) and continue from the last checkpoint"
            )
        for optimizer in self.optimizers:
            optimizer.lr = rate
            optimizer.step()
        self.steps += 1
        self._average()
        return {
            "train/policy_loss": policy_loss,
            "train/value_loss": value_loss,
            "train/policy_entropy": entropy,
            "train/grad_norm": norm,
            "train/learning_rate": rate,
        }

    def _shard(self, index: int, batch: TrainingBatch) -> tuple[float, float, float]:
        net = self._replicas[index].train()
        for gradient in self._gradients[index]:
            gradient.zero_()
        policy_loss, value_loss, entropy = losses(
            net, batch, dtype=self.config.dtype, device=self.device
        )
        (policy_loss + self.config.value_weight * value_loss).backward()
        return float(policy_loss.detach()), float(value_loss.detach()), float(entropy)

    @torch.no_grad()
    def _gather(self) -> float:
        """Means of the shards' gradients, clipped, and of running statistics; the former's norm."""
        count, mine = len(self._replicas), self._gradients[0]
        for theirs in self._gradients[1:]:
            torch._foreach_add_(mine, theirs)
        torch._foreach_div_(mine, count)
        if count > 1:
            mean = torch.stack(self._running).mean(dim=0)
            for running in self._running:
                running.copy_(mean)
        norm = float(torch.stack(torch._foreach_norm(mine)).norm())
        if norm > self.config.max_grad_norm:
            torch._foreach_mul_(mine, self.config.max_grad_norm / norm)
        return norm

    @torch.no_grad()
    def _average(self) -> None:
        # Early weights are worthless: the average is short at first.
        decay = min(self.config.average, self.steps / (self.steps + 9))
        new = [*(optimizer.flat for optimizer in self.optimizers), self._running[0]]
        torch._foreach_lerp_(self._slow, new, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Weights, averaged weights, optimiser and counter."""
        return {
            "network": self.net.config.to_dict(),
            "average": dict(self.average.state_dict()),
            "learner": dict(self.net.state_dict()),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave.

        Raises:
            CheckpointError: the state is of other optimisers, such as those of an earlier version.
        """
        mine = [sorted(optimizer.state_dict()) for optimizer in self.optimizers]
        if mine != [sorted(stored) for stored in state["optimizers"]]:
            raise CheckpointError(
                "the checkpoint holds the state of other optimisers: its network can play and be "
                "analysed, but training needs a new run"
            )
        self.average.load_state_dict(state["average"])
        for replica in self._replicas:
            replica.load_state_dict(state["learner"])
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.steps = int(state["steps"])


def make_optimizers(net: ResNet, config: LearnerConfig) -> list[Adam | Muon]:
    """What moves the weights: matrices with weight decay, vectors and maps of the board without."""
    named = dict(net.named_parameters())
    rate, decay = config.learning_rate, config.weight_decay
    convs = [p for p in named.values() if p.ndim == 4 and config.optimizer == "muon"]
    held = {id(p) for p in convs}
    left = {name: p for name, p in named.items() if id(p) not in held}
    maps = ("position", "turn")
    matrices = [p for name, p in left.items() if p.ndim > 1 and name not in maps]
    rest = [p for name, p in left.items() if p.ndim <= 1 or name in maps]
    found: list[Adam | Muon] = [
        Adam(matrices, lr=rate, eps=1e-8, weight_decay=decay),
        Adam(rest, lr=rate, eps=1e-8),
    ]
    if convs:
        found.append(Muon(convs, lr=rate, weight_decay=decay))
    return found


def statistics(net: ResNet) -> list[Tensor]:
    """The running means and variances of its normalisations."""
    return [buffer for buffer in net.buffers() if buffer.is_floating_point()]


def mean_metrics(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every metric over steps."""
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]} if rows else {}

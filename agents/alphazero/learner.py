"""Gradient steps for policy/value networks: loss, shards, schedule, weight averaging.

On a processor a batch is cut into a fixed number of shards, each with its own thread, its own
normalisation statistics and its own gradients, which are added in order: on two cores this is
faster than two threads inside each operation (no barriers), and the result does not depend on how
many cores there are. On any other device a batch is one shard, which crosses to it once and is not
waited for: metrics stay there until `mean_metrics`. Under several ranks the shards are shared out
among them, and one message a step makes their means those of all. Left out: what a batch holds
(replay/).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy.typing as npt
import torch
from playout.agents.alphazero.config import LearnerConfig
from playout.agents.alphazero.replay import TrainingBatch
from playout.agents.kernels.processor import multiplies_bfloat16
from playout.agents.networks.boards.network import AuxiliaryNetwork, BoardNetwork, tuning_of
from playout.agents.networks.boards.trunk import freeze, moving_statistics, trunk_modules
from playout.agents.networks.precision.lowered import lowered
from playout.agents.optim.choice import load_states, make_optimizers, optimizers_by_rate
from playout.agents.optim.flat import flat_gradients, joined, together, views
from playout.agents.optim.schedule import warmed_cosine
from playout.agents.runs import ranks
from playout.agents.runs.devices import fetch, pack_to_device, resolve_device
from playout.errors import ConfigError, DivergedError
from torch import Tensor, nn
from torch.nn import functional

CPU = torch.device("cpu")
LOSSES = ("train/policy_loss", "train/value_loss", "train/policy_entropy")
AUXILIARY_LOSSES = ("train/target_loss", "train/score_loss")

Metrics = dict[str, Tensor | float]
"""What a step reports: numbers on a processor, tensors [] of a device that is not waited for."""


def losses(
    net: BoardNetwork, batch: TrainingBatch, *, dtype: str, device: torch.device = CPU
) -> tuple[Tensor, ...]:
    """Policy loss, value loss and the entropy of the policy, each a mean over the batch.

    The policy is compared on legal actions only. A value is learned as an expected score
    (1 + value) / 2 by cross entropy, which keeps its gradient where tanh has lost it. Where the
    batch says how games ended, the losses of target planes and of scores follow, 0 for what the
    network has no head for.
    """
    parts: list[npt.NDArray[Any]] = [batch.obs, batch.mask, batch.policy, batch.values]
    lessons = [part for part in (batch.planes, batch.scores, batch.ended) if part is not None]
    obs, mask, policy, values, weights, *taught = pack_to_device(
        [*parts, batch.policy_weights, *lessons], device
    )
    obs = obs.contiguous(memory_format=torch.channels_last)
    with lowered(device.type, torch.bfloat16 if dtype == "bfloat16" else torch.float32):
        if taught and isinstance(net, AuxiliaryNetwork):
            logits, value_logits, planes, score = net.all_heads(obs)
        else:
            logits, value_logits = net.heads(obs)
            planes = score = None
    log_policy = functional.log_softmax(logits.float().masked_fill(mask == 0, -1e9), dim=1)
    policy_loss = -((policy * log_policy).sum(dim=1) * weights).sum() / weights.sum().clamp(min=1.0)
    scores = values.add(1).mul(0.5)
    value_loss = functional.binary_cross_entropy_with_logits(value_logits.float(), scores)
    entropy = -(log_policy.exp() * log_policy).sum(dim=1).mean().detach()
    if not taught:
        return policy_loss, value_loss, entropy
    ended = taught.pop()
    known = ended.sum().clamp(min=1.0)
    target_loss = score_loss = value_loss.new_zeros(())
    if planes is not None and batch.planes is not None:
        each = functional.binary_cross_entropy_with_logits(
            planes.float(), taught[0].add(1).mul(0.5), reduction="none"
        )
        target_loss = (each.mean(dim=(1, 2, 3)) * ended).sum() / known
    if score is not None and batch.scores is not None:
        each = functional.huber_loss(score.float(), taught[-1], reduction="none", delta=0.1)
        score_loss = (each * ended).sum() / known
    return policy_loss, value_loss, entropy, target_loss, score_loss


def slices(batch: TrainingBatch, count: int) -> list[TrainingBatch]:
    """A batch cut into `count` parts of nearly equal length."""
    return [batch[rows] for rows in _cut(len(batch), count)]


def _cut(size: int, count: int) -> list[slice]:
    """The rows of each of `count` parts of a batch of `size` rows."""
    edges = [size * index // count for index in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


class Learner:
    """A network, its optimiser and its averaged copy.

    Args:
        net: the network to train, in place; under several ranks everybody's is the same.
        config: see LearnerConfig; its counts are of all ranks together.
        device: where it is trained, a name for `resolve_device` or a device; by default a GPU if
            there is one.
        begun: names of the weights that take `trunk_rate` of the learning rate (`trunk.py`).

    Attributes:
        num_shards: parts of a batch, of all ranks: at least one a rank.

    Raises:
        ConfigError: more ranks than a batch has rows for.
    """

    def __init__(
        self,
        net: BoardNetwork,
        config: LearnerConfig,
        *,
        device: torch.device | str | None = None,
        begun: Collection[str] = (),
    ) -> None:
        if not isinstance(device, torch.device):
            device = resolve_device(device or "auto")
        self.config, self.device = config, device
        # Many a processor is slower in bfloat16 than in float32, some by many times.
        slow = device.type == "cpu" and not multiplies_bfloat16()
        self.dtype = "float32" if slow else config.dtype
        self.num_shards = max(config.num_shards if device.type == "cpu" else 1, ranks.world())
        if config.batch_size < 2 * self.num_shards:
            raise ConfigError(
                f"{ranks.world()} ranks need a batch of at least {2 * self.num_shards} rows, not "
                f"{config.batch_size}"
            )
        self._shards = ranks.share(self.num_shards, "shards of a batch")  # those of this rank
        self.peak_rate = config.learning_rate * tuning_of(net).rate_scale
        self.steps = 0
        # Copied before it moves: not every device's tensors can be.
        self.average = copy.deepcopy(net).to(device).eval().requires_grad_(False)
        self.net = net.to(device)
        self._frozen = bool(begun) and config.trunk_rate == 0
        if self._frozen:
            freeze(net, begun)
        self._replicas = [self.net, *(copy.deepcopy(net) for _ in self._shards[1:])]
        make = partial(
            make_optimizers,
            name=config.optimizer,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            undecayed=net.undecayed,
            inner=tuning_of(net).matrices,
        )
        rated = optimizers_by_rate(
            self.net, make, slow=begun, share=config.trunk_rate if begun else 1.0
        )
        self.optimizers = [optimizer for _, optimizer in rated]
        self._rate_shares = [share for share, _ in rated]
        # [replicas][optimisers]: all replicas have their weights in the same memory, and gradients
        # in memory of their own.
        self._gradients = [[one.grad for one in self.optimizers]]
        for replica in self._replicas[1:]:
            gradients = []
            for one, parameters in zip(self.optimizers, self._parameters_in(replica), strict=True):
                for own, shared in zip(parameters, one.parameters, strict=True):
                    own.data = shared.data
                gradients.append(flat_gradients(one.flat, parameters))
            self._gradients.append(gradients)
        of_average: list[Sequence[Tensor]] = [*self._parameters_in(self.average)]
        of_average.append(self._moving_statistics(self.average))
        self._averaged = [tensor for part in of_average for tensor in together(part)]
        # Of every replica; of networks that keep none: empty.
        self._statistics = [together(self._moving_statistics(one)) for one in self._replicas]
        self._pool = ThreadPoolExecutor(
            len(self._shards), initializer=torch.set_num_threads, initargs=(1,)
        )

    def _parameters_in(self, copy_of_net: BoardNetwork) -> list[list[nn.Parameter]]:
        """The parameters of a copy of the network, by optimiser and in the optimiser's order."""
        pairs = zip(self.net.parameters(), copy_of_net.parameters(), strict=True)
        of_copy = {id(mine): theirs for mine, theirs in pairs}
        return [[of_copy[id(p)] for p in one.parameters] for one in self.optimizers]

    def _moving_statistics(self, copy_of_net: BoardNetwork) -> list[Tensor]:
        """Running means and variances of its normalisations, but for those of a frozen trunk."""
        still = trunk_modules(copy_of_net) if self._frozen else ()
        return moving_statistics(copy_of_net, still=still)

    def rate(self, done: float) -> float:
        """The learning rate after the share `done` of training: a warm-up, then half a cosine."""
        config = self.config
        curve = warmed_cosine(done, config.warmup, first=0.1, final=config.final_rate)
        return self.peak_rate * curve

    def rows(self, size: int) -> range:
        """Which rows of a batch of `size` this rank learns from: those of its shards."""
        cut = _cut(size, self.num_shards)
        return range(cut[self._shards[0]].start, cut[self._shards[-1]].stop)

    def step(self, batch: TrainingBatch, *, done: float, whole: int | None = None) -> Metrics:
        """One gradient step, after the share `done` (0 to 1) of training; returns its metrics.

        Args:
            batch: what this rank learns from.
            done: the share of training that lies behind.
            whole: rows of all ranks' batches together, of which this one holds `rows(whole)`; by
                default they are as long as this one.

        Raises:
            DivergedError: on a processor, a loss or gradient that is not finite; on other devices
                `mean_metrics` raises it.
        """
        rate = self.rate(done)
        if self.device.type == "cpu":
            parts = self._parts(batch, whole)
            shards = self._pool.map(self._shard, range(len(parts)), parts)
            columns = zip(*([float(x) for x in shard] for shard in shards), strict=True)
            means = [sum(column) / len(parts) for column in columns]
            found: Metrics = dict(zip(LOSSES + AUXILIARY_LOSSES, means, strict=False))
            sound = all(map(math.isfinite, means[:2]))
            norm = found["train/grad_norm"] = self._combine_gradients(sound=sound)
            if not (sound and math.isfinite(norm)):
                raise DivergedError(
                    f"loss or gradient is not finite at step {self.steps}: lower the learning rate "
                    f"({rate:.2g}) and continue from the last checkpoint"
                )
        else:
            found = dict(zip(LOSSES + AUXILIARY_LOSSES, self._shard(0, batch), strict=False))
            for optimizer in self.optimizers:
                optimizer.collect()
            if ranks.world() > 1:
                self._add_ranks(self._statistics[0])
                torch._foreach_div_([*self._gradients[0], *self._statistics[0]], self.num_shards)
            found["train/grad_norm"] = self._clip_on_device()
        for share, optimizer in zip(self._rate_shares, self.optimizers, strict=True):
            optimizer.lr = rate * share
            optimizer.apply()
        self.steps += 1
        self._update_average()
        return {**found, "train/learning_rate": rate}

    def _parts(self, batch: TrainingBatch, whole: int | None) -> list[TrainingBatch]:
        """This rank's batch, cut where the batch of all ranks would be."""
        if whole is None:
            return slices(batch, len(self._shards))
        mine = _cut(whole, self.num_shards)[self._shards.start : self._shards.stop]
        first = mine[0].start
        return [batch[part.start - first : part.stop - first] for part in mine]

    def _shard(self, index: int, batch: TrainingBatch) -> list[Tensor]:
        """Gradients of one shard; its losses and its policy's entropy."""
        net = self._replicas[index].train()
        for module in trunk_modules(net) if self._frozen else ():
            module.eval()
        for gradient in self._gradients[index]:
            gradient.zero_()
        config = self.config
        parts = losses(net, batch, dtype=self.dtype, device=self.device)
        total = parts[0] + config.value_weight * parts[1]
        for weight, part in zip(
            (config.target_weight, config.score_weight), parts[3:], strict=False
        ):
            total = total + weight * part
        total.backward()
        return [part.detach() for part in parts]

    @torch.no_grad()
    def _combine_gradients(self, *, sound: bool = True) -> float:
        """Averages gradients and running statistics over shards, clips the former; their norm.

        Where a rank's losses are not `sound`, the norm is no number on any.
        """
        count, mine = self.num_shards, self._gradients[0]
        for theirs in self._gradients[1:]:
            torch._foreach_add_(mine, theirs)
        means = [torch.stack(same).sum(dim=0) for same in zip(*self._statistics, strict=True)]
        if ranks.world() > 1:
            if not sound:
                mine[0].fill_(math.nan)
            self._add_ranks(means)
        torch._foreach_div_(mine, count)
        if count > 1:  # on a processor, where each replica's are one buffer
            for statistics in self._statistics:
                for own, total in zip(statistics, means, strict=True):
                    torch.div(total, count, out=own)
        norm = float(torch.stack(torch._foreach_norm(mine)).norm())
        if norm > self.config.max_grad_norm:
            torch._foreach_mul_(mine, self.config.max_grad_norm / norm)
        return norm

    def _add_ranks(self, statistics: list[Tensor]) -> None:
        """Makes gradients and these statistics the sums of all ranks', by one message."""
        parts = [*self._gradients[0], *statistics]
        for part, total in views(ranks.add_(joined(parts)), parts):
            part.copy_(total)

    @torch.no_grad()
    def _clip_on_device(self) -> Tensor:
        """Clips the gradients without waiting for their norm, which it returns."""
        mine = self._gradients[0]
        norm = torch.stack([gradient.norm() for gradient in mine]).norm()
        scale = (self.config.max_grad_norm / norm).clamp(max=1.0)
        for gradient in mine:
            gradient.mul_(scale)
        return norm

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early weights are worthless: the average is short at first.
        decay = min(self.config.average, self.steps / (self.steps + 9))
        new = [weight for optimizer in self.optimizers for weight in optimizer.weights]
        new += self._statistics[0]
        torch._foreach_lerp_(self._averaged, new, 1 - decay)

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
            CheckpointError: the state is of other optimisers, such as those of an earlier version,
                or of other weights; nothing has changed.
        """
        load_states(self.optimizers, state["optimizers"])
        self.average.load_state_dict(state["average"])
        for replica in self._replicas:
            replica.load_state_dict(state["learner"])
        self.steps = int(state["steps"])


def mean_metrics(
    rows: Sequence[Mapping[str, Tensor | float]], *, weight: float = 1.0
) -> dict[str, float]:
    """The mean of every metric over steps and ranks; what lies on a device comes over at once.

    Args:
        rows: what each step reports; every rank has as many.
        weight: of this rank, such as its share of a batch.

    Raises:
        DivergedError: a mean is not finite.
    """
    found = fetch(
        {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]} if rows else {}
    )
    found = ranks.merge_metrics(found, weight=weight)
    for key, value in found.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"{key} is not finite: lower the learning rate and continue from the last "
                "checkpoint"
            )
    return found

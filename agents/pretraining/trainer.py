"""Pretraining as a Trainer: batches in an order that follows from the seed, steps, measures.

What is in a batch, how it is augmented and what is masked are functions of the seed and the step,
so a resumed run repeats itself, and ranks, each with a part of every batch, do what one process
does, but for normalisations, which see a rank's part. The next batch is prepared by a thread while
this one is learned. Probing what was learned is probes.py's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from playout.agents.networks.boards.trunk import freeze, moving_statistics
from playout.agents.networks.precision.lowered import lowered
from playout.agents.optim.choice import (
    Optimizer,
    load_states,
    make_optimizers,
    optimizers_by_rate,
)
from playout.agents.optim.flat import joined, sum_gradients, take_first, views
from playout.agents.optim.schedule import warmed_cosine
from playout.agents.pretraining.config import CHANNELS, PretrainConfig
from playout.agents.pretraining.data.dataset import (
    ALL,
    MIN_VALIDATED,
    Dataset,
    Rows,
    Split,
    check_held_out,
    labelled_rows,
    some_rows,
    validation_rows,
)
from playout.agents.pretraining.data.positions import Positions, unit_of
from playout.agents.pretraining.objectives.objective import Batch, Objective
from playout.agents.pretraining.objectives.registry import make_objective
from playout.agents.pretraining.pruning import Pruning
from playout.agents.pretraining.trunk import Trunk
from playout.agents.runs import ranks
from playout.agents.runs.devices import fetch, pack_to_device
from playout.agents.runs.trainer import Trainer
from playout.agents.vector.episodes import Place
from playout.errors import ConfigError, DataError, DivergedError
from torch import Tensor, nn

EVALUATED = 2048
"""Held-out pictures an evaluation looks at, at most."""


class PretrainTrainer(Trainer):
    """Teaches a trunk by one objective.

    Args:
        trunk: what is taught, in place.
        data: to learn from, and held out.
        config: see PretrainConfig.
        steps: gradient steps in all.
        seed: of heads, order, augmentation and masks.
        device: where it is learned.
        dtype: of products: float32 or bfloat16.
        fresh: names of weights of the trunk that no earlier run has taught (`begin_from`): they
            take the whole learning rate, whatever `trunk_rate` is.
        validation: share of the pictures to learn from that are not learned from and choose the
            best checkpoint (`validation_rows`) by `eval/score`; where they are too few, that is the
            number of steps. 0: what is held out chooses, which then is no measure of the chosen.

    Raises:
        ConfigError: settings that do not suit the data. DataError: too few pictures, or labels.
    """

    unit, best_metric = "steps", "eval/score"
    evaluates_together = True
    steps_an_update = 25

    def __init__(
        self,
        trunk: Trunk,
        data: Split,
        config: PretrainConfig,
        *,
        steps: int,
        seed: int = 0,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        fresh: Collection[str] = (),
        validation: float = 0.0,
    ) -> None:
        self.config, self.seed, self.total = config, seed, steps
        self.device, self.dtype = device or torch.device("cpu"), dtype
        self.title, rows_are = f"pretrain {config.objective}", unit_of(data.train)
        objective = make_objective(trunk, data.train, config, seed=seed)
        self.rows = np.arange(len(data.train))
        if objective.needs_labels:
            self.rows = labelled_rows(data.train, config.labels, seed=seed)
        self.chosen_by: Rows | None = None  # of the training side; None: what is held out
        if validation:
            self.chosen_by = validation_rows(data.train, self.rows, validation)
            self.rows = np.setdiff1d(self.rows, self.chosen_by)
            if config.patience and not len(self.chosen_by):
                raise ConfigError(
                    f"--patience needs {MIN_VALIDATED} {rows_are} that choose the best checkpoint: "
                    f"{len(self.rows)} with labels to learn from are too few"
                )
        if len(self.rows) < 2:
            raise DataError(f"{data.train.name} has {len(self.rows)} {rows_are} to learn from")
        if objective.needs_labels:
            check_held_out(data)
        size = min(config.batch, len(self.rows))
        if objective.views == 2 and min(size, len(data.test)) < 2:
            raise DataError(
                f"--objective {config.objective} compares {rows_are}: it needs two of them in a "
                f"batch and two held out, not {size} and {len(data.test)}"
            )
        own = ranks.share(size, f"{rows_are} a batch")
        self.part = Place(own.start, len(own), size) if ranks.world() > 1 else None
        # Of what is held out views alone are augmented, as those that are learned from.
        sides = (replace(x, augmentation=config.augment) for x in (data.train, data.test))
        self.data = Split(*sides)
        self.objective: Objective = objective.to(self.device)
        self.trunk = trunk.to(self.device)
        take_first(self.trunk.state_dict())
        take_first(self.objective.state_dict())
        frozen = config.trunk_rate == 0
        begun = self.trunk.begun(fresh)
        self.trunk.requires_grad_(True)
        # Nothing in these is drawn, and no statistics follow the batch.
        self._still: list[nn.Module] = []
        if frozen:
            freeze(self.trunk.net, begun)
            self._still = self.trunk.below_heads()
        # (share of the learning rate, optimiser)
        self.optimizers: list[tuple[float, Optimizer]] = []
        parts: list[tuple[nn.Module, list[str]]] = [(self.objective, []), (self.trunk.net, begun)]
        for part, slow in parts:
            make = partial(
                make_optimizers,
                name=config.optimizer,
                lr=config.peak_rate,
                weight_decay=config.weight_decay,
                undecayed=getattr(part, "undecayed", ()),
            )
            self.optimizers += optimizers_by_rate(part, make, slow=slow, share=config.trunk_rate)
        self.pruning: Pruning | None = None
        if config.sparsity and config.pattern != CHANNELS:
            self.pruning = Pruning(trunk.net, config.sparsity, config.pattern)
        self.steps, self.best, self.since_best = 0, -math.inf, 0
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Sequence[Any]]] | None = None

    @property
    def per_epoch(self) -> int:
        """Steps in which every picture that is learned from comes up once, but for a rest."""
        return len(self.rows) // min(self.config.batch, len(self.rows))

    @property
    def progress(self) -> tuple[int, int]:
        """Steps done and planned."""
        return self.steps, self.total

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or patience is at its end."""
        patience = self.config.patience
        return self.steps >= self.total or bool(patience and self.since_best >= patience)

    def rate(self) -> float:
        """The learning rate of the next step: a warm-up, then half a cosine."""
        done, warmup = self.steps / self.total, self.config.warmup
        return self.config.peak_rate * warmed_cosine(done, warmup, first=0.05)

    def _prepare(self, step: int) -> Sequence[Any]:
        """The arrays of a step's batch."""
        size, count = min(self.config.batch, len(self.rows)), len(self.rows)
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.seed, 43, epoch]).permutation(count)
        rows = np.sort(self.rows[order[place * size : (place + 1) * size]])
        rng = np.random.default_rng([self.seed, 44, step]) if self.objective.augmented else None
        return self._arrays(self.data.train, rows, rng, self.part)

    def _arrays(
        self, data: Dataset, rows: Rows, rng: np.random.Generator | None, part: Place | None = None
    ) -> Sequence[Any]:
        own = ALL if part is None or self.objective.needs_everyone else part.own
        policy = second = None
        if self.objective.follows:
            assert isinstance(data, Positions)  # as the objective has seen to
            images, second = data.following(rows, rng, own)
        else:
            images, policy = data.shown(rows, rng, own)
        arrays: list[Any] = [images, data.labels[rows[own]]]
        if self.objective.views == 2:
            second = data.images(self.objective.partners(data, rows, rng), rng, own)
        arrays += [x for x in (policy, second) if x is not None]
        return [*arrays, (policy is not None, second is not None)]

    def _batch(self, arrays: Sequence[Any], part: Place | None = None) -> Batch:
        *parts, (has_policy, has_second) = arrays
        found: list[Tensor] = pack_to_device(parts, self.device)
        images = found[0].contiguous(memory_format=torch.channels_last)
        policy = found[2] if has_policy else None
        second = found[-1].contiguous(memory_format=torch.channels_last) if has_second else None
        if part is not None and self.objective.needs_everyone:  # it has one view, and no moves
            everyone = images, found[1]
            return Batch(images[part.own], found[1][part.own], None, None, part, everyone)
        return Batch(images, found[1], policy, second, part)

    def _taken(self) -> Batch:
        """This step's batch; the next one is begun."""
        ready = self._next if self._next and self._next[0] == self.steps else None
        arrays = ready[1].result() if ready else self._prepare(self.steps)
        self._next = self.steps + 1, self._pool.submit(self._prepare, self.steps + 1)
        return self._batch(arrays, self.part)

    def step(self) -> dict[str, Tensor | float]:
        """One gradient step; under ranks its measures are this rank's share of them."""
        batch = self._taken()
        for _, optimizer in self.optimizers:
            optimizer.zero_grad()
        generator = torch.Generator().manual_seed(((self.seed << 32) + self.steps) % 2**64)
        with self._drawn(), lowered(self.device.type, self.dtype):
            found = self.objective.losses(batch, generator)
        if batch.whole is None:
            found["loss"].backward()
        elif self.objective.across:
            found["loss"].backward()
            found = {key: value.detach() / ranks.world() for key, value in found.items()}
        else:
            found = {key: value * (batch.whole.count / batch.total) for key, value in found.items()}
            found["loss"].backward()
        norm = self._clip()
        rate = self.rate()
        for share, optimizer in self.optimizers:
            optimizer.lr = rate * share
            optimizer.apply()
        if self.pruning is not None:
            self.pruning.apply()
        self.steps += 1
        metrics: dict[str, Tensor | float] = {f"train/{k}": v.detach() for k, v in found.items()}
        return {**metrics, "train/grad_norm": norm, "train/learning_rate": rate}

    @contextmanager
    def _drawn(self) -> Iterator[None]:
        """What layers of the trunk drop follows from seed, step and rank, as the rest does."""
        if not any(isinstance(part, nn.Dropout) and part.p for part in self.trunk.modules()):
            yield
            return
        place = [self.seed, 47, self.steps, ranks.rank()]
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(np.random.default_rng(place).integers(2**63)))
            yield

    @torch.no_grad()
    def _clip(self) -> Tensor:
        sum_gradients([optimizer for _, optimizer in self.optimizers])
        grads = [optimizer.grad for _, optimizer in self.optimizers]
        norm = torch.stack([grad.norm() for grad in grads]).norm()
        limit = self.config.max_grad_norm
        if limit:
            scale = (limit / (norm + 1e-6)).clamp(max=1.0)
            for grad in grads:
                grad.mul_(scale)
        return norm

    def _train(self, mode: bool) -> None:
        self.objective.train(mode)
        self.trunk.train(mode)
        for module in self._still:
            module.eval()

    def update(self) -> dict[str, float]:
        """Some steps; the means of their measures."""
        self._train(True)
        rows = [self.step() for _ in range(min(self.steps_an_update, self.total - self.steps))]
        found = fetch({key: sum(row[key] for row in rows) / len(rows) for key in rows[0]})
        if ranks.world() > 1:
            found = self._of_all_ranks(found)
        if not math.isfinite(found["train/loss"]):
            raise DivergedError(
                f"the loss is {found['train/loss']} at step {self.steps}: lower --learning-rate"
            )
        return found

    @torch.no_grad()
    def _of_all_ranks(self, found: dict[str, float]) -> dict[str, float]:
        """Measures added up; running statistics of norm layers, which differ by rank, averaged.

        Like a batch that is cut into shards, each rank normalises by the statistics of its part.
        """
        alike = ("train/grad_norm", "train/learning_rate")
        names = [key for key in found if key not in alike]
        sums = ranks.sums([found[key] for key in names])
        statistics = moving_statistics(self.trunk.net, still=self._still)
        if statistics:
            for buffer, total in views(ranks.add_(joined(statistics)), statistics):
                buffer.copy_(total / ranks.world())
        return found | dict(zip(names, sums, strict=True))

    def evaluate(self) -> dict[str, float]:
        """The objective's measures on held-out data; `eval/score` is that of `validation`."""
        test = self.data.test
        found = self.measure(test, some_rows(self.measurable(test), EVALUATED))
        score = self.score(found)
        if (own := self.chosen_by) is not None:
            few = not len(own)
            score = float(self.steps) if few else self.score(self.measure(self.data.train, own))
        better = score > self.best
        self.best, self.since_best = max(score, self.best), 0 if better else self.since_best + 1
        return {**{f"eval/{key}": value for key, value in found.items()}, "eval/score": score}

    def measurable(self, data: Dataset) -> Rows:
        """The rows of data that the objective can be measured on."""
        if self.objective.needs_labels:
            return np.flatnonzero(data.labels >= 0)
        return np.arange(len(data))

    def score(self, found: Mapping[str, float]) -> float:
        """Of what `measure` found the part that is to rise."""
        names = () if self.objective.judged_by_loss else ("accuracy", "elbo")
        return next((found[key] for key in names if key in found), -found["loss"])

    @torch.no_grad()
    def measure(self, data: Dataset, rows: Rows) -> dict[str, float]:
        """The means of the objective's measures over some pictures, as they are.

        Ranks take the chunks of them in turn.
        """
        self._train(False)
        count = 0.0
        sums: dict[str, float] = {}
        for number, start in enumerate(range(0, len(rows), 256)):
            chosen = rows[start : start + 256]
            if len(chosen) < self.objective.views:  # of two views pictures need others beside them
                break
            if number % ranks.world() != ranks.rank():
                continue
            rng = np.random.default_rng([7, start]) if self.objective.views == 2 else None
            batch = self._batch(self._arrays(data, chosen, rng))
            generator = torch.Generator().manual_seed(start)
            with lowered(self.device.type, self.dtype):
                found = fetch(self.objective.losses(batch, generator))
            for key, value in found.items():
                sums[key] = sums.get(key, 0.0) + value * len(chosen)
            count += len(chosen)
        if ranks.world() > 1:
            names = ranks.first(list(sums))  # another rank may have had no chunk
            count, *values = ranks.sums([count, *(sums.get(key, 0.0) for key in names)])
            sums = dict(zip(names, values, strict=True))
        return {key: value / count for key, value in sums.items()}

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """Loss and what is measured besides."""
        names = {"train/loss": "loss", "eval/accuracy": "held out", "eval/elbo": "ELBO"}
        return {name: f"{metrics[key]:.3f}" for key, name in names.items() if key in metrics}

    def state_dict(self) -> dict[str, Any]:
        """Trunk, heads, optimisers, counters."""
        return {
            "model": dict(self.trunk.net.state_dict()),
            "network": self.trunk.description(),
            "objective": dict(self.objective.state_dict()),
            "optimizers": [one.state_dict() for _, one in self.optimizers],
            "counters": {"steps": self.steps, "best": self.best, "since_best": self.since_best},
            "judged_by_loss": self.objective.judged_by_loss,
            "teacher": self.objective.taught_by(),
        }

    def load_weights(self, state: dict[str, Any]) -> None:
        """Take trunk and heads of a state, to measure them."""
        self.trunk.net.load_state_dict(state["model"])
        if self.pruning is not None:
            self.pruning.again()
        self.objective.load_state_dict(state["objective"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            CheckpointError: it is of other optimisers. ConfigError: the teacher has changed.
        """
        self.objective.learn_from(state.get("teacher"))
        self.objective.judged_by_loss = state.get("judged_by_loss", False)  # once by accuracy
        self.load_weights(state)
        load_states([one for _, one in self.optimizers], state["optimizers"])
        counters = state["counters"]
        self.steps, self.best = int(counters["steps"]), float(counters["best"])
        self.since_best = int(counters["since_best"])
        self._next = None

    def close(self) -> None:
        """Ends the thread that prepares batches."""
        self._pool.shutdown(cancel_futures=True)

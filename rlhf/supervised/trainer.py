"""Gradient steps of a fixed number, as every stage but sampling ones makes them.

The optimiser, the schedule of its learning rate, and what trainers of such stages share. Losses and
evaluations are the stages'.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from playout.agents.optim.adam import Adam, unique_parameters
from playout.agents.optim.chained import AnyOptimizer, ChainedOptimizer, make_optimizer
from playout.agents.optim.device_adam import make_adam
from playout.agents.optim.muon import Muon
from playout.agents.optim.names import check_optimizer
from playout.agents.optim.schedule import half_cosine
from playout.agents.optim.sharded_adam import ShardedAdam, is_cut
from playout.agents.pretraining.pruning import Pruning
from playout.agents.runs import ranks
from playout.agents.runs.devices import fetch
from playout.agents.runs.trainer import Trainer
from playout.errors import ConfigError, DivergedError
from playout.rlhf.model.adapters.held import learned_state, load_learned
from playout.rlhf.model.adapters.lora import dropout_at, has_adapters, layer_matrices
from playout.rlhf.model.sharding import is_sharded
from playout.rlhf.model.transformer import Transformer
from torch import Tensor, nn

__all__ = ["LearnConfig", "Learner", "SupervisedTrainer", "freeze_below", "own_part", "portions"]

S = TypeVar("S", bound=Sequence[Any] | Tensor)
BETAS, EPS = (0.9, 0.95), 1e-8  # of Adam


@dataclass(frozen=True, slots=True)
class LearnConfig:
    """How the parameters of a supervised stage are moved."""

    learning_rate: float = 1e-3
    """At its highest."""
    warmup: float = 0.05
    """Share of all steps over which the learning rate rises from zero."""
    final: float = 0.1
    """Share of the learning rate that is left at the end of its cosine."""
    weight_decay: float = 0.0
    """Of the weights, a step and a unit of learning rate; with adamw, sgd and momentum of matrices
    alone."""
    max_grad_norm: float = 1.0
    """Longer gradients are shortened to it."""
    optimizer: str = "adam"
    """adam, adamw, sgd, momentum, or muon: that for the matrices of the layers, and Adam for all
    else."""
    dtype: str = "auto"
    """float32 or bfloat16 products; auto takes bfloat16 where the processor has it."""
    microbatch: int = 0
    """Records a forward pass, to save memory; 0 takes a step's whole batch, or this rank's."""

    def __post_init__(self) -> None:
        if self.microbatch < 0:
            raise ConfigError(f"microbatch must not be negative, not {self.microbatch}")
        check_optimizer(self.optimizer)


def portions(batch: S, size: int) -> list[S]:
    """A batch in parts of at most `size`; whole if that is 0."""
    if size <= 0 or size >= len(batch):
        return [batch]
    return [batch[start : start + size] for start in range(0, len(batch), size)]  # type: ignore[misc, return-value]


def own_part(batch: S, what: str) -> S:
    """The consecutive records of a step's batch that this rank learns from; all with one process.

    Raises:
        ConfigError: there are more ranks than records; `what` names these.
    """
    part = ranks.share(len(batch), what)
    return batch[part.start : part.stop]  # type: ignore[return-value]


class Learner:
    """Parameters, their optimiser and the schedule of its learning rate.

    Attributes:
        steps: Steps taken; counted here, since the optimiser's own count lies on the device.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        config: LearnConfig,
        *,
        total_steps: int,
        inner: Iterable[nn.Parameter] = (),
    ) -> None:
        """Set up.

        Args:
            parameters: What may learn.
            config: How it moves.
            total_steps: Of the whole stage.
            inner: Those of the parameters that the optimiser muon makes orthogonal steps of.

        Raises:
            ConfigError: Muon has no matrix to move, or another optimiser than adam is to move
                weights that are cut over ranks.
        """
        self.config, self.total_steps = config, max(total_steps, 1)
        learned = [parameter for parameter in parameters if parameter.requires_grad]
        self.optimizer = _optimizer(learned, config, {id(one) for one in inner})
        self.steps = 0

    def learning_rate(self, step: int) -> float:
        """A linear rise, then half a cosine."""
        config = self.config
        rise = max(1, round(config.warmup * self.total_steps))
        if step < rise:  # counted in steps, and the first one moves
            return config.learning_rate * (step + 1) / rise
        falling = (step - rise) / max(1, self.total_steps - rise)
        return config.learning_rate * half_cosine(falling, final=config.final)

    def step(self, loss: Tensor, metrics: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Differentiate a loss and move; all metrics of the step come back from the device at once.

        Raises:
            DivergedError: the gradient is not finite.
        """
        return self.step_parts([1.0], lambda _: (loss, metrics))

    def step_parts(
        self,
        shares: Sequence[float],
        part: Callable[[int], tuple[Tensor, Mapping[str, Tensor | float]]],
    ) -> dict[str, float]:
        """One step of a batch that is differentiated part by part, to save memory.

        Args:
            shares: What part of the batch's mean each is, such as its targets over all of them;
                those of all ranks add up to 1. The sum of the losses times these is what is
                differentiated, over all ranks.
            part: From a part's number to its own mean loss and metrics; called in order, and each
                is differentiated before the next is asked for.

        Returns:
            Metrics of the whole batch, the same on every rank: means of the parts' by their shares.

        Raises:
            DivergedError: the gradient is not finite.
        """
        self.optimizer.zero_grad()
        metrics: dict[str, Tensor | float] = {}
        for number, share in enumerate(shares):
            loss, found = part(number)
            (loss * share).backward()  # type: ignore[no-untyped-call]
            for name, value in found.items():
                metrics[name] = metrics[name] + value * share if name in metrics else value * share
        if ranks.world() > 1:  # gradients and metrics are added up in one message
            device = self.optimizer.parameters[0].device
            told = torch.stack([torch.as_tensor(x).to(device).float() for x in metrics.values()])
            self.optimizer.sum_over_ranks([told])
            metrics = dict(zip(metrics, told.unbind(), strict=True))
        self.optimizer.lr = self.learning_rate(self.steps)
        norm = self.optimizer.advance(self.config.max_grad_norm)
        self.steps += 1
        found = fetch(
            {**metrics, "train/learning_rate": self.optimizer.lr, "train/grad_norm": norm}
        )
        if not math.isfinite(found["train/grad_norm"]):
            raise DivergedError(f"the gradient is not finite (norm {found['train/grad_norm']})")
        return found

    def state_dict(self) -> dict[str, Any]:
        """Moments and step count."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.optimizer.load_state_dict(state)
        self.steps = int(state["step_count"])


def _optimizer(
    learned: list[nn.Parameter], config: LearnConfig, inner: Collection[int]
) -> AnyOptimizer | ShardedAdam:
    """What moves the parameters that learn; `inner` are ids of those that muon may take."""
    name, cut = config.optimizer, bool(learned) and is_cut(learned[0])
    lr, decay = config.learning_rate, config.weight_decay
    if name == "adam":
        make: Callable[..., AnyOptimizer | ShardedAdam] = ShardedAdam if cut else make_adam
        return make(learned, lr=lr, betas=BETAS, eps=EPS, weight_decay=decay)
    parameters = unique_parameters(learned)
    if name != "muon" or cut:  # which is refused there
        named = {str(number): one for number, one in enumerate(parameters)}
        return make_optimizer(named, name, lr=lr, betas=BETAS, eps=EPS, weight_decay=decay)
    mine = [one for one in parameters if id(one) in inner]
    rest = [one for one in parameters if id(one) not in inner]
    if not mine:
        raise ConfigError("--optimizer muon moves matrices of layers: leave out --lora-rank")
    muon = Muon(mine, lr=lr, weight_decay=decay)
    adam = Adam(rest, lr=lr, betas=BETAS, eps=EPS, weight_decay=decay)
    return ChainedOptimizer([(1.0, muon), (1.0, adam)], lr=lr)


class SupervisedTrainer(Trainer):
    """Some gradient steps on parts of a model; `update` and `evaluate` are a subclass's.

    Attributes:
        seed: of order and dropout.
        parts: what learns and is saved, by name.
        learner: its optimiser.
        records: what a step consists of and ranks divide, for the error where they are too many.
        pruning: keeps weights at zero that were pruned; None where none were.
        shown: metrics of the progress line, with their labels there.
    """

    seed: int
    records: str = "texts a step"
    pruning: Pruning | None = None
    shown: tuple[tuple[str, str], ...] = (("train/loss", "loss"),)

    def _prepare(
        self,
        parts: Mapping[str, nn.Module],
        learn: LearnConfig,
        *,
        steps: int,
        units: int,
        size: int,
        extra: Iterable[nn.Parameter] = (),
    ) -> None:
        """Set up for `steps` steps of `units` units of progress.

        Args:
            parts: What learns.
            learn: How.
            steps: Of the whole stage.
            units: Of progress, a step.
            size: How many records a step has.
            extra: Parameters that learn too.

        Raises:
            ConfigError: There is no step, or there are more ranks than records.
        """
        if steps < 1 or units < 1:
            raise ConfigError(
                f"there must be at least one step and one record a step, not {steps} and {units}"
            )
        own_part(range(size), self.records)
        self.parts, self._units = parts, units
        self.evaluates_together = self.sharded
        parameters = [one for part in parts.values() for one in part.parameters()]
        inner = [
            part.get_parameter(name) for part in parts.values() for name in layer_matrices(part)
        ]
        self.learner = Learner([*parameters, *extra], learn, total_steps=steps, inner=inner)

    def _step(
        self,
        shares: Sequence[float],
        part: Callable[[int], tuple[Tensor, Mapping[str, Tensor | float]]],
    ) -> dict[str, float]:
        """`Learner.step_parts`, with the dropout of this step."""
        if self.sharded:
            # Every pass gathers weights from all ranks, so all make as many, the last for nothing.
            passes = round(ranks.largest([len(shares)])[0])
            shares, own, last = [*shares, *[0.0] * (passes - len(shares))], part, len(shares) - 1

            def part(number: int) -> tuple[Tensor, Mapping[str, Tensor | float]]:
                return own(min(number, last))

        with self._dropout():
            found = self.learner.step_parts(shares, part)
        if self.pruning is not None:
            self.pruning.apply()
        return found

    def prune(self, share: float, pattern: str) -> None:
        """Set a share of the weights of the model's layers to zero, for good.

        Args:
            share: Above 0 and below 1.
            pattern: See `make_mask`.

        Raises:
            ConfigError: Both do not go together, or the layers do not learn themselves.
        """
        layers = next(iter(self.parts.values())).get_submodule("layers")
        if self.sharded:
            raise ConfigError("weights that are cut over ranks are not pruned: leave out --shard")
        learned = [p.requires_grad for p in layers.parameters() if p.dim() > 1]
        if has_adapters(layers) or not all(learned):
            raise ConfigError("adapters leave the weights as they are: prune without --lora-rank")
        routers = [name for name, _ in layers.named_parameters() if ".router." in name]
        self.pruning = Pruning(layers, share, pattern, skip=routers)

    def _dropout(self) -> AbstractContextManager[None]:
        """Inside, adapters drop what this step's number says, and the rank's where there are many.

        What is dropped depends on how a batch is cut, into ranks as into parts.
        """
        place = [ranks.rank()] if ranks.rank() else []
        return dropout_at(self.parts.values(), [self.seed, self.learner.steps, *place])

    @property
    def sharded(self) -> bool:
        """Whether what learns is cut over ranks, so that nothing is computed by one alone."""
        return any(is_sharded(part) for part in self.parts.values())

    @property
    def networks(self) -> list[nn.Module]:
        """What has weights, the model first."""
        return list(self.parts.values())

    @property
    def progress(self) -> tuple[int, int]:
        """Units done and planned."""
        return self.learner.steps * self._units, self.learner.total_steps * self._units

    def digest(self) -> str:
        """What ranks must begin with alike; of rows that each has for itself there is nothing."""
        return f"step {self.learner.steps}" if self.sharded else super().digest()

    def weights_digest(self, state: dict[str, Any]) -> str:
        """What ranks must save alike; of rows that each has for itself there is nothing."""
        return "" if self.sharded else super().weights_digest(state)

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """What the progress line shows."""
        return {name: f"{metrics[key]:.3f}" for key, name in self.shown if key in metrics}

    def state_dict(self) -> dict[str, Any]:
        """Weights that learn, and moments; data come by step number."""
        weights = {name: learned_state(part) for name, part in self.parts.items()}
        return {**weights, "optimizer": self.learner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        for name, part in self.parts.items():
            load_learned(part, state[name])
        if self.pruning is not None:
            self.pruning.again()
        self.learner.load_state_dict(state["optimizer"])


def freeze_below(model: Transformer, top: int) -> None:
    """Leave only the `top` last layers and the last norm to be trained."""
    if not 0 < top <= len(model.blocks):
        raise ConfigError(f"the model has {len(model.blocks)} layers; {top} cannot be trained")
    model.requires_grad_(False)
    for block in model.blocks[-top:]:
        block.requires_grad_(True)
    model.norm.requires_grad_(True)

"""Pretraining on raw text: next tokens for a decoder, masked tokens for an encoder.

The trainer knows tokens only; which texts they come from is its command's choice. Progress is
measured on held-out text in bits per byte, which does not depend on the vocabulary. Masking is
masked.py's; data come by step number, so nothing but weights and moments is saved.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from playout.agents.runs.devices import fetch, pack_to_device
from playout.rlhf.data.batches import Corpus, target_places
from playout.rlhf.data.curation.mixture import Mixture
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.teacher import Teacher
from playout.rlhf.model.experts.layer import routes_of
from playout.rlhf.model.experts.routing import with_balance
from playout.rlhf.model.heads import MaskedTokenHead
from playout.rlhf.model.layers.lm_head import cross_entropy
from playout.rlhf.model.transformer import Transformer, autocast, pick_dtype
from playout.rlhf.supervised.masked import CHOSEN, MaskedBatches, masked_loss
from playout.rlhf.supervised.trainer import (
    LearnConfig,
    SupervisedTrainer,
    own_part,
    portions,
)
from torch import Tensor, nn

__all__ = ["MaskedTrainer", "PretrainConfig", "PretrainTrainer", "bits_per_byte"]


# Held-out batches on which student and teacher are compared.
AGREED = 16


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """The size of a pretraining run."""

    steps: int = 1000
    """Gradient steps."""
    rows: int = 16
    """Rows a step."""
    length: int = 256
    """Tokens a row."""
    compile: bool = False
    """Compile the model first (half a minute, then faster)."""
    mask: float = CHOSEN
    """Share of the tokens that an encoder has to guess, between 0 and 1."""
    learn: LearnConfig = field(default_factory=lambda: LearnConfig(weight_decay=0.1))
    """Optimisation."""


def next_token_loss(
    model: Transformer, forward: Callable[[Tensor], Tensor], window: tuple[Tensor, Tensor]
) -> tuple[Tensor, int]:
    """Mean loss over a window's targets and their number; `forward` is the model, or compiled."""
    ids, targets = window
    ids, targets, places = pack_to_device([ids, targets, target_places(targets)], model.device)
    hidden = forward(ids)
    return cross_entropy(hidden, model.head_weight(hidden.dtype), targets, places=places)


@torch.no_grad()
def bits_per_byte(model: Transformer, corpus: Corpus, *, length: int, dtype: torch.dtype) -> float:
    """How many bits the model needs for a byte of text it has not seen."""
    nats = 0.0
    with autocast(dtype, model.device):
        for window in corpus.all_windows(rows=16, length=length):
            mean, count = next_token_loss(model, model, window)
            nats += float(mean) * count
    return nats / math.log(2) / max(corpus.num_bytes, 1)


class PretrainTrainer(SupervisedTrainer):
    """Next-token prediction on random windows of a corpus."""

    title, unit, best_metric = "pretrain", "tokens", "eval/neg_bits_per_byte"
    records = "rows a step (--rows)"
    shown = (("train/loss", "loss"), ("eval/bits_per_byte", "bits/byte"))

    def __init__(
        self,
        model: Transformer,
        train: Corpus | Mixture,
        heldout: Corpus,
        config: PretrainConfig,
        *,
        seed: int,
        teacher: Teacher | None = None,
        each: Mapping[str, Corpus] | None = None,
    ) -> None:
        """Set up.

        Args:
            model: A decoder.
            train: To learn from.
            heldout: To be examined on.
            config: Size of the run.
            seed: Of the order.
            teacher: Whose probabilities are imitated.
            each: Further held-out texts by name, examined one by one.
        """
        self.each = dict(each or {})
        self.model, self.train_corpus, self.heldout = model, train, heldout
        self.config, self.seed, self.teacher = config, seed, teacher
        self.dtype = pick_dtype(config.learn.dtype, model.device)
        train.windows(0, rows=1, length=config.length, seed=seed)  # is there text for a row?
        tokens = config.rows * config.length
        parts, size = {"model": model}, config.rows
        self._prepare(parts, config.learn, steps=config.steps, units=tokens, size=size)
        self._forward: Any = torch.compile(model) if config.compile else model

    def update(self) -> dict[str, float]:
        """One step."""
        config = self.config
        window = self.train_corpus.windows(
            self.learner.steps, rows=config.rows, length=config.length, seed=self.seed
        )
        own = [own_part(x, self.records) for x in window]
        windows = list(zip(*(portions(x, config.learn.microbatch) for x in own), strict=True))

        def loss_of(number: int) -> tuple[Tensor, dict[str, Tensor | float]]:
            with autocast(self.dtype, self.model.device), routes_of(self.model) as routes:
                loss, found = self._loss(windows[number])
            total, balance = with_balance(loss, routes, self.model.config)
            return total, {"train/loss": loss.detach(), **found, **balance}

        # Every row of a step has as many targets.
        return self._step([len(ids) / config.rows for ids, _ in windows], loss_of)

    def _loss(self, window: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss over a window's targets, and what a teacher measures besides."""
        if self.teacher is None:
            return next_token_loss(self.model, self._forward, window)[0], {}
        ids, targets = window
        parts = [ids, targets, target_places(targets)]
        ids, targets, places = pack_to_device(parts, self.model.device)
        hidden = self._forward(ids)
        weight = self.model.head_weight(hidden.dtype)
        loss, found = self.teacher.loss(hidden, weight, targets, places, ids)
        return loss, {f"train/{name}": value for name, value in found.items()}

    @property
    def networks(self) -> list[nn.Module]:
        """The model, and its teacher."""
        return [self.model, *([] if self.teacher is None else [self.teacher.model])]

    def evaluate(self) -> dict[str, float]:
        """Bits per byte of the held-out text; how often a teacher thinks likewise."""
        bits = bits_per_byte(self.model, self.heldout, length=self.config.length, dtype=self.dtype)
        each = {
            f"eval/bits_per_byte/{name}": bits_per_byte(
                self.model, corpus, length=self.config.length, dtype=self.dtype
            )
            for name, corpus in self.each.items()
        }
        found = {"eval/bits_per_byte": bits, "eval/neg_bits_per_byte": -bits}
        return {**found, **each, **self._agreement()}

    @torch.no_grad()
    def _agreement(self) -> dict[str, float]:
        """On the first held-out windows, always the same ones."""
        if self.teacher is None:
            return {}
        windows = self.heldout.all_windows(rows=16, length=self.config.length)[:AGREED]
        with autocast(self.dtype, self.model.device):
            found = [self._loss(window) for window in windows]
        shares = fetch({str(i): one["train/agreement"] for i, (_, one) in enumerate(found)})
        return {"eval/teacher_agreement": sum(shares.values()) / len(shares)}


class MaskedTrainer(SupervisedTrainer):
    """Masked-token prediction for an encoder, with next-sentence prediction if asked for."""

    title, unit, best_metric = "pretrain", "tokens", "eval/masked_accuracy"
    records = PretrainTrainer.records
    shown = (("train/loss", "loss"), ("eval/masked_accuracy", "masked right"))

    def __init__(
        self,
        model: Transformer,
        head: MaskedTokenHead,
        tokenizer: Tokenizer,
        texts: tuple[list[str], list[str]],
        config: PretrainConfig,
        *,
        pairs: bool = False,
        seed: int,
    ) -> None:
        """Set up.

        Args:
            model: An encoder.
            head: Its prediction head.
            tokenizer: With mask and separator tokens.
            texts: Documents to learn from, and documents held out.
            config: Size of the run.
            pairs: Also predict whether the second half of a row follows the first.
            seed: Of batches and masks.
        """
        self.model, self.head, self.config, self.seed = model, head, config, seed
        options: dict[str, Any] = {"length": config.length, "pairs": pairs, "share": config.mask}
        self.batches, self.heldout = (MaskedBatches(tokenizer, part, **options) for part in texts)
        self.dtype = pick_dtype(config.learn.dtype, model.device)
        tokens = config.rows * config.length
        parts = {"model": model, "head": head}
        size = config.rows
        self._prepare(parts, config.learn, steps=config.steps, units=tokens, size=size)

    def update(self) -> dict[str, float]:
        """One step."""
        batch = self.batches.batch(self.learner.steps, rows=self.config.rows, seed=self.seed)
        rows_here = own_part(range(len(batch.ids)), self.records)
        own = batch.rows(slice(rows_here.start, rows_here.stop))
        parts = own.portions(self.config.learn.microbatch)
        hidden = max(batch.num_targets, 1)
        by_rows = [len(part.ids) / len(batch.ids) for part in parts]
        # Of a part without masked tokens, whose loss is that of its pairs, the rows decide.
        shares = [part.num_targets / hidden or by_rows[n] for n, part in enumerate(parts)]

        def loss_of(number: int) -> tuple[Tensor, dict[str, Tensor | float]]:
            part = parts[number]
            # Masked tokens and pairs are means of their own: the share is that of the tokens.
            rows = by_rows[number] / shares[number]
            with autocast(self.dtype, self.model.device):
                loss, metrics = masked_loss(self.model, self.head, part, pair_weight=rows)
            by_row = {name: rows if name.startswith("pair_") else 1.0 for name in metrics}
            found = {f"train/{name}": value * by_row[name] for name, value in metrics.items()}
            return loss, {**found, "train/loss": loss.detach()}

        return self._step(shares, loss_of)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Loss and accuracies on eight batches of held-out text, always the same ones."""
        totals: dict[str, float] = {}
        for step in range(8):
            batch = self.heldout.batch(step, rows=self.config.rows, seed=1)
            with autocast(self.dtype, self.model.device):
                _, metrics = masked_loss(self.model, self.head, batch)
            for name, value in fetch(metrics).items():
                totals[f"eval/{name}"] = totals.get(f"eval/{name}", 0.0) + value / 8
        return totals

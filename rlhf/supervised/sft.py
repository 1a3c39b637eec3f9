"""Supervised fine-tuning: imitate demonstrations, learning from the answers only.

Prompts are read and never predicted, in a conversation everything but the assistant's messages;
several demonstrations share a row, and none sees another. The end token after an answer is learned
as well, or the policy could not stop. Rows are data/encoding.py's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from playout.errors import DataError
from playout.rlhf.data.batches import Packed, batch_of, by_length, num_targets, pack
from playout.rlhf.data.encoding import (
    TokenRow,
    TokenRows,
    Truncate,
    encode_demonstrations,
    fit_rows,
    row_length,
)
from playout.rlhf.data.records import Demonstration
from playout.rlhf.evaluation.samples import write_answers
from playout.rlhf.generation.conversation import ConversationFormat, conversation_format
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.teacher import Teacher
from playout.rlhf.model.experts.layer import routes_of
from playout.rlhf.model.experts.routing import with_balance
from playout.rlhf.model.layers.lm_head import cross_entropy
from playout.rlhf.model.transformer import Transformer, autocast, packed_mask, pick_dtype
from playout.rlhf.supervised.trainer import (
    LearnConfig,
    SupervisedTrainer,
    own_part,
    portions,
)
from torch import Tensor, nn

__all__ = ["SFTConfig", "SFTTrainer", "usual_rate"]

_RATE, _SMALL = 5e-4, 10_000_000  # learning rate of models of up to so many parameters


@dataclass(frozen=True, slots=True)
class SFTConfig:
    """The size of a fine-tuning run."""

    steps: int = 300
    """Gradient steps."""
    epochs: float = 0.0
    """Passes over what is learned from, in place of steps."""
    batch: int = 64
    """Demonstrations a step."""
    full_batches: bool = False
    """Count `epochs` in steps of `batch` where there are fewer texts, as earlier versions did."""
    length: int = 128
    """Tokens a packed row."""
    stretch: bool = False
    """Let rows be as long as the longest demonstration, up to a limit; else `length` holds."""
    truncate: Truncate = "right"
    """What becomes of longer demonstrations; see `fit_rows`."""
    max_new_tokens: int = 32
    """Of the answers shown at evaluations."""
    learn: LearnConfig = field(default_factory=lambda: LearnConfig(learning_rate=5e-4))
    """Optimisation."""


def usual_rate(model: nn.Module) -> float:
    """A learning rate for a model of this size: above ten million it falls with the square root.

    At 5e-4 a published model of 135 million parameters unlearns more than it learns. Adapters move
    little each, and take the rate of a small model.
    """
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return _RATE * min(1.0, math.sqrt(_SMALL / max(learning, 1)))


class SFTTrainer(SupervisedTrainer):
    """Cross entropy on the answers of packed demonstrations."""

    title, unit, best_metric = "sft", "demonstrations", "eval/neg_loss"
    records = "demonstrations a step"
    shown = (("train/loss", "loss"), ("eval/loss", "held out"))

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        demonstrations: tuple[Sequence[Demonstration], Sequence[Demonstration]],
        config: SFTConfig,
        *,
        seed: int,
        folder: Path | None = None,
        talk: ConversationFormat | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        """Set up.

        Args:
            model: A pretrained decoder.
            tokenizer: Its tokenizer.
            demonstrations: To learn from, and held out.
            config: Size of the run.
            seed: Of the order.
            folder: The run, for tables of samples; none if None.
            talk: How prompts become tokens; as the tokenizer's model does it if None.
            teacher: Whose probabilities of the answers are imitated.
        """
        self.teacher = teacher
        self.model, self.tokenizer, self.config, self.seed = model, tokenizer, config, seed
        self.folder = folder
        self.dtype = pick_dtype(config.learn.dtype, model.device)
        train, test = demonstrations
        if not train or not test:
            raise DataError("there are too few demonstrations to hold some out")
        self.talk = talk or conversation_format(tokenizer)
        rows = encode_demonstrations(self.talk, train)
        self.length = row_length(
            0 if config.stretch else config.length,
            config.length,
            model.config.max_position_embeddings,
            max(len(ids) for ids, _ in rows),
            own=config.stretch,
        )
        self.texts = fit_rows(rows, self.length, config.truncate, what="demonstrations")
        # Examined in the form in which it was learned; the same ones are not counted twice.
        same = test is train
        self.heldout = self.texts if same else self._fitted(test)
        self.prompts = [item.prompt for item in test]
        # A template may make several rows of a conversation, and too long ones may be left out.
        size = min(config.batch, len(self.texts))
        taken = config.batch if config.full_batches else max(size, 1)
        steps = math.ceil(config.epochs * len(self.texts) / taken) or config.steps
        self._prepare({"model": model}, config.learn, steps=steps, units=size, size=size)

    def _fitted(self, items: Sequence[Demonstration]) -> TokenRows:
        rows = encode_demonstrations(self.talk, items)
        return fit_rows(rows, self.length, self.config.truncate, what="held-out demonstrations")

    def _placed(self, packed: Packed) -> tuple[Packed, dict[str, Tensor | None]]:
        """Rows on the model's device, with places and mask; a text alone in its row needs none."""
        shared = packed.shares_rows
        packed = packed.to(self.model.device)
        mask = packed_mask(packed.segments) if shared else None
        return packed, {"positions": packed.positions, "mask": mask}

    def _loss(self, packed: Packed) -> tuple[Tensor, int]:
        packed, seen = self._placed(packed)
        with autocast(self.dtype, self.model.device):
            hidden = self.model(packed.ids, **seen)
            weight = self.model.head_weight(hidden.dtype)
            return cross_entropy(hidden, weight, packed.targets, places=packed.places)

    def _step_loss(self, packed: Packed) -> tuple[Tensor, dict[str, Tensor]]:
        """What is learned from, and what a teacher measures besides."""
        if self.teacher is None:
            return self._loss(packed)[0], {}
        packed, seen = self._placed(packed)
        with autocast(self.dtype, self.model.device):
            hidden = self.model(packed.ids, **seen)
            weight = self.model.head_weight(hidden.dtype)
            loss, found = self.teacher.loss(
                hidden, weight, packed.targets, packed.places, packed.ids, **seen
            )
        return loss, {f"train/{name}": value for name, value in found.items()}

    @property
    def networks(self) -> list[nn.Module]:
        """The model, and its teacher."""
        return [self.model, *([] if self.teacher is None else [self.teacher.model])]

    def _packs(self, texts: Sequence[TokenRow]) -> list[Packed]:
        """Rows of the run's length; of own data, which differ more, of several lengths."""
        parts = [(list(range(len(texts))), self.length)]
        if self.config.stretch:
            # In layers of this width a token's products take as long as half as many looks.
            width = self.model.config.hidden_size // 2
            parts = by_length([len(ids) for ids, _ in texts], length=self.length, other=width)
        pad = self.tokenizer.pad_id
        packs = [pack([texts[i] for i in rows], length=size, pad=pad) for rows, size in parts]
        return [packed for packed in packs if len(packed.places)]

    def update(self) -> dict[str, float]:
        """One step."""
        chosen = batch_of(len(self.texts), self.config.batch, self.learner.steps, seed=self.seed)
        own = own_part(chosen, self.records)
        parts = portions([self.texts[i] for i in own], self.config.learn.microbatch)
        packs = [packed for part in parts for packed in self._packs(part)]
        if not packs:  # other ranks may have something to learn
            packs = [pack(parts[0], length=self.length, pad=self.tokenizer.pad_id)]
        # Of the whole step, so that every rank divides by the same number.
        learned = sum(num_targets(self.texts[i], self.length) for i in chosen)

        def loss_of(number: int) -> tuple[Tensor, dict[str, Tensor | float]]:
            with routes_of(self.model) as routes:
                loss, found = self._step_loss(packs[number])
            keep = packs[number].segments.to(loss.device) != 0 if routes else None
            total, balance = with_balance(loss, routes, self.model.config, keep=keep)
            return total, {"train/loss": loss.detach(), **found, **balance}

        return self._step([len(packed.places) / max(learned, 1) for packed in packs], loss_of)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Loss on the answers of the first held-out rows, 1024 at most, and a table of samples."""
        nats, tokens = 0.0, 0
        for start in range(0, min(len(self.heldout), 1024), 128):
            for packed in self._packs(self.heldout[start : start + 128]):
                loss, count = self._loss(packed)
                nats, tokens = nats + float(loss) * count, tokens + count
        write_answers(
            self.folder,
            self.learner.steps,
            self.model,
            self.talk,
            self.prompts,
            max_new_tokens=self.config.max_new_tokens,
            dtype=self.dtype,
        )
        loss_now = nats / max(tokens, 1)
        perplexity = math.exp(min(loss_now, 50.0))
        return {
            "eval/loss": loss_now,
            "eval/perplexity": perplexity,
            "eval/neg_loss": -loss_now,
        }

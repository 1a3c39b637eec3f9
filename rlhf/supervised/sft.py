"""Supervised fine-tuning: imitate demonstrations, learning from the answers only.

Prompts are read and never predicted; several demonstrations share a row, and none sees another.
The end token after an answer is learned as well, or the policy could not stop.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from playout.errors import DataError
from playout.rlhf.data.batches import Packed, batch_of, pack
from playout.rlhf.data.records import Demonstration
from playout.rlhf.evaluation.samples import write_samples
from playout.rlhf.generation.responses import encode_prompts, sample_responses
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.lm_head import cross_entropy
from playout.rlhf.model.transformer import Transformer, autocast, packed_mask, pick_dtype
from playout.rlhf.supervised.trainer import LearnConfig, SupervisedTrainer, portions
from torch import Tensor

__all__ = ["SFTConfig", "SFTTrainer"]


@dataclass(frozen=True, slots=True)
class SFTConfig:
    """The size of a fine-tuning run."""

    steps: int = 300
    """Gradient steps."""
    batch: int = 64
    """Demonstrations a step."""
    length: int = 128
    """Tokens a packed row; longer demonstrations are cut."""
    max_new_tokens: int = 32
    """Of the answers shown at evaluations."""
    learn: LearnConfig = field(default_factory=lambda: LearnConfig(learning_rate=5e-4))
    """Optimisation."""


class SFTTrainer(SupervisedTrainer):
    """Cross entropy on the answers of packed demonstrations."""

    title, unit, best_metric = "sft", "demonstrations", "eval/neg_loss"
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
    ) -> None:
        """Set up.

        Args:
            model: A pretrained decoder.
            tokenizer: Its tokenizer.
            demonstrations: To learn from, and held out.
            config: Size of the run.
            seed: Of the order.
            folder: The run, for tables of samples; none if None.
        """
        self.model, self.tokenizer, self.config, self.seed = model, tokenizer, config, seed
        self.folder = folder
        self.dtype = pick_dtype(config.learn.dtype, model.device)
        train, test = demonstrations
        if not train or not test:
            raise DataError("there are too few demonstrations to hold some out")
        self.length = min(config.length, model.config.max_position_embeddings)
        self.texts, self.heldout = self._encode(train), self._encode(test)
        self.prompts = [item.prompt for item in test[:16]]
        self._prepare({"model": model}, config.learn, steps=config.steps, units=config.batch)

    def _encode(self, items: Sequence[Demonstration]) -> list[tuple[list[int], int]]:
        """(ids, number of ids that are prompt) of demonstrations whose answer fits in part."""
        prompts = encode_prompts(self.tokenizer, [item.prompt for item in items])
        answers = self.tokenizer.encode_batch([item.response for item in items])
        end = [self.tokenizer.end_id]
        found = [
            ([*prompt, *answer, *end], len(prompt))
            for prompt, answer in zip(prompts, answers, strict=True)
            if len(prompt) < self.length
        ]
        if not found:
            raise DataError(f"every prompt is longer than the context of {self.length} tokens")
        return found

    def _loss(self, packed: Packed) -> tuple[Tensor, int]:
        packed = packed.to(self.model.device)
        with autocast(self.dtype, self.model.device):
            hidden = self.model(
                packed.ids, positions=packed.positions, mask=packed_mask(packed.segments)
            )
            weight = self.model.head_weight(hidden.dtype)
            return cross_entropy(hidden, weight, packed.targets, places=packed.places)

    def _pack(self, texts: Sequence[tuple[list[int], int]]) -> Packed:
        return pack(texts, length=self.length, pad=self.tokenizer.pad_id)

    def update(self) -> dict[str, float]:
        """One step."""
        chosen = batch_of(len(self.texts), self.config.batch, self.learner.steps, seed=self.seed)
        parts = portions([self.texts[i] for i in chosen], self.config.learn.microbatch)
        packs = [self._pack(part) for part in parts]
        learned = sum(len(packed.places) for packed in packs)

        def loss_of(number: int) -> tuple[Tensor, dict[str, Tensor | float]]:
            loss, _ = self._loss(packs[number])
            return loss, {"train/loss": loss.detach()}

        return self._step([len(packed.places) / max(learned, 1) for packed in packs], loss_of)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Loss on held-out answers, and a table of samples."""
        nats, tokens = 0.0, 0
        for start in range(0, min(len(self.heldout), 1024), 128):
            loss, count = self._loss(self._pack(self.heldout[start : start + 128]))
            nats, tokens = nats + float(loss) * count, tokens + count
        if self.folder is not None:
            answers = sample_responses(
                self.model,
                self.tokenizer,
                self.prompts,
                max_new_tokens=self.config.max_new_tokens,
                seed=1,
                dtype=self.dtype,
            )
            write_samples(self.folder, self.learner.steps, self.prompts, answers.responses)
        loss_now = nats / max(tokens, 1)
        perplexity = math.exp(min(loss_now, 50.0))
        return {
            "eval/loss": loss_now,
            "eval/perplexity": perplexity,
            "eval/neg_loss": -loss_now,
        }

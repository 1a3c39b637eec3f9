"""The language side of the study of compression: what each way to save costs a small Transformer.

One model is trained on text; others learn for as many steps with half the width, alone or from the
first one's probabilities, with experts at the same cost a token, or from half of the text. The
first one is also held in fewer bits, and pruned and trained on. Quality is held-out bits a byte,
speed the tokens that one answer takes a second. compression.py draws it beside the board networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from playout.rlhf.data.batches import Corpus
from playout.rlhf.data.curation.curate import Filters, curate
from playout.rlhf.data.datasets import Datasets, choose_source
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import HELD, hold_weights, learning_copy, weight_bytes
from playout.rlhf.model.adapters.narrowed import NARROWED, narrowed
from playout.rlhf.model.adapters.teacher import DistillConfig, Teacher
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.pretrain import PretrainConfig, PretrainTrainer
from playout.rlhf.supervised.trainer import LearnConfig
from torch import Tensor

EXPERTS, ACTIVE = 8, 2


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs of a seed share."""

    texts: tuple[str, ...]
    tokenizer: Tokenizer
    train: Corpus
    heldout: Corpus
    width: int
    layers: int
    steps: int
    length: int
    seed: int

    def shape(self, width: int) -> TransformerConfig:
        """A dense model of a width."""
        heads = max(2, width // 32)
        return TransformerConfig(
            vocab_size=self.tokenizer.vocab_size,
            hidden_size=width,
            intermediate_size=-(-8 * width // (24 * ACTIVE)) * 8 * ACTIVE,
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=max(128, self.length),
        )

    def trained(
        self,
        model: Transformer,
        *,
        share: float = 1.0,
        train: Corpus | None = None,
        teacher: Transformer | None = None,
        prepare: Callable[[PretrainTrainer], None] | None = None,
    ) -> Transformer:
        """The model after a share of the steps, from labels or from a teacher."""
        learn = LearnConfig(2e-3 if share == 1.0 else 5e-4, weight_decay=0.1)
        steps = max(1, round(share * self.steps))
        trainer = PretrainTrainer(
            model,
            train or self.train,
            self.heldout,
            PretrainConfig(steps=steps, rows=16, length=self.length, learn=learn),
            seed=self.seed,
            teacher=None if teacher is None else Teacher(teacher, DistillConfig()),
        )
        if prepare is not None:
            prepare(trainer)
        while not trainer.finished:
            trainer.update()
        return model

    def bits(self, model: Transformer) -> float:
        """Held-out bits a byte, in the type in which it learned."""
        config = PretrainConfig(steps=1, rows=16, length=self.length)
        trainer = PretrainTrainer(
            learning_copy(model), self.train, self.heldout, config, seed=self.seed
        )
        return trainer.evaluate()["eval/bits_per_byte"]


def setting(*, quick: bool, seed: int) -> Setting:
    """The texts, and sizes for some seconds or for some minutes a run."""
    texts, held = Datasets(choose_source("synthetic" if quick else "auto")).texts()
    vocabulary, length = (512, 48) if quick else (2048, 128)
    texts = texts[:1500] if quick else texts
    tokenizer = Tokenizer.train(texts[:5000], vocab_size=vocabulary)
    width, layers, steps = (64, 2, 120) if quick else (128, 4, 1200)
    return Setting(
        tuple(texts),
        tokenizer,
        Corpus.of(tokenizer, texts),
        Corpus.of(tokenizer, held[:400]),
        width,
        layers,
        steps,
        length,
        seed,
    )


def tokens_a_second(model: Transformer, *, steps: int = 60) -> float:
    """Of one answer, by the compiled step; the quickest of three."""
    decoder = Decoder(model, dtype=torch.float32)
    decoder.allocate(1, steps + 2)
    decoder.compiled = True
    best = 0.0
    for _ in range(3):
        decoder.prefill(torch.tensor([[5]]), torch.tensor([1]))
        token = torch.tensor([7])
        decoder.step(token)
        begun = time.perf_counter()
        for _ in range(steps):
            decoder.step(token)
        best = max(best, steps / (time.perf_counter() - begun))
    return best


def packed_bytes(weight: Tensor, size: int) -> float:
    """Bytes of a matrix of zeros and others, at so many bytes a weight, or of it as it is if fewer.

    Zeros are left out; a bit a weight says where the others are.
    """
    count = weight.numel()
    return min(size * count, size * int(weight.count_nonzero()) + count / 8)


def active_parameters(model: Transformer) -> int:
    """Weights of the layers that a token is multiplied with, zeros left out."""
    config, total = model.config, 0
    for block in model.blocks:
        for name, module in block.named_modules():
            if hasattr(module, "dense"):
                used = int((module.dense() != 0).sum())
                mixed = name in ("experts.gate_up_proj", "experts.down_proj")
                chosen = config.num_experts_per_tok / config.num_experts if mixed else 1.0
                total += round(used * chosen)
    return total


@dataclass(frozen=True, slots=True)
class Made:
    """A model, what it is worth, and the minutes that it took."""

    name: str
    kind: str
    model: Transformer
    bits: float
    minutes: float

    def row(self) -> dict[str, Any]:
        """What it costs and what it is worth; its speed is measured now."""
        layers = list(self.model.layers.parameters())
        saved = sum(
            p.element_size() * p.numel() - packed_bytes(p, p.element_size()) for p in layers
        )
        return {
            "model": self.name,
            "kind": self.kind,
            "weights a token": active_parameters(self.model),
            "kB": (weight_bytes(self.model) - saved) / 1000,
            "bits a byte": self.bits,
            "tokens/s": tokens_a_second(self.model),
            "minutes": self.minutes,
        }


def models_of_seed(shared: Setting) -> list[Made]:
    """Every way to save once, in one order."""
    seed, width = shared.seed, shared.width
    found: list[Made] = []

    def add(name: str, kind: str, make: Callable[[], Transformer]) -> Transformer:
        start = time.perf_counter()
        model = make()
        took = (time.perf_counter() - start) / 60
        found.append(Made(name, kind, model, shared.bits(model), took))
        print(f"{name}, seed {seed}: {found[-1].bits:.3f} bits a byte", flush=True)
        return model

    dense = add(
        f"dense {width}",
        "dense",
        lambda: shared.trained(Transformer(shared.shape(width), seed=seed)),
    )
    half = shared.shape(width // 2)
    frozen = learning_copy(dense).requires_grad_(False)
    add(f"dense {width // 2}", "dense", lambda: shared.trained(Transformer(half, seed=seed)))
    add(
        f"{width // 2}, taught by {width}",
        "distilled",
        lambda: shared.trained(Transformer(half, seed=seed), teacher=frozen),
    )
    mixture = replace(
        shared.shape(width),
        model_type="mixtral",
        num_experts=EXPERTS,
        num_experts_per_tok=ACTIVE,
        intermediate_size=shared.shape(width).intermediate_size // ACTIVE,
    )
    add(
        f"{width}, {ACTIVE} of {EXPERTS} experts",
        "experts",
        lambda: shared.trained(Transformer(mixture, seed=seed)),
    )
    for kind in ("int8", "nf4"):
        add(
            f"{width} in {kind}",
            "quantised",
            lambda kind=kind: hold_weights(  # type: ignore[misc]
                learning_copy(dense).requires_grad_(False), HELD[kind]
            ),
        )
    for pattern, share in (("unstructured", 0.75), ("2:4", 0.5), ("heads", 0.5), ("channels", 0.5)):

        def pruned(pattern: str = pattern, share: float = share) -> Transformer:
            copy = learning_copy(dense)
            if pattern in NARROWED:
                return shared.trained(narrowed(copy, share, pattern), share=0.25)
            return shared.trained(
                copy, share=0.25, prepare=lambda trainer: trainer.prune(share, pattern)
            )

        add(f"{width}, {100 * share:.0f} % pruned ({pattern})", "pruned", pruned)
    for name, kept in halves(shared.texts, seed).items():
        texts = [text for text, stays in zip(shared.texts, kept, strict=True) if stays]
        corpus = Corpus.of(shared.tokenizer, texts)
        add(
            f"{width}, {name}",
            "data",
            lambda corpus=corpus: shared.trained(  # type: ignore[misc]
                Transformer(shared.shape(width), seed=seed), train=corpus
            ),
        )
    return found


def halves(texts: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Ways to leave out text: half by chance, and what filters take."""
    chance = np.random.default_rng(seed).permutation(len(texts)) < len(texts) // 2
    filtered = curate(texts, Filters(quality="any", dedup="near"), seed=seed).kept
    return {
        "half of the text by chance": chance,
        f"{100 * filtered.mean():.0f} % of the text, filtered": filtered,
    }


def language_rows(models: Sequence[Sequence[Made]]) -> list[dict[str, Any]]:
    """A row for each way to save, means over the seeds, with the spread of the quality.

    Args:
        models: of each seed, in one order.
    """
    rows = []
    base = [of_seed[0].bits for of_seed in models]
    for same in zip(*models, strict=True):
        found = [one.row() for one in same]
        more = [one.bits - other for one, other in zip(same, base, strict=True)]
        means = {
            key: float(np.mean([row[key] for row in found]))
            for key, value in found[0].items()
            if isinstance(value, float | int)
        }
        spread = {"more bits": [min(more), max(more)], "in the middle": float(np.median(more))}
        rows.append({**found[0], **means, **spread})
    return rows


def more_of(bits: Sequence[float]) -> str:
    """How many bits a byte more or less, in words; a range where several seeds differ."""
    low, high = bits
    if low == high:
        return f"{abs(low):.3f} {'more' if low > 0 else 'less'}"
    return f"from {low:+.3f} to {high:+.3f} over the seeds"


def _mixture(language: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in language if row["kind"] == "experts")


def finding_of_experts(language: Sequence[dict[str, Any]]) -> str:
    """What the model with experts costs and gains beside the dense one, in a sentence."""
    dense, mixture = language[0], _mixture(language)
    return (
        f"At the same multiplications a token the dense model needs {dense['bits a byte']:.3f} "
        f"bits a byte and the one with experts {mixture['bits a byte']:.3f}: "
        f"{more_of(mixture['more bits'])}, in "
        f"{mixture['minutes'] / max(dense['minutes'], 1e-9):.1f} times the time and "
        f"{mixture['kB'] / dense['kB']:.1f} times the memory."
    )


def claim_of_experts(language: Sequence[dict[str, Any]], command: str) -> dict[str, Any]:
    """What a language model with experts needs beside a dense one of equal multiplications."""
    mixture = _mixture(language)
    low, high = mixture["more bits"]
    return {
        "claim": "language model with experts beside a dense one at equal multiplications a token",
        "ours": {"median": mixture["in the middle"], "min": low, "max": high},
        "unit": "bits a byte more",
        "target": 0,
        "better": "lower",
        "command": command,
        "note": "median, least and most of the seeds",
    }

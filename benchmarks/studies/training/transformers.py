"""The cases of the study of ablations on text: a small Transformer without some of its parts.

A block of playout's Transformer (rlhf/model/transformer.py), without residual connections or
without its norms, with other first weights or with dropout, taught by the trainer of pretraining.
A case gives held-out bits a byte, curves, and the first gradient's norm by layer. The norm after
the last block always stays. Left out: tables and pictures (ablations.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from playout.errors import DivergedError
from playout.rlhf.data.batches import Corpus
from playout.rlhf.data.datasets import Datasets, choose_source
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Block, Transformer, TransformerConfig, compute_dtype
from playout.rlhf.supervised.pretrain import PretrainConfig, PretrainTrainer
from playout.rlhf.supervised.trainer import LearnConfig
from torch import Tensor, nn
from torch.nn import functional

EVALUATIONS = 10


@dataclass(frozen=True, slots=True)
class Parts:
    """What a Transformer has.

    Attributes:
        residual: Whether what a half of a block finds is added to what came in.
        norm: Whether each half normalises what comes in.
        init: First weights: "small" (deviation 0.02), "careful" (1 / square root of the inputs),
            "large" (twice that), or "own", as playout begins.
        dropout: Share of what each half finds that is dropped.
    """

    residual: bool = True
    norm: bool = True
    init: str = "own"
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """A Transformer that is trained.

    Attributes:
        parts: What it has.
        layers: How many blocks.
        learn: Settings of the optimiser besides those of the form; a limit of 0 clips nothing.
        steps: Of training.
        texts: To learn from, at most; 0: all.
        patience: Evaluations without a better one after which it stops, and the best one counts,
            by text that nothing else is told of; 0 goes on.
    """

    parts: Parts
    layers: int
    steps: int
    learn: dict[str, Any] = field(default_factory=dict)
    texts: int = 0
    patience: int = 0


REMEDIES = {
    "nothing, small first weights": Parts(residual=False, norm=False, init="small"),
    "careful first weights": Parts(residual=False, norm=False, init="careful"),
    "+ residual connections": Parts(norm=False, init="careful"),
    "+ RMS normalisation": Parts(residual=False, init="careful"),
    "+ both": Parts(init="careful"),
    "both, first weights as playout's": Parts(),
}
OVERFITTING = ("nothing", "dropout", "weight decay", "early stopping", "ten times the text")


class AblatedBlock(Block):
    """A block that has some of its parts."""

    def __init__(self, config: TransformerConfig, index: int, parts: Parts) -> None:
        super().__init__(config, index)
        self.parts = parts

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """[B, L, H] to [B, L, H]."""
        x = self._joined(x, self.attend(x, cos, sin, mask))
        return self._joined(x, self.feed_forward(x))

    def _joined(self, x: Tensor, found: Tensor) -> Tensor:
        found = functional.dropout(found, self.parts.dropout, self.training)
        return x + found if self.parts.residual else found.float()

    def normalize(self, x: Tensor) -> Tensor:
        """What both halves see of what comes in."""
        return super().normalize(x) if self.parts.norm else x.to(compute_dtype(x))


def ablated(config: TransformerConfig, parts: Parts, seed: int) -> Transformer:
    """A Transformer of such blocks; the same seed gives the same first weights."""
    model = Transformer(config, seed=None)
    model.layers = nn.ModuleList(
        AblatedBlock(config, index, parts) for index in range(config.num_hidden_layers)
    )
    model.reset(seed)
    if parts.init != "own":
        _begin(model, parts, seed)
    return model


@torch.no_grad()
def _begin(model: Transformer, parts: Parts, seed: int) -> None:
    """Draws first weights anew.

    Where halves add to a stream, the last matrix of each is smaller, so that the stream does not
    grow with depth (Radford et al. 2019, section 2.3).
    """
    generator = torch.Generator().manual_seed(seed)
    scale = {"small": 0.0, "careful": 1.0, "large": 2.0}[parts.init]
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        deviation = scale / math.sqrt(parameter.shape[1]) if scale else 0.02
        if scale and name == "embed_tokens":
            deviation = 1.0  # rows of it are what the first block sees
        elif scale and parts.residual and name.endswith(("o_proj.weight", "down_proj.weight")):
            deviation /= math.sqrt(2 * model.config.num_hidden_layers)
        parameter.normal_(0.0, deviation, generator=generator)


@dataclass(frozen=True, slots=True)
class Text:
    """What is learned from, and sizes.

    Attributes:
        tokenizer: Of all cases.
        texts: To learn from.
        held_out: To be examined on.
        chosen_by: Held out as well: says when training stops early, and which step counts.
        width: Of the Transformer.
        length: Tokens a row ...
        rows: ... and rows a step.
    """

    tokenizer: Tokenizer
    texts: tuple[str, ...]
    held_out: Corpus
    chosen_by: Corpus
    width: int
    length: int
    rows: int

    @property
    def even_guess(self) -> float:
        """Bits a byte for which all tokens are as likely."""
        tokens, size = len(self.held_out.tokens) - 1, self.held_out.num_bytes
        return math.log2(self.tokenizer.vocab_size) * tokens / size

    def shape(self, layers: int) -> TransformerConfig:
        """A Transformer whose output embeddings are not those of the input."""
        heads = max(1, self.width // 16)
        return TransformerConfig(
            vocab_size=self.tokenizer.vocab_size,
            hidden_size=self.width,
            intermediate_size=3 * self.width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=self.length,
            tie_word_embeddings=False,
        )


@lru_cache(maxsize=2)
def text_of(quick: bool) -> Text:
    """The text of a form; made-up reviews in the quick one."""
    texts, held = Datasets(choose_source("synthetic" if quick else "auto")).texts()
    length = 32 if quick else 64
    tokenizer = Tokenizer.train(texts[:2000], vocab_size=384 if quick else 2048)
    count = 40 if quick else 400
    parts = (Corpus.of(tokenizer, held[start : start + count]) for start in (0, count))
    return Text(tokenizer, tuple(texts), *parts, 32, length, rows=8)


def all_cases(quick: bool) -> dict[tuple[str, ...], Case]:
    """Cases by the table, the row and the column that they are for, dear ones first.

    Tables are "depth", "clipping" and "overfitting".
    """
    sizes, steps = ((2, 8), 60) if quick else ((2, 16, 64), 400)
    found: dict[tuple[str, ...], Case] = {
        ("depth", name, f"{layers} layers"): Case(parts, layers, steps, {"learning_rate": 3e-3})
        for layers in reversed(sizes)
        for name, parts in REMEDIES.items()
    }
    few, steps = (20, 200) if quick else (200, 1000)
    learn = {"learning_rate": 3e-3, "weight_decay": 0.0}
    for name in OVERFITTING:
        found["overfitting", name] = Case(
            Parts(dropout=0.2 if name == "dropout" else 0.0),
            2,
            steps,
            learn | ({"weight_decay": 1.0} if name == "weight decay" else {}),
            texts=10 * few if name == "ten times the text" else few,
            patience=2 if name == "early stopping" else 0,
        )
    for limit in (0.0, 1.0):
        name = f"clipped to {limit:g}" if limit else "as they are"
        learn = {"learning_rate": 3e-2, "max_grad_norm": limit, "warmup": 0.0}
        found["clipping", name] = Case(Parts(init="large"), 4, steps // (4 if quick else 2), learn)
    return found


def run(text: Text, case: Case, *, seed: int) -> dict[str, Any]:
    """Trains once; bits a byte on both sides, curves, and the first gradient's norm by layer."""
    shape = text.shape(case.layers)
    model = ablated(shape, case.parts, seed)
    texts = text.texts[: case.texts] if case.texts else text.texts
    corpus = Corpus.of(text.tokenizer, texts)
    limit = case.learn.get("max_grad_norm", 1.0) or math.inf  # cases are noted as JSON
    learn = LearnConfig(dtype="float32", **{**case.learn, "max_grad_norm": limit})
    trainer = PretrainTrainer(
        model,
        corpus,
        text.held_out,
        PretrainConfig(steps=case.steps, rows=text.rows, length=text.length, learn=learn),
        seed=seed,
        each={"learned from": Corpus.of(text.tokenizer, texts[:20])}
        | ({"chosen by": text.chosen_by} if case.patience else {}),
    )
    curve: list[tuple[int, float, float]] = []
    norms: list[float] = []
    every, best, since = max(1, case.steps // EVALUATIONS), math.inf, 0
    counts = 0, text.even_guess, text.even_guess

    def examine() -> bool:
        """Notes where it stands; False where that is no number."""
        nonlocal best, counts, since
        model.eval()
        found = trainer.evaluate()
        held, own = (found[f"eval/bits_per_byte{one}"] for one in ("", "/learned from"))
        if not math.isfinite(held):
            return False
        curve.append((trainer.learner.steps, own, held))
        judged = found.get("eval/bits_per_byte/chosen by", held)
        since += 1
        if judged < best:
            best, counts, since = judged, curve[-1], 0
        return True

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        diverged = not examine()
        while not diverged and not trainer.finished and not 0 < case.patience <= since:
            model.train()
            try:
                trainer.update()
            except DivergedError:  # one of the findings here
                diverged = True
                break
            norms = norms or [_norm(block) for block in model.blocks]
            if trainer.learner.steps % every == 0 or trainer.finished:
                diverged = not examine()
    curve = curve or [counts]
    _, train, held_out = counts if case.patience else curve[-1]
    return {"held_out": held_out, "train": train, "curve": curve,
            "norms": norms, "diverged": diverged}  # fmt: skip


def _norm(block: nn.Module) -> float:
    """Of the gradient of all weights of a block; the learner does not clip what it was given."""
    squares = [p.grad.square().sum() for p in block.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt())

"""What all parts of the language benchmark share: one model shape, its tokenizer, texts and rows.

Weights are random: speed does not depend on them. The model and its reward model lie in Hugging
Face folders too, which the peers read. What is measured stands in benchmarks/language.py.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playout.benchmarks.tools.measuring import Rate
from playout.rlhf.data import synthetic
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import export_model
from playout.rlhf.model.heads import ScalarHead
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.reward import RewardModel

COMMAND = "python -m playout.benchmarks.language"
PROMPT, ANSWER = 16, 48  # tokens
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def claim(
    what: str,
    ours: Rate,
    theirs: Rate | None,
    name: str,
    unit: str,
    target: float | None = None,
    note: str = "",
) -> dict[str, Any]:
    """A row for benchmarks/tools/report.py."""
    row: dict[str, Any] = {"claim": what, "ours": ours, "unit": unit, "command": COMMAND}
    if theirs is not None:
        row |= {"peer": theirs, "peer_name": name, "ratio": ours.over(theirs)}
        print(f"{what}: {ours} {unit}, {ours.over(theirs)} x {name}")
    if target is not None:
        row["target"] = target
    return row | ({"note": note} if note else {})


class World:
    """Model, tokenizer and texts that all parts use, and their Hugging Face folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = Tokenizer.train(synthetic.reviews(3000), vocab_size=1000)
        self.config = TransformerConfig(
            4096,
            max_position_embeddings=256,
            pad_token_id=self.tokenizer.pad_id,
            eos_token_id=self.tokenizer.end_id,
        )
        export_model(folder / "policy", self.model(), self.tokenizer)
        self.scorer().save(folder / "reward")
        words = {f" {w}" for text in synthetic.reviews(3000) for w in text.split()}
        self.words = sorted(w for w in words if len(self.tokenizer.encode(w)) == 1)
        self.rng = np.random.default_rng(0)

    def model(self) -> Transformer:
        """Fresh weights, always the same."""
        return Transformer(self.config, seed=0)

    def mixture(self) -> Transformer:
        """Of eight experts a token goes to two, which together are as wide as `model`'s SwiGLU."""
        chosen = 2
        shape = replace(
            self.config,
            model_type="mixtral",
            num_experts=8,
            num_experts_per_tok=chosen,
            intermediate_size=self.config.intermediate_size // chosen,
        )
        return Transformer(shape, seed=0)

    def scorer(self, dtype: torch.dtype = torch.bfloat16) -> RewardModel:
        """A reward model of the same size."""
        model = Transformer(self.config, seed=1)
        model.requires_grad_(False)
        return RewardModel(model, ScalarHead(self.config, seed=2), self.tokenizer, dtype=dtype)

    def window(self, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random ids and targets, int64 [rows, length]."""
        ids, targets = self.rng.integers(4, self.config.vocab_size, (2, rows, length))
        return torch.from_numpy(ids), torch.from_numpy(targets)

    def text(self, tokens: int) -> str:
        """Random words of so many tokens."""
        return "".join(self.rng.choice(self.words, tokens))

    def pairs(self, count: int) -> list[tuple[str, str, str]]:
        """Prompts with two answers."""
        return [
            (self.text(PROMPT - 1), self.text(ANSWER - 1), self.text(ANSWER - 1))
            for _ in range(count)
        ]

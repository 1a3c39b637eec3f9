"""Several corpora in given shares: every row of a batch comes from one of them.

Which corpus a row comes from, and where it begins, follow from seed and step alone, so a resumed
run reads on where it was. A corpus may be read many times or only in part; how often is said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from playout.errors import ConfigError
from playout.rlhf.data.batches import Corpus
from torch import Tensor

__all__ = ["Mixture", "parse_mixture"]


def parse_mixture(text: str) -> dict[str, float]:
    """Names and shares from `a:0.7,b:0.3`, the shares made to add up to 1.

    Raises:
        ConfigError: It is not of that form, names one twice, or a weight is not above 0.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, colon, number = part.strip().rpartition(":")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not colon or not name or not 0 < weight < math.inf:
            raise ConfigError(f"--corpus takes NAME:WEIGHT,NAME:WEIGHT,..., not {part.strip()!r}")
        if name in found:
            raise ConfigError(f"--corpus names {name} twice")
        found[name] = weight
    total = sum(found.values())
    return {name: weight / total for name, weight in found.items()}


@dataclass(frozen=True, slots=True)
class Mixture:
    """Corpora and the share of all rows that each gives."""

    parts: tuple[Corpus, ...]
    shares: tuple[float, ...]
    """They add up to 1."""

    def windows(self, step: int, *, rows: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs and next tokens [rows, length] at random places of randomly chosen corpora.

        Raises:
            DataError: A corpus has fewer tokens than a row.
        """
        rng = np.random.default_rng([seed, 13, step])
        chosen = rng.choice(len(self.parts), size=rows, p=self.shares)
        # Every corpus draws all rows, so that one's draw does not depend on the others' shares.
        drawn = [
            part.windows(step, rows=rows, length=length, seed=seed + 1_000_003 * number)
            for number, part in enumerate(self.parts)
        ]
        ids = [drawn[part][0][row] for row, part in enumerate(chosen)]
        targets = [drawn[part][1][row] for row, part in enumerate(chosen)]
        return torch.stack(ids), torch.stack(targets)

    def passes(self, tokens: int) -> Sequence[float]:
        """How often each corpus is read when so many tokens are."""
        return [
            share * tokens / max(1, len(part.tokens))
            for share, part in zip(self.shares, self.parts, strict=True)
        ]

"""A teacher: a frozen model whose next-token probabilities a student imitates (distillation).

It reads the same tokens as the student and is compared over the whole vocabulary, a chunk of tokens
at a time (lm_head.py's `distillation`). Which texts, and where the student comes from, is the
stage's. Leaves out texts that the student writes itself.
"""

from dataclasses import dataclass

import torch
from playout.errors import ConfigError
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.layers.lm_head import DIVERGENCES, distillation
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from torch import Tensor

__all__ = ["DistillConfig", "Teacher", "check_teacher"]


@dataclass(frozen=True, slots=True)
class DistillConfig:
    """How a teacher is imitated."""

    temperature: float = 1.0
    """Logits of both are divided by it."""
    label_weight: float = 0.1
    """Of the text's own next tokens beside the teacher's probabilities."""
    divergence: str = "forward"
    """See `DIVERGENCES`."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"a teacher's temperature must be above 0, not {self.temperature}")
        if not 0 <= self.label_weight <= 1:
            raise ConfigError(f"the labels' weight must be from 0 to 1, not {self.label_weight}")
        if self.divergence not in DIVERGENCES:
            known = ", ".join(DIVERGENCES)
            raise ConfigError(f"a divergence is one of {known}, not {self.divergence!r}")


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model to imitate, and how."""

    model: Transformer
    """Frozen."""
    config: DistillConfig

    def loss(
        self,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        places: Tensor,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The student's loss, the mean over its targets, and what `distillation` measures.

        Args:
            hidden: [R, L, H] of the student after the last norm.
            weight: [V, H], the student's output embeddings.
            targets: int64 [R, L].
            places: int64 [N], numbers of the flattened tokens that have a target.
            ids: int64 [R, L], what both read.
            positions: Of `Transformer.forward`.
            mask: Likewise.
        """
        with torch.no_grad():
            theirs = self.model(ids, positions=positions, mask=mask).flatten(0, 1)[places]
            # Rows beyond the student's pad the vocabulary and stand for no token.
            rows = self.model.head_weight(theirs.dtype)[: weight.shape[0]]
        return distillation(
            hidden.flatten(0, 1)[places],
            weight,
            (theirs, rows),
            targets.flatten()[places],
            temperature=self.config.temperature,
            label_weight=self.config.label_weight,
            divergence=self.config.divergence,
        )


def check_teacher(
    teacher: Transformer,
    tokenizer: Tokenizer,
    student: TransformerConfig,
    own: Tokenizer,
    *,
    name: str,
    length: int,
) -> None:
    """Refuse a teacher whose probabilities are not of the student's tokens.

    Args:
        teacher: The model.
        tokenizer: Its tokenizer.
        student: The shape of who imitates it.
        own: The student's tokenizer.
        name: What the error calls the teacher.
        length: Tokens of a row, all of which it has to read.

    Raises:
        ConfigError: Another vocabulary, or a context that is too short.
    """
    if not tokenizer.same_vocabulary(own):
        raise ConfigError(
            f"the teacher {name} has another vocabulary than the student; give the student the "
            f"teacher's: playout rlhf pretrain --teacher {name} without --base or --tokenizer"
        )
    if teacher.config.vocab_size < student.vocab_size:
        raise ConfigError(
            f"the teacher {name} has {teacher.config.vocab_size} output rows, fewer than the "
            f"student's {student.vocab_size}"
        )
    if teacher.config.max_position_embeddings < length:
        raise ConfigError(
            f"the teacher {name} reads {teacher.config.max_position_embeddings} tokens at most, "
            f"and rows have {length}"
        )

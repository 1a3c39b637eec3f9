"""Flags of distillation: whose probabilities a stage imitates, and how.

The words are those of `playout pretrain-trunk`. They cost no torch; the loss is model/adapters/
teacher.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from playout.rlhf.commands.options import HeldWeights, OptionalRun, check_beside
from tyro.conf import arg

if TYPE_CHECKING:
    import torch
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.model.adapters.teacher import Teacher
    from playout.rlhf.model.transformer import TransformerConfig

__all__ = ["TeacherOptions", "check_teaching", "load_teacher", "say_taught"]

Divergence = Annotated[Literal["forward", "reverse", "jsd"], arg(metavar="forward|reverse|jsd")]


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Imitating another model's probabilities beside the text's own tokens."""

    teacher: OptionalRun = ""
    """Run or Hugging Face folder of a larger model of the same vocabulary, to be imitated over the
    whole of it (distillation)."""
    teacher_temperature: float = 1.0
    """With --teacher: logits of both are divided by it."""
    label_weight: float = 0.1
    """With --teacher: weight of the text's own tokens, from 0 to 1."""
    divergence: Divergence = "forward"
    """With --teacher: KL(teacher || student), which covers all that the teacher may say; reverse,
    which keeps to what it says mostly; or jsd, between them."""
    teacher_weights: HeldWeights = "float32"
    """With --teacher: the type in which it is held; the others take a half, a quarter, an eighth of
    the memory."""


def check_teaching(command: TeacherOptions) -> None:
    """Refuses what says how to imitate where no teacher is named.

    Raises:
        ConfigError: It names the flag.
    """
    if not command.teacher:
        names = ("teacher_temperature", "label_weight", "divergence", "teacher_weights")
        check_beside(command, "--teacher", *names)


def load_teacher(
    command: TeacherOptions,
    run: RunDir,
    student: TransformerConfig,
    tokenizer: Tokenizer,
    *,
    device: torch.device,
    length: int,
) -> Teacher | None:
    """The teacher that a command names, noted in the run; None for none.

    Raises:
        ConfigError: It cannot teach this student.
        RunError: It is not there, or no longer what the run began with.
    """
    if not command.teacher:
        return None
    from playout.rlhf.model.adapters.held import held_type, hold_weights
    from playout.rlhf.model.adapters.teacher import DistillConfig, Teacher, check_teacher
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.stages.run import check_base

    config = DistillConfig(command.teacher_temperature, command.label_weight, command.divergence)
    model, own = load_model(command.teacher, device=device)
    check_teacher(model, own, student, tokenizer, name=command.teacher, length=length)
    hold_weights(model.requires_grad_(False), held_type(command.teacher_weights))
    check_base(run, command.teacher, what="teacher")
    return Teacher(model, config)


def say_taught(command: TeacherOptions, run: RunDir) -> None:
    """Says at the end who the teacher was, if any, and how far the student came to think so."""
    if not command.teacher:
        return
    from playout.agents.runs.metrics import last_measures

    said = f"taught by {command.teacher}"
    alike = last_measures(run.path).get("eval/teacher_agreement")
    if alike is not None:
        said += f": both expect the same next token in {100 * alike:.1f} % of held-out places"
    print(said, flush=True)

"""Flags that language stages share. They cost no torch; the work is done elsewhere.

What is set up from them is policy_stage.py's; the settings of PPO and GRPO are online/config.py's.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from playout.agents.runs.options import MachineOptions, TrainingOptions
from tyro.conf import arg

__all__ = [
    "Data",
    "ModelOptions",
    "OptionalFile",
    "OptionalRun",
    "PolicyOptions",
    "RequiredRun",
    "Size",
]

Size = Annotated[str, arg(metavar="tiny|small|base|large")]
Data = Annotated[str, arg(metavar="auto|real|synthetic")]
Weights = Annotated[Literal["float32", "bfloat16"], arg(metavar="float32|bfloat16")]
RequiredRun = Annotated[str, arg(metavar="RUN", help_behavior_hint="(required)")]
OptionalRun = Annotated[str, arg(metavar="RUN", help_behavior_hint="")]
OptionalFile = Annotated[str, arg(metavar="FILE", help_behavior_hint="")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions(MachineOptions):
    """What a command that only asks models has besides its own options."""

    weights: Weights = "float32"
    """Type in which weights are held; bfloat16 halves their memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions(TrainingOptions):
    """Where a policy comes from and what it is for."""

    base: RequiredRun = ""
    """Run or Hugging Face folder of the policy to start from."""
    reward: RequiredRun = ""
    """Run of a reward stage, or module:function that takes a list of texts."""
    prompts: OptionalFile = ""
    """Prompts: .jsonl with the field `prompt`, or a line each; by default beginnings of reviews."""
    size: Size = "small"
    """Sets what is not given."""
    data: Data = "auto"
    """Which prompts and which independent judge, if no file is named."""
    max_new_tokens: int = 0
    """Longest response, in tokens; 0 leaves it to the size."""
    lora_rank: int = 0
    """Train low-rank adapters of this rank; switched off, they give the reference."""
    weights: Weights = "float32"
    """Type in which weights that do not learn are held (reference, reward model, and the policy's
    own below adapters); bfloat16 halves their memory."""

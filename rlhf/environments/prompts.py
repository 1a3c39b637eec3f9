"""Prompts as the environment of one turn: the prompt is read, the answer ends the episode.

What is not about learning from prompts alone, files and their fields, is data/records.py's; the
reward is a function's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from playout.rlhf.data.messages import Prompt
from playout.rlhf.environments.environment import EnvironmentFactory, Split, Step

__all__ = ["PromptEnvironment", "PromptTask", "episode_seed", "prompt_environment"]

PromptTask = str | Sequence[Mapping[str, str]] | Mapping[str, Any]
"""A text, a conversation, or a row with the field `prompt`."""
_HELD_OUT = 1 << 30


class PromptEnvironment:
    """Asks a task's prompt and takes one answer."""

    def reset(self, task: Mapping[str, Any], seed: int) -> Prompt:
        """The prompt."""
        prompt: Prompt = task["prompt"]
        return prompt

    def step(self, answer: str) -> Step:
        """The end."""
        return Step(None, 0.0, True)


def prompt_environment(prompts: Sequence[PromptTask]) -> EnvironmentFactory:
    """The environment of prompts; its tasks are rows with the field `prompt`."""
    rows = [dict(p) if isinstance(p, Mapping) else {"prompt": p} for p in prompts]

    def tasks(split: Split) -> Sequence[dict[str, Any]]:
        return rows

    return EnvironmentFactory("prompts", PromptEnvironment, tasks)


def episode_seed(seed: int, number: int, split: Split = "train") -> int:
    """The seed of an environment's randomness; no seed of training is one of testing.

    Args:
        seed: Of the run.
        number: Of the group of episodes that share it.
        split: Which side.
    """
    drawn = int(np.random.default_rng([seed, 13, number]).integers(_HELD_OUT))
    return drawn + _HELD_OUT if split == "test" else drawn

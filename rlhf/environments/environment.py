"""The contract of a language environment: `reset` gives a prompt, `step` an answer's consequences.

An environment is any object with these two methods; one object serves one episode. Everything else
is optional and found by its name: `tasks`, `answers`, `role`, `metrics`, `close`. What is named on
the command line is found by load.py, and episodes are made by online/.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from playout.rlhf.data.messages import Message, Prompt

__all__ = ["Environment", "EnvironmentFactory", "Message", "Prompt", "Split", "Step", "Task"]

Task = Any
"""What an episode is about; best a dictionary, whose fields a reward function can ask for."""
Split = Literal["train", "test"]


class Step(NamedTuple):
    """What an answer led to; a plain tuple of its first three or all four is as good."""

    reply: Prompt | None
    """What the policy reads next; None or "" where nothing follows."""
    reward: float | Mapping[str, float] = 0.0
    """For this answer; of an environment with roles, a number for each role that gets one."""
    done: bool = False
    """The episode is over."""
    truncated: bool = False
    """It was cut (a time limit of the environment's own): what would have followed is valued."""


@runtime_checkable
class Environment(Protocol):
    """One episode; a new object is made for each.

    Optional, each looked up by name:
        tasks(split): "train" or "test" to a sequence of tasks; a class method, a static method, or
            a method of an object made for the question. Without it an episode's task is None.
        answers(): The legal answers at this turn as texts, or None where any text is one; asked
            where decoding is constrained to them.
        role(): Which role answers at this turn (of a game that one policy plays against itself).
            Rewards are then credited to each role by itself.
        metrics(): Numbers by name at the end of the episode.
        close(): Lets go of what the object holds.
    """

    def reset(self, task: Task, seed: int) -> Prompt:
        """Begin the episode of a task.

        Args:
            task: One of `tasks`, or None.
            seed: Of all randomness of the episode; equal for all answers of one group.
        """
        ...

    def step(self, answer: str) -> Step | tuple[Any, ...]:
        """Take the policy's answer, without its end token."""
        ...


@dataclass(frozen=True, slots=True)
class EnvironmentFactory:
    """A kind of environment with its options: makes one for each episode, and knows the tasks."""

    name: str
    """As on the command line."""
    create: Callable[[], Environment]
    """A new environment."""
    find_tasks: Callable[[Split], Sequence[Task] | None] = lambda split: None
    """The tasks to learn from and to be judged on; None where a seed is all there is."""

    def __call__(self) -> Environment:
        """A new environment."""
        return self.create()

    def tasks(self, split: Split) -> Sequence[Task] | None:
        """The tasks of a side, or None."""
        return self.find_tasks(split)

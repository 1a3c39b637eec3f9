"""One episode of a language policy: what was said, token by token and turn by turn.

An episode of one turn is a prompt and its answer. Token ids are those that were read and sampled;
nothing is tokenised again. Making episodes is the engine's business, learning from them
episodes.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from playout.rlhf.data.conversations import prompt_text
from playout.rlhf.data.messages import Message, Prompt, as_messages
from playout.rlhf.environments.environment import Task

__all__ = ["Episode", "environment_metrics"]


@dataclass(slots=True)
class Episode:
    """What happened from `reset` to the end; L tokens, N turns."""

    task: Task
    seed: int
    prompt: Prompt
    """What `reset` gave."""
    answers: list[str] = field(default_factory=list)
    """The policy's, one a turn, without end tokens."""
    replies: list[Prompt] = field(default_factory=list)
    """The environment's; the last answer has none where nothing followed."""
    rewards: list[float] = field(default_factory=list)
    """The environment's, one a turn."""
    roles: list[str] = field(default_factory=list)
    """Who answered at each turn, of an environment with roles; else empty."""
    role_rewards: list[dict[str, float]] = field(default_factory=list)
    """For each turn what each role got, of an environment with roles; else empty."""
    by_role: bool = False
    """The environment gives rewards by role: one policy plays them all."""
    next_role: str = ""
    """Who would have answered next, where an environment with roles cut the episode; empty where it
    does not say."""
    tokens: list[int] = field(default_factory=list)
    """All ids that were read or written, [L]."""
    mask: list[bool] = field(default_factory=list)
    """The policy wrote the token, [L]."""
    turns: list[int] = field(default_factory=list)
    """The turn of the answer that a token belongs to or comes before, [L]."""
    logprobs: list[float] = field(default_factory=list)
    """Of the policy's tokens when they were sampled, 0 elsewhere, [L]."""
    allowed: list[Sequence[int]] = field(default_factory=list)
    """Of constrained decoding the ids among which each token was chosen, none where that was the
    whole vocabulary, [L]; else empty."""
    answer_ended: list[bool] = field(default_factory=list)
    """Whether each answer ended by itself and was not cut."""
    ended: bool = False
    """The environment said that the episode is over; of a single prompt, the answer ended."""
    truncated: str = ""
    """What cut the episode: tokens, turns, time or environment; empty where nothing did."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The environment's own numbers."""
    error: str = ""
    """What went wrong in the environment; such an episode is not learned from."""

    @property
    def num_turns(self) -> int:
        """Answers."""
        return len(self.answers)

    @property
    def total(self) -> float:
        """The sum of the environment's rewards; of rewards by role, the mean of the roles' sums."""
        if not self.by_role:
            return sum(self.rewards)
        totals = self.role_totals
        return sum(totals.values()) / len(totals)

    @property
    def role_totals(self) -> dict[str, float]:
        """What each role got in all, of those that answered or got something."""
        found = dict.fromkeys(self.roles, 0.0)
        for got in self.role_rewards:
            for role, reward in got.items():
                found[role] = found.get(role, 0.0) + reward
        return found

    @property
    def answer(self) -> str:
        """The last answer; empty where there is none."""
        return self.answers[-1] if self.answers else ""

    @property
    def completion(self) -> str:
        """Everything after the prompt as text: answers and replies in turn."""
        parts: list[str] = []
        for turn, answer in enumerate(self.answers):
            parts.append(answer)
            if turn < len(self.replies):
                parts.append(prompt_text(self.replies[turn]))
        return self._join(parts)

    @property
    def text(self) -> str:
        """The whole conversation as text; what was plain text is joined as it stands."""
        return self._join([prompt_text(self.prompt), self.completion])

    def _join(self, parts: Sequence[str]) -> str:
        return ("" if isinstance(self.prompt, str) else "\n").join(parts)

    @property
    def messages(self) -> list[Message]:
        """The whole conversation as messages: the policy is the assistant."""
        found = list(as_messages(self.prompt))
        for turn, answer in enumerate(self.answers):
            found.append({"role": "assistant", "content": answer})
            if turn < len(self.replies):
                found += as_messages(self.replies[turn])
        return found

    def field_of_task(self, name: str) -> Any:
        """The task's own data: an entry of a dictionary, or an attribute; KeyError if neither."""
        if isinstance(self.task, dict):
            return self.task[name]
        if isinstance(self.task, str | int | float | list | tuple) or self.task is None:
            raise KeyError(name)
        try:
            return getattr(self.task, name)
        except AttributeError:
            raise KeyError(name) from None


def environment_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """Means over episodes under env/: reward, turns, how they ended, and environments' own.

    Rewards by role are told role by role besides. Of an environment's own numbers those count whose
    names are none of ours.
    """
    count = len(episodes)
    found = {
        "env/reward": sum(episode.total for episode in episodes) / count,
        "env/turns": sum(episode.num_turns for episode in episodes) / count,
        "env/ended": sum(episode.ended for episode in episodes) / count,
        "env/truncated": sum(bool(episode.truncated) for episode in episodes) / count,
    }
    by_role = [
        {f"role/{role}": total for role, total in episode.role_totals.items()}
        for episode in episodes
        if episode.by_role
    ]
    for given in (by_role, [episode.metrics for episode in episodes]):
        for name in dict.fromkeys(name for numbers in given for name in numbers):
            values = [numbers[name] for numbers in given if name in numbers]
            found.setdefault(f"env/{name}", sum(values) / len(values))
    return found

"""Episodes as rows of tokens: what was seen, what was chosen, which choices were the policy's.

Step t is the choice of token t + 1; only choices of tokens that the policy wrote are valid, and a
turn's reward lies at the last of them. An episode is one row; where one policy plays several roles,
a row for each, so that no role is credited with another's rewards. Scores and KL are episodes.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.rlhf.online.episode import Episode
from torch import Tensor

__all__ = ["TokenRows", "lay_out"]


@dataclass(frozen=True, slots=True)
class TokenRows:
    """R rows over T steps, on the processor."""

    obs: Tensor
    """int64 [R, T]: tokens 0 to L - 2 of each row, padded on the right."""
    actions: Tensor
    """int64 [R, T]: tokens 1 to L - 1."""
    valid: Tensor
    """bool [R, T]: the policy wrote the action, in the row's role."""
    last: Tensor
    """bool [R, T]: the last valid step of a row."""
    cuts: Tensor
    """bool [R, T]: the last step of an answer that was cut before it ended."""
    rewards: Tensor
    """float32 [R, T]: the environment's, each turn's at its last valid step."""
    logprobs: Tensor
    """float32 [R, T]: of the actions when they were sampled, 0 where not valid."""
    turns: Tensor
    """int64 [R, T]: the turn that a step belongs to or comes before."""
    episode: Tensor
    """int64 [R]: which episode a row is of."""
    role: Tensor
    """int64 [R]: number of the row's role, 0 where there are none."""
    num_roles: int
    continues: Tensor
    """bool [R]: the environment cut the episode where the row's role would go on, so that what
    would follow is valued."""
    unresolved: Tensor
    """bool [R, T]: choices of a role's last answer in an episode that the environment cut where
    another role would go on: no place of the role's own says what that answer led to."""
    allowed: Tensor | None = None
    """int64 [R, T, K]: of constrained decoding the ids among which an action was chosen, padded
    with -1, nothing but -1 where that was the whole vocabulary."""

    @property
    def lengths(self) -> Tensor:
        """int64 [R], valid steps."""
        return self.valid.sum(1)


def lay_out(episodes: Sequence[Episode], pad: int) -> TokenRows:
    """Rows of episodes without errors, in order; `pad` fills them."""
    cast = [
        (number, role)
        for number, episode in enumerate(episodes)
        for role in (sorted(set(episode.roles)) or [""])
    ]
    width = max(len(episodes[number].tokens) for number, _ in cast)
    shape = len(cast), width - 1
    ids = np.full((len(cast), width), pad)
    valid, last, cuts, unresolved = np.zeros((4, *shape), bool)
    continues = np.zeros(len(cast), bool)
    rewards, logprobs = np.zeros((2, *shape), np.float32)
    turns = np.zeros(shape, np.int64)
    choices = max((len(few) for one in episodes for few in one.allowed), default=0)
    allowed = np.full((*shape, choices), -1)
    for row, (number, role) in enumerate(cast):
        episode = episodes[number]
        length = len(episode.tokens)
        ids[row, :length] = episode.tokens
        turns[row, : length - 1] = episode.turns[1:]
        written = np.array(episode.mask[1:])
        if role:
            own = np.array([name == role for name in episode.roles])
            written &= own[np.minimum(episode.turns[1:], len(own) - 1)]
        valid[row, : length - 1] = written
        logprobs[row, : length - 1] = np.where(written, episode.logprobs[1:], 0.0)
        for place, few in enumerate(episode.allowed[1:]):
            if written[place]:
                allowed[row, place, : len(few)] = few
        # Where each answer ends: the last token that the policy wrote in its turn.
        ends = np.zeros(episode.num_turns, np.int64)
        places = np.nonzero(np.array(episode.mask[1:]))[0]
        ends[np.array(episode.turns[1:])[places]] = places
        mine = [turn for turn in range(episode.num_turns) if written[ends[turn]]]
        last[row, ends[mine[-1]]] = True
        if episode.truncated == "environment":
            continues[row] = role in ("", episode.next_role)
            if not continues[row]:
                unresolved[row, : length - 1] = written & (turns[row, : length - 1] == mine[-1])
        for turn in mine:
            cuts[row, ends[turn]] = not episode.answer_ended[turn]
        for turn in range(episode.num_turns):
            if not role:
                rewards[row, ends[turn]] += episode.rewards[turn]
                continue
            # What a role gets for another's move belongs to its own last move before.
            before = [t for t in mine if t <= turn]
            rewards[row, ends[before[-1] if before else mine[0]]] += episode.role_rewards[turn].get(
                role, 0.0
            )
    roles = sorted({role for _, role in cast})

    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))

    return TokenRows(
        obs=tensor(ids[:, :-1]),
        actions=tensor(ids[:, 1:]),
        valid=tensor(valid),
        last=tensor(last),
        cuts=tensor(cuts),
        rewards=tensor(rewards),
        logprobs=tensor(logprobs),
        turns=tensor(turns),
        episode=torch.tensor([number for number, _ in cast]),
        role=torch.tensor([roles.index(role) for _, role in cast]),
        num_roles=len(roles),
        continues=tensor(continues),
        unresolved=tensor(unresolved),
        allowed=tensor(allowed) if choices else None,
    )

"""Votes divided so that what learns from them and what judges it share no people, or no prompts.

A reward model learns from some voters on some prompts, a judge from the other voters. Where fewer
than two voters are named, the judge learns from the prompts that are held out, whoever voted on
them. What a vote is, records.py says; fetched votes are downloads.py's.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playout.errors import DataError
from playout.rlhf.data.messages import Prompt, as_messages
from playout.rlhf.data.records import Preference, Tell, prompt_key

__all__ = ["DIVISION", "DividedVotes", "divide_votes", "vote_rows"]

DIVISION = Path("data", "division.json")
"""Where a run says how its votes were divided: whether by voters."""
HELD_OUT_PROMPTS = 0.3
JUDGING_VOTERS = 0.5


@dataclass(frozen=True, slots=True)
class DividedVotes:
    """Votes and prompts of the two sides."""

    reward: list[Preference]
    """What the reward model learns from."""
    judge: list[Preference]
    """What the judge learns from."""
    prompts: list[Prompt]
    """On which the policy learns, each once."""
    heldout: list[Prompt]
    """On which it is judged: the reward model read no vote about them."""
    by_voters: bool
    """Whether the two sides share no voter; otherwise they share no prompt."""


def divide_votes(votes: Sequence[Preference], *, tell: Tell = lambda text: None) -> DividedVotes:
    """Divide votes between a reward model and a judge, and their prompts likewise.

    Which side a prompt or a voter is on follows from the votes alone.

    Args:
        votes: One record a vote; those between equal or empty answers are left out, and those of
            nobody where two voters or more are named: they may be anyone's.
        tell: Is told how many those are, and how the others were divided.

    Raises:
        DataError: There are fewer than two prompts, or a side has no vote.
    """
    kept = [
        vote
        for vote in votes
        if vote.first != vote.second and vote.first.strip() and vote.second.strip() and vote.prompt
    ]
    if len(kept) < len(votes):
        tell(f"{len(votes) - len(kept)} of {len(votes)} votes are left out: an answer or the "
             "prompt is empty, or both answers are the same")  # fmt: skip
    voters = {vote.voter for vote in kept if vote.voter}
    by_voters = len(voters) > 1
    if by_voters and (unnamed := sum(not vote.voter for vote in kept)):
        tell(f"{unnamed} of {len(kept)} votes are left out: they do not say whose they are, as "
             "others do")  # fmt: skip
        kept = [vote for vote in kept if vote.voter]
    prompts = {prompt_key(vote.prompt): vote.prompt for vote in kept}
    if len(prompts) < 2:
        raise DataError("votes on two prompts at least are needed, one of them to judge by")
    held = _some(prompts, HELD_OUT_PROMPTS)
    others = _some(voters, JUDGING_VOTERS) if by_voters else set()
    reward, judge = [], []
    for vote in kept:
        out = prompt_key(vote.prompt) in held
        if vote.voter in others or (out and not others):
            judge.append(vote)
        elif not out:
            reward.append(vote)
    if not reward or not judge:
        raise DataError("there are too few votes to learn from some and to judge by others")
    who = f"{len(others)} of {len(voters)} voters" if others else "the held-out prompts"
    tell(f"{len(reward)} votes for the reward model, {len(judge)} of {who} for the judge; "
         f"{len(held)} of {len(prompts)} prompts are held out")  # fmt: skip
    return DividedVotes(
        reward,
        judge,
        [prompt for key, prompt in prompts.items() if key not in held],
        [prompt for key, prompt in prompts.items() if key in held],
        by_voters,
    )


def _some(names: Iterable[str], share: float) -> set[str]:
    """About a share of two names or more: at least one is in it and one is not."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8")).digest())
    return set(ordered[: min(len(ordered) - 1, math.ceil(share * len(ordered)))])


def vote_rows(votes: Iterable[Preference]) -> Iterable[dict[str, Any]]:
    """Votes as `read_votes` reads them again, their prompts as messages."""
    for vote in votes:
        row: dict[str, Any] = {"prompt": list(as_messages(vote.prompt))}
        if vote.margin:
            yield {**row, "chosen": vote.first, "rejected": vote.second, "margin": vote.margin}
            continue
        winner = "left" if vote.wins else "right" if vote.losses else "tie"
        yield {**row, "left": vote.first, "right": vote.second, "winner": winner}

"""Which of two policies writes better: by scores on the same prompts, or by a person.

A person sees two answers without names in random order; the votes are kept as preference data
that the reward stage reads. Rewards and judges are given.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playout.errors import DataError
from playout.rlhf.data.conversations import prompt_text
from playout.rlhf.data.messages import Prompt
from playout.rlhf.evaluation.evaluator import PolicyEvaluator, deviation
from playout.rlhf.evaluation.samples import ScoredAnswers
from playout.rlhf.evaluation.statistics import wilson
from playout.rlhf.model.transformer import Transformer
from torch import Tensor

__all__ = [
    "answer_both",
    "compare_policies",
    "human_votes",
    "win_rate",
    "win_rates",
]


def win_rate(ours: Tensor, theirs: Tensor) -> dict[str, Any]:
    """Share of prompts on which the first scores higher, a tie being half, with 95 % interval."""
    wins, ties = int((ours > theirs).sum()), int((ours == theirs).sum())
    right = wins + ties / 2
    low, high = wilson(right, len(ours))
    return {
        "win_rate": right / max(len(ours), 1),
        "interval": [low, high],
        "wins": wins,
        "ties": ties,
        "prompts": len(ours),
    }


def compare_policies(
    policy: Transformer, opponent: Transformer, evaluator: PolicyEvaluator
) -> dict[str, Any]:
    """Win rates of `policy` by the learned reward and by the independent judge."""
    ours, theirs = answer_both(policy, opponent, evaluator)
    return win_rates(ours, theirs)


def answer_both(
    policy: Transformer, opponent: Transformer, evaluator: PolicyEvaluator
) -> tuple[ScoredAnswers, ScoredAnswers]:
    """What both policies answer to the same prompts, and what it is worth."""
    # Other random numbers: two answers with the same ones would be no independent samples.
    found = [evaluator.respond(policy), evaluator.respond(opponent, draw=1)]
    ours, theirs = (ScoredAnswers(one.responses, evaluator.score(one)) for one in found)
    return ours, theirs


def win_rates(ours: ScoredAnswers, theirs: ScoredAnswers) -> dict[str, Any]:
    """How often the first answers score higher, and the means, by each score."""
    return {
        name: {
            **win_rate(one, other),
            "mean": float(one.mean()),
            "opponent_mean": float(other.mean()),
            "opponent_std": float(deviation(other)),
        }
        for (name, one), other in zip(ours.scores.items(), theirs.scores.values(), strict=True)
    }


_ANSWERS = {
    "1": "left", "left": "left", "a": "left",
    "2": "right", "right": "right", "b": "right",
    "t": "tie", "tie": "tie", "=": "tie",
}  # fmt: skip
_SIDES = "policy", "reference"


def human_votes(
    prompts: Sequence[Prompt],
    ours: Sequence[str],
    theirs: Sequence[str],
    *,
    votes: Path,
    seed: int,
    ask: Callable[[str], str] | None = None,
    show: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Ask a person about pairs of answers; every vote is on disk before the next question.

    Args:
        prompts: What was answered.
        ours: Answers of the first policy.
        theirs: Answers of the second.
        votes: JSON lines to append to; pairs that it holds already are not asked again.
        seed: Of the order of the sides.
        ask: Reads a line; the terminal's input by default.
        show: Writes a line.

    Returns:
        The win rate of the first policy over all votes in the file.
    """
    known = _read_votes(votes)
    asked = {(prompt_text(v["prompt"]), frozenset((v["left"], v["right"]))) for v in known}
    rng = np.random.default_rng([seed, 31])
    swapped = rng.random(len(prompts)) < 0.5
    show("Which answer is better? 1, 2, t (equal), s (skip), q (stop).")
    for row, prompt in enumerate(prompts):
        pair = (theirs[row], ours[row]) if swapped[row] else (ours[row], theirs[row])
        if pair[0] == pair[1] or (prompt_text(prompt), frozenset(pair)) in asked:
            continue
        show(f"\n{prompt_text(prompt)} ...\n  1: {pair[0].strip()}\n  2: {pair[1].strip()}")
        answer = _read(ask or input)
        if answer == "q":
            break
        if answer == "s":
            continue
        sides = _SIDES[::-1] if swapped[row] else _SIDES
        vote = {
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            "left": pair[0],
            "right": pair[1],
            "winner": answer,
            "left_policy": sides[0],
            "right_policy": sides[1],
        }
        _append(votes, vote)
        known.append(vote)
    return _count(known)


def _read(ask: Callable[[str], str]) -> str:
    while True:
        try:
            line = ask("> ").strip().lower()
        except EOFError:
            return "q"
        if line in ("q", "s"):
            return line
        if line in _ANSWERS:
            return _ANSWERS[line]


def _read_votes(path: Path) -> list[dict[str, Any]]:
    found = []
    if path.exists():
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            try:
                vote = json.loads(line)
                if not {"prompt", "left", "right", "winner"} <= set(vote):
                    raise ValueError("a field is missing")
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}, line {number}: not a vote: {error}") from None
            found.append(vote)
    return found


def _append(path: Path, vote: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(vote, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _count(votes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The policy's score against the reference."""
    ours, theirs = [], []
    for vote in votes:
        sides = vote.get("left_policy"), vote.get("right_policy")
        if set(sides) != set(_SIDES):
            continue
        left = {"left": 1.0, "right": 0.0, "tie": 0.5}.get(vote["winner"], 0.5)
        mine = left if sides[0] == _SIDES[0] else 1.0 - left
        ours.append(mine)
        theirs.append(1.0 - mine)
    return win_rate(torch.tensor(ours), torch.tensor(theirs))

"""Best of n samples by a reward, and how far that is from the policy.

The simplest way to spend a reward model: no training, n times the work an answer. Its KL to the
policy is at most log n - (n - 1) / n, so its points lie on the axes of the trained policies.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from playout.errors import ConfigError
from playout.rlhf.evaluation.evaluator import PolicyEvaluator, deviation
from playout.rlhf.model.transformer import Transformer
from torch import Tensor

__all__ = ["best_of_n", "choose_best", "kl_bound"]


def kl_bound(n: int) -> float:
    """The most that best of n can differ from its policy, in nats a response."""
    return math.log(n) - (n - 1) / n


def choose_best(rewards: Tensor, n: int) -> Tensor:
    """Index of the best in each block of n draws: rewards [draws, N] to int64 [draws // n, N]."""
    blocks = rewards.shape[0] // n
    found = rewards[: blocks * n].view(blocks, n, -1).argmax(1)
    return found + torch.arange(blocks)[:, None] * n


def best_of_n(
    model: Transformer, evaluator: PolicyEvaluator, sizes: Sequence[int] = (1, 2, 4, 8, 16)
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row for every n, and the best answers of the largest n beside the first ones.

    Every draw takes part for every n: 16 draws are four best-of-4. `interval` is 95 % over prompts.
    """
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"n must be at least 1, not {min(sizes, default=0)}")
    draws = max(sizes)
    samples = [evaluator.respond(model, draw=draw) for draw in range(draws)]
    scored = [evaluator.score(answer) for answer in samples]
    columns = {name: torch.stack([row[name] for row in scored]) for name in scored[0]}
    lengths = torch.stack([answer.generation.lengths.float() for answer in samples])
    table = []
    for n in sorted(sizes):
        best = choose_best(columns["reward"], n)
        row: dict[str, Any] = {"n": n, "kl": kl_bound(n)}
        for name, column in {**columns, "length": lengths}.items():
            per_prompt = column.gather(0, best).mean(0)
            half = 1.96 * float(deviation(per_prompt)) / math.sqrt(len(per_prompt))
            row[name] = float(per_prompt.mean())
            row[f"{name}_interval"] = [row[name] - half, row[name] + half]
        table.append(row)
    top = choose_best(columns["reward"], draws)[0]
    shown = [
        {
            "prompt": evaluator.prompts[i],
            "first": samples[0].responses[i],
            "best": samples[int(top[i])].responses[i],
            "reward_first": float(columns["reward"][0, i]),
            "reward_best": float(columns["reward"][int(top[i]), i]),
        }
        for i in range(min(16, len(evaluator.prompts)))
    ]
    return table, shown

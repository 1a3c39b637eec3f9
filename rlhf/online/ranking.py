"""Preferences made by a policy and a reward: responses sampled, ranked, kept as a file of pairs.

What DPO learns from where nobody has voted. Votes of people are data/records.py's.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.errors import ConfigError, DataError
from playout.rlhf.data.records import Preference
from playout.rlhf.generation.responses import sample_responses
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.rewards import RewardFunction, checked_rewards

__all__ = ["rank_samples", "write_preferences"]


def rank_samples(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    reward: RewardFunction,
    *,
    samples: int = 4,
    max_new_tokens: int,
    seed: int,
    dtype: torch.dtype,
) -> list[Preference]:
    """The best and the worst of some sampled responses to each prompt, by a reward.

    Responses that were cut before they ended are left out: a pair file cannot say so.
    """
    if samples < 2:
        raise ConfigError(f"ranking needs at least 2 samples a prompt, not {samples}")
    unique = list(dict.fromkeys(prompts))
    found: dict[str, list[tuple[float, str]]] = {prompt: [] for prompt in unique}
    for draw in range(samples):
        answers = sample_responses(
            model,
            tokenizer,
            unique,
            max_new_tokens=max_new_tokens,
            seed=seed,
            dtype=dtype,
            streams=range(draw * len(unique), (draw + 1) * len(unique)),
        )
        scores = checked_rewards(reward, answers.texts).tolist()
        ended = answers.generation.finished.tolist()
        for prompt, text, score, end in zip(unique, answers.responses, scores, ended, strict=True):
            if end and text.strip():
                found[prompt].append((score, text))
    pairs = []
    for prompt, ranked in found.items():
        ranked.sort()
        if len(ranked) > 1 and ranked[0][0] < ranked[-1][0]:
            (low, worst), (high, best) = ranked[0], ranked[-1]
            pairs.append(Preference(prompt, best, worst, margin=round(high - low, 4)))
    if not pairs:
        raise DataError("the samples of every prompt are alike; there is nothing to rank")
    return pairs


def write_preferences(path: Path, pairs: Sequence[Preference]) -> None:
    """Pairs as JSON lines that `read_preferences` reads."""
    lines = [
        json.dumps(
            {"prompt": p.prompt, "chosen": p.first, "rejected": p.second, "margin": p.margin},
            ensure_ascii=False,
        )
        for p in pairs
    ]
    replace_file(path, ("\n".join(lines) + "\n").encode())

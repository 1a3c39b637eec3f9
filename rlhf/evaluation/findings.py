"""What a pipeline's numbers say, in sentences: for its report, and for the end of its command.

Every sentence follows from numbers by a rule that stands here; nothing is measured. A method that
exploited its reward, pretraining that did not help, gains that are learning to stop: each is said
where the numbers show it.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

__all__ = [
    "findings",
    "of_best_of_n",
    "of_classification",
    "of_comparison",
    "of_method",
    "of_sampling",
    "share",
]

Evaluation = Mapping[str, float]
"""Means over held-out prompts by name, at one point of training."""

# A rise of the judge of less than this share of the reward's, both in deviations of the start.
FOLLOWS = 0.25
REPEATS = 0.1  # by which the share of repeated pairs of words may rise without a word


def share(value: float | None, interval: Sequence[float] | None = None) -> str:
    """A share in per cent, with its interval; of one that is none or no number, that."""
    if value is None or math.isnan(value):
        return "not told"
    text = f"{100 * value:.1f} %"
    if interval:
        text += f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return text


def findings(data: Mapping[str, Any]) -> list[str]:
    """Sentences about everything that report.py gathered."""
    lines = []
    if data.get("pretrain") and data["pretrain"]["eval/bits_per_byte"]:
        bits = data["pretrain"]["eval/bits_per_byte"][-1][1]
        lines.append(f"Pretraining: {bits:.3f} bits per byte of held-out text.")
    lines += of_classification(data.get("classify_table") or [])
    for who, table in (("Reward model", "reward_table"), ("Judge", "judge_table")):
        reward = data.get(table)
        if reward:
            shown = share(reward["accuracy"], reward.get("accuracy_interval"))
            line = f"{who}: {shown} of held-out pairs in the order people gave them"
            if "far_accuracy" in reward:
                line += f", {share(reward['far_accuracy'])} of those at least 1 apart"
            lines.append(f"{line}; calibration error {reward['calibration_error']:.3f}.")
    for name, rows in data["trained"].items():
        lines += of_method(name, rows)
        lines += of_best_of_n(name, rows[-1], data.get("best_of_n") or [])
        lines += of_comparison(name, (data.get("judge") or {}).get(name) or {})
    return lines


def of_comparison(name: str, table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How often a method's answers beat those before it, by each scorer, with 95 % intervals.

    Several answers to few prompts make the interval one over answers to these prompts.
    """
    if not table:
        return []
    shares = "; ".join(
        f"{share(row['win_rate'], row['interval'])} by the {by}" for by, row in table.items()
    )
    row = next(iter(table.values()))
    count, distinct = row["prompts"], row.get("distinct_prompts", row["prompts"])
    over = f"{count} pairs of answers"
    if distinct < count:
        over += f" to {distinct} prompts, over whose answers the interval is"
    return [f"{name}: its answers beat those before it in {shares}, of {over}."]


def of_classification(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether pretraining helped on each task, and whether counting words does as well."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in table):
        found = {
            row["model"]: row.get("accuracy", row.get("pair_accuracy", 0.0))
            for row in table
            if row["task"] == task
        }
        if not {"scratch", "pretrained"} <= found.keys():
            continue
        own, other = found["pretrained"], found["scratch"]
        if share(own) == "not told":
            lines.append(f"Nothing is told of {task}: its held-out texts are all rated alike.")
            continue
        verdict = "helped" if own > other else "did not help"
        low, high = next(
            (row["interval"] for row in table if row["task"] == task and "interval" in row
             and row["model"] == "pretrained"), (own, own)
        )  # fmt: skip
        line = f"Pretraining {verdict} on {task}: {share(own)} after it, {share(other)} without"
        if low < other < high and other != own:
            line += ", which may be chance"
        words = found.get("tf-idf")
        if words is not None:
            best = max(own, other)
            beside = "below" if words < best else "above" if words > best else "beside"
            line += f"; counting words (TF-IDF) lies {beside} them at {share(words)}"
        lines.append(line + ".")
    return lines


def of_method(name: str, rows: Sequence[Evaluation]) -> list[str]:
    """What a method that improves a policy did to it.

    Args:
        name: The method.
        rows: Its evaluations in order, the one before training first.
    """
    first, last = rows[0], rows[-1]
    spread = max(first.get("reward_std", 0.0), 1e-9)
    rise = (last["reward"] - first["reward"]) / spread
    line = f"{name}: learned reward {first['reward']:.2f} to {last['reward']:.2f} "
    line += f"({rise:+.2f} deviations) at a KL of {last['kl']:.1f} nats a response"
    if "judge" in first:
        line += f"; the independent judge went from {first['judge']:.3f} to {last['judge']:.3f}"
    return [line + ".", *_shape(name, first, last), *_exploited(name, rows, rise)]


def of_sampling(gaps: Mapping[str, Sequence[float]]) -> list[str]:
    """Whether policies learned from what they had sampled: one sentence, none without numbers.

    Args:
        gaps: By stage, the mean and the largest difference of log-probabilities, in nats.
    """
    if not gaps:
        return []
    stages = "; ".join(f"{stage} {mean:.2g} and {most:.2g}" for stage, (mean, most) in gaps.items())
    return [
        f"Log-probabilities of tokens as they were sampled and as they were learned from differ by "
        f"so many nats, on average and at most over the run: {stages} (0 means that what was "
        f"learned from is what was sampled)."
    ]


def _shape(name: str, first: Evaluation, last: Evaluation) -> list[str]:
    """Ends, lengths and words of answers, and how much of the gain is learning to stop."""
    lines = []
    if "ended" in first and "length" in first:
        line = f"{name}: answers that end {share(first['ended'])} to {share(last['ended'])}, "
        line += f"length {first['length']:.1f} to {last['length']:.1f} tokens"
        if "distinct_words" in first and "distinct_words" in last:
            line += f", distinct words {share(first['distinct_words'])} "
            line += f"to {share(last['distinct_words'])}"
        lines.append(line + ".")
    gain = last["reward"] - first["reward"]
    ended = [row.get("reward_ended") for row in (first, last)]
    if gain > 0 and ended[0] is not None and ended[1] is not None:
        kept = (ended[1] - ended[0]) / gain
        if kept < 0.75:
            lines.append(
                f"{name}: among answers that ended the reward went from {ended[0]:.2f} to "
                f"{ended[1]:.2f} only; the rest of the gain is learning to stop."
            )
    return lines


def _exploited(name: str, rows: Sequence[Evaluation], rise: float) -> list[str]:
    """Where the judge stopped following the reward, and answers that repeat themselves."""
    first, last = rows[0], rows[-1]
    lines = []
    if rise > 0 and "judge" in first and first.get("judge_std"):
        followed = (last["judge"] - first["judge"]) / first["judge_std"]
        best = max(range(len(rows)), key=lambda i: rows[i].get("judge", float("-inf")))
        if followed < FOLLOWS * rise:
            peak = rows[best]
            where = "before it began" if best == 0 else f"at update {int(peak['update'])}"
            lines.append(
                f"{name}: the judge did not follow ({followed:+.2f} deviations). It was highest "
                f"{where} ({peak['judge']:.3f}); from there on the reward is exploited."
            )
    before, after = first.get("greedy_repeated"), last.get("greedy_repeated")
    if before is not None and after is not None and after > before + REPEATS:
        lines.append(
            f"{name}: its likeliest answers repeat themselves ({share(after)} of word pairs stood "
            f"there before; {share(before)} at the start). Read the greedy samples."
        )
    return lines


def of_best_of_n(name: str, last: Evaluation, table: Sequence[Mapping[str, Any]]) -> list[str]:
    """What sampling alone reaches at the same KL, between the measured sizes by a straight line."""
    points = sorted((row["kl"], row["reward"], row["n"]) for row in table)
    if not points or "reward" not in last:
        return []
    kl = last["kl"]
    if kl >= points[-1][0]:
        far, reward, n = points[-1]
        return [
            f"{name}: best of {n}, at a KL of {far:.2f} at most, reaches a reward of {reward:.2f}; "
            f"the policy has {last['reward']:.2f} at {kl:.2f}."
        ]
    for (low, a, _), (high, b, _) in pairwise(points):
        if low <= kl <= high:
            reward = a + (b - a) * (kl - low) / max(high - low, 1e-9)
            return [
                f"{name}: at its KL of {kl:.2f}, best of n reaches a reward of {reward:.2f}; the "
                f"policy has {last['reward']:.2f}."
            ]
    return []

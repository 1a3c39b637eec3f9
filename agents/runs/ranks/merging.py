"""Metrics of a whole job from those of its ranks.

What the numbers are decides how they are joined: means are weighted, extremes stay extremes, counts
are added up. All in one message (messages.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping

from playout.agents.runs.ranks.messages import everybody
from playout.agents.runs.ranks.place import world


def merge_metrics(
    metrics: Mapping[str, float], *, weight: float = 1.0, summed: Collection[str] = ()
) -> dict[str, float]:
    """The metrics of the whole job from those of each rank, the same on every rank; one message.

    Args:
        metrics: This rank's. One that describes play (rollout/, eval/, time/, selfplay/, search/)
            may be missing or NaN on some ranks and is then taken from the others.
        weight: How much this rank counts: its rows, say. A rank of weight 0 adds to sums only.
        summed: Keys that are added up. Of keys that end in _min or _max the extreme is taken, of
            all others the mean.
    """
    if world() == 1:
        return dict(metrics)
    from playout.agents.runs.checkpoint.finite import may_lack_value

    mine = json.dumps([weight, {key: float(value) for key, value in metrics.items()}])
    parts = [json.loads(part) for part in everybody(mine.encode())]
    found: dict[str, float] = {}
    for key in dict.fromkeys(key for _, part in parts for key in part):
        pairs = [(each, part[key]) for each, part in parts if key in part]
        if may_lack_value(key):
            pairs = [pair for pair in pairs if not math.isnan(pair[1])]
        found[key] = _merged(key, pairs, added=key in summed)
    return found


def _merged(key: str, pairs: list[tuple[float, float]], *, added: bool) -> float:
    if added:
        return sum(value for _, value in pairs)
    counted = [(each, value) for each, value in pairs if each > 0]  # others had no rows
    values = [value for _, value in counted]
    if not values or any(math.isnan(value) for value in values):
        return math.nan
    if key.endswith("_min"):
        return min(values)
    if key.endswith("_max"):
        return max(values)
    total = sum(each for each, _ in counted)
    return sum(each * value for each, value in counted) / total

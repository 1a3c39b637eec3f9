"""Pictures and positions as plain numbers, and which others lie nearest to each.

The neighbours are found once, by comparing all with all: what takes a second for ten thousand takes
half a minute of a core for sixty thousand. Left out: what they are for (objectives/contrastive.py).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.pretraining.data.dataset import Dataset, Rows, some_rows
from playout.agents.runs.console import progress

MAX_PIXELS = 3072
"""Numbers of a picture that readers of pixels see at most, those of 32 x 32 in colour."""

COMPARED = 256
"""Numbers of a picture by which neighbours are found, at most."""

NEIGHBOURS = 15
"""Of each row, as McInnes et al. 2018 (UMAP) have it."""

AMONG = 1 << 16
"""Rows among which neighbours are looked for, at most; of more data some are drawn."""

_BLOCK = 1024


def raw(data: Dataset, rows: Rows, most: int = MAX_PIXELS) -> npt.NDArray[np.float32]:
    """float32 [B, C * h * w]: the pictures themselves, those of more numbers as means of squares.

    Edges that fill no square are repeated until they do.
    """
    channels, height, width = data.shape
    side, h, w = 1, height, width
    while channels * h * w > most and max(h, w) > 1:
        side += 1
        h, w = math.ceil(height / side), math.ceil(width / side)
    if side == 1:
        return data.images(rows).reshape(len(rows), -1)
    rest = (0, 0), (0, 0), (0, h * side - height), (0, w * side - width)
    found = np.empty((len(rows), channels * h * w), np.float32)
    for start in range(0, len(rows), 256):  # whole pictures may be large
        part = np.pad(data.images(rows[start : start + 256]), rest, mode="edge")
        means = part.reshape(-1, channels, h, side, w, side).mean(axis=(3, 5))
        found[start : start + 256] = means.reshape(len(part), -1)
    return found


@torch.no_grad()
def nearest(data: Dataset, count: int = NEIGHBOURS) -> Rows:
    """int64 [N, K]: the rows that lie nearest to each row, nearest first, by Euclidean distance.

    Args:
        data: Of two rows at least.
        count: K, if there are so many others.
    """
    rows = np.arange(len(data))
    among = some_rows(rows, AMONG)
    numbers = torch.from_numpy(raw(data, rows, COMPARED))
    seen = numbers[among]
    lengths = seen.square().sum(1)
    places = torch.from_numpy(among)
    found = []
    with progress(f"neighbours in {data.name}", len(rows), unit="rows") as tell:
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            # Its own length changes nothing for a row.
            distances = lengths - 2 * numbers[block] @ seen.T
            distances[torch.from_numpy(block)[:, None] == places] = math.inf
            best = distances.topk(min(count, len(among) - 1), largest=False).indices
            found.append(places[best])
            tell(start + len(block))
    return torch.cat(found).numpy()

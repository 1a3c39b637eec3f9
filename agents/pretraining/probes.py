"""What a trunk knows: judged by simple readers of its frozen features, and by fine-tuning.

A linear probe is multinomial logistic regression on standardised features, its penalty chosen on a
part of the training rows; neighbours vote by cosine; clusters and maps without labels are
clusters.py's. Pixels, of large pictures means of squares, are the yardstick of each, read in the
same way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.networks.precision.lowered import lowered
from playout.agents.pretraining.clusters import NEIGHBOURS as DENSE
from playout.agents.pretraining.clusters import cluster_scores, draw_maps, maps, standardised
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import (
    Dataset,
    Rows,
    Split,
    independent,
    labelled_rows,
    most_frequent,
    some_rows,
)
from playout.agents.pretraining.data.neighbours import raw
from playout.agents.pretraining.data.positions import unit_of
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import Trunk
from playout.agents.rating.intervals import share_interval
from playout.agents.runs.devices import to_device
from playout.errors import ConfigError, DataError
from torch.nn import functional

PROBES = ("linear", "neighbours", "finetune", "clusters")
SHARES = (0.01, 0.1, 1.0)
MAX_ROWS = 20_000
"""Training pictures that readers see at most; more change nothing but the time."""

MAX_CLUSTERED = 5000
"""Held-out pictures among which clusters are looked for."""

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
NEIGHBOURS = 5

Features = npt.NDArray[np.float32]


@torch.no_grad()
def features(
    trunk: Trunk, data: Dataset, rows: Rows, *, dtype: torch.dtype = torch.float32
) -> Features:
    """float32 [B, num_features] of some pictures, as they are."""
    trunk.eval()
    device = next(trunk.parameters()).device
    parts = []
    for start in range(0, len(rows), 256):
        images = to_device(data.images(rows[start : start + 256]), device)
        with lowered(device.type, dtype):
            parts.append(trunk.vector(images).float().cpu())
    return torch.cat(parts).numpy()


def fit_linear(
    x: Features, y: Rows, num_classes: int, penalty: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weights [K, D] and biases [K] of logistic regression with an L2 penalty, by L-BFGS."""
    from scipy.optimize import minimize

    count, width = x.shape
    chosen = np.eye(num_classes, dtype=np.float32)[y]

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weight, bias = flat[:-num_classes].reshape(num_classes, width), flat[-num_classes:]
        logits = (x @ weight.T.astype(np.float32)).astype(np.float64) + bias
        logits -= logits.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(logits).sum(axis=1))
        value = float((log_total - (logits * chosen).sum(axis=1)).mean())
        error = ((np.exp(logits - log_total[:, None]) - chosen) / count).astype(np.float32)
        slope = error.T @ x + 2 * penalty * weight
        flat_slope = np.concatenate([slope.ravel(), error.sum(axis=0)]).astype(np.float64)
        return value + penalty * float(np.square(weight).sum()), flat_slope

    start = np.zeros(num_classes * (width + 1))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 150}).x
    return found[:-num_classes].reshape(num_classes, width), found[-num_classes:]


def linear_accuracy(
    train: Features, labels: Rows, test: Features, wanted: Rows, num_classes: int, *, seed: int
) -> float:
    """Share of right classes on the held-out features."""
    x, t = standardised(train, test)
    order = np.random.default_rng([seed, 46]).permutation(len(x))
    fifth = len(x) // 5
    best, chosen = -1.0, PENALTIES[1]
    if fifth >= 2 * num_classes:
        tried, rest = order[:fifth], order[fifth:][:5000]
        for penalty in PENALTIES:
            weight, bias = fit_linear(x[rest], labels[rest], num_classes, penalty)
            right = float(((x[tried] @ weight.T + bias).argmax(1) == labels[tried]).mean())
            if right > best:
                best, chosen = right, penalty
    weight, bias = fit_linear(x, labels, num_classes, chosen)
    return float(((t @ weight.T + bias).argmax(1) == wanted).mean())


def neighbour_accuracy(
    train: Features, labels: Rows, test: Features, wanted: Rows, num_classes: int
) -> float:
    """Share of held-out features whose nearest NEIGHBOURS by cosine vote for the right class."""
    x, t = (
        functional.normalize(torch.from_numpy(part), dim=1) for part in standardised(train, test)
    )
    y, right = torch.from_numpy(labels), 0
    k = min(NEIGHBOURS, len(x))
    for start in range(0, len(t), 512):
        similar, nearest = (t[start : start + 512] @ x.T).topk(k, dim=1)
        votes = torch.zeros(len(nearest), num_classes)
        # Ties go to the nearer ones.
        votes.scatter_add_(1, y[nearest], 1 + 1e-3 * similar)
        right += int((votes.argmax(1) == torch.from_numpy(wanted[start : start + 512])).sum())
    return right / len(t)


def _row(share: float, count: int, train: Dataset, accuracy: float, tested: int) -> dict[str, Any]:
    """What was found with `count` labels of those of `train`, of which `share` were asked for."""
    low, high = share_interval(accuracy * tested, tested)
    return {
        "labels": share,
        "used": count / int((train.labels >= 0).sum()),
        "pictures": count,
        "accuracy": accuracy,
        "interval": [low, high],
    }


def probe(
    trunk: Trunk,
    data: Split,
    kind: str,
    *,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    epochs: float = 5.0,
    picture: Path | None = None,
    pixels: bool = True,
) -> dict[str, Any]:
    """What a reader makes of the trunk, by the share of labels that it sees.

    Args:
        trunk: what is judged; it is not changed.
        data: labelled.
        kind: "linear", "neighbours", "finetune" or "clusters".
        shares: of the labels; linear and neighbours read MAX_ROWS pictures at most.
        seed: of which labels, and of fitting.
        dtype: of the trunk's products.
        epochs: of fine-tuning on all labels; fewer labels get more, up to ten times as many.
        picture: of clusters, where maps are drawn (PNG); None leaves maps out, which take longest.
        pixels: whether linear and neighbours read raw input too.

    Returns:
        `rows` with accuracy and interval a share: `labels` is the share that was asked for, `used`
        the one that was read, which is that of so many `pictures` (or positions); of `linear` and
        `neighbours` also `pixels`, such rows of raw input; beside rows `most_frequent`, the class
        that most held-out labels are of, and its share; of clusters, `trunk` and `pixels` with
        the scores of `cluster_scores`, and with a picture `maps`.

    Raises:
        DataError: the data has no labels, or too few for clusters. ConfigError: an unknown kind.
    """
    if kind not in PROBES:
        raise ConfigError(f"unknown probe {kind!r}; known are {', '.join(PROBES)}")
    data.must_have_labels()
    if kind == "clusters":
        train, test = data.train, data.test
        held = np.flatnonzero(test.labels >= 0)
        classes = len(np.unique(test.labels[held]))  # some names may be of none, as draws of Hex
        if len(held) <= max(classes, DENSE):
            raise DataError(
                f"{len(held)} held-out {unit_of(test)} with labels are too few to look for "
                f"clusters: it takes more than {max(classes, DENSE)}"
            )
        if classes < 2:
            raise DataError(f"held-out {unit_of(test)} are of one class: clusters tell none")
        held = some_rows(held, MAX_CLUSTERED)
        wanted = test.labels[held]
        classes = len(np.unique(wanted))
        both = {"trunk": features(trunk, test, held, dtype=dtype), "pixels": raw(test, held)}
        scored = {k: cluster_scores(x, wanted, classes, seed=seed) for k, x in both.items()}
        if picture is not None:
            drawn = {k: maps(x, wanted, seed=seed) for k, x in both.items()}
            draw_maps(drawn, wanted, train.classes, picture)
            for k, found in drawn.items():
                scored[k]["maps"] = {method: measures for method, (_, measures) in found.items()}
        return {"probe": kind, **scored}
    usual = most_frequent(data.test, np.arange(len(data.test)))
    if kind == "finetune":
        found_rows = [
            _finetune(trunk, data, share, seed=seed, dtype=dtype, epochs=epochs) for share in shares
        ]
        return {"probe": kind, "rows": found_rows, "most_frequent": usual}
    see = partial(features, trunk, dtype=dtype)
    read: dict[str, Any] = {"rows": _read(see, data, kind, shares, seed=seed)}
    if pixels:
        read["pixels"] = _read(raw, data, kind, shares, seed=seed)
    return {"probe": kind, **read, "most_frequent": usual}


def _read(
    see: Callable[[Dataset, Rows], Features],
    data: Split,
    kind: str,
    shares: Sequence[float],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """The rows of a linear reader, or of neighbours, of what `see` makes of pictures."""
    train, test, classes = data.train, data.test, len(data.train.classes)
    held = np.flatnonzero(test.labels >= 0)
    tested, wanted, rows = see(test, held), test.labels[held], []
    for share in shares:
        picked = some_rows(labelled_rows(train, share, seed=seed), MAX_ROWS, seed=seed)
        seen, labels = see(train, picked), train.labels[picked]
        if kind == "linear":
            accuracy = linear_accuracy(seen, labels, tested, wanted, classes, seed=seed)
        else:
            accuracy = neighbour_accuracy(seen, labels, tested, wanted, classes)
        rows.append(_row(share, len(picked), train, accuracy, independent(test, held)))
    return rows


def _finetune(
    trunk: Trunk,
    data: Split,
    share: float,
    *,
    seed: int,
    dtype: torch.dtype,
    epochs: float,
) -> dict[str, Any]:
    """Supervised training of a copy of the whole trunk on a share of the labels."""
    import copy

    count = len(labelled_rows(data.train, share, seed=seed))
    passes = epochs * min(10.0, 1 / math.sqrt(share))
    config = dataclasses.replace(PretrainConfig(), labels=share, batch=64 if count < 5000 else 256)
    steps = max(300, round(passes * count / config.batch))
    device = next(trunk.parameters()).device
    trainer = PretrainTrainer(
        copy.deepcopy(trunk), data, config, steps=steps, seed=seed, device=device, dtype=dtype
    )
    try:
        while not trainer.finished:
            trainer.update()
        held = trainer.measurable(data.test)
        found = trainer.measure(data.test, held)
    finally:
        trainer.close()
    return _row(share, count, data.train, found["accuracy"], independent(data.test, held))

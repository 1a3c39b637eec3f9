"""What features look like without labels: clusters, and maps of two dimensions.

k-means and DBSCAN find groups, which are compared with the classes by the adjusted Rand index and
normalised mutual information; PCA, t-SNE and UMAP lay features out on a plane, judged by
trustworthiness (are neighbours there neighbours here?) and by how well classes stand apart. Methods
are scikit-learn's and umap-learn's; what is not installed is left out.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.pretraining.data.dataset import Rows, some_rows
from playout.errors import ConfigError

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

SCORED = 2000
"""Rows whose distances to all others silhouettes are of, at most."""

MAPPED = 1000
"""Rows that maps show at most; t-SNE's time grows with their square."""

NEIGHBOURS = 10
_KEPT = 10  # principal components in which DBSCAN measures distances
_RADII = (0.3, 0.5, 0.7, 0.8, 0.9)  # quantiles of the distance to the tenth neighbour


def _sklearn() -> Any:
    try:
        import sklearn.cluster
        import sklearn.decomposition
        import sklearn.manifold
        import sklearn.metrics
        import sklearn.neighbors
    except ImportError:
        raise ConfigError("clusters need scikit-learn: pip install 'playout[clusters]'") from None
    return sklearn


def standardised(found: Features, *others: Features) -> list[Features]:
    """All with the scales that give each column of the first mean 0 and deviation 1.

    Constant columns become 0.
    """
    mean, deviation = found.mean(0), found.std(0)
    scale = np.where(deviation > 1e-6, deviation, 1.0)
    return [((x - mean) / scale).astype(np.float32) for x in (found, *others)]


def cluster_scores(
    found: Features, labels: Labels, num_classes: int, *, seed: int
) -> dict[str, Any]:
    """k-means with as many clusters as classes, and DBSCAN, against the classes.

    Args:
        found: float32 [N, D].
        labels: int64 [N].
        num_classes: of the labels.
        seed: of k-means.

    Returns:
        `ari`, `nmi` and `silhouette` (NaN where the rows that it is measured on are of one cluster)
        of k-means; `dbscan` with the same, the number of its
        `clusters` and the share that it calls `noise` (empty where it finds no two clusters).

    Raises:
        ConfigError: scikit-learn is missing.
    """
    library, (x,) = _sklearn(), standardised(found)
    places = library.cluster.KMeans(num_classes, n_init=3, random_state=seed).fit_predict(x)
    return {**_compared(library, x, places, labels), "dbscan": _dbscan(library, x, labels)}


def _compared(library: Any, x: Features, places: Labels, labels: Labels) -> dict[str, float]:
    metrics = library.metrics
    rows = np.random.RandomState(0).permutation(len(x))[:SCORED]
    return {
        "ari": float(metrics.adjusted_rand_score(labels, places)),
        "nmi": float(metrics.normalized_mutual_info_score(labels, places)),
        "silhouette": _silhouette(library, x[rows], places[rows]),
    }


def _silhouette(library: Any, x: Any, places: Labels) -> float:
    """How far clusters stand apart, from -1 to 1; NaN for one cluster, or one a row."""
    if not 1 < len(np.unique(places)) < len(places):
        return math.nan
    return float(library.metrics.silhouette_score(x, places))


def _dbscan(library: Any, x: Features, labels: Labels) -> dict[str, Any]:
    """Of several radii the one whose clusters stand apart best, with at most half of it noise."""
    kept = min(_KEPT, *x.shape)
    small = library.decomposition.PCA(kept, random_state=0).fit_transform(x)
    near = library.neighbors.NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(x))).fit(small)
    reach = near.kneighbors()[0][:, -1]
    best: dict[str, Any] = {}
    for share in _RADII:
        radius = float(np.quantile(reach, share))
        if radius <= 0:
            continue
        places = library.cluster.DBSCAN(eps=radius, min_samples=NEIGHBOURS).fit_predict(small)
        inside = places >= 0
        clusters = len(np.unique(places[inside]))
        if clusters < 2 or inside.mean() < 0.5:
            continue
        # Noise is a group of its own in the comparison with the classes, none where groups stand.
        row = _compared(library, small, places, labels)
        row["silhouette"] = _compared(library, small[inside], places[inside], labels[inside])[
            "silhouette"
        ]
        stand = [np.nan_to_num(one.get("silhouette", math.nan), nan=-1.0) for one in (row, best)]
        if not best or stand[0] > stand[1]:
            noise = float(1 - inside.mean())
            best = {**row, "clusters": clusters, "noise": noise, "radius": radius}
    return best


def _mapped(count: int) -> Rows:
    """Which of so many rows maps show: the same ones whenever they are as many."""
    return some_rows(np.arange(count), MAPPED)


def maps(
    found: Features, labels: Labels, *, seed: int
) -> dict[str, tuple[Features, dict[str, float]]]:
    """Layouts in two dimensions by method, of at most MAPPED rows, with their measures.

    Args:
        found: float32 [N, D].
        labels: int64 [N].
        seed: of what is random in a method.

    Returns:
        Method -> (float32 [n, 2] of n of the rows, measures): `trustworthiness`, `silhouette` of
        the classes on the plane (NaN where one class is there), and of PCA the share of variance
        that it shows.

    Raises:
        ConfigError: scikit-learn is missing.
    """
    library = _sklearn()
    rows = _mapped(len(found))
    x, y = standardised(found)[0][rows], labels[rows]
    pca = library.decomposition.PCA(2, random_state=seed)
    planes = {"pca": pca.fit_transform(x)}
    near = max(2.0, min(30.0, (len(x) - 1) / 4))
    planes["tsne"] = library.manifold.TSNE(
        perplexity=near, init="pca", random_state=seed
    ).fit_transform(x)
    if (umap := _umap(x, seed)) is not None:
        planes["umap"] = umap
    laid: dict[str, tuple[Features, dict[str, float]]] = {}
    k = min(5, (len(x) - 1) // 2)
    for name, plane in planes.items():
        measures = {
            "trustworthiness": float(library.manifold.trustworthiness(x, plane, n_neighbors=k)),
            "silhouette": _silhouette(library, plane, y),
        }
        if name == "pca":
            measures["variance"] = float(pca.explained_variance_ratio_.sum())
        laid[name] = np.asarray(plane, np.float32), measures
    return laid


def _umap(x: Features, seed: int) -> Any | None:
    """The layout of umap-learn, where it is installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numba warns of much when it is imported
            from umap import UMAP

            return UMAP(n_neighbors=min(15, len(x) - 1), random_state=seed).fit_transform(x)
    except ImportError:
        return None


def draw_maps(
    rows: dict[str, dict[str, tuple[Features, dict[str, float]]]],
    labels: Labels,
    classes: tuple[str, ...],
    path: Path,
) -> None:
    """Draws maps as a PNG: a line for each of `rows` (trunk, pixels), a column a method.

    Args:
        rows: what `maps` found, by what it was given.
        labels: int64 [N], those that `maps` was given.
        classes: their names.
        path: of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = labels[_mapped(len(labels))]
    columns = list(next(iter(rows.values())))
    figure = Figure(figsize=(3.6 * len(columns) + 1.2, 3.5 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (what, found) in zip(axes, rows.items(), strict=True):
        for axis, method in zip(line, columns, strict=True):
            plane, measures = found[method]
            for number, name in enumerate(classes):
                own = shown == number
                colour = f"C{number % 10}"
                axis.scatter(*plane[own].T, s=5, color=colour, label=name, linewidths=0)
            axis.set_title(f"{what}, {method} (trust {measures['trustworthiness']:.2f})", size=9)
            axis.set_xticks([])
            axis.set_yticks([])
    axes[0][-1].legend(markerscale=3, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120, metadata={"Software": None})

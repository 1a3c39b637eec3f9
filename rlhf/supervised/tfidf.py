"""The linear baseline: TF-IDF of words and word pairs, with ridge or logistic regression.

What any learned text model must beat to be worth its cost. Sparse matrices and solvers are scipy's;
tests hold terms, weights and predictions against scikit-learn, which is not needed to run this.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from scipy.sparse.linalg import LinearOperator, cg  # type: ignore[import-untyped]

__all__ = ["Features", "logistic", "ridge"]

_MAX_ITERATIONS = 60
_WORD = re.compile(r"\w\w+|[^\w\s]")
Floats = NDArray[np.float64]


def _terms(text: str) -> Counter[str]:
    words = _WORD.findall(text.lower())
    return Counter(words + [f"{a} {b}" for a, b in pairwise(words)])


class Features:
    """Terms of the training texts with their inverse document frequencies."""

    def __init__(self, texts: Sequence[str], *, min_count: int = 2) -> None:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(_terms(text).keys())
        kept = sorted(term for term, count in counts.items() if count >= min_count)
        self.index = {term: place for place, term in enumerate(kept)}
        documents = np.array([counts[term] for term in kept], dtype=np.float64)
        self.idf = np.log((1 + len(texts)) / (1 + documents)) + 1

    def __call__(self, texts: Sequence[str]) -> csr_matrix:
        """Rows of length one, [N, terms], with logarithmic term counts."""
        rows, columns, values = [], [], []
        for row, text in enumerate(texts):
            found = [(self.index[t], c) for t, c in _terms(text).items() if t in self.index]
            if not found:
                continue
            places = np.array([place for place, _ in found])
            weights = (1 + np.log([count for _, count in found])) * self.idf[places]
            rows += [row] * len(found)
            columns += places.tolist()
            values += (weights / np.linalg.norm(weights)).tolist()
        return csr_matrix((values, (rows, columns)), shape=(len(texts), len(self.index)))


def ridge(x: csr_matrix, y: Floats, *, penalty: float = 1.0) -> tuple[Floats, float]:
    """Weights and offset that minimise the squared error plus `penalty * |w|²`."""
    offset = float(y.mean())

    def normal(w: Floats) -> Floats:
        return np.asarray(x.T @ (x @ w) + penalty * w)

    size = x.shape[1]
    operator = LinearOperator((size, size), matvec=normal, dtype=np.float64)
    weights, _ = cg(operator, x.T @ (y - offset), rtol=1e-5, maxiter=300)
    return np.asarray(weights), offset


def logistic(x: csr_matrix, y: Floats, *, penalty: float = 0.1) -> tuple[Floats, float]:
    """Weights and offset of the regularised log-odds of y = 1."""

    def loss(w: Floats) -> tuple[float, Floats]:
        z = x @ w[:-1] + w[-1]
        error = 1 / (1 + np.exp(-z)) - y
        value = float(np.sum(np.logaddexp(0, z) - y * z) + 0.5 * penalty * (w[:-1] @ w[:-1]))
        return value, np.append(x.T @ error + penalty * w[:-1], error.sum())

    options = {"maxiter": _MAX_ITERATIONS}
    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x[:-1]), float(found.x[-1])

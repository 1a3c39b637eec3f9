"""Numbers for reference.py: random streams, float32 sums and exponentials as the C code has them.

Each repeats a function of mcts/tree in plain Python; the search itself stands in reference.py.
"""

from __future__ import annotations

import math

import numpy as np

F = np.float32
MASK = (1 << 64) - 1


def mix(z: int) -> int:
    """SplitMix64's finaliser."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class Rng:
    """The stream of (seed, tree, number of the search, purpose)."""

    def __init__(self, seed: int, tree: int, searches: int, purpose: int) -> None:
        stream = ((tree << 40) + (searches << 2) + purpose) & MASK
        self.key = mix(
            mix((seed + 0x9E3779B97F4A7C15) & MASK) ^ ((stream * 0xD1342543DE82EF95 + 1) & MASK)
        )
        self.counter = 0

    def next(self) -> int:
        """64 bits."""
        self.counter += 1
        return mix((self.key + 0x9E3779B97F4A7C15 * self.counter) & MASK)

    def below(self, bound: int) -> int:
        """A whole number below the bound."""
        return ((self.next() >> 32) * bound) >> 32

    def double(self) -> float:
        """A number in [0, 1)."""
        return (self.next() >> 11) * 2.0**-53

    def draw(self, probs: list[float]) -> int:
        """A place, by its probability."""
        point, last = self.double(), 0
        for i, p in enumerate(probs):
            if p > 0:
                last = i
                if point < p:
                    break
                point -= p
        return last

    def unit(self) -> float:
        """A number in (0, 1)."""
        return ((self.next() >> 12) + 0.5) * 2.0**-52

    def gumbel(self) -> float:
        """Standard Gumbel."""
        return -math.log(-math.log(self.unit()))

    def gamma(self, shape: float) -> float:
        """Marsaglia and Tsang (2000)."""
        d = (shape + 1.0 if shape < 1.0 else shape) - 1.0 / 3.0
        c = 1.0 / math.sqrt(9.0 * d)
        while True:
            radius = math.sqrt(-2.0 * math.log(self.unit()))
            x = radius * math.cos(6.283185307179586 * self.unit())
            t = 1.0 + c * x
            v, u = t * t * t, self.unit()
            if t <= 0.0 or math.log(u) >= 0.5 * x * x + d - d * v + d * math.log(v):
                continue
            return d * v * self.unit() ** (1.0 / shape) if shape < 1.0 else d * v


def total_of(x: np.ndarray) -> np.float32:
    """Sum in the order of eight lanes."""
    lanes = np.zeros(8, F)
    for block in x.reshape(-1, 8):
        lanes = lanes + block
    four = lanes[:4] + lanes[4:]
    two = four[:2] + four[2:]
    return F(two[0] + two[1])


def exp(x: np.ndarray) -> np.ndarray:
    """Cephes' expf for x <= 0, as in tree/vec.h; lanes above 0 are never used."""
    x = np.clip(x, F(-87.0), F(0.0)).astype(F)
    r = np.rint(x * F(1.44269504))
    f = (x - r * F(0.693359375)) - r * F(-2.12194440e-4)
    y = F(1.9875691500e-4) * f + F(1.3981999507e-3)
    for c in (8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        y = y * f + F(c)
    y = ((y * f) * f + f) + F(1.0)
    return (y * np.ldexp(F(1.0), r.astype(np.int32))).astype(F)


def schedule(m: int, n: int) -> list[int]:
    """Sequential halving: the visit count considered at each of n simulations of m actions."""
    if m <= 1:
        return list(range(n))
    out: list[int] = []
    phases, considered, visits = math.ceil(math.log2(m)), m, 0
    while len(out) < n:
        for _ in range(max(1, n // (phases * considered))):
            out += [visits] * considered
            visits += 1
        considered = max(2, considered // 2)
    return out[:n]


def exploration(visits: int, base: float, init: float) -> np.float32:
    """PUCT's factor of an edge's prior, after so many visits of the node."""
    base, init = float(F(base)), float(F(init))
    return F((math.log((1.0 + visits + base) / base) + init) * math.sqrt(visits))

"""`SearchConfig`: every choice of the tree search, with the papers' defaults.

One dataclass for all algorithms; each field says which of them reads it. Budgets and noise can
also be given a tree at a time (`Search.begin`), so they are no reason for a second Search.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from numbers import Integral, Real
from typing import Literal, get_args

from playout.errors import ConfigError

Algorithm = Literal["gumbel", "puct", "uct"]
FpuMode = Literal["parent", "value"]

MAX_SIMULATIONS = 1 << 23  # counts are float32 in the tree, exact up to twice this
MAX_LEAVES = 1024
MAX_CACHE = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How to search.

    Attributes:
        algorithm: "gumbel" (Gumbel AlphaZero, Danihelka et al. 2022), "puct" (AlphaZero, Silver et
            al. 2018) or "uct" (random rollouts in C, no evaluator).
        num_simulations: Simulations a search, the evaluation of the root not counted.
        leaves_per_step: Leaves that one tree may hand out at once; those under way count as visits.
            A descent that meets one of them counts as a visit there until the step ends, so that
            the next goes elsewhere; a step ends early after as many of these.
        virtual_loss: How many lost visits a leaf under way stands for in the mean values.
        prove: Back up finished games as proofs; for one player, or two whose gains add up to
            nothing, in games without chance; else it is off.
        resample: For games with hidden information, which are refused else: `begin` replaces each
            state by one that the side to move cannot tell from it (`State.resample`); the search
            sees all of that one. An average over many (determinisation) plays soundly, but is no
            equilibrium: it takes for granted that everybody will know what nobody knows, so that
            it neither bluffs nor hides. For that there is `playout.mcts.exact.cfr`.
        reuse_subtree: `advance` keeps the subtree of the move played.
        count_reused: Visits kept by `advance` count towards the budget; else it is all new.
        cache_size: Evaluations remembered, 0 for none; also merges equal leaves of one step.
        cache_symmetric: Symmetric positions share one evaluation in the cache.
        dense_edges: Below the root, a node with more legal moves than this keeps their priors in
            half precision and statistics only for the moves that were tried, which saves memory.
        threads: Threads that descend, 0 for all cores. The trees do not depend on it.
        max_considered: Gumbel: actions sampled at the root (m).
        gumbel_scale: Gumbel: scale of the root's noise; 0 for play without noise.
        c_visit: Gumbel: offset of the visit count in sigma(q).
        c_scale: Gumbel: scale of sigma(q) = (c_visit + max visits) * c_scale * q. 0.1 goes with
            `rescale_q`; without it 1.0 is the paper's choice for board games.
        rescale_q: Gumbel: stretch the completed q-values of a node to [0, 1] before scaling.
        c_base: PUCT: exploration grows with log((1 + n + c_base) / c_base) + c_init.
        c_init: PUCT: see c_base.
        fpu_mode: PUCT: value of an unvisited edge: "parent" is the node's value less
            fpu * sqrt(prior of the visited edges), "value" is fpu itself.
        fpu: PUCT: see fpu_mode.
        dirichlet_alpha: PUCT: concentration of the root's noise.
        dirichlet_fraction: PUCT: weight of the root's noise; 0 for none.
        forced_playouts: PUCT: at a root with noise, a move that was visited once gets
            sqrt(forced_playouts * prior * all visits) visits at least, and `action_weights` leave
            out what it got only so (Wu 2019, section 3.2, with 2); 0 for none.
        uct_c: UCT: exploration constant in q + uct_c * sqrt(log(parent) / visits); with rewards
            along the way times half of the range of the results seen so far.
        num_rollouts: UCT: rollouts a leaf, their mean is its value.
    """

    algorithm: Algorithm = "gumbel"
    num_simulations: int = 32
    leaves_per_step: int = 1
    virtual_loss: float = 1.0
    prove: bool = True
    resample: bool = False
    reuse_subtree: bool = True
    count_reused: bool = True
    cache_size: int = 0
    cache_symmetric: bool = True
    dense_edges: int = 32
    threads: int = 1
    max_considered: int = 16
    gumbel_scale: float = 1.0
    c_visit: float = 50.0
    c_scale: float = 0.1
    rescale_q: bool = True
    c_base: float = 19652.0
    c_init: float = 1.25
    fpu_mode: FpuMode = "parent"
    fpu: float = 0.25
    dirichlet_alpha: float = 0.3
    dirichlet_fraction: float = 0.25
    forced_playouts: float = 0.0
    uct_c: float = 2.0
    num_rollouts: int = 1

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(Algorithm):
            raise ConfigError(
                f"algorithm must be one of {', '.join(get_args(Algorithm))}, not {self.algorithm!r}"
            )
        if self.fpu_mode not in get_args(FpuMode):
            raise ConfigError(f"fpu_mode must be parent or value, not {self.fpu_mode!r}")
        limits: dict[str, tuple[float, float]] = {
            "num_simulations": (0, MAX_SIMULATIONS),
            "leaves_per_step": (1, MAX_LEAVES),
            "virtual_loss": (0, 1000),
            "cache_size": (0, MAX_CACHE),
            "dense_edges": (0, 4096),
            "threads": (0, 1024),
            "max_considered": (1, 4096),
            "gumbel_scale": (0, 1000),
            "c_visit": (0, 1e6),
            "c_scale": (0, 1e6),
            "c_base": (1, 1e12),
            "c_init": (0, 1e6),
            "fpu": (-100, 100),
            "dirichlet_alpha": (1e-4, 1e4),
            "dirichlet_fraction": (0, 1),
            "forced_playouts": (0, 1000),
            "uct_c": (0, 1e6),
            "num_rollouts": (1, 1 << 20),
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool):
                if not isinstance(value, bool):
                    raise ConfigError(f"{field.name} must be True or False, not {value!r}")
                continue
            if field.name not in limits:
                continue
            whole = isinstance(field.default, int)
            wanted = Integral if whole else Real
            low, high = limits[field.name]
            if isinstance(value, bool) or not isinstance(value, wanted) or not isfinite(value):
                kind = "an integer" if whole else "a number"
                raise ConfigError(f"{field.name} must be {kind}, not {value!r}")
            number = int(value) if isinstance(value, Integral) else float(value)
            if not low <= number <= high:
                bounds = f"[{low}, {high}]" if whole else f"[{low:g}, {high:g}]"
                raise ConfigError(f"{field.name} must lie in {bounds}, not {value!r}")
            if not isinstance(value, int | float):  # a number of NumPy's
                object.__setattr__(self, field.name, number)

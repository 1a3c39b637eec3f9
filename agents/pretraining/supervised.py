"""Positions that the exact solver has labelled, to learn from as from games of self-play.

Positions come from random play; the policy is even over the moves that keep the outcome, the value
is the outcome. Left out: what learns from them, and where they are kept (data/solved.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay import Examples
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import ConfigError
from playout.mcts.exact.solver import Solver

LABEL_BATCH = 256  # positions labelled between looks at the clock
PLY_NODES = 20_000
"""The solver's nodes that a position of some ply may cost before its ply is drawn less often."""
PLY_SAMPLE = 16
"""Positions of a ply by which its cost is known."""
FAR = 10
"""How many times PLY_NODES a ply costs, from which on those before it are reckoned, not asked."""


def solve(
    game: NativeGame,
    *,
    count: int,
    plies: tuple[int, int],
    seconds: float | None = None,
    threads: int = 1,
    seed: int = 0,
    odds: Sequence[float] | None = None,
    tell: Callable[[int], None] | None = None,
) -> tuple[StateBatch, npt.NDArray[np.int8]]:
    """Different positions of random play, and the outcome of every move in them.

    Args:
        game: has a solver.
        count: of positions, at most.
        plies: of random play before them, from and to.
        seconds: after which it stops; None: never.
        threads: of the solver, which finds the same with any number.
        seed: of random play.
        odds: of each number of plies, as `affordable` gives them; None: any is as likely.
        tell: is told how many there are.

    Returns:
        N positions and outcomes [N, A], as `Solver.outcomes` gives them.

    Raises:
        ConfigError: random play of so many plies leads to no position that goes on.
    """
    solver = Solver(game, table_mb=128, threads=threads)
    rng = np.random.default_rng([seed, 8])
    seen: set[int] = set()
    parts: list[npt.NDArray[np.uint8]] = []
    outcomes: list[npt.NDArray[np.int8]] = []
    found, begun, fruitless = 0, time.monotonic(), 0  # batches in a row without a new position
    while found < count and fruitless < 20:
        if parts and seconds is not None and time.monotonic() - begun > seconds:
            break
        states = game.batch(LABEL_BATCH)
        if odds is None:
            lengths = rng.integers(plies[0], plies[1] + 1, LABEL_BATCH, dtype=np.int32)
        else:
            chosen = rng.choice(np.arange(plies[0], plies[1] + 1), LABEL_BATCH, p=odds)
            lengths = chosen.astype(np.int32)
        states.random_plies(lengths, int(rng.integers(2**62)))
        rows = []
        for row, number in enumerate(states.hash().tolist()):
            if number not in seen:
                seen.add(number)
                rows.append(row)
        states = states[rows]
        states = states[np.flatnonzero(~states.is_terminal())][: count - found]
        fruitless = 0 if len(states) else fruitless + 1
        if len(states):
            parts.append(states.data.copy())
            outcomes.append(solver.outcomes(states))
            found += len(states)
            if tell is not None:
                tell(found)
    if not parts:
        raise ConfigError(f"{game}: no position of {plies[0]} to {plies[1]} random plies")
    whole = StateBatch.from_data(game, np.concatenate(parts), check=False)
    return whole, np.concatenate(outcomes)


def affordable(game: NativeGame, plies: tuple[int, int]) -> list[float]:
    """Odds by which numbers of plies are drawn, so that none takes most of the solver's time.

    Those at which a position costs at most PLY_NODES nodes are as likely; others are so much less
    likely as theirs cost more. Of Connect Four one after 8 plies takes a hundred times as long as
    one after 16. Where it is far too much, a ply earlier is taken to cost twice as much.

    Args:
        game: has a solver.
        plies: from and to.
    """
    costs: list[float] = []  # the last ply first
    for ply in range(plies[1], plies[0] - 1, -1):
        if costs and costs[-1] > FAR * PLY_NODES:
            costs.append(2 * costs[-1])
            continue
        states = game.batch(PLY_SAMPLE)
        states.random_plies(np.full(PLY_SAMPLE, ply, np.int32), ply)
        states = states[np.flatnonzero(~states.is_terminal())]
        solver = Solver(game, table_mb=128)  # with one thread: nodes are the same everywhere
        if len(states):
            solver.outcomes(states)
        costs.append(solver.nodes / max(1, len(states)))
    weights = np.minimum(1.0, PLY_NODES / np.maximum(1.0, costs[::-1]))
    return [float(weight) for weight in weights / weights.sum()]


def examples_of(states: StateBatch, outcomes: npt.NDArray[np.int8]) -> Examples:
    """Solved positions as training examples.

    Args:
        states: N positions.
        outcomes: [N, A], as `Solver.outcomes` gives them.
    """
    best = outcomes.max(axis=1)
    keeps = (outcomes == best[:, None]).astype(np.float32)
    policy = keeps / keeps.sum(axis=1, keepdims=True)
    values = best.astype(np.float32)[:, None]
    return Examples.from_dense(states.data.copy(), policy, values, np.ones(len(states), np.float32))

"""Solved positions, kept in the user's cache folder where solving them took more than some seconds.

`can_solve` says of which games: those with a quick solver of their own, and small ones.

A file holds states and the outcome of every move, with their hash; its name follows from what was
asked. What cannot be read, does not fit or is damaged is solved again, and a folder that cannot be
written keeps nothing. Left out: which positions they are (supervised.py), splits (positions.py).
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import playout
from playout.agents.alphazero.replay import Examples
from playout.agents.pretraining.data.dataset import DATA_VERSION
from playout.agents.pretraining.supervised import (
    FAR,
    PLY_NODES,
    PLY_SAMPLE,
    affordable,
    examples_of,
    solve,
)
from playout.agents.runs import ranks
from playout.agents.runs.checkpoint import durable_io, tensor_file
from playout.agents.runs.checkpoint.cache import cache_folder
from playout.agents.runs.checkpoint.codec import from_numpy, to_numpy
from playout.agents.runs.console import progress
from playout.cores import usable_cores
from playout.envs.core.game import NativeGame, StateBatch
from playout.envs.core.registry import game as find_game
from playout.errors import GameError, PlayoutError
from playout.mcts.exact.prover import can_prove
from playout.mcts.exact.solver import ILLEGAL_OUTCOME, Solver

Outcomes = npt.NDArray[np.int8]

KEPT_FROM = 10.0
"""Seconds that solving has to take for its result to be kept."""

SMALL_PLIES, SMALL_NODES = 24, 100_000
"""Of a small game: the most plies, and nodes of plain alpha-beta from the first position."""


def can_solve(game: NativeGame, version: int = DATA_VERSION) -> bool:
    """Whether positions of a game are labelled by exact play, in a version of the data."""
    if can_prove(game) or version < 5:
        return can_prove(game)
    if game.calls_python or game.has_chance or game.max_plies > SMALL_PLIES:
        return False
    try:
        Solver(game, table_mb=8, max_nodes=SMALL_NODES).outcomes(game.batch(1))
    except GameError:  # it gave up
        return False
    return True


def held_out_alike(game: NativeGame | str, one: int, other: int) -> bool:
    """Whether what a version of the data holds out of a game, with any seed, so does the other."""
    game = find_game(game)
    return min(one, other) > 3 and can_solve(game, one) == can_solve(game, other)


def solved_examples(
    game: NativeGame,
    *,
    count: int,
    plies: tuple[int, int],
    seed: int,
    threads: int = 0,
    even: bool = False,
) -> Examples:
    """Solved positions after as many plies as are `affordable`, from the cache if they are there.

    Args:
        game: has a solver.
        count: of positions, at most.
        plies: of random play before them, from and to.
        seed: of random play.
        threads: of the solver; 0: every core.
        even: any number of plies is as likely, whatever solving costs.
    """
    how = [] if even else [PLY_NODES, PLY_SAMPLE, FAR]
    asked = [playout.__version__, str(game), game.state_size, count, *plies, seed, how]
    name = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    path = cache_folder() / "solved" / f"{name}.safetensors"
    found = _read(path, game)
    if found is None:
        begun = time.monotonic()
        others = not ranks.is_first()
        with progress(f"solving {game}", count, unit="positions", quiet=others) as tell:
            found = solve(
                game,
                count=count,
                plies=plies,
                threads=threads or usable_cores(),
                seed=seed,
                odds=None if even else affordable(game, plies),
                tell=tell,
            )
        if time.monotonic() - begun > KEPT_FROM and ranks.is_first():
            _keep(path, *found)
    return examples_of(*found)


def _hash(states: npt.NDArray[np.uint8], outcomes: Outcomes) -> npt.NDArray[np.uint8]:
    both = hashlib.sha256(states.tobytes() + outcomes.tobytes())
    return np.frombuffer(both.digest(), np.uint8).copy()


def _keep(path: Path, states: StateBatch, outcomes: Outcomes) -> None:
    """Writes a file, if it can be."""
    arrays = {"states": states.data, "outcomes": outcomes, "hash": _hash(states.data, outcomes)}
    tensors = {name: from_numpy(array) for name, array in arrays.items()}
    with suppress(OSError, PlayoutError):
        path.parent.mkdir(parents=True, exist_ok=True)
        durable_io.replace_file(path, *tensor_file.chunks(tensors))


def _read(path: Path, game: NativeGame) -> tuple[StateBatch, Outcomes] | None:
    """What a file holds; None if there is none that is sound."""
    try:
        found = tensor_file.parse(bytearray(path.read_bytes()), path)
        arrays = {name: to_numpy(tensor, name) for name, tensor in found.items()}
        states, outcomes, checked = (arrays[name] for name in ("states", "outcomes", "hash"))
        if not np.array_equal(_hash(states, outcomes), checked):
            return None
        batch = StateBatch.from_data(game, np.ascontiguousarray(states), check=True)
        legal = batch.legal_mask().astype(bool)
    except (OSError, PlayoutError, KeyError, ValueError, TypeError):
        return None
    fits = outcomes.dtype == np.int8 and outcomes.shape == legal.shape
    return (batch, outcomes) if fits and ((outcomes != ILLEGAL_OUTCOME) == legal).all() else None

"""Positions of any game as tasks, of two sides: to learn from and to be judged on.

Positions come from random play, or from a file. Solved ones bring the outcome of every move. On
which side a position lies, and openings of whole games, are game_sides.py's.
"""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playout.agents.rating.play import usual_plies
from playout.agents.rating.positions import load_choosing_positions, load_scored_positions
from playout.agents.runs import ranks
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.envs.core.game import NativeGame, State
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, DataError, GameError
from playout.mcts.exact.alphabeta import AlphaBeta
from playout.mcts.exact.prover import (
    GIVEN_UP,
    ILLEGAL,
    SolvingProver,
    has_proofs,
    own_prover,
    prover_for,
)
from playout.mcts.exact.solver import Solver
from playout.mcts.exact.tactics import winning_actions
from playout.rlhf.data.rows import read_rows, text_field
from playout.rlhf.environments.environment import Split
from playout.rlhf.environments.game_sides import (
    SHORT_GAME,
    is_test,
    random_positions,
    rated_classes,
    serves,
    unseen_classes,
)

__all__ = [
    "Referee",
    "SolvedPositions",
    "find_positions",
    "judging_positions",
    "learnable_positions",
    "plies_of",
    "read_positions",
    "write_positions",
]

Outcomes = NDArray[np.int8]

_FRUITLESS = 12  # rounds in a row without anything new before there is taken to be no more
# Without a prover of its own a game is not solved if its full tree, pruned as well as can be, has
# more leaves than a power of ten.
_LOG_LEAVES = 30
# Nodes a position. In Connect Four they prove all positions after 16 moves, two of three after 12
# and one of ten after 8, in a few milliseconds each; scores that count plies take more.
_MAX_NODES, _MAX_PYTHON_NODES, _SCORE_NODES = 200_000, 20_000, 2_000_000
_CHUNK = 64  # positions solved at a time
_OUTCOMES = (-2, -1, 0, 1)
_GIVEN_UP = 400  # positions that are too hard before a game counts as unsolved


@dataclass(frozen=True, slots=True)
class SolvedPositions:
    """N positions of one side; `outcomes` is None where nobody has solved them.

    Attributes:
        states: N states, none of them over, no two of one class.
        outcomes: int8 [N, A]: a move wins (1), draws (0), loses (-1) for the side to move, or
            cannot be played (-2).
    """

    states: StateBatch
    outcomes: Outcomes | None

    def __len__(self) -> int:
        return len(self.states)


class Referee:
    """Knows what moves lead to, as far as a limited effort for each position finds out."""

    def __init__(self, game: NativeGame, *, threads: int = 1) -> None:
        """Set up.

        Args:
            game: The game.
            threads: Share the positions of a call, where the game brings a prover.

        Raises:
            ConfigError: Nobody solves this game: it is no game of two players of which one wins
                what the other loses, or it is too large.
        """
        own = own_prover(game)
        leaves = game.max_plies / 2 * math.log10(max(2, game.max_legal))
        unknown = not has_proofs(game) or game.has_chance or game.hidden
        if unknown or (own is None and leaves > _LOG_LEAVES):
            raise ConfigError(f"no solver masters {game}")
        self.game = game
        self._max_nodes = _MAX_PYTHON_NODES if game.calls_python else _MAX_NODES
        self._proofs = prover_for(game, self._max_nodes, threads=threads)
        self._plain = None if self._proofs is not None else AlphaBeta(game)
        counts = isinstance(own, SolvingProver) and own.counts_plies
        self._solver = Solver(game, max_nodes=_SCORE_NODES) if counts else None

    def outcomes(self, states: StateBatch) -> tuple[Outcomes, NDArray[np.bool_]]:
        """What each move leads to, for positions that are not over.

        Returns:
            int8 [B, A]: a move wins (1), draws (0), loses (-1), or cannot be played (-2); and bool
            [B]: is it known?
        """
        if not len(states):
            return np.zeros((0, self.game.num_actions), np.int8), np.zeros(0, np.bool_)
        if self._plain is None:
            assert self._proofs is not None
            found = self._proofs.outcomes(states.data)
            known = np.asarray((found != GIVEN_UP).all(axis=1))
            return np.where(found == ILLEGAL, -2, found).astype(np.int8), known
        values = self._plain.values(states, give_up=self._max_nodes)
        nothing = np.isnan(values)
        found = np.where(nothing, -2, np.sign(np.nan_to_num(values))).astype(np.int8)
        return found, np.asarray(~nothing.all(axis=1))

    def scores(self, state: State) -> NDArray[np.int32] | None:
        """int32 [A]: as `Solver.scores`, which counts plies where it can; None where too hard."""
        if self._solver is not None:
            try:
                return self._solver.scores(state)
            except GameError:
                return None
        found, known = self.outcomes(StateBatch.from_states([state]))
        scores = np.where(found[0] == -2, ILLEGAL, found[0]).astype(np.int32)
        return scores if known[0] else None


def plies_of(game: NativeGame, *, solved: bool) -> tuple[int, int]:
    """How many random moves lead to the positions of a game: fewest and most.

    Of a game that is solved move by move, what lies before is left out where it takes too long.
    """
    if game.max_plies <= SHORT_GAME:
        return 0, max(0, game.max_plies - 2)
    usual = usual_plies(game)
    if solved:
        return min(8, game.max_plies // 5), max(1, round(0.62 * game.max_plies))
    return 1, max(1, round(0.85 * usual))


def find_positions(
    game: NativeGame,
    count: int,
    split: Split,
    *,
    plies: tuple[int, int] | None = None,
    seed: int = 0,
    referee: Referee | None = None,
    matters: bool = False,
) -> SolvedPositions:
    """Positions of one side, fewer where random play finds no more.

    Args:
        game: Any game.
        count: How many.
        split: "train" or "test".
        plies: Fewest and most random moves that lead there; as suits the game if None.
        seed: The same seed gives the same positions.
        referee: Solves them; None leaves them unsolved.
        matters: Only positions whose legal moves differ in outcome, or of which there is more than
            one where nothing is solved, and none that is won at once.

    Raises:
        ConfigError: There is none.
    """
    least, most = plies or plies_of(game, solved=referee is not None)
    states: list[StateBatch] = []
    outcomes: list[Outcomes] = []
    found = fruitless = looked = 0
    seen = set[int]()
    for batch in random_positions(game, least, most, seed):
        rows = batch[unseen_classes(batch, seen)]
        rows = rows[serves(rows, split)] if len(rows) else rows
        if matters and len(rows):
            rows = rows[rows.legal_mask().sum(axis=1) > 1]
        looked += len(rows)
        solved = np.zeros((0, game.num_actions), np.int8)
        if referee is not None:
            rows, solved = _solved(rows, referee, matters, count - found)
        rows, solved = rows[: count - found], solved[: count - found]
        fruitless = 0 if len(rows) else fruitless + 1
        if len(rows):
            states.append(rows)
            outcomes.append(solved)
            found += len(rows)
        if not found and looked > _GIVEN_UP and referee is not None:
            raise ConfigError(
                f"{game}: of {looked} positions after {least} to {most} random moves none could be "
                "solved; give later ones by plies, or take the reward search"
            )
        if found >= count or fruitless == _FRUITLESS:
            break
    if not states:
        raise ConfigError(
            f"{game}: no position after {least} to {most} random moves serves; choose other plies"
        )
    return SolvedPositions(
        StateBatch.concatenate(states), np.concatenate(outcomes) if referee is not None else None
    )


def judging_positions(
    game: NativeGame, count: int, referee: Referee | None, *, choosing: bool = False
) -> SolvedPositions:
    """Positions to be judged on: those on which other runs of the game are rated, else others.

    Args:
        game: The game.
        count: How many, at most.
        referee: Solves them; None leaves them unsolved.
        choosing: Others, by which the best of several policies is chosen, where the game has such.

    Raises:
        ConfigError: No position serves.
    """
    if referee is not None and rated_classes(game):
        found = load_choosing_positions(game) if choosing else load_scored_positions(game)
        if found is not None:
            order = np.random.default_rng(5).permutation(len(found))[:count]
            return SolvedPositions(found.states[order], found.outcomes[order])
    return find_positions(game, count, "test", referee=referee, matters=True)


def read_positions(game: NativeGame, path: str) -> SolvedPositions:
    """Positions of a file: .jsonl rows with `position`, and `outcomes` if they were solved.

    Raises:
        DataError: Names the row that is none.
    """
    states, outcomes = [], []
    for where, row in read_rows(path):
        text = text_field(row, where, "position")
        try:
            states.append(game.from_text(text))
        except GameError as error:
            raise DataError(f"{where}: {error}") from None
        if states[-1].to_play < 0:
            raise DataError(f"{where}: nobody is to move in {text!r}")
        found = row.get("outcomes")
        if found is not None:
            listed = isinstance(found, list) and len(found) == game.num_actions
            if not listed or not all(one in _OUTCOMES for one in found):
                raise DataError(
                    f"{where}: outcomes are {game.num_actions} numbers from -2 to 1, one an action"
                )
            legal = [action for action, one in enumerate(found) if one != -2]
            if legal != sorted(states[-1].legal_actions):
                raise DataError(f"{where}: outcomes of illegal moves, and of no others, are -2")
        outcomes.append(found)
    solved = all(found is not None for found in outcomes)
    return SolvedPositions(
        StateBatch.from_states(states), np.array(outcomes, np.int8) if solved else None
    )


def learnable_positions(game: NativeGame, path: str, count: int | None) -> SolvedPositions:
    """`read_positions` without images of those to be judged on; how many these are is said.

    Of what is left the first `count`, where that is a number.

    Raises:
        DataError: None is left, or a row is none.
    """
    found = read_positions(game, path)
    kept = np.flatnonzero(~is_test(found.states))
    gone = len(found) - len(kept)
    if not len(kept):
        raise DataError(f"{path}: every position is an image of one that is kept to be judged on")
    if gone and ranks.is_first():
        print(
            f"{path}: {gone} of {len(found)} positions are images of those to be judged on, and "
            "nothing is learned from them",
            file=sys.stderr,
        )
    kept = kept[:count]
    outcomes = None if found.outcomes is None else found.outcomes[kept]
    return SolvedPositions(found.states[kept], outcomes)


def write_positions(path: Path, positions: SolvedPositions) -> None:
    """Write what `read_positions` reads."""
    lines = []
    for row, state in enumerate(positions.states):
        entry: dict[str, object] = {"position": state.text}
        if positions.outcomes is not None:
            entry["outcomes"] = positions.outcomes[row].tolist()
        lines.append(json.dumps(entry))
    replace_file(path, ("\n".join(lines) + "\n").encode())


def _solved(
    states: StateBatch, referee: Referee, matters: bool, wanted: int
) -> tuple[StateBatch, Outcomes]:
    """The first positions that the referee masters, with their moves' outcomes; some more too."""
    if matters and len(states):
        states = states[np.flatnonzero(~winning_actions(states).any(axis=1))]
    kept, found = list[StateBatch](), list[Outcomes]()
    for start in range(0, len(states), _CHUNK):
        part = states[start : start + _CHUNK]
        outcomes, good = referee.outcomes(part)
        if matters:
            worst = np.where(outcomes == -2, 1, outcomes).min(axis=1)
            good = good & np.asarray(outcomes.max(axis=1) > worst)
        kept.append(part[good])
        found.append(outcomes[good])
        wanted -= int(good.sum())
        if wanted <= 0:
            break
    if not kept:
        return states[:0], np.zeros((0, states.game.num_actions), np.int8)
    return StateBatch.concatenate(kept), np.concatenate(found)

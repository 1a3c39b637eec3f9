"""How well a player keeps what a position is worth: solved positions and shares on them.

A move is value-preserving if the outcome (win, draw, loss) under best play stays what it was, and
optimal if it also wins fastest or loses slowest. Files are JSON: a head, then one position a line
with its moves and exact scores; benchmarks/tools/solved_positions.py makes them. Playing the moves
under test is the caller's part.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from playout.agents.players.analysis import move_texts
from playout.envs.catalogue import GAMES
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import built_in
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import DataError, GameError, PlayoutError
from playout.mcts.exact.positions import Positions, canonical_hashes, random_positions, unseen
from playout.mcts.exact.solver import ILLEGAL, Solver

DATA = Path(__file__).parent / "data"
RATING, CHOOSING = "eval", "choosing"
"""Endings of the names of files: positions on which runs are rated, and others by which the best
checkpoint of a run is chosen."""
# A game whose positions need more nodes each is not solved on the spot; in rules that run at
# Python's speed a node takes some hundred times as long.
_SMALL_GAME_NODES, _SMALL_PYTHON_GAME_NODES = 2_000_000, 500
# A game whose first position needs more nodes is not looked at further; nor is one without a prover
# of its own whose full tree, pruned as well as can be, has more leaves than a power of ten.
_FIRST_POSITION_NODES, _LOG_LEAVES = 300_000, 30
_SMALL_GAME_POSITIONS = 150  # tic-tac-toe has 179


def load_scored_positions(game: NativeGame | str) -> Positions:
    """Positions on which to measure a player of this game, from a file or solved on the spot.

    Raises:
        GameError: There are none for this game, and it is too large to make some now.
    """
    found, reason = _positions(find_game(game), RATING)
    if found is None:
        raise GameError(reason)
    return found


def load_choosing_positions(game: NativeGame | str) -> Positions | None:
    """Positions for choosing among checkpoints, none of which `load_scored_positions` gives.

    None where the game has no solved positions, or too few of them for both.
    """
    game = find_game(game)
    found, _ = _positions(game, CHOOSING)
    rated, _ = _positions(game, RATING)
    if found is None or rated is None:
        return None
    unseen_rows = unseen(found.states, set(canonical_hashes(rated.states).tolist()))
    if not unseen_rows:
        return None
    moves = [found.moves[row] for row in unseen_rows]
    return Positions(found.states[unseen_rows], moves, found.scores[unseen_rows])


def _positions(game: NativeGame, use: str) -> tuple[Positions | None, str]:
    """Positions, or None and why there are none."""
    return _positions_of(str(game), built_in(game), game, use)


@lru_cache(maxsize=8)
def _positions_of(
    _form: str, known: bool, game: NativeGame, use: str
) -> tuple[Positions | None, str]:
    """The same, remembered; a game of one's own has no file, whatever it is called (`known`)."""
    entry = GAMES.get(game.name) if known else None
    if entry is not None and entry.positions is not None:
        found = read_positions(DATA / f"{entry.positions}_{use}.json")
        if found.states.game == game:
            return found, ""
    if game.num_players != 2:
        return None, f"{game} has no evaluation positions: only games of two players are solved"
    leaves = game.max_plies / 2 * math.log10(max(2, game.max_legal))
    if game.prover is None and leaves > _LOG_LEAVES:
        return None, f"{game} has no evaluation positions: it is too large to be solved"
    plies = (0, max(1, game.max_plies - 2))
    nodes = _SMALL_PYTHON_GAME_NODES if game.calls_python else _SMALL_GAME_NODES
    seed = 1 if use == RATING else 2
    try:
        # Late positions of a large game are solved, too, one by one and for minutes.
        first = Solver(game, max_nodes=min(nodes, _FIRST_POSITION_NODES))
        first.outcomes(game.batch(1))
        solver = Solver(game, max_nodes=nodes)
        return random_positions(
            game, _SMALL_GAME_POSITIONS, plies=plies, seed=seed, solver=solver
        ), ""
    except PlayoutError as error:
        reason = f"{game} has no evaluation positions and none can be made quickly: {error}"
        return None, reason


def write_positions(path: Path, positions: Positions, *, note: str) -> None:
    """Writes a file of positions, one a line.

    Args:
        path: Where to.
        positions: What to write.
        note: How they were made, for people.
    """
    game = positions.states.game
    lines = []
    for moves, scores in zip(positions.moves, positions.scores.tolist(), strict=True):
        values = [None if score == ILLEGAL else score for score in scores]
        entry = {"moves": moves_text(game, moves), "scores": values}
        lines.append(json.dumps(entry, separators=(",", ":")))
    head = json.dumps({"game": str(game), "note": note})[1:-1]
    path.write_text(
        "{" + head + ', "positions": [\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8"
    )


def read_positions(path: Path) -> Positions:
    """Reads a file of positions; every move is played by the rules.

    Raises:
        DataError: Not such a file, or a position in it that cannot be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        game = find_game(str(content["game"]))
        entries = [(str(entry["moves"]), list(entry["scores"])) for entry in content["positions"]]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, PlayoutError) as error:
        raise DataError(f"{path} is not a file of positions: {error}") from error
    states, moves, scores = [], [], np.full((len(entries), game.num_actions), ILLEGAL, np.int32)
    for number, (text, values) in enumerate(entries, 1):
        try:
            actions = read_moves(game, text)
            state = game.from_moves(actions)
            if [value is not None for value in values] != state.action_mask.astype(bool).tolist():
                raise DataError("its scores do not fit its legal moves")
            scores[number - 1] = [ILLEGAL if value is None else int(value) for value in values]
        except (ValueError, TypeError, PlayoutError) as error:
            raise DataError(f"{path}: position {number}: {error}") from error
        states.append(state)
        moves.append(actions)
    if not states:
        raise DataError(f"{path} holds no positions")
    return Positions(StateBatch.from_states(states), moves, scores)


def moves_text(game: NativeGame, moves: list[int]) -> str:
    """Moves in the game's notation: "4455", with blanks where a move has several letters."""
    parts = move_texts(game.initial_state(), moves)
    return ("" if all(len(part) == 1 for part in parts) else " ").join(parts)


def read_moves(game: NativeGame, text: str) -> list[int]:
    """The actions of a text of moves; IllegalActionError names the ply that cannot be played."""
    game.from_moves(text)
    state, actions = game.initial_state(), []
    for move in game.split_moves(text):
        actions.append(state.read_action(move) if isinstance(move, str) else move)
        state = state.apply(actions[-1])
    return actions


def preserved(actions: npt.ArrayLike, outcomes: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Bool [N]: does the action keep what the position is worth?

    Args:
        actions: Integers [N].
        outcomes: int8 [N, A], `outcomes` of `load_scored_positions`, or its `scores` to ask for
            optimal moves.
    """
    chosen = np.asarray(actions)
    if chosen.shape != (len(outcomes),) or chosen.dtype.kind not in "iu":
        raise ValueError(f"expected {len(outcomes)} actions, got {chosen.dtype} {chosen.shape}")
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < outcomes.shape[1]:
        raise ValueError(f"actions must be 0 to {outcomes.shape[1] - 1}")
    kept: npt.NDArray[np.bool_] = outcomes[np.arange(len(chosen)), chosen] == outcomes.max(axis=1)
    return kept

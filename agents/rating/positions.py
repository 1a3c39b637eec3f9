"""How well a player keeps what a position is worth: solved positions and shares on them.

A move is value-preserving if the outcome (win, draw, loss) under best play stays what it was, and
optimal if it also wins fastest or loses slowest. Files are JSON: a head, then one position a line
with its moves and exact scores; benchmarks/tools/solved_positions.py makes them. Playing the moves
under test is the caller's part.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from playout.agents.players.analysis import move_texts
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import DataError, GameError, PlayoutError
from playout.mcts.exact.positions import Positions, random_positions
from playout.mcts.exact.solver import ILLEGAL, Solver

DATA = Path(__file__).parent / "data"
_SMALL_GAME_NODES = 2_000_000  # a game whose positions need more is not solved on the spot
_SMALL_GAME_POSITIONS = 150  # tic-tac-toe has 179


def load_eval_positions(game: NativeGame | str) -> tuple[StateBatch, npt.NDArray[np.int8]]:
    """Positions on which to measure a player of this game.

    Returns:
        N states, and int8 [N, A]: the outcome of every action for the side to move, -2 where it
        cannot be played.

    Raises:
        GameError: There are none for this game, and it is too large to make some now.
    """
    found = load_scored_positions(game)
    return found.states, found.outcomes


def load_scored_positions(game: NativeGame | str) -> Positions:
    """The same positions with moves and exact scores, from a file or solved on the spot."""
    return _positions_of(str(find_game(game)), find_game(game))


@lru_cache(maxsize=4)
def _positions_of(_form: str, game: NativeGame) -> Positions:
    path = DATA / f"{game.name}_eval.json"
    if path.is_file():
        found = read_positions(path)
        if found.states.game == game:
            return found
    if game.num_players != 2:
        raise GameError(f"{game} has no evaluation positions: only games of two players are solved")
    plies = (0, max(1, game.max_plies - 2))
    try:
        solver = Solver(game, max_nodes=_SMALL_GAME_NODES)
        return random_positions(game, _SMALL_GAME_POSITIONS, plies=plies, seed=1, solver=solver)
    except PlayoutError as error:
        raise GameError(
            f"{game} has no evaluation positions and none can be made quickly: {error}"
        ) from error


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
        outcomes: int8 [N, A] of `load_eval_positions`, or scores of `load_scored_positions` to ask
            for optimal moves.
    """
    chosen = np.asarray(actions)
    if chosen.shape != (len(outcomes),) or chosen.dtype.kind not in "iu":
        raise ValueError(f"expected {len(outcomes)} actions, got {chosen.dtype} {chosen.shape}")
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < outcomes.shape[1]:
        raise ValueError(f"actions must be 0 to {outcomes.shape[1] - 1}")
    kept: npt.NDArray[np.bool_] = outcomes[np.arange(len(chosen)), chosen] == outcomes.max(axis=1)
    return kept


def value_preserving_share(actions: npt.ArrayLike, outcomes: npt.NDArray[np.int8]) -> float:
    """The share of actions that keep the outcome, 0 to 1."""
    return float(preserved(actions, outcomes).mean())

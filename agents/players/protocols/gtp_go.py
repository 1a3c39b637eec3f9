"""What GTP knows of Go beyond moves: handicap stones, scores, the status of stones, files.

Handicap stones are Black's moves while White passes, so that any game with a pass can have them.
Scores are those of the game's rules: by area all stones on the board are alive, and dead ones must
be captured before both pass.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from playout.agents.players.player import GivenUp
from playout.agents.players.protocols.gtp_forecast import Outlook
from playout.agents.players.protocols.gtp_thought import thought_of
from playout.agents.players.protocols.moves import pass_action, read_move
from playout.envs.core.game import NativeGame, State
from playout.envs.core.registry import built_in
from playout.envs.core.registry import game as find_game
from playout.errors import GameError, IllegalActionError, PlayoutError

if TYPE_CHECKING:
    from playout.agents.players.protocols.gtp import GtpEngine

Point = tuple[int, int]
"""Row and column, from 0."""

_DEAD = 0.5  # of a group's points, from -1 to 1, owned by the other side: a cleanup takes it
_MAX_FILE = 1 << 20  # bytes of a file that is loaded
_OWNERS = {"black_territory": 1, "dame": 0, "white_territory": -1}
_STATUSES = ("alive", "dead", "seki", *_OWNERS)


def final_score(state: State) -> str:
    """The result as GTP writes it; in a game with a pass also before the end, if both passed now.

    Raises:
        GameError: The game goes on, and nobody can pass.
    """
    state = _if_both_passed(state)
    score = state.score
    first = float(state.returns[0] if score is None else score[0])
    return "0" if first == 0 else f"{'B' if first > 0 else 'W'}+{abs(first):g}"


def _if_both_passed(state: State) -> State:
    """The end of the game, if both pass where it is not over; GameError where that ends nothing."""
    for _ in range(2):
        if not state.is_terminal:
            action = pass_action(state)
            if action is None:
                raise GameError("cannot score: the game is not over")
            state = state.apply(action)
    if not state.is_terminal:
        raise GameError("cannot score: the game is not over")
    return state


def resumed(engine: GtpEngine) -> tuple[list[State], list[list[int]]]:
    """Positions and steps of a game that two passes have ended as if these had been no moves.

    Players go on like that who do not agree on what is dead. Each pass stays a step to be undone.

    Raises:
        GameError: The game is over for another reason.
    """
    passing = pass_action(engine.states[0])
    if passing is None or engine.moves[-2:] != [passing, passing]:
        raise GameError("the game is over")
    steps, left = [list(actions) for actions in engine.steps], 2
    for actions in reversed(steps):
        while left and actions:
            actions.pop()
            left -= 1
    states = engine.states[:1]
    for actions in steps:
        state = states[-1]
        for action in actions:
            state = state.apply(action)
        states.append(state)
    return states, steps


def final_status_list(state: State, words: list[str]) -> str:
    """Stones of a status, one group a line: all are alive, as the rules count.

    Of territory and neutral points, which the same rules tell, all in one line.
    """
    if len(words) != 1 or words[0].lower() not in _STATUSES:
        raise GameError(f"syntax error: one of {', '.join(_STATUSES)} expected")
    status = words[0].lower()
    stones = groups(state)
    if status == "alive":
        return "\n".join(" ".join(group) for group in stones)
    if status not in _OWNERS:
        return ""
    planes = _if_both_passed(state).targets(0)
    assert planes is not None
    taken, empty = {one for group in stones for one in group}, state.game.initial_state()
    owned = np.flatnonzero(planes[0] == _OWNERS[status]).tolist()
    points = [empty.action_text(point) for point in owned]
    return " ".join(one for one in points if one not in taken)


def is_go(game: NativeGame) -> bool:
    """Whether it is playout's Go, and not a game that is called like it."""
    return game.name == "go" and built_in(game)


def groups(state: State) -> list[list[str]]:
    """The vertices of each group of connected stones."""
    empty, width = state.game.initial_state(), state.game.obs_shape[2]
    return [
        [empty.action_text(row * width + column) for row, column in sorted(group)]
        for _, group in _chains(state)
    ]


def _chains(state: State) -> list[tuple[int, list[Point]]]:
    """The colour and the points of each group of connected stones, by the first planes of Go."""
    game = state.game
    if not is_go(game):
        raise GameError(f"{game.name} knows no groups of stones")
    _, height, width = game.obs_shape
    planes = state.observe(0)
    left = {
        (row, column): side
        for side in (0, 1)
        for row in range(height)
        for column in range(width)
        if planes[side, row, column] > 0
    }
    found = []
    while left:
        start = min(left)
        side, group, edge = left.pop(start), [start], [start]
        while edge:
            for near in _beside(edge.pop()):
                if left.get(near) == side:
                    del left[near]
                    group.append(near)
                    edge.append(near)
        found.append((side, group))
    return found


def _beside(point: Point) -> list[Point]:
    """The four points around one, on the board or not."""
    row, column = point
    return [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]


def genmove_cleanup(engine: GtpEngine, words: list[str]) -> str:
    """KGS's genmove after the players did not agree on what is dead: takes it, and then passes.

    While the player expects to own points on which the other side has a group, it plays at that
    group's liberties. Who cannot say so (`ForecastPlayer`) moves as ever: by area, as everything is
    counted here, a stone that matters is worth taking at any time.
    """
    state, passed = engine.passed_to(engine.colour(words, 1))
    try:
        only = _taking(engine, state)
        action = thought_of(engine, state, passed, plays=True, only=only).action
    except GivenUp:
        return "resign"
    engine.step([*passed, action])
    return state.action_text(action)


def _taking(engine: GtpEngine, state: State) -> list[int]:
    """The legal moves beside groups of the other side that are expected to be taken."""
    ownership = Outlook(engine.player, state).ownership
    if ownership is None:
        return []
    _, height, width = state.game.obs_shape
    legal, found = set(state.legal_actions), dict[int, None]()
    for side, group in _chains(state):
        owned = sum(ownership[row * width + column] for row, column in group) / len(group)
        if side == state.to_play or owned <= _DEAD:
            continue
        for row, column in (near for point in group for near in _beside(point)):
            if 0 <= row < height and 0 <= column < width and row * width + column in legal:
                found[row * width + column] = None
    return list(found)


def fixed_handicap(engine: GtpEngine, words: list[str]) -> str:
    """Puts the usual stones of a handicap and tells where."""
    count = _count(engine, words)
    points = fixed_points(engine.game.obs_shape[2], count)
    if not points:
        raise GameError("invalid number of stones")
    width = engine.game.obs_shape[2]
    texts = [engine.state.action_text(row * width + column) for row, column in points]
    _put(engine, texts)
    return " ".join(texts)


def place_free_handicap(engine: GtpEngine, words: list[str]) -> str:
    """Puts a handicap where it is usual, fewer stones where the board has no more usual points."""
    count = _count(engine, words)
    size = engine.game.obs_shape[2]
    while count > 1 and not fixed_points(size, count):
        count -= 1
    if count < 2:
        raise GameError("invalid number of stones")
    return fixed_handicap(engine, [str(count)])


def set_free_handicap(engine: GtpEngine, words: list[str]) -> str:
    """Puts a handicap where the peer says."""
    _must_be_go(engine)
    if not 2 <= len(words) < engine.game.num_actions - 1:
        raise GameError("bad vertex list")
    if len({word.lower() for word in words}) < len(words) or "pass" in map(str.lower, words):
        raise GameError("bad vertex list")
    _put(engine, words)
    return ""


def fixed_points(size: int, count: int) -> list[tuple[int, int]]:
    """(row, column) of the handicap stones that GTP fixes; none where there is no such handicap."""
    most = 0 if size < 7 else 4 if size % 2 == 0 or size == 7 else 9
    if not 2 <= count <= most:
        return []
    low = 2 if size < 12 else 3
    high, middle = size - 1 - low, size // 2
    corners = [(high, low), (low, high), (low, low), (high, high)]
    sides = [(middle, low), (middle, high), (low, middle), (high, middle)]
    points = corners[: min(count, 4)]
    if count >= 6:
        points += sides[:2]
    if count >= 8:
        points += sides[2:]
    return points + ([(middle, middle)] if count in (5, 7, 9) else [])


def load_sgf(engine: GtpEngine, words: list[str]) -> str:
    """Goes to the end of a file's first game, or to the position before a move number.

    Only files right in the folder that the person has named are read: the peer's word is no path.
    """
    if engine.files is None:
        raise GameError("cannot load file: start the engine with --files FOLDER to allow that")
    if len(words) not in (1, 2) or (
        len(words) == 2 and not re.fullmatch(r"[1-9]\d{0,4}", words[1])
    ):
        raise GameError("syntax error: the name of a file expected, and a move number")
    from playout.envs.records.sgf import from_sgf
    from playout.envs.records.sgf_tree import decoded, trees

    try:
        text = decoded(_allowed_file(engine.files, words[0]).read_bytes())
    except OSError as error:
        raise GameError(f"cannot load file: {error.strerror or error}") from None
    try:
        record = next(iter(from_sgf(text)), None)
    except PlayoutError as error:
        raise GameError(f"cannot load file: {error}") from None
    if record is None:
        raise GameError("cannot load file: it holds no game")
    known, game = engine.game, find_game(record.game, **record.params)
    if game.name != known.name:
        raise GameError(f"cannot load file: it holds a game of {game.name}")
    # Rules of repetition and suicide stay as they are: files seldom say which. So does a komi of
    # which the file says nothing.
    told = ("size", "komi") if next(trees(text))[0].first("KM") is not None else ("size",)
    shape: dict[str, Any] = {name: game.params[name] for name in told if name in game.params}
    params: dict[str, Any] = {**known.params, **shape}
    game = find_game(known.name, **params)
    state = game.from_text(record.start) if record.start else game.initial_state()
    last = len(record.moves) if len(words) == 1 else int(words[1]) - 1
    actions = list[int]()
    try:
        for move in record.moves[:last]:
            actions.append(read_move(state, move))
            state = state.apply(actions[-1])
    except (PlayoutError, ValueError) as error:
        raise GameError(f"cannot load file: move {len(actions) + 1}: {error}") from None
    engine.begin_at(game, record.start, actions)
    return "" if state.is_terminal else "black" if state.to_play == 0 else "white"


def _allowed_file(folder: Path, name: str) -> Path:
    """A plain file right in the folder; GameError for anything else that a peer may name."""
    path = folder / name
    plain = Path(name).name == name and not name.startswith(".") and not path.is_symlink()
    if not plain or not path.is_file():
        raise GameError("cannot load file: there is no such file in the folder of --files")
    if path.stat().st_size > _MAX_FILE:
        raise GameError(f"cannot load file: it has more than {_MAX_FILE} bytes")
    return path


def _must_be_go(engine: GtpEngine) -> None:
    if not is_go(engine.game):
        raise GameError(f"{engine.game.name} has no handicap stones")
    if len(engine.states) > 1 or groups(engine.state):
        raise GameError("board not empty")


def _count(engine: GtpEngine, words: list[str]) -> int:
    _must_be_go(engine)
    if len(words) != 1 or not re.fullmatch(r"\d{1,3}", words[0]):
        raise GameError("syntax error: a number of stones expected")
    return int(words[0])


def _put(engine: GtpEngine, texts: list[str]) -> None:
    """Black's stones, White passing between them; nothing changes if one cannot be put."""
    state, steps = engine.state, list[list[int]]()
    for text in texts:
        passed = list[int]()
        if state.to_play == 1:
            action = pass_action(state)
            assert action is not None
            passed, state = [action], state.apply(action)
        try:
            stone = read_move(state, text)
        except IllegalActionError:
            raise GameError("bad vertex list") from None
        steps.append([*passed, stone])
        state = state.apply(stone)
    for actions in steps:
        engine.step(actions)

"""Moves as protocols write them: the game's own notation, whatever the case, and passing.

Beside it, how to find the same game in another size or with another komi, and what the variants of
chess programs are called. Leaves out the protocols.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from playout.envs.core.game import NativeGame, State
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError, IllegalActionError

PASSES = ("pass", "pss", "--", "@@@@", "0000")


VARIANTS = {("breakthrough", 8, 8): "breakthrough"}
"""(name of a game, its rows and columns) -> what programs such as fairy-stockfish call it."""


def variant_of(game: NativeGame) -> str:
    """The value of UCI's option UCI_Variant for a game; its own name where nobody has another."""
    return VARIANTS.get((game.name, *game.obs_shape[1:]), game.name)


def in_uci(state: State) -> State:
    """The state in its game's twin whose moves are written as UCI has them; mostly itself."""
    if state.game.params.get("notation", "uci") == "uci":
        return state
    twin = find_game(state.game.name, **{**state.game.params, "notation": "uci"})
    return twin.from_bytes(state.to_bytes(), check=False)


def played_on(state: State) -> State:
    """The position to go on from where nobody has claimed the draw that our rules see in it.

    In chess a third repetition and fifty quiet moves end a game only if somebody says so, and many
    programs play on. Positions before are then forgotten; any other end stays one.
    """
    if not state.is_terminal or state.game.name != "chess":
        return state
    after = read_position(state.game, state.text)
    return state if after.is_terminal else after


def read_position(game: NativeGame, text: str) -> State:
    """A position by its text; one of chess goes on where fifty quiet moves are over (`played_on`).

    Raises:
        GameError: It is no position.
    """
    words = text.split()
    if game.name == "chess" and len(words) > 4 and re.fullmatch(r"1[0-9][0-9]", words[4]):
        words[4] = "99"
    return game.from_text(" ".join(words))


def pass_action(state: State) -> int | None:
    """The legal action that is a pass, or None."""
    try:
        action = state.read_action("pass")
    except IllegalActionError:
        return None
    return action if action in state.legal_actions else None


def read_move(state: State, text: str) -> int:
    """The legal action that a peer's text names.

    Args:
        state: Somebody is to move.
        text: The game's notation in any case of letters; a pass in any usual form.

    Raises:
        IllegalActionError: It names none, or one that may not be played.
    """
    if text.lower() in PASSES:
        action = pass_action(state)
        if action is None:
            raise IllegalActionError("there is no passing now")
        return action
    legal = state.legal_actions
    for action in _readings(state, text):
        if action in legal:
            return action
    raise IllegalActionError("illegal move")


def named_action(state: State, text: str) -> int:
    """The action that a peer's text names, whether it may be played now or not.

    Raises:
        IllegalActionError: It names none.
    """
    for action in _readings(state, "pass" if text.lower() in PASSES else text):
        return action
    raise IllegalActionError(f"{text[:20]!r} is no move")


def _readings(state: State, text: str) -> Iterator[int]:
    """The actions that a text names in one case of letters or another."""
    for form in dict.fromkeys((text, text.lower(), text.upper())):
        with contextlib.suppress(IllegalActionError):
            yield state.read_action(form)


def resized(game: NativeGame, width: int, height: int) -> NativeGame:
    """The same game on a board of another size.

    Raises:
        ConfigError: It cannot be played in that size.
    """
    if game.obs_shape[1:] == (height, width):
        return game
    for names in (("size", "size"), ("width", "height"), ("m", "n")):
        if set(names) <= set(game.params) and (width == height or names[0] != names[1]):
            return remade(game, **dict(zip(names, (width, height), strict=True)))
    raise ConfigError(f"{game} has one size")


def remade(game: NativeGame, **params: float) -> NativeGame:
    """The same game with other parameters; ConfigError where they cannot be played."""
    return find_game(game.name, **{**game.params, **params})

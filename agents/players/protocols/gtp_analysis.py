"""The thoughts of a search in the words of GTP clients: `lz-analyze`, `kata-analyze` and the rest.

Commands begin with "lz-" (Leela Zero's form: win rates in hundredths of a percent), "kata-"
(KataGo's: numbers from 0 to 1), or nothing (as KataGo's). Moves to avoid, or the only ones allowed,
are heeded where the side to move chooses, and not deeper. What only those programs know, such as
territory, is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from playout.agents.players.analysis import move_texts
from playout.agents.players.protocols.thinking import Candidate, Thought
from playout.envs.core.game import State

_FORMS = ("", "lz-", "kata-")
ANALYSES = (
    *(f"{form}{kind}" for form in _FORMS for kind in ("analyze", "genmove_analyze")),
    "kata-search_analyze",
    "kata-search_analyze_cancellable",
)
INTERVAL = 1.0  # seconds between two reports where the client names none
LONGEST = 15  # moves of a line that is shown
_COLOURS = ("b", "w", "black", "white")
_NUMBERS = ("minmoves", "maxmoves")
_LOGICAL = ("ownership", "ownershipstdev", "movesownership", "pvvisits", "rootinfo", "pvedgevisits")


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """What a client has asked for.

    Attributes:
        colour: Whose moves, as the client wrote it; None: those of the side to move.
        interval: Seconds between two reports.
        most: Moves of a report.
        leela: Leela Zero's form, else KataGo's.
        root: Also report on the position as a whole.
        avoid: Moves that are left out, as (colour, vertex in capitals) ...
        allow: ... and the only ones of a colour, where it has any.
    """

    colour: str | None
    interval: float
    most: int
    leela: bool
    root: bool
    avoid: frozenset[tuple[str, str]] = frozenset()
    allow: frozenset[tuple[str, str]] = frozenset()


def may_be(state: State, action: int, request: AnalysisRequest) -> bool:
    """Whether the side to move may be told to play an action."""
    colour = "bw"[state.to_play]
    move = colour, state.action_text(action).upper()
    limited = any(one == colour for one, _ in request.allow)
    return move not in request.avoid and (not limited or move in request.allow)


def read_request(command: str, words: Sequence[str]) -> AnalysisRequest | str:
    """What comes after the command's name, or what is wrong with it."""
    left = list(words)
    colour = left.pop(0) if left and left[0].lower() in _COLOURS else None
    interval, most, root = INTERVAL, 1000, False
    lists: dict[str, set[tuple[str, str]]] = {"avoid": set(), "allow": set()}
    if left and re.fullmatch(r"\d{1,6}", left[0]):
        interval = int(left.pop(0)) / 100
    while left:
        key = left.pop(0).lower()
        value = left.pop(0) if left else ""
        if key in lists:
            vertices, depth = (left.pop(0) if left else "" for _ in range(2))
            if value.lower() not in _COLOURS or not re.fullmatch(r"\d{1,6}", depth):
                return f"syntax error: {key} needs a colour, vertices and a depth"
            lists[key] |= {(value[0].lower(), one) for one in vertices.upper().split(",")}
        elif key in ("interval", *_NUMBERS):
            if not re.fullmatch(r"\d{1,6}", value):
                return f"syntax error: {key} needs a whole number"
            if key == "interval":
                interval = int(value) / 100
            elif key == "maxmoves":
                most = max(1, int(value))
        elif key in _LOGICAL:
            if value.lower() not in ("true", "false"):
                return f"syntax error: {key} needs true or false"
            root = root or (key == "rootinfo" and value.lower() == "true")
        else:
            return f"syntax error: {key[:30]} is not understood"
    leela = command.startswith("lz-")
    avoid, allow = (frozenset(lists[key]) for key in ("avoid", "allow"))
    return AnalysisRequest(colour, interval, most, leela, root, avoid, allow)


def report(state: State, thought: Thought, request: AnalysisRequest) -> str:
    """One line about the moves of a position, best first."""
    found = [one for one in thought.candidates if may_be(state, one.action, request)]
    parts = [
        _move(state, one, order, request.leela) for order, one in enumerate(found[: request.most])
    ]
    if request.root:
        share = _share(thought.value)
        parts.append(
            f"rootInfo visits {thought.simulations} winrate {share:.6f} "
            f"utility {thought.value:.6f} currentPlayer {'BW'[state.to_play]}"
        )
    return " ".join(parts)


def _share(value: float) -> float:
    return min(max((1 + value) / 2, 0.0), 1.0)


def _move(state: State, one: Candidate, order: int, leela: bool) -> str:
    share = _share(one.value)
    visits = max(one.visits, 1)
    # The lower end of a 95 % interval, were every simulation a game of its own.
    lower = max(0.0, share - 1.96 * math.sqrt(share * (1 - share) / visits))
    texts = move_texts(state, one.pv[:LONGEST])
    if leela:
        numbers = (
            f"winrate {round(10_000 * share)} prior {round(10_000 * one.prior)} "
            f"lcb {round(10_000 * lower)}"
        )
    else:
        numbers = (
            f"utility {one.value:.6f} winrate {share:.6f} prior {one.prior:.6f} lcb {lower:.6f}"
        )
    return f"info move {texts[0]} visits {one.visits} {numbers} order {order} pv {' '.join(texts)}"

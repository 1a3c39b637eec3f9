"""The thoughts of a search in the words of GTP clients: `lz-analyze`, `kata-analyze` and the rest.

Commands begin with "lz-" (Leela Zero's form: win rates in hundredths of a percent), "kata-"
(KataGo's: numbers from 0 to 1), or nothing (as KataGo's). Moves to avoid, or the only ones allowed,
restrict the search where the side to move chooses, and not deeper. Who owns what, and by how many
points, is told where the network has learned it (gtp_forecast.py); what else only those programs
know is left out.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from playout.agents.players.analysis import move_texts
from playout.agents.players.player import GivenUp
from playout.agents.players.protocols.gtp_forecast import Outlook
from playout.agents.players.protocols.gtp_thought import thought_of, untimed
from playout.agents.players.protocols.moves import named_action
from playout.agents.players.protocols.thinking import Candidate, Limits, Thought
from playout.envs.core.game import State
from playout.errors import GameError

if TYPE_CHECKING:
    from playout.agents.players.protocols.gtp import GtpEngine

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
        root: Also report on the position as a whole ...
        ownership: ... and on who is expected to own each cell.
        avoid: Moves that are left out, as (colour, vertex) ...
        allow: ... and the only ones of a colour, where it has any.
    """

    colour: str | None
    interval: float
    most: int
    leela: bool
    root: bool
    ownership: bool = False
    avoid: frozenset[tuple[str, str]] = frozenset()
    allow: frozenset[tuple[str, str]] = frozenset()


def commands(engine: GtpEngine) -> dict[str, Callable[[list[str]], str]]:
    """The analyses that an engine answers, by name."""
    return {name: partial(_analyse, engine, name) for name in ANALYSES}


def _analyse(engine: GtpEngine, name: str, words: list[str]) -> str:
    """Shows what the engine thinks while it does, and of commands for one move which it is."""
    plays = name.endswith("genmove_analyze")
    for_move = plays or name.startswith("kata-search")  # and not about the position
    request = read_request(name, words)
    colour = None if request.colour is None else engine.colour([request.colour], 1)
    state, passed = engine.passed_to(colour)
    only = moves_left(state, request)
    outlook = None if request.leela else Outlook(engine.player, state)
    due, shown, stopped = time.monotonic() + request.interval, False, False

    def tell(thought: Thought) -> None:
        nonlocal shown, due
        shown, due = True, time.monotonic() + request.interval
        engine.show(report(state, thought, request, outlook))

    def watch(now: Callable[[], Thought]) -> bool:
        nonlocal stopped
        if time.monotonic() >= due:
            tell(now())
        stops = not for_move or name.endswith("cancellable")
        stopped = stops and engine.interrupted()
        return stopped

    if for_move:
        try:
            thought = thought_of(engine, state, passed, plays=plays, only=only, watch=watch)
        except GivenUp:
            return "play resign"
        tell(thought)
        if stopped:
            return "play cancelled"
        if plays and engine.gives_up(state.to_play, thought.value):
            return "play resign"
        if plays:
            engine.step([*passed, thought.action])
        return f"play {state.action_text(thought.action)}"
    thought = untimed(engine, state, passed, Limits(endless=True), only=only, watch=watch)
    if not shown:
        tell(thought)
    while not engine.interrupted():  # the tree is full, or the player does not search
        time.sleep(0.01)
    return ""


def moves_left(state: State, request: AnalysisRequest) -> list[int]:
    """The legal moves that a request leaves to the side to move; none where it leaves all.

    Raises:
        GameError: It leaves no move. IllegalActionError: It names what is none in this game.
    """
    avoid, allow = (
        {named_action(state, text) for colour, text in moves if colour == "bw"[state.to_play]}
        for moves in (request.avoid, request.allow)
    )
    legal = state.legal_actions
    left = [one for one in legal if one not in avoid and (not allow or one in allow)]
    if not left:
        raise GameError("avoid and allow leave no legal move")
    return left if len(left) < len(legal) else []


def read_request(command: str, words: Sequence[str]) -> AnalysisRequest:
    """What comes after the command's name; GameError where it cannot be read."""
    left = list(words)
    colour = left.pop(0) if left and left[0].lower() in _COLOURS else None
    interval, most, wanted = INTERVAL, 1000, set[str]()
    lists: dict[str, set[tuple[str, str]]] = {"avoid": set(), "allow": set()}
    if left and re.fullmatch(r"\d{1,6}", left[0]):
        interval = int(left.pop(0)) / 100
    while left:
        key = left.pop(0).lower()
        value = left.pop(0) if left else ""
        if key in lists:
            vertices, depth = (left.pop(0) if left else "" for _ in range(2))
            if value.lower() not in _COLOURS or not re.fullmatch(r"\d{1,6}", depth):
                raise GameError(f"syntax error: {key} needs a colour, vertices and a depth")
            lists[key] |= {(value[0].lower(), one) for one in vertices.split(",")}
        elif key in ("interval", *_NUMBERS):
            if not re.fullmatch(r"\d{1,6}", value):
                raise GameError(f"syntax error: {key} needs a whole number")
            if key == "interval":
                interval = int(value) / 100
            elif key == "maxmoves":
                most = max(1, int(value))
        elif key in _LOGICAL:
            if value.lower() not in ("true", "false"):
                raise GameError(f"syntax error: {key} needs true or false")
            if value.lower() == "true":
                wanted.add(key)
        else:
            raise GameError(f"syntax error: {key[:30]} is not understood")
    leela = command.startswith("lz-")
    avoid, allow = (frozenset(lists[key]) for key in ("avoid", "allow"))
    root, ownership = "rootinfo" in wanted, "ownership" in wanted
    return AnalysisRequest(colour, interval, most, leela, root, ownership, avoid, allow)


def report(
    state: State, thought: Thought, request: AnalysisRequest, outlook: Outlook | None
) -> str:
    """One line about the moves of a position, best first."""
    shown = thought.candidates[: request.most]
    leads = {} if outlook is None else outlook.leads([one.action for one in shown])
    parts = [
        _move(state, one, order, request.leela, leads.get(one.action))
        for order, one in enumerate(shown)
    ]
    if request.root:
        share = _share(thought.value)
        lead = None if outlook is None else outlook.lead
        parts.append(
            f"rootInfo visits {thought.simulations} winrate {share:.6f}{_lead(lead)} "
            f"utility {thought.value:.6f} currentPlayer {'BW'[state.to_play]}"
        )
    if request.ownership and outlook is not None and outlook.ownership is not None:
        parts.append(f"ownership {' '.join(f'{one:.4f}' for one in outlook.ownership)}")
    return " ".join(parts)


def _lead(lead: float | None) -> str:
    """Points ahead, by KataGo's name and by the one that older clients read."""
    return "" if lead is None else f" scoreMean {lead:.4f} scoreLead {lead:.4f}"


def _share(value: float) -> float:
    return min(max((1 + value) / 2, 0.0), 1.0)


def _move(state: State, one: Candidate, order: int, leela: bool, lead: float | None) -> str:
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
            f"utility {one.value:.6f} winrate {share:.6f}{_lead(lead)} prior {one.prior:.6f} "
            f"lcb {lower:.6f}"
        )
    return f"info move {texts[0]} visits {one.visits} {numbers} order {order} pv {' '.join(texts)}"

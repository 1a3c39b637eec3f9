"""What GUIs ask of KataGo beyond GTP: rules, kinds of clocks, parameters, the bare network.

Sabaki, Lizzie and servers' bridges (KGS) know these commands by KataGo's and kgsGtp's pages. Only
what works is offered: rules of repetition and suicide that the game has, area scoring, no tax, no
button and no bonus for handicap stones. Analyses stand in gtp_analysis.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from playout.agents.players.player import RunPlayer
from playout.agents.players.protocols import gtp_time
from playout.agents.players.protocols.gtp_forecast import Outlook
from playout.agents.players.protocols.gtp_go import genmove_cleanup, is_go
from playout.agents.players.protocols.moves import read_move
from playout.envs.core.game import State, StateBatch
from playout.envs.records.json_lines import GameRecord
from playout.errors import ConfigError, GameError

if TYPE_CHECKING:
    from playout.agents.players.protocols.gtp import GtpEngine

_FIXED: dict[str, Any] = {
    "friendlyPassOk": False,
    "hasButton": False,
    "scoring": "AREA",
    "tax": "NONE",
    "whiteHandicapBonus": "0",
}
"""Rules that are as they are, by KataGo's names."""

_AREA: dict[str, tuple[str, bool]] = {
    "tromp-taylor": ("positional", True),
    "chinese": ("simple", False),
    "chinese-ogs": ("positional", False),
    "chinese-kgs": ("positional", False),
    "aga": ("situational", False),
    "bga": ("situational", False),
    "new-zealand": ("situational", True),
}
"""Rule sets that count area: how positions may repeat, and whether stones may take their own."""

_OTHERS = ("japanese", "korean", "stone-scoring", "aga-button")
_MAX_VISITS = "maxVisits"


def commands(engine: GtpEngine) -> dict[str, Callable[[list[str]], str]]:
    """The commands that an engine answers, by name."""
    found: dict[str, Callable[[list[str]], str]] = {
        "clear_cache": lambda words: _clear_cache(engine),
        "gomill-cpu_time": lambda words: engine.answer_of("cputime", []),
        "kata-get-param": lambda words: _get_param(engine, words),
        "kata-get-params": lambda words: json.dumps({_MAX_VISITS: _visits(engine)}),
        "kata-list-params": lambda words: _MAX_VISITS,
        "kata-list_time_settings": lambda words: " ".join(gtp_time.KINDS),
        "kata-set-param": lambda words: _set_param(engine, words),
        "kata-time_settings": lambda words: gtp_time.by_kind(engine, words),
        "kgs-time_settings": lambda words: gtp_time.by_kind(engine, words),
        "printsgf": lambda words: _print_sgf(engine, words),
    }
    if is_go(engine.game):
        found |= {
            "kata-get-rules": lambda words: json.dumps(rules_of(engine), separators=(",", ":")),
            "kata-raw-nn": lambda words: _raw_network(engine, words),
            "kata-set-rule": lambda words: _set_rule(engine, words),
            "kata-set-rules": lambda words: _set_rules(engine, words),
            "kgs-genmove_cleanup": lambda words: genmove_cleanup(engine, words),
            "kgs-rules": lambda words: _kgs_rules(engine, words),
            "rectangular_boardsize": lambda words: engine.answer_of("boardsize", words),
            "set_position": lambda words: _set_position(engine, words),
        }
    return found


def rules_of(engine: GtpEngine) -> dict[str, Any]:
    """The rules that hold, as KataGo names them."""
    params = engine.game.params
    own = {"ko": str(params["ko"]).upper(), "suicide": bool(params["suicide"])}
    return dict(sorted((_FIXED | own).items()))


def _take(engine: GtpEngine, rules: dict[str, Any]) -> str:
    """Lets rules hold, given by KataGo's names; the position stays."""
    params: dict[str, Any] = {}
    for name, value in rules.items():
        if name == "komi":
            params["komi"] = value
        elif name == "ko" and str(value).lower() in ("simple", "positional", "situational"):
            params["ko"] = str(value).lower()
        elif name == "suicide" and isinstance(value, bool):
            params["suicide"] = int(value)
        elif name not in _FIXED:
            raise GameError(f"there is no rule {name[:30]!r} with the value {str(value)[:30]}")
        elif value != _FIXED[name]:
            raise GameError(f"{name} can only be {json.dumps(_FIXED[name])}")
    engine.change(**params)
    return ""


def _set_rules(engine: GtpEngine, words: list[str]) -> str:
    text = " ".join(words)
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise GameError("syntax error: that is no JSON") from None
        return _take(engine, found)
    name = text.lower().replace("_", "-").replace(" ", "-")
    if name in _OTHERS:
        raise GameError(f"{name} rules are not known here: this is area scoring without a tax")
    if name not in _AREA:
        raise GameError(f"syntax error: JSON or one of {', '.join(_AREA)} expected")
    ko, suicide = _AREA[name]
    return _take(engine, {"ko": ko, "suicide": suicide})


def _set_rule(engine: GtpEngine, words: list[str]) -> str:
    if len(words) != 2:
        raise GameError("syntax error: a rule and its value expected")
    name, text = words
    if name == "komi":
        return _take(engine, {name: gtp_time.number_of(words, 1, 2)})
    logical = {"true": True, "false": False}
    return _take(engine, {name: logical.get(text.lower(), text)})


def _kgs_rules(engine: GtpEngine, words: list[str]) -> str:
    """The rules of the server KGS, whose Chinese ones know superko."""
    known = {"chinese": "chinese-kgs", "aga": "aga", "new_zealand": "new-zealand"}
    name = words[0].lower() if len(words) == 1 else ""
    if name not in (*known, "japanese"):
        raise GameError(f"syntax error: one of {', '.join(known)}, japanese expected")
    return _set_rules(engine, [known.get(name, name)])


def _clear_cache(engine: GtpEngine) -> str:
    engine.thinker.new_game()
    return ""


def _visits(engine: GtpEngine) -> int:
    """Simulations of a move without a clock."""
    return engine.thinker.usual_simulations


def _get_param(engine: GtpEngine, words: list[str]) -> str:
    if words != [_MAX_VISITS]:
        raise GameError(f"there is no such parameter; there is {_MAX_VISITS}")
    return str(_visits(engine))


def _set_param(engine: GtpEngine, words: list[str]) -> str:
    if len(words) != 2 or words[0] != _MAX_VISITS:
        raise GameError(f"there is no such parameter; there is {_MAX_VISITS}")
    if not engine.thinker.searches:
        raise GameError(f"{engine.player.name} does not search, so {_MAX_VISITS} cannot be set")
    most = engine.thinker.most_simulations
    if not re.fullmatch(r"[0-9]{1,9}", words[1]) or not 1 <= int(words[1]) <= most:
        raise GameError(f"{_MAX_VISITS} must be from 1 to {most}")
    engine.thinker.simulations = int(words[1])
    return ""


def _print_sgf(engine: GtpEngine, words: list[str]) -> str:
    """The game so far as SGF; no file is written on a peer's word."""
    from playout.envs.records.sgf import to_sgf

    if words:
        raise GameError("files are not written: leave out the name to see the game")
    names = (engine.player.name, engine.player.name)
    record = GameRecord.from_actions(
        engine.game, engine.moves, players=names, start=engine.states[0]
    )
    return "\n".join(line for line in to_sgf(record).splitlines() if line)


def _set_position(engine: GtpEngine, words: list[str]) -> str:
    """Stones on an empty board, colours and vertices by turns; Black is to move."""
    if len(words) % 2:
        raise GameError("syntax error: colours and vertices expected")
    _, height, width = engine.game.obs_shape
    empty = engine.game.initial_state()
    rows = [["."] * width for _ in range(height)]
    for colour, vertex in zip(words[::2], words[1::2], strict=True):
        if colour.lower() not in ("b", "w", "black", "white"):
            raise GameError("syntax error: b or w expected")
        row, column = divmod(read_move(empty, vertex), width)
        if row >= height or rows[row][column] != ".":
            raise GameError(f"there can be no stone at {vertex[:10]}")
        rows[row][column] = "X" if colour[0].lower() == "b" else "O"
    engine.begin_at(engine.game, f"{'/'.join(map(''.join, rows))} b", [])
    return ""


def _raw_network(engine: GtpEngine, words: list[str]) -> str:
    """What the network alone thinks of the position, in KataGo's words.

    Chances are the mean over the symmetries of the board; scores and owners, which only some
    networks have learned, are those of the position as it is.
    """
    if words not in (["0"], ["all"]):
        raise GameError("symmetry 0 expected: positions are looked at as they are")
    player = engine.player
    judge = player.judges().get("policy") if isinstance(player, RunPlayer) else None
    if judge is None:
        raise ConfigError(f"{player.name} has no network")
    state: State = engine.state
    if state.is_terminal:
        raise GameError("the game is over")
    found, outlook = judge(StateBatch.from_states([state])), Outlook(player, state)
    sign = 1 if state.to_play == 1 else -1
    value = sign * float(found.value[0])
    legal = set(state.legal_actions)
    _, height, width = engine.game.obs_shape
    texts = [
        f"{chance:.6f}" if action in legal else "NAN"
        for action, chance in enumerate(np.asarray(found.policy[0], np.float64))
    ]
    lines = [
        "symmetry 0",
        f"whiteWin {(1 + value) / 2:.6f}",
        f"whiteLoss {(1 - value) / 2:.6f}",
        "noResult 0.000000",
    ]
    if outlook.lead is not None:
        lines.append(f"whiteLead {sign * outlook.lead:.6f}")
    lines += ["policy", *_rows(texts[: height * width], width)]
    lines.append(f"policyPass {texts[height * width]}")
    if outlook.ownership is not None:
        owned = [f"{sign * one:.6f}" for one in outlook.ownership]
        lines += ["whiteOwnership", *_rows(owned, width)]
    return "\n".join(lines)


def _rows(texts: list[str], width: int) -> list[str]:
    """One line for each row of the board."""
    return [" ".join(texts[at : at + width]) for at in range(0, len(texts), width)]

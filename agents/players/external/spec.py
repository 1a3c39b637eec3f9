"""Engines from text: "gtp:COMMAND" and "uci:COMMAND?NAME=VALUE&NAME=VALUE".

What stands behind the last question mark are settings: a few of playout's own, in small letters,
and for UCI any option that the engine offers. A value may hold "%26" for an ampersand. The command
is read as a shell would read it, but no shell runs it. Leaves out starting it (process.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import unquote

from playout.errors import ConfigError

FORMS = {"gtp": "gtp:COMMAND", "uci": "uci:COMMAND"}
OnFailure = Literal["lose", "stop"]
_SETTINGS = re.compile(r"[A-Za-z][^=&?]*=[^&?]*(&[A-Za-z][^=&?]*=[^&?]*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How engines are treated.

    Attributes:
        move_seconds: That an engine is told it has for a move; None: UCI engines without a limit of
            their own get 0.1 s, GTP engines are told nothing.
        timeout: Seconds after which an engine that has not answered has lost its game.
        on_failure: "lose": the engine loses the game in which it broke down, and is started again;
            "stop": so does the whole match.
        processes: Copies of an engine at most; None: as many as there are cores.
    """

    move_seconds: float | None = None
    timeout: float = 60.0
    on_failure: OnFailure = "lose"
    processes: int | None = None

    def __post_init__(self) -> None:
        if self.move_seconds is not None and not 0 < self.move_seconds <= 86_400:
            raise ConfigError(f"seconds a move must be from 0 to 86400, not {self.move_seconds}")
        if not 0 < self.timeout <= 86_400:
            raise ConfigError(f"an engine's timeout must be from 0 to 86400 s, not {self.timeout}")
        if self.on_failure not in ("lose", "stop"):
            raise ConfigError(f"on_failure must be lose or stop, not {self.on_failure!r}")
        if self.processes is not None and not 1 <= self.processes <= 1024:
            raise ConfigError(f"processes must be from 1 to 1024, not {self.processes}")


DEFAULT_ENGINES = EngineOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """One engine.

    Attributes:
        text: As it was written.
        protocol: "gtp" or "uci".
        command: The program and its arguments, as one text.
        settings: Options of the engine itself, by name.
        limits: Words and numbers of UCI's "go" that a move is limited by, such as {"nodes": 1000}.
        options: How it is treated.
    """

    text: str
    protocol: str
    command: str
    settings: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    options: EngineOptions = DEFAULT_ENGINES


def read_spec(text: str, options: EngineOptions = DEFAULT_ENGINES) -> EngineSpec:
    """Reads "gtp:COMMAND" or "uci:COMMAND", with settings or without.

    Raises:
        ConfigError: It is neither, or a setting cannot be used, or the engine is told that it has
            longer than it is waited for.
    """
    protocol, _, rest = text.partition(":")
    if protocol not in FORMS or not rest.strip():
        raise ConfigError(f"player {text!r}: write it as {' or '.join(FORMS.values())}")
    command, mark, query = rest.rpartition("?")
    if not mark or not _SETTINGS.fullmatch(query):
        command, query = rest, ""
    settings, limits, changes = dict[str, str](), dict[str, int](), dict[str, object]()
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        name, value = unquote(name).strip(), unquote(value).strip()
        if name in ("nodes", "depth", "movetime"):
            limits[name] = _whole(text, name, value)
        elif name == "processes":
            changes[name] = _whole(text, name, value)
        elif name == "timeout":
            changes[name] = _seconds(text, name, value)
        elif name == "seconds":
            changes["move_seconds"] = _seconds(text, name, value)
        elif name == "on_failure":
            changes[name] = value
        else:
            settings[name] = value
    if protocol == "gtp" and (settings or limits):
        name = next(iter({**settings, **limits}))
        raise ConfigError(f"player {text!r}: GTP has no setting {name!r}; put it into the command")
    options = replace(options, **changes)  # type: ignore[arg-type]
    if limits and "move_seconds" in changes and options.move_seconds is not None:
        limits.setdefault("movetime", max(1, round(1000 * options.move_seconds)))
    told = limits.get("movetime", 0) / 1000 if limits else options.move_seconds or 0.0
    if told >= options.timeout:
        raise ConfigError(
            f"player {text!r}: an engine that is told it has {told:g} s a move is not to be given "
            f"up after {options.timeout:g} s: allow more by --engine-timeout or ?timeout=S"
        )
    return EngineSpec(
        text=text,
        protocol=protocol,
        command=command,
        settings=settings,
        limits=limits,
        options=options,
    )


def _whole(text: str, name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 12 and int(value)):
        raise ConfigError(f"player {text!r}: {name} needs a whole number from 1 up, not {value!r}")
    return int(value)


def _seconds(text: str, name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"player {text!r}: {name} needs seconds, not {value!r}") from None

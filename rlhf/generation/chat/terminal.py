"""A conversation with a policy in the terminal, word by word.

A chat model answers in turns, any other goes on from what is written. Lines that begin with a slash
are commands. Only reading and writing lines is here; what was said is session.py's.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.errors import PlayoutError, likely_names
from playout.rlhf.generation.chat.session import Session
from playout.rlhf.generation.player import LanguagePlayer
from playout.rlhf.generation.sampling import SamplingConfig

__all__ = ["chat"]

FIRST = {
    True: "Write a message; the policy answers. /help lists commands, /quit leaves.",
    False: "Write the beginning of a text; the policy goes on. /help lists commands, /quit leaves.",
}
HELP = """\
/again          answer the last line once more
/undo           forget the last line and its answer
/clear          forget the conversation
/whole          keep earlier lines as context, or take each line by itself
/system TEXT    what a chat model is told first; without TEXT nothing; the conversation begins anew
/temperature X  how varied answers are; 0 takes the likeliest token
/top-p X, /top-k N, /min-p X  leave unlikely tokens out
/repetition-penalty X  above 1: what was said becomes less likely
/tokens N       how long answers may be
/stop TEXT      end answers at TEXT (\\n is a line break); without TEXT at none
/seed N         of the next answer
/speed          tokens a second of the last answer
/save FILE      write the conversation as a line of JSON, to read with --data or --prompts
/quit           leave
A line that ends in \\ goes on in the next one. Ctrl-C ends an answer."""
NAMES = re.findall(r"(?:^|, )/([a-z-]+)", HELP, re.MULTILINE)


def _write(piece: str) -> None:
    print(piece, end="", flush=True)


def chat(
    player: LanguagePlayer,
    *,
    whole: bool | None = None,
    system: str = "",
    ask: Callable[[str], str] = input,
    show: Callable[[str], None] = print,
    write: Callable[[str], None] = _write,
) -> int:
    """Answer lines until /quit or the end of input; returns how many were answered.

    Args:
        player: The policy; its settings are changed by commands.
        whole: Whether earlier lines and answers are part of the prompt; by default with a chat
            model.
        system: What a chat model is told first.
        ask: Reads a line.
        show: Writes a line.
        write: Writes a piece of an answer.
    """
    turns = player.talk.speaks_in_turns
    session = Session(player, system=system, whole=turns if whole is None else whole)
    show(FIRST[turns])
    count = 0
    while True:
        try:
            line = _line(ask)
        except EOFError:
            return count
        except KeyboardInterrupt:
            show("")
            return count
        if line in ("/quit", "/q", "/exit"):
            return count
        if line.startswith("/") and line != "/again":
            show(_command(session, line))
        elif line:
            count += _answer(session, line, show, write)


def _line(ask: Callable[[str], str]) -> str:
    parts = [ask("> ")]
    while parts[-1].endswith("\\"):
        parts[-1] = parts[-1][:-1]
        parts.append(ask("  "))
    return "\n".join(parts).strip()


def _answer(
    session: Session, line: str, show: Callable[[str], None], write: Callable[[str], None]
) -> bool:
    """Answer a line and write the answer piece by piece; whether there was something to answer."""
    begun = False

    def hear(piece: str) -> None:
        nonlocal begun
        piece = piece if begun else piece.lstrip("\n")
        if piece:
            begun = True
            write(piece)

    session.player.reset(session.player.seed + 1)
    try:
        answer = session.again(hear) if line == "/again" else session.ask(line, hear)
    except PlayoutError as error:
        show(f"({error})")
        return False
    if answer is None:
        show("(nothing was said yet)")
        return False
    write("\n")
    if session.left_out:
        show("(the earliest turns no longer fit and were left out)")
    if session.cut:
        show(f"(the line does not fit: {session.cut} tokens were left out)")
    return True


def _command(session: Session, line: str) -> str:
    """Obey a command; what to say about it."""
    name, _, value = line[1:].partition(" ")
    value = value.strip()
    try:
        return _set(session, name, value) or _do(session, name, value) or _help(name)
    except PlayoutError as error:
        return f"({error})"
    except ValueError:  # no number where one should be
        return _help(name)


def _help(name: str) -> str:
    """What there is to say of a command that was not obeyed: all, how it goes, or what is near."""
    if name == "help":
        return HELP
    if name in NAMES:
        return next(line for line in HELP.splitlines() if f"/{name} " in line)
    near = "".join(f"did you mean /{one}? " for one in likely_names(name, NAMES))
    return f"unknown command {'/' + name!r}; {near}/help lists all"


def _do(session: Session, name: str, value: str) -> str:
    if name == "undo":
        return "forgotten" if session.undo() else "nothing was said yet"
    if name in ("clear", "reset"):
        session.clear()
        return "forgotten"
    if name == "whole":
        session.whole = not session.whole
        session.clear()
        return "earlier lines are " + ("kept" if session.whole else "forgotten")
    if name == "system":
        if value and not session.player.talk.speaks_in_turns:
            return "(the model has no chat template, so there is no system message)"
        session.system = value
        session.clear()
        return f"system: {value}" if value else "no system message"
    if name == "speed":
        if not session.turns:
            return "nothing was said yet"
        turn = session.turns[-1]
        count = len(turn.answer.tokens)
        return f"{count} tokens, {count / max(turn.seconds, 1e-9):.1f} a second"
    if name == "save" and value:
        row = json.dumps({"messages": session.messages()}, ensure_ascii=False)
        replace_file(Path(value), f"{row}\n".encode())
        return f"wrote {value}"
    return ""


def _set(session: Session, name: str, value: str) -> str:
    player = session.player
    if name == "tokens" and int(value) >= 1:
        player.max_new_tokens = int(value)
        return f"at most {player.max_new_tokens} tokens"
    if name == "seed":
        player.reset(int(value) - 1)
        return f"seed {int(value)}"
    if name == "stop":
        end = value.replace("\\n", "\n")
        player.stop = (end,) if end else ()
        return f"answers end at {end!r}" if end else "no stop string"
    if name == "temperature":
        SamplingConfig(temperature=float(value))
        player.temperature = float(value)
        return f"temperature {player.temperature:g}"
    if name == "top-k":
        SamplingConfig(top_k=int(value))
        player.top_k = int(value)
        return f"top-k {player.top_k}"
    if name == "top-p":
        SamplingConfig(top_p=float(value))
        player.top_p = float(value)
        return f"top-p {player.top_p:g}"
    if name == "min-p":
        SamplingConfig(min_p=float(value))
        player.min_p = float(value)
        return f"min-p {player.min_p:g}"
    if name == "repetition-penalty":
        SamplingConfig(repetition_penalty=float(value))
        player.repetition_penalty = float(value)
        return f"repetition penalty {player.repetition_penalty:g}"
    return ""

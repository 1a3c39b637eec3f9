"""A conversation with a policy in the terminal: it goes on from what you write.

Lines that begin with a slash are commands. Only reading and writing lines is here; sampling is
generate.py's.
"""

from collections.abc import Callable

from playout.errors import ConfigError
from playout.rlhf.generation.player import LanguagePlayer

__all__ = ["chat"]

HELP = """\
Write the beginning of a text; the policy goes on.
/again answers once more, /temperature X sets how varied it is (0: the likeliest), /tokens N how
long answers may be, /whole keeps the conversation as context (or forgets it), /quit leaves."""


def chat(
    player: LanguagePlayer,
    *,
    whole: bool = False,
    ask: Callable[[str], str] = input,
    show: Callable[[str], None] = print,
) -> int:
    """Answer lines until /quit or the end of input; returns how many were answered.

    Args:
        player: The policy; its settings are changed by commands.
        whole: Whether earlier lines and answers are part of the prompt.
        ask: Reads a line.
        show: Writes a line.
    """
    show(HELP)
    history, last, count = "", "", 0
    while True:
        try:
            line = ask("> ").strip()
        except EOFError:
            return count
        if line in ("/quit", "/q", "/exit"):
            return count
        if line == "/whole":
            whole, history = not whole, ""
            show("earlier lines are " + ("kept" if whole else "forgotten"))
            continue
        if line.startswith("/") and line != "/again":
            show(_set(player, line))
            continue
        prompt = last if line == "/again" else line
        if not prompt:
            continue
        last = prompt
        player.reset(player.seed + 1)
        try:
            answer = player.act([history + prompt])[0]
        except ConfigError as error:
            # Most often a text longer than the context.
            show(f"({error})")
            history = ""
            continue
        show(answer.strip("\n"))
        count += 1
        history = f"{history}{prompt}{answer}\n" if whole else ""


def _set(player: LanguagePlayer, line: str) -> str:
    name, _, value = line[1:].partition(" ")
    try:
        if name == "temperature" and float(value) >= 0:
            player.temperature = float(value)
            return f"temperature {player.temperature:g}"
        if name == "tokens" and int(value) >= 1:
            player.max_new_tokens = int(value)
            return f"at most {player.max_new_tokens} tokens"
    except ValueError:
        pass
    return HELP

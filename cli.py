"""The command line: a table of commands, each a module with a dataclass `Command` and a `main`.

Only the module of the chosen command is imported. Deliberate errors become one line, `error: ...`,
and exit code 2; anything else is a bug and shows its traceback. Leaves out what the commands do.
"""

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from playout import __version__
from playout.errors import PlayoutError

# group -> {command: (module, one line)}
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Learn": {
        "alphazero": ("playout.agents.commands.alphazero", "learn a board game by self-play"),
        "ppo": ("playout.agents.commands.ppo", "learn an environment by PPO"),
        "rlhf": ("", "learn language: pretrain, sft, reward, rlhf, dpo, chat ..."),
    },
    "Use what was learned": {
        "play": ("playout.agents.commands.play", "play against a run, or watch it"),
        "eval": ("playout.agents.commands.eval", "measure how good a run is"),
        "analyse": ("playout.agents.commands.analyse", "judge positions of a game"),
        "match": ("playout.agents.commands.match", "let players meet, with ratings and intervals"),
        "engine": ("playout.agents.commands.engine", "speak GTP or UCI to other programs"),
        "export": ("playout.agents.commands.export", "write a run's network for other programs"),
    },
    "Look": {
        "inspect": ("playout.agents.commands.inspect", "show what is in a run and check its files"),
        "list": ("playout.agents.commands.list", "games, environments, presets, runs, commands"),
        "bench": ("playout.agents.commands.bench", "measure speed and learning against peers"),
    },
}
_EXAMPLES = """\
Start here:
  playout ppo CartPole-v1                 a few seconds
  playout alphazero connect_four          Ctrl-C saves, --resume RUN continues
  playout play RUN                        play against it
"""


def commands() -> dict[str, tuple[str, str]]:
    """Every command that is there, with its module and its line of help."""
    return {
        name: entry
        for group in GROUPS.values()
        for name, entry in group.items()
        if not entry[0] or find_spec(entry[0])
    }


def stages() -> dict[str, str]:
    """The stages of `playout rlhf`, found by their files, with the module of each."""
    found = {}
    for room in ("learn", "use"):
        spec = find_spec(f"playout.rlhf.commands.{room}")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(folder).glob("[a-z]*.py")):
                name = path.stem.replace("_", "-")
                found[name] = f"playout.rlhf.commands.{room}.{path.stem}"
    return found


def _first_line(module: str) -> str:
    """The first sentence of a module's docstring, read without importing it."""
    import ast

    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.split("\n", 1)[0].rstrip(".")


def usage() -> str:
    """What `playout --help` prints."""
    lines = [
        f"playout {__version__}: reinforcement learning from games to language.",
        "",
        _EXAMPLES,
    ]
    there = commands()
    for title, group in GROUPS.items():
        lines.append(f"{title}:")
        lines += [f"  {name:<12}{there[name][1]}" for name in group if name in there]
        lines.append("")
    lines.append("`playout COMMAND --help` explains a command's options.")
    return "\n".join(lines)


def _stage_usage() -> str:
    lines = ["playout rlhf STAGE: a language policy, stage by stage.", ""]
    lines += [f"  {name:<14}{_first_line(module)}" for name, module in stages().items()]
    return "\n".join([*lines, "", "`playout rlhf STAGE --help` explains a stage's options."])


def _unknown(what: str, name: str, names: Sequence[str]) -> PlayoutError:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    return PlayoutError(f"unknown {what} {name!r}; {hint}")


def _resume_path(arguments: Sequence[str]) -> str | None:
    for index, argument in enumerate(arguments):
        if argument == "--resume" and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith("--resume="):
            return argument.removeprefix("--resume=")
    return None


def parse(command_class: type, arguments: Sequence[str], prog: str) -> Any:
    """Turn arguments into a command's dataclass.

    With `--resume RUN` the run's own settings are the defaults.
    """
    import tyro

    default: Any = None
    fields = getattr(command_class, "__dataclass_fields__", {})
    path = _resume_path(arguments) if "resume" in fields else None
    if path is not None and not {"-h", "--help"}.intersection(arguments):
        from playout.agents.runs.options import resumed

        default = resumed(command_class, path)
    elif hasattr(command_class, "defaults"):  # such as a preset that fits the arguments
        default = command_class.defaults(list(arguments))
    extra = {} if default is None else {"default": default}
    return tyro.cli(command_class, args=list(arguments), prog=prog, **extra)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in ("--version", "-V", "version"):
        print(f"playout {__version__}")
        return 0
    table = commands()
    if name not in table:
        raise _unknown("command", name, list(table))
    module, prog = table[name][0], f"playout {name}"
    if name == "rlhf":
        found = stages()
        if not rest or rest[0] in ("-h", "--help"):
            print(_stage_usage())
            return 0
        if rest[0] not in found:
            raise _unknown("stage", rest[0], list(found))
        module, prog, rest = found[rest[0]], f"playout rlhf {rest[0]}", rest[1:]
    chosen = import_module(module)
    return int(chosen.main(parse(chosen.Command, rest, prog)) or 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        code = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone: not an error. Nothing more may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (PlayoutError, ValueError, OSError) as error:
        if os.environ.get("PLAYOUT_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

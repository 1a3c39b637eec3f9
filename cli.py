"""The command line: a table of commands, each a module with a dataclass `Command` and a `main`.

Only the module of the chosen command is imported. Deliberate errors, bad values and errors of the
operating system become one line, `error: ...`, and exit code 2; anything else is a bug and shows
its traceback. Of the ranks of a job (torchrun) one speaks. Leaves out what the commands do.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from types import UnionType
from typing import Any, Union, get_args

from playout import __version__
from playout.agents.runs import ranks
from playout.errors import ConfigError, PlayoutError, likely_names

_AGENTS, _LEARN, _USE = (
    f"playout.{room}" for room in ("agents.commands", "rlhf.commands.learn", "rlhf.commands.use")
)
# group -> {command: (module, one line)}
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Learn": {
        "alphazero": (f"{_AGENTS}.alphazero", "learn a board game by self-play"),
        "selfplay": (f"{_AGENTS}.selfplay", "play for a run that learns elsewhere"),
        "ppo": (f"{_AGENTS}.ppo", "learn an environment by PPO"),
        "pretrain-trunk": (f"{_AGENTS}.pretrain_trunk", "a network from labels, or from none"),
        "rlhf": ("", "learn language: `playout rlhf --help` lists the stages"),
    },
    "Use what was learned": {
        "play": (f"{_AGENTS}.play", "play against a run, or watch it"),
        "eval": (f"{_AGENTS}.eval", "measure how good a run is"),
        "analyse": (f"{_AGENTS}.analyse", "judge positions of a game"),
        "match": (f"{_AGENTS}.match", "let players meet, with ratings and intervals"),
        "engine": (f"{_AGENTS}.engine", "speak GTP or UCI to other programs"),
        "export": (f"{_AGENTS}.export", "write a run's network for other programs"),
    },
    "Look": {
        "inspect": (f"{_AGENTS}.inspect", "show what is in a run and check its files"),
        "list": (f"{_AGENTS}.list", "games, environments, presets, runs, commands"),
        "bench": (f"{_AGENTS}.bench", "measure speed and learning against peers"),
    },
}
STAGES: dict[str, dict[str, tuple[str, str]]] = {
    "Learn, each from the one before": {
        "all": (f"{_LEARN}.all", "every stage in order, and a report"),
        "pretrain": (f"{_LEARN}.pretrain", "a Transformer from raw text"),
        "sft": (f"{_LEARN}.sft", "fine-tune it on demonstrations"),
        "reward": (f"{_LEARN}.reward", "fit a reward model to preferences or ratings"),
        "rlhf": (f"{_LEARN}.rlhf", "improve it by PPO against the reward"),
        "grpo": (f"{_LEARN}.grpo", "or by comparing answers to the same prompt (GRPO)"),
        "dpo": (f"{_LEARN}.dpo", "or from pairs of answers, without a reward model (DPO)"),
        "games": (f"{_LEARN}.games", "a language policy learns a board game, and a report"),
        "quantise": (f"{_LEARN}.quantise", "hold a model's weights in 8 or 4 bits"),
        "classify": (f"{_LEARN}.classify", "tell texts apart, with and without pretraining"),
    },
    "Use what was learned": {
        "chat": (f"{_USE}.chat", "talk with a policy in the terminal"),
        "generate": (f"{_USE}.generate", "answer the prompts of a file"),
        "score": (f"{_USE}.score", "score texts by a reward model"),
        "perplexity": (f"{_USE}.perplexity", "how likely given texts are: loss, bits a byte"),
        "judge": (f"{_USE}.judge", "compare two policies"),
        "best-of-n": (f"{_USE}.best_of_n", "sample n answers and keep the best by the reward"),
        "report": (f"{_USE}.report", "write the report page of `rlhf all` again"),
        "import-model": (f"{_USE}.import_model", "start from a published model (GGUF)"),
    },
}
_HELP = f"""\
playout {__version__}: reinforcement learning from games to language.

Start here:
  playout ppo CartPole-v1                 a few seconds
  playout alphazero connect_four --demo   six minutes; Ctrl-C saves, --resume RUN continues
  playout play RUN                        play against it, or watch it
"""
_STAGE_HELP = """\
playout rlhf STAGE: a language model, from raw text to answers that people prefer.

Start here:
  playout rlhf all --data synthetic --size tiny --run runs/words    every stage, some minutes
  playout rlhf chat runs/words                                      talk with the result
"""


def commands() -> dict[str, tuple[str, str]]:
    """Every command, with its module and its line of help."""
    return {name: entry for group in GROUPS.values() for name, entry in group.items()}


def stages() -> dict[str, str]:
    """The stages of `playout rlhf`, with the module of each."""
    return {name: module for group in STAGES.values() for name, (module, _) in group.items()}


def _usage(head: str, groups: dict[str, dict[str, tuple[str, str]]], last: str) -> str:
    lines, width = [head], max(len(name) for group in groups.values() for name in group) + 2
    for title, group in groups.items():
        named = [f"  {name:<{width}}{text}" for name, (_, text) in group.items()]
        lines += [f"{title}:", *named, ""]
    return "\n".join([*lines, last])


def _unknown(what: str, name: str, names: Sequence[str]) -> PlayoutError:
    close = likely_names(name, names, least=0.4)
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
    from playout.agents.runs.options import TrainingOptions, resumed

    default: Any = None
    if issubclass(command_class, TrainingOptions):
        path = _resume_path(arguments)
        if path is None or {"-h", "--help"}.intersection(arguments):
            default = command_class.defaults(list(arguments))
        else:
            default = resumed(command_class, path, by=prog)
    extra = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _choices_as_written():
            return tyro.cli(command_class, args=list(arguments), prog=prog, **extra)
    except SystemExit as leaving:
        # What a command, or a group of its settings, refuses is one line, as everywhere, and not
        # tyro's box of five.
        refused = leaving.__context__
        while refused is not None and not isinstance(refused, PlayoutError):
            refused = refused.__context__
        if refused is not None:
            raise refused from None
        if ranks.may_speak():
            sys.stderr.write(said.getvalue())
        raise


def _choices_as_written() -> contextlib.AbstractContextManager[None]:
    """Lets tyro show the choices of an option that may be left out as they stand in its type.

    By itself it offers the word None among them, in any order.
    """
    from tyro.constructors import (
        ConstructorRegistry,
        PrimitiveConstructorSpec,
        PrimitiveTypeInfo,
    )

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def optional_choice(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        kinds = set(get_args(info.type)) if info.type_origin in (Union, UnionType) else set()
        if len(kinds) != 2 or type(None) not in kinds:
            return None
        (kind,) = kinds - {type(None)}
        spec = registry.get_primitive_spec(PrimitiveTypeInfo.make(kind, info.markers))
        if not isinstance(spec, PrimitiveConstructorSpec) or spec.choices is None:
            return None
        return replace(
            spec,
            is_instance=lambda value: value is None or spec.is_instance(value),
            str_from_instance=lambda value: (
                ["None"] if value is None else spec.str_from_instance(value)
            ),
        )

    return registry


def _dispatch(arguments: list[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(_usage(_HELP, GROUPS, "`playout COMMAND --help` explains a command's options."))
        return 0
    if name in ("--version", "-V", "version"):
        print(f"playout {__version__}")
        return 0
    table = commands()
    if name not in table:
        raise _unknown("command", name, list(table))
    module, prog = table[name][0], f"playout {name}"
    if name == "rlhf":
        if not rest or rest[0] in ("-h", "--help"):
            last = "`playout rlhf STAGE --help` explains a stage's options."
            print(_usage(_STAGE_HELP, STAGES, last))
            return 0
        stage, rest = rest[0], rest[1:]
        if stage not in stages():
            raise _unknown("stage", stage, list(stages()))
        module, prog = stages()[stage], f"{prog} {stage}"
    if ranks.world() > 1:
        rest = _as_rank(name, rest, prog)
    chosen = import_module(module)
    command = parse(chosen.Command, rest, prog)
    from playout.agents.runs.options import TrainingOptions, agree_on
    from playout.agents.runs.reporting import only_json
    from playout.own_code import trust_modules

    trust_modules(*getattr(command, "trust", ()))
    if isinstance(command, TrainingOptions):
        agree_on(command)

    with only_json(getattr(command, "json", None)), _ending_soon(name), _one_speaks():
        return int(chosen.main(command) or 0)


def _as_rank(name: str, arguments: list[str], prog: str) -> list[str]:
    """The arguments of a command that several processes run together, once they have met.

    Where a job begins again, `--run DIR` of its run becomes `--resume DIR`.

    Raises:
        ConfigError: the command is one for a single process.
    """
    ranks.start()
    single = [use for use in STAGES["Use what was learned"] if prog == f"playout rlhf {use}"]
    if name not in GROUPS["Learn"] or single:
        raise ConfigError(f"{prog} is work for one process: leave out torchrun")
    from playout.agents.runs.options import going_on

    words = [part for word in arguments for part in _option_and_value(word)]
    given = {words[i][2:]: words[i + 1] for i in range(len(words) - 1) if words[i] in _PLACES}
    if "resume" not in (resumed := going_on(given)):
        return arguments
    kept = [
        word
        for i, word in enumerate(words)
        if word not in _PLACES and (i == 0 or words[i - 1] not in _PLACES)
    ]
    return [*kept, "--resume", resumed["resume"]]


_PLACES = ("--run", "--resume", "--from-step")


def _option_and_value(word: str) -> list[str]:
    """An option of a place with its value as two words, whichever way it was typed."""
    option, equals, value = word.partition("=")
    option = option.replace("_", "-")
    return [option, value] if equals and option in _PLACES else [word]


@contextlib.contextmanager
def _one_speaks() -> Iterator[None]:
    """Lets rank 0 alone print while a job works; what others have to say is an error at its end."""
    if ranks.is_first():
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _ending_soon(name: str) -> contextlib.AbstractContextManager[None]:
    """Lets a signal end a command that uses a run; training saves first, in its own loop."""
    if name not in GROUPS["Use what was learned"]:
        return contextlib.nullcontext()
    from playout.agents.runs.signals import stop_at_once

    return stop_at_once("what was written until now is whole")


def _explain(error: Exception) -> str:
    """An error in one line; where it may be a bug of ours, the line says how to see more."""
    text = " ".join(str(error).split())
    if isinstance(error, PlayoutError):
        return text
    if isinstance(error, OSError) and error.filename is not None:
        from playout.agents.runs.checkpoint.durable_io import describe

        return f"{os.fsdecode(error.filename)}: {describe(error)}"
    return f"{text} (PLAYOUT_TRACEBACK=1 shows where this comes from)"


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
        if ranks.may_speak():
            print(f"error: {_explain(error)}", file=sys.stderr, flush=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())

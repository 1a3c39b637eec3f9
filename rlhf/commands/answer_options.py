"""How answers are written: flags of the commands that let a policy write, and what they make.

The flags cost no torch. Prompts of files are read here too, so that every command takes the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from playout.errors import DataError
from playout.rlhf.commands.options import ModelOptions
from tyro.conf import arg

if TYPE_CHECKING:
    import torch
    from playout.rlhf.data.messages import Prompt
    from playout.rlhf.generation.chat.template import ChatTemplate
    from playout.rlhf.generation.player import LanguagePlayer

__all__ = ["AnswerOptions", "answer_dtype", "as_turns", "open_player", "read_asked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions(ModelOptions):
    """How a policy writes."""

    max_new_tokens: int = 0
    """Longest answer in tokens; 0 takes 48, or 512 with a chat template."""
    temperature: float = 1.0
    """Of the sampling: higher is more varied, 0 takes the likeliest token each time."""
    top_k: int = 0
    """Only the k likeliest tokens; 0 allows all."""
    top_p: float = 1.0
    """Only the likeliest tokens that reach this probability together."""
    min_p: float = 0.0
    """Only tokens at least this many times as likely as the likeliest one."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that were read or written become less likely; 1.1 is usual."""
    max_length: int = 0
    """Longest prompt in tokens; 0 allows what the context leaves beside the answer."""
    truncate: Literal["error", "left", "right"] = "error"
    """What is cut of a longer prompt: its beginning (of a conversation, the earliest turns) or its
    end; error stops before anything is answered."""
    stop: Annotated[tuple[str, ...], arg(metavar="TEXT ...")] = ()
    r"""End an answer where it holds one of these (\n is a line break); it is left out."""
    system: Annotated[str, arg(metavar="TEXT", help_behavior_hint="")] = ""
    """What a chat model is told first; a conversation's own system message takes its place."""
    template_options: Annotated[str, arg(metavar="KEY=VALUE,...", help_behavior_hint="")] = ""
    """Values of names that the chat template reads, such as enable_thinking=false."""
    plain: bool = False
    """Leave the chat template alone: prompts are plain texts, to be continued."""
    seed: int = 0
    """Of the answers."""


def open_player(command: AnswerOptions, run: str | Path) -> LanguagePlayer:
    """The policy of a run or a folder with the settings of a command.

    Args:
        command: The command.
        run: A stage, a whole pipeline, or a model folder.

    Raises:
        PlayoutError: There is no policy, or a setting means nothing.
    """
    from playout.agents.runs.devices import resolve_device
    from playout.errors import ConfigError
    from playout.rlhf.generation.player import LanguagePlayer, usual_length
    from playout.rlhf.generation.stops import StopStrings
    from playout.rlhf.model.adapters.held import held_type
    from playout.rlhf.model.folder import load_model

    if command.max_new_tokens < 0:
        raise ConfigError(f"--max-new-tokens must be at least 1, not {command.max_new_tokens}")
    if command.max_length < 0:
        raise ConfigError(f"--max-length must be at least 1, not {command.max_length}")
    options = _template_options(command.template_options)
    for flag, given in (("--template-options", options), ("--system", command.system)):
        if given and command.plain:
            raise ConfigError(
                f"with --plain there is no chat template to read {flag}: leave one out"
            )
    device = resolve_device(command.device)
    weights = held_type(command.weights)
    model, tokenizer = load_model(run, device=device, weights=weights, writes=True)
    turns = tokenizer.template is not None and not command.plain
    _check_read(options, run, tokenizer.template)
    player = LanguagePlayer(
        model,
        tokenizer,
        max_new_tokens=command.max_new_tokens or usual_length(model, turns=turns),
        temperature=command.temperature,
        seed=command.seed,
        dtype=answer_dtype(command.dtype, device),
        top_k=command.top_k,
        top_p=command.top_p,
        min_p=command.min_p,
        repetition_penalty=command.repetition_penalty,
        max_length=command.max_length,
        truncate=command.truncate,
        stop=tuple(text.replace("\\n", "\n").replace("\\t", "\t") for text in command.stop),
        plain=command.plain,
        template_options=options,
        threads=command.threads,
    )
    _ = player.sampling, player.room(), StopStrings(tokenizer, player.stop)
    if command.system and not player.talk.speaks_in_turns:
        raise ConfigError(f"{run} has no chat template, so there is no --system message")
    return player


def _template_options(text: str) -> dict[str, Any]:
    from playout.errors import ConfigError
    from playout.rlhf.environments.load import read_options

    try:
        return read_options(text)
    except ConfigError as error:
        reason = str(error).removeprefix("options: ")
        raise ConfigError(f"--template-options: {reason}") from None


def _check_read(options: Mapping[str, Any], run: str | Path, template: ChatTemplate | None) -> None:
    """Refuses names that no chat template would read."""
    from playout.errors import ConfigError

    if not options:
        return
    if template is None:
        raise ConfigError(f"{run} has no chat template, so nothing reads --template-options")
    known = template.names
    for name in options:
        if name not in known:
            listed = f"; it reads {', '.join(known)}" if known else ""
            raise ConfigError(
                f"--template-options: the chat template of {run} reads no {name}{listed}"
            )


def answer_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The type in which a policy answers: float32 on a processor unless another is asked for.

    A few prompts are bound by memory there, and answers are then those of other libraries.
    """
    from playout.rlhf.model.transformer import pick_dtype

    return pick_dtype("float32" if (dtype, device.type) == ("auto", "cpu") else dtype, device)


def read_asked(path: Path) -> tuple[list[Prompt], list[str]]:
    """The prompts of a file, and what errors call each.

    A line of text is a prompt, and so is an object with `messages`, or with `prompt` (or `text`),
    which may be a list of messages too; rows of CSV and Parquet as well.

    Raises:
        DataError: A row is none of these.
    """
    from playout.rlhf.data.conversations import prompt_of
    from playout.rlhf.environments.prompts import mixed_rows

    prompts: list[Prompt] = []
    names: list[str] = []
    for where, row in mixed_rows(path):
        prompts.append(prompt_of(row, where, empty=True))
        names.append(where)
    if not prompts:
        raise DataError(f"{path} holds no prompts")
    return prompts, names


def as_turns(prompt: Prompt, *, wrap: bool, system: str) -> Prompt:
    """A prompt as it is asked: a plain text perhaps as a message, with the system message first."""
    from playout.rlhf.data.messages import as_messages

    if isinstance(prompt, str) and not wrap:
        return prompt
    messages = as_messages(prompt)
    if not system or messages[0]["role"] == "system":
        return messages
    return ({"role": "system", "content": system}, *messages)

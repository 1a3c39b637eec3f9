"""Prompts as the environment of one turn: the prompt is read, the answer ends the episode.

Rows of a file keep their other fields as the task's own data, which reward functions can ask for by
name. The reward is a function's.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playout.errors import DataError
from playout.rlhf.data.conversations import prompt_of, prompt_text
from playout.rlhf.data.datasets import HELD_OUT, hold_out
from playout.rlhf.data.messages import Prompt, as_messages
from playout.rlhf.data.records import Preference, prompt_key, prompt_rows
from playout.rlhf.data.rows import (
    SUFFIXES,
    Source,
    name_of,
    read_bytes,
    read_rows,
    suffix_of,
    to_text,
)
from playout.rlhf.environments.environment import EnvironmentFactory, Split, Step
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.tokenizer import Tokenizer

__all__ = [
    "PROMPTS",
    "PromptEnvironment",
    "PromptTask",
    "episode_seed",
    "fitting",
    "mixed_rows",
    "prompt_environment",
    "prompts_of",
    "read_prompt_tasks",
    "room_check",
    "split_prompt_tasks",
]

PROMPTS = "prompts"
"""Name of the environment that only asks."""
PromptTask = str | Sequence[Mapping[str, str]] | Mapping[str, Any]
"""A text, a conversation, or a row with the field `prompt`."""
_FIELDS = {"messages", "conversations", "prompt", "text"}
_TEST_SEEDS = 1 << 30


class PromptEnvironment:
    """Asks a task's prompt and takes one answer."""

    def reset(self, task: Mapping[str, Any], seed: int) -> Prompt:
        """The prompt."""
        prompt: Prompt = task["prompt"]
        return prompt

    def step(self, answer: str) -> Step:
        """The end."""
        return Step(None, 0.0, True)


def prompt_environment(
    prompts: Sequence[PromptTask], heldout: Sequence[PromptTask] | None = None
) -> EnvironmentFactory:
    """The environment of prompts; its tasks are rows with the field `prompt`.

    Args:
        prompts: To learn from.
        heldout: To be judged on; the same where None.
    """

    def rows(side: Sequence[PromptTask]) -> list[dict[str, Any]]:
        return [dict(p) if isinstance(p, Mapping) else {"prompt": p} for p in side]

    sides = {"train": rows(prompts), "test": rows(prompts if heldout is None else heldout)}

    def tasks(split: Split) -> Sequence[dict[str, Any]]:
        return sides[split]

    return EnvironmentFactory(PROMPTS, PromptEnvironment, tasks)


def mixed_rows(path: Path, field: str = "prompt") -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of a file; a line of text is a row with that field.

    Objects and texts may both stand in one file of lines; CSV, Parquet and folders hold rows.
    """
    suffix = suffix_of(path)
    if path.is_dir() or (suffix in SUFFIXES and suffix != ".jsonl"):
        yield from read_rows(path)
        return
    lines = to_text(read_bytes(path), str(path)).replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line) if line.lstrip()[0] in '{"[' else line
        except (ValueError, RecursionError) as error:
            if suffix == ".jsonl":
                raise DataError(f"{where}: not JSON: {error}") from None
            row = line
        known = isinstance(row, dict) and (suffix == ".jsonl" or _FIELDS & set(row))
        if not known and not (suffix == ".jsonl" and isinstance(row, str)):
            row = line
        yield where, row if isinstance(row, dict) else {field: row}


def read_prompt_tasks(
    source: Source,
    *,
    check: Callable[[Prompt], object] = lambda prompt: None,
    mixed: bool = False,
) -> list[dict[str, Any]]:
    """Prompts with all other fields of their rows.

    A prompt is the field `prompt` (or `text`), a text or a list of messages, or the field
    `messages`; in a file of plain text, a line.

    Args:
        source: A file, a folder, `hub:NAME[@CONFIG][:split]`, or rows (or texts).
        check: Is given each prompt, and raises DataError for one that cannot be answered.
        mixed: A file of lines may hold both texts and objects (`mixed_rows`).

    Raises:
        DataError: A row has no prompt or one that `check` refuses, or there is no row.
    """
    found = []
    rows = prompt_rows(source)
    if mixed and isinstance(source, str | os.PathLike) and not str(source).startswith("hub:"):
        rows = mixed_rows(Path(source))
    for where, row in rows:
        prompt = prompt_of(row, where)
        try:
            check(prompt)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        found.append({**row, "prompt": prompt})
    if not found:
        raise DataError(f"{name_of(source)} holds no prompts")
    return found


def prompts_of(pairs: Iterable[Preference]) -> list[dict[str, Any]]:
    """The prompts of pairs as rows, each once, in their order; empty ones are left out."""
    found = {prompt_key(pair.prompt): pair.prompt for pair in pairs if pair.prompt}
    return [{"prompt": prompt} for prompt in found.values()]


def room_check(tokenizer: Tokenizer, room: int, *, as_user: bool) -> Callable[[Prompt], None]:
    """Refuses a prompt that leaves no room for its answer, or that the template does not take.

    Args:
        tokenizer: The policy's.
        room: Tokens that a prompt may have.
        as_user: Plain text is a user's message.
    """
    talk = conversation_format(tokenizer)

    def check(prompt: Prompt) -> None:
        count = len(talk.begin(as_messages(prompt) if as_user else prompt, special=True))
        if count > room:
            raise DataError(
                f"the prompt has {count} tokens, and there is room for {room} beside its answer"
            )

    return check


def fitting(
    rows: Iterable[Mapping[str, Any]], check: Callable[[Prompt], object]
) -> list[dict[str, Any]]:
    """The rows whose `prompt` is not refused by a check, with DataError."""
    kept = []
    for row in rows:
        with contextlib.suppress(DataError):
            check(row["prompt"])
            kept.append(dict(row))
    return kept


def split_prompt_tasks(
    tasks: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """To learn from and held out; fewer than 40 prompts serve for both."""
    return hold_out(tasks, HELD_OUT, texts=lambda task: [prompt_text(task["prompt"])], handful=40)


def episode_seed(seed: int, number: int, split: Split = "train") -> int:
    """The seed of an environment's randomness; no seed of training is one of testing.

    Args:
        seed: Of the run.
        number: Of the group of episodes that share it.
        split: Which side.
    """
    drawn = int(np.random.default_rng([seed, 13, number]).integers(_TEST_SEEDS))
    return drawn + _TEST_SEEDS if split == "test" else drawn

"""Rows whose prompts and answers are texts or messages, in the spellings that data sets have.

`messages` (or `conversations` with `from` and `value`), or a prompt and its answer, each a text or
a list of messages. Which rows become which records is records.py's; checking a message is
messages.py's, its tokens are encoding.py's.
"""

from collections.abc import Sequence
from typing import Any

from playout.errors import DataError
from playout.rlhf.data.messages import Message, Prompt, as_messages, checked_messages
from playout.rlhf.data.rows import Row, check_text, text_field

__all__ = [
    "asked_and_said",
    "demonstration_parts",
    "join_texts",
    "listed",
    "preference_parts",
    "prompt_of",
    "prompt_text",
    "turns_of",
]

# Characters after which a new word is set off by a space.
_CLOSING = ".,;:!?)]}%’”»\"'"
_ANSWERS = ("response", "completion", "output")
_SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}


def prompt_text(prompt: Prompt) -> str:
    """A prompt as one text, for what compares texts: contents of messages, a line each."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message["content"] for message in prompt)


def prompt_of(row: Row, where: str, *, empty: bool = False) -> Prompt:
    """The prompt of a row: `prompt` or `text` as a text, or messages in `prompt` or `messages`."""
    if _is_conversation(row):
        return _conversation(row, where)
    if isinstance(row.get("prompt"), str | None):
        return text_field(row, where, "prompt", "text", empty=empty)
    return checked_messages(listed(row["prompt"]), f"{where}: prompt")


def listed(value: Any) -> Any:
    """What a field holds, as a list: of a Parquet file it may be another sequence."""
    return value.tolist() if hasattr(value, "tolist") else value


def _is_conversation(row: Row) -> bool:
    """Whether a row is one: a table of several forms has nulls where a row is of another one."""
    other = any(row.get(name) is not None for name in ("prompt", "text", "instruction"))
    kinds = ("messages", "conversations")
    return any(name in row and not (row[name] is None and other) for name in kinds)


def _conversation(row: Row, where: str) -> tuple[Message, ...]:
    if row.get("messages") is not None or "conversations" not in row:
        return checked_messages(listed(row["messages"]), f"{where}: messages")
    parts = listed(row["conversations"])
    if not isinstance(parts, Sequence) or isinstance(parts, str):
        raise DataError(f"{where}: conversations should be a list")
    found = []
    for part in parts:
        if isinstance(part, dict) and "from" in part and "value" in part:
            speaker = str(part["from"])
            part = {"role": _SPEAKERS.get(speaker, speaker), "content": part["value"]}
        found.append(part)
    return checked_messages(found, f"{where}: conversations")


def demonstration_parts(row: Row, where: str) -> tuple[Prompt, str, int]:
    """Prompt, answer, and the number of leading messages from which nothing is learned.

    Of a conversation every answer is learned, of a prompt with a completion those after the prompt.
    """
    if _is_conversation(row):
        messages = _conversation(row, where)
        return _answered(messages, 0, where)
    prompt = _asked(row, where)
    name = _answer_field(row)
    if isinstance(prompt, str) and isinstance(row.get(name), str | None):
        return prompt, text_field(row, where, *_ANSWERS), 0
    return _last_answer(prompt, row, where, name)


def _asked(row: Row, where: str, *, empty: bool = False) -> Prompt:
    """The prompt, or an instruction with its input, which is empty only where `empty` allows it."""
    other = row.get("prompt") is not None or _is_conversation(row)  # nulls are of other forms
    if "instruction" not in row or other:
        return prompt_of(row, where, empty=True)
    asked, given = text_field(row, where, "instruction", empty=empty), row.get("input")
    if not isinstance(given, str) or not given:
        return asked
    check_text(given, where, "input")
    return f"{asked}\n\n{given}"


def asked_and_said(row: Row, where: str) -> tuple[Prompt, str | None]:
    """What a row asks, and the answer in a field of its own (None without one), for measures.

    Texts may be empty; an answer follows a text as `join_texts` says.
    """
    name = _answer_field(row)
    if not name and all(row.get(side) is not None for side in ("chosen", "rejected")):
        raise DataError(
            f"{where}: the row has two answers, chosen and rejected; give the one to measure as "
            "'response'"
        )
    if not name and not {"prompt", "messages", "conversations", "instruction"} & set(row):
        return text_field(row, where, "text", empty=True), None
    prompt = _asked(row, where, empty=True)
    if not name:
        return prompt, None
    if isinstance(row[name], str):
        return prompt, join_texts(prompt, text_field(row, where, name, empty=True))
    return _last_answer(prompt, row, where, name)[:2]


def _answer_field(row: Row) -> str:
    """The field that holds a row's answer; empty where none does."""
    return next((name for name in _ANSWERS if row.get(name) is not None), "")


def _last_answer(prompt: Prompt, row: Row, where: str, name: str) -> tuple[Prompt, str, int]:
    """What stands before the last of a row's answers, that answer, and the prompt's length."""
    if not name:
        raise DataError(f"{where}: there is no field 'response'")
    before = as_messages(prompt) if prompt else ()
    return _answered((*before, *_answers(row, where, name)), len(before), where)


def turns_of(row: Row, where: str) -> tuple[list[str], int]:
    """The texts of a row with `turns`, the other side's first, and from which on answers count.

    Every second text is the policy's; the last one is, too. The number is `learned_from`, 0 where
    the row says nothing: earlier answers are only read.

    Raises:
        DataError: They are no texts, or fewer than two.
    """
    turns = listed(row["turns"])
    if not isinstance(turns, list) or not all(isinstance(text, str) for text in turns):
        raise DataError(f"{where}: turns should be a list of texts")
    for text in turns:
        check_text(text, where, "turns")
    turns = turns[: len(turns) // 2 * 2]
    start = row.get("learned_from", 0)
    if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start < max(1, len(turns)):
        raise DataError(f"{where}: learned_from should be the number of one of its turns")
    if not turns or not all(text.strip() for text in turns):
        raise DataError(f"{where}: turns should be a text and an answer at least, none empty")
    return turns, start


def _answers(row: Row, where: str, name: str) -> tuple[Message, ...]:
    """What follows a prompt as messages; a text is the assistant's."""
    if not isinstance(row[name], list | tuple) and not hasattr(row[name], "tolist"):
        return ({"role": "assistant", "content": text_field(row, where, name)},)
    return checked_messages(listed(row[name]), f"{where}: {name}")


def _answered(messages: tuple[Message, ...], start: int, where: str) -> tuple[Prompt, str, int]:
    while messages and messages[-1]["role"] != "assistant":
        messages = messages[:-1]
    if len(messages) <= start:
        raise DataError(f"{where}: no message is the assistant's; there is nothing to learn from")
    if len(messages) < 2:
        raise DataError(f"{where}: nothing stands before the assistant's message")
    if not messages[-1]["content"].strip():
        raise DataError(f"{where}: the assistant's last message is empty")
    return messages[:-1], messages[-1]["content"], start


def preference_parts(row: Row, where: str, first: str, second: str) -> tuple[Prompt, str, str]:
    """Prompt and two answers, each a text or messages; `first` and `second` name their fields.

    Two whole conversations without a prompt have the one that they share.
    """
    prompt = prompt_of(row, where, empty=True) if row.get("prompt") is not None else ""
    sides = [row.get(first), row.get(second)]
    if isinstance(prompt, str) and all(isinstance(side, str | None) for side in sides):
        return prompt, text_field(row, where, first), text_field(row, where, second)
    if any(side is None for side in sides):
        raise DataError(f"{where}: there is no field {first if sides[0] is None else second!r}")
    before = as_messages(prompt) if prompt else ()
    a, b = _answers(row, where, first), _answers(row, where, second)
    if not before:
        shared = 0
        while shared < min(len(a), len(b)) - 1 and a[shared] == b[shared]:
            shared += 1
        before, a, b = a[:shared], a[shared:], b[shared:]
    for name, side in ((first, a), (second, b)):
        if len(side) != 1 or side[0]["role"] != "assistant":
            raise DataError(
                f"{where}: {name} should add one message of the assistant's to the prompt; the two "
                "may differ in nothing else"
            )
        if not side[0]["content"].strip():
            raise DataError(f"{where}: {name} is empty")
    if not before or before[-1]["role"] == "assistant":
        raise DataError(f"{where}: a message of the user's should stand before the answers")
    return before, a[0]["content"], b[0]["content"]


def join_texts(prompt: Prompt, answer: str) -> str:
    """An answer as it follows its prompt: after a space where the two would run into one word.

    That is where a plain prompt ends in a letter, a digit or a closing mark and the answer begins
    with a letter or a digit. Scripts without spaces between words are left alone.
    """
    if not isinstance(prompt, str) or not prompt or not answer:
        return answer
    last, first = prompt[-1], answer[0]
    touching = (last.isalnum() or last in _CLOSING) and first.isalnum()
    return f" {answer}" if touching and _spaced(last) and _spaced(first) else answer


def _spaced(letter: str) -> bool:
    """Whether words of a letter's script are set off by spaces (not Thai to Khmer, nor CJK)."""
    return not ("\u0e00" <= letter <= "\u0eff" or "\u1000" <= letter <= "\u109f" or
                "\u1780" <= letter <= "\u17ff" or letter >= "\u2e80")  # fmt: skip

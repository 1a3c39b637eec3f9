"""Conversations as data: lists of messages with a role and a text.

A message is what chat models and their data files use: `{"role": "user", "content": "..."}`. Here
such lists are checked, once, where they come in. Tokens of a conversation are
generation/conversation.py's; calls of tools are text like all else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from playout.errors import ConfigError, DataError

__all__ = ["ROLES", "Message", "Prompt", "as_messages", "check_list", "checked_messages"]

Message = dict[str, str]
Prompt = str | Sequence[Message]

ROLES = ("system", "user", "assistant", "tool")


def checked_messages(value: object, where: str) -> tuple[Message, ...]:
    """A conversation that is known to be one.

    Contents may be given as lists of text parts, which are joined. Further fields whose values are
    text (`name`, `tool_call_id`) are kept for the template; those that are null are dropped.

    Args:
        value: What should be a list of messages, not empty.
        where: Names its place in an error.

    Raises:
        DataError: Names the message and the fault.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise DataError(f"{where}: a conversation is a list of messages, not {_kind(value)}")
    if not value:
        raise DataError(f"{where}: the conversation has no messages")
    return tuple(_message(item, f"{where}: message {n}") for n, item in enumerate(value, 1))


def check_list(texts: object) -> None:
    """Refuse a single text where a list of them is meant: each of its letters would be one."""
    if isinstance(texts, str | Mapping):
        raise ConfigError("give a list of texts or conversations, not a single one")


def as_messages(prompt: Prompt) -> tuple[Message, ...]:
    """A prompt as messages; a plain text is one of the user's."""
    if isinstance(prompt, str):
        return ({"role": "user", "content": prompt},)
    return tuple(prompt)


def _message(value: object, where: str) -> Message:
    if not isinstance(value, Mapping):
        raise DataError(f"{where} is {_kind(value)}, not an object with role and content")
    if "role" not in value:
        raise DataError(f"{where} has no role ({', '.join(map(str, value)) or 'it is empty'})")
    role = value["role"]
    if role not in ROLES:
        raise DataError(f"{where} has the role {role!r}; known are {', '.join(ROLES)}")
    if value.get("tool_calls"):
        raise DataError(f"{where} holds tool_calls; write them into content as text")
    if "content" not in value:
        raise DataError(f"{where} has no content")
    message = {"role": str(role), "content": _content(value["content"], where)}
    for name, field in value.items():
        if name in message or field is None or name == "tool_calls":
            continue
        if not isinstance(field, str):
            raise DataError(f"{where}: {name} is {_kind(field)}, not text")
        message[str(name)] = field
    return message


def _content(value: Any, where: str) -> str:
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            raise DataError(f"{where}: content holds parts that are not text")
        value = "".join(texts)
    if not isinstance(value, str):
        raise DataError(f"{where}: content is {_kind(value)}, not text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: content holds half a character (a lone surrogate)") from None
    return value


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__

"""Chat templates: the Jinja text in a model's folder that turns messages into one text.

Templates come from elsewhere, so they run in jinja2's sandbox with immutable values and see nothing
but the messages and the names that published templates use. What those names do follows
`transformers`, except for the date, which is fixed unless a caller gives one: what is trained must
not change overnight. Tokens are conversation.py's.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from jinja2 import Environment, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from playout.errors import CheckpointError, DataError
from playout.rlhf.data.messages import Message

__all__ = ["ChatTemplate"]

FIXED_DATE = datetime.datetime(2024, 7, 26)  # the one that Llama's templates fall back on
MAX_TEXT = 1 << 26
_GIVEN = {"messages", "add_generation_prompt", "bos_token", "eos_token"}


class _Refused(TemplateError):
    """A template calls raise_exception."""


class _Generation(Extension):
    """The block {% generation %}, which marks what an assistant wrote; it changes no text."""

    tags = {"generation"}  # noqa: RUF012 (the base class says that it is an attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> None:
    raise _Refused(message)


class ChatTemplate:
    """A template, compiled when it is first used.

    Attributes:
        source: Its text.
        options: Values of further names that it reads (`enable_thinking`, `date_string`, ...).
        date: What the clock says to it.
    """

    def __init__(
        self,
        source: str,
        *,
        options: Mapping[str, Any] | None = None,
        date: datetime.datetime = FIXED_DATE,
    ) -> None:
        self.source, self.options, self.date = source, dict(options or {}), date

    @property
    def names(self) -> list[str]:
        """Names that it reads and that options can set, in alphabetical order.

        Raises:
            CheckpointError: The template itself is broken.
        """
        _ = self._compiled
        environment = self._environment
        found = meta.find_undeclared_variables(environment.parse(self.source))
        return sorted(found - environment.globals.keys() - _GIVEN)

    @cached_property
    def _environment(self) -> Environment:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = self.date.strftime
        return environment

    @cached_property
    def _compiled(self) -> Template:
        try:
            return self._environment.from_string(self.source)
        except TemplateSyntaxError as error:
            raise CheckpointError(
                f"line {error.lineno} of the chat template: {error.message}"
            ) from None
        except (RecursionError, ValueError, OverflowError) as error:
            raise CheckpointError(f"the chat template cannot be read: {error}") from None

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool,
        bos_token: str | None = None,
        eos_token: str | None = None,
    ) -> str:
        """The text of a conversation.

        Args:
            messages: The conversation; see data/messages.py.
            add_generation_prompt: End with what stands before the assistant's next answer.
            bos_token: Spelling of the token that begins a document.
            eos_token: Spelling of the one that ends it.

        Raises:
            CheckpointError: The template itself is broken.
            DataError: It does not take these messages.
        """
        names: dict[str, Any] = {
            "tools": None,
            "documents": None,
            **self.options,
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": add_generation_prompt,
        }
        tokens = {"bos_token": bos_token, "eos_token": eos_token}
        names.update((name, token) for name, token in tokens.items() if token is not None)
        template = self._compiled
        parts, length = [], 0
        try:
            for part in template.generate(names):
                length += len(part)
                if length > MAX_TEXT:
                    raise DataError(f"the chat template wrote more than {MAX_TEXT} characters")
                parts.append(part)
        except _Refused as error:
            raise DataError(f"the chat template refuses the conversation: {error}") from None
        except DataError:
            raise
        # Whatever an expression of a template can raise: undefined names, types, indices.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DataError(f"the chat template fails on the conversation: {reason}") from None
        return "".join(parts)

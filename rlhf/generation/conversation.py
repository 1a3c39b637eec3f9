"""Conversations as tokens: what a policy reads before it writes, and between two of its answers.

A model with a chat template speaks in turns, any model goes on from a plain text. What the policy
wrote stays the tokens that it wrote; only what others say is turned into tokens here, once. What a
message spells is characters, what the template writes around it may be special tokens. Messages are
data/messages.py's, the template is template.py's.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from playout.errors import ConfigError, DataError, PlayoutError
from playout.rlhf.data.messages import Message, Prompt, as_messages
from playout.rlhf.generation.chat.marks import END, Marks
from playout.rlhf.generation.chat.template import ChatTemplate
from playout.rlhf.generation.tokenizer import Tokenizer

__all__ = ["ConversationFormat", "Truncate", "conversation_format", "fit_prompt"]

Truncate = Literal["left", "right", "error"]

_ANSWER = "\ue000answer\ue001"  # stands for what the policy wrote; private characters


@dataclass(frozen=True, slots=True)
class ConversationFormat:
    """How conversations with one model look as tokens.

    Attributes:
        tokenizer: The model's.
        template: Its chat template; without one there are only plain texts.
        stop_ids: Tokens that end an answer.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    stop_ids: tuple[int, ...] = field(init=False)
    marks: Marks = field(init=False, repr=False, compare=False)
    _endless: bool = field(init=False, repr=False, default=False)
    """The template ends no turn of the assistant's: the end of the text does."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "marks", Marks(self.tokenizer))
        stops = dict.fromkeys(self.tokenizer.stop_ids)
        if self.template is not None:
            # A template that fails is found when it is used: plain texts do without it.
            with suppress(PlayoutError):
                tail = self._after_answer([{"role": "user", "content": "x"}])
                end = self._end_of_turn(tail, special_ends=True)
                stops.update(dict.fromkeys(tail[:end][-1:]))
                ending = self.tokenizer.encode_special(self.tokenizer.end)
                endless = not end and ending == [self.tokenizer.end_id]
                object.__setattr__(self, "_endless", endless)
        object.__setattr__(self, "stop_ids", tuple(stops))

    @property
    def speaks_in_turns(self) -> bool:
        """Whether conversations go through a chat template."""
        return self.template is not None

    def begin(self, prompt: Prompt, *, special: bool = False) -> list[int]:
        """All tokens up to where the policy writes; at least one.

        Args:
            prompt: A plain text, which is continued, or messages, which are answered. If the last
                message is the assistant's, that message is continued.
            special: Special tokens that a plain text spells are those; `Tokenizer.encode_prompts`.

        Raises:
            ConfigError: Messages for a model without a chat template.
            DataError: The template does not take these messages.
        """
        if isinstance(prompt, str):
            return self.tokenizer.encode_prompts([prompt], special=special)[0]
        if prompt and prompt[-1]["role"] == "assistant":
            *before, last = prompt
            head, found, _ = self.write([*before, _answered(last)], begun=True).rpartition(_ANSWER)
            if not found:
                raise DataError("the chat template leaves the assistant's message out")
            return self.tokens(head + self.marks.hide(last["content"]))
        return self.tokens(self.write(prompt, answer=True))

    def between(self, reply: Prompt, ended: bool) -> list[int]:
        """The tokens that follow the policy's answer, up to where it writes again.

        With a template: the end of its turn, the reply (a plain text is the user's) and what
        stands before the next answer. Without: the reply, after the end token.

        Args:
            reply: What the other side says.
            ended: Whether the last token that the policy wrote is a stop token.
        """
        if self.template is None:
            if not isinstance(reply, str):
                self.render(reply)  # says that there is no template
            ids = self.tokenizer.encode(str(reply), continues=True)
            return ids if ended else [self.tokenizer.end_id, *ids]
        tail = self._after_answer(as_messages(reply))
        return self.after_stop(tail) if ended else tail

    def after_stop(self, tail: Sequence[int]) -> list[int]:
        """What follows an answer, as tokens, without the stop token that the policy wrote."""
        return list(tail[self._end_of_turn(tail) :])

    def answer(self, ids: Sequence[int]) -> str:
        """The text that the policy wrote, without its stop token."""
        ids = list(ids)
        if ids and ids[-1] in self.stop_ids:
            ids.pop()
        return self.tokenizer.decode(ids, continues=self.template is None)

    def render(self, messages: Sequence[Message], *, answer: bool = False) -> str:
        """A conversation as the template writes it; with `answer` up to where the policy writes."""
        return self._render(messages, messages, answer=answer)

    def write(
        self,
        messages: Sequence[Message],
        *,
        answer: bool = False,
        begun: bool = False,
        ends: bool = True,
    ) -> str:
        """The same for `tokens`: what messages spell is marked, and every answer has an end.

        Args:
            messages: The conversation.
            answer: See `render`.
            begun: The last message is the assistant's and goes on.
            ends: Where the template ends no answer, the end of the text does.
        """
        hidden = [
            {name: self.marks.hide(value) for name, value in message.items()}
            for message in messages
        ]
        ends = ends and self._endless
        for message in hidden[: len(hidden) - begun] if ends else []:
            if message["role"] == "assistant":
                message["content"] = message["content"].rstrip() + END
        text = self._render(hidden, messages, answer=answer)
        return text.replace(END, self.tokenizer.end) if ends else text

    def tokens(self, text: str, *, continues: bool = False) -> list[int]:
        """The tokens of what `write` wrote, or of a part of it that `continues` another."""
        return self.tokenizer.encode_special(text, continues=continues, spelt=self.marks.spelt)

    def _render(self, messages: Sequence[Message], said: Sequence[Message], *, answer: bool) -> str:
        """What the template makes of messages; `said` are the ones that an error names."""
        if self.template is None and self.tokenizer.template is not None:
            raise ConfigError(
                "with --plain the model's chat template is left alone, so it takes plain texts and "
                "no messages; leave --plain out"
            )
        if self.template is None:
            raise ConfigError(
                "the model has no chat template, so it takes plain texts and no messages; start "
                "from a chat model, or put chat_template.jinja into its folder"
            )
        try:
            return self.template.render(
                messages,
                add_generation_prompt=answer,
                bos_token=self.tokenizer.bos,
                eos_token=self.tokenizer.end,
            )
        except DataError as error:  # one of thousands may be what a template does not take
            texts = [m["content"] for m in said if m["content"] and m["content"] != _ANSWER]
            ends = f" (the conversation that ends in {texts[-1][-60:]!r})" if texts else ""
            raise DataError(f"{error}{ends}") from None

    def _after_answer(self, reply: Sequence[Message]) -> list[int]:
        """Tokens behind an assistant's message that `reply` follows."""
        asked = {"role": "user", "content": "x"}, _answered({"role": "assistant"})
        _, found, tail = self.write([*asked, *reply], answer=True).rpartition(_ANSWER)
        if not found:
            raise DataError("the chat template leaves the assistant's answers out")
        return self.tokens(tail, continues=True)

    def _end_of_turn(self, tail: Sequence[int], *, special_ends: bool = False) -> int:
        """How many tokens of `tail` the policy's own stop token stands for, blanks before it too.

        Args:
            tail: What follows an answer.
            special_ends: Any special token may be the stop token.
        """
        for count, token in enumerate(tail, 1):
            special = special_ends and self.tokenizer.is_special(token)
            if special or (not special_ends and token in self.stop_ids):
                return count
            if self.tokenizer.decode([token]).strip():
                return 0
        return 0


def _answered(message: Message) -> Message:
    """An assistant's message with what stands for the policy's answer."""
    return {**message, "content": _ANSWER}


def conversation_format(
    tokenizer: Tokenizer,
    *,
    plain: bool = False,
    options: Mapping[str, Any] | None = None,
) -> ConversationFormat:
    """How to talk with the model that a tokenizer belongs to.

    Args:
        tokenizer: Of the model.
        plain: Leave its chat template alone; conversations are one plain text.
        options: Values of names that the template reads (`enable_thinking`, ...).
    """
    template = None if plain else tokenizer.template
    if template is not None and options:
        template = ChatTemplate(template.source, options=options, date=template.date)
    return ConversationFormat(tokenizer, template)


def fit_prompt(
    talk: ConversationFormat,
    prompt: Prompt,
    room: int,
    truncate: Truncate,
    *,
    special: bool = False,
) -> tuple[list[int], int]:
    """The tokens of a prompt, cut to so many, and how many were left out.

    Of a plain text its beginning (left) or its end (right) goes. Of a conversation go, on the left,
    the earliest turns but for the system message; then, and on the right, the beginning or the end
    of its longest message; and the system message where nothing would be left of the last one.

    Args:
        talk: How prompts become tokens.
        prompt: A text, or messages.
        room: Tokens that the prompt may have.
        truncate: What is cut if it has more; "error" cuts nothing.
        special: See `ConversationFormat.begin`.

    Raises:
        DataError: It does not fit and may not be cut, or cannot be cut enough.
    """
    ids = talk.begin(prompt, special=special)
    whole = len(ids)
    if whole <= room:
        return ids, 0
    if truncate == "error" or room < 1:
        raise DataError(f"it has {whole} tokens, and there is room for {max(room, 0)}")
    if isinstance(prompt, str):
        if truncate == "right":
            return ids[:room], whole - room
        first = ids[: int(ids[0] == talk.tokenizer.bos_id and room > 1)]
        return [*first, *ids[whole - room + len(first) :]], whole - room
    messages = tuple(prompt)
    if truncate == "left":
        for kept in _later_turns(messages):
            messages = kept
            ids = talk.begin(messages)
            if len(ids) <= room:
                return ids, whole - len(ids)
    shorter = _shorten(talk, messages, room, truncate)
    if shorter is None and len(messages) > 1 and messages[0]["role"] == "system":
        shorter = _shorten(talk, messages[1:], room, truncate)
    if shorter is None:
        raise DataError(
            f"what the chat template adds alone takes the {room} tokens, so nothing is left of the "
            "last message"
        )
    return shorter, whole - len(shorter)


def _later_turns(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """A conversation without its first turns, from one turn less to the last one alone."""
    system = tuple(message for message in messages[:1] if message["role"] == "system")
    starts = [i for i, message in enumerate(messages) if message["role"] == "user"][1:]
    return [(*system, *messages[start:]) for start in starts]


def _shorten(
    talk: ConversationFormat,
    messages: Sequence[Message],
    room: int,
    truncate: Truncate,
) -> list[int] | None:
    """The tokens of a conversation whose longest messages are cut until all of it fits.

    None if that leaves nothing of the last message.
    """
    messages = list(messages)
    asked, ids = messages[-1]["content"].strip(), talk.begin(messages)
    contents = [talk.tokenizer.encode(message["content"]) for message in messages]
    while (excess := len(ids) - room) > 0:
        place = max(range(len(messages)), key=lambda i: len(contents[i]))
        others = range(len(messages) - 1)
        if len(contents[-1]) <= excess and any(contents[i] for i in others):
            place = max(others, key=lambda i: len(contents[i]))
        kept = max(0, len(contents[place]) - excess)
        if not contents[place]:
            return None
        whole = contents[place]
        contents[place] = whole[:kept] if truncate == "right" else whole[len(whole) - kept :]
        # A cut may go through a character.
        text = talk.tokenizer.decode(contents[place]).strip("\ufffd")
        messages[place] = {**messages[place], "content": text}
        if asked and not messages[-1]["content"].strip():
            return None
        ids = talk.begin(messages)
    return ids

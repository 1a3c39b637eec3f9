"""Texts that end an answer, and an answer as text while it is being written.

Tokens and texts part in two places: a stop string may begin and end inside a token, and a character
may need several tokens. Both are settled here, so that what is shown is never taken back. Stop
tokens are generate.py's.
"""

from collections.abc import Iterable, Sequence

from playout.errors import ConfigError
from playout.rlhf.generation.tokenizer import Tokenizer

__all__ = ["AnswerText", "StopStrings"]

_HALF = "\ufffd"  # what decoding makes of a character whose other tokens are still to come


class StopStrings:
    """Ends an answer as soon as its text holds one of some strings; `generate` takes it as `ends`.

    Attributes:
        strings: What ends an answer; none of them is part of it.
    """

    def __init__(
        self, tokenizer: Tokenizer, strings: Iterable[str], *, continues: bool = True
    ) -> None:
        """Name the strings.

        Args:
            tokenizer: Of the policy.
            strings: What ends an answer.
            continues: Answers go on from a plain text; see `Tokenizer.decode`.
        """
        self._continues = continues
        self.strings = tuple(dict.fromkeys(strings))
        if "" in self.strings:
            raise ConfigError("a stop string must not be empty")
        self._tokenizer = tokenizer
        # A token stands for a byte at least, apart from those that stand for nothing.
        self._reach = max((len(text.encode()) for text in self.strings), default=0) + 8

    def __call__(self, row: int, written: Sequence[int]) -> bool:
        """Whether the newest token completed a stop string."""
        newest = written[-self._reach :]
        inside = len(newest) < len(written)  # of a text, not at its beginning
        text = self._tokenizer.decode(newest, continues=inside or self._continues)
        return any(string in text for string in self.strings)

    def cut(self, text: str) -> str:
        """An answer up to its first stop string."""
        ends = [place for string in self.strings if (place := text.find(string)) >= 0]
        return text[: min(ends, default=len(text))]

    def held_back(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of a stop string."""
        return max(
            (
                size
                for string in self.strings
                for size in range(1, min(len(string), len(text) + 1))
                if text.endswith(string[:size])
            ),
            default=0,
        )


class AnswerText:
    """The text of one answer, token by token."""

    def __init__(
        self, tokenizer: Tokenizer, stops: StopStrings | None = None, *, continues: bool = False
    ) -> None:
        """Begin an answer.

        Args:
            tokenizer: Of the policy.
            stops: What cuts it.
            continues: It goes on from a plain text; see `Tokenizer.decode`.
        """
        self._tokenizer, self._stops, self._continues = tokenizer, stops, continues
        self._tokens: list[int] = []
        self._shown = 0

    def push(self, token: int) -> str:
        """What can be shown now that `token` is known; often nothing."""
        self._tokens.append(token)
        return self._new(final=False)

    def finish(self) -> str:
        """What is left to show when the answer is complete."""
        return self._new(final=True)

    @property
    def text(self) -> str:
        """All of the answer so far, without what a stop string cuts off."""
        text = self._tokenizer.decode(self._tokens, continues=self._continues)
        return text if self._stops is None else self._stops.cut(text)

    def _new(self, *, final: bool) -> str:
        whole = self.text
        end = len(whole)
        if not final:
            end = len(whole.rstrip(_HALF))
            if self._stops is not None:
                end -= self._stops.held_back(whole[:end])
        new = whole[self._shown : end]
        self._shown = max(self._shown, end)
        return new

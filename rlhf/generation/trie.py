"""Decoding that can only write one of some answers: a tree of their tokens.

`generate(allowed=...)` asks before every token which may come next. Answers are spelt as the
tokenizer spells them, with and without a blank before, since a text goes on with a blank and a
chat's turn begins without; after a whole answer only an end token may come, or what makes it
another, longer answer. Which answers there are is the caller's part.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from playout.errors import ConfigError

__all__ = ["AnswerTrie"]

Mask = NDArray[np.bool_]


class Speller(Protocol):
    """What is asked of a tokenizer."""

    end_id: int

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts."""


class AnswerTrie:
    """The tokens that may follow what a row has written, so that it ends as one of its answers."""

    def __init__(
        self,
        tokenizer: Speller,
        answers: Sequence[str] | Sequence[Sequence[str] | None],
        *,
        stop: Iterable[int] | None = None,
        size: int = 0,
        spaced: bool = True,
    ) -> None:
        """Spell the answers.

        Args:
            tokenizer: Spells them.
            answers: Texts that every row may write; or for each row its own, None for a row that
                may write anything.
            stop: Tokens that end an answer; by default the tokenizer's.
            size: Tokens of the model's vocabulary; 0 for the tokenizer's.
            spaced: Whether an answer may also begin with a blank.

        Raises:
            ConfigError: A row has no answer, or an empty one.
        """
        self._tokenizer, self._spaced = tokenizer, spaced
        ends = getattr(tokenizer, "stop_ids", None) or (tokenizer.end_id,)
        self._stop = sorted(set(ends if stop is None else stop))
        self._size = size or tokenizer.vocab_size
        self._known: dict[tuple[str, ...], dict[tuple[int, ...], set[int]]] = {}
        self._masks: dict[tuple[int, ...], Mask] = {}
        self._same = all(isinstance(one, str) for one in answers)
        rows = cast(Sequence[Sequence[str] | None], [answers] if self._same else answers)
        self._rows = [None if row is None else self._tree(tuple(row)) for row in rows]

    def _tree(self, answers: tuple[str, ...]) -> dict[tuple[int, ...], set[int]]:
        """Tokens written so far -> those that may come next."""
        if answers in self._known:
            return self._known[answers]
        if not answers or not all(isinstance(one, str) and one for one in answers):
            raise ConfigError("an answer can only be one of some texts, none of them empty")
        spelt = [form for one in answers for form in self._forms(one)]
        tree: dict[tuple[int, ...], set[int]] = {}
        for ids in self._tokenizer.encode_batch(spelt):
            for place, token in enumerate(ids):
                tree.setdefault(tuple(ids[:place]), set()).add(token)
            tree.setdefault(tuple(ids), set()).update(self._stop)
        self._known[answers] = tree
        return tree

    def _forms(self, answer: str) -> list[str]:
        bare = not answer[0].isspace()
        return [answer, f" {answer}"] if self._spaced and bare else [answer]

    def following(self, row: int, written: Sequence[int]) -> tuple[int, ...] | None:
        """Which tokens may come next, sorted ids; None where all may.

        Args:
            row: Whose answer it is.
            written: Token ids of the answer so far.
        """
        tree = self._rows[0 if self._same else row]
        # What left the tree, which only unrestricted tokens do, can but end.
        return None if tree is None else tuple(sorted(tree.get(tuple(written), self._stop)))

    def mask(self, row: int, written: Sequence[int]) -> Mask | None:
        """The same as bool [V]; None where all may."""
        following = self.following(row, written)
        if following is None:
            return None
        found = self._masks.get(following)
        if found is None:
            found = np.zeros(self._size, np.bool_)
            found[list(following)] = True
            found.setflags(write=False)
            self._masks[following] = found
        return found

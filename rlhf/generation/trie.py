"""Decoding that can only write one of some answers: a tree of their tokens.

`generate(allowed=...)` asks before every token which may come next. Answers are spelt as the
tokenizer spells them, with and without a blank before, since a text goes on with a blank and a
chat's turn begins without; after a whole answer only an end token may come, or what makes it
another, longer answer. Which answers there are is the caller's part.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from playout.errors import ConfigError
from playout.rlhf.generation.tokenizer import Tokenizer

__all__ = ["AnswerTrie"]

Mask = NDArray[np.bool_]


class AnswerTrie:
    """The tokens that may follow what a row has written, so that it ends as one of its answers."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        answers: Sequence[Sequence[str] | None],
        *,
        stop: Iterable[int],
    ) -> None:
        """Spell the answers.

        Args:
            tokenizer: Spells them.
            answers: The texts of each row; None for a row that may write anything.
            stop: Tokens that end an answer.

        Raises:
            ConfigError: A row has no answer, or an empty one.
        """
        self._tokenizer, self._stop = tokenizer, sorted(set(stop))
        self._known: dict[tuple[str, ...], dict[tuple[int, ...], set[int]]] = {}
        self._masks: dict[tuple[int, ...], Mask] = {}
        self._rows = [None if row is None else self._tree(tuple(row)) for row in answers]

    def _tree(self, answers: tuple[str, ...]) -> dict[tuple[int, ...], set[int]]:
        """Tokens written so far -> those that may come next."""
        if answers in self._known:
            return self._known[answers]
        if not answers or not all(isinstance(one, str) and one for one in answers):
            raise ConfigError("an answer can only be one of some texts, none of them empty")
        blanks = (f" {one}" for one in answers if not one[0].isspace())
        spelt = [*answers, *blanks]
        tree: dict[tuple[int, ...], set[int]] = {}
        for ids in self._tokenizer.encode_batch(spelt, continues=True):
            for place, token in enumerate(ids):
                tree.setdefault(tuple(ids[:place]), set()).add(token)
            tree.setdefault(tuple(ids), set()).update(self._stop)
        self._known[answers] = tree
        return tree

    def following(self, row: int, written: Sequence[int]) -> tuple[int, ...] | None:
        """Which tokens may come next, sorted ids; None where all may.

        Args:
            row: Whose answer it is.
            written: Token ids of the answer so far.
        """
        tree = self._rows[row]
        # What left the tree, which only unrestricted tokens do, can but end.
        return None if tree is None else tuple(sorted(tree.get(tuple(written), self._stop)))

    def longest(self, row: int) -> int:
        """Tokens of the longest way to write an answer, its end token included; 0 where any may."""
        tree = self._rows[row]
        return 0 if tree is None else 1 + max(map(len, tree))

    def mask(self, row: int, written: Sequence[int]) -> Mask | None:
        """The same as bool [V]; None where all may."""
        following = self.following(row, written)
        if following is None:
            return None
        found = self._masks.get(following)
        if found is None:
            found = np.zeros(self._tokenizer.vocab_size, np.bool_)
            found[list(following)] = True
            found.setflags(write=False)
            self._masks[following] = found
        return found

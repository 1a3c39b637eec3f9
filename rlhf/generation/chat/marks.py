"""What people say as characters in a text that a chat template writes, whatever it spells.

Special tokens that a template writes are tokens, those that a message spells are not. In what a
template is given each such spelling is one private character, and so nothing of it is read as a
token afterwards. What becomes of these characters is tokenizer.py's `encode_special`.
"""

import re

from playout.rlhf.generation.tokenizer import Tokenizer

__all__ = ["END", "Marks"]

END = "\U0010fffd"  # stands for the token that ends an answer where a template writes none
_FIRST = 0x100000  # of the private characters of the last plane


class Marks:
    """Private characters and the spellings that they stand for.

    Attributes:
        spelt: Character -> text in which nothing is a token.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        names = sorted(filter(None, tokenizer.special_spellings), key=lambda name: -len(name))
        # A private character of the text's own could be taken for one of these.
        parts = [*map(re.escape, names), f"[{chr(_FIRST)}-{END}]"]
        self._pattern = re.compile("|".join(parts))
        self._marks: dict[str, str] = {}
        self.spelt: dict[str, str] = {}

    def hide(self, text: str) -> str:
        """A text in which each spelling of a special token is one private character."""
        return self._pattern.sub(self._mark, text)

    def _mark(self, found: re.Match[str]) -> str:
        text = found.group()
        if text not in self._marks:
            mark = chr(_FIRST + len(self._marks))
            self._marks[text], self.spelt[mark] = mark, text
        return self._marks[text]

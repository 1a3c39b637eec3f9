"""From records to tensors: windows of a corpus, padded rows, packed rows, and their order.

Which records make up the batch of a step is a pure function of the seed and the step, so a resumed
run needs no saved position. Rows are padded on the right. Masking for encoders is
supervised/masked.py's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from playout.agents.runs.devices import pack_to_device
from playout.errors import DataError
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.layers.lm_head import IGNORE
from torch import Tensor

__all__ = [
    "Corpus",
    "Packed",
    "batch_of",
    "by_length",
    "by_tokens",
    "num_targets",
    "pack",
    "pad_right",
    "target_places",
]

# Of one forward pass where nothing is learned.
BATCH_TOKENS = 8192

TokenArray = np.ndarray[tuple[int], np.dtype[np.int32]]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents joined into one row of tokens, an end token before and after each."""

    tokens: TokenArray
    num_bytes: int
    """Of the text, for bits per byte."""

    @classmethod
    def of(cls, tokenizer: Tokenizer, texts: Sequence[str]) -> "Corpus":
        """Encode documents in their order."""
        end = [tokenizer.end_id]
        parts = [np.array(end, dtype=np.int32)]
        for ids in tokenizer.encode_batch(texts):
            parts.append(np.array([*ids, *end], dtype=np.int32))
        return cls(np.concatenate(parts), sum(len(text.encode()) for text in texts))

    def windows(self, step: int, *, rows: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs and next tokens [rows, length] at random places."""
        num_starts = len(self.tokens) - length
        if num_starts < 1:
            raise DataError(
                f"the text has {len(self.tokens)} tokens, fewer than a row of {length + 1}; "
                "give more text or a smaller --length"
            )
        starts = np.random.default_rng([seed, 11, step]).integers(0, num_starts, size=rows)
        return self._cut(starts, length)

    def all_windows(self, *, rows: int, length: int) -> list[tuple[Tensor, Tensor]]:
        """The whole corpus once, in batches of consecutive windows; targets beyond it ignored."""
        starts = np.arange(0, len(self.tokens) - 1, length)
        return [
            self._cut(starts[first : first + rows], length) for first in range(0, len(starts), rows)
        ]

    def _cut(self, starts: np.ndarray, length: int) -> tuple[Tensor, Tensor]:
        places = starts[:, None] + np.arange(length + 1)
        outside = places >= len(self.tokens)
        ids = self.tokens[np.minimum(places, len(self.tokens) - 1)].astype(np.int64)
        targets = np.where(outside, IGNORE, ids)
        return torch.from_numpy(ids[:, :-1].copy()), torch.from_numpy(targets[:, 1:].copy())


def batch_of(count: int, size: int, step: int, *, seed: int) -> list[int]:
    """Indices of the records of a step: a new random order each pass, no record left out."""
    size = min(size, count)
    chosen: list[int] = []
    place = step * size
    while len(chosen) < size:
        order = np.random.default_rng([seed, 12, place // count]).permutation(count)
        part = order[place % count :][: size - len(chosen)]
        chosen += part.tolist()
        place += len(part)
    return chosen


def target_places(targets: Tensor) -> Tensor:
    """Numbers int64 [N] of the flattened tokens that have a target, on the processor."""
    return (targets.reshape(-1) != IGNORE).nonzero()[:, 0]


def pad_right(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids [B, longest] and lengths [B]."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), pad, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids, lengths


@dataclass(frozen=True, slots=True)
class Packed:
    """Several texts a row; R rows of L tokens."""

    ids: Tensor
    """int64 [R, L]."""
    targets: Tensor
    """int64 [R, L], the next token where it is to be learned."""
    segments: Tensor
    """int64 [R, L], number of the text in its row from 1 on, 0 at padding."""
    positions: Tensor
    """int64 [R, L], place within the text."""
    places: Tensor
    """int64 [N], numbers of the flattened tokens that have a target."""

    @property
    def shares_rows(self) -> bool:
        """Whether any row holds more than one text; asked before it goes to a device."""
        return bool((self.segments > 1).any())

    def to(self, device: torch.device) -> "Packed":
        """The same on a device, in one crossing."""
        return Packed(*pack_to_device([getattr(self, name) for name in Packed.__slots__], device))


def _first_fit(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Numbers of the texts of each row, longest texts first."""
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    rows: list[list[int]] = []
    free: list[int] = []
    for index in order:
        need = min(sizes[index], length)
        row = next((row for row, left in enumerate(free) if left >= need), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(length)
        rows[row].append(index)
        free[row] -= need
    return rows


def by_tokens(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of texts to be read together, similar sizes in tokens, the longest texts first."""
    order = sorted(range(len(sizes)), key=lambda n: sizes[n])
    while order:
        # The longest of the rest decides how many go together.
        count = max(1, BATCH_TOKENS // sizes[order[-1]])
        yield order[-count:]
        del order[-count:]


def by_length(sizes: Sequence[int], *, length: int, other: int) -> list[tuple[list[int], int]]:
    """Divide texts into packs, each with rows of a length of its own, where this costs less.

    A token costs what it looks at, which is all of its row, and the products of its layers. Texts
    of one length in one row each look at nothing in vain.

    Args:
        sizes: Tokens of the texts.
        length: The longest row.
        other: What a token costs besides attention, in tokens that it looks at.

    Returns:
        For each pack the numbers of its texts, and the tokens of its rows.
    """
    sizes = [min(size, length) for size in sizes]
    parts: dict[int, list[int]] = {}
    for number, size in enumerate(sizes):
        parts.setdefault(max(size - 1, 0).bit_length(), []).append(number)

    def cheapest(numbers: list[int], lengths: Sequence[int]) -> tuple[int, int]:
        own = [sizes[i] for i in numbers]
        return min((len(_first_fit(own, row)) * row * (other + row), row) for row in lengths)

    whole = list(range(len(sizes)))
    found = []
    spent = 0
    for _, numbers in sorted(parts.items()):
        longest = max(sizes[i] for i in numbers)
        cost, row = cheapest(numbers, [min(length, longest * many) for many in (1, 2, 4)])
        found.append((numbers, row))
        spent += cost
    return found if spent < cheapest(whole, [length])[0] else [(whole, length)]


def num_targets(text: tuple[Sequence[int], int | Sequence[bool]], length: int) -> int:
    """How many tokens of a text `pack` makes targets of, in rows of `length`."""
    tokens, prompt = text
    stop = min(len(tokens), length)
    if isinstance(prompt, int):
        return max(stop - max(prompt, 1), 0)
    return sum(prompt[1:stop])


def pack(
    texts: Sequence[tuple[Sequence[int], int | Sequence[bool]]], *, length: int, pad: int
) -> Packed:
    """Put texts into as few rows as first-fit finds, longest first.

    Args:
        texts: Token ids, and the number of leading ids that are not to be learned, or of each id
            whether it is.
        length: Tokens a row; longer texts are cut.
        pad: Fills the rows.
    """
    rows = _first_fit([len(ids) for ids, _ in texts], length)
    shape = len(rows), length
    ids, targets = np.full(shape, pad), np.full(shape, IGNORE)
    segments, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, members in enumerate(rows):
        place = 0
        for number, index in enumerate(members, 1):
            tokens, prompt = list(texts[index][0])[:length], texts[index][1]
            stop = place + len(tokens)
            ids[row, place:stop] = tokens
            # Position i predicts token i + 1; the first learned token is number `prompt`.
            if isinstance(prompt, int):
                first = max(prompt, 1)
                targets[row, place + first - 1 : stop - 1] = tokens[first:]
            else:
                learned = np.array(prompt[1 : len(tokens)], dtype=bool)
                targets[row, place : stop - 1][learned] = np.array(tokens[1:])[learned]
            segments[row, place:stop] = number
            positions[row, place:stop] = np.arange(len(tokens))
            place = stop
    arrays = ids, targets, segments, positions
    ids_, targets_, segments_, positions_ = (torch.from_numpy(array) for array in arrays)
    return Packed(ids_, targets_, segments_, positions_, target_places(targets_))

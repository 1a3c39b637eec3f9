"""The loop that writes answers: many rows side by side, from one cache of what they hold.

Rows that write lie first in the decoder's cache; those that have answered leave the batch as soon
as enough of them have, for good or to wait behind until they go on with what others said. What is
sampled for a row depends on the weights, the seed and the row's stream, not on the batch around it:
each row's arithmetic is laid out the same way whatever stands beside it. Single prompts are
generate.py's, who speaks to the rows of episodes is online/engine.py's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.runs.devices import to_device
from playout.errors import ConfigError
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.sampling import SamplingConfig, Seen, choose, on_host, uniforms
from playout.rlhf.model.reference import must_be_finite
from torch import Tensor

__all__ = ["AllowedTokens", "Answers", "CachedRows", "WritingRules", "Written"]

# A float32 product of fewer rows may take another path in the library and end in other bits.
_MIN_ROWS = 8
# Elsewhere than on a processor, tokens are looked at (has everybody ended?) every so many steps:
# to look is to wait for the device.
_LOOK_EVERY = 16

Rows = NDArray[np.int64]


class AllowedTokens(Protocol):
    """Restricts what may be written."""

    def mask(self, row: int, written: Sequence[int]) -> NDArray[np.bool_] | None:
        """Which tokens may come next, bool [V], at least one; None allows all.

        Args:
            row: Number of the answer.
            written: Its tokens so far.
        """


class Written(NamedTuple):
    """One complete answer."""

    tokens: list[int]
    """What ended it included."""
    logprobs: list[float]
    finished: bool
    """It came to its end before it was as long as it may be."""
    stopped: bool
    """Its last token is a stop token."""


@dataclass(frozen=True, slots=True)
class WritingRules:
    """How answers are written; each function is given the number of the answer first."""

    sampling: SamplingConfig
    stop_ids: Sequence[int]
    """Tokens that end an answer."""
    seed: int
    ends: Callable[[int, Sequence[int]], bool] | None = None
    """Asked with the answer's tokens after each; True ends the answer."""
    allowed: AllowedTokens | None = None
    """Restricts the next token."""
    listen: Callable[[int, int, float], None] | None = None
    """Told each token and its log-probability as soon as it is chosen."""
    done: Callable[[int, Written], None] | None = None
    """Told an answer as soon as it is complete."""
    pad: int = 0
    """Fills the rows of the result."""
    first: int = 0
    """Number of the first answer."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What n rows wrote; N is the longest answer."""

    tokens: NDArray[np.int64]
    """[n, N], stop tokens included, padded on the right."""
    logprobs: NDArray[np.float32]
    """[n, N], 0 at padding."""
    lengths: Rows
    """[n]."""
    stopped: NDArray[np.bool_]
    """[n], the last token is a stop token."""
    ended: NDArray[np.bool_]
    """[n], the answer ended by a stop token or by `ends`, and was not cut."""


class CachedRows:
    """The cache of n rows, and which of them write.

    Attributes:
        held: Tokens of each row that lie in the cache, int64 [n]; of an answer, all but the last
            token.
    """

    def __init__(
        self, decoder: Decoder, count: int, *, exact: bool = True, again: bool = True
    ) -> None:
        """Read nothing yet.

        Args:
            decoder: What reads and writes.
            count: Number of rows.
            exact: A row's bits do not depend on their number.
            again: Rows that have answered may go on later; else their places are given up.
        """
        self.decoder, self._again = decoder, again
        self._min_rows = _MIN_ROWS if exact and decoder.dtype == torch.float32 else 1
        spare = self._min_rows - (1 if again else min(count, self._min_rows))
        # Which row lies at each place of the cache; -1 is scratch.
        self._order = np.concatenate([np.arange(count), np.full(spare, -1)]).astype(np.int64)
        self.held = np.zeros(count, np.int64)
        self._active = 0

    def begin(self, prompts: Sequence[Sequence[int]], length: int) -> Tensor:
        """Read the prompts of all rows; logits [b, V] after them.

        Args:
            prompts: Token ids, at least one each.
            length: The most tokens that a row will hold with its answer.
        """
        count = len(prompts)
        sizes = np.array([len(prompt) for prompt in prompts])
        self.decoder.allocate(len(self._order), length)
        # Rows beyond `count` repeat the last prompt, in scratch places.
        rows = np.minimum(np.arange(max(count, self._min_rows)), count - 1)
        ids = np.zeros((count, sizes.max()), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        self.held[:], self._active = sizes, len(rows)
        parts = torch.from_numpy(ids[rows]), torch.from_numpy(sizes[rows])
        logits = self.decoder.prefill(*parts, min_rows=self._min_rows)
        if self.decoder.compiled:
            # Its rows are alike however many there are, so that only the prompts had company.
            self._min_rows, self._active = 1, count
            self.decoder.arrange(torch.arange(count), torch.from_numpy(sizes), count)
        return logits[: self._active]

    def go_on(self, rows: Rows, parts: Sequence[Sequence[int]], length: int) -> Tensor:
        """Append tokens to some rows, which then write; logits [b, V] after them.

        Args:
            rows: Their numbers.
            parts: What each reads, the last token of its own answer first.
            length: The most tokens that a row will hold with its answer.
        """
        sizes = np.array([len(part) for part in parts])
        self.decoder.grow(length)
        self._arrange(rows)
        ids = np.zeros((self._active, sizes.max()), np.int64)
        for row, part in enumerate(parts):
            ids[row, : len(part)] = part
        counts = np.ones(self._active, np.int64)
        counts[: len(rows)] = sizes
        self.held[rows] += sizes
        return self.decoder.extend(torch.from_numpy(ids), torch.from_numpy(counts))

    def _arrange(self, rows: Rows) -> None:
        """Bring rows to the front, with scratch behind them as far as there must be rows."""
        place = np.full(len(self.held), -1)
        taken = self._order >= 0
        place[self._order[taken]] = np.nonzero(taken)[0]
        front = place[rows]
        others = np.setdiff1d(np.arange(len(self._order)), front)
        free = others[~taken[others]] if self._again else others
        fill = free[: max(0, self._min_rows - len(front))]
        self._order[fill] = -1
        waiting = np.setdiff1d(others, fill) if self._again else fill[:0]
        order = np.concatenate([front, fill, waiting])
        self._order = self._order[order]
        lengths = np.where(self._order >= 0, self.held[self._order], self.held[rows].min())
        self._active = len(front) + len(fill)
        self.decoder.arrange(torch.from_numpy(order), torch.from_numpy(lengths), self._active)

    @torch.no_grad()
    def write(
        self,
        rows: Rows,
        logits: Tensor,
        streams: Rows,
        budgets: Rows,
        rules: WritingRules,
        seen: Seen | None = None,
    ) -> Answers:
        """Let the rows that `begin` or `go_on` brought to the front answer.

        Args:
            rows: Their numbers, in that order; answers are numbered as they stand here.
            logits: What these gave.
            streams: int64 [n], names of their random numbers.
            budgets: int64 [n], the longest answer of each.
            rules: How tokens are chosen and when an answer ends.
            seen: The tokens of each row of `logits` that a penalty is for; None penalises none.
        """
        count, steps, device = len(rows), int(budgets.max()), self.decoder.device
        hooks = rules.ends, rules.allowed, rules.listen
        looks = device.type == "cpu" or any(hook is not None for hook in hooks)
        tokens = np.full((count, steps), rules.pad, np.int64)
        logprobs = np.zeros((count, steps), np.float32)
        lengths = budgets.copy()
        over, stopped, ended = np.zeros((3, count), bool)
        begun = self.held[rows]
        lines = np.full(self._active, -1)  # of each active place, its line among `rows`
        lines[:count] = places = np.arange(count)  # places of those that write
        short = budgets < steps
        u = to_device(uniforms(rules.seed, streams, steps)[lines], device)
        unseen: list[tuple[Tensor, Tensor]] = []  # tokens and their log-probabilities, not fetched
        for step in range(steps):
            if rules.allowed is not None:
                _restrict(logits, rules, lines, tokens[:, :step], over)
            if seen is not None:
                seen.penalise(logits)
            chosen, chosen_logprobs = choose(logits, u[:, step], rules.sampling)
            if seen is not None:
                seen.add(chosen)
            unseen.append((chosen, chosen_logprobs))
            waits = not looks and len(unseen) < _LOOK_EVERY
            if waits and not (budgets == step + 1).any():
                logits = self.decoder.step(chosen)
                continue
            first = step + 1 - len(unseen)
            for number, (picked, picked_logprobs) in enumerate(on_host(unseen), first):
                must_be_finite(picked_logprobs)
                live = lines[places]
                tokens[live, number] = picked[places]
                logprobs[live, number] = picked_logprobs[places]
                met = live[np.isin(picked[places], rules.stop_ids)]
                stopped[met] = ended[met] = True
                written, sure = tokens[:, : number + 1], logprobs[:, : number + 1]
                _tell(rules, live, written, sure, ended)
                done = live[ended[live] | (budgets[live] == number + 1)]
                lengths[done], over[done] = number + 1, True
                places = places[~over[live]]
                if rules.done is not None:
                    for line in done.tolist():
                        answer = written[line].tolist(), sure[line].tolist()
                        how = bool(ended[line]), bool(stopped[line])
                        rules.done(rules.first + line, Written(*answer, *how))
            unseen = []
            if not len(places):
                break
            # A row that may write less than others must leave before it runs out of places.
            full = bool(short.any()) and bool((over & short)[lines[lines >= 0]].any())
            if full or max(len(places), self._min_rows) <= 0.75 * len(lines):
                kept_lines = lines[places]
                self.held[rows[over]] = (begun + lengths - 1)[over]
                self.held[rows[kept_lines]] = begun[kept_lines] + step
                self._arrange(rows[kept_lines])
                lines = np.full(self._active, -1)
                lines[: len(places)] = kept_lines
                index = np.zeros(self._active, np.int64)
                index[: len(places)] = places
                places = np.arange(len(places))
                at = to_device(index, device)
                chosen, u = chosen[at], u[at]
                if seen is not None:
                    seen.keep(at)
            logits = self.decoder.step(chosen)
        self.held[rows] = begun + lengths - 1
        width = int(lengths.max())
        return Answers(tokens[:, :width], logprobs[:, :width], lengths, stopped, ended)


def _restrict(
    logits: Tensor,
    rules: WritingRules,
    lines: Rows,
    written: NDArray[np.int64],
    over: NDArray[np.bool_],
) -> None:
    """Take tokens that may not follow out of `logits` [b, V]."""
    assert rules.allowed is not None
    mask = np.ones(tuple(logits.shape), bool)
    for place, line in enumerate(lines.tolist()):
        if line < 0 or over[line]:
            continue
        number = rules.first + line
        found = rules.allowed.mask(number, written[line].tolist())
        if found is not None:
            mask[place, : len(found)], mask[place, len(found) :] = found, False
            if not mask[place].any():
                raise ConfigError(f"no token is allowed to follow in the answer to prompt {number}")
    logits.masked_fill_(to_device(torch.from_numpy(~mask), logits.device), -torch.inf)


def _tell(
    rules: WritingRules,
    live: Rows,
    tokens: NDArray[np.int64],
    logprobs: NDArray[np.float32],
    ended: NDArray[np.bool_],
) -> None:
    """Report the newest tokens of live rows, and note whom `ends` lets end with them."""
    if rules.listen is None and rules.ends is None:
        return
    for line in live.tolist():
        number = rules.first + line
        if rules.listen is not None:
            rules.listen(number, int(tokens[line, -1]), float(logprobs[line, -1]))
        if rules.ends is not None and not ended[line]:
            ended[line] = rules.ends(number, tokens[line].tolist())

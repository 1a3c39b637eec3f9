"""Answers of many episodes side by side, from one cache that keeps what was said before.

Each episode has a row of the decoder's cache for as long as it lasts. Rows that write lie first,
rows that have answered wait behind them, and what others said is appended to the rows that go on.
What is sampled for a row depends on the seed and the row's stream alone. Who speaks to the rows is
engine.py's, generation for single prompts is generation/generate.py's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.runs.devices import to_device
from playout.errors import ConfigError
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.sampling import SamplingConfig, choose, on_host, uniforms
from playout.rlhf.model.reference import must_be_finite
from torch import Tensor

__all__ = ["Answers", "CachedRows", "WritingRules"]

# A float32 product of fewer rows may take another path in the library and end in other bits.
_MIN_ROWS = 8
# Elsewhere than on a processor tokens are looked at every so many steps: to look is to wait.
_LOOK_EVERY = 16

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WritingRules:
    """How answers are written."""

    sampling: SamplingConfig
    stop_ids: Sequence[int]
    """Tokens that end an answer."""
    seed: int
    ends: Callable[[int, Sequence[int]], bool] | None = None
    """Asked with the row and its answer's tokens after each; True ends the answer."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What n rows wrote; N is the longest answer."""

    tokens: NDArray[np.int64]
    """[n, N], stop tokens included, filled with 0."""
    logprobs: NDArray[np.float32]
    """[n, N]."""
    lengths: Rows
    """[n]."""
    stopped: NDArray[np.bool_]
    """[n], the last token is a stop token."""
    ended: NDArray[np.bool_]
    """[n], the answer ended by a stop token or by `ends`, and was not cut."""


class CachedRows:
    """The cache of n episodes, and which of them write.

    Attributes:
        held: Tokens of each episode that lie in the cache, int64 [n]; of an answer, all but the
            last token.
    """

    def __init__(self, decoder: Decoder, count: int, *, exact: bool = True) -> None:
        """Room for `count` episodes; `exact` keeps their bits apart from their number."""
        self.decoder = decoder
        self.min_rows = _MIN_ROWS if exact and decoder.dtype == torch.float32 else 1
        spare = self.min_rows if self.min_rows > 1 else 0
        # Which episode lies at each place of the cache; -1 is scratch.
        self._order = np.concatenate([np.arange(count), np.full(spare, -1)]).astype(np.int64)
        self.held = np.zeros(count, np.int64)
        self._active = 0

    def begin(self, prompts: Sequence[Sequence[int]], length: int) -> Tensor:
        """Read the prompts of all episodes; logits [b, V] after them.

        Args:
            prompts: Token ids, at least one each.
            length: The most tokens that a row will hold with its answer.
        """
        count = len(prompts)
        sizes = np.array([len(prompt) for prompt in prompts])
        self.decoder.allocate(len(self._order), length)
        # Rows beyond `count` repeat the last prompt, in scratch places.
        rows = np.minimum(np.arange(max(count, self.min_rows)), count - 1)
        ids = np.zeros((count, sizes.max()), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        self.held[:], self._active = sizes, len(rows)
        parts = torch.from_numpy(ids[rows]), torch.from_numpy(sizes[rows])
        return self.decoder.prefill(*parts, min_rows=self.min_rows)

    def go_on(self, rows: Rows, parts: Sequence[Sequence[int]], length: int) -> Tensor:
        """Append tokens to some episodes, which then write; logits [b, V] after them.

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
        """Bring episodes to the front, with scratch behind them as far as there must be rows."""
        place = np.full(len(self.held), -1)
        taken = self._order >= 0
        place[self._order[taken]] = np.nonzero(taken)[0]
        scratch = np.nonzero(~taken)[0]
        front = place[rows]
        fill = scratch[: max(0, self.min_rows - len(front))]
        waiting = np.setdiff1d(np.arange(len(self._order)), np.concatenate([front, fill]))
        order = np.concatenate([front, fill, waiting])
        self._order = self._order[order]
        lengths = np.where(self._order >= 0, self.held[self._order], 1)
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
        allowed: Sequence[Callable[[Sequence[int]], NDArray[np.bool_] | None] | None] = (),
    ) -> Answers:
        """Let the episodes that `begin` or `go_on` brought to the front answer.

        Args:
            rows: Their numbers, in that order.
            logits: What these gave.
            streams: int64 [n], names of their random numbers.
            budgets: int64 [n], the longest answer of each.
            rules: How tokens are chosen and when an answer ends.
            allowed: For each row, None or what gives the tokens that may follow those written,
                bool [V]; none at all where empty.
        """
        count, steps, device = len(rows), int(budgets.max()), self.decoder.device
        looks = device.type == "cpu" or bool(allowed) or rules.ends is not None
        every = 1 if looks else _LOOK_EVERY
        tokens = np.zeros((count, steps), np.int64)
        logprobs = np.zeros((count, steps), np.float32)
        lengths = budgets.copy()
        over, stopped, ended = np.zeros((3, count), bool)
        begun = self.held[rows]
        lines = np.full(self._active, -1)  # of each active place, its line among `rows`
        lines[:count] = np.arange(count)
        u = to_device(uniforms(rules.seed, streams, steps)[lines], device)
        unseen: list[tuple[Tensor, Tensor]] = []
        for step in range(steps):
            if allowed:
                _restrict(logits, allowed, lines, tokens[:, :step], over)
            chosen, chosen_logprobs = choose(logits, u[:, step], rules.sampling)
            unseen.append((chosen, chosen_logprobs))
            if len(unseen) < every and not (budgets == step + 1).any():
                logits = self.decoder.step(chosen)
                continue
            first = step + 1 - len(unseen)
            for number, (picked, picked_logprobs) in enumerate(on_host(unseen), first):
                must_be_finite(picked_logprobs)
                places = np.nonzero((lines >= 0) & ~over[lines])[0]
                live = lines[places]
                tokens[live, number] = picked[places]
                logprobs[live, number] = picked_logprobs[places]
                met = np.isin(picked[places], rules.stop_ids)
                stopped[live[met]] = True
                if rules.ends is not None:
                    for line in live[~met].tolist():
                        if rules.ends(int(rows[line]), tokens[line, : number + 1].tolist()):
                            ended[line] = True
                ended[live[met]] = True
                done = live[ended[live] | (budgets[live] == number + 1)]
                lengths[done], over[done] = number + 1, True
            unseen = []
            left = np.nonzero(~over)[0]
            if not len(left):
                break
            # A row that may write less than others must leave before it runs out of places.
            full = bool((over & (budgets < steps))[lines[lines >= 0]].any())
            if full or max(len(left), self.min_rows) <= 0.75 * len(lines):
                kept = np.nonzero((lines >= 0) & ~over[lines])[0]
                kept_lines = lines[kept]
                self.held[rows[over]] = (begun + lengths - 1)[over]
                self.held[rows[kept_lines]] = begun[kept_lines] + step
                self._arrange(rows[kept_lines])
                lines = np.full(self._active, -1)
                lines[: len(kept)] = kept_lines
                index = np.zeros(self._active, np.int64)
                index[: len(kept)] = kept
                at = to_device(index, device)
                chosen, u = chosen[at], u[at]
            logits = self.decoder.step(chosen)
        self.held[rows] = begun + lengths - 1
        width = int(lengths.max())
        return Answers(tokens[:, :width], logprobs[:, :width], lengths, stopped, ended)


def _restrict(
    logits: Tensor,
    allowed: Sequence[Callable[[Sequence[int]], NDArray[np.bool_] | None] | None],
    lines: Rows,
    written: NDArray[np.int64],
    over: NDArray[np.bool_],
) -> None:
    """Take tokens that may not follow out of `logits` [b, V]."""
    mask = np.ones(tuple(logits.shape), bool)
    for place, line in enumerate(lines.tolist()):
        ask = allowed[line] if line >= 0 and not over[line] else None
        found = None if ask is None else ask(written[line].tolist())
        if found is not None:
            mask[place, : len(found)], mask[place, len(found) :] = found, False
            if not mask[place].any():
                raise ConfigError("no token is allowed to follow in an answer")
    logits.masked_fill_(to_device(torch.from_numpy(~mask), logits.device), -torch.inf)

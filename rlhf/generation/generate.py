"""Text generation: prompts in, sampled answers with their log-probabilities out.

Rows that have met a stop token leave the batch as soon as enough of them have. What is sampled for
a prompt depends on the weights, the seed and the prompt's stream, not on the batch around it: each
row's arithmetic is laid out the same way whatever stands beside it (tests hold the library to
that in float32 and bfloat16). Text and its tokens are responses.py's.
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
from playout.rlhf.model.transformer import Transformer
from torch import Tensor

__all__ = ["AllowedTokens", "Generation", "Written", "generate"]

# Elsewhere than on a processor, tokens are looked at (has everybody ended?) every so many steps:
# to look is to wait for the device.
LOOK_EVERY = 16


class AllowedTokens(Protocol):
    """Restricts what may be written."""

    def mask(self, row: int, written: Sequence[int]) -> NDArray[np.bool_] | None:
        """Which tokens may come next, bool [V], at least one; None allows all.

        Args:
            row: Number of the prompt.
            written: Tokens of its answer so far.
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
class _Rules:
    """How answers are written, whatever the prompts are; see `generate`."""

    sampling: SamplingConfig
    stop: Sequence[int]
    pad: int
    ends: Callable[[int, Sequence[int]], bool] | None
    allowed: AllowedTokens | None
    listen: Callable[[int, int, float], None] | None
    done: Callable[[int, Written], None] | None

    @property
    def looks(self) -> bool:
        """Whether every token is looked at before the next is chosen."""
        return not (self.ends is None and self.allowed is None and self.listen is None)


@dataclass(frozen=True, slots=True)
class Generation:
    """What was generated; B prompts, N the longest answer."""

    prompts: list[list[int]]
    """Token ids of each prompt."""
    responses: Tensor
    """int64 [B, N], the stop token included, padded on the right."""
    lengths: Tensor
    """int64 [B], tokens of each response, the stop token included."""
    logprobs: Tensor
    """float32 [B, N] of the tokens at the sampling temperature, 0 at padding."""
    finished: Tensor
    """bool [B], whether the answer came to its end before it was as long as it may be."""
    stopped: Tensor
    """bool [B], whether its last token is a stop token."""

    def response(self, row: int, *, stop: bool = False) -> list[int]:
        """Token ids of one answer, without its stop token unless asked for."""
        length = int(self.lengths[row])
        if bool(self.stopped[row]) and not stop:
            length -= 1
        return self.responses[row, :length].tolist()

    def sequences(self, pad: int) -> tuple[Tensor, Tensor, Tensor]:
        """Prompt and answer joined: ids [B, L], padded on the right, prompt and whole lengths."""
        starts = torch.tensor([len(prompt) for prompt in self.prompts])
        ends = starts + self.lengths
        ids = torch.full((len(self.prompts), int(ends.max())), pad, dtype=torch.long)
        for row, prompt in enumerate(self.prompts):
            count = int(self.lengths[row])
            ids[row, : len(prompt)] = torch.tensor(prompt)
            ids[row, len(prompt) : len(prompt) + count] = self.responses[row, :count]
        return ids, starts, ends


def generate(
    model: Transformer | Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop: Sequence[int] = (),
    pad: int = 0,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    streams: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    exact: bool = True,
    compiled: bool | None = None,
    max_rows: int = 256,
    ends: Callable[[int, Sequence[int]], bool] | None = None,
    allowed: AllowedTokens | None = None,
    listen: Callable[[int, int, float], None] | None = None,
    done: Callable[[int, Written], None] | None = None,
    cached: Sequence[int] = (),
) -> Generation:
    """Sample one answer a prompt.

    Args:
        model: A decoder; a `Decoder` made of it saves preparing the weights in every call.
        prompts: Token ids, at least one each.
        max_new_tokens: Longest answer.
        stop: Tokens that end an answer.
        pad: Fills the rows of the result.
        sampling: How tokens are chosen; plain sampling by default.
        seed: Of all randomness.
        streams: Names each prompt's random numbers; 0, 1, 2, ... by default.
        dtype: Of the weights while decoding (a `Decoder` keeps its own).
        exact: Samples do not depend on the batch.
        compiled: Up to 16 rows on a processor take the compiled step, 1.3 to 4 times faster, which
            ends in bits of its own; by default where samples need not be exact.
        max_rows: More prompts than this are answered in several batches.
        ends: Asked after every token with the prompt's number and the tokens of its answer so far;
            True ends the answer there (stops.py's strings).
        allowed: Restricts the next token; log-probabilities are then those of the restricted
            distribution.
        listen: Told the prompt's number, token and log-probability as soon as a token is chosen.
        done: Told the prompt's number and its answer as soon as that is complete.
        cached: Tokens that the first row of a `Decoder` holds from an earlier call; what a single
            prompt begins with of them is not read again. Only where answers need not be exact.
    """
    sampling = sampling or SamplingConfig()
    if len(cached) and (exact or len(prompts) != 1):
        raise ConfigError("what is cached serves a single prompt whose answer need not be exact")
    names = np.arange(len(prompts)) if streams is None else np.asarray(streams)
    _check(model, prompts, names, max_new_tokens)
    decoder = model if isinstance(model, Decoder) else Decoder(model, dtype=dtype)
    # A float32 product of fewer rows may take another path in the library and end in other bits.
    min_rows = 8 if exact and decoder.dtype == torch.float32 else 1
    longest = max(len(prompt) for prompt in prompts)
    decoder.compiled = not exact if compiled is None else compiled
    decoder.allocate(max(min_rows, min(max_rows, len(prompts))), longest + max_new_tokens)
    rules = _Rules(sampling, stop, pad, ends, allowed, listen, done)
    parts = []
    for start in range(0, len(prompts), max_rows):
        rows = slice(start, start + max_rows)
        u = uniforms(seed, names[rows], max_new_tokens)
        parts.append(_generate_batch(decoder, prompts[rows], u, rules, min_rows, start, cached))
    tokens, logprobs = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    lengths, finished, stopped = (torch.cat([part[i] for part in parts]) for i in (2, 3, 4))
    width = int(lengths.max())
    return Generation(
        prompts=[list(prompt) for prompt in prompts],
        responses=tokens[:, :width],
        lengths=lengths,
        logprobs=logprobs[:, :width],
        finished=finished,
        stopped=stopped,
    )


@torch.no_grad()
def _generate_batch(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    u: Tensor,
    rules: _Rules,
    min_rows: int,
    first_row: int,
    cached: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One batch: tokens and log-probabilities [B, N], lengths, finished and stopped [B]."""
    count, steps = u.shape
    device = decoder.device
    every = 1 if device.type == "cpu" or rules.looks else LOOK_EVERY
    tokens = np.full((count, steps), rules.pad)
    logprobs = np.zeros((count, steps), dtype=np.float32)
    lengths, finished, stopped = np.full(count, steps), *np.zeros((2, count), dtype=bool)

    # Rows beyond `count` repeat the last prompt; what they write is what it writes.
    rows = np.minimum(np.arange(max(count, min_rows)), count - 1)
    sizes = np.array([len(prompt) for prompt in prompts])
    ids = np.full((count, sizes.max()), rules.pad)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
    known = _shared(cached, prompts[0])
    if known:
        decoder.arrange(torch.zeros(1, dtype=torch.long), torch.tensor([known]), 1)
        rest = torch.from_numpy(ids[:1, known:])
        logits = decoder.extend(rest, torch.tensor([rest.shape[1]]))
    else:
        parts = torch.from_numpy(ids[rows]), torch.from_numpy(sizes[rows])
        logits = decoder.prefill(*parts, min_rows=min_rows)
    if (
        decoder.compiled
    ):  # its rows are alike however many there are; so only the prompts had company
        decoder.keep(torch.arange(count))
        logits, rows, min_rows = logits[:count], rows[:count], 1
    u = to_device(u[rows], device)
    seen = Seen(logits, [prompts[row] for row in rows], rules.sampling.repetition_penalty)
    unseen: list[tuple[Tensor, Tensor]] = []  # tokens and their log-probabilities of latest steps
    for step in range(steps):
        if rules.allowed is not None:
            written = tokens[:, :step]
            _restrict(logits, rules.allowed, rows, written, finished, first_row)
        seen.penalise(logits)
        chosen, chosen_logprobs = choose(logits, u[:, step], rules.sampling)
        seen.add(chosen)
        unseen.append((chosen, chosen_logprobs))
        if len(unseen) < every and step + 1 < steps:
            logits = decoder.step(chosen)
            continue
        first = step + 1 - len(unseen)
        for number, (picked, picked_logprobs) in enumerate(on_host(unseen), first):
            must_be_finite(picked_logprobs)
            live = ~finished[rows]
            tokens[rows[live], number] = picked[live]
            logprobs[rows[live], number] = picked_logprobs[live]
            ended = rows[live & np.isin(picked, rules.stop)]
            stopped[ended] = True
            if rules.looks:
                written = tokens[:, : number + 1]
                told = _tell(rules, written, logprobs[:, number], rows[live], stopped, first_row)
                ended = np.append(ended, told).astype(np.int64)
            finished[ended], lengths[ended] = True, number + 1
            if rules.done is not None:
                over = ended if number + 1 < steps else rows[live]
                for row in np.unique(over).tolist():
                    wrote = Written(
                        tokens[row, : number + 1].tolist(),
                        logprobs[row, : number + 1].tolist(),
                        bool(finished[row]),
                        bool(stopped[row]),
                    )
                    rules.done(first_row + row, wrote)
        unseen = []
        (unfinished,) = np.nonzero(~finished[rows])
        if step + 1 == steps or not len(unfinished):
            break
        if max(len(unfinished), min_rows) <= 0.75 * len(rows):
            (done,) = np.nonzero(finished[rows])
            kept = np.concatenate([unfinished, done[: max(0, min_rows - len(unfinished))]])
            decoder.keep(torch.from_numpy(kept))
            index = to_device(kept, device)
            rows, chosen, u = rows[kept], chosen[index], u[index]
            seen.keep(index)
        logits = decoder.step(chosen)
    arrays = tokens, logprobs, lengths, finished, stopped
    return tuple(torch.from_numpy(array) for array in arrays)  # type: ignore[return-value]


def _shared(cached: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens of a prompt need not be read; the last one always is."""
    pairs = zip(cached, prompt[:-1], strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(cached), len(prompt) - 1))


def _restrict(
    logits: Tensor,
    allowed: AllowedTokens,
    rows: np.ndarray,
    written: np.ndarray,
    finished: np.ndarray,
    first_row: int,
) -> None:
    """Take tokens that may not follow out of `logits` [B, V]."""
    size = logits.shape[1]
    mask = np.ones((len(rows), size), dtype=bool)
    for place, row in enumerate(rows):
        found = None
        if not finished[row]:
            found = allowed.mask(first_row + int(row), written[row].tolist())
        if found is not None:
            mask[place, : len(found)], mask[place, len(found) :] = found, False
            if not mask[place].any():
                raise ConfigError(f"no token is allowed to follow in the answer to prompt {row}")
    logits.masked_fill_(to_device(torch.from_numpy(~mask), logits.device), -torch.inf)


def _tell(
    rules: _Rules,
    written: np.ndarray,
    logprobs: np.ndarray,
    rows: np.ndarray,
    stopped: np.ndarray,
    first_row: int,
) -> list[int]:
    """Report the newest tokens of live rows; gives rows that end although no stop token says so."""
    ended = []
    for row in np.unique(rows).tolist():
        tokens = written[row].tolist()
        if rules.listen is not None:
            rules.listen(first_row + row, tokens[-1], float(logprobs[row]))
        if rules.ends is not None and not stopped[row] and rules.ends(first_row + row, tokens):
            ended.append(row)
    return ended


def _check(
    model: Transformer | Decoder,
    prompts: Sequence[Sequence[int]],
    streams: np.ndarray,
    max_new: int,
) -> None:
    if not prompts:
        raise ConfigError("there are no prompts to answer")
    if len(streams) != len(prompts):
        raise ConfigError(f"{len(streams)} streams were given for {len(prompts)} prompts")
    if max_new < 1:
        raise ConfigError(f"max_new_tokens must be at least 1, not {max_new}")
    context, size = model.config.max_position_embeddings, model.config.vocab_size
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise ConfigError(f"prompt {row} is empty; begin it with the start token")
        if len(prompt) + max_new > context:
            raise ConfigError(
                f"prompt {row} has {len(prompt)} tokens; with {max_new} new ones it does not fit "
                f"the context of {context}"
            )
        if not 0 <= min(prompt) <= max(prompt) < size:
            raise ConfigError(
                f"prompt {row} holds tokens outside the model's vocabulary of {size}; "
                "the tokenizer belongs to another model"
            )

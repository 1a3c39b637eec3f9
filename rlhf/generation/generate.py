"""Text generation: prompts in, sampled answers with their log-probabilities out.

What is sampled for a prompt depends on the weights, the seed and the prompt's stream, not on the
batch around it (tests hold the library to that in float32 and bfloat16). The loop over tokens is
cached_rows.py's, text and its tokens are responses.py's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from playout.errors import ConfigError
from playout.rlhf.generation.cached_rows import AllowedTokens, CachedRows, WritingRules, Written
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.sampling import SamplingConfig, Seen
from playout.rlhf.model.transformer import Transformer
from torch import Tensor

__all__ = ["AllowedTokens", "Generation", "Written", "generate"]


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
    decoder.compiled = not exact if compiled is None else compiled
    length = max(len(prompt) for prompt in prompts) + max_new_tokens
    rules = WritingRules(sampling, stop, seed, ends, allowed, listen, done, pad)
    tokens = np.full((len(prompts), max_new_tokens), pad)
    logprobs = np.zeros(tokens.shape, np.float32)
    parts = []
    for start in range(0, len(prompts), max_rows):
        batch = prompts[start : start + max_rows]
        numbers = np.arange(len(batch))
        rows = CachedRows(decoder, len(batch), exact=exact, again=False)
        known = _shared(cached, batch[0])
        if known:
            rows.held[:] = known
            logits = rows.go_on(numbers, [batch[0][known:]], length)
        else:
            logits = rows.begin(batch, length)
        seen = Seen(logits, batch, sampling.repetition_penalty)
        budgets = np.full(len(batch), max_new_tokens)
        own = replace(rules, first=start)
        part = rows.write(numbers, logits, names[start + numbers], budgets, own, seen)
        tokens[start + numbers, : part.tokens.shape[1]] = part.tokens
        logprobs[start + numbers, : part.tokens.shape[1]] = part.logprobs
        parts.append((part.lengths, part.ended, part.stopped))
    lengths, finished, stopped = (
        torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)
    )
    width = int(lengths.max())
    return Generation(
        prompts=[list(prompt) for prompt in prompts],
        responses=torch.from_numpy(tokens[:, :width]),
        lengths=lengths,
        logprobs=torch.from_numpy(logprobs[:, :width]),
        finished=finished,
        stopped=stopped,
    )


def _shared(cached: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens of a prompt need not be read; the last one always is."""
    pairs = zip(cached, prompt[:-1], strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(cached), len(prompt) - 1))


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

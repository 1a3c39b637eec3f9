"""Responses of a policy to prompts, as text and as tokens laid out for learning.

A prompt is read as the beginning of a document and answered until a stop token. In the rows, step t
is the choice of token t + 1, and only choices of response tokens are valid. Choosing tokens is
generate.py's, scores are online/rewards.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from playout.rlhf.data.messages import Prompt
from playout.rlhf.generation.conversation import Truncate, conversation_format, fit_prompt
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.generate import Generation, generate
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.stops import StopStrings
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer
from torch import Tensor

__all__ = ["Responses", "encode_prompts", "responses_of", "sample_responses"]


@dataclass(frozen=True, slots=True)
class Responses:
    """R prompts with a response each; T is the longest row less 1."""

    prompts: list[Prompt]
    responses: list[str]
    generation: Generation
    obs: Tensor
    """int64 [R, T]: tokens 0 to L - 2 of each row, padded on the right."""
    actions: Tensor
    """int64 [R, T]: tokens 1 to L - 1."""
    valid: Tensor
    """bool [R, T]: the action is a token of the response."""


def encode_prompts(tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Prompts of a person as a policy reads them, special tokens that they spell as tokens.

    Conversations go through the model's chat template, up to where it answers.
    """
    plain = iter(tokenizer.encode_prompts([p for p in prompts if isinstance(p, str)], special=True))
    talk = conversation_format(tokenizer)
    return [next(plain) if isinstance(p, str) else talk.begin(p) for p in prompts]


def sample_responses(
    model: Transformer | Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    seed: int,
    dtype: torch.dtype,
    sampling: SamplingConfig | None = None,
    stop: Sequence[str] = (),
    streams: Sequence[int] | None = None,
    truncate: Truncate = "error",
) -> Responses:
    """Sample a response to every prompt.

    Args:
        model: A decoder, or what was prepared of it.
        tokenizer: Its tokenizer.
        prompts: Texts or conversations, not empty as a list.
        max_new_tokens: Longest response, its end token included.
        seed: Of all random numbers.
        dtype: Of matrix products.
        sampling: How tokens are chosen; at temperature 1 by default.
        stop: Texts that end a response besides the model's own stop tokens; no part of it.
        streams: Names each prompt's random numbers; 0, 1, 2, ... by default.
        truncate: What is cut of a prompt that leaves no room; see `fit_prompt`.
    """
    talk, asked = conversation_format(tokenizer), encode_prompts(tokenizer, prompts)
    if truncate != "error":
        room = model.config.max_position_embeddings - max_new_tokens
        asked = [
            ids if len(ids) <= room else fit_prompt(talk, prompt, room, truncate, special=True)[0]
            for ids, prompt in zip(asked, prompts, strict=True)
        ]
    plain = any(isinstance(prompt, str) for prompt in prompts)
    stops = StopStrings(tokenizer, stop, continues=plain) if stop else None
    out = generate(
        model,
        asked,
        max_new_tokens=max_new_tokens,
        stop=talk.stop_ids,
        pad=tokenizer.pad_id,
        sampling=sampling,
        seed=seed,
        streams=streams,
        dtype=dtype,
        ends=stops,
    )
    return responses_of(out, tokenizer, prompts, stops)


def responses_of(
    out: Generation,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    stops: StopStrings | None = None,
) -> Responses:
    """What was generated for prompts, as text (cut at `stops`) and as rows (whole)."""
    ids, starts, ends = out.sequences(tokenizer.pad_id)
    places = torch.arange(1, ids.shape[1])
    valid = (places >= starts[:, None]) & (places < ends[:, None])
    # What follows a plain text goes on from it; an answer to a conversation begins.
    responses = [
        tokenizer.decode(out.response(row), continues=isinstance(prompt, str))
        for row, prompt in enumerate(prompts)
    ]
    if stops is not None:
        responses = [stops.cut(response) for response in responses]
    return Responses(list(prompts), responses, out, ids[:, :-1], ids[:, 1:], valid)

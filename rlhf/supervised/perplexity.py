"""How likely given texts are under a model: log-probability of every token, loss, bits a byte.

A text longer than the model's context is read in windows that overlap, each token scored once, with
as many tokens before it as a window leaves. Bits a byte compare models whose vocabularies differ.
Nothing is sampled here.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from playout.agents.runs.devices import pack_to_device
from playout.errors import ConfigError, DataError
from playout.rlhf.data.batches import by_tokens, pad_right
from playout.rlhf.data.encoding import encode_answer
from playout.rlhf.data.messages import Message, Prompt
from playout.rlhf.generation.conversation import ConversationFormat, conversation_format
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.reference import must_be_finite, sequence_logprobs
from playout.rlhf.model.transformer import Transformer

__all__ = ["Likelihood", "Scored", "as_scored", "likelihoods", "of_texts", "summed"]


@dataclass(frozen=True, slots=True)
class Scored:
    """A text as tokens of which some are scored; several parts where it is a conversation."""

    rows: list[tuple[list[int], int]]
    """Token ids, and how many leading ones are only read; at least one."""
    num_bytes: int
    """UTF-8 bytes of what is scored."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The scored tokens of a text."""

    tokens: list[int]
    logprobs: list[float]
    """In nats."""
    num_bytes: int

    @property
    def logprob(self) -> float:
        """Of all scored tokens together."""
        return math.fsum(self.logprobs)

    def measures(self) -> dict[str, float | int]:
        """Loss in nats a token, perplexity, bits a byte, and what they are means over."""
        loss = -self.logprob / max(1, len(self.tokens))
        return {
            "logprob": self.logprob,
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": -self.logprob / math.log(2) / max(1, self.num_bytes),
            "tokens": len(self.tokens),
            "bytes": self.num_bytes,
        }


def summed(parts: Sequence[Likelihood]) -> Likelihood:
    """Many texts as one."""
    return Likelihood(
        [token for part in parts for token in part.tokens],
        [p for part in parts for p in part.logprobs],
        sum(part.num_bytes for part in parts),
    )


def as_scored(
    talk: ConversationFormat,
    prompt: Prompt,
    answer: str | None,
    name: str,
    *,
    ends: bool = False,
    special: bool = False,
) -> Scored:
    """The tokens of a text or a conversation, and which of them are scored.

    Args:
        talk: How prompts become tokens.
        prompt: A plain text, all of which is scored if no answer follows; or messages, of which
            the assistant's are scored, each after what stands before it.
        answer: What is scored after the prompt.
        name: Of the text, in errors.
        ends: The token that ends an answer is scored as well, which `sft` teaches too.
        special: Special tokens that a plain prompt before an answer spells are those tokens.

    Raises:
        DataError: There is nothing to score.
    """
    try:
        return _as_scored(talk, prompt, answer, name, ends=ends, special=special)
    except DataError as error:
        if str(error).startswith(name):
            raise
        raise DataError(f"{name}: {error}") from None


def _as_scored(
    talk: ConversationFormat,
    prompt: Prompt,
    answer: str | None,
    name: str,
    *,
    ends: bool,
    special: bool,
) -> Scored:
    if answer is not None:
        if ends:
            found = [_whole_answer(talk, prompt, answer, special=special)]
        else:
            before = talk.begin(prompt, special=special)
            found = [_after(talk, before, _gap(talk, prompt, answer) + answer)]
        texts = [answer]
    elif isinstance(prompt, str):
        first = talk.tokenizer.bos_id if talk.tokenizer.bos_id >= 0 else talk.tokenizer.end_id
        found, texts = [([first, *talk.tokenizer.encode(prompt)], 1)], [prompt]
    else:
        places = [n for n, m in enumerate(prompt) if m["role"] == "assistant" and n]
        if not places:
            raise DataError(f"{name}: no message is the assistant's, so there is nothing to score")
        texts = [prompt[n]["content"] for n in places]
        turn = _whole_turn if ends else _turn
        found = [turn(talk, prompt[: n + 1]) for n in places]
    if not any(len(ids) > start for ids, start in found):
        raise DataError(f"{name} is empty, so there is nothing to score")
    return Scored(found, sum(len(text.encode()) for text in texts))


def _after(talk: ConversationFormat, before: list[int], text: str) -> tuple[list[int], int]:
    """A text after the tokens before it, and their number."""
    return [*before, *talk.tokenizer.encode(text, continues=True)], len(before)


def _read(talk: ConversationFormat, messages: Sequence[Message]) -> list[int]:
    """What the policy reads before its next message, which may follow another one of its own."""
    return talk.tokens(talk.write(messages, answer=True))


def _gap(talk: ConversationFormat, prompt: Prompt, answer: str) -> str:
    """The blanks that a template puts before an answer."""
    if isinstance(prompt, str) or answer[:1].isspace() or prompt[-1]["role"] == "assistant":
        return ""
    head = talk.write(prompt, answer=True)
    whole = talk.write([*prompt, {"role": "assistant", "content": "\ue000"}], begun=True)
    gap = whole[len(head) :].partition("\ue000")[0] if whole.startswith(head) else ""
    return "" if gap.strip() else gap


def _turn(talk: ConversationFormat, messages: Sequence[Message]) -> tuple[list[int], int]:
    """The assistant's last message after what the policy read before it."""
    before, whole = _read(talk, messages[:-1]), talk.begin(messages)
    if whole[: len(before)] == before:
        return whole, len(before)
    content = messages[-1]["content"]
    return _after(talk, before, _gap(talk, messages[:-1], content) + content)


def _whole_answer(
    talk: ConversationFormat, prompt: Prompt, answer: str, *, special: bool = False
) -> tuple[list[int], int]:
    """An answer up to its stop token after what the policy read before it."""
    before = talk.begin(prompt, special=special) if isinstance(prompt, str) else _read(talk, prompt)
    return [*before, *encode_answer(talk, prompt, answer)], len(before)


def _whole_turn(talk: ConversationFormat, messages: Sequence[Message]) -> tuple[list[int], int]:
    return _whole_answer(talk, messages[:-1], messages[-1]["content"])


class _Window(NamedTuple):
    text: int
    ids: list[int]
    start: int
    """The first token of `ids` that is scored."""


def _windows(texts: Sequence[Scored], length: int, stride: int) -> Iterator[_Window]:
    for number, text in enumerate(texts):
        for ids, start in text.rows:
            begin = start - (length - stride) if start >= length else 0
            scored = start
            while scored < len(ids):
                end = min(begin + length, len(ids))
                yield _Window(number, ids[begin:end], scored - begin)
                scored, begin = end, end - (length - stride)


@torch.no_grad()
def likelihoods(
    model: Transformer,
    texts: Sequence[Scored],
    *,
    pad: int,
    dtype: torch.dtype,
    length: int = 0,
    stride: int = 0,
) -> list[Likelihood]:
    """The log-probabilities of the scored tokens of each text.

    Args:
        model: A decoder.
        texts: See `as_scored`.
        pad: Fills rows.
        dtype: Of matrix products.
        length: Tokens of a window; 0 takes the model's context.
        stride: Tokens by which a window goes on; 0 takes half of `length`. Smaller ones leave more
            before each token and cost more.

    Raises:
        DivergedError: A log-probability is NaN or infinite.
    """
    context = model.config.max_position_embeddings
    length = length or context
    stride = stride or max(1, length // 2)
    if not 2 <= length <= context:
        raise ConfigError(f"windows have 2 to {context} tokens (the model's context), not {length}")
    if not 1 <= stride < length:
        raise ConfigError(f"the stride is 1 to {length - 1} tokens, not {stride}")
    windows = list(_windows(texts, length, stride))
    found: dict[int, list[float]] = {}
    for now in by_tokens([len(window.ids) for window in windows]):
        for place, row in zip(
            now, _scores(model, [windows[i] for i in now], pad, dtype), strict=True
        ):
            must_be_finite(row)
            found[place] = row
    tokens: list[list[int]] = [[] for _ in texts]
    logprobs: list[list[float]] = [[] for _ in texts]
    for place, window in enumerate(windows):
        tokens[window.text] += window.ids[window.start :]
        logprobs[window.text] += found[place]
    return [Likelihood(tokens[n], logprobs[n], text.num_bytes) for n, text in enumerate(texts)]


def of_texts(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    name: str,
    dtype: torch.dtype,
) -> list[Likelihood]:
    """`likelihoods` of plain texts, each for itself.

    Args:
        model: A decoder.
        tokenizer: Its own.
        texts: None of them empty.
        name: What errors call them.
        dtype: Of matrix products.
    """
    talk = conversation_format(tokenizer)
    scored = [as_scored(talk, text, None, name) for text in texts]
    return likelihoods(model, scored, pad=tokenizer.pad_id, dtype=dtype)


def _scores(
    model: Transformer, windows: Sequence[_Window], pad: int, dtype: torch.dtype
) -> list[list[float]]:
    """Log-probabilities of the scored tokens of each window."""
    ids, lengths = pad_right([window.ids for window in windows], pad)
    starts = torch.tensor([window.start for window in windows])
    places = torch.arange(1, ids.shape[1])
    valid = (places >= starts[:, None]) & (places < lengths[:, None])
    parts = [ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), valid]
    obs, actions, counted = pack_to_device(parts, model.device)
    logprobs = sequence_logprobs(model, obs, actions, counted, dtype=dtype)[0].cpu()
    return [row[mask].tolist() for row, mask in zip(logprobs, valid, strict=True)]

"""A policy that answers prompts, with the settings of its answers: what `playout.load` returns.

Prompts are plain texts, which it continues, or conversations, which it answers. Talking with it in
the terminal is chat/'s; where it comes from is run.py's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from playout.errors import ConfigError, DataError
from playout.rlhf.data.messages import Prompt, check_list, checked_messages
from playout.rlhf.generation.conversation import (
    ConversationFormat,
    Truncate,
    conversation_format,
    fit_prompt,
)
from playout.rlhf.generation.decoder import MAX_ROWS, Decoder
from playout.rlhf.generation.generate import Written, generate
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.stops import StopStrings
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.threads import decoding_threads
from playout.rlhf.model.transformer import Transformer

__all__ = ["Answer", "LanguagePlayer", "usual_length"]

# Keys and values of one batch; more prompts than fit are answered in several.
CACHE_BYTES = 1 << 30
MAX_BATCH_ROWS = 256
_PLAIN_LENGTH, _CHAT_LENGTH = 48, 512


def usual_length(model: Transformer, *, turns: bool) -> int:
    """How long answers may be where nobody says; a small context leaves room for a prompt.

    Args:
        model: What answers.
        turns: Whether it is asked in turns, or goes on from plain texts.
    """
    longest = _CHAT_LENGTH if turns else _PLAIN_LENGTH
    return max(1, min(longest, model.config.max_position_embeddings // 2))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a policy wrote to one prompt."""

    text: str
    """Without what ended it."""
    tokens: list[int]
    """As they were chosen, what ended it included."""
    logprobs: list[float]
    """Of the tokens, at the sampling temperature."""
    finished: bool
    """It came to its end before it was as long as it may be."""
    prompt_tokens: int
    """How many tokens were read."""
    cut: int = 0
    """How many tokens of the prompt were left out for want of room."""

    @property
    def logprob(self) -> float:
        """Of the whole answer."""
        return float(np.sum(np.asarray(self.logprobs, dtype=np.float32)))


class _Asked(NamedTuple):
    ids: list[int]
    cut: int


@dataclass(slots=True)
class LanguagePlayer:
    """A language policy that answers prompts.

    Attributes:
        max_new_tokens: Longest answer.
        temperature: Of the sampling; 0 takes the likeliest token.
        max_length: Longest prompt in tokens; 0 allows what the model's context leaves.
        truncate: What is cut of a longer one; see `fit_prompt`.
        stop: Strings that end an answer; they are not part of it.
        plain: Leave the model's chat template alone.
        special: Special tokens that a plain prompt spells are those tokens; False where the prompts
            are not the person's own.
        template_options: Values of names that the template reads.
        exact: An answer does not depend on the prompts beside it: None asks for that with several
            prompts. Up to 16 take the faster compiled step.
        threads: Of torch while it answers; 0 leaves them to a rule (`decoding_threads`).
    """

    model: Transformer = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    name: str = "policy"
    max_new_tokens: int = 32
    temperature: float = 1.0
    seed: int = 0
    dtype: torch.dtype = torch.float32
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_length: int = 0
    truncate: Truncate = "error"
    stop: tuple[str, ...] = ()
    plain: bool = False
    special: bool = True
    template_options: dict[str, object] = field(default_factory=dict)
    exact: bool | None = None
    threads: int = 0
    _decoder: Decoder | None = field(default=None, init=False, repr=False)

    def reset(self, seed: int) -> None:
        """Answer with these random numbers from now on."""
        self.seed = seed

    @property
    def decoder(self) -> Decoder:
        """The model prepared for decoding; made when it is first needed."""
        if self._decoder is None or self._decoder.dtype != self.dtype:
            self._decoder = Decoder(self.model, dtype=self.dtype)
        return self._decoder

    @property
    def talk(self) -> ConversationFormat:
        """How prompts become tokens."""
        return conversation_format(self.tokenizer, plain=self.plain, options=self.template_options)

    @property
    def sampling(self) -> SamplingConfig:
        """How tokens are chosen."""
        return SamplingConfig(
            self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty
        )

    def act(self, prompts: Sequence[Prompt], *, deterministic: bool = False) -> list[str]:
        """A response to each prompt.

        Up to 16 prompts go through the compiled step, which is faster; a prompt alone is read
        faster as well. The last bits of the logits differ between one prompt, 16 and more.
        """
        return [answer.text for answer in self.answer(prompts, deterministic=deterministic)]

    def room(self) -> int:
        """How many tokens a prompt may have.

        Raises:
            ConfigError: None, since answers are as long as the context.
        """
        context = self.model.config.max_position_embeddings
        room = context - self.max_new_tokens
        if room < 1:
            raise ConfigError(
                f"answers of {self.max_new_tokens} tokens leave no room for a prompt in the "
                f"context of {context}"
            )
        return min(room, self.max_length) if self.max_length else room

    def answer(
        self,
        prompts: Sequence[Prompt],
        *,
        deterministic: bool = False,
        names: Sequence[str] | None = None,
        listen: Callable[[int, int, float], None] | None = None,
        told: Callable[[int, Answer], None] | None = None,
    ) -> list[Answer]:
        """An answer to each prompt, with its tokens.

        Args:
            prompts: Texts to continue and conversations to answer.
            deterministic: Take the likeliest token each time.
            names: What errors call each prompt.
            listen: Told number of the prompt, token and log-probability as each is chosen.
            told: Told number and answer of a prompt as soon as that is complete.

        Raises:
            ConfigError: A setting means nothing, or there is no chat template for messages.
            DataError: A prompt does not fit, or the chat template does not take it.
        """
        check_list(prompts)
        if not prompts:
            raise ConfigError("there are no prompts to answer")
        sampling = replace(self.sampling, temperature=0.0) if deterministic else self.sampling
        talk, room = self.talk, self.room()
        asked = [
            self._read(talk, prompt, room, names[row] if names else f"prompt {row}")
            for row, prompt in enumerate(prompts)
        ]
        plain = any(isinstance(prompt, str) for prompt in prompts)
        stops = StopStrings(self.tokenizer, self.stop, continues=plain) if self.stop else None
        exact = len(prompts) != 1 if self.exact is None else self.exact
        answers: dict[int, Answer] = {}
        compiled = len(prompts) <= MAX_ROWS
        # Threads change last bits: no answer may learn from them how many prompts stand beside it.
        few = MAX_ROWS if exact else len(prompts)
        counted = few if compiled else MAX_BATCH_ROWS
        for rows in self._batches([len(item.ids) for item in asked]):

            def done(place: int, wrote: Written, rows: list[int] = rows) -> None:
                row = rows[place]
                ids = wrote.tokens[:-1] if wrote.stopped else wrote.tokens
                text = self.tokenizer.decode(ids, continues=isinstance(prompts[row], str))
                answers[row] = Answer(
                    text if stops is None else stops.cut(text),
                    wrote.tokens,
                    wrote.logprobs,
                    wrote.finished,
                    len(asked[row].ids),
                    asked[row].cut,
                )
                if told is not None:
                    told(row, answers[row])

            with decoding_threads(self.model, counted, self.threads):
                generate(
                    self.decoder,
                    [asked[row].ids for row in rows],
                    max_new_tokens=self.max_new_tokens,
                    stop=talk.stop_ids,
                    pad=self.tokenizer.pad_id,
                    sampling=sampling,
                    seed=self.seed,
                    streams=rows,
                    exact=exact,
                    compiled=compiled,
                    max_rows=len(rows),
                    ends=stops,
                    listen=None if listen is None else _renumbered(listen, rows),
                    done=done,
                )
        return [answers[row] for row in range(len(prompts))]

    def _read(self, talk: ConversationFormat, prompt: Prompt, room: int, name: str) -> _Asked:
        if not isinstance(prompt, str | Sequence):
            kind = type(prompt).__name__
            raise DataError(f"{name} is neither a text nor a list of messages but {kind}")
        if not isinstance(prompt, str):
            prompt = checked_messages(prompt, name)
        try:
            return _Asked(*fit_prompt(talk, prompt, room, self.truncate, special=self.special))
        except DataError as error:
            hint = ""
            if self.truncate == "error" and "room for" in str(error):
                hint = "; let it be cut (truncate left or right), or ask for a shorter answer"
            raise DataError(f"{name}: {error}{hint}") from None
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Numbers of the prompts that are answered together, the longest first."""
        config = self.model.config
        token = 8 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
        batches = []
        while order:
            longest = lengths[order[0]] + self.max_new_tokens
            count = max(1, min(MAX_BATCH_ROWS, CACHE_BYTES // (token * longest)))
            batches.append(order[:count])
            order = order[count:]
        return batches


def _renumbered(
    listen: Callable[[int, int, float], None], rows: Sequence[int]
) -> Callable[[int, int, float], None]:
    return lambda row, token, logprob: listen(rows[row], token, logprob)

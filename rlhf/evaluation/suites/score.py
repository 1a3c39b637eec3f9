"""What a model makes of a suite: the likelihood of every option, of every passage, or its answer.

An option is worth the log-probability of its tokens after the question, as a sum and a byte. Where
all options of a question are one token each, one pass reads them all off the question's last state.
Programs are written and run.
Shares, intervals and tests are results.py's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.runs.devices import pack_to_device
from playout.errors import ConfigError
from playout.rlhf.data.batches import by_tokens, pad_right
from playout.rlhf.data.messages import Prompt
from playout.rlhf.evaluation.suites.suite import Choice, Passage, Program, Suite, Written
from playout.rlhf.evaluation.suites.tasks.sandbox import passed
from playout.rlhf.generation.conversation import (
    ConversationFormat,
    conversation_format,
    fit_prompt,
)
from playout.rlhf.generation.player import LanguagePlayer
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.reference import must_be_finite
from playout.rlhf.model.transformer import Transformer, autocast
from playout.rlhf.supervised.perplexity import Scored, as_scored, likelihoods, of_texts

__all__ = ["Answers", "Asking", "answers_of", "check_asking"]

Floats = NDArray[np.float64]
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Where a function is over (Chen et al. 2021)."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model made of N items, float64 [N] each.

    Attributes:
        values: What the chosen option is worth (0 to 1; the mean of those that are equally
            likely), whether the text is right, or the bits of a passage.
        by_length: The same where options are compared by their log-probability a byte.
        confidence: Probability of the chosen option among those offered; None where a question has
            several right ones.
        random: What a random option is worth on average.
        num_bytes: Of passages.
        cut: How many questions the context does not hold whole; only their end was read.
        fit: How many of the examples before these were read whole, at least and at most; None
            where none was cut, or none was to be shown.
    """

    values: Floats
    by_length: Floats | None = None
    confidence: Floats | None = None
    random: Floats | None = None
    num_bytes: Floats | None = None
    cut: int = 0
    fit: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a model is asked.

    Attributes:
        shots: Examples before each question.
        chat: Put the question into a user's message of the model's chat template.
        dtype: Of matrix products.
    """

    shots: int = 0
    chat: bool = False
    dtype: torch.dtype = torch.float32


def check_asking(suite: Suite, asking: Asking) -> None:
    """Raise ConfigError if a suite cannot be asked so."""
    if asking.chat and isinstance(suite.items[0], Program):
        raise ConfigError(
            f"{suite.name}: a program goes on from its plain text, which a chat answer does not; "
            "ask it without --chat"
        )
    if asking.shots and not isinstance(suite.items[0], Passage):
        group, most = min(suite.most_shots().items(), key=lambda pair: pair[1])
        if most < asking.shots:
            about = f" about {group}" if group else ""
            there = f"{most} examples" if most > 1 else ("1 example" if most else "no examples")
            raise ConfigError(
                f"--shots {asking.shots}: {suite.name} has {there} for its questions{about}; ask "
                f"with --shots {most}{' or fewer' if most else ''}"
            )


def answers_of(
    model: Transformer, tokenizer: Tokenizer, suite: Suite, asking: Asking | None = None
) -> Answers:
    """Asks a model every question of a suite.

    Raises:
        ConfigError: Questions are to be messages and the model has no chat template, or the suite
            cannot be asked so.
        DivergedError: The model answers NaN.
    """
    asking = asking or Asking()
    check_asking(suite, asking)
    if suite.spoken and tokenizer.template is not None:
        asking = replace(asking, chat=True)
    talk = conversation_format(tokenizer, plain=not asking.chat)
    if asking.chat and not talk.speaks_in_turns:
        raise ConfigError("the model has no chat template, so it is asked without --chat")
    first = suite.items[0]
    if isinstance(first, Passage):
        return _read(model, tokenizer, suite, asking)
    if isinstance(first, Choice):
        return _choose(model, talk, suite, asking)
    if isinstance(first, Program):
        return _solve(model, tokenizer, suite, asking)
    return _write(model, tokenizer, suite, asking)


def _read(model: Transformer, tokenizer: Tokenizer, suite: Suite, asking: Asking) -> Answers:
    texts = [item.text for item in suite.items]
    found = of_texts(model, tokenizer, texts, name=suite.name, dtype=asking.dtype)
    bits = np.array([-one.logprob / np.log(2) for one in found])
    return Answers(bits, num_bytes=np.array([one.num_bytes for one in found], np.float64))


def _question(suite: Suite, number: int, asking: Asking, *, last: int | None = None) -> Prompt:
    """What is asked; with `last` only that many of the examples before it."""
    item = suite.items[number]
    assert not isinstance(item, Passage)
    text = suite.shown(number, asking.shots, last=last) + item.prompt
    if asking.chat and text:
        return ({"role": "user", "content": text.strip()},)
    return text


def _examples_read(
    talk: ConversationFormat,
    suite: Suite,
    asking: Asking,
    read: Mapping[int, Sequence[int]],
) -> tuple[int, int] | None:
    """How many examples before questions that were cut were read whole, at least and at most.

    Args:
        talk: How questions become tokens.
        suite: The questions.
        asking: How many examples there are to be.
        read: By its number, the tokens that are left of what stands before each one's answer.
    """
    if not read or not asking.shots:
        return None
    found = []
    for number, ids in read.items():
        whole = talk.begin(_question(suite, number, asking))
        kept, count = _same_end(whole, ids), 0
        while count < asking.shots:
            part = talk.begin(_question(suite, number, asking, last=count + 1))
            if _same_end(whole, part) > kept:
                break
            count += 1
        found.append(count)
    return min(found), max(found)


def _same_end(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two rows end with alike."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _choose(model: Transformer, talk: ConversationFormat, suite: Suite, asking: Asking) -> Answers:
    rows: list[list[Scored]] = []
    choices: list[Choice] = []
    for number, item in enumerate(suite.items):
        assert isinstance(item, Choice)
        prompt = _question(suite, number, asking)
        where = f"{suite.name}, question {number + 1}"
        options = [o.lstrip() if asking.chat else o for o in item.options]
        choices.append(item)
        if prompt:
            rows.append([as_scored(talk, prompt, option, where) for option in options])
        else:
            rows.append([as_scored(talk, option, None, where) for option in options])
    context = model.config.max_position_embeddings
    long = [n for n, options in enumerate(rows) if _longest_row(options) > context]
    long = [n for n in long if _question(suite, n, asking)]  # a text alone is read in windows
    for number in long:
        rows[number] = _ends(rows[number], context)
    read = {n: _before(rows[n][0], context) for n in long}
    logprobs = _option_logprobs(model, talk.tokenizer.pad_id, rows, asking.dtype)
    count = len(choices)
    values, lengths, confidence, random = (np.zeros(count) for _ in range(4))
    for number, (item, found) in enumerate(zip(choices, logprobs, strict=True)):
        sizes = np.array([max(1, len(option.encode())) for option in item.options])
        each = found / sizes
        compared = each * sizes.mean() if suite.by_length else found
        shares = np.exp(compared - compared.max())
        confidence[number] = shares.max() / shares.sum()
        values[number] = _worth(item, found)
        lengths[number] = _worth(item, each)
        random[number] = float(np.mean(item.scores))
    # How sure a model is of one of several right answers, it does not say by a single share.
    lone = all(sum(item.scores) == max(item.scores) == 1 for item in choices)
    fit = _examples_read(talk, suite, asking, read)
    return Answers(values, lengths, confidence if lone else None, random, cut=len(long), fit=fit)


def _longest_row(options: Sequence[Scored]) -> int:
    """Tokens of the longest of a question's options with what stands before it."""
    return max(len(ids) for option in options for ids, _ in option.rows)


def _ends(options: Sequence[Scored], context: int) -> list[Scored]:
    """A question's options after as much of its end as the context holds beside the longest.

    All see the same of it. Where an option takes more than half of the context, nothing is cut:
    it is read in windows.
    """
    drop = _longest_row(options) - context
    rows = [option.rows[0] for option in options]
    if any(start - drop < context // 2 for _, start in rows):
        return list(options)
    return [
        replace(option, rows=[(ids[drop:], start - drop)])
        for option, (ids, start) in zip(options, rows, strict=True)
    ]


def _before(option: Scored, context: int) -> list[int]:
    """What is read before an option; before one that is read in windows, what the first holds."""
    ids, start = option.rows[0]
    return ids[:start] if start < context else ids[start - context // 2 : start]


def _worth(item: Choice, logprobs: Floats) -> float:
    """What the likeliest option is worth; of several that are as likely, any is chosen."""
    return float(np.mean(np.array(item.scores)[logprobs == logprobs.max()]))


def _option_logprobs(
    model: Transformer, pad: int, rows: Sequence[Sequence[Scored]], dtype: torch.dtype
) -> list[Floats]:
    """Log-probability of each option of each question, in nats."""
    found: dict[int, Floats] = {}
    short = [n for n, options in enumerate(rows) if _is_next_token(model, options)]
    heads = [rows[n][0].rows[0][0][:-1] for n in short]
    ends = [[option.rows[0][0][-1] for option in rows[n]] for n in short]
    for number, values in zip(short, _next_tokens(model, pad, heads, ends, dtype), strict=True):
        found[number] = values
    rest = [n for n in range(len(rows)) if n not in found]
    # Options of the same tokens are asked once: in two batches they could differ in the last bits.
    unlike = {_tokens(option): option for n in rest for option in rows[n]}
    each = likelihoods(model, list(unlike.values()), pad=pad, dtype=dtype) if unlike else []
    sums = {key: one.logprob for key, one in zip(unlike, each, strict=True)}
    for number in rest:
        found[number] = np.array([sums[_tokens(option)] for option in rows[number]])
    return [found[number] for number in range(len(rows))]


def _tokens(option: Scored) -> tuple[tuple[int, ...], int]:
    """What is read and what is scored of an option."""
    ids, start = option.rows[0]
    return tuple(ids), start


def _is_next_token(model: Transformer, options: Sequence[Scored]) -> bool:
    """Whether options are one token each after the same tokens, which the context holds."""
    first, start = options[0].rows[0]
    longest = model.config.max_position_embeddings
    return len(first) <= longest and all(
        begin == start == len(ids) - 1 and ids[:-1] == first[:-1]
        for ids, begin in (option.rows[0] for option in options)
    )


@torch.no_grad()
def _next_tokens(
    model: Transformer,
    pad: int,
    heads: Sequence[list[int]],
    wanted: Sequence[list[int]],
    dtype: torch.dtype,
) -> list[Floats]:
    """Log-probabilities of tokens that may follow texts."""
    found: dict[int, Floats] = {}
    for now in by_tokens(list(map(len, heads))):
        ids, lengths = pack_to_device(pad_right([heads[n] for n in now], pad), model.device)
        with autocast(dtype, model.device):
            last = model(ids)[torch.arange(len(now), device=ids.device), lengths - 1]
            table = torch.log_softmax(model.logits(last).float(), -1).cpu()
        for row, number in enumerate(now):
            found[number] = table[row, wanted[number]].double().numpy()
            must_be_finite(found[number])
    return [found[number] for number in range(len(heads))]


def _write(model: Transformer, tokenizer: Tokenizer, suite: Suite, asking: Asking) -> Answers:
    """Whether the likeliest text, up to the end of its line, is one of the answers."""
    items = [item for item in suite.items if isinstance(item, Written)]
    longest = _longest(tokenizer, [answer for item in items for answer in item.answers])
    texts, cut, fit = _texts(model, tokenizer, suite, asking, longest + 4, ("\n",))
    right = [_is_right(text, item.answers) for text, item in zip(texts, items, strict=True)]
    return Answers(np.array(right, np.float64), cut=cut, fit=fit)


def _solve(model: Transformer, tokenizer: Tokenizer, suite: Suite, asking: Asking) -> Answers:
    """Whether programs with the likeliest rest pass their tests; they are run in a sandbox."""
    items = [item for item in suite.items if isinstance(item, Program)]
    longest = 2 * _longest(tokenizer, [item.solution for item in items])
    texts, cut, fit = _texts(model, tokenizer, suite, asking, longest, STOPS)
    programs = [
        f"{item.prompt}{text}\n{item.tests}" for item, text in zip(items, texts, strict=True)
    ]
    return Answers(np.array(passed(programs), np.float64), cut=cut, fit=fit)


def _longest(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    return max(map(len, tokenizer.encode_batch(list(texts))))


def _texts(
    model: Transformer,
    tokenizer: Tokenizer,
    suite: Suite,
    asking: Asking,
    longest: int,
    stop: tuple[str, ...],
) -> tuple[list[str], int, tuple[int, int] | None]:
    """The likeliest text of at most so many tokens after each question; `cut`, `fit` of Answers."""
    context = model.config.max_position_embeddings
    tokens = max(1, min(longest, context // 2))
    player = LanguagePlayer(
        model,
        tokenizer,
        max_new_tokens=tokens,
        dtype=asking.dtype,
        truncate="left",
        stop=stop,
        plain=not asking.chat,
        special=False,
        threads=torch.get_num_threads(),  # whoever asks has chosen
    )
    prompts = [_question(suite, number, asking) for number in range(len(suite.items))]
    talk = conversation_format(tokenizer, plain=not asking.chat)
    room = context - tokens
    texts = player.act(prompts, deterministic=True)
    read = {
        number: fit_prompt(talk, prompt, room, "left")[0]
        for number, prompt in enumerate(prompts)
        if len(talk.begin(prompt)) > room
    }
    return texts, len(read), _examples_read(talk, suite, asking, read)


def _is_right(text: str, answers: Sequence[str]) -> bool:
    """A text is right if it is an answer, or goes on only after an answer of a single word."""
    words = text.split()
    for answer in answers:
        wanted = answer.strip()
        if text.strip() == wanted:
            return True
        if words and " " not in wanted and words[0].rstrip(".,;:!?\"'") == wanted:
            return True
    return False

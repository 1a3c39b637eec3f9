"""Texts and conversations as token rows to learn from, cut to a length by one rule.

A plain prompt is followed by its answer and the end token. A conversation is cut where the policy
would begin and stop writing, and each piece is made tokens by itself, so that what is learned is
what is later read and written, token for token. A template that rewrites earlier turns gives a row
a turn. Rows of records are records.py's, batches batches.py's.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from playout.errors import ConfigError, DataError
from playout.rlhf.data.messages import Message, Prompt, as_messages
from playout.rlhf.data.records import Demonstration, Preference
from playout.rlhf.data.rows import at_row
from playout.rlhf.generation.conversation import ConversationFormat
from playout.rlhf.generation.responses import encode_prompts

__all__ = [
    "TokenRow",
    "TokenRows",
    "Truncate",
    "as_turns",
    "encode_answer",
    "encode_demonstrations",
    "encode_pairs",
    "encode_turns",
    "fit_pairs",
    "fit_rows",
    "row_length",
    "say_lengths",
]

Truncate = Literal["right", "left", "drop", "error"]
TokenRow = tuple[list[int], int | list[bool]]
"""Ids, and how many leading ones are only read; or of each whether it is learned."""
TokenRows = list[TokenRow]
T = TypeVar("T", Demonstration, Preference)

OWN_LENGTH = 1024
"""Rows of own data are at most so long unless asked: memory grows with their length."""


def as_turns(items: Sequence[T]) -> list[T]:
    """Records for a chat model: plain prompts become a user's message, answers are stripped."""
    found: list[T] = []
    for item in items:
        if not isinstance(item.prompt, str) or not item.prompt.strip():
            found.append(item)
        elif isinstance(item, Demonstration):
            found.append(_demonstration_in_turns(item, item.prompt))
        else:
            first, second = item.first.strip(), item.second.strip()
            prompt = as_messages(item.prompt)
            found.append(replace(item, prompt=prompt, first=first, second=second))
    return found


def _demonstration_in_turns(item: Demonstration, asked: str) -> Demonstration:
    texts = [text.strip() for text in (item.response, *item.turns)]
    said = [
        {"role": ("assistant", "user")[number % 2], "content": text}
        for number, text in enumerate(texts[:-1])
    ]
    prompt = (*as_messages(asked), *said)
    return replace(item, prompt=prompt, response=texts[-1], turns=())


def encode_demonstrations(talk: ConversationFormat, items: Sequence[Demonstration]) -> TokenRows:
    """Rows of demonstrations in their order; a conversation may give several."""
    plain = [item for item in items if isinstance(item.prompt, str)]
    prompts = iter(encode_prompts(talk.tokenizer, [str(item.prompt) for item in plain]))
    after = [text for item in plain for text in (item.response, *item.turns)]
    texts = iter(talk.tokenizer.encode_batch(after, continues=True))
    end = [talk.tokenizer.end_id]
    rows: TokenRows = []
    for item in items:
        if isinstance(item.prompt, str):
            prompt = next(prompts)
            answer = [*next(texts), *end]
            if not item.turns:
                rows.append(([*prompt, *answer], len(prompt)))
                continue
            ids, learned = [*prompt, *answer], [False] * len(prompt)
            learned += [item.learned_from <= 1] * len(answer)
            for number in range(2, len(item.turns) + 2):
                written = number % 2 == 1
                part = [*next(texts), *end] if written else next(texts)
                ids += part
                learned += [written and number >= item.learned_from] * len(part)
            rows.append((ids, learned))
            continue
        messages = [*item.prompt, {"role": "assistant", "content": item.response}]
        start = len(item.prompt) if item.learned_from < 0 else item.learned_from
        with at_row(item.where):
            rows += encode_turns(talk, messages, start)
    return rows


def encode_turns(
    talk: ConversationFormat, messages: Sequence[Message], start: int = 0
) -> TokenRows:
    """Rows of a conversation in which the assistant's messages from number `start` on are learned.

    Each learned message has before it exactly what the policy reads when it is to write it.
    """
    rows: list[tuple[list[int], list[bool]]] = []
    written = ""
    for number, message in enumerate(messages):
        before = messages[:number]
        own = message["role"] == "assistant" and number >= start
        if not own or not before:
            continue
        head = talk.write(before, answer=True)
        if rows and head.startswith(written):
            ids, learned = rows[-1]
            between = talk.after_stop(talk.tokens(head[len(written) :], continues=True))
        else:
            ids, learned = [], []
            rows.append((ids, learned))
            between = talk.tokens(head)
        answer, text = _answer_pieces(talk, head, messages[: number + 1])
        ids += [*between, *answer]
        learned += [False] * len(between) + [True] * len(answer)
        written = head + text
    return [(ids, learned) for ids, learned in rows]


def _answer_pieces(
    talk: ConversationFormat, head: str, messages: Sequence[Message]
) -> tuple[list[int], str]:
    """The tokens of the last message with its stop token, and the text before that token."""
    tokenizer, content = talk.tokenizer, talk.marks.hide(messages[-1]["content"].strip())
    full = talk.write(messages)
    # A template whose generation prompt is not how it begins a finished turn: say what was said.
    tail = full[len(head) :] if full.startswith(head) else content + _end_text(talk)
    after = tail.find(content)
    after = after + len(content) if after >= 0 else 0
    stops = {token: tokenizer.inner.id_to_token(token) for token in talk.stop_ids}
    places = [(tail.find(text, after), token) for token, text in stops.items() if text]
    found = min((place for place in places if place[0] >= 0), default=None)
    if found is None:
        # No end behind the last turn: the document's own, or the policy would never stop.
        tail = tail.rstrip()
        return [*talk.tokens(tail, continues=True), tokenizer.end_id], tail
    place, token = found
    ids = talk.tokens(tail[: place + len(str(stops[token]))], continues=True)
    if ids[-1:] != [token]:
        ids = [*talk.tokens(tail[:place], continues=True), token]
    return ids, tail[:place]


def _end_text(talk: ConversationFormat) -> str:
    """What the template writes behind an answer, up to its stop token."""
    asked = {"role": "user", "content": "x"}, {"role": "assistant", "content": "\ue000"}
    return talk.write(asked).rpartition("\ue000")[2]


def encode_answer(talk: ConversationFormat, prompt: Prompt, answer: str) -> list[int]:
    """The tokens of an answer as the policy would write them, its stop token included."""
    if isinstance(prompt, str):
        return [*talk.tokenizer.encode(answer, continues=True), talk.tokenizer.end_id]
    head = talk.write(prompt, answer=True)
    message = {"role": "assistant", "content": answer}
    return _answer_pieces(talk, head, [*prompt, message])[0]


def encode_pairs(
    talk: ConversationFormat, pairs: Sequence[Preference]
) -> list[tuple[TokenRow, TokenRow]]:
    """The rows of both answers of every pair, each with the length of their prompt."""
    plain = [pair for pair in pairs if isinstance(pair.prompt, str)]
    prompts = iter(encode_prompts(talk.tokenizer, [str(pair.prompt) for pair in plain]))
    sides = [
        iter(talk.tokenizer.encode_batch([getattr(pair, side) for pair in plain], continues=True))
        for side in ("first", "second")
    ]
    end = [talk.tokenizer.end_id]
    found: list[tuple[TokenRow, TokenRow]] = []
    for pair in pairs:
        if isinstance(pair.prompt, str):
            prompt = next(prompts)
            first, second = ([*next(side), *end] for side in sides)
        else:
            with at_row(pair.where):
                prompt = talk.begin(pair.prompt)
                first = encode_answer(talk, pair.prompt, pair.first)
                second = encode_answer(talk, pair.prompt, pair.second)
        start = len(prompt)
        found.append((([*prompt, *first], start), ([*prompt, *second], start)))
    return found


def row_length(asked: int, usual: int, context: int, longest: int, *, own: bool) -> int:
    """Tokens a row may have.

    Args:
        asked: `--max-length`; 0 leaves it to the data.
        usual: What the size of the run stands for.
        context: Of the model.
        longest: Row of the data.
        own: Whether the data are the person's own and not those that come with playout.

    Raises:
        ConfigError: A single token is asked for, which says nothing of a text.
    """
    if asked == 1:
        raise ConfigError("--max-length 1 leaves nothing of a text; give 2 tokens or more")
    if asked:
        return min(asked, context)
    return min(context, max(usual, min(longest, OWN_LENGTH)) if own else usual)


def fit_rows(rows: TokenRows, limit: int, how: Truncate, *, what: str) -> TokenRows:
    """Rows of at most `limit` tokens from which something is learned; what was cut or lost is said.

    Args:
        rows: Of any length. Rows that are cut on the right come back whole, since packing cuts
            them there.
        limit: Tokens.
        how: Cut the end (right), cut the beginning but for the first token (left), leave the row
            out (drop), or refuse the data (error).
        what: Names the rows.

    Raises:
        DataError: A row is too long and `how` is error, or nothing is left.
    """
    long = [number for number, (ids, _) in enumerate(rows) if len(ids) > limit]
    say_lengths([len(ids) for ids, _ in rows], long, limit, how, what=what)
    fitted: TokenRows = []
    lost = 0
    for ids, learned in rows:
        if len(ids) > limit:
            if how == "drop":
                continue
            if how == "left":
                ids, learned = _without_beginning(ids, learned, len(ids) - limit)
        if is_learned(learned, min(limit, len(ids))):
            fitted.append((ids, learned))
        else:
            lost += 1
    if not fitted:
        raise DataError(f"no row of these {what} has room for an answer in {limit} tokens")
    _say_lost(lost, what, "an answer")
    return fitted


def _say_lost(count: int, what: str, room: str) -> None:
    """Say how many of the rows that were to be cut are left out, and what they have no room for."""
    if count:
        print(f"{count} of these {what} have no room for {room} and are left out", file=sys.stderr)


def is_learned(learned: int | list[bool], length: int) -> bool:
    """Whether any of the first `length` tokens of a row is learned."""
    return learned < length if isinstance(learned, int) else any(learned[:length])


def _without_beginning(ids: list[int], learned: int | list[bool], extra: int) -> TokenRow:
    """A row without tokens 1 to `extra`; the first, which begins a document, stays."""
    if isinstance(learned, int):
        return [ids[0], *ids[1 + extra :]], max(1, learned - extra)
    return [ids[0], *ids[1 + extra :]], [False, *learned[1 + extra :]]


def fit_pairs(
    pairs: Sequence[tuple[TokenRow, TokenRow]], limit: int, how: Truncate
) -> list[tuple[TokenRow, TokenRow] | None]:
    """Pairs of rows of at most `limit` tokens; None where nothing can be learned from one.

    On the left only the prompt, the same for both answers, is cut. See `fit_rows`. Of pairs that
    are cut none is left whose answers are the same up to there.
    """
    sizes = [max(len(row[0]) for row in pair) for pair in pairs]
    long = [number for number, size in enumerate(sizes) if size > limit]
    say_lengths(sizes, long, limit, how, what="pairs")
    found: list[tuple[TokenRow, TokenRow] | None] = []
    for pair, size in zip(pairs, sizes, strict=True):
        start = pair[0][1]
        assert isinstance(start, int)
        extra = size - limit
        if extra > 0 and how == "left" and start > extra:
            first, second = (_without_beginning(*row, extra) for row in pair)
        elif extra > 0 and how == "right" and start < limit:
            first, second = ((ids[:limit], start) for ids, _ in pair)
        elif extra > 0:
            found.append(None)
            continue
        else:
            first, second = pair
        found.append((first, second) if first[0] != second[0] else None)
    if how != "drop":
        lost = sum(found[number] is None for number in long)
        _say_lost(lost, "pairs", "answers that differ")
    return found


_DONE = {
    "right": "their ends are cut",
    "left": "their beginnings are cut",
    "drop": "they are left out",
}


def say_lengths(
    sizes: Sequence[int], long: Sequence[int], limit: int, how: Truncate, *, what: str
) -> None:
    """Say how many rows are too long and what becomes of them; DataError if nothing may."""
    if not long:
        return
    longest = max(sizes)
    said = f"{len(long)} of {len(sizes)} {what} are longer than {limit} tokens"
    if how == "error":
        raise DataError(
            f"{said}: the first is number {long[0] + 1}, with {sizes[long[0]]}; give --max-length, "
            "or --truncate right, left or drop"
        )
    print(f"{said} (the longest has {longest}): {_DONE[how]} (--truncate)", file=sys.stderr)

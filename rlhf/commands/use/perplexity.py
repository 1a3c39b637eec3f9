"""How likely the texts of a file are under a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from playout.rlhf.commands.options import ModelOptions
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from playout.rlhf.data.messages import Prompt
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.supervised.perplexity import Likelihood

Rows = list[tuple[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(ModelOptions):
    """Loss in nats a token, perplexity and bits a byte of texts, answers or conversations."""

    run: Annotated[Positional[str], arg(metavar="RUN", help_behavior_hint="(required)")] = ""
    """A stage, a whole pipeline (its best policy) or a model folder."""
    texts: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(required)")] = None
    """Plain text in paragraphs, or .jsonl, .csv or .parquet with `text`, with `prompt` and
    `response` (the response is scored), or with `messages` (the assistant's are); a line of .jsonl
    that is no object is a text."""
    json: Annotated[Path | None, arg(metavar="OUT", help_behavior_hint="")] = None
    """Write the measures of all texts and of each here as well."""
    logprobs: bool = False
    """With --json: every scored token with its text and log-probability."""
    document: bool = False
    """Take a file of plain text as a single document."""
    chat: bool = False
    """Of a chat model: a plain prompt is a user's message and what follows its answer, as `sft`
    learns them, and not one text."""
    ends: bool = False
    """Score the token that ends an answer as well, as `sft` teaches it."""
    max_length: int = 0
    """Tokens that are read at once; 0 takes the model's context."""
    stride: int = 0
    """Longer texts are read in windows that go on by so many tokens; 0 takes half a window."""


def main(command: Command) -> int:
    """Run the command."""
    import sys
    import time

    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.reporting import must_be_writable, write_json
    from playout.errors import ConfigError
    from playout.rlhf.commands.answer_options import answer_dtype
    from playout.rlhf.generation.conversation import conversation_format
    from playout.rlhf.model.adapters.held import held_type
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.model.threads import MAX_TOKENS, decoding_threads
    from playout.rlhf.supervised.perplexity import as_scored, likelihoods, summed

    if not command.run or command.texts is None:
        raise ConfigError("usage: playout rlhf perplexity RUN --texts FILE [--json OUT]")
    if command.logprobs and command.json is None:
        raise ConfigError("--logprobs are written with the measures: name a file with --json OUT")
    if command.json is not None:
        must_be_writable(command.json)
    given = _read(command.texts, command.document)
    device = resolve_device(command.device)
    weights = held_type(command.weights)
    model, tokenizer = load_model(command.run, device=device, weights=weights)
    talk = conversation_format(tokenizer)
    if command.chat and not talk.speaks_in_turns:
        raise ConfigError(f"{command.run} has no chat template; it goes on from plain texts")
    parts = [(where, *_parts(row, where, chat=command.chat)) for where, row in given]
    texts = [
        as_scored(talk, prompt, answer, where, ends=command.ends, special=True)
        for where, prompt, answer in parts
    ]
    unanswered = sum(
        answer is None and isinstance(prompt, str) and row.get("text") is None
        for (_, row), (_, prompt, answer) in zip(given, parts, strict=True)
    )
    if unanswered:
        note = f"{unanswered} of {len(given)} rows have no response: their prompts are measured"
        print(note, file=sys.stderr)
    tokens = sum(len(ids) for text in texts for ids, _ in text.rows)
    start = time.perf_counter()
    with decoding_threads(model, min(tokens, MAX_TOKENS), command.threads):
        found = likelihoods(
            model,
            texts,
            pad=tokenizer.pad_id,
            dtype=answer_dtype(command.dtype, device),
            length=command.max_length,
            stride=command.stride,
        )
    seconds = time.perf_counter() - start
    whole = summed(found).measures()
    print(
        f"{len(found)} texts, {whole['tokens']} tokens, {whole['bytes']} bytes: "
        f"loss {whole['loss']:.4f}, perplexity {whole['perplexity']:.3f}, "
        f"{whole['bits_per_byte']:.4f} bits a byte"
    )
    print(f"{tokens / max(seconds, 1e-9):.0f} tokens/s", file=sys.stderr)
    if command.json is not None:
        rows = [
            _item(row, likelihood, tokenizer if command.logprobs else None)
            for (_, row), likelihood in zip(given, found, strict=True)
        ]
        write_json(command.json, {**whole, "texts": rows})
    return 0


def _read(path: Path, document: bool) -> Rows:
    """(where it stands, row) of a file; a plain text is a row with a text."""
    from playout.errors import DataError
    from playout.rlhf.data.records import read_texts
    from playout.rlhf.data.rows import SUFFIXES, read_bytes, suffix_of, to_text
    from playout.rlhf.environments.prompts import mixed_rows

    if path.is_dir() or suffix_of(path) in SUFFIXES:
        rows = list(mixed_rows(path, "text"))
        if not rows:
            raise DataError(f"{path} holds no texts")
        return rows
    if document:
        return [(str(path), {"text": to_text(read_bytes(path), str(path)).replace("\r\n", "\n")})]
    return [(f"{path}, text {n}", {"text": text}) for n, text in enumerate(read_texts(path), 1)]


def _parts(row: dict[str, Any], where: str, *, chat: bool = False) -> tuple[Prompt, str | None]:
    """A row as what is read and, of an answer, what is scored."""
    from playout.rlhf.data.conversations import asked_and_said
    from playout.rlhf.data.messages import as_messages

    prompt, answer = asked_and_said(row, where)
    if not chat or answer is None or not isinstance(prompt, str):
        return prompt, answer
    return as_messages(prompt), answer.strip()


def _item(
    row: dict[str, Any], likelihood: Likelihood, tokenizer: Tokenizer | None
) -> dict[str, Any]:
    """What is written of one text."""
    names = (
        "text",
        "prompt",
        "messages",
        "response",
        "completion",
        "instruction",
        "input",
        "output",
    )
    item = {name: row[name] for name in names if name in row}
    item |= {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in likelihood.measures().items()
    }
    if tokenizer is not None:
        pairs = zip(likelihood.tokens, likelihood.logprobs, strict=True)
        item["token_logprobs"] = [
            {
                "id": token,
                "text": tokenizer.inner.decode([token], skip_special_tokens=False),
                "logprob": round(logprob, 5),
            }
            for token, logprob in pairs
        ]
    return item

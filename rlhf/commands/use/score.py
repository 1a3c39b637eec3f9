"""Score texts and conversations by a reward model, or name their class by a classifier."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

from playout.rlhf.commands.options import ModelOptions
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from playout.rlhf.data.messages import Prompt


T = TypeVar("T")
BLOCK = 512  # texts that are told together


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(ModelOptions):
    """Print or write the score of each line of a file."""

    run: Annotated[Positional[str], arg(metavar="RUN")] = ""
    """A reward stage, a whole pipeline, a model folder, or module:function; or a classify stage,
    whose score is the probability of the class that is named."""
    texts: Annotated[Path | None, arg(metavar="FILE")] = None
    """A text a line, UTF-8; or .jsonl, .csv or .parquet with `text`, with `prompt` and `response`,
    or with `messages` (and `response`), as `generate --json OUT.jsonl` writes them (required)."""
    json: Annotated[Path | None, arg(metavar="OUT")] = None
    """Write a list of what was scored with its "score" here instead of printing; of a name that
    ends in .jsonl, a line each. A command that is stopped leaves what is complete."""
    max_length: int = 0
    """Longest text in tokens; 0 takes what the model learned from."""
    truncate: Literal["", "left", "right"] = ""
    """What is cut of a longer text: its beginning or its end; by default as the model learned."""


def main(command: Command) -> int:
    """Run the command."""
    import time

    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.directory import RunDir
    from playout.agents.runs.reporting import must_be_writable
    from playout.errors import ConfigError
    from playout.own_code import trust_modules
    from playout.rlhf.data.conversations import prompt_text
    from playout.rlhf.model.adapters.held import held_type
    from playout.rlhf.model.threads import reading_threads
    from playout.rlhf.online.rewards import (
        RewardInputs,
        WeightedRewards,
        checked_rewards,
        load_reward,
    )
    from playout.rlhf.supervised.reward import RewardModel

    if not command.run or command.texts is None:
        raise ConfigError("usage: playout rlhf score RUN --texts FILE [--json OUT]")
    if command.json is not None:
        must_be_writable(command.json)
    rows, texts = _read(command.texts)
    trust_modules(command.run)  # whoever names a function means it
    readable = [prompt_text(text) for text in texts]
    if RunDir.is_run(Path(command.run)) and RunDir.open(command.run).kind == "rlhf.classify":
        return _classify(command, rows, readable)
    reward = load_reward(
        command.run,
        dtype=command.dtype,
        device=resolve_device(command.device),
        weights=held_type(command.weights),
    )
    sizes: list[int] = []
    if isinstance(reward, RewardModel):
        context = reward.model.config.max_position_embeddings
        reward.length = _length(command, reward.length, context)
        reward.truncate = command.truncate or reward.truncate
        begun = time.perf_counter()
        with reading_threads(reward.model, texts, command.threads):
            _tell(command, rows, readable, (
                [_Scored(score) for score in reward.scaled(reward.raw(block, sizes))]
                for block in _blocks(texts)
            ))  # fmt: skip
        _report(sizes, reward.length, time.perf_counter() - begun)
        return 0
    if command.max_length or command.truncate:
        raise ConfigError("--max-length and --truncate are for a model, not for a function")
    if command.weights != "float32" and not isinstance(reward, WeightedRewards):
        raise ConfigError("--weights is for a model, not for a function")
    given = zip(_blocks(readable), _blocks(texts), strict=True)
    blocks = (
        checked_rewards(reward, RewardInputs(shown, whole)).tolist() for shown, whole in given
    )
    _tell(command, rows, readable, ([_Scored(score) for score in block] for block in blocks))
    return 0


class _Scored(NamedTuple):
    """What is said of a text."""

    score: float
    label: str | None = None


def _blocks(texts: Sequence[T]) -> Iterator[Sequence[T]]:
    """Texts in pieces, each of which is told when it is done."""
    return (texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK))


def _tell(
    command: Command,
    rows: Sequence[dict[str, Any]],
    texts: Sequence[str],
    blocks: Iterable[Sequence[_Scored]],
) -> None:
    """Prints what was scored as it comes, or writes it from time to time and at the end."""
    from playout.rlhf.commands.kept_rows import KeptRows, progress

    if command.json is None:
        done = 0
        for block in blocks:
            for one in block:
                label = "" if one.label is None else f"{one.label}  "
                print(f"{one.score:8.3f}  {label}{texts[done]}", flush=True)
                done += 1
            if not sys.stdout.isatty():
                progress(done, len(texts), "texts scored")
        return
    kept, done = KeptRows(command.json, len(rows), "texts scored"), 0
    try:
        for block in blocks:
            items: list[tuple[int, dict[str, Any]]] = []
            for row, one in enumerate(block, done):
                item = dict(rows[row])
                if one.label is not None:
                    item["label"] = one.label
                items.append((row, {**item, "score": round(one.score, 6)}))
            kept.take(items)
            done += len(block)
    finally:
        kept.save()  # whoever stops it, and whatever does, leaves what is done


def _length(command: Command, usual: int, context: int) -> int:
    """How many tokens of a text are read."""
    from playout.errors import ConfigError

    if not 0 <= command.max_length <= context:
        raise ConfigError(
            f"--max-length is 1 to {context}, the model's context, not {command.max_length}"
        )
    return command.max_length or usual


def _report(sizes: Sequence[int], length: int, seconds: float) -> None:
    """How fast it was and what was cut, where it does not mix with the scores."""
    read, cut = sum(min(size, length) for size in sizes), sum(size > length for size in sizes)
    told = f"; {cut} texts were cut to {length} tokens (--max-length, --truncate)" if cut else ""
    speed = f"{read / max(seconds, 1e-9):.0f} tokens/s"
    print(f"{len(sizes)} texts, {read} tokens in {seconds:.1f} s ({speed}){told}", file=sys.stderr)


def _classify(command: Command, rows: list[dict[str, Any]], texts: list[str]) -> int:
    """The likeliest class of each text, with its probability."""
    import time
    from dataclasses import replace

    from playout.agents.runs.devices import resolve_device
    from playout.errors import ConfigError
    from playout.rlhf.model.threads import reading_threads
    from playout.rlhf.supervised.classifier import Classifier

    if command.weights != "float32":
        raise ConfigError("--weights is for reward models; a classifier is held in float32")
    device = resolve_device(command.device)
    classifier = Classifier.load(command.run, device=device, dtype=command.dtype)
    context = classifier.model.config.max_position_embeddings
    classifier = replace(
        classifier,
        length=_length(command, classifier.length, context),
        truncate=command.truncate or classifier.truncate,
    )
    sizes: list[int] = []
    begun = time.perf_counter()

    def named(block: Sequence[str]) -> list[_Scored]:
        shares = classifier.probabilities(block, sizes)
        return [_Scored(float(row.max()), classifier.classes[int(row.argmax())]) for row in shares]

    with reading_threads(classifier.model, texts, command.threads):
        _tell(command, rows, texts, map(named, _blocks(texts)))
    _report(sizes, classifier.length, time.perf_counter() - begun)
    return 0


def _read(path: Path) -> tuple[list[dict[str, Any]], list[Prompt]]:
    """The rows of a file as they are written again, and what is scored of each."""
    from playout.errors import DataError
    from playout.rlhf.data.rows import SUFFIXES, read_bytes, read_rows, suffix_of, to_text

    if suffix_of(path) in SUFFIXES or path.is_dir():
        found = [(row, _scored(row, where)) for where, row in read_rows(path)]
        if not found:
            raise DataError(f"{path} holds no texts")
        return [row for row, _ in found], [text for _, text in found]
    text = to_text(read_bytes(path), str(path)).replace("\r\n", "\n")
    if not text.strip():
        raise DataError(f"{path} is empty")
    lines: list[Prompt] = [*text.removesuffix("\n").split("\n")]
    return [{"text": line} for line in lines], lines


def _scored(row: dict[str, Any], where: str) -> Prompt:
    """A text or a conversation; an answer in a field of its own is its end."""
    from playout.rlhf.data.comparisons import answered
    from playout.rlhf.data.conversations import asked_and_said

    prompt, answer = asked_and_said(row, where)
    return prompt if answer is None else answered(prompt, answer)

"""`playout eval RUN --suite ...`: a model asked suites, what is clean of it, and against another.

Beside each value stand its interval, what chance would give, how well the model knows what it knows
(calibration), and the value on questions that do not stand in its training text. Two models are
compared question by question; p values are corrected for the number of suites.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs.kinds import EvalOptions
from playout.agents.runs.reporting import must_be_writable, note_found, table
from playout.agents.runs.signals import Interrupted
from playout.errors import ConfigError, DataError
from playout.rlhf.data.records import read_texts
from playout.rlhf.environments.game_prompt import GamePrompt
from playout.rlhf.evaluation.statistics import corrected
from playout.rlhf.evaluation.suites.card import draw_reliability, write_card
from playout.rlhf.evaluation.suites.material import TrainingText, training_text
from playout.rlhf.evaluation.suites.memorisation import memorisation
from playout.rlhf.evaluation.suites.results import (
    clean_part,
    compared,
    examples_read,
    headline,
    summary,
)
from playout.rlhf.evaluation.suites.score import Asking, answers_of, check_asking
from playout.rlhf.evaluation.suites.suite import Suite
from playout.rlhf.evaluation.suites.tasks.catalogue import (
    HARNESS,
    Material,
    check_name,
    find_suite,
)
from playout.rlhf.evaluation.suites.tasks.harness import run_task, summary_of
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.threads import MAX_TOKENS, decoding_threads
from playout.rlhf.model.transformer import Transformer

__all__ = ["Subject", "evaluate_suites"]

_SHOWN_GROUPS = 15  # more stand in the JSON file and on the card


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is asked.

    Attributes:
        path: Its run or folder.
        model: A decoder.
        tokenizer: Its own.
        dtype: Of matrix products.
        prompt: How it sees the game that it has learned, if it has.
    """

    path: Path
    model: Transformer
    tokenizer: Tokenizer
    dtype: torch.dtype
    prompt: GamePrompt | None = None


def evaluate_suites(
    opened: Callable[[], Subject],
    options: EvalOptions,
    *,
    other: Callable[[Path], Subject],
    tell: Callable[[], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Everything that the options ask for, printed and as plain data.

    Args:
        opened: Opens the model, once what is asked for has a name.
        options: See EvalOptions.
        other: Opens the model of `--against`.
        tell: Says what is measured, and returns it, once all that is asked for is found.

    Raises:
        ConfigError, DataError: A suite is not there, or is none; nothing was measured then.
    """
    _check(options)
    subject = opened()
    with decoding_threads(subject.model, MAX_TOKENS, options.threads):  # whole batches are read
        return _evaluated(subject, options, other, tell)


def _check(options: EvalOptions) -> None:
    """Refuses what can be told to be wrong before a model is read.

    Raises:
        ConfigError, DataError: A suite has no such name or file, or the card cannot be written.
    """
    if options.card is not None:
        must_be_writable(options.card)
    for text in options.suite:
        check_name(text)
        if options.chat and text.partition(":")[0] == HARNESS:
            raise ConfigError(
                f"{text}: a task of lm_eval is asked by its own prompts, as plain text; ask it "
                "without --chat"
            )


def _evaluated(
    subject: Subject,
    options: EvalOptions,
    other: Callable[[Path], Subject],
    tell: Callable[[], Mapping[str, Any]],
) -> dict[str, Any]:
    read = training_text(subject.path)
    for file in options.training_text:
        read.train += read_texts(file)
    if options.memorisation and not read.train:
        raise ConfigError(
            "--memorisation needs the training text, which is not known here: --training-text FILE"
        )
    material = Material(read.corpora, read.unknown, subject.prompt)
    asking = Asking(shots=options.shots, chat=options.chat, dtype=subject.dtype)
    suites = _suites(options, material)
    for suite in suites.values():
        if suite is not None:
            check_asking(suite, asking)
    rival = None if options.against is None else other(options.against)
    about = dict(tell())
    rows: dict[str, dict[str, Any]] = {}
    try:
        for name, suite in suites.items():
            rows[name] = _asked(name, suite, subject, rival, asking, options, read)
    except Interrupted:
        if rows:
            _told_suites(rows, subject, options)
        raise
    found = about | _told_suites(rows, subject, options)
    if options.contamination:
        found["training_text"] = _told_text(read)
    if options.memorisation:
        found["memorisation"] = _recited(subject, read, options)
    if options.card is not None:
        picture = draw_reliability(rows, options.card.with_suffix(".png"))
        write_card(options.card, subject.path, subject.model, found, picture=picture)
        print(f"wrote {options.card}")
    return found


def _told_suites(
    rows: dict[str, dict[str, Any]], subject: Subject, options: EvalOptions
) -> dict[str, Any]:
    """The suites that were asked, printed, noted and as plain data."""
    if options.against is not None:
        _correct(rows)
    _show(rows, options)
    found: dict[str, Any] = {"model": str(subject.path), "suites": rows}
    if options.against is not None:
        found["against"] = str(options.against)
    note_found(found)
    return found


def _suites(options: EvalOptions, material: Material) -> dict[str, Suite | None]:
    """Suites by name; None for a task of lm_eval. All are found before any is asked."""
    found: dict[str, Suite | None] = {}
    for text in options.suite:
        if text.partition(":")[0] == HARNESS:
            found[text] = None
            continue
        suite = find_suite(text, material).first(options.episodes, seed=options.seed)
        found[text if suite.name in found else suite.name] = suite
    return found


def _asked(
    name: str,
    suite: Suite | None,
    subject: Subject,
    rival: Subject | None,
    asking: Asking,
    options: EvalOptions,
    read: TrainingText,
) -> dict[str, Any]:
    """One suite, asked of the model and of the other one."""
    if suite is None:
        task = name.partition(":")[2]
        mine, *theirs = (
            run_task(
                one.model, one.tokenizer, task, shots=options.shots, limit=options.episodes,
                dtype=one.dtype,
            )
            for one in (subject, rival)
            if one is not None
        )  # fmt: skip
        row = summary_of(mine, task, read.train if options.contamination else ())
        if theirs and len(mine.values):
            row["against"] = compared(mine.values, theirs[0].values)
        return row
    mine_, theirs_ = (
        None if one is None else answers_of(one.model, one.tokenizer, suite, asking)
        for one in (subject, rival)
    )
    assert mine_ is not None
    row = summary(suite, mine_, shots=asking.shots)
    if options.contamination and read.train:
        row["contamination"] = clean_part(suite, mine_, read.train)
    if theirs_ is not None:
        values = headline(suite, mine_), headline(suite, theirs_)
        row["against"] = compared(*values, mine_.num_bytes)
    return row


def _correct(rows: dict[str, dict[str, Any]]) -> None:
    tested = [row["against"] for row in rows.values() if "against" in row]
    for row, p in zip(tested, corrected([row["p"] for row in tested]), strict=True):
        row["corrected p"] = p


def _told_text(read: TrainingText) -> dict[str, Any]:
    if read.unknown:
        print(f"contamination: {read.unknown}")
    return {"texts": len(read.train), "stages": read.stages, "unknown": read.unknown}


def _recited(subject: Subject, read: TrainingText, options: EvalOptions) -> dict[str, Any]:
    try:
        found = memorisation(
            subject.model,
            subject.tokenizer,
            read.train,
            read.heldout,
            count=options.memorisation,
            seed=options.seed,
            dtype=subject.dtype,
        )
    except DataError as error:  # what was measured until now is not lost for that
        print(f"memorisation: {error}")
        return {}
    for side, row in found.items():
        low, high = (100 * end for end in row["interval"])
        print(
            f"memorised of {side} text: {100 * row['rate']:.1f} % of {row['stretches']} stretches "
            f"(95 %: {low:.1f} to {high:.1f})"
        )
    return found


def _shown(
    row: dict[str, Any], value: float | None, interval: Sequence[float] | None = None
) -> str:
    """A value of a suite's measure for people: shares in per cent."""
    if value is None:
        return ""
    plain = row["measure"] == "bits_per_byte" or row["kind"] == HARNESS
    scale, digits = (1, 3) if plain else (100, 1)
    text = f"{scale * value:.{digits}f}"
    if interval is None:
        return text
    low, high = (scale * end for end in interval)
    return f"{text} ({low:.{digits}f} .. {high:.{digits}f})"


def _show(rows: dict[str, dict[str, Any]], options: EvalOptions) -> None:
    columns = ["suite", "questions", "measure", "value (95 %)", "chance", "ECE", "seen", "clean"]
    if options.against is not None:
        columns += ["other", "difference", "p"]
    lines = []
    for name, row in rows.items():
        cells = [
            name,
            str(row.get("items", "")),
            str(row["measure"]),
            _shown(row, row["value"], row.get("interval")),
            _shown(row, row.get("random")),
            f"{row['calibration']['error']:.3f}" if "calibration" in row else "",
        ]
        seen = row.get("contamination")
        cells.append("" if seen is None else str(seen["leaked"] + seen["near"]))
        cells.append("" if seen is None else _shown(row, seen.get("value"), seen.get("interval")))
        other = row.get("against")
        if other is not None:
            p = f"{other['corrected p']:.3g}"
            apart = _shown(row, other["difference"], other["interval"])
            cells += [_shown(row, other["value"]), apart, p]
        elif options.against is not None:
            cells += ["", "", ""]
        lines.append(cells)
    table("", columns, lines)
    for name, row in rows.items():
        if "cut" in row:
            few = examples_read(row)
            print(
                f"{name}: of {row['cut']} of {row['items']} questions the model read only the end; "
                f"they are longer than its context{f'; {few}' if few else ''}"
            )
    for name, row in rows.items():
        groups = row.get("groups", {})
        if groups and len(groups) <= _SHOWN_GROUPS:
            parts = [
                [group, str(part["items"]), _shown(row, part["value"], part["interval"])]
                for group, part in groups.items()
            ]
            table(f"{name}, by group", ["group", "questions", "value (95 %)"], parts)

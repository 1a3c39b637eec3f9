"""Reports of users as labels: what is added to the labels of a classifier, and whether it helped.

A report is a text with the label that it should have had. A part of the reports is held out with
the texts that were held out before; the new classifier and the old one are asked both. It is worth
adopting if it is right more often about reports, beyond chance, and elsewhere loses no more than a
margin and nothing beyond chance. Training is classify.py's.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout.agents.runs.directory import RunDir
from playout.errors import ConfigError, DataError
from playout.rlhf.data.datasets import Datasets
from playout.rlhf.data.records import Labelled, split_by_text, text_key
from playout.rlhf.data.rows import read_rows, text_field, write_rows
from playout.rlhf.evaluation.statistics import paired_test, wilson

__all__ = [
    "LABELS",
    "Kept",
    "added",
    "decision",
    "kept_labels",
    "labels_of",
    "told",
    "write_labels",
]

LABELS = "labelled.jsonl"
"""All labels of a run that learned from reports, in the run, with the side of each."""

HELD_OUT = 0.3
"""Share of the reports that nothing is learned from."""

MARGIN = 0.02
"""By how much the share of right answers may fall on what was held out before."""

CERTAIN = 0.05


@dataclass(frozen=True, slots=True)
class Kept:
    """A labelled text and its side."""

    text: str
    label: str
    held_out: bool
    report: int = 0
    """Which batch of reports it came with; 0 for the labels of the beginning."""

    @property
    def labelled(self) -> Labelled:
        """Without its side."""
        return Labelled(self.text, self.label)

    @property
    def key(self) -> str:
        """What tells texts apart."""
        return text_key(self.text)


def labels_of(run: RunDir) -> list[Kept]:
    """All labels that a run of classify knows, with the sides that they had there."""
    if (run.path / LABELS).exists():
        return kept_labels(run.path / LABELS)
    config = run.config
    rows = config.get("rows")
    data = str(config.get("data", "auto"))
    named = str(config.get("labelled") or "") or (
        "" if data in ("auto", "real", "synthetic") else data
    )
    source: Any = run.path / rows if isinstance(rows, str) else named
    train, test = Datasets(str(config["material"])).labelled(source and str(source), earlier=True)
    return [
        Kept(item.text, item.label, held) for held, side in ((False, train), (True, test))
        for item in side
    ]  # fmt: skip


def kept_labels(path: Path) -> list[Kept]:
    """What `write_labels` wrote."""
    return [
        Kept(
            text_field(row, where, "text", empty=True),
            text_field(row, where, "label"),
            bool(row.get("held_out")),
            int(row.get("report") or 0),
        )
        for where, row in read_rows(path)
    ]


def write_labels(path: Path, labels: Sequence[Kept]) -> None:
    """Keeps labels with a run."""
    write_rows(path, [asdict(one) for one in labels])


def added(labels: Sequence[Kept], reports: Sequence[Labelled]) -> list[Kept]:
    """The labels with a batch of reports: a report overrules what was thought of its text.

    A text that is known stays on its side; of new ones HELD_OUT are held out, by the text alone.

    Raises:
        DataError: A label is no class, or two reports say different things of one text.
        ConfigError: All of them are held out, so that nothing would be learned from them.
    """
    classes = {one.label for one in labels}
    found = {one.key: one for one in labels}
    batch = 1 + max((one.report for one in labels), default=0)
    held = {
        id(one) for one in split_by_text(reports, HELD_OUT, texts=lambda r: [r.text], seed=3)[1]
    }
    said: dict[str, str] = {}
    for number, report in enumerate(reports, 1):
        where = report.where or f"report {number}"
        if report.label not in classes:
            known = ", ".join(sorted(classes))
            raise DataError(f"{where}: the label {report.label!r} is none of {known}")
        one = Kept(report.text, report.label, id(report) in held, batch)
        if said.setdefault(one.key, report.label) != report.label:
            raise DataError(f"{where}: another report says {said[one.key]!r} of this text")
        there = found.get(one.key)
        found[one.key] = one if there is None else replace(there, label=one.label, report=batch)
    if said and all(found[key].held_out for key in said):
        raise ConfigError(
            "nothing would be learned from the reports: all of their texts are held out; collect "
            "more of them"
        )
    return list(found.values())


def decision(
    before: NDArray[Any],
    after: NDArray[Any],
    labels: Sequence[Kept],
    classes: Sequence[str],
    *,
    batch: int,
) -> dict[str, Any]:
    """Whether a new classifier should take the place of the old one.

    Args:
        before: [N, classes] scores of the old one for the held-out labels.
        after: Those of the new one.
        labels: The N held-out labels.
        classes: Names of the columns.
        batch: Which reports are judged; the old classifier has learned from those before it.

    Returns:
        For `reports` (those of the batch) and `others`: `texts`, `before` and `after` (shares that
        are right), `interval` (of `after`), `difference` with `difference_interval`, and `p`.
        `adopt` and `why`.

    Raises:
        ConfigError: No report of the batch is held out.
    """
    wanted = np.array([list(classes).index(one.label) for one in labels])
    reported = np.array([one.report == batch for one in labels])
    if not reported.any():
        raise ConfigError(
            "none of the reports is held out: too few of them are of texts that were not known"
        )
    right = [(scores.argmax(axis=1) == wanted).astype(np.float64) for scores in (before, after)]
    found: dict[str, Any] = {}
    for name, rows in (("reports", reported), ("others", ~reported)):
        if not rows.any():
            continue
        old, new = (side[rows] for side in right)
        test = paired_test(new, old)
        found[name] = {
            "texts": int(rows.sum()),
            "before": float(old.mean()),
            "after": float(new.mean()),
            "interval": list(wilson(float(new.sum()), int(rows.sum()))),
            "difference": test.difference,
            "difference_interval": list(test.interval),
            "p": test.p,
        }
    return found | _judged(found)


def _judged(found: dict[str, Any]) -> dict[str, Any]:
    new, old = found["reports"], found.get("others")
    better = new["difference"] > 0 and new["p"] < CERTAIN
    lost = 0.0 if old is None else -old["difference"]
    # A handful of texts cannot prove that nothing is lost; what they show must not speak for it.
    kept = old is None or (lost <= MARGIN and not (lost > 0 and old["p"] < CERTAIN))
    if better and kept:
        why = "it is right more often about reports, and loses nothing that counts elsewhere"
    elif not better:
        why = "what it gains on reports may be chance; collect more of them"
        if new["difference"] <= 0:
            why = "it is right about reports no more often than before"
    else:
        why = f"elsewhere it loses {100 * lost:.1f} of 100 right answers"
    return {"adopt": bool(better and kept), "why": why}


def told(found: dict[str, Any], before: Path, after: Path) -> str:
    """A decision for people."""
    lines = []
    for name, words in (("reports", "held-out reports"), ("others", "other held-out texts")):
        if name in found:
            row = found[name]
            low, high = (100 * end for end in row["interval"])
            lines.append(
                f"{row['texts']} {words}: {100 * row['after']:.1f} % right ({low:.1f} to "
                f"{high:.1f}), {100 * row['before']:.1f} % before (p = {row['p']:.2g})"
            )
    word = f"adopt {after}" if found["adopt"] else f"keep {before}"
    return "\n".join([*lines, f"{word}: {found['why']}"])

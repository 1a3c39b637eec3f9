"""The page of a study: what was asked, a table, pictures, and what they say, as one HTML file.

What a study publishes of its full form lies with the results, in a folder of its name with the
pictures; what it says stands in docs/measured.md as well.
"""

from __future__ import annotations

import html
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playout.benchmarks.tools.measuring import STUDIES, write_result

STYLE = """\
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.25rem .7rem;border-bottom:1px solid #ddd}
td{text-align:right;font-variant-numeric:tabular-nums}td:first-child,th:first-child{text-align:left}
img{max-width:100%}code{background:#f3f3f3;padding:0 .2rem}"""

QUICK = (
    "This is the quick form: tiny networks, little data, few steps. It shows what the full study "
    "looks at; differences in it may be chance."
)


@dataclass(slots=True)
class Page:
    """What a study found, in the order in which it is read; of a quick form it says so."""

    title: str
    question: str
    quick: bool = False
    parts: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    def text(self, words: str) -> None:
        """A paragraph."""
        self.parts.append(f"<p>{html.escape(words)}</p>")

    def findings(self, sentences: Sequence[str]) -> None:
        """What a table says, a sentence a finding."""
        self.said += sentences
        items = "".join(f"<li>{html.escape(one)}</li>" for one in sentences)
        self.parts.append(f"<ul>{items}</ul>")

    def table(self, rows: Sequence[Mapping[str, Any]], caption: str) -> None:
        """A table of rows of equal keys."""
        names = list(rows[0])
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(shown(row.get(n)))}</td>" for n in names) + "</tr>"
            for row in rows
        )
        self.parts.append(
            f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{body}</table>"
        )

    def picture(self, name: str, words: str) -> None:
        """A picture that lies beside the page."""
        self.pictures.append(name)
        shown_words = html.escape(words)
        self.parts.append(f'<p><img src="{html.escape(name)}" alt="{shown_words}"></p>')
        self.parts.append(f"<p>{shown_words}</p>")

    def write(self, folder: Path) -> Path:
        """Writes index.html into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        body = f"<p><strong>{QUICK}</strong></p>" * self.quick + "\n".join(self.parts)
        path = folder / "index.html"
        path.write_text(
            f"<!doctype html><meta charset=utf-8><title>{html.escape(self.title)}</title>"
            f"<style>{STYLE}</style><h1>{html.escape(self.title)}</h1>"
            f"<p><em>{html.escape(self.question)}</em></p>{body}\n",
            encoding="utf-8",
        )
        return path

    def publish(self, folder: Path, name: str, found: Mapping[str, Any], **settings: Any) -> Path:
        """Leaves a written page with the results, under results/studies/training.

        Args:
            folder: Where the page was written.
            name: Of the study.
            found: What was measured, with "claims" as tools/report.py reads them.
            **settings: What was run.

        Returns:
            The file of numbers; the page lies in a folder beside it.
        """
        kept = STUDIES / "training" / name
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for one in ("index.html", *self.pictures):
            shutil.copyfile(folder / one, kept / one)
        payload = {**found, "findings": self.said}
        return write_result(f"studies/training/{name}", payload, settings=settings)


def shown(value: Any) -> str:
    """A cell: numbers with three digits, pairs as an interval (of one seed as its number)."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, tuple | list) and len(value) == 2:
        low, high = shown(value[0]), shown(value[1])
        return low if value[0] == value[1] else f"{low} to {high}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def with_half(mean: float, half: float, text: str = "{:.3g}") -> str:
    """A mean with half of its interval, "0.5 ± 0.1"; of one seed, which has none, alone."""
    return text.format(mean) + ("" if math.isnan(half) else f" ± {text.format(half)}")


def compared(
    mean: float,
    half: float,
    than: str,
    unit: str = "",
    words: tuple[str, str] = ("more", "less"),
    *,
    among: int = 1,
) -> str:
    """A difference in words: "2 points more than before (95 %: +1.2 to +3)"; or it may be chance.

    Args:
        mean: The difference.
        half: Half of its 95 % interval; NaN where one seed gives none.
        than: What is compared with.
        unit: What it is counted in.
        words: For a positive difference and for a negative one.
        among: How many candidates the one was chosen from that the interval is of, and is made for.
    """
    none = math.isclose(mean, 0, abs_tol=1e-9)  # but for how numbers round
    size = f"{abs(mean):.3g} {unit}".rstrip() + f" {words[mean < 0]} than {than}"
    if none:
        size = f"no {words[0]} and no {words[1]} than {than}"
        if not half > 0:
            return size
    if math.isnan(half):
        return f"{size} (one seed, so this may be chance)"
    low, high = mean - half, mean + half
    doubt = ", which may be chance" if low <= 0 <= high else ""
    chosen = f" for the best of {among}" if among > 1 else ""
    return f"{size}{doubt} (95 %{chosen}: {low:+.3g} to {high:+.3g})"

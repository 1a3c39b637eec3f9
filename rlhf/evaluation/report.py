"""One page about a pipeline: plots, tables, samples before and after.

Reads what the stages left in their folders and writes report/index.html, which holds everything,
with the plots beside it as PNG. Nothing is measured here; plots are drawn in plots.py.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.errors import RunError
from playout.rlhf.data.votes import DIVISION
from playout.rlhf.evaluation.findings import findings, of_sampling, share
from playout.rlhf.evaluation.samples import read_pairs, read_samples
from playout.rlhf.model.folder import IMPROVING, JUDGE

__all__ = [
    "closing",
    "curve",
    "html_page",
    "html_table",
    "picture",
    "sampling_gaps",
    "write_report",
]

SHOWN = 10


def curve(folder: Path, key: str) -> list[tuple[int, float]]:
    """(update, value) of a metric, where it was a number."""
    return [
        (int(row.get("update", n)), float(row[key]))
        for n, row in enumerate(read_rows(folder), 1)
        if row.get(key) is not None
    ]


def sampling_gaps(folders: Mapping[str, Path]) -> dict[str, tuple[float, float]]:
    """By stage, how far log-probabilities while sampling and while learning lay apart.

    Args:
        folders: Where the stages live; those that logged no such gap are left out.

    Returns:
        Mean over the updates and largest of any token, in nats.
    """
    found = {}
    for stage, folder in folders.items():
        means = [gap for _, gap in curve(folder, "val/sampling_gap")]
        if means:
            largest = [gap for _, gap in curve(folder, "val/sampling_gap_max")]
            found[stage] = sum(means) / len(means), max(largest or means)
    return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def gather(path: Path) -> dict[str, Any]:
    """Everything the report shows, by stage; absent stages are left out."""
    found: dict[str, Any] = {"trained": {}}
    for name, keys in (
        ("pretrain", ("eval/bits_per_byte", "train/loss")),
        ("sft", ("eval/loss", "train/loss")),
        ("reward", ("eval/accuracy", "train/loss")),
    ):
        curves = {key: curve(path / name, key) for key in keys}
        if any(curves.values()):
            found[name] = curves
    for name in IMPROVING:
        evaluations = evaluations_of(path / name)
        if evaluations:
            found["trained"][name] = evaluations
    found["sampling_gap"] = sampling_gaps({name: path / name for name in IMPROVING})
    found["classify_table"] = _read(path / "classify" / "table.json")
    found["reward_table"] = _read(path / "reward" / "table.json")
    found["judge_table"] = _read(path / JUDGE / "table.json")
    found["best_of_n"] = _read(path / "best-of-n" / "table.json")
    found["judge"] = _read(path / "judge" / "table.json")
    return found


def evaluations_of(folder: Path) -> list[dict[str, float]]:
    """Evaluations of a stage that improved a policy, the state before it first."""
    before = _read(folder / "baseline.json")
    rows = [] if before is None else [{"update": 0.0, **before}]
    for number, row in enumerate(read_rows(folder), 1):
        own = {
            key.removeprefix("eval/"): value
            for key, value in row.items()
            if "eval/" in key and value is not None
        }
        if own:
            rows.append({"update": float(row.get("update", number)), **own})
    return rows


def samples_of(path: Path) -> list[dict[str, Any]]:
    """The same held-out prompts answered before and after every stage."""
    if judged := _judged(path / "judge"):
        return judged
    before: list[dict[str, Any]] = []
    after: dict[str, list[dict[str, Any]]] = {}
    for name in IMPROVING:
        tables = read_samples(path / name) if (path / name / "samples").is_dir() else {}
        if tables:
            before = before or list(tables[min(tables)])
            after[name] = list(tables[max(tables)])
    best = _read(path / "best-of-n" / "samples.json") or []
    found = []
    for row, first in enumerate(before[:SHOWN]):
        answers = [("before", first)]
        answers += [(name, table[row]) for name, table in after.items() if row < len(table)]
        entry = {"prompt": first["prompt"], "answers": answers}
        if row < len(best) and best[row]["prompt"] == first["prompt"]:
            shown = {"response": best[row]["best"], "reward": best[row]["reward_best"]}
            answers.append(("best of n", shown))
        found.append(entry)
    return found


def _judged(folder: Path) -> list[dict[str, Any]]:
    """The answers that a judge compared, where they were kept."""
    tables = {name: read_pairs(folder / f"{name}.json")[:SHOWN] for name in IMPROVING}
    tables = {name: table for name, table in tables.items() if table}
    if not tables:
        return []
    first = next(iter(tables.values()))
    return [
        {
            "prompt": row["prompt"],
            "answers": [
                ("before", row["before"]),
                *((name, table[number]["after"]) for name, table in tables.items()),
            ],
        }
        for number, row in enumerate(first)
    ]


def write_report(path: Path) -> Path:
    """Write the report of the pipeline in `path`; returns the page."""
    run = RunDir.open(path)
    if run.kind != "rlhf.all":
        raise RunError(f"{path} is a run of kind {run.kind}; a report is about `playout rlhf all`")
    from playout.rlhf.evaluation.plots import draw

    folder = run.subrun("report")
    folder.mkdir(exist_ok=True)
    data = gather(path)
    pictures = draw(data, folder)
    page = _page(run, data, pictures, samples_of(path))
    replace_file(folder / "index.html", page.encode())
    replace_file(folder / "report.json", json.dumps(data, indent=1).encode())
    return folder / "index.html"


def closing(path: Path) -> list[str]:
    """What the pipeline in `path` came to, in lines for the terminal: findings, and a sample."""
    lines = ["", "What it came to"]
    lines += [f"  {line}" for line in findings(gather(path))]
    for row in samples_of(path)[:1]:
        lines += ["", f"A held-out prompt, not picked: {row['prompt']} ..."]
        width = max(len(name) for name, _ in row["answers"])
        for name, answer in row["answers"]:
            lines.append(f"  {name:{width}}  sampled   {_flat(answer['response'])}")
            if "greedy" in answer:
                lines.append(f"  {'':{width}}  likeliest {_flat(answer['greedy'])}")
    return [*lines, ""]


def _flat(text: Any, limit: int = 160) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= limit else f"{line[:limit]}..."


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em;
  color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { border-bottom: 1px solid #ccc; padding: .3em .8em; text-align: left; vertical-align: top; }
img { max-width: 100%; }
"""


_NOTES = {
    "synthetic": "<p><b>Made-up text:</b> the stages ran on built-in reviews from a small grammar, "
    "whose true value the judge knows. Nothing here says how a model does on real text.</p>",
    "real": "<p>Real text: movie reviews with their raters' ratings, and Shakespeare.</p>",
    "votes": "<p>Votes of people on answers. The judge is a second reward model, which other votes "
    "taught, maybe of the same people; no policy and no learned reward saw the prompts that it "
    "judges on.</p>",
    "voters": "<p>Votes of people on answers. The judge is a second reward model, which other "
    "people's votes taught; no policy and no learned reward saw the prompts that it judges on.</p>",
}


def html_page(title: str, body: str, *, style: str = "") -> str:
    """A page that needs no other file; `title` is text, `body` HTML, `style` further CSS."""
    title = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}{style}</style><h1>{title}</h1>{body}</html>\n"
    )


def picture(png: bytes, title: str) -> str:
    """An image that lies in the page itself."""
    data = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _tables(data: dict[str, Any]) -> str:
    parts = []
    if data["judge"]:
        rows = [
            [stage, by, share(row["win_rate"], row["interval"]), f"{row['mean']:.3f}",
             f"{row['opponent_mean']:.3f}"]
            for stage, found in data["judge"].items()
            for by, row in found.items()
        ]  # fmt: skip
        head = ("policy", "judged by", "wins against before (95 %)", "mean", "mean before")
        parts.append("<h2>Win rates</h2>" + html_table(head, rows))
    if data["best_of_n"]:
        names = [n for n in ("reward", "judge", "length") if n in data["best_of_n"][0]]
        rows = [
            [str(row["n"]), f"{row['kl']:.2f}", *(f"{row[name]:.3f}" for name in names)]
            for row in data["best_of_n"]
        ]
        parts.append("<h2>Best of n</h2>" + html_table(("n", "KL at most", *names), rows))
    if data["classify_table"]:
        rows = [
            [
                row["task"],
                row["model"],
                share(row.get("accuracy", row.get("pair_accuracy", 0.0)), row["interval"]),
                ""
                if (second := row.get("f1", row.get("far_pair_accuracy"))) is None
                else f"{second:.3f}",
            ]
            for row in data["classify_table"]
        ]
        names = ["task", "model", "accuracy or pairs in order (95 %)", "F1, or pairs 1 apart"]
        parts.append("<h2>Supervised baselines</h2>" + html_table(names, rows))
    return "\n".join(parts)


def _samples(rows: Sequence[dict[str, Any]]) -> str:
    parts = [
        "<h2>Samples</h2><p>Held-out prompts, nothing picked; beside each sampled answer stands "
        "the policy's likeliest one, where it was asked for.</p>"
    ]
    for row in rows:
        cells = []
        for name, answer in row["answers"]:
            scores = ", ".join(
                f"{key} {answer[key]:.2f}" for key in ("reward", "judge") if key in answer
            )
            greedy = str(answer.get("greedy", "")).strip()
            cells.append([name, str(answer["response"]).strip(), scores, greedy])
        parts.append(f"<h3>{html.escape(str(row['prompt']))} …</h3>")
        parts.append(html_table(("policy", "sampled", "scores", "likeliest"), cells))
    return "\n".join(parts)


def _page(
    run: RunDir, data: dict[str, Any], pictures: dict[str, Path], samples: list[dict[str, Any]]
) -> str:
    material = str(run.config.get("material"))
    if (_read(run.path / DIVISION) or {}).get("by_voters"):
        material = "voters"
    note = _NOTES.get(material, _NOTES["real"])
    figures = "".join(
        f"<figure>{picture(path.read_bytes(), title)}<figcaption>{html.escape(title)}"
        "</figcaption></figure>"
        for title, path in pictures.items()
    )
    points = "".join(f"<li>{html.escape(line)}</li>" for line in findings(data))
    gaps = "".join(f"<p>{html.escape(line)}</p>" for line in of_sampling(data["sampling_gap"]))
    return html_page(
        f"playout rlhf: {run.path.name}, size {run.config.get('size')}",
        f"{note}<ul>{points}</ul><h2>Curves</h2>{figures}{gaps}{_tables(data)}{_samples(samples)}",
        style="figure { margin: 1em 0; } figcaption, small { color: #666; }\n",
    )

"""Writes the measured tables of docs/measured.md and README.md from files in benchmarks/results.

    python benchmarks/tools/report.py            rewrite what stands between the two markers
    python benchmarks/tools/report.py --check    exit code 1 if a page is stale

A result takes part if its payload has "claims", a list of objects: claim (what is compared), ours,
unit, command, and where there is a peer peer, peer_name, ratio (larger is better). target is what
was promised, a number for the ratio (for `ours` where there is no peer; with "better": "lower" a
limit from above). source says where a peer's number was published; without it the peer was
measured here, and in the same run where there is a ratio. ours, peer and ratio are numbers or rates
(median, min, max). Claims with a row and a column make a table of their own: many of these have no
peer. A picture of the same name stands below. docs/measured.md shows all claims, README.md those in
HEADLINES and what was missed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


class Headline(NamedTuple):
    """A claim that README shows, in plain words."""

    words: str
    result: str
    claim: str
    which: str
    """The peer, or the note, that tells claims of the same name apart."""


HEADLINES = (
    Headline("1,024 CartPoles stepped", "envs", "CartPole-v1, 1,024 environments", "Gymnasium"),
    Headline(
        "1,024 boards of Connect Four stepped, with masks",
        "envs",
        "Connect Four, 1,024 boards, with masks, beside the fastest vector environment",
        "EnvPool",
    ),
    Headline(
        "search of 256 boards, 32 simulations each, no network, one core",
        "search",
        "Connect Four, gumbel, constant evaluator, 256 trees x 32 simulations, one core,"
        " observations written",
        "mctx with pgx",
    ),
    Headline(
        "self-play, strictly the same work, each in its best type",
        "selfplay",
        "Connect Four self-play, strictly the same, best type, base network, 32 simulations",
        "mctx with pgx",
    ),
    Headline(
        "self-play, shipped against shipped",
        "selfplay",
        "Connect Four self-play, as shipped, base network, 32 simulations",
        "mctx with pgx",
    ),
    Headline(
        "PPO, steps of CartPole learned from",
        "ppo",
        "training throughput, PPO, CartPole-v1",
        "stable-baselines3 PPO",
    ),
    Headline(
        "PPO until CartPole is solved",
        "ppo",
        "CartPole-v1 to 475, training alone",
        "stable-baselines3, tuned",
    ),
    Headline("PPO on language", "language", "ppo step, best type on each side", "TRL 1.12"),
    Headline(
        "pretraining, both compiled",
        "language",
        "pretraining step, both compiled, bfloat16",
        "plain GPT",
    ),
)
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
KEYS = (
    "claim",
    "ours",
    "peer",
    "peer_name",
    "source",
    "ratio",
    "target",
    "unit",
    "command",
    "better",
    "note",
    "row",
    "column",
)


def short(number: float) -> str:
    """A number with three digits and k, M or G."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def middle(value: Any) -> float | None:
    """The number of a number, a rate or an interval."""
    if isinstance(value, dict):
        value = value.get("median", value.get("mean"))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def cell(value: Any, unit: str = "") -> str:
    """A value with its spread and unit, as a table shows it."""
    number = middle(value)
    if number is None:
        return "" if value is None else str(value)
    text = short(number)
    if isinstance(value, dict) and "min" in value and "max" in value:
        text += f" ({short(value['min'])} to {short(value['max'])})"
    return f"{text} {unit}".strip()


def read_claims(folder: Path = RESULTS) -> list[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """(name, record, claims) of every result that makes claims, in the order of names.

    A name has the folder in it where there is one, as in "studies/games/learned_games".
    """
    found = []
    for path in sorted(folder.rglob("*.json"), key=lambda path: path.stem):
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            continue
        payload = record.get("results")
        claims = payload.get("claims") if isinstance(payload, dict) else None
        claims = claims or record.get("claims") or []
        if not claims and not findings_of(record):
            continue
        for claim in claims:
            unknown = sorted(set(claim) - set(KEYS))
            if unknown or "claim" not in claim or "ours" not in claim:
                raise ValueError(
                    f"{path.name}: a claim needs claim and ours and knows no {unknown}"
                )
        found.append((path.relative_to(folder).with_suffix("").as_posix(), record, claims))
    return found


def findings_of(record: dict[str, Any]) -> list[str]:
    """What a study says in words."""
    payload = record.get("results")
    return list(payload.get("findings", ())) if isinstance(payload, dict) else []


def verdict(claim: dict[str, Any]) -> str:
    """Whether the target is reached; empty if there is none."""
    target = middle(claim.get("target"))
    measured = middle(claim["ratio"] if claim.get("ratio") is not None else claim["ours"])
    if target is None or measured is None:
        return ""
    lower = claim.get("better") == "lower" and claim.get("ratio") is None
    reached = measured <= target if lower else measured >= target
    return "yes" if reached else "**no**"


def wanted(claim: dict[str, Any]) -> str:
    """The target, for a ratio or for `ours` itself; empty if there is none."""
    target = claim.get("target")
    if target is None:
        return ""
    if claim.get("ratio") is not None:
        return f"{cell(target)}×"
    limit = "at most " if claim.get("better") == "lower" else ""
    return limit + cell(target, claim.get("unit", ""))


def table(claims: list[dict[str, Any]]) -> list[str]:
    """The Markdown table of one result."""
    lines = [
        "| measured | playout | peer | ratio | wanted | reached |",
        "|---|---|---|---|---|---|",
    ]
    for claim in claims:
        unit = claim.get("unit", "")
        compared = claim.get("ratio") is not None
        peer = cell(claim.get("peer"), unit)
        name = claim.get("peer_name") or ""
        if peer and name:
            published = claim.get("source")
            measured = "same run" if compared else "measured here"
            name += f"; published: {published}" if published else f"; {measured}"
        lines.append(
            "| "
            + " | ".join(
                [
                    claim["claim"] + (f" ({claim['note']})" if claim.get("note") else ""),
                    cell(claim["ours"], unit),
                    f"{peer} ({name})" if peer and name else peer or name,
                    f"{cell(claim['ratio'])}×" if compared else "",
                    wanted(claim),
                    verdict(claim),
                ]
            )
            + " |"
        )
    return lines


def grid(claims: list[dict[str, Any]]) -> list[str]:
    """The Markdown table of claims that have a row and a column."""
    columns = list(dict.fromkeys(claim["column"] for claim in claims))
    rows: dict[str, dict[str, str]] = {}
    for claim in claims:
        text = cell(claim["ours"], claim.get("unit", ""))
        if wanted(claim):
            text += f"; wanted {wanted(claim)}: {verdict(claim)}"
        rows.setdefault(claim["row"], {})[claim["column"]] = text
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row, cells in rows.items():
        lines.append(f"| {row} | {' | '.join(cells.get(name, '') for name in columns)} |")
    return lines


def report(folder: Path = RESULTS) -> str:
    """All tables, with where they were measured and the commands that repeat them."""
    parts = []
    for name, record, claims in read_claims(folder):
        title = name.rpartition("/")[2].replace("_", " ")
        machine = record.get("machine", {})
        cores = machine.get("cores", "?")
        where = f"{machine.get('processor', 'unknown processor')}, {cores} core{'s'[cores == 1 :]}"
        commands = sorted({claim["command"] for claim in claims if claim.get("command")})
        shown = ", ".join(f"`{command}`" for command in commands)
        day = str(record.get("date", ""))[:10]
        lines = [f"## {title}", "", f"{where}; {day}{'; ' + shown if shown else ''}", ""]
        picture = []
        if (folder / f"{name}.png").is_file():
            picture = ["", f"![{title}](../benchmarks/results/{name}.png)"]
        words = [f"- {one}" for one in findings_of(record)]
        if (folder / name / "index.html").is_file():
            page = f"../benchmarks/results/{name}/index.html"
            words = [f"The [page]({page}) has the tables and pictures. It says:", "", *words]
        crossed = [claim for claim in claims if "row" in claim]
        plain = [claim for claim in claims if "row" not in claim]
        tables = [made(some) for made, some in ((grid, crossed), (table, plain)) if some]
        tables += [words] if words else []
        parts.append("\n".join([*lines, "\n\n".join(map("\n".join, tables)), *picture]))
    return "\n\n".join(parts) if parts else "No results yet: run `playout bench`."


def headlines(folder: Path = RESULTS, chosen: tuple[Headline, ...] = HEADLINES) -> str:
    """The chosen ratios, medians alone, and how many of all targets were missed.

    Raises:
        ValueError: a chosen claim is not there, or not once, or has no ratio.
    """
    results = {name: claims for name, _, claims in read_claims(folder)}
    lines = [
        "| measured | playout | peer | ratio | wanted | all of it |",
        "|---|---|---|---|---|---|",
    ]
    for words, name, text, which in chosen:
        found = [
            claim
            for claim in results.get(name, [])
            if claim["claim"] == text
            and any(str(claim.get(key, "")).startswith(which) for key in ("peer_name", "note"))
        ]
        if len(found) != 1 or middle(found[0].get("ratio")) is None:
            raise ValueError(f"{name}.json has {len(found)} claims {text!r} ({which}) with a ratio")
        claim = found[0]
        unit = claim.get("unit", "")
        ours, peer, ratio = (middle(claim.get(key)) for key in ("ours", "peer", "ratio"))
        missed = ", **missed**" if verdict(claim) not in ("", "yes") else ""
        cells = [
            words,
            cell(ours, unit),
            f"{cell(peer, unit)} ({claim['peer_name']})",
            f"{cell(ratio)}×",
            wanted(claim) + missed,
            f"[{name}](docs/measured.md#{name})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    verdicts = [verdict(claim) for claims in results.values() for claim in claims]
    promised = [reached for reached in verdicts if reached]
    missing = len(promised) - promised.count("yes")
    return (
        "\n".join(
            [*lines, "", f"Of all {len(promised)} targets, {missing} are missed: [every number]"]
        )
        + "(docs/measured.md)."
    )


def rewrite(text: str, tables: str) -> str:
    """`text` with what stands between the markers replaced.

    Raises:
        ValueError: the markers are missing or out of order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs a line {BEGIN} and below it a line {END}")
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Rewrite or check the pages."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = False
    for name, write in (("README.md", headlines), ("docs/measured.md", report)):
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        try:
            fresh = rewrite(text, write())
        except ValueError as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            return 2
        if text == fresh:
            continue
        stale = True
        if arguments:
            print(f"{name} is stale: run python benchmarks/tools/report.py", file=sys.stderr)
        else:
            path.write_text(fresh, encoding="utf-8")
    return 1 if stale and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

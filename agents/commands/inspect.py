"""Show what is in a run: settings, progress, last metrics, checkpoints with every byte checked."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from playout.agents.runs.checkpoint import folder as checkpoints
from playout.agents.runs.checkpoint.folder import Checkpoint
from playout.agents.runs.checkpoint.manifest import check_manifest
from playout.agents.runs.config import dotted
from playout.agents.runs.console import short_number, short_time
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.agents.runs.reporting import write_json
from playout.errors import CheckpointError
from tyro.conf import Positional, UseAppendAction, arg

SOUND = ("sound", "not checked", "without a manifest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Show what is in a run and check its files.

    Exit code 0: all that was looked at is sound; 1: something in the run is damaged, and is named;
    2: there is no run that could be looked at.

    For example:
      playout inspect runs/demo
      playout inspect runs/demo --json - | jq .metrics.last
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """A run directory."""

    verify: bool = True
    """Read every checkpoint and compare its digests."""

    json: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Write it to this file instead, as JSON; - is standard output."""

    trust: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="MODULE")] = ()
    """Taken as by every command that uses a run; looking at one imports no module."""


def _state_of(entry: Checkpoint, verify: bool) -> str:
    if not verify:
        return "not checked"
    try:
        checkpoints.verify(entry)
    except CheckpointError as error:
        return str(error)
    return "sound"


def _models(run: RunDir, verify: bool) -> list[dict[str, str]]:
    """The model folders of a run and of its stages, each compared with its manifest."""
    found = []
    for path in sorted([*run.path.glob("model"), *run.path.glob("*/model")]):
        if not (path / "config.json").exists():
            continue
        state = "not checked"
        if verify:
            try:
                state = "sound" if check_manifest(path) else "without a manifest"
            except CheckpointError as error:
                state = str(error)
        found.append({"folder": str(path.relative_to(run.path)), "state": state})
    return found


def summary(run: RunDir, *, verify: bool = True) -> dict[str, Any]:
    """Everything that `playout inspect` shows, as plain data."""
    found: list[dict[str, Any]] = []
    listed = {entry.step: entry for entry in run.checkpoints()}
    best = run.find("best") if any(entry.metric is not None for entry in listed.values()) else None
    for step, path in checkpoints.newest_first(run.path / "checkpoints"):
        entry = listed.get(step)
        if entry is None:
            found.append({"step": step, "state": f"{path.name} has no sound manifest"})
            continue
        found.append(
            {
                "step": step,
                "done": entry.info.get("done"),
                "total": entry.info.get("total"),
                "elapsed": entry.info.get("elapsed"),
                "metric": entry.metric,
                "rated_by": entry.info.get("rated_by"),
                "best": best is not None and best.step == step,
                "bytes": entry.bytes,
                "ranks": entry.ranks,
                "state": _state_of(entry, verify),
            }
        )
    last: dict[str, Any] = {}
    rows, trouble = 0, None
    try:
        for row in read_rows(run.path):
            rows += 1
            last.update(row)
    except CheckpointError as error:
        trouble = str(error)
    return {
        "path": str(run.path),
        "kind": run.kind,
        "seed": run.seed,
        "created": run.record.get("created"),
        "versions": run.record.get("versions"),
        "machine": run.record.get("machine"),
        "commit": run.record.get("commit"),
        "budget": run.record.get("budget"),
        "config": run.config,
        "checkpoints": found,
        "models": _models(run, verify),
        "metrics": {"rows": rows, "last": last, "trouble": trouble},
        "stages": [
            path.parent.name
            for path in sorted(run.path.glob("*/run.json"))
            if RunDir.is_run(path.parent)
        ],
    }


def _set(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Settings in nested tables as (dotted name, value); what is not set is left out."""
    return [
        (name, _shown(value)) for name, value in dotted(settings) if value not in (None, "", [])
    ]


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _progress_of(entry: dict[str, Any]) -> str:
    done, total = entry.get("done"), entry.get("total")
    if done is None or total is None:
        return ""
    return f"{short_number(done)} of {short_number(total)}"


def _written_by(ranks: int) -> str:
    return f", by {ranks} ranks" if ranks > 1 else ""


def _print(found: dict[str, Any]) -> None:
    from playout.agents.runs.reporting import table

    versions = ", ".join(f"{name} {version}" for name, version in (found["versions"] or {}).items())
    print(f"{found['path']}: {found['kind']}, seed {found['seed']}, begun {found['created']}")
    print(f"  made by {versions}")
    if found["budget"]:
        budget = found["budget"]
        planned = [total for _, total in budget.get("corrections", [])] or [budget["total"]]
        print(f"  budget {budget['minutes']} min: {planned[-1]} {budget['unit']}")
    if found["stages"]:
        print(f"  stages: {', '.join(found['stages'])}")
    rows = []
    for entry in found["checkpoints"]:
        elapsed, metric = entry.get("elapsed"), entry.get("metric")
        rows.append(
            [
                str(entry["step"]),
                _progress_of(entry),
                "" if elapsed is None else short_time(elapsed),
                "" if metric is None else f"{metric:.5g}{' (best)' if entry['best'] else ''}",
                "" if "bytes" not in entry else f"{short_number(entry['bytes'])}B",
                entry["state"] + _written_by(entry.get("ranks", 1)),
            ]
        )
    print()
    if rows:
        columns = ("number", "progress", "time", _metric_of(found), "size", "files")
        table("Checkpoints", columns, rows)
    else:
        print("no checkpoint yet")
    for model in found["models"]:
        print(f"{model['folder']}: {model['state']}")
    for title, pairs in (
        ("Last metrics", [(name, _shown(v)) for name, v in found["metrics"]["last"].items()]),
        ("Settings (the others are not set)", _set(found["config"])),
    ):
        if pairs:
            table(title, ("name", "value"), [list(pair) for pair in pairs])


def _metric_of(found: dict[str, Any]) -> str:
    """What the checkpoints of a run are rated by; earlier versions did not note it."""
    names = {entry["rated_by"] for entry in found["checkpoints"] if entry.get("rated_by")}
    return names.pop() if len(names) == 1 else "metric"


def main(command: Command) -> int:
    """Print the summary; exit code 1 if anything in the run is damaged.

    That is a finding; 2 is left, as everywhere, for a command that could not do its work.
    """
    found = summary(RunDir.open(command.run), verify=command.verify)
    if command.json is not None:
        write_json(command.json, found)
    else:
        _print(found)
    damaged = [*_damaged(found), *filter(None, [found["metrics"]["trouble"]])]
    if damaged:
        print(f"damaged: {'; '.join(damaged)}", file=sys.stderr)
    return 1 if damaged else 0


def _damaged(found: dict[str, Any]) -> list[str]:
    """What is wrong with checkpoints and models, each with its name."""
    named = [(f"checkpoint {one['step']}", one["state"]) for one in found["checkpoints"]]
    named += [(one["folder"], one["state"]) for one in found["models"]]
    return [f"{name}: {state}" for name, state in named if state not in SOUND]

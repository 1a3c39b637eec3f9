"""Tables of what a policy writes: the same prompts at every evaluation, kept as files and shown.

One JSON file a step below `samples/` of the run, written whole, so that a resumed run writes the
same files again. Scores of any kind are further columns.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from playout.agents.runs.checkpoint.durable_io import replace_file

__all__ = ["read_samples", "write_samples"]


def write_samples(
    run: Path,
    step: int,
    prompts: Sequence[str],
    responses: Sequence[str],
    scores: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Keep the table of a step."""
    rows = [
        {
            "prompt": prompt,
            "response": response,
            **{name: round(float(column[row]), 4) for name, column in (scores or {}).items()},
        }
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
    ]
    folder = run / "samples"
    folder.mkdir(exist_ok=True)
    blob = json.dumps(rows, ensure_ascii=False, indent=1).encode()
    replace_file(folder / f"{step:06d}.json", blob)


def read_samples(run: Path) -> dict[int, list[dict[str, str | float]]]:
    """All tables of a run by step."""
    return {
        int(path.stem): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((run / "samples").glob("[0-9]*.json"))
    }

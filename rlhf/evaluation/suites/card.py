"""A model card: what a model is, how it learned, what it is worth, and what is not known.

Everything is read from the run and its stages or was just measured (evaluate.py); nothing is
claimed that is not there. The head is the YAML that model pages of Hugging Face read (Mitchell et
al. 2019 on model cards).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import last_measures
from playout.rlhf.evaluation.suites.contamination import GRAM
from playout.rlhf.evaluation.suites.material import base_of, stage_of
from playout.rlhf.evaluation.suites.results import examples_read
from playout.rlhf.model.folder import model_digest, model_folder
from playout.rlhf.model.transformer import Transformer

__all__ = ["draw_reliability", "write_card"]

# Settings that say what was learned and how; the whole configuration stands in the run.
_TOLD = (
    "size", "data", "text", "corpus", "material", "min_words", "max_words", "quality", "dedup",
    "like", "teacher", "sparsity", "pattern", "weights", "steps", "updates", "rows", "length",
    "batch", "learning_rate", "max_length", "lora_rank", "beta", "kl_coef", "group", "reward",
    "env", "seed",
)  # fmt: skip
_NOTHING: tuple[Any, ...] = (None, "", 0, 0.0, [], (), "none")
_FIRST = ("eval/bits_per_byte", "eval/loss", "eval/reward", "eval/accuracy", "eval/masked_accuracy")


def write_card(
    path: Path,
    source: Path,
    model: Transformer,
    found: Mapping[str, Any],
    *,
    picture: Path | None = None,
) -> None:
    """Writes the card of the model behind a run or a folder.

    Args:
        path: Of the card, Markdown.
        source: The run or folder.
        model: The model itself.
        found: What evaluate.py measured.
        picture: Of the reliability, beside the card.
    """
    chain = _stages(source)
    name = source.resolve().name
    parts = [_head(name, found), f"# {name}", _about(model, source), *_learned(chain)]
    parts += _measured(found["suites"], found.get("against", "the other model"))
    if picture is not None:
        parts.append(f"![How often answers are right, by how sure the model is]({picture.name})")
    parts += [_seen(found), _limits(found, chain)]
    replace_file(path.absolute(), ("\n\n".join(p for p in parts if p) + "\n").encode())


def _stages(source: Path) -> list[RunDir]:
    """The stages behind a model, the first one first."""
    found: list[RunDir] = []
    at: Path | None = source
    while at is not None and (run := stage_of(at)) is not None and len(found) < 20:
        found.insert(0, run)
        at = base_of(run)
    return found


def _head(name: str, found: Mapping[str, Any]) -> str:
    """The YAML in front; texts are quoted as JSON, which is YAML."""
    lines = ["---", "library_name: playout", "tags: [playout, text-generation]"]
    rows = [(suite, row) for suite, row in found["suites"].items() if row.get("value") is not None]
    if rows:
        lines += ["model-index:", f"- name: {json.dumps(name)}", "  results:"]
    for suite, row in rows:
        lines += [
            "  - task: {type: text-generation}",
            f"    dataset: {{name: {json.dumps(suite)}, type: {json.dumps(row['kind'])}}}",
            f"    metrics: [{{type: {json.dumps(row['measure'])}, value: {row['value']:.6g}}}]",
        ]
    return "\n".join([*lines, "---"])


def _about(model: Transformer, source: Path) -> str:
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        "| | |",
        "|---|---|",
        f"| parameters | {count:,} |",
        f"| layers, width, heads | {config.num_hidden_layers}, {config.hidden_size}, "
        f"{config.num_attention_heads} |",
        *_experts(config.num_experts, config.num_experts_per_tok),
        f"| vocabulary | {config.vocab_size:,} |",
        f"| context | {config.max_position_embeddings:,} tokens |",
        f"| sha256 of configuration and weights | `{model_digest(model_folder(source))}` |",
    ]
    return "\n".join(lines)


def _experts(count: int, active: int) -> list[str]:
    return [f"| experts | {count} a layer, of which {active} see a token |"] if count else []


def _learned(chain: Sequence[RunDir]) -> list[str]:
    if not chain:
        unknown = "The folder belongs to no run: how it was trained is not known here."
        return ["## Training", unknown]
    parts = ["## Training"]
    for run in chain:
        config, record = run.config, run.record
        lines = [f"### {run.kind.partition('.')[2]}", "", "| setting | value |", "|---|---|"]
        for key in _TOLD:
            value = config.get(key, record.get(key))
            if value not in _NOTHING and _counts(key, value, config):
                lines.append(f"| {key} | {_cell(value)} |")
        if not config.get("base"):
            lines.append("| starts from | nothing |")
        else:
            lines.append(f"| starts from | {_cell(config['base'])} |")
        found = last_measures(run.path)
        for key in (key for key in _FIRST if key in found):
            lines.append(f"| at the end: {key.removeprefix('eval/')} | {found[key]:.4g} |")
        versions = ", ".join(f"{k} {v}" for k, v in dict(record.get("versions", {})).items())
        lines += [f"| made | {record.get('created', '')}, {versions} |"]
        if record.get("commit"):
            lines.append(f"| commit | `{record['commit']}` |")
        parts.append("\n".join(lines))
    return parts


def _counts(key: str, value: Any, config: Mapping[str, Any]) -> bool:
    """Whether a setting did anything: some only mean something beside another."""
    match key:
        case "data":  # of a choice among the texts that come with playout
            return not (config.get("text") or config.get("corpus"))
        case "pattern":
            return bool(config.get("sparsity"))
        case "weights":
            return bool(value != "float32")
    return True


def _cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _measured(rows: Mapping[str, Mapping[str, Any]], rival: str) -> list[str]:
    lines = [
        "| suite | questions | measure | value | 95 % | chance | calibration error | on unseen |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        low_high = row.get("interval")
        cells = [
            name,
            row.get("items", ""),
            row["measure"],
            _short(row["value"]),
            "" if low_high is None else " to ".join(map(_short, low_high)),
            _short(row.get("random")),
            _short(row.get("calibration", {}).get("error")),
            _short(row.get("contamination", {}).get("value")),
        ]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    parts = ["## Measured", "\n".join(lines)]
    for name, row in rows.items():
        if row.get("about"):
            parts.append(
                f"*{name}*: {row['about']}{_shots(row)}. sha256 of its questions: "
                f"`{row['sha256'][:16]}`."
            )
        if "groups" in row:
            table = ["| group | questions | value | 95 % |", "|---|---|---|---|"]
            for group, part in row["groups"].items():
                ends = " to ".join(map(_short, part["interval"] or ()))
                cells = [_cell(group or "none"), str(part["items"]), _short(part["value"]), ends]
                table.append(f"| {' | '.join(cells)} |")
            parts.append("\n".join(table))
        if "against" in row:
            other = row["against"]
            low, high = other["interval"]
            parts.append(
                f"*{name}*, against {rival}: {_short(other['value'])} there, difference "
                f"{_short(other['difference'])} ({_short(low)} to {_short(high)}), p = "
                f"{other['corrected p']:.3g} after Holm's correction."
            )
    return parts


def _shots(row: Mapping[str, Any]) -> str:
    """How many examples stood before each question; a row of another kind says nothing of it."""
    count = row.get("shots", 0)
    return f"; {count} example{'s' if count > 1 else ''} before each question" if count else ""


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _seen(found: Mapping[str, Any]) -> str:
    lines = ["## Contamination and memorisation", ""]
    text = found.get("training_text")
    if text is None:
        lines.append("Questions were not looked for in the training text.")
    elif not text["texts"]:
        lines.append(f"The training text is not known here ({text['unknown']}).")
    else:
        lines.append(
            f"Questions were looked for in {text['texts']:,} texts (stages: "
            f"{', '.join(text['stages']) or 'given files'})."
            + (f" Not all is known: {text['unknown']}." if text["unknown"] else "")
        )
        for name, row in found["suites"].items():
            if seen := row.get("contamination"):
                lines.append(
                    f"- {name}: {seen['leaked']} of {row['items']} hold a run of {GRAM} words of "
                    "it, or stand in it whole where they are shorter; "
                    f"{seen['near']} more are near duplicates, {seen['untold']} are too short to "
                    "tell."
                )
    for side, row in found.get("memorisation", {}).items():
        low, high = row["interval"]
        lines.append(
            f"- Of {row['stretches']} stretches of {side} text {100 * row['rate']:.1f} % "
            f"({100 * low:.1f} to {100 * high:.1f}) are continued word for word."
        )
    return "\n".join(lines)


def _limits(found: Mapping[str, Any], chain: Sequence[RunDir]) -> str:
    lines = ["## What is not known", ""]
    lines.append("- What was not measured above: facts, safety, fairness, other languages.")
    if not any(run.kind.endswith((".sft", ".dpo", ".rlhf", ".grpo")) for run in chain) and chain:
        lines.append("- It learned from raw text alone: it continues texts and follows no orders.")
    weak = [
        name
        for name, row in found["suites"].items()
        if "random" in row and row["interval"][0] <= row["random"]
    ]
    if weak:
        lines.append(f"- Not told from chance: {', '.join(weak)}.")
    lines += [
        f"- {name}: {row['cut']} of {row['items']} questions are longer than the context; their "
        f"beginning was not read{f'; {few}' if (few := examples_read(row)) else ''}."
        for name, row in found["suites"].items()
        if row.get("cut")
    ]
    return "\n".join(lines)


def draw_reliability(rows: Mapping[str, Mapping[str, Any]], path: Path) -> Path | None:
    """Draws how often answers are right by how sure the model is; None where nothing tells."""
    known = {name: row["calibration"] for name, row in rows.items() if "calibration" in row}
    if not known:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 5), layout="constrained")
    FigureCanvasAgg(figure)
    plane = figure.add_subplot()
    plane.plot([0, 1], [0, 1], color="#999", lw=1)
    for name, row in known.items():
        said, seen = [b[1] for b in row["bins"]], [b[2] for b in row["bins"]]
        sizes = [8 + 100 * b[0] / sum(part[0] for part in row["bins"]) for b in row["bins"]]
        (line,) = plane.plot(said, seen, lw=1.2)
        label = f"{name} (error {row['error']:.3f})"
        plane.scatter(said, seen, s=sizes, color=line.get_color(), label=label)
    plane.set_xlabel("how sure: probability of the chosen answer among those offered")
    plane.set_ylabel("share that is right")
    plane.set_xlim(0, 1)
    plane.set_ylim(0, 1)
    # Above the plane: inside it would hide points, which may lie anywhere.
    figure.legend(frameon=False, loc="outside upper left", ncols=2, fontsize="small")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path

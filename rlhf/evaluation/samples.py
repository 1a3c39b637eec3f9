"""Tables of what a policy writes: the same prompts at every evaluation, kept as files and shown.

One JSON file a step below `samples/` of the run, written whole, so that a resumed run writes the
same files again. Scores of any kind are further columns.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.rlhf.data.conversations import prompt_text
from playout.rlhf.data.messages import Prompt
from playout.rlhf.generation.conversation import ConversationFormat
from playout.rlhf.generation.generate import generate
from playout.rlhf.model.sharding import whole_model
from playout.rlhf.model.transformer import Transformer
from torch import Tensor

__all__ = [
    "ScoredAnswers",
    "read_pairs",
    "read_samples",
    "write_answers",
    "write_pairs",
    "write_samples",
]

SHOWN = 16


def write_samples(
    run: Path,
    step: int,
    prompts: Sequence[str],
    responses: Sequence[str],
    scores: Mapping[str, Sequence[float]] | None = None,
    *,
    greedy: Sequence[str] | None = None,
) -> None:
    """Keep the table of a step; `greedy` are the likeliest responses beside the sampled ones."""
    rows = [
        {
            "prompt": prompt,
            "response": response,
            **({} if greedy is None else {"greedy": greedy[row]}),
            **_numbers(scores or {}, row),
        }
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
    ]
    folder = run / "samples"
    folder.mkdir(exist_ok=True)
    blob = json.dumps(rows, ensure_ascii=False, indent=1).encode()
    replace_file(folder / f"{step:06d}.json", blob)


def _numbers(scores: Mapping[str, Any], row: int) -> dict[str, float]:
    """The scores of a row, short enough to be read."""
    return {name: round(float(column[row]), 4) for name, column in scores.items()}


class ScoredAnswers(NamedTuple):
    """What a policy answered to N prompts."""

    texts: Sequence[str]
    """N answers."""
    scores: Mapping[str, Tensor]
    """Of each scorer [N] numbers."""


def write_pairs(
    path: Path, prompts: Sequence[str], before: ScoredAnswers, after: ScoredAnswers
) -> None:
    """Keep what was answered before and after side by side, a row a prompt."""
    rows = [
        {
            "prompt": prompt,
            **{
                name: {"response": texts[row], **_numbers(scores, row)}
                for name, (texts, scores) in (("before", before), ("after", after))
            },
        }
        for row, prompt in enumerate(prompts)
    ]
    replace_file(path, json.dumps(rows, ensure_ascii=False, indent=1).encode())


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """The rows of `write_pairs`; none if there is no such file."""
    found: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.exists() else []
    return found


def write_answers(
    run: Path | None,
    step: int,
    model: Transformer,
    talk: ConversationFormat,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    dtype: torch.dtype,
) -> None:
    """Sample an answer to each of the first prompts that leave room for one; keep the table.

    The random numbers are the same at every step. Without a run nothing is asked; a model in shards
    is asked by the first rank, and every rank has to call.
    """
    speaker = None if run is None else whole_model(model)
    if run is None or speaker is None:
        return
    room = model.config.max_position_embeddings - max_new_tokens
    asked = [(prompt, talk.begin(prompt, special=True)) for prompt in prompts[: 4 * SHOWN]]
    asked = [(prompt, ids) for prompt, ids in asked if len(ids) <= room][:SHOWN]
    if not asked:
        return
    out = generate(
        speaker,
        [ids for _, ids in asked],
        max_new_tokens=max_new_tokens,
        stop=talk.stop_ids,
        pad=talk.tokenizer.pad_id,
        seed=1,
        dtype=dtype,
    )
    answers = [talk.answer(out.response(row)) for row in range(len(asked))]
    write_samples(run, step, [prompt_text(prompt) for prompt, _ in asked], answers)


def read_samples(run: Path) -> dict[int, list[dict[str, str | float]]]:
    """All tables of a run by step."""
    return {
        int(path.stem): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((run / "samples").glob("[0-9]*.json"))
    }

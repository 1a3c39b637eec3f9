"""How many steps of imitation fit into the minutes that the recipe may take on this machine.

Pretraining tells how long a token takes. The number is chosen once and kept in the run, so that a
run that goes on, or is repeated with the kept number, learns the same.
"""

import itertools
import json
from pathlib import Path

from playout.agents.runs.reporting import write_json
from playout.errors import DataError
from playout.rlhf.data.records import read_demonstrations
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.huggingface import read_json

__all__ = ["sft_steps"]

SHARE = 0.55
"""Of all minutes: the rest is for data, pretraining, reward, and measuring."""
_LOOKED_AT, _LEAST = 500, 100
_PADDING = 1.2  # rows of a pack are filled up, and the optimiser moves


def sft_steps(
    minutes: float, plan: Path, pretrain: Path, demonstrations: Path, *, batch: int
) -> int:
    """Steps that take their share of the minutes.

    Args:
        minutes: For the whole recipe.
        plan: File in which the number is kept; what it says holds.
        pretrain: Run of the stage before.
        demonstrations: File of what is learned.
        batch: Demonstrations a step.

    Raises:
        DataError: The stage before has measured nothing.
    """
    if plan.exists():
        return int(read_json(plan)["sft_steps"])
    lines = (pretrain / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1]) if lines else {}
    tokens, seconds = float(last.get("step", 0)), float(last.get("time/elapsed", 0.0))
    if tokens <= 0 or seconds <= 0:
        raise DataError(f"{pretrain} has measured no time; leave --minutes out")
    with demonstrations.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in itertools.islice(file, _LOOKED_AT)]
    texts = [
        "".join((str(item.prompt), item.response, *item.turns))
        for item in read_demonstrations(rows)
    ]
    tokenizer = Tokenizer.load(pretrain / "model")
    mean = sum(map(len, tokenizer.encode_batch(texts))) / len(texts)
    step = batch * mean * _PADDING * seconds / tokens
    steps = max(_LEAST, round(SHARE * 60 * minutes / step))
    plan.parent.mkdir(exist_ok=True)
    write_json(plan, {"sft_steps": steps, "seconds_a_step": step, "minutes": minutes})
    return steps

"""What fits into the minutes that the recipe may take on this machine.

What data and pretraining took is gone; pretraining also tells how long a token takes. Of what is
left, a part is for reward, games and measuring, the rest for tactics and sft; stages of reward then
share what is left by the clock. The numbers are chosen once and kept in the run, so that a run that
goes on, or is repeated with the kept numbers, learns the same.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from playout.agents.runs.metrics import read_rows
from playout.agents.runs.reporting import write_json
from playout.errors import DataError
from playout.rlhf.data.records import read_demonstrations
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.huggingface import read_json

__all__ = ["minutes_left", "note_data", "plan_steps"]

REST = 0.25
"""Of what is left after pretraining, what imitation leaves for reward, games and measuring."""
TACTICS = 0.3
"""Of the time of both kinds of imitation at most, however many positions there are."""
_LOOKED_AT, _LEAST = 500, 100
_PADDING = 1.2  # rows of a pack are filled up, and the optimiser moves


def note_data(plan: Path, seconds: float) -> None:
    """Add to the seconds that making the data has taken, in the file of the plan."""
    kept = read_json(plan) if plan.exists() else {}
    plan.parent.mkdir(exist_ok=True)
    write_json(plan, {**kept, "data_seconds": kept.get("data_seconds", 0.0) + seconds})


def plan_steps(
    minutes: float, plan: Path, pretrain: Path, stages: Mapping[str, tuple[Path, int]]
) -> dict[str, int]:
    """Steps of each stage of imitation.

    Args:
        minutes: For the whole recipe.
        plan: File in which the numbers are kept; what it says holds.
        pretrain: Run of the stage before.
        stages: By name, a file of what is learned and rows a step: sft, and tactics if there is
            such a stage.

    Raises:
        DataError: The stage before has measured nothing.
    """
    kept = read_json(plan) if plan.exists() else {}
    if "sft_steps" in kept:
        return {name: int(kept.get(f"{name}_steps", 0)) for name in stages}
    tokens, seconds = _done(pretrain)
    if tokens <= 0 or seconds <= 0:
        raise DataError(f"{pretrain} has measured no time; leave --minutes out")
    gone = seconds + float(kept.get("data_seconds", 0.0))
    left = (1 - REST) * max(0.0, 60 * minutes - gone)
    tokenizer = Tokenizer.load(pretrain / "model")
    each = {
        name: batch * _mean_tokens(tokenizer, file) * _PADDING * seconds / tokens
        for name, (file, batch) in stages.items()
    }
    found: dict[str, int] = {}
    if "tactics" in stages:
        file, batch = stages["tactics"]
        with file.open(encoding="utf-8") as rows:
            once = -(-sum(1 for _ in rows) // batch)
        found["tactics"] = max(1, min(once, round(TACTICS * left / each["tactics"])))
        left -= found["tactics"] * each["tactics"]
    found["sft"] = max(_LEAST, round(left / each["sft"]))
    told = {f"{name}_steps": steps for name, steps in found.items()}
    plan.parent.mkdir(exist_ok=True)
    measured = {"seconds_a_step": each, "minutes": minutes, "seconds_gone": gone}
    write_json(plan, {**kept, **told, **measured})
    return found


def minutes_left(
    minutes: float, plan: Path, stages: Sequence[Path], measured: Sequence[Path], to_measure: int
) -> float:
    """What is left of the recipe's minutes for stages of reward; 0 if nothing is.

    Args:
        minutes: For the whole recipe.
        plan: File that says what making the data has taken.
        stages: Runs of the stages that are done.
        measured: Files of what their policies were found to do, with the seconds of it.
        to_measure: Policies that will be measured yet, each as long as the last one.
    """
    took = [float(read_json(file).get("seconds", 0.0)) for file in measured]
    gone = float(read_json(plan).get("data_seconds", 0.0)) if plan.exists() else 0.0
    gone += sum(_done(stage)[1] for stage in stages) + sum(took)
    return max(0.0, minutes - (gone + to_measure * (took[-1] if took else 0.0)) / 60)


def _done(run: Path) -> tuple[float, float]:
    """What a stage has counted, and the seconds that it has trained."""
    last = [{}, *read_rows(run)][-1]
    return float(last.get("step", 0)), float(last.get("time/elapsed", 0.0))


def _mean_tokens(tokenizer: Tokenizer, file: Path) -> float:
    """Of some rows from all over a file, whose last ones may be whole games."""
    lines = file.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:: max(1, -(-len(lines) // _LOOKED_AT))]]
    texts = [
        "".join((str(item.prompt), item.response, *item.turns))
        for item in read_demonstrations(rows)
    ]
    return sum(map(len, tokenizer.encode_batch(texts))) / len(texts)

"""Tell texts apart: spam and ratings, from scratch, after pretraining, and by TF-IDF."""

from dataclasses import dataclass
from typing import Any

from playout.agents.runs.options import TrainingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Fill a table of supervised baselines; it is left in RUN/table.json."""

    base: str = ""
    """Run or Hugging Face folder of a pretrained model (required)."""
    data: str = "auto"
    """auto, real or synthetic."""
    labelled: str = ""
    """File of texts with labels (.jsonl, .csv) in place of the spam messages."""
    rated: str = ""
    """File of texts with ratings in place of the reviews."""
    size: str = "small"
    """tiny, small, base or large: sets the number of steps."""
    steps: int = 0
    """Gradient steps a model; 0 leaves it to the size."""
    batch: int = 32
    """Texts a step."""
    learning_rate: float = 5e-4
    """At its highest."""
    dtype: str = "auto"
    """float32, bfloat16 or auto."""


def main(command: Command) -> int:
    """Run the stage."""
    from playout.errors import ConfigError
    from playout.rlhf.commands.options import write_json
    from playout.rlhf.data.splits import Material, resolve
    from playout.rlhf.stage import finish, start
    from playout.rlhf.supervised.classify import task_of

    if not command.base:
        raise ConfigError("name the pretrained model: --base RUN")
    run = start(command, "classify", lambda: {"material": resolve(command.data)})
    material = Material(run.config["material"])
    tasks = {
        "spam": task_of(*material.labelled(command.labelled)),
        "ratings": task_of(*material.rated(command.rated)),
    }
    table = []
    for name, task in tasks.items():
        table += _rows(command, run, name, task)
    write_json(run.path / "table.json", table)
    _show(table)
    finish(run)
    return 0


def _rows(command: Command, run: Any, name: str, task: Any) -> list[dict[str, Any]]:
    """Every model on one task; a model that has been trained before is not trained again."""
    from playout.agents.runs.directory import RunDir
    from playout.agents.runs.loop import train
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.sizes import recipe
    from playout.rlhf.stage import interval, load_model
    from playout.rlhf.supervised.classify import ClassifyConfig, ClassifyTrainer, linear_baseline
    from playout.rlhf.supervised.trainer import LearnConfig

    rows = [_row(name, "tf-idf", linear_baseline(task), task)]
    config = ClassifyConfig(
        steps=command.steps or recipe(command.size).classify_steps,
        batch=command.batch,
        learn=LearnConfig(learning_rate=command.learning_rate, dtype=command.dtype),
    )
    for kind in ("scratch", "pretrained"):
        model, tokenizer = load_model(command.base, ["pretrain"])
        if kind == "scratch":
            model = Transformer(model.config, seed=command.seed)
        trainer = ClassifyTrainer(model, tokenizer, task, config, seed=command.seed)
        inner = RunDir.open_or_create(
            run.subrun(f"{name}-{kind}"),
            kind="rlhf.classify.model",
            config={"task": name, "model": kind},
            seed=command.seed,
        )
        train(
            trainer,
            inner,
            eval_every=interval(config.steps, 4),
            save_every=30.0,
            console=not command.quiet,
        )
        rows.append(_row(name, kind, trainer.predictions(), task))
    return rows


def _row(name: str, model: str, found: Any, task: Any) -> dict[str, Any]:
    from playout.rlhf.evaluation.statistics import bootstrap, wilson
    from playout.rlhf.supervised.classify import measure

    values = measure(found, task)
    if task.classes:
        low, high = wilson(values["accuracy"] * len(found), len(found))
    else:
        low, high = bootstrap(found.tolist(), task.test[1])
    return {"task": name, "model": model, "texts": len(found), **values, "interval": [low, high]}


def _show(table: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("task", "model", "held out", "accuracy (95 %)", "second measure")
    for row in table:
        first = row["accuracy"] if "accuracy" in row else row["pair_accuracy"]
        second = (
            f"F1 {row['f1']:.3f}"
            if "f1" in row
            else f"pairs 1 apart {100 * row['far_pair_accuracy']:.1f} %"
        )
        low, high = row["interval"]
        shown.add_row(
            row["task"],
            row["model"],
            str(row["texts"]),
            f"{100 * first:.1f} % ({100 * low:.1f} to {100 * high:.1f})",
            second,
        )
    Console().print(shown)

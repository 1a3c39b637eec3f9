"""Tell texts apart: spam and ratings, from scratch, after pretraining, and by TF-IDF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.memory_options import MicrobatchOptions
from playout.rlhf.commands.options import (
    Data,
    OptionalFile,
    RequiredRun,
    StageOptions,
    data_file,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.records import Labelled, Rated
    from playout.rlhf.supervised.classify import TextTask


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(MicrobatchOptions, StageOptions):
    """Fill a table of supervised baselines; it is left in RUN/table.json."""

    base: RequiredRun = ""
    """Run or Hugging Face folder of a pretrained model."""
    labelled: OptionalFile = ""
    """.jsonl or .csv with the fields `text` and `label`; by default spam and other messages."""
    rated: OptionalFile = ""
    """.jsonl or .csv with `text` and `ratings` (a list) or `rating`; by default reviews."""
    data: Data = "auto"
    """Which data, where no file is named; or a file of labelled or of rated texts, and no other
    task."""
    steps: int = 0
    """Gradient steps a model; 0 leaves it to the size."""
    batch: int = 32
    """Texts a step."""
    learning_rate: float = 5e-4
    """At its highest."""


def main(command: Command) -> int:
    """Run the stage."""
    from playout.agents.runs import ranks
    from playout.agents.runs.reporting import write_json
    from playout.errors import ConfigError
    from playout.rlhf.data.datasets import Datasets, choose_source
    from playout.rlhf.stages.run import mark_finished, open_stage
    from playout.rlhf.supervised.classify import make_task

    if not command.base:
        raise ConfigError("name the pretrained model: --base RUN")
    file = data_file(command.data, command.labelled or command.rated, "--labelled or --rated")
    if file not in ("", command.labelled, command.rated):
        tasks = {Path(file).stem: make_task(*_own(file))}
        run = open_stage(command, "classify", lambda: {"material": "files"})
    else:
        run = open_stage(command, "classify", lambda: {"material": choose_source(command.data)})
        datasets = Datasets(run.config["material"])
        tasks = {
            "spam": make_task(*datasets.labelled(command.labelled)),
            "ratings": make_task(*datasets.rated(command.rated)),
        }
    table = []
    for name, task in tasks.items():
        table += _measure_models(command, run, name, task)
    ranks.by_first(lambda: write_json(run.path / "table.json", table))
    if ranks.is_first():
        _show(table)
    mark_finished(run, quiet=command.quiet)
    return 0


def _own(file: str) -> tuple[Sequence[Labelled | Rated], Sequence[Labelled | Rated]]:
    """Labelled or rated texts of a file, to learn from and held out."""
    from playout.rlhf.data.datasets import Datasets
    from playout.rlhf.data.rows import read_rows

    datasets = Datasets("files")
    rows = list(read_rows(file))
    return datasets.labelled(file) if rows and "label" in rows[0][1] else datasets.rated(file)


def _measure_models(
    command: Command, run: RunDir, name: str, task: TextTask
) -> list[dict[str, Any]]:
    """Every model on one task; a model that has been trained before is not trained again."""
    from playout.agents.runs import ranks
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.stages.run import train_stage
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.stages.threads import set_threads
    from playout.rlhf.supervised.classify import ClassifyConfig, ClassifyTrainer, linear_baseline
    from playout.rlhf.supervised.trainer import LearnConfig

    rows = [_row(name, "tf-idf", linear_baseline(task), task)]
    config = ClassifyConfig(
        steps=command.steps or recipe(command.size).classify_steps,
        batch=command.batch,
        learn=LearnConfig(
            learning_rate=command.learning_rate, dtype=command.dtype, microbatch=command.microbatch
        ),
    )
    device = resolve_device(command.device)
    for kind in ("scratch", "pretrained"):
        model, tokenizer = load_model(command.base, ["pretrain"], device=device, writes=False)
        if kind == "scratch":
            model = Transformer(model.config, seed=command.seed).to(device)
        model.recompute = command.checkpoint_activations
        set_threads(run, model.config.hidden_size, command.threads)
        trainer = ClassifyTrainer(model, tokenizer, task, config, seed=command.seed)
        folder, settings = run.subrun(f"{name}-{kind}"), {"task": name, "model": kind}
        if ranks.by_first(lambda folder=folder: RunDir.is_run(folder)):  # type: ignore[misc]
            inner = RunDir.open(folder)
        else:
            made = "rlhf.classify.model"
            inner = RunDir.create(folder, kind=made, config=settings, seed=command.seed)
        train_stage(trainer, inner, updates=config.steps, evaluations=4, quiet=command.quiet)
        rows.append(_row(name, kind, trainer.predictions(), task))
    return rows


def _row(name: str, model: str, predictions: NDArray[Any], task: TextTask) -> dict[str, Any]:
    from playout.rlhf.evaluation.statistics import bootstrap, wilson
    from playout.rlhf.supervised.classify import measure_predictions

    values = measure_predictions(predictions, task)
    count = len(predictions)
    if task.classes:
        low, high = wilson(values["accuracy"] * count, count)
    else:
        low, high = bootstrap(predictions.tolist(), task.test[1])
    return {"task": name, "model": model, "texts": count, **values, "interval": [low, high]}


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

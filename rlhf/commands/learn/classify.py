"""Tell texts apart: spam and ratings, from scratch, after pretraining, and by TF-IDF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.memory_options import MicrobatchOptions
from playout.rlhf.commands.options import (
    Data,
    OptionalFile,
    RequiredRun,
    StageOptions,
    data_file,
)
from tyro.conf import arg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.records import Labelled, Rated
    from playout.rlhf.supervised.classify import ClassifyTrainer, TextTask


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(MicrobatchOptions, StageOptions):
    """Fill a table of supervised baselines; it is left in RUN/table.json.

    With --from RUN --reports FILE a classifier learns from what users reported, and is compared
    with the old one on held-out texts: adopt it or keep the old one.
    """

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
    from_run: Annotated[
        str, arg(name="from", metavar="RUN", help_behavior_hint="", prefix_name=False)
    ] = ""
    """Run of classify whose labels and settings are taken over, to learn from reports."""
    reports: OptionalFile = ""
    """With --from: .jsonl or .csv of texts that were judged wrongly, with `text` and the right
    `label`."""


def main(command: Command) -> int:
    """Run the stage."""
    from playout.agents.runs import ranks
    from playout.agents.runs.reporting import write_json
    from playout.errors import ConfigError
    from playout.rlhf.data.datasets import Datasets, choose_source
    from playout.rlhf.stages.run import mark_finished, open_stage
    from playout.rlhf.supervised.classify import make_task

    if command.from_run or command.reports:
        return _learn_reports(command)
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
    from playout.rlhf.supervised.classify import linear_baseline

    rows = [_row(name, "tf-idf", linear_baseline(task), task)]
    for kind in ("scratch", "pretrained"):
        trainer = _train(command, run, name, task, kind)
        rows.append(_row(name, kind, trainer.predictions(), task))
    return rows


def _train(command: Command, run: RunDir, name: str, task: TextTask, kind: str) -> ClassifyTrainer:
    """One model on one task, from scratch or pretrained."""
    from playout.agents.runs import ranks
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.stages.run import train_stage
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.stages.threads import set_threads
    from playout.rlhf.supervised.classify import ClassifyConfig, ClassifyTrainer
    from playout.rlhf.supervised.trainer import LearnConfig

    config = ClassifyConfig(
        steps=command.steps or recipe(command.size).classify_steps,
        batch=command.batch,
        learn=LearnConfig(
            learning_rate=command.learning_rate, dtype=command.dtype, microbatch=command.microbatch
        ),
    )
    device = resolve_device(command.device)
    model, tokenizer = load_model(command.base, ["pretrain"], device=device, writes=False)
    if kind == "scratch":
        model = Transformer(model.config, seed=command.seed).to(device)
    model.recompute = command.checkpoint_activations
    set_threads(run, model.config.hidden_size, command.threads)
    trainer = ClassifyTrainer(model, tokenizer, task, config, seed=command.seed)
    folder = run.subrun(f"{name}-{kind}")
    settings = {"task": name, "model": kind, "classes": list(task.classes)}
    if ranks.by_first(lambda: RunDir.is_run(folder)):
        inner = RunDir.open(folder)
    else:
        made = "rlhf.classify.model"
        inner = RunDir.create(folder, kind=made, config=settings, seed=command.seed)
    train_stage(trainer, inner, updates=config.steps, evaluations=4, quiet=command.quiet)
    return trainer


def _learn_reports(command: Command) -> int:
    """The labels of an earlier run with reports: a new classifier, beside the old one."""
    import dataclasses

    from playout.agents.runs import ranks
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.directory import RunDir
    from playout.agents.runs.reporting import write_json
    from playout.errors import ConfigError
    from playout.rlhf.stages.run import discarded_unused, mark_finished, open_stage
    from playout.rlhf.supervised import reports
    from playout.rlhf.supervised.classifier import Classifier
    from playout.rlhf.supervised.classify import linear_baseline, make_task

    if not (command.from_run and command.reports):
        raise ConfigError("reports are learned by: playout rlhf classify --from RUN --reports FILE")
    if command.labelled or command.rated:
        raise ConfigError("--from takes over the labels of its run; leave out --labelled, --rated")
    device = resolve_device(command.device)
    old = RunDir.open(command.from_run)
    before = Classifier.load(old.path, device=device, dtype=command.dtype)
    plain = Command()
    taken = {
        name: type(getattr(plain, name))(old.config[name])
        for name in ("base", "size", "steps", "batch", "learning_rate")
        if getattr(command, name) == getattr(plain, name) and name in old.config
    }
    kept = None if command.resume is None else command.resume / reports.LABELS
    if kept is None or not kept.exists():
        command = dataclasses.replace(command, **taken)
        labels = reports.added(reports.labels_of(old), reports.read_reports(command.reports))
    else:
        labels = reports.kept_labels(kept)
    held = [one for one in labels if one.held_out]
    learned = [one.labelled for one in labels if not one.held_out]
    task = make_task(learned, [one.labelled for one in held])
    run = open_stage(command, "classify", lambda: {"material": "files"})
    with discarded_unused(run, command):
        old_scores = before.scores(task.test[0])
        reports.decision(old_scores, old_scores, held, task.classes)  # refuses what cannot be told
        ranks.by_first(lambda: reports.write_labels(run.path / reports.LABELS, labels))
    trainer = _train(command, run, before.task, task, "pretrained")
    scores = trainer.predictions()
    table = [
        _row(before.task, model, found, task)
        for model, found in (
            ("tf-idf", linear_baseline(task)), ("before", old_scores), ("pretrained", scores)
        )
    ]  # fmt: skip
    found = reports.decision(old_scores, scores, held, task.classes)
    ranks.by_first(lambda: write_json(run.path / "table.json", table))
    ranks.by_first(lambda: write_json(run.path / "decision.json", found))
    if ranks.is_first():
        _show(table)
        print(reports.told(found, old.path, run.path))
    mark_finished(run, quiet=command.quiet)
    return 0


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

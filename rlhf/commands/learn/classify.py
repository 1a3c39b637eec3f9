"""Tell texts apart: spam and ratings, from scratch, after pretraining, and by TF-IDF."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.memory_options import MicrobatchOptions, ShardOptions, check_shard
from playout.rlhf.commands.options import (
    SOURCES,
    Data,
    LengthOptions,
    OptimizerOptions,
    OptionalFile,
    OptionalRun,
    StageOptions,
    data_file,
    learn_config,
    stage_command,
)
from tyro.conf import arg

if TYPE_CHECKING:
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.rows import Row, Source
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.model.transformer import TransformerConfig
    from playout.rlhf.supervised.classify import ClassifyTrainer, TextTask

_LABELLED, _RATED = "labelled", "rated"
_USUAL = {"spam": _LABELLED, "ratings": _RATED}
"""What is told apart where nothing is named."""
_BASES = ("pretrain",)
_TAKEN = ("base", "size", "steps", "batch", "learning_rate", "weight_decay", "optimizer",
          "max_length", "truncate", "pool")  # fmt: skip
"""What learning from reports takes over from its run."""
_OLD_LENGTH = 128  # tokens that earlier versions read of a text, whatever it had


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(LengthOptions, MicrobatchOptions, ShardOptions, OptimizerOptions, StageOptions):
    """Fill a table of supervised baselines; it is left in RUN/table.json.

    With --from RUN --reports FILE a classifier learns from what users reported, and is compared
    with the old one on held-out texts: adopt it or keep the old one.
    """

    base: OptionalRun = ""
    """Run or Hugging Face folder of a pretrained model (required; --from has one)."""
    labelled: OptionalFile = ""
    """.jsonl or .csv with the fields `text` and `label`."""
    rated: OptionalFile = ""
    """.jsonl or .csv with `text` and `ratings` (a list) or `rating`."""
    data: Data = "auto"
    """A file of labelled or of rated texts; where none is named, spam and ratings of reviews."""
    steps: int = 0
    """Gradient steps a model; 0 leaves it to the size."""
    batch: int = 32
    """Texts a step."""
    learning_rate: float = 5e-4
    """At its highest."""
    pool: Literal["auto", "last", "mean"] = "auto"
    """What is read of a text: the state of its last token, the mean over all, or auto: the mean of
    an encoder (pretrained by masked tokens), the last of a decoder."""
    from_run: Annotated[
        str, arg(name="from", metavar="RUN", help_behavior_hint="", prefix_name=False)
    ] = ""
    """Run of classify whose labels and settings are taken over, to learn from reports."""
    reports: OptionalFile = ""
    """With --from: .jsonl or .csv of texts that were judged wrongly, with `text` and the right
    `label`."""

    @staticmethod
    def stored_today(config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Earlier versions cut every text to the same length, and read its last token."""
        if "truncate" not in config:
            config = {**config, "max_length": _OLD_LENGTH, "truncate": "right"}
        return {"pool": "last", **config}


def main(command: Command) -> int:
    """Run the stage."""
    train(command)
    return 0


def classify(base: Any = "", data: Source = "", *, reports: Source = "", **options: Any) -> RunDir:
    """Train classifiers from Python: `playout.classify("runs/pre", [{"text": t, "label": "a"}])`.

    Args:
        base: Run or Hugging Face folder of a pretrained model.
        data: Rows as dictionaries with `text` and `label` (or `rating`), or what `--data` takes.
            Rows are kept in the run.
        reports: With `from_run=RUN` in place of base and data: texts that it judged wrongly, as
            rows with `text` and `label`, or what `--reports` takes.
        **options: The command's flags, with underscores.

    Returns:
        The run; `playout.load(run)` names the classes of texts.
    """
    from playout.errors import ConfigError

    if isinstance(reports, str | os.PathLike):
        given = {"base": base, "reports": os.fspath(reports), **options}
        return train(*stage_command(Command, data, **given))
    command, rows = stage_command(Command, reports, base=base, **options)
    if not command.from_run or data not in ("", "auto"):
        raise ConfigError("reports are learned by: classify(from_run=RUN, reports=ROWS)")
    return train(command, rows)


def train(command: Command, rows: list[Row] | None = None) -> RunDir:
    """Fill the table as the command says, for the texts of `rows` if they are given."""
    from playout.agents.runs import ranks
    from playout.agents.runs.directory import RunDir
    from playout.agents.runs.reporting import write_json
    from playout.errors import ConfigError
    from playout.rlhf.data.datasets import Datasets, choose_source
    from playout.rlhf.stages.run import (
        check_base,
        check_usual_data,
        discarded_unused,
        mark_finished,
        open_stage,
        say_all,
    )
    from playout.rlhf.supervised.classify import make_task

    check_shard(command)
    if command.from_run or command.reports:
        return _learn_reports(command, rows)
    if not command.base:
        raise ConfigError("name the pretrained model: --base RUN")
    sources = _sources(command, rows)
    if not sources:
        check_usual_data(command, command.data, command.base, what="labelled texts")
    # Runs of earlier versions learned both tasks, whichever they were given, and repeated texts.
    begun = None if command.resume is None else RunDir.open(command.resume).config
    if begun is not None and "tasks" not in begun and command.data in SOURCES:
        sources = {}
    notes = list[str]()
    labelled = partial(
        Datasets.labelled, tell=notes.append, earlier=begun is not None and "each_once" not in begun
    )
    own = Datasets("files")
    tasks = {
        name: make_task(*(labelled if kind == _LABELLED else Datasets.rated)(own, source))
        for name, (kind, source) in sources.items()
    }
    shape, tokenizer = _base(command)
    run = open_stage(
        command,
        "classify",
        lambda: {
            "material": "files" if sources else choose_source(command.data),
            "tasks": {name: kind for name, (kind, _) in sources.items()} or _USUAL,
            "each_once": True,
        },
        rows=rows,
    )
    with discarded_unused(run, command):
        check_base(run, command.base, _BASES)
        if not tasks:
            datasets = Datasets(run.config["material"])
            tasks["spam"] = make_task(*labelled(datasets, command.labelled))
            tasks["ratings"] = make_task(*datasets.rated(command.rated))
        read = {
            name: _fitted(command, task, tokenizer, shape, own=bool(sources))
            for name, task in tasks.items()
        }
    say_all(notes)
    table = []
    for name, (task, length) in read.items():
        table += _measure_models(command, run, name, task, length)
    ranks.by_first(lambda: write_json(run.path / "table.json", table))
    if ranks.is_first():
        _show(table)
    mark_finished(run, quiet=command.quiet)
    return run


def _sources(command: Command, rows: list[Row] | None) -> dict[str, tuple[str, Source]]:
    """What is to be told apart, by the name of the task: which kind of texts, and where they are.

    Empty where nothing is named, and the texts that come with playout are meant.
    """
    from playout.errors import ConfigError, DataError
    from playout.rlhf.data.rows import read_rows
    from playout.rlhf.stages.run import stage_source

    flags = {_LABELLED: command.labelled, _RATED: command.rated}
    named: dict[str, str] = {kind: file for kind, file in flags.items() if file}
    file = data_file(command.data, " ".join(named.values()), "--labelled or --rated")
    if named:
        if rows is not None:
            raise ConfigError("give rows, or files as labelled= and rated=, not both")
        stems = [Path(path).stem for path in named.values()]
        names = stems if len(set(stems)) == len(stems) else list(named)
        return dict(zip(names, named.items(), strict=True))
    source = stage_source(command, file, rows)
    if source == "":
        return {}
    where, first = next(iter(read_rows(source)), ("", {"label": ""}))
    if not first.keys() & {"label", "rating", "ratings"}:
        found = ", ".join(sorted(map(str, first))) or "none"
        raise DataError(f"{where}: there is neither a label nor a rating (there are: {found})")
    name = Path(file).stem if source == file else "texts"
    return {name: (_LABELLED if "label" in first else _RATED, source)}


def _base(command: Command) -> tuple[TransformerConfig, Tokenizer]:
    """Shape and tokenizer of the pretrained model, which is there and can be read."""
    from playout.errors import ConfigError
    from playout.rlhf.model.adapters.held import is_quantised
    from playout.rlhf.model.folder import load_model

    model, tokenizer = load_model(command.base, _BASES, writes=False)
    if is_quantised(model):
        raise ConfigError(f"{command.base} is quantised and cannot learn; name what it was")
    return model.config, tokenizer


def _fitted(
    command: Command, task: TextTask, tokenizer: Tokenizer, shape: TransformerConfig, *, own: bool
) -> tuple[TextTask, int]:
    """A task with the texts that are read, enough for all ranks; and how many tokens of each."""
    from playout.agents.runs import ranks
    from playout.rlhf.data.encoding import row_length
    from playout.rlhf.supervised.classify import ClassifyConfig, fit_task, longest_text

    longest, context = longest_text(task, tokenizer), shape.max_position_embeddings
    length = row_length(command.max_length, ClassifyConfig().length, context, longest, own=own)
    fitted = fit_task(task, tokenizer, length, command.truncate)
    ranks.share(min(command.batch, len(fitted.train[0])), "texts a step")
    return fitted, length


def _measure_models(
    command: Command, run: RunDir, name: str, task: TextTask, length: int
) -> list[dict[str, Any]]:
    """Every model on one task; a model that has been trained before is not trained again."""
    from playout.rlhf.supervised.classify import linear_baseline, measured_row

    rows = [measured_row(name, "tf-idf", linear_baseline(task), task)]
    for kind in ("scratch", "pretrained"):
        trainer = _train(command, run, name, task, kind, length)
        rows.append(measured_row(name, kind, trainer.predictions(), task))
    return rows


def _train(
    command: Command, run: RunDir, name: str, task: TextTask, kind: str, length: int
) -> ClassifyTrainer:
    """One model on one task, from scratch or pretrained."""
    from playout.agents.runs import ranks
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.commands.memory_options import first_device, spread
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.stages.run import train_stage
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.stages.threads import set_threads
    from playout.rlhf.supervised.classify import ClassifyConfig, ClassifyTrainer

    config = ClassifyConfig(
        steps=command.steps or recipe(command.size).classify_steps,
        batch=command.batch,
        length=length,
        truncate=command.truncate,
        pool=command.pool,
        learn=learn_config(command),
    )
    device = resolve_device(command.device)
    home = first_device(command, device)
    model, tokenizer = load_model(command.base, _BASES, device=home, writes=False)
    if kind == "scratch":
        model = Transformer(model.config, seed=command.seed).to(home)
    model.recompute = command.checkpoint_activations
    spread(model, command, device)
    set_threads(run, model.config.hidden_size, command.threads)
    trainer = ClassifyTrainer(model, tokenizer, task, config, seed=command.seed)
    folder = run.subrun(f"{name}-{kind}")
    settings: dict[str, Any] = {"task": name, "model": kind, "classes": list(task.classes)}
    settings |= {"length": length, "truncate": command.truncate}
    if ranks.by_first(lambda: RunDir.is_run(folder)):
        inner = RunDir.open(folder)
    else:
        made = "rlhf.classify.model"
        inner = RunDir.create(folder, kind=made, config=settings, seed=command.seed)
    train_stage(trainer, inner, updates=config.steps, evaluations=4, quiet=command.quiet)
    return trainer


def _learn_reports(command: Command, rows: list[Row] | None) -> RunDir:
    """The labels of an earlier run with reports: a new classifier, beside the old one."""
    from playout.agents.runs import ranks
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.directory import RunDir
    from playout.agents.runs.reporting import write_json
    from playout.errors import ConfigError
    from playout.rlhf.data.records import read_labelled
    from playout.rlhf.stages.run import (
        check_base,
        discarded_unused,
        mark_finished,
        open_stage,
        stage_source,
    )
    from playout.rlhf.supervised import reports
    from playout.rlhf.supervised.classifier import Classifier
    from playout.rlhf.supervised.classify import linear_baseline, make_task, measured_row

    source = stage_source(command, command.reports, rows)
    if not command.from_run or source == "":
        raise ConfigError("reports are learned by: playout rlhf classify --from RUN --reports FILE")
    if command.labelled or command.rated or command.data not in SOURCES:
        raise ConfigError(
            "--from takes over the labels of its run; leave out --labelled, --rated, --data FILE"
        )
    device = resolve_device(command.device)
    old = RunDir.open(command.from_run)
    before = Classifier.load(old.path, device=device, dtype=command.dtype)
    plain, settings = Command(), Command.stored_today(old.config)
    taken = {
        name: type(getattr(plain, name))(settings[name])
        for name in _TAKEN
        if getattr(command, name) == getattr(plain, name) and name in settings
    }
    kept = None if command.resume is None else command.resume / reports.LABELS
    if kept is None or not kept.exists():
        command = replace(command, **taken)
        labels = reports.added(reports.labels_of(old), read_labelled(source))
    else:
        labels = reports.kept_labels(kept)
    learned = [one.labelled for one in labels if not one.held_out]
    task = make_task(learned, [one.labelled for one in labels if one.held_out])
    shape, tokenizer = _base(command)
    derived = {"material": "files", "tasks": {before.task: _LABELLED}}
    run = open_stage(command, "classify", lambda: derived, rows=rows)
    with discarded_unused(run, command):
        check_base(run, command.base, _BASES)
        task, length = _fitted(command, task, tokenizer, shape, own=True)
        asked = set(task.test[0])  # texts that are left out are not asked
        held = [one for one in labels if one.held_out and one.text in asked]
        old_scores = before.scores(task.test[0])
        batch = max(one.report for one in labels)
        judged = partial(reports.decision, labels=held, classes=task.classes, batch=batch)
        judged(old_scores, old_scores)  # refuses what cannot be told
        ranks.by_first(lambda: reports.write_labels(run.path / reports.LABELS, labels))
    trainer = _train(command, run, before.task, task, "pretrained", length)
    scores = trainer.predictions()
    table = [
        measured_row(before.task, model, found, task)
        for model, found in (
            ("tf-idf", linear_baseline(task)), ("before", old_scores), ("pretrained", scores)
        )
    ]  # fmt: skip
    found = judged(old_scores, scores)
    ranks.by_first(lambda: write_json(run.path / "table.json", table))
    ranks.by_first(lambda: write_json(run.path / "decision.json", found))
    if ranks.is_first():
        _show(table)
        print(reports.told(found, old.path, run.path))
    mark_finished(run, quiet=command.quiet)
    return run


def _show(table: list[dict[str, Any]]) -> None:
    from playout.rlhf.evaluation.findings import of_classification, share
    from rich.console import Console
    from rich.table import Table

    shown = Table("task", "model", "held out", "accuracy (95 %)", "second measure")
    for row in table:
        first = row["accuracy"] if "accuracy" in row else row["pair_accuracy"]
        second = (
            f"F1 {row['f1']:.3f}"
            if "f1" in row
            else f"pairs 1 apart {share(row['far_pair_accuracy'])}"
        )
        shown.add_row(
            row["task"],
            row["model"],
            str(row["texts"]),
            share(first, row["interval"]),
            second,
        )
    Console().print(shown)
    for line in of_classification(table):
        print(line)

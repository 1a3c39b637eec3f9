"""The run of a stage: opened or continued, its tokenizer made once, marked when it is finished.

In a job of several ranks the first one makes, writes and says what there is to be made, written and
said, and the others wait for it. Loops, checkpoints and metrics are agents/runs'; model folders are
model/folder.py's.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from playout.agents.runs import ranks
from playout.agents.runs.console import make_console
from playout.agents.runs.devices import resolve_device
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.agents.runs.options import MachineOptions, TrainingOptions, open_run
from playout.agents.runs.reporting import as_word
from playout.errors import ConfigError, PlayoutError, RunError
from playout.rlhf.data.rows import Source, write_rows
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import check_codes, held_type
from playout.rlhf.model.adapters.lora import has_adapters
from playout.rlhf.model.adapters.peft_folder import save_adapter
from playout.rlhf.model.folder import (
    IMPROVING,
    POLICIES,
    export_model,
    model_folder,
)
from playout.rlhf.model.sharding import whole_model
from playout.rlhf.model.transformer import Transformer, pick_dtype
from playout.rlhf.stages.bases import check_base, check_rewards
from playout.rlhf.stages.sizes import recipe
from playout.rlhf.stages.speed import LanguageTrainer, Speed
from playout.rlhf.stages.threads import set_threads

__all__ = [
    "OWN_REWARD",
    "begin_stage",
    "check_base",
    "check_ranks",
    "check_usual_data",
    "discarded_unused",
    "evaluation_interval",
    "export_stage",
    "is_finished",
    "mark_finished",
    "open_stage",
    "own_tokenizer",
    "same_again",
    "say_all",
    "stage_source",
    "train_stage",
]

C = TypeVar("C", bound=TrainingOptions)

OWN_REWARD = "own_reward"
"""A run that has this setting was rewarded by a function given from Python, which nothing keeps."""
ROWS = "rows.jsonl"
"""Rows that were given from Python, in their run: a resumed run reads them there."""

# What ranks divide of a step or round of a stage, and the option that says how many there are.
_DIVIDED = {
    "pretrain": "rows a step (--rows)",
    "sft": "demonstrations a step (--batch)",
    "classify": "texts a step (--batch)",
    "reward": "texts a step (--batch)",
    "dpo": "pairs a step (--batch)",
    "grpo": "groups of answers a round (--batch)",
    "rlhf": "answers a round (--batch)",
}

_NEXT = {
    "reward": "score",
    "best-of-n": "",
    "classify": "",
}
# What is done with a stage's run; of one that leaves only a table, `playout eval` shows it.
_WRITES = "chat|generate"


def _next_command(run: RunDir) -> str:
    """What to do with a finished run."""
    stage, path = run.kind.partition(".")[2], as_word(run.path)
    if stage == "games":
        return f"playout play {path}; playout match {path} random"
    if stage == "pretrain" and not run.config.get("encoder"):
        return f"playout rlhf generate {path} --prompt TEXT; playout rlhf sft --base {path}"
    command = "classify --base" if run.config.get("encoder") else _NEXT.get(stage, _WRITES)
    judged = stage == "all" or run.config.get("reward") or run.config.get("env")
    if command == _WRITES and judged:
        command = f"{_WRITES}|judge"
    if stage == "classify" and "labelled" in dict(run.config.get("tasks") or {}).values():
        command = "score"
    return f"playout rlhf {command} {path}" if command else f"playout eval {path}"


def check_ranks(command: MachineOptions, stage: str) -> None:
    """Refuse more ranks than a step or round of a stage can be divided among.

    Where there are fewer data than the options say, its trainer refuses them.

    Args:
        command: The stage's command.
        stage: Its name; one that does not learn, or only calls others, divides nothing.

    Raises:
        ConfigError: some ranks would have nothing.
    """
    if stage in _DIVIDED:
        count = getattr(command, "rows", 0) or getattr(command, "batch", 0)
        count = count or recipe(getattr(command, "size", "")).batch
        ranks.share(count // getattr(command, "group", 1), _DIVIDED[stage])


def same_again(command: C) -> C:
    """A command, which continues the run that `--run` names if that is there already."""

    def there() -> bool:
        return command.run is not None and RunDir.is_run(command.run)

    if command.resume is None and ranks.by_first(there):
        return dataclasses.replace(command, resume=command.run, run=None)
    return command


def open_stage(
    command: TrainingOptions,
    stage: str,
    derive: Callable[[], dict[str, Any]],
    *,
    rows: Iterable[Mapping[str, Any]] | None = None,
) -> RunDir:
    """Create or reopen the run of a stage.

    Args:
        command: Its command.
        stage: Its name; the kind of the run is `rlhf.` and this.
        derive: What is chosen once and stored with the run; not called when a run is resumed.
        rows: Data given from Python, to be kept with a new run.

    Raises:
        ConfigError: the device or its type cannot be used, or there are more ranks than a step can
            be divided among; no run is made.
    """
    check_ranks(command, stage)
    device = resolve_device(command.device)
    pick_dtype(command.dtype, device)
    ranks.start(device)
    extra = ranks.by_first(derive) if command.resume is None else {}
    if rows is not None:
        # What pretraining calls `rows` is another thing, the rows a step.
        extra["given_rows" if hasattr(command, "rows") else "rows"] = ROWS
    instead = "start a new run"
    goes_on = stage in ("pretrain", "sft", *IMPROVING) and not getattr(command, "encoder", False)
    if command.resume is not None and goes_on:
        first = "" if is_finished(command.resume) else "let it finish, then "
        instead = f"{first}{instead} with --base {as_word(command.resume)}"
    run = open_run(command, kind=f"rlhf.{stage}", name=stage, extra=extra, instead=instead)
    if rows is not None and command.resume is None:
        with discarded_unused(run, command):
            ranks.by_first(lambda: write_rows(run.path / ROWS, rows))
    whole = stage in ("all", "games")
    over = command.resume is not None and command.from_step is None and not whole
    if over and run.record.get("finished") and ranks.is_first():
        if stage == "quantise":  # its codes stay as they are
            instead = f"add adapters: playout rlhf sft --base {as_word(run.path)} --lora-rank 16"
        print(f"{run.path} is finished; to train on, {instead}", flush=True)
    return run


def begin_stage(
    command: TrainingOptions,
    stage: str,
    derive: Callable[[], dict[str, Any]],
    *,
    model: Transformer,
    base: str,
    stages: Iterable[str] = POLICIES,
    rows: Iterable[Mapping[str, Any]] | None = None,
) -> RunDir:
    """`open_stage` where a model learns on: its threads are set, it and its reward are noted.

    Args:
        command: The command.
        stage: Its name.
        derive: See `open_stage`.
        model: What learns.
        base: What it was, as the command names it.
        stages: Which of a run of many stages that may be.
        rows: Data given from Python.

    Raises:
        RunError: The base or the reward of a resumed run has changed.
        ConfigError: The base's weights are held otherwise than the command says.
    """
    if command.resume is None:  # runs of earlier versions go on
        check_codes(model, held_type(getattr(command, "weights", "float32")), base)
    run = open_stage(command, stage, derive, rows=rows)
    set_threads(run, model.config.hidden_size, command.threads)
    check_base(run, base, stages)
    check_rewards(run, getattr(command, "reward", ""))
    return run


def say_all(notes: Iterable[str]) -> None:
    """Say what readers did with the data: when all is known to be right, before learning begins."""
    for note in notes:
        print(note, file=sys.stderr, flush=True)


def stage_source(
    command: TrainingOptions, file: str, rows: Iterable[Mapping[str, Any]] | None
) -> Source:
    """What a stage reads: rows given from Python, those that its run keeps, or a file.

    Args:
        command: Its command.
        file: What the command names; empty for the data that come with playout.
        rows: Given from Python, or None.

    Raises:
        RunError: The run's rows are gone.
    """
    if rows is not None:
        return rows
    if command.resume is None:
        return file
    config = RunDir.open(command.resume).config
    kept = config.get("given_rows") or config.get("rows")
    if not isinstance(kept, str):
        return file
    path = command.resume / str(kept)
    if not path.exists():
        raise RunError(f"{path} is gone, and this run was given its data from Python")
    return path


def check_usual_data(
    command: TrainingOptions, data: str, base: str, *, what: str, flag: str = "--data"
) -> None:
    """See whether a stage that names no data of its own may take those that come with playout.

    They are movie reviews. A model that playout pretrained goes on with them; whoever starts from
    one that was published, or that speaks in turns, asks for them by their name.

    Args:
        command: The stage's command.
        data: Its `--data`; real and synthetic are names of them.
        base: What the stage starts from.
        what: What it would learn from, in an error.
        flag: The option that names a file of it.

    Raises:
        ConfigError: They have to be asked for.
    """
    if data != "auto" or command.resume is not None:
        return
    folder = model_folder(base)
    ours = any(RunDir.is_run(path) for path in (Path(base), folder, folder.absolute().parent))
    if ours and Tokenizer.load(folder).template is None:
        return
    raise ConfigError(
        f"name {what}: {flag} FILE, or --data real for the movie reviews that come with playout, "
        f"which {base} was not made for"
    )


@contextlib.contextmanager
def discarded_unused(run: RunDir, command: TrainingOptions) -> Iterator[None]:
    """Remove a new run if what is done here is refused before anything was learned."""
    try:
        yield
    except PlayoutError:
        if command.resume is None and ranks.is_first():
            run.discard_unused()
        raise


def export_stage(
    run: RunDir, model: Transformer, tokenizer: Tokenizer, *, base: str, stages: Iterable[str]
) -> None:
    """Leave what a stage has learned in RUN/model, adapters merged, and those in RUN/adapter."""
    found = whole_model(model)

    def write() -> None:
        assert found is not None
        if has_adapters(found):
            source = model_folder(base, stages).absolute()
            save_adapter(found, run.path / "adapter", base=str(source))
            tokenizer.save(run.path / "adapter")
        export_model(run.path / "model", found, tokenizer)

    ranks.by_first(write)


def mark_finished(run: RunDir, *, quiet: bool) -> None:
    """Note in run.json that a stage is complete; say what comes next, where no pipeline goes on."""

    def mark() -> None:
        with run.lock():
            run.update(finished=True)

    ranks.by_first(mark)
    if not quiet and ranks.is_first() and run.whole is run:
        print(f"run {run.path}: {_next_command(run)}", flush=True)


def is_finished(path: Path) -> bool:
    """Whether a stage's run is there and complete."""
    return (path / "run.json").exists() and bool(RunDir.open(path).record.get("finished"))


def evaluation_interval(steps: int, times: int) -> int:
    """Every how many of `steps` to evaluate, about `times` times with the last step."""
    return max(1, -(-steps // times))


def train_stage(
    trainer: LanguageTrainer, run: RunDir, *, updates: int, evaluations: int, quiet: bool
) -> None:
    """Train to the end, with about so many evaluations on the way; says first what it costs."""
    every = evaluation_interval(updates, evaluations)
    console = make_console(not quiet and ranks.is_first())
    speed = Speed(trainer, console)
    if not trainer.finished:
        speed.before()
    with speed.counted():
        train(
            trainer,
            run,
            eval_every=every,
            save_every=30.0,
            console=console,
            callbacks=[speed.after],
        )


def own_tokenizer(run: RunDir, make: Callable[[], Tokenizer]) -> Tokenizer:
    """The tokenizer of a run, made once."""
    folder = run.path / "tokenizer"

    def once() -> None:
        if not (folder / "tokenizer_config.json").exists():
            make().save(folder)

    ranks.by_first(once)
    return Tokenizer.load(folder)

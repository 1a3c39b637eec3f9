"""Pretrain a trunk from labels or without any: `playout pretrain-trunk DATA --objective ...`.

DATA is read or made (pretraining/data/), a trunk that PPO or self-play could have is taught by one
objective, and the run says what its features are worth. `pretrain_trunk()` is the same in Python.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from playout.agents.ppo.config import EnvOptions, preset
from playout.agents.pretraining.config import CHANNELS, PretrainConfig
from playout.agents.pretraining.data.dataset import COUNT, DATA_VERSION
from playout.agents.runs import ranks
from playout.agents.runs.console import say_measuring, silence
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import (
    TrainingOptions,
    agree_on,
    check_seed,
    make_command,
    open_run,
    run_options_last,
)
from playout.errors import ConfigError
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from playout.agents.pretraining.data.dataset import Split
    from playout.agents.pretraining.trainer import PretrainTrainer
    from playout.agents.pretraining.trunk import Trunk

EVALUATIONS = 10


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Teach a network's trunk from DATA; `--init RUN` of other commands begins with it.

    For example:
      playout pretrain-trunk fashion-mnist --objective supervised --minutes 10
      playout pretrain-trunk pictures/ --objective masked --minutes 5      a folder a class
      playout pretrain-trunk connect_four --objective contrastive          positions of a game
      playout eval runs/fashion-mnist-1 --probe linear                     what it is worth

    DATA is fashion-mnist, digits, photographs, icons, a folder of IDX files or of pictures, a file
    of recorded games, frames:ENV (what an environment renders), observations:ENV (what ppo sees
    there), or a game.
    """

    data: Annotated[Positional[str], arg(metavar="DATA")] = ""
    """What to learn from."""

    minutes: Annotated[float | None, arg(metavar="MINUTES", help_behavior_hint="")] = None
    """Time for training; instead of --epochs."""

    count: int = COUNT
    """Positions of a game, or pictures of an environment, to make."""

    wrappers: tuple[str, ...] = ()
    """Of observations: around the environment, as in ppo; by default those of its preset there."""

    env_options: EnvOptions = field(default_factory=dict)
    """Of observations: keyword arguments of the environment, as in ppo."""

    data_seed: int = 0
    """Of positions or frames that are made, and of which data are held out. Not --seed: runs that
    begin with each other, or teach each other, hold out the same."""

    validation: float = 0.1
    """Share of what there is to learn from (2,048 rows at most) that chooses the best checkpoint,
    and with --patience the end, instead; where that is fewer than 50, the last checkpoint is the
    best. 0: what is held out chooses, and so flatters what is reported of it."""

    image_size: int = 0
    """Both sides of pictures of a folder, or of frames; 0: as they are, of frames 64."""

    init: Annotated[str, arg(metavar="RUN", help_behavior_hint="")] = ""
    """Begin with the trunk of this run of pretrain-trunk, alphazero or ppo, at its best checkpoint;
    of pictures the kind of network is its own, of positions it has to be a resnet."""

    pretrain: Annotated[PretrainConfig, arg(name="")] = field(default_factory=PretrainConfig)

    @staticmethod
    def stored_today(config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Earlier versions showed positions whose moves are imitated as they lie.

        They took --seed for data as well, and what was held out chose the best checkpoint.
        """
        config = {"data_seed": config.get("seed", 0), "validation": 0.0, **config}
        pretrain = config.get("pretrain", {})
        augment = pretrain.get("augment", {})
        imitates = pretrain.get("objective") == "supervised" and not pretrain.get("teacher")
        if "symmetries" in augment or not imitates:
            return config
        return {**config, "pretrain": {**pretrain, "augment": {**augment, "symmetries": False}}}

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        if self.count < 10:
            raise ConfigError(f"--count must be at least 10, not {self.count}")
        if self.minutes is not None and not 0 < self.minutes < 1e7:
            raise ConfigError(f"--minutes must be a positive number, not {self.minutes}")
        if not 0 <= self.validation <= 0.5:
            raise ConfigError(f"--validation must be from 0 to 0.5, not {self.validation}")
        if not (self.image_size == 0 or 8 <= self.image_size <= 1024):
            raise ConfigError(f"--image-size must be from 8 to 1024, not {self.image_size}")


def main(command: Command) -> int:
    """Train, then say what to do next."""
    run = _train(command)
    if not command.quiet:
        probe = ("--probe", "linear") if run.config.get("classes") else ()  # it reads labels
        print(
            f"run {run.path}\nMeasure it         {run.command_for('eval', *probe)}\n"
            f"Use it elsewhere   {run.command_for('export')}"
        )
    return 0


def pretrain_trunk(data: str | None = None, **options: Any) -> RunDir:
    """Pretrain a trunk: `playout.pretrain_trunk("digits", objective="masked", epochs=5)`.

    Args:
        data: What the command takes; a resumed run needs none.
        **options: Any option of `playout pretrain-trunk`, with underscores.

    Returns:
        The run directory; `playout.load(run.path).act(images)` gives features.
    """
    own = {one.name for one in fields(Command)} - {"pretrain"}
    settings = {key: value for key, value in options.items() if key not in own}
    chosen = {key: value for key, value in options.items() if key in own}
    if settings:
        chosen["pretrain"] = settings
    command = make_command(Command, data=data, **chosen)
    agree_on(command)
    return _train(command)


def _train(command: Command) -> RunDir:
    """Train as the command says."""
    import torch
    from playout.agents.pretraining.budget import plan, some_steps
    from playout.agents.pretraining.data.frames import environment_of
    from playout.agents.pretraining.data.sources import digest, load, read_otherwise, trust_typed
    from playout.agents.pretraining.objectives.registry import must_teach
    from playout.agents.pretraining.run import use_threads
    from playout.agents.pretraining.trainer import PretrainTrainer
    from playout.agents.pretraining.trunk import begin_from, new_trunk, trunk_of, without_channels
    from playout.agents.runs.devices import device_errors, resolve_device, resolve_dtype
    from playout.agents.runs.loop import train
    from playout.agents.runs.signals import stop_at_once

    if command.resume is None:  # a run of an earlier version goes on as it was
        if not command.data:
            raise ConfigError("say what to learn from: playout pretrain-trunk fashion-mnist")
        _refuse_unused(command)
    check_seed(command.data_seed, flag="--data-seed")
    name, command = command.data, _placed(command)
    last = None if command.resume is None else RunDir.open(command.resume)
    goes_on = last is not None and last.find() is not None
    if last is None:
        trust_typed(command.data)
    begun = None
    if command.init and not goes_on:  # a checkpoint brings its own
        begun = trunk_of(RunDir.open(command.init))
    if last is None:
        command = _settled(command, begun)
    device = resolve_device(command.device)
    dtype = getattr(torch, resolve_dtype(command.dtype, device))
    use_threads(command)
    version = DATA_VERSION if last is None else last.config.get("data_version", 1)
    quietly = silence() if command.quiet else nullcontext()
    with stop_at_once("nothing was learned yet"), quietly:
        split = load(
            command.data,
            count=command.count,
            image_size=command.image_size,
            seed=command.data_seed,
            wrappers=command.wrappers,
            env_options=command.env_options,
            version=version,
        )
    config = command.pretrain
    if command.resume is None:
        must_teach(split.train, config)
    found = digest(split)
    if last is not None and last.config["digest"] != found:  # before --from-step moves anything
        raise ConfigError(
            f"{command.data} does not hold what {last.path} has learned from"
            f"{read_otherwise(last.config)}"
        )
    fresh: list[str] = [] if last is None else list(last.config.get("fresh", []))
    narrower = bool(config.sparsity) and config.pattern == CHANNELS

    def make(steps: int) -> PretrainTrainer:
        trunk = new_trunk(split.train, network=config.network, size=config.size, seed=command.seed)
        if begun is not None:
            fresh[:] = begin_from(trunk, begun, command.init)
        if narrower:
            trunk = without_channels(trunk, config.sparsity)
        return PretrainTrainer(
            trunk,
            split,
            config,
            steps=steps,
            seed=command.seed,
            device=device,
            dtype=dtype,
            fresh=fresh,
            validation=command.validation,
        )

    with device_errors(device):
        trainer = make(10**6)  # what does not fit is said before a folder is made
    if command.resume is None and ranks.is_first():
        _tell_of_other_splits(command, found)
    run = open_run(
        command,
        kind="pretrain-trunk",
        name=name,
        extra={
            "digest": found,
            "data_version": version,
            "network": trainer.trunk.description(),
            "game": _game(split),
            "env": environment_of(command.data),
            "classes": list(split.train.classes),
            "fresh": fresh,
        },
        may_change=("minutes",),
    )
    left = "nothing was learned yet" if last is None else f"{run.path} is as it was"
    try:
        with stop_at_once(left):
            total = max(1, round(config.epochs * trainer.per_epoch))
            if command.minutes is not None:
                if not (command.quiet or run.record.get("budget")) and ranks.is_first():
                    say_measuring()
                total = plan(
                    run,
                    minutes=command.minutes,
                    unit="steps",
                    measure=lambda: some_steps(trainer),
                    share=0.93,  # the rest is for evaluations and saving
                )
            if trainer.steps:  # it was measured by, and knows some of the data
                trainer.close()
                trainer = make(total)
            trainer.total = total
            _note_total(run, total)
        if not command.quiet:
            _print_plan(trainer, split, run.path)
        updates = -(-total // trainer.steps_an_update)
        with device_errors(device):
            train(
                trainer,
                run,
                save_every=60.0,
                eval_every=max(1, updates // EVALUATIONS),
                console=not command.quiet,
            )
    except BaseException:
        if last is None:
            run.discard_unused()
        raise
    finally:
        trainer.close()
    return run


def _note_total(run: RunDir, total: int) -> None:
    """Stores how many steps are planned; what a run began with is no change of it."""
    before = run.config.get("total_steps")
    if before != total:
        with run.lock():
            store = run.complete_config if before is None else run.change_config
            store(total_steps=total)


def _settled(command: Command, begun: Trunk | None) -> Command:
    """The command with what follows from the preset of its environment, and from --init."""
    from playout.agents.pretraining.data.frames import OBSERVATIONS
    from playout.agents.pretraining.data.sources import are_pictures
    from playout.agents.pretraining.trunk import BOARDS

    data, pretrain = command.data, command.pretrain
    wrappers, env_options = command.wrappers, command.env_options
    if data.startswith(OBSERVATIONS):
        known = preset(data.removeprefix(OBSERVATIONS))
        wrappers = wrappers or tuple(known.get("wrappers", ()))
        env_options = env_options or dict(known.get("env_options", {}))
    own = "" if begun is None or isinstance(begun.net, BOARDS) else begun.network
    if own and pretrain.network == "auto" and are_pictures(data):
        pretrain = replace(pretrain, network=own)
    return replace(command, pretrain=pretrain, wrappers=wrappers, env_options=env_options)


def _refuse_unused(command: Command) -> None:
    """Raises ConfigError for an option that would do nothing."""
    from playout.agents.pretraining.data import sources
    from playout.agents.pretraining.data.frames import OBSERVATIONS

    data, pretrain = command.data, command.pretrain
    pretrain.refuse_unused(pictures=sources.are_pictures(data), begun=bool(command.init))
    seen = data.startswith(OBSERVATIONS)
    for flag, given, why in (
        ("wrappers", command.wrappers and not seen, f"but with {OBSERVATIONS}ENV"),
        ("env-options", command.env_options and not seen, f"but with {OBSERVATIONS}ENV"),
        ("image-size", command.image_size and not sources.takes_size(data),
         "but with a folder of pictures or frames"),
        ("count", command.count != COUNT and not sources.are_made(data),
         "but with a game or frames"),
        ("data-seed", command.data_seed and not sources.takes_seed(data),
         "with data that bring their own split"),
        ("epochs", command.minutes is not None and pretrain.epochs != PretrainConfig().epochs,
         "beside --minutes"),
    ):  # fmt: skip
        if given:
            raise ConfigError(f"--{flag} does nothing {why}: leave it out")


def _tell_of_other_splits(command: Command, found: str) -> None:
    """Says which runs that are begun from, or that teach, know what is held out here."""
    from playout.agents.pretraining.data.solved import held_out_alike
    from playout.agents.pretraining.data.sources import are_made

    for flag, path in (("--init", command.init), ("--teacher", command.pretrain.teacher)):
        old = Command.stored_today(RunDir.open(path).config) if path else {}
        if old.get("data") != command.data or old.get("digest") in (None, found):
            continue
        version, game = old.get("data_version", 1), old.get("game") and are_made(command.data)
        if not (game and held_out_alike(old["game"], version, DATA_VERSION)):
            print(
                f"note: {flag} {path} has learned from another split of {command.data} "
                f"(--data-seed {old['data_seed']}, --count {old['count']}) and may know what is "
                "held out here",
                file=sys.stderr, flush=True,
            )  # fmt: skip


def _placed(command: Command) -> Command:
    """The command with whole paths, so that its run is used from any folder."""
    from playout.agents.pretraining.data.sources import is_path

    def whole(text: str, stored: object) -> str:
        found = str(Path(text).resolve())
        return found if command.resume is None or stored == found else text

    stored = {} if command.resume is None else RunDir.open(command.resume).config
    data, init, teacher = command.data, command.init, command.pretrain.teacher
    if is_path(data):
        data = whole(data, stored.get("data"))
    if init and RunDir.is_run(Path(init)):
        init = whole(init, stored.get("init"))
    if teacher and RunDir.is_run(Path(teacher)):
        teacher = whole(teacher, stored.get("pretrain", {}).get("teacher"))
    return replace(
        command, data=data, init=init, pretrain=replace(command.pretrain, teacher=teacher)
    )


def _game(split: Split) -> str:
    """What makes the game again whose positions these are; empty for pictures."""
    from playout.agents.pretraining.data.positions import Positions
    from playout.envs.core.registry import game_text

    if not isinstance(split.train, Positions):
        return ""
    return game_text(split.train.game) or str(split.train.game)


def _print_plan(trainer: PretrainTrainer, split: Split, path: Path) -> None:
    from playout.agents.pretraining.data.positions import unit_of
    from playout.agents.pretraining.data.repeats import tell_of_repeats

    weights = sum(p.numel() for p in trainer.trunk.parameters())
    heads = sum(p.numel() for p in trainer.objective.parameters())
    channels, height, width = split.train.shape
    choosing = 0 if trainer.chosen_by is None else len(trainer.chosen_by)
    choose = f"{choosing:,} choose the best checkpoint, " if choosing else ""
    print(
        f"Learning {split.train.name} by {trainer.config.objective}\n"
        f"  data      {len(trainer.rows):,} {unit_of(split.train)} of "
        f"{channels} x {height} x {width}, {choose}{len(split.test):,} held out\n"
        f"  trunk     {trainer.trunk.network}, {weights:,} parameters, {heads:,} in heads\n"
        f"  training  {trainer.total:,} steps of {min(trainer.config.batch, len(trainer.rows))} "
        f"by {trainer.config.optimizer}\n"
        f"  saved in  {path}",
        flush=True,
    )
    tell_of_repeats(split)

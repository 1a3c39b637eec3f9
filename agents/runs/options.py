"""The flags that every training command shares, and the one way to start or continue a run.

A command's dataclass inherits TrainingOptions. `--resume RUN` takes every flag that is not given
from the run, so that only what the person typed can differ; what differs must be on the command's
list of settings that may change. Leaves out parsing (cli.py).
"""

import dataclasses
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from playout.agents.runs import devices, ranks
from playout.agents.runs.config import check_names, dotted, from_dict, to_dict
from playout.agents.runs.directory import RunDir
from playout.agents.runs.ranks.agreement import OF_MACHINE
from playout.agents.runs.ranks.alike import own_code_digests
from playout.agents.runs.reporting import as_word
from playout.errors import ConfigError
from playout.own_code import refuse_while_importing, trust_modules
from tyro.conf import UseAppendAction, arg

T = TypeVar("T", bound="TrainingOptions")
M = TypeVar("M", bound="MachineOptions")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """What computes, and whose code may run; inherit this in every command that has a network."""

    device: str = "auto"
    """Where networks compute: auto (a GPU if there is one), or what torch.device takes: cpu, cuda,
    cuda:1."""

    dtype: str = "auto"
    """Type that networks compute in: auto (the fastest safe one here), float32, bfloat16, float16;
    board networks also play in int8."""

    threads: int = 0
    """Threads to use; 0: as suits the network and the machine."""

    trust: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="MODULE")] = ()
    """A module of yours that a run may import, such as the one with your game; may be repeated."""

    def __post_init__(self) -> None:
        devices.check_threads(self.threads)
        if self.dtype not in (*devices.DTYPES, devices.INT8):
            known = ", ".join((*devices.DTYPES, devices.INT8))
            raise ConfigError(f"dtype {self.dtype!r} is unknown: use {known}")

    def refuse_unused(self, *names: str, where: str) -> None:
        """Raises ConfigError for the first of these options that was given, and does nothing here.

        Args:
            names: Of the options.
            where: Ends "--NAME does nothing ".
        """
        usual = {one.name: one.default for one in dataclasses.fields(self)}
        for name in names:
            if getattr(self, name) != usual[name]:
                raise ConfigError(f"--{name} does nothing {where}: leave it out")


DEFAULT_MACHINE = MachineOptions()


def check_device(machine: MachineOptions) -> None:
    """Refuses a device that is not there, in commands that might find out late or never.

    Options themselves do not: a run that began elsewhere is read before its device is replaced.
    """
    if machine.device != "auto":
        devices.resolve_device(machine.device)


def check_seed(seed: int, *, flag: str = "--seed") -> None:
    """Raises ConfigError for a seed that is none, naming its flag."""
    if not 0 <= seed < 2**63:
        raise ConfigError(f"{flag} must be from 0 to 2^63 - 1, not {seed}")


def machine_options(
    *, device: str, dtype: str, threads: int, trust: str | Sequence[str] = ()
) -> MachineOptions:
    """Machine options from keyword arguments in Python; the modules in `trust` are trusted now."""
    names = (trust,) if isinstance(trust, str) else tuple(trust)
    trust_modules(*names)
    return MachineOptions(device=device, dtype=dtype, threads=threads, trust=names)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions(MachineOptions):
    """Where a run goes and how it is shown; inherit this in a training command."""

    run: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder for the run; by default a new one below runs/."""

    resume: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Continue this run; settings that are not given stay as they were."""

    from_step: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """With --resume: go back to this checkpoint first (newer ones move to abandoned/)."""

    seed: int = 0
    """All randomness derives from it: the same seed gives the same run."""

    quiet: bool = False
    """Show no progress."""

    typed_only: ClassVar[frozenset[str]] = frozenset()
    """Options that the run does not keep under their names; on --resume they are what is typed."""

    def __post_init__(self) -> None:
        MachineOptions.__post_init__(self)
        check_seed(self.seed)

    @staticmethod
    def defaults(arguments: list[str]) -> "TrainingOptions | None":
        """The defaults of the flags, where the arguments (a game's name, say) decide them."""
        return None

    @staticmethod
    def stored_today(config: Mapping[str, Any]) -> Mapping[str, Any]:
        """A run's configuration under today's names, where earlier versions had others."""
        return config

    @staticmethod
    def kept(name: str, value: Any) -> Any:
        """A setting as a run keeps it, such as a path that is to hold in any folder."""
        return value

    @staticmethod
    def found(run: RunDir, name: str, value: Any, *, needed: bool) -> Any:
        """A setting of a run that goes on, such as a path where it is now.

        Args:
            run: The run.
            name: Of the setting.
            value: As the run keeps it.
            needed: Refuse what is not there.
        """
        return value


def run_options_last(cls: type[M]) -> type[M]:
    """Let `--help` show a command's own options before those of every command: machine and run.

    Fields of a base class come first; a class decorated with this has them at the end. All are
    keyword-only, so nothing but the order in the help changes.
    """
    own = cls.__dataclass_fields__
    shared = {field.name for field in dataclasses.fields(TrainingOptions)}
    ordered = sorted(own, key=lambda name: name in shared)
    cls.__dataclass_fields__ = {name: own[name] for name in ordered}
    return cls


HELD = "held"
"""Key of a run's configuration that says in how many bits its weights are held, if in few."""

# These say how a run is driven today, not what it is; they are not part of its configuration.
_NOT_STORED = frozenset({"run", "resume", "from_step", "quiet", "trust"})


def stored_settings(command: TrainingOptions) -> dict[str, Any]:
    """The part of a command that makes up a run's configuration."""
    left_out = _NOT_STORED | command.typed_only
    settings = to_dict(command).items()
    return {key: command.kept(key, value) for key, value in settings if key not in left_out}


def _other_kind(run: RunDir) -> ConfigError:
    return ConfigError(
        f"{run.path} is a run of kind {run.kind}; continue it with: {run.resume_command}"
    )


def resumed(
    cls: type[T], path: str | os.PathLike[str], *, by: str | None = None, **given: Any
) -> T:
    """The command that continues a run: its stored settings, with `given` ones over them.

    Raises:
        ConfigError: `by` ("playout ppo") is not the command that continues it, or there is no such
            setting, or it is of another type.
    """
    run = RunDir.open(path)
    if by is not None and by != run.command:
        raise _other_kind(run)
    if held := run.config.get(HELD):
        raise ConfigError(
            f"{path} holds its weights in {held['weights']} and learns no more; begin another run "
            f"with its numbers by --init {as_word(path)}"
        )
    names = {field.name for field in dataclasses.fields(cls)} - _NOT_STORED - cls.typed_only
    config = cls.stored_today(run.config)
    needed = by is not None
    stored = {
        key: value if key in given else cls.found(run, key, value, needed=needed)
        for key, value in config.items()
        if key in names
    }
    command = from_dict(cls, stored, where=f"{run.path / 'run.json'}")
    check_names(cls, given, where=_name_of(cls))  # before what is given to them
    over = to_dict({**given, "resume": path})
    return from_dict(cls, over, where=_name_of(cls), base=command)


def _name_of(cls: type) -> str:
    """What errors call a command: "sft" for the one of sft.py."""
    return cls.__module__.rpartition(".")[2]


def make_command(cls: type[M], **given: Any) -> M:
    """A command from keyword arguments, as the command line would make it.

    Raises:
        ConfigError: an unknown option, or a value of the wrong type.
    """
    known = going_on({key: value for key, value in given.items() if value is not None})
    if isinstance(known.get("trust"), str):
        known["trust"] = (known["trust"],)
    trust_modules(*known.get("trust", ()))
    if issubclass(cls, TrainingOptions) and known.get("resume") is not None:
        return resumed(cls, known.pop("resume"), by=_typed_as(cls), **known)
    check_names(cls, known, where=_name_of(cls))
    return from_dict(cls, to_dict(known), where=_name_of(cls))


def going_on(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a training command; where a job begins again, those that resume its run.

    A job that failed goes on in the folder that --run named, from its last checkpoint.
    """
    found = dict(given)
    if ranks.world() == 1:
        return found
    run = found.get("resume") or found.get("run")
    ranks.start(found.get("device") or "auto")
    if ranks.by_first(lambda: run is not None and _is_the_jobs(Path(run))):
        found.pop("run", None)
        found.pop("from_step", None)  # it was gone back to when the job began
        found["resume"] = run
    return found


def _is_the_jobs(path: Path) -> bool:
    """Whether a folder is a run that this job has been in before.

    A job without a name is known only by having been begun again; then any run is taken for its.
    """
    if not RunDir.is_run(path):
        return False
    job = ranks.job_name()
    return RunDir.open(path).record.get("job") == job if job else ranks.restarts() > 0


def _typed_as(cls: type) -> str | None:
    """What a person types for one of playout's own commands; None for another class."""
    room, _, name = cls.__module__.rpartition(".")
    group = {"playout.agents.commands": "playout", "playout.rlhf.commands.learn": "playout rlhf"}
    return f"{group[room]} {name.replace('_', '-')}" if room in group else None


def _plain(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"


def agree_on(command: TrainingOptions) -> None:
    """Refuse ranks whose settings, run or own code differ, before anything is made of a command.

    Raises:
        ConfigError: They do, or torchrun would begin a run again that nobody has named.
    """
    if ranks.world() == 1:
        return
    if ranks.may_restart() and command.run is None and command.resume is None:
        raise ConfigError(
            "with --max-restarts name the run's folder (--run DIR): a job that is begun again "
            "goes on there"
        )
    settings = to_dict(command)
    told = {key: value for key, value in settings.items() if key not in {*OF_MACHINE, "quiet"}}
    if command.resume is not None:
        told["id of the run"] = RunDir.open(command.resume).id
    ranks.agree("settings", json.dumps(told, default=str))
    ranks.agree("code of your own", json.dumps(own_code_digests(settings)))


def changed_settings(
    command: TrainingOptions, *, may_change: Collection[str] = (), instead: str = ""
) -> dict[str, Any]:
    """What a command changes of the run that it resumes: settings, or whole groups of them.

    Args:
        command: the command, complete.
        may_change: settings that may differ, such as a total budget; of a group "group.setting".
        instead: what to do when another setting differs; ends that error's message.

    Raises:
        ConfigError: a setting differs that may not.
    """
    assert command.resume is not None
    # A setting that the run does not know came later; its default is what the run was made with.
    stored = stored_settings(resumed(type(command), command.resume))
    settings = stored_settings(command)
    was, now = dict(dotted(stored)), dict(dotted(settings))
    # A run may go on elsewhere, whatever else its command keeps.
    kept = (was.keys() | now.keys()) - set(may_change) - OF_MACHINE
    differ = sorted(key for key in kept if was.get(key) != now.get(key))
    if differ:
        shown = ", ".join(f"{key} (was {was.get(key)!r}, now {now.get(key)!r})" for key in differ)
        advice = f"; {instead}" if instead else ""
        raise ConfigError(f"a resumed run keeps its settings, but these changed: {shown}{advice}")
    return {key: value for key, value in settings.items() if stored.get(key) != value}


def open_run(
    command: TrainingOptions,
    *,
    kind: str,
    name: str,
    extra: Mapping[str, Any] | None = None,
    may_change: Collection[str] = (),
    instead: str = "",
) -> RunDir:
    """Create the run of a training command, or open the one it resumes.

    Args:
        command: the command, complete (cli.py and `make_command` fill in stored settings on
            resume).
        kind: the kind of run, such as "ppo"; resuming a run of another kind is refused.
        name: what a new folder below runs/ is called after.
        extra: what was derived from the command (a resolved preset, say); stored with it and to be
            read back from `run.config` on resume, so that a later version of playout cannot change
            a run under way.
        may_change: see `changed_settings`.
        instead: see `changed_settings`.

    Raises:
        RunError: the folder cannot be used. ConfigError: a setting differs that may not.
    """
    refuse_while_importing("training")
    settings = stored_settings(command)
    check_device(command)  # before anything is made
    if command.resume is None:
        if command.from_step is not None:
            raise ConfigError("--from-step goes with --resume RUN")
        return RunDir.create(
            command.run or Path("runs") / _plain(name),
            kind=kind,
            config={**settings, **to_dict(extra or {})},
            seed=command.seed,
            numbered=command.run is None,
        )
    if command.run is not None and command.run.absolute() != command.resume.absolute():
        raise ConfigError("--resume RUN continues in RUN itself; leave out --run")
    run = RunDir.open(command.resume)
    if run.kind != kind:
        raise _other_kind(run)
    changed = changed_settings(command, may_change=may_change, instead=instead)
    job = ranks.job_name()
    new_job = bool(job) and run.record.get("job") != job
    if changed or new_job or command.from_step is not None:
        with run.lock():
            if command.from_step is not None:
                run.abandon_after(command.from_step)
            if changed:
                run.change_config(**changed)
            if new_job:
                run.update(job=job)
    return run

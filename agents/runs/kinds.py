"""What can be done with a run, by its kind: load, measure, play, export and continue it.

A kind is a module with the four functions of `RunKind`. `KINDS` names the modules, and one is
imported only when a run of its kind is used: this room knows nothing of learning, and looking at a
run costs no torch. A kind of your own is one more entry in `KINDS`. Leaves out all of the work.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, cast

from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import (
    DEFAULT_MACHINE,
    MachineOptions,
    check_seed,
    machine_options,
    make_command,
)
from playout.errors import ConfigError, RunError
from tyro.conf import arg

# The text of these options says what happens without them; "(default: None)" would not.
_NUMBER, _FILE, _PATH = (arg(metavar=name, help_behavior_hint="") for name in ("N", "FILE", "PATH"))
_CHOICE = arg(help_behavior_hint="")

# Kind, or its part before the first dot -> module that implements RunKind.
KINDS = {
    "alphazero": "playout.agents.alphazero.run",
    "ppo": "playout.agents.ppo.run",
    "pretrain-trunk": "playout.agents.pretraining.run",
    "rlhf": "playout.rlhf.run",
}

# The file that tells the folder of a model, which is no run -> module with `load_folder` and
# `folder_player`.
FOLDERS = {"config.json": "playout.rlhf.run", "adapter_config.json": "playout.rlhf.run"}

# What Python calls to train such a run; every other kind is trained by a stage of language.
TRAINING = {
    "alphazero": "playout.agents.commands.alphazero:alphazero",
    "ppo": "playout.agents.commands.ppo:ppo",
    "pretrain-trunk": "playout.agents.commands.pretrain_trunk:pretrain_trunk",
}


def _check_counts(episodes: int | None, simulations: int | None) -> None:
    if episodes is not None and episodes < 1:
        raise ConfigError(f"--episodes must be at least 1, not {episodes}")
    if simulations is not None and simulations < 0:
        raise ConfigError(f"--simulations must be at least 0, not {simulations}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions(MachineOptions):
    """How `playout eval` measures."""

    episodes: Annotated[int | None, _NUMBER] = None
    """Episodes, games against each opponent, prompts, or questions of a suite; by default enough
    for a narrow interval.
    """

    opponents: Annotated[tuple[str, ...], arg(metavar="PLAYER", help_behavior_hint="")] = ()
    """Games: whom to meet, such as uct:500, another run or gtp:COMMAND; by default random, greedy,
    uct:100 and uct:1000.
    """

    simulations: Annotated[int | None, _NUMBER] = None
    """Games: search simulations a move, 0 for the bare policy; by default what the run plays with.
    """

    probe: Annotated[str, arg(metavar="NAME", help_behavior_hint="")] = ""
    """Trunks, of whatever was learned: read its features by linear, neighbours or finetune, or show
    them by clusters (with maps by PCA, t-SNE and UMAP)."""

    data: Annotated[str, arg(metavar="DATA", help_behavior_hint="")] = ""
    """Of a probe: on what, as pretrain-trunk takes it; by default what the run has learned from, of
    self-play positions of its game."""

    count: Annotated[int | None, _NUMBER] = None
    """Of a probe: positions of a game to make, by default 20,000; a run of pretrain-trunk is read
    on as many as it has."""

    pictures: Annotated[tuple[str, ...], arg(metavar="FILE", help_behavior_hint="")] = ()
    """Pretrained trunks that have learned classes: say those of these pictures, or of all below a
    folder."""

    suite: Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="")] = ()
    """Language: questions with known answers: pairs, cloze, bytes, legal, best, humaneval,
    programs (which are run, in a sandbox), mmlu:FOLDER, bigbench:FILE, lm_eval:TASK, or a file of
    such; several behind one another.
    """

    against: Annotated[Path | None, _PATH] = None
    """Language: a run or model folder that is asked the same; the difference is tested."""

    shots: int = 0
    """Language: examples before each question."""

    chat: bool = False
    """Language: ask in a user's message of the model's chat template."""

    contamination: bool = True
    """Language: look for the questions in the text that the run learned from."""

    training_text: Annotated[tuple[str, ...], arg(metavar="FILE", help_behavior_hint="")] = ()
    """Language: look for them in these files too; of a published model, in these alone."""

    memorisation: Annotated[int, _NUMBER] = 0
    """Language: ask for the rest of so many stretches of the training text."""

    card: Annotated[Path | None, _FILE] = None
    """Language: write a model card (.md), with a picture of how sure the model is beside it."""

    which: str = "best"
    """Checkpoint: best, latest or its number."""

    stochastic: bool = False
    """Sample actions instead of taking the likeliest."""

    seed: int = 0
    """Seed of environments and openings."""

    def __post_init__(self) -> None:
        MachineOptions.__post_init__(self)
        _check_counts(self.episodes, self.simulations)
        check_seed(self.seed)
        if self.count is not None and self.count < 10:
            raise ConfigError(f"--count must be at least 10, not {self.count}")
        for name in ("data", "count"):
            if getattr(self, name) and not self.probe:
                raise ConfigError(f"--{name} says what a probe reads: add --probe linear")
        for name in ("shots", "memorisation"):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name} must be at least 0, not {getattr(self, name)}")
        if self.probe and self.pictures:
            raise ConfigError(
                "--probe reads what is held out, --pictures what you give: choose one"
            )
        about = ("against", "card", "training_text", "shots", "chat")
        given = [name.replace("_", "-") for name in about if getattr(self, name)]
        if given and not self.suite:
            raise ConfigError(f"--{given[0]} is about a suite, and none is named: --suite NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayOptions(MachineOptions):
    """How `playout play` plays."""

    simulations: Annotated[int | None, _NUMBER] = None
    """Games: search simulations a move, 0 for the bare policy; by default what the run plays with.
    """

    second: bool = False
    """Games: let the run move first."""

    opponent: str = "human"
    """Games: who plays against the run: human is you, others are random, greedy, uct:500, another
    run, gtp:COMMAND, uci:COMMAND.
    """

    episodes: Annotated[int | None, _NUMBER] = None
    """Episodes to watch, or games between two programs; by default one."""

    out: Annotated[Path | None, _FILE] = None
    """Environments: write the pictures to this file (.gif, .webp or .png), by default play.gif in
    the run. Games: append the finished games to it.
    """

    which: str = "best"
    """Checkpoint: best, latest or its number."""

    seed: int = 0
    """Seed of the environment and of ties."""

    def __post_init__(self) -> None:
        MachineOptions.__post_init__(self)
        _check_counts(self.episodes, self.simulations)
        check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions(MachineOptions):
    """What `playout export` writes."""

    format: Annotated[Literal["onnx", "safetensors", "run", "hf", "peft"] | None, _CHOICE] = None
    """By default ONNX where it can be written, else safetensors; of a language model hf, a Hugging
    Face folder with adapters merged, or peft, its adapters alone; run with --quantise.
    """

    out: Annotated[Path | None, _PATH] = None
    """File or folder to write; by default one named after the format inside the run, and of a run
    of few bits a folder beside it (NAME-nf4)."""

    which: str = "best"
    """Checkpoint: best, latest or its number."""

    quantise: Annotated[Literal["int8", "nf4", "dynamic"] | None, _CHOICE] = None
    """Weights of 8 or 4 bits (int8, nf4): of a language model in bitsandbytes' layout, of a board
    network as a run that plays. As ONNX a board network multiplies bytes, with scales from its
    game's positions (int8) or from each batch (dynamic).
    """

    check: bool = True
    """Compare the answers of an ONNX file or a language model with the original's."""


class Actor(Protocol):
    """What a run has learned, ready to be used."""

    def act(self, batch: Any, /) -> Any:
        """An answer to each of a batch: actions for observations or positions, texts for prompts.

        What a batch is made of depends on what was learned.
        """


class RunKind(Protocol):
    """What a kind of runs owes. Modules serve as implementations.

    A function that makes no sense for a run (nobody plays against a reward model) raises RunError.
    Each takes the `game` (or the environment, or what makes one) that the run has learned, for runs
    whose configuration does not name one that can be made again; None: as the configuration says.
    Device, dtype and threads stand in `machine`, or in the options, which inherit MachineOptions.
    """

    def load(
        self,
        run: RunDir,
        which: str | int = "best",
        *,
        machine: MachineOptions = DEFAULT_MACHINE,
        game: object | None = None,
    ) -> Actor:
        """The policy, player or model of a checkpoint: "best", "latest" or its number."""

    def evaluate(
        self, run: RunDir, options: EvalOptions, *, game: object | None = None
    ) -> Mapping[str, Any]:
        """Measure it, print the result for people, and return it as plain data for JSON."""

    def play(self, run: RunDir, options: PlayOptions, *, game: object | None = None) -> None:
        """Let a person play against it, talk to it or watch it."""

    def export(self, run: RunDir, options: ExportOptions, *, game: object | None = None) -> None:
        """Write its network for other programs, and print what was written where."""


def find_kind(run: RunDir, *, wanted: str) -> RunKind:
    """What implements the run's kind; `wanted` completes "has no ..." in the message.

    Raises:
        RunError: The kind is not in the table.
    """
    module = KINDS.get(run.kind) or KINDS.get(run.kind.partition(".")[0])
    if module is None:
        raise RunError(f"{run.path} is a run of kind {run.kind}, which has no {wanted}")
    return cast(RunKind, import_module(module))


def folder_of(run: str | PathLike[str]) -> Path:
    """The folder of a run that somebody names in Python.

    Raises:
        ConfigError: It is neither a path nor a run.
    """
    try:
        return Path(run)
    except TypeError:
        raise ConfigError(
            f"a run is the path of its folder or what training returned, not {run!r}"
        ) from None


def folder_kind(path: str | PathLike[str]) -> Any | None:
    """What implements the folder of a model that is no run, or None."""
    folder = folder_of(path)
    if RunDir.is_run(folder):
        return None
    for file, module in FOLDERS.items():
        if (folder / file).is_file():
            return import_module(module)
    return None


def load(
    run: str | PathLike[str],
    which: str | int = "best",
    *,
    device: str = "auto",
    dtype: str = "auto",
    threads: int = 0,
    trust: str | Sequence[str] = (),
    game: object | None = None,
    policy: object | None = None,
) -> Any:
    """What a run has learned, ready to act: `playout.load("runs/demo").act(...)`.

    Args:
        run: A run directory, or what training returned; or the folder of a language model.
        which: "best", "latest" or the number of a checkpoint.
        device: Where the network computes: "auto" or what torch.device takes.
        dtype: "auto", "float32", "bfloat16" or "float16".
        threads: Threads to use; 0: as suits.
        trust: A module of yours, or several, that the run names and may import.
        game: The game (or environment) itself, where the run cannot name it.
        policy: Of a run of PPO with a policy of your own: one like it, which gets the weights.

    Returns:
        An object with `.act(batch) -> actions`; of a game's run also a Player.

    Raises:
        RunError: Not a run, or nothing to load in it. CheckpointError: It is damaged.
        ConfigError: It names a module that nobody trusts, or there is no such device.
    """
    machine = machine_options(device=device, dtype=dtype, threads=threads, trust=trust)
    if policy is None and (folder := folder_kind(run)) is not None:
        return folder.load_folder(run, machine=machine)
    opened = RunDir.open(run)
    kind = find_kind(opened, wanted="player")
    if policy is not None:
        return own_policy("load", kind, opened, policy)(opened, which, machine=machine, game=game)
    return kind.load(opened, which, machine=machine, game=game)


def own_policy(name: str, kind: RunKind, run: RunDir, policy: object) -> Callable[..., Any]:
    """The function of a run's kind that takes a policy of the person's own, with that.

    Args:
        name: "load" or "evaluate".
        kind: Has that function under this name and `_own_policy`.
        run: The run.
        policy: It.

    Raises:
        ConfigError: The kind takes none.
    """
    if run.kind != "ppo":
        raise ConfigError(f"policy= is for runs of ppo; {run.path} is a run of {run.kind}")
    return partial(getattr(kind, f"{name}_own_policy"), policy=policy)


def resume(run: str | PathLike[str], *, game: object | None = None, **options: Any) -> RunDir:
    """Continues a run where it stopped, as `--resume RUN` of the command that began it.

    Args:
        run: A run directory, or what training returned; a stage stands for its whole run.
        game: The game, the environment or what makes one, where the run cannot name it.
        **options: Settings that may change, such as minutes or updates; device, trust, quiet. Of a
            run of PPO with a policy of your own: `policy`.

    Returns:
        The run, as training returns it.

    Raises:
        RunError: No command trains such a run. ConfigError: a setting may not change.
    """
    opened = RunDir.open(run).whole
    given = {"resume": opened.path, **options}
    if opened.kind in TRAINING:
        module, _, function = TRAINING[opened.kind].partition(":")
        source = () if game is None else (game,)
        getattr(import_module(module), function)(*source, **given)
        return RunDir.open(opened.path)
    from playout.cli import stages

    group, _, stage = opened.kind.partition(".")
    if group != "rlhf" or stage not in stages():
        raise RunError(f"{opened.path} is a run of kind {opened.kind}, which no command continues")
    command = import_module(stages()[stage])
    command.main(make_command(command.Command, **given))
    return RunDir.open(opened.path)

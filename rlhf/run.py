"""What can be done with a run of a language stage or of a whole pipeline (runs/kinds.py).

A policy's `act` answers prompts, a reward model's scores texts. Finished stages are read from their
model/ folder, unfinished ones from a checkpoint on top of the model they started from. Comparing
policies in detail is `playout rlhf judge`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from playout.agents.runs.checkpoint.chosen import Chosen, choose_checkpoint, tell_checkpoint
from playout.agents.runs.checkpoint.durable_io import read_json
from playout.agents.runs.devices import resolve_device
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions, ExportOptions, PlayOptions, RunKind
from playout.agents.runs.metrics import last_measures
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.agents.runs.reporting import table
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError, RunError
from playout.rlhf.commands.answer_options import answer_dtype
from playout.rlhf.commands.memory_options import AdapterOptions, adapt
from playout.rlhf.commands.policy_stage import BASES
from playout.rlhf.data.messages import check_list
from playout.rlhf.environments.load import (
    read_options,
    stored_options,
    trust_language_environment,
)
from playout.rlhf.evaluation.comparison import comparison_of
from playout.rlhf.generation.player import LanguagePlayer, usual_length
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import load_learned
from playout.rlhf.model.adapters.narrowed import NARROWED, narrowed
from playout.rlhf.model.adapters.peft_folder import is_adapter
from playout.rlhf.model.folder import IMPROVING, POLICIES, is_scorer, load_model
from playout.rlhf.model.threads import decoding_threads, reading_threads
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.stages.bases import own_base
from playout.rlhf.stages.export import export_run
from playout.rlhf.stages.run import is_finished
from playout.rlhf.stages.sizes import response_length
from playout.rlhf.supervised.classifier import Classifier
from playout.rlhf.supervised.reward import RewardModel

__all__ = [
    "evaluate",
    "export",
    "folder_player",
    "game_of",
    "game_player",
    "load",
    "load_folder",
    "play",
]


@dataclass(frozen=True, slots=True)
class RewardPlayer:
    """A reward model that scores texts."""

    reward: RewardModel
    threads: int = 0
    """Of torch while it reads; 0 leaves them to a rule."""

    def act(self, texts: Sequence[str]) -> list[float]:
        """A score a text."""
        check_list(texts)
        with reading_threads(self.reward.model, texts, self.threads):
            return self.reward(list(texts))


def load(
    run: RunDir,
    which: str | int = "best",
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
    game: object | None = None,
) -> LanguagePlayer | RewardPlayer | Classifier:
    """What a run of a kind `rlhf.*` has learned; `which` chooses while it is unfinished."""
    stage, device = run.kind.partition(".")[2], resolve_device(machine.device)
    unfinished = _reads_checkpoint(run)
    if not unfinished:
        _must_be_left(run, which)
    if stage == "classify":
        found = Classifier.load(run.path, dtype=machine.dtype, device=device)
        return replace(found, threads=machine.threads)
    if stage == "reward":
        scorer = RewardModel.load(run.path, dtype=machine.dtype, device=device)
        return RewardPlayer(scorer, machine.threads)
    model, tokenizer = (
        _unfinished(run, which, device) if unfinished else load_model(run.path, device=device)
    )
    return LanguagePlayer(
        model,
        tokenizer,
        name=run.path.name,
        max_new_tokens=response_length(run.config),
        dtype=answer_dtype(machine.dtype, device),
        threads=machine.threads,
    )


def _reads_checkpoint(run: RunDir) -> bool:
    """Whether a run is used by a checkpoint, since it has not left its model yet."""
    if run.kind.partition(".")[2] in ("all", "games", "classify", "reward"):
        return False
    return not (run.path / "model" / "config.json").exists()


def _chosen(run: RunDir, options: EvalOptions) -> tuple[Chosen | None, EvalOptions]:
    """As `choose_checkpoint`; no checkpoint where none is read."""
    return choose_checkpoint(run, options) if _reads_checkpoint(run) else (None, options)


def _tell_weights(run: RunDir, chosen: Chosen | None) -> dict[str, Any]:
    """Prints what is measured: a checkpoint, or the model that the run has left."""
    if chosen is None:
        print(f"{run.path}, the model that it has left")
        return {"checkpoint": None}
    return tell_checkpoint(run, chosen)


def _must_be_left(run: RunDir, which: str | int) -> None:
    """Refuses a checkpoint where none is read."""
    if which not in ("best", "latest"):
        raise ConfigError(
            f"--which {which} does nothing for {run.path}, of which model/ or what was measured "
            "last is used: leave it out"
        )


def load_folder(
    path: str | Path, *, machine: MachineOptions = DEFAULT_MACHINE
) -> LanguagePlayer | RewardPlayer:
    """The model in a Hugging Face folder: a policy, or a reward model."""
    device = resolve_device(machine.device)
    folder = Path(path)
    if not is_adapter(folder) and is_scorer(folder):
        scorer = RewardModel.load(folder, dtype=machine.dtype, device=device)
        return RewardPlayer(scorer, machine.threads)
    model, tokenizer = load_model(folder, device=device)
    return LanguagePlayer(
        model,
        tokenizer,
        name=folder.name,
        max_new_tokens=usual_length(model, turns=tokenizer.template is not None),
        dtype=answer_dtype(machine.dtype, device),
        threads=machine.threads,
    )


def game_of(run: RunDir) -> NativeGame | None:
    """The game in which a policy learned, if it did in one of playout's."""
    config = _game_config(run)
    name = str(config.get("env") or "")
    if not name.startswith("game:"):
        return None
    trust_language_environment(name, run.path)
    return find_game(name.partition(":")[2])


def _game_config(run: RunDir) -> Mapping[str, Any]:
    """The settings that name the game: the run's, or those of the run that it is a stage of."""
    return run.config if run.config.get("env") else run.whole.config


def game_player(
    run: RunDir,
    which: str | int = "best",
    game: NativeGame | None = None,
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> "LanguageGamePlayer":
    """The policy as a player of games: of any, since positions come as text."""
    from playout.rlhf.environments.game_player import as_learned
    from playout.rlhf.environments.game_player import game_player as seated

    if run.kind.partition(".")[2] in ("reward", "classify", "best-of-n"):
        raise ConfigError(f"{run.path} is a run of kind {run.kind}, which plays no games")
    player = load(run, which, machine=machine)
    assert isinstance(player, LanguagePlayer)
    learned = game_of(run) if game is None else game
    if learned is None:
        raise ConfigError(f"{run.path} has learned none of playout's games; name one with --game")
    return seated(
        player.model,
        player.tokenizer,
        learned,
        name=player.name,
        options=as_learned(_game_config(run)),
        dtype=player.dtype,
        threads=machine.threads,
    )


def folder_player(
    path: str | Path, game: NativeGame, *, machine: MachineOptions = DEFAULT_MACHINE
) -> "LanguageGamePlayer":
    """The model in a Hugging Face folder as a player of games."""
    from playout.rlhf.environments.game_player import game_player as seated

    device = resolve_device(machine.device)
    model, tokenizer = load_model(path, device=device)
    dtype = answer_dtype(machine.dtype, device)
    return seated(
        model, tokenizer, game, name=Path(path).name, options={}, dtype=dtype,
        threads=machine.threads,
    )  # fmt: skip


def _unfinished(
    run: RunDir, which: str | int, device: torch.device
) -> tuple[Transformer, Tokenizer]:
    base = run.config.get("base")
    if not base:
        raise RunError(f"{run.path} is not finished; continue it with: {run.resume_command}")
    stage = run.kind.partition(".")[2]
    stages = {"sft": ("pretrain",), "pretrain": POLICIES}.get(stage, BASES)
    base = own_base(run, str(base), stages, instead="let the run be finished where that is")
    model, tokenizer = load_model(base, stages, device=device)
    sparsity, pattern = float(run.config.get("sparsity") or 0.0), str(run.config.get("pattern"))
    if sparsity and pattern in NARROWED:
        model = narrowed(model, sparsity, pattern)
    if run.config.get("lora_rank"):
        known = {field.name for field in fields(AdapterOptions)}
        options = {name: value for name, value in run.config.items() if name in known}
        weights = str(run.config.get("weights", "float32"))
        adapt(model, AdapterOptions(**options), seed=run.seed, weights=weights)
    _, state = run.load(which, only=("model",))
    load_learned(model, {name.removeprefix("model."): t for name, t in state["model"].items()})
    return model, tokenizer


def _subject(path: Path, options: EvalOptions, which: str | int = "best") -> "Subject":
    """The policy of a run or of a model folder, to be asked a suite."""
    from playout.rlhf.environments.game import GameOptions
    from playout.rlhf.evaluation.suites.evaluate import Subject

    device, prompt = resolve_device(options.device), None
    if RunDir.is_run(path):
        run = RunDir.open(path)
        of_language, _, stage = run.kind.partition(".")
        if of_language != "rlhf" or stage in ("reward", "classify"):
            raise RunError(f"{path} is a run of kind {run.kind}, which does not write text")
        player = load(run, which, machine=options)
        assert isinstance(player, LanguagePlayer)
        model, tokenizer = player.model, player.tokenizer
        if (learned := game_of(run)) is not None:
            asked = read_options(stored_options(_game_config(run)))
            prompt = GameOptions.of(asked).prompt(learned)
    else:
        model, tokenizer = load_model(path, device=device)
    dtype = answer_dtype(options.dtype, device)
    return Subject(path, model, tokenizer, dtype, prompt)


def evaluate_folder(path: Path, options: EvalOptions) -> dict[str, Any]:
    """What `playout eval FOLDER --suite ...` says of a model that is no run."""
    from playout.rlhf.evaluation.suites.evaluate import evaluate_suites

    if not options.suite:
        raise ConfigError(f"{path} is a model folder: say what to ask it with --suite NAME")
    return evaluate_suites(
        lambda: _subject(path, options), options, other=lambda other: _subject(other, options)
    )


def evaluate(run: RunDir, options: EvalOptions, *, game: object | None = None) -> dict[str, Any]:
    """Answers to suites, win rates of an improved policy, or what the stage measured last."""
    if options.suite:
        from playout.rlhf.evaluation.suites.evaluate import evaluate_suites

        options.refuse_unused("opponents", "simulations", "stochastic", where="with --suite")
        chosen, options = _chosen(run, options)
        return evaluate_suites(
            lambda: _subject(run.path, options, options.which),
            options,
            other=lambda path: _subject(path, options),
            tell=lambda: _tell_weights(run, chosen),
        )
    stage = run.kind.partition(".")[2]
    if game_of(run) is not None:
        from playout.rlhf.evaluation.games import evaluate_game_policy

        options.refuse_unused("simulations", where="for a language policy, which searches not")
        chosen, options = _chosen(run, options)
        player = game_player(run, options.which, machine=options)
        return _tell_weights(run, chosen) | evaluate_game_policy(player, options)
    improved = stage in IMPROVING or (
        stage == "all" and any(is_finished(run.path / name) for name in IMPROVING)
    )
    found: dict[str, Any]
    if improved and (stage == "all" or (run.config.get("reward") and not run.config.get("env"))):
        from playout.rlhf.evaluation.judge import compare_policies

        _must_be_left(run, options.which)
        options.refuse_unused("opponents", "simulations", "stochastic", where="for texts")
        match = comparison_of(
            run.path,
            num_prompts=options.episodes or 256,
            seed=options.seed,
            device=resolve_device(options.device),
            dtype=options.dtype,
        )
        _tell_weights(run, None)
        with decoding_threads(match.policy, len(match.evaluator.prompts), options.threads):
            found = compare_policies(match.policy, match.opponent, match.evaluator)
        for name, row in found.items():
            low, high = row["interval"]
            print(
                f"{name}: {row['mean']:.3f} against {row['opponent_mean']:.3f} before, wins "
                f"{100 * row['win_rate']:.1f} % of {row['prompts']} prompts "
                f"(95 %: {100 * low:.1f} to {100 * high:.1f})"
            )
    else:
        _must_be_left(run, options.which)
        names = ("opponents", "simulations", "stochastic", "episodes", "seed")
        options.refuse_unused(*names, where=f"for {run.kind}, whose last measures are shown")
        found = _last_measures(run)
        rows = [value for value in found.values() if isinstance(value, dict)]
        if rows:
            columns = list(dict.fromkeys(name for row in rows for name in row))
            table("", columns, [[_cell(row.get(name, "")) for name in columns] for row in rows])
        for name, value in found.items():
            # What is only the opposite of another number says nothing to people.
            if not isinstance(value, dict) and not name.startswith("eval/neg_"):
                print(f"{name}: {_cell(value)}")
    return found


def _cell(value: object) -> str:
    """A measure for people: numbers of four digits, two of them as an interval."""
    if isinstance(value, list):
        return " to ".join(map(_cell, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _last_measures(run: RunDir) -> dict[str, Any]:
    """The last evaluation in metrics.jsonl, or a stage's table."""
    kept = run.path / "table.json"
    if kept.exists():
        value = read_json(kept)
        return (
            value if isinstance(value, dict) else {f"row {i}": row for i, row in enumerate(value)}
        )
    found = last_measures(run.path)
    if not found:
        raise RunError(f"{run.path} has measured nothing yet")
    return found


def play(run: RunDir, options: PlayOptions, *, game: object | None = None) -> None:
    """A conversation; with a policy that learned a game, games."""
    if game_of(run) is not None:
        from playout.agents.players.terminal import play_games

        play_games(game_player(run, options.which, machine=options), options)
        return
    from playout.rlhf.generation.chat.terminal import chat

    player = load(run, options.which, machine=options)
    if not isinstance(player, LanguagePlayer):
        raise RunError(f"{run.path} is a run of kind {run.kind}, which does not write text")
    player.reset(options.seed)
    with decoding_threads(player.model, 1, options.threads):
        chat(player)


def export(run: RunDir, options: ExportOptions, *, game: object | None = None) -> None:
    """The model as a Hugging Face folder."""
    _must_be_left(run, options.which)
    export_run(run, options)


if TYPE_CHECKING:  # the type checker compares this module with the protocols
    from playout.agents.players.load import GameKind
    from playout.rlhf import run as this
    from playout.rlhf.environments.game_player import LanguageGamePlayer
    from playout.rlhf.evaluation.suites.evaluate import Subject

    _: RunKind = this
    __: GameKind = this

"""The recipe: a language policy learns a game from nothing, stage after stage, each in its folder.

pretrain on records of random games; tactics, which is sft on what two plies show; sft on moves of
the solver (or of a search); grpo on verified reward, one move at a time; rlhf (PPO) in whole games
against an opponent. After each stage the policy is measured on positions that nothing was learned
from and in games. A finished stage is not run again, an unfinished one is continued. Stages are
commands, of the same names but for tactics.
"""

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

from playout.agents.rating.games import to_record
from playout.agents.runs import ranks
from playout.agents.runs.console import counted, short_time
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import MachineOptions
from playout.agents.runs.reporting import write_json
from playout.cores import usable_cores
from playout.envs.core.game import NativeGame
from playout.envs.records import files as records
from playout.errors import ConfigError
from playout.rlhf.environments.game import GameOptions
from playout.rlhf.environments.game import make as make_environment
from playout.rlhf.environments.game_player import LanguageGamePlayer
from playout.rlhf.environments.load import read_options, stored_options
from playout.rlhf.evaluation.games import measure_moves, meet_opponents, positions_for, told
from playout.rlhf.games.data import TOKENIZER, GameData, write_data
from playout.rlhf.games.demonstrations import can_tell
from playout.rlhf.games.episodes import measure_episodes, told_episodes
from playout.rlhf.games.minutes import minutes_left, note_data, plan_steps
from playout.rlhf.games.report import write_report
from playout.rlhf.model.folder import model_folder, replaced_folder
from playout.rlhf.model.huggingface import read_json
from playout.rlhf.run import folder_player
from playout.rlhf.stages.commands import new_command, run_stage
from playout.rlhf.stages.run import check_ranks, is_finished
from playout.rlhf.stages.sizes import recipe

__all__ = ["SIZES", "GamesRecipe", "check_recipe", "shown_options"]

STAGES = ("pretrain", "tactics", "sft", "grpo", "rlhf")
_COMMANDS = {"tactics": "sft"}
# Positions a step of tactics: what it takes to see a line of stones is steps rather than positions.
_FEW = 16
_SKIPPED = ("pretrain", "tactics", "grpo", "rlhf")
_BY_REWARD = ("grpo", "rlhf")
_LEAST_MINUTES = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class GamesSize:
    """What a size of the recipe stands for, beside the numbers in stages/sizes.py."""

    data: GameData
    sft_rate: float
    """Learning rates: of sft, ..."""
    grpo_rate: float
    """... of grpo ..."""
    rlhf_rate: float
    """... and of rlhf."""
    games: int
    """Games against each opponent in a measurement."""
    opponents: tuple[str, ...] = ("random", "greedy", "uct:100")
    batch: int = 64
    """Demonstrations a step of sft."""


SIZES = {
    "tiny": GamesSize(
        GameData(12_000, 12_000, 6, 3_000, 1_000, sights=16_000), 4e-3, 2e-4, 5e-5, 40
    ),
    "small": GamesSize(
        GameData(30_000, 100_000, 3, 16_000, 3_000, 0.12, sights=80_000),
        3e-3,
        1e-4,
        3e-5,
        100,
    ),
    "smollm2": GamesSize(GameData(0, 8_000, 1, 2_000, 500), 2e-4, 5e-5, 2e-5, 20),
}


def check_recipe(game: NativeGame, *, base: str, opponent: str, skip: tuple[str, ...]) -> None:
    """Refuse, before anything is made, what the recipe would trip over in its last stage.

    Raises:
        PlayoutError: There is no such model, opponent or stage.
    """
    refused = sorted(set(skip) - {*_SKIPPED})
    if refused:
        raise ConfigError(f"the stage {refused[0]} cannot be skipped; {', '.join(_SKIPPED)} can")
    if "pretrain" in skip and not base:
        raise ConfigError("without pretrain the recipe begins with a model: --base FOLDER")
    if base:
        model_folder(base)
    if "rlhf" not in skip:
        make_environment(str(game), {"mode": "game", "opponent": opponent, "positions": 1})


def shown_options(game: NativeGame, *, rules: bool, base: str) -> str:
    """Options of the environment that say how positions are shown and answers are read.

    A model of our own tells what moves lead to before it moves, where there is a solver to learn
    that from. One that comes with words of its own answers in its own way.
    """
    shown = f"rules={str(rules or bool(base)).lower()}"
    if base:
        return shown
    return f"{shown},own=true,find=true" if can_tell(game) else f"{shown},own=true"


class GamesRecipe:
    """The stages of one run, in order."""

    def __init__(
        self,
        run: RunDir,
        game: NativeGame,
        *,
        size: str,
        base: str,
        opponent: str,
        machine: MachineOptions,
        quiet: bool = False,
        skip: tuple[str, ...] = (),
        minutes: float = 0.0,
    ) -> None:
        """Set up.

        Args:
            run: Of the recipe; its `env_options` say how positions are shown.
            game: What is learned.
            size: The dial.
            base: Folder or run of a model in place of the first stage.
            opponent: Whom the last stage plays.
            machine: What computes, and in which type.
            quiet: Show no progress.
            skip: Stages to leave out.
            minutes: For all of it, from which the steps of tactics and sft and the rounds of grpo
                and rlhf follow; 0 takes the size's.

        Raises:
            ConfigError: A stage cannot be divided among so many ranks.
        """
        self.run, self.game, self.base, self.quiet = run, game, base, quiet
        self.machine, self.opponent, self.minutes = machine, opponent, minutes
        self.size, self.numbers = SIZES[size], recipe(f"games-{size}")
        self.optimizer = "adam" if base else "muon"
        self.shown = stored_options(run.config)
        self.prompt = GameOptions.of(read_options(self.shown)).prompt(game)
        self.stages = [stage for stage in STAGES if stage not in skip]
        if not self.prompt.find and "tactics" in self.stages:
            self.stages.remove("tactics")
        if base and "pretrain" in self.stages:
            self.stages.remove("pretrain")
        self.common = {
            **{name: getattr(machine, name) for name in ("device", "dtype", "threads", "trust")},
            "size": f"games-{size}",
            "seed": run.seed,
        }
        for stage in self.stages:
            name = _COMMANDS.get(stage, stage)
            check_ranks(new_command(name, **self.common, **self._options(stage)), name)

    def _say(self, text: str) -> None:
        if not self.quiet and ranks.is_first():
            print(text, flush=True)

    def folder(self, stage: str) -> Path:
        """Where a stage lives."""
        return self.run.subrun(stage)

    @property
    def data(self) -> Path:
        """Where records, demonstrations and tasks are."""
        return self.run.path / "data"

    def _previous(self, stage: str) -> str:
        """What a stage starts from."""
        before = self.stages[: self.stages.index(stage)]
        return str(self.folder(before[-1])) if before else self.base

    def _options(self, stage: str) -> dict[str, Any]:
        """What a stage is told beside the dial."""
        size, shown = self.size, self.shown
        base = {"base": self._previous(stage)}
        files = {name: str(self.data / f"{name}.jsonl") for name in _FILES}
        longest = self.numbers.response_length + self.prompt.told
        env = {"env": f"game:{self.game}", "max_new_tokens": longest}
        if stage == "pretrain":
            rate = {"learning_rate": 2e-3, "optimizer": self.optimizer}
            learned = self.data / TOKENIZER  # not there in runs of earlier versions
            vocabulary = {"tokenizer": str(learned)} if learned.is_dir() else {}
            shape = {"qk_norm": True, "rope_theta": 500.0}
            return {"text": (files["records"],), **rate, **vocabulary, **shape}
        if stage in ("tactics", "sft"):
            seen = stage == "tactics"
            peak = size.sft_rate / 2 if seen else size.sft_rate  # as its batches are small
            rate = {"learning_rate": peak, "optimizer": self.optimizer}
            passes = {"epochs": 1.0} if seen else {}
            data = files["tactics" if seen else "demonstrations"]
            batch = _FEW if seen else size.batch
            return {**base, **rate, **passes, "batch": batch, "data": data}
        if stage == "grpo":
            options = f"file={json.dumps(files['tasks'])}"
            given = {**env, "env_options": _joined(shown, options), "group": 8, "kl_coef": 0.01}
            few = {"eval_episodes": min(200, self.numbers.num_prompts // 2), "epochs": 2}
            return {**base, **given, **few, "learning_rate": size.grpo_rate}
        opponent = json.dumps(self.opponent)  # a folder's name may hold anything
        options = f"mode=game,opponent={opponent},positions=512,test_positions=64"
        given = {**env, "env_options": _joined(shown, options), "learning_rate": size.rlhf_rate}
        few = {"batch": min(64, self.numbers.batch), "eval_episodes": size.games}
        return {**base, **given, **few, "kl_coef": 0.02, "kl_target": 0.0, "epochs": 2}

    @property
    def _plan(self) -> Path:
        return self.run.path / "measured" / "plan.json"

    def _steps(self, stage: str) -> int:
        """Of tactics or sft, as many as fit into the minutes."""
        files = {"sft": (self.data / "demonstrations.jsonl", self.size.batch)}
        if "tactics" in self.stages:
            files["tactics"] = (self.data / "tactics.jsonl", _FEW)
        before = self.folder("pretrain")
        planned = ranks.by_first(lambda: plan_steps(self.minutes, self._plan, before, files))
        gone = float(read_json(self._plan).get("seconds_gone", 0.0))
        why = f"by what {self.minutes:g} minutes leave"
        if gone > 60 * self.minutes:
            why = f"the fewest, since data and pretraining took {short_time(gone)}"
        self._say(f"{counted(planned[stage], 'step')}, {why}")
        return int(planned[stage])

    def _minutes(self, stage: str) -> float:
        """Of a stage of reward: its share of what is left."""
        place = self.stages.index(stage)
        before, to_come = self.stages[:place], self.stages[place:]
        folders, found = map(self.folder, before), map(self._measured, before)
        left = minutes_left(self.minutes, self._plan, [*folders], [*found], len(to_come))
        if not left:
            self._say(f"nothing is left of {self.minutes:g} minutes: the fewest rounds")
        return max(_LEAST_MINUTES, left / len(to_come))

    def _train(self, stage: str) -> None:
        given = {**self.common, **self._options(stage)}
        if stage in ("tactics", "sft") and self.minutes:
            given |= {"epochs": 0.0, "steps": self._steps(stage)}
        if stage in _BY_REWARD and self.minutes:
            given |= {"minutes": ranks.by_first(lambda: self._minutes(stage))}
        command, folder = _COMMANDS.get(stage, stage), self.folder(stage)
        run_stage(command, folder, self.machine, quiet=self.quiet, **given)

    def player(self, stage: str) -> LanguageGamePlayer:
        """The policy that a stage has left, as a player."""
        folder = self.folder(stage) / "model"
        player: LanguageGamePlayer = folder_player(folder, self.game, machine=self.machine)
        prompt = self.prompt
        player.settings = dataclasses.replace(
            player.settings, rules=prompt.rules, goal=prompt.goal, own=prompt.own, find=prompt.find
        )
        player.name = stage
        return player

    def _measured(self, stage: str) -> Path:
        return self.run.path / "measured" / f"{stage}.json"

    def measure(self, stage: str) -> dict[str, Any]:
        """Legal and kept moves, and games against opponents, of the policy of a stage; once."""
        path = self._measured(stage)
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
        path.parent.mkdir(exist_ok=True)
        begun, player = time.monotonic(), self.player(stage)
        positions = positions_for(self.game, self.numbers.num_prompts)
        chosen = positions_for(self.game, self.numbers.num_prompts, choosing=True)
        found = {
            "stage": stage,
            "moves": measure_moves(player, positions),
            "choosing": measure_moves(player, chosen),
        }
        self._say(f"{stage}: {told(found['moves'])}")
        found["episodes"] = measure_episodes(player, self.size.games)
        self._say(f"{stage}: {told_episodes(found['episodes'])}")
        if self.game.num_players == 2:
            found |= self._games(player)
        found["seconds"] = time.monotonic() - begun
        write_json(path, found)
        return found

    def _games(self, player: LanguageGamePlayer) -> dict[str, Any]:
        """Games against the opponents; Elo from random on."""
        specs = [spec for spec in self.size.opponents if spec != "greedy" or not self.game.hidden]
        player.answers = player.illegal = 0
        found, matches = meet_opponents(
            player, self.game, specs, self.size.games, seed=self.run.seed
        )
        for match in matches:
            shown = [to_record(self.game, one) for one in match.games[:2]]
            records.append(self.run.path / "measured" / f"{player.name}-games.jsonl", shown)
        elo, low, high = found["elo"]
        points = ", ".join(
            f"{row['wins']}-{row['draws']}-{row['losses']} against {row['opponent']}"
            for row in found["games"]
        )
        self._say(
            f"{player.name}: {elo:.0f} Elo above random ({low:.0f} to {high:.0f}); won, drawn, "
            f"lost: {points}"
        )
        return {**found, "answers": player.answers, "illegal": player.illegal}

    def __call__(self) -> None:
        """Run what is left to be done; the best policy is left in RUN/model."""
        ranks.by_first(self._write_data)
        for number, stage in enumerate(self.stages, 1):
            name = f"{stage} ({number} of {len(self.stages)})"
            folder = self.folder(stage)
            if ranks.by_first(lambda folder=folder: is_finished(folder)):  # type: ignore[misc]
                self._say(f"{name}: done before")
            else:
                self._say(name)
                self._train(stage)
            ranks.by_first(lambda stage=stage: self.measure(stage))  # type: ignore[misc]
        ranks.by_first(self._conclude)

    def _write_data(self) -> None:
        begun = time.monotonic()
        write_data(
            self.data,
            self.game,
            self.prompt,
            dataclasses.replace(self.size.data, records=0) if self.base else self.size.data,
            seed=self.run.seed,
            threads=usable_cores(),
            vocabulary=self.numbers.vocab_size,
            tell=self._say,
        )
        if self.minutes:
            note_data(self._plan, time.monotonic() - begun)

    def _conclude(self) -> None:
        best = self.best()
        self._say(f"the best policy by its moves is that of {best}; it is left in model/")
        with replaced_folder(self.run.path / "model") as aside:
            shutil.copytree(self.folder(best) / "model", aside, copy_function=shutil.copyfile)
        self._say(f"report: {write_report(self)}")

    def best(self) -> str:
        """The stage whose policy keeps most outcomes (or writes most legal moves).

        Asked on positions of their own, where the game has such: the best of several on the
        positions that are reported would look better than it is.
        """
        return max(self.stages, key=lambda stage: _merit(self.measure(stage)["choosing"]))


_FILES = ("records", "tactics", "demonstrations", "tasks")


def _merit(moves: dict[str, Any]) -> tuple[float, float]:
    return moves.get("kept", 0.0), moves["legal"]


def _joined(*options: str) -> str:
    return ",".join(option for option in options if option)

"""`FolderTrainer`: AlphaZero's learner whose games come from actors, through a folder of files.

An update waits until there are turns enough (turns.py) for its gradient steps, reading files as
they appear, and then makes all of them. It reads no further ahead than it learns, so that files
lie unread while actors are faster, and these pause. Of several games (`also`) each has turns of its
own. Left out: playing (actor.py) and what becomes of files (reader.py).
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from playout.agents.alphazero.budget.corrector import (
    CORRECTED_SHARE,
    corrector_for,
    seconds_before,
)
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.selfplay import Counts
from playout.agents.alphazero.selfplay.actors.folder import GamesFolder, check_folder
from playout.agents.alphazero.selfplay.actors.game_file import Header
from playout.agents.alphazero.selfplay.actors.reader import GamesReader, to_people
from playout.agents.alphazero.selfplay.actors.turns import DealtReplay
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.alphazero.variants import Variant, count_together, game_texts
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.runs import ranks
from playout.agents.runs.checkpoint.durable_io import sha256
from playout.agents.runs.directory import RunDir
from playout.agents.runs.reporting import as_word
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError, StoppedError
from playout.own_code import trust_words

Callback = Callable[[AlphaZeroTrainer, dict[str, float]], None]

SAVE_SECONDS = 15.0  # between checkpoints, which actors take their networks from
POLL_SECONDS = 0.25
PATIENCE = 20.0  # seconds without games until people are told, and again after ever longer
_RECENT = 20  # updates that say how long one takes by now
_STORED_SHARE = 0.1  # a plan that has changed by more is written into the run


def check_actors(config: AlphaZeroConfig, run: RunDir) -> None:
    """Refuses a run that cannot learn from actors' games, before anything is measured or made.

    Raises:
        ConfigError: it has several processes, or its folder is another run's or something else's.
    """
    if not config.games_from:
        return
    if ranks.world() > 1:
        raise ConfigError(
            "a learner of actors' games (--games-from) is one process: start it without "
            "torchrun, and as many actors as there are cores or cards"
        )
    check_folder(Path(config.games_from), run=run.id)


class FolderTrainer(AlphaZeroTrainer):
    """Learns from the games that actors publish.

    Args:
        config: its `games_from` is the folder.
        run: whose networks the actors play with.
        seed: see AlphaZeroTrainer ...
        device: ... and this ...
        game: ... and this ...
        init: ... and this.
        say: is told what people should know, a line at a time.
    """

    def __init__(
        self,
        config: AlphaZeroConfig,
        run: RunDir,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        game: NativeGame | None = None,
        init: Callable[[BoardNetwork], Collection[str]] | None = None,
        say: Callable[[str], None] = to_people,
    ) -> None:
        check_actors(config, run)
        folder = GamesFolder(Path(config.games_from), run=run.id, where=run.path)
        # It plays no game itself, and needs no room for trees.
        idle = replace(config.selfplay, num_groups=1, num_trees=1)
        alone = replace(config, selfplay=idle, overlap=False)
        super().__init__(alone, seed=seed, device=device, game=game, init=init)
        self._rated.threads = config.selfplay.num_groups  # a rating has all cores all the same
        self.config = replace(
            self.config, selfplay=config.selfplay, games_from=os.path.abspath(config.games_from)
        )
        self.dealt = [DealtReplay(one.replay, reuse=config.reuse) for one in self.variants]
        for variant, dealt in zip(self.variants, self.dealt, strict=True):
            variant.replay = dealt
        self.replay = self.dealt[0]
        self._texts = game_texts(config)
        games = [variant.game for variant in self.variants]
        self.reader = GamesReader(
            folder,
            run,
            dict(zip(self._texts, games, strict=True)),
            finals=self.recorded.keep_finals,
            stale_after=config.stale_after,
            say=say,
        )
        self._ages: list[int] = []  # of the networks of the files that an update has read

    def update(self) -> dict[str, float]:
        """Gradient steps on the games of actors; waits for these.

        Raises:
            StoppedError: training is to stop while it waits.
        """
        if self.updates < self.recorded.updates:
            return super().update()
        begun = time.perf_counter()
        self._ages = []
        self._refresh()
        brought = self._fill()
        count_together(self.variants)
        waited = time.perf_counter() - begun
        learned = self._learn()
        self.updates += 1
        end = time.perf_counter()
        self._update_seconds = end - begun
        if self._over():
            self.plan = [(0, self.updates)]
        self.reader.clear_up()
        metrics = dict[str, float]()
        for index, (counts, examples) in enumerate(brought):
            if counts.games:
                of_game = counts.metrics(examples)
                metrics |= {f"also/{index}/{k}" if index else k: v for k, v in of_game.items()}
        if self._ages:
            metrics["actors/network_age"] = sum(self._ages) / len(self._ages)
        return {
            **metrics,
            "selfplay/games": float(self.totals.games),
            "selfplay/positions": float(self._num_positions),
            "search/evaluations": float(self.totals.evaluations),
            "actors/files": float(self.reader.files["learned"]),
            "actors/stale_games": float(self.reader.stale.games),
            "actors/set_aside": float(self.reader.files["aside"]),
            "actors/turns": float(self._turns),
            "actors/unread": float(len(self.reader.folder.unread())),
            **learned,
            "time/selfplay_s": waited,
            "time/train_s": end - begun - waited,
        }

    def _over(self) -> bool:
        """Whether a run that is planned in minutes has used them up."""
        return self._expected_end is not None and time.perf_counter() >= self._expected_end

    def _fill(self) -> list[tuple[Counts, int]]:
        """Reads files until there are turns enough for an update.

        Returns:
            What came of them, of each game: counts, and how many positions.
        """
        self.reader.begin()
        brought = [(Counts(), 0) for _ in self.dealt]
        quiet, patience = time.monotonic(), PATIENCE
        while True:
            while self._wants_more:
                found = self.reader.take(self._room, self.updates)
                if found is None:
                    break
                header, positions = found
                index = self._texts.index(header.game)
                self.dealt[index].add_spread(positions, self._spread(self.dealt[index]))
                self.totals.add(header.counts)
                counts, examples = brought[index]
                counts.add(header.counts)
                brought[index] = counts, examples + len(positions)
                self._ages.append(max(0, self.updates - header.step))
                quiet, patience = time.monotonic(), PATIENCE
            if self._enough() or self._over():
                return brought
            if self._stop_at is not None:
                raise StoppedError("training was asked to stop while it waited for games")
            silence = time.monotonic() - quiet
            if silence >= patience:
                folder, run = self.reader.folder.path, self.reader.run
                self.reader.say(
                    f"waiting for games: none came for {silence:.0f} s; they are made by "
                    f"playout selfplay --from {as_word(run.path)} --into {as_word(folder)}"
                    f"{trust_words(run.config)}"
                )
                patience *= 4
            time.sleep(POLL_SECONDS)

    @property
    def _batch_size(self) -> int:
        return self.config.learner.batch_size

    @property
    def _warm(self) -> int:
        """Positions that have to be there before anything is learned."""
        return min(self.config.warmup_positions, self.config.replay_capacity)

    @property
    def _turns(self) -> int:
        """Turns to come, of all games."""
        return sum(dealt.turns for dealt in self.dealt)

    @property
    def _added(self) -> int:
        """Positions that have come, of all games."""
        return sum(dealt.num_added for dealt in self.dealt)

    def _spread(self, dealt: DealtReplay) -> int:
        """Over so many of the positions that follow it a position's turns are spread."""
        config = self.config
        wanted = max(config.min_window, int(config.window * dealt.num_added))
        return max(1, min(wanted, config.replay_capacity // 2))

    @property
    def _least_turns(self) -> int:
        """Turns that an update begins with: its own, and a rest that keeps batches mixed."""
        steps = self.config.networks[self._learning()].steps
        return steps * self._batch_size + self.config.reuse * self._warm // 2

    @property
    def _most_turns(self) -> int:
        """Turns up to which files are read: those of a window, half of which lie behind."""
        spread = sum(self._spread(dealt) for dealt in self.dealt if dealt.num_added)
        return max(self._least_turns, self.config.reuse * spread // 2)

    @property
    def _wants_more(self) -> bool:
        """Whether files are read at all."""
        few = self._turns < self._most_turns or self._added < self._warm
        return (few or not self._ready()) and not self._all_there

    @property
    def _all_there(self) -> bool:
        """Whether a run that counts games has as many as it asks for."""
        return self.config.games is not None and self.totals.games >= self.config.games

    def _room(self, header: Header) -> bool:
        """Whether a file's positions may be taken; where nothing can be learned, always."""
        dealt = self.dealt[self._texts.index(header.game)]
        return dealt.has_room(header.positions) or not self._fills_batch(dealt)

    def _enough(self) -> bool:
        """Whether an update can begin."""
        if self._all_there:
            return True
        full = any(not dealt.has_room(1) for dealt in self.dealt if self._fills_batch(dealt))
        if self.reader.holds or full:  # nothing is read before a step
            return self._ready()
        return self._added >= self._warm and self._turns >= self._least_turns and self._ready()

    def _steps(self, planned: int) -> int:
        """The gradient steps of an update: those planned, or what there are turns for."""
        return min(planned, sum(dealt.turns // self._batch_size for dealt in self.dealt))

    def _ready(self) -> bool:
        """Whether there are turns for a gradient step, all of one game."""
        return any(map(self._fills_batch, self.dealt))

    def _fills_batch(self, dealt: DealtReplay) -> bool:
        return dealt.turns >= self._batch_size

    def _drawn_from(self, size: int) -> Variant:
        """The game of the next batch: that with most turns to come, as actors have played."""
        turns = [dealt.turns for dealt in self.dealt]
        return self.variants[turns.index(max(turns))]

    def state_dict(self) -> dict[str, Any]:
        """As of any trainer, with what is known of files."""
        return {**super().state_dict(), "actors": self.reader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        if "actors" not in state:
            raise ConfigError(
                "this run has played its games itself; begin a new one with --init RUN and "
                "--games-from FOLDER"
            )
        super().load_state_dict(state)
        self.reader.load_state_dict(state["actors"])


def make_trainer(
    config: AlphaZeroConfig,
    run: RunDir,
    *,
    seed: int,
    device: torch.device,
    game: NativeGame,
    init: Callable[[BoardNetwork], Collection[str]] | None,
) -> AlphaZeroTrainer:
    """The trainer of a run: of its own games, or of those that actors publish.

    In a new run of the second kind the fresh network is saved at once, for actors to begin with.
    """
    if not config.games_from:
        return AlphaZeroTrainer(config, seed=seed, device=device, game=game, init=init)
    trainer = FolderTrainer(config, run, seed=seed, device=device, game=game, init=init)
    if run.find() is None:
        state = {**trainer.state_dict(), **trainer.rank_state()}
        nothing = {"bytes": 0, "sha256": sha256(b"")}  # no row of metrics belongs to it
        info = {"done": 0, "total": trainer.progress[1], "metrics": nothing}
        run.save(0, state, info=info)
    return trainer


def save_interval(config: AlphaZeroConfig) -> float:
    """Seconds between checkpoints; actors wait for theirs."""
    return SAVE_SECONDS if config.games_from else 60.0


def planner_for(
    run: RunDir, minutes: float, trainer: AlphaZeroTrainer, eval_every: int, ratings: int
) -> Callback:
    """What keeps a run of so many minutes within them."""
    if isinstance(trainer, FolderTrainer):
        return ClockPlan(run, minutes, trainer)
    return corrector_for(run, minutes, trainer, eval_every, ratings)


class ClockPlan:
    """A callback that plans as many updates as the rest of the minutes has time for.

    When games come, and how many, is in no learner's hands: such a run does not repeat, and goes by
    the clock.

    Args:
        run: whose record holds the plan.
        minutes: the budget.
        trainer: whose plan it is.
    """

    def __init__(self, run: RunDir, minutes: float, trainer: FolderTrainer) -> None:
        outside = float(run.record["budget"].get("outside", 0.0))
        self.run, self.seconds = run, minutes * 60.0 * CORRECTED_SHARE - outside
        self._latest: deque[float] = deque(maxlen=_RECENT)
        entry, left = run.find(), self.seconds - seconds_before(run)
        if left > 0:
            total, done = trainer.progress[1], 0 if entry is None else entry.step
            if not done:  # what was measured is of updates after those of recorded games
                total += trainer.recorded.updates
            trainer.plan = [(0, max(total, done + 1))]
        trainer.expect_end(left)

    def __call__(self, trainer: AlphaZeroTrainer, metrics: dict[str, float]) -> None:
        """After an update: plans anew."""
        if "time/selfplay_s" in metrics:  # updates of recorded games say nothing of those to come
            self._latest.append(metrics["time/selfplay_s"] + metrics["time/train_s"])
        done, total = trainer.progress
        left = self.seconds - metrics["time/elapsed"]
        if not trainer.finished:
            if self._latest:
                each = max(sum(self._latest) / len(self._latest), 1e-6)
                total = done + max(1, round(left / each))
                trainer.plan = [(0, total)]
            trainer.expect_end(left)
        stored = self.run.record["budget"]
        if trainer.finished or abs(total - stored["total"]) > _STORED_SHARE * stored["total"]:
            self.run.update(budget={**stored, "total": total})

"""`Actor`: plays with the newest network of a run and publishes what it has played.

Between two bursts of some seconds it looks for a newer network, for how many files nobody has read,
and whether it has done enough. Where the run learns several games (`also`), bursts are theirs by
turns, and a file holds games of one. Games in play live in memory alone: an actor that is killed
loses them, and nothing that was published. Any number of actors need to know nothing of one
another. Left out: files (game_file.py, folder.py) and what is learned from them (trainer.py).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from playout.agents.alphazero.budget.machine import Machine
from playout.agents.alphazero.config import AlphaZeroConfig, NetworkPlan
from playout.agents.alphazero.replay import Examples
from playout.agents.alphazero.selfplay import Counts
from playout.agents.alphazero.selfplay.actors.folder import GamesFolder
from playout.agents.alphazero.selfplay.actors.game_file import (
    Header,
    encode,
    most_positions,
    settings_digest,
)
from playout.agents.alphazero.selfplay.actors.networks import NewestNetwork, Published
from playout.agents.alphazero.variants import (
    Variant,
    also_games,
    final_lessons,
    game_texts,
    turn,
)
from playout.agents.runs.config import to_dict
from playout.agents.runs.devices import resolve_dtype
from playout.agents.runs.directory import RunDir
from playout.agents.runs.signals import deferred_signals
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError

BURST_SECONDS = 5.0  # of self-play between two looks at the folders
POLL_SECONDS = 1.0  # while there is nothing to do
REPORT_SECONDS = 30.0
_MAX_GROWTH = 4.0  # of a burst's evaluations from one to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorSettings:
    """How an actor works.

    Attributes:
        games_per_file: a file is published as soon as so many games are finished, or the network
            changes.
        ahead: it pauses while so many files have not been read.
        minutes: it ends after so long, None: with the run; ...
        games: ... or when it has published so many games.
        simulations: of a move's search; None: as the run says.
        num_groups: groups of games, each on a thread of its own; 0: as suits the machine.
        num_trees: games at once in a group; 0: so that there are about as many as in the run.
        threads: that it may use; 0: all cores.
    """

    games_per_file: int = 64
    ahead: int = 64
    minutes: float | None = None
    games: int | None = None
    simulations: int | None = None
    num_groups: int = 0
    num_trees: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("games_per_file", "ahead"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} must be at least 1, not {getattr(self, name)}")
        if self.minutes is not None and not 0 < self.minutes < 1e6:
            raise ConfigError(f"--minutes must be a positive number, not {self.minutes}")
        if self.games is not None and self.games < 1:
            raise ConfigError(f"--games must be at least 1, not {self.games}")
        if self.simulations is not None and self.simulations < 2:
            raise ConfigError(f"--simulations must be at least 2, not {self.simulations}")
        if min(self.num_groups, self.num_trees, self.threads) < 0:
            raise ConfigError("groups, trees and threads cannot be negative")


def config_here(
    config: AlphaZeroConfig,
    settings: ActorSettings,
    game: NativeGame,
    device: torch.device,
    dtype: str = "auto",
) -> AlphaZeroConfig:
    """The run's configuration as this machine plays by it.

    Groups follow from the cores; together they hold as many games as the run would play at once,
    or, on an accelerator that rules in C feed, as many as fill it.
    """
    machine = Machine.here(device.type, settings.threads)
    play = config.selfplay
    groups = settings.num_groups or machine.num_groups
    trees = settings.num_trees or -(-play.num_groups * play.num_trees // groups)
    if machine.accelerated and not settings.num_trees and not game.calls_python:
        trees = max(trees, machine.num_trees)
    simulations = settings.simulations or play.num_simulations
    first = settings.simulations or config.first_simulations
    play = replace(
        play,
        num_groups=groups,
        num_trees=trees,
        search_threads=machine.search_threads,
        num_simulations=simulations,
    )
    return replace(
        config,
        selfplay=play,
        first_simulations=first,
        infer_dtype=resolve_dtype(dtype, device),
        overlap=False,  # evaluators that can be stopped
        compact_replay=True,  # games are told as moves; the replay itself is not used
        replay_capacity=1,
    )


class Actor:
    """One process of self-play for a run.

    Args:
        run: whose networks play.
        folder: where games go.
        game: what the run learns.
        config: the run's.
        settings: see ActorSettings.
        device: where networks answer.
        dtype: in which type.
        say: is told what people may want to know, a line at a time.
    """

    def __init__(
        self,
        run: RunDir,
        folder: GamesFolder,
        game: NativeGame,
        config: AlphaZeroConfig,
        settings: ActorSettings,
        *,
        device: torch.device,
        dtype: str = "auto",
        say: Callable[[str], None] = print,
    ) -> None:
        self.run, self.folder, self.game, self.settings = run, folder, game, settings
        self.device, self.say = device, say
        self.texts, self.games = game_texts(config), [game, *also_games(config, game)]
        self.config = config_here(config, settings, game, device, dtype)
        self.id = secrets.token_hex(8)
        self.seed = secrets.randbits(62)
        self.newest = NewestNetwork(run)
        self.stopping = False  # set from outside: what is being played is given up
        self.published = self.files = 0  # games and files
        self.evaluations, self.busy_seconds = 0, 0.0
        self._keep_finals = any(final_lessons(config, game))
        digest = settings_digest(
            {"selfplay": to_dict(self.config.selfplay), "dtype": self.config.infer_dtype}
        )
        self._settings = digest
        self._variants: list[Variant] = []  # none before there is a network
        self._network: Published | None = None
        self._plan: NetworkPlan | None = None
        # Of each of the run's games what is finished and in no file yet.
        self._waiting: list[list[Examples]] = [[] for _ in self.games]
        self._counts = [Counts() for _ in self.games]
        self._bursts = 0
        play = self.config.selfplay
        self._quota = 4.0 * play.num_groups * play.num_trees  # evaluations of the next burst
        self._begun = self._reported = time.monotonic()
        self._state = ""  # what it waits for, as people were told

    def work(self) -> None:
        """Plays until it has done enough, or the run is complete.

        What is finished is published also where it ends by an exception.
        """
        try:
            while not self._enough():
                self.turn()
        finally:
            self.stopping = True
            self._publish()
        self.report(last=True)

    def turn(self) -> None:
        """One look at the folders, and a burst of self-play if there is something to play with."""
        found = self.newest.poll()
        if found is not None:
            self._publish()
            self._take(found)
            if found.done >= 1:  # nobody waits for more
                return
        if self._network is None:
            self._wait(f"waiting for a network of {self.run.path}")
            return
        if len(self.folder.unread()) >= self.settings.ahead:
            self._publish()
            self._wait(f"pausing: {self.settings.ahead} files or more lie unread")
            return
        self._state = ""
        self._burst()
        self.report()

    @property
    def waiting_games(self) -> int:
        """Games that are finished and in no file yet."""
        return sum(counts.games for counts in self._counts)

    def _enough(self) -> bool:
        settings = self.settings
        finished = self.waiting_games + self.published
        if settings.games is not None and finished >= settings.games:
            return True
        if settings.minutes is not None and time.monotonic() - self._begun >= 60 * settings.minutes:
            return True
        if self._network is not None and self._network.done >= 1:
            self.say(f"{self.run.path} is complete: it needs no more games")
            return True
        return False

    def _wait(self, why: str) -> None:
        if self._state != why:
            self.say(why)
            self._state = why
        time.sleep(POLL_SECONDS)

    def _take(self, found: Published) -> None:
        """Plays with another network from now on."""
        earlier, self._network = self._network, found
        plans = self.config.networks
        plan = plans[max(i for i, one in enumerate(plans) if found.done >= one.plays_from)]
        same = earlier is not None and earlier.net.config == found.net.config and plan == self._plan
        self._plan = plan
        if not self._variants:
            self._variants = [
                Variant(
                    one,
                    self.config,
                    index=index,
                    net=found.net,
                    plan=plan,
                    seed=self.seed,
                    device=self.device,
                    keep_finals=self._keep_finals,
                    must_stop=lambda: self.stopping,
                )
                for index, one in enumerate(self.games)
            ]
        for variant in self._variants:
            if earlier is not None and not same:
                variant.assign(found.net, plan)
            variant.refresh(found.net, found.step)

    def _burst(self) -> None:
        """Some seconds of self-play, of one game; a file, if enough of its games are finished."""
        wanted, settings = None, self.settings
        if settings.games is not None:
            wanted = max(1, settings.games - self.published - self.waiting_games)
        index = turn(self._bursts, self.config.also_share, len(self.games) - 1)
        self._bursts += 1
        begun = time.monotonic()
        examples, counts = self._variants[index].selfplay.play(round(self._quota), games=wanted)
        taken = max(time.monotonic() - begun, 1e-6)
        self.busy_seconds += taken
        self.evaluations += counts.evaluations
        factor = min(_MAX_GROWTH, max(1 / _MAX_GROWTH, BURST_SECONDS / taken))
        play = self.config.selfplay
        self._quota = max(play.num_groups * play.num_trees, self._quota * factor)
        if len(examples):
            self._waiting[index].append(examples)
        self._counts[index].add(counts)
        if self._counts[index].games >= settings.games_per_file:
            self._publish_of(index)

    def _publish(self) -> None:
        """Writes the games that are finished, if there are any."""
        for index in range(len(self.games)):
            self._publish_of(index)

    def _publish_of(self, index: int) -> None:
        """The same of one of the run's games: into one file, if they fit.

        A signal that comes meanwhile acts afterwards: between the file and the note of it here, the
        same games would be published again.
        """
        game = self.games[index]
        most = most_positions(game)
        while self._waiting[index] and self._network is not None:
            waiting = Examples.concatenate(self._waiting[index])
            examples, rest = waiting[:most], waiting[most:]
            header = Header(
                run=self.run.id,
                game=self.texts[index],
                step=self._network.step,
                settings=self._settings,
                actor=self.id,
                number=self.files,
                positions=len(examples),
                counts=self._counts[index],  # of several files the first tells of all games
            )
            pieces = encode(header, game, examples)
            with deferred_signals():
                self.folder.publish(header.name, pieces)
                self.files += 1
                self.published += header.counts.games
                self._waiting[index] = [rest] if len(rest) else []
                self._counts[index] = Counts()

    def report(self, *, last: bool = False) -> None:
        """Says now and then, or at the `last`, what was done."""
        now = time.monotonic()
        if self._network is None or not (last or now - self._reported >= REPORT_SECONDS):
            return
        self._reported = now
        rate = self.evaluations / max(self.busy_seconds, 1e-9)
        self.say(
            f"actor {self.id}: network {self._network.step}, {self.published:,} games in "
            f"{self.files} files, {rate:,.0f} evaluations/s"
        )

"""AlphaZero's loop as a Trainer: self-play, replay, gradient steps, evaluation.

One update plays until the network has answered a fixed number of questions, then makes a fixed
number of gradient steps, so that its cost hardly depends on how well caches work or how long games
are. The averaged network plays, the other learns. Nothing here reads a clock except for `time/*`
metrics. Under several ranks each plays its groups of games and learns from what they bring, by one
gradient of all. Left out: settings (config.py), what fits into a budget of minutes (budget/),
matches and solved positions (evaluation/in_training.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from playout.agents.alphazero.budget.resolved import resolved
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.evaluation.in_training import BEST_METRIC, Evaluation
from playout.agents.alphazero.evaluation.rated import RatedNetwork
from playout.agents.alphazero.evaluation.settings import EvaluationSettings
from playout.agents.alphazero.learner import Learner, mean_metrics
from playout.agents.alphazero.replay.records import RecordedStart
from playout.agents.alphazero.selfplay import Counts
from playout.agents.alphazero.selfplay.together import Outcome
from playout.agents.alphazero.variants import (
    Variant,
    also_games,
    brought_by,
    count_together,
    deal_variants,
    final_lessons,
    load_variants,
    new_networks,
    parts_of,
    turn,
)
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.trunk import trunk_parameters
from playout.agents.runs import ranks
from playout.agents.runs.devices import resolve_device
from playout.agents.runs.trainer import Trainer
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import CheckpointError, ConfigError
from playout.mcts.hidden import refuse_self_play

STOP_SECONDS = 3.0
"""An update that has gone on for so long after a signal goes back to its beginning."""


class AlphaZeroTrainer(Trainer):
    """Learns a game by playing against itself.

    Args:
        config: see AlphaZeroConfig; store `resolved(config, device)` where runs are to be resumed.
        seed: names all random streams.
        device: where networks learn and play; by default a GPU if there is one.
        game: what is played; by default the one that the configuration names.
        init: is called with the fresh final network, to begin with an earlier one's weights, and
            names those that it has left as they were; a checkpoint that is loaded later replaces
            them all.
    """

    best_metric = BEST_METRIC

    def __init__(
        self,
        config: AlphaZeroConfig,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        game: NativeGame | None = None,
        init: Callable[[BoardNetwork], Collection[str]] | None = None,
    ) -> None:
        if config.minutes is not None:
            raise ConfigError("a trainer counts updates or games: turn minutes into updates first")
        self.device = resolve_device("auto") if device is None else device
        self.config = config = resolved(config, self.device)
        self.seed = seed
        self.game: NativeGame = find_game(config.game) if game is None else game
        refuse_self_play(self.game)
        self.unit = "games" if config.updates is None else "updates"
        self.title = f"alphazero {self.game.name}"
        learner = config.learner
        keep_finals = any(final_lessons(config, self.game))
        networks = new_networks(config, self.game, seed=seed)
        begun: list[str] = []
        if init is not None:
            fresh = init(networks[-1])
            if learner.trunk_rate != 1:
                begun = trunk_parameters(networks[-1], fresh=fresh)
        self.learners = [
            Learner(net, learner, device=self.device, begun=begun if net is networks[-1] else ())
            for net in networks
        ]
        self.playing = 0  # the index of the network that plays
        self._stop_at: float | None = None  # by time.monotonic
        self._counted = False  # whether variants know what all ranks hold
        games = [self.game, *also_games(config, self.game)]
        self.variants = [
            Variant(
                one,
                config,
                index=index,
                net=self.learners[0].average,
                plan=config.networks[0],
                seed=seed,
                device=self.device,
                keep_finals=keep_finals,
                must_stop=self._must_stop,
            )
            for index, one in enumerate(games)
        ]
        self.selfplay, self.replay = self.variants[0].selfplay, self.variants[0].replay
        self._background = ThreadPoolExecutor(1, "selfplay", torch.set_num_threads, (1,))
        self.updates = 0
        # (after this update, so many are planned): a plan may change while it is carried out.
        self.plan: list[tuple[int, int]] = [(0, config.updates or 0)]
        self.totals = Counts()
        self.recorded = RecordedStart(self.game, config, seed=seed, keep_finals=keep_finals)
        rating = EvaluationSettings(
            simulations=config.eval_simulations,
            positions=config.eval_positions,
            games=config.eval_games,
            max_anchor=config.eval_max_anchor,
            proofs=config.leaf_proof_nodes > 0,
        )
        self.evaluation = Evaluation(self.game, rating, seed=seed)
        threads = len(self.selfplay.groups)
        self._rated = RatedNetwork(self.game, config, device=self.device, threads=threads)
        self.evaluation_seconds: list[float] = []  # of every evaluation by this process
        self._update_seconds = 0.0  # of the latest
        self._expected_end: float | None = None  # by time.perf_counter

    @property
    def progress(self) -> tuple[int, int]:
        """Updates, or games, done and planned."""
        if self.config.updates is not None:
            # A change counts from the next update on: the one after which it was made was rated by
            # the plan of before, and is so again where a run goes on from an earlier checkpoint.
            later = [total for start, total in self.plan[1:] if start < self.updates]
            return self.updates, [self.plan[0][1], *later][-1]
        return min(self.totals.games, self.config.games or 0), self.config.games or 0

    @property
    def _done(self) -> float:
        """The share of the run that is done, 0 to 1."""
        done, total = self.progress
        return done / total

    def _learning(self) -> int:
        """The index of the network that learns."""
        done = self._done
        return max(i for i, plan in enumerate(self.config.networks) if done >= plan.learns_from)

    def stop_soon(self) -> None:
        """An update that is still in self-play after some seconds goes back to its beginning."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + STOP_SECONDS

    def _must_stop(self) -> bool:
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    def _refresh(self) -> Learner:
        """Hands the newest weights to self-play; returns the learner of the network that plays."""
        networks, done = self.config.networks, self._done
        playing = max(i for i, plan in enumerate(networks) if done >= plan.plays_from)
        if playing != self.playing:
            self.playing = playing
            for variant in self.variants:
                variant.assign(self.learners[playing].average, networks[playing])
        for variant in self.variants:
            variant.refresh(self.learners[playing].average, self.updates)
        return self.learners[playing]

    def update(self) -> dict[str, float]:
        """Some moves of self-play and some gradient steps, one after the other or at once.

        At the beginning, where there are recorded games, gradient steps on their moves alone.
        """
        start = time.perf_counter()
        if self.updates < self.recorded.updates:
            learned = self.recorded.learn(self.learners, self.updates, done=self._done)
            self.updates += 1
            self._update_seconds = time.perf_counter() - start
            return {**learned, "time/train_s": self._update_seconds}
        if not self._counted:
            count_together(self.variants)
            self._counted = True
        self._refresh()
        index = turn(self.updates, self.config.also_share, len(self.variants) - 1)
        variant, evaluations = self.variants[index], self.config.networks[self.playing].evaluations
        if self.config.overlap:
            playing = self._background.submit(self._play, variant, evaluations)
            learned = self._learn()  # from what was there before
            played = variant.keep(playing.result())
        else:
            played = variant.keep(self._play(variant, evaluations))
            learned = self._learn()
        counts, longest = played.counts, max(played.seconds)
        self.totals.add(counts)
        end = time.perf_counter()
        self.updates += 1
        self._update_seconds = end - start
        of_game = counts.metrics(played.positions)
        if index:  # its games are no measure of the main game's
            of_game = {f"also/{index}/{name}": value for name, value in of_game.items()}
        own = played.seconds[ranks.rank()]
        return {
            **of_game,
            "selfplay/games": float(self.totals.games),
            "selfplay/positions": float(self._num_positions),
            "search/evaluations": float(self.totals.evaluations),
            **learned,
            "time/selfplay_s": own,
            "time/train_s": max(end - start - own, 0.0),  # what it took besides
            "time/games_per_s": counts.games / max(longest, 1e-9),
            "time/evaluations_per_s": counts.evaluations / max(longest, 1e-9),
            "time/sims_per_s": counts.simulations / max(longest, 1e-9),
        }

    @property
    def _num_positions(self) -> int:
        """Positions that self-play has brought, of all games and ranks."""
        return sum(variant.brought for variant in self.variants)

    def _play(self, variant: Variant, evaluations: int) -> Outcome:
        """This rank's self-play of one update, with the seconds that it took."""
        start = time.perf_counter()
        wanted = self.config.games
        games = None if wanted is None else max(1, wanted - self.totals.games)
        examples, counts = variant.selfplay.play(evaluations, games=games)
        return Outcome(examples, counts, time.perf_counter() - start)

    def _learn(self) -> dict[str, float]:
        """The gradient steps of one update, by the network whose turn it is to learn."""
        config, main = self.config, self.variants[0]
        if not self._ready():
            return {}
        index = self._learning()
        learner, plan = self.learners[index], config.networks[index]
        trained, size = plan.trained(self._done), config.learner.batch_size
        mine, rows = learner.rows(size), []
        for _ in range(self._steps(plan.steps)):
            batch = self._drawn_from(size).batch(self._num_steps, mine)
            rows.append(learner.step(batch, done=trained, whole=size))
        found = mean_metrics(rows, weight=len(mine) / size)
        return {**found, "train/window": float(min(main.window(), main.held))}

    def _ready(self) -> bool:
        """Whether there are positions enough to learn from."""
        config, held = self.config, self.variants[0].held
        return held >= max(1, min(config.warmup_positions, config.replay_capacity))

    def _drawn_from(self, size: int) -> Variant:
        """The game of the next batch: the main one or, in their turn, the others."""
        variant = self.variants[
            turn(self._num_steps, self.config.also_share, len(self.variants) - 1)
        ]
        return self.variants[0] if variant.held < size else variant

    @property
    def _num_steps(self) -> int:
        """Gradient steps on positions of self-play."""
        return sum(one.steps for one in self.learners) - self.recorded.steps

    def _steps(self, planned: int) -> int:
        """The gradient steps of an update: those planned, or what `max_reuse` allows by now."""
        reuse = self.config.max_reuse
        if not reuse:
            return planned
        allowed = reuse * self._num_positions / self.config.learner.batch_size
        return min(planned, max(0, int(allowed) - self._num_steps))

    def evaluate(self) -> dict[str, float]:
        """The averaged network's rating, and its share of good moves where there is a solver."""
        average = self._refresh().average
        network = self._rated.of(self.playing, average)
        start = time.perf_counter()
        found = self.evaluation.measure(
            network,
            average,
            update=self.updates,
            games=self.totals.games,
            stop=self._must_stop,
        )
        self.evaluation_seconds.append(time.perf_counter() - start)
        return found

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """The numbers that tell a person whether it learns."""
        # Where games are what is counted, the progress line has them already.
        counted = self.unit == "games" and self.totals.games <= (self.config.games or 0)
        shown = {} if counted else {"games": f"{self.totals.games:,}"}
        if "records/epochs" in metrics:  # no game of its own has been played yet
            shown = {"times through the records": f"{metrics['records/epochs']:.1f}"}
        if "records/held_out_accuracy" in metrics:
            shown["moves foretold"] = f"{metrics['records/held_out_accuracy']:.0%}"
        if "train/policy_loss" in metrics:
            shown["policy loss"] = f"{metrics['train/policy_loss']:.2f}"
        return shown | self.evaluation.headline()

    def expect_end(self, seconds: float) -> None:
        """Says how long training is planned to go on from now, for `seconds_left` to count down."""
        self._expected_end = time.perf_counter() + seconds

    def seconds_left(self) -> float | None:
        """By the plan that `expect_end` was told of; None where there is none.

        While something is left, it takes an update and the last evaluation at least.
        """
        if self._expected_end is None:
            return None
        least = self._update_seconds + sum(self.evaluation_seconds[-1:])
        left = self._expected_end - time.perf_counter()
        return max(left, 0.0 if self.finished else least)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, counters; of a process that is alone also replay and games in play.

        Equal on all ranks but for the ratings, which the first one makes.
        """
        player = self._refresh()
        alone = ranks.world() == 1
        learners = [learner.state_dict() for learner in self.learners]
        return {
            "model": learners[self.playing].pop("average"),
            "network": player.net.config.to_dict(),
            "learners": learners,
            **(self.variants[0].state_dict() if alone else {}),
            "evaluation": self.evaluation.state_dict(),
            "updates": self.updates,
            "totals": self.totals.state_dict(),
            **(parts_of(self.variants) if alone else {}),
            **({"recorded": self.recorded.state_dict()} if self.config.records else {}),
            **brought_by(self.variants),
        }

    def rank_state(self) -> dict[str, Any]:
        """Replay and games in play of this rank, where there are several."""
        if ranks.world() == 1:
            return {}
        return {**self.variants[0].state_dict(), **parts_of(self.variants)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        stored = [part["network"] for part in state["learners"]]
        if stored != [learner.net.config.to_dict() for learner in self.learners]:
            raise CheckpointError(
                "the checkpoint's network has another shape than this configuration's"
            )
        for learner, part in zip(self.learners, state["learners"], strict=True):
            learner.load_state_dict({"average": state["model"], **part})  # of the one that plays
        if self.config.records:
            self.recorded.load_state_dict(state["recorded"])
        if "evaluation" in state:  # runs of earlier versions begin a ladder where they go on
            self.evaluation.load_state_dict(state["evaluation"])
        self.updates = int(state["updates"])
        self.totals = Counts.from_state(state["totals"])
        self._counted = False
        brought = state.get("positions", [0] * len(self.variants))
        for variant, count in zip(self.variants, brought, strict=True):
            variant.brought = int(count)
        if ranks.world() == 1 and "replay" in state:
            load_variants(self.variants, state)

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Continues from what `rank_state` gave on this rank, of as many."""
        if ranks.world() > 1:
            load_variants(self.variants, state)

    def deal_rank_states(self, parts: Sequence[dict[str, Any]]) -> str:
        """Continues from what another number of ranks had; games go on where their groups are."""
        deal_variants(self.variants, parts)
        return "positions of the replay were dealt out anew, so that it learns from other batches"

"""AlphaZero's loop as a Trainer: self-play, replay, gradient steps, evaluation.

One update plays until the network has answered a fixed number of questions, then makes a fixed
number of gradient steps, so that its cost hardly depends on how well caches work or how long games
are. The averaged network plays, the other learns. Nothing here reads a clock except for `time/*`
metrics. Left out: settings (config.py), what fits into a budget of minutes (budget/), matches and
solved positions (evaluation/in_training.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.alphazero.config import AlphaZeroConfig, selfplay_search
from playout.agents.alphazero.evaluation.in_training import BEST_METRIC, Evaluation
from playout.agents.alphazero.evaluation.settings import EvaluationSettings
from playout.agents.alphazero.evaluator import MAX_SYMMETRIES, NetworkEvaluator, chunk_for
from playout.agents.alphazero.learner import Learner, mean_metrics
from playout.agents.alphazero.proofs import TacticalEvaluator
from playout.agents.alphazero.replay import Examples, Replay
from playout.agents.alphazero.selfplay import Counts, SelfPlay
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.registry import new_network
from playout.agents.runs.devices import resolve_device, resolve_dtype
from playout.agents.runs.trainer import Trainer
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import CheckpointError, ConfigError, StoppedError
from playout.mcts.evaluators import Evaluator, LeafBatch
from playout.mcts.hidden import refuse_self_play

Float32 = npt.NDArray[np.float32]


def resolved(config: AlphaZeroConfig, device: torch.device, dtype: str = "auto") -> AlphaZeroConfig:
    """The same with "auto" replaced by what suits the device, to be stored with the run.

    Args:
        config: what is to be trained.
        device: where networks compute.
        dtype: what the person wants networks to compute in; "auto" leaves learning as it is on a
            processor, and on other devices where they answer in less than float32.
    """
    if dtype != "auto":
        learns_in = "bfloat16" if dtype == "bfloat16" else "float32"
        config = replace(
            config, infer_dtype=dtype, learner=replace(config.learner, dtype=learns_in)
        )
    infers_in = resolve_dtype(config.infer_dtype, device)
    learner = config.learner
    if device.type != "cpu" and infers_in == "float32":  # it may have no other type
        learner = replace(learner, dtype="float32")
    return replace(config, infer_dtype=infers_in, learner=learner)


STOP_SECONDS = 3.0
"""An update that has gone on for so long after a signal goes back to its beginning."""


class StoppableEvaluator(Evaluator):
    """Another evaluator, until `stop` says that nobody waits for the answers any more."""

    def __init__(self, evaluator: Evaluator, stop: Callable[[], bool]) -> None:
        self.evaluator, self.stop = evaluator, stop

    def evaluate(self, leaves: LeafBatch) -> tuple[Float32, Float32]:
        """The other one's logits and values.

        Raises:
            StoppedError: `stop` said so.
        """
        if self.stop():
            raise StoppedError("self-play was asked to stop")
        return self.evaluator.evaluate(leaves)


class AlphaZeroTrainer(Trainer):
    """Learns a game by playing against itself.

    Args:
        config: see AlphaZeroConfig; store `resolved(config, device)` where runs are to be resumed.
        seed: names all random streams.
        device: where networks learn and play; by default a GPU if there is one.
        game: what is played; by default the one that the configuration names.
        init: is called with the fresh final network, to begin with an earlier one's weights; a
            checkpoint that is loaded later replaces them.
    """

    best_metric = BEST_METRIC

    def __init__(
        self,
        config: AlphaZeroConfig,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        game: NativeGame | None = None,
        init: Callable[[BoardNetwork], object] | None = None,
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
        planes = learner.target_weight > 0 and self.game.target_planes > 0
        scores = learner.score_weight > 0 and self.game.has_score
        weights_seed = int(np.random.default_rng([seed, 6]).integers(2**62))
        networks = [
            new_network(
                self.game,
                plan.size,
                network=config.network,
                pooling=config.pooling,
                heads=config.heads,
                planes=planes,
                scores=scores,
                seed=weights_seed,
            )
            for plan in config.networks
        ]
        if init is not None:
            init(networks[-1])
        self.learners = [Learner(net, config.learner, device=self.device) for net in networks]
        self.playing = 0  # the index of the network that plays
        self._network_evaluators: list[NetworkEvaluator] = []
        search = selfplay_search(
            config.selfplay.num_simulations,
            cache_size=config.cache_size,
            threads=config.selfplay.search_threads,
        )
        self._rows = config.selfplay.num_trees * search.leaves_per_step  # of a group's questions
        self.selfplay = SelfPlay(
            self.game,
            self._stoppable(self._make_evaluators()),
            config.selfplay,
            search=search,
            num_simulations=config.networks[0].num_simulations,
            seed=seed,
            keep_finals=planes or scores,
        )
        self.replay = Replay(
            self.game, config.replay_capacity, seed=seed, keep_finals=planes or scores
        )
        self._background = ThreadPoolExecutor(1, "selfplay", torch.set_num_threads, (1,))
        self.updates = 0
        # (from this update on, so many are planned): a plan may change while it is carried out.
        self.plan: list[tuple[int, int]] = [(0, config.updates or 0)]
        self.totals = Counts()
        rating = EvaluationSettings(
            simulations=config.eval_simulations,
            positions=config.eval_positions,
            games=config.eval_games,
            max_anchor=config.eval_max_anchor,
            proofs=config.leaf_proof_nodes > 0,
        )
        self.evaluation = Evaluation(self.game, rating, seed=seed)
        self._rating_evaluator: NetworkEvaluator | None = None
        self._rated_index = -1  # of the network that it answers for
        self.evaluation_seconds: list[float] = []  # of every evaluation by this process
        self._update_seconds = 0.0  # of the latest
        self._expected_end: float | None = None  # by time.perf_counter
        self._stop_at: float | None = None  # by time.monotonic

    @property
    def progress(self) -> tuple[int, int]:
        """Updates, or games, done and planned."""
        if self.config.updates is not None:
            planned = [total for start, total in self.plan if start <= self.updates]
            return self.updates, planned[-1]
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

    def _make_evaluators(self) -> list[Evaluator]:
        """Evaluators for the network that begins to play, one a group."""
        config = self.config
        self._network_evaluators = [
            NetworkEvaluator(
                self.learners[self.playing].average,
                device=self.device,
                dtype=config.infer_dtype,
                chunk=chunk_for(self._rows, self.device),
            )
            for _ in range(config.selfplay.num_groups)
        ]
        return [
            TacticalEvaluator(
                one, self.game, proof_nodes=config.leaf_proof_nodes, tactics=config.tactics
            )
            for one in self._network_evaluators
        ]

    def _stoppable(self, evaluators: Sequence[Evaluator]) -> list[Evaluator]:
        """The same, but an update can end early; not while the network learns meanwhile."""
        if self.config.overlap:
            return list(evaluators)
        return [StoppableEvaluator(one, self._must_stop) for one in evaluators]

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
            self.selfplay.assign_evaluators(
                self._stoppable(self._make_evaluators()),
                num_simulations=networks[playing].num_simulations,
            )
        for evaluator in self._network_evaluators:
            evaluator.refresh(self.learners[playing].average)
        return self.learners[playing]

    def update(self) -> dict[str, float]:
        """Some moves of self-play and some gradient steps, one after the other or at once."""
        start = time.perf_counter()
        self._refresh()
        evaluations = self.config.networks[self.playing].evaluations
        if self.config.overlap:
            playing = self._background.submit(self._play, evaluations)
            learned = self._learn()  # from what was there before
            examples, counts, played = playing.result()
            self.replay.add(examples)
        else:
            examples, counts, played = self._play(evaluations)
            self.replay.add(examples)
            learned = self._learn()
        self.totals.add(counts)
        end = time.perf_counter()
        self.updates += 1
        self._update_seconds = end - start
        return {
            **counts.metrics(len(examples)),
            "selfplay/games": float(self.totals.games),
            "selfplay/positions": float(self.replay.num_added),
            "search/evaluations": float(self.totals.evaluations),
            **learned,
            "time/selfplay_s": played,
            "time/train_s": max(end - start - played, 0.0),  # what it took besides
            "time/games_per_s": counts.games / max(played, 1e-9),
            "time/evaluations_per_s": counts.evaluations / max(played, 1e-9),
            "time/sims_per_s": counts.simulations / max(played, 1e-9),
        }

    def _play(self, evaluations: int) -> tuple[Examples, Counts, float]:
        """Self-play of one update, with the seconds that it took."""
        start = time.perf_counter()
        wanted = self.config.games
        games = None if wanted is None else max(1, wanted - self.totals.games)
        examples, counts = self.selfplay.play(evaluations, games=games)
        return examples, counts, time.perf_counter() - start

    def _learn(self) -> dict[str, float]:
        """The gradient steps of one update, by the network whose turn it is to learn."""
        config = self.config
        if len(self.replay) < min(config.warmup_positions, config.replay_capacity):
            return {}
        window = max(config.min_window, int(config.window * self.replay.num_added))
        index = self._learning()
        learner, plan = self.learners[index], config.networks[index]
        trained = plan.trained(self._done)
        rows = []
        for _ in range(self._steps(plan.steps)):
            number = sum(one.steps for one in self.learners)
            batch = self.replay.batch(number, config.learner.batch_size, window=window)
            rows.append(learner.step(batch, done=trained))
        return {**mean_metrics(rows), "train/window": float(min(window, len(self.replay)))}

    def _steps(self, planned: int) -> int:
        """The gradient steps of an update: those planned, or what `max_reuse` allows by now."""
        reuse = self.config.max_reuse
        if not reuse:
            return planned
        allowed = reuse * self.replay.num_added / self.config.learner.batch_size
        return min(planned, max(0, int(allowed) - sum(one.steps for one in self.learners)))

    def evaluate(self) -> dict[str, float]:
        """The averaged network's rating, and its share of good moves where there is a solver."""
        network, average = self._rated_network(), self.learners[self.playing].average
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

    def _rated_network(self) -> NetworkEvaluator:
        """The averaged network of the one that plays, made once: on a card graphs are captured."""
        average = self._refresh().average
        if self._rated_index != self.playing or self._rating_evaluator is None:
            self._rated_index = self.playing
            self._rating_evaluator = NetworkEvaluator(
                average,
                device=self.device,
                dtype=self.config.infer_dtype,
                chunk=chunk_for(self._rated_rows(), self.device),
                threads=self.config.selfplay.num_groups,
            )
        self._rating_evaluator.refresh(average)
        return self._rating_evaluator

    def _rated_rows(self) -> int:
        """The most positions that a rating asks about at once, each in all its symmetries."""
        shown = self.game.num_symmetries
        rating = self.evaluation.settings
        positions = rating.positions * (shown if shown <= MAX_SYMMETRIES else 1)
        return max(positions, rating.games, 256)

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """The numbers that tell a person whether it learns."""
        # Where games are what is counted, the progress line has them already.
        counted = self.unit == "games" and self.totals.games <= (self.config.games or 0)
        shown = {} if counted else {"games": f"{self.totals.games:,}"}
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
        """Weights, optimiser, replay, games in play, counters."""
        player = self._refresh()
        return {
            "model": dict(player.average.state_dict()),
            "network": player.net.config.to_dict(),
            "learners": [learner.state_dict() for learner in self.learners],
            "replay": self.replay.state_dict(),
            "selfplay": self.selfplay.state_dict(),
            "evaluation": self.evaluation.state_dict(),
            "updates": self.updates,
            "totals": self.totals.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        stored = [part["network"] for part in state["learners"]]
        if stored != [learner.net.config.to_dict() for learner in self.learners]:
            raise CheckpointError(
                "the checkpoint's network has another shape than this configuration's"
            )
        for learner, part in zip(self.learners, state["learners"], strict=True):
            learner.load_state_dict(part)
        self.replay.load_state_dict(state["replay"])
        self.selfplay.load_state_dict(state["selfplay"])
        if "evaluation" in state:  # runs of earlier versions begin a ladder where they go on
            self.evaluation.load_state_dict(state["evaluation"])
        self.updates = int(state["updates"])
        self.totals = Counts.from_state(state["totals"])

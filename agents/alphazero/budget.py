"""What fits into a budget of minutes: measured at the start, corrected on the way.

Every schedule goes by counts, never by the clock: a plan, and each correction of it with the update
from which it counts, is written into run.json before it takes effect, so that a resumed run equals
one that was never stopped.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from playout.agents.alphazero.evaluator import NetworkEvaluator, measure_rate
from playout.agents.alphazero.replay import Examples
from playout.agents.alphazero.selfplay import SelfPlayConfig
from playout.agents.alphazero.trainer import AlphaZeroConfig, AlphaZeroTrainer
from playout.agents.networks.resnet import build
from playout.agents.runs.budget import plan
from playout.agents.runs.directory import RunDir
from playout.agents.runs.memory import keep_freed_memory
from playout.envs.core.game import NativeGame

GLANCE = 0.3  # seconds, to see how fast a network answers here
SECONDS = 20.0  # at most, and at most a twentieth of the budget
# Of the time: the rest is for evaluations, and a network that has learned answers fewer questions a
# move, so that an update takes more searching than at the start, when it is measured.
SHARE = 0.8
CORRECTIONS = (0.4, 0.7)  # shares of the updates after which the plan is corrected, ...
MOST = 1.5  # ... by this factor at most, so that no schedule turns back by much
SPARE = 0.97  # of the minutes are planned


def evaluations_within(game: NativeGame, minutes: float, size: str) -> float:
    """How many positions a network could answer in that time, all threads together."""
    net = build(game.obs_shape, game.num_actions, size=size, num_players=game.num_players)
    play = SelfPlayConfig()
    networks = [NetworkEvaluator(net) for _ in range(play.num_groups)]
    rate = partial(measure_rate, batch=play.num_trees, seconds=GLANCE)
    pool = ThreadPoolExecutor(len(networks), initializer=torch.set_num_threads, initargs=(1,))
    with pool:
        list(pool.map(rate, networks))  # the first calls are slow
        return 60.0 * minutes * sum(pool.map(rate, networks))


def updates_for(run: RunDir, config: AlphaZeroConfig, minutes: float) -> int:
    """Updates that fit into `minutes`; measured on throw-away trainers, one a network."""
    trainers: list[AlphaZeroTrainer] = []

    def measure() -> int:
        if not trainers:
            trainers.extend(prepared(alone) for alone in phases(config))
        times = [1]
        if len(trainers) == 2:  # in fifths of the run, as the networks take turns in it
            first = min(4, max(1, round(5 * config.grow_at)))
            times = [5 - first, first]
        for trainer, updates in zip(trainers, times, strict=True):
            for _ in range(updates):
                trainer.update()
        return sum(times)

    keep_freed_memory()
    return plan(run, minutes=minutes, unit="updates", measure=measure, seconds=SECONDS, share=SHARE)


def phases(config: AlphaZeroConfig) -> list[AlphaZeroConfig]:
    """For each network of a run, a run of it alone."""
    kinds = [(config.size, config.evaluations, config.steps)]
    if config.first_size:
        kinds.append((config.first_size, config.first_evaluations, config.first_steps))
    return [
        replace(
            config,
            size=size,
            first_size="",
            updates=1 << 20,
            games=None,
            evaluations=evaluations,
            steps=steps,
            warmup_positions=config.learner.batch_size,
        )
        for size, evaluations, steps in kinds
    ]


def prepared(config: AlphaZeroConfig) -> AlphaZeroTrainer:
    """A trainer with made-up positions to learn from, so that its first update is typical."""
    trainer = AlphaZeroTrainer(config, seed=0)
    game, count = trainer.game, config.warmup_positions
    states = game.batch(count)
    states.random_plies(np.full(count, 2, np.int32), 0)
    mask = states.legal_mask().astype(np.float32)
    policy = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    values = np.zeros((count, game.num_players if game.num_players > 2 else 1), np.float32)
    trainer.replay.add(Examples(states.data.copy(), policy, values, np.ones(count, np.float32)))
    return trainer


class Pace:
    """A callback of the loop that corrects how many updates fit into the minutes.

    Args:
        run: whose record holds the plan; must have been planned by `updates_for`.
        minutes: the budget.
        trainer: gets the corrections that an earlier process made.
    """

    def __init__(self, run: RunDir, minutes: float, trainer: AlphaZeroTrainer) -> None:
        self.run, self.seconds = run, minutes * 60.0
        self._begun: float | None = None  # elapsed time before the first update seen
        self._own: list[float] = []  # seconds of the updates themselves
        trainer.plan += [(int(start), int(total)) for start, total in self._made()]

    def _made(self) -> list[list[int]]:
        return list(self.run.record["budget"].get("corrections", []))

    def __call__(self, trainer: AlphaZeroTrainer, metrics: dict[str, float]) -> None:
        """After an update: corrects the plan where it is time to."""
        own = metrics["time/selfplay_s"] + metrics["time/train_s"]
        elapsed = metrics["time/elapsed"]
        if self._begun is None:
            self._begun = elapsed - own
        self._own.append(own)
        made, (done, total) = self._made(), trainer.progress
        enough = max(4, total // 20)
        due = len(made) < len(CORRECTIONS) and done >= CORRECTIONS[len(made)] * total
        if not due or len(self._own) < enough or trainer.finished:
            return
        # What an update takes of late, with its share of evaluations and saving.
        each = sum(self._own[-enough:]) / enough * (elapsed - self._begun) / sum(self._own)
        found = done + round((self.seconds * SPARE - elapsed) / each)
        found = max(done + 1, min(max(found, round(total / MOST)), round(total * MOST)))
        record = self.run.record["budget"]
        self.run.update(budget={**record, "corrections": [*made, [done, found]]})
        trainer.plan.append((done, found))

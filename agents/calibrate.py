"""How many updates fit into a budget of minutes: measured once, then read from the run.

From then on every schedule goes by counts, never by the clock, so that a resumed run equals one
that was never stopped.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from playout.agents.alphazero import AlphaZeroConfig, AlphaZeroTrainer
from playout.agents.replay import Examples
from playout.agents.run.budget import plan
from playout.agents.run.directory import RunDir
from playout.agents.run.memory import keep_freed_memory

SECONDS = 20.0  # at most, and at most a twentieth of the budget
# Of the time: the rest is for evaluations, and a network that has learned answers fewer questions a
# move, so that an update takes more searching than at the start, when it is measured.
SHARE = 0.72


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

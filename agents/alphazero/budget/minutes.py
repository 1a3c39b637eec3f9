"""Minutes become a size of network and a number of updates, by short measurements.

What learns fastest changes with the work there is time for: a small network sees more games early,
a large one ends higher. How many updates fit into the minutes on this machine is measured at the
start of a run, written into run.json, and corrected on the way (corrector.py).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from playout.agents.alphazero.budget.machine import Machine
from playout.agents.alphazero.budget.presets import Preset
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.evaluator import NetworkEvaluator, measure_rate
from playout.agents.alphazero.replay import Examples, values_per_position
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.registry import new_network
from playout.agents.runs.budget import plan
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import keep_freed_memory
from playout.envs.core.game import NativeGame

RATE_SECONDS = 0.3  # to see how fast a network answers here
MAX_CALIBRATION_SECONDS = 20.0  # and at most a twentieth of the budget
# Of the time that updates take as measured at the start: the rest is for evaluations, and a network
# that has learned answers fewer questions a move, so that an update then takes more searching.
PLANNED_SHARE = 0.8


def choose_sizes(
    game: NativeGame,
    preset: Preset,
    machine: Machine,
    minutes: float | None,
    *,
    network: str = "resnet",
    device: torch.device | None = None,
) -> tuple[str, str]:
    """The network that learns first ("" for none) and the final one, by time and speed.

    Args:
        game: what is learned.
        preset: the game's.
        machine: what it is learned on.
        minutes: for the run; None for a length that is counted: nothing is measured then.
        network: the kind of network.
        device: where it answers.
    """
    if minutes is None or len(preset.sizes) == 1:
        return preset.sizes_by_count
    largest = new_network(game, preset.sizes[-1], network=network)
    return preset.sizes_for(60.0 * minutes * network_rate(largest, machine, device))


def network_rate(net: BoardNetwork, machine: Machine, device: torch.device | None = None) -> float:
    """How many positions a second a network answers, all groups together."""
    evaluators = [
        NetworkEvaluator(net, device=None if device is None else str(device))
        for _ in range(machine.num_groups)
    ]
    rate = partial(measure_rate, batch=machine.num_trees, seconds=RATE_SECONDS)
    pool = ThreadPoolExecutor(len(evaluators), initializer=torch.set_num_threads, initargs=(1,))
    with pool:
        list(pool.map(rate, evaluators))  # the first calls are slow
        return sum(pool.map(rate, evaluators))


def updates_for(
    run: RunDir,
    config: AlphaZeroConfig,
    minutes: float,
    *,
    game: NativeGame | None = None,
    device: torch.device | None = None,
) -> int:
    """Updates that fit into `minutes`; measured on throw-away trainers, one a network."""
    trainers: list[AlphaZeroTrainer] = []

    def measure() -> int:
        if not trainers:
            alone = single_networks(config)
            trainers.extend(calibration_trainer(one, game=game, device=device) for one in alone)
        updates = [1]
        if len(trainers) == 2:  # in fifths of the run, as the networks take turns in it
            first = min(4, max(1, round(5 * config.grow_at)))
            updates = [first, 5 - first]
        for trainer, count in zip(trainers, updates, strict=True):
            for _ in range(count):
                trainer.update()
        return sum(updates)

    keep_freed_memory()
    return plan(
        run,
        minutes=minutes,
        unit="updates",
        measure=measure,
        seconds=MAX_CALIBRATION_SECONDS,
        share=PLANNED_SHARE,
    )


def single_networks(config: AlphaZeroConfig) -> list[AlphaZeroConfig]:
    """For each network of a run, an endless run of it alone."""
    return [
        replace(
            config,
            size=network.size,
            first_size="",
            updates=1 << 20,
            games=None,
            minutes=None,
            evaluations=network.evaluations,
            steps=network.steps,
            warmup_positions=config.learner.batch_size,
        )
        for network in config.networks
    ]


def calibration_trainer(
    config: AlphaZeroConfig, *, game: NativeGame | None = None, device: torch.device | None = None
) -> AlphaZeroTrainer:
    """A trainer with made-up positions to learn from, so that its first update is typical."""
    trainer = AlphaZeroTrainer(config, seed=0, game=game, device=device)
    game, count = trainer.game, config.warmup_positions
    states = game.batch(count)
    states.random_plies(np.full(count, 2, np.int32), 0)
    mask = states.legal_mask().astype(np.float32)
    policy = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    values = np.zeros((count, values_per_position(game)), np.float32)
    weights = np.ones(count, np.float32)
    trainer.replay.add(Examples.from_dense(states.data.copy(), policy, values, weights))
    return trainer

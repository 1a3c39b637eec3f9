"""Minutes become a size of network and a number of updates, by short measurements.

What learns fastest changes with the work there is time for: a small network sees more games early,
a large one ends higher. How many updates fit into the minutes on this machine is measured at the
start of a run, written into run.json, and corrected on the way (corrector.py).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import torch
from playout.agents.alphazero.budget.corrector import CORRECTED_SHARE, seconds_before
from playout.agents.alphazero.budget.fit import RATING_SHARE, UNNOTICED_SECONDS
from playout.agents.alphazero.budget.machine import Machine
from playout.agents.alphazero.budget.presets import Preset
from playout.agents.alphazero.budget.speed import Speed, calibration_trainer
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.evaluator import NetworkEvaluator, measure_rate
from playout.agents.alphazero.variants import GROUPS
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.registry import new_network
from playout.agents.runs import ranks
from playout.agents.runs.devices import keep_freed_memory
from playout.agents.runs.directory import RunDir
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError

RATE_SECONDS = 0.3  # to see how fast a network answers here
MAX_CALIBRATION_SECONDS, CALIBRATION_SHARE = 20.0, 0.05  # at most, in all and of the budget
# Of the time that updates take as measured at the start: the rest is for evaluations, and a network
# that has learned answers fewer questions a move, so that an update then takes more searching.
PLANNED_SHARE = 0.8

# Of the minutes: the report at the end, and a look at the game's speed.
REPORT_SHARE, LOOK_SHARE = 0.05, 0.03
MAX_LOOK_SECONDS = 4.0
# Outside of what a command's clock sees: Python's start and its end. After the loop, besides games:
# the last save, the player, and a picture, for which a drawing library is loaded. Of very few
# minutes, no more than a share.
START_SECONDS, CLOSING_SECONDS, MAX_FIXED_SHARE = 1.0, 3.0, 0.1
MIN_REPORT_SECONDS = 0.5  # games of the report get so much, whatever is left


def measuring_time(minutes: float) -> float:
    """Seconds that a look at a game's speed may take."""
    return min(MAX_LOOK_SECONDS, LOOK_SHARE * 60 * minutes)


def kept_back(minutes: float, *, rating: bool) -> float:
    """Seconds of the minutes that are not the loop's: Python's start and end, and the report."""
    fixed = START_SECONDS + (CLOSING_SECONDS if rating else 0.0)
    report = REPORT_SHARE * 60 * minutes if rating else 0.0
    return min(fixed, MAX_FIXED_SHARE * 60 * minutes) + report


def report_time(minutes: float | None, taken: float) -> float:
    """Seconds for the games of the report at the end of a run.

    Args:
        minutes: of the run; what is left of them, and always a little; None: its length is counted.
        taken: seconds of the run until now.
    """
    if minutes is None:
        return max(REPORT_SHARE * taken, UNNOTICED_SECONDS)
    fixed = kept_back(minutes, rating=True) - REPORT_SHARE * 60 * minutes
    return max(60 * minutes - taken - fixed, MIN_REPORT_SECONDS)


def time_to_learn(minutes: float, spent: float, *, rating: bool) -> float:
    """Seconds of the minutes that are left for self-play and learning, after `spent` seconds."""
    share = CORRECTED_SHARE - (RATING_SHARE if rating else 0.0)
    return max(0.0, share * 60 * minutes - kept_back(minutes, rating=rating) - spent)


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
    """How many positions a second a network answers, all groups of all ranks together."""
    evaluators = [
        NetworkEvaluator(net, device=None if device is None else str(device))
        for _ in ranks.share(machine.num_groups, GROUPS)
    ]
    rate = partial(measure_rate, batch=machine.num_trees, seconds=RATE_SECONDS)
    pool = ThreadPoolExecutor(len(evaluators), initializer=torch.set_num_threads, initargs=(1,))
    with pool:
        list(pool.map(rate, evaluators))  # the first calls are slow
        return ranks.sums([sum(pool.map(rate, evaluators))])[0]


def updates_for(
    run: RunDir,
    config: AlphaZeroConfig,
    minutes: float,
    *,
    outside: float = 0.0,
    speed: Speed | None = None,
    game: NativeGame | None = None,
    device: torch.device | None = None,
) -> int:
    """Updates that fit into `minutes`; decided once, then read from run.json.

    Args:
        run: whose record holds the plan. A resumed run may be given other minutes: it goes on for
            the time that they leave, at the speed that it has had until its checkpoint.
        config: of the run.
        minutes: the budget.
        outside: seconds of it that go neither to self-play nor to learning nor to ratings while it
            learns: setting up, and the report at the end.
        speed: of the game; None to measure whole updates on throw-away trainers, one a network.
        game: what is learned, by default as the configuration says.
        device: where networks compute.

    Raises:
        ConfigError: minutes is not a positive number.
    """
    if not 0 < minutes < 1e6:
        raise ConfigError(f"--minutes must be a positive number, not {minutes}")
    stored = run.record.get("budget")
    if stored and stored["unit"] != "updates":
        stored = None
    if stored and float(stored["minutes"]) == minutes:
        return int(stored["total"])
    outside = ranks.first(outside)
    left, (done, elapsed) = minutes * 60 - outside, ranks.first(_done_before(run))
    if done and elapsed > 0:
        rate, left = done / elapsed, minutes * 60 * CORRECTED_SHARE - outside - elapsed
    elif stored:
        rate = float(stored["rate"])
    elif speed is not None:
        rate = PLANNED_SHARE / speed.update_seconds(config)
    else:
        seconds = min(MAX_CALIBRATION_SECONDS, minutes * 60 * CALIBRATION_SHARE)
        rate = PLANNED_SHARE * _updates_per_second(config, seconds, game, device)
    total = max(1, done + round(rate * max(0.0, left)))
    budget = {"unit": "updates", "minutes": minutes, "rate": rate, "total": total}
    run.update(budget={**budget, "outside": outside})
    return total


def _done_before(run: RunDir) -> tuple[int, float]:
    """Updates until the checkpoint from which a run goes on, and the seconds that they took."""
    checkpoint = run.find()
    return 0 if checkpoint is None else checkpoint.step, seconds_before(run)


def _updates_per_second(
    config: AlphaZeroConfig,
    seconds: float,
    game: NativeGame | None,
    device: torch.device | None,
) -> float:
    """Measured on throw-away trainers for about so long, after a round that warms up."""
    keep_freed_memory()
    alone = single_networks(config)
    trainers = [calibration_trainer(one, game=game, device=device) for one in alone]
    counts = [1]
    if len(trainers) == 2:  # in fifths of the run, as the networks take turns in it
        first = min(4, max(1, round(5 * config.grow_at)))
        counts = [first, 5 - first]
    begun = warm = ranks.first(time.monotonic())
    done = 0
    while True:
        for trainer, count in zip(trainers, counts, strict=True):
            for _ in range(count):
                trainer.update()
        now = ranks.first(time.monotonic())  # the first one's clock is everybody's
        if begun == warm and now - begun < seconds:
            warm = now  # the first round warms up, unless it is the whole measurement
            continue
        done += sum(counts)
        if now - warm >= seconds:
            return done / (now - warm)


def single_networks(config: AlphaZeroConfig) -> list[AlphaZeroConfig]:
    """For each network of a run, an endless run of its self-play alone."""
    return [
        replace(
            config,
            size=network.size,
            first_size="",
            updates=1 << 20,
            games=None,
            minutes=None,
            records=(),
            evaluations=network.evaluations,
            steps=network.steps,
            warmup_positions=config.learner.batch_size,
        )
        for network in config.networks
    ]

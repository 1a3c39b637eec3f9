"""One dial for self-play: minutes (or a size) become a configuration and a number of updates.

What learns fastest changes with the work there is time for: a small network sees more games early,
a large one ends higher. The numbers were found by runs on two cores, one kind of them with twice
the speed of the other. How much work, and how many updates, fit into the minutes on this machine is
measured at the start of a run and corrected on the way. Every schedule goes by counts, never by the
clock: a plan, and each correction of it with the update from which it counts, is written into
run.json before it takes effect, so that a resumed run equals one that was never stopped.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from playout.agents.alphazero.config import AlphaZeroConfig, SelfPlayConfig
from playout.agents.alphazero.evaluator import NetworkEvaluator, measure_rate
from playout.agents.alphazero.replay import Examples, values_per_position
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.networks.boards.registry import new_network
from playout.agents.networks.boards.resnet import parse_size
from playout.agents.runs.budget import plan
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import keep_freed_memory
from playout.envs.core.game import NativeGame

LARGE, MEDIUM, SMALL = "base", "medium", "small"
# A larger network pays off where there is time for so many evaluations of the large one, were there
# nothing else to do. With 11 million a network of 48x3 learned Connect Four as well as the small
# one (policy alone: 91.6 and 91.8 % of moves keep the outcome), from half as many games.
LARGE_NETWORK_EVALUATIONS, MEDIUM_NETWORK_EVALUATIONS = 75e6, 25e6
FIRST_EVALUATIONS, FIRST_STEPS = 32768, 48  # of an update, for a network of 32 channels x 3 blocks
LONG_RUN_MINUTES = 25.0  # from here on updates are twice as long: fewer trees are begun anew
SIMULATIONS = 16
# Of a network that takes over: what is left to learn by then needs better targets, and a larger
# network more steps to learn it.
SECOND_SIMULATIONS, SECOND_STEPS_FACTOR = 24, 1.3
# Of a network that learns alone in a long run, found with the small one: a row costs a quarter less
# in batches twice as large, and a position is learned from four times, not twice (eight hurts).
LONG_RUN_BATCH_FACTOR = 2
SMALL_GAME_PLIES = 12  # a game no longer than this, such as tic-tac-toe, needs little of everything

RATE_SECONDS = 0.3  # to see how fast a network answers here
MAX_CALIBRATION_SECONDS = 20.0  # and at most a twentieth of the budget
# Of the time that updates take as measured at the start: the rest is for evaluations, and a network
# that has learned answers fewer questions a move, so that an update then takes more searching.
PLANNED_SHARE = 0.8
CORRECTIONS = (0.4, 0.7)  # shares of the updates after which the plan is corrected, ...
MAX_CORRECTION_FACTOR = 1.5  # ... by so much at most, so that no schedule turns back by much
CORRECTED_SHARE = 0.97  # of the minutes are planned for then


def sizes_for(evaluations: float) -> tuple[str, str]:
    """The network that learns first ("" for none) and the final one.

    `evaluations` are those of the large network that there is time for, `evaluations_within`.
    """
    if evaluations >= LARGE_NETWORK_EVALUATIONS:
        return SMALL, LARGE
    return "", MEDIUM if evaluations >= MEDIUM_NETWORK_EVALUATIONS else SMALL


def choose_sizes(game: NativeGame, minutes: float | None) -> tuple[str, str]:
    """The same for a game and a time on this machine; None, for a run by counts, is long enough."""
    if game.max_plies <= SMALL_GAME_PLIES:
        return "", "tiny"
    if minutes is None:
        return sizes_for(float("inf"))
    return sizes_for(evaluations_within(game, minutes, LARGE))


def cost(size: str) -> float:
    """Time of an evaluation or a gradient step: multiplications, and what goes by width alone."""
    channels, blocks, _ = parse_size(size)
    return blocks * channels * (channels + 40.0)


def configure(
    game: NativeGame,
    *,
    name: str = "",
    size: str,
    first_size: str = "",
    simulations: int | None = None,
    proofs: bool = True,
    updates: int | None = None,
    games: int | None = None,
    minutes: float | None = None,
    long: bool = False,
) -> AlphaZeroConfig:
    """The configuration for a game and sizes of networks, with all that depends on them.

    An update of a larger network takes about as long as one of the small network: it has fewer
    evaluations and steps. `name` is what a run stores for the game, by default the game's own text.
    """
    small = game.max_plies <= SMALL_GAME_PLIES
    selfplay = SelfPlayConfig(
        num_simulations=simulations or (SECOND_SIMULATIONS if first_size else SIMULATIONS),
        opening_plies=min(game.max_plies // 2, 24),
        explore_plies=max(6, game.max_plies // 7),
    )
    if small:
        selfplay = replace(
            selfplay,
            num_trees=64,
            opening_share=0.5,
            opening_plies=game.max_plies * 2 // 3,
            explore_plies=game.max_plies,
        )
    factor = 2 if long else 1
    relative = min(1.0, cost(SMALL) / cost(size))
    steps_factor = SECOND_STEPS_FACTOR if first_size else 1.0
    config = AlphaZeroConfig(
        game=name or str(game),
        size=size,
        first_size=first_size,
        first_evaluations=factor * FIRST_EVALUATIONS,
        first_steps=factor * FIRST_STEPS,
        first_simulations=simulations or SIMULATIONS,
        updates=updates,
        games=games,
        minutes=minutes,
        evaluations=round(factor * FIRST_EVALUATIONS * relative),
        steps=max(1, round(factor * FIRST_STEPS * relative * steps_factor)),
        selfplay=selfplay,
    )
    if long and not first_size:
        learner = config.learner
        learner = replace(
            learner,
            batch_size=LONG_RUN_BATCH_FACTOR * learner.batch_size,
            learning_rate=LONG_RUN_BATCH_FACTOR**0.5 * learner.learning_rate,
        )
        config = replace(config, learner=learner)
    if not proofs:
        selfplay = replace(selfplay, proof_nodes=0)
        config = replace(config, leaf_proof_nodes=0, selfplay=selfplay)
    if small:
        config = replace(
            config,
            evaluations=2048,
            steps=8,
            replay_capacity=20_000,
            min_window=5_000,
            warmup_positions=256,
            eval_positions=150,
            eval_games=20,
            cache_size=1 << 13,
        )
    return config


def evaluations_within(game: NativeGame, minutes: float, size: str) -> float:
    """How many positions a network could answer in that time, all threads together."""
    net = new_network(game, size)
    selfplay = SelfPlayConfig()
    evaluators = [NetworkEvaluator(net) for _ in range(selfplay.num_groups)]
    rate = partial(measure_rate, batch=selfplay.num_trees, seconds=RATE_SECONDS)
    pool = ThreadPoolExecutor(len(evaluators), initializer=torch.set_num_threads, initargs=(1,))
    with pool:
        list(pool.map(rate, evaluators))  # the first calls are slow
        return 60.0 * minutes * sum(pool.map(rate, evaluators))


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
    trainer.replay.add(Examples(states.data.copy(), policy, values, np.ones(count, np.float32)))
    return trainer


class PlanCorrector:
    """A callback of the loop that corrects how many updates fit into the minutes.

    It also tells the trainer when its training is going to end, for people to see.

    Args:
        run: whose record holds the plan; must have been planned by `updates_for`.
        minutes: the budget.
        trainer: gets the corrections that an earlier process made.
        eval_every: updates between evaluations, 0 for none.
    """

    def __init__(
        self, run: RunDir, minutes: float, trainer: AlphaZeroTrainer, *, eval_every: int
    ) -> None:
        self.run, self.seconds, self.eval_every = run, minutes * 60.0 * CORRECTED_SHARE, eval_every
        self._begun: float | None = None  # elapsed time before the first update seen
        self._update_seconds: list[float] = []  # of self-play and learning alone
        trainer.plan += [(int(start), int(total)) for start, total in self._made()]
        checkpoint = run.find()
        elapsed = 0.0 if checkpoint is None else float(checkpoint.info.get("elapsed", 0.0))
        trainer.expect_end(self.seconds - elapsed)

    def _made(self) -> list[list[int]]:
        return list(self.run.record["budget"].get("corrections", []))

    def __call__(self, trainer: AlphaZeroTrainer, metrics: dict[str, float]) -> None:
        """After an update: corrects the plan where it is time to."""
        seconds = metrics["time/selfplay_s"] + metrics["time/train_s"]
        elapsed = metrics["time/elapsed"]
        if self._begun is None:
            self._begun = elapsed - seconds - sum(trainer.evaluation_seconds)
        self._update_seconds.append(seconds)
        made, (done, total) = self._made(), trainer.progress
        recent = max(4, total // 20)  # updates that tell how long one takes by now
        latest = self._update_seconds[-recent:]
        evaluations = trainer.evaluation_seconds
        # With saving, which is spread over all updates.
        overhead = (elapsed - self._begun - sum(evaluations)) / sum(self._update_seconds)
        each = sum(latest) / len(latest) * overhead
        rated = evaluations[-1] if evaluations else 0.0

        def cost(updates: int) -> float:
            return updates * each + (
                -(-updates // self.eval_every) * rated if self.eval_every else 0.0
            )

        planned = total
        if len(made) < len(CORRECTIONS):
            more = round((self.seconds - elapsed) / each)
            while more > 1 and cost(more) > self.seconds - elapsed + each / 2:
                more -= 1
            least = round(total / MAX_CORRECTION_FACTOR)
            most = round(total * MAX_CORRECTION_FACTOR)
            planned = max(done + 1, min(max(done + more, least), most))
            due = done >= CORRECTIONS[len(made)] * total and len(latest) == recent
            if due and not trainer.finished:
                record = self.run.record["budget"]
                self.run.update(budget={**record, "corrections": [*made, [done, planned]]})
                trainer.plan.append((done, planned))
        trainer.expect_end(cost(planned - done))

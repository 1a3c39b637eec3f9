"""A configuration for a game whose speed is known: sizes of updates, self-play and batches.

A run of a minute and a run of an hour, a game in C and a game in Python are to do the same things:
finish several generations of games, make updates of a few seconds, learn from each position a few
times. The counts for that follow from speeds (speed.py); they are stored with the run and nothing
asks the clock again. What these rules come to was tried on small games only. Left out: games whose
preset was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from playout.agents.alphazero.budget.speed import Speed
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.evaluation.settings import (
    EvaluationSettings,
    evaluation_cost,
    settings_within,
)
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError

GENERATIONS = 12  # of games that follow each other on a tree, at least
UPDATES, MIN_UPDATE_SECONDS, MAX_UPDATE_SECONDS = 60, 0.5, 4.0
# A position is learned from so often: more where that takes little of the time, less where it would
# take more than half.
REUSE, MAX_REUSE, CHEAP_SHARE, MAX_SHARE = 4.0, 8.0, 0.25, 0.5
MIN_BATCH, BATCHES = 32, 64  # batches are smaller where there are fewer positions than so many
MIN_STEPS = 10  # gradient steps of a run, or it is not begun
# Of a run's time, all ratings while it learns together; nobody waits for so many seconds.
RATING_SHARE, UNNOTICED_SECONDS = 0.05, 2.0


@dataclass(frozen=True, slots=True)
class _Costs:
    """Seconds of a position in self-play, and of learning from it once."""

    play: float
    learn: float

    @property
    def reuse(self) -> float:
        """How often a position is learned from."""
        cheap = CHEAP_SHARE / (1 - CHEAP_SHARE) * self.play / self.learn
        dear = MAX_SHARE / (1 - MAX_SHARE) * self.play / self.learn
        return min(max(REUSE, min(MAX_REUSE, cheap)), dear)

    @property
    def each(self) -> float:
        """Of a position, all together."""
        return self.play + self.reuse * self.learn


def fit(
    config: AlphaZeroConfig,
    speed: Speed,
    seconds: float,
    *,
    spent: float = 0.0,
    given: Set[str] = frozenset(),
) -> AlphaZeroConfig:
    """The configuration with the counts that suit the speed.

    Args:
        config: what presets and the person say.
        speed: of the game, with this configuration.
        seconds: for self-play and learning.
        spent: seconds of the run until now, which a longer one would take as well.
        given: full names of settings that the person has chosen; they stay.

    Raises:
        ConfigError: there is no time for the first games to end and be learned from.
    """
    costs = _Costs(1 / speed.moves_per_s, speed.row_seconds)
    groups = config.selfplay.num_groups
    positions = seconds / costs.each
    check_enough(config, speed, seconds, spent)
    update = min(max(seconds / UPDATES, MIN_UPDATE_SECONDS), MAX_UPDATE_SECONDS)
    # All games together move on once within an update, and end several times within the run.
    most = min(positions / (GENERATIONS * speed.length), update * speed.moves_per_s)
    trees = _trees(config, int(most / groups), given)
    batch = _batch(config, positions, given)
    per_move = speed.evaluations_per_s / speed.moves_per_s
    per_update = max(update / costs.each, groups * trees)
    if "evaluations" in given:
        per_update = config.evaluations / per_move
    sizes = _Sizes(positions, trees, batch, per_update, per_move, costs.reuse)
    return _sized(config, sizes, given)


def fit_counts(
    config: AlphaZeroConfig, *, max_plies: int, given: Set[str] = frozenset()
) -> AlphaZeroConfig:
    """The same for a run whose length is counted: no speed, so that every machine does the same.

    Args:
        config: what presets and the person say.
        max_plies: of the game; a usual one is taken to have half of them.
        given: full names of settings that the person has chosen; they stay.
    """
    length, groups = max(1.0, max_plies / 2), config.selfplay.num_groups
    positions = expected_positions(config, length)
    trees = _trees(config, int(positions / (GENERATIONS * length) / groups), given)
    batch = _batch(config, positions, given)
    per_update = config.evaluations / config.selfplay.num_simulations
    if config.games is not None and "evaluations" not in given:
        # The last update is to end few games more than were asked for.
        per_update = max(groups * trees, min(per_update, positions / UPDATES))
    per_move = config.selfplay.num_simulations
    return _sized(config, _Sizes(positions, trees, batch, per_update, per_move, REUSE), given)


class _Sizes(NamedTuple):
    """What a run comes to."""

    positions: float  # of all of it
    trees: int  # of a group
    batch: int  # rows
    per_update: float  # positions
    per_move: float  # evaluations
    reuse: float  # how often a position is learned from


def _sized(config: AlphaZeroConfig, sizes: _Sizes, given: Set[str]) -> AlphaZeroConfig:
    """The configuration with the counts that follow, but for those that the person has chosen."""
    learner, batch = config.learner, sizes.batch
    changes = {
        "selfplay.num_trees": sizes.trees,
        "learner.batch_size": batch,
        "learner.learning_rate": learner.learning_rate * math.sqrt(batch / learner.batch_size),
        "evaluations": max(1, round(sizes.per_update * sizes.per_move)),
        "steps": max(1, round(sizes.per_update * sizes.reuse / batch)),
        "warmup_positions": max(batch, min(config.warmup_positions, int(sizes.positions / 20))),
    }
    return changed(config, {name: value for name, value in changes.items() if name not in given})


def _trees(config: AlphaZeroConfig, most: int, given: Set[str]) -> int:
    """Trees of a group, of which `most` suit the run: the person's own number stays."""
    trees = config.selfplay.num_trees
    return trees if "selfplay.num_trees" in given else max(1, min(trees, most))


def _batch(config: AlphaZeroConfig, positions: float, given: Set[str]) -> int:
    """Rows of a batch in a run of so many positions: the person's own number stays."""
    rows = config.learner.batch_size
    if "learner.batch_size" in given:
        return rows
    least = max(MIN_BATCH, 2 * config.learner.num_shards)  # two for every shard of all ranks
    return min(rows, max(least, _power_of_two(positions / BATCHES)))


def num_ratings(minutes: float | None) -> int:
    """How often a run is rated: a few times in short runs, a dozen in an hour."""
    if minutes is None or minutes >= 30:
        return 12
    return min(6, max(1, round(minutes / 1.5)))


def fit_ratings(
    config: AlphaZeroConfig,
    game: NativeGame,
    speed: Speed,
    minutes: float | None,
    *,
    given: Set[str] = frozenset(),
) -> tuple[AlphaZeroConfig, int]:
    """The configuration with ratings for which there is time, and how many there are; maybe none.

    Args:
        config: of the run; what it says of ratings is the most that is done.
        game: what is learned.
        speed: of the game, with this configuration.
        minutes: of the run; None where its length is counted.
        given: full names of settings that the person has chosen; they stay.
    """
    updates = expected_updates(config, game.max_plies) if minutes is None else 0
    total = updates * speed.update_seconds(config) if minutes is None else 60 * minutes
    allowed = max(RATING_SHARE * total, UNNOTICED_SECONDS)
    most = EvaluationSettings(
        simulations=config.eval_simulations,
        games=config.eval_games,
        positions=config.eval_positions,
        max_anchor=config.eval_max_anchor,
    )
    times = num_ratings(total / 60)
    answers = speed.answers_per_s(config.selfplay.num_simulations)
    found = settings_within(
        game,
        most,
        seconds=allowed / times,
        evaluations_per_s=answers,
        plies_per_s=speed.plies_per_s,
    )
    changes = {
        "eval_simulations": found.simulations,
        "eval_games": found.games,
        "eval_positions": found.positions,
        "eval_max_anchor": found.max_anchor,
    }
    config = changed(config, {name: v for name, v in changes.items() if name not in given})
    if not given.isdisjoint({*changes, "eval_every"}):
        return config, times  # who says how or when to rate wants to
    cost = evaluation_cost(game, found).seconds(answers, speed.plies_per_s)
    return config, min(times, int(allowed / cost))


def rating_schedule(
    config: AlphaZeroConfig, preset: Mapping[str, Any], minutes: float | None, *, max_plies: int
) -> tuple[int, int]:
    """When a run is rated.

    Args:
        config: of the run, with its length in updates or games.
        preset: what its record says of the plan: so many `ratings` in so many `minutes`.
        minutes: that it has now; None where its length is counted.
        max_plies: of the game.

    Returns:
        Updates between ratings, and how many there are. The first is 0 in a run of minutes: its
        updates may become fewer or more than were planned, and the ratings are spread over them.
        Both are 0 if there are none.
    """
    times = int(preset.get("ratings", num_ratings(minutes)))
    if not times:
        return 0, 0
    if minutes is None:
        every = max(1, math.ceil(expected_updates(config, max_plies) / times))
    else:  # given other minutes when it is resumed, it is rated as often a minute as before
        every = 0
        times = max(1, round(times * minutes / (preset.get("minutes") or minutes)))
    return config.eval_every or every, times


def expected_updates(config: AlphaZeroConfig, max_plies: int) -> float:
    """How many updates a run of so many updates or games has, in games of half the longest."""
    if config.updates is not None:
        return config.updates
    positions = expected_positions(config, max(1.0, max_plies / 2))
    return max(1.0, positions * config.selfplay.num_simulations / config.evaluations)


def expected_positions(config: AlphaZeroConfig, length: float) -> float:
    """About how many positions a run of so many updates or games sees, in games of that length."""
    if config.games is not None:
        return config.games * length
    return (config.updates or 0) * config.evaluations / config.selfplay.num_simulations


def changed(config: AlphaZeroConfig, changes: dict[str, float]) -> AlphaZeroConfig:
    """The configuration with some settings changed, by full name."""
    groups: dict[str, dict[str, float]] = {"": {}, "selfplay": {}, "learner": {}}
    for name, value in changes.items():
        group, _, key = name.rpartition(".")
        groups[group][key] = value
    return replace(
        config,
        **groups[""],  # type: ignore[arg-type]
        selfplay=replace(config.selfplay, **groups["selfplay"]),  # type: ignore[arg-type]
        learner=replace(config.learner, **groups["learner"]),  # type: ignore[arg-type]
    )


def check_enough(config: AlphaZeroConfig, speed: Speed, seconds: float, spent: float = 0.0) -> None:
    """Says before a run begins that it would not learn.

    Args:
        config: of the run, with the fewest trees that it can have.
        speed: of its game.
        seconds: for self-play and learning.
        spent: of the run until now: starting and measuring.

    Raises:
        ConfigError: fewer than the positions of a few gradient steps, or no game would end.
    """
    costs = _Costs(1 / speed.moves_per_s, speed.row_seconds)
    least = max(
        2 * config.selfplay.num_groups * speed.length,  # two generations of one game a group
        MIN_STEPS * MIN_BATCH / costs.reuse,
    )
    needed = least * costs.each
    if seconds < needed:
        # Of all minutes 0.77 at least are for this (`time_to_learn`), less what was spent.
        wanted = 1.4 * (needed + spent)
        raise ConfigError(
            f"too little time to learn {config.game}: it plays {speed.moves_per_s:.3g} moves a "
            f"second here, the first few gradient steps need {_minutes(needed)}, and starting and "
            f"measuring took {_minutes(spent)}; give --minutes "
            f"{math.ceil(10 * wanted / 60) / 10:g} or more, or fewer --simulations"
        )


def too_short(config: AlphaZeroConfig, max_plies: int) -> str:
    """What to say of a run of so many updates or games that would not learn; "" if it would.

    A position is learned from when its game is over: half of the longest game is taken for a usual
    one, as everywhere here.
    """
    length, selfplay = max(1.0, max_plies / 2), config.selfplay
    positions = expected_positions(config, length)
    if config.games is None:  # games in play at the end are not learned from
        positions -= selfplay.num_groups * selfplay.num_trees * length / 2
    wanted = max(config.warmup_positions, 1)
    if positions >= wanted:
        return ""
    unit = "--updates" if config.games is None else "--games"
    return (
        f"{unit} {config.updates or config.games} ends games of about {max(0, round(positions)):,} "
        f"positions, and the first gradient step waits for {wanted:,}: give more, or a smaller "
        "--warmup-positions"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.2g} minutes"


def _power_of_two(value: float) -> int:
    """The largest power of two that is not larger."""
    return 1 << max(0, int(value).bit_length() - 1)

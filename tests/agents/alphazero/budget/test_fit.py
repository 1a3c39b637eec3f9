"""Counts that follow from a game's speed: what they come to, for slow and fast games alike."""

from dataclasses import replace

import playout
import pytest
from playout.agents.alphazero.budget.fit import (
    RATING_SHARE,
    UNNOTICED_SECONDS,
    fit,
    fit_counts,
    fit_ratings,
    rating_schedule,
    too_short,
)
from playout.agents.alphazero.budget.machine import Machine
from playout.agents.alphazero.budget.minutes import time_to_learn
from playout.agents.alphazero.budget.presets import configure, preset_for
from playout.agents.alphazero.budget.speed import Speed, measure_rules
from playout.agents.alphazero.evaluation.settings import EvaluationSettings, evaluation_cost
from playout.agents.alphazero.settings import full_names, with_settings
from playout.agents.runs.config import read_presets
from playout.errors import ConfigError

TABLES = {name: t for name, t in read_presets("alphazero").items() if name in ("default", "short")}
GAME = playout.game("connect_four")
# Othello 6x6 in Python, and a game in C: moves and answers a second, seconds a row of a batch.
SLOW = Speed(plies_per_s=2e3, length=32, moves_per_s=100, evaluations_per_s=1600, row_seconds=1e-4)
FAST = Speed(plies_per_s=1e6, length=32, moves_per_s=4e3, evaluations_per_s=5e4, row_seconds=1e-4)


def guessed(**options):
    _, preset = preset_for(GAME, TABLES)
    return configure(GAME, preset=preset, machine=Machine(2), size="small", **options)


@pytest.mark.parametrize("speed", [SLOW, FAST])
@pytest.mark.parametrize("seconds", [25, 50, 550, 3300])
def test_a_run_ends_games_early_and_learns_in_updates_of_seconds(speed, seconds):
    config = fit(guessed(minutes=1.0), speed, seconds)
    update = speed.update_seconds(config)
    assert 0.2 < update < 6
    games_at_once = config.selfplay.num_groups * config.selfplay.num_trees
    assert games_at_once * speed.length / speed.moves_per_s < 0.2 * seconds, "first games end late"
    updates = seconds / update
    assert updates > 20
    assert updates * config.steps > 100, "too few gradient steps"
    learning = config.steps * config.learner.batch_size * speed.row_seconds
    assert learning < 0.6 * update
    positions = updates * config.evaluations * speed.moves_per_s / speed.evaluations_per_s
    assert config.warmup_positions < 0.1 * positions
    reuse = updates * config.steps * config.learner.batch_size / positions
    assert 0.5 < reuse < 10


def test_a_run_of_too_few_updates_or_games_for_a_gradient_step_is_told_so():
    few = configure(GAME, size="small", updates=1)
    assert "--updates 1 ends" in too_short(few, GAME.max_plies)
    assert f"waits for {few.warmup_positions:,}" in too_short(few, GAME.max_plies)
    assert not too_short(configure(GAME, size="small", updates=20), GAME.max_plies)
    assert "--games 9 ends" in too_short(configure(GAME, size="small", games=9), GAME.max_plies)
    assert not too_short(configure(GAME, size="small", games=900), GAME.max_plies)


def test_an_update_moves_on_every_game_at_least_once():
    config = fit(guessed(minutes=1.0), SLOW, 50)
    games_at_once = config.selfplay.num_groups * config.selfplay.num_trees
    assert config.evaluations >= games_at_once * config.selfplay.num_simulations


def test_too_little_time_for_a_gradient_step_is_said_with_the_minutes_that_are_needed():
    very_slow = Speed(
        plies_per_s=20, length=32, moves_per_s=1, evaluations_per_s=16, row_seconds=1e-4
    )
    with pytest.raises(ConfigError, match=r"too little time.*--minutes ([0-9.]+) or more") as found:
        fit(guessed(minutes=1.0), very_slow, 50)
    assert "\n" not in str(found.value)
    needed = float(str(found.value).rpartition("--minutes ")[2].split()[0])
    assert 1 < needed < 60
    fit(guessed(minutes=needed), very_slow, 0.85 * 60 * needed)


@pytest.mark.parametrize("rating", [False, True])
def test_the_minutes_that_are_needed_are_more_than_those_given(rating):
    left = time_to_learn(1.0, spent := 57.0, rating=rating)
    with pytest.raises(ConfigError, match=r"starting and measuring took 0\.95 min.*") as found:
        fit(guessed(minutes=1.0), SLOW, left, spent=spent)
    needed = float(str(found.value).rpartition("--minutes ")[2].split()[0])
    assert 1 < needed < 2
    fit(guessed(minutes=needed), SLOW, time_to_learn(needed, spent, rating=rating), spent=spent)


def test_what_the_person_has_chosen_stays():
    given = {"selfplay.num_trees", "learner.batch_size", "steps"}
    config = fit(guessed(minutes=1.0), SLOW, 50, given=given)
    assert (config.selfplay.num_trees, config.learner.batch_size, config.steps) == (128, 256, 16)


@pytest.mark.parametrize("counted", [False, True])
def test_all_else_is_fitted_to_what_the_person_has_chosen(counted):
    def fitted(**settings):
        config, given = with_settings(guessed(**length), settings), set(full_names(settings))
        if counted:
            return fit_counts(config, max_plies=42, given=given)
        return fit(config, SLOW, 90, given=given)

    def reuse(config):
        positions = config.evaluations / config.selfplay.num_simulations
        return config.steps * config.learner.batch_size / positions

    length = {"games": 300} if counted else {"minutes": 2.0}
    usual, rate = fitted(), guessed(**length).learner.learning_rate
    assert usual.learner.batch_size < 256 and usual.learner.learning_rate < rate
    large = fitted(batch_size=512)
    assert (large.learner.batch_size, large.learner.learning_rate) == (512, rate)
    assert large.warmup_positions >= 512
    assert large.steps == max(1, round(usual.steps * usual.learner.batch_size / 512))
    many = fitted(num_trees=512)
    at_once = 512 * many.selfplay.num_groups
    assert many.evaluations >= at_once * many.selfplay.num_simulations
    for one in (many, fitted(evaluations=50_000)):
        assert reuse(one) == pytest.approx(reuse(usual), rel=0.1)


def test_a_run_by_counts_asks_no_clock_and_fits_its_length():
    few = fit_counts(guessed(updates=2), max_plies=42)
    many = fit_counts(guessed(updates=2000), max_plies=42)
    assert few.selfplay.num_trees < many.selfplay.num_trees == 128
    assert few.warmup_positions <= 64 and few.learner.batch_size < many.learner.batch_size
    games = fit_counts(guessed(games=300), max_plies=42)
    assert games.selfplay.num_groups * games.selfplay.num_trees <= 30


def test_the_speed_of_rules_is_measured_within_the_time_given():
    found = measure_rules(GAME, seconds=0.2)
    assert found.plies_per_s > 1000
    assert 7 <= found.length <= 42


@pytest.mark.parametrize("minutes", [0.5, 2.0, 60.0])
def test_ratings_take_their_share_of_the_time_or_are_left_out(minutes):
    game = playout.game("tic_tac_toe")
    for speed in (SLOW, FAST):
        config, times = fit_ratings(guessed(minutes=minutes), game, speed, minutes)
        settings = EvaluationSettings(
            simulations=config.eval_simulations,
            games=config.eval_games,
            positions=config.eval_positions,
            max_anchor=config.eval_max_anchor,
        )
        cost = evaluation_cost(game, settings)
        taken = times * cost.seconds(speed.evaluations_per_s, speed.plies_per_s)
        assert taken <= max(RATING_SHARE * 60 * minutes, UNNOTICED_SECONDS)
    assert times > 0


def test_ratings_that_the_person_has_set_are_made():
    very_slow = Speed(
        plies_per_s=20, length=32, moves_per_s=1, evaluations_per_s=16, row_seconds=1e-4
    )
    assert fit_ratings(guessed(updates=2), GAME, very_slow, None)[1] == 0
    config, times = fit_ratings(
        guessed(updates=2), GAME, very_slow, None, given=frozenset({"eval_games"})
    )
    assert times >= 1 and config.eval_games == 24
    chosen = replace(guessed(updates=2), eval_every=1)
    assert fit_ratings(chosen, GAME, very_slow, None, given=frozenset({"eval_every"}))[1] >= 1
    assert fit_ratings(chosen, GAME, very_slow, None, given=frozenset())[1] == 0


def test_a_game_whose_questions_caches_answer_is_rated_like_others():
    # Three players and three moves: 200 questions a second in self-play, 4,000 if none were known.
    cached = Speed(
        plies_per_s=1.4e5, length=11, moves_per_s=1.3e4, evaluations_per_s=200, row_seconds=2.5e-4
    )
    assert cached.answers_per_s(16) == pytest.approx(4000)
    assert FAST.answers_per_s(16) == FAST.evaluations_per_s  # the network is seen at its own speed
    _, times = fit_ratings(fit(guessed(minutes=2.0), cached, 90), GAME, cached, 2.0)
    assert times == 1


def test_ratings_are_counted_in_minutes_and_else_made_at_an_interval():
    preset, plies = {"ratings": 4, "minutes": 6.0}, GAME.max_plies
    config = guessed(updates=100)
    assert rating_schedule(config, preset, None, max_plies=plies) == (25, 4)
    assert rating_schedule(config, preset, 6.0, max_plies=plies) == (0, 4)
    assert rating_schedule(config, preset, 12.0, max_plies=plies) == (0, 8)  # as often a minute
    own = with_settings(config, {"eval_every": 7})
    assert rating_schedule(own, preset, 6.0, max_plies=plies) == (7, 4)
    assert rating_schedule(own, {"ratings": 0}, 6.0, max_plies=plies) == (0, 0)

"""Evaluations in training: ratings without a solver, the choice of the best, resuming, stopping."""

import itertools
from dataclasses import replace

import numpy as np
import playout
import pytest
import torch
from playout.agents.alphazero.evaluation.in_training import BEST_METRIC, Evaluation
from playout.agents.alphazero.evaluation.settings import (
    EvaluationSettings,
    evaluation_cost,
    settings_within,
    shrunk,
)
from playout.agents.alphazero.evaluation.solved import choosing_positions
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.networks.boards.registry import new_network
from playout.agents.rating.openings import half_of, random_openings
from playout.agents.rating.positions import load_scored_positions
from playout.envs.core.state_batch import StateBatch
from playout.errors import StoppedError
from playout.mcts.exact.positions import canonical_hashes
from rating_games import Climb, Nim, Stairs, Thirds

SMALL = EvaluationSettings(simulations=4, games=12, positions=20, max_anchor=20)


def measured(evaluation, seed, **options):
    net = new_network(evaluation.game, "8x1", seed=seed)
    evaluator = NetworkEvaluator(net, device=torch.device("cpu"), dtype="float32")
    return evaluation.measure(evaluator, net, update=10 * seed, games=100 * seed, **options)


@pytest.mark.slow
@pytest.mark.parametrize("rules", [Nim, Thirds])
def test_networks_climb_a_ladder_of_earlier_ones_without_a_solver(rules):
    evaluation = Evaluation(playout.game(rules()), SMALL, seed=1)
    first, second, third = (measured(evaluation, seed) for seed in (1, 2, 3))
    assert "eval/score_random" in first and "eval/score_previous" not in first
    for found in (first, second, third):
        assert found["eval/rating_low"] < found["eval/rating"] < found["eval/rating_high"]
    assert 0 <= third["eval/score_previous"] <= 1
    ladder = evaluation.ladder
    assert [one.name for one in ladder.snapshots] == ["network 1", "network 2", "network 3"]
    ratings = ladder.fit()
    assert third["eval/rating"] == ratings["network 3"].elo
    assert ratings["random"].elo == 0 and {"uct:4", "network 1"} <= set(ratings.names)
    choices = [found[BEST_METRIC] for found in (first, second, third)]
    assert ladder.best == f"network {1 + int(np.argmax(choices))}"


@pytest.mark.parametrize("rules", [Stairs, Climb])
def test_one_player_is_rated_by_its_returns_on_fixed_openings_and_dice(rules):
    evaluation = Evaluation(playout.game(rules()), SMALL, seed=1)
    first, again, other = (measured(evaluation, seed) for seed in (1, 1, 2))
    assert first["eval/rating"] == again["eval/rating"] != other["eval/rating"]
    assert first["eval/rating_low"] < first["eval/rating"] < first["eval/rating_high"]
    assert first["eval/return_uct4"] > first["eval/return_random"]
    better = other["eval/rating"] > first["eval/rating"]
    assert (other[BEST_METRIC] > again[BEST_METRIC]) == better
    assert evaluation.headline() == {"return": f"{other['eval/rating']:.3g}"}


@pytest.mark.slow
def test_a_better_network_is_chosen_and_a_worse_one_is_not():
    game = playout.game("tic_tac_toe")
    strong, weak = EvaluationSettings(simulations=64, games=32, max_anchor=20), SMALL
    evaluation = Evaluation(game, weak, seed=1)
    first = measured(evaluation, 1)
    evaluation.settings = strong
    second = measured(evaluation, 2)
    evaluation.settings = replace(strong, simulations=1)
    third = measured(evaluation, 3)
    assert second[BEST_METRIC] > first[BEST_METRIC]
    assert third[BEST_METRIC] < second[BEST_METRIC]
    assert evaluation.ladder.best == "network 2"


def test_a_network_that_loses_all_that_was_won_is_not_the_best(monkeypatch):
    evaluation = Evaluation(playout.game(Stairs()), SMALL, seed=1)
    returns = iter([np.ones(12), np.zeros(12), np.ones(12)])
    monkeypatch.setattr(evaluation, "_play_alone", lambda *given: next(returns))
    solved, failed, again = (measured(evaluation, seed)[BEST_METRIC] for seed in (1, 2, 3))
    assert failed < solved < again


@pytest.mark.slow
@pytest.mark.parametrize("rules", [Nim, Stairs])
def test_a_resumed_ladder_goes_on_as_one_that_was_never_stopped(rules):
    game = playout.game(rules())
    straight, resumed = Evaluation(game, SMALL, seed=1), Evaluation(game, SMALL, seed=1)
    for seed in (1, 2):
        measured(straight, seed)
    resumed.load_state_dict(straight.state_dict())
    assert [measured(straight, seed) for seed in (3, 4)] == [measured(resumed, s) for s in (3, 4)]


@pytest.mark.parametrize("after", [0, 3])
def test_a_stopped_evaluation_is_as_if_it_had_never_begun(after):
    evaluation = Evaluation(playout.game(Nim()), SMALL, seed=1)
    other = Evaluation(playout.game(Nim()), SMALL, seed=1)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > after

    with pytest.raises(StoppedError):
        measured(evaluation, 1, stop=stop)
    assert measured(evaluation, 1) == measured(other, 1)


def test_the_best_is_chosen_by_other_positions_than_the_run_is_rated_on():
    for name in ("connect_four", "tic_tac_toe"):
        game = playout.game(name)
        choosing = choosing_positions(game, 400)
        assert len(choosing) == (400 if name == "connect_four" else 20)
        rated = set(canonical_hashes(load_scored_positions(game).states))
        assert not rated & set(canonical_hashes(choosing.states))


@pytest.mark.parametrize("game", ["connect_four", Nim()])
def test_the_best_is_chosen_by_other_openings_than_the_run_is_rated_on(game):
    game, found = playout.game(game), {}
    for part in ("choosing", "rating"):
        openings = random_openings(game, 30, plies=4, seed=1, part=part)
        states = StateBatch.from_states([game.from_moves(moves) for moves in openings])
        assert (half_of(states) == (part == "rating")).all()
        found[part] = set(canonical_hashes(states))
    assert len(found["rating"]) > 1 and not found["rating"] & found["choosing"]


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        ((20.0, 320.0), {"rating": "+150 Elo (+20 .. +320)"}),
        ((-2000.0, 900.0), {}),
        ((), {}),  # of an earlier version, which kept no interval
    ],
)
def test_a_rating_is_shown_with_its_interval_once_that_is_narrow(ends, shown):
    evaluation = Evaluation(playout.game("tic_tac_toe"), EvaluationSettings())
    latest = {"eval/rating": 150.0}
    latest |= dict(zip(("eval/rating_low", "eval/rating_high"), ends, strict=False))
    state = {**evaluation.state_dict(), "latest": latest}
    evaluation.load_state_dict(state)
    assert evaluation.headline() == shown


def test_settings_shrink_until_they_fit_and_no_further():
    game = playout.game("connect_four")
    full = EvaluationSettings()
    costs = [evaluation_cost(game, one, length=30) for one in shrunk(full)]
    for before, after in itertools.pairwise(costs):
        assert after.evaluations <= before.evaluations and after.plies <= before.plies
    assert 20 * costs[-1].evaluations < costs[0].evaluations
    speeds = {"evaluations_per_s": 1e4, "plies_per_s": 1e6}
    assert settings_within(game, full, seconds=1e9, **speeds) == full
    small = settings_within(game, full, seconds=5.0, **speeds)
    assert evaluation_cost(game, small).seconds(*speeds.values()) <= 5.0
    least = settings_within(game, full, seconds=0.0, **speeds)
    assert least.games == 8 and least.simulations == 8 and least.max_anchor >= 4


def test_an_evaluation_costs_no_more_than_it_says():
    game = playout.game(Nim())
    evaluation = Evaluation(game, SMALL, seed=1)
    net = new_network(game, "8x1", seed=1)
    evaluator = NetworkEvaluator(net, device=torch.device("cpu"), dtype="float32")
    evaluation.measure(evaluator, net)
    before = evaluator.num_evaluations
    evaluation.measure(evaluator, net)
    cost = evaluation_cost(game, SMALL)
    assert 0 < evaluator.num_evaluations - before <= 1.5 * cost.evaluations

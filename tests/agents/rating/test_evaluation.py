"""What eval says of a player: shares on solved positions, points and ratings with intervals."""

import shutil

import playout
import pytest
from playout.agents.players.load import make_player
from playout.agents.players.search import SearchPlayer
from playout.agents.rating import evaluation
from playout.agents.rating.evaluation import PROBED, evaluate_player, judge_positions, score_of
from playout.agents.rating.games import MatchResult, PlayedGame
from playout.agents.rating.intervals import share_interval
from playout.agents.runs.kinds import EvalOptions
from playout.errors import ConfigError
from playout.mcts.evaluators import RolloutEvaluator
from playout.mcts.search import SearchConfig
from rating_games import Climb, Thirds


def match_of(*results):
    """A match in which `me` moved first with these results."""
    games = [PlayedGame(("me", "it"), (), n, (one, -one)) for n, one in enumerate(results)]
    return MatchResult("me", "it", games)


def test_eval_reports_shares_games_and_ratings(capsys):
    game = playout.game("tic_tac_toe")
    config = SearchConfig(num_simulations=16, gumbel_scale=0.0)
    player = SearchPlayer(game, config, RolloutEvaluator(num_rollouts=2), name="me")
    report = evaluate_player(player, EvalOptions(episodes=8, opponents=("random", "greedy")))
    text = capsys.readouterr().out
    assert "keeps the outcome" in text and "greedy = 0 Elo" in text
    assert [one["by"] for one in report["positions"]] == ["policy", "search of 16"]
    for one in report["positions"]:
        low, high = one["value_preserving_interval"]
        assert 0 <= one["optimal"] <= one["value_preserving"] <= 1 and low < high
    assert report["positions"][1]["value_preserving"] > report["positions"][0]["value_preserving"]
    assert [one["opponent"] for one in report["matches"]] == ["random", "greedy"]
    assert {one["player"] for one in report["ratings"]} == {"me", "random", "greedy"}
    with pytest.raises(ConfigError, match="twice"):
        evaluate_player(player, EvalOptions(episodes=2, opponents=("random", "random")))
    with pytest.raises(ConfigError, match="episodes"):
        evaluate_player(player, EvalOptions(episodes=0))


@pytest.mark.slow
def test_two_runs_of_one_name_are_two_opponents(untrained_run, tmp_path, monkeypatch):
    specs = []
    for room in ("a", "b"):
        shutil.copytree(untrained_run, tmp_path / room / "demo")
        specs.append(f"{tmp_path / room / 'demo'}:0")
    player = SearchPlayer(
        playout.game("connect_four"), SearchConfig(num_simulations=2), RolloutEvaluator(), name="me"
    )
    monkeypatch.setattr(evaluation, "judge_positions", lambda player: [])
    report = evaluate_player(player, EvalOptions(episodes=2, opponents=tuple(specs)))
    assert [one["opponent"] for one in report["matches"]] == specs
    player.name = "random"  # a run may be called so
    report = evaluate_player(player, EvalOptions(episodes=2, opponents=("random",)))
    assert {one["player"] for one in report["ratings"]} == {"random", "./random"}


def test_an_opponent_that_is_listed_twice_is_refused_at_once(monkeypatch):
    def judged(player):
        raise AssertionError("it was judged first")

    game = playout.game("tic_tac_toe")
    player = SearchPlayer(game, SearchConfig(num_simulations=2), RolloutEvaluator(), name="me")
    monkeypatch.setattr(evaluation, "judge_positions", judged)
    with pytest.raises(ConfigError, match="'uct:2' is listed twice"):
        evaluate_player(player, EvalOptions(episodes=2, opponents=("uct:2", "random", "uct:2")))


def test_opponents_compute_where_and_how_the_options_say(monkeypatch):
    made = []

    def make(spec, game, *, seed, machine):
        made.append((machine.device, machine.dtype, machine.threads))
        return make_player(spec, game, seed=seed, machine=machine)

    monkeypatch.setattr(evaluation, "make_player", make)
    game = playout.game("tic_tac_toe")
    player = SearchPlayer(game, SearchConfig(num_simulations=2), RolloutEvaluator(), name="me")
    machine = {"device": "cpu", "dtype": "float32", "threads": 2}
    evaluate_player(player, EvalOptions(episodes=2, opponents=("random", "uct:2"), **machine))
    assert made == [("cpu", "float32", 2)] * 2


@pytest.mark.parametrize("rules", [Thirds, Climb])
def test_games_of_one_and_of_three_players_are_evaluated_by_quick_opponents(rules):
    game = playout.game(rules())
    config = SearchConfig(num_simulations=4, gumbel_scale=0.0)
    player = SearchPlayer(game, config, RolloutEvaluator(), name="me")
    report = evaluate_player(player, EvalOptions(episodes=3))
    assert [one["opponent"] for one in report["matches"]] == ["random", "uct:20", "uct:100"]
    assert {one["player"] for one in report["ratings"]} == {"me", "random", "uct:20", "uct:100"}
    # Two of three players meet once at a table.
    for one in report["matches"]:
        assert one["games"] == one["wins"] + one["draws"] + one["losses"]


def test_meetings_at_one_table_are_not_as_many_games():
    games = [
        PlayedGame(("me", "it", "me"), (), n, (1.0, 0.0, -1.0) if n % 2 else (-1.0, 0.0, 1.0))
        for n in range(30)
    ]
    found = score_of(MatchResult("me", "it", games), "me")
    assert (found["games"], found["wins"], found["losses"]) == (30, 30, 30)
    assert found["score_interval"] == pytest.approx(share_interval(20, 40))


def test_who_is_as_good_as_the_anchor_has_zero_and_not_less(capsys, monkeypatch):
    monkeypatch.setattr(evaluation, "judge_positions", lambda player: [])
    met = {"matches": [], "anchor": "it"}
    equals = {"player": "me", "elo": -0.2, "low": -820.4, "high": 819.6}
    monkeypatch.setattr(evaluation, "meet", lambda *args, **kw: {**met, "ratings": [equals]})
    player = SearchPlayer(
        playout.game("tic_tac_toe"), SearchConfig(num_simulations=2), RolloutEvaluator(), name="me"
    )
    evaluate_player(player, EvalOptions(episodes=2, opponents=("random",)))
    text = capsys.readouterr().out
    assert "-820 .. 820" in text and "-0" not in text


def test_games_too_large_to_solve_have_no_positions():
    game = playout.game("connect_four", width=8, height=7, run=5)
    player = SearchPlayer(game, None, RolloutEvaluator(), name="me")
    assert judge_positions(player) == []


def test_a_score_counts_draws_half_and_its_interval_counts_every_game_once():
    found = score_of(match_of(*[1] * 100), "me")
    assert found["score"] == 1 and found["games"] == 100
    assert found["score_interval"] == pytest.approx([0.9630, 1.0], abs=1e-4)
    found = score_of(match_of(*[1] * 40, *[0] * 20, *[-1] * 40), "it")
    assert found["opponent"] == "me" and found["score"] == 0.5
    assert found["score_interval"] == pytest.approx([0.4038, 0.5962], abs=1e-4)


def test_where_time_is_short_fewer_positions_are_looked_at():
    game = playout.game("tic_tac_toe")
    config = SearchConfig(num_simulations=4, gumbel_scale=0.0)
    player = SearchPlayer(game, config, RolloutEvaluator(), name="me")
    whole, hurried = judge_positions(player), judge_positions(player, seconds=0.0)
    assert [one["by"] for one in hurried] == [one["by"] for one in whole]
    assert all(PROBED <= one["positions"] <= 150 for one in hurried)
    patient = judge_positions(player, seconds=1e6)
    assert [one["positions"] for one in patient] == [one["positions"] for one in whole]


def test_connect_fours_positions_are_a_hundred_at_least():
    game = playout.game("connect_four")
    player = SearchPlayer(game, SearchConfig(num_simulations=2), RolloutEvaluator(), name="me")
    hurried = judge_positions(player, seconds=0.0)
    assert all(PROBED <= one["positions"] < 200 for one in hurried)

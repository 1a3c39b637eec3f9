"""`playout match`: the round robin, its files, the sequential test, and what bad input gets."""

import json
import os
import signal
import subprocess
import sys
import time

import playout
import pytest
from playout.agents.alphazero.player import AlphaZeroPlayer
from playout.agents.players.simple import RandomPlayer
from playout.agents.rating.intervals import format_share, share_interval
from playout.agents.rating.report import print_summary
from playout.agents.runs.signals import Interrupted
from playout.cli import main
from playout.envs.records.json_lines import load
from playout.errors import ConfigError


def run(capsys, *arguments):
    code = main(["match", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_a_round_robin_is_rated_recorded_and_repeatable(capsys, tmp_path):
    out, games = tmp_path / "m.json", tmp_path / "games.jsonl"
    arguments = ["random", "greedy", "uct:50", "--games", "20", "--seed", "3", "--json", out]
    code, text, error = run(capsys, *arguments, "--records", games)
    assert code == 0 and error.startswith("3 pairings of 20 games, each opening of 4 random plies")
    report = json.loads(out.read_text())
    assert report["game"] == "connect_four(width=7, height=6, run=4)"
    names = [player["player"] for player in report["players"]]
    assert sorted(names) == ["greedy", "random", "uct:50"] and names[-1] == "random"
    elos = [player["elo"] for player in report["players"]]
    assert elos == sorted(elos, reverse=True) and elos[-1] == 0
    for player in report["players"]:
        assert player["wins"] + player["draws"] + player["losses"] == player["games"] == 40
        assert player["low"] <= player["elo"] <= player["high"]
        assert player["player"] in text
        points = (player["wins"] + player["draws"] / 2, 40)
        interval = share_interval(*points)
        assert player["score_interval"] == pytest.approx(interval, abs=1e-5)
        assert format_share(points[0] / 40, interval) in text
    assert [sum(pairing["pairs"]) for pairing in report["pairings"]] == [10, 10, 10]
    assert "Moving first is worth" in text
    records = load(games)
    assert len(records) == 60
    seats = {record.players for record in records[:20]}
    assert seats == {("random", "greedy"), ("greedy", "random")}
    first = out.read_bytes()
    assert run(capsys, *arguments)[0] == 0
    assert out.read_bytes() == first


def test_two_players_can_be_tested_one_after_the_other(capsys, tmp_path):
    out = tmp_path / "m.json"
    arguments = ["greedy", "random", "--games", "400", "--sprt", "0,100", "--json", out]
    code, text, _ = run(capsys, *arguments)
    assert code == 0 and "greedy is stronger, by 100 Elo" in text
    pairing = json.loads(out.read_text())["pairings"][0]
    assert pairing["sprt"]["decision"] == "H1" and pairing["wins"] < 200
    _, text, _ = run(capsys, "random", "greedy", "--games", "400", "--sprt", "0,100")
    assert "random is stronger by 0 Elo at most" in text
    _, text, _ = run(capsys, "uct:20", "uct:21", "--games", "10", "--sprt", "0,2")
    assert "not decided yet" in text


def test_repeated_games_are_pointed_out(capsys):
    arguments = ["--games", "150", "--openings", "3", "--game", "tic_tac_toe"]
    code, text, _ = run(capsys, "perfect", "alphabeta:9", *arguments)
    assert code == 0 and "tic_tac_toe" in text and "differ: use longer --openings" in text


def test_runs_play_the_game_they_learned(capsys, untrained_run):
    spec = f"{untrained_run}:4"
    code, text, _ = run(capsys, spec, "random", "--games", "4", "--anchor", "random")
    assert code == 0
    assert "connect_four(width=7, height=6, run=4), random = 0 Elo" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["random"], "at least two players"),
        (["random", "random"], "listed twice"),
        (["random", "human"], "playout play"),
        (["random", "gredy"], "did you mean greedy"),
        (["random", "greedy", "--games", "0"], "--games"),
        (["random", "greedy", "--anchor", "uct:5"], "anchor"),
        (["random", "greedy", "uct:5", "--sprt", "0,10"], "two players"),
        (["random", "greedy", "--sprt", "10,0"], "elo0 < elo1"),
        (["random", "greedy", "--sprt", "x"], "elo0,elo1"),
        (["random", "greedy", "--game", "draughts"], "no game is named 'draughts'; known are back"),
        (["random", "greedy", "--game", "conect_four"], "did you mean connect_four?"),
        (["random", "greedy", "--openings", "50"], "plies"),
        (["random", "greedy", "--json", "/none/m.json"], "does not exist"),
        (["random", "greedy", "--records", "/"], "a folder"),
        (["random", "greedy", "--seed", "-1"], "--seed"),
    ],
)
def test_matches_that_cannot_be_get_one_line(capsys, arguments, message):
    code, text, error = run(capsys, *arguments)
    assert code == 2 and text == "" and message in error
    assert error.startswith("error: ") and error.count("\n") == 1


def test_an_opening_of_one_ply_is_called_so_and_no_rating_is_less_than_nothing(capsys, monkeypatch):
    usual = ["greedy", "random", "--game", "tic_tac_toe", "--games", "2"]
    _, _, error = run(capsys, *usual, "--openings", "1")
    assert "each opening of 1 random ply twice" in error
    found = {"player": "a", "elo": -0.4, "low": -0.4, "high": 0.4, "games": 2}
    found |= {"score": 0.5, "score_interval": (0.1, 0.9), "wins": 1, "draws": 0, "losses": 1}
    report = {
        "game": "g",
        "anchor": "a",
        "players": [found],
        "pairings": [],
        "first_move_elo": [0, 0, 0],
    }
    print_summary(report | {"seed": 0, "openings": 0}, 2)
    shown = capsys.readouterr().out
    assert "a = 0 Elo" in shown and "0 .. 0 " in shown and "-0" not in shown


@pytest.mark.parametrize(
    ("players", "message"),
    [("random", "players are a list"), (["random", 7], "a player is a name, a run or an object")],
)
def test_what_is_no_player_in_python_is_said_in_a_line(players, message):
    with pytest.raises(ConfigError, match=message):
        playout.match(players, game="tic_tac_toe", games=2)


def test_records_with_a_torn_end_are_not_appended_to(capsys, tmp_path):
    games = tmp_path / "games.jsonl"
    games.write_text('{"game": "conn')
    code, _, error = run(capsys, "random", "greedy", "--games", "2", "--records", games)
    assert code == 2 and "cut off" in error and games.read_text() == '{"game": "conn'


def test_a_read_only_folder_is_noticed_before_playing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    code, text, error = run(capsys, "random", "greedy", "--json", tmp_path / "m.json")
    assert code == 2 and "permission denied" in error and text == "" and "games" not in error


@pytest.mark.slow
def test_perfect_play_begins_where_it_need_not_think_for_minutes(capsys):
    arguments = ["perfect", "greedy", "--games", "2", "--seed", "3", "--json", "-"]
    code, text, error = run(capsys, *arguments)
    assert code == 0 and json.loads(text)["openings"] == 8 and "8 random plies" in error


@pytest.mark.parametrize("rules", ["Thirds", "Climb"])
def test_games_of_one_and_of_three_players_are_matched(capsys, tmp_path, rules):
    out = tmp_path / "m.json"
    arguments = ["--game", f"rating_games:{rules}", "--trust", "rating_games", "--json", out]
    code, text, error = run(capsys, "random", "uct:20", "--games", "6", *arguments)
    assert code == 0 and error.startswith("12 games, each opening")
    assert "by a first look" in error and "uct:20" in text
    report = json.loads(out.read_text())
    assert {one["player"] for one in report["players"]} == {"random", "uct:20"}
    (pairing,) = report["pairings"]
    assert pairing["pairs"] == []
    # Two who share three seats meet twice a game, which makes no two games alike.
    assert pairing["games"] == {"Thirds": 12, "Climb": 6}[rules]
    weight = {"Thirds": 2 / 3, "Climb": 1}[rules]  # two meetings at one table are no two games
    for one in report["players"]:
        points, met = one["wins"] + one["draws"] / 2, one["wins"] + one["draws"] + one["losses"]
        assert one["games"] == pairing["games"] and met == {"Thirds": 24, "Climb": 6}[rules]
        interval = share_interval(weight * points, weight * met)
        assert one["score_interval"] == pytest.approx(interval, abs=1e-5)
    assert ("differ: use longer" in text) == (pairing["distinct_games"] < pairing["games"])


@pytest.mark.slow
@pytest.mark.parametrize("game", ["game_2048(size=2)", "backgammon"])
def test_where_results_are_counted_their_means_are_shown(capsys, tmp_path, game):
    out, games = tmp_path / "m.json", tmp_path / "games.jsonl"
    arguments = ["random", "uct:20", "greedy", "--game", game, "--games", 4, "--openings", 2]
    code, text, _ = run(capsys, *arguments, "--json", out, "--records", games)
    assert code == 0 and "mean result (95 %)" in text
    assert ("Elo and shares count games won" in text) == (game == "backgammon")
    records = load(games)
    for one in json.loads(out.read_text())["players"]:
        results = [
            record.result[seat]
            for record in records
            for seat, name in enumerate(record.players)
            if name == one["player"]
        ]
        assert one["mean_return"] == pytest.approx(sum(results) / len(results))
        low, high = one["mean_return_interval"]
        assert low <= one["mean_return"] <= high
    assert "mean result" not in run(capsys, "random", "greedy", "--games", 2)[1]


class Stopping(RandomPlayer):
    """Ends the match as a signal would as soon as it is asked."""

    name = "stopping"

    def act(self, states):
        raise Interrupted(signal.SIGINT)


def test_a_match_that_is_stopped_is_rated_without_an_anchor_that_has_not_played(capsys):
    last = Stopping()
    found = playout.match(
        ["random", "greedy", last], games=4, anchor="stopping", anchor_elo=1000, openings=2
    )
    assert found.stopped == signal.SIGINT and found.report["anchor"] == "random"
    assert {one.name: one.games for one in found.ratings.players} == {"random": 4, "greedy": 4}
    assert found.ratings["random"].elo == 0
    assert "stopping has not played yet, so random is set to 0 Elo" in capsys.readouterr().err
    with pytest.raises(Interrupted):  # nothing was over
        playout.match([last, "greedy"], games=2, openings=2)


def test_simulations_are_those_of_a_run_with_settings_too(untrained_run, monkeypatch):
    asked, change = [], AlphaZeroPlayer.with_simulations

    def with_simulations(self, simulations):
        asked.append(simulations)
        return change(self, simulations)

    monkeypatch.setattr(AlphaZeroPlayer, "with_simulations", with_simulations)
    playout.match(["random", f"{untrained_run}?symmetry=none"], games=2, simulations=3)
    assert asked == [3]


@pytest.mark.slow
def test_a_match_that_is_stopped_keeps_and_rates_the_games_that_are_over(tmp_path):
    games, out = tmp_path / "games.jsonl", tmp_path / "m.json"
    players = ["random", "uct:20000", "--game", "connect_four", "--games", "40"]
    command = [sys.executable, "-m", "playout", "match", *players]
    process = subprocess.Popen(
        [*command, "--records", games, "--json", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (games.is_file() and games.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    text, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    over = len(load(games))
    assert 0 < over < 40 and f"these {over} games were over" in error
    assert "Traceback" not in error and "uct:20000" in text
    (pairing,) = json.loads(out.read_text())["pairings"]
    assert pairing["games"] == over

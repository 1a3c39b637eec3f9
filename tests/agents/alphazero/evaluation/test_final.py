"""The rating at the end of a run: any number of players, within its time, from the run alone."""

import json
import time

import playout
import pytest
from playout.agents.alphazero.evaluation.final import earlier_players, ladder_of, rate_player
from playout.agents.alphazero.evaluation.picture import draw
from playout.agents.alphazero.evaluation.report import (
    checkpoint_text,
    measured_before,
    print_summary,
    say_measured_before,
    summary_lines,
)
from playout.agents.alphazero.player import load
from playout.agents.runs.directory import RunDir
from rating_games import Nim, Stairs, Thirds

FEW = {"eval_games": 8, "eval_simulations": 4, "simulations": 4, "evaluations": 200, "steps": 1}


def trained(game, path):
    """A run of three evaluations, quickly made."""
    options = {"updates": 3, "eval_every": 1, "warmup_positions": 64, "size": "8x1", "seed": 1}
    return playout.alphazero(game, run=path, quiet=True, num_trees=8, **options, **FEW)


@pytest.fixture(scope="module", params=[Nim, Thirds])
def run_of_own(request, tmp_path_factory):
    game = request.param()
    return trained(game, tmp_path_factory.mktemp("run") / "run"), playout.game(game)


@pytest.mark.slow
def test_a_run_is_rated_against_anchors_and_its_own_past(run_of_own):
    run, game = run_of_own
    player = load(run, game=game).with_simulations(4)
    ladder = ladder_of(run, "latest", game)
    assert len(ladder.snapshots) == 3
    earlier = earlier_players(ladder, player, games=ladder.snapshots[-1].games)
    report = rate_player(player, ladder, games=12, earlier=earlier, seed=1)
    met = [one["opponent"] for one in report["matches"]]
    assert met[0] == "random" and "uct:20" in met
    assert any(name.startswith("itself after") for name in met)
    low, high = report["rating"]["interval"]
    assert low < report["rating"]["elo"] < high
    seats = game.num_players
    for one in report["matches"]:  # at a table of three an opponent has two seats
        met = one["wins"] + one["draws"] + one["losses"]
        assert one["games"] == 12 and met == 12 * (seats - 1)
    lines = summary_lines(report, 123)
    about = "best checkpoint, update 2 of 3; 228 games in all"
    assert summary_lines(report, 123, about)[0].endswith(f"123 games of self-play ({about})")
    assert "123 games of self-play" in lines[0] and "Elo above random play" in "\n".join(lines)


def test_a_complete_run_that_was_measured_is_not_measured_again_in_less_time(tmp_path, capsys):
    run = RunDir.create(tmp_path / "run", kind="alphazero", config={}, seed=0)
    run.save(2, {"totals": {"games": 137}}, metric=1.0)
    assert not measured_before(run, 2)  # it was stopped before it was measured
    for content, told in (("{", False), ('{"latest_checkpoint": 1}', False), ("[]", False)):
        (run.path / "strength.json").write_text(content)
        assert measured_before(run, 2) == told
    (run.path / "strength.json").write_text('{"latest_checkpoint": 2}')
    assert not measured_before(run, 1) and not measured_before(run, None)  # it has gone on
    assert measured_before(run, 2)
    assert capsys.readouterr().out == ""
    say_measured_before(run)
    assert "to measure it anew: playout eval" in capsys.readouterr().out


def test_who_plays_at_random_is_zero_elo_above_random_and_not_less():
    rating = {"elo": -0.4, "interval": (-30.0, 30.0)}
    lines = summary_lines({"positions": [], "matches": [], "rating": rating}, 123)
    assert "  0 Elo above random play (-30 .. 30), by all of these games" in lines


def test_a_best_checkpoint_that_is_not_the_last_is_named_with_all_games(tmp_path):
    run = RunDir.create(tmp_path / "run", kind="alphazero", config={}, seed=0)
    run.save(2, {"totals": {"games": 137}}, metric=1.0)
    assert checkpoint_text(run) == ""
    run.save(3, {"totals": {"games": 228}}, metric=0.5)
    assert checkpoint_text(run) == "best checkpoint, update 2 of 3; 228 games in all"


def test_little_time_gives_few_games_and_honest_intervals(run_of_own):
    run, game = run_of_own
    player = load(run, game=game).with_simulations(4)
    ladder = ladder_of(run, "latest", game)
    begun = time.monotonic()
    short = rate_player(player, ladder, games=100_000, seconds=0.5, seed=1)
    assert time.monotonic() - begun < 20  # far less than so many games take, on any machine
    for one in short["matches"]:
        low, high = one["score_interval"]
        assert one["games"] < 100_000 and high - low > 0.01
    none = rate_player(player, ladder, games=10, seconds=-1.0, seed=1)
    assert none["matches"] == [] and "no time" in "\n".join(summary_lines(none, 1))
    counted = "\n".join(summary_lines(none, 1, timed=False))
    assert "a twentieth of the run's time" in counted and "no time" not in counted
    nothing = "\n".join(summary_lines({"positions": [], "matches": []}, 1))
    assert "brackets" not in nothing and "uct:N" not in nothing
    assert "nothing was learned" not in nothing
    assert "nothing was learned" in "\n".join(summary_lines({"positions": [], "matches": []}, 0))


@pytest.mark.slow
def test_the_summary_shows_a_game_a_picture_and_keeps_the_numbers(run_of_own, capsys):
    run, game = run_of_own
    print_summary(run, seconds=20.0, game=game)
    text = capsys.readouterr().out
    assert "A game: " in text and "playout play" in text
    assert json.loads((run.path / "strength.json").read_text())["matches"]
    assert (run.path / "summary.png").stat().st_size > 5000


def test_where_no_time_is_left_no_game_is_shown_and_the_curves_still_are(run_of_own, capsys):
    run, game = run_of_own
    (run.path / "summary.png").unlink(missing_ok=True)
    print_summary(run, seconds=0.0, game=game)
    text = capsys.readouterr().out
    assert "A game: " not in text and "No game fitted into this report" in text
    assert "playout play" in text
    assert (run.path / "summary.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_game_of_one_player_is_rated_by_its_results(tmp_path):
    game = playout.game(Stairs())
    run = trained(Stairs(), tmp_path / "run")
    player = load(run, game=game).with_simulations(4)
    report = rate_player(player, ladder_of(run, "latest", game), games=16, seed=1)
    assert [one["player"] for one in report["returns"]][1:] == ["random", "uct:20"]
    assert "matches" not in report and "16 games" in "\n".join(summary_lines(report, 1))


def test_a_run_without_ratings_has_an_empty_ladder(untrained_run):
    assert (
        ladder_of(RunDir.open(untrained_run), "best", playout.game("tic_tac_toe")).snapshots == []
    )


def test_commands_for_a_run_that_cannot_name_its_game_ask_for_it(tmp_path, capsys):
    config = {"alphazero": {"game": "stones"}}
    run = RunDir.create(tmp_path / "run", kind="alphazero", config=config, seed=0)
    own = type("Own", (Nim,), {})  # of this function alone
    print_summary(run, rate=False, game=playout.game(own()))
    text = capsys.readouterr().out
    assert text.count("--game MODULE:NAME") == 3 and "The run cannot name its game" in text
    print_summary(run, rate=False, game=playout.game("tic_tac_toe"))
    text = capsys.readouterr().out
    assert "--game" not in text and text.startswith("Play against it      ")
    # Alone, nobody can be played against.
    print_summary(run, rate=False, game=playout.game("game_2048"))
    assert capsys.readouterr().out.startswith("Watch it play        ")


def test_a_picture_is_made_where_there_is_something_to_show(tmp_path):
    run = RunDir.create(tmp_path / "run", kind="alphazero", config={}, seed=0)
    rows = [{"step": 1, "selfplay/games": 0}, {"step": 2, "selfplay/games": 3}]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    picture = tmp_path / "summary.png"
    assert not draw(picture, run, None, alone=False) and not picture.exists()
    assert draw(picture, run, playout.game("tic_tac_toe").initial_state(), alone=False)
    assert picture.read_bytes().startswith(b"\x89PNG")

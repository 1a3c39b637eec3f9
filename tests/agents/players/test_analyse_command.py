"""`playout analyse`: form of the answers, all evaluators, determinism, what bad input gets."""

import json

import numpy as np
import playout
import pytest
from playout.agents.commands import analyse as command
from playout.agents.commands.analyse import describe
from playout.agents.players.analysis import (
    BATCH,
    Analysis,
    analyse,
    policy_judge,
    rollout_judge,
    search_judge,
    solver_judge,
)
from playout.agents.rating.positions import load_scored_positions, moves_text
from playout.cli import main
from playout.envs.records import files as records
from playout.envs.records.json_lines import GameRecord
from playout.mcts.evaluators import RolloutEvaluator, UniformEvaluator
from playout.mcts.exact.solver import Solver
from playout.mcts.search import SearchConfig

LINES = ["", "4", "4455", "445566", "1234567", "121212"]


@pytest.fixture
def moves_file(tmp_path):
    path = tmp_path / "moves.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


def run(capsys, *arguments):
    code = main(["analyse", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def check_form(text, lines, *, visits):
    """A JSON list, one object a line, every field as documented."""
    answers = json.loads(text)
    rows = text.strip().split("\n")
    assert rows[0] == "[" and rows[-1] == "]" and len(rows) == len(lines) + 2
    assert [answer["moves"] for answer in answers] == lines
    game = playout.game("connect_four")
    for answer in answers:
        numbers, texts = {"action", "policy", "value", "visits", "pv"}, {"move", "pv_moves"}
        assert set(answer) == {"moves", *numbers, *texts}
        state = game.from_moves(answer["moves"])
        assert answer["move"] == answer["pv_moves"][0] == str(answer["action"] + 1)  # a column
        assert answer["action"] in state.legal_actions and answer["pv"][0] == answer["action"]
        assert len(answer["policy"]) == len(answer["visits"]) == 7
        assert sum(answer["policy"]) == pytest.approx(1, abs=1e-4)
        assert all(w == 0 for a, w in enumerate(answer["policy"]) if a not in state.legal_actions)
        assert -1 <= answer["value"] <= 1
        assert (sum(answer["visits"]) > 0) == visits
        for action, move in zip(answer["pv"], answer["pv_moves"], strict=True):
            assert state.read_action(move) == action
            state = state.apply(action)
    return answers


@pytest.mark.parametrize(
    ("arguments", "visits"),
    [
        (["--simulations", "40"], True),
        (["--simulations", "0"], False),
        (["--evaluator", "rollout", "--simulations", "200"], True),
        (["--evaluator", "rollout", "--simulations", "0"], False),
    ],
)
def test_answers_have_the_documented_form_and_repeat(
    capsys, untrained_run, moves_file, tmp_path, arguments, visits
):
    out = tmp_path / "out.json"
    common = ["analyse", str(untrained_run), "--moves-file", str(moves_file), "--json", str(out)]
    assert main([*common, *arguments]) == 0
    answers = check_form(out.read_text(), LINES, visits=visits)
    first = out.read_bytes()
    assert main([*common, *arguments]) == 0
    assert out.read_bytes() == first
    if visits:
        assert answers[2]["value"] == 1 and answers[2]["action"] in (2, 5)  # an open three
        assert answers[5]["action"] == 0 and answers[5]["value"] == 1
    assert capsys.readouterr().out == ""


def test_the_solver_answers_exactly(tmp_path):
    solved = load_scored_positions("connect_four")
    rows = [row for row, moves in enumerate(solved.moves) if len(moves) >= 18][:12]
    lines = [moves_text(solved.states.game, solved.moves[row]) for row in rows]
    path, out = tmp_path / "m.txt", tmp_path / "o.json"
    path.write_text("\n".join(lines))  # no newline at the end
    arguments = ["connect_four", "--moves-file", str(path), "--json", str(out)]
    assert main(["analyse", *arguments, "--evaluator", "solver"]) == 0
    answers = check_form(out.read_text(), lines, visits=False)
    game = playout.game("connect_four")
    for line, row, answer in zip(lines, rows, answers, strict=True):
        scores = solved.scores[row]
        assert answer["value"] == np.sign(scores.max())
        assert scores[answer["action"]] == scores.max()
        kept = [np.sign(score) == answer["value"] and score != -128 for score in scores]
        assert [weight > 0 for weight in answer["policy"]] == kept
        end = game.from_moves(line)
        for action in answer["pv"]:
            end = end.apply(action)
        assert end.is_terminal


def test_an_empty_file_gives_an_empty_list_and_windows_line_ends_do_no_harm(tmp_path, capsys):
    path, out = tmp_path / "m.txt", tmp_path / "o.json"
    base = ["connect_four", "--evaluator", "rollout", "--simulations", "20"]
    path.write_bytes(b"")
    assert run(capsys, *base, "--moves-file", path, "--json", out)[0] == 0
    assert json.loads(out.read_text()) == []
    path.write_bytes(b"4\r\n\r\n 44 \r\n")
    code, text, _ = run(capsys, *base, "--moves-file", path)
    assert code == 0 and [one["moves"] for one in json.loads(text)] == ["4", "", "44"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"4\n4449\n", "line 2: move 4"),
        (b"4\nhello\n", "line 2: move 1"),
        (b"\n1111111\n", "line 2: move 7"),
        (b"1212121\n", "line 1: the game is over"),
        (b"12121212\n", "line 1: move 8"),
        (b"4\n" + b"4" * 100_000, "line 2"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"4\x00\n", "line 1"),
    ],
)
def test_bad_lines_get_one_line_with_their_number_and_no_file(tmp_path, capsys, content, message):
    path, out = tmp_path / "m.txt", tmp_path / "o.json"
    path.write_bytes(content)
    arguments = ["connect_four", "--evaluator", "rollout", "--moves-file", path, "--json", out]
    code, text, error = run(capsys, *arguments)
    assert code == 2 and text == "" and not out.exists()
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert len(error) < 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nogame", "--evaluator", "solver", "--moves", "4"], "no game is named"),
        (["connect_four", "--moves", "4"], "not a run directory"),
        (["connect_four", "--evaluator", "solver", "--moves-file", "/none"], "cannot read /none"),
        (["connect_four", "--evaluator", "solver", "--json", "/none/x", "--moves", "4"], "folder"),
        (["connect_four", "--evaluator", "rollout", "--json", "/tmp", "--moves", "4"], "a folder"),
        (["connect_four", "--moves", "4", "--moves-file", "f"], "either"),
        (["connect_four", "--simulations", "-3", "--moves", "4"], "--simulations"),
        (["connect_four", "--evaluator", "rollout", "--moves", "8"], "move 1"),
        (["connect_four", "--plot", "x.png"], "--plot"),
        (["backgammon", "--evaluator", "rollout", "--moves", ""], "line 1: at the start chance"),
        (["connect_four", "--json", "x.json"], "--moves-file"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(capsys, arguments, message):
    code, _, error = run(capsys, *arguments)
    assert code == 2 and message in error and error.count("\n") == 1


def test_a_single_position_is_shown_with_its_board(capsys, tmp_path):
    picture, out = tmp_path / "p.png", tmp_path / "o.json"
    code, text, _ = run(
        capsys,
        "connect_four",
        *("--evaluator", "rollout", "--simulations", "100", "--moves", "445566"),
        *("--plot", picture, "--json", out),
    )
    assert code == 0
    assert ". . . X X X ." in text and "100.0 %" in text and "+1.000" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(out.read_text())[0]["moves"] == "445566" and f"wrote {picture}" in text


@pytest.mark.parametrize("name", ["p.svg", "P.SVG"])
def test_a_board_is_drawn_alone_as_svg(capsys, tmp_path, name):
    picture = tmp_path / name
    code, text, _ = run(
        capsys, "tic_tac_toe", "--evaluator", "solver", "--moves", "51", "--plot", picture
    )
    assert code == 0 and f"wrote {picture}" in text
    assert picture.read_text().startswith("<svg ")


def test_positions_are_read_from_standard_input(capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("44\n4455\nq\n"))
    code, text, _ = run(capsys, "connect_four", "--evaluator", "rollout", "--simulations", "50")
    assert code == 0 and text.count("1 2 3 4 5 6 7") == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("4\n4444444\n"))
    code, _, error = run(capsys, "connect_four", "--evaluator", "rollout", "--simulations", "50")
    assert code == 2 and "standard input, line 2: move 7" in error
    assert "('4') cannot be played now; possible are 1 2 3 5 6 7\n" in error


def test_if_no_position_comes_the_start_is_shown(capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, text, _ = run(capsys, "connect_four", "--evaluator", "rollout", "--simulations", "50")
    assert code == 0 and text.count("The first player, to move") == 1
    with pytest.raises(SystemExit):
        main(["analyse", "--help"])
    assert "read from standard input, one a line" in " ".join(capsys.readouterr().out.split())


def test_a_terminal_is_told_that_positions_are_typed_there(capsys, monkeypatch):
    import io

    typed = io.StringIO("q\n")
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", typed)
    code, text, _ = run(capsys, "connect_four", "--evaluator", "rollout", "--simulations", "50")
    assert code == 0 and text.startswith("Type positions of connect_four") and "one a line" in text


def test_answers_do_not_depend_on_how_many_positions_or_judges_there_are():
    game = playout.game("connect_four")
    states = game.batch(2 * BATCH + 10)
    states.random_plies(np.full(len(states), 8, np.int32), seed=1)
    states = states[~states.is_terminal()]
    config = SearchConfig(num_simulations=16, gumbel_scale=0.0)
    judges = [search_judge(game, config, UniformEvaluator()) for _ in range(3)]
    done = []
    whole = analyse(states, *judges, on_done=done.append)
    assert done[-1] == len(states)
    alone = analyse(states, judges[0])
    few = analyse(states[:20], judges[0])
    for name in ("action", "policy", "value", "visits"):
        assert (getattr(whole, name) == getattr(alone, name)).all()
        assert (getattr(whole, name)[:20] == getattr(few, name)).all()
    assert whole.pv == alone.pv and whole.pv[:20] == few.pv


def test_judges_of_many_positions_share_the_cores_out(tmp_path, monkeypatch):
    game, opened = playout.game("connect_four"), []

    def open_judge(chosen):
        opened.append(chosen.threads)
        return game, policy_judge(UniformEvaluator())

    monkeypatch.setattr(command, "open_judge", open_judge)
    monkeypatch.setattr(command, "usable_cores", lambda: 16)
    path, out = tmp_path / "many.txt", tmp_path / "out.json"
    path.write_text("4\n" * 4 * BATCH)
    line = ["analyse", str(tmp_path), "--moves-file", str(path), "--json", str(out), "--quiet"]
    assert main(line) == 0
    assert opened == [4] * 4  # none is opened for nothing
    assert len(json.loads(out.read_text())) == 4 * BATCH


def test_judges_know_nothing_of_finished_games_and_empty_batches():
    game = playout.game("connect_four")
    judge = rollout_judge(game, 0)
    with pytest.raises(ValueError, match="position 2"):
        states = game.batch(2)
        states[1] = game.from_moves("1212121")
        analyse(states, judge)
    assert analyse(game.batch(0), judge).policy.shape == (0, 7)


def test_values_of_evaluators_with_one_value_a_player_are_for_the_side_to_move():
    game = playout.game("connect_four")
    states = game.batch(2)
    states[0], states[1] = game.from_moves("445566"), game.from_moves("4455661")
    found = policy_judge(RolloutEvaluator(num_rollouts=300))(states)
    assert found.value[0] > 0.2 and found.value[1] < 0.1
    exact = solver_judge(Solver(game))(states[:1])
    assert exact.value[0] == 1 and exact.pv[0] == [2] and np.isnan(exact.q).sum() == 0


def test_the_move_to_play_is_named_and_comes_first_even_if_others_have_more_weight():
    state = playout.game("connect_four").from_moves("444444")
    policy = np.array([[0.1, 0.03, 0.03, 0.0, 0.0, 0.84, 0.0]], np.float32)
    unknown = np.full((1, 7), np.nan, np.float32)
    for visits in ([0] * 7, [42, 6, 6, 0, 6, 20, 6]):
        found = Analysis(
            np.array([0], np.int32),
            policy,
            np.array([0.125], np.float32),
            np.array([visits], np.int32),
            unknown,
            [[0, 2]],
        )
        lines = describe(state, found).splitlines()
        assert any("to move, would play 1 and expects +0.125" in line for line in lines)
        at = lines.index("Expected moves: 1 3") + 2
        assert [line.split()[0] for line in lines[at : at + 6]] == ["1", "6", "2", "3", "5", "7"]
        explained = lines[at + 6 :]
        assert len(explained) == (sum(visits) > 0)
        assert all(line.startswith("6 has more weight, from fewer visits") for line in explained)


def test_the_result_that_is_said_first_is_the_one_in_the_row_of_the_move_that_is_named():
    q = np.full((1, 9), np.nan, np.float32)
    q[0, :2] = 0.116, -0.5
    policy = np.full((1, 9), 1 / 9, np.float32)
    visits = np.ones((1, 9), np.int32)
    value = np.array([-0.174], np.float32)
    found = Analysis(np.array([0], np.int32), policy, value, visits, q, [[0]])
    shown = describe(playout.game("tic_tac_toe").initial_state(), found)
    assert "expects +0.116 (1 win" in shown and "result +0.116" in shown and "-0.174" not in shown


@pytest.mark.parametrize("words", [["--moves", "4455"], ["--moves-file", "moves.txt"]])
def test_a_dash_writes_json_to_standard_output_and_nothing_else(
    capsys, monkeypatch, moves_file, words
):
    monkeypatch.chdir(moves_file.parent)
    code, text, _ = run(capsys, "connect_four", "--evaluator", "rollout", *words, "--json", "-")
    assert code == 0 and all(answer["move"] in "1234567" for answer in json.loads(text))
    assert not (moves_file.parent / "-").exists()


def test_games_of_another_board_are_refused_and_another_komi_is_not(tmp_path, capsys):
    path = tmp_path / "small.sgf"
    path.write_text("(;GM[1]FF[4]SZ[5]KM[0.5];B[cc];W[bb])")
    options = ["--evaluator", "rollout", "--simulations", "4", "--moves-file", str(path)]
    assert main(["analyse", "go(size=9)", *options]) == 2
    assert "is one of go(size=5, komi=0.5" in capsys.readouterr().err
    assert main(["analyse", "go(size=5, komi=7)", *options]) == 0


def test_games_of_many_actions_have_answers_by_move(tmp_path, capsys):
    path = tmp_path / "game.pgn"
    path.write_text("1. f3 e5 2. g4 *\n")
    words = ["--evaluator", "rollout", "--simulations", "8", "--moves-file", path]
    code, text, _ = run(capsys, "chess", *words)
    state = playout.game("chess").initial_state()
    legal = {state.action_text(action) for action in state.legal_actions}
    first = json.loads(text)[0]
    assert code == 0 and set(first["policy"]) == set(first["visits"]) == legal
    assert sum(first["visits"].values()) == 8 and first["move"] in legal
    assert list(first["policy"].values()) == sorted(first["policy"].values(), reverse=True)
    _, text, _ = run(capsys, "chess", *words, "--by", "action")
    assert len(json.loads(text)[0]["policy"]) == playout.game("chess").num_actions
    words = ["--evaluator", "solver", "--moves", "", "--by", "move", "--json", "-"]
    _, text, _ = run(capsys, "tic_tac_toe", *words)
    assert '"policy": {"1"' in text


def test_the_solver_gives_up_where_a_person_waits(monkeypatch, capsys):
    monkeypatch.setattr("playout.mcts.exact.solver.PATIENCE", 2000)
    assert main(["analyse", "othello(size=6)", "--evaluator", "solver", "--moves", ""]) == 2
    assert "gave up on a position after 2000 nodes" in capsys.readouterr().err
    assert main(["analyse", "hex(size=3)", "--evaluator", "solver", "--moves", ""]) == 0


def test_records_are_known_by_their_content_whatever_the_file_is_called(capsys, tmp_path):
    game, path = playout.game("tic_tac_toe"), tmp_path / "games.txt"
    records.append(path, [GameRecord.from_actions(game, [4, 0, 8], players=["a", "b"])])
    arguments = ("tic_tac_toe", "--evaluator", "solver", "--moves-file", path)
    code, text, _ = run(capsys, *arguments)
    assert code == 0 and [one["moves"] for one in json.loads(text)] == ["", "5", "5 1"]
    path.write_text('{"moves": "51"}\n')
    code, _, error = run(capsys, *arguments)
    assert code == 2 and error == f"error: {path}, line 1: the field 'game' is missing\n"

"""The committed positions, their file format, and the shares measured on them."""

import json
import time

import numpy as np
import playout
import pytest
from own_boards import Marks
from playout.agents.rating.intervals import share_interval
from playout.agents.rating.positions import (
    DATA,
    load_scored_positions,
    moves_text,
    preserved,
    read_moves,
    read_positions,
    write_positions,
)
from playout.envs.catalogue import GAMES
from playout.errors import DataError, GameError, IllegalActionError
from playout.mcts.exact.positions import random_positions
from playout.mcts.exact.solver import Solver
from playout.mcts.exact.tactics import winning_actions


def test_the_committed_positions_are_as_promised():
    found = load_scored_positions("connect_four")
    states, outcomes = found.states, found.outcomes
    assert len(found) == len(states) == 2000
    plies = np.array([len(moves) for moves in found.moves])
    assert plies.min() >= 8 and plies.max() <= 26
    hashes = np.minimum(states.hash(), states.symmetry(1).hash())
    assert len(set(hashes.tolist())) == 2000
    assert not winning_actions(states).any() and not states.is_terminal().any()
    legal = outcomes > -2
    assert (legal == (states.legal_mask() > 0)).all()
    assert (np.where(legal, outcomes, 2).min(axis=1) < outcomes.max(axis=1)).all()
    assert (DATA / "connect_four_eval.json").stat().st_size < 300_000


def test_the_committed_scores_are_right():
    found = load_scored_positions("connect_four")
    late = np.flatnonzero([len(moves) >= 17 for moves in found.moves])[::8]
    assert len(late) > 30
    assert (Solver("connect_four").scores_of(found.states[late]) == found.scores[late]).all()


def test_small_games_are_solved_on_the_spot_and_large_ones_say_no():
    found = load_scored_positions("tic_tac_toe")
    assert len(found) == 150
    assert (found.outcomes == Solver("tic_tac_toe").outcomes(found.states)).all()
    with pytest.raises(GameError, match="no evaluation positions"):
        load_scored_positions(playout.game("connect_four", width=8, height=7, run=5))


def test_a_game_of_ones_own_that_is_called_like_a_built_in_one_gets_none_of_its_positions():
    class Own(Marks):
        name = "connect_four"

    assert "connect_four" in GAMES and GAMES["connect_four"].positions is not None
    own = playout.game(Own())
    read = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("playout.agents.rating.positions.read_positions", read.append)
        with pytest.raises(GameError, match="no evaluation positions"):
            load_scored_positions(own)
    assert read == []


def test_shares_count_kept_outcomes_and_best_scores():
    scores = np.array([[3, 1, 0], [-2, -5, -128], [0, -1, -1]], np.int32)
    outcomes = np.sign(scores).astype(np.int8)
    outcomes[1, 2] = -2
    assert preserved([1, 1, 0], outcomes).tolist() == [True, True, True]
    assert preserved([1, 1, 1], outcomes).tolist() == [True, True, False]
    assert preserved([0, 0, 0], scores).all()
    assert preserved([1, 1, 0], scores).tolist() == [False, False, True]
    for wrong in ([1, 1], [0, 0, 3], [0, 0, -1], [0.0, 0.0, 0.0]):
        with pytest.raises(ValueError):
            preserved(wrong, outcomes)


def test_intervals_of_shares_are_wilsons():
    assert share_interval(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert share_interval(100, 100) == pytest.approx((0.9630, 1.0), abs=1e-4)
    low, high = share_interval(0, 10)
    assert low == 0 and 0.25 < high < 0.3
    for wrong in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError):
            share_interval(*wrong)


def test_a_file_of_positions_reads_back(tmp_path):
    found = random_positions("connect_four(width=5,height=4)", 30, plies=(4, 9), seed=1)
    write_positions(tmp_path / "p.json", found, note="a test")
    again = read_positions(tmp_path / "p.json")
    assert again.states.game == found.states.game and again.moves == found.moves
    assert (again.scores == found.scores).all()
    assert json.loads((tmp_path / "p.json").read_text())["note"] == "a test"


def test_damaged_files_of_positions_are_refused(tmp_path):
    found = random_positions("connect_four(width=5,height=4)", 3, plies=(4, 9), seed=1)
    path = tmp_path / "p.json"
    write_positions(path, found, note="")
    good = json.loads(path.read_text())
    first = good["positions"][0]
    cases = {
        "not a file of positions": [
            "[]",
            "{",
            '{"game": "connect_four"}',
            '{"game": "x", "positions": []}',
        ],
        "holds no positions": [{**good, "positions": []}],
        "position 1": [
            {**good, "positions": [{**first, "moves": first["moves"] + "9"}]},
            {**good, "positions": [{**first, "moves": "1111111"}]},
            {**good, "positions": [{**first, "scores": [1, 2]}]},
            {**good, "positions": [{**first, "scores": ["a"] * 5}]},
            {**good, "positions": [{**first, "scores": [None] * 5}]},
        ],
    }
    for message, contents in cases.items():
        for content in contents:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            with pytest.raises(DataError, match=message):
                read_positions(path)
    with pytest.raises(DataError, match="No such file"):
        read_positions(tmp_path / "none.json")


def test_moves_become_text_and_back():
    game = playout.game("connect_four")
    assert moves_text(game, [3, 3, 4]) == "445" and read_moves(game, "445") == [3, 3, 4]
    assert moves_text(game, []) == "" and read_moves(game, "") == []
    with pytest.raises(IllegalActionError, match="move 2"):
        read_moves(game, "48")


@pytest.mark.parametrize("game", ["go(size=9)", "chess", "othello(size=6)", "gomoku"])
def test_large_games_have_no_positions_and_nothing_is_searched_for_that(game):
    begun = time.process_time()
    with pytest.raises(GameError, match="too large to be solved"):
        load_scored_positions(game)
    assert time.process_time() - begun < 1

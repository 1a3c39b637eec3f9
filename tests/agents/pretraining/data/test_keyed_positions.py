"""A position that is held out once is held out always, and what a run has learned is not probed."""

import json
from dataclasses import replace

import numpy as np
import playout
import pytest
from playout.agents.pretraining import evaluation
from playout.agents.pretraining.data import repeats
from playout.agents.pretraining.data.dataset import Split, keyed_rows, split_rows
from playout.agents.pretraining.data.positions import positions_of_game
from playout.agents.pretraining.data.repeats import repeated, tell_of_repeats
from playout.agents.pretraining.data.solved import can_solve, held_out_alike
from playout.agents.pretraining.data.sources import digest
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.envs.core.state_batch import StateBatch
from playout.errors import DataError
from playout.mcts.exact.solver import Solver

HEX = "hex(size=4)"
SMALL = {"objective": "masked", "size": "8x1", "epochs": 0.1, "threads": 1, "quiet": True}


@pytest.mark.parametrize("seed", [0, 3])
def test_a_solved_position_that_is_held_out_is_so_whatever_else_is_drawn(seed):
    few, many = positions_of_game(HEX, count=300, seed=seed), positions_of_game(HEX, count=1000)
    assert 15 <= len(few.test) <= 50 and 60 <= len(many.test) <= 140
    for one, other in ((few, many), (many, few)):
        assert not repeated(one.test, other.train).any()
    if seed == 0:  # what is drawn first is the same
        assert repeated(few.test, many.test).all()


def test_a_game_that_is_held_out_is_so_whatever_others_are_played():
    few, many = (positions_of_game("tic_tac_toe", count=count, version=4) for count in (100, 700))

    def games(part):  # mirror images and repeats are one
        found = repeats._hashes(part)
        return {frozenset(found[part.groups == group]) for group in np.unique(part.groups)}

    assert games(few.test) and games(few.test) <= games(many.test)
    assert not games(few.test) & games(many.train)


@pytest.mark.parametrize("text", ["tic_tac_toe", "othello(size=4)"])
def test_positions_of_a_small_game_are_solved_and_held_out_by_position(text):
    few, many = positions_of_game(text, count=200), positions_of_game(text, count=1200)
    assert not few.train.played and len(many.test) > 50
    for one, other in ((few, few), (many, many), (few, many), (many, few)):
        assert not repeated(one.test, other.train).any()
    part = many.test
    outcomes = Solver(part.game).outcomes(StateBatch.from_data(part.game, part.states))
    best = outcomes.max(axis=1)
    assert np.array_equal(part.labels, best + 1)
    assert np.array_equal(part.policy(np.arange(len(part))) > 0, outcomes == best[:, None])


def test_large_games_and_those_of_earlier_versions_are_played():
    for text in ("gomoku(size=5)", "othello(size=6)", "chess", "backgammon"):
        assert not can_solve(playout.game(text))
    game, four = playout.game("tic_tac_toe"), playout.game("connect_four")
    assert can_solve(game) and not can_solve(game, 4) and can_solve(four, 1)
    assert held_out_alike(game, 5, 5) and not held_out_alike(game, 4, 5)
    assert held_out_alike(four, 4, 5) and not held_out_alike(four, 3, 5)


def test_a_tenth_of_the_keys_is_held_out_however_they_lie():
    least = np.sort(np.random.default_rng(0).integers(0, 2**63, (8, 5000)).astype(np.uint64).min(0))
    for keys in (np.arange(5000, dtype=np.uint64), least):
        rows = keyed_rows(keys, 0.1)
        assert 420 < len(rows) < 580 and len(np.intersect1d(rows, np.arange(2500))) > 180
        some = np.arange(7, 5000, 3)
        assert set(keyed_rows(keys[some], 0.1)) == {*np.flatnonzero(np.isin(some, rows))}
    assert len(keyed_rows(np.arange(2, dtype=np.uint64), 1e-9)) == 1  # never none


def test_positions_that_are_repeated_are_told_of(capsys):
    data = positions_of_game(HEX, count=60)
    tell_of_repeats(data)
    assert not capsys.readouterr().out
    turned = [data.train.game.num_symmetries - 1] * 3
    states = data.train.states[:3]
    batch = StateBatch.from_data(data.train.game, states, check=False)
    images = batch.symmetry(np.array(turned, np.int32)).data
    test = data.test.subset(np.zeros(3, np.int64))
    tell_of_repeats(Split(data.train, replace(test, states=images)))
    assert capsys.readouterr().out == (
        f"note: 3 of 3 held-out positions of {HEX} also stand among those that are learned from\n"
    )


@pytest.fixture
def earlier(tmp_path):
    """A run whose held-out positions the seed has drawn."""
    run = playout.pretrain_trunk(HEX, count=300, run=tmp_path / "earlier", **SMALL)
    split = positions_of_game(HEX, count=300, version=3)
    whole = np.concatenate([split.train.states, split.test.states])
    held = split_rows(len(whole), np.arange(len(whole)), 0.1, seed=0)
    assert len(held) == 30 and digest(split) != run.config["digest"]
    with run.lock():
        run.change_config(data_version=3, digest=digest(split))
    return RunDir.open(run.path)


def test_an_earlier_run_goes_on_with_what_it_held_out(earlier):
    assert main(["pretrain-trunk", "--resume", str(earlier.path)]) == 0
    held = positions_of_game(HEX, count=300, version=3).test
    assert np.array_equal(evaluation.data_of(earlier).test.states, held.states)


@pytest.mark.parametrize("begun", [False, True])
def test_a_probe_leaves_out_what_an_earlier_run_has_learned_from(
    earlier, begun, tmp_path, capsys, monkeypatch
):
    run = earlier
    if begun:
        run = playout.pretrain_trunk(
            HEX, count=60, init=str(earlier.path), run=tmp_path / "later", **SMALL
        )
        run = playout.pretrain_trunk(
            HEX, count=60, init=str(run.path), run=tmp_path / "last", **SMALL
        )
    seen, learned = [], positions_of_game(HEX, count=300, version=3).train
    held = positions_of_game(HEX, count=200).test
    known = int(repeated(held, learned).sum())
    assert known > 5
    options = ["--probe", "neighbours", "--data", HEX, "--count", "200"]
    options += ["--json", str(tmp_path / "out.json")]

    def read(trunk, data, *given, **more):
        seen.append(data)
        return {"rows": []}

    monkeypatch.setattr(evaluation, "probe", read)
    assert main(["eval", str(run.path), *options]) == 0
    said = capsys.readouterr().err
    assert f"note: {known} of {len(held)} held-out positions of {HEX} are left out" in said
    assert json.loads((tmp_path / "out.json").read_text())["left_out"] == known
    assert len(seen[0].test) == len(held) - known and not repeated(seen[0].test, learned).any()


def test_a_probe_of_what_was_learned_whole_is_refused(earlier, monkeypatch):
    split = positions_of_game(HEX, count=300, version=3)
    monkeypatch.setattr(evaluation, "load", lambda *a, **k: Split(split.train, split.train))
    with pytest.raises(DataError, match="has learned from all that is held out of hex"):
        playout.evaluate(earlier.path, probe="neighbours", data=HEX, count=200)


def test_runs_of_today_need_nothing_left_out(tmp_path, monkeypatch, capsys):
    run = playout.pretrain_trunk(HEX, count=300, run=tmp_path / "run", **SMALL)
    monkeypatch.setattr(evaluation, "data_of", None)  # is not asked
    found = playout.evaluate(run.path, probe="neighbours", data=HEX, count=100)
    assert "left_out" not in found and "left out" not in capsys.readouterr().err

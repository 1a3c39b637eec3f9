"""Solved positions are kept where solving takes long, and solved again where they are not sound."""

from contextlib import contextmanager

import numpy as np
import playout
import pytest
from playout.agents.pretraining import supervised
from playout.agents.pretraining.data import positions, solved
from playout.agents.pretraining.data.positions import positions_of_game
from playout.agents.pretraining.data.sources import digest
from playout.agents.pretraining.run import data_of
from playout.agents.pretraining.supervised import affordable, examples_of, solve
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.envs.core.state_batch import StateBatch
from playout.mcts.exact.solver import Solver

GAME = "connect_four(width=4,height=4)"
ASKED = {"count": 300, "plies": (2, 9), "seed": 3}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of the cache, in which everything is kept."""
    monkeypatch.setenv("PLAYOUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(solved, "KEPT_FROM", 0.0)
    return tmp_path / "cache" / "solved"


def same(one, other):
    """Whether two lots of examples are equal."""
    return (
        np.array_equal(one.states, other.states)
        and np.array_equal(one.values, other.values)
        and np.array_equal(one.policy.dense(4), other.policy.dense(4))
    )


def no_solver(*arguments, **options):
    raise AssertionError("it was solved again")


def test_what_was_solved_is_read_the_next_time_and_is_what_the_solver_says(kept, monkeypatch):
    game = playout.game(GAME)
    first = solved.solved_examples(game, **ASKED)
    assert len(list(kept.iterdir())) == 1
    solver = Solver(game)
    states = StateBatch.from_data(game, first.states, check=True)
    assert same(first, examples_of(states, solver.outcomes(states)))
    with monkeypatch.context() as patched:
        patched.setattr(solved, "solve", no_solver)
        assert same(first, solved.solved_examples(game, **ASKED))
        for other in ({"count": 299}, {"seed": 4}, {"plies": (2, 8)}):
            with pytest.raises(AssertionError, match="solved again"):
                solved.solved_examples(game, **{**ASKED, **other})
        with pytest.raises(AssertionError, match="solved again"):
            solved.solved_examples(playout.game("tic_tac_toe"), **ASKED)
        with pytest.raises(AssertionError, match="solved again"):
            solved.solved_examples(game, **ASKED, even=True)
        patched.setattr(solved, "PLY_NODES", 1)
        with pytest.raises(AssertionError, match="solved again"):
            solved.solved_examples(game, **ASKED)


@pytest.mark.slow
def test_every_damaged_byte_is_noticed_and_mended(kept):
    game = playout.game(GAME)
    whole = solved.solved_examples(game, **{**ASKED, "count": 40})
    (path,) = kept.iterdir()
    sound, rng = path.read_bytes(), np.random.default_rng(5)
    for place in [0, 8, len(sound) - 1, *rng.integers(len(sound), size=60).tolist()]:
        damaged = bytearray(sound)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        assert same(whole, solved.solved_examples(game, **{**ASKED, "count": 40}))
    for cut in (0, 4, len(sound) // 2):
        path.write_bytes(sound[:cut])
        assert same(whole, solved.solved_examples(game, **{**ASKED, "count": 40}))
        assert path.read_bytes() == sound


def test_what_does_not_fit_the_game_is_not_believed_whatever_its_hash(kept):
    game = playout.game(GAME)
    solved.solved_examples(game, **ASKED)
    (path,) = kept.iterdir()
    states, outcomes = solved._read(path, game)
    full = states[np.flatnonzero((outcomes == -2).any(axis=1))]
    for batch, told in ((full, np.zeros((len(full), 4), np.int8)), (states, outcomes[:-1])):
        solved._keep(path, batch, told)
        assert solved._read(path, game) is None
    solved._keep(path, states, outcomes)
    assert solved._read(path, game) is not None


def test_a_folder_that_cannot_be_written_keeps_nothing_and_hinders_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(solved, "KEPT_FROM", 0.0)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PLAYOUT_CACHE", str(tmp_path / "file"))
    assert len(solved.solved_examples(playout.game(GAME), **ASKED)) == 300


def test_quick_ones_are_not_kept_and_all_are_told_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAYOUT_CACHE", str(tmp_path))
    told = []

    @contextmanager
    def shown(title, total, *, unit, quiet):
        told.append([title, total, unit, quiet])
        yield told[-1].append

    monkeypatch.setattr(solved, "progress", shown)
    monkeypatch.setattr(positions, "progress", shown)
    positions_of_game.cache_clear()
    for game in (GAME, "othello(size=4)"):
        positions_of_game(game, count=310, seed=1)
    kept, othello = told
    assert kept[:4] == [f"solving {playout.game(GAME)}", 310, "positions", False]
    assert kept[4] <= 256 and kept[-1] == 310 and kept[4:] == sorted(kept[4:])
    assert othello[-1] == 310 and not list(tmp_path.iterdir())


def test_a_quiet_run_shows_nothing_of_it(tmp_path, capsys):
    words = ["--epochs", "1", "--count", "60", "--run", str(tmp_path / "run"), "--quiet"]
    assert main(["pretrain-trunk", GAME, "--objective", "masked", "--size", "8x1", *words]) == 0
    said = capsys.readouterr()
    assert "solving" not in said.out + said.err


def test_a_run_of_an_earlier_version_goes_on_with_the_positions_that_it_began_with(tmp_path):
    """They were drawn with any number of plies as likely, and equal pictures stood apart."""
    monkey = {"count": 60, "objective": "masked", "size": "8x1", "epochs": 1.0, "quiet": True}
    new = playout.pretrain_trunk(GAME, run=tmp_path / "new", **monkey)
    even = positions_of_game(GAME, count=60, version=1)
    states = solve(playout.game(GAME), count=60, plies=(3, 10))[0].data
    both = np.concatenate([even.train.states, even.test.states])
    assert sorted(map(bytes, both)) == sorted(map(bytes, states))
    assert new.config["data_version"] == 5 and new.config["digest"] != digest(even)
    record = {**new.config, "digest": digest(even)}
    del record["data_version"]
    old = RunDir.create(tmp_path / "old", kind="pretrain-trunk", config=record, seed=new.seed)
    assert digest(data_of(old)) == digest(even)


@pytest.mark.slow
def test_plies_whose_positions_cost_more_are_drawn_less_often(monkeypatch):
    game, plies = playout.game("connect_four(width=5,height=5)"), (4, 12)
    even = affordable(playout.game(GAME), plies)
    assert even == pytest.approx([1 / 9] * 9)  # all are cheap on so small a board
    monkeypatch.setattr(supervised, "PLY_NODES", 50)
    monkeypatch.setattr(supervised, "FAR", 1e9)
    odds = affordable(game, plies)
    assert sum(odds) == pytest.approx(1) and odds[0] < odds[-1] / 5
    monkeypatch.setattr(supervised, "FAR", 1.0)  # what is too dear is not asked any more
    reckoned = affordable(game, plies)
    assert reckoned[:2] == pytest.approx([reckoned[2] / 4, reckoned[2] / 2])
    monkeypatch.setattr(supervised, "FAR", 1e9)
    assert odds == affordable(game, plies)
    states, _ = solve(game, count=2000, plies=plies, seed=1, odds=odds)
    stones = states.observe()[:, :2].sum(axis=(1, 2, 3)).round().astype(int)
    found = np.bincount(stones, minlength=13)[4:13] / len(states)
    assert found[0] < 3 * odds[0] and found[0] < found[8] / 3 and found[8] > odds[8] / 2

"""Positions are shown by the symmetries of their game, and what is imitated turns with them."""

import numpy as np
import playout
import pytest
import torch
from playout.agents.commands.pretrain_trunk import Command
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Augmentation, Split
from playout.agents.pretraining.data.positions import Positions, positions_of_records
from playout.agents.pretraining.objectives import registry
from playout.agents.pretraining.supervised import examples_of, solve
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.envs.core.state_batch import StateBatch
from playout.envs.records import json_lines
from playout.errors import ConfigError
from playout.mcts.exact.solver import Solver

from tests.agents.rating_games import Nim

GAME = playout.game("tic_tac_toe")
STILL = Augmentation(symmetries=False)


@pytest.fixture(scope="module")
def positions():
    found = examples_of(*solve(GAME, count=120, plies=(1, 6), seed=3))
    labels = found.values[:, 0].astype(np.int64) + 1
    return Positions(
        name="tic_tac_toe", game=GAME, states=found.states, labels=labels, moves=found.policy
    )


def trainer_on(data, steps=50, **settings):
    config = PretrainConfig(size="8x1", batch=20, **settings)
    trunk = new_trunk(data, size="8x1", seed=1)
    return PretrainTrainer(trunk, Split(data, data), config, steps=steps, seed=2)


def test_moves_turn_with_the_board_and_keep_the_outcome_there(positions):
    rows = np.arange(len(positions))
    kinds = np.random.default_rng(5).integers(0, GAME.num_symmetries, len(rows), dtype=np.int32)
    turned = StateBatch.from_data(GAME, positions.states).symmetry(kinds)
    images, policy = positions.shown(rows, np.random.default_rng(5))
    assert np.array_equal(images, turned.observe())
    outcomes = Solver(GAME).outcomes(turned)
    assert np.array_equal(policy > 0, outcomes == outcomes.max(axis=1, keepdims=True))
    np.testing.assert_allclose(policy.sum(1), 1, rtol=1e-6)
    assert (policy != positions.policy(rows)).any(axis=1).mean() > 0.5


def test_games_that_records_hold_again_or_mirrored_stay_on_one_side(tmp_path):
    games = [4, 0, 2, 1, 6], [0, 4, 1, 2, 8, 6]
    copies = [table[moves].tolist() for moves in games for table in GAME.symmetry_actions()]
    record = json_lines.GameRecord.from_actions
    records = [record(GAME, moves, players=("a", "b")) for moves in copies]
    json_lines.append(tmp_path / "games.jsonl", records)
    for seed in range(3):
        split = positions_of_records(tmp_path / "games.jsonl", seed=seed)
        assert sorted((len(split.train), len(split.test))) == [8 * 5, 8 * 6]


def test_of_a_part_of_the_rows_the_same_is_shown_as_of_all(positions):
    rows, own = np.arange(30), slice(10, 25)
    whole = positions.shown(rows, np.random.default_rng(1))
    part = positions.shown(rows, np.random.default_rng(1), own)
    assert all(np.array_equal(a[own], b) for a, b in zip(whole, part, strict=True))


@pytest.mark.parametrize("objective", ["supervised", "contrastive"])
def test_what_is_shown_follows_from_seed_and_step_and_can_be_left_as_it_lies(positions, objective):
    first, again, still = (
        trainer_on(positions, objective=objective, **changed)
        for changed in ({}, {}, {"augment": STILL})
    )
    turned = 0
    for step in range(4):
        mine, same, plain = (one._prepare(step) for one in (first, again, still))
        assert all(np.array_equal(a, b) for a, b in zip(mine[:3], same[:3], strict=True))
        assert np.array_equal(mine[1], plain[1])
        turned += (mine[0] != plain[0]).any(axis=(1, 2, 3)).sum()
        as_they_lie = {row.tobytes() for row in positions.images(np.arange(len(positions)))}
        assert all(row.tobytes() in as_they_lie for row in plain[0])
    assert turned > 20
    for one in (first, again, still):
        one.close()


def test_a_resumed_trainer_of_turned_positions_repeats_the_uninterrupted_one(positions):
    whole, first, second = (trainer_on(positions) for _ in range(3))
    while not whole.finished:
        whole.update()
    first.update()
    second.load_state_dict(first.state_dict())
    second.update()
    ours, theirs = whole.state_dict()["model"], second.state_dict()["model"]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for one in (whole, first, second):
        one.close()


def test_what_is_measured_lies_as_it_is(positions):
    trainer = trainer_on(positions)
    seen = []
    trainer._arrays = lambda data, rows, rng, part=None: seen.append(rng) or real(data, rows, rng)
    real = PretrainTrainer._arrays.__get__(trainer)
    trainer.evaluate()
    assert seen == [None]
    trainer.close()


def test_the_command_turns_positions_unless_it_is_told_not_to(tmp_path, capsys, folder):
    line = ["pretrain-trunk", "tic_tac_toe", "--count", "60", "--size", "8x1", "--epochs", "1"]
    line += ["--quiet", "--run"]
    for name, flags, on in (("a", [], True), ("b", ["--augment.no-symmetries"], False)):
        assert main([*line, str(tmp_path / name), *flags]) == 0
        assert RunDir.open(tmp_path / name).config["pretrain"]["augment"]["symmetries"] is on
    pictures = ["pretrain-trunk", str(folder), "--augment.no-symmetries"]
    assert main([*pictures, "--run", str(tmp_path / "c")]) == 2
    assert "--augment.symmetries does nothing with pictures" in capsys.readouterr().err


def test_runs_of_earlier_versions_go_on_with_positions_as_they_lie():
    old = {"pretrain": {"objective": "supervised", "augment": {"shift": 0.07}}, "game": "x"}
    assert Command.stored_today(old)["pretrain"]["augment"] == {"shift": 0.07, "symmetries": False}
    for other in ({"objective": "masked"}, {"objective": "supervised", "teacher": "runs/t"}):
        config = {"pretrain": {**other, "augment": {"shift": 0.07}}, "data_seed": 1}
        config["validation"] = 0.1
        assert Command.stored_today(config) == config


@pytest.mark.parametrize(
    ("data", "upright"),
    [
        ("tic_tac_toe", False),
        ("mnk(m=4,n=3,k=3)", False),  # not square: the other turn is upside down
        ("connect_four(width=4,height=4)", True),
        ("connect_four(width=5,height=4)", True),
    ],
)
def test_turns_that_are_symmetries_of_a_game_are_not_asked_for(data, upright, tmp_path):
    settings = {"count": 60, "size": "8x1", "epochs": 1, "batch": 20, "quiet": True}
    settings |= {"objective": "rotation", "run": tmp_path / "run"}
    if upright:
        playout.pretrain_trunk(data, **settings)
        return
    with pytest.raises(ConfigError, match="has no upright: a turned board is one of its symmetr"):
        playout.pretrain_trunk(data, **settings)
    assert not (tmp_path / "run").exists()


class Loud(Nim):
    """Nim whose planes are no chances."""

    name = "loud_nim"

    def observe(self, state, player):
        return 3 * super().observe(state, player) - 1


@pytest.mark.parametrize("objective", ["autoencoder", "vae", "masked", "next", "contrastive"])
def test_numbers_that_are_no_chances_are_not_drawn(objective):
    states = playout.game(Loud()).batch(8)
    labels = np.zeros(len(states), np.int64)
    data = Positions(name="loud", game=states.game, states=states.data, labels=labels)
    config = PretrainConfig(objective=objective)
    if objective == "contrastive":
        registry.must_teach(data, config)
        return
    with pytest.raises(ConfigError, match=rf"numbers from -1 to .*{objective} draws planes from 0"):
        registry.must_teach(data, config)


def test_a_run_of_an_earlier_version_learns_turns_that_are_symmetries_to_its_end(
    tmp_path, monkeypatch
):
    settings = {"count": 60, "size": "8x1", "epochs": 1, "batch": 20, "quiet": True}
    with monkeypatch.context() as earlier:
        earlier.setattr(registry, "must_teach", lambda *given: None)
        run = playout.pretrain_trunk(
            "tic_tac_toe", objective="rotation", run=tmp_path / "run", **settings
        )
    assert "eval/loss" in playout.evaluate(run.path)
    playout.pretrain_trunk(resume=run.path, quiet=True)

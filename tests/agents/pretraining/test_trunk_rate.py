"""`--trunk-rate`: exactly the weights that an earlier trunk has taught learn more slowly."""

import numpy as np
import playout
import pytest
import torch
from playout.agents.alphazero.replay.policies import Policies
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Augmentation, Split
from playout.agents.pretraining.data.positions import Positions
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import CheckpointError

from tests.agents.pretraining.bars import split_of, trainer_of

HEADS = ("head.", "head_norm.", "policy.", "value.", "value_hidden.")
QUIET = {"quiet": True, "rating": False}


def is_head(name):
    return name.startswith(HEADS)


def positions(count=60):
    game = playout.game("tic_tac_toe")
    rng = np.random.default_rng(0)
    states = game.batch(count)
    states.random_plies(rng.integers(0, 4, count).astype(np.int32), 1)
    moves = Policies.from_dense(np.eye(9, dtype=np.float32)[rng.integers(0, 9, count)])
    labels = rng.integers(0, 3, count)
    return Positions(name="made", game=game, states=states.data, labels=labels, moves=moves)


def moved(rate, fresh=(), **settings):
    """What one step has changed in every weight of a board's network, and its statistics."""
    data = positions()
    config = PretrainConfig(
        size="8x1", batch=40, optimizer="sgd", warmup=0.0, trunk_rate=rate, max_grad_norm=0,
        weight_decay=0.1, augment=Augmentation(symmetries=False), **settings,
    )  # fmt: skip
    trunk = new_trunk(data, size="8x1", seed=1)
    trainer = PretrainTrainer(trunk, Split(data, data), config, steps=5, seed=2, fresh=fresh)
    before = {name: x.clone() for name, x in trunk.net.state_dict().items()}
    trainer._train(True)
    trainer.step()
    trainer.close()
    learned = {name for name, _ in trunk.net.named_parameters()}
    steps = {name: x - before[name] for name, x in trunk.net.state_dict().items()}
    rest = {name: step for name, step in steps.items() if name not in learned}
    return {name: steps[name] for name in learned}, rest


def test_the_heads_of_a_board_take_the_whole_rate_and_the_trunk_its_share():
    plain, slow = moved(1.0)[0], moved(0.1)[0]
    assert any(is_head(name) for name in plain) and any(not is_head(name) for name in plain)
    for name, step in plain.items():
        wanted = step if is_head(name) else step * 0.1
        torch.testing.assert_close(slow[name], wanted, rtol=1e-3, atol=1e-7)
    assert slow["policy.weight"].abs().max() > 0 and slow["stem.weight"].abs().max() > 0


def test_weights_that_no_trunk_has_given_take_the_whole_rate():
    plain, slow = moved(1.0)[0], moved(0.1, fresh=["position", "policy.weight"])[0]
    for name in ("position", "policy.weight"):
        assert plain[name].abs().max() > 0
        torch.testing.assert_close(slow[name], plain[name], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(slow["turn"], plain["turn"] * 0.1, rtol=1e-3, atol=1e-7)


def test_a_frozen_board_trunk_stays_with_its_statistics_while_its_heads_learn():
    weights, statistics = moved(0.0)
    for name, step in weights.items():
        assert bool(step.abs().max() > 0) is is_head(name), name
    for name, step in statistics.items():
        assert bool(step.double().abs().max() > 0) is is_head(name), name


def test_a_picture_encoder_takes_its_share_and_its_head_all():
    data, found = split_of(60), []
    for rate in (1.0, 0.1):
        trainer = trainer_of(data, 5, trunk_rate=rate, optimizer="sgd", warmup=0.0, max_grad_norm=0)
        parts = {"net": trainer.trunk.net, "head": trainer.objective}
        before = {k: [p.detach().clone() for p in part.parameters()] for k, part in parts.items()}
        trainer._train(True)
        trainer.step()
        trainer.close()
        found.append(
            {
                k: [a.detach() - b for a, b in zip(part.parameters(), before[k], strict=True)]
                for k, part in parts.items()
            }
        )
    for kind, share in (("net", 0.1), ("head", 1.0)):
        for a, b in zip(found[0][kind], found[1][kind], strict=True):
            torch.testing.assert_close(b, a * share, rtol=1e-3, atol=1e-7)


def test_the_state_of_optimisers_that_share_weights_otherwise_is_refused():
    trainers = [trainer_of(split_of(60), 5, optimizer=name) for name in ("adamw", "momentum")]
    with pytest.raises(CheckpointError, match="other optimisers"):
        trainers[0].load_state_dict(trainers[1].state_dict())
    for trainer in trainers:
        trainer.close()


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A trunk that has seen positions of the smaller of two boards."""
    return playout.pretrain_trunk(
        "connect_four(width=5,height=4)", objective="masked", size="8x1", count=60, epochs=1,
        quiet=True, run=tmp_path_factory.mktemp("taught") / "trunk",
    )  # fmt: skip


def weights_after(run):
    state = run.load()[1]
    return state["learners"][0]["learner"] if "learners" in state else state["model"]


@pytest.mark.slow
def test_self_play_and_pretraining_keep_the_trunk_they_began_with_also_on_resume(taught, tmp_path):
    old = taught.load(only=("model",))[1]["model"]
    game = "connect_four(width=6,height=4)"  # its maps of cells are others, and begin fresh

    def check(run, *, heads=True):
        new = weights_after(run)
        for name, tensor in old.items():
            same = new[name].shape == tensor.shape and torch.equal(new[name], tensor)
            if is_head(name) or name in ("position", "turn"):
                assert not same or not heads, name
            else:
                assert same, name

    for resumed in (False, True):
        changed = {"resume": tmp_path / "az"} if resumed else {"run": tmp_path / "az"}
        if not resumed:
            changed |= {"init": taught.path, "trunk_rate": 0.0, "warmup_positions": 32}
            changed |= {"evaluations": 800, "steps": 2, "simulations": 4, "batch_size": 32}
            run = playout.alphazero(game, updates=2, **QUIET, **changed)
        else:
            run = playout.alphazero(updates=3, quiet=True, **changed)
        check(run)
    assert sorted(RunDir.open(tmp_path / "az").record["fresh"])[-1] == "value_hidden.weight"
    settings = {"size": "8x1", "count": 60, "batch": 20, "quiet": True}
    run = playout.pretrain_trunk(
        game, init=str(taught.path), trunk_rate=0.0, epochs=2, run=tmp_path / "more", **settings
    )
    check(run)
    assert playout.pretrain_trunk(resume=run.path, quiet=True).config["fresh"]


@pytest.mark.parametrize("command", ["ppo", "alphazero", "pretrain-trunk"])
def test_a_rate_of_the_trunk_without_one_is_refused(command, tmp_path, capsys):
    data = "CartPole-v1" if command == "ppo" else "tic_tac_toe"
    assert main([command, data, "--trunk-rate", "0.1", "--run", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said == "error: --trunk-rate does nothing without --init: leave it out\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_self_play_says_how_much_it_begins_with(taught, tmp_path, capsys):
    for game in ("tic_tac_toe", "connect_four(width=5,height=4)"):
        line = ["alphazero", game, "--init", str(taught.path), "--updates", "1", "--no-rating"]
        line += ["--evaluations", "100", "--simulations", "4", "--run", str(tmp_path / game)]
        assert main(line) == 0
        said = capsys.readouterr().out
        run = RunDir.open(tmp_path / game)
        fresh, weights = run.record.get("fresh", []), run.load("latest")[1]["model"]
        (told,) = [line for line in said.splitlines() if line.startswith("  begins ")]
        own = len(weights) - len(fresh)
        assert told.startswith(
            f"  begins     with {own} of {len(weights)} tensors of {taught.path}"
        )
        assert told.endswith(", ".join(fresh)) and bool(fresh) == ("; of another shape" in told)


def test_self_play_takes_the_flag_by_its_short_and_by_its_whole_name(taught, tmp_path):
    for number, flag in enumerate(("--trunk-rate", "--learner.trunk-rate")):
        run = tmp_path / str(number)
        line = ["alphazero", "connect_four(width=5,height=4)", "--init", str(taught.path)]
        line += [flag, "0.5", "--updates", "1", "--no-rating", "--quiet", "--evaluations", "100"]
        assert main([*line, "--simulations", "4", "--run", str(run)]) == 0
        assert RunDir.open(run).config["alphazero"]["learner"]["trunk_rate"] == 0.5

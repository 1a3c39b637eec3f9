"""Several boards and komis in one run: one network, games of each, runs that go on alike."""

import io
from dataclasses import replace

import numpy as np
import playout
import pytest
import torch
from playout.agents.alphazero.config import AlphaZeroConfig, LearnerConfig, SelfPlayConfig
from playout.agents.alphazero.player import game_of
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.alphazero.variants import turn
from playout.agents.networks.boards.registry import new_network, restore_network
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import ConfigError

CPU = torch.device("cpu")


def config(**changes):
    selfplay = SelfPlayConfig(num_groups=1, num_trees=8, num_simulations=4, opening_plies=2)
    settings = {
        "game": "go(size=5)",
        "size": "8x2",
        "updates": 6,
        "evaluations": 800,
        "steps": 4,
        "pooling": True,
        "also": ("go(size=4)", "go(size=5, komi=0.5)"),
        "warmup_positions": 16,
        "infer_dtype": "float32",
        "selfplay": selfplay,
        "learner": LearnerConfig(batch_size=16, num_shards=2, target_weight=0.1, score_weight=0.1),
    }
    return AlphaZeroConfig(**settings | changes)


def test_turns_are_shared_out_evenly():
    turns = [turn(number, 0.5, 2) for number in range(400)]
    assert [turns.count(who) for who in range(3)] == [200, 100, 100]
    assert turns[:5] == [0, 1, 0, 2, 0]
    assert {turn(number, 0.5, 0) for number in range(9)} == {0}


def test_a_network_for_several_boards_answers_each_as_one_of_its_own():
    game, other = playout.game("go(size=5)"), playout.game("go(size=4)")
    board = (*other.obs_shape[1:], other.num_actions)
    net = new_network(game, "8x2", pooling=True, boards=(board,), seed=1)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            generator = torch.Generator().manual_seed(len(name))
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    alone = new_network(other, "8x2", pooling=True, heads="pooled", seed=2)
    weights = {name: value for name, value in net.state_dict().items() if "boards" not in name}
    maps = net.boards["4x4"].state_dict()
    alone.load_state_dict({**weights, **maps})
    obs = torch.rand(6, *other.obs_shape)
    net.eval(), alone.eval()
    view = net.on_board(other.obs_shape, other.num_actions)
    for found, wanted in zip(view.inference_copy()(obs), alone(obs), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    for found, wanted in zip(net.heads(obs), alone.heads(obs), strict=True):
        torch.testing.assert_close(found, wanted)
    assert net(torch.rand(2, *game.obs_shape))[0].shape == (2, 26)
    again = restore_network(net.config.to_dict())
    again.load_state_dict(net.state_dict())
    assert again.config == net.config
    with pytest.raises(ConfigError, match="not made for boards of 3 x 3"):
        net.on_board((8, 3, 3), 10)


@pytest.mark.slow
def test_a_run_plays_and_learns_every_form_and_goes_on_alike():
    one, two = (AlphaZeroTrainer(config(), seed=3, device=CPU) for _ in range(2))
    metrics = [one.update() for _ in range(6)]
    assert any(key.startswith("also/1/") for row in metrics for key in row)
    assert all(len(variant.replay) > 0 for variant in one.variants)
    before = one.learners[0].net.boards["4x4"].position
    assert float(before.detach().abs().sum()) > 0  # it has learned from that board
    for _ in range(4):
        two.update()
    three = AlphaZeroTrainer(config(), seed=3, device=CPU)
    three.load_state_dict(two.state_dict())
    for _ in range(2):
        three.update()
    for name, tensor in one.learners[0].net.state_dict().items():
        assert torch.equal(tensor, three.learners[0].net.state_dict()[name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"also": ("othello(size=4)",)}, "planes differ"),
        ({"heads": "linear"}, "heads=pooled"),
        ({"network": "transformer", "learner": LearnerConfig(batch_size=16)}, "a resnet can"),
        ({"also": ("kuhn_poker",)}, "hides a part"),
    ],
)
def test_what_one_network_cannot_learn_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        AlphaZeroTrainer(config(**changes), device=CPU)
    with pytest.raises(ConfigError, match="also_share"):
        config(also_share=1.0)


@pytest.mark.slow
def test_another_komi_alone_needs_no_special_network():
    changes = {"heads": "linear", "also": ("go(size=5, komi=0.5)",), "compact_replay": True}
    trainer = AlphaZeroTrainer(config(**changes), seed=1, device=CPU)
    for _ in range(2):
        trainer.update()
    assert "boards" not in trainer.learners[0].net.config.to_dict()
    state = trainer.state_dict()
    again = AlphaZeroTrainer(replace(config(**changes)), seed=1, device=CPU)
    again.load_state_dict(state)
    np.testing.assert_array_equal(
        again.variants[1].replay.batch(0, 8).obs, trainer.variants[1].replay.batch(0, 8).obs
    )


@pytest.mark.slow
def test_random_symmetries_of_evaluations_are_drawn_anew_in_every_update():
    changes = {"also": (), "selfplay": replace(config().selfplay, random_symmetry=True)}
    trainer = AlphaZeroTrainer(config(**changes), seed=1, device=CPU)
    drawn = []
    for _ in range(3):
        trainer.update()
        drawn.append([one.number for one in trainer.variants[0]._drawing])
    assert drawn == [[0], [1], [2]]


@pytest.fixture(scope="module")
def run_of_two_sizes(tmp_path_factory):
    """The folder of a run with an untrained network for Go on 5x5 and 4x4."""
    game, other = playout.game("go(size=5)"), playout.game("go(size=4)")
    board = (*other.obs_shape[1:], other.num_actions)
    net = new_network(game, "8x1", pooling=True, boards=(board,), seed=1)
    path = tmp_path_factory.mktemp("runs") / "sizes"
    learned = {"game": "go(size=5)", "also": ["go(size=4)"]}
    run = RunDir.create(path, kind="alphazero", config={"alphazero": learned}, seed=0)
    with run.lock():
        run.save(1, {"model": net.state_dict(), "network": net.config.to_dict()})
    return path


def test_an_engine_plays_every_board_that_its_run_has_learned(
    run_of_two_sizes, monkeypatch, capsys
):
    lines = "boardsize 4\ngenmove b\nkomi 0.5\nboardsize 5\nshowboard\nboardsize 4\nboardsize 6\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert main(["engine", f"{run_of_two_sizes}:4", "--device", "cpu"]) == 0
    *good, six = capsys.readouterr().out.split("\n\n")[:-1]
    assert len(good) == 6 and all(one.startswith("=") for one in good), good
    assert "A B C D E" in good[4]
    assert "unacceptable size: what has learned go(size=5" in six and "\n" not in six


@pytest.mark.slow
def test_another_komi_and_ko_rule_are_played_by_what_has_learned_the_board(
    run_of_two_sizes, capsys
):
    other = "go(size=5,komi=0.5,ko=simple)"
    found = playout.match([str(run_of_two_sizes), "random"], game=other, games=2, simulations=2)
    assert found.game == playout.game(other)
    said = [line for line in capsys.readouterr().err.splitlines() if "by the same network" in line]
    assert len(said) == 1 and "has learned go(size=5" in said[0] and "komi=0.5" in said[0]
    for game in (other, "go(size=4,komi=0.5)"):
        player = playout.load(run_of_two_sizes, game=game)
        assert player.game == playout.game(game)
        state = player.game.initial_state()
        assert playout.analyse(player, state).policy.shape == (1, player.game.num_actions)
    for game in ("go(size=6)", "othello(size=4)"):
        with pytest.raises(ConfigError, match="has learned go"):
            playout.load(run_of_two_sizes, game=game)
    with pytest.raises(ConfigError, match="has learned go"):  # what goes on with its training
        game_of(RunDir.open(run_of_two_sizes), "go(size=5,komi=0.5)")

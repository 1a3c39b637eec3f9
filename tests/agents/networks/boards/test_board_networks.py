"""Every network plays, learns and is restored, whatever the shape of the game."""

import json

import numpy as np
import playout
import pytest
import torch
from own_boards import Marks
from playout.agents.alphazero.config import LearnerConfig, SelfPlayConfig, selfplay_search
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.learner import Learner
from playout.agents.alphazero.replay import Examples, Replay
from playout.agents.alphazero.selfplay import SelfPlay
from playout.agents.networks.boards.registry import new_network, restore_network
from playout.envs import StateBatch
from playout.errors import ConfigError

SHAPES = {
    "many actions": {"height": 19, "width": 19, "extra": 1, "plies": 6},
    "three players": {"players": 3, "planes": 3, "plies": 9},
    "one player": {"players": 1, "planes": 1, "height": 2, "width": 3},
    "not square": {"height": 2, "width": 5, "extra": 3},
    "one row": {"planes": 1, "height": 1, "width": 7},
    "one cell": {"planes": 5, "height": 1, "width": 1, "extra": 4},
}
NETWORKS = {
    "resnet": {"pooling": True},
    "resnet pooled": {"heads": "pooled"},
    "transformer": {"network": "transformer"},
    "transformer linear": {"network": "transformer", "heads": "linear"},
    "own": {"network": "own_boards:Mlp"},
}


def made(shape, network, seed=0):
    game = playout.game(Marks(**SHAPES[shape]))
    return game, new_network(game, "8x2", seed=seed, **NETWORKS[network])


def total(row):
    return row["train/policy_loss"] + row["train/value_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_any_network_plays_and_learns_any_game(shape, network):
    game, net = made(shape, network)
    learner = Learner(net, LearnerConfig(batch_size=16), device="cpu")
    evaluator = NetworkEvaluator(learner.average, device="cpu", dtype="bfloat16")
    config = SelfPlayConfig(num_groups=1, num_trees=4, num_simulations=2, proof_nodes=0)
    play = SelfPlay(game, [evaluator], config, search=selfplay_search(2), seed=1)
    examples = []
    while sum(map(len, examples)) < 16:
        examples.append(play.play(20)[0])
    replay = Replay(game, 200)
    for part in examples:  # two simulations teach nothing: say which move was the best
        states = StateBatch.from_data(game, part.states, check=False)
        best = np.eye(game.num_actions, dtype=np.float32)[states.legal_mask().argmax(axis=1)]
        replay.add(Examples.from_dense(part.states, best, part.values, part.policy_weights))
    rows = [learner.step(replay.batch(0, 16), done=0.0) for _ in range(6)]
    assert total(rows[-1]) < total(rows[0])
    evaluator.refresh(learner.average)
    obs = game.batch(3).observe()
    logits, values = evaluator.evaluate_obs(obs)
    assert logits.shape == (3, game.num_actions)
    assert values.shape == ((3, 3) if game.num_players == 3 else (3,))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", ["three players", "not square"])
def test_any_network_is_restored_from_its_description(shape, network):
    game, net = made(shape, network, seed=4)
    again = restore_network(json.loads(json.dumps(net.config.to_dict())))
    assert again.config == net.config and again.config.to_dict() == net.config.to_dict()
    again.load_state_dict(net.state_dict())
    obs = torch.from_numpy(game.batch(4).observe())
    with torch.no_grad():
        for one, other in zip(net.eval()(obs), again.eval()(obs), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_seed_gives_the_same_weights_of_any_network(network):
    before = torch.random.get_rng_state()
    one, two, other = (made("not square", network, seed=seed)[1] for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    pairs = list(zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(
        torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_heads_and_answers_agree(network):
    """Values are tanh(logit / 2) of what the loss sees, in the copy that answers too."""
    game, net = made("not square", network)
    net.eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    states = game.batch(9)
    states.random_plies(np.arange(9, dtype=np.int32) % 5, 2)
    obs = torch.from_numpy(states.observe())
    with torch.no_grad():
        logits, value_logits = net.heads(obs)
        values = torch.tanh(value_logits[:, 0] / 2)
        torch.testing.assert_close(net(obs), (logits, values), atol=1e-4, rtol=1e-4)
    copied = net.inference_copy(dtype=torch.float32, device=torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(copied(obs), (logits, values), atol=1e-3, rtol=1e-3)
    assert values.abs().max() > 0.01


@pytest.mark.parametrize("network", ["resnet", "transformer", "own_boards:Mlp(values=2)"])
def test_two_players_whose_results_are_no_zero_sum_have_a_value_each(network):
    game = playout.game(Marks(zero_sum=False))
    net = new_network(game, "8x1", network=network)
    assert net.config.num_values == 2
    assert restore_network(net.config.to_dict()).config == net.config
    answers = NetworkEvaluator(net, device="cpu").evaluate_obs(game.batch(3).observe())
    assert answers[1].shape == (3, 2)
    config = SelfPlayConfig(num_groups=1, num_trees=4, num_simulations=2, proof_nodes=0)
    evaluators = [NetworkEvaluator(net, device="cpu")]
    play = SelfPlay(game, evaluators, config, search=selfplay_search(2), seed=1)
    examples, _ = play.play(40)
    replay = Replay(game, 200)
    replay.add(examples)
    Learner(net, LearnerConfig(batch_size=8), device="cpu").step(replay.batch(0, 8), done=0.0)


def test_only_huge_policies_get_pooled_heads_of_their_own():
    for shape, wanted in (("many actions", "pooled"), ("not square", "linear")):
        game = playout.game(Marks(**SHAPES[shape]))
        assert new_network(game, "base").config.heads == wanted
    game = playout.game("connect_four")
    assert "heads" not in new_network(game, "base", pooling=True).config.to_dict()


@pytest.mark.parametrize("network", ["resnet", "transformer"])
def test_pooled_heads_hold_no_weight_a_cell(network):
    counts = []
    for side in (5, 19):
        game = playout.game(Marks(height=side, width=side))
        net = new_network(game, "8x2", network=network, heads="pooled")
        named = {n: p for n, p in net.named_parameters() if n.startswith(("policy", "value"))}
        counts.append(sum(parameter.numel() for parameter in named.values()))
    assert counts[0] == counts[1] < 1000


def test_pooled_heads_answer_an_action_from_its_cell():
    game = playout.game(Marks(height=4, width=4))
    net = new_network(game, "8x1", heads="pooled").eval()
    obs = torch.zeros((2, 2, 4, 4))
    obs[1, 0, 3, 3] = 1.0  # the last cell: three rows away from the first one
    with torch.no_grad():
        net.policy.mix.weight.zero_()  # what the whole board tells every cell
        changed = (net(obs)[0][1] - net(obs)[0][0]).view(4, 4)
    assert changed[3, 3] != 0 and changed[0, 0] == 0


@pytest.mark.parametrize("network", ["resnet", "transformer"])
def test_what_is_no_kind_of_heads_is_refused(network):
    game = playout.game("tic_tac_toe")
    with pytest.raises(ConfigError, match="heads must be"):
        new_network(game, "tiny", network=network, heads="square")
    described = new_network(game, "tiny", network=network).config.to_dict()
    for damaged in ({"heads": "square"}, {"side_planes": [1]}, {"obs_shape": [3]}, {"colour": 1}):
        with pytest.raises(ConfigError, match="description"):
            restore_network({**described, **damaged})


def test_unknown_networks_are_refused():
    with pytest.raises(ConfigError, match="use resnet, transformer or module:Class"):
        new_network(playout.game("tic_tac_toe"), "tiny", network="lenet")
    with pytest.raises(ConfigError, match="network is 'lenet'"):
        restore_network({"network": "lenet"})


def test_descriptions_of_earlier_versions_are_those_of_today():
    net = new_network(playout.game("connect_four"), "tiny")
    assert sorted(net.config.to_dict()) == [
        "blocks",
        "channels",
        "head_channels",
        "num_actions",
        "num_players",
        "obs_shape",
        "pooling",
        "value_hidden",
    ]
    assert net.config.side_planes == (0, 1)

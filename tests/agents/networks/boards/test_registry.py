"""`BoardNetwork` is all that learning, self-play and evaluation ask of a network."""

import copy
from dataclasses import asdict, dataclass

import numpy as np
import playout
import pytest
import torch
from playout.agents.alphazero.config import LearnerConfig, SelfPlayConfig, selfplay_search
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.learner import Learner
from playout.agents.alphazero.proofs import TacticalEvaluator
from playout.agents.alphazero.replay import Replay
from playout.agents.alphazero.selfplay import SelfPlay
from playout.agents.networks.boards.registry import new_network, restore_network
from torch import nn

GAME = playout.game("tic_tac_toe")


@dataclass(frozen=True)
class LinearConfig:
    obs_shape: tuple = (2, 3, 3)
    num_actions: int = 9
    num_values: int = 1
    channels: int = 32

    def to_dict(self):
        return asdict(self)


class LinearInference(nn.Module):
    """Its own copy of the weights, in any dtype."""

    def __init__(self, net, dtype, device):
        super().__init__()
        self.net = copy.deepcopy(net).eval().to(device=device, dtype=dtype).requires_grad_(False)

    def forward(self, obs):
        logits, values = self.net(obs)
        return logits.float(), values.float()

    def refresh(self, net):
        self.net.load_state_dict(net.state_dict())


class LinearNetwork(nn.Module):
    """One matrix for the policy, one for the value: a network that is no ResNet."""

    undecayed = ()

    def __init__(self):
        super().__init__()
        self.config = LinearConfig()
        self.policy, self.value = nn.Linear(18, 9), nn.Linear(18, 1)

    def heads(self, obs):
        features = obs.flatten(1)
        return self.policy(features), self.value(features)

    def forward(self, obs):
        logits, value = self.heads(obs)
        return logits, torch.tanh(value[:, 0] / 2)

    def inference_copy(self, *, dtype, device):
        return LinearInference(self, dtype, device)


def test_a_network_of_ones_own_plays_learns_and_is_refreshed():
    torch.manual_seed(0)
    net = LinearNetwork()
    learner = Learner(net, LearnerConfig(batch_size=32, optimizer="adamw", dtype="float32"))
    evaluator = NetworkEvaluator(learner.average, device="cpu", dtype="float32")
    config = SelfPlayConfig(num_groups=1, num_trees=8, num_simulations=4)
    tactical = TacticalEvaluator(evaluator, GAME)
    play = SelfPlay(GAME, [tactical], config, search=selfplay_search(4), seed=1)
    examples, counts = play.play(200)
    assert counts.games > 0
    replay = Replay(GAME, 1000)
    replay.add(examples)
    rows = [learner.step(replay.batch(0, 32), done=0.1) for _ in range(30)]
    assert rows[-1]["train/policy_loss"] < rows[0]["train/policy_loss"]
    obs = GAME.batch(5).observe()
    before, _ = evaluator.evaluate_obs(obs)
    evaluator.refresh(learner.average)
    logits, values = evaluator.evaluate_obs(obs)
    with torch.no_grad():
        expected = learner.average(torch.from_numpy(obs))
    assert np.allclose(logits, expected[0], atol=1e-5) and np.allclose(values, expected[1])
    assert not np.allclose(logits, before, atol=1e-4)


@pytest.mark.parametrize("size", ["tiny", "8x1"])
def test_a_network_is_restored_from_its_description_and_weights(size):
    game = playout.game("connect_four")
    net = new_network(game, size, seed=5).eval()
    again = restore_network(net.config.to_dict()).eval()
    again.load_state_dict(net.state_dict())
    obs = torch.from_numpy(game.batch(3).observe())
    with torch.no_grad():
        for one, other in zip(net(obs), again(obs), strict=True):
            assert torch.equal(one, other)

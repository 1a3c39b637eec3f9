"""Weights of an earlier network begin a new one, whole or without what depends on the board."""

import numpy as np
import playout
import pytest
import torch
from playout.agents.networks.boards.registry import new_network
from playout.agents.networks.boards.transfer import take_weights
from playout.errors import ConfigError


def take(new, old, where="run"):
    return take_weights(new, old.state_dict(), description=old.config.to_dict(), where=where)


FOUR = playout.game("connect_four")


@pytest.mark.parametrize("network", ["resnet", "transformer"])
def test_a_network_of_the_same_shape_takes_all(network):
    old, new = (new_network(FOUR, "8x1", network=network, seed=seed) for seed in (1, 2))
    assert take(new, old) == []
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))


def test_a_network_of_another_board_takes_the_trunk_and_keeps_its_heads():
    old = new_network(FOUR, "8x2", seed=1)
    new = new_network(playout.game("connect_four(width=5,height=4)"), "8x2", seed=2)
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    fresh = take(new, old)
    assert 0 < len(fresh) < len(before) / 2
    after = new.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in fresh)
    taken = set(after) - set(fresh)
    assert all(torch.equal(after[name], old.state_dict()[name]) for name in taken)


@pytest.mark.parametrize(
    ("begun", "size"), [("8x2", "16x2"), ("8x2", "8x9"), ("8x3", "8x2"), ("8x2", "8x3")]
)
@pytest.mark.parametrize("network", ["resnet", "transformer"])
def test_a_network_of_another_size_is_refused_in_one_line(begun, size, network):
    old = new_network(FOUR, begun, network=network)
    with pytest.raises(ConfigError, match=r"runs/four.* width, depth") as found:
        take(new_network(FOUR, size, network=network), old, where="runs/four")
    assert "\n" not in str(found.value)


def test_a_network_that_reads_other_planes_is_refused():
    old = new_network(FOUR, "8x2")
    other = playout.game(Planes())
    with pytest.raises(ConfigError, match="reads 2 planes and this game shows 3"):
        take(new_network(other, "8x2"), old)


class Planes:
    """Two moves and a draw, shown on three planes."""

    name, num_players, num_actions, max_plies, obs_shape = "planes", 2, 7, 2, (3, 6, 7)

    def initial_state(self):
        return 0

    def to_play(self, state):
        return state if state < 2 else -1

    def legal_actions(self, state):
        return [0, 1]

    def apply(self, state, action):
        return state + 1

    def returns(self, state):
        return [0.0, 0.0]

    def observe(self, state, player):
        return np.zeros(self.obs_shape, np.float32)

    def encode(self, state):
        return bytes([state])

    def decode(self, data):
        return data[0]

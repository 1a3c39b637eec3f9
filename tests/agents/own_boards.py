"""A made-up game of any shape, and networks of a person's own, right and wrong ones."""

import numpy as np
import torch
from playout.agents.networks.boards.network import Tuning
from torch import nn


class Marks:
    """Players mark free cells in turn; who marks cell 0 wins, a full board is a draw."""

    name = "marks"

    def __init__(self, players=2, planes=2, height=3, width=3, extra=0, plies=None, zero_sum=True):
        self.zero_sum = zero_sum and players > 1
        self.num_players = players
        self.obs_shape = (planes, height, width)
        self.num_actions = height * width + extra
        self.max_plies = plies or self.num_actions

    def initial_state(self):
        return ()

    def to_play(self, state):
        over = 0 in state or len(state) == self.max_plies
        return -1 if over else len(state) % self.num_players

    def legal_actions(self, state):
        return [action for action in range(self.num_actions) if action not in state]

    def apply(self, state, action):
        return (*state, action)

    def returns(self, state):
        if 0 not in state:
            return [0.0] * self.num_players
        winner = state.index(0) % self.num_players
        lost = -1.0 / max(1, self.num_players - 1)
        lost = lost if self.zero_sum or self.num_players == 1 else -0.25
        return [1.0 if player == winner else lost for player in range(self.num_players)]

    def observe(self, state, player):
        planes, height, width = self.obs_shape
        found = np.zeros((planes, height * width), np.float32)
        for ply, action in enumerate(state):
            if action < height * width:
                found[(ply - player) % min(planes, self.num_players), action] = 1
        return found.reshape(self.obs_shape)

    state_bytes = 800

    def encode(self, state):
        return np.array(state, np.int16).tobytes()

    def decode(self, data):
        return tuple(int(n) for n in np.frombuffer(data, np.int16))


class Mlp(nn.Module):
    """The shortest network of one's own."""

    def __init__(self, obs_shape, num_actions, num_players, width=32, values=None):
        super().__init__()
        self.values = values or (num_players if num_players > 2 else 1)
        self.trunk = nn.Sequential(
            nn.Flatten(), nn.Linear(int(np.prod(obs_shape)), width), nn.ReLU()
        )
        self.out = nn.Linear(width, num_actions + self.values)

    def forward(self, obs):
        out = self.out(self.trunk(obs))
        return out[:, : -self.values], torch.tanh(out[:, -self.values :])


class Convolutions(nn.Module):
    """Takes its sizes from the dial; its values have one axis."""

    def __init__(self, obs_shape, num_actions, channels, blocks):
        super().__init__()
        layers = [nn.Conv2d(obs_shape[0], channels, 3, padding=1)]
        for _ in range(blocks):
            layers += [
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
            ]
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        cells = obs_shape[1] * obs_shape[2]
        self.policy = nn.Linear(channels * cells, num_actions)
        self.value = nn.Linear(channels * cells, 1)

    def forward(self, obs):
        x = self.trunk(obs)
        return self.policy(x), self.value(x)[:, 0]


class Insisting(Mlp):
    """Mixes in numbers in float32, so that it fails in any other dtype."""

    def forward(self, obs):
        return super().forward(obs @ torch.eye(obs.shape[-1], dtype=torch.float32))


class Branching(Mlp):
    """Looks at its batch: recorded as one operation it would answer for the first batch only."""

    def forward(self, obs):
        logits, values = super().forward(obs)
        return (logits + 1, values) if len(obs) > 20 else (logits, values)


class Bold(Mlp):
    """Says how it learns best, and which parts are heads."""

    tuning = Tuning(rate_scale=0.5, matrices=["trunk.1.weight"], heads=["out"])


class WrongLogits(Mlp):
    def forward(self, obs):
        logits, values = super().forward(obs)
        return logits[:, 1:], values


class WrongValues(Mlp):
    def forward(self, obs):
        logits, values = super().forward(obs)
        return logits, values.expand(-1, 2)


class Points(Mlp):
    def forward(self, obs):
        logits, values = super().forward(obs)
        return logits, 0 * values + 300


class Whole(Mlp):
    def forward(self, obs):
        logits, values = super().forward(obs)
        return logits, values.long()


class Flat(Mlp):
    def forward(self, obs):
        logits, values = super().forward(obs)
        return logits, values[:, 0]


class OnlyLogits(Mlp):
    def forward(self, obs):
        return super().forward(obs)[0]


class NotFinite(Mlp):
    def forward(self, obs):
        logits, values = super().forward(obs)
        return logits / 0, values


class Raises(Mlp):
    def forward(self, obs):
        return self.trunk(obs.mT[:, 1:]), obs


class NeedsMore(Mlp):
    def __init__(self, obs_shape, num_actions, num_players, depth):
        super().__init__(obs_shape, num_actions, num_players)


class Empty(nn.Module):
    def forward(self, obs):
        return obs.flatten(1), obs[:, 0, 0, 0]


def no_network(obs_shape):
    return obs_shape


not_callable = 3

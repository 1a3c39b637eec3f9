"""A network of your own for self-play: any torch module that answers boards with moves and values.

Its constructor takes what it needs of `obs_shape` (planes, rows, columns), `num_actions`,
`num_players`, and `channels` and `blocks` of --size; `forward` returns logits [M, A] and values in
[-1, 1], [M] for the side to move ([M, P] in games of more than two players). Run it:
python examples/own_board_network.py, or from the folder of this file
playout alphazero tic_tac_toe --network "own_board_network:Mixer(mixers=2)" --minutes 2
"""

import sys

import playout
import torch
from torch import nn


class Mixer(nn.Module):
    """Cells tell each other what they see by one matrix over the board, again and again."""

    def __init__(self, obs_shape, num_actions, channels=32, mixers=3):
        super().__init__()
        planes, rows, columns = obs_shape
        cells = rows * columns
        self.embed = nn.Linear(planes, channels)
        self.across = nn.ModuleList(nn.Linear(cells, cells) for _ in range(mixers))
        self.within = nn.ModuleList(nn.Linear(channels, channels) for _ in range(mixers))
        self.policy = nn.Linear(channels * cells, num_actions)
        self.value = nn.Linear(channels * cells, 1)

    def forward(self, obs):
        x = self.embed(obs.flatten(2).mT)  # [M, cells, channels]
        for across, within in zip(self.across, self.within, strict=True):
            x = x + across(torch.relu(x).mT).mT
            x = x + within(torch.relu(x))
        x = torch.relu(x).flatten(1)
        return self.policy(x), torch.tanh(self.value(x))[:, 0]


def main(run="runs/own-board-network", **options):
    """Trains it; returns the player."""
    run = playout.alphazero(
        "tic_tac_toe", network="own_board_network:Mixer(mixers=2)", run=run, **options
    )
    return playout.load(run.path)


if __name__ == "__main__":
    # So that the name "own_board_network:Mixer" means this very file.
    sys.modules["own_board_network"] = sys.modules["__main__"]
    player = main(minutes=1)
    print("its first move:", player.act(player.game.batch(1))[0])

"""A board network as a policy that PPO can train: `playout.ppo(game, policy=BoardPolicy(net))`.

Statistics of normalisations stay as the network has learned them, so that what was sampled and what
is learned from are of the same function. It has no memory and computes in float32.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from numpy.typing import NDArray
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.distributions import Categorical
from playout.agents.networks.policy import Minibatch, Outputs, PolicyStep, Tree
from torch import Tensor, nn


class BoardPolicy(nn.Module):
    """The policy and the value of a network for the side to move.

    Args:
        net: Is trained in place; of a game whose values are one number a position.
    """

    def __init__(self, net: BoardNetwork) -> None:
        super().__init__()
        self.net = net
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stays as it is: normalisations follow no batch."""
        return super().train(False)

    def _heads(self, obs: Tree, mask: Tensor | None) -> tuple[Categorical, Tensor]:
        logits, values = self.net(obs.float())
        return Categorical(logits.float(), mask), values.float()

    def initial_state(self, num_rows: int) -> Tree:
        """None: there is no memory."""
        return None

    @torch.no_grad()
    def step(
        self,
        obs: Tree,
        state: Tree = None,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
        noise: Tensor | None = None,
    ) -> PolicyStep:
        """Moves for observations [N, C, H, W]."""
        policy, values = self._heads(obs, mask)
        action = policy.mode() if deterministic else policy.sample(generator)
        return PolicyStep(action, policy.log_prob(action), values, None)

    @torch.no_grad()
    def value(self, obs: Tree, state: Tree = None) -> Tensor:
        """Values [N]."""
        return self._heads(obs, None)[1]

    def evaluate(self, batch: Minibatch) -> Outputs:
        """Log-probabilities, entropies and values [N] of a batch's actions."""
        policy, values = self._heads(batch.obs, batch.action_mask)
        return policy.log_prob(batch.actions), policy.entropy(), values

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Actions as the game takes them."""
        return actions.cpu().numpy()

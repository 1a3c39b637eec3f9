"""A board network as a policy that PPO can train: `--network resnet`, or `policy=BoardPolicy(net)`.

Statistics of normalisations stay as the network has learned them, so that what was sampled and what
is learned from are of the same function. It has no memory and computes in float32. Left out: what
the network begins with (networks/beginning.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Self

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.networks.boards.network import BoardNetwork, tuning_of
from playout.agents.networks.boards.registry import restore_network
from playout.agents.networks.boards.trunk import trunk_modules, trunk_parameters
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.distributions import Categorical, chosen
from playout.agents.networks.policy import Minibatch, Outputs, Policy, PolicyStep, Tree
from playout.errors import ConfigError
from torch import Tensor, nn


class BoardPolicy(nn.Module, Policy):
    """The policy and the value of a network for the side to move.

    Args:
        net: Is trained in place; of a game whose values are one number a position.
        fresh: Names of its weights that an earlier run has not taught, as `take_weights` tells
            them: they learn as heads do, whatever the rate of the trunk.
    """

    def __init__(self, net: BoardNetwork, *, fresh: Collection[str] = ()) -> None:
        super().__init__()
        self.net, self.fresh = net, fresh
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stays as it is: normalisations follow no batch."""
        return super().train(False)

    @property
    def inner_matrices(self) -> Collection[str]:
        """Those that the network names to Muon."""
        return [f"net.{name}" for name in tuning_of(self.net).matrices]

    @property
    def init_encoders(self) -> Sequence[nn.Module]:
        """The parts of the trunk."""
        return list(trunk_modules(self.net))

    @property
    def init_parameters(self) -> Collection[str]:
        """The trunk's, maps of the board among them, but for fresh ones."""
        return [f"net.{name}" for name in trunk_parameters(self.net, fresh=self.fresh)]

    def answer(self, obs: Tree) -> tuple[Tensor, Tensor]:
        """Observations [N, C, H, W] to logits [N, A] and values [N] in [-1, 1], float32."""
        logits, values = self.net(obs.float())
        return logits.float(), values.float()

    def _heads(self, obs: Tree, mask: Tensor | None) -> tuple[Categorical, Tensor]:
        logits, values = self.answer(obs)
        return Categorical(logits, mask), values

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:
        """A uniform number for the move of each of N games, [rows, 1]."""
        return torch.empty(rows, 1).uniform_(generator=generator)

    def draw_as_sampled(self, rows: int, generator: torch.Generator) -> Tensor:
        """Clocks of a race among the moves of each game, [rows, A]."""
        return torch.empty(rows, self.net.config.num_actions).exponential_(generator=generator)

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
        """Moves for observations [N, C, H, W]; `noise` replaces the numbers of `generator`."""
        policy, values = self._heads(obs, mask)
        action = chosen(policy, generator=generator, deterministic=deterministic, noise=noise)
        return PolicyStep(action, policy.log_prob(action), values, None)

    @torch.no_grad()
    def value(self, obs: Tree, state: Tree = None) -> Tensor:
        """Values [N]."""
        return self.answer(obs)[1]

    def evaluate(self, batch: Minibatch) -> Outputs:
        """Log-probabilities, entropies and values [N] of a batch's actions."""
        policy, values = self._heads(batch.obs, batch.action_mask)
        return policy.log_prob(batch.actions), policy.entropy(), values

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Actions as the game takes them."""
        return actions.cpu().numpy()


def board_policy(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any], config: NetworkConfig
) -> BoardPolicy:
    """The policy of the network that `config.board` describes; its weights are arbitrary.

    Raises:
        ConfigError: it describes none, or one for other observations or other actions.
    """
    if config.board is None:
        raise ConfigError(
            f"network {config.network!r} is made for one game, as `playout ppo GAME` does"
        )
    net = restore_network(config.board, "the network of this run")
    for space, wanted in (
        (observation_space, net.config.obs_shape),
        (action_space, net.config.num_actions),
    ):
        found = int(space.n) if isinstance(space, spaces.Discrete) else space.shape
        if found != wanted:
            raise ConfigError(
                f"network {config.network!r} plays boards of {net.config.obs_shape} with "
                f"{net.config.num_actions} actions; {space} is none of these"
            )
    return BoardPolicy(net, fresh=config.fresh)

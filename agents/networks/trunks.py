"""Trunks: encoder, optional recurrent core and layers, from an observation to features.

The parts are chosen from the observation space and a NetworkConfig. Leaves out heads (heads.py) and
how trunks are shared between policy and value (actor_critic.py).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from gymnasium import spaces
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.encoders.choice import build_encoder
from playout.agents.networks.encoders.vectors import MLP
from playout.agents.networks.policy import Minibatch, Outputs, Tree
from playout.agents.networks.precision.lowered import lowered
from playout.agents.networks.recurrent import Core
from playout.errors import ConfigError
from playout.own_code import load_object
from torch import Tensor, nn


class Trunk(nn.Module):
    """Encoder, optional recurrent core, layers: observation to features."""

    def __init__(self, space: spaces.Space[Any], config: NetworkConfig) -> None:
        super().__init__()
        self.encoder = _encoder(space, config)
        width = int(self.encoder.num_features)  # type: ignore[arg-type]
        self.core: Core | None = None
        if config.recurrent != "none":
            self.core = Core(config.recurrent, width, config.recurrent_size)
            width = config.recurrent_size
        self.dtype = torch.float32
        self.activation = config.activation
        hidden = config.hidden
        if hidden is None:
            hidden = () if has_images(space, config.network) else (64, 64)
        self.layers = MLP(width, tuple(hidden), config.activation)
        self.num_features = self.layers.num_features

    def step(self, obs: Tree, state: Any) -> tuple[Tensor, Any]:
        """Features `[N, F]` and the next state."""
        x = self._lower(self.encoder, obs)
        if self.core is not None:
            x, state = self.core.step(x, state)
        return self._lower(self.layers, x), state

    def sequence(self, obs: Tree, state: Any, starts: Tensor | None) -> Tensor:
        """Features `[R * T, F]` of flattened rows."""
        x = self._lower(self.encoder, obs)
        if self.core is not None:
            assert starts is not None
            x = self.core(x, state, starts)
        return self._lower(self.layers, x)

    def _lower(self, part: nn.Module, x: Tree) -> Tensor:
        """`part(x)` computed in `dtype`; a memory, which sums over time, stays in float32."""
        if self.dtype == torch.float32:
            return part(x)
        device = next(self.parameters()).device.type
        with lowered(device, self.dtype):
            found: Tensor = part(x)
        return found.float()


class ParallelTrunks:
    """`evaluate` and `backward` of two separate recurrent trunks, on two cores at once.

    The recurrence of policy and value has nothing in common until the heads, and a thread for each
    is worth far more than two threads inside every small product. The numbers are those of one
    thread. Collection keeps to one: its single steps are too short to share.

    Args:
        features: Features of a minibatch's steps by the policy's and by the value's trunk.
        outputs: What `evaluate` returns, from both features.
    """

    def __init__(
        self,
        features: tuple[Callable[[Minibatch], Tensor], Callable[[Minibatch], Tensor]],
        outputs: Callable[[Tensor, Tensor, Minibatch], Outputs],
    ) -> None:
        self.trunk_features, self.outputs = features, outputs
        self.pool = ThreadPoolExecutor(1, "trunk", initializer=torch.set_num_threads, initargs=(1,))

    def evaluate(self, batch: Minibatch) -> Outputs:
        """Log-probabilities, entropies, values; their graph ends at the trunks' features."""
        first, second = self.trunk_features
        value = self.pool.submit(second, batch)
        self.features = [first(batch), value.result()]
        self.leaves = [x.detach().requires_grad_() for x in self.features]
        self.found = self.outputs(self.leaves[0], self.leaves[1], batch)
        return self.found

    def backward(
        self, logprob_grad: Tensor, entropy_grad: Tensor | None, value_grad: Tensor
    ) -> None:
        """Add the gradient of the last `evaluate` to the parameters'."""
        logprobs, entropy, values = self.found
        outputs, grads = [logprobs, values], [logprob_grad, value_grad]
        if entropy_grad is not None and entropy.requires_grad:
            outputs.append(entropy)
            grads.append(entropy_grad)
        torch.autograd.backward(outputs, grads)
        first, second = self.features
        value = self.pool.submit(second.backward, self.leaves[1].grad)
        first.backward(self.leaves[0].grad)
        value.result()


def has_images(space: spaces.Space[Any], network: str) -> bool:
    """Whether any part of the observation goes through a convolutional (or your own) encoder."""
    if ":" in network:
        return True
    if isinstance(space, spaces.Dict):
        return any(has_images(part, network) for part in space.spaces.values())
    if network == "mlp" or not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
        return False
    return network != "auto" or len(space.shape) == 3 or space.dtype == "uint8"


def _encoder(space: spaces.Space[Any], config: NetworkConfig) -> nn.Module:
    if ":" not in config.network:
        return build_encoder(space, config.network)
    encoder = load_object(config.network, "network")(space)
    if not isinstance(encoder, nn.Module) or not hasattr(encoder, "num_features"):
        raise ConfigError(
            f"{config.network} must be an nn.Module with an attribute num_features (an encoder), "
            "or have the methods step and evaluate (a whole policy)"
        )
    return encoder

"""Trunks: encoder, optional recurrent core and layers, from an observation to features.

The parts are chosen from the observation space and a NetworkConfig. Leaves out heads (heads.py) and
how trunks are shared between policy and value (actor_critic.py).
"""

from typing import Any

from gymnasium import spaces
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.encoders import MLP, build_encoder
from playout.agents.networks.policy import Tree
from playout.agents.networks.recurrent import Core
from playout.agents.own_code import load_object
from playout.errors import ConfigError
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
        self.activation = config.activation
        hidden = config.hidden
        if hidden is None:
            hidden = () if has_images(space, config.network) else (64, 64)
        self.layers = MLP(width, tuple(hidden), config.activation)
        self.num_features = self.layers.num_features

    def step(self, obs: Tree, state: Any) -> tuple[Tensor, Any]:
        """Features `[N, F]` and the next state."""
        x = self.encoder(obs)
        if self.core is not None:
            x, state = self.core.step(x, state)
        return self.layers(x), state

    def sequence(self, obs: Tree, state: Any, starts: Tensor | None) -> Tensor:
        """Features `[R * T, F]` of flattened rows."""
        x = self.encoder(obs)
        if self.core is not None:
            assert starts is not None
            x = self.core(x, state, starts)
        features: Tensor = self.layers(x)
        return features


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

"""Architecture of a policy for Gymnasium spaces, as a frozen dataclass; no torch here.

A PPO run stores it and `playout ppo --help` shows it. Of a board network (boards/) it says kind and
size, and keeps the description. Leaves out language models (rlhf), which have a configuration of
their own.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from playout.errors import ConfigError
from tyro.conf import Suppress, arg

BOARD_NETWORKS = ("resnet", "transformer")
"""Kinds of board networks, by the names that they have in self-play as well."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Architecture of the policy."""

    network: str = "auto"
    """Encoder: auto (as --init has it, if given), mlp, nature, impala, impala-2x, impala-4x,
    resnet-8, grid, or your own nn.Module as module:Class. For a board game also resnet or
    transformer: the whole network that alphazero learns."""
    size: Annotated[str, arg(metavar="SIZE", help_behavior_hint="")] = ""
    """Of a resnet or transformer: tiny, small, medium, base, large or CHANNELSxBLOCKS (48x6); by
    default that of --init, else base."""
    hidden: Annotated[tuple[int, ...] | None, arg(metavar="N ...", help_behavior_hint="")] = None
    """Layers above the encoder (and memory); by default 64, 64 over vectors, none over images."""
    activation: str = "tanh"
    """tanh, relu, silu, gelu or elu."""
    shared_trunk: Annotated[bool | None, arg(help_behavior_hint="")] = None
    """One trunk for policy and value; by default only over images."""
    recurrent: Literal["none", "lstm", "gru"] = "none"
    """Memory between encoder and layers."""
    recurrent_size: int = 128
    """Width of the memory."""
    squash: bool = False
    """Squash continuous actions into their bounds by tanh instead of clipping them."""
    log_std_init: float = 0.0
    """Log deviation of continuous actions at the start."""
    state_dependent_std: bool = False
    """Let the network give the deviation instead of one free parameter an action."""
    board: Suppress[dict[str, Any] | None] = None
    """Of a resnet or transformer: its shape, which a run notes when it begins."""
    fresh: Suppress[tuple[str, ...]] = ()
    """Of the same: names of the weights that the run of --init has not taught."""

    def __post_init__(self) -> None:
        if self.recurrent not in ("none", "lstm", "gru"):
            raise ConfigError(f"recurrent must be one of none, lstm, gru, not {self.recurrent!r}")
        if self.recurrent_size < 1:
            raise ConfigError(f"recurrent_size must be at least 1, not {self.recurrent_size}")
        if any(width < 1 for width in self.hidden or ()):
            raise ConfigError(f"hidden layers need at least one unit each, not {self.hidden}")
        if self.size and self.network not in ("auto", *BOARD_NETWORKS):
            raise ConfigError(
                f"size is that of a resnet or transformer: leave it out with network {self.network}"
            )

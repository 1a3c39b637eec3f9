"""Which weights of a board network are its trunk: all that its `Tuning` does not name as heads.

A trunk that an earlier run has taught may learn at a rate of its own, or stay as it is. Left out:
copying weights (transfer.py), and what the optimisers make of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from playout.agents.networks.boards.network import BoardNetwork, tuning_of
from playout.errors import ConfigError
from torch import Tensor, nn

__all__ = ["freeze", "moving_statistics", "trunk_modules", "trunk_parameters"]


def _below(name: str, others: Collection[str]) -> bool:
    """Whether a dotted name is one of the others, or within one."""
    return any(f"{name}.".startswith(f"{other}.") for other in others)


def trunk_parameters(net: BoardNetwork, *, fresh: Collection[str] = ()) -> list[str]:
    """Names of the parameters below the heads that an earlier run has taught.

    Args:
        net: the network.
        fresh: names of those that it has not, as `take_weights` tells them.

    Raises:
        ConfigError: it does not say which are its heads.
    """
    heads = tuning_of(net).heads
    if not heads:
        raise ConfigError(
            "a rate of the trunk's own needs a network that names its heads (Tuning.heads)"
        )
    names = [name for name, _ in net.named_parameters() if not _below(name, heads)]
    return [name for name in names if name not in fresh]


def trunk_modules(net: BoardNetwork) -> Iterator[nn.Module]:
    """The modules below the heads, whole where they hold no head."""
    heads = tuning_of(net).heads
    for name, module in net.named_modules():
        holds = any(_below(head, [name]) for head in heads) if name else True
        if not holds and not _below(name, heads):
            yield module


def moving_statistics(
    net: BoardNetwork | nn.Module, *, still: Iterable[nn.Module] = ()
) -> list[Tensor]:
    """Running means and variances of a network, but for those of modules that stand still."""
    left = {id(buffer) for module in still for buffer in module.buffers()}
    return [x for x in net.buffers() if x.is_floating_point() and id(x) not in left]


def freeze(net: BoardNetwork | nn.Module, names: Collection[str]) -> None:
    """Lets these parameters learn no more."""
    for name, parameter in net.named_parameters():
        if name in names:
            parameter.requires_grad_(False)

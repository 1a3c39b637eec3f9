"""Flags of pruning: which weights of the base go before its first step, while the others learn on.

The words are those of `playout pretrain-trunk`. They cost no torch; zeros are agents/pretraining/
pruning.py's, heads and channels model/adapters/narrowed.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

if TYPE_CHECKING:
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.supervised.trainer import SupervisedTrainer

__all__ = ["PruneOptions", "check_pruning", "drop", "narrow", "say_pruned"]

Pattern = Annotated[
    Literal["unstructured", "2:4", "heads", "channels"],
    arg(metavar="unstructured|2:4|heads|channels"),
]


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """Making the base smaller before it learns on."""

    sparsity: float = 0.0
    """Share of the layers' weights that go before the first step."""
    pattern: Pattern = "unstructured"
    """Which: the smallest of each matrix (unstructured) or two of every four (2:4) become zero and
    stay there; whole heads or channels are removed, and the model is smaller and faster for it."""


def check_pruning(command: PruneOptions, *, base: bool) -> None:
    """Refuses what prunes nothing.

    Args:
        command: What is asked for.
        base: Whether there is a model to prune.

    Raises:
        ConfigError: It names the flag.
    """
    from playout.errors import ConfigError

    if command.sparsity and not base:
        raise ConfigError("there is nothing to prune in a new model; name one with --base RUN")
    if command.pattern != "unstructured" and not command.sparsity:
        raise ConfigError(f"--pattern {command.pattern} needs --sparsity, such as 0.5")


def narrow(command: PruneOptions, model: Transformer) -> Transformer:
    """The model without the heads or channels that go; the model itself where none do.

    Raises:
        ConfigError: The flags mean nothing.
    """
    from playout.rlhf.model.adapters.narrowed import NARROWED, narrowed

    check_pruning(command, base=True)
    if not command.sparsity:
        return model
    if command.pattern in NARROWED:
        return narrowed(model, command.sparsity, command.pattern)
    return model


def drop(command: PruneOptions, trainer: SupervisedTrainer) -> None:
    """Sets to zero what becomes zero, and keeps it there while the trainer learns."""
    from playout.rlhf.model.adapters.narrowed import NARROWED

    if command.sparsity and command.pattern not in NARROWED:
        trainer.prune(command.sparsity, command.pattern)


def say_pruned(command: PruneOptions, trainer: SupervisedTrainer, model: Transformer) -> None:
    """Says at the end what pruning has left, if any was asked for."""
    if not command.sparsity:
        return
    config = model.config
    if trainer.pruning is not None:
        left = f"{100 * trainer.pruning.share:.1f} % of the layers' weights are zero"
    elif command.pattern == "heads":
        left = (
            f"each layer has {config.num_attention_heads} heads, key heads "
            f"{config.num_key_value_heads}"
        )
    else:
        left = f"feed-forward networks are {config.intermediate_size} wide"
    print(f"pruned ({command.pattern}): {left}", flush=True)

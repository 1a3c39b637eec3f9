"""Flags that save memory: adapters, parts of a batch, activations computed twice.

They cost no torch. The adapters themselves are model/adapters/'s; the type of weights that do not
learn is options.py's `--weights`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import arg

if TYPE_CHECKING:
    import torch
    from playout.rlhf.model.adapters.lora import LoRAConfig
    from playout.rlhf.model.transformer import Transformer
    from torch import nn

__all__ = [
    "ActivationOptions",
    "AdapterOptions",
    "MicrobatchOptions",
    "ShardOptions",
    "adapt",
    "check_shard",
    "first_device",
    "lora_config",
    "spread",
]


@dataclass(frozen=True, kw_only=True)
class ActivationOptions:
    """What is kept between the passes."""

    checkpoint_activations: bool = False
    """Keep only what enters each layer and compute the rest again in the backward pass: the same
    gradients, less memory, about a third more time."""


@dataclass(frozen=True, kw_only=True)
class MicrobatchOptions(ActivationOptions):
    """How much of a step's batch is in memory at once."""

    microbatch: int = 0
    """Records a forward pass: gradients add up to those of the whole batch; 0 takes it at once."""


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Where weights lie in a job of several processes."""

    shard: bool = False
    """Under torchrun: cut weights, gradients and moments over the processes (FSDP2), for a model
    that is too large for one card; the same training, and the same files."""

    typed_only: ClassVar[frozenset[str]] = frozenset({"shard"})


@dataclass(frozen=True, kw_only=True)
class AdapterOptions(ActivationOptions):
    """Adapters that learn in place of the weights."""

    lora_rank: int = 0
    """Train low-rank adapters of this rank; switched off, they give the reference. They are left in
    RUN/adapter for PEFT as well, and a checkpoint holds them alone."""
    lora_alpha: float = 16.0
    """With --lora-rank: what adapters add is scaled by alpha / rank."""
    lora_targets: Annotated[str, arg(metavar="NAME,NAME,...", help_behavior_hint="")] = ""
    """With --lora-rank: which layers, of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and
    down_proj, or all-linear; by default all, those that are computed together sharing a matrix.
    experts, router and lm_head are named beside them; neither all nor all-linear has those."""


def check_shard(command: ShardOptions, **refused: object) -> None:
    """Refuse, before anything is made, a model that is to be cut where that cannot be.

    Args:
        command: The command.
        **refused: Its options that do not go together with it.

    Raises:
        ConfigError: there is one process only, or one of these options is given.
    """
    from playout.agents.runs import ranks
    from playout.errors import ConfigError

    if not command.shard:
        return
    if ranks.world() == 1:
        raise ConfigError(
            "--shard cuts a model over the processes of a job; start it with: torchrun "
            "--nproc-per-node N -m -- playout rlhf ..."
        )
    optimizer = getattr(command, "optimizer", "adam")  # the others move whole weights
    for name, value in {**refused, f"optimizer {optimizer}": optimizer != "adam"}.items():
        if value:
            raise ConfigError(f"--shard does not go together with --{name.replace('_', '-')}")


def first_device(command: ShardOptions, device: torch.device) -> torch.device | None:
    """Where a model lies first: on its device, or on the processor (None) until it is cut."""
    return None if command.shard else device


def spread(model: nn.Module, command: ShardOptions, device: torch.device) -> None:
    """Cut a model over all ranks, each part on its device, if the command says so."""
    if command.shard:
        from playout.rlhf.model.sharding import shard

        shard(model, device)


def lora_config(command: AdapterOptions, *, dropout: float = 0.0) -> LoRAConfig | None:
    """The adapters that a command asks for; None for none.

    Raises:
        ConfigError: they cannot be.
    """
    from playout.errors import ConfigError
    from playout.rlhf.model.adapters.lora import LoRAConfig, parse_targets

    if not command.lora_rank:
        given = [
            name for name, on in (("targets", command.lora_targets), ("dropout", dropout)) if on
        ]
        if given:
            raise ConfigError(f"--lora-{given[0]} needs --lora-rank")
        return None
    return LoRAConfig(
        rank=command.lora_rank,
        alpha=command.lora_alpha,
        dropout=dropout,
        targets=parse_targets(command.lora_targets),
    )


def adapt(
    model: Transformer,
    command: AdapterOptions,
    *,
    seed: int,
    weights: str = "float32",
    dropout: float = 0.0,
    others: bool = False,
) -> None:
    """Give a model what a command's flags say, in place.

    Args:
        model: The model that is to learn.
        command: The command.
        seed: Of the adapters' first weights.
        weights: How what does not learn is held.
        dropout: Of the adapters.
        others: Models beside it, such as a reference, are held so as well.

    Raises:
        ConfigError: The flags do not go together.
    """
    from playout.errors import ConfigError
    from playout.rlhf.model.adapters.held import held_type, hold_weights, is_quantised
    from playout.rlhf.model.adapters.lora import add_adapters

    config, kind = lora_config(command, dropout=dropout), held_type(weights)
    model.recompute = command.checkpoint_activations
    if config is not None:
        add_adapters(model, config, seed=seed)
        hold_weights(model, kind)
    elif is_quantised(model):
        raise ConfigError("the base is quantised and cannot learn; add adapters: --lora-rank 16")
    elif weights != "float32" and not others:
        raise ConfigError(f"weights in {weights} cannot learn; add adapters above: --lora-rank 16")

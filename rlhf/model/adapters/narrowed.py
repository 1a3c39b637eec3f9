"""Structured pruning: a model without its least heads, or without its least channels.

What goes is removed from the matrices, so that the model is smaller and faster as it is, unlike
zeros (agents/pretraining/pruning.py). A head counts as much as the product of the norms of what
writes and reads its values; a channel of the SwiGLU likewise. All layers keep the same number.
Leaves out data: the choice follows from the weights, so a resumed run makes it again.
"""

from dataclasses import replace

import torch
from playout.errors import ConfigError
from playout.rlhf.model.adapters.held import is_quantised
from playout.rlhf.model.transformer import Block, Transformer, TransformerConfig
from torch import Tensor

__all__ = ["NARROWED", "narrowed"]

NARROWED = ("heads", "channels")
"""What may be removed: key heads with the query heads that share them, or channels."""


def _kept(worth: Tensor, count: int) -> Tensor:
    """Numbers of the `count` most worth, ascending."""
    return worth.argsort(descending=True, stable=True)[:count].sort().values


def _rows(groups: Tensor, size: int) -> Tensor:
    """Row numbers of groups of `size` consecutive rows."""
    return (groups[:, None] * size + torch.arange(size, device=groups.device)).flatten()


def _copy_heads(old: Block, new: Block, config: TransformerConfig) -> None:
    """Fill the attention of a block that has fewer heads."""
    size, keys = config.head_dim, config.num_key_value_heads
    group = config.num_attention_heads // keys
    queries = config.num_attention_heads * size
    qkv, out = old.qkv_proj.dense(), old.o_proj.dense()
    values = qkv[queries + keys * size :].view(keys, -1).norm(dim=1)
    read = out.view(len(out), keys, -1).norm(dim=(0, 2))
    kept = _kept(values * read, new.config.num_key_value_heads)
    mine, theirs = _rows(kept, group * size), _rows(kept, size)
    rows = torch.cat([mine, queries + theirs, queries + keys * size + theirs])
    new.qkv_proj.weight.copy_(qkv[rows])
    if old.qkv_proj.bias is not None and new.qkv_proj.bias is not None:
        new.qkv_proj.bias.copy_(old.qkv_proj.bias[rows])
    new.o_proj.weight.copy_(out[:, mine])
    if old.o_proj.bias is not None and new.o_proj.bias is not None:
        new.o_proj.bias.copy_(old.o_proj.bias)


def _copy_channels(old: Block, new: Block, config: TransformerConfig) -> None:
    """Fill the SwiGLU of a block that has fewer channels; every expert keeps its own best."""
    count, inner = new.config.intermediate_size, config.intermediate_size
    first, second = (
        (block.experts.gate_up_proj, block.experts.down_proj)
        if block.experts is not None
        else (block.gate_up_proj, block.down_proj)
        for block in (old, new)
    )
    experts = max(1, config.num_experts)
    gate_up = first[0].dense().view(experts, 2, inner, -1)
    down = first[1].dense().view(experts, -1, inner)
    ups, downs, chosen = [], [], torch.arange(0)
    for into, out in zip(gate_up, down, strict=True):
        worth = into.norm(dim=2).prod(0) * out.norm(dim=0)
        chosen = _kept(worth, count)
        ups.append(into[:, chosen].flatten(0, 1))
        downs.append(out[:, chosen])
    second[0].weight.copy_(torch.cat(ups))
    second[1].weight.copy_(torch.cat(downs))
    if first[0].bias is not None and second[0].bias is not None:
        rows = torch.cat([chosen, inner + chosen])
        second[0].bias.copy_(first[0].bias[rows])
    if first[1].bias is not None and second[1].bias is not None:
        second[1].bias.copy_(first[1].bias)


@torch.no_grad()
def narrowed(model: Transformer, share: float, what: str) -> Transformer:
    """A new model without a share of its heads or channels, which learns.

    Args:
        model: Without adapters; it stays as it is.
        share: Of heads or channels that go, above 0 and below 1; at least one goes, one stays.
        what: One of `NARROWED`.

    Raises:
        ConfigError: There is nothing to remove, or the weights are quantised.
    """
    config = model.config
    if what not in NARROWED:
        raise ConfigError(f"{' or '.join(NARROWED)} can be removed, not {what!r}")
    if not 0 < share < 1:
        raise ConfigError(f"--sparsity {share:g}: choose above 0 and below 1")
    if is_quantised(model):
        raise ConfigError("weights in codes cannot be pruned; prune what they were made from")
    keys, inner = config.num_key_value_heads, config.intermediate_size
    if what == "heads":
        count = max(1, min(keys - 1, round(keys * (1 - share))))
        queries = config.num_attention_heads // keys * count
        shape = replace(config, num_attention_heads=queries, num_key_value_heads=count)
        if count == keys:
            raise ConfigError("a model of one key head has none to lose")
    else:
        count = max(1, min(inner - 1, round(inner * (1 - share))))
        if count > 8:
            count = count // 8 * 8  # matrices of odd widths are slow
        shape = replace(config, intermediate_size=count)
        if count == inner:
            raise ConfigError("a model of one channel has none to lose")
    small = Transformer(shape, seed=None).to(model.device)
    own = dict(small.named_parameters())
    for name, parameter in model.named_parameters():
        if own[name].shape == parameter.shape:
            own[name].copy_(parameter)
    for old, new in zip(model.blocks, small.blocks, strict=True):
        (_copy_heads if what == "heads" else _copy_channels)(old, new, config)
    small.recompute = model.recompute
    return small

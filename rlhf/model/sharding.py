"""A model whose weights lie cut over ranks (FSDP2, torch.distributed.fsdp), for one too large.

Every rank holds some rows of every parameter; those of a block are gathered while it computes,
forward and backward, and let go again. Here stands what is cut, and how the whole comes back: for
checkpoints and exports, which are those of an ordinary model, for samples, for a reference, and
for a while on every rank that samples by itself. Gathering needs every rank. The optimiser is
agents/optim/sharded_adam.py.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from playout.agents.optim.sharded_adam import held_rows, own_rows, whole
from playout.agents.runs import ranks
from playout.rlhf.model.transformer import Transformer
from torch import Tensor, nn

__all__ = [
    "gathered",
    "is_sharded",
    "place_beside",
    "shard",
    "sharded_copy",
    "take_state",
    "whole_model",
    "whole_state",
]

M = TypeVar("M", bound=nn.Module)

# Of every cut module its structure, without weights.
_skeletons: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()


def is_sharded(module: nn.Module) -> bool:
    """Whether a module was given to `shard`."""
    return module in _skeletons


def shard(module: M, device: torch.device) -> M:
    """Cut a module's parameters over all ranks, in place, and put its part on a device.

    It may lie on the processor before: no more than a block of it is whole on the device at once.
    """
    ranks.start(device)
    skeleton = _without_weights(module)
    for unit in _units(module):
        _cut(unit, device)
    _skeletons[module] = skeleton
    return module


def place_beside(module: M, model: Transformer) -> M:
    """Put a head where its model lies: cut over all ranks, if that is."""
    return shard(module, model.device) if is_sharded(model) else module.to(model.device)


def _cut(unit: nn.Module, device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(unit, mesh=init_device_mesh(device.type, (ranks.world(),)))


@contextmanager
def gathered(*modules: nn.Module | None) -> Iterator[None]:
    """Inside, cut modules are whole on every rank, which computes with them without the others.

    Every rank enters. Nothing is differentiated inside. What is not cut stays as it is.
    """
    cut = [module for module in modules if module is not None and is_sharded(module)]
    units: list[tuple[Any, bool]] = [
        (unit, unit is not module) for module in cut for unit in _units(module)
    ]
    try:
        for unit, _ in units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        yield
    finally:
        for unit, inner in units:
            # The last norm and the output layer are asked after the forward pass has ended.
            unit.set_reshard_after_forward(inner, recurse=False)
            unit.reshard()


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """What is gathered at a time: each block, then the rest."""
    if isinstance(module, Transformer):
        yield from module.blocks
    yield module


def _without_weights(module: M) -> M:
    """A copy whose parameters hold nothing; buffers are the same ones."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    for parameter in module.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    return copy.deepcopy(module, memo)


def _at_rest(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters by name, all of them cut: what was gathered to be asked is let go first."""
    for unit in module.modules():
        reshard = getattr(unit, "reshard", None)
        if reshard is not None:
            reshard()
    yield from module.named_parameters()


def sharded_copy(model: Transformer, weights: torch.dtype, *, learns: bool = False) -> Transformer:
    """A copy of a cut model, cut alike, its weights held as `weights`.

    It is frozen, or learns as the model does.
    """
    twin, device = _without_weights(_skeletons[model]), model.device
    assert isinstance(twin, Transformer)
    for unit in _units(twin):
        for owner in [twin] if unit is twin else unit.modules():
            for name, parameter in list(owner.named_parameters(recurse=False)):
                empty = torch.empty(parameter.shape, dtype=weights, device=device)
                grad = learns and parameter.requires_grad
                setattr(owner, name, nn.Parameter(empty, requires_grad=grad))
        _cut(unit, device)
    _skeletons[twin] = _without_weights(_skeletons[model])
    for (_, kept), (_, given) in zip(_at_rest(twin), _at_rest(model), strict=True):
        held_rows(kept).copy_(held_rows(given))
    return twin


@torch.no_grad()
def whole_state(module: nn.Module, *, frozen: bool = True) -> dict[str, Tensor]:
    """A cut module's parameters by name, whole and on the processor; empty but on rank 0.

    Args:
        module: What `shard` has cut; every rank calls this.
        frozen: Also those that do not learn.
    """
    found = {}
    for name, parameter in _at_rest(module):
        if parameter.requires_grad or frozen:
            full = whole(parameter)
            if ranks.is_first():
                found[name] = full.cpu()
    return found


@torch.no_grad()
def take_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Every rank takes its rows of the whole parameters in `state`."""
    for name, parameter in _at_rest(module):
        if name in state:
            held_rows(parameter).copy_(own_rows(state[name], parameter))


def whole_model(model: M) -> M | None:
    """A model as it is now, plain and on the processor where it was cut; None but on rank 0.

    Every rank calls it. A model that is not cut comes back itself.
    """
    if not is_sharded(model):
        return model if ranks.is_first() else None
    state = whole_state(model)
    if not ranks.is_first():
        return None
    skeleton = _skeletons[model]
    memo = {id(buffer): buffer.detach().cpu() for buffer in skeleton.buffers()}
    plain = copy.deepcopy(skeleton, memo)
    plain.load_state_dict(state, strict=False, assign=True)
    return plain  # type: ignore[return-value]

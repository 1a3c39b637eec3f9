"""Weights that do not learn: the types that hold them, and what a checkpoint leaves out.

bfloat16 takes half of float32's memory, int8 (a scale a row) a quarter, NF4 (Dettmers et al. 2023:
four bits, a scale for every 64 weights) an eighth. Only the projections of the blocks are
quantised; embeddings and gains beside them are bfloat16. A quantised matrix is made plain where a
layer computes, forward and backward, and forgotten again. What learns stays float32.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from playout.agents.networks.precision.codes import NF4_BLOCK, from_codes, to_codes
from playout.errors import CheckpointError, ConfigError
from playout.rlhf.model.experts.layer import Experts
from playout.rlhf.model.sharding import is_sharded, take_state, whole_state
from playout.rlhf.model.transformer import Projection, Transformer
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

__all__ = [
    "HELD",
    "QuantizedProjection",
    "check_codes",
    "held_type",
    "hold_weights",
    "is_quantised",
    "learned_state",
    "learning_copy",
    "load_learned",
    "weight_bytes",
]

HELD = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
    "nf4": torch.quint4x2,
}
"""`--weights` -> the type that stands for it."""


def held_type(name: str) -> torch.dtype:
    """The type that `--weights` names."""
    if name not in HELD:
        raise ConfigError(f"weights are held as {', '.join(HELD)}, not as {name!r}")
    return HELD[name]


class QuantizedProjection(Projection):
    """A frozen projection of integers with scales.

    Attributes:
        codes: int8 [out, in], or uint8 [out * in / 2] with two NF4 codes in each, the first above.
        scales: float32 [out, 1], or [out * in / 64].
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, base: Projection, kind: torch.dtype) -> None:
        """Quantise `base` to int8 or NF4 (torch.quint4x2)."""
        nn.Module.__init__(self)
        weight = base.dense().detach().float()
        self._shape = weight.shape[0], weight.shape[1]
        if kind != torch.int8 and weight.numel() % NF4_BLOCK:
            raise ConfigError(
                f"NF4 holds weights by {NF4_BLOCK}; a matrix of {list(weight.shape)} is no multiple"
            )
        codes, scales = to_codes(weight, "int8" if kind == torch.int8 else "nf4")
        # No part of a checkpoint: they follow from the model that a run started from.
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)
        self.register_parameter("bias", base.bias)

    @classmethod
    def of_codes(
        cls, codes: Tensor, scales: Tensor, shape: tuple[int, int], bias: nn.Parameter | None
    ) -> "QuantizedProjection":
        """The projection of codes that were made before, as the attributes say."""
        found = cls.__new__(cls)
        nn.Module.__init__(found)
        found._shape = shape
        found.register_buffer("codes", codes, persistent=False)
        found.register_buffer("scales", scales, persistent=False)
        found.register_parameter("bias", bias)
        return found

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self._shape

    @property
    def kind(self) -> torch.dtype:
        """The type of `HELD` that stands for its codes."""
        return torch.int8 if self.codes.dtype == torch.int8 else torch.quint4x2

    def dense(self) -> Tensor:
        """The weight that the codes stand for, float32 [out, in]."""
        return from_codes(self.codes, self.scales).view(self._shape)

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """[..., in] to [..., out] in the type of `x`."""
        seen = x if gain is None else x * gain.to(x.dtype)
        out = _QuantizedLinear.apply(seen, self)
        return out if self.bias is None else out + self.bias.to(x.dtype)  # type: ignore[no-any-return]


class _QuantizedLinear(Function):
    """Keeps the codes for the backward pass, not the plain weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: QuantizedProjection) -> Tensor:  # type: ignore[override]
        ctx.projection = projection
        return F.linear(x, projection.dense().to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grad @ ctx.projection.dense().to(grad.dtype), None


def hold_weights(model: Transformer, kind: torch.dtype) -> Transformer:
    """The same model, its weights that do not learn held as `kind` from now on.

    Tables of positions stay float32; what learns does, too, or small steps would be lost.

    Args:
        model: A Transformer, with adapters or without.
        kind: One of `HELD`.
    """
    quantised = kind in (torch.int8, torch.quint4x2)
    if quantised:
        mixtures = [one for one in model.modules() if isinstance(one, Experts)]
        routers = {part for one in mixtures for part in one.router.modules()}
        for owner in [m for m in model.layers.modules() if not isinstance(m, QuantizedProjection)]:
            for name, child in list(owner.named_children()):
                if (
                    type(child) is Projection
                    and child not in routers
                    and not any(p.requires_grad for p in child.parameters())
                ):
                    setattr(owner, name, QuantizedProjection(child, kind))
    plain_kind = torch.bfloat16 if quantised else kind
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(plain_kind)
    return model


def check_codes(model: nn.Module, kind: torch.dtype, name: object) -> None:
    """Refuse codes of one kind where a model's weights are those of another, and stay so.

    Args:
        model: The model.
        kind: What its weights are to be held as.
        name: What a person calls it.

    Raises:
        ConfigError: It is so.
    """
    names = {HELD[name]: name for name in ("int8", "nf4")}
    others = {m.kind for m in model.modules() if isinstance(m, QuantizedProjection)} - {kind}
    if kind in names and others:
        raise ConfigError(
            f"{name} holds its weights in {names[others.pop()]} already, which --weights "
            f"{names[kind]} would not change: leave it out"
        )


def is_quantised(model: nn.Module) -> bool:
    """Whether weights of a model are held as codes, with no adapters above them or with some."""
    return any(isinstance(module, QuantizedProjection) for module in model.modules())


def weight_bytes(model: nn.Module) -> int:
    """What all weights take, codes and scales among them; tables of positions are none."""
    tables = [buffer for name, buffer in model.named_buffers() if name in ("cos", "sin")]
    found = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    return found - sum(t.numel() * t.element_size() for t in tables)


def learning_copy(model: Transformer) -> Transformer:
    """A copy in float32 that learns, whatever the model is held as."""
    found = copy.deepcopy(model)
    for owner in list(found.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, QuantizedProjection):
                setattr(owner, name, child.replaced(child.dense()))
    return found.float().requires_grad_(True)


def learned_state(module: nn.Module) -> dict[str, Tensor]:
    """`state_dict` without what does not learn: a checkpoint's part for a frozen base.

    Of a model that is cut over ranks it is whole on rank 0, empty on others; all ranks call it.
    Parts of a module may be cut, such as a policy's model and its value head.
    """
    if is_sharded(module):
        return whole_state(module, frozen=False)
    if any(map(is_sharded, module.children())):
        return {
            f"{name}.{key}": tensor
            for name, part in module.named_children()
            for key, tensor in learned_state(part).items()
        }
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {name: t for name, t in module.state_dict().items() if name not in frozen}


def load_learned(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take what learns from a checkpoint; what a frozen base holds beside it stays.

    Earlier versions stored frozen weights as well; they are passed over.

    Raises:
        CheckpointError: something that learns is missing or of another shape.
    """
    if not is_sharded(module) and any(map(is_sharded, module.children())):
        for name, part in module.named_children():
            start = f"{name}."
            of_part = {k.removeprefix(start): t for k, t in state.items() if k.startswith(start)}
            load_learned(part, of_part)
        return
    wanted: dict[str, Tensor] = {n: p for n, p in module.named_parameters() if p.requires_grad}
    if not is_sharded(module):
        wanted = learned_state(module)
    missing = sorted(set(wanted) - set(state))
    if missing:
        raise CheckpointError(f"the checkpoint lacks {missing[0]}, which learns in this run")
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise CheckpointError(
                f"{name} has shape {list(state[name].shape)} in the checkpoint and "
                f"{list(tensor.shape)} in this run"
            )
    if is_sharded(module):
        take_state(module, {name: state[name] for name in wanted})
    else:
        module.load_state_dict({name: state[name] for name in wanted}, strict=False)

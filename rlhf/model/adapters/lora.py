"""Low-rank adapters (Hu et al. 2021): a frozen projection plus a trained product of two thin ones.

Adapters can be switched off, which turns a fine-tuned policy into its own reference, and merged
into the weights for decoding and export. A projection that stands for several linear layers (the
queries, keys and values of a block, say) takes one adapter for all of them or one for each that is
named. Where a layer asks for its whole weight (experts, their router, the output matrix) the
product is added to that. What lies below may be quantised (held.py); files are peft_folder.py's.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch
from playout.errors import ConfigError
from playout.rlhf.model.transformer import Block, Projection, Transformer
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "ALL_LINEAR",
    "AdaptedProjection",
    "Adapter",
    "LoRAConfig",
    "adapted",
    "adapters_off",
    "add_adapters",
    "dropout_at",
    "has_adapters",
    "layer_matrices",
    "linear_layers",
    "merge_adapters",
    "parse_targets",
]

TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
# Linear layers by Hugging Face's names -> the projection that holds their rows.
PARTS = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
ALL_LINEAR = (*PARTS, "o_proj", "down_proj")
"""The linear layers of a dense block by Hugging Face's names."""
BY_NAME = ("experts", "router", "lm_head")
"""What gets adapters only where it is named: the three matrices of every expert, what chooses
among them, and the output matrix."""
_EXPERTS = ("experts.gate_up_proj", "experts.down_proj")
_WHOLE = slice(None)


@dataclass(frozen=True, slots=True)
class LoRAConfig:
    """Size and place of the adapters."""

    rank: int = 8
    """Inner width of each adapter."""
    alpha: float = 16.0
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = 0.0
    """Share of an adapter's inputs that are zero in a training step (inside `dropout_at`)."""
    targets: tuple[str, ...] = TARGETS
    """Names of the projections that get one: fused ones, or the linear layers within them."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"a LoRA rank must be at least 1, not {self.rank}")
        if not self.alpha > 0:
            raise ConfigError(f"LoRA's alpha must be above 0, not {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"LoRA's dropout must be from 0 to below 1, not {self.dropout}")
        unknown = sorted(set(self.targets) - {*TARGETS, *PARTS, *BY_NAME})
        if unknown or not self.targets:
            known = ", ".join(dict.fromkeys((*TARGETS, *PARTS, *BY_NAME)))
            raise ConfigError(f"LoRA targets are {known}, not {', '.join(unknown)!r}")
        for part, whole in PARTS.items():
            if part in self.targets and whole in self.targets:
                raise ConfigError(f"LoRA targets name {part} twice: by itself and in {whole}")
        if self.dropout and (named := [name for name in BY_NAME if name in self.targets]):
            raise ConfigError(f"adapters on {named[0]} drop no inputs: leave out LoRA's dropout")


def parse_targets(text: str) -> tuple[str, ...]:
    """Targets from `a,b,c`; "" stands for every projection, `all-linear` for each linear layer."""
    if text.strip() == "all-linear":
        return ALL_LINEAR
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip())) or TARGETS


def linear_layers(block: Block) -> dict[str, dict[str, slice]]:
    """For every projection of a block, the linear layers in it and their rows.

    Projections within the experts are named with a dot, their layers by the expert's number.
    """
    config = block.config
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    inner, hidden = config.intermediate_size, config.hidden_size
    attention = {
        "qkv_proj": {
            "q_proj": slice(0, queries),
            "k_proj": slice(queries, queries + keys),
            "v_proj": slice(queries + keys, queries + 2 * keys),
        },
        "o_proj": {"o_proj": _WHOLE},
    }
    if config.num_experts:
        gate_up = {
            f"{number}.{part}": slice(row * inner, (row + 1) * inner)
            for row, (number, part) in enumerate(
                product(range(config.num_experts), ("gate_proj", "up_proj"))
            )
        }
        down = {
            f"{number}.down_proj": slice(number * hidden, (number + 1) * hidden)
            for number in range(config.num_experts)
        }
        return {
            **attention,
            "experts.router": {"router": _WHOLE},
            "experts.gate_up_proj": gate_up,
            "experts.down_proj": down,
        }
    return {
        **attention,
        "gate_up_proj": {"gate_proj": slice(0, inner), "up_proj": slice(inner, 2 * inner)},
        "down_proj": {"down_proj": _WHOLE},
    }


@dataclass(slots=True)
class Adapter:
    """One adapter: `scale * B A`, added to some rows of a projection."""

    a: nn.Parameter
    """[rank, in]."""
    b: nn.Parameter
    """[rows, rank], zero at first."""
    scale: float
    rows: slice
    """Of the projection's output; slice(None) for all."""


class AdaptedProjection(Projection):
    """`W x + (alpha / rank) B A x` with `W` frozen; `B` begins at zero and changes nothing yet.

    Attributes:
        base: The frozen projection.
        enabled: False computes as if there were no adapters.
        dropout: Share of the adapters' inputs that `dropout_at` makes zero.
        dropping: Whether it does so now.
    """

    def __init__(self, base: Projection) -> None:
        nn.Module.__init__(self)
        self.base = base.requires_grad_(False)
        self.enabled, self.dropout, self.dropping = True, 0.0, False
        self._places: dict[str, tuple[slice, float]] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.base.shape

    @property
    def bias(self) -> nn.Parameter | None:  # type: ignore[override]
        """The frozen projection's."""
        return self.base.bias

    @property
    def adapters(self) -> dict[str, Adapter]:
        """By the linear layer that each belongs to; "" is the whole projection."""
        return {
            part: Adapter(
                self.get_parameter(_named(part, "lora_a")),
                self.get_parameter(_named(part, "lora_b")),
                scale,
                rows,
            )
            for part, (rows, scale) in self._places.items()
        }

    def add(
        self,
        part: str,
        rows: slice,
        rank: int,
        scale: float,
        generator: torch.Generator | None = None,
    ) -> list[nn.Parameter]:
        """Give rows of the output an adapter; without a generator it is all zeros."""
        outputs, inputs = self.shape
        height = len(range(outputs)[rows])
        device = next((p.device for p in [*self.base.parameters(), *self.base.buffers()]), None)
        a = torch.zeros(rank, inputs)
        if generator is not None:
            a.normal_(0.0, inputs**-0.5, generator=generator)
        tensors = {"lora_a": a, "lora_b": torch.zeros(height, rank)}
        for name, tensor in tensors.items():
            self.register_parameter(_named(part, name), nn.Parameter(tensor.to(device)))
        self._places[part] = rows, scale
        return [self.get_parameter(_named(part, name)) for name in tensors]

    def delta(self) -> Tensor:
        """What the adapters add to the weight, [out, in]."""
        outputs, inputs = self.shape
        parts, reached = [], 0
        for one in sorted(self.adapters.values(), key=lambda one: one.rows.start or 0):
            start, stop, _ = one.rows.indices(outputs)
            if start > reached:
                parts.append(one.a.new_zeros(start - reached, inputs))
            parts.append((one.b @ one.a) * one.scale)
            reached = stop
        if reached < outputs:
            parts.append(parts[0].new_zeros(outputs - reached, inputs))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def dense(self) -> Tensor:
        """The weight with the adapters, if enabled, [out, in]."""
        weight = self.base.dense()
        return weight + self.delta() if self.enabled else weight

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """[..., in] to [..., out]."""
        out = self.base(x, gain)
        if not self.enabled:
            return out  # type: ignore[no-any-return]
        for one in self.adapters.values():
            down = one.a if gain is None else one.a * gain
            seen = F.dropout(x, self.dropout) if self.dropping else x
            low = F.linear(seen, down.to(x.dtype))
            added = F.linear(low, (one.b * one.scale).to(x.dtype))
            out = out + added if one.rows == _WHOLE else _add_columns(out, added, one.rows)
        return out  # type: ignore[no-any-return]


def _named(part: str, name: str) -> str:
    return f"{part.replace('.', '_')}_{name}" if part else name


def _add_columns(out: Tensor, added: Tensor, columns: slice) -> Tensor:
    """`out` with `added` in some of its columns, without a change in place."""
    before, after = columns.start, out.shape[-1] - columns.stop
    return out + F.pad(added, (before, after))


def add_adapters(model: Transformer, config: LoRAConfig, *, seed: int = 0) -> list[nn.Parameter]:
    """Freeze the model and give it adapters; returns the parameters to train."""
    if has_adapters(model):
        raise ConfigError("the model has adapters already; merge them first")
    places = _places(model, config)
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    scale = config.alpha / config.rank
    trained: list[nn.Parameter] = []
    for owner, name, parts in places:
        projection = adapted(owner, name)
        projection.dropout = config.dropout
        for part, rows in parts.items():
            trained += projection.add(part, rows, config.rank, scale, generator)
    return trained


def _places(
    model: Transformer, config: LoRAConfig
) -> list[tuple[nn.Module, str, dict[str, slice]]]:
    """Projections that get adapters: owner, name, and the rows of each adapter.

    Raises:
        ConfigError: The model has nothing of what is named.
    """
    targets = config.targets
    named = [name for name in ("experts", "router") if name in targets]
    if named and not model.config.num_experts:
        raise ConfigError(f"LoRA targets name {named[0]}, and the model has no experts")
    found: list[tuple[nn.Module, str, dict[str, slice]]] = []
    for block in model.blocks:
        for name, layers in linear_layers(block).items():
            parts = {part: rows for part, rows in layers.items() if part in targets}
            if name in targets or _WHOLE in parts.values():
                parts = {"": _WHOLE}
            elif name in _EXPERTS and "experts" in targets:
                parts = layers
            if parts:
                found.append((block, name, parts))
    if "lm_head" in targets:
        if model.lm_head is None:
            raise ConfigError(
                "lm_head is tied: the output matrix is that of the embeddings; leave it out of the "
                "LoRA targets"
            )
        found.append((model, "lm_head", {"": _WHOLE}))
    if not found:
        raise ConfigError(
            "experts take no adapters as gate_proj, up_proj and down_proj: name them experts"
        )
    return found


def adapted(owner: nn.Module, name: str) -> AdaptedProjection:
    """A projection of a block, by its name there, or a model's `lm_head`, as one that is adapted.

    It is made one that can take adapters; an output matrix becomes a projection.
    """
    above, _, name = name.rpartition(".")
    owner = owner.get_submodule(above)
    found = getattr(owner, name)
    if isinstance(found, AdaptedProjection):
        return found
    if isinstance(found, nn.Parameter):
        base = Projection(found.shape[1], found.shape[0])
        base.weight = found
        delattr(owner, name)  # a parameter's place takes no module
        found = base
    projection = AdaptedProjection(found)
    setattr(owner, name, projection)
    return projection


def _adapted(model: nn.Module) -> list[AdaptedProjection]:
    return [module for module in model.modules() if isinstance(module, AdaptedProjection)]


def has_adapters(model: nn.Module) -> bool:
    """Whether any projection of the model is adapted."""
    return bool(_adapted(model))


def layer_matrices(model: nn.Module) -> list[str]:
    """Names of the matrices in a Transformer's layers; none where adapters learn in their place."""
    if has_adapters(model):
        return []
    named = model.named_parameters()
    return [name for name, one in named if name.startswith("layers.") and one.dim() == 2]


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Inside, the model computes as if it had no adapters."""
    adapters = _adapted(model)
    before = [adapter.enabled for adapter in adapters]
    for adapter in adapters:
        adapter.enabled = False
    try:
        yield
    finally:
        for adapter, enabled in zip(adapters, before, strict=True):
            adapter.enabled = enabled


@contextmanager
def dropout_at(models: Iterable[nn.Module], numbers: Sequence[int]) -> Iterator[None]:
    """Inside, adapters with dropout drop inputs, by random numbers that `numbers` alone decide.

    Args:
        models: Whose adapters.
        numbers: Seed and step, say: a resumed run drops what an uninterrupted one does.
    """
    dropping = [one for model in models for one in _adapted(model) if one.dropout > 0]
    if not dropping:
        yield
        return
    device = next(dropping[0].parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(hash_numbers(numbers))
        for one in dropping:
            one.dropping = True
        try:
            yield
        finally:
            for one in dropping:
                one.dropping = False


def hash_numbers(numbers: Sequence[int]) -> int:
    """A seed below 2^63 from several numbers."""
    found = 0
    for number in numbers:
        found = (found * 0x9E3779B97F4A7C15 + number + 1) % (1 << 63)
    return found


@torch.no_grad()
def merge_adapters(model: Transformer) -> None:
    """Add every adapter to its weight and put plain, trainable projections back."""
    for owner in list(model.modules()):
        for name, module in list(owner.named_children()):
            if isinstance(module, AdaptedProjection):
                plain = module.base.replaced(module.dense())
                setattr(owner, name, plain.weight if owner is model else plain)
    model.requires_grad_(True)

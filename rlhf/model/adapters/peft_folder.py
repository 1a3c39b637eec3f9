"""Adapters as folders in PEFT's format: adapter_config.json and adapter_model.safetensors.

PEFT reads what is written, and what PEFT writes is read: plain LoRA on linear layers, of one rank
or several, with its scale by alpha / rank or alpha / sqrt(rank). Other kinds are refused by name. A
fused projection's adapter is written as one for each of its linear layers, those of experts one by
one, as the published files hold their weights. Leaves out the model below, which the configuration
names.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs.checkpoint import tensor_file
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.errors import CheckpointError
from playout.rlhf.model.adapters.lora import AdaptedProjection, adapted, linear_layers
from playout.rlhf.model.checkpoints.configs import EXPERT_NAMES
from playout.rlhf.model.config import TransformerConfig
from playout.rlhf.model.transformer import Transformer
from safetensors import SafetensorError, safe_open
from torch import Tensor

__all__ = ["CONFIG", "is_adapter", "load_adapter", "named_base", "read_adapter", "save_adapter"]

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1 << 20
_KEY = re.compile(
    r"(?:base_model\.)?(?:model\.)*(?:layers\.(\d+)\.(?:self_attn|mlp|block_sparse_moe)\."
    r"((?:experts\.\d+\.)?\w+|experts\.base_layer)|lm_head)\.lora_([AB])(?:\.default)?\.weight"
)
# What PEFT calls a layer of a mixture of experts -> our name of it.
_OURS = {"gate": "router", "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
_HEAD = "lm_head"
# All experts of a layer in one matrix, as PEFT holds them since transformers 5.
_FUSED = ("experts", "experts.base_layer")
# Weights of the model below that PEFT writes beside adapters of its output matrix.
_KEPT = re.compile(r"(?:base_model\.)?(?:model\.)*(lm_head\.base_layer|embed_tokens)\.weight")
# What a configuration may say that changes the arithmetic, with the values that change nothing.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "fan_in_fan_out": (False, None),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, []),
    "use_qalora": (False, None),
    "alora_invocation_tokens": (None, []),
    # The others (pissa, olora, corda, loftq) change the weights below as well.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}


@dataclass(frozen=True, slots=True)
class _Part:
    """The adapter of one linear layer."""

    index: int
    """Of the block; -1 for the output matrix."""
    name: str
    """As in `linear_layers`."""
    path: str
    """Its place in Hugging Face's model."""
    a: Tensor
    b: Tensor
    scale: float


def _path(config: TransformerConfig, index: int, name: str) -> str:
    """Where Hugging Face's model has a linear layer of ours."""
    number, _, part = name.rpartition(".")
    room = "self_attn" if part in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
    if config.num_experts and room == "mlp":
        room, *names = EXPERT_NAMES[config.model_type]
        theirs = dict(zip(("gate_proj", "up_proj", "down_proj"), names, strict=True))
        part = f"experts.{number}.{theirs[part]}" if number else "gate"
    return f"model.layers.{index}.{room}.{part}"


def _parts(model: Transformer) -> Iterator[_Part]:
    """Every adapter of a model, a fused one cut into its linear layers."""
    for index, block in enumerate(model.blocks):
        for name, layers in linear_layers(block).items():
            projection = block.get_submodule(name)
            if not isinstance(projection, AdaptedProjection):
                continue
            for part, one in projection.adapters.items():
                for layer, rows in layers.items():
                    if part in ("", layer):
                        b = one.b[rows] if part == "" else one.b
                        path = _path(model.config, index, layer)
                        yield _Part(index, layer, path, one.a, b, one.scale)
    if isinstance(model.lm_head, AdaptedProjection):
        for one in model.lm_head.adapters.values():
            yield _Part(-1, _HEAD, _HEAD, one.a, one.b, one.scale)


def _every_path(model: Transformer) -> Iterator[str]:
    """All linear layers of a model, by Hugging Face's names."""
    for index, block in enumerate(model.blocks):
        for layers in linear_layers(block).values():
            yield from (_path(model.config, index, layer) for layer in layers)
    if model.lm_head is not None:
        yield _HEAD


def save_adapter(model: Transformer, folder: str | Path, *, base: str) -> None:
    """Write the adapters of a model as PEFT does.

    Args:
        model: With adapters.
        folder: Created if missing.
        base: Path or name of the model below, for the configuration.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = list(_parts(model))
    tensors = {
        f"base_model.model.{part.path}.lora_{side}.weight": tensor.detach()
        .to("cpu", torch.float32)
        .contiguous()
        for part in parts
        for side, tensor in (("A", part.a), ("B", part.b))
    }
    names = sorted({part.path.rpartition(".")[2] for part in parts})
    every = [path for path in _every_path(model) if path.rpartition(".")[2] in names]
    everywhere = len(parts) == len(every)
    ranks = {part.path: len(part.a) for part in parts}
    alphas = {part.path: part.scale * len(part.a) for part in parts}
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": _whole(alpha),
        "lora_dropout": max(
            (m.dropout for m in model.modules() if isinstance(m, AdaptedProjection)), default=0.0
        ),
        "target_modules": names if everywhere else sorted(ranks),
        "rank_pattern": {path: r for path, r in ranks.items() if r != rank},
        "alpha_pattern": {path: _whole(a) for path, a in alphas.items() if a != alpha},
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }
    tensor_file.save(folder / TENSORS, tensors, {"format": "pt"})
    replace_file(folder / CONFIG, json.dumps(config, indent=2).encode())


def _whole(value: float) -> float:
    """A whole number as an int, as PEFT's annotations ask for."""
    return int(value) if value == int(value) else value


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds adapters without the model below them."""
    return (folder / CONFIG).exists() and not (folder / "config.json").exists()


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_CONFIG_BYTES >> 20} MiB")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} should hold a JSON object")
    return config


def named_base(folder: str | Path) -> str:
    """Path or name of the model that the adapters in a folder were made for; "" if none is said."""
    return str(_read_config(Path(folder)).get("base_model_name_or_path") or "")


def _pattern(patterns: object, path: str, default: float, source: Path) -> float:
    """The entry for a layer of `alpha_pattern`: the first key that matches the end of its path.

    Keys are regular expressions, as PEFT reads them (its `get_pattern_key`).
    """
    if not isinstance(patterns, Mapping):
        return default
    for key, value in patterns.items():
        try:
            match = re.match(rf"(.*\.)?({key})$", path)
        except (re.error, RecursionError) as error:
            raise CheckpointError(f"{source}: {key!r} is no regular expression: {error}") from None
        if match:
            if not isinstance(value, int | float):
                raise CheckpointError(f"{source}: {key}={value!r} is not a number")
            return float(value)
    return default


def read_adapter(folder: str | Path) -> list[_Part]:
    """The adapters in a PEFT folder.

    Raises:
        CheckpointError: files are missing, damaged, or hold another kind than plain LoRA.
    """
    folder = Path(folder)
    return _parts_of(folder, _read_config(folder), _tensors(folder))


def _parts_of(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> list[_Part]:
    source = folder / CONFIG
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{source}: {config.get('peft_type')!r} is no LoRA")
    for name, plain in _PLAIN.items():
        if config.get(name) not in plain:
            raise CheckpointError(f"{source}: {name}={config[name]!r} is not supported")
    found: dict[tuple[int, str], dict[str, Tensor]] = {}
    paths = {}
    for key, tensor in tensors.items():
        if _KEPT.fullmatch(key):
            continue
        match = _KEY.fullmatch(key)
        if match is None:
            raise CheckpointError(
                f"{folder} adapts {key.removeprefix('base_model.model.')!r}, which cannot be loaded"
            )
        place = (-1, _HEAD) if match[1] is None else (int(match[1]), _our_name(match[2]))
        found.setdefault(place, {})[match[3]] = tensor.float()
        paths[place] = re.sub(r"^(base_model\.)?(model\.)*(?=layers)|\.lora_.*$", "", key)
    if not found:
        raise CheckpointError(f"{folder} holds no adapter")
    parts = []
    for (index, name), sides in sorted(found.items()):
        path = _HEAD if index < 0 else f"model.{paths[index, name]}"
        where = f"{folder}: {_where(index, name)}"
        if set(sides) != {"A", "B"}:
            raise CheckpointError(f"{where} lacks lora_{'AB'['A' in sides]}")
        a, b = sides["A"], sides["B"]
        if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
            raise CheckpointError(f"{where} has shapes {list(a.shape)} and {list(b.shape)}")
        parts.append(_Part(index, name, path, a, b, _scale(config, path, len(a), source)))
    return parts


def _scale(config: Mapping[str, Any], path: str, rank: int, source: Path) -> float:
    """What the product of an adapter's matrices is multiplied by."""
    alpha = config.get("lora_alpha", 8)
    if not isinstance(alpha, int | float):
        raise CheckpointError(f"{source}: lora_alpha={alpha!r} is not a number")
    top = _pattern(config.get("alpha_pattern"), path, float(alpha), source)
    return top / (rank**0.5 if config.get("use_rslora") else rank)


def _taken_apart(
    part: _Part, shape: TransformerConfig, folder: Path, config: Mapping[str, Any]
) -> Iterator[_Part]:
    """Of an adapter of all experts those of each; others as they are."""
    if part.name not in _FUSED:
        yield part
        return
    count, inner, hidden = shape.num_experts, shape.intermediate_size, shape.hidden_size
    sizes = len(part.b), part.a.shape[1]
    names = {(2 * inner, hidden): ("gate_proj", "up_proj"), (hidden, inner): ("down_proj",)}
    if not count or sizes not in names or len(part.a) % count:
        raise CheckpointError(
            f"{folder}: layer {part.index}, experts: the model has no {sizes[0]} rows of {sizes[1]}"
        )
    fused = "gate_up_proj" if len(names[sizes]) > 1 else "down_proj"
    path, rank = f"{part.path.removesuffix('.base_layer')}.{fused}", len(part.a) // count
    scale = _scale(config, path, rank, folder / CONFIG)
    below, above = part.a.view(count, rank, -1), part.b.view(-1, rank, count)
    for number in range(count):
        rows = above[:, :, number].chunk(len(names[sizes]))
        for name, b in zip(names[sizes], rows, strict=True):
            yield _Part(part.index, f"{number}.{name}", path, below[number], b, scale)


def _where(index: int, name: str) -> str:
    """What errors call a layer."""
    return name if index < 0 else f"layer {index}, {name}"


def _our_name(name: str) -> str:
    """Of a layer within a block, from what PEFT calls it there."""
    if name in _FUSED:
        return name
    *above, last = name.split(".")
    number = f"{above[1]}." if above else ""
    return number + _OURS.get(last, last)


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / TENSORS
    if not path.exists():
        hint = "; pickled weights (.bin) are not read" if list(folder.glob("*.bin")) else ""
        raise CheckpointError(f"{path} is missing{hint}")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


@torch.no_grad()
def load_adapter(model: Transformer, folder: str | Path) -> None:
    """Give a model the adapters of a PEFT folder; its own weights are frozen.

    Raises:
        CheckpointError: see `read_adapter`; or they belong to a model of another shape.
    """
    model.requires_grad_(False)
    folder = Path(folder)
    config, tensors = _read_config(folder), _tensors(folder)
    found = _parts_of(folder, config, tensors)
    _check_kept(model, tensors, folder)
    apart = (_taken_apart(fused, model.config, folder, config) for fused in found)
    for part in (one for parts in apart for one in parts):
        where = f"{folder}: {_where(part.index, part.name)}"
        projection, rows = _holder(model, part, where)
        outputs, inputs = projection.shape
        shape = len(range(outputs)[rows]), inputs
        if (len(part.b), part.a.shape[1]) != shape:
            raise CheckpointError(
                f"{where} is for a matrix of {[len(part.b), part.a.shape[1]]}, the model has "
                f"{list(shape)}"
            )
        a, b = projection.add(
            "" if rows == slice(None) else part.name, rows, len(part.a), part.scale
        )
        a.copy_(part.a)
        b.copy_(part.b)


def _check_kept(model: Transformer, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse weights beside adapters that are not those of the model: they were learned, too."""
    for key, tensor in tensors.items():
        if match := _KEPT.fullmatch(key):
            own = model.embed_tokens if match[1] == "embed_tokens" else model.output_embeddings
            near = own.shape == tensor.shape and torch.allclose(
                own.cpu().float(), tensor.float(), rtol=0.02, atol=1e-6
            )
            if not near:
                name = match[1].partition(".")[0]
                raise CheckpointError(f"{folder} holds a {name} of its own, which is not supported")


def _holder(model: Transformer, part: _Part, where: str) -> tuple[AdaptedProjection, slice]:
    """The projection of a model that an adapter belongs to, and its rows there."""
    if part.index < 0:
        if model.lm_head is None:
            raise CheckpointError(f"{where}: the model's output matrix is that of its embeddings")
        return adapted(model, _HEAD), slice(None)
    if part.index >= len(model.blocks):
        raise CheckpointError(f"{where}: the model has {len(model.blocks)} layers")
    block = model.blocks[part.index]
    for name, layers in linear_layers(block).items():
        if part.name in layers:
            return adapted(block, name), layers[part.name]
    raise CheckpointError(f"{where}: the model has no such layer")

"""Adapters as folders in PEFT's format: adapter_config.json and adapter_model.safetensors.

PEFT reads what is written, and what PEFT writes is read: plain LoRA on the linear layers of the
blocks, of one rank or several, with its scale by alpha / rank or alpha / sqrt(rank). Other kinds
are refused by name. A fused projection's adapter is written as one for each of its linear layers.
Leaves out the model below, which is named in the configuration.
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
from playout.rlhf.model.transformer import Transformer
from safetensors import SafetensorError, safe_open
from torch import Tensor

__all__ = ["CONFIG", "is_adapter", "load_adapter", "named_base", "read_adapter", "save_adapter"]

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1 << 20
_KEY = re.compile(
    r"(?:base_model\.)?(?:model\.)*layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])"
    r"(?:\.default)?\.weight"
)
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
    "target_parameters": (None, []),
    # The others (pissa, olora, corda, loftq) change the weights below as well.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}


@dataclass(frozen=True, slots=True)
class _Part:
    """The adapter of one linear layer."""

    index: int
    name: str
    a: Tensor
    b: Tensor
    scale: float

    @property
    def path(self) -> str:
        """Its place in Hugging Face's model."""
        room = "mlp" if self.name in ("gate_proj", "up_proj", "down_proj") else "self_attn"
        return f"model.layers.{self.index}.{room}.{self.name}"


def _parts(model: Transformer) -> Iterator[_Part]:
    """Every adapter of a model, a fused one cut into its linear layers."""
    for index, block in enumerate(model.blocks):
        for name, layers in linear_layers(block).items():
            projection = getattr(block, name)
            if not isinstance(projection, AdaptedProjection):
                continue
            for part, one in projection.adapters.items():
                for layer, rows in layers.items():
                    if part in ("", layer):
                        b = one.b[rows] if part == "" else one.b
                        yield _Part(index, layer, one.a, b, one.scale)


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
    names = sorted({part.name for part in parts})
    everywhere = len(parts) == len(names) * len(model.blocks)
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
    source, config = folder / CONFIG, _read_config(folder)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{source}: {config.get('peft_type')!r} is no LoRA")
    for name, plain in _PLAIN.items():
        if config.get(name) not in plain:
            raise CheckpointError(f"{source}: {name}={config[name]!r} is not supported")
    alpha = config.get("lora_alpha", 8)
    if not isinstance(alpha, int | float):
        raise CheckpointError(f"{source}: lora_alpha={alpha!r} is not a number")
    found: dict[tuple[int, str], dict[str, Tensor]] = {}
    for key, tensor in _tensors(folder).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise CheckpointError(
                f"{folder} adapts {key.removeprefix('base_model.model.')!r}, which cannot be loaded"
            )
        found.setdefault((int(match[1]), match[2]), {})[match[3]] = tensor.float()
    if not found:
        raise CheckpointError(f"{folder} holds no adapter")
    parts = []
    for (index, name), sides in sorted(found.items()):
        where = f"{folder}: layer {index}, {name}"
        if set(sides) != {"A", "B"}:
            raise CheckpointError(f"{where} lacks lora_{'AB'['A' in sides]}")
        a, b = sides["A"], sides["B"]
        if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
            raise CheckpointError(f"{where} has shapes {list(a.shape)} and {list(b.shape)}")
        rank = len(a)
        path = _Part(index, name, a, b, 0.0).path
        top = _pattern(config.get("alpha_pattern"), path, float(alpha), source)
        scale = top / (rank**0.5 if config.get("use_rslora") else rank)
        parts.append(_Part(index, name, a, b, scale))
    return parts


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
    blocks = model.blocks
    for part in read_adapter(folder):
        where = f"{folder}: layer {part.index}, {part.name}"
        if part.index >= len(blocks):
            raise CheckpointError(f"{where}: the model has {len(blocks)} layers")
        block = blocks[part.index]
        holder = next((n for n, own in linear_layers(block).items() if part.name in own), None)
        if holder is None:
            raise CheckpointError(f"{where}: the model has no such layer")
        projection, rows = adapted(block, holder), linear_layers(block)[holder][part.name]
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

"""Weights of few bits in files, in the layout of bitsandbytes: int8 by rows, NF4 by blocks of 64.

transformers reads what is written here where bitsandbytes is installed, and what it wrote is read
(also NF4 whose scales were quantised once more). Codes and scales come back as they were, bit for
bit. Other layouts are refused by name. What codes stand for is adapters/held.py's.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from playout.agents.networks.precision.codes import NF4_BLOCK, nf4_values
from playout.errors import CheckpointError
from playout.rlhf.model.adapters.held import HELD, QuantizedProjection
from torch import Tensor

__all__ = [
    "code_names",
    "is_extra",
    "join_codes",
    "quantisation_of",
    "quantisation_words",
    "split_codes",
]

STATE = "quant_state.bitsandbytes__nf4"
Shapes = dict[str, tuple[int, ...]]
Part = tuple[str, tuple[int, ...]]
"""The name of a linear layer's weight in the file and its shape [out, in]."""
Load = Callable[[str], Tensor]


def quantisation_words(kind: torch.dtype) -> dict[str, Any]:
    """What config.json says of weights held as `kind` (int8, or quint4x2 for NF4)."""
    eight = kind == torch.int8
    return {
        "quant_method": "bitsandbytes",
        "load_in_8bit": eight,
        "load_in_4bit": not eight,
        "llm_int8_threshold": 6.0,
        "llm_int8_skip_modules": ["lm_head"],
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": "float32",
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_use_double_quant": False,
    }


def quantisation_of(values: Mapping[str, Any], source: str) -> torch.dtype | None:
    """How config.json says that weights are held; None for plain numbers.

    Raises:
        CheckpointError: In a way that is not read.
    """
    words = values.get("quantization_config")
    if words is None:
        return None
    words = words if isinstance(words, dict) else {"quant_method": words}
    if words.get("quant_method") == "bitsandbytes":
        if words.get("load_in_8bit") is True:
            return HELD["int8"]
        if words.get("load_in_4bit") is True and words.get("bnb_4bit_quant_type") == "nf4":
            return HELD["nf4"]
    raise CheckpointError(
        f"{source}: quantization_config={words!r:.80} is not supported; int8 and nf4 of "
        "bitsandbytes are"
    )


def split_codes(projection: QuantizedProjection, parts: Sequence[Part]) -> dict[str, Tensor]:
    """The tensors of a projection's linear layers, which are its rows in order."""
    tensors: dict[str, Tensor] = {}
    row = 0
    for name, (count, width) in parts:
        stem = name.removesuffix("weight")
        if projection.codes.dtype == torch.int8:
            rows = slice(row, row + count)
            tensors[name] = projection.codes[rows]
            tensors[f"{stem}SCB"] = projection.scales[rows, 0] * 127
            tensors[f"{stem}weight_format"] = torch.tensor(0, dtype=torch.uint8)
        else:
            if count * width % NF4_BLOCK:
                raise CheckpointError(
                    f"{name} of {count} x {width} numbers is no multiple of {NF4_BLOCK}, by which "
                    "NF4 is written"
                )
            first, size = row * width, count * width
            codes = projection.codes[first // 2 : (first + size) // 2]
            tensors[name] = codes[:, None]
            blocks = slice(first // NF4_BLOCK, (first + size) // NF4_BLOCK)
            tensors[f"{name}.absmax"] = projection.scales[blocks]
            tensors[f"{name}.quant_map"] = nf4_values()
            state = {
                "quant_type": "nf4",
                "blocksize": NF4_BLOCK,
                "dtype": "float32",
                "shape": [count, width],
            }
            words = json.dumps(state).encode()
            tensors[f"{name}.{STATE}"] = torch.tensor(list(words), dtype=torch.uint8)
        row += count
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def code_names(parts: Sequence[Part], kind: torch.dtype, there: Collection[str]) -> Shapes | None:
    """Names and shapes of the tensors that hold a projection; None where it is plain numbers.

    Args:
        parts: Its linear layers.
        kind: How the folder's weights are held.
        there: Names of all tensors of the folder. What has no fixed shape is left to `join_codes`.
    """
    eight = kind == torch.int8
    shapes: Shapes = {}
    for name, (count, width) in parts:
        scales = f"{name.removesuffix('weight')}SCB" if eight else f"{name}.absmax"
        if scales not in there:
            return None
        if eight:
            shapes |= {name: (count, width), scales: (count,)}
        else:
            shapes |= {name: (-(-count * width // 2), 1), scales: (-(-count * width // NF4_BLOCK),)}
    return shapes


def is_extra(name: str) -> bool:
    """Whether a tensor only describes others that are quantised."""
    ends = ("weight_format", ".quant_map", f".{STATE}", ".nested_absmax", ".nested_quant_map")
    return name.endswith(ends)


def join_codes(
    parts: Sequence[Part], kind: torch.dtype, load: Load, there: Collection[str]
) -> tuple[Tensor, Tensor]:
    """Codes and scales of a projection, as `QuantizedProjection` has them.

    Raises:
        CheckpointError: They were made in another way than they are read.
    """
    codes, scales = [], []
    for name, (count, width) in parts:
        if kind == torch.int8:
            codes.append(load(name))
            scales.append(load(f"{name.removesuffix('weight')}SCB").float()[:, None] / 127)
            if codes[-1].dtype != torch.int8:
                raise CheckpointError(f"{name} should hold int8, not {codes[-1].dtype}")
            continue
        if count * width % NF4_BLOCK:
            raise CheckpointError(
                f"{name} of {count} x {width} numbers is no multiple of {NF4_BLOCK}"
            )
        if f"{name}.{STATE}" not in there or f"{name}.quant_map" not in there:
            raise CheckpointError(f"{name} does not say how it was quantised ({STATE})")
        state = _state(load(f"{name}.{STATE}"), name, (count, width))
        table = load(f"{name}.quant_map").float()
        if table.shape != (16,) or not torch.allclose(table, nf4_values(), atol=1e-3):
            raise CheckpointError(f"{name}.quant_map is not that of NF4")
        absmax = load(f"{name}.absmax")
        if absmax.dtype == torch.uint8:
            absmax = _absmax(absmax, name, state, load, there)
        found = load(name)
        if found.dtype != torch.uint8:
            raise CheckpointError(f"{name} should hold two codes a byte, not {found.dtype}")
        codes.append(found.flatten())
        scales.append(absmax.float())
    return torch.cat(codes), torch.cat(scales)


def _state(packed: Tensor, name: str, shape: tuple[int, int]) -> dict[str, Any]:
    """The words that bitsandbytes packs beside codes."""
    try:
        state = json.loads(bytes(packed.to(torch.uint8).tolist()))
    except (ValueError, RecursionError):
        raise CheckpointError(f"{name}.{STATE} is no JSON") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{name}.{STATE} should hold a JSON object")
    said = state.get("quant_type"), state.get("blocksize"), state.get("shape")
    if said != ("nf4", NF4_BLOCK, list(shape)):
        raise CheckpointError(f"{name} was quantised as {said}, not as nf4 by {NF4_BLOCK}")
    return state


def _absmax(
    codes: Tensor, name: str, state: Mapping[str, Any], load: Load, there: Collection[str]
) -> Tensor:
    """Scales that were quantised once more, to 8 bits."""
    parts = f"{name}.nested_absmax", f"{name}.nested_quant_map"
    block, offset = state.get("nested_blocksize"), state.get("nested_offset")
    if any(part not in there for part in parts) or not (
        isinstance(block, int) and block > 0 and isinstance(offset, int | float)
    ):
        raise CheckpointError(f"{name} does not say how its scales were quantised")
    scale, table = (load(part).float() for part in parts)
    if table.shape != (256,) or len(scale) != -(-len(codes) // block):
        raise CheckpointError(f"{name}: the scales of its scales have the wrong shape")
    return table[codes.long()] * scale.repeat_interleave(block)[: len(codes)] + float(offset)

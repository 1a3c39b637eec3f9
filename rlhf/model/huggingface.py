"""Checkpoints in Hugging Face's format, config.json and safetensors, without `transformers`.

Decoders use the names and the layout of their architecture (checkpoints/configs.py knows which) and
load there as they are; fused projections are split on the way out and joined on the way in. Every
tensor must be present, known and of the right shape before a weight is touched. Quantised weights
are written and read as they are (checkpoints/quantised.py), pickled ones refused. Tokenizer files
are tokenizer.py's, whole training states the run's.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs.checkpoint import tensor_file
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.agents.runs.checkpoint.manifest import check_manifest
from playout.errors import CheckpointError, ConfigError
from playout.rlhf.model.adapters.held import QuantizedProjection, hold_weights, is_quantised
from playout.rlhf.model.adapters.lora import has_adapters
from playout.rlhf.model.checkpoints.configs import (
    EXPERT_NAMES,
    config_from_json,
    config_to_json,
    read_config,
    read_json,
)
from playout.rlhf.model.checkpoints.quantised import (
    code_names,
    is_extra,
    join_codes,
    quantisation_of,
    quantisation_words,
    split_codes,
)
from playout.rlhf.model.transformer import Projection, Transformer, TransformerConfig
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

__all__ = [
    "architectures",
    "from_pretrained",
    "is_classifier",
    "load_heads",
    "read_config",
    "read_json",
    "save_pretrained",
]

Named = tuple[str, tuple[int, ...]]
"""The name of a tensor in the file and its shape."""
_HEADS = "score.", "v_head.", "mlm.", "class."

# tensors


def names_of(config: TransformerConfig) -> Iterator[tuple[str, list[Named]]]:
    """(our parameter, [(name in the file, shape), ...]); several parts are rows of one matrix."""
    hidden, inner, size = config.hidden_size, config.intermediate_size, config.head_dim
    heads = config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads
    rows = [count * size for count in heads]
    biased = {
        "qkv_proj": config.attention_bias,
        "o_proj": config.output_bias,
        "gate_up_proj": config.mlp_bias,
        "down_proj": config.mlp_bias,
    }
    yield "embed_tokens", [("model.embed_tokens.weight", (config.vocab_size, hidden))]
    for index in range(config.num_hidden_layers):
        ours, theirs = f"layers.{index}", f"model.layers.{index}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{ours}.{norm}", [(f"{theirs}.{norm}.weight", (hidden,))]
        fused = {
            "qkv_proj": [
                (f"self_attn.{part}_proj", n) for part, n in zip("qkv", rows, strict=True)
            ],
            "o_proj": [("self_attn.o_proj", hidden)],
            "gate_up_proj": [(f"mlp.{part}_proj", inner) for part in ("gate", "up")],
            "down_proj": [("mlp.down_proj", hidden)],
        }
        if config.num_experts:
            del fused["gate_up_proj"], fused["down_proj"]
            yield from _expert_names(config, f"{ours}.experts", theirs)
        inputs = {"o_proj": rows[0], "down_proj": inner}
        for name, parts in fused.items():
            width = inputs.get(name, hidden)
            yield (
                f"{ours}.{name}.weight",
                [(f"{theirs}.{part}.weight", (count, width)) for part, count in parts],
            )
            if biased[name]:
                yield (
                    f"{ours}.{name}.bias",
                    [(f"{theirs}.{part}.bias", (count,)) for part, count in parts],
                )
        for norm in ("q_norm", "k_norm") if config.qk_norm else ():
            yield f"{ours}.{norm}", [(f"{theirs}.self_attn.{norm}.weight", (size,))]
    yield "norm", [("model.norm.weight", (hidden,))]
    if not config.tie_word_embeddings:
        yield "lm_head", [("lm_head.weight", (config.vocab_size, hidden))]


def _expert_names(
    config: TransformerConfig, ours: str, theirs: str
) -> Iterator[tuple[str, list[Named]]]:
    """`names_of` for the experts of a layer, which are rows of two matrices."""
    hidden, inner, count = config.hidden_size, config.intermediate_size, config.num_experts
    room, gate, up, down = EXPERT_NAMES[config.model_type]
    yield f"{ours}.router.weight", [(f"{theirs}.{room}.gate.weight", (count, hidden))]
    places = [f"{theirs}.{room}.experts.{number}" for number in range(count)]
    yield (
        f"{ours}.gate_up_proj.weight",
        [(f"{at}.{part}.weight", (inner, hidden)) for at in places for part in (gate, up)],
    )
    yield f"{ours}.down_proj.weight", [(f"{at}.{down}.weight", (hidden, inner)) for at in places]


def to_hugging_face(model: Transformer) -> dict[str, Tensor]:
    """All weights under Hugging Face's names, fused projections split."""
    state: dict[str, Tensor] = dict(model.named_parameters())
    for name, module in model.named_modules():
        if isinstance(module, Projection):
            # With adapters, the merged weight.
            state[f"{name}.weight"] = module.dense()
            if module.bias is not None:
                state[f"{name}.bias"] = module.bias
    if model.lm_head is not None:
        state["lm_head"] = model.output_embeddings
    tensors = {}
    for ours, parts in names_of(model.config):
        rows = [shape[0] for _, shape in parts]
        for (name, _), part in zip(parts, state[ours].detach().split(rows), strict=True):
            tensors[name] = part.to("cpu", torch.float32).clone()
    return tensors


def save_pretrained(
    model: Transformer,
    folder: str | Path,
    *,
    heads: Mapping[str, nn.Module] | None = None,
    architecture: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json and model.safetensors; an existing checkpoint is replaced file by file.

    Args:
        model: Adapters are merged into what is written.
        folder: Created if missing.
        heads: Further modules by name; their tensors are stored under `name.`.
        architecture: Named in config.json; by default a causal language model or an encoder.
        extra: Further entries of config.json.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors, words = to_hugging_face(model), dict(extra or {})
    if is_quantised(model) and not has_adapters(model):
        kind = _put_codes(model, tensors)
        words |= {"quantization_config": quantisation_words(kind), "torch_dtype": "bfloat16"}
    for prefix, head in (heads or {}).items():
        for name, tensor in head.state_dict().items():
            tensors[f"{prefix}.{name}"] = tensor.detach().to("cpu", torch.float32).clone()
    tensor_file.save(folder / "model.safetensors", tensors, {"format": "pt"})
    values = {**config_to_json(model.config, architecture), **words}
    replace_file(folder / "config.json", json.dumps(values, indent=2).encode())


def _put_codes(model: Transformer, tensors: dict[str, Tensor]) -> torch.dtype:
    """Replace what is quantised by its codes and narrow the rest; gives how weights are held."""
    kinds = set()
    for name, tensor in tensors.items():
        tensors[name] = tensor.to(torch.bfloat16)
    for ours, parts in names_of(model.config):
        owner = model.get_submodule(ours.rpartition(".")[0])
        if isinstance(owner, QuantizedProjection) and ours.endswith(".weight"):
            tensors.update(split_codes(owner, [(name, (s[0], s[1])) for name, s in parts]))
            kinds.add(torch.int8 if owner.codes.dtype == torch.int8 else torch.quint4x2)
    if len(kinds) != 1:
        raise ConfigError("weights of several quantised types cannot be written together")
    return kinds.pop()


def _tensor_files(folder: Path) -> list[Path]:
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        hint = "; pickled weights (.bin) are not read" if list(folder.glob("*.bin")) else ""
        raise CheckpointError(f"{folder} holds no model.safetensors{hint}")
    found = read_json(index).get("weight_map", {})
    names: list[Any] = list(found.values()) if isinstance(found, dict) else [None]
    if not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{index}: weight_map should name a file for each tensor")
    shards = sorted(set(names))
    if any(Path(name).name != name for name in shards):
        raise CheckpointError(f"{index} names files outside its folder")
    return [folder / name for name in shards]


class _Tensors:
    """The tensors of a checkpoint, looked at before they are loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.handles: dict[str, Any] = {}
        for path in _tensor_files(folder):
            try:
                handle = safe_open(path, framework="pt")
                self.handles.update(dict.fromkeys(handle.keys(), handle))
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"{path} cannot be read: {error}") from None

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.handles[name].get_slice(name).get_shape())

    def load(self, name: str) -> Tensor:
        return self.handles[name].get_tensor(name)  # type: ignore[no-any-return]

    def check(self, wanted: Mapping[str, tuple[int, ...]], *, ignore: tuple[str, ...] = ()) -> None:
        """Raise CheckpointError unless exactly the wanted tensors are there, in shape."""
        missing = sorted(set(wanted) - set(self.handles))
        if missing:
            raise CheckpointError(f"{self.folder} lacks {first_three(missing)}")
        known = set(wanted)
        surplus = [n for n in self.handles if n not in known and not n.startswith(ignore)]
        surplus = sorted(
            n for n in surplus if not n.endswith("rotary_emb.inv_freq") and not is_extra(n)
        )
        if surplus:
            raise CheckpointError(f"{self.folder} holds unknown tensors: {first_three(surplus)}")
        for name, shape in wanted.items():
            if self.shape(name) != shape:
                raise CheckpointError(
                    f"{self.folder}: {name} has shape {list(self.shape(name))}, config.json says "
                    f"{list(shape)}"
                )


def first_three(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def from_pretrained(folder: str | Path) -> Transformer:
    """The model in a Hugging Face folder, float32; its files are compared with a manifest of ours.

    The folder holds config.json and model.safetensors (or shards with their index); tensors of
    heads are not read here (see `load_heads`).
    """
    folder = Path(folder)
    check_manifest(folder)
    path = folder / "config.json"
    said = read_json(path)
    config = config_from_json(said, str(path))
    tensors = _Tensors(folder)
    if "lm_head.weight" not in tensors.handles and any(map(is_classifier, architectures(said))):
        config = replace(config, tie_word_embeddings=True)  # it has no output matrix to be tied
    names = list(names_of(config))
    kind = quantisation_of(said, str(folder))
    codes = {} if kind is None else _coded(names, kind, tensors)
    wanted = {name: shape for ours, parts in names if ours not in codes for name, shape in parts}
    for shapes in codes.values():
        wanted |= shapes
    # A tied output matrix may be written out all the same.
    tied = ("lm_head.weight",) if config.tie_word_embeddings else ()
    tensors.check(wanted, ignore=_HEADS + tied)
    model = Transformer(config, seed=None)
    state = dict(model.named_parameters())
    with torch.no_grad():
        for ours, parts in names:
            if ours in codes and kind is not None:
                _take_codes(model, ours, parts, kind, tensors)
                continue
            state[ours].copy_(torch.cat([tensors.load(name).float() for name, _ in parts]))
    if kind is not None:  # what stands beside codes does not learn either
        hold_weights(model.requires_grad_(False), torch.bfloat16)
    return model


def architectures(config: Mapping[str, Any]) -> list[str]:
    """The classes that a config.json names."""
    kinds = config.get("architectures")
    return [str(kind) for kind in kinds] if isinstance(kinds, list) else []


def is_classifier(architecture: str) -> bool:
    """Whether a class scores texts, in whose files an output matrix may be missing."""
    return architecture.endswith("ForSequenceClassification")


def _coded(
    names: Sequence[tuple[str, Sequence[Named]]], kind: torch.dtype, tensors: _Tensors
) -> dict[str, dict[str, tuple[int, ...]]]:
    """By our name of a weight that is codes in the files, the tensors that hold it."""
    found = {}
    for ours, parts in names:
        if ours.endswith("_proj.weight"):
            shapes = code_names([(n, (s[0], s[1])) for n, s in parts], kind, tensors.handles)
            if shapes is not None:
                found[ours] = shapes
    return found


def _take_codes(
    model: Transformer, ours: str, parts: Sequence[Named], kind: torch.dtype, tensors: _Tensors
) -> None:
    """Put a projection of codes in place of the plain one."""
    place = ours.removesuffix(".weight")
    owner, _, name = place.rpartition(".")
    plain = model.get_submodule(place)
    assert isinstance(plain, Projection)
    layers = [(n, (s[0], s[1])) for n, s in parts]
    codes, scales = join_codes(layers, kind, tensors.load, tensors.handles)
    held = QuantizedProjection.of_codes(codes, scales, plain.shape, plain.bias)
    setattr(model.get_submodule(owner), name, held)


def load_heads(folder: str | Path, heads: Mapping[str, nn.Module]) -> None:
    """Fill head modules from the tensors `name.*` of a checkpoint; all must be there, in shape."""
    tensors = _Tensors(Path(folder))
    for prefix, head in heads.items():
        wanted = {f"{prefix}.{name}": tuple(t.shape) for name, t in head.state_dict().items()}
        others = tuple(name for name in tensors.handles if not name.startswith(f"{prefix}."))
        tensors.check(wanted, ignore=others)
        size = len(prefix) + 1
        head.load_state_dict({name[size:]: tensors.load(name).float() for name in wanted})

"""Checkpoints in Hugging Face's format, config.json and safetensors, without `transformers`.

Decoders use the names and the layout of a Llama model and load there as they are; fused projections
are split on the way out and joined on the way in. Every tensor must be present, known and of the
right shape before a weight is touched. Pickled checkpoints are refused. Tokenizer files are
tokenizer.py's, whole training states the run's.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs.checkpoint import tensor_file
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.errors import CheckpointError, ConfigError
from playout.rlhf.model.transformer import Projection, Transformer, TransformerConfig
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

__all__ = ["from_pretrained", "load_heads", "read_config", "save_pretrained"]

DECODER, ENCODER = "llama", "playout_encoder"
MAX_JSON_BYTES = 64 << 20

# our field -> key in config.json; the same name where not listed
_FIELDS = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
]
_TOKENS = ["pad_token_id", "bos_token_id", "eos_token_id"]
# What a Llama configuration may say that this model does not do, with the value that it does.
_FIXED: dict[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "pretraining_tp": 1,
}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_JSON_BYTES >> 20} MiB")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object")
    return value


# configuration


def config_to_json(config: TransformerConfig, architecture: str | None = None) -> dict[str, Any]:
    """What config.json says about a model."""
    if architecture is None:
        architecture = "LlamaForCausalLM" if config.causal else "PlayoutEncoder"
    values = {name: getattr(config, name) for name in [*_FIELDS, *_TOKENS]}
    return {
        "architectures": [architecture],
        "model_type": DECODER if config.causal else ENCODER,
        "torch_dtype": "float32",
        "initializer_range": 0.02,
        **_FIXED,
        **values,
        # Both spellings: transformers 4 reads the first, 5 the second.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
    }


def config_from_json(values: Mapping[str, Any], source: str) -> TransformerConfig:
    """The configuration that config.json describes; CheckpointError for other kinds of model."""
    kind = values.get("model_type")
    if kind not in (DECODER, ENCODER):
        raise CheckpointError(
            f"{source} describes a {kind!r} model; only the Llama layout can be loaded"
        )
    for name, supported in _FIXED.items():
        if values.get(name, supported) != supported:
            raise CheckpointError(f"{source}: {name}={values[name]!r} is not supported")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if (
        not isinstance(rope, dict)
        or rope.get("rope_type", rope.get("type", "default")) != "default"
    ):
        raise CheckpointError(f"{source}: rotary scaling {rope!r} is not supported")
    fields: dict[str, Any] = {"causal": kind == DECODER}
    theta = values.get("rope_theta", rope.get("rope_theta", 10000.0))
    for name in _FIELDS:
        if values.get(name) is not None:
            fields[name] = values[name]
    fields.setdefault("num_key_value_heads", fields.get("num_attention_heads"))
    for name in _TOKENS:
        token = values.get(name)
        # Some models list several ends; the first is the one that their tokenizer names.
        fields[name] = token[0] if isinstance(token, list) and token else token
    for name, value in fields.items():
        real = name == "rms_norm_eps"
        if value is not None and not isinstance(value, (int, float) if real else int):
            raise CheckpointError(f"{source}: {name}={value!r} is not a number")
    if not isinstance(theta, int | float) or theta <= 1:
        raise CheckpointError(f"{source}: rope_theta={theta!r} is not a number above 1")
    try:
        return TransformerConfig(rope_theta=float(theta), **fields)
    except (TypeError, ConfigError) as error:
        raise CheckpointError(f"{source}: {error}") from None


def read_config(folder: str | Path) -> TransformerConfig:
    """The configuration of the checkpoint in `folder`."""
    path = Path(folder) / "config.json"
    return config_from_json(read_json(path), str(path))


# tensors


def names_of(config: TransformerConfig) -> Iterator[tuple[str, list[tuple[str, tuple[int, ...]]]]]:
    """(our parameter, [(name in the file, shape), ...]); several parts are rows of one matrix."""
    hidden, inner, size = config.hidden_size, config.intermediate_size, config.head_dim
    queries, keys = config.num_attention_heads * size, config.num_key_value_heads * size
    yield "embed_tokens", [("model.embed_tokens.weight", (config.vocab_size, hidden))]
    for index in range(config.num_hidden_layers):
        ours, theirs = f"layers.{index}", f"model.layers.{index}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{ours}.{norm}", [(f"{theirs}.{norm}.weight", (hidden,))]
        parts = [("q", queries), ("k", keys), ("v", keys)]
        yield (
            f"{ours}.qkv_proj.weight",
            [(f"{theirs}.self_attn.{part}_proj.weight", (rows, hidden)) for part, rows in parts],
        )
        yield f"{ours}.o_proj.weight", [(f"{theirs}.self_attn.o_proj.weight", (hidden, queries))]
        yield (
            f"{ours}.gate_up_proj.weight",
            [(f"{theirs}.mlp.{part}_proj.weight", (inner, hidden)) for part in ("gate", "up")],
        )
        yield f"{ours}.down_proj.weight", [(f"{theirs}.mlp.down_proj.weight", (hidden, inner))]
    yield "norm", [("model.norm.weight", (hidden,))]
    if not config.tie_word_embeddings:
        yield "lm_head", [("lm_head.weight", (config.vocab_size, hidden))]


def to_hugging_face(model: Transformer) -> dict[str, Tensor]:
    """All weights under Hugging Face's names, fused projections split."""
    state: dict[str, Tensor] = dict(model.named_parameters())
    for name, module in model.named_modules():
        if isinstance(module, Projection):
            # With adapters, the merged weight.
            state[f"{name}.weight"] = module.effective()
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
    tensors = to_hugging_face(model)
    for prefix, head in (heads or {}).items():
        for name, tensor in head.state_dict().items():
            tensors[f"{prefix}.{name}"] = tensor.detach().to("cpu", torch.float32).clone()
    tensor_file.save(folder / "model.safetensors", tensors, {"format": "pt"})
    values = {**config_to_json(model.config, architecture), **(extra or {})}
    replace_file(folder / "config.json", json.dumps(values, indent=2).encode())


def _tensor_files(folder: Path) -> list[Path]:
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        hint = "; pickled weights (.bin) are not read" if list(folder.glob("*.bin")) else ""
        raise CheckpointError(f"{folder} holds no model.safetensors{hint}")
    shards = sorted(set(read_json(index).get("weight_map", {}).values()))
    if any(not isinstance(name, str) or Path(name).name != name for name in shards):
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
            raise CheckpointError(f"{self.folder} lacks {_first_three(missing)}")
        known = set(wanted)
        surplus = [n for n in self.handles if n not in known and not n.startswith(ignore)]
        surplus = sorted(n for n in surplus if not n.endswith("rotary_emb.inv_freq"))
        if surplus:
            raise CheckpointError(f"{self.folder} holds unknown tensors: {_first_three(surplus)}")
        for name, shape in wanted.items():
            if self.shape(name) != shape:
                raise CheckpointError(
                    f"{self.folder}: {name} has shape {list(self.shape(name))}, config.json says "
                    f"{list(shape)}"
                )


def _first_three(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def from_pretrained(
    folder: str | Path, *, heads: tuple[str, ...] = ("score", "v_head", "mlm", "class")
) -> Transformer:
    """The model in a Hugging Face folder, float32.

    Args:
        folder: Holds config.json and model.safetensors (or shards with their index).
        heads: Prefixes of tensors that belong to heads and are not read here (see `load_heads`).
    """
    folder = Path(folder)
    config = read_config(folder)
    tensors = _Tensors(folder)
    names = list(names_of(config))
    wanted = {name: shape for _, parts in names for name, shape in parts}
    ignore = tuple(f"{head}." for head in heads)
    # A tied output matrix may be written out all the same.
    ignore += ("lm_head.weight",) if config.tie_word_embeddings else ()
    tensors.check(wanted, ignore=ignore)
    model = Transformer(config, seed=None)
    state = dict(model.named_parameters())
    with torch.no_grad():
        for ours, parts in names:
            state[ours].copy_(torch.cat([tensors.load(name).float() for name, _ in parts]))
    return model


def load_heads(folder: str | Path, heads: Mapping[str, nn.Module]) -> None:
    """Fill head modules from the tensors `name.*` of a checkpoint; all must be there, in shape."""
    tensors = _Tensors(Path(folder))
    for prefix, head in heads.items():
        wanted = {f"{prefix}.{name}": tuple(t.shape) for name, t in head.state_dict().items()}
        others = tuple(name for name in tensors.handles if not name.startswith(f"{prefix}."))
        tensors.check(wanted, ignore=others)
        size = len(prefix) + 1
        head.load_state_dict({name[size:]: tensors.load(name).float() for name in wanted})

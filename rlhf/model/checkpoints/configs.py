"""config.json of the Llama family: read into a TransformerConfig, and written so that it is read.

Each architecture says the same things in its own words, and leaves out what its class assumes; both
are listed here once. What a model of ours cannot do is refused by name. Tensors are
huggingface.py's, GGUF headers gguf.py's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playout.errors import CheckpointError, ConfigError
from playout.rlhf.model.checkpoints.quantised import quantisation_of
from playout.rlhf.model.config import RopeScaling, TransformerConfig

__all__ = ["class_name", "config_from_json", "config_to_json", "read_config", "read_json"]

ENCODER = "playout_encoder"
CLASSES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "smollm3": "SmolLM3",
    "mixtral": "Mixtral",
    "qwen3_moe": "Qwen3Moe",
}
"""model_type -> how the names of its classes begin in `transformers`."""
EXPERT_NAMES = {
    "mixtral": ("block_sparse_moe", "w1", "w3", "w2"),
    "qwen3_moe": ("mlp", "gate_proj", "up_proj", "down_proj"),
}
"""model_type of a mixture of experts -> its room in a layer, and an expert's three matrices."""
MAX_JSON_BYTES = 64 << 20
MAX_LAYERS = 4096
MAX_EXPERTS = 4096

_REQUIRED = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
]
_FIELDS = [
    *_REQUIRED,
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
]
_TOKENS = ["pad_token_id", "bos_token_id", "eos_token_id"]
# What a class of `transformers` assumes where config.json is silent.
_ASSUMED: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048},
    "mistral": {"max_position_embeddings": 131072, "num_key_value_heads": 8},
    "qwen2": {"max_position_embeddings": 32768, "num_key_value_heads": 32},
    "qwen3": {"max_position_embeddings": 32768, "num_key_value_heads": 32, "head_dim": 128},
    "smollm3": {
        "max_position_embeddings": 32768,
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
        "rope_theta": 2e6,
    },
    "mixtral": {
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
    },
    "qwen3_moe": {"max_position_embeddings": 32768, "num_key_value_heads": 4},
}
# What a configuration may say that this model does not do, with the value that it does.
_FIXED: dict[str, Any] = {
    "hidden_act": "silu",
    "partial_rotary_factor": 1.0,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
_ROUTER = ["num_experts_per_tok", "router_aux_loss_coef", "router_z_loss_coef"]
# The fields of each rotary scaling.
_SCALINGS = {
    "linear": ["factor"],
    "dynamic": ["factor"],
    "llama3": [
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ],
    "yarn": [
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ],
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


def class_name(config: TransformerConfig, task: str = "ForCausalLM") -> str:
    """The class of `transformers` that reads a model of this shape."""
    return f"{CLASSES[config.model_type]}{task}" if config.causal else "PlayoutEncoder"


# writing


def config_to_json(config: TransformerConfig, architecture: str | None = None) -> dict[str, Any]:
    """What config.json says about a model.

    Raises:
        ConfigError: the architecture has no words for this shape.
    """
    if bool(config.num_experts) != (config.model_type in EXPERT_NAMES):
        raise ConfigError(f"model_type {config.model_type!r} does not say how many experts")
    if config.model_type not in CLASSES:
        raise ConfigError(f"{config.model_type!r} is none of {', '.join(CLASSES)}")
    kind = config.model_type if config.causal else ENCODER
    values = {
        "architectures": [architecture or class_name(config)],
        "model_type": kind,
        "torch_dtype": "float32",
        "initializer_range": 0.02,
        "hidden_act": "silu",
        **_words(config),
        "pretraining_tp": 1,
        **{name: getattr(config, name) for name in [*_FIELDS, *_TOKENS]},
        # Both spellings: transformers 4 reads the first, 5 the second.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
    }
    if config.eos_token_ids:
        values["eos_token_id"] = list(config.eos_token_ids)
    if config.rope_scaling is not None:
        scaling = _scaling_to_json(config.rope_scaling)
        values["rope_parameters"] = {"rope_theta": config.rope_theta, **scaling}
        values["rope_scaling"] = scaling
    if config_from_json(values, "config.json") != config:
        raise ConfigError(f"a config.json of model_type {kind!r} cannot describe this {config}")
    return values


def _words(config: TransformerConfig) -> dict[str, Any]:
    """Biases, windows and positions as the architecture says them."""
    kind, layers = config.model_type, range(config.num_hidden_layers)
    found: dict[str, Any] = {}
    if kind in ("llama", "qwen3", "smollm3", "qwen3_moe"):
        found["attention_bias"] = config.attention_bias
    if kind in ("llama", "smollm3"):
        found["mlp_bias"] = config.mlp_bias
    if kind in EXPERT_NAMES:
        count = "num_local_experts" if kind == "mixtral" else "num_experts"
        found |= {count: config.num_experts} | {name: getattr(config, name) for name in _ROUTER}
    if kind == "qwen3_moe":
        inner = {"moe_intermediate_size": config.intermediate_size}
        found |= {**inner, "norm_topk_prob": config.norm_topk_prob, "use_sliding_window": False}
    elif kind != "llama":
        found["sliding_window"] = config.sliding_window or None
    if kind in ("qwen2", "qwen3", "smollm3"):
        limited = set(config.sliding_layers)
        found["use_sliding_window"] = bool(config.sliding_window)
        found["layer_types"] = [
            "sliding_attention" if layer in limited else "full_attention" for layer in layers
        ]
    if kind in ("qwen2", "qwen3"):
        found["max_window_layers"] = min(config.sliding_layers, default=len(layers))
    if kind == "smollm3":
        found["no_rope_layers"] = [int(layer not in config.nope_layers) for layer in layers]
    return found


def _scaling_to_json(scaling: RopeScaling) -> dict[str, Any]:
    found: dict[str, Any] = {"rope_type": scaling.rope_type}
    default = RopeScaling("linear")
    for name in _SCALINGS[scaling.rope_type]:
        value = getattr(scaling, name)
        always = name in ("factor", "original_max_position_embeddings") or "freq" in name
        if always or value != getattr(default, name):
            found[name] = value
    return found


# reading


def config_from_json(values: Mapping[str, Any], source: str) -> TransformerConfig:
    """The configuration that config.json describes; CheckpointError for other kinds of model."""
    kind = values.get("model_type")
    if kind not in CLASSES and kind != ENCODER:
        raise CheckpointError(
            f"{source} describes a {kind!r} model; those of the Llama layout can be loaded: "
            f"{', '.join(CLASSES)}"
        )
    for name, supported in _FIXED.items():
        found = values.get(name)
        if found is not None and found != supported:
            shown = f"{found!r:.80}"
            raise CheckpointError(f"{source}: {name}={shown} is not supported")
    quantisation_of(values, source)  # of a kind that can be read
    fields: dict[str, Any] = {"causal": kind != ENCODER}
    if kind in CLASSES:
        common = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False}
        assumed = {**common, **_ASSUMED[kind]}
        fields["model_type"] = kind
    else:
        assumed = {}
    theta = assumed.pop("rope_theta", 10000.0)
    fields.update(assumed)
    for name in _FIELDS:
        if values.get(name) is not None:
            fields[name] = values[name]
        elif name in _REQUIRED:
            raise CheckpointError(f"{source} lacks {name}")
    fields.setdefault("num_key_value_heads", fields["num_attention_heads"])
    for name in _TOKENS:
        token = values.get(name)
        if isinstance(token, list):
            fields["eos_token_ids"] = tuple(token)
            token = token[0] if token else None
        fields[name] = token
    for name, value in fields.items():
        numbers = value if isinstance(value, tuple) else (value,)
        real = name == "rms_norm_eps"
        if name != "model_type" and not all(
            number is None or isinstance(number, (int, float) if real else int)
            for number in numbers
        ):
            raise CheckpointError(f"{source}: {name}={value!r} is not a number")
    if fields["num_hidden_layers"] > MAX_LAYERS:
        raise CheckpointError(f"{source}: {fields['num_hidden_layers']} layers are too many")
    try:
        if kind in CLASSES:
            fields |= _variants(kind, values, fields["num_hidden_layers"])
        fields |= _rotary(values, theta, fields)
        return TransformerConfig(**fields)
    except (TypeError, ConfigError) as error:
        raise CheckpointError(f"{source}: {error}") from None


def _variants(kind: str, values: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Biases, norms, windows and layers without positions."""
    found: dict[str, Any] = {"qk_norm": kind in ("qwen3", "qwen3_moe")}
    if kind in EXPERT_NAMES:
        found |= _experts(kind, values)
    if kind in ("llama", "qwen3", "smollm3", "qwen3_moe"):
        found["attention_bias"] = found["output_bias"] = _flag(values, "attention_bias")
    if kind in ("llama", "smollm3"):
        found["mlp_bias"] = _flag(values, "mlp_bias")
    if kind == "qwen2":
        found["attention_bias"] = True
    layers = range(count)
    if kind == "smollm3":
        interval = values.get("no_rope_layer_interval") or 4
        rotates = _per_layer(values, "no_rope_layers", count)
        if rotates is None:
            rotates = [(layer + 1) % interval for layer in layers]
        found["nope_layers"] = tuple(layer for layer in layers if not rotates[layer])
    window = values.get("sliding_window", 4096 if kind == "mistral" else None)
    everywhere = kind in ("mistral", "mixtral")
    if kind in ("llama", "qwen3_moe") or not (everywhere or _flag(values, "use_sliding_window")):
        window = None
    if window is None:
        return found
    if not isinstance(window, int):
        raise ConfigError(f"sliding_window={window!r} is not a number")
    types = None if everywhere else _per_layer(values, "layer_types", count)
    if types is not None:
        limited = [layer for layer in layers if types[layer] == "sliding_attention"]
    elif kind == "smollm3":
        limited = list(found["nope_layers"])
    else:
        first = 0 if everywhere else values.get("max_window_layers", 28)
        limited = [layer for layer in layers if layer >= first]
    return {**found, "sliding_window": window, "sliding_layers": tuple(limited)}


def _experts(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """How many experts there are, how wide, and how they are chosen."""
    qwen = kind == "qwen3_moe"
    # transformers 5 calls them by either name.
    count = values.get("num_local_experts", values.get("num_experts", 128 if qwen else 8))
    found = {
        "num_experts": count,
        "num_experts_per_tok": values.get("num_experts_per_tok", 8 if qwen else 2),
        "router_aux_loss_coef": values.get("router_aux_loss_coef", 0.001),
        "router_z_loss_coef": values.get("router_z_loss_coef", 0.0),
    }
    if qwen:
        found["intermediate_size"] = values.get("moe_intermediate_size", 768)
        found["norm_topk_prob"] = _flag(values, "norm_topk_prob")
        if _flag(values, "use_sliding_window"):
            raise ConfigError("use_sliding_window=True is not supported")
    for name, value in found.items():
        if not isinstance(value, int | float if "coef" in name else int):
            raise ConfigError(f"{name}={value!r} is not a number")
    if count > MAX_EXPERTS:
        raise ConfigError(f"{count} experts are too many")
    return found


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"{name}={value!r} is neither true nor false")
    return bool(value)


def _per_layer(values: Mapping[str, Any], name: str, count: int) -> list[Any] | None:
    """A list with an entry for every layer, or None."""
    found = values.get(name)
    if found is None:
        return None
    if not isinstance(found, list) or len(found) < count:
        raise ConfigError(f"{name} should list the {count} layers")
    return found


def _rotary(values: Mapping[str, Any], theta: float, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Base and scaling of the rotary wavelengths."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise ConfigError(f"rotary scaling {rope!r} is not supported")
    theta = rope.get("rope_theta", values.get("rope_theta", theta))
    if not isinstance(theta, int | float) or theta <= 1:
        raise ConfigError(f"rope_theta={theta!r} is not a number above 1")
    found: dict[str, Any] = {"rope_theta": float(theta)}
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConfigError("heads that are rotated in part only are not supported")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return found
    if kind not in _SCALINGS:
        raise ConfigError(f"rotary scaling {kind!r} is not supported; {', '.join(_SCALINGS)} are")
    settings = {name: rope[name] for name in _SCALINGS[kind] if rope.get(name) is not None}
    for name, value in settings.items():
        wanted = bool if name == "truncate" else (int, float)
        if not isinstance(value, wanted):
            raise ConfigError(f"rotary scaling: {name}={value!r} is not a number")
    if "original_max_position_embeddings" in _SCALINGS[kind]:
        context = fields.get("max_position_embeddings", 0)
        first = values.get("original_max_position_embeddings") or context
        original = settings.setdefault("original_max_position_embeddings", first)
        settings.setdefault("factor", max(1.0, context / max(original, 1)))
    found["rope_scaling"] = RopeScaling(kind, **settings)
    return found


def read_config(folder: str | Path) -> TransformerConfig:
    """The configuration of the checkpoint in `folder`."""
    path = Path(folder) / "config.json"
    return config_from_json(read_json(path), str(path))

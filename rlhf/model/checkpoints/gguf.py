"""Reading models of the Llama family from GGUF files, the format of quantised models.

The library `gguf` parses the file and undoes every quantisation that it knows; here are the limits
that a hostile file meets, and the names and the order of the weights. The vocabulary is
gguf_vocabulary.py's. Writing GGUF is left out.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.errors import CheckpointError, ConfigError
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.checkpoints.configs import config_from_json
from playout.rlhf.model.checkpoints.gguf_vocabulary import read_vocabulary
from playout.rlhf.model.config import RopeScaling, TransformerConfig, rotary_table
from playout.rlhf.model.huggingface import first_three, names_of
from playout.rlhf.model.transformer import Transformer

__all__ = ["read_gguf"]

Floats = NDArray[np.float32]
# Values, lengths and texts that a header may hold; a vocabulary of 256,000 tokens has 1.5 million.
MAX_READS = 1 << 22
ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "smollm3": "smollm3",
    "qwen3moe": "qwen3_moe",
}
"""Those that are read -> `model_type`; files of Mistral and Mixtral name themselves llama."""
# The files of these hold the two halves of each rotated head interleaved.
PERMUTED = ("llama", "smollm3")


class _File:
    """Metadata and tensors of a GGUF file; nothing is read beyond its end."""

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        if path.is_dir():
            raise CheckpointError(
                f"{path} is a folder, not a GGUF file; one with a config.json is used as it is"
            )
        try:
            reader, self._dequantize = _open(path)
        except (CheckpointError, ConfigError):
            raise
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
        # The library lets whatever a damaged header causes pass.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise CheckpointError(f"{path} is no GGUF file that can be read ({reason})") from None
        self._fields = reader.fields
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        if self.value("split.count", 1) > 1:
            raise CheckpointError(
                f"{path} is one of {self.value('split.count')} parts; join them into one file first"
            )
        self.architecture = str(self.required("general.architecture"))

    def value(self, name: str, default: Any = None) -> Any:
        """A value of the header, or the default."""
        return self._fields[name].contents() if name in self._fields else default

    def required(self, name: str) -> Any:
        """A value that must be there."""
        if name not in self._fields:
            raise CheckpointError(f"{self.source} lacks {name}")
        return self.value(name)

    def own(self, name: str, default: Any = None) -> Any:
        """A value that the header keeps under the architecture's name."""
        return self.value(f"{self.architecture}.{name}", default)

    def tensor(
        self, name: str, shape: tuple[int, ...], *, stack: tuple[int, int] | None = None
    ) -> Floats:
        """A tensor as float32, its shape checked before anything is decoded.

        Args:
            name: Of the tensor.
            shape: It should have.
            stack: It is this one (the first number) of so many, one above another.
        """
        if name not in self.tensors:
            raise CheckpointError(f"{self.source} lacks {name}")
        tensor = self.tensors[name]
        found = tuple(reversed(tensor.shape.tolist()))
        wanted = shape if stack is None else (stack[1], *shape)
        if found != wanted:
            raise CheckpointError(
                f"{self.source}: {name} has shape {list(found)}, not {list(wanted)}"
            )
        data = tensor.data if stack is None else tensor.data[stack[0]]
        try:
            weight = self._dequantize(data, tensor.tensor_type)
        except NotImplementedError:
            kind = tensor.tensor_type.name
            raise CheckpointError(
                f"{self.source}: {name} is quantised by the unknown type {kind}"
            ) from None
        return np.array(weight, dtype=np.float32).reshape(shape)


def _open(path: Path) -> tuple[Any, Callable[..., Floats]]:
    """The library's reader of a file, and its function that undoes quantisation."""
    try:
        from gguf import GGUFReader  # type: ignore[import-untyped,import-not-found,unused-ignore]
        from gguf.quants import dequantize  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise ConfigError(
            "reading GGUF files needs the package gguf: pip install 'playout[gguf]'"
        ) from None

    class Reader(GGUFReader):  # type: ignore[misc,unused-ignore]
        """The library's reader with limits: it takes what a header says as it is."""

        reads = 0

        def _get(self, offset: int, dtype: Any, count: int = 1, *args: Any, **options: Any) -> Any:
            self.reads += 1
            # A plain view of the mapped file: slices of a memmap are several times slower to make.
            self.data = np.asarray(self.data)  # type: ignore[assignment,unused-ignore]
            if offset + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise CheckpointError(f"{path} is cut short")
            if self.reads > MAX_READS:
                raise CheckpointError(f"{path} holds more than {MAX_READS} values")
            return super()._get(offset, dtype, count, *args, **options)

    return Reader(path), dequantize


def _config(file: _File) -> TransformerConfig:
    kind = file.architecture
    if kind not in ARCHITECTURES:
        raise CheckpointError(
            f"{file.source} holds a {kind!r} model; those of the Llama layout can be loaded: "
            f"{', '.join(ARCHITECTURES)}"
        )
    heads = file.required(f"{kind}.attention.head_count")
    hidden = file.required(f"{kind}.embedding_length")
    size = file.own("attention.key_length", hidden // max(heads, 1))
    if file.own("rope.dimension_count", size) != size:
        raise CheckpointError(
            f"{file.source}: heads that are rotated in part only are not supported"
        )
    window = file.own("attention.sliding_window")
    eps = file.required(f"{kind}.attention.layer_norm_rms_epsilon")
    model_type, mixture = ARCHITECTURES[kind], _mixture(file)
    if kind == "llama" and (mixture or window):
        model_type = "mixtral" if mixture else "mistral"
    values = {
        "model_type": model_type,
        "vocab_size": len(file.required("tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "intermediate_size": file.required(f"{kind}.feed_forward_length"),
        "num_hidden_layers": file.required(f"{kind}.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.own("attention.head_count_kv", heads),
        "max_position_embeddings": file.required(f"{kind}.context_length"),
        # The header's float32 as the decimal that it was.
        "rms_norm_eps": float(f"{eps:.6g}"),
        "rope_theta": float(file.own("rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in file.tensors,
        "head_dim": size,
        "sliding_window": window,
        **mixture,
    }
    if scaling := _scaling(file):
        values["rope_scaling"] = scaling
    config = config_from_json(values, file.source)
    if "rope_freqs.weight" in file.tensors:
        found = file.tensor("rope_freqs.weight", (config.head_dim // 2,))
        config = replace(config, rope_scaling=_llama3(config, found, file.source))
    return config


def _mixture(file: _File) -> dict[str, Any]:
    """How many experts a file's layers have, in config.json's words; nothing of a dense model."""
    count = file.own("expert_count")
    if not count:
        return {}
    found = {"num_experts_per_tok": file.required(f"{file.architecture}.expert_used_count")}
    if file.architecture == "llama":
        return found | {"num_local_experts": count}
    inner = file.required(f"{file.architecture}.expert_feed_forward_length")
    # The format says nothing of whether the chosen weights are made to add up to one; they are.
    return found | {"num_experts": count, "moe_intermediate_size": inner, "norm_topk_prob": True}


def _scaling(file: _File) -> dict[str, Any]:
    """The rotary scaling of the header in config.json's words."""
    # Older files say `scale_linear`; a factor without a type is linear.
    factor = file.own("rope.scaling.factor") or file.own("rope.scale_linear")
    kind = file.own("rope.scaling.type", "linear" if factor not in (None, 0, 1) else "none")
    if kind == "none":
        return {}
    names = {
        "original_max_position_embeddings": "original_context_length",
        "beta_fast": "yarn_beta_fast",
        "beta_slow": "yarn_beta_slow",
        "attention_factor": "yarn_attn_factor",
    }
    found = {ours: file.own(f"rope.scaling.{theirs}") for ours, theirs in names.items()}
    found["factor"] = factor
    return {"rope_type": kind, **{name: value for name, value in found.items() if value}}


def _llama3(config: TransformerConfig, factors: Floats, source: str) -> RopeScaling:
    """The scaling that these factors [D / 2], by which wavelengths are multiplied, come from.

    Files hold the factors alone; what they were computed from is found by trying.
    """
    short = config.with_context(2)
    plain = np.arctan2(*(table[1].double().numpy() for table in reversed(rotary_table(short))))
    contexts = {8192, 4096, 16384, 32768, config.max_position_embeddings}
    for original in sorted(contexts):
        for low, high in ((1.0, 4.0), (1.0, 2.0), (1.0, 8.0), (1.0, 32.0)):
            factor = round(float(factors.max()), 4)
            try:
                scaling = RopeScaling("llama3", factor, original, low, high)
            except ConfigError:
                break
            tables = reversed(rotary_table(replace(short, rope_scaling=scaling)))
            scaled = np.arctan2(*(table[1].double().numpy() for table in tables))
            if np.allclose(plain / scaled, factors, rtol=1e-3):
                return scaling
    raise CheckpointError(f"{source}: rope_freqs.weight comes from no scaling that is known")


_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "block_sparse_moe.gate": "ffn_gate_inp",
}
# An expert's matrix; files hold those of all experts of a layer in one tensor.
_EXPERT = re.compile(r"model\.layers\.(\d+)\.\w+\.experts\.(\d+)\.(\w+)\.weight")
_STACKS = {
    **dict.fromkeys(("w1", "gate_proj"), "ffn_gate_exps"),
    **dict.fromkeys(("w3", "up_proj"), "ffn_up_exps"),
    **dict.fromkeys(("w2", "down_proj"), "ffn_down_exps"),
}
_SINGLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def _their_name(name: str) -> str:
    """Hugging Face's name of a tensor as GGUF's."""
    if name in _SINGLE:
        return _SINGLE[name]
    if expert := _EXPERT.fullmatch(name):
        return f"blk.{expert[1]}.{_STACKS[expert[3]]}.weight"
    stem, _, kind = name.rpartition(".")
    _, _, index, part = stem.split(".", 3)
    return f"blk.{index}.{_PARTS[part]}.{kind}"


def _unpermuted(rows: Floats, size: int) -> Floats:
    """Rows [heads * size, ...] with the halves of each head one after the other again."""
    halves = rows.reshape(-1, size // 2, 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def read_gguf(path: Path) -> tuple[Transformer, Tokenizer]:
    """The model and the tokenizer in a GGUF file."""
    file = _File(path)
    config = _config(file)
    tokenizer = read_vocabulary(
        lambda name, default=None: file.value(f"tokenizer.{name}", default), file.source
    )
    config = replace(
        config,
        pad_token_id=tokenizer.pad_id,
        bos_token_id=None if tokenizer.bos is None else tokenizer.inner.token_to_id(tokenizer.bos),
        eos_token_id=tokenizer.end_id,
        eos_token_ids=tokenizer.stop_ids if len(tokenizer.stop_ids) > 1 else (),
    )
    names = list(names_of(config))
    known = {_their_name(name) for _, parts in names for name, _ in parts}
    surplus = sorted(set(file.tensors) - known - {"rope_freqs.weight"})
    if surplus:
        raise CheckpointError(f"{path} holds unknown tensors: {first_three(surplus)}")
    model = Transformer(config, seed=None)
    state = dict(model.named_parameters())
    with torch.no_grad():
        for ours, parts in names:
            found = []
            for name, shape in parts:
                expert = _EXPERT.fullmatch(name)
                stack = (int(expert[2]), config.num_experts) if expert else None
                weight = file.tensor(_their_name(name), shape, stack=stack)
                if file.architecture in PERMUTED and ("q_proj" in name or "k_proj" in name):
                    weight = _unpermuted(weight, config.head_dim)
                found.append(torch.from_numpy(weight))
            state[ours].copy_(torch.cat(found))
    return model, tokenizer

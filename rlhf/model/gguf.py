"""Reading Llama models from GGUF files, the format of small quantised models, into plain weights.

The library `gguf` parses the file and undoes every quantisation that it knows; here are the limits
that a hostile file meets, the names and the order of the weights, and the byte-level BPE
vocabulary. Writing GGUF is left out.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.errors import CheckpointError, ConfigError
from playout.rlhf.generation.tokenizer import END, Tokenizer
from playout.rlhf.model.checkpoints.configs import config_from_json
from playout.rlhf.model.huggingface import names_of
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Inner

__all__ = ["read_gguf"]

Floats = NDArray[np.float32]
# Values, lengths and texts that a header may hold; a vocabulary of 256,000 tokens has 1.5 million.
MAX_READS = 1 << 22


class _File:
    """Metadata and tensors of a GGUF file; nothing is read beyond its end."""

    def __init__(self, path: Path) -> None:
        self.source = str(path)
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

    def value(self, name: str, default: Any = None) -> Any:
        """A value of the header, or the default."""
        return self._fields[name].contents() if name in self._fields else default

    def required(self, name: str) -> Any:
        """A value that must be there."""
        if name not in self._fields:
            raise CheckpointError(f"{self.source} lacks {name}")
        return self.value(name)

    def tensor(self, name: str, shape: tuple[int, ...]) -> Floats:
        """A tensor as float32, its shape checked before anything is decoded."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.source} lacks {name}")
        tensor = self.tensors[name]
        found = tuple(reversed(tensor.shape.tolist()))
        if found != shape:
            raise CheckpointError(
                f"{self.source}: {name} has shape {list(found)}, not {list(shape)}"
            )
        try:
            weight = self._dequantize(tensor.data, tensor.tensor_type)
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
        raise ConfigError("reading GGUF files needs the package gguf: pip install gguf") from None

    class Reader(GGUFReader):  # type: ignore[misc,unused-ignore]
        """The library's reader with limits: it takes what a header says as it is."""

        reads = 0

        def _get(self, offset: int, dtype: Any, count: int = 1, *args: Any, **options: Any) -> Any:
            self.reads += 1
            if offset + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise CheckpointError(f"{path} is cut short")
            if self.reads > MAX_READS:
                raise CheckpointError(f"{path} holds more than {MAX_READS} values")
            return super()._get(offset, dtype, count, *args, **options)

    return Reader(path), dequantize


def _config(file: _File) -> TransformerConfig:
    if file.required("general.architecture") != "llama":
        raise CheckpointError(
            f"{file.source} holds a {file.required('general.architecture')!r} model; "
            "only the Llama layout can be loaded"
        )
    heads = file.required("llama.attention.head_count")
    values = {
        "model_type": "llama",
        "vocab_size": len(file.required("tokenizer.ggml.tokens")),
        "hidden_size": file.required("llama.embedding_length"),
        "intermediate_size": file.required("llama.feed_forward_length"),
        "num_hidden_layers": file.required("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.value("llama.attention.head_count_kv", heads),
        "max_position_embeddings": file.required("llama.context_length"),
        "rms_norm_eps": float(f"{file.required('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": float(file.value("llama.rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }
    return config_from_json(values, file.source)


_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
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
    _, _, index, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{index}.{_PARTS[part]}.weight"


def _unpermuted(weight: Floats, size: int) -> Floats:
    """GGUF interleaves the two halves of each rotated head; put them one after the other again."""
    rows, columns = weight.shape
    return weight.reshape(-1, size // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _tokenizer(file: _File) -> Tokenizer:
    if file.required("tokenizer.ggml.model") != "gpt2":
        raise CheckpointError(f"{file.source}: only byte-level BPE vocabularies can be read")
    tokens: list[str] = file.required("tokenizer.ggml.tokens")
    kinds = file.value("tokenizer.ggml.token_type", [1] * len(tokens))
    merges = [tuple(line.split(" ", 1)) for line in file.required("tokenizer.ggml.merges")]
    inner = Inner(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    rule = file.value("tokenizer.ggml.pre")
    if rule in ("smollm", "starcoder", "refact", "command-r"):
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    elif rule not in ("gpt-2", "default", None):
        raise CheckpointError(f"{file.source}: words are divided by the unknown rule {rule!r}")
    inner.pre_tokenizer = pre_tokenizers.Sequence(steps)
    inner.decoder = decoders.ByteLevel()
    control = 3
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == control]
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    end = END if END in special else tokens[file.required("tokenizer.ggml.eos_token_id")]
    spare = [token for token in special if token != end]
    if not spare:
        raise CheckpointError(f"{file.source}: the vocabulary has no token left for padding")
    named = [t for t in spare if "pad" in t] or [t for t in spare if "im_end" in t] or spare[-1:]
    return Tokenizer(inner, pad=named[0], end=end)


def read_gguf(path: Path) -> tuple[Transformer, Tokenizer]:
    """The model and the tokenizer in a GGUF file."""
    file = _File(path)
    config = _config(file)
    tokenizer = _tokenizer(file)
    config = replace(config, pad_token_id=tokenizer.pad_id, eos_token_id=tokenizer.end_id)
    model = Transformer(config, seed=None)
    state = dict(model.named_parameters())
    with torch.no_grad():
        for ours, parts in names_of(config):
            found = []
            for name, shape in parts:
                weight = file.tensor(_their_name(name), shape)
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    weight = _unpermuted(weight, config.head_dim)
                found.append(torch.from_numpy(weight))
            state[ours].copy_(torch.cat(found))
    return model, tokenizer

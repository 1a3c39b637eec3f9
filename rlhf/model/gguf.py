"""Reading Llama models from GGUF files, the format of small quantised models, into plain weights.

Enough of the format to take a published model as a starting point: version 2 and 3, float32,
float16, bfloat16 and the block types Q8_0, Q4_0 and Q4_1, with the byte-level BPE vocabulary. All
counts and offsets are checked against the file's size. Writing GGUF is left out.
"""

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.errors import CheckpointError
from playout.rlhf.generation.tokenizer import END, Tokenizer
from playout.rlhf.model.huggingface import config_from_json, names_of
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Inner

__all__ = ["read_gguf"]

Floats = NDArray[np.float32]
MAX_ITEMS = 1 << 24

_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


class _Reader:
    """A cursor over bytes that never reads past their end."""

    def __init__(self, data: memoryview, source: str) -> None:
        self.data, self.source, self.place = data, source, 0

    def take(self, count: int) -> memoryview:
        if count < 0 or self.place + count > len(self.data):
            raise CheckpointError(f"{self.source} is cut short")
        self.place += count
        return self.data[self.place - count : self.place]

    def numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def text(self) -> str:
        (size,) = self.numbers("Q")
        return bytes(self.take(size)).decode("utf-8", errors="replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.numbers("IQ")
            if count > MAX_ITEMS or depth:
                raise CheckpointError(f"{self.source} holds an array that is too large or nested")
            return [self.value(inner, depth + 1) for _ in range(count)]
        if kind not in _SCALARS:
            raise CheckpointError(f"{self.source} holds a value of unknown type {kind}")
        return self.numbers(_SCALARS[kind])[0]


def _plain(kind: str) -> Callable[[NDArray[np.uint8]], Floats]:
    return lambda raw: raw.view(kind).astype(np.float32)


def _bfloat16(raw: NDArray[np.uint8]) -> Floats:
    return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _blocks(raw: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return raw.reshape(-1, size)


def _half(block: NDArray[np.uint8], place: int) -> Floats:
    return block[:, place : place + 2].copy().view("<f2").astype(np.float32)


def _nibbles(block: NDArray[np.uint8]) -> Floats:
    """16 bytes a row as 32 numbers: the low halves, then the high ones."""
    return np.concatenate([block & 15, block >> 4], axis=1).astype(np.float32)


def _q8_0(raw: NDArray[np.uint8]) -> Floats:
    block = _blocks(raw, 34)
    return block[:, 2:].view(np.int8).astype(np.float32) * _half(block, 0)


def _q4_0(raw: NDArray[np.uint8]) -> Floats:
    block = _blocks(raw, 18)
    return (_nibbles(block[:, 2:]) - 8) * _half(block, 0)


def _q4_1(raw: NDArray[np.uint8]) -> Floats:
    block = _blocks(raw, 20)
    return _nibbles(block[:, 4:]) * _half(block, 0) + _half(block, 2)


# type -> (numbers a block, bytes a block, decoder)
_TYPES: dict[int, tuple[int, int, Callable[[NDArray[np.uint8]], Floats]]] = {
    0: (1, 4, _plain("<f4")),
    1: (1, 2, _plain("<f2")),
    2: (32, 18, _q4_0),
    3: (32, 20, _q4_1),
    8: (32, 34, _q8_0),
    30: (1, 2, _bfloat16),
}


class _File:
    """Metadata and tensors of a GGUF file held in memory."""

    def __init__(self, data: bytes, source: str) -> None:
        reader = _Reader(memoryview(data), source)
        self.source = source
        if bytes(reader.take(4)) != b"GGUF":
            raise CheckpointError(f"{source} is not a GGUF file")
        version, num_tensors, num_values = reader.numbers("IQQ")
        if version not in (2, 3) or num_tensors > MAX_ITEMS or num_values > MAX_ITEMS:
            raise CheckpointError(f"{source} is GGUF of an unknown version {version}")
        self.values: dict[str, Any] = {}
        for _ in range(num_values):
            name = reader.text()
            (kind,) = reader.numbers("I")
            self.values[name] = reader.value(kind)
        places: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(num_tensors):
            name = reader.text()
            (dims,) = reader.numbers("I")
            if dims > 4:
                raise CheckpointError(f"{source}: {name} has {dims} dimensions")
            shape = tuple(reversed(reader.numbers(f"{dims}Q")))
            kind, offset = reader.numbers("IQ")
            places[name] = (shape, kind, offset)
        step = int(self.values.get("general.alignment", 32))
        start = -(-reader.place // max(step, 1)) * step
        self.places = {n: (s, k, start + o) for n, (s, k, o) in places.items()}
        self.data = np.frombuffer(data, dtype=np.uint8)

    def get(self, name: str) -> Any:
        """A required value."""
        if name not in self.values:
            raise CheckpointError(f"{self.source} lacks {name}")
        return self.values[name]

    def tensor(self, name: str, shape: tuple[int, ...]) -> Floats:
        """A tensor as float32, its shape checked before anything is decoded."""
        if name not in self.places:
            raise CheckpointError(f"{self.source} lacks {name}")
        found, kind, offset = self.places[name]
        if found != shape:
            raise CheckpointError(
                f"{self.source}: {name} has shape {list(found)}, not {list(shape)}"
            )
        if kind not in _TYPES:
            raise CheckpointError(f"{self.source}: {name} is quantised by unknown type {kind}")
        numbers, size, decode = _TYPES[kind]
        count = math.prod(shape)
        stop = offset + count // numbers * size
        if count % numbers or stop > len(self.data):
            raise CheckpointError(f"{self.source} is cut short")
        return decode(self.data[offset:stop]).reshape(shape)


def _config(file: _File) -> TransformerConfig:
    if file.get("general.architecture") != "llama":
        raise CheckpointError(
            f"{file.source} holds a {file.get('general.architecture')!r} model; "
            "only the Llama layout can be loaded"
        )
    heads = file.get("llama.attention.head_count")
    values = {
        "model_type": "llama",
        "vocab_size": len(file.get("tokenizer.ggml.tokens")),
        "hidden_size": file.get("llama.embedding_length"),
        "intermediate_size": file.get("llama.feed_forward_length"),
        "num_hidden_layers": file.get("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.values.get("llama.attention.head_count_kv", heads),
        "max_position_embeddings": file.get("llama.context_length"),
        "rms_norm_eps": float(f"{file.get('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": float(file.values.get("llama.rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in file.places,
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
_WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def _their_name(name: str) -> str:
    """Hugging Face's name of a tensor as GGUF's."""
    if name in _WHOLE:
        return _WHOLE[name]
    _, _, index, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{index}.{_PARTS[part]}.weight"


def _unpermuted(weight: Floats, size: int) -> Floats:
    """GGUF interleaves the two halves of each rotated head; put them one after the other again."""
    rows, columns = weight.shape
    return weight.reshape(-1, size // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _tokenizer(file: _File) -> Tokenizer:
    if file.get("tokenizer.ggml.model") != "gpt2":
        raise CheckpointError(f"{file.source}: only byte-level BPE vocabularies can be read")
    tokens: list[str] = file.get("tokenizer.ggml.tokens")
    kinds = file.values.get("tokenizer.ggml.token_type", [1] * len(tokens))
    merges = [tuple(line.split(" ", 1)) for line in file.get("tokenizer.ggml.merges")]
    inner = Inner(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if file.values.get("tokenizer.ggml.pre") in ("smollm", "starcoder", "refact", "command-r"):
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    elif file.values.get("tokenizer.ggml.pre") not in ("gpt-2", "default", None):
        raise CheckpointError(
            f"{file.source}: words are divided by the unknown rule "
            f"{file.values['tokenizer.ggml.pre']!r}"
        )
    inner.pre_tokenizer = pre_tokenizers.Sequence(steps)
    inner.decoder = decoders.ByteLevel()
    control = 3
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == control]
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    end = END if END in special else tokens[file.get("tokenizer.ggml.eos_token_id")]
    spare = [token for token in special if token != end]
    if not spare:
        raise CheckpointError(f"{file.source}: the vocabulary has no token left for padding")
    named = [t for t in spare if "pad" in t] or [t for t in spare if "im_end" in t] or spare[-1:]
    return Tokenizer(inner, pad=named[0], end=end)


def read_gguf(data: bytes | Path) -> tuple[Transformer, Tokenizer]:
    """The model and the tokenizer in a GGUF file, given by its path or its bytes."""
    source = str(data) if isinstance(data, Path) else "the GGUF file"
    if isinstance(data, Path):
        try:
            data = data.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{source} cannot be read: {error.strerror}") from None
    file = _File(data, source)
    config = _config(file)
    tokenizer = _tokenizer(file)
    fields = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.end_id}
    config = TransformerConfig(
        **{name: getattr(config, name) for name in TransformerConfig.__slots__} | fields
    )
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

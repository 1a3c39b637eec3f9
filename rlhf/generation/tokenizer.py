"""Text to token ids: byte-level BPE through the `tokenizers` library, in Hugging Face's files.

The ids of padding, end of text, mask and separator are named once here; padding is never the end of
text, or a model would learn to ignore its own stopping. Files are tokenizer.json and
tokenizer_config.json, which `transformers` loads as they are. Chat templates are left out.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.errors import CheckpointError, ConfigError, DataError
from playout.rlhf.model.huggingface import read_json
from playout.rlhf.model.transformer import TransformerConfig
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as _Tokenizer

__all__ = ["Tokenizer"]

PAD, END, MASK, SEPARATOR = "<|pad|>", "<|endoftext|>", "<|mask|>", "<|sep|>"
SPECIAL = (PAD, END, MASK, SEPARATOR)
MIN_VOCAB_SIZE = 256 + len(SPECIAL)


class Tokenizer:
    """A vocabulary and its special tokens.

    Attributes:
        pad_id: Fills rows; never equal to `end_id`.
        end_id: Before and after every document.
        mask_id: Hides a token from an encoder; -1 if the vocabulary has none.
        separator_id: Between two sentences of an encoder; -1 if the vocabulary has none.
    """

    def __init__(self, inner: _Tokenizer, *, pad: str = PAD, end: str = END) -> None:
        self.inner = inner
        self.pad, self.end = pad, end
        self.pad_id, self.end_id = self._id(pad), self._id(end)
        if self.pad_id < 0 or self.end_id < 0:
            raise CheckpointError(f"the tokenizer lacks {pad if self.pad_id < 0 else end}")
        if self.pad_id == self.end_id:
            raise CheckpointError("padding and end of text must be different tokens")
        self.mask_id, self.separator_id = self._id(MASK), self._id(SEPARATOR)
        self._special = {
            index for index, token in inner.get_added_tokens_decoder().items() if token.special
        }

    def _id(self, token: str) -> int:
        found = self.inner.token_to_id(token)
        return -1 if found is None else int(found)

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int) -> "Tokenizer":
        """Learn a byte-level vocabulary; every text can be encoded, whatever its characters."""
        if vocab_size < MIN_VOCAB_SIZE:
            raise ConfigError(f"a byte-level vocabulary needs at least {MIN_VOCAB_SIZE} tokens")
        inner = _Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(_checked(texts), trainer)
        return cls(inner)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return int(self.inner.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens; their spellings in the text are plain text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts; see `encode`."""
        self.inner.encode_special_tokens = True
        found = self.inner.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens leave no trace."""
        return str(self.inner.decode([i for i in ids if i not in self._special]))

    def decode_batch(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """The texts of many rows of ids."""
        return [self.decode(row) for row in rows]

    def same_as(self, other: "Tokenizer") -> bool:
        """Whether equal texts get equal ids."""
        ends = (self.pad_id, self.end_id) == (other.pad_id, other.end_id)
        return ends and self.inner.get_vocab() == other.inner.get_vocab()

    def check_model(self, config: TransformerConfig) -> None:
        """Raise ConfigError if a model cannot have been trained with this vocabulary."""
        # Embedding tables are often padded to a round number, never cut.
        if self.vocab_size > config.vocab_size:
            raise ConfigError(
                f"the tokenizer has {self.vocab_size} tokens and the model only "
                f"{config.vocab_size}; they do not belong together"
            )
        for name, ours, theirs in (
            ("padding", self.pad_id, config.pad_token_id),
            ("end", self.end_id, config.eos_token_id),
        ):
            if theirs is not None and theirs != ours:
                raise ConfigError(
                    f"the tokenizer's {name} token is {ours} and the model's {theirs}; "
                    "they do not belong together"
                )

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": self.pad,
            "eos_token": self.end,
            "bos_token": self.end,
            "clean_up_tokenization_spaces": False,
        }
        if self.mask_id >= 0:
            config["mask_token"] = MASK
        self.inner.encode_special_tokens = False
        replace_file(folder / "tokenizer.json", self.inner.to_str().encode())
        replace_file(folder / "tokenizer_config.json", json.dumps(config, indent=2).encode())

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Read the tokenizer of a Hugging Face folder."""
        folder = Path(folder)
        path = folder / "tokenizer.json"
        try:
            inner = _Tokenizer.from_str(json.dumps(read_json(path)))
        except CheckpointError:
            raise
        # The library raises bare Exception for anything that is not a tokenizer.
        except Exception as error:
            raise CheckpointError(f"{path} is not a tokenizer: {error}") from None
        config = folder / "tokenizer_config.json"
        named = read_json(config) if config.exists() else {}
        end, pad = _token(named.get("eos_token")), _token(named.get("pad_token"))
        if inner.token_to_id(END) is not None:
            end = END
        if pad is None or pad == end:
            pad = _padding_token(inner, end)
        return cls(inner, pad=pad, end=end or END)


def _token(value: Any) -> str | None:
    """The spelling of a token, given as text or as Hugging Face's object."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _padding_token(inner: _Tokenizer, end: str | None) -> str:
    """A special token that may serve as padding."""
    special = inner.get_added_tokens_decoder()
    names = [special[index].content for index in sorted(special) if special[index].special]
    for name in [PAD, *reversed(names)]:
        if name != end and inner.token_to_id(name) is not None:
            return name
    raise CheckpointError("the tokenizer has no special token left for padding; add <|pad|>")


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """The texts as they come; DataError if there is nothing in them."""
    empty = True
    for text in texts:
        empty = empty and not text.strip()
        yield text
    if empty:
        raise DataError("there is no text to learn a vocabulary from")

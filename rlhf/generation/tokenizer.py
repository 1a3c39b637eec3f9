"""Text to token ids: byte-level BPE through the `tokenizers` library, in Hugging Face's files.

The ids of padding, end of text, mask and separator are named once here; padding is the end of text
only where there is no other special token, since rows are masked by their lengths. Files are
tokenizer.json, tokenizer_config.json and chat_template.jinja, which `transformers` loads as they
are. What a template does is template.py's.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.errors import CheckpointError, ConfigError, DataError
from playout.rlhf.generation.chat.template import ChatTemplate
from playout.rlhf.model.huggingface import read_json
from playout.rlhf.model.transformer import TransformerConfig
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as _Tokenizer

__all__ = ["Tokenizer"]

PAD, END, MASK, SEPARATOR = "<|pad|>", "<|endoftext|>", "<|mask|>", "<|sep|>"
TEMPLATE_FILE = "chat_template.jinja"
SPECIAL = (PAD, END, MASK, SEPARATOR)
MIN_VOCAB_SIZE = 256 + len(SPECIAL)
# A private character, of which no vocabulary makes a word with its neighbours; and SentencePiece's
# sign for a space.
_ANCHOR, _SPACE = "\ue000", "\N{LOWER ONE EIGHTH BLOCK}"

# What `save` writes into tokenizer_config.json; others write more than that.
_OWN_KEYS = {
    *("tokenizer_class", "pad_token", "eos_token", "bos_token", "add_bos_token"),
    *("clean_up_tokenization_spaces", "mask_token", "chat_template"),
}


class Tokenizer:
    """A vocabulary and its special tokens.

    Attributes:
        pad_id: Fills rows; equal to `end_id` only where no other token is special.
        end_id: After every document; before it too where the vocabulary has no token for that.
        bos_id: Written before a document; -1 if nothing is.
        bos: Spelling of the token that begins a document, for templates; None if there is none.
        stop_ids: Tokens that end an answer, `end_id` first.
        overruled: Ends in config.json that generation_config.json, which counts, does not name.
        template: How a conversation becomes a text; None where only plain text is understood.
        mask_id: Hides a token from an encoder; -1 if the vocabulary has none.
        separator_id: Between two sentences of an encoder; -1 if the vocabulary has none.
        generation: What generation_config.json says besides stop tokens, kept for whoever reads it.
    """

    def __init__(
        self,
        inner: _Tokenizer,
        *,
        pad: str = PAD,
        end: str = END,
        bos: str | None = None,
        writes_bos: bool = True,
        stops: Iterable[int] = (),
        template: ChatTemplate | None = None,
    ) -> None:
        """Name the special tokens of a vocabulary.

        Args:
            inner: The vocabulary.
            pad: Spelling of the padding.
            end: Spelling of the end of text.
            bos: Spelling of the beginning of text; the end's if None and `writes_bos`.
            writes_bos: Whether a document begins with that token.
            stops: Further tokens that end an answer.
            template: Chat template of the model.
        """
        self.inner = inner
        self.pad, self.end, self.template = pad, end, template
        self.bos = end if bos is None and writes_bos else bos
        self.pad_id, self.end_id = self._id(pad), self._id(end)
        if self.pad_id < 0 or self.end_id < 0:
            raise CheckpointError(f"the tokenizer lacks {pad if self.pad_id < 0 else end}")
        self.bos_id = self._id(self.bos) if writes_bos and self.bos is not None else -1
        if self.bos_id not in (-1, self.end_id) and not inner.encode("").ids:
            # So that others who read the files begin documents alike.
            inner.post_processor = processors.TemplateProcessing(
                single=f"{self.bos} $A", special_tokens=[(self.bos, self.bos_id)]
            )
        self.stop_ids = tuple(dict.fromkeys([self.end_id, *stops]))
        self.overruled: tuple[int, ...] = ()
        self.mask_id, self.separator_id = self._id(MASK), self._id(SEPARATOR)
        self.generation: dict[str, Any] = {}
        self._special = {
            index for index, token in inner.get_added_tokens_decoder().items() if token.special
        }

        # What stands before a text that continues another, where a beginning gets a space.
        self._anchor: list[int] = []
        if "".join(inner.encode("a", add_special_tokens=False).tokens).startswith(_SPACE):
            self._anchor = list(inner.encode(_ANCHOR, add_special_tokens=False).ids)
        # Some put that space behind every special token too, others at the first beginning alone.
        again = self._anchor and self.encode_special(f"{end}a")[1:] == self.encode("a")
        self._begins_again = bool(again)

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

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """Ids of a text, without special tokens; their spellings in the text are plain text.

        Args:
            text: What is encoded.
            continues: It goes on from another text. Vocabularies of SentencePiece put a space
                before a text that does not.
        """
        return self.encode_batch([text], continues=continues)[0]

    def encode_batch(self, texts: Sequence[str], *, continues: bool = False) -> list[list[int]]:
        """Ids of many texts; see `encode`."""
        self.inner.encode_special_tokens = True
        before = len(self._anchor) if continues else 0
        texts = [_ANCHOR + text for text in texts] if before else list(texts)
        found = self.inner.encode_batch(texts, add_special_tokens=False)
        return [encoding.ids[before:] for encoding in found]

    def encode_special(
        self, text: str, *, continues: bool = False, spelt: Mapping[str, str] | None = None
    ) -> list[int]:
        """Ids of a text in which spellings of special tokens are those tokens.

        For what a chat template wrote, here or before it came here (`encode_prompts`).

        Args:
            text: What is encoded.
            continues: See `encode`.
            spelt: Characters of the text, each in place of a text in which nothing is a token.
        """
        self.inner.encode_special_tokens = False
        before = len(self._anchor) if continues else 0
        text = _ANCHOR + text if before else text
        found = self.inner.encode(text, add_special_tokens=False)
        if not spelt or not any(mark in text for mark in spelt):
            return list(found.ids[before:])
        ids: list[int] = []
        now: list[int] = []  # since the last special token, which ends at `place`
        place = 0
        for token, (start, end) in [*zip(found.ids, found.offsets, strict=True), (-1, (-1, -1))]:
            if token >= 0 and not self._spells(text[start:end], token):
                now.append(token)
                continue
            part = text[place:start] if token >= 0 else text[place:]
            if any(mark in part for mark in spelt):
                part = "".join(spelt.get(letter, letter) for letter in part)
                now = self.encode(part, continues=place > 0 and not self._begins_again)
            ids += now if token < 0 else [*now, token]
            now, place = [], end
        return ids[before:]

    def _spells(self, text: str, token: int) -> bool:
        """Whether a token is a special one that a text names; an unknown character does not."""
        return token in self._special and text.strip() == self.inner.id_to_token(token)

    @property
    def special_spellings(self) -> list[str]:
        """What special tokens look like in a text."""
        return [str(self.inner.id_to_token(token)) for token in sorted(self._special)]

    def encode_prompts(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Plain prompts as a policy reads them, at least a token each.

        Args:
            texts: Each follows the token that begins a document, unless it spells that.
            special: Special tokens that a text spells, as a rendered conversation does, are those
                tokens: for what the person in charge wrote, and for nobody else's text.
        """
        self.inner.encode_special_tokens = not special
        found = self.inner.encode_batch(list(texts), add_special_tokens=False)
        first = [self.bos_id] if self.bos_id >= 0 else []
        rows = [list(encoding.ids) for encoding in found]
        return [(ids if ids[:1] == first else [*first, *ids]) or [self.end_id] for ids in rows]

    def is_special(self, token: int) -> bool:
        """Whether a token leaves no trace in texts."""
        return token in self._special

    def decode(self, ids: Sequence[int], *, continues: bool = False) -> str:
        """The text of ids; special tokens leave no trace. For `continues` see `encode`."""
        shown = [i for i in ids if i not in self._special]
        if continues and self._anchor:
            _, found, text = str(self.inner.decode([*self._anchor, *shown])).partition(_ANCHOR)
            if found:
                return text
        return str(self.inner.decode(shown))

    def same_vocabulary(self, other: "Tokenizer") -> bool:
        """Whether ids stand for the same tokens in both, and texts end alike."""
        return self.end_id == other.end_id and self.inner.get_vocab() == other.inner.get_vocab()

    def same_as(self, other: "Tokenizer") -> bool:
        """Whether equal texts get equal ids."""
        mine = self.pad_id, self.bos_id
        return mine == (other.pad_id, other.bos_id) and self.same_vocabulary(other)

    def check_model(self, config: TransformerConfig) -> None:
        """Raise ConfigError if a model cannot have been trained with this vocabulary."""
        # Embedding tables are often padded to a round number, never cut.
        if self.vocab_size > config.vocab_size:
            raise ConfigError(
                f"the tokenizer has {self.vocab_size} tokens and the model only "
                f"{config.vocab_size}; they do not belong together"
            )
        # Conversions write -1, or a number past the end, for a padding that they do not have.
        padding = config.pad_token_id
        if padding is not None and not 0 <= padding < config.vocab_size:
            padding = None
        for name, ours, theirs in (
            ("padding", self.pad_id, padding),
            ("end", self.end_id, config.eos_token_id),
        ):
            known = (ours, *self.stop_ids, *self.overruled)
            if theirs is not None and theirs not in known:
                raise ConfigError(
                    f"the tokenizer's {name} token is {ours} and the model's {theirs}; "
                    "they do not belong together"
                )

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and, of a chat model, its template."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": self.pad,
            "eos_token": self.end,
            "bos_token": self.bos,  # none is said too, or others' files would be asked for it
            "clean_up_tokenization_spaces": False,
        }
        if self.bos == self.end and self.bos_id < 0:
            config["add_bos_token"] = False  # named, for templates, and yet not written
        if self.mask_id >= 0:
            config["mask_token"] = MASK
        if self.template is not None:
            config["chat_template"] = self.template.source
            replace_file(folder / TEMPLATE_FILE, self.template.source.encode())
        self.inner.encode_special_tokens = False
        replace_file(folder / "tokenizer.json", self.inner.to_str().encode())
        replace_file(folder / "tokenizer_config.json", json.dumps(config, indent=2).encode())
        if len(self.stop_ids) > 1 or self.generation or self.overruled:
            path = folder / "generation_config.json"
            ends = list(self.stop_ids) if len(self.stop_ids) > 1 else self.end_id
            values = {**self.generation, **_read(path), "eos_token_id": ends}
            replace_file(path, json.dumps(values, indent=2).encode())

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Read the tokenizer of a Hugging Face folder.

        Beside its own files, config.json and generation_config.json say what ends an answer, and
        what begins a document where tokenizer_config.json does not.
        """
        folder = Path(folder)
        path = folder / "tokenizer.json"
        try:
            inner = _Tokenizer.from_str(json.dumps(read_json(path)))
        except CheckpointError:
            raise
        # The library raises bare Exception for anything that is not a tokenizer.
        except Exception as error:
            raise CheckpointError(f"{path} is not a tokenizer: {error}") from None
        inner.no_padding()
        inner.no_truncation()
        named, model = (_read(folder / name) for name in ("tokenizer_config.json", "config.json"))
        generation = _read(folder / "generation_config.json")
        said = [
            [end for end in _numbers(values.get("eos_token_id")) if inner.id_to_token(end)]
            for values in (generation, model)
        ]
        ends = said[0] or said[1]
        end = _known(inner, named.get("eos_token"))
        if end is None:
            end = (inner.id_to_token(ends[0]) if ends else None) or END
        bos = _known(inner, named.get("bos_token"))
        own = {"pad_token", "clean_up_tokenization_spaces"} <= named.keys() <= _OWN_KEYS
        # Earlier versions left a token that is none out of their files.
        if "bos_token" not in named and not own:
            begins = _numbers(generation.get("bos_token_id")) or _numbers(model.get("bos_token_id"))
            bos = inner.id_to_token(begins[0]) if begins else None
        # Models whose documents begin with their end token say so by naming it twice.
        first = inner.encode("", add_special_tokens=True).ids[:1]
        twice = "bos_token" in named and bos == end
        twice = twice and not (own and named.get("add_bos_token") is False)
        writes_bos = bos is not None and (twice or first == [inner.token_to_id(bos)])
        pad = _known(inner, named.get("pad_token"))
        if pad is None or pad == end:
            fills = [i for i in _numbers(model.get("pad_token_id")) if i not in ends]
            pad = inner.id_to_token(fills[0]) if fills else None
        if pad is None or pad == end:
            pad = _padding_token(inner, [end, bos])
        source = _template_source(folder / TEMPLATE_FILE, named)
        template = None if source is None else ChatTemplate(source)
        found = cls(
            inner, pad=pad, end=end, bos=bos, writes_bos=writes_bos, stops=ends, template=template
        )
        found.generation = {name: generation[name] for name in generation if name != "eos_token_id"}
        found.overruled = tuple(end for end in said[1] if end not in found.stop_ids)
        return found


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _numbers(value: Any) -> list[int]:
    """Token ids, given as one or as a list."""
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, int) and not isinstance(v, bool) and v >= 0]


def _template_source(path: Path, named: Mapping[str, Any]) -> str | None:
    """The text of the chat template; of several by name, the default one. An empty one is none."""
    found = named.get("chat_template")
    if path.exists():
        try:
            found = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from None
    if isinstance(found, list):
        pairs = [item for item in found if isinstance(item, dict)]
        found = {item.get("name"): item.get("template") for item in pairs}.get("default")
    return found if isinstance(found, str) and found.strip() else None


def _known(inner: _Tokenizer, value: Any) -> str | None:
    """The spelling of a token that the vocabulary has, given as text or as an object."""
    value = value.get("content") if isinstance(value, dict) else value
    found = isinstance(value, str) and inner.token_to_id(value) is not None
    return value if found else None


def _padding_token(inner: _Tokenizer, taken: list[str | None]) -> str:
    """A special token that may serve as padding; of `taken` only if need be, the first last."""
    special = inner.get_added_tokens_decoder()
    names = [special[index].content for index in sorted(special) if special[index].special]
    for name in [PAD, *reversed(names)]:
        if name not in taken and inner.token_to_id(name) is not None:
            return name
    return _padding_token(inner, taken[:1]) if len(taken) > 1 else str(taken[0])


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """The texts as they come; DataError if there is nothing in them."""
    empty = True
    for text in texts:
        empty = empty and not text.strip()
        yield text
    if empty:
        raise DataError("there is no text to learn a vocabulary from")

"""The vocabulary in a GGUF header as a tokenizer: byte-level BPE and SentencePiece's BPE.

A header holds the pieces, how they are merged or scored, the name of the rule that divides a text
into words, and which tokens begin and end what. The chat template comes along. Tensors and the
shape of the model are gguf.py's.
"""

from collections.abc import Callable
from typing import Any

from playout.errors import CheckpointError
from playout.rlhf.generation.chat.template import ChatTemplate
from playout.rlhf.generation.tokenizer import Tokenizer
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Inner

__all__ = ["read_vocabulary"]

UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 2, 3, 4, 5, 6
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
# Tokens that end a turn or a text wherever they are control tokens, whatever else a header says.
ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<|end|>",
    "</s>",
)

# How words are divided, as the vocabularies' publishers wrote it.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_RULES = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _QWEN2),
    "tekken": _TEKKEN,
}
_DIGITS = ("smollm", "starcoder", "refact", "command-r")
_WORDS = ("gpt-2", "default", None)

Value = Callable[..., Any]


def read_vocabulary(value: Value, source: str) -> Tokenizer:
    """The tokenizer that a header describes.

    Args:
        value: Gives an entry `tokenizer.NAME` of the header by NAME, or a default.
        source: The file, for messages.
    """
    tokens: list[str] = list(_required(value, "ggml.tokens", source))
    kinds = list(value("ggml.token_type", [1] * len(tokens)))
    if len(kinds) != len(tokens) or len(set(tokens)) != len(tokens):
        raise CheckpointError(f"{source}: the vocabulary names a token twice or not at all")
    # What only fills the embedding table up to a round number.
    while len(tokens) > 1 and kinds[-1] == UNUSED:
        tokens.pop(), kinds.pop()
    model = _required(value, "ggml.model", source)
    if model == "gpt2":
        inner = _byte_level(value, tokens, source)
    elif model == "llama":
        inner = _sentence_piece(value, tokens, kinds, source)
    else:
        raise CheckpointError(
            f"{source}: vocabularies of kind {model!r} are not read; byte-level and SentencePiece "
            "BPE are"
        )
    pairs = list(zip(tokens, kinds, strict=True))
    special = [t for t, kind in pairs if kind == CONTROL or (kind == UNKNOWN and model == "llama")]
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    # Whole wherever they stand, but text: a model shows its thoughts between two of them.
    whole = [AddedToken(t, normalized=False) for t, kind in pairs if kind == USER_DEFINED]
    inner.add_tokens(whole)
    template = value("chat_template")
    end = _token(value, "ggml.eos_token_id", tokens, source)
    if end is None:
        raise CheckpointError(f"{source} lacks tokenizer.ggml.eos_token_id")
    bos = _token(value, "ggml.bos_token_id", tokens, source)
    rule = value("ggml.pre")
    writes = value("ggml.add_bos_token", model == "llama" or _RULES.get(rule) == _LLAMA3)
    others = [_token(value, f"ggml.{name}_token_id", tokens, source) for name in ("eot", "eom")]
    pad = _padding(_token(value, "ggml.padding_token_id", tokens, source), special, end, bos)
    stops = [*others, *(token for token in ENDS if token in special and token != pad)]
    return Tokenizer(
        inner,
        pad=pad,
        end=end,
        bos=bos,
        writes_bos=bos is not None and (bool(writes) or bos == end),
        stops=[tokens.index(token) for token in stops if token is not None],
        template=ChatTemplate(template) if isinstance(template, str) else None,
    )


def _required(value: Value, name: str, source: str) -> Any:
    found = value(name)
    if found is None:
        raise CheckpointError(f"{source} lacks tokenizer.{name}")
    return found


def _token(value: Value, name: str, tokens: list[str], source: str) -> str | None:
    """The spelling of the token whose number the header gives under a name."""
    number = value(name)
    if number is None:
        return None
    if not isinstance(number, int) or not 0 <= number < len(tokens):
        raise CheckpointError(f"{source}: tokenizer.{name} {number!r} is no token")
    return tokens[number]


def _padding(named: str | None, special: list[str], end: str, bos: str | None) -> str:
    """The token that fills rows: the end only where no other is special."""
    if named is not None and named != end:
        return named
    spare = [token for token in special if token not in (end, bos)] or [
        token for token in special if token != end
    ]
    if not spare:
        return end
    found = [token for token in spare if "pad" in token.lower()]
    return (found or [token for token in spare if token not in ENDS] or spare)[-1]


def _byte_level(value: Value, tokens: list[str], source: str) -> Inner:
    merges = []
    for line in _required(value, "ggml.merges", source):
        left, _, right = line.partition(" ")
        merges.append((left, right))
    rule = value("ggml.pre")
    split = _RULES.get(rule)
    try:
        inner = Inner(
            models.BPE(
                vocab={token: index for index, token in enumerate(tokens)},
                merges=merges,
                # These vocabularies hold words that their own merges do not reach.
                ignore_merges=split in (_LLAMA3, _TEKKEN),
            )
        )
    # The library raises bare Exception for a merge of what is no token.
    except Exception as error:
        raise CheckpointError(f"{source}: the vocabulary cannot be used: {error}") from None
    if split is not None:
        steps: list[Any] = [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    elif rule in (*_DIGITS, *_WORDS):
        steps = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
        if rule in _DIGITS:
            steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    else:
        raise CheckpointError(f"{source}: words are divided by the unknown rule {rule!r}")
    if split == _QWEN2:
        inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = pre_tokenizers.Sequence(steps)
    inner.decoder = decoders.ByteLevel()
    return inner


def _sentence_piece(value: Value, tokens: list[str], kinds: list[int], source: str) -> Inner:
    scores = list(_required(value, "ggml.scores", source))
    if len(scores) < len(tokens):
        raise CheckpointError(f"{source}: {len(scores)} scores for {len(tokens)} tokens")
    unknown = next((t for t, kind in zip(tokens, kinds, strict=True) if kind == UNKNOWN), None)
    inner = Inner(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=_merges(tokens, scores),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=BYTE in kinds,
        )
    )
    prefix = bool(value("ggml.add_space_prefix", True))
    steps: list[Any] = [normalizers.Replace(" ", SPACE)]
    undo: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:
        steps.insert(0, normalizers.Prepend(SPACE))
        undo.append(decoders.Strip(" ", 1, 0))
    inner.normalizer = normalizers.Sequence(steps)
    inner.decoder = decoders.Sequence(undo)
    return inner


def _merges(tokens: list[str], scores: list[float]) -> list[tuple[str, str]]:
    """The merges that scores stand for: the likeliest piece first, out of any two that make it."""
    places = {token: index for index, token in enumerate(tokens)}
    found: list[tuple[float, int, int, str, str]] = []
    for token, score in zip(tokens, scores, strict=False):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in places and right in places:
                found.append(
                    (-score, places[token], places[left] << 32 | places[right], left, right)
                )
    return [(left, right) for *_, left, right in sorted(found)]

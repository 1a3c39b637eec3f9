"""The smallest sizes that a whole language pipeline can have, small models and ways of chat."""

import json
from functools import cache

import torch
from playout.agents.runs.directory import RunDir
from playout.rlhf.generation.chat.template import ChatTemplate
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.stages.sizes import Recipe
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Inner

MICRO = Recipe(
    vocab_size=300,
    model="tiny",
    length=32,
    pretrain_steps=6,
    sft_steps=4,
    classify_steps=2,
    reward_steps=4,
    rlhf_steps=2,
    dpo_steps=2,
    grpo_steps=2,
    num_prompts=6,
    response_length=6,
    batch=8,
)

DECODED = TransformerConfig(
    vocab_size=211,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=160,
)


def say(role, content):
    """A message."""
    return {"role": role, "content": content}


CHATML = """\
{%- if messages[0].role != 'system' -%}
<|im_start|>system
You are helpful.<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
"""Turns between <|im_start|> and <|im_end|>; where there is no system message, one of its own."""

INST = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{%- if loop.index0 % 2 -%}{{ raise_exception('roles must alternate') }}{%- endif -%}
[INST] {{ message.content | trim }} [/INST]
{%- elif message.role == 'assistant' -%}
{{ ' ' + message.content | trim + ' ' + eos_token }}
{%- else -%}{{ raise_exception('only user and assistant are known') }}
{%- endif -%}
{%- endfor -%}
"""
"""Mistral's way: [INST] is plain text, an answer ends with a blank and the end token."""

HEADERS = """\
{{- bos_token -}}
{%- for message in messages -%}
<|start_header_id|>{{ message.role }}<|end_header_id|>

{{ message.content | trim }}<|eot_id|>
{%- endfor -%}
{%- if add_generation_prompt -%}
<|start_header_id|>assistant<|end_header_id|>

{% endif -%}
"""
"""Llama 3's way: the end of a turn is not the end of a text."""

TURNS = {
    # template, special tokens, the end of a text, its beginning, whether that is written
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"], "<|im_end|>", "<|im_start|>", False),
    "inst": (INST, ["<s>", "</s>"], "</s>", "<s>", True),
    "headers": (
        HEADERS,
        ["<|begin|>", "<|end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|end|>",
        "<|begin|>",
        True,
    ),
}


@cache
def chat_tokenizer(style: str) -> Tokenizer:
    """A small vocabulary with the special tokens and the template of a way to write turns."""
    template, special, end, bos, writes_bos = TURNS[style]
    inner = Tokenizer.train(["user assistant system the cat sat\n"] * 9, vocab_size=290).inner
    inner.add_special_tokens([AddedToken(token, special=True) for token in special])
    return Tokenizer(
        inner, end=end, bos=bos, writes_bos=writes_bos, template=ChatTemplate(template)
    )


def small_model(
    tokenizer: Tokenizer, seed: int = 1, *, length: int = 128, spare: int = 0
) -> Transformer:
    """An untrained model whose next tokens are not all about as likely as one another.

    Args:
        tokenizer: Its vocabulary.
        seed: Of the weights.
        length: Of the longest text, in tokens.
        spare: So many more rows of the vocabulary, as published models have them.
    """
    config = TransformerConfig(
        tokenizer.vocab_size + spare, 32, 64, 2, 4, 2, max_position_embeddings=length,
        pad_token_id=tokenizer.pad_id, eos_token_id=tokenizer.end_id,
    )  # fmt: skip
    model = Transformer(config, seed=seed)
    with torch.no_grad():
        model.embed_tokens.mul_(8)
    return model


def uneven_model() -> Transformer:
    """A model with larger weights than a fresh one's, so that its distributions are not flat."""
    model = Transformer(DECODED, seed=1)
    with torch.no_grad():
        model.embed_tokens.mul_(8)
    return model


def as_before(run: RunDir, *names: str) -> None:
    """Take settings from a run that earlier versions did not keep."""
    with run.lock():
        run.update(config={key: run.config[key] for key in run.config if key not in names})
    (run.path / "config.toml").unlink()


SPM_KINDS = ("prepend", "first")
_SPM_ASKED = "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}"
_SPM_LOOP = "{{ bos_token }}{% for m in messages %}"
SPM_TEMPLATES = {
    "llama": _SPM_LOOP + _SPM_ASKED + " {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}",
    "mistral": _SPM_LOOP + _SPM_ASKED + "{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
}
_SPM_TEXTS = ["the cat sat on the mat and the dog", "user assistant yes no yes"] * 4


@cache
def _spm_vocabulary() -> str:
    inner = Inner(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    inner.train_from_iterator(_SPM_TEXTS, trainer)
    parts = json.loads(inner.to_str())
    words = parts["model"]["vocab"]
    for byte in range(256):
        words.setdefault(f"<0x{byte:02X}>", len(words))
    for letter in "INST[]/<>|:.,_abcdefghijklmnopqrstuvwxyz":
        words.setdefault(letter, len(words))
    parts["model"].update(byte_fallback=True, fuse_unk=True)
    return json.dumps(parts)


def sentencepiece(kind: str, template: str | None = None) -> Tokenizer:
    """A small vocabulary as SentencePiece makes them, with one of `SPM_TEMPLATES` or none.

    A text that begins gets a blank; with "prepend" so does what follows each special token, as in
    Llama 2, with "first" only the first word of all, as in later conversions.
    """
    inner = Inner.from_str(_spm_vocabulary())
    if kind == "prepend":
        parts = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        inner.normalizer, inner.pre_tokenizer = normalizers.Sequence(parts), None
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    chat = None if template is None else ChatTemplate(SPM_TEMPLATES[template])
    return Tokenizer(inner, pad="<unk>", end="</s>", bos="<s>", template=chat)

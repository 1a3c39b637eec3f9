"""The tokenizer: round trips, special tokens, files, and models that do not fit."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from playout.errors import CheckpointError, ConfigError, DataError
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import export_model, load_model
from playout.rlhf.model.huggingface import save_pretrained
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.perplexity import Scored, likelihoods
from small_language import DECODED
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers

TEXTS = ["the cat sat on the mat, and the dog sat too.\n"] * 20 + ["été 雪 🙂 <|pad|>"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, vocab_size=300)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(text=st.text())
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_spelled_special_tokens_are_plain_text(tokenizer):
    ids = tokenizer.encode("a <|endoftext|> b <|pad|>")
    assert tokenizer.end_id not in ids and tokenizer.pad_id not in ids
    assert tokenizer.decode(ids) == "a <|endoftext|> b <|pad|>"


def test_special_tokens_are_distinct_and_leave_no_trace(tokenizer):
    ids = {tokenizer.pad_id, tokenizer.end_id, tokenizer.mask_id, tokenizer.separator_id}
    assert ids == {0, 1, 2, 3}
    ids = [tokenizer.end_id, *tokenizer.encode("the cat"), tokenizer.end_id, tokenizer.pad_id]
    assert tokenizer.decode(ids) == "the cat"


def test_files_load_back_equal(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    assert (again.pad_id, again.end_id, again.vocab_size) == (0, 1, tokenizer.vocab_size)


@pytest.mark.peer
def test_transformers_reads_the_same_tokens(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "the cat été 🙂"
    assert theirs(text)["input_ids"] == tokenizer.encode(text)
    assert (theirs.pad_token_id, theirs.eos_token_id) == (tokenizer.pad_id, tokenizer.end_id)


def test_padding_is_moved_off_the_end_token(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": "<|endoftext|>"}))
    again = Tokenizer.load(tmp_path)
    assert again.pad_id != again.end_id


def published(folder, special, named, config, generation=None):
    """A model folder as others write it, of a vocabulary with these special tokens."""
    shape = replace(DECODED, vocab_size=len(special) + 256, **config)
    model = Transformer(shape, seed=3)
    save_pretrained(model, folder)
    inner = Inner(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    inner.add_special_tokens(special)
    inner.add_tokens(sorted(pre_tokenizers.ByteLevel.alphabet()))
    inner.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**named, "model_max_length": 64}))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return model


def same_again(folder, aside):
    """Model and tokenizer of a folder, which come back from their own files as well."""
    model, tokenizer = load_model(folder)
    export_model(aside, model, tokenizer)
    again, other = load_model(aside)
    assert again.config == model.config
    assert other.same_as(tokenizer) and other.stop_ids == tokenizer.stop_ids
    return model, tokenizer


def test_a_padding_that_only_config_json_names_is_taken(tmp_path):
    special = ["<unk>", "<|endoftext|>", "<|im_end|>", "<|extra|>"]
    config = {"pad_token_id": 0, "eos_token_id": 2}
    published(tmp_path / "a", special, {"eos_token": "<|im_end|>"}, config)
    _, tokenizer = same_again(tmp_path / "a", tmp_path / "b")
    assert (tokenizer.pad, tokenizer.stop_ids) == ("<unk>", (2,))


def test_ends_in_generation_config_count_where_config_json_names_another(tmp_path):
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    named = {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
    given = {"eos_token_id": 0}, {"eos_token_id": 2}
    published(tmp_path / "a", special, named, *given)
    _, tokenizer = same_again(tmp_path / "a", tmp_path / "b")
    assert tokenizer.stop_ids == (2,)
    config = TransformerConfig(300, eos_token_id=1)
    with pytest.raises(ConfigError, match="end token is 2 and the model's 1"):
        tokenizer.check_model(config)


def test_a_vocabulary_with_a_single_special_token_pads_by_it(tmp_path):
    named = {"eos_token": "<|endoftext|>"}
    published(tmp_path / "a", ["<|endoftext|>"], named, {"eos_token_id": 0})
    model, tokenizer = same_again(tmp_path / "a", tmp_path / "b")
    assert tokenizer.pad_id == tokenizer.end_id == 0
    prompts = tokenizer.encode_prompts(["the cat", "a"])
    options = {"max_new_tokens": 6, "stop": tokenizer.stop_ids, "seed": 5}
    ours = generate(model, prompts, pad=tokenizer.pad_id, **options)
    others = generate(model, prompts, pad=9, **options)
    for row in range(2):
        assert ours.response(row) == others.response(row)
    assert torch.equal(ours.finished, others.finished)
    texts = [Scored([(ids, 1)], 1) for ids in prompts]
    scores = [likelihoods(model, texts, pad=pad, dtype=torch.float32) for pad in (0, 9)]
    assert scores[0] == scores[1]


def test_a_model_with_another_vocabulary_is_refused(tokenizer):
    tokenizer.check_model(TransformerConfig(320, eos_token_id=1, pad_token_id=0))
    with pytest.raises(ConfigError, match="the model only 100"):
        tokenizer.check_model(TransformerConfig(100))
    with pytest.raises(ConfigError, match="end token is 1 and the model's 5"):
        tokenizer.check_model(TransformerConfig(320, eos_token_id=5))
    with pytest.raises(ConfigError, match="padding token is 0 and the model's 5"):
        tokenizer.check_model(TransformerConfig(320, eos_token_id=1, pad_token_id=5))


@pytest.mark.parametrize("padding", [-1, 320, 32000])
def test_a_padding_that_is_no_token_says_nothing_of_the_vocabulary(tokenizer, padding):
    """Early conversions of Llama say -1."""
    tokenizer.check_model(TransformerConfig(320, eos_token_id=1, pad_token_id=padding))


def edited(folder, name, change):
    path = folder / name
    found = json.loads(path.read_text()) if path.exists() else {}
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_what_begins_a_text_is_found_where_the_tokenizer_does_not_say_it(tokenizer, tmp_path, name):
    """As in folders that name it by its number alone; templates read its spelling."""
    tokenizer.save(tmp_path)

    def others(found):
        del found["bos_token"]
        found["model_max_length"] = 64

    edited(tmp_path, "tokenizer_config.json", others)
    assert Tokenizer.load(tmp_path).bos is None
    edited(tmp_path, name, lambda found: found.update(bos_token_id=tokenizer.mask_id))
    found = Tokenizer.load(tmp_path)
    assert (found.bos, found.bos_id) == ("<|mask|>", -1)  # nothing says that texts begin with it
    inner = json.loads((tmp_path / "tokenizer.json").read_text())
    ids = {"<|mask|>": {"id": "<|mask|>", "ids": [tokenizer.mask_id], "tokens": ["<|mask|>"]}}
    text = [
        {"SpecialToken": {"id": "<|mask|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    parts = {"type": "TemplateProcessing", "single": text, "pair": text, "special_tokens": ids}
    (tmp_path / "tokenizer.json").write_text(json.dumps({**inner, "post_processor": parts}))
    found = Tokenizer.load(tmp_path)
    assert found.bos_id == tokenizer.mask_id == found.encode_prompts(["the"])[0][0]
    # One that is said to be none is none.
    edited(tmp_path, "tokenizer_config.json", lambda found: found.update(bos_token=None))
    assert Tokenizer.load(tmp_path).bos is None


@pytest.mark.parametrize("named", [None, "missing", "ours before"])
@pytest.mark.parametrize("begins", ["end_id", "mask_id"])
def test_no_beginning_token_appears_by_saving(tokenizer, tmp_path, named, begins):
    """As of models that number a beginning which their texts do not have."""
    tokenizer.save(tmp_path / "0")

    def change(found):
        found["bos_token"] = None
        if named is not None:
            del found["bos_token"]
        if named != "ours before":
            found["model_max_length"] = 64

    edited(tmp_path / "0", "tokenizer_config.json", change)
    for number in range(3):
        folder = tmp_path / str(number)
        for name in ("config.json", "generation_config.json"):
            edited(folder, name, lambda f: f.update(bos_token_id=getattr(tokenizer, begins)))
        found = Tokenizer.load(folder)
        assert found.bos_id == -1
        if not number:
            first = found.bos
            assert (first is None) == (named != "missing")
        assert found.bos == first
        found.save(tmp_path / str(number + 1))


def test_what_else_stands_in_generation_config_is_kept(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "a")
    kept = {"temperature": 0.6, "top_p": 0.95, "bos_token_id": 1}
    (tmp_path / "a" / "generation_config.json").write_text(json.dumps({**kept, "eos_token_id": 1}))
    Tokenizer.load(tmp_path / "a").save(tmp_path / "b")
    again = json.loads((tmp_path / "b" / "generation_config.json").read_text())
    assert again == {**kept, "eos_token_id": 1}


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(DataError, match="no text"):
        Tokenizer.train(["", " \n"], vocab_size=300)
    with pytest.raises(ConfigError, match="at least 260"):
        Tokenizer.train(TEXTS, vocab_size=100)


def test_files_that_are_no_tokenizer_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is missing"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(CheckpointError, match="is not a tokenizer"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja"])
def test_an_empty_chat_template_is_none(tokenizer, tmp_path, place):
    tokenizer.save(tmp_path)
    if place == "chat_template.jinja":
        (tmp_path / place).write_text(" \n")
    else:
        values = json.loads((tmp_path / place).read_text())
        (tmp_path / place).write_text(json.dumps({**values, "chat_template": ""}))
    assert Tokenizer.load(tmp_path).template is None

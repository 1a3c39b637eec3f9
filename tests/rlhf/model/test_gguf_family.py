"""GGUF files as the library writes them: every architecture, block type and kind of vocabulary."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from architectures import IDS, made
from playout.errors import CheckpointError
from playout.rlhf.data.encoding import encode_demonstrations
from playout.rlhf.data.records import Demonstration
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.model.checkpoints.gguf import PERMUTED, _their_name, read_gguf
from playout.rlhf.model.config import rotary_table
from playout.rlhf.model.folder import export_model, load_model
from playout.rlhf.model.huggingface import to_hugging_face
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Inner

gguf = pytest.importorskip("gguf")

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# A vocabulary of 131 tokens for the models of architectures.py.
LETTERS = {
    "model": "gpt2",
    "pre": "qwen2",
    "tokens": [*SPECIAL, *ALPHABET[:126], "th"],
    "types": [3] * 4 + [1] * 127,
    "merges": ["t h"],
    "eos": 2,
    "bos": 0,
}


def write(path, kind, values, tensors, vocabulary):
    """A file by the library's writer; tensors are arrays, or (raw bytes, type)."""
    out = gguf.GGUFWriter(path, kind)
    for name, value in values.items():
        add = {int: out.add_uint32, float: out.add_float32, str: out.add_string}[type(value)]
        add(f"{kind}.{name}", value)
    out.add_tokenizer_model(vocabulary["model"])
    out.add_token_list(vocabulary["tokens"])
    out.add_token_types(vocabulary["types"])
    if "pre" in vocabulary:
        out.add_tokenizer_pre(vocabulary["pre"])
    if vocabulary.get("merges"):
        out.add_token_merges(vocabulary["merges"])
    if "scores" in vocabulary:
        out.add_token_scores(vocabulary["scores"])
    out.add_eos_token_id(vocabulary["eos"])
    out.add_bos_token_id(vocabulary["bos"])
    if "template" in vocabulary:
        out.add_chat_template(vocabulary["template"])
    for name, value in tensors.items():
        if isinstance(value, tuple):
            out.add_tensor(name, value[0], raw_dtype=value[1])
        else:
            out.add_tensor(name, np.ascontiguousarray(value))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def described(config):
    """The header's values for a model."""
    found = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_theta,
    }
    scaling = config.rope_scaling
    if config.num_experts:
        found["expert_count"] = config.num_experts
        found["expert_used_count"] = config.num_experts_per_tok
        found["expert_feed_forward_length"] = config.intermediate_size
    if config.model_type == "mistral":
        found["attention.sliding_window"] = config.sliding_window
    if scaling is not None and scaling.rope_type != "llama3":
        found["rope.scaling.type"] = scaling.rope_type
        found["rope.scaling.factor"] = scaling.factor
        if scaling.original_max_position_embeddings:
            original = scaling.original_max_position_embeddings
            found["rope.scaling.original_context_length"] = original
    return found


def laid_out(model, kind):
    """A model's weights under the file's names and in its order."""
    config, found = model.config, {}
    for name, tensor in to_hugging_face(model).items():
        array = tensor.numpy()
        if kind in PERMUTED and ("q_proj" in name or "k_proj" in name):
            halves = array.reshape(-1, 2, config.head_dim // 2, *array.shape[1:])
            array = halves.swapaxes(1, 2).reshape(array.shape)
        if ".experts." in name:  # all of a layer are one tensor, in the order of the experts
            found.setdefault(_their_name(name), []).append(array)
        else:
            found[_their_name(name)] = array
    found = {name: np.stack(a) if isinstance(a, list) else a for name, a in found.items()}
    if config.rope_scaling is not None and config.rope_scaling.rope_type == "llama3":
        half, original = config.head_dim // 2, config.rope_scaling.original_max_position_embeddings
        turns = original * config.rope_theta ** (-np.arange(half) / half) / (2 * np.pi)
        kept = np.clip((turns - 1) / 3, 0, 1)
        factors = 1 / (kept + (1 - kept) / config.rope_scaling.factor)
        found["rope_freqs.weight"] = factors.astype(np.float32)
    return found


CASES = [
    "llama",
    "llama tied, with biases",
    "llama, linear",
    "mistral",
    "qwen2",
    "qwen2, yarn",
    "qwen3",
    "smollm3",
    "mixtral",
    "qwen3_moe",
]
KINDS = {"mistral": "llama", "mixtral": "llama", "qwen3_moe": "qwen3moe"}


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_every_architecture_is_read_as_the_model_that_it_holds(name, tmp_path):
    model = made(name)
    kind = KINDS.get(model.config.model_type, model.config.model_type)
    path = tmp_path / "model.gguf"
    write(path, kind, described(model.config), laid_out(model, kind), LETTERS)
    found, tokenizer = read_gguf(path)
    assert found.config.model_type == model.config.model_type
    with torch.no_grad():
        assert (found.logits(found(IDS)) - model.logits(model(IDS))).abs().max() < 1e-4
    export_model(tmp_path / "folder", found, tokenizer)
    again, other = load_model(tmp_path / "folder")
    assert again.config == found.config
    assert other.same_as(tokenizer) and other.stop_ids == tokenizer.stop_ids == (2, 0)


def test_linear_scaling_has_an_older_spelling(tmp_path):
    model = made("llama, linear")
    values = described(model.config)
    del values["rope.scaling.type"]
    values["rope.scale_linear"] = values.pop("rope.scaling.factor")
    write(tmp_path / "model.gguf", "llama", values, laid_out(model, "llama"), LETTERS)
    assert read_gguf(tmp_path / "model.gguf")[0].config.rope_scaling == model.config.rope_scaling


def test_factors_of_long_waves_are_read_as_the_scaling_that_made_them(tmp_path):
    model = made("llama, llama3")
    config = type(model.config)(
        **{
            **{name: getattr(model.config, name) for name in model.config.__slots__},
            "rope_theta": 500000.0,
            "rope_scaling": type(model.config.rope_scaling)("llama3", 32.0, 8192, 1.0, 4.0),
        }
    )
    model.config = config
    model.cos, model.sin = rotary_table(config)
    tensors = laid_out(model, "llama")
    write(tmp_path / "model.gguf", "llama", described(config), tensors, LETTERS)
    found, _ = read_gguf(tmp_path / "model.gguf")
    assert found.config.rope_scaling == config.rope_scaling
    torch.testing.assert_close(found.cos, model.cos)
    tensors["rope_freqs.weight"] = np.linspace(1, 3, 4, dtype=np.float32)
    write(tmp_path / "other.gguf", "llama", described(config), tensors, LETTERS)
    with pytest.raises(CheckpointError, match="comes from no scaling that is known"):
        read_gguf(tmp_path / "other.gguf")


def test_tensors_that_a_model_has_no_place_for_are_named(tmp_path):
    model = made("qwen2")
    tensors = laid_out(model, "qwen2") | {"blk.0.attn_sinks.weight": np.zeros(6, np.float32)}
    write(tmp_path / "model.gguf", "qwen2", described(model.config), tensors, LETTERS)
    with pytest.raises(CheckpointError, match=r"unknown tensors: blk\.0\.attn_sinks\.weight"):
        read_gguf(tmp_path / "model.gguf")
    del tensors["blk.0.attn_sinks.weight"], tensors["blk.1.attn_k.bias"]
    write(tmp_path / "model.gguf", "qwen2", described(model.config), tensors, LETTERS)
    with pytest.raises(CheckpointError, match=r"lacks blk\.1\.attn_k\.bias"):
        read_gguf(tmp_path / "model.gguf")


BLOCKS = sorted(gguf.quants._type_traits, key=lambda kind: kind.name)


def block_file(path):
    """A file with a matrix of random bytes for every block type; the bytes by type."""
    rng = np.random.default_rng(0)
    wide = {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 2}
    config = {**wide, "num_key_value_heads": 2, "head_dim": 128, "num_hidden_layers": len(BLOCKS)}
    fields = {name: getattr(made("qwen2").config, name) for name in made("qwen2").config.__slots__}
    model = type(made("qwen2"))(type(made("qwen2").config)(**{**fields, **config}))
    tensors, blobs = laid_out(model, "qwen2"), {}
    for number, kind in enumerate(BLOCKS):
        count, size = gguf.GGML_QUANT_SIZES[kind]
        blob = rng.integers(0, 256, (256, 256 // count * size), dtype=np.uint8)
        blobs[kind] = blob
        tensors[f"blk.{number}.ffn_down.weight"] = (blob, kind)
    write(path, "qwen2", described(model.config), tensors, LETTERS)
    return blobs


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
def test_every_block_type_that_the_library_knows_is_read(tmp_path):
    blobs = block_file(tmp_path / "model.gguf")
    model, _ = read_gguf(tmp_path / "model.gguf")
    assert len(BLOCKS) >= 20
    for block, kind in zip(model.blocks, BLOCKS, strict=True):
        expected = gguf.quants.dequantize(blobs[kind], kind)
        found = block.down_proj.weight.detach().numpy()
        np.testing.assert_array_equal(found, expected, err_msg=kind.name)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
def test_transformers_undoes_every_block_type_as_we_do(tmp_path):
    pytest.importorskip("transformers")
    module = pytest.importorskip("transformers.integrations.gguf.dequant")
    blobs = block_file(tmp_path / "model.gguf")
    model, _ = read_gguf(tmp_path / "model.gguf")
    compared = 0
    for block, kind in zip(model.blocks, BLOCKS, strict=True):
        try:
            expected = module.dequantize(torch.from_numpy(blobs[kind]), int(kind))
        except (KeyError, ValueError, NotImplementedError):
            continue
        found = block.down_proj.weight.detach()
        expected = expected.reshape(found.shape).float()
        usual = expected.isfinite() & (expected.abs() < 1e30)
        torch.testing.assert_close(
            found[usual], expected[usual], rtol=1e-5, atol=1e-6, msg=kind.name
        )
        compared += 1
    assert compared >= 15


TEXT = (
    "The 1,234th cat sat on the mat; it's 56 days' work, isn't it?\n\n  Indented\tcode: x = 7890\n"
    "Ein Ärger über Öl, naïve café, 東京 2025, don't DON'T we'LL camelCaseWords HTTPServer\r\n"
)


def byte_level(rule, split, *, ignore=False):
    """A vocabulary that the library has learned with a rule, and its tokenizer."""
    inner = Inner(models.BPE(ignore_merges=ignore))
    steps = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)]
    if split is not None:
        steps.insert(0, pre_tokenizers.Split(Regex(split), behavior="isolated"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(steps)
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=ALPHABET, show_progress=False
    )
    inner.train_from_iterator([TEXT] * 3, trainer)
    vocab = sorted(inner.get_vocab().items(), key=lambda item: item[1])
    merges = [
        pair if isinstance(pair, str) else " ".join(pair)
        for pair in json.loads(inner.to_str())["model"]["merges"]
    ]
    found = {"model": "gpt2", "pre": rule, "tokens": [token for token, _ in vocab]}
    found |= {"types": [3] * 4 + [1] * (len(vocab) - 4), "merges": merges}
    return found | {"eos": 2, "bos": 1, "template": TEMPLATE}, inner


WORD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.mark.peer
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "qwen3_moe"])
def test_transformers_reads_the_same_model_and_words_from_the_same_file(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")  # without it transformers reads no GGUF
    model = made(name)
    rule, split = ("qwen2", WORD + REST) if "qwen" in name else ("llama-bpe", WORD + "{1,3}" + REST)
    vocabulary, _ = byte_level(rule, split)
    fields = {name: getattr(model.config, name) for name in model.config.__slots__}
    fields["vocab_size"] = len(vocabulary["tokens"])
    if "qwen3" in name:
        fields["head_dim"] = 128  # transformers reads no other from a file
    if name == "qwen3_moe":
        fields["intermediate_size"] = 768  # nor this
    model = type(model)(type(model.config)(**fields))
    kind = KINDS.get(name, name)
    path = tmp_path / "model.gguf"
    write(path, kind, described(model.config), laid_out(model, kind), vocabulary)
    ours, tokenizer = read_gguf(path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name)
    assert theirs.config.model_type == name
    with torch.no_grad():
        assert (theirs(IDS).logits - ours.logits(ours(IDS))).abs().max() < 1e-4
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    assert reader(TEXT, add_special_tokens=False)["input_ids"] == tokenizer.encode(TEXT)
    assert (reader.eos_token, reader.bos_token) == (tokenizer.end, tokenizer.bos)
    messages = [{"role": "user", "content": "it's"}]
    theirs = reader.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert conversation_format(tokenizer).begin(messages) == theirs


@pytest.mark.parametrize(
    ("rule", "split"),
    [("gpt-2", None), ("qwen2", WORD + REST), ("llama-bpe", WORD + "{1,3}" + REST)],
)
def test_words_are_divided_by_the_rule_that_the_header_names(rule, split, tmp_path):
    vocabulary, inner = byte_level(rule, split, ignore=rule == "llama-bpe")
    model = made("qwen2")
    fields = {name: getattr(model.config, name) for name in model.config.__slots__}
    model = type(model)(type(model.config)(**{**fields, "vocab_size": len(vocabulary["tokens"])}))
    path = tmp_path / "model.gguf"
    write(path, "qwen2", described(model.config), laid_out(model, "qwen2"), vocabulary)
    _, tokenizer = read_gguf(path)
    assert tokenizer.encode(TEXT) == inner.encode(TEXT).ids
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.bos_id == (1 if rule == "llama-bpe" else -1)
    assert (tokenizer.end_id, tokenizer.pad, tokenizer.stop_ids) == (2, "<|pad|>", (2, 0))
    begun = conversation_format(tokenizer).begin([{"role": "user", "content": "it's <|im_end|>"}])
    assert begun[0] == 1 and begun.count(1) == 2


def test_sentence_pieces_are_merged_by_their_scores(tmp_path):
    words = ["▁", "t", "h", "e", "c", "a", "i", "n", "s", "▁t", "he", "▁the", "▁c", "at", "▁cat"]
    words += ["in", "▁in", "is", "this", "▁this", "hi", "th"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *words]
    rng = np.random.default_rng(3)
    # The scores of single letters are the lowest, those of longer pieces come in no order.
    scores = [0.0] * 259 + [
        -100.0 - n if len(word) == 1 else -float(rng.permutation(50)[n])
        for n, word in enumerate(words)
    ]
    vocabulary = {"model": "llama", "tokens": tokens, "scores": scores, "eos": 2, "bos": 1}
    vocabulary["types"] = [2, 3, 3] + [6] * 256 + [1] * len(words)
    model = made("llama")
    fields = {name: getattr(model.config, name) for name in model.config.__slots__}
    model = type(model)(type(model.config)(**{**fields, "vocab_size": len(tokens)}))
    path = tmp_path / "model.gguf"
    write(path, "llama", described(model.config), laid_out(model, "llama"), vocabulary)
    _, tokenizer = read_gguf(path)
    assert (tokenizer.bos_id, tokenizer.end_id, tokenizer.stop_ids) == (1, 2, (2,))
    for text in ("the cat is in this", "this thin hat", "a tie ñ 東", "in"):
        assert tokenizer.encode(text) == by_hand(text, tokens, scores), text
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_text_that_goes_on_from_another_keeps_and_gets_no_space(tmp_path):
    words = ["▁", *"theca in", "▁t", "he", "▁the", "▁c", "at", "▁cat"]
    words = list(dict.fromkeys(word for word in words if word != " "))
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *words]
    scores = [0.0] * 259 + [-100.0 if len(word) == 1 else -float(len(word)) for word in words]
    vocabulary = {"model": "llama", "tokens": tokens, "scores": scores, "eos": 2, "bos": 1}
    vocabulary["types"] = [2, 3, 3] + [6] * 256 + [1] * len(words)
    model = made("llama")
    fields = {name: getattr(model.config, name) for name in model.config.__slots__}
    model = type(model)(type(model.config)(**{**fields, "vocab_size": len(tokens)}))
    path = tmp_path / "model.gguf"
    write(path, "llama", described(model.config), laid_out(model, "llama"), vocabulary)
    _, tokenizer = read_gguf(path)
    for prompt, answer in (("the", " cat in"), ("the c", "at"), ("a", "\n\ncat"), ("a", "ñ")):
        ids = tokenizer.encode(answer, continues=True)
        assert tokenizer.decode(ids, continues=True) == answer
        assert tokenizer.decode([*tokenizer.encode(prompt), *ids]) == prompt + answer
    assert tokenizer.encode(" cat", continues=True) == [tokens.index("▁cat")]
    talk = conversation_format(tokenizer)
    assert talk.answer([tokens.index("▁cat"), 2]) == " cat"
    items = [Demonstration("the", " cat")]
    ((row, start),) = encode_demonstrations(talk, items)
    assert row[start:] == [tokens.index("▁cat"), 2]


def by_hand(text, tokens, scores):
    """SentencePiece's merging: again and again the neighbours that make the best-scored piece."""
    pieces = list("▁" + text.replace(" ", "▁"))
    while True:
        pairs = [
            (scores[tokens.index(left + right)], -place)
            for place, (left, right) in enumerate(pairwise(pieces))
            if left + right in tokens
        ]
        if not pairs:
            break
        place = -max(pairs)[1]
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    found = []
    for piece in pieces:
        known = piece in tokens
        found += [piece] if known else [f"<0x{byte:02X}>" for byte in piece.encode()]
    return [tokens.index(piece) for piece in found]

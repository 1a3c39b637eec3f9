"""Answers from the command line: what a file of prompts may hold, and what is written of each."""

import contextlib
import importlib
import io
import json
import re
import shutil
from types import SimpleNamespace

import pytest
from playout.cli import main
from playout.rlhf.generation import cached_rows
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.model.folder import export_model, load_model
from small_language import chat_tokenizer, small_model

TALK = [{"role": "user", "content": "the cat"}]
generate_command = importlib.import_module("playout.rlhf.commands.use.generate")
kept_rows = importlib.import_module("playout.rlhf.commands.kept_rows")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = chat_tokenizer("chatml")
    model = small_model(tokenizer, length=150)
    path = tmp_path_factory.mktemp("chat") / "model"
    export_model(path, model, tokenizer)
    return path


def answers(folder, tmp_path, lines, *words, name="prompts.txt"):
    file, out = tmp_path / name, tmp_path / "out.json"
    file.write_text("".join(line + "\n" for line in lines))
    words = [str(word) for word in words]
    command = ["rlhf", "generate", str(folder), "--prompts", str(file), "--json", str(out)]
    assert main([*command, "--max-new-tokens", "8", *words]) == 0
    return json.loads(out.read_text())


def refused(folder, tmp_path, capsys, lines, *words):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(line + "\n" for line in lines))
    out = tmp_path / "never.json"
    words = ["rlhf", "generate", str(folder), "--prompts", str(file), "--json", str(out), *words]
    assert main(words) == 2 and not out.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("name", ["prompts.txt", "prompts.jsonl"])
def test_a_line_is_a_text_or_a_conversation(folder, tmp_path, name):
    lines = ["the cat", json.dumps({"messages": TALK}), json.dumps({"prompt": TALK})]
    found = answers(folder, tmp_path, lines, "--temperature", 0, name=name)
    assert [item.get("prompt") for item in found] == ["the cat", None, None]
    assert found[1] == found[2] and found[1]["messages"] == TALK
    model, tokenizer = load_model(folder)
    for item, text in zip(found, ["the cat", tokenizer.template.source and None], strict=False):
        ids = tokenizer.encode("the cat")
        if text is None:
            said = "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nthe cat"
            ids = tokenizer.encode_special(f"{said}<|im_end|>\n<|im_start|>assistant\n")
        out = generate(
            model, [ids], max_new_tokens=8, stop=[tokenizer.end_id], sampling=SamplingConfig(0.0)
        )
        assert item["response"] == tokenizer.decode(out.response(0))
        assert item["finished"] == bool(out.finished[0]) and item["prompt_tokens"] == len(ids)
        assert item["logprob"] == pytest.approx(float(out.logprobs.sum()), abs=1e-3)


def test_options_of_a_conversation_reach_the_policy(folder, tmp_path):
    lines = ["the cat", json.dumps({"messages": TALK})]
    found = answers(folder, tmp_path, lines, "--chat", "--system", "Be brief.", "--logprobs")
    system = {"role": "system", "content": "Be brief."}
    assert [item["messages"] for item in found] == [[system, *TALK]] * 2
    for item in found:
        assert len(item["tokens"]) == item["num_tokens"]
        assert sum(t["logprob"] for t in item["tokens"]) == pytest.approx(item["logprob"], abs=1e-3)
    (plain,) = answers(folder, tmp_path, lines[:1], "--temperature", 0, "--samples", 1)
    stop = plain["response"][2:4]
    (cut,) = answers(folder, tmp_path, lines[:1], "--temperature", 0, "--stop", stop)
    assert cut["finished"] and cut["response"] == plain["response"].partition(stop)[0]


def test_prompts_of_any_length_are_cut_as_asked_and_counted(folder, tmp_path, capsys):
    talk = [*TALK, {"role": "assistant", "content": "sat " * 60}, *TALK]
    lines = ["the cat " * 200, json.dumps({"messages": talk}), "the"]
    for side in ("left", "right"):
        found = answers(folder, tmp_path, lines, "--truncate", side, "--max-length", 100)
        assert [item.get("prompt_tokens_cut", 0) > 0 for item in found] == [True, True, False]
        assert all(item["prompt_tokens"] <= 100 for item in found)
        assert "2 prompts were cut to fit" in capsys.readouterr().err
    error = refused(folder, tmp_path, capsys, lines)
    assert "prompts.jsonl, line 1: it has" in error and "there is room for" in error


def test_a_talk_takes_the_same_lengths_and_cuts(folder, monkeypatch, capsys):
    command = ["rlhf", "chat", str(folder), "--max-new-tokens", "8", "--max-length", "90"]
    for words, said in (
        ([], "(the line: it has 231 tokens, and there is room for 90; let it be cut"),
        (["--truncate", "left"], "(the line does not fit: 141 tokens were left out)"),
        (["--truncate", "right"], "(the line does not fit: 141 tokens were left out)"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO("the cat " * 100 + "\n/quit\n"))
        assert main([*command, *words]) == 0
        assert said in capsys.readouterr().out
    assert main(["rlhf", "chat", str(folder), "--max-length", "-1"]) == 2
    assert "--max-length must be at least 1, not -1" in capsys.readouterr().err


def test_an_answer_is_the_same_whatever_stands_beside_its_prompt(folder, tmp_path):
    lines = ["the cat", "sat " * 30, json.dumps({"messages": TALK}), "a", "user", "the"]
    whole = answers(folder, tmp_path, lines)
    assert answers(folder, tmp_path, [*lines[:5], "the cat sat " * 10])[:5] == whole[:5]


@pytest.mark.parametrize(
    ("lines", "words", "fault"),
    [
        (['{"messages": []}'], [], "line 1: messages: the conversation has no"),
        (
            ["the", '{"messages": [{"role": "me", "content": ""}]}'],
            [],
            "line 2: messages: message 1",
        ),
        (['{"messages": [{"role": "user"'], [], "line 1: not JSON"),
        (['{"title": "x"}'], [], "there is no field 'prompt'"),
        ([], [], "holds no prompts"),
        (["the"], ["--max-new-tokens", "150"], "leave no room for a prompt in the context of 150"),
        (["the"], ["--samples", "0"], "samples must be at least 1"),
        (["the"], ["--stop", ""], "a stop string must not be empty"),
        (["the"], ["--plain", "--system", "x"], "no chat template"),
        (
            ["the", json.dumps({"messages": TALK})],
            ["--plain"],
            "prompts.jsonl, line 2: with --plain the model's chat template is left alone",
        ),
        (["the"], ["--min-p", "2"], "min_p must be from 0 to 1"),
    ],
)
def test_what_is_wrong_is_one_line(folder, tmp_path, capsys, lines, words, fault):
    assert fault in refused(folder, tmp_path, capsys, lines, *words)


@pytest.mark.parametrize("name", ["out.json", "out.jsonl"])
def test_who_stops_it_keeps_the_answers_that_are_complete(folder, tmp_path, monkeypatch, name):
    prompts = ["the cat", "sat", "a dog", "and", "user", "cat", "the", "dog sat"]
    whole = answers(folder, tmp_path, prompts, "--max-new-tokens", 40)
    assert len({item["num_tokens"] for item in whole}) > 1
    ends = sorted(item["num_tokens"] for item in whole)
    choose, steps = cached_rows.choose, 0

    def interrupted(*args):
        nonlocal steps
        steps += 1
        if steps > ends[0]:
            raise KeyboardInterrupt
        return choose(*args)

    monkeypatch.setattr(cached_rows, "choose", interrupted)
    out = tmp_path / name
    words = ["rlhf", "generate", str(folder), "--prompts", str(tmp_path / "prompts.txt")]
    with contextlib.suppress(KeyboardInterrupt):
        main([*words, "--json", str(out), "--max-new-tokens", "40"])
    text = out.read_text()
    kept = json.loads(text) if name == "out.json" else [*map(json.loads, text.splitlines())]
    assert kept == [item for item in whole if item["num_tokens"] == ends[0]]


def test_what_is_written_again_is_made_once_and_not_all_the_time(folder, tmp_path, monkeypatch):
    made, written, now = [], [], 0.0
    item, write = generate_command._item, kept_rows.write

    def making(*args):
        nonlocal now
        now += 11
        made.append(args)
        return item(*args)

    def writing(*args):
        nonlocal now
        now += 3
        written.append(len(args[1]))
        write(*args)

    monkeypatch.setattr(generate_command, "_item", making)
    monkeypatch.setattr(kept_rows, "write", writing)
    clock = SimpleNamespace(monotonic=lambda: now, perf_counter=lambda: now)
    monkeypatch.setattr(generate_command, "time", clock)
    monkeypatch.setattr(kept_rows, "time", clock)
    prompts = ["the cat", "sat", "a dog", "and", "user", "cat", "the"]
    assert len(answers(folder, tmp_path, prompts, "--logprobs")) == 7 == len(made)
    # Eleven seconds an answer, thirty after each time of writing, which takes three.
    assert written == [1, 4, 7]


def test_answers_are_printed_in_the_order_of_their_prompts_as_they_come(folder, tmp_path, capsys):
    prompts = ["the cat", "sat", "a dog", "and", "user"]
    found = answers(folder, tmp_path, prompts, "--max-new-tokens", 30)
    capsys.readouterr()
    words = ["rlhf", "generate", str(folder), "--prompts", str(tmp_path / "prompts.txt")]
    assert main([*words, "--max-new-tokens", "30"]) == 0
    shown = "".join(f"{item['prompt']}|{item['response']}\n" for item in found)
    assert capsys.readouterr().out == shown


def test_one_prompt_is_printed_as_it_is_written(folder, capsys):
    words = ["rlhf", "generate", str(folder), "--prompt", "the cat", "--temperature", "0"]
    assert main([*words, "--max-new-tokens", "8"]) == 0
    printed = capsys.readouterr()
    model, tokenizer = load_model(folder)
    out = generate(
        model, [tokenizer.encode("the cat")], max_new_tokens=8, stop=tokenizer.stop_ids,
        sampling=SamplingConfig(0.0),
    )  # fmt: skip
    assert printed.out == tokenizer.decode(out.response(0)) + "\n"
    assert "8 tokens in" in printed.err or "tokens/s" in printed.err


def test_a_single_prompt_may_be_empty(folder, capsys):
    words = ["rlhf", "generate", str(folder), "--prompt", "", "--max-new-tokens", "4"]
    assert main(words) == 0
    assert "1 answers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--template-options", "mood=calm"], r"chat template of .* reads no mood$"),
        (["--template-options", "messages=3"], r"chat template of .* reads no messages$"),
        (
            ["--template-options", "a=1", "--plain"],
            "with --plain there is no chat template to read",
        ),
        (["--chat", "--plain"], "give --chat or --plain, not both"),
        (["--prompts", "prompts.txt"], "^error: give --prompts or --prompt, not both$"),
    ],
)
def test_what_no_template_reads_is_named(folder, capsys, words, told):
    assert main(["rlhf", "generate", str(folder), "--prompt", "the cat", *words]) == 2
    assert re.search(told, capsys.readouterr().err.rstrip("\n"))


def test_options_that_a_template_reads_are_told(folder, tmp_path, capsys):
    other = tmp_path / "model"
    shutil.copytree(folder, other)
    (other / "MANIFEST.json").unlink(missing_ok=True)
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + "{{ mood }}{% if thinking %}{% endif %}")
    words = ["rlhf", "generate", str(other), "--prompt", "the cat", "--max-new-tokens", "2"]
    assert main([*words, "--chat", "--template-options", "mood=cat"]) == 0
    assert main([*words, "--template-options", "moood=cat"]) == 2
    error = capsys.readouterr().err
    assert error.endswith(f"template of {other} reads no moood; it reads mood, thinking\n")

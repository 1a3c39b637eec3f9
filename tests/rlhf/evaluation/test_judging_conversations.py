"""Conversations are scored and judged as what they are: by the template, with their rows' data."""

import contextlib
import json

import pytest
from playout.cli import main
from playout.rlhf.data.records import read_preferences
from playout.rlhf.evaluation.evaluator import PolicyEvaluator
from playout.rlhf.evaluation.judge import compare_policies, human_votes
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.heads import ScalarHead
from playout.rlhf.supervised.reward import RewardModel
from small_language import chat_tokenizer, small_model

TOKENIZER = chat_tokenizer("chatml")
TALK = [{"role": "user", "content": "the cat"}]


def test_policies_are_compared_on_conversations_with_the_data_of_their_rows():
    seen = []

    def reward(prompts, answers, label):
        seen.append((prompts, label))
        return [float(len(answer)) for answer in answers]

    evaluator = PolicyEvaluator(
        TOKENIZER, [TALK, "the cat"], reward, max_new_tokens=6,
        tasks=[{"label": "a"}, {"label": "b"}],
    )  # fmt: skip
    found = compare_policies(small_model(TOKENIZER, 1), small_model(TOKENIZER, 2), evaluator)
    assert found["reward"]["prompts"] == 2
    assert seen[0] == ([TALK, "the cat"], ["a", "b"])
    answers = evaluator.respond(small_model(TOKENIZER, 1))
    talk = conversation_format(TOKENIZER)
    assert answers.generation.prompts == [talk.begin(TALK), talk.begin("the cat")]


def test_votes_on_conversations_are_kept_as_preferences_between_them(tmp_path):
    votes, shown = tmp_path / "votes.jsonl", []
    given = iter(["1", "2"])
    asked = [TALK, "the cat"]
    count = human_votes(
        asked, ["a", "b"], ["c", "d"], votes=votes, seed=0,
        ask=lambda text: next(given), show=shown.append,
    )  # fmt: skip
    assert count["prompts"] == 2 and any("the cat ..." in line for line in shown)
    first, second = read_preferences(votes)
    assert list(first.prompt) == TALK and second.prompt == "the cat"
    again = human_votes(asked, ["a", "b"], ["c", "d"], votes=votes, seed=0, ask=None)
    assert again["prompts"] == 2  # nothing was asked a second time


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model = small_model(TOKENIZER, 3)
    head = ScalarHead(model.config, seed=4)
    path = tmp_path_factory.mktemp("reward") / "model"
    RewardModel(model, head, TOKENIZER, length=120, in_turns=True).save(path)
    return path


def test_rows_are_scored_as_texts_and_as_conversations(folder, tmp_path, capsys, monkeypatch):
    answer = {"role": "assistant", "content": "sat"}
    rows = [
        {"messages": [*TALK, answer], "id": 7},
        {"messages": TALK, "response": "sat"},
        {"prompt": "the cat", "response": " sat"},
        {"text": "the cat sat"},
        {"prompt": TALK, "response": [answer]},
    ]
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    encode, encoded = Tokenizer.encode_batch, []

    def noted(self, texts, **options):
        encoded.extend(texts)
        return encode(self, texts, **options)

    monkeypatch.setattr(Tokenizer, "encode_batch", noted)
    assert main(["rlhf", "score", str(folder), "--texts", str(file), "--json", str(out)]) == 0
    assert encoded == ["the cat sat"] * 2  # each once, though they are counted as well
    found = json.loads(out.read_text())
    assert [{k: v for k, v in item.items() if k != "score"} for item in found] == rows
    scores = [item["score"] for item in found]
    assert scores[4] == scores[0] == scores[1] != scores[2] == scores[3]
    wanted = RewardModel.load(folder)([[*TALK, answer], "the cat sat"])
    assert scores[:4:2] == pytest.approx(wanted, abs=1e-3)
    words = ["rlhf", "score", str(folder), "--texts", str(file), "--json", str(out)]
    said = capsys.readouterr().err
    assert "5 texts" in said and "tokens/s" in said and "cut" not in said
    assert main([*words, "--max-length", "6", "--truncate", "left"]) == 0
    assert "texts were cut to 6 tokens" in capsys.readouterr().err
    short = RewardModel.load(folder)
    short.length, short.truncate = 6, "left"
    cut = [item["score"] for item in json.loads(out.read_text())]
    assert cut[2] == pytest.approx(short(["the cat sat"])[0], abs=1e-3)
    assert main([*words, "--max-length", "999"]) == 2
    assert "--max-length is 1 to 128" in capsys.readouterr().err
    file.write_text('{"messages": []}\n')
    assert main(["rlhf", "score", str(folder), "--texts", str(file)]) == 2
    assert "line 1: messages: the conversation has no messages" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.json", "out.jsonl"])
def test_who_stops_scoring_keeps_what_was_scored(folder, tmp_path, monkeypatch, name):
    file, out = tmp_path / "rows.txt", tmp_path / name
    file.write_text("the cat sat\na dog\nthe cat\ncat\nsat\n")
    words = ["rlhf", "score", str(folder), "--texts", str(file)]
    assert main([*words, "--json", str(tmp_path / "whole.json")]) == 0
    whole, raw, blocks = json.loads((tmp_path / "whole.json").read_text()), RewardModel.raw, []

    def interrupted(self, texts, sizes=None):
        if len(blocks) == 2:
            raise KeyboardInterrupt
        blocks.append(list(texts))
        return raw(self, texts, sizes)

    monkeypatch.setattr("playout.rlhf.commands.use.score.BLOCK", 2)
    monkeypatch.setattr(RewardModel, "raw", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        main([*words, "--json", str(out)])
    text = out.read_text()
    kept = json.loads(text) if name == "out.json" else [*map(json.loads, text.splitlines())]
    assert [row["text"] for row in kept] == ["the cat sat", "a dog", "the cat", "cat"]
    scores = [row["score"] for row in whole[:4]]
    assert [row["score"] for row in kept] == pytest.approx(scores, abs=1e-4)


def test_few_bits_are_for_models_alone_or_among_others(folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "own_scores.py").write_text("def ones(texts):\n    return [1.0] * len(texts)\n")
    (tmp_path / "rows.txt").write_text("the cat\n")
    monkeypatch.chdir(tmp_path)
    words = ["--texts", "rows.txt", "--weights", "bfloat16"]
    for names in (str(folder), f"{folder},own_scores:ones"):
        assert main(["rlhf", "score", names, *words]) == 0
    assert main(["rlhf", "score", "own_scores:ones", *words]) == 2
    assert "--weights is for a model, not for a function" in capsys.readouterr().err

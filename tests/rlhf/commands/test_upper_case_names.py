"""The end of a file's name may be in upper case for every command that reads or writes rows."""

import importlib
import json

import pytest
from playout.cli import main
from playout.rlhf.commands.answer_options import read_asked
from playout.rlhf.commands.kept_rows import KeptRows

perplexity = importlib.import_module("playout.rlhf.commands.use.perplexity")
ROWS = [{"text": "the cat sat"}, {"text": "a dog, too"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TEXTS = {"DATA.JSONL": LINES, "DATA.CSV": 'text\nthe cat sat\n"a dog, too"\n'}


@pytest.fixture(params=list(TEXTS))
def file(request, tmp_path):
    path = tmp_path / request.param
    path.write_text(TEXTS[request.param])
    return path


def test_prompts_are_read(file):
    prompts, _ = read_asked(file)
    assert prompts == [row["text"] for row in ROWS]


def test_a_line_of_jsonl_that_is_none_is_refused(tmp_path):
    (tmp_path / "ASKED.JSONL").write_text('{"text": \n')
    with pytest.raises(ValueError, match="line 1: not JSON"):
        read_asked(tmp_path / "ASKED.JSONL")


def test_texts_are_scored(file, tmp_path, monkeypatch):
    (tmp_path / "upper_case_scores.py").write_text("def sizes(texts): return [*map(len, texts)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = ["score", "upper_case_scores:sizes", "--texts", str(file)]
    assert main(["rlhf", *words, "--json", str(tmp_path / "OUT.JSONL")]) == 0
    found = [json.loads(line) for line in (tmp_path / "OUT.JSONL").read_text().splitlines()]
    assert found == [{**row, "score": len(row["text"])} for row in ROWS]


def test_likelihoods_are_of_the_answers(tmp_path):
    path, row = tmp_path / "DATA.JSONL", {"prompt": "the cat", "response": " sat"}
    path.write_text(json.dumps(row) + "\n")
    assert [found for _, found in perplexity._read(path, document=False)] == [row]


def test_results_are_lines(tmp_path):
    kept = KeptRows(tmp_path / "OUT.JSONL", 2, "texts scored")
    kept.take(enumerate(ROWS))
    kept.save()
    assert (tmp_path / "OUT.JSONL").read_text() == LINES

"""Tasks of lm_eval asked of our model: what its own metrics say is what our suites say."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from playout import cli
from playout.errors import ConfigError, DivergedError
from playout.rlhf.evaluation.suites.score import answers_of
from playout.rlhf.evaluation.suites.suite import Choice, Passage, Suite
from playout.rlhf.evaluation.suites.tasks.harness import run_task, summary_of
from playout.rlhf.model.folder import export_model
from small_language import chat_tokenizer, small_model

TOKENIZER = chat_tokenizer("chatml")
HEAD = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {path}
test_split: test
"""
CHOICE = """
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{right}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""
ROLLING = """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: bits_per_byte
"""


@pytest.fixture
def model():
    return small_model(TOKENIZER, length=96)


def task(folder, name, body, rows):
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{name}.yaml").write_text((HEAD + body).format(name=name, path=path))
    return str(folder / f"{name}.yaml")


@pytest.mark.peer
@pytest.mark.slow
def test_the_harness_finds_what_our_suites_find(model, tmp_path, monkeypatch, capsys):
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    words = ["cat", "dog", "mat", "sat", "ran", "user"]
    rows = [
        {"prompt": f"the {words[n % 6]} and the", "right": n % 2,
         "options": [words[(n + 1) % 6], f"{words[(n + 2) % 6]} sat"]}
        for n in range(20)
    ]  # fmt: skip
    found = run_task(model, TOKENIZER, task(tmp_path, "own_choice", CHOICE, rows))
    items = tuple(
        Choice(row["prompt"], tuple(f" {o}" for o in row["options"]),
               tuple(float(n == row["right"]) for n in range(2)))
        for row in rows
    )  # fmt: skip
    ours = answers_of(model, TOKENIZER, Suite(name="s", items=items))
    assert found.metrics["acc"] == pytest.approx(ours.values.mean())
    assert len(found.values) == 20
    texts = [f"the cat sat on day {n} and ran" for n in range(6)]
    path = task(tmp_path, "own_text", ROLLING, [{"text": text} for text in texts])
    found = run_task(model, TOKENIZER, path)
    ours = answers_of(model, TOKENIZER, Suite(name="b", items=tuple(map(Passage, texts))))
    expected = ours.values.sum() / ours.num_bytes.sum()
    assert found.metrics["bits_per_byte"] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ConfigError, match="no task 'nonsense'"):
        run_task(model, TOKENIZER, "nonsense")
    export_model(tmp_path / "model", model, TOKENIZER)
    words = ["eval", str(tmp_path / "model"), "--suite", f"lm_eval:{path}", "pairs"]
    words += ["--episodes", "5", "--against", str(tmp_path / "model")]
    assert cli.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    row = json.loads((tmp_path / "found.json").read_text())["suites"][f"lm_eval:{path}"]
    assert row["measure"] == "bits_per_byte" and row["value"] > 0


@pytest.fixture
def harness(monkeypatch):
    """A stand-in for lm_eval: its answer, or a function of the model that it asks."""

    def make(answer):
        parts = {
            "lm_eval.evaluator": {"simple_evaluate": lambda model, **_: answer(model)},
            "lm_eval.tasks": {"TaskManager": lambda: SimpleNamespace(all_tasks=["sums"])},
            "lm_eval.api.model": {"LM": object},
            "lm_eval.api": {},
            "lm_eval": {},
        }
        for name, held in parts.items():
            module = ModuleType(name)
            module.__dict__.update(held)
            monkeypatch.setitem(sys.modules, name, module)

    return make


def test_of_several_ways_to_read_an_answer_the_first_one_counts(model, harness):
    strict, loose = [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]
    samples = [
        {"doc_id": n, "filter": name, "exact_match": value}
        for name, values in (("strict", strict), ("loose", loose))
        for n, value in enumerate(values)
    ]
    results = {"alias": "sums", "exact_match,strict": 0.25, "exact_match_stderr,strict": 0.1,
               "exact_match,loose": 0.75, "sample_len": 4}  # fmt: skip
    harness(lambda _: {"results": {"sums": results}, "samples": {"sums": samples}})
    found = run_task(model, TOKENIZER, "sums")
    assert found.values.tolist() == strict
    assert found.metrics == {"exact_match": 0.25, "exact_match,loose": 0.75}
    row = summary_of(found, "sums")
    assert row["items"] == 4 and row["interval"][0] <= row["value"] <= row["interval"][1]


def test_a_model_of_nan_is_no_answer_to_the_harness(model, harness):
    model.norm.data[0] = float("nan")
    harness(lambda asked: asked.loglikelihood([SimpleNamespace(args=("the cat", " sat"))]))
    with pytest.raises(DivergedError):
        run_task(model, TOKENIZER, "sums")


def test_without_lm_eval_one_line_says_how_to_get_it(model, monkeypatch):
    import importlib

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'playout\[evaluation\]'"):
        run_task(model, TOKENIZER, "hellaswag")

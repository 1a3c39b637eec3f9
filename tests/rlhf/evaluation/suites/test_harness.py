"""Tasks of lm_eval asked of our model: what its own metrics say is what our suites say."""

import json
import math
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from playout import cli
from playout.errors import ConfigError, DivergedError
from playout.rlhf.evaluation.suites.score import answers_of
from playout.rlhf.evaluation.suites.suite import Choice, Passage, Suite
from playout.rlhf.evaluation.suites.tasks import harness as module
from playout.rlhf.evaluation.suites.tasks.harness import run_task, summary_of
from playout.rlhf.evaluation.suites.tasks.harness_samples import questions, sureness
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


def choice(number, logprobs, right, *, before="", **more):
    """A sample of multiple choice as lm_eval keeps it."""
    names = [f"name{number}x{n}" for n in range(len(logprobs))]
    asked = f"Who wrote book {number} of the {number * 7}th shelf in room {number * 13}?"
    best = max(range(len(logprobs)), key=logprobs.__getitem__)
    return {
        "doc_id": number, "filter": "none", "target": right,
        "doc": {"id": f"row {number}", "question": f"{asked} ", "choices": names},
        "arguments": [(f"{before}Question: {asked}\nAnswer:", f" {name}") for name in names],
        "resps": [[(value, False)] for value in logprobs],
        "filtered_resps": [(value, False) for value in logprobs],
        "acc": float(best == right), "metrics": ["acc"], **more,
    }  # fmt: skip


def answered(samples, **more):
    value = np.mean([sample["acc"] for sample in samples])
    return {"results": {"sums": {"acc,none": value}}, "samples": {"sums": samples}, **more}


def test_choices_of_a_task_are_looked_for_in_the_training_text_and_calibrated(model, harness):
    logprobs = [(math.log(0.8), math.log(0.2)), (math.log(0.3), math.log(0.3))]
    samples = [choice(n, logprobs[n % 2], n // 2 % 2) for n in range(40)]
    harness(lambda _: answered(samples))
    asked = [sample["doc"]["question"] for sample in samples]
    training = [f"A quiz. {asked[n]}, and so on" for n in range(0, 40, 4)]
    row = summary_of(run_task(model, TOKENIZER, "sums"), "sums", training)
    assert row["items"] == 40 and row["value"] == 0.5
    # Of those that are seen every one is right: what is clean is worse.
    seen = row["contamination"]
    assert (seen["leaked"], seen["near"], seen["texts"]) == (10, 0, 10)
    assert seen["value"] == pytest.approx(10 / 30)
    assert seen["interval"][0] < seen["value"] < seen["interval"][1]
    # 20 are sure by 0.8 and 20 by 0.5; of each ten are right.
    assert row["calibration"]["error"] == pytest.approx(0.15)
    assert row["calibration"]["confidence"] == pytest.approx(0.65)
    assert [part[0] for part in row["calibration"]["bins"]] == [20, 20]
    assert "contamination" not in summary_of(run_task(model, TOKENIZER, "sums"), "sums")


@pytest.mark.parametrize("told", [True, False])
def test_examples_before_a_question_do_not_make_it_seen(model, harness, told):
    plain = [choice(n, (-1.0, -2.0), 0) for n in range(30)]
    shown = [sample["arguments"][0][0] + " name\n\n" for sample in plain]
    samples = [choice(n, (-1.0, -2.0), 0, before=shown[n - 1]) for n in range(30)]
    more = {"n-shot": {"sums": 1}} if told else {}
    harness(lambda _: answered(samples, **more))
    found = run_task(model, TOKENIZER, "sums", shots=0 if told else 1)
    row = summary_of(found, "sums", [plain[7]["doc"]["question"]])
    assert row["contamination"]["leaked"] == 1
    assert found.questions[7] == plain[7]["doc"]["question"].strip() + "\nname7x0"


def test_what_is_written_is_looked_for_with_its_answer(model, harness):
    words = [f"word{n}" for n in range(13)]
    samples = [
        {"doc_id": n, "filter": "none", "doc": {"q": f"Add {n}."}, "exact_match": 1.0,
         "target": [f"it is {' '.join(words[n:] + words[:n])} in sum"],
         "arguments": [(f"Add {n}.", {"until": ["\n"]})], "filtered_resps": ["so many"]}
        for n in range(12)
    ]  # fmt: skip
    found = {"results": {"sums": {"exact_match,none": 1.0}}, "samples": {"sums": samples}}
    harness(lambda _: found)
    seen = f"Well, {samples[3]['target'][0]}!"
    row = summary_of(run_task(model, TOKENIZER, "sums"), "sums", [seen])
    assert row["contamination"]["leaked"] == 1 and row["contamination"]["value"] == 1.0
    assert "calibration" not in row


UNSURE = [
    {"target": [0, 1]},  # several are right
    {"acc": 0.3},  # a share of a point
    {"filtered_resps": ["A", "B"]},
    {"filtered_resps": [(-1.0, True)]},
    {"arguments": [("the cat", {"until": []}), ("the dog", {"until": []})]},
    {"arguments": []},
]


@pytest.mark.parametrize("change", UNSURE)
def test_where_no_single_share_says_how_sure_a_model_is_none_is_told(change):
    samples = [choice(n, (-1.0, -2.0), 0) for n in range(3)]
    assert sureness(samples).right.tolist() == [1, 1, 1]
    assert sureness([*samples, samples[0] | change]) is None
    assert sureness([]) is None


def test_options_that_are_asked_again_without_the_question_are_no_further_ones():
    sample = choice(0, (-1.0, -2.0), "name0x1")
    del sample["acc"]  # then it is the target that says what is right
    twice = [*sample["arguments"], *(("", text) for _, text in sample["arguments"])]
    again = sample | {"arguments": twice, "filtered_resps": [*sample["filtered_resps"]] * 2}
    for one in (sample, again):
        found = sureness([one])
        assert found.right.tolist() == [0.0]
        assert found.confidence == pytest.approx([1 / (1 + math.exp(-1))])
        assert questions([one], examples=False)[0][0].endswith("Answer: name0x1")


def test_a_value_that_is_no_mean_of_its_documents_has_no_interval(model, harness):
    samples = [{"doc_id": n, "filter": "none", "perplexity": -float(n)} for n in range(5)]
    found = {"results": {"sums": {"perplexity,none": 7.4}}, "samples": {"sums": samples}}
    harness(lambda _: found)
    row = summary_of(run_task(model, TOKENIZER, "sums"), "sums", ["the cat sat on the mat"])
    assert row["value"] == 7.4 and row["items"] == 5
    assert "interval" not in row and "contamination" not in row


def test_the_command_shows_what_is_seen_and_clean_of_a_task(model, harness, tmp_path, capsys):
    samples = [choice(n, (-1.0, -2.0), n % 2) for n in range(40)]
    harness(lambda _: answered(samples))
    export_model(tmp_path / "model", model, TOKENIZER)
    (tmp_path / "seen.txt").write_text(samples[0]["doc"]["question"])
    words = ["eval", str(tmp_path / "model"), "--suite", "lm_eval:sums", "--training-text"]
    words += [str(tmp_path / "seen.txt"), "--json", str(tmp_path / "found.json")]
    assert cli.main([*words, "--card", str(tmp_path / "card.md")]) == 0
    row = json.loads((tmp_path / "found.json").read_text())["suites"]["lm_eval:sums"]
    assert row["contamination"]["leaked"] == 1 and row["contamination"]["value"] == 19 / 39
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "lm_eval:sums" in line)
    assert f"{row['calibration']['error']:.3f}" in line and "0.487" in line
    assert "lm_eval:sums: 1 of 40 hold a run of 13 words" in (tmp_path / "card.md").read_text()
    assert cli.main([*words, "--no-contamination"]) == 0
    row = json.loads((tmp_path / "found.json").read_text())["suites"]["lm_eval:sums"]
    assert "contamination" not in row and "calibration" in row


def test_a_model_of_nan_is_no_answer_to_the_harness(model, harness):
    model.norm.data[0] = float("nan")
    harness(lambda asked: asked.loglikelihood([SimpleNamespace(args=("the cat", " sat"))]))
    with pytest.raises(DivergedError):
        run_task(model, TOKENIZER, "sums")


def test_an_answer_ends_where_its_task_says(model, harness, monkeypatch):
    seen = []

    class Player:
        def __init__(self, *_, stop, max_new_tokens, **__):
            seen.append((stop, max_new_tokens))

        def act(self, prompts, **_):
            return [""]

    monkeypatch.setattr(module, "LanguagePlayer", Player)
    asked = [{"until": []}, {"until": None}, {}, {"until": "Q:"}, {"until": ["Q:", "\n"]},
             {"max_gen_toks": 1280}, {"max_gen_toks": 9}]  # fmt: skip
    requests = [SimpleNamespace(args=("q", settings)) for settings in asked]
    long = small_model(TOKENIZER, length=1024)

    def answers(one):
        one.generate_until(requests)
        return {"results": {"sums": {}}}

    harness(answers)
    run_task(long, TOKENIZER, "sums")
    stops = [stop for stop, _ in seen]
    assert stops == [(), (), ("\n\n",), ("Q:",), ("Q:", "\n"), ("\n\n",), ("\n\n",)]
    # As many tokens as lm_eval writes where nothing is said, and never more than half the context.
    assert [most for _, most in seen] == [256] * 5 + [512, 9]


def test_a_task_is_not_asked_in_turns(model, harness, tmp_path, capsys):
    harness(lambda _: pytest.fail("it was asked"))
    export_model(tmp_path / "model", model, TOKENIZER)
    assert cli.main(["eval", str(tmp_path / "model"), "--suite", "lm_eval:sums", "--chat"]) == 2
    error = capsys.readouterr().err
    assert "lm_eval:sums: a task of lm_eval is asked by its own prompts" in error
    assert error.count("\n") == 1


def test_without_lm_eval_one_line_says_how_to_get_it(model, monkeypatch):
    import importlib

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'playout\[evaluation\]'"):
        run_task(model, TOKENIZER, "hellaswag")

"""The command classify: what is given is learned and nothing else, and how long texts are read."""

import json
from pathlib import Path

import numpy as np
import playout
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import ConfigError, DataError
from playout.rlhf.commands.learn import classify
from playout.rlhf.data.datasets import Datasets
from playout.rlhf.data.records import Rated
from playout.rlhf.evaluation.findings import of_classification
from playout.rlhf.evaluation.report import _tables
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import held_type, hold_weights
from playout.rlhf.model.folder import export_model, load_model
from playout.rlhf.supervised import classifier as text_classifier
from playout.rlhf.supervised.classify import (
    ClassifyConfig,
    ClassifyTrainer,
    TextTask,
    fit_task,
    make_task,
    measure_predictions,
    measured_row,
)
from small_language import as_before

BASE = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
CONTEXT = 128
FEW = {"size": "tiny", "dtype": "float32", "quiet": True, "steps": 2, "batch": 4}
WORDS = ("film", "plot", "cast", "end", "song", "role")
LABELLED = [{"text": f"the {a} and the {b}", "label": a} for a in WORDS[:2] for b in WORDS] * 2
RATED = [{"text": f"{a} or {b} ?", "rating": len(a)} for a in WORDS for b in WORDS]
LONG = "the film was " + "very " * 200 + "good"


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def tasks_of(run):
    return [row["task"] for row in json.loads((Path(run) / "table.json").read_text())]


def test_what_is_named_is_learned_and_nothing_besides(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mine = written(tmp_path / "mine.jsonl", LABELLED)
    stars = written(tmp_path / "stars.jsonl", RATED)
    words = ["rlhf", "classify", "--base", str(BASE), "--size", "tiny", "--steps", "2", "--quiet"]
    assert main([*words, "--labelled", mine, "--run", "one"]) == 0
    assert "Pretraining " in (said := capsys.readouterr().out) and " on mine: " in said
    assert tasks_of("one") == ["mine"] * 3
    assert not list(Path("one").glob("*ratings*")) and not list(Path("one").glob("*spam*"))
    assert RunDir.open("one").config["material"] == "files"
    assert main(["rlhf", "generate", "one", "--prompt", "the"]) == 2
    assert "one is a run of classify, which leaves no model" in capsys.readouterr().err
    assert main(["eval", "one"]) == 0
    said = capsys.readouterr().out
    assert "tf-idf" in said and "{" not in said and " to " in said
    both = playout.classify(BASE, labelled=mine, rated=stars, run="both", **FEW)
    assert tasks_of(both.path) == ["mine"] * 3 + ["stars"] * 3
    classifier = playout.load(both, threads=3)
    seen = []
    raw = text_classifier.predict_scores

    def noted(*args, **named):
        seen.append(torch.get_num_threads())
        return raw(*args, **named)

    monkeypatch.setattr(text_classifier, "predict_scores", noted)
    assert set(classifier.act(["film"])) <= set(WORDS) and seen == [3]
    rows = playout.classify(BASE, RATED, run="rows", **FEW)
    assert tasks_of(rows.path) == ["texts"] * 3


def test_reports_may_be_rows_which_the_run_keeps(tmp_path):
    first = playout.classify(BASE, LABELLED, run=tmp_path / "first", **FEW)
    day = [{"text": f"{a} is dear to {n}", "label": "plot"} for a in WORDS for n in range(4)]
    new = playout.classify(from_run=first, reports=day, run=tmp_path / "new", quiet=True)
    assert json.loads((tmp_path / "new" / "decision.json").read_text())["reports"]["texts"] > 2
    assert new.config["base"] == str(BASE) and new.config["batch"] == 4  # taken over
    kept = [json.loads(line) for line in (tmp_path / "new" / "labelled.jsonl").open()]
    assert sum(row["report"] for row in kept) == len(day)
    for wrong in ({"base": BASE}, {"data": LABELLED, "from_run": first}):
        with pytest.raises(ConfigError, match=r"classify\(from_run=RUN, reports=ROWS\)"):
            playout.classify(reports=day, run=tmp_path / "wrong", **wrong)
    assert not (tmp_path / "wrong").exists()


def ids_of(tokenizer, text):
    return [tokenizer.end_id, *tokenizer.encode(text), tokenizer.end_id]


@pytest.mark.parametrize("how", ["right", "left", "drop", "error"])
def test_texts_longer_than_the_context_are_cut_or_left_out_or_refused(how, tmp_path, capsys):
    texts = [*(row["text"] for row in LABELLED), LONG, f"so {LONG}", f"but {LONG}", f"and {LONG}"]
    rows = [{"text": text, "label": WORDS[n % 2]} for n, text in enumerate(texts)]
    if how == "error":
        with pytest.raises(DataError, match=r"longer than 128 tokens: the first is number \d+"):
            playout.classify(BASE, rows, truncate=how, run=tmp_path / "run", **FEW)
        assert not (tmp_path / "run").exists()
        return
    run = playout.classify(BASE, rows, truncate=how, run=tmp_path / "run", **FEW)
    said = capsys.readouterr().err
    assert f"texts are longer than {CONTEXT} tokens" in said and "(--truncate)" in said
    player = playout.load(run)
    assert (player.length, player.truncate) == (CONTEXT, how)
    tokenizer = Tokenizer.load(BASE / "model")
    alike = [f"so {LONG}", f"but {LONG}"], [f"{LONG} indeed", f"{LONG} of all"]
    begins, ends = (player.scores(pair) for pair in alike)
    # Only the end of texts is read on the left, only their beginning elsewhere.
    assert (begins[0] == begins[1]).all() == (how == "left")
    assert (ends[0] == ends[1]).all() == (how != "left")
    assert len(ids_of(tokenizer, LONG)) > CONTEXT


def test_a_text_that_is_left_out_is_in_no_row_of_the_table():
    tokenizer = Tokenizer.load(BASE / "model")
    task = TextTask((["a", LONG, "b"], [0.0, 1.0, 1.0]), ([LONG, "c"], [0.0, 1.0]), ("x", "y"))
    found = fit_task(task, tokenizer, CONTEXT, "drop")
    assert (found.train, found.test) == ((["a", "b"], [0.0, 1.0]), (["c"], [1.0]))
    assert fit_task(task, tokenizer, CONTEXT, "right") == task  # cut where it is read
    with pytest.raises(DataError, match="all 1 held-out texts are longer than 3 tokens"):
        fit_task(TextTask(task.train, ([LONG], [0.0]), ("x", "y")), tokenizer, 3, "drop")


def test_own_texts_are_read_whole_and_a_run_of_an_earlier_version_as_it_began(tmp_path):
    rows = [*LABELLED, {"text": "the " * 90, "label": "film"}]
    longest = len(ids_of(Tokenizer.load(BASE / "model"), rows[-1]["text"]))
    assert 90 < longest < CONTEXT
    few = {**FEW, "steps": 1}
    assert playout.load(playout.classify(BASE, rows, run=tmp_path / "a", **few)).length == CONTEXT
    short = playout.classify(BASE, rows, max_length=20, run=tmp_path / "b", **few)
    assert playout.load(short).length == 20
    before = {"steps": 5, "labelled": "x.jsonl"}
    taken = classify.Command.stored_today(before)
    assert (taken["max_length"], taken["truncate"]) == (ClassifyConfig().length, "right")
    assert classify.Command.stored_today({**before, "truncate": "left"})["truncate"] == "left"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a", "kind": "b"}, "line 1: there is neither a label nor a rating"),
        ({"text": "a", "label": None}, "line 1: there is no label"),
        ({"label": "a"}, "line 1: there is no field 'text'"),
    ],
)
def test_wrong_rows_are_named_and_leave_no_run_behind(row, message, tmp_path, capsys):
    file, run = written(tmp_path / "a.jsonl", [row] * 3), tmp_path / "run"
    words = ["rlhf", "classify", "--base", str(BASE), "--data", file, "--run", str(run)]
    assert main(words) == 2
    assert message in capsys.readouterr().err and not run.exists()


@pytest.mark.slow
def test_a_classifier_is_the_one_that_its_table_measures(tmp_path):
    rng = np.random.default_rng(1)
    rows = [
        {"text": f"film {rng.integers(999)} was {rng.choice(WORDS)} {rng.integers(999)}",
         "label": str(rng.choice(["a", "b"]))}
        for _ in range(120)
    ]  # fmt: skip
    run = playout.classify(
        BASE, rows, run=tmp_path / "run", **{**FEW, "steps": 24, "learning_rate": 5e-3}
    )
    inner = RunDir.open(run.path / "texts-pretrained")
    assert inner.find("best").step != inner.find().step, "the case says nothing; take another seed"
    table = {row["model"]: row for row in json.loads((run.path / "table.json").read_text())}
    held = Datasets("files").labelled(rows)[1]
    named = playout.load(run).act([item.text for item in held])
    right = [name == item.label for name, item in zip(named, held, strict=True)]
    assert table["pretrained"]["accuracy"] == pytest.approx(np.mean(right))


def test_repeated_texts_count_once_however_they_are_given(tmp_path):
    rows = [{"text": f"t {n // 2}{' ' * (n % 2)} x", "label": "ab"[n // 2 % 2]} for n in range(60)]
    file = written(tmp_path / "a.jsonl", rows)
    for source in (rows, file, Path(file)):
        said = []
        train, test = Datasets("files").labelled(source, tell=said.append)
        assert len(train) + len(test) == 30
        assert said == ["30 of 60 texts are repeated, and count once"]
    rows[7]["label"] = "a"
    for source in (rows, written(tmp_path / "a.jsonl", rows)):
        with pytest.raises(DataError, match=r"the text 't 3 x' has two labels, b and a"):
            Datasets("files").labelled(source)


@pytest.mark.slow
def test_a_run_of_earlier_versions_goes_on_with_the_texts_that_it_had(
    tmp_path, monkeypatch, capsys
):
    counts, init = [], ClassifyTrainer.__init__

    def noted(self, model, tokenizer, task, config, **named):
        counts.append(len(task.train[0]) + len(task.test[0]))
        init(self, model, tokenizer, task, config, **named)

    monkeypatch.setattr(ClassifyTrainer, "__init__", noted)
    run = playout.classify(BASE, LABELLED, run=tmp_path / "run", **FEW)
    assert "12 of 24 texts are repeated, and count once" in capsys.readouterr().err
    playout.resume(run, quiet=True)
    as_before(run, "each_once")
    playout.resume(run, quiet=True)
    assert counts[::2] == [12, 12, 24] == counts[1::2]


def test_help_says_what_is_required(capsys):
    with pytest.raises(SystemExit):
        main(["rlhf", "classify", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--base RUN" in said and "(required; --from has one)" in said
    assert "(required) Run" not in said


def test_a_quantised_model_is_not_trained_by_its_gains_alone(tmp_path):
    model, tokenizer = load_model(BASE, ["pretrain"])
    hold_weights(model.requires_grad_(False), held_type("int8"))
    export_model(tmp_path / "int8", model, tokenizer)
    with pytest.raises(ConfigError, match="int8 is quantised and cannot learn; name what it was"):
        playout.classify(tmp_path / "int8", LABELLED, run=tmp_path / "run", **FEW)
    assert not (tmp_path / "run").exists()


def test_f1_is_that_of_the_rarest_class_which_is_held_out_at_all():
    task = TextTask(
        (["a"] * 4, [0, 1, 2, 2]), (["a"] * 5, [1, 1, 2, 2, 2]), ("none", "few", "many")
    )
    right = measure_predictions(np.eye(3)[[1, 1, 2, 2, 2]], task)
    assert right == {"accuracy": 1.0, "f1": 1.0}
    assert measure_predictions(np.eye(3)[[1, 2, 2, 2, 2]], task)["f1"] == pytest.approx(2 / 3)


def test_ratings_of_which_none_lie_apart_are_told_without_nan(tmp_path, capsys):
    near = [
        {"text": f"{a} or {b} ?", "rating": n % 2 / 2} for a in WORDS for n, b in enumerate(WORDS)
    ]
    run = playout.classify(BASE, near, run=tmp_path / "run", **(FEW | {"steps": 1}))
    said = capsys.readouterr().out
    assert said.count("told") == 3 and "nan" not in said
    table = json.loads((run.path / "table.json").read_text())
    assert all(row["far_pair_accuracy"] is None for row in table)
    assert "<td></td>" in _tables({"judge": {}, "best_of_n": [], "classify_table": table})


def test_ratings_that_are_all_the_same_are_refused():
    same = [Rated("a", (1.0, 3.0)), Rated("b", (2.0,))]
    with pytest.raises(DataError, match="every text has the rating 2; there is nothing"):
        make_task(same, same)
    task = make_task([*same, Rated("c", (5.0,))], same)  # only those that are held out
    rows = [
        measured_row("stars", model, np.arange(2.0), task)
        for model in ("tf-idf", "scratch", "pretrained")
    ]
    alike = "Nothing is told of stars: its held-out texts are all rated alike."
    assert of_classification(rows) == [alike]
    assert of_classification([row | {"pair_accuracy": None} for row in rows]) == [alike]

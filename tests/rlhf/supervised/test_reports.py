"""Reports of users: labels with their sides, decisions by a paired test, a stream of new spam."""

import json

import numpy as np
import playout
import pytest
import torch
from playout import cli
from playout.agents.runs.directory import RunDir
from playout.errors import ConfigError, DataError
from playout.rlhf.data import synthetic
from playout.rlhf.data.records import Labelled, read_labelled
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import export_model
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.reports import Kept, added, decision

CLASSES = ("ham", "spam")


def kept(count, *, report=0, held=True):
    return [Kept(f"text {report} {n}", CLASSES[n % 2], held, report) for n in range(count)]


def scores(labels, wrong):
    """Scores that name every label but those whose places are given."""
    found = np.zeros((len(labels), 2))
    for row, one in enumerate(labels):
        right = CLASSES.index(one.label)
        found[row, 1 - right if row in wrong else right] = 1
    return found


def test_a_report_overrules_a_label_and_a_known_text_keeps_its_side():
    labels = [Kept("Buy now", "ham", True), Kept("hello", "ham", False), Kept("win", "spam", False)]
    reports = [Labelled("buy  NOW", "spam"), *(Labelled(f"new {n}", "spam") for n in range(200))]
    found = added(labels, reports)
    assert found[0] == Kept("Buy now", "spam", True, 1)
    assert found[1:3] == labels[1:] and len(found) == 203
    held = sum(one.held_out for one in found[3:])
    assert 40 < held < 80 and {one.report for one in found[3:]} == {1}
    again = added(found, [Labelled("hello", "spam")])
    assert again[1].report == 2 and again[1].label == "spam" and not again[1].held_out


def test_reports_that_contradict_or_name_no_class_are_refused(tmp_path):
    labels = kept(4)
    with pytest.raises(DataError, match=r"report 1: the label 'eggs' is none of ham, spam"):
        added(labels, [Labelled("a", "eggs")])
    with pytest.raises(DataError, match="report 2: another report says 'spam'"):
        added(labels, [Labelled("a b", "spam"), Labelled("A  b", "ham")])
    file = tmp_path / "reports.jsonl"
    file.write_text('{"text": "a", "label": "ham"}\n\n{"text": "b", "label": "eggs"}\n')
    with pytest.raises(DataError, match=r"reports.jsonl, line 3: the label 'eggs' is none"):
        added(labels, read_labelled(file))


def test_reports_that_are_all_held_out_are_refused_before_anything_is_learned():
    labels = [*kept(4), *kept(4, report=0, held=False)]
    alone = dict.fromkeys(range(40))
    for number in alone:
        try:
            alone[number] = added(labels, [Labelled(f"new {number}", "spam")])
        except ConfigError as error:
            assert "nothing would be learned from the reports: all of their texts" in str(error)
    refused = [number for number, found in alone.items() if found is None]
    assert 3 < len(refused) < 30
    assert not any(found[-1].held_out for found in alone.values() if found is not None)
    with pytest.raises(ConfigError, match="nothing would be learned"):
        added([Kept("a", "ham", True), Kept("b", "spam", False)], [Labelled("a", "spam")])


def test_it_is_adopted_for_what_it_gains_and_kept_for_what_it_may_lose():
    labels = [*kept(400), *kept(20, report=1)]
    reports, others = range(400, 420), range(400)
    before = scores(labels, {*reports})
    found = decision(before, scores(labels, set()), labels, CLASSES, batch=1)
    assert found["adopt"] and found["reports"]["after"] == 1 and found["reports"]["p"] < 1e-4
    assert found["others"]["difference"] == 0 and found["others"]["texts"] == 400
    loses = decision(before, scores(labels, {*others[:40]}), labels, CLASSES, batch=1)
    assert not loses["adopt"] and "elsewhere" in loses["why"]
    chance = decision(before, scores(labels, {*reports[:17]}), labels, CLASSES, batch=1)
    assert not chance["adopt"] and "chance" in chance["why"]
    worse = decision(scores(labels, set()), before, labels, CLASSES, batch=1)
    assert not worse["adopt"] and "no more often" in worse["why"]
    with pytest.raises(ConfigError, match="too few"):
        decision(before[:400], before[:400], labels[:400], CLASSES, batch=1)


def test_reports_that_nobody_held_out_are_not_judged_by_those_of_an_earlier_batch():
    labels = added(kept(40), [Labelled(f"new {n}", "spam") for n in range(30)])
    known = [one for one in labels if one.report == 1 and not one.held_out][:10]
    labels = added(labels, [Labelled(one.text, "ham") for one in known])
    held = [one for one in labels if one.held_out]
    asked = scores(held, set())
    assert decision(asked, asked, held, CLASSES, batch=1)["reports"]["texts"] >= 3
    with pytest.raises(ConfigError, match="none of the reports is held out"):
        decision(asked, asked, held, CLASSES, batch=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small model that has read nothing."""
    texts = [item.text for item in synthetic.labelled(300)]
    tokenizer = Tokenizer.train(texts, vocab_size=320)
    config = TransformerConfig(
        tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=64,
        pad_token_id=tokenizer.pad_id, bos_token_id=tokenizer.end_id,
        eos_token_id=tokenizer.end_id,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("base") / "model"
    export_model(folder, Transformer(config, seed=0), tokenizer)
    return folder


def rows_file(path, rows):
    lines = (json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    path.write_text("".join(lines))
    return str(path)


def new_spam(count, seed):
    """Messages of a kind that nobody has sent before, and harmless ones that resemble them."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        name = ("ann", "bob", "cy", "dora", "eve", "fred", "gus", "hal")[int(rng.integers(8))]
        thing, hour = ("parcel", "box", "letter")[int(rng.integers(3))], int(rng.integers(1, 13))
        found.append((f"see you at {hour} dear {name} , open the {thing} and pay", "spam"))
        found.append((f"see you at {hour} dear {name} , open the {thing} and eat", "ham"))
    return found


@pytest.mark.slow
def test_a_stream_of_new_spam_is_learned_from_reports_and_the_old_kind_is_not_forgotten(
    base, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    first = [(item.text, item.label) for item in synthetic.labelled(400)]
    labelled = rows_file(tmp_path / "first.jsonl", first)
    learn = ["rlhf", "classify", "--steps", "60", "--learning-rate", "4e-3", "--dtype", "float32"]
    learn += ["--size", "tiny", "--quiet"]
    words = [*learn, "--base", str(base), "--data", labelled, "--run", "one"]
    assert cli.main(words) == 0
    day = new_spam(40, 1)
    before = playout.load("one").act([text for text, _ in day])
    missed = sum(a != label for a, (_, label) in zip(before, day, strict=True))
    assert missed >= 20
    reports = rows_file(tmp_path / "reports.jsonl", day)
    capsys.readouterr()
    words = ["rlhf", "classify", "--from", "one", "--reports", reports, "--run", "two", "--quiet"]
    assert cli.main([*words, "--dtype", "float32"]) == 0
    said = capsys.readouterr().out
    assert "held-out reports" in said and "adopt two" in said
    found = json.loads((tmp_path / "two" / "decision.json").read_text())
    assert found["adopt"] and found["reports"]["after"] > found["reports"]["before"] + 0.2
    assert found["others"]["after"] >= found["others"]["before"] - 0.05
    # The next day's spam of the same kind, which nobody has reported.
    fresh = new_spam(40, 2)
    after = playout.load("two").act([text for text, _ in fresh])
    assert sum(a == label for a, (_, label) in zip(after, fresh, strict=True)) > 70
    assert RunDir.open("two").config["learning_rate"] == 4e-3  # taken over
    # And on it goes: a second batch of reports over the first.
    more = rows_file(tmp_path / "more.jsonl", new_spam(20, 3))
    words = ["rlhf", "classify", "--from", "two", "--reports", more, "--run", "three", "--quiet"]
    assert cli.main([*words, "--steps", "4", "--dtype", "float32"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "three" / "labelled.jsonl").open()]
    assert {row["report"] for row in rows} == {0, 1, 2}
    assert cli.main(["rlhf", "score", "two", "--texts", more]) == 0
    assert cli.main(["rlhf", "score", "two", "--texts", more, "--weights", "nf4"]) == 2
    told = capsys.readouterr()
    assert "spam" in told.out and "held in float32" in told.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "x"], "--from RUN --reports FILE"),
        (["--reports", "x"], "--from RUN --reports FILE"),
        (["--from", "gone", "--reports", "x"], "gone does not exist"),
        (["--from", "x", "--reports", "y", "--labelled", "z"], "leave out --labelled"),
    ],
)
def test_what_cannot_be_learned_from_is_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["rlhf", "classify", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()

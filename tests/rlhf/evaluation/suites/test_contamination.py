"""Planted leaks are found, wording that all questions share is not one, against a plain search."""

import json
import re
from pathlib import Path

import numpy as np
from playout.agents.runs.directory import RunDir
from playout.rlhf.data import corpora
from playout.rlhf.data.curation.curate import Filters, curate
from playout.rlhf.data.datasets import Datasets
from playout.rlhf.data.records import read_texts
from playout.rlhf.evaluation.suites.contamination import GRAM, contamination
from playout.rlhf.evaluation.suites.material import training_text
from playout.rlhf.evaluation.suites.results import clean_part, summary
from playout.rlhf.evaluation.suites.score import Answers
from playout.rlhf.evaluation.suites.suite import Passage, Suite
from playout.rlhf.evaluation.suites.tasks.catalogue import Material, find_suite
from playout.rlhf.evaluation.suites.tasks.formats import read_mmlu


def words(rng, count, size=5000):
    return " ".join(f"w{n}" for n in rng.integers(0, size, count))


def plain(questions, training):
    """Whether 13 words in a row of a question, or all of a shorter one, stand in some text."""
    texts = [re.findall(r"\w+", text.lower()) for text in training]
    found = []
    for question in questions:
        own = re.findall(r"\w+", question.lower())
        size = min(GRAM, len(own))
        runs = {tuple(own[n : n + size]) for n in range(len(own) - size + 1)}
        found.append(
            any(tuple(t[n : n + size]) in runs for t in texts for n in range(len(t) - size + 1))
        )
    return found


def test_planted_leaks_are_found_wherever_they_stand():
    rng = np.random.default_rng(0)
    questions = [words(rng, n) for n in (30, 30, 13, 8, 30, 30)]
    training = [words(rng, 400) for _ in range(50)]
    part = " ".join(questions[0].split()[5:18])
    training[7] = training[7][:200] + f"! {part.upper()}, " + training[7]
    training[20] = questions[2]
    training[30] += " " + questions[3]
    # Twelve words are one too few.
    training[40] += " " + " ".join(questions[5].split()[:12])
    found = contamination(questions, training)
    assert found.leaked.tolist() == [True, False, True, True, False, False]
    assert found.leaked.tolist() == plain(questions, training)
    assert found.texts == 50 and found.told.all()


def test_a_short_question_is_found_without_its_options(tmp_path):
    (tmp_path / "old_test.csv").write_text(
        "".join(f"Who was the {n}th ruler of the isle?,A{n},B{n},C{n},D{n},B\n" for n in range(40))
        + "Which of these is right here?,1,2,3,4,A\n" * 40
    )
    suite = read_mmlu(tmp_path)
    answers = Answers(np.ones(80), np.ones(80), np.ones(80), np.ones(80))
    text = (
        "Quiz! Who was the 7th ruler of the isle? It was B7, a question as hard as any other one."
    )
    found = clean_part(suite, answers, [text, "which of these is right here: 1 or 2?"])
    assert found["leaked"] == 1  # what many questions ask is no leak of a single one
    assert contamination([item.text for item in suite.items], [text]).leaked.sum() == 0


def test_a_question_with_a_word_changed_here_and_there_is_a_near_duplicate():
    rng = np.random.default_rng(1)
    question = words(rng, 60).split()
    changed = list(question)
    changed[11] = changed[24] = changed[36] = changed[48] = "other"
    # Four changed words break at most 20 of 56 runs of five.
    far = contamination([" ".join(question)], [" ".join(changed)])
    assert not far.leaked.any() and not far.near.any()
    changed[24], changed[48] = question[24], question[48]
    near = contamination([" ".join(question)], [" ".join(changed)])
    assert near.near.tolist() == [True] and near.dirty.all()


def test_wording_that_many_questions_share_is_no_leak():
    rng = np.random.default_rng(2)
    rules = words(rng, 40)
    questions = [f"{rules} {words(rng, 15)}" for _ in range(60)]
    found = contamination(questions, [rules, f"{rules} and more", questions[3]])
    assert np.flatnonzero(found.leaked).tolist() == [3]


def test_questions_of_a_few_words_are_not_looked_for():
    found = contamination(["two plus two", ""], ["two plus two is four"])
    assert not found.told.any() and not found.dirty.any()
    assert contamination(["a b c d e f"], []).texts == 0


def test_leaks_in_each_corpus_of_a_mixture_are_found(tmp_path):
    rng = np.random.default_rng(3)
    shares = []
    for name in ("a", "b"):
        texts = [words(rng, 30) for _ in range(60)]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(texts))
        shares.append(f"{tmp_path / name}.txt:0.5")
    config = {"corpus": ",".join(shares), "text": [], "data": "auto", "material": "files"}
    RunDir.create(tmp_path / "run", kind="rlhf.pretrain", config=config, seed=0)
    read = training_text(tmp_path / "run")
    assert not read.unknown and len(read.train) + len(read.heldout) == 120
    learned = [text for text in read.train if text in (tmp_path / "b.txt").read_text()]
    assert learned and contamination(learned[:1], read.train).leaked.all()
    # What is held out is known by its corpus, and a byte of each is told of.
    assert list(read.corpora) == [f"{tmp_path / name}.txt" for name in ("a", "b")]
    suite = find_suite("bytes", Material(read.corpora))
    for name, texts in read.corpora.items():
        assert texts and not set(texts) & set(read.train)
        assert all(text in Path(name).read_text() for text in texts)
        assert [item.text for item in suite.items if item.group == name] == texts
    bits = np.arange(len(suite.items), dtype=np.float64)
    found = summary(suite, Answers(bits, num_bytes=np.full(len(bits), 2.0)))["groups"]
    split = len(read.corpora[f"{tmp_path / 'a'}.txt"])
    for row, part in zip(found.values(), (bits[:split], bits[split:]), strict=True):
        assert row["items"] == len(part) and row["value"] == part.mean() / 2
        assert row["interval"][0] < row["value"] < row["interval"][1]
    lone = Suite(name="s", items=(Passage("a", "x"), Passage("b", "y"), Passage("c", "y")))
    found = summary(lone, Answers(bits[:3], num_bytes=np.full(3, 2.0)))["groups"]
    assert found["x"]["interval"] is None and found["y"]["interval"]


def test_of_a_corpus_by_name_only_what_is_always_held_out_is_asked(monkeypatch):
    texts = [words(np.random.default_rng(n), 12) for n in range(50)]
    monkeypatch.setattr(corpora, "texts", lambda name: texts if name == "tweets" else [])
    train, held = Datasets("files").texts(("tweets",))
    suite = find_suite("bytes:tweets", Material())
    assert held and train and [item.text for item in suite.items] == held


def test_every_turn_of_a_demonstration_was_learned_from(tmp_path):
    rng = np.random.default_rng(8)
    turns = [words(rng, 20) for _ in range(4)]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"turns": turns}) + "\n")
    config = {"data": f"{tmp_path / 'rows.jsonl'}", "material": "files"}
    RunDir.create(tmp_path / "run", kind="rlhf.sft", config=config, seed=0)
    read = training_text(tmp_path / "run")
    assert not read.unknown and contamination(turns, read.train).leaked.all()


def filtered_run(folder, texts, **settings):
    """A run of pretraining on texts of a file, as far as its settings tell."""
    (folder / "texts.txt").write_text("\n\n".join(texts))
    config = {"text": [f"{folder / 'texts.txt'}"], "data": "auto", "material": "files", **settings}
    return RunDir.create(folder / "run", kind="rlhf.pretrain", config=config, seed=5)


def test_texts_that_the_filters_of_a_run_left_out_were_not_seen(tmp_path):
    rng = np.random.default_rng(4)
    texts = [words(rng, 40) for _ in range(80)] + [words(rng, 14) for _ in range(20)]
    run = filtered_run(tmp_path, texts, min_words=20, quality="none", dedup="near", near=0.8)
    read = training_text(run.path)
    short = [text for text in texts[80:] if text not in read.heldout]
    learned = [text for text in texts[:80] if text not in read.heldout]
    assert short and learned and not read.unknown
    assert sorted(read.train) == sorted(learned)
    assert not contamination(short, read.train).dirty.any()
    assert contamination(learned, read.train).leaked.all()
    # Without filters, as runs of earlier versions have none, all was learned from.
    plain_run = {"text": run.config["text"], "data": "auto", "material": "files"}
    RunDir.create(tmp_path / "plain", kind="rlhf.pretrain", config=plain_run, seed=5)
    assert sorted(training_text(tmp_path / "plain").train) == sorted(learned + short)


def test_the_draw_by_likeness_is_made_again_as_the_run_made_it(tmp_path):
    rng = np.random.default_rng(5)
    texts = [words(rng, 30, size=200) for _ in range(100)]
    (tmp_path / "like.txt").write_text("\n\n".join(words(rng, 30, size=20) for _ in range(5)))
    like = {"like": f"{tmp_path / 'like.txt'}", "like_share": 0.3}
    run = filtered_run(tmp_path, texts, **like)
    train, held = Datasets("files").texts((f"{tmp_path / 'texts.txt'}",))
    examples = read_texts(like["like"])
    filters = Filters(like_share=0.3)
    kept = curate(train, filters, heldout=held, examples=examples, seed=5).kept
    assert 0 < kept.sum() < len(train)
    expected = [text for text, stays in zip(train, kept, strict=True) if stays]
    assert training_text(run.path).train == expected
    # What cannot be left out again counts as seen, which is said.
    (tmp_path / "like.txt").unlink()
    read = training_text(run.path)
    assert read.train == train and "filters of" in read.unknown


def test_filters_that_leave_another_number_of_texts_than_in_training_are_named(tmp_path):
    rng = np.random.default_rng(6)
    texts = [words(rng, 10 + n % 20) for n in range(100)]
    run = filtered_run(tmp_path, texts, min_words=15)
    read = training_text(run.path)
    counts = {"texts": 100 - len(read.heldout), "kept": len(read.train)}
    run.update(curation=counts)
    assert not training_text(run.path).unknown
    run.update(curation=counts | {"kept": 7})
    assert "are others than when it learned" in training_text(run.path).unknown

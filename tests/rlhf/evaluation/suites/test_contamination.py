"""Planted leaks are found, wording that all questions share is not one, against a plain search."""

import re

import numpy as np
from playout.agents.runs.directory import RunDir
from playout.rlhf.evaluation.suites.contamination import GRAM, contamination
from playout.rlhf.evaluation.suites.material import training_text


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

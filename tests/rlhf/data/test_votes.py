"""Votes: fetched and pinned, read with their voters, divided so that a judge is independent."""

import hashlib
import json

import pytest
from playout.agents.runs.checkpoint.cache import cache_folder
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import DataError
from playout.rlhf.data import downloads
from playout.rlhf.data.downloads import FileSet, fetch_files, votes_source
from playout.rlhf.data.records import Preference, merge_votes, read_preferences, read_votes
from playout.rlhf.data.rows import write_rows
from playout.rlhf.data.votes import divide_votes, vote_rows
from playout.rlhf.evaluation.suites.material import training_text
from playout.rlhf.model.folder import export_model
from small_language import chat_tokenizer, small_model

CROWD = {
    "prompts.jsonl": '{"id": 1, "text": "Hello?"}\n{"id": 2, "text": "Why?"}\n',
    "results.jsonl": "".join(
        json.dumps({"prompt": prompt, "model": model, "result": f"{model} to {prompt}"}) + "\n"
        for prompt in (1, 2)
        for model in (5, 6)
    ),
    "crowd-comparisons.csv": "id,prompt,model_x,model_y,worker,winner\n"
    "0,1,5,6,ann,left\n0,1,5,6,bob,tie\n1,2,6,5,ann,right\n1,2,6,5,bob,right\n",
}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A set of files at an address of this machine, and an empty cache."""
    there = tmp_path / "there"
    there.mkdir()
    for name, text in CROWD.items():
        (there / name).write_text(text)
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in CROWD.items()}
    found = FileSet("llmfao", f"{there.as_uri()}/", digests, "CC BY 4.0", "people")
    monkeypatch.setitem(downloads.FILE_SETS, "llmfao", found)
    monkeypatch.setenv("PLAYOUT_CACHE", str(tmp_path / "cache"))
    return there


def test_votes_are_fetched_once_and_credited_and_read_with_their_voters(published, capsys):
    folder = votes_source("llmfao")
    assert "people. Licence: CC BY 4.0" in capsys.readouterr().err
    votes = read_votes(folder)
    assert [vote.voter for vote in votes] == ["ann", "bob", "ann", "bob"]
    assert votes[0] == Preference("Hello?", "5 to 1", "6 to 1", 1.0, 0.0, 0.0, voter="ann")
    assert read_preferences(folder) == merge_votes(votes)
    for path in published.iterdir():
        path.unlink()
    assert votes_source("llmfao") == folder and capsys.readouterr().err == ""


def test_a_changed_or_missing_file_of_votes_is_refused_in_a_line(published):
    (published / "results.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"^file://.*/results\.jsonl has sha256 .*on the way$"):
        fetch_files("llmfao")
    (published / "results.jsonl").unlink()
    with pytest.raises(DataError, match=r"cannot be fetched.*put prompts\.jsonl, .* into .*llmfao"):
        fetch_files("llmfao")
    folder = cache_folder() / "downloads" / "llmfao"
    for name, text in CROWD.items():
        (folder / name).write_text(text)  # as somebody without a network puts them there
    assert fetch_files("llmfao") == folder
    (folder / "prompts.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"has sha256 .*delete it and try again"):
        fetch_files("llmfao")


def test_a_full_cache_that_cannot_be_written_is_read(published, monkeypatch):
    def refused(**_):
        raise OSError(30, "Read-only file system")

    folder = fetch_files("llmfao")
    monkeypatch.setattr(downloads.tempfile, "TemporaryDirectory", refused)
    assert fetch_files("llmfao") == folder
    (folder / "prompts.jsonl").unlink()
    with pytest.raises(DataError, match="cannot be written: Read-only file system"):
        fetch_files("llmfao")


def test_stages_take_votes_by_name_and_say_why_there_are_none(
    published, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tokenizer = chat_tokenizer("chatml")
    export_model(tmp_path / "model", small_model(tokenizer), tokenizer)
    words = ["--base", "model", "--preferences", "llmfao", "--steps", "1", "--quiet"]
    words += ["--dtype", "float32", "--batch", "2", "--threads", "1"]
    kept = (published / "results.jsonl").read_text()
    (published / "results.jsonl").unlink()
    for stage in ("reward", "dpo"):
        assert main(["rlhf", stage, *words, "--run", stage]) == 2
        assert "results.jsonl cannot be fetched" in capsys.readouterr().err
        assert not (tmp_path / stage).exists()
    (published / "results.jsonl").write_text(kept)
    for stage in ("reward", "dpo"):
        assert main(["rlhf", stage, *words, "--run", stage]) == 0
        assert RunDir.open(tmp_path / stage).config["preferences"] == "llmfao"
    learned = training_text(tmp_path / "dpo")
    assert learned.stages == ["dpo"] and any("5 to 1" in text for text in learned.train)


def votes_of(prompts, voters, per=3):
    return [
        Preference(f"prompt {p}", f"good {p} {v} {n}", f"bad {p} {v} {n}", voter=v)
        for p in range(prompts)
        for v in voters
        for n in range(per)
    ]


def test_the_judge_shares_neither_voters_nor_prompts_with_the_reward_model():
    votes, told = votes_of(13, "abcdefgh"), []
    found = divide_votes(votes, tell=told.append)
    sides = [{vote.voter for vote in side} for side in (found.reward, found.judge)]
    assert not sides[0] & sides[1] and len(sides[0]) == len(sides[1]) == 4
    assert len(found.heldout) == 4 and len(found.prompts) == 9
    assert {vote.prompt for vote in found.reward} == set(found.prompts)
    assert {vote.prompt for vote in found.judge} == {*found.prompts, *found.heldout}
    assert told == ["108 votes for the reward model, 156 of 4 of 8 voters for the judge; 4 of 13 "
                    "prompts are held out"]  # fmt: skip
    assert divide_votes(votes) == found
    assert divide_votes(votes[::-1]).heldout == found.heldout[::-1]


def test_votes_without_voters_are_divided_by_prompts():
    votes = votes_of(10, [""])
    votes += [Preference("prompt 0", "x", "x"), Preference("prompt 0", "x", " ")]
    told = []
    found = divide_votes(votes, tell=told.append)
    assert {vote.prompt for vote in found.reward} == set(found.prompts)
    assert {vote.prompt for vote in found.judge} == set(found.heldout)
    assert len(found.reward) + len(found.judge) == 30
    assert told[0].startswith("2 of 32 votes are left out") and not found.by_voters


def test_votes_of_nobody_are_left_out_where_others_are_named():
    named, told = votes_of(10, "abcd"), []
    found = divide_votes(named + votes_of(11, [""]), tell=told.append)
    assert found == divide_votes(named) and found.by_voters
    assert told[0].startswith("33 of 153 votes are left out: they do not say whose they are")
    assert not divide_votes(votes_of(10, ["", "a"])).by_voters


@pytest.mark.parametrize(
    ("votes", "said"),
    [
        (votes_of(1, "ab"), "two prompts at least"),
        ([], "two prompts at least"),
        # p is held out, as follows from its name, and y leaves the reward model nothing else.
        ([Preference("p", "a", "b", voter="y"), Preference("q", "a", "b", voter="x")], "too few"),
    ],
)
def test_votes_that_leave_a_side_empty_are_refused(votes, said):
    with pytest.raises(DataError, match=said):
        divide_votes(votes)


def test_votes_come_back_from_their_file(tmp_path):
    votes = [
        Preference("p", "a", "b", 1.0, 0.0, 0.0, voter="x"),
        Preference("p", "a", "c", 0.0, 1.0, 0.0),
        Preference("p", "b", "c", 0.0, 0.0, 1.0),
        Preference("p", "d", "e", margin=0.5),
    ]
    write_rows(tmp_path / "votes.jsonl", vote_rows(votes))
    again = read_votes(tmp_path / "votes.jsonl")
    asked = ({"role": "user", "content": "p"},)
    for vote, other in zip(votes, again, strict=True):
        assert other.prompt == asked and other.voter == ""
        for name in ("first", "second", "wins", "losses", "ties", "margin"):
            assert getattr(other, name) == getattr(vote, name)

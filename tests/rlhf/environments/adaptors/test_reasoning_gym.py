"""Datasets of reasoning-gym as environments, against the library's own questions and scores."""

import importlib
import math
import sys

import pytest
from playout.errors import ConfigError
from playout.rlhf.environments.adaptors.reasoning_gym import (
    ReasoningEnvironment,
    evaluates,
    extract,
)
from playout.rlhf.environments.load import load_environment

HOSTILE = "[open({path!r}, 'w')]"
VERIFIERS = """
import re
import sympy


def _number(text):
    return eval(text)


class Plain:
    def score_answer(self, answer, entry):
        return float(re.compile("a").match(answer) is not None)


class Itself:
    def score_answer(self, answer, entry):
        return eval(answer)


class Helper:
    def score_answer(self, answer, entry):
        return self._check(answer)

    def _check(self, answer):
        return max(_number(part) for part in answer.split())


class Symbols:
    @staticmethod
    def _equal(answer):
        return sympy.S(answer) == 1

    def score_answer(self, answer, entry):
        return float(self._equal(answer))


class Ratio:
    def score_answer(self, answer, entry):
        return float(Fraction(answer) == Fraction(entry))


class Generator:
    def generate(self):
        return _number("1 + 1")

    def score_answer(self, answer, entry):
        return float(answer == entry)
"""


def test_what_a_verifier_calls_is_searched_for_evaluation_too(tmp_path, monkeypatch):
    (tmp_path / "made_verifiers.py").write_text(VERIFIERS.replace("import sympy\n", ""))
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("made_verifiers")
    names = ("Plain", "Itself", "Helper", "Symbols", "Ratio", "Generator")
    found = {name for name in names if evaluates(getattr(made, name)().score_answer)}
    assert found == {"Itself", "Helper", "Symbols", "Ratio"}


PARSERS = """
from decimal import Decimal
from fractions import Fraction as Part
import sympy as algebra
from sympy import expand as opened

number_of = algebra.nsimplify


class Verifier:
    def score_answer(self, answer, entry):
        return float(self.read(answer) == entry)

    def read(self, answer):
        return answer


class Module(Verifier):
    def read(self, answer):
        return algebra.Poly(answer)


class Function(Verifier):
    def read(self, answer):
        return opened(answer)


class Renamed(Verifier):
    def read(self, answer):
        return number_of(answer)


class Attribute(Verifier):
    read = staticmethod(algebra.factor)


class Local(Verifier):
    def read(self, answer):
        from sympy.core import evalf

        return evalf.N(answer)


class Exact(Verifier):
    def read(self, answer):
        return Part(answer)


class Whole(Verifier):
    def read(self, answer):
        return int(Decimal(answer))


class Decimals(Verifier):
    def read(self, answer):
        return Decimal(answer)
"""


def test_functions_of_sympy_and_exact_numbers_are_evaluation_by_any_name(tmp_path, monkeypatch):
    (tmp_path / "made_parsers.py").write_text(PARSERS)
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("made_parsers")
    kinds = made.Verifier.__subclasses__()
    found = {kind.__name__ for kind in kinds if evaluates(kind().score_answer)}
    assert found == {kind.__name__ for kind in kinds} - {"Decimals"}
    assert not evaluates(made.Verifier().score_answer)


INHERITED = """
from made_verifiers import Base
from made_helpers import far
from made_helpers.far import also, harmless


class Overrides(Base):
    def read(self, answer):
        return eval(answer)


class Elsewhere(Base):
    def read(self, answer):
        return also(answer)


class ByModule(Base):
    def read(self, answer):
        return far.third(answer)


class Harmless(Base):
    def read(self, answer):
        return harmless(answer)
"""


def test_what_an_inherited_verifier_calls_is_its_own_class_s(tmp_path, monkeypatch):
    base = """
class Base:
    def read(self, answer):
        return answer

    def score_answer(self, answer, entry):
        return float(self.read(answer) == entry)
"""
    package = tmp_path / "made_helpers"
    package.mkdir()
    (package / "verifiers.py").write_text(base)
    far = "def also(x):\n    return eval(x)\n\n\nthird = also\n\n\ndef harmless(x):\n    return x\n"
    (package / "far.py").write_text(far)
    (package / "kinds.py").write_text(INHERITED.replace("made_verifiers", "made_helpers.verifiers"))
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("made_helpers.kinds")
    names = ("Base", "Overrides", "Elsewhere", "ByModule", "Harmless")
    found = {name for name in names if evaluates(getattr(made, name)().score_answer)}
    assert found == {"Overrides", "Elsewhere", "ByModule"}


LAST = {
    "it is .5": ".5", "-.25": "-.25", "1e5": "1e5", "2.5E-3 m": "2.5E-3", "x=-2": "-2",
    "10-3": "3", "(4)-3": "3", "10 - 3": "3", "GPT-4": "4", "3 and -4": "-4",
    "1/2": "1/2", "= -3/4": "-3/4", "12/25/2024": "2024", "v1.5.2": "2", "so ...5": "5",
    "1,000.": "1,000", "1, 2,": "2", "4.": "4",
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "reply", "found"),
    [
        ("whole", " 42 \n", "42"),
        ("whole", "  ", None),
        ("line", "42\nbecause", "42"),
        ("tags", "think <answer>1</answer> no <answer> 42 </answer>", "42"),
        ("tags", "42", None),
        ("last", "first 7, then 1,042.5", "1,042.5"),
        ("last", "none", None),
        *[("last", reply, found) for reply, found in LAST.items()],
    ],
)
def test_the_rule_says_which_part_of_a_reply_counts(rule, reply, found):
    assert extract(reply, rule) == found


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ConfigError, match=r"pip install 'playout\[reasoning\]'"):
        load_environment("reasoning_gym:chain_sum")


@pytest.mark.peer
def test_questions_and_scores_are_the_librarys_own():
    gym = pytest.importorskip("reasoning_gym")
    factory = load_environment("reasoning_gym:chain_sum", {"max_terms": 3, "size": 50, "seed": 5})
    theirs = gym.create_dataset("chain_sum", max_terms=3, size=50, seed=5)
    tasks = factory.tasks("train")
    assert len(tasks) == 50
    assert tasks[7] == theirs[7]
    for reply in (theirs[7]["answer"], f"it is {theirs[7]['answer']}", "nonsense", ""):
        environment = factory()
        assert environment.reset(tasks[7], 0) == theirs[7]["question"]
        step = environment.step(reply)
        assert step.done
        assert step.reward == pytest.approx(theirs.score_answer(reply, theirs[7]))


@pytest.mark.peer
def test_no_held_out_question_is_trained_on_where_there_are_few_of_them():
    pytest.importorskip("reasoning_gym")
    options = {"max_terms": 2, "max_digits": 1, "size": 300, "test_size": 40}
    factory = load_environment("reasoning_gym:chain_sum", options)
    learned = {task["question"] for task in factory.tasks("train")}
    held_out = {task["question"] for task in factory.tasks("test")}
    assert held_out and not learned & held_out


@pytest.mark.peer
def test_several_datasets_take_turns_and_each_scores_its_own():
    pytest.importorskip("reasoning_gym")
    factory = load_environment("reasoning_gym:chain_sum+gcd", {"size": 10, "max_numbers": 2})
    tasks = factory.tasks("train")
    kinds = [task["metadata"]["source_dataset"] for task in tasks]
    assert kinds == ["chain_sum", "gcd"] * 5
    for task in tasks:
        environment = factory()
        environment.reset(task, 0)
        assert environment.step(task["answer"]).reward == 1
        assert environment.metrics() == {"correct": 1.0, "formatted": 1.0}


@pytest.mark.peer
def test_a_system_prompt_makes_a_conversation_in_which_the_tags_count():
    pytest.importorskip("reasoning_gym")
    options = {"system": "direct", "partial": False, "format": 0.25, "level": 0}
    factory = load_environment("reasoning_gym:chain_sum", options)
    task = factory.tasks("test")[0]
    environment = factory()
    prompt = environment.reset(task, 0)
    assert [message["role"] for message in prompt] == ["system", "user"]
    assert environment.step(task["answer"]).reward == 0
    environment = factory()
    environment.reset(task, 0)
    assert environment.step(f"<answer>{task['answer']}</answer>").reward == 1.25


@pytest.mark.peer
@pytest.mark.parametrize("name", ["spiral_matrix", "n_queens", "countdown", "simple_integration"])
def test_a_verifier_that_evaluates_answers_never_gets_code(name, tmp_path):
    pytest.importorskip("reasoning_gym")
    factory = load_environment(f"reasoning_gym:{name}", {"size": 3, "test_size": 3})
    for task in factory.tasks("train"):
        for text in (HOSTILE, "open({path!r}, 'w')", "sympify('open({path!r}, chr(119))')"):
            environment = factory()
            environment.reset(task, 0)
            assert environment.step(text.format(path=str(tmp_path / "written"))).reward < 0.1
    assert not (tmp_path / "written").exists()
    environment = factory()
    environment.reset(task, 0)
    right = task["answer"] or task["metadata"]["example_answer"]
    assert environment.step(right).reward == 1


STRANGE = (
    "", " ", "\0", "\n\n\n", "9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, "1e999999999",
    "1e400", "nan", "-inf", "[nan]", "None", "1/0", "1..2", "1_0", "½", "٣", "５", "\u202e12",
    "\ud800", "🙂" * 200, "[" * 3000, "[" * 3000 + "]" * 3000, "(" * 200 + "1" + ")" * 200,
    "{}" * 99, '{"a": [1, {}]}', "[[1, 2], [3]]", "[]", "{}", "()", "1 " * 5000, "x" * 100_000,
    "\\frac{1}{0}", "x = ", "%s%n", "'", '"', "\\", "lambda: 0", "__import__('os').abort()",
    "import os\nos.abort()", "raise SystemExit",
)  # fmt: skip


@pytest.mark.peer
@pytest.mark.parametrize(
    "name",
    [
        "complex_arithmetic",
        "decimal_chain_sum",
        "family_relationships",
        "fraction_simplification",
        "graph_color",
        "knights_knaves",
        "mini_sudoku",
        "n_queens",
        "polynomial_multiplication",
        "rotate_matrix",
        "spell_backward",
        "time_intervals",
        "tower_of_hanoi",
        "word_ladder",
    ],
)
def test_no_answer_however_strange_breaks_a_verifier_or_leaves_the_scale(name):
    pytest.importorskip("reasoning_gym")
    factory = load_environment(f"reasoning_gym:{name}", {"size": 2, "test_size": 1})
    for task in factory.tasks("train"):
        right = str(task["answer"])
        for text in (*STRANGE, right[:-1], right[1:], right[::-1], right * 50, f"{right}\0"):
            environment = factory()
            environment.reset(task, 0)
            step = environment.step(text)
            assert step.done and 0 <= step.reward <= 1, text[:40]


@pytest.mark.parametrize(
    ("found", "score"),
    [
        (1.0000000000000002, 1.0),
        (-0.5, 0.0),
        (math.nan, 0.0),
        (math.inf, 0.0),
        (None, 0.0),
        (10**400, 0.0),
        (RecursionError(), 0.0),
        (MemoryError(), 0.0),
        (True, 1.0),
        (0.25, 0.25),
    ],
)
def test_a_verifier_that_fails_or_leaves_the_scale_is_no_failure_of_the_run(found, score):
    class Dataset:
        def score_answer(self, answer, entry):
            if isinstance(found, Exception):
                raise found
            return found

    environment = ReasoningEnvironment({"made": Dataset()})
    environment.reset({"question": "?", "answer": "1", "metadata": {"source_dataset": "made"}}, 0)
    assert environment.step("2") == (None, score, True, False)
    assert environment.metrics() == {"correct": float(score == 1), "formatted": 1.0}


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("chain_summ", {}, "did you mean chain_sum"),
        ("composite", {}, "join their names"),
        ("chain_sum", {"max_term": 3}, "no option 'max_term'; it has .*max_terms"),
        ("chain_sum", {"min_terms": 5, "max_terms": 2}, "max_terms must be"),
        ("chain_sum", {"size": 0}, "size must be at least 1"),
        ("chain_sum", {"answer": "all"}, "answer must be whole, line, tags or last"),
        ("arc_1d", {"level": "x"}, "level must be a whole number"),
    ],
)
def test_wrong_names_and_options_are_one_line(name, options, fault):
    pytest.importorskip("reasoning_gym")
    with pytest.raises(ConfigError, match=fault) as caught:
        load_environment(f"reasoning_gym:{name}", options)
    assert "\n" not in str(caught.value)

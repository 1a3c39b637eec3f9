"""Environments by name: a class of one's own, its options and tasks, what is refused."""

import warnings

import numpy as np
import pytest
from playout.errors import ConfigError, EnvironmentFault
from playout.own_code import trust_words
from playout.rlhf.environments import load
from playout.rlhf.environments.checked import CheckedEnvironment
from playout.rlhf.environments.environment import Environment
from playout.rlhf.environments.load import (
    code_of,
    load_environment,
    own_environment,
    read_options,
    trust_language_environment,
)

OWN = """
class Guess:
    def __init__(self, high=10, name="x"):
        self.high = high
    @staticmethod
    def tasks(split):
        return [{"number": n} for n in (1, 2, 3)] if split == "train" else []
    def reset(self, task, seed):
        return f"guess up to {self.high}"
    def step(self, answer):
        return None, float(answer == "3"), True

class Broken:
    def __init__(self):
        raise ValueError("no board")

class Half:
    def reset(self, task, seed):
        return ""

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_class_of_ones_own_is_made_with_its_options_once_an_episode(module):
    factory = load_environment(f"{module}:Guess", read_options("high=20"))
    first, second = factory(), factory()
    assert isinstance(first, Environment) and first is not second
    assert first.reset(None, 0) == "guess up to 20"
    assert [task["number"] for task in factory.tasks("train")] == [1, 2, 3]
    with pytest.raises(ConfigError, match="no tasks for test"):
        factory.tasks("test")


def test_what_is_no_environment_is_refused_in_a_line_that_names_the_fault(module):
    for name, options, message in (
        ("connect_four", {}, "module:Class"),
        (f"{module}:Nothing", {}, "has no Nothing"),
        (f"{module}:number", {}, "neither a class nor a function"),
        (f"{module}:Half", {}, "no method step"),
        (f"{module}:Guess", {"hihg": 3}, "no option 'hihg'; it has high, name"),
        (f"{module}:Broken", {}, rf"ValueError: no board \(.*{module}.py, line 15\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_environment(name, options)
    with pytest.raises(ConfigError, match="key=value"):
        read_options("high")


def test_an_option_with_nothing_behind_it_is_an_empty_text():
    assert read_options("suffix=,size=4") == {"suffix": "", "size": 4}
    assert read_options("size=4, suffix= ") == {"size": 4, "suffix": ""}
    assert read_options("""a="x=, y",b='=',c=""") == {"a": "x=, y", "b": "=", "c": ""}


def test_code_that_only_a_run_names_is_imported_on_a_word_alone(module):
    assert code_of(f"{module}:Guess") == module
    assert code_of("game:connect_four(width=5)") is None
    assert code_of("game:mine:Board(size=3)") == "mine"
    with pytest.raises(ConfigError, match=f"--trust {module}"):
        trust_language_environment(f"{module}:Guess", "runs/x")
    trust_language_environment("game:connect_four", "runs/x")
    for name in (
        "os:system",
        "trl:os:system",
        "trl:never_seen(:x",
        "verifiers:os",
        "verifiers:(never_seen",
        "verifiers:playout.rlhf.environments.load",
        "game:os:system(command=x)",
    ):
        with pytest.raises(ConfigError, match="add --trust"):
            trust_language_environment(name, "runs/x")
    assert trust_words({"env": "game:hex", "reward": "a:f,b:g"}) == " --trust a --trust b"


class Asks:
    """Asks once; what else it does is what a test sets."""

    def reset(self, task, seed):
        return "?"

    def step(self, answer):
        return None, 1.0, True


def asks(**methods):
    return own_environment(type("Odd", (Asks,), methods))


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"step": lambda self, answer: (None, "1", True)}, "the reward is '1', not a number"),
        ({"step": lambda self, answer: (1.0,)}, r"returned 1 values, not \(reply, reward, done\)"),
        ({"step": lambda self: None}, r"step raised TypeError: .* were given$"),
        ({"reset": lambda self, task, seed: None}, "reset returned NoneType, not a text or a list"),
        ({"reset": lambda self, task, seed: ("obs", {})}, "reset returned tuple, not a text or a"),
        ({"reset": lambda self, task, seed: "\ud800"}, "reset returned half a character"),
        ({"answers": lambda self: []}, "answers returned an empty list"),
        ({"answers": lambda self: np.array(["a", "b"])}, "answers returned ndarray, not a list"),
    ],
)
def test_what_breaks_the_contract_is_said_in_the_environments_own_words(methods, message):
    held = CheckedEnvironment(asks(**methods))
    with pytest.raises(EnvironmentFault, match=message):
        assert held.reset(None, 0) == "?"
        held.answers()
        held.step("a")


def test_an_asynchronous_step_is_named_and_leaves_no_warning():
    async def step(self, answer):
        return None, 1.0, True

    held = CheckedEnvironment(asks(step=step))
    held.reset(None, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EnvironmentFault, match="step is asynchronous"):
            held.step("a")


def test_tasks_may_come_one_by_one_but_have_an_end(monkeypatch):
    def tasks(make):
        return asks(tasks=staticmethod(lambda split: make())).tasks("train")

    assert tasks(lambda: (n for n in range(3))) == [0, 1, 2] and tasks(lambda: None) is None
    monkeypatch.setattr(load, "MAX_TASKS", 1000)
    for make, message in (
        (lambda: iter(int, 1), "more than 1000 tasks"),
        (lambda: iter(()), "no tasks for train"),
        (lambda: 5, "should be a list: TypeError: 'int' object is not iterable$"),
        (lambda: exit(3), r"should be a list: SystemExit: 3 \(.*test_language_environments"),
    ):
        with pytest.raises(ConfigError, match=message):
            tasks(make)

"""Environments by name: a class of one's own, its options and tasks, what is refused."""

import random
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


def test_a_text_called_none_is_written_in_quotes():
    class Kinds(Asks):
        def __init__(self, kind: str = "usual", other: str | None = "x", last: str = None):  # noqa: RUF013
            self.kind = kind

    assert own_environment(Kinds, options=read_options("kind='none'"))().kind == "none"
    own_environment(Kinds, options=read_options("other=none,last=none"))
    with pytest.raises(
        ConfigError, match=r"'kind' is a text, .* as None; the word is kind='none'$"
    ):
        own_environment(Kinds, options=read_options("kind=none"))


def test_options_that_are_too_long_to_be_read_are_no_game():
    assert read_options(f"text={'y' * 900}") == {"text": "y" * 900}
    with pytest.raises(ConfigError, match=r"^options: the text has 1,205 characters, and at most"):
        read_options(f"text={'y' * 1200}")


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
        ({"answers": lambda self: ["a", ""]}, "answers returned a list with an empty text, not a"),
        ({"answers": lambda self: ["a", 7]}, "answers returned a list with 7, not a list of texts"),
        ({"step": lambda self, answer: (None, 10**400, True)}, "the reward is inf"),
        ({"step": lambda self, answer: (None, {"a": -1e300}, True)}, r"is -1e\+300, which is too"),
    ],
)
def test_what_breaks_the_contract_is_said_in_the_environments_own_words(methods, message):
    held = CheckedEnvironment(asks(**methods))
    with pytest.raises(EnvironmentFault, match=message):
        assert held.reset(None, 0) == "?"
        held.answers()
        held.step("a")


def test_an_episode_changes_its_own_task_only():
    def reset(self, task, seed):
        random.shuffle(task["choices"])
        task["seen"][0] += 1
        return " ".join([task.pop("head"), *task["choices"], str(task["seen"])])

    task = {"head": "pick", "choices": [*"abcdefgh"], "seen": np.zeros(2, int)}
    factory = asks(reset=reset)
    first, second = (CheckedEnvironment(factory).reset(task, 5) for _ in range(2))
    assert first == second and first.startswith("pick ") and first.endswith("[1 0]")
    assert task["head"] == "pick" and task["choices"] == [*"abcdefgh"]


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
        (lambda: "abc", r"tasks\('train'\) returned 'abc', not a list$"),
        (lambda: {"train": [1]}, r"tasks\('train'\) returned dict, not a list$"),
        (lambda: {"a", "b"}, "returned set, not a list: a set has no order that another run"),
    ):
        with pytest.raises(ConfigError, match=message):
            tasks(make)

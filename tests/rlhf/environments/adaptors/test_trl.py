"""Classes in TRL's shape as environments; with TRL, the tools that it would find."""

import functools
import inspect
import json
from collections.abc import Sequence
from typing import Annotated, Literal, Optional

import pytest
from playout.errors import ConfigError
from playout.rlhf.environments.adaptors.trl import ToolEnvironment, tool_schema, tools_of
from playout.rlhf.environments.load import load_environment

OWN = '''
class Counter:
    """Counts to a number."""

    def __init__(self, start: int = 0):
        self.start = start

    def reset(self, target=3, **row):
        self.count, self.target = self.start, target
        return f" Count to {target}."

    def add(self, amount: int) -> str:
        """Add to the count.

        Args:
            amount: How much to add.
        """
        self.count += amount
        return f"now {self.count}"

    async def look(self) -> str:
        """Say the count."""
        return str(self.count)

    def get_reward(self) -> float:
        return float(self.count == self.target)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return name


def call(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def test_tools_are_called_until_a_reply_calls_none_and_the_object_gives_the_reward(module):
    environment = load_environment(f"trl:{module}:Counter", {"start": 1})()
    prompt = environment.reset({"target": 4, "prompt": [{"role": "user", "content": "Go."}]}, 0)
    assert prompt[0]["role"] == "system" and '"name": "add"' in prompt[0]["content"]
    assert prompt[1] == {"role": "user", "content": "Go. Count to 4."}
    step = environment.step(f"first {call('add', amount=2)}{call('look')}")
    assert step.reply == (
        "<tool_response>\nnow 3\n</tool_response>\n<tool_response>\n3\n</tool_response>"
    )
    assert not step.done
    environment.step(call("add", amount=1))
    step = environment.step("done")
    assert step.done and step.reward == 1
    assert environment.metrics() == {"calls": 2.0, "failed_calls": 0.0}


def test_parameters_have_their_kinds_where_annotations_are_kept_as_text(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trl_kinds.py").write_text(
        "from __future__ import annotations\n"
        "def add(self, a: int, b: float = 1.0, c: bool = False): ...\n"
        "def seek(self, a: Missing): ...\n"
    )
    later = __import__("trl_kinds")

    def kinds(tool):
        found = tool_schema(tool)["function"]["parameters"]["properties"]
        return {name: kind["type"] for name, kind in found.items() if name != "self"}

    assert kinds(later.add) == {"a": "integer", "b": "number", "c": "boolean"}
    assert kinds(later.seek) == {"a": "string"}


def test_kinds_with_kinds_inside_are_said_as_chat_templates_know_them():
    def tool(
        a: list[int],
        b: int | None = None,
        c: dict | None = None,
        d: Optional[dict[str, float]] = None,  # noqa: UP045
        e: Literal["x", "y"] = "x",
        f: int | str = 0,
        g: Sequence[list[str]] = (),
        h: tuple[int, str] = (0, ""),
        i: Annotated[bool, "a word"] = False,
        j: [int] = None,
    ): ...

    expected = {
        "a": {"type": "array", "items": {"type": "integer"}},
        "b": {"type": "integer", "nullable": True},
        "c": {"type": "object", "nullable": True},
        "d": {"type": "object", "additionalProperties": {"type": "number"}, "nullable": True},
        "e": {"type": "string", "enum": ["x", "y"]},
        "f": {"type": ["integer", "string"]},
        "g": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        "h": {"type": "array"},
        "i": {"type": "boolean"},
        "j": {"type": "string"},
    }
    assert tool_schema(tool)["function"]["parameters"]["properties"] == expected


def test_properties_that_need_an_episode_are_no_tools_and_are_not_looked_into():
    class Keeper:
        def __init__(self):
            self.items = {}

        def reset(self):
            pass

        def put(self, key: str, value: int):
            self.items[key] = value

        @classmethod
        def help(cls):
            return "put things"

        @property
        def best(self):
            return max(self.items)

        @functools.cached_property
        def first(self):
            return self.items["first"]

    environment = ToolEnvironment(Keeper())
    assert list(tools_of(Keeper())) == ["help", "put"]
    environment.reset(None, 0)
    assert "error" not in environment.step(call("put", key="a", value=1)).reply


def test_what_is_no_call_or_fails_is_answered_with_its_error(module):
    environment = load_environment(f"trl:{module}:Counter", {"max_calls": 9})()
    environment.reset(None, 0)
    for reply in (
        "<tool_call>add(amount=1)</tool_call>",
        call("reset"),
        call("get_reward"),
        call("__init__", start=5),
        call("add", amount="two"),
        call("add", wrong=1),
        "<tool_call>" + "[" * 3000 + "</tool_call>",
    ):
        step = environment.step(reply)
        assert "error" in step.reply and not step.done
    assert environment.step("").reward == 0
    assert environment.metrics() == {"calls": 7.0, "failed_calls": 7.0}


def test_the_whole_reply_can_be_the_argument_of_the_only_tool():
    class Guess:
        def reset(self):
            self.done, self.reward = False, 0.0
            return "A number?"

        def guess(self, text: str) -> str:
            self.done = self.reward = text == "7"
            return "no"

        def get_reward(self):
            return self.reward

    environment = ToolEnvironment(Guess(), calls="whole")
    assert environment.reset(None, 0) == "A number?"
    assert environment.step(" 3 ").reply == "no"
    assert environment.step("7").reward == 1


def test_rows_of_a_file_are_tasks_of_which_a_fifth_is_held_out(module, tmp_path, capsys):
    rows = [{"target": n} for n in range(10)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    factory = load_environment(f"trl:{module}:Counter", {"rows": "rows.jsonl"})
    assert [row["target"] for row in factory.tasks("test")] == [4, 9]
    assert len(factory.tasks("train")) == 8
    assert "held out" not in capsys.readouterr().out
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows[:4])))
    factory = load_environment(f"trl:{module}:Counter", {"rows": "rows.jsonl"})
    assert "none of 4 rows are held out: all serve for both" in capsys.readouterr().out
    assert factory.tasks("test") == factory.tasks("train") == rows[:4]


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("Counter", {"begin": 1}, "no option 'begin'; it has .*start"),
        ("Counter", {"calls": "whole"}, "needs one tool, and it has 2"),
        ("Missing", {}, "cannot find the environment"),
        ("Counter", {"start": 1, "max_calls": 0}, "max_calls must be at least 1"),
    ],
)
def test_wrong_names_and_options_are_one_line(module, name, options, fault):
    with pytest.raises(ConfigError, match=fault):
        load_environment(f"trl:{module}:{name}", options)


@pytest.mark.peer
def test_tools_and_their_schema_are_those_that_trl_and_transformers_find(module):
    pytest.importorskip("trl")
    utils = pytest.importorskip("transformers.utils")
    load_environment(f"trl:{module}:Counter")
    inner = __import__(module).Counter()
    tools = tools_of(inner)
    theirs = [  # as TRL 1.12's GRPOTrainer collects them
        name
        for name, member in inspect.getmembers(inner, predicate=inspect.ismethod)
        if name not in ("reset", "get_reward") and not name.startswith("_")
    ]
    assert list(tools) == theirs
    expected = utils.get_json_schema(inner.add)["function"]
    ours = tool_schema(inner.add)["function"]
    assert ours["name"] == expected["name"]
    assert ours["parameters"]["required"] == expected["parameters"]["required"]
    assert ours["parameters"]["properties"]["amount"]["type"] == "integer"

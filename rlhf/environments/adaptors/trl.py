"""Environments in TRL's shape: a class with `reset(**row)`, methods as tools, and `get_reward()`.

`trl:module:Class` is what `GRPOTrainer(environment_factory=Class)` takes. The tools stand as text
in the first message; a policy calls one in a reply, reads its result as the next message, and the
episode ends with the first reply that calls none. What a policy wrote is read as JSON, never run:
it can only name a tool and its arguments. TRL itself is not needed.
"""

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from playout.errors import ConfigError
from playout.own_code import fault_of, load_object
from playout.rlhf.data.rows import read_rows
from playout.rlhf.environments.adaptors.options import Options
from playout.rlhf.environments.checked import STOPS
from playout.rlhf.environments.environment import EnvironmentFactory, Prompt, Split, Step

__all__ = ["TOOL_CALL", "ToolEnvironment", "make", "tool_schema"]

TOOL_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_KINDS = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    tuple: "array",
    Sequence: "array",
    dict: "object",
    Mapping: "object",
}
_INSTRUCTIONS = (
    "You may call tools. Each is described by a line of JSON:\n{tools}\n\n"
    "To call one, write\n<tool_call>\n"
    '{{"name": NAME, "arguments": {{...}}}}\n</tool_call>\n'
    "A reply without a call is your last."
)


class ToolEnvironment:
    """One episode with an object of a class in TRL's shape."""

    def __init__(self, inner: Any, *, calls: str = "json", max_calls: int = 10) -> None:
        """One episode.

        Args:
            inner: The object; its public methods but `reset` and `get_reward` are tools.
            calls: `json` takes what stands in <tool_call></tool_call>, as Qwen's and Hermes' models
                write it; `whole` hands the whole reply to the only tool there is, until
                `max_calls` or until the object has the attribute `done` set.
            max_calls: Replies with calls after which the episode is over.
        """
        self._inner, self._calls, self._max_calls = inner, calls, max_calls
        self._tools = tools_of(inner)
        self._used = self._failed = 0
        self._reward = 0.0

    def reset(self, task: Any, seed: int) -> Prompt:
        """The row's prompt with what the object's `reset` adds; the tools described before it."""
        row = dict(task) if isinstance(task, Mapping) else {}
        found = _finished(_call_with(self._inner.reset, {"seed": seed, **row}))
        prompt = row.get("prompt")
        added = "" if found is None else str(found)
        messages: list[dict[str, str]] | None = None
        if isinstance(prompt, Sequence) and not isinstance(prompt, str):
            messages = [dict(message) for message in prompt]
            if messages:
                messages[-1]["content"] += added
        if messages is None and self._calls == "whole":
            return (prompt or "") + added
        messages = messages or [{"role": "user", "content": (prompt or "") + added}]
        if self._calls == "whole":
            return messages
        lines = [json.dumps(tool_schema(tool)) for tool in self._tools.values()]
        text = _INSTRUCTIONS.format(tools="\n".join(lines))
        if messages[0]["role"] == "system":
            first = {"role": "system", "content": f"{messages[0]['content']}\n\n{text}"}
            return [first, *messages[1:]]
        return [{"role": "system", "content": text}, *messages]

    def step(self, answer: str) -> Step:
        """Do the calls of a reply; without any, or with the last, the episode is over."""
        if self._calls == "whole":
            name, tool = next(iter(self._tools.items()))
            parameter = next(iter(inspect.signature(tool).parameters), None)
            found = [(name, {} if parameter is None else {parameter: answer.strip()})]
        else:
            found = list(map(_parsed, TOOL_CALL.findall(answer)))
        results = [self._result(name, arguments) for name, arguments in found]
        self._used += bool(found)
        over = (
            not found or self._used >= self._max_calls or bool(getattr(self._inner, "done", False))
        )
        if not over:
            text = "\n".join(results)
            if self._calls == "json":
                text = "\n".join(f"<tool_response>\n{one}\n</tool_response>" for one in results)
            return Step(text)
        getter = getattr(self._inner, "get_reward", None)
        self._reward = 0.0 if getter is None else float(_finished(getter()))
        return Step(None, self._reward, True)

    def metrics(self) -> dict[str, float]:
        """Replies with calls, and calls that failed."""
        return {"calls": float(self._used), "failed_calls": float(self._failed)}

    def close(self) -> None:
        """Lets the object close, if it can."""
        closer = getattr(self._inner, "close", None)
        if callable(closer) and "close" not in self._tools:
            closer()

    def _result(self, name: str, arguments: dict[str, Any]) -> str:
        """What a tool answers; a call that cannot be done answers with its error, as in TRL."""
        try:
            if name not in self._tools:
                raise KeyError(f"there is no tool {name!r}")
            result = _finished(self._tools[name](**arguments))
        except Exception as error:
            self._failed += 1
            return json.dumps({"error": str(error.args[0] if error.args else error)})
        return result if isinstance(result, str) else json.dumps(result, default=str)


def tools_of(inner: Any) -> dict[str, Callable[..., Any]]:
    """The methods that a policy may call, by name."""
    found: dict[str, Callable[..., Any]] = {}
    for name in dir(inner):
        if name.startswith("_") or name in ("reset", "get_reward", "close"):
            continue
        # To look at a property would run it, and it may need an episode that has begun.
        if isinstance(inspect.getattr_static(inner, name, None), property | cached_property):
            continue
        method = getattr(inner, name, None)
        if inspect.ismethod(method):
            found[name] = method
    return found


def tool_schema(tool: Callable[..., Any]) -> dict[str, Any]:
    """A tool as the JSON that chat templates know: name, description, parameters with kinds."""
    parameters = _signature(tool).parameters
    return {
        "type": "function",
        "function": {
            "name": tool.__name__,
            "description": inspect.getdoc(tool) or "",
            "parameters": {
                "type": "object",
                "properties": {
                    name: _schema(parameter.annotation) for name, parameter in parameters.items()
                },
                "required": [
                    name
                    for name, parameter in parameters.items()
                    if parameter.default is parameter.empty
                ],
            },
        },
    }


def _schema(kind: Any) -> dict[str, Any]:
    """What JSON calls an annotation; a text where it has no name for it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _schema(parts[0])
    if origin in (Union, UnionType):
        named = [_schema(part) for part in parts if part is not NoneType]
        either = named[0] if len(named) == 1 else {"type": [one["type"] for one in named]}
        return {**either, "nullable": True} if len(named) < len(parts) else either
    if origin is Literal:
        return {**_schema(type(parts[0])), "enum": list(parts)}
    plain = kind if origin is None else origin
    name = next((name for one, name in _KINDS.items() if one is plain), "string")
    if name == "array" and len({*parts} - {...}) == 1:
        return {"type": name, "items": _schema(parts[0])}
    if name == "object" and len(parts) == 2:
        return {"type": name, "additionalProperties": _schema(parts[1])}
    return {"type": name}


def _signature(tool: Callable[..., Any]) -> inspect.Signature:
    """With the types themselves, where the module has its annotations kept as text."""
    try:
        return inspect.signature(tool, eval_str=True)
    except Exception:  # names that are only there for type checkers
        return inspect.signature(tool)


def _parsed(text: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a call; what is no call gives a name that no tool has."""
    try:
        call = json.loads(text)
        arguments = call.get("arguments", {})
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        return str(call["name"]), {str(key): value for key, value in arguments.items()}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return f"{text[:40]} (a call is JSON with name and arguments)", {}


def _call_with(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call with those arguments that the function takes."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return function(**arguments)
    return function(**{key: value for key, value in arguments.items() if key in parameters})


def _finished(value: Any) -> Any:
    """A value, or what a coroutine comes to."""
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def make(name: str, options: Mapping[str, Any]) -> EnvironmentFactory:
    """The class `module:Class` with `calls`, `max_calls`, `rows`, and its own keyword arguments.

    `rows` is a file of JSON lines; a row is an episode's task, its fields are arguments of `reset`,
    and its `prompt` (text or messages), if there is one, stands before what `reset` returns. A
    fifth of the rows is held out; fewer than five serve for both, as is said.

    Raises:
        ConfigError: The class is not there, cannot be made, or has no `reset`.
        DataError: The file of rows is not as it should be.
    """
    where = f"trl:{name}"
    if ":" not in name:
        raise ConfigError(f"{where}: write trl:module:Class")
    kind = load_object(name, "the environment")
    if not callable(kind):
        raise ConfigError(f"{where} is neither a class nor a function")
    taken = Options(where, options)
    calls = taken.take("calls", "json", choices=("json", "whole"))
    max_calls = taken.at_least("max_calls", 10, 1)
    file = taken.take("rows", "")
    names = list(inspect.signature(kind).parameters)
    taken.check(lambda key: key in names, f", and {', '.join(names)}" if names else "")

    def create() -> ToolEnvironment:
        return ToolEnvironment(kind(**taken.left), calls=calls, max_calls=max_calls)

    try:
        first = kind(**taken.left)
    except STOPS:
        raise
    except BaseException as error:
        raise ConfigError(f"{where} cannot be made: {fault_of(error)}") from error
    if not callable(getattr(first, "reset", None)):
        raise ConfigError(f"{where} has no method reset")
    tools = tools_of(first)
    if calls == "whole" and len(tools) != 1:
        raise ConfigError(f"{where}: calls=whole needs one tool, and it has {len(tools)}")
    if not callable(getattr(first, "get_reward", None)):
        print(
            f"{where} has no get_reward: only reward functions given by --reward count", flush=True
        )
    rows = [row for _, row in read_rows(file)] if file else None
    if rows is not None and not rows[4::5]:
        print(f"{where}: none of {len(rows)} rows are held out: all serve for both", flush=True)

    def tasks(split: Split) -> Sequence[Any] | None:
        if rows is None:
            return None
        held_out = rows[4::5] or rows
        return held_out if split == "test" else [row for i, row in enumerate(rows) if i % 5 != 4]

    return EnvironmentFactory(where, create, tasks)

"""Environments of verifiers before 0.4: a module with `load_environment(**options)`.

The library's own `rollout` plays the episode, and its rubric scores it; in the place of its model
client stands one that hands the conversation on and waits for the policy's answer. Tools come to
the policy as the environment writes them; a policy of playout answers in text.
"""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from playout.errors import ConfigError
from playout.own_code import fault_of
from playout.rlhf.environments.adaptors.suspended import Ask, Suspended
from playout.rlhf.environments.checked import STOPS
from playout.rlhf.environments.environment import EnvironmentFactory, Prompt, Split, Step

__all__ = ["RolloutEnvironment", "make_legacy"]

Messages = list[dict[str, str]]


class RolloutEnvironment:
    """One episode of an `Environment` of the library."""

    def __init__(self, inner: Any, library: ModuleType) -> None:
        """One episode; `inner` is shared among episodes, `library` holds clients and types."""
        self._inner, self._library = inner, library
        self._episode: Suspended[Messages] | None = None
        self._state: Any = None
        self._seen = 0

    def reset(self, task: Mapping[str, Any], seed: int) -> Prompt:
        """Begin the episode of a row."""
        self._episode = Suspended(lambda ask: self._run(dict(task), ask))
        question, over = self._episode.advance()
        if over or question is None:
            raise RuntimeError("the episode was over before the first answer")
        self._seen = len(question) + 1
        return question

    def step(self, answer: str) -> Step:
        """Hand in the answer; at the end, the rubric's reward."""
        assert self._episode is not None
        question, over = self._episode.advance(answer)
        if over or question is None:
            return Step(None, float(self._state["reward"] or 0.0), True)
        news, self._seen = question[self._seen :], len(question) + 1
        return Step(news)

    def metrics(self) -> dict[str, float]:
        """What the rubric found, by the functions' names."""
        found = (self._state or {}).get("metrics") or {}
        return {str(key): float(value) for key, value in found.items()}

    def close(self) -> None:
        """Ends an episode that was cut."""
        if self._episode is not None:
            self._episode.close()

    async def _run(self, row: dict[str, Any], ask: Ask[Messages]) -> None:
        row.setdefault("example_id", 0)
        client = _client(self._library, ask)
        self._state = await self._inner.rollout(row, client, "policy", {})
        if self._state.get("error") is not None:
            raise self._state["error"]
        await self._inner.rubric.score_rollout(self._state)


def _client(library: ModuleType, ask: Ask[Messages]) -> Any:
    """A client of the library whose model is whoever answers `ask`."""
    clients = importlib.import_module(f"{library.__name__}.clients")
    types = importlib.import_module(f"{library.__name__}.types")

    async def get_response(self: Any, prompt: Any, *others: Any, **more: Any) -> Any:
        answer = await ask([_plain(message) for message in prompt])
        message = types.ResponseMessage(
            role="assistant", content=answer, finish_reason="stop", is_truncated=False
        )
        return types.Response(id="policy", created=0, model="policy", message=message)

    kind = type("PolicyClient", (clients.Client,), {"get_response": get_response})
    kind.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    return kind(None)


def _plain(message: Any) -> dict[str, str]:
    found = message if isinstance(message, Mapping) else message.model_dump()
    content = found.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part.get("text", "") for part in content)
    return {"role": str(found["role"]), "content": content}


def make_legacy(
    package: ModuleType, module: ModuleType, where: str, options: Mapping[str, Any]
) -> EnvironmentFactory:
    """The environment that `load_environment(**options)` gives; its two data sets are the tasks.

    Raises:
        ConfigError: It cannot be made, or is not of the shape that is played here.
    """
    loader = module.load_environment
    names = inspect.signature(loader).parameters
    open_ended = any(value.kind is value.VAR_KEYWORD for value in names.values())
    for option in options:
        if option not in names and not open_ended:
            listed = f"it has {', '.join(names)}" if names else "it has none"
            raise ConfigError(f"{where}: there is no option {option!r}; {listed}")
    try:
        inner = loader(**options)
    except STOPS:
        raise
    except BaseException as error:
        raise ConfigError(f"{where} cannot be made: {fault_of(error)}") from error
    if not hasattr(inner, "rollout") or not hasattr(inner, "rubric"):
        raise ConfigError(f"{where}: load_environment gives no environment of verifiers")
    library = package
    if not hasattr(library, "Environment"):  # 0.2 and 0.3 keep this shape in a folder of its own
        library = importlib.import_module("verifiers.legacy")
    if getattr(inner, "requires_group_rollouts", False):
        raise ConfigError(f"{where}: its rewards compare answers with each other; none is for one")

    def tasks(split: Split) -> Sequence[Any]:
        found = inner.get_dataset() if split == "train" else inner.get_eval_dataset()
        return [dict(found[i]) for i in range(len(found))]

    return EnvironmentFactory(where, lambda: RolloutEnvironment(inner, library), tasks)

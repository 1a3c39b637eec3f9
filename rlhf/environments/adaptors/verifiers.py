"""Environments of the verifiers library: a package's tasks, its episode's code, its rewards.

`verifiers:NAME` is an installed package, or a module of the current folder. A package with a
taskset (verifiers 0.4) runs here if one agent answers in plain text: tools, containers and models
of others are refused. One with `load_environment` (verifiers before 0.4) is verifiers_legacy.py's.
The library's own code plays the episode and scores it; only the model's place is taken.
"""

import contextlib
import itertools
import random
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from playout.errors import ConfigError
from playout.own_code import import_module
from playout.rlhf.environments.adaptors.options import Options, import_package
from playout.rlhf.environments.adaptors.suspended import Ask, Suspended
from playout.rlhf.environments.checked import STOPS
from playout.rlhf.environments.environment import EnvironmentFactory, Prompt, Split, Step

__all__ = ["TasksetEnvironment", "make"]

Messages = list[dict[str, str]]


class TasksetEnvironment:
    """One episode of an environment of verifiers 0.4, played by the library's own `run`."""

    def __init__(self, inner: Any, tasks: Mapping[int, Any]) -> None:
        """One episode.

        Args:
            inner: An `Env` of the library; shared among episodes, which it allows.
            tasks: Its tasks by index.
        """
        self._inner, self._tasks = inner, tasks
        self._episode: Suspended[Messages] | None = None
        self._traces: list[Any] = []

    def reset(self, task: Mapping[str, Any], seed: int) -> Prompt:
        """Begin the episode of a task."""
        chosen = self._tasks[int(task["index"])]
        self._episode = Suspended(lambda ask: self._run(chosen, ask))
        question, over = self._episode.advance()
        if over or question is None:
            raise RuntimeError("the episode was over before the first answer")
        return question

    def step(self, answer: str) -> Step:
        """Hand in the answer; at the end, the weighted sum of the task's rewards."""
        assert self._episode is not None
        question, over = self._episode.advance(answer)
        if not over:
            return Step(question)
        return Step(None, float(sum(trace.reward for trace in self._traces)), True)

    def metrics(self) -> dict[str, float]:
        """The rewards without their weights, and the task's metrics, by name."""
        found: dict[str, float] = {}
        for trace in self._traces:
            scores = {key: reward.score for key, reward in trace.rewards.items() if reward}
            found |= {key: float(value) for key, value in scores.items()}
            found |= {
                key: float(value) for key, value in trace.metrics.items() if value is not None
            }
        return found

    def close(self) -> None:
        """Ends an episode that was cut."""
        if self._episode is not None:
            self._episode.close()

    async def _run(self, task: Any, ask: Ask[Messages]) -> None:
        from verifiers.v1.episode import EnvInfo, Episode
        from verifiers.v1.trace import TraceTask

        inner = self._inner
        agents = _Agents(inner, self._traces, ask)
        await inner.setup(agents)
        await inner.run(task, agents)
        record = TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
        episode = Episode(env=EnvInfo(id=inner.config.env_id), task=record)
        episode.traces.extend(self._traces)
        await inner.finalize(task, episode)


class _Agents:
    """What the library's `run` addresses its agents by: an attribute for each role."""

    def __init__(self, inner: Any, traces: list[Any], ask: Ask[Messages]) -> None:
        self._roles = {
            name: _Agent(name, spec, traces, ask) for name, spec in inner._agent_specs.items()
        }

    def __getattr__(self, name: str) -> "_Agent":
        try:
            return self.__dict__["_roles"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"the environment declares no agent {name!r}") from None


class _Agent:
    """One role, answered for by the policy."""

    trainable = True

    def __init__(self, name: str, spec: Any, traces: list[Any], ask: Ask[Messages]) -> None:
        self._name, self._spec, self._traces, self._ask = name, spec, traces, ask

    async def run(self, task: Any, **others: Any) -> Any:
        """One answer to the task's prompt, scored."""
        async with self.interaction(task) as interaction:
            await interaction.turn()
        return interaction.trace

    @contextlib.asynccontextmanager
    async def interaction(self, task: Any, **others: Any) -> AsyncIterator["_Interaction"]:
        """A conversation turn by turn, scored where the block ends."""
        found = _Interaction(self._name, self._spec, task, self._ask)
        await task.setup(found.trace, None)
        yield found
        found.trace.stop("user_closed")
        await task.finalize(found.trace, None)
        await task.score(found.trace, None)
        found.trace.is_completed = found.trace.ok = True
        self._traces.append(found.trace)


class _Interaction:
    """What the library calls an interaction: `turn` hands on messages and returns the answer."""

    def __init__(self, name: str, spec: Any, task: Any, ask: Ask[Messages]) -> None:
        from verifiers.v1.state import state_cls
        from verifiers.v1.trace import AgentInfo, Trace, TraceTask

        self._task, self._spec, self._ask = task, spec, ask
        self._over = False
        data = task.data
        record = TraceTask(type=type(task).__name__, data=data, key=task.key, hash=task.hash)
        self.trace = Trace(
            task=record, state=state_cls(type(task))(), agent=AgentInfo(config=spec, name=name)
        )

    async def turn(self, message: Any = None) -> Any:
        """The policy's answer to the next message, or to the task's prompt."""
        from verifiers.v1.agent import Segment
        from verifiers.v1.types import AssistantMessage

        if self._over or await self._stopped():
            self._over = True
            return Segment(messages=[], terminated=True)
        news = self._news(message)
        for one in news:
            self._append(one, sampled=False)
        answer = await self._ask([_plain(one) for one in news])
        reply = AssistantMessage(content=answer)
        self._append(reply, sampled=True)
        return Segment(messages=[reply])

    def _news(self, message: Any) -> list[Any]:
        from verifiers.v1.dialects import parse_message
        from verifiers.v1.types import SystemMessage, UserMessage

        news: list[Any] = []
        if not self.trace.nodes and self._task.data.system_prompt:
            news.append(SystemMessage(content=self._task.data.system_prompt))
        if message is None:
            message = self._task.data.prompt
        if isinstance(message, str):
            return [*news, UserMessage(content=message)]
        return news + [parse_message(one) if isinstance(one, dict) else one for one in message]

    def _append(self, message: Any, *, sampled: bool) -> None:
        from verifiers.v1.graph import MessageNode

        nodes = self.trace.nodes
        parent = len(nodes) - 1 if nodes else None
        nodes.append(MessageNode(parent=parent, message=message, sampled=sampled))

    async def _stopped(self) -> bool:
        from verifiers.v1.utils.decorators import invoke

        limit = self._spec.max_turns
        if limit is not None and self.trace.num_turns >= limit:
            self.trace.stop("max_turns")
            return True
        for condition in self._task.hooks("stop") if self.trace.num_turns else ():
            if await invoke(condition, {"trace": self.trace, "task": self._task.data}):
                self.trace.stop(condition.__name__)
                return True
        return False


def _plain(message: Any) -> dict[str, str]:
    from verifiers.v1.types import content_text

    return {"role": message.role, "content": content_text(message.content)}


@contextlib.contextmanager
def kept_signals() -> Iterator[None]:
    """Ctrl-C stays what it was: environments of the library take it for themselves."""
    known = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in known.items():
            with contextlib.suppress(ValueError, TypeError):  # not the main thread
                signal.signal(number, handler)


def make(name: str, options: Mapping[str, Any]) -> EnvironmentFactory:
    """The environment of that package, with its own options, `size` and `test_size`.

    `size` is the most tasks that are taken, of which `test_size`, drawn by chance, are held out.

    Raises:
        ConfigError: verifiers or the package is not installed, an option is wrong, or the
            environment needs what playout does not have: tools, a container, another model.
    """
    where = f"verifiers:{name}"
    package = import_package("verifiers", where, "verifiers")
    with kept_signals():
        module = import_module(name.rpartition("/")[2].partition("@")[0].replace("-", "_"))
        if callable(getattr(module, "load_environment", None)):
            from playout.rlhf.environments.adaptors.verifiers_legacy import make_legacy

            return make_legacy(package, module, where, options)
        return _make_taskset(name, where, options)


def _make_taskset(name: str, where: str, options: Mapping[str, Any]) -> EnvironmentFactory:
    import_package("verifiers.v1", where, "verifiers")
    from verifiers.v1.utils.loaders import load_environment, resolve_env_config

    taken = Options(where, options)
    size = taken.at_least("size", 10_000, 2)
    test_size = taken.at_least("test_size", 100, 1)
    try:
        config = resolve_env_config({"taskset": {**taken.left, "id": name}})
        inner: Any = load_environment(config)
        tasks = dict(enumerate(itertools.islice(iter(inner.taskset), size)))
    except STOPS:
        raise
    except BaseException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        fault = "; ".join(lines[:3]) or type(error).__name__
        raise ConfigError(f"{where} cannot be made: {fault}") from error
    _check_plain_text(inner, tasks, where)
    held_out = set(random.Random(0).sample(sorted(tasks), min(test_size, len(tasks) // 5 or 1)))

    def rows(split: Split) -> Sequence[Any]:
        chosen = [i for i in tasks if (i in held_out) == (split == "test")] or list(tasks)
        return [{"index": i, **tasks[i].data.model_dump(mode="json")} for i in chosen]

    return EnvironmentFactory(where, lambda: TasksetEnvironment(inner, tasks), rows)


def _check_plain_text(inner: Any, tasks: Mapping[int, Any], where: str) -> None:
    """Refuses what needs more than one agent that answers in text."""
    if not tasks:
        raise ConfigError(f"{where} has no tasks")
    roles = list(inner._agent_specs)
    if len(roles) > 1:
        raise ConfigError(f"{where} is for several agents ({', '.join(roles)}); one can be trained")
    task = next(iter(tasks.values()))
    if type(task).NEEDS_CONTAINER:
        raise ConfigError(f"{where} needs a container, and playout starts none")
    if type(task).toolsets(task.config) or type(inner.taskset).toolsets(inner.taskset.config):
        raise ConfigError(f"{where} has tools behind servers; only answers in text can be trained")
    for kind in ("reward", "stop"):
        for hook in task.hooks(kind):
            names = _required(hook)
            if names & {"runtime", "request", "response"}:
                raise ConfigError(f"{where}: its {kind} {hook.__name__} needs a runtime")


def _required(function: Any) -> set[str]:
    import inspect

    return {
        key
        for key, value in inspect.signature(function).parameters.items()
        if value.default is value.empty
    }

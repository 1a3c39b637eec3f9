"""Holds an environment to its contract: types, finite rewards, a time limit, its own randomness.

Every call either gives a value of the right kind or raises EnvironmentFault with the fault and the
person's own file and line. Python's and NumPy's global generators are seeded anew for each call,
the making of the object among them, so that an environment which draws from them gives the same
episode in any company. The limit works on Unix in the main thread; what never returns and swallows
every exception, or is compiled, is beyond it.
"""

import hashlib
import inspect
import math
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

import numpy as np
from playout.agents.runs.signals import Interrupted
from playout.errors import DataError, EnvironmentFault
from playout.own_code import fault_of
from playout.rlhf.data.messages import Prompt, checked_messages
from playout.rlhf.environments.environment import EnvironmentFactory, Step, Task

__all__ = [
    "STOPS",
    "CheckedEnvironment",
    "as_number",
    "fault_of_reward",
    "in_time",
    "kept_folder",
    "kept_process",
    "kind_of",
    "seed_generators",
]

T = TypeVar("T")
STOPS = (KeyboardInterrupt, Interrupted)
"""What a person's code may let through and has not done: the person ends the program."""
LARGEST_REWARD = 1e18
"""How far a reward may lie from 0: float32 holds the square of it, and the sum of many such."""
_AGAIN = 0.1  # seconds after which a call that swallowed its limit is stopped once more


class _TooSlowError(BaseException):
    """Raised inside a call that takes too long; no `except Exception` there can swallow it."""


def _limited(seconds: float, function: Callable[[], T]) -> T:
    """What a function returns; _TooSlowError where it takes longer, and 0 sets no limit."""
    usable = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")
    if seconds <= 0 or not usable:
        return function()
    running, late = True, False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal late
        if running:
            late = True
            raise _TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        found = function()
    except BaseException as error:  # what a call raises that was stopped is no matter
        if not late or isinstance(error, STOPS):
            raise
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if late:
        raise _TooSlowError
    return found


def in_time(seconds: float, what: str, function: Callable[[], T]) -> T:
    """What a function of an environment returns; 0 seconds set no limit.

    Raises:
        EnvironmentFault: It takes longer; `what` is how the line begins.
    """
    try:
        return _limited(seconds, function)
    except _TooSlowError:
        raise EnvironmentFault(f"{what} took longer than {seconds:g} s") from None


@contextmanager
def _kept_random_state() -> Iterator[None]:
    """Puts Python's and NumPy's global generators back as they were, whatever happens inside."""
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002


@contextmanager
def kept_folder() -> Iterator[None]:
    """Goes back to the current folder, from which the paths of a run are read, at the end."""
    here = _folder()
    try:
        yield
    finally:
        if here and _folder() != here:
            with suppress(OSError):  # it is no more
                os.chdir(here)


@contextmanager
def kept_process() -> Iterator[None]:
    """What own code may change of the process is as it was at the end: generators and folder."""
    with _kept_random_state(), kept_folder():
        yield


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def seed_generators(*names: str | int) -> None:
    """Seeds Python's and NumPy's global generators by a hash of all that is given."""
    digest = hashlib.blake2b(repr(names).encode(), digest_size=20).digest()
    random.seed(digest[:16])
    np.random.seed(int.from_bytes(digest[16:], "little"))  # noqa: NPY002


class CheckedEnvironment:
    """One episode's environment, made when `reset` is called.

    Every call leaves the global generators changed; see `kept_process`.

    Attributes:
        turn: Answers taken so far.
    """

    def __init__(self, factory: EnvironmentFactory, *, seconds: float = 60.0) -> None:
        """Hold the environments of `factory` to `seconds` a call; 0 sets no limit."""
        self.name, self.seconds, self.turn = factory.name, seconds, 0
        self._factory, self._seed = factory, 0
        self._inner: Any = None

    def reset(self, task: Task, seed: int) -> Prompt:
        """The prompt of an episode.

        Raises:
            EnvironmentFault: As all methods.
        """
        self._seed = int(seed)
        self._inner = self._call("", self._factory)
        # What an episode changes of its task must not reach another's.
        found = self._call("reset", lambda: self._inner.reset(_copied(task), seed))
        return self._prompt(found, "reset")

    def step(self, answer: str) -> Step:
        """What an answer led to, its reward a finite float or a dictionary of them."""
        found = self._call("step", lambda: self._inner.step(answer))
        self.turn += 1
        if isinstance(found, str | bytes) or not isinstance(found, Sequence):
            raise self._fault(f"step returned {kind_of(found)}, not (reply, reward, done)")
        if not 3 <= len(found) <= 4:
            raise self._fault(f"step returned {len(found)} values, not (reply, reward, done)")
        reply, reward, done, truncated = (*found, False)[:4]
        for name, value in (("done", done), ("truncated", truncated)):
            if not isinstance(value, bool | np.bool_):
                raise self._fault(f"step gave {name} as {kind_of(value)}, not True or False")
        over = bool(done) or bool(truncated)
        if reply is not None:
            reply = self._prompt(reply, "step")
        elif not over:
            raise self._fault("step gave neither a reply nor done")
        if isinstance(reward, Mapping):
            numbers = {str(role): self._reward(value) for role, value in reward.items()}
            return Step(reply, numbers, bool(done), bool(truncated))
        return Step(reply, self._reward(reward), bool(done), bool(truncated))

    def lists_answers(self, seed: int) -> bool:
        """Whether an environment, made as for an episode of this seed, has a method `answers`."""
        self._seed = int(seed)
        self._inner = self._call("", self._factory)
        return self._call("answers", lambda: callable(getattr(self._inner, "answers", None)))

    def answers(self) -> list[str] | None:
        """The legal answers now, or None where the environment does not say."""
        found = self._optional("answers")
        if found is None:
            return None
        listed = list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []
        if not listed or not all(isinstance(text, str) and text for text in listed):
            wrong = [text for text in listed if not isinstance(text, str) or not text]
            what = "an empty list" if isinstance(found, list | tuple) else kind_of(found)
            if wrong:
                part = "an empty text" if isinstance(wrong[0], str) else kind_of(wrong[0])
                what = f"a list with {part}"
            raise self._fault(f"answers returned {what}, not a list of texts")
        return [self._text(text, "answers") for text in listed]

    def role(self) -> str:
        """Who answers now; empty of an environment without roles."""
        found = self._optional("role")
        if isinstance(found, list | dict | set):  # the keys of rewards are none of these
            raise self._fault(f"role returned {kind_of(found)}, not a name")
        return "" if found is None else str(found)

    def metrics(self) -> dict[str, float]:
        """The environment's own numbers."""
        found = self._optional("metrics")
        if found is None:
            return {}
        if not isinstance(found, Mapping):
            raise self._fault(f"metrics returned {kind_of(found)}, not a dictionary of numbers")
        return {str(name): self._number(value, str(name)) for name, value in found.items()}

    def close(self) -> None:
        """Let go; what goes wrong here no longer matters to anybody."""
        with suppress(EnvironmentFault):  # the episode is over, and its numbers stand
            self._optional("close")
        self._inner = None

    def _optional(self, name: str) -> Any:
        def ask() -> Any:
            asked = getattr(self._inner, name, None)
            if asked is None or callable(asked):
                return None if asked is None else asked()
            raise self._fault(
                f"{name} is an attribute ({kind_of(asked)}) and has to be a method: def "
                f"{name}(self)"
            )

        return self._call(name, ask)

    def _call(self, name: str, function: Callable[[], T]) -> T:
        seed_generators(self._seed, self.turn, name)
        what = f"the environment {self.name}: {name or 'making it'}"
        try:
            found = in_time(self.seconds, what, function)
        except (*STOPS, EnvironmentFault):
            raise
        except BaseException as error:
            raise EnvironmentFault(f"{what} raised {fault_of(error)}") from error
        if inspect.iscoroutine(found):
            found.close()  # or Python warns that nobody waited for it
            raise self._fault(f"{name} is asynchronous (async def); episodes call it plainly")
        return found

    def _prompt(self, value: Any, name: str) -> Prompt:
        if isinstance(value, str):
            return self._text(value, name)
        listed = isinstance(value, Sequence) and not isinstance(value, bytes)
        if not listed or not all(isinstance(part, Mapping) for part in value[:1]):
            raise self._fault(f"{name} returned {kind_of(value)}, not a text or a list of messages")
        try:
            return checked_messages(value, f"what {name} of the environment {self.name} returned")
        except DataError as error:
            raise EnvironmentFault(str(error)) from error

    def _text(self, value: str, name: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self._fault(f"{name} returned half a character (a lone surrogate)") from None
        return value

    def _number(self, value: Any, name: str) -> float:
        try:
            number = as_number(value)
        except (TypeError, ValueError):
            raise self._fault(f"the {name} is {kind_of(value)}, not a number") from None
        if not math.isfinite(number):
            raise self._fault(f"the {name} is {number}")
        return number

    def _reward(self, value: Any) -> float:
        number = self._number(value, "reward")
        if fault := fault_of_reward(number):
            raise self._fault(f"the reward is {fault}")
        return number

    def _fault(self, text: str) -> EnvironmentFault:
        return EnvironmentFault(f"the environment {self.name}: {text}")


def as_number(value: Any) -> float:
    """A number of any library as a float; TypeError or ValueError where it would be a guess."""
    try:
        return float("-" if isinstance(value, str | bytes) else value)
    except OverflowError:  # a whole number that no float holds
        return math.inf if value > 0 else -math.inf


def fault_of_reward(number: float) -> str:
    """What cannot be learned from: a number that is not finite or too large; empty of others."""
    if abs(number) <= LARGEST_REWARD:
        return ""
    large = f"{number:g}, which is too large: at most {LARGEST_REWARD:g} can be learned from"
    return large if math.isfinite(number) else str(number)


def _copied(task: Task) -> Task:
    """A task with dictionaries, lists and arrays of its own; other objects stay as they are."""
    if type(task) is dict:
        return {key: _copied(value) for key, value in task.items()}
    if type(task) in (list, tuple):
        return type(task)(map(_copied, task))
    return task.copy() if isinstance(task, np.ndarray) else task


def kind_of(value: Any) -> str:
    """What errors call a value that is of no use."""
    return f"{value!r:.40}" if isinstance(value, int | float | str) else type(value).__name__

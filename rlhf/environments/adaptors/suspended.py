"""A coroutine of another library that stops wherever it wants an answer from the policy.

Libraries of environments run an episode themselves and ask a model in the middle of it. Here the
episode is a task of an event loop of its own; the loop runs until the episode asks or ends, and
goes on when the answer is handed in. One object is one episode.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

__all__ = ["Ask", "Suspended"]

Q = TypeVar("Q")
Ask = Callable[[Q], Coroutine[Any, Any, str]]
"""Awaited inside the episode with a question; gives the answer."""


class Suspended(Generic[Q]):
    """One episode: `advance` runs it to its next question, or to its end."""

    def __init__(self, episode: Callable[[Ask[Q]], Coroutine[Any, Any, object]]) -> None:
        """Set up; `episode` is called with a function to await for answers."""
        self._loop = asyncio.new_event_loop()
        self._begin = episode
        self._task: asyncio.Task[object] | None = None
        self._asked: asyncio.Future[Q] = self._loop.create_future()
        self._answer: asyncio.Future[str] | None = None

    async def _ask(self, question: Q) -> str:
        self._answer = self._loop.create_future()
        self._asked.set_result(question)
        return await self._answer

    def advance(self, answer: str | None = None) -> tuple[Q | None, bool]:
        """Hand in the answer to the last question and run on.

        Returns:
            The next question and False, or None and True where the episode has ended.

        Raises:
            Exception: What the episode raised.
        """
        if self._task is None:
            self._task = self._loop.create_task(self._begin(self._ask))
        elif self._answer is not None:
            self._asked = self._loop.create_future()
            waiting, self._answer = self._answer, None
            waiting.set_result(answer or "")
        either: set[asyncio.Future[Any]] = {self._task, self._asked}
        waiting_for = asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        self._loop.run_until_complete(waiting_for)
        if self._asked.done():
            return self._asked.result(), False
        self._task.result()
        return None, True

    def close(self) -> None:
        """Ends an episode that has not come to its end."""
        if self._loop.is_closed():
            return
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._loop.run_until_complete(asyncio.wait({self._task}))
        self._loop.close()

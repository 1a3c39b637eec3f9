"""Plays episodes: many environments at once, one policy that answers them all.

All episodes take their turns together: the policy answers every prompt, each environment steps, and
what it says is appended to the row's cache; ids are never tokenised again. Random numbers belong to
an episode's stream and turn, so an episode does not depend on its company. Answering is
generation/cached_rows.py's, calls are held to the contract by environments/checked.py, learning is
episodes.py's and the trainers'.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from playout.errors import DataError, EnvironmentFault
from playout.rlhf.data.messages import Prompt, as_messages
from playout.rlhf.environments.checked import CheckedEnvironment, kept_process
from playout.rlhf.environments.environment import EnvironmentFactory, Step, Task
from playout.rlhf.environments.prompts import PROMPTS
from playout.rlhf.generation.cached_rows import CachedRows, WritingRules
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.stops import StopStrings
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.generation.trie import AnswerTrie
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.config import EpisodeLimits
from playout.rlhf.online.episode import Episode

__all__ = ["EpisodeEngine", "EpisodeRequest", "all_failed", "describe"]

# Turn t of a stream draws from the stream with this many times t added.
_TURN = 1 << 40


@dataclass(frozen=True, slots=True)
class EpisodeRequest:
    """An episode to be played."""

    factory: EnvironmentFactory
    task: Task
    seed: int
    """Of the environment."""
    stream: int
    """Names the policy's random numbers; below 2^40."""


class EpisodeEngine:
    """Plays a round of episodes with one model as it is now.

    What a round may take, `limits.max_seconds`, is counted from the first call of `run`.

    Attributes:
        environment_seconds: Time spent in environments so far.
        model_seconds: Time spent in the model and in choosing tokens so far.
    """

    def __init__(
        self,
        model: Transformer | Decoder,
        tokenizer: Tokenizer,
        *,
        limits: EpisodeLimits,
        seed: int,
        dtype: torch.dtype,
        sampling: SamplingConfig | None = None,
        stop: Sequence[str] = (),
        constrained: bool = False,
        as_user: bool = True,
        exact: bool = True,
        max_rows: int = 256,
    ) -> None:
        """Set up.

        Args:
            model: A decoder, or what was prepared of it.
            tokenizer: Its tokenizer.
            limits: What cuts answers and episodes.
            seed: Of the policy's random numbers.
            dtype: Of matrix products.
            sampling: How tokens are chosen; at temperature 1 by default.
            stop: Texts that end an answer besides the model's own stop tokens.
            constrained: Only what the environment's `answers` lists can be written; an answer then
                has room for the longest of them, as far as the context goes.
            as_user: Prompts and replies of plain text are a user's messages to a model with a chat
                template; else they are continued as they stand.
            exact: What is sampled does not depend on the episodes beside it.
            max_rows: More episodes than this are played in several batches.
        """
        self.decoder = model if isinstance(model, Decoder) else Decoder(model, dtype=dtype)
        self.decoder.compiled = not exact
        self.tokenizer, self.limits, self.exact = tokenizer, limits, exact
        self.format = conversation_format(tokenizer)
        self.plain_format = conversation_format(tokenizer, plain=True)
        self.stops = StopStrings(tokenizer, stop) if stop else None
        self.constrained, self.max_rows = constrained, max_rows
        self.as_user = as_user and self.format.speaks_in_turns
        self.rules = WritingRules(
            sampling or SamplingConfig(), self.format.stop_ids, seed, self.stops
        )
        context = self.decoder.config.max_position_embeddings
        self.longest = min(limits.max_tokens or context, context)
        self.environment_seconds = self.model_seconds = 0.0
        self._deadline: float | None = None

    def run(
        self,
        requests: Sequence[EpisodeRequest],
        *,
        told: Callable[[int], object] = lambda over: None,
    ) -> list[Episode]:
        """The episodes, in the order of the requests.

        What an environment does wrong is noted in its episode's `error`; the others go on.

        Args:
            requests: What is to be played.
            told: Is given how many episodes are over, after each turn.
        """
        if self._deadline is None:
            self._deadline = time.monotonic() + (self.limits.max_seconds or np.inf)
        found: list[Episode] = []
        for start in range(0, len(requests), self.max_rows):
            before = len(found)  # what is told of a batch is told before the next one begins
            now = requests[start : start + self.max_rows]
            found += self._play(now, self._deadline, lambda over: told(before + over))  # noqa: B023
            told(len(found))
        return found

    def _play(
        self, requests: Sequence[EpisodeRequest], deadline: float, told: Callable[[int], object]
    ) -> list[Episode]:
        seats = [_Seat(self, request) for request in requests]
        with kept_process():
            try:
                live = [seat for seat in seats if seat.reset()]
                if live:
                    self._take_turns(live, deadline, told)
            finally:  # environments may have started processes
                for seat in seats:
                    seat.close()
        return [seat.episode for seat in seats]

    def _take_turns(
        self, seats: list["_Seat"], deadline: float, told: Callable[[int], object]
    ) -> None:
        rows = CachedRows(self.decoder, len(seats), exact=self.exact)
        streams = np.array([seat.request.stream for seat in seats])
        live, turn = np.arange(len(seats)), 0
        while len(live):
            now = [seats[i] for i in live]
            held = np.array([len(seat.episode.tokens) for seat in now])
            trie = self._trie(now) if self.constrained else None
            longest = 0 if trie is None else [trie.longest(line) for line in range(len(now))]
            budgets = np.maximum(self.limits.max_new_tokens, longest)
            budgets = np.minimum(budgets, self.longest - held)
            begun = time.perf_counter()
            length, parts = int((held + budgets).max()), [seat.unread for seat in now]
            logits = rows.go_on(live, parts, length) if turn else rows.begin(parts, length)
            names = streams[live] + turn * _TURN
            rules = replace(self.rules, allowed=trie)
            answers = rows.write(live, logits, names, budgets, rules)
            self.model_seconds += time.perf_counter() - begun
            last_turn = time.monotonic() >= deadline
            for line, seat in enumerate(now):
                count = int(answers.lengths[line])
                ids = answers.tokens[line, :count].tolist()
                seat.take(
                    ids,
                    answers.logprobs[line, :count].tolist(),
                    stopped=bool(answers.stopped[line]),
                    ended=bool(answers.ended[line]),
                    allowed=[] if trie is None else _choices(trie, line, ids),
                    out_of_time=last_turn,
                )
            live, turn = live[[not seat.over for seat in now]], turn + 1
            told(len(seats) - len(live))

    def _trie(self, seats: list["_Seat"]) -> AnswerTrie:
        """What may be written, a row an episode."""
        answers = [seat.answers() for seat in seats]
        return AnswerTrie(self.tokenizer, answers, stop=self.format.stop_ids)


def _choices(trie: AnswerTrie, line: int, ids: Sequence[int]) -> list[tuple[int, ...]]:
    """The ids among which each token of an answer was chosen; none where that was any."""
    return [trie.following(line, ids[:place]) or () for place in range(len(ids))]


class _Seat:
    """One episode that is being played: its environment, its record, what the policy reads next."""

    def __init__(self, engine: EpisodeEngine, request: EpisodeRequest) -> None:
        self.engine, self.request = engine, request
        self.environment = CheckedEnvironment(request.factory, seconds=engine.limits.call_seconds)
        self.episode = Episode(request.task, request.seed, "")
        self.unread: list[int] = []
        self.over = False

    def reset(self) -> bool:
        """Begin; whether there is something to answer."""
        episode, engine = self.episode, self.engine
        begun = time.perf_counter()
        try:
            episode.prompt = self.environment.reset(self.request.task, self.request.seed)
            self._note_role()
        except EnvironmentFault as error:
            self._fail(error)
            return False
        finally:
            engine.environment_seconds += time.perf_counter() - begun
        try:
            if engine.as_user:
                episode.prompt = as_messages(episode.prompt)
            self.unread = engine.format.begin(
                episode.prompt, special=self.request.factory.name == PROMPTS
            )
        except DataError as error:
            self._fail(error)
            return False
        if len(self.unread) >= engine.longest:
            self._fail(
                f"the prompt has {len(self.unread)} tokens and leaves no room for an answer in "
                f"{engine.longest}"
            )
            return False
        self._append(self.unread, [0.0] * len(self.unread), written=False)
        return True

    def answers(self) -> list[str] | None:
        """What may be answered now; None where anything may, or nothing can be found out."""
        begun = time.perf_counter()
        try:
            return self.environment.answers()
        except EnvironmentFault as error:
            self._fail(error)
            return None
        finally:
            self.engine.environment_seconds += time.perf_counter() - begun

    def take(
        self,
        ids: list[int],
        logprobs: list[float],
        *,
        stopped: bool,
        ended: bool,
        allowed: Sequence[Sequence[int]],
        out_of_time: bool,
    ) -> None:
        """Note the policy's answer and let the environment step."""
        if self.over:
            return
        episode, engine = self.episode, self.engine
        self._append(ids, logprobs, written=True, allowed=allowed)
        text = engine.format.answer(ids)
        answer = text if engine.stops is None else engine.stops.cut(text)
        episode.answers.append(answer)
        episode.answer_ended.append(ended)
        begun = time.perf_counter()
        try:
            step = self.environment.step(answer)
            self._reward(step)
            if step.done or step.truncated:
                episode.metrics = self.environment.metrics()
        except EnvironmentFault as error:
            self._fail(error)
            return
        finally:
            engine.environment_seconds += time.perf_counter() - begun
        self._go_on(step, ids[-1], stopped, out_of_time)

    def _go_on(self, step: Step, last: int, stopped: bool, out_of_time: bool) -> None:
        """Decide whether there is another turn, and what is read before it."""
        episode, limits = self.episode, self.engine.limits
        if step.reply is not None:
            episode.replies.append(step.reply)
        if step.done:
            asked_only = self.request.factory.name == PROMPTS
            episode.ended = episode.answer_ended[-1] if asked_only else True
            self.over = True
            return
        try:
            new = [] if step.reply is None else self._read(step.reply, stopped)
        except DataError as error:
            self._fail(error)
            return
        if step.truncated:
            episode.truncated = "environment"
            # What would follow is valued from here, so that it has to fit into the context.
            new = new[: max(0, self.engine.longest - len(episode.tokens))]
        elif limits.max_turns and episode.num_turns >= limits.max_turns:
            episode.truncated = "turns"
        elif out_of_time:
            episode.truncated = "time"
        elif len(episode.tokens) + len(new) >= self.engine.longest:
            episode.truncated = "tokens"
        if episode.truncated in ("", "environment"):
            self._append(new, [0.0] * len(new), written=False)
        self.unread, self.over = [last, *new], bool(episode.truncated)
        try:
            if not self.over:
                self._note_role()  # of those alone who answer
            elif episode.truncated != "environment":
                episode.metrics = self.environment.metrics()
        except EnvironmentFault as error:
            self._fail(error)
            return
        if episode.truncated == "environment" and episode.roles:
            with suppress(EnvironmentFault):  # who knows, after the end
                episode.next_role = self.environment.role()

    def _read(self, reply: Prompt, stopped: bool) -> list[int]:
        """What the policy reads between its answer and the next; `stopped` by a stop token."""
        plain = isinstance(reply, str) and not self.engine.as_user
        talk = self.engine.plain_format if plain else self.engine.format
        return talk.between(reply, stopped)

    def _reward(self, step: Step) -> None:
        episode = self.episode
        role = episode.roles[-1] if episode.roles else ""
        if isinstance(step.reward, float):
            episode.rewards.append(step.reward)
            if role:
                episode.role_rewards.append({role: step.reward})
            return
        if not role:
            raise EnvironmentFault(
                f"the environment {self.environment.name}: step gave rewards by role, but it has "
                "no method role"
            )
        episode.by_role = True
        numbers = {str(name): float(value) for name, value in dict(step.reward).items()}
        episode.rewards.append(numbers.get(role, 0.0))
        episode.role_rewards.append(numbers)

    def _note_role(self) -> None:
        role = self.environment.role()
        if role:
            self.episode.roles.append(role)

    def _append(
        self,
        ids: Sequence[int],
        logprobs: Sequence[float],
        *,
        written: bool,
        allowed: Sequence[Sequence[int]] = (),
    ) -> None:
        episode = self.episode
        turn = episode.num_turns
        episode.tokens += ids
        episode.logprobs += logprobs
        episode.mask += [written] * len(ids)
        episode.turns += [turn] * len(ids)
        if self.engine.constrained:
            episode.allowed += allowed or [()] * len(ids)

    def _fail(self, error: Exception | str) -> None:
        self.episode.error, self.over = str(error), True

    def close(self) -> None:
        """Let go of the environment."""
        self.environment.close()


def describe(episode: Episode, longest: int = 300) -> str:
    """An episode's error with the end of its text, in one line."""
    text = episode.text
    shown = text if len(text) <= longest else "..." + text[-longest:]
    return (
        f"{episode.error}; the episode (task {episode.task!r:.80}, seed {episode.seed}): {shown!r}"
    )


def all_failed(count: int, what: str, first: str) -> str:
    """What is said where nothing is left to go on with, though failures are skipped."""
    return first if count == 1 else f"all {count} episodes {what} failed: {first}"

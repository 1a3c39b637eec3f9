"""Any dataset of reasoning-gym as an environment of one turn: its question, its own verifier.

`reasoning_gym:chain_sum` takes the options of the dataset's configuration and some of its own
(`OPTIONS`); `reasoning_gym:chain_sum+gcd` mixes several. Questions to be judged on come from other
seeds, and none of them is ever trained on. Verifiers that would evaluate an answer as Python only
get answers that are literals or small formulas.
"""

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any

from playout.errors import ConfigError, likely_names
from playout.rlhf.environments.adaptors.harmless import is_harmless
from playout.rlhf.environments.adaptors.options import Options, import_package
from playout.rlhf.environments.environment import (
    EnvironmentFactory,
    Prompt,
    Split,
    Step,
)

__all__ = ["OPTIONS", "ReasoningEnvironment", "ReasoningTasks", "make"]

OPTIONS = ("size", "test_size", "seed", "level", "system", "suffix", "answer", "partial", "format")
_HELD_OUT = 1_000_000_000  # seeds from here on are never trained on
# A fraction of a text such as 1e999999999 is computed, whatever its size.
_EVALUATES = re.compile(
    r"\b(eval|exec|parse_expr|sympify|S|simplify|parse_latex|Fraction|Rational)\("
    r"|(?<!re\.)\bcompile\("
)
# Whatever they are called, and whatever of them is called: most functions of sympy parse texts.
_PACKAGES = frozenset({"sympy", "mpmath", "fractions"})
# Decimal("1e999999999") is small until it is made whole.
_WHOLE = re.compile(r"\b(int|round|floor|ceil|trunc)\(|\b(to_integral|as_integer_ratio)")

# A whole number, a decimal or a power of ten. A dot in the middle of something begins no number,
# and a sign there is an operation.
_UNSIGNED = r"(?:\d(?:[\d,]*\d)?(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(rf"(?:(?<![\w.)\]])[-+])?{_UNSIGNED}(?:/\d+)?")


class ReasoningTasks(Sequence[dict[str, Any]]):
    """Questions made when they are asked for: `question`, `answer`, `metadata`, by index.

    A training question that is also among the held-out ones is replaced by one of a later index.
    """

    def __init__(
        self, datasets: Sequence[Any], size: int, held_out: "ReasoningTasks | None" = None
    ) -> None:
        """`size` questions, taking turns among the datasets; none that stands in `held_out`."""
        self._datasets, self._size, self._held_out = list(datasets), size, held_out
        self._entry = lru_cache(maxsize=4096)(self._make)

    def __len__(self) -> int:
        """How many questions there are."""
        return self._size

    def __getitem__(self, index: Any) -> Any:
        """The question of that index, the same each time."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._entry(index)

    @property
    def questions(self) -> frozenset[str]:
        """All of them."""
        return frozenset(entry["question"] for entry in self)

    def _make(self, index: int) -> dict[str, Any]:
        turn, place = index % len(self._datasets), index // len(self._datasets)
        avoided = self._avoided()
        for lap in range(50):
            entry = dict(self._datasets[turn][place + lap * self._size])
            if entry["question"] not in avoided:
                break
        return entry  # where nearly all questions are held out, a repeated one is better than none

    def _avoided(self) -> frozenset[str]:
        if self._held_out is None:
            return frozenset()
        if not hasattr(self, "_texts"):
            self._texts = self._held_out.questions
        return self._texts


class ReasoningEnvironment:
    """One question, one answer, scored by the dataset that asked."""

    def __init__(
        self,
        datasets: Mapping[str, Any],
        *,
        system: str = "",
        suffix: str = "",
        answer: str = "whole",
        partial: bool = True,
        format_reward: float = 0.0,
    ) -> None:
        """One episode.

        Args:
            datasets: Those that can have asked, by name.
            system: Instructions before the question; with them the prompt is a conversation.
            suffix: Text after the question.
            answer: What of the reply counts: `whole`, `line` (its first line), `tags` (what stands
                in the last <answer></answer>) or `last` (its last number).
            partial: Keep the verifier's credit for answers that are nearly right.
            format_reward: Added where the reply has the form that `answer` asks for.
        """
        self._datasets, self._system, self._suffix = datasets, system, suffix
        self._answer, self._partial, self._format = answer, partial, format_reward
        self._entry: dict[str, Any] = {}
        self._metrics: dict[str, float] = {}

    def reset(self, task: dict[str, Any], seed: int) -> Prompt:
        """The question of a task."""
        self._entry = task
        question = str(task["question"]) + self._suffix
        if not self._system:
            return question
        return [
            {"role": "system", "content": self._system},
            {"role": "user", "content": question},
        ]

    def step(self, answer: str) -> Step:
        """Score the answer; the episode is over."""
        found = extract(answer, self._answer)
        score = self._score(found)
        correct = score >= 1.0
        reward = score if self._partial else float(correct)
        reward += self._format * (found is not None)
        self._metrics = {"correct": float(correct), "formatted": float(found is not None)}
        return Step(None, reward, True)

    def metrics(self) -> dict[str, float]:
        """Whether the answer was right, and of the form that was asked for."""
        return self._metrics

    def _score(self, found: str | None) -> float:
        dataset = self._datasets[self._entry["metadata"]["source_dataset"]]
        if found is not None and found != self._entry["answer"] and evaluates(dataset.score_answer):
            found = found if is_harmless(found) else None
        try:
            score = float(dataset.score_answer(found, self._entry))
        except Exception:  # a verifier that cannot read an answer has not found it right
            return 0.0
        # Sums of shares of a letter exceed 1 by rounding (spell_backward, nine letters).
        return min(max(score, 0.0), 1.0) if math.isfinite(score) else 0.0


def extract(reply: str, rule: str) -> str | None:
    """The part of a reply that counts by a rule of ReasoningEnvironment; None if there is none."""
    if rule == "tags":
        inside = re.findall(r"<answer>(.*?)</answer>", reply, re.DOTALL)
        return inside[-1].strip() if inside else None
    if rule == "last":
        numbers = _NUMBER.findall(reply)
        return numbers[-1] if numbers else None
    text = reply.strip()
    if rule == "line":
        text = text.partition("\n")[0].strip()
    return text or None


def evaluates(verifier: Callable[..., Any]) -> bool:
    """Whether a verifier, or what it calls of its object and package, evaluates expressions."""
    asked = getattr(verifier, "__self__", None)
    kind = asked if isinstance(asked, type) else None if asked is None else type(asked)
    return _evaluates(getattr(verifier, "__func__", verifier), kind)


@lru_cache(maxsize=512)
def _evaluates(function: Any, owner: type | None) -> bool:
    # An inherited verifier calls what the class of its object has overridden.
    classes = () if owner is None else owner.__mro__
    packages = {_package(one) for one in (function, *classes)}
    seen, left = set[Any](), [function]
    while left:
        one = left.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            source = inspect.getsource(one)
        except OSError:  # nobody knows what it does
            return True
        if _EVALUATES.search(source) is not None:
            return True
        if "Decimal" in source and _WHOLE.search(source) is not None:
            return True
        module = inspect.getmodule(one)
        code = one.__code__
        named = {*code.co_names, *(n for inner in _inner(code) for n in inner.co_names)}
        known = [getattr(module, name, None) for name in named]
        places = (owner, module, *filter(inspect.ismodule, known))
        found = [getattr(place, name, None) for name in named for place in places]
        if _PACKAGES & {*map(_package, found), *(name.partition(".")[0] for name in named)}:
            return True
        functions = filter(inspect.isfunction, (getattr(f, "__func__", f) for f in found))
        left += [each for each in functions if _package(each) in packages]
    return False


def _package(thing: Any) -> str:
    """The first name of the module that it is or that defines it."""
    module = thing.__name__ if inspect.ismodule(thing) else getattr(thing, "__module__", "")
    return str(module).partition(".")[0]


def _inner(code: CodeType) -> Iterator[CodeType]:
    """What is defined inside a function: comprehensions, lambdas, functions."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inner(constant)


def make(name: str, options: Mapping[str, Any]) -> EnvironmentFactory:
    """The dataset of that name, or several joined by `+`, with the options of OPTIONS and its own.

    `size` and `test_size` count questions, `seed` draws them, `level` takes the difficulty from the
    dataset's curriculum (0 is the easiest), `system` is text or the name of one of the library's
    system prompts. The rest are ReasoningEnvironment's.

    Raises:
        ConfigError: reasoning-gym is not installed, there is no such dataset, or it has no such
            option.
    """
    where = f"reasoning_gym:{name}"
    gym = import_package("reasoning_gym", where, "reasoning")
    from reasoning_gym.factory import DATASETS
    from reasoning_gym.utils import SYSTEM_PROMPTS

    names = name.split("+")
    for one in names:
        if one == "composite":
            raise ConfigError(f"{where}: to mix datasets, join their names by +")
        if one not in DATASETS:
            near = likely_names(one, DATASETS, count=3, least=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ConfigError(f"{where}: reasoning-gym has no dataset {one!r}{hint}")
    taken = Options(where, options)
    size = taken.at_least("size", 10_000, 1)
    test_size = taken.at_least("test_size", 200, 1)
    seed = taken.at_least("seed", 0, 0)
    level = taken.at_least("level", -1, -1)
    given = taken.take("system", "")
    system = SYSTEM_PROMPTS.get(given, given)
    suffix = taken.take("suffix", "")
    tagged = "tags" if "<answer>" in system else "whole"
    answer = taken.take("answer", tagged, choices=("whole", "line", "tags", "last"))
    partial = taken.take("partial", True)
    bonus = taken.take("format", 0.0)
    fields = {
        one: {field.name for field in dataclasses.fields(DATASETS[one][1])} - {"size", "seed"}
        for one in names
    }
    own = sorted(set[str]().union(*fields.values()))
    taken.check(lambda key: key in own, f", and {', '.join(own)}" if own else "")

    def built(one: str, base: int, count: int) -> Any:
        settings = {key: _listed(value) for key, value in taken.left.items() if key in fields[one]}
        try:
            if level >= 0:
                settings = {**_curriculum(gym, one, level, where), **settings}
            # Indices beyond the size are asked for too, where a question is held out.
            return gym.create_dataset(one, **settings, seed=base, size=50 * count)
        except (AssertionError, TypeError, ValueError) as error:
            raise ConfigError(f"{where}: {error or 'the options do not fit'}") from error

    learned = {one: built(one, seed, size) for one in names}
    judged = {one: built(one, seed + _HELD_OUT, test_size) for one in names}
    test = ReasoningTasks(list(judged.values()), test_size)
    train = ReasoningTasks(list(learned.values()), size, test)

    def create() -> ReasoningEnvironment:
        return ReasoningEnvironment(
            learned,
            system=system,
            suffix=suffix,
            answer=answer,
            partial=partial,
            format_reward=bonus,
        )

    def tasks(split: Split) -> ReasoningTasks:
        return train if split == "train" else test

    return EnvironmentFactory(where, create, tasks)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _curriculum(gym: Any, name: str, level: int, where: str) -> dict[str, Any]:
    """The dataset's settings at a level of its curriculum, every attribute at that level."""
    from reasoning_gym.factory import create_curriculum, has_curriculum

    if not has_curriculum(name):
        raise ConfigError(f"{where}: {name} has no curriculum, and so no level")
    curriculum = create_curriculum(name)
    for attribute, definition in curriculum.attributes.items():
        last = len(definition.levels) - 1
        curriculum.set_attr_level(attribute, min(level, last))
    found = dataclasses.asdict(curriculum.generate_configuration())
    return {key: value for key, value in found.items() if key not in ("seed", "size")}

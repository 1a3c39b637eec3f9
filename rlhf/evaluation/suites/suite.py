"""What a suite is: questions of one kind, with what answers them, out of one source.

A question offers answers of which some are right (`Choice`), wants a text (`Written`) or the rest
of a program that tests are run on (`Program`), or is a text whose likelihood is measured
(`Passage`). How a model is asked is score.py's, where suites come from the room tasks/.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from playout.errors import DataError

__all__ = ["Choice", "Item", "Passage", "Program", "Suite", "Written"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with answers to choose from."""

    prompt: str
    """Empty where the answers are whole texts."""
    options: tuple[str, ...]
    """As they follow the prompt, blanks included."""
    scores: tuple[float, ...]
    """What each option is worth, 0 to 1; 1 for a right one."""
    group: str = ""
    """A subject, or a phenomenon."""
    question: str = field(default="", compare=False)
    """What is asked without options and a suite's own words, where the prompt holds such."""

    @property
    def text(self) -> str:
        """The question with its best answer."""
        return self.prompt + self.options[int(np.argmax(self.scores))]

    @property
    def example(self) -> str:
        """How it is shown as an example to others."""
        return self.text


@dataclass(frozen=True, slots=True)
class Written:
    """A question whose answer is to be written."""

    prompt: str
    answers: tuple[str, ...]
    """Any of which is right; blanks around do not count."""
    group: str = ""
    question: str = field(default="", compare=False)
    """As of a Choice."""

    @property
    def text(self) -> str:
        """The question with its first answer."""
        return f"{self.prompt}{self.answers[0]}"

    @property
    def example(self) -> str:
        """How it is shown as an example to others."""
        return self.text


@dataclass(frozen=True, slots=True)
class Program:
    """The beginning of a program whose rest is to be written, and run."""

    prompt: str
    solution: str
    """One that is right."""
    tests: str
    """What follows the solution; it fails where that is wrong."""
    group: str = ""
    question: str = field(default="", compare=False)
    """As of a Choice."""

    @property
    def text(self) -> str:
        """The program with its right solution, without tests."""
        return self.prompt + self.solution

    @property
    def example(self) -> str:
        """How it is shown as an example to others."""
        return self.text


@dataclass(frozen=True, slots=True)
class Passage:
    """A text whose likelihood is measured."""

    text: str
    group: str = ""

    @property
    def example(self) -> str:
        """Passages are no examples."""
        return ""


Item = Choice | Written | Program | Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Questions of one kind.

    Attributes:
        name: As on the command line.
        items: At least one, all of one class.
        about: A line on what is asked, for people.
        headers: What stands before the examples of a group, or of all under "".
        examples: Of a group, or of all under ""; where there are none, other items serve.
        pool: Those other items, where they are more than the ones that are asked.
        between: What separates examples from one another and from the question.
        spoken: Whether a model with a chat template is asked in it, as when it learned the task.
        by_length: Whether the headline weighs options by their length (log-probability a byte).
    """

    name: str
    items: tuple[Item, ...]
    about: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pool: tuple[Item, ...] = ()
    between: str = "\n\n"
    by_length: bool = False
    spoken: bool = False

    def __post_init__(self) -> None:
        if not self.items:
            raise DataError(f"the suite {self.name} holds no questions")

    @property
    def digest(self) -> str:
        """sha256 of all that is shown of the items, hexadecimal."""
        shown = [{k: v for k, v in asdict(i).items() if k != "question"} for i in self.items]
        lines = [json.dumps(item, sort_keys=True) for item in shown]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    def first(self, count: int | None, *, seed: int = 0) -> "Suite":
        """At most so many of the items, drawn without replacement; in their order.

        The others may still be shown as examples.
        """
        if count is None or count >= len(self.items):
            return self
        chosen = np.sort(np.random.default_rng([seed, 51]).permutation(len(self.items))[:count])
        items = tuple(self.items[n] for n in chosen)
        return replace(self, items=items, pool=self.pool or self.items)

    def shown(self, number: int, shots: int, *, last: int | None = None) -> str:
        """What stands before an item: header and examples, none of which is the item itself.

        Args:
            number: Of the item.
            shots: Examples, as far as there are so many; see `most_shots`.
            last: Only so many of the examples, those next to the item, without the header.
        """
        item = self.items[number]
        header = self.headers.get(item.group, self.headers.get("", ""))
        own = self._own_examples(item)
        if own is None and shots:
            pool = self.pool or self.items
            rows = np.random.default_rng([52, number]).permutation(len(pool))
            alike = [pool[n].example for n in rows if pool[n].group == item.group]
            own = [text for text in alike if text != item.example]
        taken = [text for text in own or [] if text][:shots]
        if last is not None:
            header, taken = "", taken[len(taken) - last :]
        return header + "".join(text + self.between for text in taken)

    def most_shots(self) -> dict[str, int]:
        """How many examples there are for every question of a group."""
        texts = Counter((one.group, one.example) for one in self.pool or self.items if one.example)
        sizes = Counter[str]()
        for (group, _), count in texts.items():
            sizes[group] += count
        found: dict[str, int] = {}
        for item in self.items:
            own = self._own_examples(item)
            others = sizes[item.group] - texts[item.group, item.example]
            count = others if own is None else len([text for text in own if text])
            found[item.group] = min(count, found.get(item.group, count))
        return found

    def _own_examples(self, item: Item) -> Sequence[str] | None:
        return self.examples.get(item.group, self.examples.get(""))

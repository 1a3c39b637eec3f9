"""Answer the prompts of a file by a policy."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from playout.rlhf.commands.answer_options import AnswerOptions
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from playout.rlhf.data.messages import Prompt
    from playout.rlhf.generation.player import Answer, LanguagePlayer


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(AnswerOptions):
    """Print or write one or more sampled answers to each prompt."""

    run: Annotated[Positional[str], arg(metavar="RUN")] = ""
    """A stage, a whole pipeline (its best policy) or a model folder."""
    prompts: Annotated[Path | None, arg(metavar="FILE")] = None
    """A prompt a line: a text, or an object with `messages` or `prompt`; or .csv or .parquet."""
    prompt: Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")] = None
    """A single prompt in place of a file, which may be empty; its answer is printed as it is
    written."""
    json: Annotated[Path | None, arg(metavar="OUT")] = None
    """Write a list of {"prompt" or "messages", "response", "logprob", "finished"} here instead of
    printing; of a name that ends in .jsonl, a line each. A command that is stopped leaves what is
    complete."""
    logprobs: bool = False
    """With --json: "tokens" as well, each with its text and log-probability."""
    chat: bool = False
    """Ask a chat model each plain text as a user's message, rather than to go on from it."""
    samples: int = 1
    """Answers a prompt."""


def main(command: Command) -> int:
    """Run the command."""
    from playout.agents.runs.reporting import must_be_writable
    from playout.errors import ConfigError
    from playout.rlhf.commands.answer_options import as_turns, open_player, read_asked

    if command.prompts is not None and command.prompt is not None:
        raise ConfigError("give --prompts or --prompt, not both")
    if not command.run or (command.prompts is None and command.prompt is None):
        raise ConfigError(
            "usage: playout rlhf generate RUN --prompts FILE (or --prompt TEXT) [--json OUT]"
        )
    if command.samples < 1:
        raise ConfigError(f"samples must be at least 1, not {command.samples}")
    if command.logprobs and command.json is None:
        raise ConfigError("--logprobs are written with the answers: name a file with --json OUT")
    if command.json is not None:
        must_be_writable(command.json)
    texts: list[Prompt] = [command.prompt or ""]
    names = ["the prompt"]
    if command.prompts is not None:
        texts, names = read_asked(command.prompts)
    player = open_player(command, command.run)
    turns = player.talk.speaks_in_turns
    if command.chat and command.plain:
        raise ConfigError("give --chat or --plain, not both: --plain leaves the template alone")
    if command.chat and not turns:
        raise ConfigError(f"{command.run} has no chat template; it goes on from plain texts")
    asked = [
        as_turns(p, wrap=command.chat or bool(command.system), system=command.system) for p in texts
    ]
    rows = [row for row in range(len(asked)) for _ in range(command.samples)]
    start = time.perf_counter()
    stream = None
    if command.json is None and len(rows) == 1:
        stream = _Stream(player, continues=isinstance(asked[0], str))
    kept = _Kept([asked[row] for row in rows], command, player)
    try:
        answers = player.answer(
            kept.prompts,
            names=[names[row] for row in rows],
            listen=None if stream is None else stream.hear,
            told=kept.take if stream is None else None,
        )
    except BaseException:
        kept.save()  # whoever stops it, and whatever does, leaves what is done
        raise
    seconds = time.perf_counter() - start
    kept.save()
    if stream is not None:
        stream.finish()
    _report(answers, seconds)
    _hint(texts, turns and not command.chat and not command.system)
    return 0


class _Kept:
    """Answers as they come: shown in the order of their prompts, or written from time to time."""

    def __init__(self, prompts: list[Prompt], command: Command, player: LanguagePlayer) -> None:
        from playout.rlhf.commands.kept_rows import KeptRows

        self.prompts, self.command, self.player = prompts, command, player
        self.answers: dict[int, Answer] = {}
        self._shown = 0
        self._rows: KeptRows | None = None
        if command.json is not None:
            self._rows = KeptRows(command.json, len(prompts), "prompts answered")

    def take(self, row: int, answer: Answer) -> None:
        """One more is complete."""
        self.answers[row] = answer
        if self._rows is None:
            while (next_one := self.answers.get(self._shown)) is not None:
                print(_shown(self.prompts[self._shown]) + next_one.text, flush=True)
                self._shown += 1
            return
        item = _item(self.prompts[row], answer, self.player, self.command.logprobs)
        self._rows.take([(row, item)])

    def save(self) -> None:
        """Write what is there to `--json`, if there is more than before."""
        if self._rows is not None:
            self._rows.save()


class _Stream:
    """A single answer, printed piece by piece."""

    def __init__(self, player: LanguagePlayer, *, continues: bool) -> None:
        from playout.rlhf.generation.stops import AnswerText, StopStrings

        stops = StopStrings(player.tokenizer, player.stop) if player.stop else None
        self.text = AnswerText(player.tokenizer, stops, continues=continues)
        self.stop_ids = player.talk.stop_ids

    def hear(self, row: int, token: int, logprob: float) -> None:
        """Print what has become certain."""
        if token not in self.stop_ids:
            print(self.text.push(token), end="", flush=True)

    def finish(self) -> None:
        """Print the rest."""
        print(self.text.finish(), flush=True)


def _item(prompt: Prompt, answer: Answer, player: LanguagePlayer, logprobs: bool) -> dict[str, Any]:
    """What is written of one answer."""
    item: dict[str, Any] = (
        {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}
    )
    item |= {
        "response": answer.text,
        "logprob": round(answer.logprob, 5),
        "finished": answer.finished,
        "num_tokens": len(answer.tokens),
        "prompt_tokens": answer.prompt_tokens,
    }
    if answer.cut:
        item["prompt_tokens_cut"] = answer.cut
    if logprobs:
        item["tokens"] = [
            {
                "id": token,
                "text": player.tokenizer.inner.decode([token], skip_special_tokens=False),
                "logprob": round(logprob, 5),
            }
            for token, logprob in zip(answer.tokens, answer.logprobs, strict=True)
        ]
    return item


def _shown(prompt: Prompt) -> str:
    """A prompt before its answer on the screen."""
    if isinstance(prompt, str):
        return f"{prompt}|"
    lines = [f"{message['role']}: {message['content']}\n" for message in prompt]
    return "".join(lines) + "assistant: "


def _hint(prompts: list[Prompt], plain: bool) -> None:
    import sys

    if plain and any(isinstance(prompt, str) for prompt in prompts):
        print(
            "plain texts are continued; --chat asks them as messages of a user's",
            file=sys.stderr,
        )


def _report(answers: list[Answer], seconds: float) -> None:
    """How fast it was, where it does not mix with the answers."""
    import sys

    written, read = (
        sum(len(answer.tokens) for answer in answers),
        sum(answer.prompt_tokens for answer in answers),
    )
    cut = sum(answer.cut > 0 for answer in answers)
    shortened = f"; {cut} prompts were cut to fit" if cut else ""
    print(
        f"{len(answers)} answers, {written} tokens in {seconds:.1f} s "
        f"({written / max(seconds, 1e-9):.0f} tokens/s after {read} of prompts){shortened}",
        file=sys.stderr,
    )

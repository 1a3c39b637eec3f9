"""A conversation with a policy and what it has read so far, so that nothing is read twice.

Keys and values of earlier turns stay in the decoder; a new line costs its own tokens alone. Lines,
commands and the terminal are terminal.py's.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from playout.errors import DataError
from playout.rlhf.data.messages import Message, Prompt
from playout.rlhf.generation.conversation import fit_prompt
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.player import Answer, LanguagePlayer
from playout.rlhf.generation.stops import AnswerText, StopStrings

__all__ = ["Session", "Turn"]

FIRST_CAPACITY = 1024


@dataclass(frozen=True, slots=True)
class Turn:
    """A line and what was answered."""

    said: str
    answer: Answer
    seconds: float


class Session:
    """What was said, as text and as tokens.

    Attributes:
        player: The policy and the settings of its answers.
        system: What a chat model is told first; nothing if empty.
        whole: Earlier turns are context of later ones.
        turns: The conversation so far.
        left_out: The last line found earlier turns left out, since they no longer fit.
        cut: Tokens of the last line that were left out, as the player's `truncate` says.
    """

    def __init__(self, player: LanguagePlayer, *, system: str = "", whole: bool = False) -> None:
        self.player, self.system, self.whole = player, system, whole
        self.turns: list[Turn] = []
        self.left_out, self.cut = False, 0
        self._after: list[list[int]] = []  # tokens of the conversation up to each turn's end
        self._cached: list[int] = []  # what the decoder's row holds, while its uses stay
        self._uses: tuple[Decoder, int] | None = None
        self._capacity = 0

    def ask(self, line: str, hear: Callable[[str], None] | None = None) -> Answer:
        """The answer to a line, which joins the conversation.

        An interrupt from the keyboard ends the answer where it is.

        Args:
            line: What is said.
            hear: Told the pieces of the answer as they come.

        Raises:
            PlayoutError: The line does not fit or the template does not take it; the conversation
                is as it was.
        """
        ids = self._read(line)
        start = time.perf_counter()
        answer = self._write(ids, hear or (lambda piece: None))
        self.turns.append(Turn(line, answer, time.perf_counter() - start))
        self._after.append([*ids, *answer.tokens])
        return answer

    def again(self, hear: Callable[[str], None] | None = None) -> Answer | None:
        """Another answer to the last line in place of the one it got; None if there is no line."""
        if not self.turns:
            return None
        kept = self.turns, self._after
        line = self.turns[-1].said
        self.undo()
        try:
            return self.ask(line, hear)
        except Exception:
            self.turns, self._after = kept
            raise

    def undo(self) -> bool:
        """Forget the last line and its answer; whether there was one."""
        if not self.turns:
            return False
        self.turns, self._after = self.turns[:-1], self._after[:-1]
        return True

    def clear(self) -> None:
        """Forget all that was said."""
        self.turns, self._after = [], []

    def messages(self, line: str | None = None) -> list[Message]:
        """The conversation as messages, a further line of the user's at its end if one is given."""
        found = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            found.append({"role": "user", "content": turn.said})
            found.append({"role": "assistant", "content": turn.answer.text})
        return found if line is None else [*found, {"role": "user", "content": line}]

    def _read(self, line: str) -> list[int]:
        """The tokens up to where the policy writes."""
        talk, room = self.player.talk, self.player.room()
        self.left_out, self.cut = False, 0
        if not talk.speaks_in_turns:
            earlier = [turn.said + turn.answer.text + "\n" for turn in self.turns]
            # What the policy wrote is among the earlier turns, whatever it spells.
            text = "".join([*earlier, line]) if self.whole else line
            ids = talk.begin(text, special=not self.whole)
            while len(ids) > room and self.whole and earlier:
                self.left_out = True
                del earlier[0]
                ids = talk.begin("".join([*earlier, line]))
            if len(ids) <= room:
                return ids
            return self._fit(line)
        system = [m for m in self.messages() if m["role"] == "system"]
        alone = [*system, {"role": "user", "content": line}]
        if not self.whole:
            return self._fit(alone)
        if self._after:
            so_far = self._after[-1]
            ids = [*so_far, *talk.between(line, so_far[-1] in talk.stop_ids)]
        else:
            ids = talk.begin(self.messages(line))
        if len(ids) <= room:
            return ids
        if len(talk.begin(alone)) > room:
            ids = self._fit(alone)
            self.left_out = bool(self.turns)
            return ids
        self.left_out = True
        return fit_prompt(talk, self.messages(line), room, "left")[0]

    def _fit(self, alone: Prompt) -> list[int]:
        """The tokens of a line without earlier turns, cut as the player says."""
        player = self.player
        special = not self.whole  # what the policy wrote may be in it otherwise
        try:
            ids, self.cut = fit_prompt(
                player.talk, alone, player.room(), player.truncate, special=special
            )
        except DataError as error:
            if "room for" not in str(error):
                raise  # the template does not take it
            hint = "let it be cut (truncate left or right), or ask for a shorter answer"
            raise DataError(f"the line: {error}; {hint}") from None
        return ids

    def _write(self, ids: list[int], hear: Callable[[str], None]) -> Answer:
        player, talk = self.player, self.player.talk
        self._make_room(len(ids) + player.max_new_tokens)
        goes_on = not talk.speaks_in_turns
        stops = (
            StopStrings(player.tokenizer, player.stop, continues=goes_on) if player.stop else None
        )
        text = AnswerText(player.tokenizer, stops, continues=goes_on)
        tokens: list[int] = []
        logprobs: list[float] = []

        def listen(row: int, token: int, logprob: float) -> None:
            tokens.append(token)
            logprobs.append(logprob)
            if token not in talk.stop_ids:
                hear(text.push(token))

        decoder = player.decoder
        mine = self._uses == (decoder, decoder.uses)
        cached, self._cached = self._cached if mine else [], []
        finished = False
        with suppress(KeyboardInterrupt):
            out = generate(
                decoder,
                [ids],
                max_new_tokens=player.max_new_tokens,
                stop=talk.stop_ids,
                pad=player.tokenizer.pad_id,
                sampling=player.sampling,
                seed=player.seed,
                exact=False,
                ends=stops,
                listen=listen,
                cached=cached,
            )
            finished = bool(out.finished[0])
        hear(text.finish())
        # The last token was chosen and not yet read.
        self._cached = [*ids, *tokens][:-1] if tokens else []
        self._uses = decoder, decoder.uses
        return Answer(text.text, tokens, logprobs, finished, len(ids), self.cut)

    def _make_room(self, length: int) -> None:
        """Let the cache grow in few steps; what it held has to be read again after each."""
        if length > self._capacity:
            context = self.player.model.config.max_position_embeddings
            self._capacity = min(context, max(length, 2 * self._capacity, FIRST_CAPACITY))
            self.player.decoder.allocate(1, self._capacity)
            self._cached = []

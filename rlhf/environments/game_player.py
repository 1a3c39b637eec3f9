"""A language policy as a player of games: positions become prompts, answers become moves.

What it writes is read as strictly as in training; an answer that is no legal move is counted, and
then answered by a random legal move or by the loss of the game. It can also be held to the legal
moves by a trie, which asks how well it plays apart from whether it knows the rules. Matches,
`playout play` and `eval` know it as any other player (agents/players/player.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from playout.agents.players.analysis import Analysis, Judge
from playout.agents.players.player import (
    Actions,
    Forfeit,
    NoSearchError,
    RunPlayer,
    must_be_positions,
)
from playout.agents.players.simple import pick
from playout.agents.runs.devices import pack_to_device
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.rlhf.data.encoding import encode_answer
from playout.rlhf.data.messages import Prompt
from playout.rlhf.environments.game_prompt import GamePrompt
from playout.rlhf.environments.load import read_options, stored_options
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.stops import StopStrings
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.generation.trie import AnswerTrie
from playout.rlhf.model.reference import sequence_logprobs
from playout.rlhf.model.threads import MAX_TOKENS, decoding_threads
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.stages.sizes import response_length

__all__ = ["LanguageGamePlayer", "Settings", "as_learned", "game_player"]

ON_ILLEGAL = ("random", "loss")
_SCORED = 256  # answers scored at a time
_SHORT, _TALKING = 12, 64  # tokens of an answer: of a text, and of a chat model that may talk


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a language policy plays, as in `playout match "RUN?temperature=1&illegal=loss" ...`."""

    temperature: float = 0.0
    """0 takes the likeliest tokens."""
    illegal: str = "random"
    """After an answer that is no legal move: random plays one, loss gives the game up."""
    constrain: bool = False
    """Let it write legal moves only."""
    max_new_tokens: int = 0
    """Longest answer; 0 as suits the model."""
    rules: bool = True
    """Begin prompts with sentences about the game."""
    goal: bool = True
    """With rules: say what wins, too, where the game says it."""
    legal_moves: bool = False
    """Name the legal moves in the prompt."""
    own: bool = False
    """Show every player its own stones as the first player's."""
    find: bool = False
    """Take the last word of an answer that is a legal move."""
    plain: bool = False
    """Give a chat model prompts as they stand, not as a user's messages."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer besides the model's own end."""

    def __post_init__(self) -> None:
        if self.illegal not in ON_ILLEGAL:
            raise ConfigError(f"illegal must be random or loss, not {self.illegal!r}")
        if not self.temperature >= 0 or self.max_new_tokens < 0:
            raise ConfigError("temperature and max_new_tokens must not be negative")

    def with_words(self, words: Mapping[str, str]) -> Settings:
        """The same with settings as they are typed.

        Raises:
            ConfigError: There is no such setting, or it cannot have this value.
        """
        changes: dict[str, Any] = {}
        for name, word in words.items():
            old = getattr(self, name) if name in self.__dataclass_fields__ else None
            if old is None:
                known = ", ".join(self.__dataclass_fields__)
                raise ConfigError(f"a language policy has no setting {name!r}; it has {known}")
            try:
                if isinstance(old, bool):
                    changes[name] = {"true": True, "false": False}[word.lower()]
                else:
                    changes[name] = (word,) if isinstance(old, tuple) else type(old)(word)
            except (KeyError, ValueError):
                kind = "true or false" if isinstance(old, bool) else f"a {type(old).__name__}"
                raise ConfigError(f"{name}={word!r} is not {kind}") from None
        return replace(self, **changes)


class LanguageGamePlayer(RunPlayer):
    """Plays one game.

    Attributes:
        answers: Answers given since it was made.
        illegal: How many of them were no legal moves.
        temperature: 0 takes the likeliest tokens.
        threads: Of torch while it answers; 0 leaves them to a rule.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        game: NativeGame,
        settings: Settings | None = None,
        *,
        name: str = "language",
        dtype: torch.dtype = torch.float32,
        threads: int = 0,
    ) -> None:
        self.model, self.tokenizer, self.game = model, tokenizer, game
        self.settings = Settings() if settings is None else settings
        self.name, self.dtype, self.threads = name, dtype, threads
        self.temperature = self.settings.temperature
        self.answers = self.illegal = 0
        self._seed = self._calls = 0
        self._decoder: Decoder | None = None

    @property
    def prompt(self) -> GamePrompt:
        """How positions are shown and answers are read."""
        settings = self.settings
        return GamePrompt(
            self.game,
            settings.rules,
            settings.legal_moves,
            settings.find,
            settings.goal,
            settings.own,
        )

    def reset(self, seed: int) -> None:
        """New games begin."""
        self._seed, self._calls = seed, 0

    def weights_changed(self) -> None:
        """Read the model's weights anew before the next answer."""
        self._decoder = None

    @property
    def longest(self) -> int:
        """Tokens of an answer, at most; before its move a policy may say a word about every one."""
        usual = _TALKING if self._in_turns else _SHORT + self.prompt.told
        return self.settings.max_new_tokens or usual

    @property
    def _in_turns(self) -> bool:
        """Whether prompts are a user's messages."""
        return self.tokenizer.template is not None and not self.settings.plain

    def write(self, states: StateBatch) -> list[str]:
        """What the policy answers in each of B positions, as it stands."""
        streams = range(self._calls, self._calls + len(states))
        self._calls += len(states)
        return self._written(states, streams, self.temperature, constrain=self.settings.constrain)

    def _written(
        self, states: StateBatch, streams: Sequence[int], temperature: float, *, constrain: bool
    ) -> list[str]:
        prompt = self.prompt
        talk = conversation_format(self.tokenizer)
        texts = [prompt(state) for state in states]
        rows = [
            talk.begin([{"role": "user", "content": text}] if self._in_turns else text)
            for text in texts
        ]
        self._must_fit(rows)
        stops = StopStrings(self.tokenizer, self.settings.stop) if self.settings.stop else None
        if self._decoder is None:
            self._decoder = Decoder(self.model, dtype=self.dtype)
        allowed = None
        if constrain:
            moves = [prompt.answers(state) for state in states]
            allowed = AnswerTrie(self.tokenizer, moves, stop=talk.stop_ids)
        with decoding_threads(self.model, len(rows), self.threads):
            out = generate(
                self._decoder,
                rows,
                max_new_tokens=self.longest,
                stop=talk.stop_ids,
                pad=self.tokenizer.pad_id,
                sampling=SamplingConfig(temperature),
                seed=self._seed,
                streams=streams,
                dtype=self.dtype,
                ends=stops,
                allowed=allowed,
            )
        answers = [talk.answer(out.response(row)) for row in range(len(rows))]
        return answers if stops is None else [stops.cut(answer) for answer in answers]

    def _must_fit(self, rows: Sequence[Sequence[int]]) -> None:
        context, longest = self.model.config.max_position_embeddings, max(map(len, rows), default=0)
        if longest + self.longest > context:
            shorter = (
                "rules=false"
                if self.settings.rules
                else f"max_new_tokens={max(1, self.longest // 2)}"
            )
            raise ConfigError(
                f"{self.name}: a position of {self.game} takes {longest} tokens and an answer "
                f"{self.longest}, more than the context of {context}; settings may make them "
                f"shorter, such as RUN?{shorter}"
            )

    def read(self, states: StateBatch) -> Actions:
        """The move that the policy writes in each of B positions, -1 where it writes none."""
        prompt = self.prompt
        written = self.write(states) if len(states) else []
        found = [prompt.read(state, text) for state, text in zip(states, written, strict=True)]
        self.answers += len(found)
        self.illegal += found.count(None)
        return np.array([-1 if action is None else action for action in found], np.int32)

    def act(self, states: StateBatch) -> Actions:
        """A legal move for each position; a random one where the answer is none."""
        must_be_positions(states, self.name, self.game)
        actions = self.read(states)
        (bad,) = np.nonzero(actions < 0)
        if len(bad):
            rng = np.random.default_rng([self._seed, 7, self._calls])
            actions[bad] = pick(states[bad].legal_mask() > 0, rng)
        return actions

    def remarks(self) -> dict[str, float]:
        """What a match tells of it beside its results."""
        return {"answers": self.answers, "illegal": self.illegal}

    def with_words(self, words: Mapping[str, str]) -> LanguageGamePlayer:
        """The same policy with other settings, as they are typed."""
        settings = self.settings.with_words(words)
        kind = _Forfeiting if settings.illegal == "loss" else LanguageGamePlayer
        return kind(
            *(self.model, self.tokenizer, self.game, settings),
            name=self.name,
            dtype=self.dtype,
            threads=self.threads,
        )

    def with_simulations(self, simulations: int) -> LanguageGamePlayer:
        """Itself; a language policy does not search."""
        if simulations:
            raise NoSearchError(
                f"{self.name} is a language policy, which does not search; leave simulations out"
            )
        return self

    def judge(self) -> Judge:
        """How likely each legal move is to be written; of values it says nothing."""
        return self._judge

    def judges(self) -> dict[str, Judge]:
        """Its only opinion."""
        return {"policy": self._judge}

    def _judge(self, states: StateBatch) -> Analysis:
        logprobs = self.move_logprobs(states)
        weights = np.exp(logprobs - logprobs.max(axis=1, keepdims=True))
        policy = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        action = policy.argmax(axis=1).astype(np.int32)
        nothing = np.full(policy.shape, np.nan, np.float32)
        value, visits = np.zeros(len(states), np.float32), np.zeros(policy.shape, np.int32)
        return Analysis(action, policy, value, visits, nothing, [[a] for a in action.tolist()])

    def _thoughts(self, states: StateBatch) -> list[str]:
        """What is likeliest to be said before a move, where the policy may say anything."""
        if not self.settings.find or self._in_turns:
            return [""] * len(states)
        texts = self._written(states, range(len(states)), 0.0, constrain=False)
        return [text.rstrip().rpartition(" ")[0].rstrip() for text in texts]

    @torch.no_grad()
    def move_logprobs(self, states: StateBatch) -> np.ndarray:
        """float32 [B, A]: log-probability of each legal move as a whole answer, -inf elsewhere.

        A policy that says something before its move says what is likeliest first.
        """
        talk, prompt = conversation_format(self.tokenizer), self.prompt
        thoughts = self._thoughts(states)
        found = np.full((len(states), self.game.num_actions), -np.inf, np.float32)
        places, rows = [], []
        for row, state in enumerate(states):
            text = prompt(state)
            asked: Prompt = [{"role": "user", "content": text}] if self._in_turns else text
            head = talk.begin(asked)
            head = [*head, *self.tokenizer.encode(thoughts[row], continues=True)]
            for action in state.legal_actions:
                move = state.action_text(action)
                answer = move if self._in_turns else prompt.answer(state, action)
                places.append((row, action))
                rows.append((head, encode_answer(talk, asked, answer)))
        for start in range(0, len(rows), _SCORED):
            part = rows[start : start + _SCORED]
            width = max(len(head) + len(ids) for head, ids in part)
            tokens = torch.full((len(part), width), self.tokenizer.pad_id)
            valid = torch.zeros(len(part), width - 1, dtype=torch.bool)
            for number, (head, ids) in enumerate(part):
                whole = torch.tensor([*head, *ids])
                tokens[number, : len(whole)] = whole
                valid[number, len(head) - 1 : len(whole) - 1] = True
            parts = pack_to_device([tokens[:, :-1], tokens[:, 1:], valid], self.model.device)
            with decoding_threads(self.model, min(tokens.numel(), MAX_TOKENS), self.threads):
                logprobs, _, _ = sequence_logprobs(self.model, *parts, dtype=self.dtype)
            for (row, action), total in zip(places[start:], logprobs.sum(1).tolist(), strict=False):
                found[row, action] = total
        return found


class _Forfeiting(LanguageGamePlayer):
    """The same where an answer that is no legal move loses the game."""

    def act_after(
        self, states: StateBatch, lines: Sequence[Sequence[int]]
    ) -> tuple[Actions, dict[int, Forfeit]]:
        """The moves, and the rows whose answer was none."""
        must_be_positions(states, self.name, self.game)
        actions = self.read(states)
        bad = np.flatnonzero(actions < 0).tolist()
        return actions, {row: Forfeit("an answer that is no legal move") for row in bad}

    def close(self) -> None:
        """Nothing was started."""


def as_learned(config: Mapping[str, Any]) -> dict[str, Any]:
    """How the policy of a run with these settings was asked and answered: options of a player."""
    options = read_options(stored_options(config))
    if not str(config.get("env") or "").startswith("game:"):
        return options
    found = {
        "find": False,
        **options,
        "plain": bool(config.get("plain_text")),
        "stop": tuple(config.get("stop") or ()),
        "constrain": bool(config.get("constrained")),
    }
    if "max_new_tokens" not in config:  # a run of many stages, each with its own
        return found
    return {**found, "max_new_tokens": response_length(config)}


def game_player(
    model: Transformer,
    tokenizer: Tokenizer,
    game: NativeGame,
    *,
    name: str,
    options: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    threads: int = 0,
) -> LanguageGamePlayer:
    """The player of a policy.

    Args:
        model: The policy.
        tokenizer: Its tokenizer.
        game: What is played.
        name: What tables call it.
        options: Those of the environment in which it learned, and settings of its answers there;
            how prompts look and answers are written is taken over.
        dtype: Of matrix products.
        threads: Of torch while it answers; 0 leaves them to a rule.
    """
    talks = tokenizer.template is not None
    looks = ("rules", "goal", "legal_moves", "own", "find")
    known = (*looks, "plain", "stop", "constrain", "max_new_tokens")
    shown = {key: options[key] for key in known if key in options}
    settings = replace(Settings(find=talks), **shown)
    return LanguageGamePlayer(
        model, tokenizer, game, settings, name=name, dtype=dtype, threads=threads
    )

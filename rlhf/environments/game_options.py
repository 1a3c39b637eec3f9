"""What `--env-options` may say of a game: fields with their defaults, checked one by one.

What they do is game.py's; how positions are then shown, game_prompt.py's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from playout.envs.core.game import NativeGame
from playout.errors import ConfigError
from playout.rlhf.environments.environment import Split
from playout.rlhf.environments.game_prompt import GamePrompt

__all__ = ["SELF", "GameOptions"]

SELF = "self"
"""The opponent that is the policy itself."""
MODES = ("move", "game")
ILLEGAL = ("loss", "resample", "random")
_POSITIONS = 4096
_LEAST = {"retries": 0, "simulations": 1, "positions": 1, "test_positions": 1, "seed": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class GameOptions:
    """What `--env-options` may say."""

    mode: str = "move"
    """move (one position, one answer) or game (to its end)."""
    opponent: str = "random"
    """Who plays the other sides: random, uct:N, any other player of `playout match`, a run, or
    self: the policy, which then has a role for each player."""
    reward: str = ""
    """legal, outcome, regret, search or result, or several with a plus between; by default the
    outcome where a solver masters the game, else search; in whole games the result."""
    legal_moves: bool = False
    """Name the legal moves in the prompt."""
    rules: bool = True
    """Begin prompts with sentences about the game."""
    goal: bool = True
    """With rules: say what wins, too, where the game says it."""
    own: bool = False
    """Show every player its own stones as the first player's, in games of two with a letter each: a
    model then learns boards once, not once for each side."""
    find: bool = False
    """Take the last word of an answer that is a legal move, for policies that talk."""
    illegal: str = "loss"
    """What an answer that is no legal move does: loss ends the episode, resample asks again,
    random plays any legal move."""
    illegal_reward: float = -1.0
    """For each such answer."""
    retries: int = 3
    """How often `resample` asks again in a row."""
    simulations: int = 200
    """Of UCT, for the reward search."""
    judge: str = ""
    """A run whose search says what moves are worth, in place of UCT."""
    positions: int | None = None
    """Tasks to learn from, at most; by default 4096, and of a file all."""
    test_positions: int = 512
    """Tasks to be judged on, at most; none is an image of one that is learned from."""
    plies: tuple[int, ...] = ()
    """Fewest and most random moves that lead to a position, such as (8,26); in whole games one
    number, those of the opening."""
    file: str = ""
    """Positions to learn from in place of random ones: .jsonl with `position`, the text of a state,
    and `outcomes` where they are solved. Images of positions to be judged on are left out."""
    open: bool = False
    """Also positions where nothing is at stake: all moves alike, or a win at once."""
    seed: int = 0
    """Of positions and openings."""

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("illegal", ILLEGAL)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}"
                )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, not {value}")
        if not math.isfinite(self.illegal_reward):
            raise ConfigError(f"illegal_reward must be finite, not {self.illegal_reward}")
        wanted = 2 if self.mode == "move" else 1
        if self.plies and (len(self.plies) != wanted or list(self.plies) != sorted(self.plies)):
            raise ConfigError(f"plies={self.plies}: give {('a number', 'two, rising')[wanted - 1]}")
        if min(self.plies, default=0) < 0:
            raise ConfigError(f"plies must not be negative: {self.plies}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "GameOptions":
        """From what a command line gave.

        Raises:
            ConfigError: An option is unknown or of the wrong kind.
        """
        defaults = {field.name: field.default for field in fields(cls)}
        defaults["positions"] = _POSITIONS
        given = dict(options)
        if isinstance(given.get("plies"), int):
            given["plies"] = (given["plies"],)
        for name, value in given.items():
            if name not in defaults:
                raise ConfigError(f"a game has no option {name!r}; it has {', '.join(defaults)}")
            default: Any = defaults[name]
            kinds: Any = (int, float) if isinstance(default, float) else type(default)
            if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
                raise ConfigError(f"{name}={value!r}: give {_kind(default)}")
            if isinstance(value, tuple) and not all(type(one) is int for one in value):
                raise ConfigError(f"{name}={value!r}: give whole numbers")
        return cls(**given)

    def num_tasks(self, split: Split) -> int:
        """How many tasks a side has, at most."""
        if split == "test":
            return self.test_positions
        return _POSITIONS if self.positions is None else self.positions

    def prompt(self, game: NativeGame) -> GamePrompt:
        """How positions are shown."""
        return GamePrompt(game, self.rules, self.legal_moves, self.find, self.goal, self.own)


def _kind(default: Any) -> str:
    """What errors call the kind of value that an option takes."""
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, str):
        return "a text"
    if isinstance(default, tuple):
        return "whole numbers in brackets"
    return "a number" if isinstance(default, float) else "a whole number"

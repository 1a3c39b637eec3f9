"""The game that a run has learned, and which other games its network may be asked about.

The same game is fine; the same game on the same board by other rules, such as another komi, is said
on standard error; anything else is refused, also where its boards happen to have the same shape.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

from playout.agents.players.search import has_shape_of
from playout.agents.runs.directory import RunDir
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import built_in, game_text
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError
from playout.own_code import trust


def learned_game(
    text: str,
    run: RunDir,
    given: object | None = None,
    *,
    also: Sequence[str] = (),
    variants: bool = False,
) -> NativeGame:
    """The game of that name, which a run has stored, or one that it has learned besides.

    Args:
        text: the name.
        run: the run.
        given: the game as the person names or holds it.
        also: the names of what it has learned besides.
        variants: whether one of playout's games may also be given by other rules on the same board,
            such as another komi; standard error tells of it.
    """
    others = list[NativeGame]()
    if given is not None:
        game, others = find_game(given), [find_game(one) for one in also]
        if text in (game_text(game), str(game)) or str(game) in map(str, others):
            return game
    if ":" in text:
        trust(text, run.path)
    try:
        known = find_game(text)
    except ConfigError as error:
        if given is not None:
            raise ConfigError(f"{run.path} has learned {text}, not {game}") from None
        raise ConfigError(
            f"{run.path} has learned {text}, which cannot be made from its name ({error}); in "
            "Python give it as game=, in a terminal name what makes it: --game module:Name"
        ) from error
    if given is None or game == known:
        return known
    if not variants:
        raise ConfigError(f"{run.path} has learned {known}, not {game}")
    must_be_variant(run, game, [known, *others])
    return game


def must_be_variant(run: RunDir, game: NativeGame, learned: Sequence[NativeGame]) -> None:
    """Refuses a game that is none of those learned by other rules; standard error tells of it.

    Args:
        run: the run.
        game: what it is to play.
        learned: what it has learned, the one that it is named after first.
    """
    alike = [one for one in learned if built_in(one) and has_shape_of(one, game)]
    if not (alike and built_in(game)):
        raise ConfigError(f"{run.path} has learned {learned[0]}, not {game}")
    _note(f"note: {run.path} has learned {alike[0]}, and plays {game} by the same network")


@functools.cache  # once: an analysis loads its run for every core
def _note(line: str) -> None:
    print(line, file=sys.stderr)

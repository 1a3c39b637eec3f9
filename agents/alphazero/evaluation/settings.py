"""How much an evaluation in training does, and what that costs, in counts.

A cost in counts is the same on every machine, so that a plan made from it repeats: how long it
takes follows from two measured speeds. Left out: the evaluation itself (in_training.py), and which
share of a run's time it may have (budget/).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from playout.agents.alphazero.evaluator import MAX_SYMMETRIES
from playout.agents.rating.play import usual_plies
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError

FIRST_ANCHOR, ANCHOR_GROWTH = 4, 5
"""Simulations of the weakest tree search that anchors a rating, and of each next one in terms of
the one before: 4, 20, 100, 500, 2,500."""

MAX_OPPONENTS = 4
"""Of an evaluation: two earlier networks and two anchors."""

MIN_GAMES, MIN_SIMULATIONS, MIN_POSITIONS = 8, 8, 50
"""Below these an evaluation says nothing and is not shrunk any further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """What an evaluation in training does.

    Attributes:
        simulations: of a network's search, a move.
        games: of an evaluation, shared by all opponents; of one player, all.
        positions: solved positions that are looked at, where the game has some.
        max_anchor: simulations of the strongest anchor; anchors grow until there.
        max_snapshots: earlier networks that are kept.
        proofs: whether alpha-beta helps at the search's leaves, see proofs.py.
    """

    simulations: int = 128
    games: int = 40
    positions: int = 400
    max_anchor: int = 2500
    max_snapshots: int = 4
    proofs: bool = True

    def __post_init__(self) -> None:
        for name in ("simulations", "max_snapshots"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} of an evaluation must be at least 1")
        if min(self.games, self.positions, self.max_anchor) < 0:
            raise ConfigError("games, positions and max_anchor must not be negative")

    @property
    def anchors(self) -> tuple[str, ...]:
        """Players that never change, the weakest first; Elo is counted from it."""
        found, simulations = ["random"], FIRST_ANCHOR
        while simulations <= self.max_anchor:
            found.append(f"uct:{simulations}")
            simulations *= ANCHOR_GROWTH
        return tuple(found)


@dataclass(frozen=True, slots=True)
class EvaluationCost:
    """What an evaluation takes at most, in counts.

    Attributes:
        evaluations: positions that networks answer.
        plies: moves that the rules make, in searches and random games.
    """

    evaluations: int
    plies: int

    def seconds(self, evaluations_per_s: float, plies_per_s: float) -> float:
        """How long that takes where networks and rules are so fast."""
        return self.evaluations / evaluations_per_s + self.plies / plies_per_s


def evaluation_cost(
    game: NativeGame, settings: EvaluationSettings, *, length: float | None = None
) -> EvaluationCost:
    """What one evaluation costs at most: all opponents there, the strongest anchor among them.

    Args:
        game: the game.
        settings: what is done.
        length: plies of a game; by default as long as random games are.
    """
    plies = usual_plies(game) if length is None else length
    symmetries = game.num_symmetries if game.num_symmetries <= MAX_SYMMETRIES else 1
    seats = game.num_players
    rollout = settings.max_anchor * plies / 2  # a random game begins half-way on average
    # Seats at all games, each taken by the newest network, an earlier one or an anchor.
    if seats == 1:
        network_moves, anchor_moves = settings.games * plies, 2 * settings.games * plies
    else:
        moves = plies / seats
        network_moves = settings.games * moves * (1 + (seats - 1) / 2)
        # Half of the opponents are anchors; each new one meets the one before, which searches less.
        anchor_moves = settings.games * moves * ((seats - 1) / 2 + seats / 2)
    searches = network_moves + settings.positions
    evaluations = symmetries * (searches * settings.simulations + settings.positions)
    total = searches * settings.simulations + anchor_moves * rollout
    return EvaluationCost(round(evaluations), round(total))


def shrunk(settings: EvaluationSettings) -> Iterator[EvaluationSettings]:
    """Ever cheaper settings, `settings` first.

    Anchors grow less first, then games and positions become fewer and searches smaller.
    """
    yield settings
    while True:
        before = settings
        if settings.max_anchor >= FIRST_ANCHOR * ANCHOR_GROWTH:
            settings = replace(settings, max_anchor=settings.max_anchor // ANCHOR_GROWTH)
            yield settings
        games = max(min(MIN_GAMES, settings.games), settings.games * 3 // 4)
        positions = max(min(MIN_POSITIONS, settings.positions), settings.positions * 3 // 4)
        settings = replace(settings, games=games, positions=positions)
        yield settings
        simulations = max(min(MIN_SIMULATIONS, settings.simulations), settings.simulations * 3 // 4)
        settings = replace(settings, simulations=simulations)
        yield settings
        if settings == before:
            return


def settings_within(
    game: NativeGame,
    settings: EvaluationSettings,
    *,
    seconds: float,
    evaluations_per_s: float,
    plies_per_s: float,
) -> EvaluationSettings:
    """The first of `shrunk(settings)` that takes no longer than `seconds`, or else the last.

    Args:
        game: the game.
        settings: what is done if there is time.
        seconds: what an evaluation may take.
        evaluations_per_s: how fast networks answer here.
        plies_per_s: how fast the rules are here.
    """
    length, found = usual_plies(game), settings
    for found in shrunk(settings):
        cost = evaluation_cost(game, found, length=length)
        if cost.seconds(evaluations_per_s, plies_per_s) <= seconds:
            break
    return found

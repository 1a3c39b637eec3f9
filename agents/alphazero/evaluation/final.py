"""The rating of a run at its end: more games than in training, within the time that is left.

The player meets random play, tree searches as strong as it can hardly beat, and earlier networks of
its own run. Everybody gets equally many games: a first round shows how long they take, and later
ones double as long as they fit. Openings, dice and positions are others than those by which the
checkpoint was chosen. Left out: telling people (report.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from playout.agents.alphazero.evaluation.ladder import Ladder, Snapshot
from playout.agents.alphazero.evaluation.settings import EvaluationSettings
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.player import AlphaZeroPlayer
from playout.agents.players.load import make_player
from playout.agents.players.player import Player
from playout.agents.rating.evaluation import judge_positions, score_of
from playout.agents.rating.games import PlayedGame, pair_up
from playout.agents.rating.intervals import mean_interval
from playout.agents.rating.openings import opening_plies, random_openings
from playout.agents.rating.play import play_games
from playout.agents.rating.ratings import Result, rate, weight_at_tables
from playout.agents.rating.tables import rotations
from playout.agents.runs.console import progress
from playout.agents.runs.directory import RunDir
from playout.envs.core.game import NativeGame
from playout.errors import CheckpointError, StoppedError

GAMES = 200  # against each opponent, if there is time
USUAL_ANCHOR = 500  # simulations of the search that compiled games always meet ...
USUAL_SLOW_ANCHOR = 20  # ... and games at Python's speed
MAX_ANCHOR = 12_500
MAX_EARLIER = 2  # networks of the run itself


def ladder_of(run: RunDir, which: str | int, game: NativeGame) -> Ladder:
    """The ladder that a checkpoint holds; an empty one where it was made without ratings."""
    settings = EvaluationSettings(max_anchor=MAX_ANCHOR)
    ladder = Ladder(
        settings.anchors,
        max_snapshots=settings.max_snapshots,
        weight=weight_at_tables(game.num_players),
    )
    try:
        state = run.load(which, only=("evaluation",))[1]
    except CheckpointError:  # of an earlier version
        return ladder
    ladder.load_state_dict(state["evaluation"]["ladder"])
    return ladder


def earlier_players(ladder: Ladder, player: AlphaZeroPlayer, *, games: int) -> list[Player]:
    """The first network of the run and one from its middle, searching as the player does.

    Args:
        ladder: of the run.
        player: the run's.
        games: of self-play that the player has learned from; later networks are left out.
    """
    before = [one for one in ladder.snapshots if one.games < games]
    if not before:
        return []
    middle = min(before, key=lambda one: abs(one.games - games / 2))
    chosen = list({one.name: one for one in (before[0], middle)}.values())[:MAX_EARLIER]
    return [_as_player(one, player) for one in chosen]


def _as_player(snapshot: Snapshot, like: AlphaZeroPlayer) -> AlphaZeroPlayer:
    network = NetworkEvaluator(
        snapshot.restored(),
        device=like.network.device,
        dtype=like.network.dtype,
        threads=like.network.threads,
    )
    return AlphaZeroPlayer(
        like.game,
        network,
        simulations=like.config.num_simulations if like.config is not None else 0,
        proofs=like.proofs,
        name=f"itself after {snapshot.games:,} games",
    )


def rate_player(
    player: AlphaZeroPlayer,
    ladder: Ladder,
    *,
    games: int = GAMES,
    earlier: Sequence[Player] = (),
    seconds: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Shares of good moves, points against everybody and a rating, all with 95 % intervals.

    Args:
        player: who is rated.
        ladder: of the run: how strong the anchors have to be, and how they stand to each other.
        games: against each opponent, at most.
        earlier: more opponents.
        seconds: that it may take; None is as long as it takes. Positions have half of it, and fewer
            are looked at where that is too little for all.
        seed: of openings, dice and opponents.

    Returns:
        Plain data. `positions`; and of games of one player `returns`, otherwise `matches` and
        `rating`, Elo above random play. An opponent for whom there was no time is not there.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    half = None if seconds is None else seconds / 2
    report: dict[str, Any] = {"positions": judge_positions(player, seconds=half)}
    opponents = [*_anchors(player.game, ladder, seed), *earlier]
    rounds = _Rounds(player, opponents, games=games, deadline=deadline, seed=seed)
    rounds.play()
    if player.game.num_players == 1:
        report["returns"] = [
            {"player": name, "games": len(played), "mean": mean, "interval": [low, high]}
            for name, played in rounds.found.items()
            for mean, low, high in [mean_interval([game.returns[0] for game in played])]
        ]
        return report
    matches = [pair_up(played)[0] for played in rounds.found.values()]
    report["matches"] = [score_of(match, player.name) for match in matches]
    results = [result for match in matches for result in match.results()]
    report["rating"] = _rating(player.name, [*results, *ladder.links_played()], ladder)
    return report


def usual_anchor(game: NativeGame) -> str:
    """The search with random games that every run of a game is measured against."""
    return f"uct:{USUAL_SLOW_ANCHOR if game.calls_python else USUAL_ANCHOR}"


def _anchors(game: NativeGame, ladder: Ladder, seed: int) -> list[Player]:
    """Random play, the usual search, and the searches that training has not seen beaten."""
    specs = {ladder.anchors[0], usual_anchor(game)}
    specs |= set(ladder.met_anchors() if ladder.snapshots else ())
    ordered = sorted(specs, key=lambda spec: int(spec.partition(":")[2] or 0))
    return [make_player(spec, game, seed=seed) for spec in ordered]


def _rating(name: str, results: list[Result], ladder: Ladder) -> dict[str, Any] | None:
    """The player's rating above random play; None if neither has met the other or anchors."""
    anchor = ladder.anchors[0]
    if not {name, anchor} <= {player for result in results for player in result[:2]}:
        return None
    found = rate(results, anchor=anchor, weight=ladder.weight)[name]
    return {"anchor": anchor, "elo": found.elo, "interval": [found.low, found.high]}


class _Rounds:
    """Games of one player against several others, in rounds that grow as time allows."""

    def __init__(
        self,
        player: AlphaZeroPlayer,
        opponents: Sequence[Player],
        *,
        games: int,
        deadline: float | None,
        seed: int,
    ) -> None:
        self.player, self.game = player, player.game
        self.deadline, self.seed = deadline, seed
        # Of one player, it takes its turn like everybody else.
        self.opponents = list(opponents) if player.game.num_players > 1 else [player, *opponents]
        self.found: dict[str, list[PlayedGame]] = {}
        seats = self.game.num_players
        self.openings = random_openings(
            self.game,
            max(1, -(-games // seats)),
            plies=opening_plies(self.game),
            seed=seed,
            part="rating",
        )

    def play(self) -> None:
        """Plays rounds until everybody has had all openings, or the next would take too long."""
        done, count = 0, len(self.openings) if self.deadline is None else 1
        total = len(self.openings) * len(self.opponents) * self.game.num_players
        with progress("rating", total, unit="games", deadline=self.deadline) as tell:
            while done < len(self.openings):
                begun = time.monotonic()
                numbers = range(done, min(done + count, len(self.openings)))
                for opponent in self.opponents:
                    tell(sum(map(len, self.found.values())), opponent.name)
                    try:
                        played = self._round(opponent, numbers)
                    except StoppedError:
                        return
                    self.found.setdefault(opponent.name, []).extend(played)
                done = numbers.stop
                if self.deadline is not None:
                    each = (time.monotonic() - begun) / len(numbers)
                    count = min(2 * count, int((self.deadline - time.monotonic()) / each))
                    if count < 1:
                        return

    def _round(self, opponent: Player, numbers: range) -> list[PlayedGame]:
        """Some openings, with seats rotated."""
        seats = self.game.num_players
        players: Sequence[Player] = (self.player, opponent)
        table = (0, *[1] * (seats - 1))
        if seats == 1:
            players = (opponent,)
        for index, one in enumerate(players):
            words = np.random.SeedSequence([self.seed, 12, numbers.start, index]).generate_state(1)
            one.reset(int(words[0]))
        rows = [(number, seating) for number in numbers for seating in rotations(table)]
        return play_games(
            self.game,
            players,
            [seating for _, seating in rows],
            [self.openings[number] for number, _ in rows],
            [number for number, _ in rows],
            seed=self.seed,
            stop=self._late,
        )

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

"""Games that were played, and what they say of two players: wins, draws, losses.

A game has any number of seats. Of two players who sat at one table, the one whose return is higher
has won against the other. Games of one player are compared on equal openings and dice: two such
games make one meeting. Leaves out playing (play.py, arena.py, tables.py) and ratings (ratings.py).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from playout.agents.players.player import Forfeit
from playout.agents.rating.intervals import mean_interval, share_interval
from playout.agents.rating.ratings import Result, weight_at_tables
from playout.agents.rating.sprt import Sprt
from playout.envs.core.game import NativeGame
from playout.envs.records.json_lines import GameRecord


@dataclass(frozen=True, slots=True)
class PlayedGame:
    """One game.

    Attributes:
        players: Names by seat, P; the first moves first.
        moves: All actions, those of the opening and of dice included.
        opening: Number of the opening.
        returns: The result by seat, P numbers.
        forfeit: The seat that lost before the game's own end, and why; None for games played out.
    """

    players: tuple[str, ...]
    moves: tuple[int, ...]
    opening: int
    returns: tuple[float, ...]
    forfeit: tuple[int, Forfeit] | None = None

    def meetings(self, a: str, b: str) -> Iterator[tuple[str, int]]:
        """For every two seats of `a` and `b`: whose is the earlier, and 1, 0 or -1 for it."""
        for i, j in itertools.combinations(range(len(self.players)), 2):
            if {self.players[i], self.players[j]} == {a, b}:
                mine, other = self.returns[i], self.returns[j]
                yield self.players[i], (mine > other) - (mine < other)


@dataclass(frozen=True, slots=True)
class MatchResult:
    """What happened between two players.

    Attributes:
        a: One player's name.
        b: The other's.
        games: All games in which both sat; of a game of two, pairs of one opening side by side.
        sprt: Where the sequential test stood at the end, if one was asked for.
    """

    a: str
    b: str
    games: list[PlayedGame] = field(default_factory=list)
    sprt: Sprt | None = None

    def _meetings(self) -> list[tuple[str, int]]:
        return [one for game in self.games for one in game.meetings(self.a, self.b)]

    def score(self, name: str) -> tuple[int, int, int]:
        """(wins, draws, losses) of a player."""
        results = [result if first == name else -result for first, result in self._meetings()]
        return results.count(1), results.count(0), results.count(-1)

    def counts_more(self) -> bool:
        """Do results say more than won, drawn and lost, such as chips?"""
        return any(one not in (-1.0, 0.0, 1.0) for game in self.games for one in game.returns)

    def mean_return(self, name: str) -> tuple[float, float]:
        """A player's mean result in the game's own units, and half its 95 % interval."""
        found = [
            result
            for game in self.games
            for who, result in zip(game.players, game.returns, strict=True)
            if who == name
        ]
        if not found:
            return 0.0, 0.0
        mean, _, high = mean_interval(found)
        return mean, high - mean

    def pairs(self) -> list[int]:
        """How many openings brought `a` 0, 1/2, 1, 3/2 and 2 points from two games with it.

        Only of games of two players, each opening played with colours swapped; empty for others,
        and where a match ended between such games.
        """
        counts = [0] * 5
        pairs = [self.games[at : at + 2] for at in range(0, len(self.games), 2)]
        for pair in pairs:
            seats = [one.players for one in pair]
            swapped = len(pair) == 2 and len(seats[0]) == 2 and seats[0] == seats[1][::-1]
            if not swapped or pair[0].opening != pair[1].opening:
                return []
            points = MatchResult(self.a, self.b, pair).score(self.a)
            counts[points[0] - points[2] + 2] += 1
        return counts

    def results(self) -> list[Result]:
        """Counts for `rate`, one entry for each player sitting first."""
        found = []
        for first, second in ((self.a, self.b), (self.b, self.a)):
            values = [result for name, result in self._meetings() if name == first]
            if values:
                found.append(
                    Result(first, second, values.count(1), values.count(0), values.count(-1))
                )
        return found

    def forfeits(self, name: str) -> dict[str, int]:
        """Why a player lost games before their end: each reason, and how often; failures alone."""
        reasons = Counter[str]()
        for game in self.games:
            if game.forfeit is not None and game.players[game.forfeit[0]] == name:
                reasons[game.forfeit[1].reason] += game.forfeit[1].failed
        return {reason: count for reason, count in reasons.most_common() if count}

    def distinct_games(self) -> int:
        """Games that differ from all others; few of them tell little, however many are played."""
        return len({(game.players, game.moves) for game in self.games})


def counts_returns(game: NativeGame) -> bool:
    """Does it matter by how much a game is won? Then mean returns are shown beside wins."""
    return game.num_players == 1 or game.step_rewards or game.value_scale != 1


def returns_of(matches: Iterable[MatchResult], name: str, game: NativeGame) -> list[float]:
    """What a player's seats brought it in matches of a game, each seat of each game once."""
    return [value for mine in _returns_by_game(matches, name, game) for value in mine]


def num_games(matches: Iterable[MatchResult], name: str, game: NativeGame) -> int:
    """In how many different games of these matches a player sat."""
    return len(_returns_by_game(matches, name, game))


def _returns_by_game(
    matches: Iterable[MatchResult], name: str, game: NativeGame
) -> list[list[float]]:
    """What a player's seats brought it in each of its games."""
    found: dict[int, list[float]] = {}
    for match in matches:
        for one in match.games:
            # Games of one player were made into one for every pairing.
            key = one.opening if game.num_players == 1 else id(one)
            seats = zip(one.players, one.returns, strict=True)
            if mine := [value for seat, value in seats if seat == name]:
                found[key] = mine
    return list(found.values())


def points_interval(wins: int, draws: int, losses: int, num_players: int) -> tuple[float, float]:
    """The 95 % interval of a share of points: two meetings at one table tell less than two games.

    It takes every game for won or lost: with draws it is wider than it need be.
    """
    weight = weight_at_tables(num_players)
    points, total = wins + draws / 2, wins + draws + losses
    return share_interval(weight * points, weight * total)


def pair_up(games: Sequence[PlayedGame]) -> list[MatchResult]:
    """What games say of every two players in them, whatever the number of seats."""
    names = list(dict.fromkeys(name for game in games for name in game.players))
    return [MatchResult(a, b, _shared(games, a, b)) for a, b in itertools.combinations(names, 2)]


def _shared(games: Sequence[PlayedGame], a: str, b: str) -> list[PlayedGame]:
    """Games in which both sat; of games of one player, two of one opening made into one."""
    if not games or len(games[0].players) > 1:
        return [game for game in games if a in game.players and b in game.players]
    mine, other = (
        {game.opening: game for game in games if game.players == (name,)} for name in (a, b)
    )
    found = []
    for opening, one in mine.items():
        if opening in other:
            # Both are named first equally often: neither order means anything.
            pair = (one, other[opening]) if opening % 2 == 0 else (other[opening], one)
            found.append(
                PlayedGame(
                    players=pair[0].players + pair[1].players,
                    moves=pair[0].moves + pair[1].moves,
                    opening=opening,
                    returns=pair[0].returns + pair[1].returns,
                )
            )
    return found


def to_record(game: NativeGame, played: PlayedGame) -> GameRecord:
    """A game as a record for a file; how one was forfeited stands in its info."""
    info: dict[str, object] = {"opening": played.opening}
    if played.forfeit is not None:
        seat, forfeit = played.forfeit
        info |= {"lost_by": played.players[seat], "reason": forfeit.reason}
        info["returns"] = list(played.returns)
    return GameRecord.from_actions(game, played.moves, players=list(played.players), info=info)

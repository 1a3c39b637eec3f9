"""`Evaluation`: how well a network plays while it learns, and which checkpoint is the best.

Needs no solver: the newest network meets some earlier ones and anchors (ladder.py), and in games of
one player plays whole games on fixed seeds. Where a solver has judged positions, the shares of good
moves come first. Openings and positions are others than those by which the run is rated in the end.
Everything is drawn from seeds of its own: measuring changes nothing in training, and what is
measured depends on counts alone. Left out: how much is done (settings.py), the rating at the end
(final.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.evaluation.ladder import Ladder, Snapshot
from playout.agents.alphazero.evaluation.settings import EvaluationSettings
from playout.agents.alphazero.evaluation.solved import choosing_positions, kept_outcomes
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.proofs import player_evaluator
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.players.load import make_player
from playout.agents.players.player import Player
from playout.agents.players.search import SearchPlayer, playing_search
from playout.agents.rating.games import PlayedGame, pair_up
from playout.agents.rating.intervals import format_number, mean_interval
from playout.agents.rating.openings import opening_plies, random_openings
from playout.agents.rating.play import play_games
from playout.agents.rating.ratings import weight_at_tables
from playout.agents.rating.tables import rotations
from playout.envs.core.game import NativeGame
from playout.errors import StoppedError
from playout.mcts.exact.positions import Positions

BEST_METRIC = "eval/choice"
"""The metric whose highest value marks the best checkpoint."""

DOUBT = 1.0
"""Standard errors by which the newest network may be behind the best and is still preferred."""

WIDEST_SHOWN = 400
"""The width in Elo of the widest interval with which a rating is in the progress line."""

_LINK_OPENINGS = 8  # of a match between two anchors, each played with seats rotated

Stop = Callable[[], bool]
Floats = npt.NDArray[np.float64]


class Evaluation:
    """Measures the networks of one run, one after the other.

    Args:
        game: the game, of any number of players.
        settings: how much is done.
        seed: of openings, dice and opponents.

    Attributes:
        count: evaluations so far.
        ladder: earlier networks, anchors and all results; nobody in games of one player.
    """

    def __init__(self, game: NativeGame, settings: EvaluationSettings, *, seed: int = 0) -> None:
        self.game, self.settings, self.seed = game, settings, seed
        self.count = 0
        self.ladder = Ladder(
            settings.anchors,
            max_snapshots=settings.max_snapshots,
            weight=weight_at_tables(game.num_players),
        )
        self._positions: Positions | None = None
        self._looked = False  # for positions, which takes a moment
        self._best: dict[str, npt.NDArray[np.generic]] = {}  # what is known of the best network
        self._choice = 0.0
        self._anchor_returns: dict[str, float] = {}  # of games of one player
        self._latest: dict[str, float] = {}
        self._evaluators: dict[tuple[int, str], NetworkEvaluator] = {}  # of earlier networks

    def measure(
        self,
        evaluator: NetworkEvaluator,
        network: BoardNetwork,
        *,
        update: int = 0,
        games: int = 0,
        stop: Stop | None = None,
    ) -> dict[str, float]:
        """Measures a network and keeps a copy of it.

        Args:
            evaluator: answers for the network; says on which device and in which dtype.
            network: the same network, to be copied.
            update: updates of the run so far.
            games: games of self-play so far.
            stop: asked between moves.

        Returns:
            Metrics: `eval/rating`, Elo above random play (in games of one player the mean return),
            with the ends of its 95 % interval `eval/rating_low` and `eval/rating_high`; points
            `eval/score_*` against each anchor and the network before; shares of good moves where
            there are solved positions; and `eval/choice`, which is higher than all before if
            everything together speaks for this network rather than for the best so far.

        Raises:
            StoppedError: `stop` said so; then it is as if this had never been called.
        """
        stop = stop if stop is not None else _never
        found: dict[str, float] = {}
        known: dict[str, npt.NDArray[np.generic]] = {}
        positions = self._solved_positions()
        if positions is not None:
            kept = kept_outcomes(
                evaluator,
                positions,
                simulations=self.settings.simulations,
                proofs=self.settings.proofs,
            )
            known["kept"] = kept
            found["eval/policy_optimal_share"], found["eval/optimal_move_share"] = (
                float(share) for share in kept.mean(axis=1)
            )
            found["eval/mean_share"] = float(kept.mean())
        if stop():
            raise StoppedError("the evaluation was stopped")
        name = f"network {self.count + 1}"
        lead = None
        if self.settings.games and self.game.num_players == 1:
            known["returns"] = returns = self._play_alone(evaluator, stop, found)
            mean, low, high = mean_interval(returns.tolist())
            found.update({"eval/rating": mean, "eval/rating_low": low, "eval/rating_high": high})
        elif self.settings.games:
            lead = self._meet(name, evaluator, stop, found)
        found[BEST_METRIC] = self._choose(name, known, lead)
        if self.game.num_players > 1 and self.settings.games:
            self.ladder.keep(Snapshot.of(name, network, update=update, games=games))
        self.count += 1
        self._latest = found
        return found

    def headline(self) -> dict[str, str]:
        """What the latest evaluation has found, for the progress line."""
        found, shown = self._latest, {}
        if "eval/policy_optimal_share" in found:  # the network alone: search hides what it learns
            shown["good moves"] = f"{found['eval/policy_optimal_share']:.0%}"
        if "eval/rating" in found:
            if self.game.num_players == 1:
                shown["return"] = format_number(found["eval/rating"])
            else:
                low = found.get("eval/rating_low", -math.inf)
                high = found.get("eval/rating_high", math.inf)
                if high - low <= WIDEST_SHOWN:  # before, the number would say next to nothing
                    shown["rating"] = (
                        f"{found['eval/rating']:+z.0f} Elo ({low:+z.0f} .. {high:+z.0f})"
                    )
        return shown

    def _solved_positions(self) -> Positions | None:
        if not self._looked:
            self._positions = choosing_positions(self.game, self.settings.positions)
            self._looked = True
        return self._positions

    def _player(self, evaluator: NetworkEvaluator, name: str) -> Player:
        tactical = player_evaluator(evaluator, self.game, proofs=self.settings.proofs)
        search = playing_search(self.settings.simulations)
        return SearchPlayer(self.game, search, tactical, name=name)

    def _evaluator_of(
        self, snapshot: Snapshot, number: int, like: NetworkEvaluator
    ) -> NetworkEvaluator:
        """Answers for an earlier network; made once for each shape, since graphs take a while."""
        network = snapshot.restored()
        key = (number, repr(sorted(snapshot.network.items())))
        if key not in self._evaluators:
            self._evaluators[key] = NetworkEvaluator(
                network,
                device=like.device,
                dtype=like.dtype,
                chunk=None if like.device.type == "cpu" else like.chunk,
                threads=like.threads,
            )
        self._evaluators[key].refresh(network)
        return self._evaluators[key]

    def _seed_of(self, *words: int) -> int:
        return int(np.random.SeedSequence([self.seed, 11, *words]).generate_state(1)[0])

    def _openings(self, count: int, seed: int) -> list[list[int]]:
        plies = opening_plies(self.game)
        return random_openings(self.game, count, plies=plies, seed=seed, part="choosing")

    # Games of one player.

    def _play_alone(
        self, evaluator: NetworkEvaluator, stop: Stop, found: dict[str, float]
    ) -> Floats:
        """The network's returns on fixed openings and dice, [games]; those of anchors once."""
        seed, count = self._seed_of(), self.settings.games
        openings = self._openings(count, seed)

        def returns_of(player: Player) -> Floats:
            player.reset(seed)
            seats, numbers = np.zeros((count, 1), np.int64), range(count)
            played = play_games(self.game, [player], seats, openings, numbers, seed=seed, stop=stop)
            return np.array([one.returns[0] for one in played])

        anchors = dict(self._anchor_returns)
        for spec in self.settings.anchors[:2]:
            if spec not in anchors:
                player = make_player(spec, self.game, seed=seed)
                anchors[spec] = float(returns_of(player).mean())
            found[f"eval/return_{_key(spec)}"] = anchors[spec]
        returns = returns_of(self._player(evaluator, "network"))
        self._anchor_returns = anchors
        return returns

    # Games of more.

    def _meet(
        self, name: str, evaluator: NetworkEvaluator, stop: Stop, found: dict[str, float]
    ) -> float | None:
        """Plays everybody; returns by how many standard errors the network leads the best."""
        ladder, game = self.ladder, self.game
        newest = self._player(evaluator, name)
        earlier = ladder.opponents()
        opponents: list[Player] = [
            self._player(self._evaluator_of(one, number, evaluator), one.name)
            for number, one in enumerate(earlier)
        ]
        anchors, links = ladder.met_anchors(), ladder.links()
        specs = dict.fromkeys([*anchors, *(spec for link in links for spec in link)])
        seed = self._seed_of(self.count)
        standing = {spec: make_player(spec, game, seed=seed) for spec in specs}
        opponents += [standing[spec] for spec in anchors]
        players = [newest, *opponents, *(standing[spec] for spec in specs if spec not in anchors)]
        index = {player.name: i for i, player in enumerate(players)}
        tables = [(0, *[index[one.name]] * (game.num_players - 1)) for one in opponents]
        count = max(1, self.settings.games // (len(tables) * game.num_players))
        rows = [(table, number) for table in tables for number in range(count)]
        for weaker, stronger in links:
            table = (index[stronger], *[index[weaker]] * (game.num_players - 1))
            rows += [(table, number) for number in range(min(count, _LINK_OPENINGS))]
        for player in players:
            player.reset(self._seed_of(self.count, index[player.name]))
        openings = self._openings(count, seed)
        seats = [seating for table, _ in rows for seating in rotations(table)]
        numbers = [number for table, number in rows for _ in rotations(table)]
        starts = [openings[number] for number in numbers]
        played = play_games(game, players, seats, starts, numbers, seed=seed, stop=stop)
        scores = _scores(played, name)
        for spec in anchors:
            found[f"eval/score_{_key(spec)}"] = scores[spec]
        if earlier:
            found["eval/score_previous"] = scores[earlier[0].name]
        ladder.add([result for match in pair_up(played) for result in match.results()], scores)
        ratings = ladder.fit()
        mine = ratings[name]
        found["eval/rating"] = mine.elo
        found["eval/rating_low"], found["eval/rating_high"] = mine.low, mine.high
        if not ladder.best:
            return None
        spread = ratings.spread(name, ladder.best)
        return (mine.elo - ratings[ladder.best].elo) / spread

    # The best.

    def _choose(
        self, name: str, known: dict[str, npt.NDArray[np.generic]], lead: float | None
    ) -> float:
        """Compares the newest network with the best so far by all that is known of both.

        Each comparison is a lead in standard errors: of ratings in one fit, of good moves position
        by position, of returns seed by seed. Their sum has the same unit after division by the
        root of their number. The newest, which has learned the longest, is preferred unless it is
        more than `DOUBT` behind: a few games would often speak for an old one by chance. The metric
        adds leads up from best to best, so that a later one is higher exactly if it was preferred;
        the newest network's is returned.
        """
        leads = [] if lead is None else [lead]
        for key, values in known.items():
            if key in self._best and self._best[key].shape == values.shape:
                difference = values.astype(np.float64) - self._best[key].astype(np.float64)
                leads.append(_standard_errors(difference.reshape(-1, values.shape[-1]).mean(0)))
        total = sum(leads) / math.sqrt(len(leads)) if leads else 0.0
        choice = self._choice + total + DOUBT
        if total >= -DOUBT:
            self._choice, self._best, self.ladder.best = choice, known, name
        return choice

    def state_dict(self) -> dict[str, Any]:
        """Earlier networks, results, and what is known of the best."""
        return {
            "count": self.count,
            "ladder": self.ladder.state_dict(),
            "best": dict(self._best),
            "choice": self._choice,
            "anchor_returns": dict(self._anchor_returns),
            "latest": dict(self._latest),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        self.count = int(state["count"])
        self.ladder.load_state_dict(state["ladder"])
        self._best = {key: np.asarray(value) for key, value in state["best"].items()}
        self._choice = float(state["choice"])
        self._anchor_returns = {k: float(v) for k, v in state["anchor_returns"].items()}
        self._latest = {key: float(value) for key, value in state["latest"].items()}


def _never() -> bool:
    return False


def _key(spec: str) -> str:
    """A player's text within a metric's name: "uct500"."""
    return spec.replace(":", "")


def _standard_errors(differences: Floats) -> float:
    """The mean of paired differences in standard errors; 0 where nothing differs.

    Where all differ by as much, as when every game is lost that was won before, their spread says
    nothing: it is taken to be as large as their mean.
    """
    count, mean = len(differences), float(differences.mean())
    spread = float(differences.std(ddof=1)) if count > 1 else 0.0
    return mean / ((spread or abs(mean)) / math.sqrt(count)) if mean else 0.0


def _scores(played: list[PlayedGame], name: str) -> dict[str, float]:
    """A player's points out of meetings with each other player, draws half."""
    found = {}
    for match in pair_up(played):
        if name in (match.a, match.b):
            wins, draws, losses = match.score(name)
            other = match.b if name == match.a else match.a
            found[other] = (wins + draws / 2) / max(1, wins + draws + losses)
    return found

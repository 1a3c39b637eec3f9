"""From the moves of self-play to training targets.

`Histories` remembers, for every game in play, the positions since its opening and what the search
said of them; `finish` turns a finished game into `Examples`. Value targets are worked out
backwards: what is proven is exact, what followed counts unless the move was a bad one made on
purpose, and the search's own value is mixed in. Values are in units of the game's value_scale and
stand for the whole game; with rewards along the way a target is what is still to come. Left out:
which games are played (group.py), how examples are kept (replay/).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay import Examples, Finals, Moves, values_per_position
from playout.agents.alphazero.replay.moves import UNKNOWN_ACTION
from playout.agents.alphazero.replay.policies import Policies, ragged
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import CheckpointError
from playout.mcts.exact.prover import ILLEGAL, Outcomes, best_known
from playout.mcts.search import UNKNOWN, SearchResult

Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

# Key in checkpoints -> dtype of a field with one row a ply; `states` have a row of bytes.
FIELDS = {
    "value": np.float32,
    "proven": np.int8,
    "player": np.int8,
    "full": np.uint8,  # 0 where the policy has nothing to learn
    "blunder": np.uint8,  # 1 where the move was a bad one made on purpose
    "fast": np.uint8,  # 1 where the search was brief, and nothing is to be learned
    "surprise": np.float32,  # nats from the network's policy to the search's
    "action": np.int32,  # that was played; UNKNOWN_ACTION: not known
}
# What stands for the fields that checkpoints of earlier versions do not have.
LATER_FIELDS = {"fast": 0, "surprise": 0, "action": UNKNOWN_ACTION}


def best_value(result: SearchResult) -> Float32:
    """What the search expects of its improved policy, float32 [B], for the side to move.

    The mean of all simulations would be too low: a search of few simulations spends most of them on
    moves that it then finds to be bad.
    """
    weights = result.action_weights * (result.visits > 0)
    total = weights.sum(axis=1)
    expected = (weights * np.where(result.visits > 0, result.q, 0.0)).sum(axis=1)
    found = np.where(total > 0, expected / np.maximum(total, 1e-9), result.value)
    return found.astype(np.float32)


def surprise(result: SearchResult) -> Float32:
    """How far the search's policy is from the network's own: KL divergence in nats, float32 [B]."""
    weights = result.action_weights
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(weights) - result.prior_logits
    return np.where(weights > 0, weights * np.clip(ratio, -20, 20), 0).sum(axis=1).clip(0)


class Histories:
    """What was searched and played in B games.

    Plies of all games stand one after another in a log, in the order in which they were played.
    Those of games that are over are dropped when the log is full; it is then given room for twice
    as many as are left.

    Args:
        game: what is played.
        size: B.
        max_moves: as `Policies.from_dense` takes it.
        surprise_weight: see SelfPlayConfig.
        keep_finals: examples tell in which states their games ended.
        keep_moves: examples tell which moves led from one to the next.
    """

    def __init__(
        self,
        game: NativeGame,
        size: int,
        *,
        max_moves: int = 0,
        surprise_weight: float = 0.0,
        keep_finals: bool = False,
        keep_moves: bool = False,
    ) -> None:
        self.game, self.size, self.max_moves = game, size, max_moves
        self.surprise_weight, self.keep_finals = surprise_weight, keep_finals
        self.keep_moves = keep_moves
        self.lengths = np.zeros(size, np.int32)
        self._log = _Log(game.state_size, Policies.from_dense(np.zeros((0, game.num_actions))))
        self._rows = [array("q") for _ in range(size)]  # where a game's plies stand in the log

    def append(
        self,
        states: StateBatch,
        result: SearchResult,
        actions: npt.NDArray[np.int32],
        *,
        regret_threshold: float,
        fast: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """One ply of every game: positions [B], the search's answers and the moves chosen [B].

        Where the search was `fast` [B] the position is no example.
        """
        rows = np.arange(self.size)
        tried = np.where(result.visits > 0, result.q, -np.inf)
        chosen = result.q[rows, actions]
        explored = (result.visits[rows, actions] == 0) | (
            tried.max(axis=1) - chosen > regret_threshold
        )
        proven = result.proven != UNKNOWN
        self._append(
            rows,
            states.data,
            Policies.from_dense(result.action_weights, max_moves=self.max_moves),
            value=np.where(proven, 0 + result.value, best_value(result)),  # no -0
            proven=result.proven,
            player=states.to_play(),
            full=np.ones(self.size),
            blunder=explored,
            fast=np.zeros(self.size) if fast is None else fast,
            surprise=surprise(result) if self.surprise_weight else np.zeros(self.size),
            action=actions,
        )

    def append_proven(
        self,
        rows: Rows,
        states: StateBatch,
        outcomes: Outcomes,
        actions: npt.NDArray[np.int32],
    ) -> None:
        """One ply of the games in `rows` [R], whose result is proven.

        Where all moves come to the same, the policy has nothing to learn.

        Args:
            rows: games.
            states: their positions [R] ...
            outcomes: ... with the exact outcomes of all moves [R, A].
            actions: what is played, if the game goes on, [R].
        """
        best = best_known(outcomes)
        keeps = outcomes == best[:, None]
        self._append(
            rows,
            states.data,
            Policies.from_dense(keeps / keeps.sum(axis=1, keepdims=True), max_moves=self.max_moves),
            value=best,
            proven=best,
            player=states.to_play(),
            full=(keeps != (outcomes != ILLEGAL)).any(axis=1),
            blunder=np.zeros(len(rows)),
            fast=np.zeros(len(rows)),
            surprise=np.zeros(len(rows)),
            action=actions,
        )

    def _append(
        self, games: Rows, states: npt.NDArray[np.uint8], policy: Policies, **fields: Any
    ) -> None:
        """A ply of each of these games."""
        if not self._log.has_room(len(games), len(policy.actions)):
            order = self._order(range(self.size))
            self._log = self._log.kept(order, len(games), len(policy.actions))
            self._place()
        first = self._log.append(states, policy, fields)
        for number, game in enumerate(games.tolist(), first):
            self._rows[game].append(number)
        self.lengths[games] += 1

    def _order(self, games: Iterable[int]) -> Rows:
        """The plies of these games in the log, game by game."""
        return np.concatenate(
            [np.empty(0, np.int64), *(np.frombuffer(self._rows[game], np.int64) for game in games)]
        )

    def _place(self) -> None:
        """Notes that the log holds the plies of all games in their order, and nothing else."""
        ends = np.cumsum(self.lengths)
        for game, (end, length) in enumerate(zip(ends, self.lengths, strict=True)):
            self._rows[game] = array("q", range(end - length, end))

    def finish(
        self, rows: Rows, returns: Float32, *, value_mix: float, states: StateBatch | None = None
    ) -> Examples:
        """Examples of the games in `rows`, which ended with returns [R, P]; they are emptied.

        Args:
            rows: Games.
            returns: Their results, the game's own, of any scale.
            value_mix: See SelfPlayConfig.
            states: Their last states [R], where finals are kept; one that is not over was cut
                short.
        """
        if not len(rows):
            return Examples.none(self.game, finals=self.keep_finals, moves=self.keep_moves)
        order = self._order(rows.tolist())
        log, lengths = self._log, self.lengths[rows]
        values = np.empty((len(order), values_per_position(self.game)), np.float32)
        end = 0
        for row, known in zip(rows.tolist(), returns, strict=True):
            begin, end = end, end + len(self._rows[row])
            values[begin:end] = self._targets(order[begin:end], known, value_mix)
            self._rows[row] = array("q")
        self.lengths[rows] = 0
        if self.game.step_rewards:
            values -= self._collected(order)
            np.clip(values, -1, 1, out=values)
        weights = log.fields["full"][order].astype(np.float32) * (log.fields["player"][order] >= 0)
        games = np.repeat(np.arange(len(rows)), lengths)
        finals = self._finals(states, games) if self.keep_finals and states is not None else None
        taught = np.flatnonzero(log.fields["fast"][order] == 0)
        if self.surprise_weight:
            weights[taught] = self._surprising(order[taught], weights[taught], games[taught])
        moves = None
        if self.keep_moves:
            moves = Moves.between(log.fields["action"][order], taught, games)
        if len(taught) < len(order):
            order, values, weights = order[taught], values[taught], weights[taught]
            finals = None if finals is None else finals[taught]
        return Examples(log.states[order], log.policies(order), values, weights, finals, moves)

    @staticmethod
    def _finals(states: StateBatch, games: Rows) -> Finals:
        """The final states of positions of these games; of games that were cut short none."""
        over = states.is_terminal()
        places = np.where(over, np.cumsum(over) - 1, -1)
        return Finals(states.data[over], places[games])

    def _surprising(self, plies: Rows, weights: Float32, games: Rows) -> Float32:
        """Policy weights with a part handed out by surprise; a game keeps its sum."""
        surprises = self._log.fields["surprise"][plies] * weights
        total = np.bincount(games, weights)[games]
        spread = np.bincount(games, surprises)[games]
        share = np.where(spread > 0, surprises / np.maximum(spread, 1e-9) * total, weights)
        mixed: Float32 = (weights + self.surprise_weight * (share - weights)).astype(np.float32)
        return mixed

    def _targets(self, plies: Rows, returns: Float32, value_mix: float) -> Float32:
        """Value targets [T, V] of one game with these plies [T] in the log, V as in `Examples`."""
        players, proven, searched, explored = (
            self._log.fields[key][plies].tolist()
            for key in ("player", "proven", "value", "blunder")
        )
        single = values_per_position(self.game) == 1
        opposite = self.game.num_players == 2 and self.game.zero_sum
        values = np.empty((len(plies), 1 if single else self.game.num_players), np.float32)
        # The value of the position that comes next, for every player.
        target = returns.astype(np.float64) / self.game.value_scale
        for ply in range(len(plies) - 1, -1, -1):
            player, value = players[ply], searched[ply]
            if proven[ply] != UNKNOWN or explored[ply]:
                mine = value
            else:
                mine = value_mix * value + (1 - value_mix) * target[player]
            if opposite:
                target[:] = -mine
            target[player] = mine
            values[ply] = mine if single else target
        return values

    def _collected(self, plies: Rows) -> Float32:
        """What players had at these plies of the log, as the values [T, V] of `finish`."""
        states = StateBatch.from_data(self.game, self._log.states[plies], check=False)
        returns = states.returns() / np.float32(self.game.value_scale)
        if values_per_position(self.game) > 1:
            return returns
        return returns[np.arange(len(plies)), self._log.fields["player"][plies]][:, None]

    def state_dict(self) -> dict[str, Any]:
        """The plies that games in play have behind them, as packed arrays, game by game."""
        order, log = self._order(range(self.size)), self._log
        return {
            "lengths": self.lengths.copy(),
            "states": log.states[order],
            **{key: array_of_plies[order] for key, array_of_plies in log.fields.items()},
            **log.policies(order).state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave, of this version or of one with dense policies."""
        lengths = state["lengths"]
        if (
            lengths.shape != (self.size,)
            or lengths.min() < 0
            or lengths.max() > self.game.max_plies
        ):
            raise CheckpointError("the checkpoint's games do not fit this configuration")
        total = int(lengths.sum())
        if state["states"].shape != (total, self.game.state_size):
            raise CheckpointError("the checkpoint's games do not fit this game")
        policy = Policies.from_state(state, total, self.game.num_actions)
        nothing = {key: np.full(total, value) for key, value in LATER_FIELDS.items()}
        fields = {key: np.asarray({**nothing, **state}[key]) for key in FIELDS}
        if "policy" in state:  # earlier versions took the value of a proven position from the proof
            known = fields["proven"] != UNKNOWN
            fields["value"] = np.where(known, fields["proven"], fields["value"])
        self._log = _Log(self.game.state_size, policy[:0]).kept(
            np.empty(0, np.int64), total, len(policy.actions)
        )
        self._log.append(state["states"], policy, fields)
        self.lengths[:] = lengths
        self._place()


class _Log:
    """Plies one after another: states, fields and policies, with room for more.

    Args:
        state_size: bytes of a state.
        policy: any policies of the game; none of them is kept.
        rows: room for so many plies.
        pairs: room for so many pairs of their policies.
    """

    def __init__(self, state_size: int, policy: Policies, rows: int = 0, pairs: int = 0) -> None:
        self.used = self.pairs = 0
        self.states = np.zeros((rows, state_size), np.uint8)
        self.fields = {key: np.zeros(rows, dtype) for key, dtype in FIELDS.items()}
        self.starts, self.counts = np.zeros(rows, np.int64), np.zeros(rows, np.int32)
        self.actions = np.zeros(pairs, policy.actions.dtype)
        self.probabilities = np.zeros(pairs, np.float32)

    def has_room(self, rows: int, pairs: int) -> bool:
        """Do so many more plies, with so many pairs, fit in?"""
        fits_rows = self.used + rows <= len(self.states)
        return fits_rows and self.pairs + pairs <= len(self.actions)

    def policies(self, order: Rows) -> Policies:
        """The policies of these plies."""
        counts = self.counts[order]
        pairs = ragged(self.starts[order], counts)
        return Policies(counts, self.actions[pairs], self.probabilities[pairs])

    def append(
        self, states: npt.NDArray[np.uint8], policy: Policies, fields: dict[str, Any]
    ) -> int:
        """Adds plies, for which there must be room; the number of the first."""
        first, end = self.used, self.used + len(states)
        begin, last = self.pairs, self.pairs + len(policy.actions)
        self.states[first:end] = states
        for key, values in fields.items():
            self.fields[key][first:end] = values
        self.starts[first:end] = begin + np.cumsum(policy.counts) - policy.counts
        self.counts[first:end] = policy.counts
        self.actions[begin:last] = policy.actions
        self.probabilities[begin:last] = policy.probabilities
        self.used, self.pairs = end, last
        return first

    def kept(self, order: Rows, rows: int, pairs: int) -> _Log:
        """These plies alone, with room for twice as many and so many rows and pairs more."""
        policy = self.policies(order)
        found = _Log(
            self.states.shape[1],
            policy,
            2 * (len(order) + rows),
            2 * (len(policy.actions) + pairs),
        )
        found.append(
            self.states[order], policy, {key: part[order] for key, part in self.fields.items()}
        )
        return found

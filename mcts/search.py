"""`Search`: many trees of one game searched side by side, by asking for evaluations in batches.

    search = Search(game, SearchConfig(num_simulations=32), num_trees=256, seed=0)
    search.begin(states)
    while (leaves := search.ask()) is not None:
        search.tell(*evaluator.evaluate(leaves))
    result = search.result()
    search.advance(result.action)

The work is done in C without the GIL (mcts/_search.pyx), so one thread can search while another
evaluates. Where evaluations come from is left to evaluators.py and to networks elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from playout.cores import usable_cores
from playout.envs.core.arrays import as_integers
from playout.envs.core.game import CHANCE, NativeGame, StateBatch
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError, SearchError
from playout.mcts._search import SearchCore
from playout.mcts.arguments import (
    as_allowed,
    as_budgets,
    as_floats,
    as_integer,
    as_noise,
    as_rows,
)
from playout.mcts.config import SearchConfig
from playout.mcts.evaluators import Evaluator, LeafBatch
from playout.mcts.hidden import draw_states, draws_hidden

__all__ = ["UNKNOWN", "LeafBatch", "Search", "SearchConfig", "SearchResult"]

UNKNOWN = -128
"""In SearchResult.proven: the root's outcome is not proven."""

_SLICE = 0.05  # seconds of rollouts between looks for Ctrl-C

Rows = npt.ArrayLike | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What the searches concluded; one row a tree, or one a row asked for.

    Attributes:
        action: int32 [B]; -1 where the game is over or at a chance node.
        action_weights: float32 [B, A]: improved policy (gumbel) or visit shares. A move that is
            proven to lose has none, unless all lose; at a proven root only moves that keep it.
        visits: int32 [B, A].
        q: float32 [B, A], for the side to move at the root; 0 where unvisited. In a game with
            rewards along the way, all rewards of the game are in it, those before the root too, in
            units of its value_scale.
        value: float32 [B], of the root for the side to move, as q; exact where proven.
        proven: int8 [B]: 1, 0, -1 for the side to move, or UNKNOWN.
        nodes: int32 [B], positions in the tree.
        prior_logits: float32 [B, A], log of the evaluator's policy; -inf where illegal.
    """

    action: npt.NDArray[np.int32]
    action_weights: npt.NDArray[np.float32]
    visits: npt.NDArray[np.int32]
    q: npt.NDArray[np.float32]
    value: npt.NDArray[np.float32]
    proven: npt.NDArray[np.int8]
    nodes: npt.NDArray[np.int32]
    prior_logits: npt.NDArray[np.float32]
    _core: SearchCore = field(repr=False)
    _rows: npt.NDArray[np.int32] = field(repr=False)
    _searches: npt.NDArray[np.int64] = field(repr=False)

    def pv(self, b: int, max_length: int = 64, *, action: int | None = None) -> list[int]:
        """The line expected from row b up to a chance node; only until that tree moves on.

        Args:
            b: The row.
            max_length: Actions at most.
            action: Its first action; by default the one to play.
        """
        row = int(self._rows[b])
        if self._core.field("searches")[row] != self._searches[row]:
            raise SearchError(f"row {row} has begun another search: read pv() before moving on")
        if self.action[b] < 0:
            return []
        first = int(self.action[b]) if action is None else action
        return self._core.variation(row, first, max_length)


class Search:
    """Trees of one game.

    The same seed and the same evaluations give the same trees on any number of threads. Randomness
    belongs to (seed, tree, number of the search in that tree), see `counters`. Where a game has
    chance nodes, each descent draws an outcome by its probability.

    Args:
        game: A game, or its name.
        config: How to search.
        num_trees: How many positions are searched at once (B).
        seed: Of the root noise, rollouts, outcomes and sampled actions.
    """

    def __init__(
        self, game: NativeGame | str, config: SearchConfig, *, num_trees: int = 1, seed: int = 0
    ) -> None:
        num_trees = as_integer(num_trees, "num_trees", 1, 2**31 - 1)
        seed = as_integer(seed, "seed", 0, 2**64 - 1)
        if not isinstance(config, SearchConfig):
            raise TypeError(f"config must be a SearchConfig, not {type(config).__name__}")
        self.game = find_game(game)
        self._draws_hidden, self._seed = draws_hidden(self.game, config), seed
        self.config = config
        self.num_trees = num_trees
        threads = min(config.threads or usable_cores(), num_trees * config.leaves_per_step)
        self._core = SearchCore(self.game.capsule, config, num_trees, threads, seed)
        self._all = np.arange(num_trees, dtype=np.int32)
        self._budgets = np.full(num_trees, config.num_simulations, np.int32)
        self._noise = np.ones(num_trees, np.uint8)
        self._batch: LeafBatch | None = None  # the last one; its views serve until the size changes

    def begin(
        self,
        states: StateBatch,
        *,
        where: Rows = None,
        num_simulations: npt.ArrayLike | None = None,
        noise: npt.ArrayLike | None = None,
        allowed: npt.ArrayLike | None = None,
    ) -> None:
        """Starts new searches.

        Args:
            states: Positions to search; [B], or one for each row of `where`.
            where: Rows to start, as a boolean mask [B] or as indices (from the end where below 0);
                the others go on.
            num_simulations: Budgets of these rows, a number or [B]; by default the config's.
            noise: Which of these rows get root noise, a truth value or [B]; by default all.
            allowed: Moves that may be played at the root, truth values [A] or [B, A]; by default
                all legal ones. What is not allowed does not exist for a search, until it advances.
        """
        rows = self._rows(where)
        if not isinstance(states, StateBatch):
            raise TypeError(f"states must be a StateBatch, not {type(states).__name__}")
        if states.game != self.game:
            raise ValueError(f"these are states of {states.game}, the search is for {self.game}")
        if len(states) != len(rows):
            raise ValueError(f"{len(states)} states for {len(rows)} rows")
        mover = states.to_play()
        over = np.flatnonzero(mover < 0)
        if over.size:
            if mover[over[0]] == CHANCE:
                raise ValueError(f"state {over[0]} is a chance node: resolve_chance() comes first")
            raise ValueError(f"state {over[0]}: the game is over, there is nothing to search")
        options = self._options(len(rows), num_simulations, noise)
        only = None if allowed is None else as_allowed(allowed, states)
        if self._draws_hidden:
            counters = self.counters[rows]
            states = draw_states(states, seed=self._seed, trees=rows, searches=counters)
        self._core.begin(states.data, rows, *options, only)
        self._check_game()

    def ask(self, *, observe: bool = True) -> LeafBatch | None:
        """The next leaves, in the order of the trees; None when every search is done."""
        if self.config.algorithm == "uct":
            raise SearchError("uct evaluates its leaves itself: use run(), not ask() and tell()")
        core = self._core
        size = core.ask(observe)
        self._check_game()
        if size == 0:
            return None
        batch = self._batch
        if batch is None or batch.size != size or (batch.obs is None) == observe:
            obs = None if core.obs is None or not observe else core.obs[:size]
            mask, states, to_play = core.mask[:size], core.states[:size], core.to_play[:size]
            batch = self._batch = LeafBatch(obs, mask, states, to_play, size, self.game)
        return batch

    def tell(self, logits: npt.ArrayLike, values: npt.ArrayLike) -> bool:
        """Evaluations of the leaves that ask() gave.

        Args:
            logits: Floats [M, A]; those of illegal actions are ignored.
            values: Floats [M], for the side to move, or [M, P], one for each player: the result in
                units of the game's value_scale, or with rewards along the way what is to come.

        Returns:
            Whether any search has more to do.

        Raises:
            SearchError: There is nothing to tell.
            ValueError: A wrong shape or number; the search waits for a better answer.
        """
        if not self._core.waiting or self._batch is None:
            raise SearchError("tell() without leaves: call ask() first")
        logits, values = as_floats(logits, "logits"), as_floats(values, "values")
        shape, size, players = self._batch.mask.shape, self._batch.size, self.game.num_players
        if logits.shape != shape:
            raise ValueError(f"logits must have shape {shape}, not {logits.shape}")
        if values.shape == (size,) and players <= 2:
            values = values.reshape(size, 1)
        elif values.shape != (size, players):
            single = f"({size},) or " if players <= 2 else ""
            raise ValueError(
                f"values must have shape {single}({size}, {players}), not {values.shape}"
            )
        bad, left = self._core.tell(logits, values)
        if bad >= 0:
            raise ValueError(
                f"row {bad}: the value or the logit of a legal action is not a finite number"
            )
        return left > 0

    def run(
        self,
        states: StateBatch | None = None,
        evaluator: Evaluator | str | None = None,
        *,
        temperature: npt.ArrayLike = 0.0,
        num_simulations: npt.ArrayLike | None = None,
        noise: npt.ArrayLike | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> SearchResult:
        """Begins (unless states is None: then it goes on), searches to the end, gives the result.

        Args:
            states: Positions to search [B].
            evaluator: An `Evaluator` (evaluators.py); not for uct.
            temperature: See result().
            num_simulations: See begin().
            noise: See begin().
            stop: Asked between steps; ends the search before its budget is used up.
        """
        uct = self.config.algorithm == "uct"
        if uct and evaluator not in (None, "rollout"):
            raise ConfigError('uct takes no evaluator but "rollout"')
        if not uct and (evaluator is None or isinstance(evaluator, str)):
            raise ConfigError(f"{self.config.algorithm} needs an evaluator object")
        if states is not None:
            self.begin(states, num_simulations=num_simulations, noise=noise)
        if uct:
            while self._core.rollouts(_SLICE):
                self._check_game()
                if stop is not None and stop():
                    break
            self._check_game()
        else:
            assert evaluator is not None and not isinstance(evaluator, str)
            # An evaluator of a user's own, which does not derive from the protocol, may lack it.
            observe = getattr(evaluator, "needs_obs", True)
            try:
                while (leaves := self.ask(observe=observe)) is not None:
                    self.tell(*evaluator.evaluate(leaves))
                    if stop is not None and stop():
                        break
            except BaseException:
                if states is not None:  # no leaves wait for an answer that will not come
                    self.cancel()
                raise
        return self.result(temperature=temperature)

    def result(self, *, temperature: npt.ArrayLike = 0.0, where: Rows = None) -> SearchResult:
        """What has been found so far.

        Args:
            temperature: A number or [B]. 0 plays the best move (gumbel: the winner of sequential
                halving, noise included); else actions are drawn from action_weights^(1 / t).
            where: Only these rows; the arrays then have a row for each.
        """
        rows = self._rows(where)
        temperatures = np.array(temperature, np.float64)
        if temperatures.ndim == 0:
            temperatures = np.full(len(rows), temperatures)
        if temperatures.shape != (len(rows),) or not (temperatures >= 0).all():
            raise ValueError(f"temperature must be a number >= 0 or {len(rows)} of them")
        action, weights, visits, q, value, proven, nodes, prior = self._core.result(
            rows, temperatures
        )
        searches = self._core.field("searches")
        return SearchResult(
            action, weights, visits, q, value, proven, nodes, prior, self._core, rows, searches
        )

    def advance(
        self,
        actions: npt.ArrayLike,
        *,
        where: Rows = None,
        num_simulations: npt.ArrayLike | None = None,
        noise: npt.ArrayLike | None = None,
    ) -> None:
        """Plays one action in each row and begins the search of what follows.

        With `reuse_subtree` the subtree of the action is kept. A row whose game is over by it is
        done; its result has action -1. So is a row at a chance node, until it is advanced by the
        outcome. Nothing is changed if an action is illegal.

        Args:
            actions: Integers, one for each row.
            where: Only these rows.
            num_simulations: See begin().
            noise: See begin(); the noise is fresh.
        """
        if self._draws_hidden:
            raise SearchError("with resample every move is searched anew, by begin()")
        rows = self._rows(where)
        moves = np.asarray(actions)
        if moves.dtype.kind not in "iu" or moves.shape != (len(rows),):
            raise ValueError(
                f"actions must be {len(rows)} integers, not {moves.dtype} {moves.shape}"
            )
        moves = as_integers(moves, len(rows), "actions")  # beyond 32 bits is no other action
        self._core.advance(moves, rows, *self._options(len(rows), num_simulations, noise))
        self._check_game()

    def cancel(self) -> None:
        """Drops all searches under way, leaves included; begin() starts again."""
        self._core.cancel()

    def clear_cache(self) -> None:
        """Forgets remembered evaluations: to be called when the evaluator has changed."""
        self._core.clear_cache()

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Bool [B]: searches that are finished (or were never begun)."""
        return self._core.field("done").astype(bool)

    @property
    def states(self) -> StateBatch:
        """The positions at the roots [B]; SearchError where a row has no search."""
        return StateBatch.from_data(self.game, self._core.root_states(), check=False)

    @property
    def counters(self) -> npt.NDArray[np.int64]:
        """int64 [B]: searches begun in each tree; with the seed they name its random stream.

        Saved and set again (between searches), they make a later run repeat this one.
        """
        return self._core.field("searches")

    @counters.setter
    def counters(self, values: npt.ArrayLike) -> None:
        array = np.ascontiguousarray(values, np.int64)
        if array.shape != (self.num_trees,) or (array < 0).any():
            raise ValueError(f"counters must be {self.num_trees} integers >= 0")
        self._core.set_searches(array)

    @property
    def stats(self) -> dict[str, int]:
        """Totals: simulations, evaluations that the cache saved; bytes of trees and cache."""
        return {
            "simulations": int(self._core.field("sims").sum()),
            "cache_hits": int(self._core.field("hits").sum()),
            "tree_bytes": int(self._core.field("bytes").sum()),
            "cache_bytes": self._core.cache_bytes(),
        }

    def _check_game(self) -> None:
        """Raises what a game written in Python has raised; its trees are worthless then."""
        try:
            self.game.raise_pending()
        except Exception:
            self._core.cancel()
            raise

    def _rows(self, where: Rows) -> npt.NDArray[np.int32]:
        return self._all if where is None else as_rows(where, self.num_trees)

    def _options(
        self, n: int, num_simulations: npt.ArrayLike | None, noise: npt.ArrayLike | None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
        budgets, flags = self._budgets[:n], self._noise[:n]
        if num_simulations is not None:
            budgets = as_budgets(num_simulations, n)
        if noise is not None:
            flags = as_noise(noise, n)
        return budgets, flags

"""Players of games with hidden information: by CFR+, and by searches of many drawn states.

None of them looks at what its side does not know. Leaves out policies of runs, which see
observations only, and the players that look ahead from the real state: those are refused.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from playout.agents.players.player import Actions, Player, must_be_positions
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts.evaluators import Evaluator
from playout.mcts.exact import cfr
from playout.mcts.search import UNKNOWN, Search, SearchConfig, SearchResult

DRAWS = 16
"""States drawn for each position: with 16 the share of a move differs by an eighth at most, two
standard errors at their largest."""

_WORK = 20_000_000  # histories times iterations of CFR+: Leduc poker has a thousand, in a second
_ITERATIONS = (100, 1000)


def refuse_hidden(game: NativeGame, player: str) -> None:
    """Raises ConfigError if a player that looks ahead would see what it must not know."""
    if game.hidden:
        raise ConfigError(
            f"player {player!r} would look at what {game} hides; there are random, "
            "uct:SIMULATIONS, cfr and runs"
        )


def resampling(game: NativeGame, config: SearchConfig) -> SearchConfig:
    """The configuration with which players search: hidden information is drawn."""
    return replace(config, resample=True) if game.hidden else config


def search_drawn(
    states: StateBatch,
    config: SearchConfig,
    evaluator: Evaluator | None,
    *,
    seed: int,
    temperature: float = 0.0,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> SearchResult:
    """Searches DRAWS states drawn for each position, and adds up what they conclude.

    Args:
        states: B positions of a game with hidden information.
        config: Its simulations are shared out among the drawn states.
        evaluator: Of leaves; None with "uct".
        seed: Of what is drawn and of rollouts.
        temperature: 0 plays the move with the most weight; more draws from weights^(1 / t).
        allowed: Bool [A] or [B, A], the moves to choose among; by default all legal ones.

    Returns:
        A row a position; its `pv` is that of the first drawn state.
    """
    game, size = states.game, len(states)
    few = max(1, -(-config.num_simulations // DRAWS))
    config = replace(resampling(game, config), num_simulations=few)
    search = Search(game, config, num_trees=max(size * DRAWS, 1), seed=seed)
    if size:
        if allowed is not None and allowed.ndim == 2:
            allowed = allowed.repeat(DRAWS, axis=0)
        search.begin(states.tile(DRAWS), noise=False, allowed=allowed)
        search.run(None, evaluator)
    found = search.result()

    def mean(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(array.reshape(size, DRAWS, *array.shape[1:]).mean(1), np.float32)

    visits = found.visits.reshape(size, DRAWS, -1).sum(1).astype(np.int32)
    q = found.q.astype(np.float64) * found.visits
    weights = mean(found.action_weights)
    chosen = weights.argmax(axis=1)
    if temperature > 0:
        shares = weights ** (1 / temperature)
        ends = np.cumsum(shares, axis=1)
        drawn = np.random.default_rng([seed, 6]).random((size, 1)) * ends[:, -1:]
        chosen = (drawn < ends).argmax(axis=1)
    return replace(
        found,
        action=chosen.astype(np.int32),
        action_weights=weights,
        visits=visits,
        q=(q.reshape(size, DRAWS, -1).sum(1) / np.maximum(visits, 1)).astype(np.float32),
        value=mean(found.value),
        proven=np.full(size, UNKNOWN, np.int8),
        nodes=found.nodes.reshape(size, DRAWS).sum(1).astype(np.int32),
        prior_logits=found.prior_logits[::DRAWS],
        _rows=found._rows[::DRAWS],
        _searches=found._searches,
    )


class CfrPlayer(Player):
    """Plays a policy found by CFR+, which for two players is close to an equilibrium.

    Args:
        game: A game whose tree is small enough, see `playout.mcts.exact.cfr`.
        seed: Of the moves that it draws.

    Raises:
        ConfigError: The game is too large.
    """

    name = "cfr"

    def __init__(self, game: NativeGame | str, *, seed: int = 0) -> None:
        self.game = find_game(game)
        self.policy = _solved(self.game)
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Starts the random numbers anew; the policy stays."""
        self._rng = np.random.default_rng([seed, 7])

    def probabilities(self, states: StateBatch) -> npt.NDArray[np.float64]:
        """float64 [B, A]: what it plays in B positions."""
        return self.policy.probabilities(states)

    def act(self, states: StateBatch) -> Actions:
        """Draws a move in each position by the policy's probabilities."""
        must_be_positions(states, self.name, self.game)
        if not len(states):
            return np.zeros(0, np.int32)
        ends = np.cumsum(self.probabilities(states), axis=1)
        drawn = self._rng.random((len(states), 1)) * ends[:, -1:]
        return np.asarray((drawn < ends).argmax(axis=1), np.int32)


@lru_cache(maxsize=4)
def _solved(game: NativeGame) -> cfr.TabularPolicy:
    tree = cfr.GameTree(game)
    least, most = _ITERATIONS
    return tree.solve(min(max(_WORK // max(sum(tree.counts), 1), least), most))

"""Players that search: UCT with random rollouts, and any evaluator with or without a tree.

The tree of a position is kept and goes on from where the game went: a player recognises the
positions that its own trees have foreseen, so that callers need not tell it which game is which.
Networks come from run directories (load.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from playout.agents.players.analysis import Judge, policy_judge, search_judge
from playout.agents.players.hidden import resampling, search_drawn
from playout.agents.players.player import Actions, RunPlayer, must_be_positions
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts.evaluators import Evaluator
from playout.mcts.exact.tactics import children
from playout.mcts.search import Search, SearchConfig, SearchResult

C_SCALE = 0.5
"""Weight of a search's values where they are results of games and mean something as they are.

With 64 simulations a move, 0.2 took 19 of 60 games of Gomoku 9x9 from it; 1.0 took 32 of 60 there
and 21 of 40 of Go 9x9, and kept less of what Connect Four's solver knows. Stretched to [0, 1]
(mctx's default, made for returns of any size), small differences between equal moves would outweigh
the policy, and wins would weigh too little."""


def playing_search(simulations: int) -> SearchConfig:
    """The search that plays to win: no noise anywhere."""
    return SearchConfig(
        algorithm="gumbel",
        num_simulations=simulations,
        gumbel_scale=0.0,
        rescale_q=False,
        c_scale=C_SCALE,
    )


class SearchPlayer(RunPlayer):
    """Plays by tree search; where information is hidden, by many of states drawn (hidden.py).

    Args:
        game: The game.
        config: How to search; play to win wants no root noise (gumbel_scale 0).
        evaluator: Of leaves; None with the algorithm "uct". Without a config it plays its bare
            policy.
        name: What tables call it.
        seed: Of rollouts and sampled moves.
        temperature: 0 plays the best move; more samples.

    Attributes:
        config: How it searches; None if it plays its bare policy.
        evaluator: What it asks; None for random rollouts.
        seed: Of what it has drawn since its games began.
    """

    def __init__(
        self,
        game: NativeGame | str,
        config: SearchConfig | None,
        evaluator: Evaluator | None = None,
        *,
        name: str = "search",
        seed: int = 0,
        temperature: float = 0.0,
    ) -> None:
        if evaluator is None and (config is None or config.algorithm != "uct"):
            raise ConfigError("a search without an evaluator must be uct")
        self.game = find_game(game)
        self.config = None if config is None else resampling(self.game, config)
        self.evaluator, self.name, self.temperature = evaluator, name, temperature
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """New games begin: all trees are dropped."""
        self.seed = seed
        self._rng = np.random.default_rng([seed, 5])
        self._calls = 0
        self._search: Search | None = None
        # State bytes that our trees foresee -> (tree, our action there, the reply).
        self._foreseen: dict[bytes, tuple[int, int, int]] = {}

    def act(self, states: StateBatch) -> Actions:
        """The move that the search (or the bare policy) chooses for each position."""
        must_be_positions(states, self.name, self.game)
        if not len(states):
            return np.zeros(0, np.int32)
        if self.config is not None:
            return self.search(states).action
        found = self.judge()(states)
        if self.temperature == 0:
            return found.action
        weights = found.policy ** (1 / self.temperature)
        ends = np.cumsum(weights, axis=1)
        drawn = self._rng.random((len(states), 1)) * ends[:, -1:]
        return np.asarray((drawn < ends).argmax(axis=1), np.int32)

    def search(
        self,
        states: StateBatch,
        *,
        num_simulations: int | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
        watch: Callable[[Callable[[], SearchResult]], bool] | None = None,
    ) -> SearchResult:
        """Searches positions, going on in trees that have foreseen them; one row a position.

        Args:
            states: B positions, none of them over.
            num_simulations: Another budget than the player's own.
            allowed: Bool [A] or [B, A], the moves to choose among, for which trees begin anew; by
                default all legal ones.
            watch: Asked between steps whether to stop there; it is given what tells the result so
                far. Not asked where information is hidden.
        """
        if self.config is None:
            raise ConfigError(f"{self.name} plays its bare policy and does not search")
        must_be_positions(states, self.name, self.game)
        size = len(states)
        if self.game.hidden:
            self._calls += 1
            seed = self.seed ^ (self._calls << 32)
            budget = self.config.num_simulations if num_simulations is None else num_simulations
            return search_drawn(
                states,
                replace(self.config, num_simulations=budget),
                self.evaluator,
                seed=seed,
                temperature=self.temperature,
                allowed=allowed,
            )
        if self._search is None or self._search.num_trees < size:
            self._search = Search(self.game, self.config, num_trees=size, seed=self.seed)
            self._foreseen = {}
        search, trees, kept = self._search, *self._match(states, self._search.num_trees)
        if allowed is not None:
            kept[:] = False
        fresh = np.flatnonzero(~kept)
        if kept.any():
            rows = np.flatnonzero(kept)
            steps = [self._foreseen[states.data[row].tobytes()] for row in rows]
            for part in (1, 2):
                search.advance(
                    np.array([step[part] for step in steps], np.int32),
                    where=trees[rows],
                    num_simulations=num_simulations,
                    noise=False,
                )
        if len(fresh):
            search.begin(
                states[fresh],
                where=trees[fresh],
                num_simulations=num_simulations,
                noise=False,
                allowed=allowed,
            )
        stop = None
        if watch is not None:

            def stop() -> bool:
                return watch(lambda: search.result(where=trees))

        search.run(None, self.evaluator, stop=stop)
        found = search.result(temperature=self.temperature, where=trees)
        if self.config.reuse_subtree:
            self._foresee(states, trees, found.action)
        return found

    def with_simulations(self, simulations: int) -> RunPlayer:
        """The same evaluator with another budget; 0 for its bare policy."""
        base = self.config if self.config is not None else playing_search(1)
        config = replace(base, num_simulations=simulations) if simulations else None
        name = f"{self.name.partition(':')[0]}:{simulations}"
        return SearchPlayer(self.game, config, self.evaluator, name=name, seed=self.seed)

    @property
    def simulations_made(self) -> int:
        """Simulations of all its searches since the games began."""
        return 0 if self._search is None else self._search.stats["simulations"]

    def for_game(self, game: NativeGame) -> SearchPlayer:
        """The same at another game that its evaluator can answer for, such as another komi.

        Raises:
            ConfigError: Boards or actions of the other game have another shape.
        """
        if self.evaluator is not None:
            must_have_shape_of(self.game, game)
        return SearchPlayer(game, self.config, self.evaluator, name=self.name, seed=self.seed)

    def judge(self) -> Judge:
        """By the search that it plays with, or by its bare policy."""
        if self.config is not None:
            return search_judge(self.game, self.config, self.evaluator)
        assert self.evaluator is not None
        return policy_judge(self.evaluator)

    def judges(self) -> dict[str, Judge]:
        """The bare policy, but for UCT, which has none; and the search if it searches."""
        found = {} if self.evaluator is None else {"policy": policy_judge(self.evaluator)}
        if self.config is not None:
            found[f"search of {self.config.num_simulations}"] = self.judge()
        return found

    def _match(
        self, states: StateBatch, num_trees: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """A tree for every row, and which rows go on in theirs; equal positions cannot share."""
        trees = np.full(len(states), -1, np.int64)
        taken = set[int]()
        for row in range(len(states)):
            step = self._foreseen.get(states.data[row].tobytes())
            if step is not None and step[0] not in taken:
                taken.add(step[0])
                trees[row] = step[0]
        kept = trees >= 0
        free = (tree for tree in range(num_trees) if tree not in taken)
        for row in np.flatnonzero(~kept).tolist():
            trees[row] = next(free)
        return trees, kept

    def _foresee(self, states: StateBatch, trees: npt.NDArray[np.int64], actions: Actions) -> None:
        """Notes the positions that may come next: after our action and any reply."""
        self._foreseen = {}
        after = states.copy()
        after.apply(actions)
        rows = np.flatnonzero(~after.is_terminal())
        # Where we move again at once, the position after our action alone would be next; such trees
        # begin anew.
        rows = rows[after.to_play()[rows] != states.to_play()[rows]]
        replies, legal = children(after[rows])
        count = self.game.num_actions
        for i in np.flatnonzero(legal):
            row, reply = rows[i // count], i % count
            self._foreseen[replies.data[i].tobytes()] = (
                int(trees[row]),
                int(actions[row]),
                int(reply),
            )


def must_have_shape_of(known: NativeGame, game: NativeGame) -> None:
    """Raises ConfigError where what was made for one game cannot be asked about another."""
    if not has_shape_of(known, game):
        raise ConfigError(f"what has learned {known} cannot play {game}")


def has_shape_of(known: NativeGame, game: NativeGame) -> bool:
    """Whether it is the same game on the same board, if perhaps by other rules or komi."""
    return (known.name, known.obs_shape, known.num_actions) == (
        game.name,
        game.obs_shape,
        game.num_actions,
    )


def uct_player(
    game: NativeGame | str, simulations: int, *, seed: int = 0, threads: int = 1
) -> SearchPlayer:
    """UCT with random rollouts."""
    config = SearchConfig(algorithm="uct", num_simulations=simulations, threads=threads)
    return SearchPlayer(game, config, name=f"uct:{simulations}", seed=seed)

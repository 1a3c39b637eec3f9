"""Players that search: UCT with random rollouts, and networks with or without a tree.

The tree of a position is kept and goes on from where the game went: a player recognises the
positions that its own trees have foreseen, so that callers need not tell it which game is which.
Networks come from run directories.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.players.simple import Player
from playout.agents.rating.analysis import policy_judge
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts.evaluators import Evaluator
from playout.mcts.exact.tactics import children
from playout.mcts.search import Search, SearchConfig, SearchResult

Actions = npt.NDArray[np.int32]


class SearchPlayer:
    """Plays by tree search.

    Args:
        game: The game.
        config: How to search; play to win wants no root noise (gumbel_scale 0).
        evaluator: Of leaves; None with the algorithm "uct". Without a config it plays its bare
            policy.
        name: What tables call it.
        seed: Of rollouts and sampled moves.
        temperature: 0 plays the best move; more samples.
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
        self.config, self.evaluator, self.name, self.temperature = (
            config,
            evaluator,
            name,
            temperature,
        )
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """New games begin: all trees are dropped."""
        self._seed = seed
        self._search: Search | None = None
        # State bytes that our trees foresee -> (tree, our action there, the reply).
        self._foreseen: dict[bytes, tuple[int, int, int]] = {}

    def act(self, states: StateBatch) -> Actions:
        """The move that the search (or the bare policy) chooses for each position."""
        if self.config is None:
            assert self.evaluator is not None
            return policy_judge(self.evaluator)(states).action
        return self.search(states).action

    def search(self, states: StateBatch) -> SearchResult:
        """Searches positions, going on in trees that have foreseen them; one row a position."""
        if self.config is None:
            raise ConfigError(f"{self.name} plays its bare policy and does not search")
        size = len(states)
        if self._search is None or self._search.num_trees < size:
            self._search = Search(self.game, self.config, num_trees=size, seed=self._seed)
            self._foreseen = {}
        search, trees, kept = self._search, *self._match(states, self._search.num_trees)
        fresh = np.flatnonzero(~kept)
        if kept.any():
            rows = np.flatnonzero(kept)
            steps = [self._foreseen[states.data[row].tobytes()] for row in rows]
            for part in (1, 2):
                search.advance(
                    np.array([step[part] for step in steps], np.int32),
                    where=trees[rows],
                    noise=False,
                )
        if len(fresh):
            search.begin(states[fresh], where=trees[fresh], noise=False)
        search.run(None, self.evaluator)
        found = search.result(temperature=self.temperature, where=trees)
        if self.config.reuse_subtree:
            self._foresee(states, trees, found.action)
        return found

    def observe(self, actions: npt.ArrayLike) -> None:
        """Needs no news: positions are recognised."""

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


def uct_player(
    game: NativeGame | str, simulations: int, *, seed: int = 0, threads: int = 1
) -> SearchPlayer:
    """UCT with random rollouts."""
    config = SearchConfig(algorithm="uct", num_simulations=simulations, threads=threads)
    return SearchPlayer(game, config, name=f"uct:{simulations}", seed=seed)


def one_torch_thread() -> None:
    """Lets networks compute on the calling thread alone, if torch is in use.

    Small networks gain nothing from more, and on a busy machine lose most of their speed to
    waiting for each other. Commands call this; a library must not.
    """
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


def game_of_run(path: str | PathLike[str]) -> str:
    """The text of the game that a run has learned; ConfigError if it has learned none."""
    from playout.agents.runs.directory import RunDir

    run = RunDir.open(path)
    settings = run.config.get("alphazero")
    for place in (settings if isinstance(settings, dict) else {}, run.config):
        if isinstance(place.get("game"), str):
            return str(place["game"])
    raise ConfigError(f"{run.path} is a run of kind {run.kind}, which plays no game")


def game_of_specs(specs: Sequence[str]) -> str:
    """The text of the game that the first run among these players has learned."""
    for path in specs:
        while not Path(path).is_dir() and ":" in path:
            path = path.rpartition(":")[0]
        if path and Path(path).is_dir():
            return game_of_run(path)
    return "connect_four"


def load_player(
    path: str | PathLike[str],
    *,
    which: str | int = "best",
    simulations: int | None = None,
    game: NativeGame | None = None,
) -> Player:
    """The player of a run directory.

    Args:
        path: The run.
        which: "best", "latest" or the number of a checkpoint.
        simulations: Of its search; 0 for the bare policy, None for what the run suggests.
        game: What it must be able to play.

    Raises:
        ConfigError: The run plays something else.
    """
    from playout.agents.runs.directory import RunDir
    from playout.agents.runs.kinds import load

    run = RunDir.open(path)
    if run.kind not in ("alphazero", "ppo"):
        raise ConfigError(f"{run.path} is a run of kind {run.kind}, which plays no games")
    loaded = load(path, which)
    if run.kind == "ppo":
        return PolicyPlayer(loaded, game, name=run.path.name)
    if game is not None and loaded.game != game:
        raise ConfigError(f"{run.path} has learned {loaded.game}, not {game}")
    player: Player = loaded if simulations is None else loaded.with_simulations(simulations)
    return player


class PolicyPlayer:
    """A policy learned from observations, by PPO on a game's vector environment, as a player.

    Args:
        policy: Has `act(obs, mask=...) -> actions`.
        game: The game; its observations must be the ones that the policy learned from.
        name: What tables call it.
    """

    def __init__(self, policy: Any, game: NativeGame | None, *, name: str) -> None:
        if game is None:
            raise ConfigError(f"{name} is a run of kind ppo: say which game it plays")
        self.policy, self.game, self.name = policy, game, name

    def reset(self, seed: int) -> None:
        """Has nothing to forget."""

    def act(self, states: StateBatch) -> Actions:
        """The policy's likeliest action for each position."""
        try:
            actions = self.policy.act(states.observe(), mask=states.legal_mask())
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self.name} cannot play {self.game}: {error}") from error
        return np.asarray(actions, np.int32)

    def observe(self, actions: npt.ArrayLike) -> None:
        """Needs no news."""

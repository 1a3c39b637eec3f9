"""`SelfPlay`: groups of games together, each on a thread of its own.

While one group searches, another one's network works, and neither waits at a barrier. A call that
fails, since the game breaks its rules or the network answers NaN, leaves everything as it was, so
that it can be saved. Under several ranks each plays some of the groups; they are numbered through,
and play the same games wherever they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import torch
from playout.agents.alphazero.config import SelfPlayConfig
from playout.agents.alphazero.replay import Examples
from playout.agents.alphazero.selfplay.counts import Counts
from playout.agents.alphazero.selfplay.group import Group
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError
from playout.mcts.evaluators import Evaluator
from playout.mcts.search import SearchConfig


class SelfPlay:
    """All groups of this process together.

    Args:
        game: what is played.
        evaluators: one a group.
        config: see SelfPlayConfig.
        numbers: of the groups that this process plays; by default all that `config` has.
        search: how to search; the number of simulations is taken from `config`.
        num_simulations: of a move's search to begin with; by default as ever after.
        seed: names all random streams.
        keep_finals: examples tell in which states their games ended.
        keep_moves: examples tell which moves led from one to the next.

    With `search` of no cache, no reused subtrees and no proofs, no opening_share, stop_proven off,
    proof_nodes 0 and the bare network as evaluator, whole games are played with an evaluation for
    every simulation that does not end a game, and one for every root.
    """

    def __init__(
        self,
        game: NativeGame,
        evaluators: Sequence[Evaluator],
        config: SelfPlayConfig,
        *,
        search: SearchConfig,
        numbers: range | None = None,
        num_simulations: int | None = None,
        seed: int = 0,
        keep_finals: bool = False,
        keep_moves: bool = False,
    ) -> None:
        numbers = range(config.num_groups) if numbers is None else numbers
        if len(evaluators) != len(numbers):
            raise ConfigError(
                f"{len(numbers)} groups need as many evaluators, not {len(evaluators)}"
            )
        search = replace(search, num_simulations=config.num_simulations)
        simulations = num_simulations or config.num_simulations
        self.game, self.config = game, config
        self.groups = [
            Group(
                game,
                search,
                config,
                evaluator,
                num_simulations=simulations,
                seed=seed,
                index=index,
                keep_finals=keep_finals,
                keep_moves=keep_moves,
            )
            for index, evaluator in zip(numbers, evaluators, strict=True)
        ]
        self._pool = ThreadPoolExecutor(
            len(numbers), initializer=torch.set_num_threads, initargs=(1,)
        )

    def assign_evaluators(self, evaluators: Sequence[Evaluator], *, num_simulations: int) -> None:
        """Another network plays from now on, with so many simulations a move."""
        for group, evaluator in zip(self.groups, evaluators, strict=True):
            group.evaluator, group.num_simulations = evaluator, num_simulations

    def play(self, evaluations: int, *, games: int | None = None) -> tuple[Examples, Counts]:
        """Plays until the network has answered `evaluations` questions; returns ended games.

        With `games` it ends earlier where so many are over, shared out among the groups. Both are
        counts of all groups that there are, wherever they play.
        """
        share = None if games is None else -(-games // self.config.num_groups)
        quota = -(-evaluations // self.config.num_groups)
        before = [group.state_dict() for group in self.groups]
        futures = [self._pool.submit(group.play, quota, games=share) for group in self.groups]
        wait(futures)
        try:
            parts = [future.result() for future in futures]
        except Exception:
            for group, state in zip(self.groups, before, strict=True):
                group.search.cancel()
                group.load_state_dict(state, check=False)
            raise
        counts = Counts()
        for _, part in parts:
            counts.add(part)
        return Examples.concatenate([examples for examples, _ in parts]), counts

    def state_dict(self) -> dict[str, Any]:
        """The state of all groups."""
        return {"groups": [group.state_dict() for group in self.groups]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        for group, part in zip(self.groups, state["groups"], strict=True):
            group.load_state_dict(part)

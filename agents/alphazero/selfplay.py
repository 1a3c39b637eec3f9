"""Self-play: many games at once, searched and evaluated by a few independent groups of trees.

Each group owns trees, cache and evaluator and runs on a thread of its own; while one group
searches, another one's network works, and neither waits at a barrier. A group's play depends on its
seed, its network and its number alone, so runs repeat on any number of cores. Games start from the
beginning or, most of them, from random positions: good play repeats itself, and the network is to
know what it never reaches. Where a game has a quick solver, positions with few plies left are
proven instead of searched: the game has its exact result, and the time goes to positions where
search is needed. Finished games become `Examples` (targets.py says how).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.alphazero.config import SelfPlayConfig
from playout.agents.alphazero.replay import Examples
from playout.agents.alphazero.targets import Histories
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import ConfigError
from playout.mcts.evaluators import Evaluator
from playout.mcts.exact.solver import GIVEN_UP, Outcomes, prover_for
from playout.mcts.search import UNKNOWN, Search, SearchConfig, SearchResult

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


@dataclass(slots=True)
class Counts:
    """What self-play did: sums over groups and rounds."""

    moves: int = 0
    games: int = 0
    evaluations: int = 0
    simulations: int = 0
    first_wins: int = 0
    draws: int = 0
    proven: int = 0

    def add(self, other: Counts) -> None:
        """Adds another part's counts."""
        for name in Counts.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Group:
    """One group of concurrent games."""

    def __init__(
        self,
        game: NativeGame,
        search: SearchConfig,
        config: SelfPlayConfig,
        evaluator: Evaluator,
        *,
        num_simulations: int,
        seed: int,
        index: int,
    ) -> None:
        self.game, self.config, self.evaluator = game, config, evaluator
        self.seed, self.index = seed, index
        self.round = 0  # moves that have been made in every game
        self.next_game = 0
        self.num_simulations = num_simulations
        size = config.num_trees
        self.states = game.batch(size)
        self.plies = np.zeros(size, np.int32)  # since the game's beginning
        self.histories = Histories(game, size)
        self.prover = prover_for(game, config.proof_nodes)
        self._opened = np.zeros(size, bool)  # games that have not been searched yet
        search_seed = int(np.random.default_rng([seed, 3, index]).integers(2**62))
        self.search = Search(game, search, num_trees=size, seed=search_seed)
        self._open(np.arange(size))

    def play(self, evaluations: int) -> tuple[Examples, Counts]:
        """Plays rounds (a move in every game) until the network has answered so many questions."""
        counts = Counts()
        finished: list[Examples] = []
        # Trees and answers of older weights are worth little, and need not be saved: begin anew.
        self.search.clear_cache()
        if self.round == 0:
            finished += self._end_proven(np.zeros(self.config.num_trees, bool), counts)
        self.search.begin(
            self.states, num_simulations=self.num_simulations, noise=self._begin_round()
        )
        # Where the cache knows all (tic-tac-toe), questions are rare: moves count too.
        max_moves = 8 * evaluations / self.num_simulations
        while not finished or (counts.evaluations < evaluations and counts.moves < max_moves):
            finished.append(self._round(counts))
        return Examples.concatenate(finished), counts

    def _begin_round(self) -> Bools:
        """Counts a round; which games follow their search's noise in it."""
        self.round += 1
        return np.asarray(self.histories.lengths < self.config.explore_plies)

    def _round(self, counts: Counts) -> Examples:
        """A move in every game; the examples of games that it ends."""
        config, search = self.config, self.search
        self._opened[:] = False
        before = search.stats["simulations"]
        while (leaves := search.ask()) is not None:
            counts.evaluations += leaves.size
            search.tell(*self.evaluator.evaluate(leaves))
        result = search.result()
        self.histories.append(
            self.states, result, result.action, regret_threshold=config.regret_threshold
        )
        movers = self.states.to_play()
        self.states.apply(result.action)
        self.plies += 1
        ended, returns = self._results(result, movers, counts)
        counts.moves += config.num_trees
        counts.simulations += search.stats["simulations"] - before
        examples = [self._finish(np.flatnonzero(ended), returns, counts)]
        examples += self._end_proven(ended, counts)
        self._continue(ended, result.action)
        return Examples.concatenate(examples)

    def _end_proven(self, ended: Bools, counts: Counts) -> list[Examples]:
        """Ends games whose results alpha-beta proves, openings too, and marks them in `ended`."""
        examples: list[Examples] = []
        returns = np.zeros((len(ended), self.game.num_players), np.float32)
        fresh: Rows = np.arange(len(ended))
        while len(fresh := self._proven_games(fresh, returns)):
            examples.append(self._finish(fresh, returns, counts))
            ended[fresh] = True
        return examples

    def _finish(self, rows: Rows, returns: Float32, counts: Counts) -> Examples:
        """The examples of games that are over; others begin in their places."""
        known = returns[rows]
        played = ~self._opened[rows]  # an opening that is proven at once is no game
        counts.games += int(played.sum())
        counts.first_wins += int((known[played, 0] > 0).sum())
        counts.draws += int((known[played, 0] == 0).sum())
        examples = self.histories.finish(rows, known, value_mix=self.config.value_mix)
        self._open(rows)
        return examples

    def _proven_games(self, rows: Rows, returns: Float32) -> Rows:
        """Which games are over because alpha-beta proves their result, which goes to `returns`.

        The beginning of a game is not proven, or small boards would leave nothing to search.
        """
        plies = self.plies[rows]
        rows = rows[(plies > 0) & (self.game.max_plies - plies <= self.config.proof_plies)]
        rows, states, outcomes = self._prove(rows, self.states[rows])
        best, movers = outcomes.max(axis=1), states.to_play()
        returns[rows, movers], returns[rows, 1 - movers] = best, -best
        self._continue_after_proof(rows, states, outcomes)
        return rows

    def _prove(self, rows: Rows, states: StateBatch) -> tuple[Rows, StateBatch, Outcomes]:
        """Those games whose positions alpha-beta proves, with the outcomes of all moves."""
        if self.prover is None or not len(rows):
            return rows[:0], states[:0], np.empty((0, self.game.num_actions), np.int8)
        outcomes = self.prover.outcomes(states.observe().reshape(len(rows), -1))
        known = outcomes[:, 0] != GIVEN_UP
        return rows[known], states[known], outcomes[known]

    def _continue_after_proof(self, rows: Rows, states: StateBatch, outcomes: Outcomes) -> None:
        """Keeps proven positions as examples, and lets the games go on a little, by proofs alone.

        Every ply of that is exact, and the network learns how games end.
        """
        if not len(rows):
            return
        rng = np.random.default_rng([self.seed, 6, self.index, self.round, int(rows[0])])
        while len(rows):
            self.histories.append_proven(rows, states, outcomes)
            keeps = outcomes == outcomes.max(axis=1, keepdims=True)
            actions = (rng.random(keeps.shape) * keeps).argmax(axis=1)
            states.apply(actions.astype(np.int32))
            going = (rng.random(len(rows)) < self.config.continue_proven) & ~states.is_terminal()
            rows, states, outcomes = self._prove(rows[going], states[going])

    def _continue(self, new_games: Bools, actions: Ints) -> None:
        """Begins every game's next search: below the move played, or in a new game."""
        noise, simulations = self._begin_round(), self.num_simulations
        old, new = np.flatnonzero(~new_games), np.flatnonzero(new_games)
        if len(old):
            self.search.advance(
                actions[old], where=old, num_simulations=simulations, noise=noise[old]
            )
        if len(new):
            self.search.begin(
                self.states[new], where=new, num_simulations=simulations, noise=noise[new]
            )

    def _results(self, result: SearchResult, movers: Ints, counts: Counts) -> tuple[Bools, Float32]:
        """Games that are over by rule or by the search's proof, and their returns [B, P]."""
        ended: Bools = self.states.is_terminal()
        returns = self.states.returns()
        if self.config.stop_proven and self.game.num_players == 2:
            rows = np.flatnonzero(~ended & (result.proven != UNKNOWN))
            returns[rows, movers[rows]] = result.proven[rows]
            returns[rows, 1 - movers[rows]] = -result.proven[rows]
            ended[rows] = True
            counts.proven += len(rows)
        return ended, returns

    def _open(self, rows: Rows) -> None:
        """Begins a game in every row: from the start, or after random plies that did not end it."""
        config = self.config
        self._opened[rows] = True
        while len(rows):
            states = self.game.batch(len(rows))
            numbers = self.next_game + np.arange(len(rows), dtype=np.uint64)
            self.next_game += len(rows)
            rng = np.random.default_rng([self.seed, 5, self.index, int(numbers[0])])
            opened = rng.random(len(rows)) < config.opening_share
            # Few plies make few different games: each number is as likely as it is large.
            drawn = (config.opening_plies + 1) * np.sqrt(rng.random(len(rows)))
            plies = np.where(opened, drawn, 0).astype(np.int32)
            states.random_plies(plies, int(rng.integers(2**62)), streams=numbers)
            self.states[rows], self.plies[rows] = states, plies
            rows = rows[states.is_terminal()]

    def state_dict(self) -> dict[str, Any]:
        """Games in play and counters. Not the trees: they begin anew with every `play`."""
        return {
            "round": self.round,
            "next_game": self.next_game,
            "states": self.states.data.copy(),
            "plies": self.plies.copy(),
            "searches": self.search.counters,
            "histories": self.histories.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.round, self.next_game = int(state["round"]), int(state["next_game"])
        self.states = StateBatch.from_data(self.game, state["states"], check=True)
        self.plies = state["plies"]
        self.search.counters = state["searches"]
        self.histories.load_state_dict(state["histories"])


class SelfPlay:
    """All groups together.

    Args:
        game: what is played.
        evaluators: one a group.
        config: see SelfPlayConfig.
        search: how to search; the number of simulations is taken from `config`.
        num_simulations: of a move's search to begin with; by default as ever after.
        seed: names all random streams.
    """

    def __init__(
        self,
        game: NativeGame,
        evaluators: Sequence[Evaluator],
        config: SelfPlayConfig,
        *,
        search: SearchConfig,
        num_simulations: int | None = None,
        seed: int = 0,
    ) -> None:
        if len(evaluators) != config.num_groups:
            raise ConfigError(
                f"{config.num_groups} groups need as many evaluators, not {len(evaluators)}"
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
            )
            for index, evaluator in enumerate(evaluators)
        ]
        self._pool = ThreadPoolExecutor(
            config.num_groups, initializer=torch.set_num_threads, initargs=(1,)
        )

    def assign_evaluators(self, evaluators: Sequence[Evaluator], *, num_simulations: int) -> None:
        """Another network plays from now on, with so many simulations a move."""
        for group, evaluator in zip(self.groups, evaluators, strict=True):
            group.evaluator, group.num_simulations = evaluator, num_simulations

    def play(self, evaluations: int) -> tuple[Examples, Counts]:
        """Plays until the network has answered `evaluations` questions; returns ended games."""
        quota = -(-evaluations // len(self.groups))
        parts = list(self._pool.map(lambda group: group.play(quota), self.groups))
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

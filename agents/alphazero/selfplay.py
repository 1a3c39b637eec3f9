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

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.alphazero.replay import Examples
from playout.agents.alphazero.targets import Histories
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import ConfigError
from playout.mcts.evaluators import Evaluator
from playout.mcts.exact.solver import END_NODES, GIVEN_UP, Outcomes, prover_for
from playout.mcts.search import Search, SearchConfig, SearchResult

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfPlayConfig:
    """How games are played.

    Attributes:
        num_groups: groups of trees, each on a thread of its own.
        num_trees: games at once in a group.
        num_simulations: of a full search; its result is a policy target.
        cheap_simulations: of a cheap search, which only chooses the move.
        full_share: share of moves that get a full search (playout-cap randomisation); 1 for all.
        opening_share: share of games that start from a random position; what the others play, many
            of them play alike.
        opening_plies: the most random plies before such a game.
        explore_plies: moves chosen with the search's noise; later ones are the best found.
        stop_proven: a game ends as soon as the search has proven its result.
        resign: a side gives up below this value (two moves in a row); -1 never.
        value_mix: share of the search's value in a value target, against what followed.
        blunder: what follows a move this much worse than the best found is no target.
        proof_nodes: alpha-beta's effort to prove a position, in games with a quick solver; 0 leaves
            all to the search.
        proof_plies: it tries where at most so many plies are left.
        play_on: the chance, ply by ply, that a proven game goes on for its exact examples.
    """

    num_groups: int = 2
    num_trees: int = 128
    num_simulations: int = 16
    cheap_simulations: int = 8
    full_share: float = 1.0
    # With a fifth of all Connect Four games from the beginning, six of ten positions in the replay
    # were repeats, and the policy ended at 90.0 instead of 91.8 % of moves.
    opening_share: float = 0.97
    opening_plies: int = 21
    explore_plies: int = 6
    stop_proven: bool = True
    resign: float = -1.0
    value_mix: float = 0.05
    blunder: float = 0.2
    proof_nodes: int = END_NODES
    proof_plies: int = 22  # with more left, a proof takes longer than a few searches
    play_on: float = 0.8

    def __post_init__(self) -> None:
        for name in ("num_groups", "num_trees", "num_simulations", "cheap_simulations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("full_share", "opening_share", "value_mix", "play_on"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        for name in ("opening_plies", "proof_nodes", "proof_plies"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, not {getattr(self, name)}")


@dataclass(slots=True)
class Counts:
    """What self-play did: sums over groups and rounds."""

    moves: int = 0
    games: int = 0
    plies: int = 0
    evaluations: int = 0
    simulations: int = 0
    first_wins: int = 0
    draws: int = 0
    proven: int = 0
    full: int = 0

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
        seed: int,
        index: int,
    ) -> None:
        self.game, self.config, self.evaluator = game, config, evaluator
        self.seed, self.index = seed, index
        self.round = 0
        self.next_game = 0
        size = config.num_trees
        self.states = game.batch(size)
        self.plies = np.zeros(size, np.int32)  # since the game's beginning
        self.histories = Histories(game, size)
        self.prover = prover_for(game, config.proof_nodes)
        self._opened = np.zeros(size, bool)  # games that have not been searched yet
        # How many moves in a row each side was below the resignation threshold.
        self._low = np.zeros((size, game.num_players), np.int32)
        self._full = np.zeros(size, bool)  # this round's kind of search
        self._noise = np.zeros(size, bool)
        search_seed = int(np.random.default_rng([seed, 3, index]).integers(2**62))
        self.search = Search(game, search, num_trees=size, seed=search_seed)
        self.simulations = config.num_simulations
        self._open(np.arange(size))

    def play(self, evaluations: int) -> tuple[Examples, Counts]:
        """Plays rounds (a move in every game) until the network has answered so many questions."""
        counts = Counts()
        finished: list[Examples] = []
        # Trees and answers of older weights are worth little, and need not be saved: begin anew.
        self.search.clear_cache()
        if self.round == 0:
            finished += self._settle(np.zeros(self.config.num_trees, bool), counts)
        self.search.begin(self.states, **self._next_round())
        # Where the cache knows all (tic-tac-toe), questions are rare: moves count too.
        enough = 8 * evaluations / self.simulations
        while not finished or (counts.evaluations < evaluations and counts.moves < enough):
            finished.append(self._round(counts))
        return Examples.concatenate(finished), counts

    def _next_round(self) -> dict[str, Any]:
        """Draws which games get a full search and which follow its noise; the search's options."""
        config = self.config
        rng = np.random.default_rng([self.seed, 4, self.index, self.round])
        self.round += 1
        self._full = rng.random(config.num_trees) < config.full_share
        self._noise = self._full & (self.histories.lengths < config.explore_plies)
        cheap = min(config.cheap_simulations, self.simulations)
        budgets = np.where(self._full, self.simulations, cheap)
        return {"num_simulations": budgets.astype(np.int32), "noise": self._noise}

    def _round(self, counts: Counts) -> Examples:
        config, search = self.config, self.search
        self._opened[:] = False
        before = search.stats["simulations"]
        while (leaves := search.ask()) is not None:
            counts.evaluations += leaves.size
            search.tell(*self.evaluator.evaluate(leaves))
        result = search.result()
        self.histories.append(
            self.states, result, result.action, self._full, blunder=config.blunder
        )
        movers = self.states.to_play()
        self.states.apply(result.action)
        self.plies += 1
        ended, returns = self._results(result, movers, counts)
        counts.moves += config.num_trees
        counts.full += int(self._full.sum())
        counts.simulations += search.stats["simulations"] - before
        examples = [self._finish(np.flatnonzero(ended), returns, counts)]
        examples += self._settle(ended, counts)
        self._continue(ended, result.action)
        return Examples.concatenate(examples)

    def _settle(self, ended: Bools, counts: Counts) -> list[Examples]:
        """Ends games whose results alpha-beta proves, openings too, and marks them in `ended`."""
        examples: list[Examples] = []
        returns = np.zeros((len(ended), self.game.num_players), np.float32)
        fresh: Rows = np.arange(len(ended))
        while len(fresh := self._prove(fresh, returns)):
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

    def _prove(self, rows: Rows, returns: Float32) -> Rows:
        """Which games are over because alpha-beta proves their result, which goes to `returns`.

        The beginning of a game is not proven, or small boards would leave nothing to search.
        """
        plies = self.plies[rows]
        rows = rows[(plies > 0) & (self.game.max_plies - plies <= self.config.proof_plies)]
        rows, states, outcomes = self._proven(rows, self.states[rows])
        best, movers = outcomes.max(axis=1), states.to_play()
        returns[rows, movers], returns[rows, 1 - movers] = best, -best
        self._play_on(rows, states, outcomes)
        return rows

    def _proven(self, rows: Rows, states: StateBatch) -> tuple[Rows, StateBatch, Outcomes]:
        """Those games whose positions alpha-beta proves, with the outcomes of all moves."""
        if self.prover is None or not len(rows):
            return rows[:0], states[:0], np.empty((0, self.game.num_actions), np.int8)
        outcomes = self.prover.outcomes(states.observe().reshape(len(rows), -1))
        known = outcomes[:, 0] != GIVEN_UP
        return rows[known], states[known], outcomes[known]

    def _play_on(self, rows: Rows, states: StateBatch, outcomes: Outcomes) -> None:
        """Remembers proven positions, and those that follow: games go on a little, by proofs alone.

        So the network sees how games end, and exactly.
        """
        if not len(rows):
            return
        rng = np.random.default_rng([self.seed, 6, self.index, self.round, int(rows[0])])
        while len(rows):
            self.histories.append_proven(rows, states, outcomes)
            keeps = outcomes == outcomes.max(axis=1, keepdims=True)
            actions = (rng.random(keeps.shape) * keeps).argmax(axis=1)
            states.apply(actions.astype(np.int32))
            going = (rng.random(len(rows)) < self.config.play_on) & ~states.is_terminal()
            rows, states, outcomes = self._proven(rows[going], states[going])

    def _continue(self, new_games: Bools, actions: Ints) -> None:
        """Begins every game's next search: below the move played, or in a new game."""
        options = self._next_round()
        for rows, new in ((np.flatnonzero(~new_games), False), (np.flatnonzero(new_games), True)):
            part = {name: value[rows] for name, value in options.items()}
            if new and len(rows):
                self.search.begin(self.states[rows], where=rows, **part)
            elif len(rows):
                self.search.advance(actions[rows], where=rows, **part)

    def _results(self, result: SearchResult, movers: Ints, counts: Counts) -> tuple[Bools, Float32]:
        """Games that are over by rule, proof or resignation, and their returns [B, P]."""
        config = self.config
        ended: Bools = self.states.is_terminal()
        returns = self.states.returns()
        if self.game.num_players != 2:
            return ended, returns
        known = np.zeros(len(ended), bool)
        value = np.zeros(len(ended), np.float32)
        if config.stop_proven:
            known = ~ended & (result.proven != -128)
            value[known] = result.proven[known]
            counts.proven += int(known.sum())
        if config.resign > -1:
            everyone = np.arange(len(ended))
            low = np.where(result.value < config.resign, self._low[everyone, movers] + 1, 0)
            self._low[everyone, movers] = low
            lost = ~ended & ~known & (low >= 2)
            known |= lost
            value[lost] = -1
        rows = np.flatnonzero(known)
        returns[rows, movers[rows]] = value[rows]
        returns[rows, 1 - movers[rows]] = -value[rows]
        return ended | known, returns

    def _open(self, rows: Rows) -> None:
        """Begins a game in every row: from the start, or after random plies that did not end it."""
        config = self.config
        self._low[rows], self._opened[rows] = 0, True
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
            "low": self._low.copy(),
            "searches": self.search.counters,
            "histories": self.histories.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.round, self.next_game = int(state["round"]), int(state["next_game"])
        self.states = StateBatch.from_data(self.game, state["states"], check=True)
        self.plies, self._low = state["plies"], state["low"]
        self.search.counters = state["searches"]
        self.histories.load_state_dict(state["histories"])


class SelfPlay:
    """All groups together.

    Args:
        game: what is played.
        evaluators: one a group.
        config: see SelfPlayConfig.
        search: the search's settings; simulations and noise are set from `config`.
        seed: names all random streams.
    """

    def __init__(
        self,
        game: NativeGame,
        evaluators: list[Evaluator],
        config: SelfPlayConfig,
        *,
        search: SearchConfig | None = None,
        seed: int = 0,
    ) -> None:
        if len(evaluators) != config.num_groups:
            raise ConfigError(
                f"{config.num_groups} groups need as many evaluators, not {len(evaluators)}"
            )
        settings = replace(search or SearchConfig(), num_simulations=config.num_simulations)
        self.game, self.config = game, config
        self.groups = [
            Group(game, settings, config, evaluator, seed=seed, index=index)
            for index, evaluator in enumerate(evaluators)
        ]
        self._pool = ThreadPoolExecutor(
            config.num_groups, initializer=torch.set_num_threads, initargs=(1,)
        )

    def seat(self, evaluators: list[Evaluator], *, simulations: int) -> None:
        """Another network plays from now on, with at most `config.num_simulations` a move."""
        for group, evaluator in zip(self.groups, evaluators, strict=True):
            group.evaluator = evaluator
            group.simulations = min(simulations, self.config.num_simulations)

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

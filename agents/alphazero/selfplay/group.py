"""`Group`: a few games at once, searched by trees and answered by an evaluator of their own.

A group's play depends on its seed, its network and its number alone, so runs repeat on any number
of cores. Where a game brings a prover and says how many plies are left, positions near the end are
proven instead of searched: the game has its exact result, and the time goes to positions where
search is needed. Finished games become `Examples` (targets.py says how). Games of one player, of
more than two and with dice are played alike, without proofs. Left out: all groups together
(play.py), where games begin (openings.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.config import SelfPlayConfig
from playout.agents.alphazero.replay import Examples
from playout.agents.alphazero.selfplay.counts import Counts
from playout.agents.alphazero.selfplay.openings import Openings
from playout.agents.alphazero.selfplay.resignations import Resignations
from playout.agents.alphazero.selfplay.rules import (
    check_actions,
    check_observations,
    check_returns,
    check_turns,
    fault,
)
from playout.agents.alphazero.selfplay.targets import Histories
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import DivergedError
from playout.mcts.evaluators import Evaluator, LeafBatch
from playout.mcts.exact.prover import Outcomes, best_known, has_proofs, proven, prover_for
from playout.mcts.search import UNKNOWN, Search, SearchConfig, SearchResult

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


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
        keep_finals: bool = False,
        keep_moves: bool = False,
    ) -> None:
        self.game, self.config, self.evaluator = game, config, evaluator
        self.seed, self.index = seed, index
        self.round = 0  # moves that have been made in every game
        self.num_simulations = num_simulations
        size = config.num_trees
        self.states = game.batch(size)
        self.plies = np.zeros(size, np.int32)  # since the game's beginning
        self.histories = Histories(
            game,
            size,
            max_moves=config.policy_moves,
            surprise_weight=config.surprise_weight,
            keep_finals=keep_finals,
            keep_moves=keep_moves,
        )
        self.openings = Openings(
            game, share=config.opening_share, plies=config.opening_plies, seed=seed, index=index
        )
        self.proofs = prover_for(game, config.proof_nodes)
        # Proofs of the search end games of one player and such where one's gain is another's loss.
        self._stops = config.stop_proven and (game.num_players == 1 or has_proofs(game))
        self._opened = np.zeros(size, bool)  # games that have not been searched yet
        self._fast = np.zeros(size, bool)  # games whose move is searched briefly
        self._draws = search.algorithm != "gumbel"  # Gumbel's noise is in its choice already
        self._temperatures = np.zeros(size)
        self.resignations = Resignations(game, config, seed=seed, index=index)
        search_seed = int(np.random.default_rng([seed, 3, index]).integers(2**62))
        self._chance_seed = int(np.random.default_rng([seed, 7, index]).integers(2**62))
        self.search = Search(game, search, num_trees=size, seed=search_seed)
        self._open(np.arange(size))

    def play(self, evaluations: int, *, games: int | None = None) -> tuple[Examples, Counts]:
        """Plays rounds (a move in every game) until the network has answered so many questions.

        Args:
            evaluations: Questions, about: a round is played to its end.
            games: It ends earlier with the round in which so many games are over.

        Raises:
            GameError: the game breaks its own rules.
        """
        counts = Counts()
        finished: list[Examples] = []
        # Trees and answers of older weights are worth little, and need not be saved: begin anew.
        self.search.clear_cache()
        if self.round == 0:
            finished += self._end_proven(np.zeros(self.config.num_trees, bool), counts)
        noise, simulations = self._begin_round()
        self.search.begin(self.states, num_simulations=simulations, noise=noise)
        # Where the cache knows all (tic-tac-toe), questions are rare: moves count too.
        max_moves = 8 * evaluations / self.num_simulations
        while not finished or (
            counts.evaluations < evaluations
            and counts.moves < max_moves
            and (games is None or counts.games < games)
        ):
            finished.append(self._round(counts))
        return Examples.concatenate(finished), counts

    def _begin_round(self) -> tuple[Bools, Ints]:
        """Counts a round; which games follow their search's noise in it, and their simulations."""
        self.round += 1
        config, size = self.config, self.config.num_trees
        noise = np.asarray(self.histories.lengths < config.explore_plies)
        simulations = np.full(size, self.num_simulations, np.int32)
        if config.fast_share:
            rng = np.random.default_rng([self.seed, 8, self.index, self.round])
            self._fast = rng.random(size) < config.fast_share
            brief = config.fast_simulations or max(1, self.num_simulations // 4)
            simulations[self._fast] = min(brief, self.num_simulations)
            noise &= ~self._fast
        if self._draws:
            self._temperatures = noise.astype(np.float64)
        return noise, simulations

    def _answers(self, leaves: LeafBatch) -> tuple[Float32, Float32]:
        """The evaluator's; where it fails, the game may be the cause."""
        try:
            return self.evaluator.evaluate(leaves)
        except DivergedError:
            check_observations(leaves)
            raise

    def _round(self, counts: Counts) -> Examples:
        """A move in every game; the examples of games that it ends."""
        config, search = self.config, self.search
        self._opened[:] = False
        before = search.stats["simulations"]
        while (leaves := search.ask()) is not None:
            counts.evaluations += leaves.size
            search.tell(*self._answers(leaves))
        result = search.result(temperature=self._temperatures)
        check_actions(self.states, result.action)
        self.histories.append(
            self.states,
            result,
            result.action,
            regret_threshold=config.regret_threshold,
            fast=self._fast,
        )
        movers = self.states.to_play()
        self.states.apply(result.action)
        drawn = self._resolve_chance(self.states, np.arange(config.num_trees))
        self.plies += 1 + drawn
        check_turns(self.states, self.plies)
        ended, returns = self._results(result, movers, counts)
        counts.moves += config.num_trees
        counts.chance += int(drawn.sum())
        counts.simulations += search.stats["simulations"] - before
        examples = [self._finish(np.flatnonzero(ended), returns, counts)]
        examples += self._end_proven(ended, counts)
        self._continue(ended, drawn > 0, result.action)
        return Examples.concatenate(examples)

    def _resolve_chance(self, states: StateBatch, streams: Rows) -> Ints:
        """Draws outcomes where it is chance's turn; no stream [B] is used twice in a round."""
        counter = self.round * (self.game.max_plies + 1)
        return states.resolve_chance(self._chance_seed, streams=streams, counter=counter)

    def _end_proven(self, ended: Bools, counts: Counts) -> list[Examples]:
        """Ends games whose results are proven, openings too, and marks them in `ended`."""
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
        counts.plies += int(self.histories.lengths[rows[played]].sum())
        counts.first_wins += int((known[played, 0] > 0).sum())
        counts.draws += int((known[played, 0] == 0).sum())
        counts.first_return += float(known[played, 0].sum(dtype=np.float64))
        self.resignations.count(rows, known, counts)
        last = self.states[rows] if self.histories.keep_finals else None
        examples = self.histories.finish(rows, known, value_mix=self.config.value_mix, states=last)
        self._open(rows)
        return examples

    def _proven_games(self, rows: Rows, returns: Float32) -> Rows:
        """Which games are over because their result is proven; it goes to `returns`.

        The beginning of a game is not proven, or small boards would leave nothing to search. Nor is
        any position of a game that does not say how many plies are left.
        """
        left = None if self.proofs is None else self.game.plies_left(self.states[rows])
        if left is None:
            return rows[:0]
        rows = rows[(self.plies[rows] > 0) & (left <= self.config.proof_plies)]
        rows, states, outcomes = self._prove(rows, self.states[rows])
        best, movers = best_known(outcomes), states.to_play()
        returns[rows, movers], returns[rows, 1 - movers] = best, -best
        self._continue_after_proof(rows, states, outcomes)
        return rows

    def _prove(self, rows: Rows, states: StateBatch) -> tuple[Rows, StateBatch, Outcomes]:
        """Those games whose positions are proven, with the outcomes of all moves."""
        if self.proofs is None or not len(rows):
            return rows[:0], states[:0], np.empty((0, self.game.num_actions), np.int8)
        outcomes = self.proofs.outcomes(states.data)
        known = proven(outcomes)
        return rows[known], states[known], outcomes[known]

    def _continue_after_proof(self, rows: Rows, states: StateBatch, outcomes: Outcomes) -> None:
        """Keeps proven positions as examples, and lets the games go on a little, by proofs alone.

        Every ply of that is exact, and the network learns how games end.
        """
        if not len(rows):
            return
        rng = np.random.default_rng([self.seed, 6, self.index, self.round, int(rows[0])])
        for turn in range(self.game.max_plies + 1):
            keeps = outcomes == best_known(outcomes)[:, None]
            actions = (rng.random(keeps.shape) * keeps).argmax(axis=1).astype(np.int32)
            self.histories.append_proven(rows, states, outcomes, actions)
            states.apply(actions)
            self._resolve_chance(states, rows + (turn + 1) * self.config.num_trees)
            going = (rng.random(len(rows)) < self.config.continue_proven) & ~states.is_terminal()
            rows, states, outcomes = self._prove(rows[going], states[going])
            if not len(rows):
                return
        raise fault(states, 0, f"a game goes on after max_plies {self.game.max_plies} plies")

    def _continue(self, new_games: Bools, after_chance: Bools, actions: Ints) -> None:
        """Begins every game's next search: below the move played, or anew."""
        noise, simulations = self._begin_round()
        # Trees are not told which outcomes chance has drawn.
        anew = new_games | after_chance
        old, new = np.flatnonzero(~anew), np.flatnonzero(anew)
        if len(old):
            self.search.advance(
                actions[old], where=old, num_simulations=simulations[old], noise=noise[old]
            )
        if len(new):
            self.search.begin(
                self.states[new], where=new, num_simulations=simulations[new], noise=noise[new]
            )

    def _results(self, result: SearchResult, movers: Ints, counts: Counts) -> tuple[Bools, Float32]:
        """Games that are over by rule or by the search's proof, and their returns [B, P]."""
        ended: Bools = self.states.is_terminal()
        returns = self.states.returns()
        over = np.flatnonzero(ended)
        check_returns(self.states[over], returns[over])
        if self._stops:
            rows = np.flatnonzero(~ended & (result.proven != UNKNOWN))
            known = np.float32(self.game.value_scale) * result.value[rows]
            if self.game.num_players == 2:
                returns[rows, 1 - movers[rows]] = 0 - known
            returns[rows, movers[rows]] = 0 + known  # no -0
            ended[rows] = True
            counts.proven += len(rows)
        given_up = self.resignations.after(result.value, movers, ended)
        lost = np.float32(self.game.value_scale)
        returns[given_up, movers[given_up]] = -lost
        returns[given_up, 1 - movers[given_up]] = lost
        ended[given_up] = True
        counts.resigned += len(given_up)
        return ended, returns

    def _open(self, rows: Rows) -> None:
        """Begins a game in every row."""
        self._opened[rows] = True
        self.resignations.open(rows, self.round)
        if len(rows):
            self.states[rows], self.plies[rows] = self.openings.draw(len(rows))

    def state_dict(self) -> dict[str, Any]:
        """Games in play and counters. Not the trees: they begin anew with every `play`."""
        return {
            "round": self.round,
            "next_game": self.openings.next_game,
            "states": self.states.data.copy(),
            "plies": self.plies.copy(),
            "searches": self.search.counters,
            "histories": self.histories.state_dict(),
            **self.resignations.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], *, check: bool = True) -> None:
        """Takes over what `state_dict` gave; states are examined unless they come from here."""
        self.round, self.openings.next_game = int(state["round"]), int(state["next_game"])
        self.states = StateBatch.from_data(self.game, state["states"], check=check)
        self.plies = state["plies"]
        self.search.counters = state["searches"]
        self.histories.load_state_dict(state["histories"])
        self.resignations.load_state_dict(state)

"""Demonstrations of a game: single positions, and whole games with their later turns.

A good move keeps what a position is worth, by the solver, or is a search's where a game has none.
Where a position is solved, and moves are not too many, an answer says what every move leads to and
then the move: one row teaches as many outcomes as there are moves, each at a place of its own, and
the choice is read off them. In a whole game the policy has the boards of earlier turns before it,
as in the environment, where it reads all of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from playout.agents.players.analysis import rollout_judge
from playout.envs.core.game import NativeGame, State
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts.exact.prover import GIVEN_UP, ILLEGAL
from playout.mcts.exact.tactics import Lookahead, winning_actions
from playout.rlhf.environments.game_prompt import MOST_TOLD, GamePrompt
from playout.rlhf.environments.game_sides import is_test
from playout.rlhf.environments.game_tasks import Referee, SolvedPositions, plies_of

__all__ = ["SEARCH", "Demonstrator", "can_tell", "told_outcomes"]

SEARCH = 200
"""Simulations that stand for a solver."""
_MARKS = {1: "+", 0: "=", -1: "-", -2: "."}
_SIDE_BY_SIDE = 64  # games
_BEFORE, _LEARNED = 7, 4  # turns of a game that are only read, and that are learned, at most
_APART = 8  # every eighth demonstration of one turn goes behind others


def told_outcomes(outcomes: NDArray[np.int8]) -> str:
    """A mark for every action: + wins, = draws, - loses, . cannot be played."""
    return "".join(_MARKS[int(outcome)] for outcome in outcomes)


def _told(proofs: NDArray[np.int8]) -> NDArray[np.int8]:
    """Outcomes as answers tell them, of a prover that may have given up: as draws."""
    found = np.where(proofs == ILLEGAL, -2, np.where(proofs == GIVEN_UP, 0, proofs))
    return found.astype(np.int8)


def can_tell(game: NativeGame) -> bool:
    """Whether outcomes of all moves can be told: there is a solver, and moves are not too many."""
    try:
        Referee(game)
    except ConfigError:
        return False
    return game.num_actions <= MOST_TOLD


@dataclass(frozen=True, slots=True)
class Demonstrator:
    """Shows good moves of one game.

    Attributes:
        prompt: How positions are shown; with `find` answers may tell outcomes before the move.
        referee: Solves positions; None leaves it to a search.
        seed: Of all randomness.
    """

    prompt: GamePrompt
    referee: Referee | None
    seed: int

    @property
    def tells(self) -> bool:
        """Whether answers tell outcomes before the move, which is read by `find`."""
        return self.prompt.told > 0 and self.referee is not None

    def good_moves(self, positions: SolvedPositions) -> NDArray[np.bool_]:
        """Bool [N, A]: moves that win at once where there are any, else that keep the outcome."""
        states, outcomes = positions.states, positions.outcomes
        if outcomes is None:
            judge = rollout_judge(states.game, SEARCH, seed=self.seed)
            good = np.zeros((len(states), states.game.num_actions), np.bool_)
            for start in range(0, len(states), 256):
                found = judge(states[start : start + 256])
                good[np.arange(start, start + len(found.action)), found.action] = True
            return good
        good = outcomes == outcomes.max(axis=1, keepdims=True)
        wins = winning_actions(states)
        at_once = wins.any(axis=1)
        good[at_once] = wins[at_once]
        return good

    def answer(self, state: State, action: int, outcomes: NDArray[np.int8] | None) -> str:
        """What is to be written at a position: a move, after the outcomes of all of them if any."""
        thought = "" if outcomes is None else told_outcomes(outcomes)
        return thought + self.prompt.answer(state, action)

    def single(self, positions: SolvedPositions, copies: int) -> Iterator[dict[str, object]]:
        """Images of positions with good moves, each copy drawn anew."""
        game = self.prompt.game
        outcomes = positions.outcomes if self.tells else None
        good = self.good_moves(positions)
        moved = game.symmetry_actions()
        for copy in range(copies):
            rng = np.random.default_rng([self.seed, 43, copy])
            kinds = rng.integers(0, game.num_symmetries, len(positions))
            images = positions.states.symmetry(kinds)
            chosen = np.where(good, rng.random(good.shape), -1.0).argmax(axis=1)
            for row in rng.permutation(len(positions)).tolist():
                state, action = images[row], int(moved[kinds[row], chosen[row]])
                led = None
                if outcomes is not None:
                    led = np.full_like(outcomes[row], -2)
                    led[moved[kinds[row]]] = outcomes[row]
                yield self._row([self.prompt(state), self.answer(state, action, led)], 0)

    def sights(self, states: StateBatch) -> Iterator[dict[str, object]]:
        """Positions with what two plies show, unknown moves as draws: costs no solver.

        What wins at once and what lets the other side do so is told by a few cells each, so that a
        model soon learns to read boards by it, and has then only to look further.
        """
        rng = np.random.default_rng([self.seed, 53])
        found = _told(Lookahead(states.game, 2).prove(states.data))
        best = found == found.max(axis=1, keepdims=True)
        chosen = np.where(best, rng.random(best.shape), -1.0).argmax(axis=1)
        for row, state in enumerate(states):
            answer = self.answer(state, int(chosen[row]), found[row])
            yield self._row([self.prompt(state), answer], 0)

    def in_turns(self, rows: Iterable[dict[str, object]]) -> Iterator[dict[str, object]]:
        """The same demonstrations of one turn, an eighth of them behind each other.

        Boards of one game hardly differ. A model that has learned from one board at a time answers
        many a later turn by an earlier board; here every board is another.
        """
        rng = np.random.default_rng([self.seed, 59])
        behind: list[str] = []
        count = 0
        for number, row in enumerate(rows):
            if number % _APART:
                yield row
                continue
            count = count or int(rng.integers(2, _BEFORE + _LEARNED + 1))
            behind += [str(row["prompt"]), str(row["response"])]
            if len(behind) == 2 * count:
                yield self._row(behind, 0)
                behind, count = [], 0
        if behind:
            yield self._row(behind, 0)

    def games(self, count: int) -> list[dict[str, object]]:
        """Later turns of about `count` games, fewer where they are all short.

        Games begin at random. From some ply on the policy's side plays good moves, which are
        learned, and the other side random or good ones, each in half of the games.
        """
        found: list[dict[str, object]] = []
        for number in range(4 * (count // _SIDE_BY_SIDE + 1)):
            if len(found) >= count:
                break
            found += self._side_by_side(number)
        return found[:count]

    def _side_by_side(self, number: int) -> list[dict[str, object]]:
        game = self.prompt.game
        rng = np.random.default_rng([self.seed, 47, number])
        least, most = plies_of(game, solved=self.referee is not None)
        start = rng.integers(least, most + 1, _SIDE_BY_SIDE)
        seat = np.arange(_SIDE_BY_SIDE) % game.num_players
        strong = rng.random(_SIDE_BY_SIDE) < 0.5
        states = game.batch(_SIDE_BY_SIDE)
        told: list[list[tuple[str, str]]] = [[] for _ in seat]
        learned = np.zeros(_SIDE_BY_SIDE, np.int64)
        going = np.ones(_SIDE_BY_SIDE, np.bool_)
        for ply in range(game.max_plies):
            states.resolve_chance(self.seed + number, counter=ply << 8)
            actions = states.random_actions(self.seed + number, counter=(ply << 8) + 51)
            going &= (actions >= 0) & (learned < _LEARNED)
            if not going.any():
                break
            mine = going & (states.to_play() == seat)
            judged = mine & (ply >= least) & is_test(states)
            playing = mine & (ply >= start)
            for row in np.flatnonzero(judged & ~playing).tolist():
                told[row].clear()  # what is judged on is not even read
            going &= ~(judged & playing)
            seen = self.first_sight(states, mine)
            self._play_well(states, playing & going, actions, rng, going, seen)
            self._play_well(states, going & ~mine & strong & (ply > start), actions, rng)
            for row in np.flatnonzero(mine & going & ~judged).tolist():
                state = states[row]
                outcomes = None if seen is None else seen[row]
                answer = self.answer(state, int(actions[row]), outcomes)
                told[row].append((self.prompt(state), answer))
            learned += playing & going
            states.apply(actions, where=going)
        rows = []
        for turns, last in zip(told, learned.tolist(), strict=True):
            read = len(turns) - last
            first = max(0, read - int(rng.integers(0, _BEFORE + 1)))
            if last and len(turns) - first > 1:
                texts = [text for turn in turns[first:] for text in turn]
                rows.append(self._row(texts, 2 * (read - first)))
        return rows

    def first_sight(self, states: StateBatch, rows: NDArray[np.bool_]) -> NDArray[np.int8] | None:
        """Outcomes [B, A] of some rows as one ply shows them; None where answers tell none."""
        if not self.tells:
            return None
        (places,) = np.nonzero(rows)
        found = np.full((len(states), states.game.num_actions), -2, np.int8)
        if len(places):
            found[places] = _told(Lookahead(states.game, 1).prove(states[places].data))
        return found

    def _play_well(
        self,
        states: StateBatch,
        rows: NDArray[np.bool_],
        actions: NDArray[np.int32],
        rng: np.random.Generator,
        going: NDArray[np.bool_] | None = None,
        told: NDArray[np.int8] | None = None,
    ) -> None:
        """Put good moves in the place of some rows' actions; what nobody knows ends a game.

        Outcomes that are known are written into `told`, [B, A].
        """
        (places,) = np.nonzero(rows)
        if not len(places):
            return
        batch, outcomes, known = states[places], None, np.ones(len(places), np.bool_)
        if self.referee is not None:
            outcomes, known = self.referee.outcomes(batch)
        good = self.good_moves(SolvedPositions(batch, outcomes))
        chosen = np.where(good, rng.random(good.shape), -1.0).argmax(axis=1)
        actions[places[known]] = chosen[known]
        if going is not None:
            going[places[~known]] = False
        if told is not None and outcomes is not None:
            told[places[known]] = outcomes[known]

    @staticmethod
    def _row(turns: list[str], learned_from: int) -> dict[str, object]:
        if len(turns) == 2:
            return {"prompt": turns[0], "response": turns[1]}
        return {"turns": turns, "learned_from": learned_from}

"""One move's thought, within limits, watched while it grows: what both protocols ask of a player.

A player that searches is given simulations, seconds or no limit at all, and can be stopped between
two steps of its search. Every other player is asked for its move and cannot be hurried. Leaves out
clocks (clock.py) and how thoughts are written (gtp_analysis.py, uci.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from playout.agents.players.analysis import search_judge
from playout.agents.players.player import GivenUp, Player, RunPlayer, choose
from playout.agents.players.search import SearchPlayer, playing_search
from playout.envs.core.game import NativeGame, State, StateBatch
from playout.errors import GameError
from playout.mcts.config import MAX_SIMULATIONS
from playout.mcts.search import UNKNOWN, SearchResult

PROBE = 16  # simulations that show how fast a search is
_RATE_SHARE = (
    0.95  # of the simulations that fit into a time: the rest of the clock is for surprises
)
_ATTEMPTS = 4  # searches of one move whose budget was far too small for its time
MEMORY = 2048  # MiB of a tree that grows without a limit ...
_NODE, _EDGE = 64, 40  # ... and bytes that a position and a legal move take in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop thinking; without any, the player thinks as it always does.

    Attributes:
        simulations: Of the search.
        seconds: Of the clock on the wall.
        depth: Moves that the expected line must have.
        endless: Until it is told to stop.
    """

    simulations: int | None = None
    seconds: float | None = None
    depth: int | None = None
    endless: bool = False

    @property
    def any(self) -> bool:
        """Is there something to keep to?"""
        return self != Limits()


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is thought of one move.

    Attributes:
        action: The move.
        visits: Simulations through it.
        value: The expected result for the side to move, -1 to 1.
        prior: What the policy alone thinks of it, 0 to 1.
        pv: The expected line, the move first.
    """

    action: int
    visits: int
    value: float
    prior: float
    pv: Sequence[int]


@dataclass(frozen=True, slots=True)
class Thought:
    """What is thought of a position.

    Attributes:
        action: The move to play.
        candidates: Moves that were looked at, the one to play first, then by visits.
        value: The expected result for the side to move, -1 to 1.
        simulations: Of the search so far.
        seconds: That it has taken so far.
        proven: Is the value exact?
    """

    action: int
    candidates: tuple[Candidate, ...]
    value: float
    simulations: int
    seconds: float
    proven: bool


SearchWatch = Callable[[Callable[[], SearchResult]], bool]
Watch = Callable[[Callable[[], Thought]], bool]
"""Asked between two steps whether to stop; what it is given tells the thought so far."""


class Thinker:
    """Asks a player about positions of one game.

    Args:
        player: Whoever is to move.
        game: The game.
        memory: MiB that a tree may take.

    Attributes:
        simulations: Of a move without limits; None: what the player thinks with.
        evenly: Is every search to grow evenly, as an analysis does, whatever its limits? Players
            otherwise halve the moves that they look at, which needs a known end.
    """

    def __init__(self, player: Player, game: NativeGame, *, memory: int = MEMORY) -> None:
        self.player, self.game, self.memory = player, game, memory
        self.evenly = False
        self.simulations: int | None = None
        self._searching: SearchPlayer | None = None
        self._growing: SearchPlayer | None = None
        self._rate = 0.0  # simulations a second, as last measured
        self._seed, self._games = 0, 0
        if isinstance(player, SearchPlayer):
            config = player.config or playing_search(PROBE)
            searching = player if player.config is not None else player.with_simulations(PROBE)
            assert isinstance(searching, SearchPlayer)
            self._searching = searching
            evaluator = searching.evaluator
            # Grows evenly whenever it is stopped; the halving of the other needs a known end.
            steady = replace(
                config,
                algorithm="uct" if evaluator is None else "puct",
                num_simulations=self.most_simulations,
                dirichlet_fraction=0.0,
            )
            self._seed = searching.seed
            self._growing = SearchPlayer(game, steady, evaluator, name=player.name, seed=self._seed)

    @property
    def searches(self) -> bool:
        """Whether the player searches, so that limits and memory mean something."""
        return self._searching is not None

    @property
    def most_simulations(self) -> int:
        """Of a search without a limit: what its tree has room for."""
        game = self.game
        moves = max(len(game.initial_state().legal_actions), game.max_legal // 4)
        node = _NODE + game.state_size + _EDGE * moves
        return min(MAX_SIMULATIONS, max(1000, (self.memory << 20) // node))

    @property
    def usual_simulations(self) -> int:
        """Of a move without limits; 0: the player does not search."""
        config = self.player.config if isinstance(self.player, SearchPlayer) else None
        return self.simulations or (0 if config is None else config.num_simulations)

    def new_game(self) -> None:
        """Forgets the trees of the game before, and draws other numbers than there."""
        self._games += 1
        seed = int(np.random.SeedSequence([self._seed, self._games]).generate_state(1)[0])
        for one in {self._searching, self._growing} - {None}:
            assert one is not None
            one.reset(seed)

    def again(self, player: Player, game: NativeGame, *, memory: int | None = None) -> Thinker:
        """The same with another player, game or memory: what was set stays, games count on."""
        found = Thinker(player, game, memory=self.memory if memory is None else memory)
        found.evenly = self.evenly
        if self.simulations is not None:
            found.simulations = min(self.simulations, found.most_simulations)
        found._games = self._games
        found.new_game()
        return found

    def think(
        self,
        state: State,
        limits: Limits | None = None,
        *,
        only: Sequence[int] = (),
        moves: Sequence[int] | None = None,
        watch: Watch | None = None,
    ) -> Thought:
        """Chooses a move.

        Args:
            state: Somebody is to move.
            limits: When to stop.
            only: The legal moves that a search looks at, if any; other players look at all.
            moves: All actions from the first position to this one, where they are known.
            watch: Looks on, and may stop it.
        """
        limits = limits or Limits(simulations=self.simulations)
        bare = isinstance(self.player, SearchPlayer) and self.player.config is None
        if self._searching is None or (bare and not limits.any):
            return self._asked(state, moves)
        begun = time.monotonic()
        batch, allowed = StateBatch.from_states([state]), None
        if only:
            allowed = np.zeros(self.game.num_actions, np.bool_)
            allowed[list(only)] = True

        def thought(found: SearchResult) -> Thought:
            return _of_search(found, time.monotonic() - begun)

        def look(now: Callable[[], SearchResult]) -> bool:
            if limits.seconds is not None and time.monotonic() - begun >= limits.seconds:
                return True
            if limits.depth is not None and len(now().pv(0)) >= limits.depth:
                return True
            return watch is not None and watch(lambda: thought(now()))

        if limits.endless or limits.depth is not None or self.evenly:
            assert self._growing is not None
            most = limits.simulations or self.most_simulations
            if not limits.any:  # as many as a move usually has
                most = self.usual_simulations or most
            growing = self._growing
            return thought(growing.search(batch, num_simulations=most, allowed=allowed, watch=look))
        search = partial(self._search, batch, allowed)
        if limits.seconds is None:
            return thought(search(limits.simulations, look))
        return thought(self._timed(search, begun + limits.seconds, limits.simulations, look))

    def think_among(
        self,
        only: Sequence[int],
        state: State,
        limits: Limits | None = None,
        *,
        moves: Sequence[int] | None = None,
        watch: Watch | None = None,
    ) -> Thought:
        """Chooses among some legal moves and speaks of these alone; without any among all.

        A search looks at no others. Where it is too short to try each of them, or where another
        player has thought of none, short searches of the positions after them decide.
        """
        if not only:
            return self.think(state, limits, moves=moves, watch=watch)
        only = list(dict.fromkeys(only))
        found = _restricted(self.think(state, limits, only=only, moves=moves, watch=watch), only)
        too_short = 0 < found.simulations < len(only) and not found.proven
        if found.candidates and not too_short:
            return found
        values = self._values_after(state, only)
        judged = [
            Candidate(action, 0, value, 0.0, [action])
            for action, value in sorted(zip(only, values, strict=True), key=lambda one: -one[1])
        ]
        return _restricted(replace(found, candidates=tuple(judged), proven=False), only)

    def think_without(
        self,
        left_out: Sequence[int],
        state: State,
        limits: Limits | None = None,
        *,
        moves: Sequence[int] | None = None,
        watch: Watch | None = None,
    ) -> Thought:
        """Chooses among all legal moves but some, as long as others are left."""
        others = [one for one in state.legal_actions if one not in left_out]
        if self._searching is None or not others:
            return self.think_among(others, state, limits, moves=moves, watch=watch)
        found = self.think(state, limits, only=others, moves=moves, watch=watch)
        left = tuple(one for one in found.candidates if one.action in others)
        if not left:
            return self.think_among(others, state, limits, moves=moves)
        return replace(found, action=left[0].action, candidates=left)

    def _values_after(self, state: State, actions: Sequence[int]) -> list[float]:
        """What moves are worth to the side to move; 0 where the player has no opinion."""
        after = [state.apply(action) for action in actions]
        values = [
            float(one.returns[state.to_play]) / self.game.value_scale if one.is_terminal else 0.0
            for one in after
        ]
        rows = [row for row, one in enumerate(after) if not one.is_terminal]
        if rows and self._growing is not None and self._growing.config is not None:
            config = replace(self._growing.config, num_simulations=PROBE)
            judge = search_judge(self.game, config, self._growing.evaluator)
            found = judge(StateBatch.from_states([after[row] for row in rows])).value
            for row, value in zip(rows, found.tolist(), strict=True):
                values[row] = value if after[row].to_play == state.to_play else -value
        return values

    def _timed(
        self,
        search: Callable[[int | None, SearchWatch], SearchResult],
        end: float,
        most: int | None,
        look: SearchWatch,
    ) -> SearchResult:
        """A search that fills the time until `end`; begun anew where the speed was misjudged."""
        stopped = False

        def looked(now: Callable[[], SearchResult]) -> bool:
            nonlocal stopped
            stopped = stopped or look(now)  # nobody says so twice
            return stopped

        if not self._rate:
            found = search(PROBE, looked)
            if stopped:
                return found
        for _ in range(_ATTEMPTS):
            left = max(end - time.monotonic(), 0.0)
            budget = int(self._rate * left * _RATE_SHARE)
            budget = max(1, min(budget, most or MAX_SIMULATIONS, self.most_simulations))
            found = search(budget, looked)
            # What is left would be worth as much again.
            if (
                stopped
                or end - time.monotonic() < left / 2
                or budget in (most, self.most_simulations)
            ):
                break
        return found

    def _search(
        self,
        batch: StateBatch,
        allowed: npt.NDArray[np.bool_] | None,
        budget: int | None,
        look: SearchWatch,
    ) -> SearchResult:
        """One search of the player's own kind, whose speed is noted."""
        assert self._searching is not None
        made, begun = self._searching.simulations_made, time.monotonic()
        found = self._searching.search(batch, num_simulations=budget, allowed=allowed, watch=look)
        made = self._searching.simulations_made - made
        if made > 0:
            self._rate = made / max(time.monotonic() - begun, 1e-4)
        return found

    def _asked(self, state: State, moves: Sequence[int] | None) -> Thought:
        """The move of a player that cannot be watched, and its opinion if it has one."""
        begun = time.monotonic()
        batch = StateBatch.from_states([state])
        actions, forfeits = choose(self.player, batch, None if moves is None else [moves])
        if forfeits:
            kind = GameError if forfeits[0].failed else GivenUp
            raise kind(f"{self.player.name}: {forfeits[0].reason}")
        action = int(actions[0])
        value, candidates = 0.0, [Candidate(action, 0, 0.0, 1.0, [action])]
        if isinstance(self.player, RunPlayer):
            found = self.player.judge()(batch)
            value = float(found.value[0])
            candidates = [
                Candidate(one, 0, value, float(found.policy[0, one]), [one])
                for one in np.argsort(-found.policy[0], kind="stable").tolist()
                if found.policy[0, one] > 0
            ]
        ordered = sorted(candidates, key=lambda one: one.action != action)
        return Thought(action, tuple(ordered), value, 0, time.monotonic() - begun, False)


def _restricted(thought: Thought, only: Sequence[int]) -> Thought:
    """What it says of some moves, the best of them first; nothing if it has seen none."""
    found = tuple(one for one in thought.candidates if one.action in only)
    if not found:
        return replace(thought, candidates=())
    return replace(thought, action=found[0].action, candidates=found, value=found[0].value)


def _of_search(found: SearchResult, seconds: float) -> Thought:
    visits, q = found.visits[0], found.q[0]
    logits = found.prior_logits[0].astype(np.float64)
    weights = np.exp(logits - logits.max())
    prior = weights / weights.sum()
    action = int(found.action[0])
    seen = np.flatnonzero(visits)
    order = seen[np.lexsort((-q[seen], -visits[seen], seen != action))].tolist()
    candidates = [
        Candidate(
            one,
            int(visits[one]),
            float(q[one]),
            float(prior[one]),
            found.pv(0, action=one) or [one],
        )
        for one in order
    ]
    if not candidates:
        candidates = [Candidate(action, 0, float(found.value[0]), float(prior[action]), [action])]
    return Thought(
        action,
        tuple(candidates),
        float(found.value[0]),
        int(visits.sum()),
        seconds,
        int(found.proven[0]) != UNKNOWN,
    )

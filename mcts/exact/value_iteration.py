"""Exact values of small games with chance and rewards along the way, by value iteration.

Every position that play can reach is found once (positions that differ only in what was collected
or in a symmetry of the board are one), then values are swept backwards until they stand still. In a
game of one player that is the best expectation; of several players, each chooses for itself, which
in zero-sum games of two is the game's value. Left out: hidden information (cfr), games too large to
be listed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import CHANCE, TERMINAL, NativeGame, State
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, GameError

_CHUNK = 4096  # positions whose successors are found at a time
_SWEEPS = 10_000

Goal = Callable[[StateBatch], npt.NDArray[np.bool_]]
"""Which of the positions [B] are what is wanted."""

Values = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ExactValues:
    """What `value_iteration` has found.

    Attributes:
        game: The game.
        goal: What is wanted instead of the game's own results, or None.
        sweeps: How often all values were worked out until they stood still.
    """

    game: NativeGame
    goal: Goal | None
    sweeps: int
    _rows: dict[int, int] = field(repr=False)
    _values: Values = field(repr=False)

    def __len__(self) -> int:
        """Positions, each counted once for all its symmetries."""
        return len(self._values)

    def values(self, states: StateBatch) -> Values:
        """What is still to come from positions, float64 [B, P], in the game's own units.

        Raises:
            GameError: A position that cannot be reached from where the search began.
        """
        keys = _keys(states)
        rows = [self._rows.get(key, -1) for key in keys.tolist()]
        if -1 in rows:
            raise GameError(f"no value is known of {states[rows.index(-1)].text!r}")
        return self._values[rows]

    def value(self, state: State) -> Values:
        """The same of one position, float64 [P]."""
        found: Values = self.values(StateBatch.from_states([state]))[0]
        return found

    def action_values(self, state: State) -> dict[int, Values]:
        """For each legal action (or chance outcome) what it brings and what comes then, [P].

        Nothing where the game is over.
        """
        actions = state.legal_actions
        if not actions:
            return {}
        batch = StateBatch.from_states([state] * len(actions))
        rewards, over = _play(batch, np.array(actions, np.int32), self.goal)
        known = rewards
        if not over.all():
            known[~over] += self.values(batch[~over])
        return dict(zip(actions, known, strict=True))


def value_iteration(
    game: NativeGame | str,
    starts: StateBatch | None = None,
    *,
    goal: Goal | None = None,
    max_states: int = 1_000_000,
    tolerance: float = 1e-12,
) -> ExactValues:
    """Values of everything that can be reached.

    Args:
        game: The game, or its name.
        starts: Positions to begin with; by default the game's first.
        goal: Which positions end the game with 1 for everybody, all others being worth 0: values
            are then the highest probability of reaching one. By default the game's own results.
        max_states: Gives up beyond so many positions.
        tolerance: Values stand still when none changes by more, in units of the game's value_scale.

    Raises:
        ConfigError: Hidden information, or too many positions.
        GameError: The values do not stand still.
    """
    game = find_game(game)
    if game.hidden:
        raise ConfigError(f"value iteration needs a game in which everything is seen, not {game}")
    graph = _explore(game, game.batch(1) if starts is None else starts, goal, max_states)
    values = np.zeros((len(graph.movers), game.num_players))
    for sweep in range(1, _SWEEPS + 1):
        if graph.sweep(values) <= tolerance * game.value_scale:
            return ExactValues(game, goal, sweep, graph.rows, values)
    raise GameError(f"{game}: the values do not stand still after {_SWEEPS} sweeps")


def _keys(states: StateBatch) -> npt.NDArray[np.uint64]:
    """uint64 [B], the same for all symmetries of a position, another for each side to move."""
    keys = states.eval_key()
    for k in range(1, states.game.num_symmetries):
        np.minimum(keys, states.symmetry(k).eval_key(), out=keys)
    # Values are kept by player, and a game's key may leave out who is to move.
    movers = states.to_play().astype(np.uint64)
    return keys ^ (movers * np.uint64(0xD1342543DE82EF95))


def _play(
    batch: StateBatch, actions: npt.NDArray[np.int32], goal: Goal | None
) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Plays in place; rewards [B, P], and which games that ends."""
    before = batch.returns().astype(np.float64)
    batch.apply(actions)
    over = batch.is_terminal()
    if goal is None:
        return batch.returns() - before, over
    reached = goal(batch)
    return np.repeat(reached[:, None].astype(np.float64), before.shape[1], axis=1), over | reached


@dataclass(slots=True)
class _Layer:
    """Successors of some positions, those of one side by side.

    Attributes:
        nodes: [N], whose; movers: [N]; starts: [N], where each one's edges begin.
        children: [E], the position after, or -1 where the game is over.
        rewards: [E, P]; probs: [E], 0 where it is no chance.
    """

    nodes: Ints
    movers: Ints
    starts: Ints
    children: Ints
    rewards: Values
    probs: Values

    def sweep(self, values: Values) -> float:
        """Works out the values of these positions; the largest change."""
        known = self.rewards + np.where(
            self.children[:, None] >= 0, values[np.maximum(self.children, 0)], 0.0
        )
        found = np.add.reduceat(known * self.probs[:, None], self.starts)
        chosen = np.flatnonzero(self.movers >= 0)
        if len(chosen):
            counts = np.diff(self.starts, append=len(self.children))
            mine = known[np.arange(len(known)), np.repeat(np.maximum(self.movers, 0), counts)]
            best = np.repeat(np.maximum.reduceat(mine, self.starts), counts)
            number = np.where(mine == best, np.arange(len(mine)), len(mine))
            found[chosen] = known[np.minimum.reduceat(number, self.starts)[chosen]]
        change = float(np.abs(found - values[self.nodes]).max())
        values[self.nodes] = found
        return change


@dataclass(slots=True)
class _Graph:
    """All positions: rows by key, whose turn each is, and layers in the order of discovery."""

    rows: dict[int, int]
    movers: list[int]
    layers: list[_Layer]

    def sweep(self, values: Values) -> float:
        """Works out all values once, the last positions first; the largest change."""
        return max((layer.sweep(values) for layer in reversed(self.layers)), default=0.0)


def _explore(game: NativeGame, starts: StateBatch, goal: Goal | None, max_states: int) -> _Graph:
    """Finds every position that can be reached, and what follows it."""
    graph = _Graph({}, [], [])
    waiting = [_fresh(graph, starts, max_states)[1]]
    while waiting:
        batch = waiting.pop(0)
        for begin in range(0, len(batch), _CHUNK):
            part = batch[begin : begin + _CHUNK]
            moving = np.flatnonzero(part.to_play() != TERMINAL)
            if len(moving):
                new = _expand(graph, part[moving], goal, max_states)
                if len(new):
                    waiting.append(new)
    return graph


def _fresh(graph: _Graph, states: StateBatch, max_states: int) -> tuple[Ints, StateBatch]:
    """The rows of positions [B], new ones among them, and one state of each of those."""
    keys, movers = _keys(states).tolist(), states.to_play().tolist()
    rows, first = np.empty(len(keys), np.int64), []
    for i, (key, mover) in enumerate(zip(keys, movers, strict=True)):
        row = graph.rows.setdefault(key, len(graph.movers))
        if row == len(graph.movers):
            graph.movers.append(mover)
            first.append(i)
        rows[i] = row
    if len(graph.movers) > max_states:
        raise ConfigError(f"{states.game} has more than {max_states:,} positions")
    return rows, states[first]


def _expand(graph: _Graph, part: StateBatch, goal: Goal | None, max_states: int) -> StateBatch:
    """Adds the layer of these positions, none of which is over; the new positions after them."""
    mask, chances = part.legal_mask(), part.chance_probs()
    mask[part.to_play() == CHANCE] = chances[part.to_play() == CHANCE] > 0
    places, actions = np.nonzero(mask)
    after = part[places]
    rewards, over = _play(after, actions.astype(np.int32), goal)
    children = np.full(len(places), -1, np.int64)
    going = np.flatnonzero(~over)
    children[going], new = _fresh(graph, after[going], max_states)
    starts = np.searchsorted(places, np.arange(len(part)))
    nodes = np.array([graph.rows[key] for key in _keys(part).tolist()], np.int64)
    movers = part.to_play().astype(np.int64)
    graph.layers.append(_Layer(nodes, movers, starts, children, rewards, chances[places, actions]))
    return new

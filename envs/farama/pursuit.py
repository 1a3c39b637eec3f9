"""Pursuit: hunters close in on a fleeing target, all moving at once (PettingZoo parallel API).

A torus of cells. Every hunter sees a window around itself, not the whole board; the target steps
away from the nearest hunter, or rests. The hunt succeeds when two hunters stand beside the target.
Small and in NumPy; leaves out walls and communication.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import logger, spaces
from pettingzoo import ParallelEnv
from playout.envs.drawing.canvas import Canvas, Color

Ints = npt.NDArray[np.int64]
Obs = npt.NDArray[np.float32]

# stay, up, right, down, left, as (row, column)
MOVES: Ints = np.array([[0, 0], [-1, 0], [0, 1], [1, 0], [0, -1]])
PAPER: Color = (245, 243, 236)
GRID: Color = (226, 222, 210)
HUNTER: Color = (38, 84, 158)
TARGET: Color = (222, 68, 62)


def parallel_env(**options: Any) -> Pursuit:
    """The environment, under the name that PettingZoo's tools expect."""
    return Pursuit(**options)


class Pursuit(ParallelEnv[str, Obs, int]):  # type: ignore[misc]
    """`num_hunters` agents hunter_0, hunter_1, ... on a torus of `size` x `size` cells.

    Observations: float32 [3, 2 * view + 1, 2 * view + 1] around the hunter: other hunters, the
    target, cells beside the target. Actions: stay, up, right, down, left. Rewards: -0.01 a step,
    and at the catch 1 for those beside the target and 0.5 for the others.

    Args:
        num_hunters: how many agents, at least 2.
        size: side of the torus.
        view: cells seen in every direction.
        rest: probability that the target stays where it is in a step.
        max_cycles: steps after which the hunt is truncated.
        render_mode: None or "rgb_array".
    """

    def __init__(
        self,
        num_hunters: int = 4,
        *,
        size: int = 10,
        view: int = 3,
        rest: float = 0.25,
        max_cycles: int = 100,
        render_mode: str | None = None,
    ) -> None:
        if num_hunters < 2 or size < 4 or num_hunters >= size * size // 2:
            raise ValueError("a hunt needs 2 or more hunters and room: size >= 4, half of it free")
        if view < 1 or 2 * view + 1 > size:
            raise ValueError(f"view must be at least 1 and 2 * view + 1 at most size, got {view}")
        if not 0.0 <= rest <= 1.0:
            raise ValueError(f"rest must be a probability, got {rest}")
        if max_cycles < 1:
            raise ValueError(f"max_cycles must be at least 1, got {max_cycles}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        self.metadata = {
            "render_modes": ["rgb_array"],
            "name": "pursuit_v0",
            "is_parallelizable": True,
            "render_fps": 5,
        }
        self.size, self.view, self.rest, self.max_cycles = size, view, rest, max_cycles
        self.render_mode = render_mode
        self.possible_agents = [f"hunter_{i}" for i in range(num_hunters)]
        self.agents: list[str] = []
        side = 2 * view + 1
        self.observation_spaces = {
            agent: spaces.Box(0.0, 1.0, (3, side, side), np.float32)
            for agent in self.possible_agents
        }
        self.action_spaces = {agent: spaces.Discrete(5) for agent in self.possible_agents}
        self._rng = np.random.default_rng()
        self._hunters: Ints = np.zeros((num_hunters, 2), np.int64)
        self._target: Ints = np.zeros(2, np.int64)
        self._steps = 0

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The space of an agent's observations; always the same object."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The space of an agent's actions; always the same object."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Obs], dict[str, dict[str, Any]]]:
        """Places everybody at random; without a seed the stream goes on."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        cells = self._rng.choice(self.size**2, len(self.possible_agents) + 1, replace=False)
        places = np.stack(np.divmod(cells, self.size), axis=1)
        self._target, self._hunters = places[0], places[1:]
        self._steps = 0
        self.agents = self.possible_agents[:]
        return self._observe(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, Obs],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Moves all hunters at once, then the target.

        Args:
            actions: a whole number from 0 to 4 for every live agent.
        """
        if not self.agents:
            return {}, {}, {}, {}, {}
        moves = self._moves(actions)
        self._hunters = (self._hunters + MOVES[moves]) % self.size
        beside = self._distances(self._target) == 1
        caught = int(beside.sum()) >= 2
        if not caught:
            self._flee()
            beside = self._distances(self._target) == 1
            caught = int(beside.sum()) >= 2
        self._steps += 1
        over = self._steps >= self.max_cycles
        agents = self.agents
        rewards = {
            agent: (1.0 if near else 0.5) if caught else -0.01
            for agent, near in zip(agents, beside.tolist(), strict=True)
        }
        observations = self._observe()
        if caught or over:
            self.agents = []
        return (
            observations,
            rewards,
            dict.fromkeys(agents, caught),
            dict.fromkeys(agents, over),
            {agent: {} for agent in agents},
        )

    def render(self) -> npt.NDArray[np.uint8] | None:
        """A picture uint8 [H, W, 3], if `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            logger.warn("render() needs render_mode='rgb_array'")
            return None
        cell = 40
        canvas = Canvas(self.size * cell, self.size * cell, PAPER)
        for i in range(1, self.size):
            canvas.line((i * cell, 0), (i * cell, self.size * cell), 1.5, GRID)
            canvas.line((0, i * cell), (self.size * cell, i * cell), 1.5, GRID)
        row, column = self._target.tolist()
        canvas.disc(((column + 0.5) * cell, (row + 0.5) * cell), cell * 0.38, TARGET)
        for row, column in self._hunters.tolist():
            center = ((column + 0.5) * cell, (row + 0.5) * cell)
            canvas.disc(center, cell * 0.3, HUNTER)
        return canvas.image

    def close(self) -> None:
        """Nothing to release."""

    def _moves(self, actions: dict[str, int]) -> Ints:
        if set(actions) != set(self.agents):
            raise ValueError(f"actions must name {self.agents}, got {sorted(actions)}")
        moves = [actions[agent] for agent in self.agents]
        for agent, move in zip(self.agents, moves, strict=True):
            whole = isinstance(move, (int, np.integer)) and not isinstance(move, bool)
            if not whole or not 0 <= move < len(MOVES):
                raise ValueError(f"the action of {agent} must be 0 to {len(MOVES) - 1}, got {move}")
        return np.asarray(moves, np.int64)

    def _distances(self, place: Ints) -> Ints:
        """Steps from `place` to every hunter, round the torus."""
        apart = np.abs(self._hunters - place)
        return np.asarray(np.minimum(apart, self.size - apart).sum(axis=1))

    def _flee(self) -> None:
        """The target steps to the free cell farthest from its nearest hunter, or rests."""
        if self._rng.random() < self.rest:
            return
        cells = (self._target + MOVES) % self.size
        nearest = np.array([self._distances(cell).min() for cell in cells])
        best = np.flatnonzero(nearest == nearest.max())
        self._target = cells[best[self._rng.integers(len(best))]]

    def _observe(self) -> dict[str, Obs]:
        """The window around each hunter, cut from planes that wrap around."""
        planes = np.zeros((3, self.size, self.size), np.float32)
        np.add.at(planes[0], tuple(self._hunters.T), 1.0)
        planes[1][tuple(self._target)] = 1.0
        for cell in (self._target + MOVES[1:]) % self.size:
            planes[2][tuple(cell)] = 1.0
        reach = np.arange(-self.view, self.view + 1)
        windows = {}
        for agent, (row, column) in zip(self.agents, self._hunters, strict=True):
            rows, columns = (row + reach) % self.size, (column + reach) % self.size
            window = planes[:, rows[:, None], columns]
            window[0, self.view, self.view] -= 1.0  # itself
            windows[agent] = np.minimum(window, 1.0)
        return windows

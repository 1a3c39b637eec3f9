"""AECGame: any game of playout as a PettingZoo environment, one agent at a time.

Observations are dicts of "observation" float32 [C, H, W] and "action_mask" int8 [A], which is zero
for agents that wait. `env()` adds PettingZoo's usual wrappers (an illegal move loses); `raw_env()`
raises IllegalActionError instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import logger, spaces
from gymnasium.error import ResetNeeded
from pettingzoo import AECEnv
from pettingzoo.utils import wrappers
from playout.envs.core.game import State
from playout.envs.core.registry import game as find_game
from playout.envs.farama.game_vector import observation_space
from playout.errors import GameError

Obs = dict[str, Any]


_DEALS = 1000  # games in a row that chance may end before anybody moves, as in game_rows.h


def env(game: object = "connect_four", *, render_mode: str | None = None, **params: Any) -> AECEnv:
    """The environment with PettingZoo's wrappers: an illegal move ends the game with reward -1."""
    made: AECEnv = raw_env(game, render_mode=render_mode, **params)
    made = wrappers.TerminateIllegalWrapper(made, illegal_reward=-1)
    made = wrappers.AssertOutOfBoundsWrapper(made)
    return wrappers.OrderEnforcingWrapper(made)


def raw_env(
    game: object = "connect_four", *, render_mode: str | None = None, **params: Any
) -> AECEnv:
    """The environment alone."""
    return AECGame(game, render_mode=render_mode, **params)


class AECGame(AECEnv):  # type: ignore[misc]
    """One board, agents player_0, player_1 and so on in the order of the game's players.

    A step's reward of every agent is what its returns have grown by: the result at the end, or
    what the move and the chance after it have brought.

    Args:
        game: a name, a NativeGame, a capsule or a Python game.
        render_mode: None, "ansi" or "rgb_array".
        spectator: hidden cards and dice are rendered for somebody who sees them all, not as
            `agent_selection` does.
        **params: the game's own, such as width and height.
    """

    def __init__(
        self,
        game: object = "connect_four",
        *,
        render_mode: str | None = None,
        spectator: bool = False,
        **params: Any,
    ) -> None:
        super().__init__()
        self.game = find_game(game, **params)
        self.metadata = {
            "render_modes": ["ansi", "rgb_array"],
            "name": f"{self.game.name}_v0",
            "is_parallelizable": False,
            "render_fps": 2,
        }
        if render_mode not in (None, "ansi", "rgb_array"):
            raise ValueError(f"render_mode must be 'ansi' or 'rgb_array', got {render_mode!r}")
        self.render_mode = render_mode
        self.possible_agents = [f"player_{i}" for i in range(self.game.num_players)]
        self.agents = self.possible_agents[:]
        mask = spaces.Box(0, 1, (self.game.num_actions,), np.int8)
        self.observation_spaces = {
            agent: spaces.Dict({"observation": observation_space(self.game), "action_mask": mask})
            for agent in self.possible_agents
        }
        self.action_spaces = {
            agent: spaces.Discrete(self.game.num_actions) for agent in self.possible_agents
        }
        self._spectator = spectator
        self._rng: np.random.Generator | None = None
        self._state: State = self.game.initial_state()

    @property
    def position(self) -> State:
        """The position, for search or analysis."""
        return self._state

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The space of an agent's observations; always the same object."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The space of an agent's actions; always the same object."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Starts a game; a seed names the stream of chance, without one the stream goes on.

        A game that chance ends before anybody moves is dealt again.

        Raises:
            GameError: Every game is one of these.
        """
        if seed is not None or self._rng is None:
            self._rng = np.random.default_rng(seed)
        for _ in range(_DEALS):
            self._seed = int(self._rng.integers(2**63)) if seed is None else int(seed)
            seed, self._draws = None, 0
            self._state = self._resolve_chance(self.game.initial_state())
            if not self._state.is_terminal:
                break
        else:
            raise GameError(f"{self.game}: every game ends before anybody moves")
        self._collected = np.zeros(self.game.num_players, np.float32)
        self.agents = self.possible_agents[:]
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        self.agent_selection = self.possible_agents[self._state.to_play]

    def observe(self, agent: str) -> Obs:
        """What `agent` sees, and what it may do now."""
        player = self.possible_agents.index(agent)
        if self._state.to_play == player:
            mask = np.asarray(self._state.action_mask, np.int8).copy()
        else:
            mask = np.zeros(self.game.num_actions, np.int8)
        return {"observation": self._state.observe(player), "action_mask": mask}

    def step(self, action: Any) -> None:
        """Plays for `agent_selection`; None once its game is over."""
        self._need_reset("step()")
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        if isinstance(action, bool) or not isinstance(action, (int, np.integer)):
            raise TypeError(f"an action must be a whole number, got {action!r}")
        self._state = self._resolve_chance(self._state.apply(int(action)))
        self._cumulative_rewards[agent] = 0.0
        before, self._collected = self._collected, self._state.returns  # zeros before a result
        grown = (self._collected - before).tolist()
        self.rewards = dict(zip(self.possible_agents, grown, strict=True))
        if self._state.is_terminal:
            self.terminations = dict.fromkeys(self.agents, True)
            following = (self.possible_agents.index(agent) + 1) % len(self.possible_agents)
            self.agent_selection = self.possible_agents[following]
        else:
            self.agent_selection = self.possible_agents[self._state.to_play]
        self._accumulate_rewards()

    def render(self) -> Any:
        """The board as text ("ansi") or a picture uint8 [H, W, 3] ("rgb_array")."""
        if self.render_mode is None:
            logger.warn("render() needs a render_mode: 'ansi' or 'rgb_array'")
            return None
        from playout.envs.drawing.board import render_state

        self._need_reset("render()")
        viewer = self.possible_agents.index(self.agent_selection)
        return render_state(self._state, self.render_mode, None if self._spectator else viewer)

    def close(self) -> None:
        """Nothing to release."""

    def _need_reset(self, what: str) -> None:
        if not hasattr(self, "agent_selection"):
            raise ResetNeeded(f"call reset() before {what}")

    def _resolve_chance(self, state: State) -> State:
        """Draws chance outcomes until a player is to move."""
        resolved = state.resolve_chance(self._seed, counter=self._draws)
        self._draws += (resolved.ply or 0) - (state.ply or 0)
        return resolved

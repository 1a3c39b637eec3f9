"""Turn-based games for self-play: B games, each with one player to move.

Native games (and Python games behind the same table) step in C; a PettingZoo AEC environment is
made B times and stepped one by one, with its state saved as seeds and actions. Leaves out opponents
(pool.py) and rewards during play: a game pays its returns when it ends.
"""

import importlib
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.vector.episodes import EpisodeLog
from playout.agents.vector.pettingzoo import cannot_make
from playout.agents.vector.spaces import Arrays, empty, simple_obs, simple_space, write
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import ConfigError, EnvironmentFault

# Agents that may leave one after the other before somebody acts: more is a fault.
_MAX_LEAVING = 10_000


class TurnBasedGames(Protocol):
    """B games of one kind.

    Attributes:
        name: For the console.
        num_games: B.
        num_players: P.
        observation_space: Of the side to move, simple.
        action_space: Discrete.
    """

    name: str
    num_games: int
    num_players: int
    observation_space: spaces.Space[Any]
    action_space: spaces.Discrete

    def reset(self, seed: int) -> None:
        """Begin everywhere."""

    def restart(self, rows: NDArray[np.bool_]) -> None:
        """Begin anew in these rows `[B]`."""

    def to_play(self) -> NDArray[np.int32]:
        """The player to move, `[B]`; negative where the game is over."""

    def observe(self) -> Arrays:
        """What the side to move sees, `[B, ...]`."""

    def masks(self) -> NDArray[np.uint8]:
        """Its legal actions `[B, A]`."""

    def apply(self, actions: NDArray[Any], rows: NDArray[np.bool_]) -> None:
        """Play `actions` `[B]` in these rows."""

    def returns(self) -> NDArray[np.float32]:
        """What each player got, `[B, P]`; zero where the game goes on."""

    def get_state(self) -> dict[str, Any]:
        """The games as plain numbers."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""

    def close(self) -> None:
        """Free what they hold."""
        return None


class NativeGames(TurnBasedGames):
    """A game behind playout's C table."""

    def __init__(self, game: NativeGame, num_games: int) -> None:
        self.game, self.name = game, game.name
        self.num_games, self.num_players = num_games, game.num_players
        self.observation_space = spaces.Box(-np.inf, np.inf, game.obs_shape, np.float32)
        self.action_space = spaces.Discrete(game.num_actions)
        self.batch = game.batch(num_games)

    def reset(self, seed: int) -> None:
        """Begin everywhere."""
        self.batch.reset()

    def restart(self, rows: NDArray[np.bool_]) -> None:
        """Begin anew in these rows."""
        self.batch.reset(rows)

    def to_play(self) -> NDArray[np.int32]:
        """The player to move."""
        found = self.batch.to_play()
        if (found == -2).any():
            raise ConfigError(f"{self.name} has chance moves, which self-play does not support")
        return found

    def observe(self) -> Arrays:
        """What the side to move sees."""
        return self.batch.observe()

    def masks(self) -> NDArray[np.uint8]:
        """Its legal actions."""
        return self.batch.legal_mask()

    def apply(self, actions: NDArray[Any], rows: NDArray[np.bool_]) -> None:
        """Play."""
        self.batch.apply(np.ascontiguousarray(actions, np.int32), rows)

    def returns(self) -> NDArray[np.float32]:
        """What each player got."""
        return self.batch.returns()

    def get_state(self) -> dict[str, Any]:
        """The states' bytes."""
        return {"states": self.batch.data.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue."""
        self.batch = StateBatch.from_data(self.game, state["states"])


class AECGames(TurnBasedGames):
    """A PettingZoo AEC environment, made B times; rewards are summed and paid at a game's end."""

    def __init__(self, name: str, num_games: int) -> None:
        self.name, self.num_games = name, num_games
        self.log = EpisodeLog(num_games, stream="game")
        self.envs = [_make_aec(name) for _ in range(num_games)]
        first = self.envs[0]
        first.reset(seed=0)
        self.agents = list(first.possible_agents)
        self.num_players = len(self.agents)
        self.raw_space = first.observation_space(self.agents[0])
        self.observation_space = simple_space(self.raw_space)
        self.action_space = first.action_space(self.agents[0])
        for agent in self.agents:
            same = first.action_space(agent) == self.action_space
            if not same or first.observation_space(agent) != self.raw_space:
                raise ConfigError(f"{name}: self-play needs players with the same spaces")
        if not isinstance(self.action_space, spaces.Discrete):
            raise ConfigError(f"{name}: self-play needs Discrete actions, not {self.action_space}")
        self.obs = empty(self.observation_space, num_games)
        self.legal = np.ones((num_games, int(self.action_space.n)), np.uint8)
        self.next_player = np.zeros(num_games, np.int32)
        self.totals = np.zeros((num_games, self.num_players), np.float32)

    def reset(self, seed: int) -> None:
        """Begin everywhere."""
        self.log.restart(seed)
        for i in range(self.num_games):
            self._begin(i)

    def restart(self, rows: NDArray[np.bool_]) -> None:
        """Begin anew in these rows."""
        for i in np.flatnonzero(rows):
            self.log.next(int(i))
            self._begin(int(i))

    def _begin(self, i: int) -> None:
        self.envs[i].reset(seed=self.log.begin(i))
        self.totals[i] = 0.0
        self._observe_next(i)

    def _observe_next(self, i: int) -> None:
        """Let agents that are done leave, then keep what the one to act sees, if one is left."""
        env = self.envs[i]
        for _ in range(_MAX_LEAVING):
            if not env.agents:
                self.next_player[i] = -1
                return
            obs, _, terminated, truncated, info = env.last()
            if not (terminated or truncated):
                break
            # The reward of the agent that leaves is in cumulative rewards, read before it goes.
            env.step(None)
        player = self.agents.index(env.agent_selection)
        simple, mask = simple_obs(self.raw_space, obs)
        write(self.obs, i, simple)
        mask = info.get("action_mask") if mask is None else mask
        self.legal[i] = 1 if mask is None else np.asarray(mask).reshape(-1) != 0
        self.next_player[i] = player

    def to_play(self) -> NDArray[np.int32]:
        """The player to move."""
        return self.next_player.copy()

    def observe(self) -> Arrays:
        """What the side to move sees."""
        return self.obs

    def masks(self) -> NDArray[np.uint8]:
        """Its legal actions."""
        return self.legal.copy()

    def apply(self, actions: NDArray[Any], rows: NDArray[np.bool_]) -> None:
        """Play."""
        for i in np.flatnonzero(rows):
            self._play(int(i), int(actions[i]))

    def _play(self, i: int, action: int) -> None:
        env = self.envs[i]
        try:
            env.step(action)
            for player, agent in enumerate(self.agents):
                self.totals[i, player] += env.rewards.get(agent, 0.0)
            self.log.actions[i].append(action)
            self._observe_next(i)
        except Exception as error:
            raise EnvironmentFault(
                f"{self.name}, game {i}, failed after {len(self.log.actions[i])} moves: "
                f"{type(error).__name__}: {error}"
            ) from error

    def returns(self) -> NDArray[np.float32]:
        """What each player got."""
        return np.where((self.next_player < 0)[:, None], self.totals, np.float32(0.0))

    def get_state(self) -> dict[str, Any]:
        """Seeds, numbers of the games, and their moves."""
        return self.log.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Play the running games again."""
        for i, actions in self.log.set_state(state):
            self._begin(i)
            for action in actions:
                self._play(i, int(action))

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()


def is_game(name: str) -> bool:
    """Whether a name can only mean a game that is learned by self-play."""
    if name.startswith("aec:"):
        return True
    from playout.envs.core.registry import games

    return name.partition("(")[0] in {info.name for info in games()}


def make_games(name: str, num_games: int) -> TurnBasedGames:
    """Games from a name: `connect_four`, `playout/ConnectFour-v0`, or `aec:NAME` of PettingZoo."""
    if name.startswith("aec:"):
        return AECGames(name.removeprefix("aec:"), num_games)
    from playout.envs.core.registry import game

    plain = name.removeprefix("playout/").rpartition("-v")[0] or name
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in plain).lstrip("_")
    return NativeGames(game(words), num_games)


def _make_aec(name: str) -> Any:
    """`playout/connect_four-v0` (PettingZoo's registry) or `pettingzoo.classic.tictactoe_v3`."""
    try:
        if "/" in name:
            import pettingzoo  # type: ignore[import-untyped]

            return pettingzoo.make("aec", name)
        return importlib.import_module(name).env()
    except Exception as error:
        raise cannot_make(name, error) from error

"""Turn-based games for self-play: B games, each with one player to move.

Native games (and Python games behind the same table) step in C; a PettingZoo AEC environment is
made B times and stepped one by one, with its state saved as seeds and actions. Games of several
ranks are numbered through, and dice follow from the number. Leaves out opponents (pool.py) and
rewards during play: a game pays its returns when it ends.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.vector.actions import flat_mask
from playout.agents.vector.episodes import EpisodeLog, derive_seed
from playout.agents.vector.in_process import fault_of, read_reward
from playout.agents.vector.sources import EnvSource, Source, find_source, is_game_text
from playout.agents.vector.spaces import (
    Arrays,
    check_obs,
    empty,
    simple_obs,
    simple_space,
    write,
)
from playout.envs.core.game import NativeGame, StateBatch
from playout.envs.core.registry import game
from playout.errors import ConfigError, EnvironmentFault
from playout.own_code import is_known

# Agents that may leave one after the other before somebody acts: more is a fault.
_MAX_LEAVING = 10_000


class TurnBasedGames(Protocol):
    """B games of one kind.

    Attributes:
        name: For the console.
        num_games: B.
        num_players: P.
        value_scale: What returns are divided by before they are learned from.
        observation_space: Of the side to move, simple.
        action_space: Discrete.
    """

    name: str
    num_games: int
    num_players: int
    value_scale: float = 1.0
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

    def random_moves(self, masks: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int64]:
        """A legal move for each mask `[N, A]`, all equally likely, `[N]`."""
        chosen = (rng.random(masks.shape) * (masks > 0)).argmax(axis=1)
        return chosen + int(self.action_space.start)

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
    """A game behind playout's C table.

    Args:
        game: The game.
        num_games: B.
        first: Number of the first one among those of all ranks. Each game then has dice of its own,
            however many there are; None: dice are thrown for all of them together.
    """

    def __init__(self, game: NativeGame, num_games: int, first: int | None = None) -> None:
        self.first, self.throws = first, np.zeros(num_games, np.int64)
        self.game, self.name = game, game.name
        self.num_games, self.num_players = num_games, game.num_players
        self.value_scale = game.value_scale
        self.observation_space = spaces.Box(-np.inf, np.inf, game.obs_shape, np.float32)
        self.action_space = spaces.Discrete(game.num_actions)
        self.batch = game.batch(num_games)
        self.seed = self.drawn = 0  # of dice, and how many numbers of each row's stream are used

    def reset(self, seed: int) -> None:
        """Begin everywhere."""
        self.seed, self.drawn, self.throws[:] = derive_seed(seed, "dice"), 0, 0
        self.batch.reset()
        self._throw()

    def restart(self, rows: NDArray[np.bool_]) -> None:
        """Begin anew in these rows."""
        self.batch.reset(rows)
        self._throw()

    def _throw(self) -> None:
        """Where dice are to be thrown, they are."""
        if self.game.has_chance and self.first is not None:
            numbers = self.first + np.arange(self.num_games)
            streams = (numbers << 32) + self.throws
            self.throws += self.batch.resolve_chance(self.seed, streams=streams) > 0
        elif self.game.has_chance:
            played = self.batch.resolve_chance(self.seed, counter=self.drawn)
            self.drawn += int(played.max(initial=0))

    def to_play(self) -> NDArray[np.int32]:
        """The player to move."""
        return self.batch.to_play()

    def observe(self) -> Arrays:
        """What the side to move sees."""
        return self.batch.observe()

    def masks(self) -> NDArray[np.uint8]:
        """Its legal actions."""
        return self.batch.legal_mask()

    def apply(self, actions: NDArray[Any], rows: NDArray[np.bool_]) -> None:
        """Play."""
        self.batch.apply(np.ascontiguousarray(actions, np.int32), rows)
        self._throw()

    def returns(self) -> NDArray[np.float32]:
        """What each player got."""
        return self.batch.returns()

    def get_state(self) -> dict[str, Any]:
        """The states' bytes."""
        states = {"states": self.batch.data.copy()}
        if not self.game.has_chance:
            return states
        dice = {"dice": [self.seed, self.drawn]}
        return {**states, **dice, **({} if self.first is None else {"throws": self.throws.copy()})}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue."""
        self.batch = StateBatch.from_data(self.game, state["states"])
        if "dice" in state:
            self.seed, self.drawn = (int(number) for number in state["dice"])
        if "throws" in state:
            self.throws[:] = state["throws"]


class AECGames(TurnBasedGames):
    """A PettingZoo AEC environment, made B times; rewards are summed and paid at a game's end."""

    def __init__(self, make: Callable[[], Any], num_games: int, name: str, first: int = 0) -> None:
        self.name, self.num_games = name, num_games
        self.log = EpisodeLog(num_games, first=first, stream="game")
        self.envs = [make() for _ in range(num_games)]
        one = self.envs[0]
        one.reset(seed=0)
        self.agents = list(one.possible_agents)
        self.num_players = len(self.agents)
        self.raw_space = one.observation_space(self.agents[0])
        self.observation_space = simple_space(self.raw_space)
        self.action_space = one.action_space(self.agents[0])
        for agent in self.agents:
            same = one.action_space(agent) == self.action_space
            if not same or one.observation_space(agent) != self.raw_space:
                raise ConfigError(f"{name}: self-play needs players with the same spaces")
        if not isinstance(self.action_space, spaces.Discrete):
            raise ConfigError(f"{name}: self-play needs Discrete actions, not {self.action_space}")
        # As in vector/in_process.py: bounds of published environments are not the person's to mend.
        self.strict = not is_known(type(one.unwrapped).__module__)
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
        self.totals[i] = 0.0
        try:
            self.envs[i].reset(seed=self.log.begin(i))
            self._observe_next(i)
        except Exception as error:
            raise self._fault(i, "reset", error) from error

    def _fault(self, i: int, what: str, error: Exception) -> EnvironmentFault:
        return fault_of(f"{self.name}, game {self.log.first + i}, failed in {what}", error)

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
        check_obs(self.observation_space, simple, lambda: self._where(i), strict=self.strict)
        write(self.obs, i, simple)
        mask = info.get("action_mask") if mask is None else mask
        self.legal[i] = (
            1 if mask is None else flat_mask(self.action_space, mask, self._where(i), over=False)
        )
        self.next_player[i] = player

    def _where(self, i: int) -> str:
        """Which game, move and player: for errors."""
        moves, agent = len(self.log.actions[i]), self.envs[i].agent_selection
        number = self.log.first + i
        return f"{self.name}, game {number} (episode {self.log.numbers[i]}, move {moves}, {agent})"

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
                reward = env.rewards.get(agent, 0.0)
                self.totals[i, player] += read_reward(reward, lambda: self._where(i))
            self.log.actions[i].append(action)
            self._observe_next(i)
        except Exception as error:
            raise self._fault(i, f"move {len(self.log.actions[i])}", error) from error

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


def make_games(
    source: EnvSource,
    num_games: int,
    options: Mapping[str, Any] | None = None,
    first: int | None = None,
) -> TurnBasedGames:
    """Games from a source: `connect_four`, `playout/ConnectFour-v0`, `aec:NAME` of PettingZoo.

    Args:
        source: Whatever sources.py tells apart.
        num_games: B.
        options: Keywords of a PettingZoo environment, parameters of a game.
        first: Number of the first game, where there are other ranks with games.

    Raises:
        ConfigError: It is nothing that is played in turns.
    """
    found = find_source(source, dict(options or {}))
    if found.kind == "aec":
        make = partial(found.make, **(options or {}))
        return AECGames(make, num_games, found.text, first or 0)
    native = native_game(found)
    if native is None:
        raise ConfigError(f"{found.text} is no game of turns: leave out --self-play")
    return NativeGames(native, num_games, first)


def native_game(source: Source) -> NativeGame | None:
    """The game of playout's, or behind its table, that a source is or an id is called after."""
    if source.kind == "game":
        made: NativeGame = source.make()
        return made
    plain = source.text.removeprefix("playout/").rpartition("-v")[0]
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in plain).lstrip("_")
    return game(words) if source.kind == "id" and is_game_text(words) else None

"""PettingZoo parallel environments: every agent is a row, and all rows share one policy.

B environments of A agents make B x A rows. An agent that is done while others go on is idle until
the environment begins anew, which it does in the step after its last agent is done. Agents must
have the same spaces. State is saved as seeds and actions (episodes.py).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout.agents.runs import ranks
from playout.agents.runs.console import counted
from playout.agents.vector.actions import check_action_space, flat_mask, one_action
from playout.agents.vector.episodes import EpisodeLog
from playout.agents.vector.groups import Group, GroupEnvs, make_buffers
from playout.agents.vector.in_process import fault_of, read_reward
from playout.agents.vector.sources import Source
from playout.agents.vector.spaces import check_obs, has_mask_key, simple_obs, simple_space, write
from playout.errors import ConfigError, EnvironmentFault
from playout.own_code import is_known


class ParallelGroup(Group):
    """B parallel environments over B x A rows."""

    def __init__(self, make: Callable[[], Any], num_envs: int, name: str, first: int = 0) -> None:
        self.name, self.first = name, first
        self.envs = [make() for _ in range(num_envs)]
        one = self.envs[0]
        self.agents = list(one.possible_agents)
        agent = self.agents[0]
        self.raw_space = one.observation_space(agent)
        self.action_space = one.action_space(agent)
        for other in self.agents:
            same = one.observation_space(other) == self.raw_space
            if not same or one.action_space(other) != self.action_space:
                raise ConfigError(f"{name}: one policy needs agents with the same spaces")
        check_action_space(self.action_space)
        self.observation_space = simple_space(self.raw_space)
        self.masked = has_mask_key(self.raw_space)
        # As in in_process.py: the bounds of published environments are not the person's to mend.
        self.strict = not is_known(type(one.unwrapped).__module__)
        self.log = EpisodeLog(num_envs, first=first)
        self.buffers = make_buffers(
            self.observation_space, self.action_space, num_envs * len(self.agents)
        )

    def reset(self, seed: int) -> None:
        """Begin everywhere."""
        self.log.restart(seed)
        for i in range(len(self.envs)):
            self._begin(i)

    def _rows(self, i: int) -> slice:
        return slice(i * len(self.agents), (i + 1) * len(self.agents))

    def _begin(self, i: int) -> None:
        env, rows, buffers = self.envs[i], self._rows(i), self.buffers
        try:
            obs, infos = env.reset(seed=self.log.begin(i))
        except Exception as error:
            raise self._fault(i, "reset", error) from error
        buffers["rewards"][rows] = 0.0
        buffers["terminations"][rows] = buffers["truncations"][rows] = False
        buffers["idle"][rows] = [agent not in env.agents for agent in self.agents]
        self._write(i, obs, infos)

    def _fault(self, i: int, what: str, error: Exception) -> EnvironmentFault:
        return fault_of(f"{self.name}, environment {self.first + i}, failed in {what}", error)

    def _write(self, i: int, obs: dict[str, Any], infos: dict[str, Any]) -> None:
        living = set(self.envs[i].agents)
        for k, agent in enumerate(self.agents):
            if agent not in obs:
                continue
            row, where = i * len(self.agents) + k, partial(self._where, i, agent)
            try:
                simple, mask = simple_obs(self.raw_space, obs[agent])
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                raise EnvironmentFault(f"{where()} gave no observation: {error}") from error
            check_obs(self.observation_space, simple, where, strict=self.strict)
            write(self.buffers["obs"], row, simple)
            mask = infos.get(agent, {}).get("action_mask") if mask is None else mask
            if mask is not None:
                self.masked = True
                self.buffers["masks"][row] = flat_mask(
                    self.action_space, mask, where(), over=agent not in living
                )
            else:
                self.buffers["masks"][row] = 1

    def _where(self, i: int, agent: str) -> str:
        """Which environment, agent and step: for errors."""
        return (
            f"{self.name}, environment {self.first + i}, {agent} (episode {self.log.numbers[i]}, "
            f"step {len(self.log.actions[i])})"
        )

    def step(self, actions: NDArray[Any]) -> None:
        """Step every environment; one whose agents are all done begins anew."""
        for i, env in enumerate(self.envs):
            rows = self._rows(i)
            if not env.agents:
                self.log.next(i)
                self._begin(i)
                continue
            self._step(i, np.array(actions[rows]))

    def _step(self, i: int, chosen: NDArray[Any]) -> None:
        env, buffers = self.envs[i], self.buffers
        alive = set(env.agents)
        given = {
            agent: one_action(self.action_space, chosen[k])
            for k, agent in enumerate(self.agents)
            if agent in alive
        }
        try:
            obs, rewards, terminations, truncations, infos = env.step(given)
        except Exception as error:
            raise self._fault(i, f"step {len(self.log.actions[i])}", error) from error
        self.log.actions[i].append(chosen)
        self._write(i, obs, infos)
        for k, agent in enumerate(self.agents):
            row = i * len(self.agents) + k
            live = agent in alive
            reward = rewards.get(agent, 0.0) if live else 0.0
            buffers["rewards"][row] = read_reward(reward, partial(self._where, i, agent))
            buffers["terminations"][row] = live and bool(terminations.get(agent, False))
            buffers["truncations"][row] = live and bool(truncations.get(agent, False))
            buffers["idle"][row] = agent not in env.agents

    def get_state(self) -> dict[str, Any]:
        """Seeds, episode numbers and actions of the running episodes."""
        return {**self.log.get_state(), "idle": self.buffers["idle"].copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Play the running episodes again."""
        for i, actions in self.log.set_state(state):
            self._begin(i)
            for chosen in actions:
                self._step(i, np.array(chosen))
        self.buffers["idle"][:] = state["idle"]

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()


def make_parallel(
    source: Source, num_rows: int, options: dict[str, Any], first: int = 0
) -> GroupEnvs:
    """About `num_rows` rows of a parallel environment.

    Args:
        source: Of kind "parallel".
        num_rows: Rows wanted; at least one environment is made.
        options: Keyword arguments of the environment.
        first: Number of the first row wanted among those of all ranks.

    Raises:
        ConfigError: So few rows are wanted of all ranks that one has no environment.
    """
    make, name = partial(source.make, **options), source.text.removeprefix("parallel:")
    one = make()
    agents = len(one.possible_agents)
    one.close()
    begin, end = first // agents, (first + num_rows) // agents
    if begin == end and ranks.world() > 1:
        raise ConfigError(
            f"{ranks.world()} ranks need more rows: an environment of {name} has {agents}"
        )
    count = max(1, end - begin)
    description = (
        f"{name} ({agents} agents each), {counted(count * agents, 'environment')} in one process"
    )
    return GroupEnvs(ParallelGroup(make, count, name, begin), description)

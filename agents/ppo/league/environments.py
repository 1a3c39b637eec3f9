"""Games against a pool of past versions, as `Environments`.

In every game the learner is one of the players and an opponent the others. A step plays the
learner's move and then the opponents' until the learner is to move again; a game that ends begins
anew in the same step, with another side for the learner and another opponent. Under ranks what is
random in a game follows from its number alone. Leaves out the pool's upkeep (trainer.py).
"""

import copy
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.networks.policy import Policy, draw_ahead
from playout.agents.ppo.evaluation import device_of
from playout.agents.ppo.league.games import TurnBasedGames
from playout.agents.ppo.league.pool import Pool
from playout.agents.runs import ranks
from playout.agents.runs.devices import nests_to_device
from playout.agents.vector.episodes import derive_seed, place_of
from playout.agents.vector.interface import Environments, Step
from playout.agents.vector.normalize import ObsNormalizer
from playout.agents.vector.spaces import Arrays, rows_of
from torch import Tensor

LATEST = -1


class Result(NamedTuple):
    """A finished game."""

    opponent: int
    """Its version."""
    points: float
    """The learner's, from 0 to 1."""
    turn: int
    """The step of all games in which it ended."""
    game: int
    """Its number among the games of all ranks."""


def choose_moves(
    policy: Policy,
    obs: Arrays,
    masks: NDArray[np.uint8],
    *,
    generator: torch.Generator,
    normalizer: ObsNormalizer | None = None,
    deterministic: bool = False,
    noise: Tensor | None = None,
) -> NDArray[Any]:
    """Moves `[N]` of a policy without a memory, for what the side to move sees in N games.

    `noise` is what `Policy.draw` gave, to be used in place of `generator`.
    """
    device, source = device_of(policy), generator
    if not deterministic and noise is None:
        noise, source = draw_ahead(policy, len(masks), generator, device)
    seen = obs if normalizer is None else normalizer(obs)
    found, legal, noise = nests_to_device((seen, masks, noise), device)
    given = {} if noise is None else {"noise": noise}
    step = policy.step(found, None, legal, generator=source, deterministic=deterministic, **given)
    return policy.to_env(step.action)


class PoolEnvs(Environments):
    """B games of the learner against versions of itself.

    Attributes:
        opponents: Version that each game is played against `[B]`; LATEST is the learner.
        sides: Which player the learner is in each game `[B]`.
        results: Finished games.
        place: Which games of all ranks' these are.
        by_number: Whether sides, opponents and their moves follow from a game's number, and so not
            from how games are cut into ranks.
    """

    native, same_step = True, True

    def __init__(
        self,
        games: TurnBasedGames,
        pool: Pool,
        policy: Policy,
        make_policy: Callable[[], Policy],
        *,
        num_active: int = 4,
        seed: int = 0,
        normalizer: ObsNormalizer | None = None,
        by_number: bool = False,
    ) -> None:
        """Set up.

        Args:
            games: What is played.
            pool: Past versions of the policy.
            policy: The learner, which also plays LATEST.
            make_policy: Builds a policy like it, for a past version's weights.
            num_active: Versions that are met between two calls of `choose`.
            seed: Of sides, opponents and their moves.
            normalizer: The learner's statistics of observations; opponents see by them too.
            by_number: See the attribute; needed where there are other ranks with games.
        """
        self.normalizer = normalizer
        self.games, self.pool, self.policy, self.make_policy = games, pool, policy, make_policy
        self.num_envs, self.num_active = games.num_games, num_active
        self.observation_space = games.observation_space
        self.action_space = games.action_space
        self.description = f"{games.name}, {self.num_envs} games against a pool of past versions"
        self.idle = np.zeros(self.num_envs, np.bool_)
        self.rng = np.random.Generator(np.random.Philox(seed))
        self.players: dict[int, Policy] = {}
        self.active: list[int] = []
        self.opponents = np.full(self.num_envs, LATEST)
        self.sides = np.zeros(self.num_envs, np.int64)
        self.results: list[Result] = []
        self.seed, self.by_number, self.place = seed, by_number, place_of(self.num_envs)
        moves = derive_seed(seed, "rank", self.place.first) if by_number else seed
        self.generator = torch.Generator().manual_seed(moves)
        self.turn = 0
        self.begun = np.zeros(self.num_envs, np.int64)  # games in each row so far
        self.answered = np.zeros(self.num_envs, np.int64)  # opponents' moves in this turn
        self._drawn: dict[int, Tensor | None] = {}

    def choose(self) -> None:
        """Draw the versions that new games are played against until the next call."""
        self.active = [int(k) for k in self.pool.draw(self.num_active)]
        self._load(set(self.active) | {int(k) for k in self.opponents if k != LATEST})

    def forget(self) -> None:
        """The pool's numbering has changed: running games go on against the learner itself."""
        self.opponents[:] = LATEST
        self.players.clear()

    def _load(self, wanted: set[int]) -> None:
        for index in sorted(wanted - set(self.players)):
            device = device_of(self.policy)
            # On a device a copy and weights that lie there already cross nothing.
            player = self.make_policy() if device.type == "cpu" else copy.deepcopy(self.policy)
            player.load_state_dict(self.pool.versions[index].weights_on(device))
            player.accelerate()
            self.players[index] = player
        for index in set(self.players) - wanted:
            del self.players[index]

    def _assign(self, rows: NDArray[np.bool_]) -> None:
        """A random side for the learner and a random opponent in new games."""
        for row in np.flatnonzero(rows):
            rng = self._stream(int(row)) if self.by_number else self.rng
            self.sides[row] = rng.integers(self.games.num_players)
            latest = not self.active or rng.random() < self.pool.latest_share
            self.opponents[row] = (
                LATEST if latest else self.active[int(rng.integers(len(self.active)))]
            )

    def _stream(self, row: int) -> np.random.Generator:
        """Random numbers of the next game in a row."""
        self.begun[row] += 1
        names = "game", self.place.first + row, int(self.begun[row])
        return np.random.Generator(np.random.Philox(derive_seed(self.seed, *names)))

    def _noise(self, rows: NDArray[np.int64]) -> Tensor | None:
        """Random numbers of the opponents' next moves in these rows, `[N, ...]`."""
        parts = []
        for row in rows:
            count = int(self.answered[row])
            if count not in self._drawn:
                seed = derive_seed(self.seed, "moves", self.turn, count)
                generator = torch.Generator().manual_seed(seed)
                drawn = self.policy.draw(self.place.total, generator)
                self._drawn[count] = None if drawn is None else drawn[self.place.own]
            found = self._drawn[count]
            if found is None:
                return None
            parts.append(found[row])
        return torch.stack(parts)

    def reset(self, seed: int) -> Arrays:
        """Begin everywhere."""
        self.games.reset(seed)
        self._begin_turn()
        self._assign(np.ones(self.num_envs, np.bool_))
        self._advance(np.zeros(self.num_envs), np.zeros(self.num_envs, np.bool_))
        return self.games.observe()

    def step(self, actions: NDArray[Any]) -> Step:
        """The learner's move everywhere, and the answers."""
        self.games.apply(np.asarray(actions), np.ones(self.num_envs, np.bool_))
        self._begin_turn()
        rewards = np.zeros(self.num_envs)
        over = np.zeros(self.num_envs, np.bool_)
        self._advance(rewards, over)
        return self.games.observe(), rewards, over, np.zeros(self.num_envs, np.bool_)

    def _begin_turn(self) -> None:
        self.turn += 1
        self.answered[:] = 0
        self._drawn.clear()

    def _advance(self, rewards: NDArray[Any], over: NDArray[np.bool_]) -> None:
        """Play on until the learner is to move everywhere; pays and restarts finished games."""
        while True:
            to_play = self.games.to_play()
            ended = to_play < 0
            if ended.any():
                found = self.games.returns()[np.arange(self.num_envs), self.sides]
                found = found / np.float32(self.games.value_scale)
                # A game may end before the learner's first move; it is simply dealt again.
                paid = ended & ~over
                rewards[paid] = found[paid]
                for row in np.flatnonzero(paid):
                    self._record(int(row), float(found[row]))
                over |= ended
                self.games.restart(ended)
                self._assign(ended)
                continue
            waiting = to_play != self.sides
            if not waiting.any():
                return
            self.games.apply(self._answers(waiting), waiting)

    def _record(self, row: int, reward: float) -> None:
        points = 0.5 + 0.5 * float(np.sign(reward))
        number = self.place.first + row
        self.results.append(Result(int(self.opponents[row]), points, self.turn, number))

    def results_of_all(self) -> list[Result]:
        """Games that were finished on any rank, in the order of turns and games."""
        if ranks.world() == 1:
            return self.results
        parts = ranks.everybody(json.dumps(self.results).encode())
        found = [Result(*one) for part in parts for one in json.loads(part)]
        return sorted(found, key=lambda one: (one.turn, one.game))

    def _answers(self, waiting: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The opponents' moves, one call for each of them."""
        actions = np.zeros(self.num_envs, np.int64)
        obs, masks = self.games.observe(), self.games.masks()
        for index in np.unique(self.opponents[waiting]):
            rows = np.flatnonzero(waiting & (self.opponents == index))
            player = self.policy if index == LATEST else self.players[int(index)]
            actions[rows] = choose_moves(
                player,
                rows_of(obs, rows),
                masks[rows],
                generator=self.generator,
                normalizer=self.normalizer,
                noise=self._noise(rows) if self.by_number else None,
            )
        self.answered += waiting
        return actions

    def masks(self) -> NDArray[Any]:
        """The learner's legal actions."""
        return self.games.masks()

    def get_state(self) -> dict[str, Any]:
        """Games, sides, opponents and random numbers; the pool saves itself."""
        return {
            "games": self.games.get_state(),
            "seats": self.sides.copy(),
            "opponents": self.opponents.copy(),
            "active": list(self.active),
            "rng": self.rng.bit_generator.state,
            "generator": self.generator.get_state(),
            **({"turn": self.turn, "begun": self.begun.copy()} if self.by_number else {}),
        }

    def set_state(self, state: dict[str, Any]) -> Arrays:
        """Continue; the pool must be restored before."""
        self.games.set_state(state["games"])
        self.sides[:] = state["seats"]
        self.opponents[:] = state["opponents"]
        self.active = [int(k) for k in state["active"]]
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"])
        if self.by_number and "turn" in state:
            self.turn, self.begun[:] = int(state["turn"]), state["begun"]
        self.players.clear()
        self._load(set(self.active) | {int(k) for k in self.opponents if k != LATEST})
        return self.games.observe()

    def close(self) -> None:
        """Close the games."""
        self.games.close()

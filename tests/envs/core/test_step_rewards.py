"""Rewards along the way, from a game's returns to every kind of environment.

The game is one in which moves, chance and the other player all change what one has.
"""

import numpy as np
import playout
import pytest
from playout.envs.farama.game_aec import raw_env
from playout.envs.farama.game_env import GameEnv
from playout.envs.farama.game_vector import GameVectorEnv
from playout.errors import GameError


class Harvest:
    """A die of 1 to 3 is taken, or two points from the other player; a 3 rains one on everybody."""

    name, num_players, num_actions, max_plies, obs_shape = "harvest", 2, 3, 16, (4, 1, 1)
    zero_sum, step_rewards, value_scale = False, True, 12.0

    def initial_state(self):
        return (0, 0, 0, 0)  # die, turns taken, points of both

    def to_play(self, state):
        return -2 if state[0] == 0 and state[1] < 8 else -1 if state[1] == 8 else state[1] % 2

    def chance(self, state):
        return [(0, 0.5), (1, 0.25), (2, 0.25)]

    def legal_actions(self, state):
        return [0, 1]

    def apply(self, state, action):
        die, turn, *points = state
        if die == 0:
            return (action + 1, turn, *(one + (action == 2) for one in points))
        mine = turn % 2
        points[mine] += 2 if action else die
        points[1 - mine] -= 2 if action else 0
        return (0, turn + 1, *points)

    def returns(self, state):
        return state[2:]

    def observe(self, state, player):
        return np.array([state[0], state[1], state[2 + player], state[3 - player]]).reshape(4, 1, 1)

    def encode(self, state):
        return bytes([state[0], state[1], state[2] + 50, state[3] + 50])

    def decode(self, data):
        if len(data) != 4 or data[0] > 3 or data[1] > 8:
            raise ValueError("not a state")
        return (data[0], data[1], data[2] - 50, data[3] - 50)


GAME = playout.game(Harvest())


def broken(**changes):
    return type("Broken", (Harvest,), changes)()


def test_a_python_game_declares_them():
    assert GAME.step_rewards
    assert GAME.value_scale == 12
    assert not GAME.zero_sum
    playout.testing.check_game(GAME)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step_rewards": 1}, "step_rewards must be True or False"),
        ({"value_scale": 0}, "value_scale must be a positive number"),
        ({"initial_state": lambda self: (0, 0, 1, 0)}, "nothing can have been collected"),
        ({"returns": lambda self, state: [float("nan"), 0]}, "returns"),
    ],
)
def test_what_is_declared_wrongly_is_named(changes, words):
    with pytest.raises(GameError, match=words):
        playout.testing.check_game(broken(**changes))


def test_a_batch_rewards_the_mover_with_what_its_returns_grow_by():
    for game in (GAME, playout.game("game_2048(size=3)")):
        batch = game.batch(8)
        rewards = np.empty(8, np.float32)
        returns = np.empty((8, game.num_players), np.float32)
        for ply in range(12):
            movers, before = batch.to_play(), batch.returns()
            if (movers == -1).any():
                break
            batch.step(batch.random_actions(1, counter=ply), rewards=rewards, returns=returns)
            assert np.array_equal(returns, batch.returns())
            grown = (returns - before)[np.arange(8), np.maximum(movers, 0)]
            assert np.array_equal(rewards, np.where(movers >= 0, grown, 0))


def test_in_self_play_a_step_rewards_the_mover_with_its_move_and_the_chance_after_it():
    envs = GameVectorEnv(GAME, 6, autoreset_mode="SameStep")
    _, infos = envs.reset(seed=1)
    for _ in range(30):
        movers, before = infos["to_play"], envs.states().returns()
        first = np.array([state.to_bytes()[5] == 0 for state in envs.states()])
        _, rewards, terminations, _, infos = envs.step(np.zeros(6, np.int32))
        grown = (envs.states().returns() - before)[np.arange(6), movers]
        going = ~terminations & ~first  # the first step also counts what came before it
        assert np.array_equal(rewards[going], grown[going])


class Taker:
    """A Player that always takes from the other."""

    def reset(self, seed):
        pass

    def act(self, states):
        return np.ones(len(states), np.int32)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("opponent", ["random", Taker()], ids=["random", "player"])
def test_the_rewards_of_an_episode_add_up_to_the_agents_returns(mode, opponent):
    envs = GameVectorEnv(GAME, 5, opponent=opponent, autoreset_mode=mode)
    envs.reset(seed=2)
    totals, compared = np.zeros(5), 0
    for _ in range(40):
        players = envs._rows.players.copy()
        _, rewards, terminations, _, infos = envs.step(np.zeros(5, np.int32))
        totals += rewards
        finals = infos["final_obs"] if "final_obs" in infos else envs.observe()
        for row in np.flatnonzero(terminations):
            # Plane 2 of an observation is what the viewer has.
            assert totals[row] == finals[row][2, 0, 0], players[row]
            totals[row], compared = 0.0, compared + 1
    assert compared >= 20


def test_the_rewards_of_a_single_environment_add_up():
    env = GameEnv("game_2048(size=2)")
    _, info = env.reset(seed=4)
    total, over = 0.0, False
    while not over:
        _, reward, over, _, info = env.step(int(np.flatnonzero(info["action_mask"])[0]))
        total += reward
    assert total == env.state.returns[0] > 0


def test_pettingzoo_rewards_every_agent_as_its_returns_grow():
    env = raw_env(GAME)
    env.reset(seed=3)
    totals = dict.fromkeys(env.possible_agents, 0.0)
    for number, agent in enumerate(env.agent_iter()):
        _, reward, over, _, _ = env.last()
        totals[agent] += reward
        env.step(None if over else number % 2)
    assert list(totals.values()) == env.position.returns.tolist()
    assert any(totals.values())

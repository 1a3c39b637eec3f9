"""One table of games and tasks: what an entry names appears everywhere, and everything is named."""

import sys
import types

import gymnasium as gym
import numpy as np
import pettingzoo
import playout
import pytest
from playout.agents.commands import list as lists
from playout.envs import catalogue
from playout.envs.control.tasks import describe, make_task
from playout.envs.drawing.board import render_state
from playout.envs.drawing.control import render_control
from playout.envs.farama import registration


class Pebbles:
    """Take one or two of `pebbles`; who takes the last one wins."""

    name = "pebbles"
    num_players, num_actions, obs_shape = 2, 2, (1, 1, 1)

    def __init__(self, pebbles):
        self.start = self.max_plies = pebbles

    def initial_state(self):
        return self.start, 0

    def to_play(self, state):
        return state[1] if state[0] else -1

    def legal_actions(self, state):
        return list(range(min(state[0], 2)))

    def apply(self, state, action):
        return state[0] - 1 - action, 1 - state[1]

    def returns(self, state):
        return [-1.0, 1.0] if state[1] == 0 else [1.0, -1.0]

    def observe(self, state, player):
        return np.full((1, 1, 1), state[0], np.float32)

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        return data[0], data[1]


@pytest.fixture
def pebbles(monkeypatch):
    """An entry for Pebbles, registered; all of it is forgotten afterwards."""
    module = types.ModuleType("toy_pebbles")
    module.make = lambda pebbles=7: Pebbles(pebbles)
    module.picture = lambda state: np.full((4, 4, 3), state.observe(0).item(), np.uint8)
    monkeypatch.setitem(sys.modules, "toy_pebbles", module)
    entry = catalogue.GameEntry(
        name="pebbles",
        gymnasium_id="playout/Pebbles-v0",
        pettingzoo_id="playout/pebbles-v0",
        module="toy_pebbles",
        params={"pebbles": 7},
        drawing="toy_pebbles:picture",
    )
    monkeypatch.setitem(catalogue.GAMES, "pebbles", entry)
    registration.register_gymnasium()
    registration.register_pettingzoo()
    yield entry
    del gym.registry[entry.gymnasium_id]
    del pettingzoo.aec_registry[entry.pettingzoo_id]


def test_a_new_entry_is_a_game_an_environment_a_picture_and_in_the_lists(pebbles):
    assert playout.game("pebbles(pebbles=5)").initial_state().observe(0).item() == 5
    envs = gym.make_vec(pebbles.gymnasium_id, num_envs=3, pebbles=4)
    assert envs.reset(seed=0)[0].ravel().tolist() == [4, 4, 4]
    assert gym.make(pebbles.gymnasium_id, disable_env_checker=True).reset(seed=0)[0].item() == 7
    turns = pettingzoo.make("aec", pebbles.pettingzoo_id)
    turns.reset(seed=0)
    assert turns.observe("player_0")["observation"].item() == 7
    assert "pebbles=7" in lists.games()["pebbles"]
    assert pebbles.gymnasium_id in lists.environments()
    picture = render_state(playout.game("pebbles").initial_state(), "rgb_array")
    assert picture.shape == (4, 4, 3) and (picture == 7).all()


def test_every_entry_is_registered_and_drawn():
    for game in catalogue.GAMES.values():
        assert game.gymnasium_id in gym.registry
        assert pettingzoo.make("aec", game.pettingzoo_id).metadata["name"] == f"{game.name}_v0"
        state = playout.game(game.name).initial_state()
        assert render_state(state, "rgb_array").dtype == np.uint8
    for task in catalogue.TASKS.values():
        spec = gym.spec(task.gymnasium_id)
        assert spec.max_episode_steps == task.max_episode_steps
        assert spec.reward_threshold == task.reward_threshold
        info = describe(make_task(task.name, {}, np.float32)[1])
        assert info["max_episode_steps"] == task.max_episode_steps
        assert info["reward_threshold"] == task.reward_threshold
        row = np.asarray(info["reset_low"])
        assert render_control(task.name, row).dtype == np.uint8
    for parallel in catalogue.PARALLEL.values():
        assert pettingzoo.make("parallel", parallel.pettingzoo_id).possible_agents

"""Environments behind one interface: the same numbers however they are stepped, clear faults."""

import gc
import os
import sys

import forked
import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv
from playout.agents.networks.actor_critic import build_policy
from playout.agents.ppo.evaluation import evaluate_policy
from playout.agents.vector.factory import make_environments
from playout.agents.vector.groups import GroupEnvs
from playout.agents.vector.gymnasium_vector import VectorEnvs
from playout.agents.vector.pettingzoo import ParallelGroup
from playout.agents.vector.spaces import simple_space
from playout.errors import ConfigError, EnvironmentFault
from ppo_worlds import Chain, Counter, Masked


def play(envs, steps, seed=0):
    """A record of `steps` steps with fixed actions."""
    rng = np.random.default_rng(1)
    found = [np.array(envs.reset(seed))]
    for _ in range(steps):
        actions = rng.integers(0, envs.action_space.n, envs.num_envs)
        found += [np.array(part) for part in envs.step(actions)]
        found.append(envs.idle.copy())
    return found


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_one_process_and_several_give_the_same_numbers():
    single = make_environments(Counter, 5, processes=0)
    several = make_environments(Counter, 5, processes=2)
    try:
        assert "2 processes" in several.description
        assert same(play(single, 20), play(several, 20))
    finally:
        several.close()


def test_where_nothing_is_measured_no_environment_is_made_twice():
    made = []

    class Noted(Counter):
        def __init__(self):
            made.append(1)
            super().__init__()

    make_environments(Noted, 1).close()
    make_environments(Noted, 3, processes=0).close()
    assert len(made) == 4


def test_a_row_does_not_depend_on_how_many_there_are():
    few, many = (
        make_environments(Counter, 2, processes=0),
        make_environments(Counter, 4, processes=0),
    )
    few.reset(5)
    many.reset(5)
    for _ in range(12):
        a, *_ = few.step(np.ones(2, int))
        b, *_ = many.step(np.ones(4, int))
        assert np.array_equal(a, b[:2])


def test_the_step_after_an_end_is_a_reset_that_ignores_the_action():
    envs = make_environments(lambda: Counter(length=2), 1, processes=0)
    first = np.array(envs.reset(0))
    envs.step(np.array([1]))
    obs, reward, terminated, _ = envs.step(np.array([2]))
    assert obs[0, 1] == 2 and reward[0] == 2 and terminated[0] and envs.idle[0]
    obs, reward, terminated, _ = envs.step(np.array([2]))
    assert obs[0, 1] == 0 and reward[0] == 0 and not terminated[0] and not envs.idle[0]
    assert obs[0, 0] != first[0, 0]  # another episode has another seed


@pytest.mark.parametrize("processes", [0, 2])
def test_state_is_rebuilt_by_playing_the_episode_again(processes):
    envs = make_environments(Chain, 3, processes=processes)
    other = make_environments(Chain, 3, processes=0)
    try:
        play(envs, 7)
        state = envs.get_state()
        before = np.array(envs.group.buffers["obs"])
        assert np.array_equal(other.set_state(state), before)
        assert np.array_equal(other.idle, envs.idle)
        for _ in range(9):
            a, b = envs.step(np.ones(3, int)), other.step(np.ones(3, int))
            assert same([np.array(x) for x in a], [np.array(x) for x in b])
    finally:
        envs.close()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise", r"environment 0 failed in step \(episode 0, step 2\): RuntimeError: the motor"),
        ("obs_nan", "NaN"),
        ("obs_shape", r"shape \(3,\), not \(2,\)"),
        (
            "reward_text",
            r"environment 0 \(episode 0, step 3\) gave a reward that is no number: 'much'",
        ),
    ],
)
@pytest.mark.parametrize("processes", [0, 2])
def test_faults_of_an_environment_are_one_line_that_names_it(fault, message, processes):
    envs = make_environments(lambda: Counter(fault=fault), 2, processes=processes)
    try:
        with pytest.raises(EnvironmentFault, match=message):
            play(envs, 5)
    finally:
        envs.close()


def test_a_worker_that_dies_is_named_with_its_exit_code():
    envs = make_environments(lambda: Counter(fault="die"), 4, processes=2)
    try:
        with pytest.raises(EnvironmentFault, match=r"environments 0 to 1 died \(exit code 3"):
            play(envs, 5)
    finally:
        envs.close()


UNCLOSED = """
import os, signal
from ppo_worlds import Counter
from playout.agents.runs.signals import Signals
from playout.agents.vector.factory import make_environments
with Signals(lambda: None).watch():
    envs = make_environments(Counter, 2, processes=2)
envs.reset(0)
for process in envs.group.processes:
    os.kill(process.pid, signal.SIGTERM)  # it is the parent's to stop, which asks its workers
envs.get_state()
"""


def test_workers_outlive_a_signal_to_all_but_not_the_program_that_forgets_them(tmp_path):
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code, _, errors = forked.run("-c", UNCLOSED, timeout=60, variables=variables)
    assert (code, errors) == (0, "")


@pytest.mark.slow
def test_workers_end_with_the_last_reference_to_them():
    envs = make_environments(Counter, 2, processes=2)
    processes = envs.group.processes
    del envs
    gc.collect()
    assert not any(process.is_alive() for process in processes)


def test_masks_come_from_the_observation_the_method_or_the_info():
    class Method(Counter):
        def action_masks(self):
            return np.array([1, 0, self.time % 2])

    class Info(Counter):
        def step(self, action):
            *rest, _ = super().step(action)
            return *rest, {"action_mask": np.array([0, 1, 1])}

    envs = make_environments(Masked, 2, processes=0)
    assert isinstance(envs.observation_space, spaces.Box)
    envs.reset(0)
    assert envs.masks().sum(1).tolist() == [3, 3]
    envs = make_environments(Method, 2, processes=0)
    envs.reset(0)
    envs.step(np.zeros(2, int))
    assert envs.masks().tolist() == [[1, 0, 1]] * 2
    envs = make_environments(Info, 1, processes=0)
    envs.reset(0)
    envs.step(np.zeros(1, int))
    assert envs.masks().tolist() == [[0, 1, 1]]


def test_observations_that_show_nothing_are_refused():
    for space in (spaces.Dict({}), spaces.Dict(action_mask=spaces.MultiBinary(3))):
        with pytest.raises(ConfigError, match="show nothing to learn from"):
            simple_space(spaces.Dict(one=spaces.Discrete(2), other=space))


def test_what_tells_masks_wrongly_is_the_environments_fault():
    class Method(Counter):
        def action_masks(self):
            raise AttributeError("board")

    class Info(Counter):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)[0], None

    for make, message in (
        (Method, r"environment 0 failed in action_masks \(episode 0, step 0\): .*: board"),
        (Info, r"environment 0 \(episode 0, step 0\) gave an info that is no dictionary: None"),
    ):
        with pytest.raises(EnvironmentFault, match=message):
            make_environments(make, 1, processes=0).reset(0)


def test_an_id_with_a_native_twin_uses_it_unless_told_otherwise():
    twin = make_environments("CartPole-v1", 3)
    assert twin.native and "playout/CartPole-v1" in twin.description
    assert twin.reward_threshold == 475.0
    original = make_environments("CartPole-v1", 3, native=False)
    assert not original.native and "own entry point" in original.description
    twin.reset(0)
    obs, *_ = twin.step(np.zeros(3, int))
    assert obs.shape == (3, 4)


@pytest.mark.parametrize("mode", list(gym.vector.AutoresetMode))
def test_vector_environments_of_every_autoreset_mode_tell_the_same_story(mode):
    envs = VectorEnvs(
        gym.vector.SyncVectorEnv(
            [lambda: Counter(length=3, truncate=True)] * 2, autoreset_mode=mode
        ),
        "counter",
        native=False,
    )
    envs.reset(1)
    ends = []
    for _ in range(8):
        idle = envs.idle.copy()
        obs, _, _, truncations = envs.step(np.zeros(2, int))
        if truncations[0]:
            last = obs if envs.final_obs is None else envs.final_obs
            assert envs.same_step == (envs.final_obs is not None)
            assert last[0, 1] == 3
        ends.append(bool(truncations[0]))
        assert not (idle[0] and truncations[0])
    assert ends.index(True) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoSuchEnv-v0", "no environment 'NoSuchEnv-v0'"),
        ("no_such_module:X-v0", "cannot import the module"),
        ("parallel:no/such-v0", "cannot make the PettingZoo"),
    ],
)
def test_names_that_mean_nothing_get_one_clear_line(name, message):
    with pytest.raises(ConfigError, match=message):
        make_environments(name, 2)


def test_agents_of_a_parallel_environment_are_rows():
    envs = make_environments("parallel:playout/pursuit-v0", 8)
    obs = envs.reset(0)
    assert len(obs) == envs.num_envs and envs.num_envs % 2 == 0
    state = envs.get_state()
    actions = np.ones(envs.num_envs, int)
    first = [np.array(x) for x in envs.step(actions)]
    envs.set_state(state)
    assert same(first, [np.array(x) for x in envs.step(actions)])


class Strict(Masked):
    """Raises where others end an episode: when an action is illegal."""

    def step(self, action):
        obs = self._obs()
        if not obs["action_mask"][action]:
            raise ValueError(f"illegal action {action}")
        return super().step(action)


def test_measuring_whether_processes_are_worth_it_takes_legal_actions_only(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1}, raising=False)
    envs = make_environments(Strict, 2)
    assert envs.masks() is not None
    envs.close()


def test_action_spaces_that_no_policy_has_are_refused_in_one_line():
    class Odd(Counter):
        action_space = spaces.Dict({"x": spaces.Dict({"said": spaces.Text(5)})})

    with pytest.raises(ConfigError, match=r"actions\['x'\]\['said'\] of type Text are not"):
        make_environments(Odd, 2)


class Pair(ParallelEnv):
    """Two agents that may be there, one of which is; breaks in its second episode if told so."""

    possible_agents, metadata = ("a", "b"), {"name": "pair"}

    def __init__(self, breaks=False):
        self.breaks, self.begun, self.agents = breaks, 0, []

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (1,))

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.begun, self.steps, self.agents = self.begun + 1, 0, ["a"]
        if self.breaks and self.begun == 2:
            raise KeyError("level")
        return {"a": np.zeros(1, np.float32)}, {"a": {}}

    def step(self, actions):
        self.steps += 1
        agents, over = self.agents, self.steps == 3
        if over:
            self.agents = []
        values = [np.zeros(1, np.float32), 1.0, over, False, {}]
        return tuple(dict.fromkeys(agents, value) for value in values)


def test_an_agent_that_is_never_there_does_not_keep_an_evaluation_from_its_end():
    envs = GroupEnvs(ParallelGroup(Pair, 2, "pair"), "pair")
    policy = build_policy(envs.observation_space, envs.action_space, seed=1)
    found = evaluate_policy(policy, envs, episodes=8, seed=0, max_steps=100)
    assert found.returns.tolist() == [3.0] * 4  # two of each environment, of the agent that plays


def test_agents_that_are_not_there_when_an_episode_begins_are_idle():
    envs = GroupEnvs(ParallelGroup(Pair, 1, "pair"), "pair")
    envs.reset(0)
    idle = []
    for _ in range(8):
        idle.append(envs.idle.tolist())
        envs.step(np.zeros(2, int))
    assert [a for a, _ in idle] == [False, False, False, True] * 2
    assert all(b for _, b in idle)


def test_a_parallel_environment_that_fails_in_reset_is_named():
    envs = GroupEnvs(ParallelGroup(lambda: Pair(True), 1, "pair"), "pair")
    envs.reset(0)
    with pytest.raises(EnvironmentFault, match="pair, environment 0, failed in reset: KeyError"):
        for _ in range(4):
            envs.step(np.zeros(2, int))


class Poor(gym.vector.VectorEnv):
    """Ends every episode at once; what it should give besides is missing."""

    num_envs = 2
    single_observation_space = observation_space = spaces.Box(-1, 1, (1,))
    single_action_space = action_space = spaces.Discrete(2)

    def __init__(self, mode, resets):
        self.metadata, self.resets = {"autoreset_mode": mode}, resets

    def reset(self, *, seed=None, options=None):
        if not self.resets:
            raise KeyError("level")
        self.resets -= 1
        return np.zeros((2, 1), np.float32), {}

    def step(self, actions):
        over = np.ones(2, bool)
        return np.zeros((2, 1), np.float32), np.zeros(2), over, ~over, {}


@pytest.mark.parametrize(
    ("mode", "resets", "message"),
    [
        (gym.vector.AutoresetMode.SAME_STEP, 1, r"step 1: .* gives no info\['final_obs'\]"),
        (gym.vector.AutoresetMode.DISABLED, 1, "failed in the reset of step 1: KeyError"),
        (gym.vector.AutoresetMode.NEXT_STEP, 0, "failed in reset: KeyError"),
    ],
)
def test_faults_of_a_vector_environment_are_named_wherever_they_come(mode, resets, message):
    envs = VectorEnvs(Poor(mode, resets), "poor", native=False)
    with pytest.raises(EnvironmentFault, match=message):
        envs.reset(0)
        envs.step(np.zeros(2, int))

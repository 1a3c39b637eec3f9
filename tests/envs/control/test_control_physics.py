"""The native control tasks against Gymnasium's own: a million single steps from the same state."""

import math

import gymnasium as gym
import numpy as np
import playout  # noqa: F401 (registers)
import pytest
from gymnasium.envs.classic_control import acrobot
from playout.envs.control import _control
from playout.envs.farama.control_vector import ControlVectorEnv

RELATIVE = 1e-12
# A component that crosses zero has no relative error to speak of: rounding of its terms is left.
ABSOLUTE = {"cartpole": 1e-17, "mountain_car": 1e-18, "pendulum": 1e-16, "acrobot": 1e-14}


def assert_close(ours, theirs, task):
    error = np.abs(ours - theirs)
    assert np.all(error <= RELATIVE * np.abs(theirs) + ABSOLUTE[task]), error.max()


def states(envs):
    return envs.get_state()["state"].T


def test_cartpole_steps_as_gymnasiums_vector_cartpole():
    envs = ControlVectorEnv("cartpole", 1000, copy=False)
    twin = gym.make_vec("CartPole-v1", num_envs=1000).unwrapped
    envs.reset(seed=1)
    twin.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(500):
        before = envs.get_state()
        actions = rng.integers(0, 2, 1000)
        twin.state = before["state"].T.copy()
        twin.steps = before["elapsed"].copy()
        twin.prev_done = before["pending"].copy()
        live = ~before["pending"]
        obs, rewards, terminations, truncations, _ = envs.step(actions)
        twin_obs, twin_rewards, twin_terminations, twin_truncations, _ = twin.step(actions)
        assert_close(states(envs)[:, live], twin.state[:, live], "cartpole")
        assert np.array_equal(obs[live], twin_obs[live])
        assert np.array_equal(rewards, twin_rewards)
        assert np.array_equal(terminations, twin_terminations)
        assert np.array_equal(truncations, twin_truncations)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pendulum_steps_as_gymnasiums_for_actions_of_both_precisions(dtype):
    count = 1000
    envs = ControlVectorEnv("pendulum", count, copy=False, max_episode_steps=-1)
    twin = gym.make("Pendulum-v1").unwrapped
    envs.reset(seed=2)
    rng = np.random.default_rng(1)
    for _ in range(150):
        actions = rng.uniform(-2, 2, (count, 1)).astype(dtype)
        twin.state = states(envs).copy()  # Gymnasium's code works on arrays of states as it is
        obs, rewards, terminations, truncations, _ = envs.step(actions)
        twin_obs, twin_rewards, *_ = twin.step(actions.T)
        assert_close(states(envs), twin.state, "pendulum")
        np.testing.assert_allclose(rewards, twin_rewards, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(obs, twin_obs.T, rtol=2e-7, atol=1e-7)
        assert not terminations.any() and not truncations.any()


def twin_steps(env_id, envs, steps, draw, copy_state):
    """Steps a scalar twin from every state of `envs`; yields ours and theirs."""
    twin = gym.make(env_id).unwrapped
    twin.reset(seed=0)
    for _ in range(steps):
        before = envs.get_state()
        actions = draw(envs.num_envs)
        obs, rewards, terminations, _, _ = envs.step(actions)
        after = envs.get_state()["state"]
        for i in np.flatnonzero(~before["pending"]):
            twin.state = copy_state(before["state"][i], before["elapsed"][i])
            theirs = twin.step(actions[i])
            yield (after[i], obs[i], rewards[i], terminations[i]), (np.array(twin.state), *theirs)


def everywhere(envs, seed):
    """Cars all over the valley, half of them freshly reset."""
    envs.reset(seed=seed, options={"low": -1.2, "high": 0.55})
    state = envs.get_state()
    half = len(state["state"]) // 2
    rng = np.random.default_rng(seed)
    fast = rng.uniform(-1, 1, (half, 2)) * [0.9, 0.07] - [0.3, 0]
    state["state"][:half] = fast.astype(np.float32)
    state["elapsed"][:half] = 1
    envs.set_state(state)


@pytest.mark.slow
def test_mountain_car_steps_as_gymnasiums():
    envs = ControlVectorEnv("mountain_car", 100, copy=False)
    everywhere(envs, 3)
    rng = np.random.default_rng(2)
    ended = 0
    pairs = twin_steps(
        "MountainCar-v0", envs, 400, lambda n: rng.integers(0, 3, n), lambda s, _: s.copy()
    )
    for ours, theirs in pairs:
        assert_close(ours[0], theirs[0], "mountain_car")
        assert np.array_equal(ours[1], theirs[1])
        assert ours[2:] == (theirs[2], theirs[3])
        ended += theirs[3]
    assert ended > 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mountain_car_continuous_steps_as_gymnasiums_single_precision(dtype):
    envs = ControlVectorEnv("mountain_car_continuous", 100, copy=False)
    everywhere(envs, 4)
    rng = np.random.default_rng(3)
    ended = 0
    pairs = twin_steps(
        "MountainCarContinuous-v0",
        envs,
        300,
        lambda n: rng.uniform(-1, 1, (n, 1)).astype(dtype),
        # Gymnasium's state is double after a reset, single after a step.
        lambda s, elapsed: s.astype(np.float32) if elapsed else s.copy(),
    )
    for ours, theirs in pairs:
        assert np.array_equal(ours[0], theirs[0])
        assert np.array_equal(ours[1], theirs[1])
        assert abs(ours[2] - theirs[2]) <= RELATIVE * abs(theirs[2])
        assert ours[3] == theirs[3]
        ended += theirs[3]
    assert ended > 10


def test_mountain_car_continuous_is_double_throughout_with_double_observations():
    envs = ControlVectorEnv("mountain_car_continuous", 1000, copy=False, dtype=np.float64)
    envs.reset(seed=5)
    rng = np.random.default_rng(4)
    for _ in range(100):
        x, v = states(envs)
        actions = rng.uniform(-1, 1, (1000, 1))
        envs.step(actions)
        v = np.clip(v + actions[:, 0] * 0.0015 - 0.0025 * np.cos(3 * x), -0.07, 0.07)
        x = np.clip(x + v, -1.2, 0.6)
        v = np.where((x == -1.2) & (v < 0), 0, v)
        assert_close(states(envs), np.stack([x, v]), "mountain_car")


def gymnasium_acrobot_step(twin, state, torque):
    """Gymnasium's Runge-Kutta step over its own derivative, on arrays [4, B]."""

    def slope(y):
        return np.stack(twin._dsdt([*y, torque])[:4])

    k1 = slope(state)
    k2 = slope(state + 0.1 * k1)
    k3 = slope(state + 0.1 * k2)
    k4 = slope(state + 0.2 * k3)
    state = state + 0.2 / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
    for k in range(2):
        state[k] = [acrobot.wrap(x, -np.pi, np.pi) for x in state[k]]
    limits = np.array([[4 * np.pi], [9 * np.pi]])
    state[2:] = np.clip(state[2:], -limits, limits)
    return state


def test_acrobot_steps_as_gymnasiums():
    envs = ControlVectorEnv("acrobot", 1000, copy=False, max_episode_steps=-1)
    twin = gym.make("Acrobot-v1").unwrapped
    envs.reset(seed=6)
    rng = np.random.default_rng(5)
    # Also fast states, which random play seldom meets.
    state = envs.get_state()
    state["state"][::2] = rng.uniform(-1, 1, (500, 4)) * [np.pi, np.pi, 4 * np.pi, 9 * np.pi]
    envs.set_state(state)
    for _ in range(150):
        before = envs.get_state()
        actions = rng.integers(0, 3, 1000)
        theirs = gymnasium_acrobot_step(twin, before["state"].T, actions - 1.0)
        live = ~before["pending"]
        obs, rewards, terminations, _, _ = envs.step(actions)
        ours = states(envs)
        # Fast rows amplify the rounding of their first stage; compare on the circle.
        turn = np.abs(ours[:2] - theirs[:2]) > 6
        ours[:2] = np.where(turn, ours[:2] - np.sign(ours[:2]) * 2 * np.pi, ours[:2])
        scale = 1 + np.abs(before["state"].T[2:]).max(axis=0) ** 2
        error = np.abs(ours - theirs)
        bound = RELATIVE * np.abs(theirs) + ABSOLUTE["acrobot"] * scale
        assert np.all(error[:, live] <= bound[:, live]), (error - bound)[:, live].max()
        height = -np.cos(ours[0]) - np.cos(ours[1] + ours[0])
        clear = live & (np.abs(height - 1) > 1e-9)
        assert np.array_equal(terminations[clear], height[clear] > 1)
        assert np.array_equal(rewards[live], np.where(terminations[live], 0.0, -1.0))
        np.testing.assert_allclose(obs[:, 0], np.cos(ours[0]), rtol=2e-7, atol=1e-7)
        np.testing.assert_allclose(obs[:, 3], np.sin(ours[1]), rtol=2e-7, atol=1e-7)


def test_acrobot_steps_as_the_whole_of_gymnasiums_environment():
    envs = ControlVectorEnv("acrobot", 50, copy=False)
    envs.reset(seed=7)
    rng = np.random.default_rng(6)
    pairs = twin_steps(
        "Acrobot-v1", envs, 60, lambda n: rng.integers(0, 3, n), lambda s, _: s.copy()
    )
    for ours, theirs in pairs:
        assert_close(ours[0], theirs[0], "acrobot")
        np.testing.assert_allclose(ours[1], theirs[1], rtol=2e-7, atol=1e-7)
        assert ours[2:] == (theirs[2], theirs[3])


@pytest.mark.parametrize("task", ["cartpole", "mountain_car", "acrobot", "pendulum"])
def test_states_of_no_physical_meaning_neither_trap_nor_hang(task):
    envs = ControlVectorEnv(task, 9, copy=False)
    envs.reset(seed=0)
    state = envs.get_state()
    state["state"] *= 10.0 ** np.arange(9)[:, None] ** 2.4
    envs.set_state(state)
    space = envs.action_space
    space.seed(0)
    for _ in range(3):
        envs.step(space.sample())


def play(task, isa, count=333, steps=300):
    envs = ControlVectorEnv(task, count, copy=False, isa=isa)
    envs.reset(seed=11)
    rng = np.random.default_rng(12)
    digest = []
    for _ in range(steps):
        if envs.single_action_space.shape:
            bound = envs.single_action_space.high[0]
            actions = rng.uniform(-bound, bound, (count, 1)).astype(np.float32)
        else:
            actions = rng.integers(0, envs.single_action_space.n, count)
        digest.extend(array.tobytes() for array in envs.step(actions)[:4])
    return digest, {key: array.tobytes() for key, array in envs.get_state().items()}


@pytest.mark.parametrize(
    "task", ["cartpole", "mountain_car", "mountain_car_continuous", "acrobot", "pendulum"]
)
def test_every_instruction_set_gives_the_same_bits(task):
    best = play(task, None)
    for isa in _control.ISAS[: _control.BEST_ISA]:
        assert play(task, isa) == best


def test_an_instruction_set_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="instruction set 'sse9'"):
        ControlVectorEnv("cartpole", 1, isa="sse9")


def spin_after(angles, isa):
    """The pendulum's speed after a step from rest: 15 sin(angle) * 0.05."""
    envs = ControlVectorEnv("pendulum", len(angles), max_episode_steps=-1, isa=isa)
    envs.reset(seed=0)
    state = envs.get_state()
    state["state"][:] = np.stack([angles, np.zeros_like(angles)], axis=1)
    envs.set_state(state)
    envs.step(np.zeros((len(angles), 1)))
    return states(envs)[1]


def test_sines_are_libms_in_nearly_every_bit_and_never_off_by_more_than_one():
    rng = np.random.default_rng(0)
    turns = np.arange(-40, 41) * (np.pi / 2)
    angles = np.concatenate(
        [
            rng.uniform(-4, 4, 20000),
            rng.uniform(-1e5, 1e5, 20000),
            np.nextafter(turns, 1e9),
            turns,
            rng.uniform(-1e-9, 1e-9, 100),
            [1e5, -1e5, 1.1e5, 1e9, 1e300, 0.0],
        ]
    )
    exact = np.array([15.0 * math.sin(angle) * 0.05 for angle in angles])
    for isa in _control.ISAS[: _control.BEST_ISA + 1]:
        ours = spin_after(angles, isa)
        assert np.mean(ours == exact) > 0.985
        assert np.all(np.abs(ours - exact) <= 2.5 * np.spacing(np.abs(exact)))

"""What control tasks are given: actions, arguments, states, capsules; bad ones are refused."""

import gymnasium as gym
import numpy as np
import playout
import pytest
from gymnasium.error import ResetNeeded
from playout.envs.control.tasks import ControlBatch, make_task
from playout.envs.farama.control_env import ControlEnv
from playout.envs.farama.control_vector import ControlVectorEnv
from same import assert_same

BAD_ACTIONS = [
    ("cartpole", np.zeros(3, np.int64), ValueError, r"shape \(4,\), got \(3,\)"),
    ("cartpole", np.zeros(5, np.int64), ValueError, r"shape \(4,\), got \(5,\)"),
    ("cartpole", np.zeros((4, 1), np.int64), ValueError, "shape"),
    ("cartpole", 0, ValueError, "shape"),
    ("cartpole", np.zeros(4), TypeError, "whole numbers"),
    ("cartpole", np.zeros(4, bool), TypeError, "whole numbers"),
    ("cartpole", [0, 1, 2, 0], ValueError, "action 2 of environment 2 is out of range.*0..1"),
    ("cartpole", [0, -1, 0, 0], ValueError, "action -1 of environment 1"),
    ("cartpole", np.array([0, 2**63 - 1, 0, 0]), ValueError, "environment 1"),
    ("cartpole", np.array([0, -(2**63), 0, 0]), ValueError, "environment 1"),
    ("cartpole", np.array([0, 2**64 - 1, 0, 0], np.uint64), ValueError, "environment 1"),
    ("cartpole", np.array([0, 0, 0, 7], np.int32), ValueError, "environment 3"),
    ("pendulum", np.zeros(4, np.float32), ValueError, r"shape \(4, 1\)"),
    ("pendulum", np.full((4, 1), np.nan, np.float32), ValueError, "action nan of environment 0"),
    ("pendulum", np.array([[0], [0], [2.5], [0]]), ValueError, r"environment 2.*\[-2, 2\].*clip"),
    ("pendulum", np.array([[0], [0], [0], [-np.inf]]), ValueError, "environment 3"),
    ("pendulum", np.zeros((4, 1), np.int64), TypeError, "float32 or float64"),
    ("mountain_car_continuous", np.full((4, 1), 1.01, np.float32), ValueError, r"\[-1, 1\]"),
]


@pytest.mark.parametrize(("name", "actions", "error", "message"), BAD_ACTIONS)
def test_bad_actions_are_refused_before_anything_changes(name, actions, error, message):
    envs = ControlVectorEnv(name, 4)
    envs.reset(seed=0)
    before = envs.get_state()
    with pytest.raises(error, match=message) as caught:
        envs.step(actions)
    assert "\n" not in str(caught.value)
    assert_same(envs.get_state(), before)


def test_integer_actions_of_every_width_and_layout_mean_the_same():
    results = []
    for dtype in (np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64, ">i4"):
        envs = ControlVectorEnv("acrobot", 6)
        envs.reset(seed=0)
        results.append(envs.step(np.array([0, 1, 2, 2, 1, 0], dtype))[0])
        strided = np.zeros(12, dtype)
        strided[::2] = [0, 1, 2, 2, 1, 0]
        envs.reset(seed=0)
        results.append(envs.step(strided[::2])[0])
    assert all(np.array_equal(result, results[0]) for result in results)


def test_stepping_out_of_order_is_refused():
    envs = ControlVectorEnv("cartpole", 2, autoreset_mode="Disabled")
    with pytest.raises(ResetNeeded, match="reset"):
        envs.step(np.zeros(2, np.int64))
    envs.reset(seed=0)
    while not envs.step(np.zeros(2, np.int64))[2].any():
        pass
    with pytest.raises(ResetNeeded, match=r"episode of environment \d is over"):
        while True:
            envs.step(np.zeros(2, np.int64))
    single = gym.make("playout/CartPole-v1").unwrapped
    single.reset(seed=0)
    while not single.step(0)[2]:
        pass
    with pytest.raises(ResetNeeded, match="call reset"):
        single.step(0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"task": "cartpol"}, ValueError, "no control task 'cartpol'"),
        ({"num_envs": 0}, ValueError, "num_envs"),
        ({"num_envs": 2.0}, TypeError, "num_envs"),
        ({"max_episode_steps": 0}, ValueError, "max_episode_steps"),
        ({"max_episode_steps": 2.7}, TypeError, "max_episode_steps must be a whole number"),
        ({"render_mode": "human"}, ValueError, "render_mode"),
        ({"autoreset_mode": "never"}, ValueError, "autoreset_mode"),
        ({"dtype": np.int32}, ValueError, "dtype"),
        ({"gravity": 9.8}, TypeError, "no parameter 'gravity'"),
        ({"sutton_barto_reward": "x"}, ValueError, "must be a number"),
        ({"task": "signal_maze", "min_length": 9}, ValueError, "min_length"),
        ({"task": "signal_maze", "dtype": np.float64}, ValueError, "float32"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        ControlVectorEnv(**{"task": "cartpole", "num_envs": 2, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 1.5}, TypeError, "seed"),
        ({"seed": [1]}, ValueError, "2, got 1"),
        ({"seed": [1, 2.0]}, TypeError, "seeds must be whole numbers"),
        ({"options": {"low": "x"}}, ValueError, "low must be a number"),
        ({"options": {"low": np.nan}}, ValueError, "low must be finite"),
        ({"options": {"low": 1, "high": 0}}, ValueError, "lower reset bound"),
        ({"options": {"x_init": 1}}, ValueError, "'x_init'; .* has low, high, reset_mask$"),
        ({"options": {"reset_mask": [True, False]}}, TypeError, "numpy array"),
        ({"options": {"reset_mask": np.ones(2)}}, TypeError, "dtype bool"),
        ({"options": {"reset_mask": np.ones(3, bool)}}, ValueError, "shape"),
        ({"options": {"reset_mask": np.zeros(2, bool)}}, ValueError, "at least one True"),
    ],
)
def test_bad_resets_are_refused_before_anything_changes(arguments, error, message):
    envs = ControlVectorEnv("cartpole", 2)
    envs.reset(seed=0)
    before = envs.get_state()
    with pytest.raises(error, match=message):
        envs.reset(**arguments)
    assert_same(envs.get_state(), before)


@pytest.mark.parametrize(
    ("task", "known"),
    [("cartpole", "low, high"), ("pendulum", "x_init, y_init"), ("signal_maze", "none")],
)
def test_a_single_environment_names_the_options_that_it_has(task, known):
    with pytest.raises(ValueError, match=f"'reset_mask'; playout/.* has {known}$"):
        ControlEnv(task).reset(options={"reset_mask": np.ones(1, bool)})


def test_bad_states_are_refused():
    envs = ControlVectorEnv("cartpole", 2)
    envs.reset(seed=0)
    good = envs.get_state()
    for key, value, message in (
        ("state", good["state"][:1], "state must be float64"),
        ("state", good["state"] * np.nan, "finite"),
        ("elapsed", good["elapsed"] - 1, "negative"),
        ("seeds", good["seeds"].astype(np.int64), "seeds must be uint64"),
    ):
        with pytest.raises(ValueError, match=message):
            envs.set_state({**good, key: value})
    with pytest.raises(ValueError, match="the state must have"):
        envs.set_state({"state": good["state"]})
    assert_same(envs.get_state(), good)


def test_a_task_of_ones_own_comes_in_a_capsule():
    capsule = make_task("mountain_car", {}, np.float32)[1]
    own, built_in = ControlVectorEnv(capsule, 3), ControlVectorEnv("mountain_car", 3)
    assert np.array_equal(own.reset(seed=1)[0], built_in.reset(seed=1)[0])
    assert_same(own.step(np.array([0, 1, 2])), built_in.step(np.array([0, 1, 2])))
    assert own.max_episode_steps == 200
    with pytest.raises(TypeError, match="no parameter 'g'"):
        ControlVectorEnv(capsule, 3, g=1.0)
    with pytest.raises(ValueError, match="render_mode"):
        ControlVectorEnv(capsule, 3, render_mode="rgb_array")


def test_a_task_in_a_foreign_capsule_is_examined():
    with pytest.raises(TypeError, match=r"playout\.control\.v1"):
        ControlBatch(object(), 1, max_episode_steps=1, mode="NextStep")
    with pytest.raises(TypeError, match=r"playout\.control\.v1"):
        ControlVectorEnv(playout.game("tic_tac_toe").capsule)

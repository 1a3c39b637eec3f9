"""Control tasks as vector environments: autoreset, streams, saved states, pictures."""

import copy
import tracemalloc
from multiprocessing.reduction import ForkingPickler

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from playout.envs.catalogue import TASKS
from playout.envs.farama.control_vector import ControlVectorEnv
from same import assert_same
from scipy import stats

IDS = [task.gymnasium_id for task in TASKS.values()]
NAMES = list(TASKS)
MODES = list(AutoresetMode)


def draw(envs, rng):
    space = envs.single_action_space
    if space.shape:
        return rng.uniform(space.low[0], space.high[0], (envs.num_envs, 1)).astype(np.float32)
    return rng.integers(0, space.n, envs.num_envs)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("env_id", IDS)
def test_every_id_passes_gymnasiums_check(env_id):
    check_env(gym.make(env_id).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
def test_make_vec_gives_the_native_environment_with_the_right_limit(env_id):
    envs = gym.make_vec(env_id, num_envs=3)
    assert isinstance(envs, ControlVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.spec.max_episode_steps == envs.max_episode_steps
    assert envs.spec.reward_threshold == envs.reward_threshold
    original = gym.registry.get(env_id.removeprefix("playout/"))
    if original is not None:
        assert envs.spec.max_episode_steps == original.max_episode_steps
        assert envs.spec.reward_threshold == original.reward_threshold
        twin = gym.make(original)
        assert envs.single_observation_space == twin.observation_space
        assert envs.single_action_space == twin.action_space


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_rows_equal_gymnasiums_sync_vector_env_in_every_autoreset_mode(name, mode):
    count, limit = 5, 40
    ours = ControlVectorEnv(name, count, autoreset_mode=mode, max_episode_steps=limit)
    single = TASKS[name].gymnasium_id
    theirs = SyncVectorEnv(
        [lambda: gym.make(single, max_episode_steps=limit)] * count, autoreset_mode=mode
    )
    assert_same(ours.reset(seed=7), theirs.reset(seed=7))
    rng = np.random.default_rng(1)
    ended = 0
    for _ in range(130):
        actions = draw(ours, rng)
        step = ours.step(actions)
        assert_same(step, theirs.step(actions))
        over = step[2] | step[3]
        ended += over.sum()
        if mode is AutoresetMode.DISABLED and over.any():
            options = {"reset_mask": over}
            assert_same(ours.reset(options=options), theirs.reset(options=dict(options)))
            assert "reset_mask" in options
    assert ended > count


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_how_the_batch_is_cut(name):
    whole = ControlVectorEnv(name, 300, max_episode_steps=30)
    parts = [(0, 1), (1, 130), (131, 169)]
    cuts = [ControlVectorEnv(name, count, max_episode_steps=30) for _, count in parts]
    first = whole.reset(seed=50)[0]
    for (start, count), cut in zip(parts, cuts, strict=True):
        assert np.array_equal(cut.reset(seed=50 + start)[0], first[start : start + count])
    rng = np.random.default_rng(0)
    for _ in range(70):
        actions = draw(whole, rng)
        results = whole.step(actions)
        for (start, count), cut in zip(parts, cuts, strict=True):
            rows = slice(start, start + count)
            for ours, theirs in zip(cut.step(actions[rows])[:4], results[:4], strict=True):
                assert np.array_equal(ours, theirs[rows])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("name", NAMES)
def test_a_saved_state_continues_to_the_same_bits(name, mode):
    envs = ControlVectorEnv(name, 20, max_episode_steps=25, autoreset_mode=mode)
    envs.reset(seed=3)
    rng = np.random.default_rng(2)
    for _ in range(60):
        envs.step(draw(envs, rng))
    saved, obs = envs.get_state(), envs.observe()
    actions = [draw(envs, rng) for _ in range(60)]
    first = [envs.step(action) for action in actions]
    other = ControlVectorEnv(name, 20, max_episode_steps=25, autoreset_mode=mode)
    assert np.array_equal(other.set_state(saved), obs)
    for action, step in zip(actions, first, strict=True):
        assert_same(other.step(action), step)


def test_seeds_name_streams_and_reset_without_one_goes_on():
    envs = ControlVectorEnv("cartpole", 3)
    first, second = envs.reset(seed=5)[0], envs.reset()[0]
    assert not np.array_equal(first, second)
    assert np.array_equal(envs.reset(seed=5)[0], first)
    assert np.array_equal(envs.reset()[0], second)
    assert np.array_equal(envs.reset(seed=[7, 6, 5])[0], envs.reset(seed=5)[0][::-1])
    envs.reset(seed=5)
    kept = envs.reset(seed=[None, 6, None])[0]
    assert np.array_equal(kept[0], second[0]) and np.array_equal(kept[1], first[1])
    unseeded = [ControlVectorEnv("cartpole", 3).reset()[0] for _ in range(2)]
    assert not np.array_equal(*unseeded)


def test_neighbouring_rows_and_episodes_start_differently():
    envs = ControlVectorEnv("cartpole", 50)
    starts = np.concatenate([envs.reset(seed=0)[0]] + [envs.reset()[0] for _ in range(50)])
    assert len(np.unique(starts[:, 0])) == len(starts)


@pytest.mark.parametrize("env_id", IDS[:5])
def test_new_states_are_distributed_as_gymnasiums(env_id):
    count = 2000
    ours = gym.make_vec(env_id, num_envs=count, dtype=np.float64)
    ours.reset(seed=1)
    states = ours.unwrapped.get_state()["state"]
    twin = gym.make(env_id.removeprefix("playout/")).unwrapped
    twin.reset(seed=2)
    theirs = []
    for _ in range(count):
        twin.reset()
        theirs.append(np.array(twin.state))
    for k in range(states.shape[1]):
        assert stats.ks_2samp(states[:, k], np.array(theirs)[:, k]).pvalue > 1e-3
        # Components are drawn one by one: no correlation between them.
        for j in range(k):
            if np.ptp(states[:, k]) > 0 and np.ptp(states[:, j]) > 0:
                assert abs(np.corrcoef(states[:, k], states[:, j])[0, 1]) < 0.1


def test_reset_bounds_hold_for_one_reset():
    envs = ControlVectorEnv("cartpole", 100, dtype=np.float64)
    obs, _ = envs.reset(seed=0, options={"low": 0.1, "high": 0.2})
    assert obs.min() >= 0.1 and obs.max() <= 0.2
    assert np.abs(envs.reset()[0]).max() <= 0.05
    pendulum = ControlVectorEnv("pendulum", 100)
    pendulum.reset(seed=0, options={"x_init": 0.1, "y_init": 0.2})
    assert np.all(np.abs(pendulum.get_state()["state"]) <= [0.1, 0.2])
    car = ControlVectorEnv("mountain_car", 100, dtype=np.float64)
    obs, _ = car.reset(seed=0, options={"low": 0.1, "high": 0.1})
    assert np.array_equal(obs, np.tile([0.1, 0.0], (100, 1)))


def test_time_limits_are_the_tasks_own_or_the_callers():
    for limit, expected in ((None, 200), (7, 7)):
        envs = ControlVectorEnv("pendulum", 2, max_episode_steps=limit)
        envs.reset(seed=0)
        steps = 1
        while not envs.step(np.zeros((2, 1), np.float32))[3].all():
            steps += 1
        assert steps == expected
    endless = ControlVectorEnv("pendulum", 2, max_episode_steps=-1)
    endless.reset(seed=0)
    assert not any(endless.step(np.zeros((2, 1)))[3].any() for _ in range(1100))


def test_sutton_and_bartos_reward_is_minus_one_at_the_fall_alone():
    envs = gym.make_vec("playout/CartPole-v1", num_envs=4, sutton_barto_reward=True)
    envs.reset(seed=0)
    rewards, falls = [], []
    for _ in range(40):
        _, reward, terminations, _, _ = envs.step(np.ones(4, np.int64))
        rewards.append(reward)
        falls.append(terminations)
    assert np.array_equal(np.array(rewards), -np.array(falls).astype(float))
    assert np.sum(falls) > 4


def test_without_copies_the_same_buffers_come_back():
    envs = ControlVectorEnv("cartpole", 4, copy=False, autoreset_mode="SameStep")
    obs, _ = envs.reset(seed=0)
    step = envs.step(np.zeros(4, np.int64))
    assert step[0] is obs and envs.step(np.zeros(4, np.int64))[1] is step[1]
    while "final_obs" not in (infos := envs.step(np.zeros(4, np.int32))[4]):
        pass
    assert infos["final_obs"] is envs.step(np.zeros(4, np.int32))[4].get(
        "final_obs", infos["final_obs"]
    )
    copying = ControlVectorEnv("cartpole", 4)
    assert copying.reset(seed=0)[0] is not copying.step(np.zeros(4, np.int64))[0]


def test_observations_in_double_precision_hold_the_state():
    envs = ControlVectorEnv("cartpole", 4, dtype=np.float64)
    assert envs.single_observation_space.dtype == np.float64
    assert np.array_equal(envs.reset(seed=0)[0], envs.get_state()["state"])


def test_signal_maze_needs_memory():
    """With the sign remembered every choice is right; at the junction both signs look alike."""
    envs = ControlVectorEnv("signal_maze", 400, autoreset_mode="Disabled")
    obs, _ = envs.reset(seed=0)
    south = obs[:, 2].any(axis=(1, 2))
    assert 0.4 < south.mean() < 0.6
    total, done, views = np.zeros(400), np.zeros(400, bool), {False: set(), True: set()}
    while not done.all():
        junction = obs[:, 0, 2, 3] == 1  # a wall to the east
        for row in np.flatnonzero(junction & ~done):
            if obs[row, 3].sum() == 2:  # both exits in sight
                views[bool(south[row])].add(obs[row].tobytes())
        actions = np.where(junction, np.where(south, 2, 0), 1)
        obs, rewards, terminations, _, _ = envs.step(actions)
        total += rewards * ~done
        done |= terminations
        if terminations.any():
            envs.reset(options={"reset_mask": terminations})
    assert total.min() > 0.9
    assert total.mean() > envs.reward_threshold
    assert views[False] == views[True] and len(views[True]) == 1


@pytest.mark.parametrize("name", NAMES)
def test_pictures_show_the_state(name):
    envs = ControlVectorEnv(name, 2, render_mode="rgb_array")
    envs.reset(seed=0)
    frames = envs.render()
    assert len(frames) == 2
    for frame in frames:
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
        assert len(np.unique(frame.astype(np.int64) @ [65536, 256, 1])) > 5
    for _ in range(20):
        envs.step(envs.action_space.sample() * 0)
    assert not np.array_equal(frames[0], envs.render()[0]) or name == "signal_maze"
    assert ControlVectorEnv(name, 1).render() is None


def test_the_cart_is_drawn_where_it_stands():
    envs = ControlVectorEnv("cartpole", 1, render_mode="rgb_array")
    envs.reset(seed=0)
    state = envs.get_state()
    state["state"][:] = [[1.2, 0, 0, 0]]
    envs.set_state(state)
    (frame,) = envs.render()
    assert frame.shape == (400, 600, 3)
    assert tuple(frame[310, 450]) == (40, 44, 52)  # the cart: 1.2 of 4.8 to the right of the middle
    assert tuple(frame[200, 450]) == (202, 152, 101)  # the upright pole above it
    assert tuple(frame[200, 150]) == (255, 255, 255)


@pytest.mark.parametrize("name", NAMES)
def test_stepping_without_copies_allocates_nothing(name):
    envs = ControlVectorEnv(name, 4096, copy=False)
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = [draw(envs, rng) for _ in range(10)]
    envs.step(actions[0])
    peaks = []
    for _ in range(5):  # the least of several: what other threads allocate is counted as well
        tracemalloc.start()
        for action in actions:
            envs.step(action)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert min(peaks) < 2048  # a tuple and a dict of infos, but no array of 4096


@pytest.mark.parametrize("name", NAMES)
def test_environments_can_be_copied_and_go_on_alike(name):
    rng = np.random.default_rng(0)
    envs = ControlVectorEnv(name, 3, max_episode_steps=4)
    copy.deepcopy(envs).reset(seed=0)
    envs.reset(seed=1, options={"low": 0.0, "high": 0.0} if name == "cartpole" else None)
    envs.step(draw(envs, rng))
    twins = [copy.deepcopy(envs), ForkingPickler.loads(ForkingPickler.dumps(envs))]
    for _ in range(8):
        actions = draw(envs, rng)
        told = envs.step(actions)
        for twin in twins:
            assert_same(twin.step(actions), told)
    env = gym.make(TASKS[name].gymnasium_id).unwrapped
    env.reset(seed=1)
    twin = copy.deepcopy(env)
    action = draw(ControlVectorEnv(name, 1), rng)[0]
    assert_same(env.step(action), twin.step(action))
    assert_same(env.reset(), twin.reset())
    with pytest.raises(ResetNeeded):
        copy.deepcopy(gym.make(TASKS[name].gymnasium_id).unwrapped).step(action)

"""The compiled running statistics against plain loops and NumPy."""

import numpy as np
from playout.agents.vector.running import Moments, discounted_sums, finished_episodes


def rollout(seed=0, shape=(4, 30)):
    rng = np.random.default_rng(seed)
    valid = rng.random(shape) < 0.8
    rewards = np.where(valid, rng.normal(size=shape), 0.0).astype(np.float32)
    return rewards, (rng.random(shape) < 0.15) & valid, valid


def test_moments_are_those_of_everything_seen():
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(300, 3)) * [1, 10, 0.1] + [5, -3, 0]).astype(np.float32)
    moments = Moments(3)
    for part in np.split(data, [1, 50, 51, 200]):
        moments.update(part)
    np.testing.assert_allclose(moments.mean, data.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(moments.var, data.var(0, dtype=np.float64), rtol=1e-5)


def test_normalised_rows_are_shifted_scaled_and_clipped():
    rows = np.random.default_rng(1).normal(3.0, 2.0, (50, 4)).astype(np.float32)
    moments = Moments(4)
    assert np.array_equal(moments.normalize(rows, 10.0), rows)
    moments.update(rows)
    wanted = np.clip((rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-8), -1.5, 1.5)
    np.testing.assert_allclose(moments.normalize(rows, 1.5), wanted, atol=1e-5)


def test_discounted_sums_begin_anew_after_each_episode_and_go_on_in_the_next_rollout():
    rewards, over, valid = rollout()
    carry, sums = np.zeros(4), np.zeros((4, 30))
    for row in range(4):
        total = 0.0
        for t in range(30):
            total = 0.9 * total + rewards[row, t] if valid[row, t] else total
            sums[row, t] = total
            total = 0.0 if over[row, t] else total
    halves = [
        discounted_sums(
            *(np.ascontiguousarray(x[:, part]) for x in (rewards, over, valid)), 0.9, carry
        )
        for part in (slice(0, 15), slice(15, 30))
    ]
    np.testing.assert_allclose(np.concatenate(halves, axis=1), sums, rtol=1e-5)


def test_finished_episodes_have_the_returns_and_lengths_of_a_plain_loop():
    rewards, over, valid = rollout(3)
    running, length, wanted = np.zeros(4), np.zeros(4, np.int64), []
    for t in range(30):
        for row in np.flatnonzero(valid[:, t]):
            running[row] += rewards[row, t]
            length[row] += 1
            if over[row, t]:
                wanted.append((running[row], length[row]))
                running[row] = length[row] = 0
    returns, lengths = np.zeros(4), np.zeros(4, np.int64)
    assert finished_episodes(rewards, over, valid, returns, lengths) == wanted
    assert np.array_equal(returns, running) and np.array_equal(lengths, length)

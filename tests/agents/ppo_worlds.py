"""Tiny environments with known optimal answers, used by the tests of PPO."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Bandit(gym.Env):
    """One step; arm 2 of 4 pays 1, the others less."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(4)
    pays: ClassVar = (0.1, 0.5, 1.0, 0.3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), self.pays[action], True, False, {}


class Chain(gym.Env):
    """Walk right for 6 cells; going left pays a little at once, the far end pays 1. Optimum 1."""

    length = 6
    observation_space = spaces.Discrete(6)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.time = 0, 0
        return self.at, {}

    def step(self, action):
        self.time += 1
        if action == 0:
            return self.at, 0.05, True, False, {}
        self.at += 1
        done = self.at == self.length - 1
        return min(self.at, self.length - 1), float(done), done, self.time >= 20, {}


class Column(gym.Env):
    """A bright third of a picture names the action that pays, four times an episode."""

    observation_space = spaces.Box(0, 255, (12, 12, 1), np.uint8)
    action_space = spaces.Discrete(3)

    def _obs(self):
        self.good = int(self.np_random.integers(3))
        picture = np.zeros((12, 12, 1), np.uint8)
        picture[:, 4 * self.good : 4 * self.good + 4] = 200
        return picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 4
        return self._obs(), {}

    def step(self, action):
        reward, self.left = float(action == self.good), self.left - 1
        return self._obs(), reward, self.left == 0, False, {}


class Recall(gym.Env):
    """A cue is shown once, then four blank steps; the last action must name it. Needs memory."""

    observation_space = spaces.Box(0, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)
    delay = 3

    def _obs(self):
        obs = np.zeros(3, np.float32)
        if self.time == 0:
            obs[self.cue] = 1.0
        obs[2] = self.time == self.delay
        return obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue, self.time = int(self.np_random.integers(2)), 0
        return self._obs(), {}

    def step(self, action):
        last = self.time == self.delay
        self.time += 1
        reward = (1.0 if action == self.cue else -1.0) if last else 0.0
        return self._obs(), reward, last, False, {}


class Masked(gym.Env):
    """20 actions of which one (told by the mask, with two decoys) pays; illegal ones end badly."""

    observation_space = spaces.Dict(
        {"observation": spaces.Box(0, 1, (20,), np.float32), "action_mask": spaces.MultiBinary(20)}
    )
    action_space = spaces.Discrete(20)

    def _obs(self):
        one_hot, mask = np.zeros(20, np.float32), np.zeros(20, np.int8)
        one_hot[self.good] = 1.0
        mask[[self.good, (self.good + 1) % 20, (self.good + 2) % 20]] = 1
        return {"observation": one_hot, "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.good, self.time = int(self.np_random.integers(20)), 0
        return self._obs(), {}

    def step(self, action):
        if not self._obs()["action_mask"][action]:
            raise AssertionError("an illegal action was taken")
        reward = float(action == self.good)
        self.good = int(self.np_random.integers(20))
        self.time += 1
        return self._obs(), reward, self.time >= 8, False, {}


class Target(gym.Env):
    """One step; the reward is minus the squared distance to 0.3 in both coordinates. Optimum 0."""

    observation_space = spaces.Box(-1, 1, (2,), np.float64)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2), {}

    def step(self, action):
        return np.zeros(2), -float(np.square(np.asarray(action) - 0.3).sum()), True, False, {}


class Counter(gym.Env):
    """Everything it says follows from its seed and actions; used to check bookkeeping.

    The observation is (episode's number from the seed, time); the episode ends after `length` steps
    by truncation or termination.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, length=5, truncate=False, fault=None, at=3):
        self.length, self.truncate, self.fault, self.at = length, truncate, fault, at
        self.total = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.name, self.time = float(self.np_random.random()), 0
        return self._obs(), {}

    def _obs(self) -> Any:
        return np.array([self.name, self.time], np.float32)

    def step(self, action):
        self.time += 1
        self.total += 1
        obs, reward = self._obs(), float(action)
        if self.fault is not None and self.total == self.at:
            if self.fault == "raise":
                raise RuntimeError("the motor is on fire")
            if self.fault == "die":
                import os

                os._exit(3)
            if self.fault == "obs_nan":
                obs[1] = np.nan
            if self.fault == "obs_shape":
                obs = np.zeros(3, np.float32)
            if self.fault == "reward_nan":
                reward = float("nan")
            if self.fault == "reward_text":
                reward = "much"
        over = self.time >= self.length
        return obs, reward, over and not self.truncate, over and self.truncate, {}


class Hand(gym.Env):
    """One step with a Dict of actions: choose finger 2 and grip at 0.5. Optimum 1; fingers masked.

    The mask is part of a Dict observation, and an illegal finger raises.
    """

    observation_space = spaces.Dict(
        {
            "sight": spaces.Box(-1, 1, (2,), np.float32),
            "touch": spaces.Discrete(2),
            "action_mask": spaces.MultiBinary(3),
        }
    )
    action_space = spaces.Dict(
        {"finger": spaces.Discrete(3), "grip": spaces.Box(-1, 1, (1,), np.float32)}
    )

    def _obs(self):
        mask = np.array([self.at % 2, (self.at + 1) % 2, 1], np.int8)
        return {"sight": np.full(2, 0.5, np.float32), "touch": self.at % 2, "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(2))
        return self._obs(), {}

    def step(self, action):
        if not self._obs()["action_mask"][action["finger"]]:
            raise ValueError(f"illegal finger {action['finger']}")
        miss = abs(float(action["grip"][0]) - 0.5)
        self.at += 1
        return self._obs(), (action["finger"] == 2) - min(miss, 1.0), self.at >= 3, False, {}

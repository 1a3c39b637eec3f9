"""Your own Gymnasium environment and your own network, learned by PPO.

    playout ppo own_environment:Lander1D-v0 --run runs/lander     (from this folder)
    playout eval runs/lander --trust own_environment
    playout play runs/lander --out lander.gif --trust own_environment
    python own_environment.py                                     from Python, with a network

The task: a probe falls to the ground and must touch it slowly. The action is thrust or none.
"""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import playout
import torch
from gymnasium import spaces
from torch import nn


class Lander1D(gym.Env):
    """Height and speed are seen; a soft landing pays 1, a crash or getting lost -1."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        """Somewhere up in the air, falling."""
        super().reset(seed=seed)  # all randomness from self.np_random makes runs resumable
        self.height, self.speed = self.np_random.uniform(3.0, 6.0), 0.0
        return self._observation(), {}

    def _observation(self):
        return np.array([self.height, self.speed], np.float32)

    def step(self, action):
        """A tenth of a second."""
        self.speed += (1.0 if action == 1 else -1.0) * 0.1
        self.height += self.speed * 0.1
        landed, lost = self.height <= 0.0, self.height > 10.0
        reward = -0.002 * action
        if landed or lost:
            reward += 1.0 if landed and self.speed > -1.0 else -1.0
        return self._observation(), reward, landed or lost, False, {}

    def render(self):
        """The probe above the ground: what `playout play RUN --out FILE.gif` shows."""
        picture = np.full((110, 60, 3), 255, np.uint8)
        picture[105:] = (120, 160, 110)
        top = 100 - int(10 * min(max(self.height, 0.0), 10.0))
        picture[top : top + 5, 27:33] = (222, 68, 62)
        return picture


# The id under which `playout ppo` finds it; a reward threshold lets a run stop by itself.
gym.register("Lander1D-v0", entry_point=Lander1D, max_episode_steps=200, reward_threshold=0.75)


class Squares(nn.Module):
    """An encoder of one's own: any module with `num_features`, built from the observation space."""

    def __init__(self, space: spaces.Box):
        super().__init__()
        self.num_features = 2 * space.shape[0]

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Every number and its square, a tenth of each."""
        return torch.cat([obs, obs * obs.abs()], dim=-1) * 0.1


def main(folder: str) -> float:
    """Train with the network above, then let the run act; returns the return of one episode."""
    run = playout.ppo(
        "Lander1D-v0",
        run=Path(folder),
        total_timesteps=60_000,
        num_envs=16,
        num_steps=128,
        learning_rate=3e-3,
        network="own_environment:Squares",
        hidden=(32,),
        quiet=True,
    )
    player = playout.load(run.path)
    env = gym.make("Lander1D-v0")
    observation, _ = env.reset(seed=1)
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(int(player.act(observation)))
        total, over = total + reward, terminated or truncated
    return total


if __name__ == "__main__":
    print(
        "return of one episode:",
        main(sys.argv[1] if len(sys.argv) > 1 else "runs/lander_from_python"),
    )

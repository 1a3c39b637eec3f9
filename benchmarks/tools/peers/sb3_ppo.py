"""stable-baselines3 and sb3-contrib as the PPO benchmark runs them; all of it optional.

Leaves out what is measured and how it is compared (benchmarks/ppo.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import playout
from playout.benchmarks.tools.measuring import peer

# The tuned parameters of rl-zoo3 for CartPole-v1.
TUNED = {
    "n_steps": 32,
    "batch_size": 256,
    "gae_lambda": 0.8,
    "gamma": 0.98,
    "n_epochs": 20,
    "ent_coef": 0.0,
}


class _Masked(gym.Wrapper):  # type: ignore[type-arg]
    """A pole that may not be pushed further where it leans far already: masks that say something.

    The wrapper draws no action of its own; an illegal one is taken as it is.
    """

    lean = 0.0

    def reset(self, **options: Any) -> Any:
        obs, info = super().reset(**options)
        self.lean = float(obs[2])
        return obs, info

    def step(self, action: Any) -> Any:
        found = super().step(action)
        self.lean = float(found[0][2])
        return found

    def action_masks(self) -> Any:
        return np.array([self.lean < 0.1, self.lean > -0.1])


def masked_cartpole() -> gym.Env[Any, Any]:
    """Gymnasium's CartPole with masks."""
    return _Masked(gym.make("CartPole-v1"))


def learner(algorithm: str, options: dict[str, Any]) -> Callable[[], float] | None:
    """One rollout and update of a peer on CartPole-v1, counted in steps; None if absent."""
    sb3 = peer("stable_baselines3", "stable-baselines3")
    if sb3 is None:
        return None
    from stable_baselines3.common.env_util import make_vec_env

    module = sb3 if algorithm == "PPO" else peer("sb3_contrib", "sb3-contrib")
    if module is None:
        return None
    source: Any = masked_cartpole if algorithm == "MaskablePPO" else "CartPole-v1"
    envs = make_vec_env(source, n_envs=options["num_envs"])
    policy = "MlpLstmPolicy" if algorithm == "RecurrentPPO" else "MlpPolicy"
    model = getattr(module, algorithm)(
        policy,
        envs,
        n_steps=options["num_steps"],
        batch_size=options["minibatch_size"],
        n_epochs=options["num_epochs"],
        learning_rate=options["learning_rate"],
        device="cpu",
        seed=0,
    )
    steps = options["num_envs"] * options["num_steps"]

    def run() -> float:
        model.learn(steps, reset_num_timesteps=False)
        return steps

    return run


def tuned_to_475(seed: int) -> dict[str, float] | None:
    """Seconds of training, without evaluations, until 20 deterministic episodes average 475."""
    sb3 = peer("stable_baselines3", "stable-baselines3")
    if sb3 is None:
        return None
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    class Watch(BaseCallback):  # type: ignore[misc]
        aside = 0.0
        solved = False
        checked = 0

        def _on_step(self) -> bool:
            if self.num_timesteps - self.checked < 4096:
                return True
            self.checked = self.num_timesteps
            begun = time.perf_counter()
            judges = make_vec_env("CartPole-v1", n_envs=20, seed=seed + 1000)
            mean, _ = evaluate_policy(self.model, judges, n_eval_episodes=20)
            self.aside += time.perf_counter() - begun
            self.solved = mean >= 475.0
            return not self.solved

    envs = make_vec_env("CartPole-v1", n_envs=8, seed=seed)
    model = sb3.PPO(
        "MlpPolicy",
        envs,
        learning_rate=lambda left: 1e-3 * left,
        clip_range=lambda left: 0.2 * left,
        device="cpu",
        seed=seed,
        **TUNED,
    )
    watch = Watch()
    begun = time.perf_counter()
    model.learn(100_000, callback=watch)
    return {
        "seconds": time.perf_counter() - begun - watch.aside,
        "steps": float(model.num_timesteps),
        "solved": float(watch.solved),
    }


def score_run(run: Path, seed: int) -> float:
    """Mean of 100 episodes of a run's player in Gymnasium's own CartPole."""
    player = playout.load(run)
    envs = gym.make_vec("CartPole-v1", num_envs=100, vectorization_mode="vector_entry_point")
    obs, _ = envs.reset(seed=seed + 5000)
    total, running = np.zeros(100), np.ones(100, np.bool_)
    while running.any():
        obs, rewards, terminated, truncated, _ = envs.step(player.act(obs))
        total += np.where(running, rewards, 0.0)
        running &= ~(terminated | truncated)
    envs.close()
    return float(total.mean())

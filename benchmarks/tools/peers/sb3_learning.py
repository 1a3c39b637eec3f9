"""stable-baselines3 learning a control task with the tuned settings that rl-zoo3 publishes.

Settings, not code: numbers of environments and steps, rates, networks. `learn` trains with one seed
over a fixed number of steps and says what 100 episodes of the deterministic policy return.
"""

from __future__ import annotations

from typing import Any

from playout.benchmarks.tools.measuring import peer

EPISODES = 100
_DEEP = {"log_std_init": -2.0, "ortho_init": False, "net_arch": [256, 256]}

# Settings of PPO; num_envs, normalize, schedules (names of what falls to 0) and relu are read here.
TUNED: dict[str, dict[str, Any]] = {
    "CartPole-v1": {
        "num_envs": 8,
        "falling": ("learning_rate", "clip_range"),
        "n_steps": 32,
        "batch_size": 256,
        "gae_lambda": 0.8,
        "gamma": 0.98,
        "n_epochs": 20,
        "ent_coef": 0.0,
        "learning_rate": 1e-3,
        "clip_range": 0.2,
    },
    "MountainCar-v0": {
        "num_envs": 16,
        "normalize": True,
        "n_steps": 16,
        "gae_lambda": 0.98,
        "gamma": 0.99,
        "n_epochs": 4,
        "ent_coef": 0.0,
    },
    "MountainCarContinuous-v0": {
        "num_envs": 1,
        "normalize": True,
        "n_steps": 8,
        "batch_size": 256,
        "gae_lambda": 0.9,
        "gamma": 0.9999,
        "n_epochs": 10,
        "ent_coef": 0.00429,
        "learning_rate": 7.77e-5,
        "clip_range": 0.1,
        "max_grad_norm": 5.0,
        "vf_coef": 0.19,
        "use_sde": True,
        "policy_kwargs": {"log_std_init": -3.29, "ortho_init": False},
    },
    "Acrobot-v1": {
        "num_envs": 16,
        "normalize": True,
        "n_steps": 256,
        "gae_lambda": 0.94,
        "gamma": 0.99,
        "n_epochs": 4,
        "ent_coef": 0.0,
    },
    "Pendulum-v1": {
        "num_envs": 4,
        "n_steps": 1024,
        "gae_lambda": 0.95,
        "gamma": 0.9,
        "n_epochs": 10,
        "ent_coef": 0.0,
        "learning_rate": 1e-3,
        "clip_range": 0.2,
        "use_sde": True,
        "sde_sample_freq": 4,
    },
    "LunarLander-v3": {
        "num_envs": 16,
        "n_steps": 1024,
        "batch_size": 64,
        "gae_lambda": 0.98,
        "gamma": 0.999,
        "n_epochs": 4,
        "ent_coef": 0.01,
    },
    "Hopper-v5": {
        "num_envs": 1,
        "normalize": True,
        "relu": True,
        "n_steps": 512,
        "batch_size": 32,
        "gae_lambda": 0.99,
        "gamma": 0.999,
        "n_epochs": 5,
        "ent_coef": 0.00229519,
        "learning_rate": 9.80828e-5,
        "clip_range": 0.2,
        "max_grad_norm": 0.7,
        "vf_coef": 0.835671,
        "policy_kwargs": _DEEP,
    },
    "HalfCheetah-v5": {
        "num_envs": 1,
        "normalize": True,
        "relu": True,
        "n_steps": 512,
        "batch_size": 64,
        "gae_lambda": 0.92,
        "gamma": 0.98,
        "n_epochs": 20,
        "ent_coef": 0.000401762,
        "learning_rate": 2.0633e-5,
        "clip_range": 0.1,
        "max_grad_norm": 0.8,
        "vf_coef": 0.58096,
        "policy_kwargs": _DEEP,
    },
}


def learn(env: str, seed: int, total: int) -> dict[str, Any] | None:
    """One run: {"seed", "final" (mean of 100 episodes), "std"}; None without the library."""
    sb3 = peer("stable_baselines3", "stable-baselines3")
    if sb3 is None:
        return None
    import torch
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)
    options = dict(TUNED[env])
    count, normalize = options.pop("num_envs"), options.pop("normalize", False)
    for name in options.pop("falling", ()):
        options[name] = lambda left, first=options[name]: first * left
    if options.pop("relu", False):
        kwargs = {**options["policy_kwargs"], "activation_fn": torch.nn.ReLU}
        options["policy_kwargs"] = kwargs
    envs = make_vec_env(env, n_envs=count, seed=seed)
    judges = make_vec_env(env, n_envs=10, seed=seed + 1000)
    if normalize:
        envs = VecNormalize(envs, gamma=options["gamma"])
        judges = VecNormalize(judges, training=False, norm_reward=False)
    model = sb3.PPO("MlpPolicy", envs, seed=seed, device="cpu", **options)
    model.learn(total)
    if normalize:
        judges.obs_rms = envs.obs_rms
    returns, _ = evaluate_policy(model, judges, EPISODES, return_episode_rewards=True)
    mean = sum(returns) / len(returns)
    spread = (sum((one - mean) ** 2 for one in returns) / (len(returns) - 1)) ** 0.5
    return {"seed": seed, "final": float(mean), "std": float(spread)}

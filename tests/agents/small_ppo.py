"""Small trainers of PPO, their weights, and a minibatch that says what a policy just did."""

import torch
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.policy import Minibatch
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.ppo.trainer import PPOTrainer
from playout.agents.vector.factory import make_environments


def make(
    source="CartPole-v1", *, seed=0, total=100_000, network=None, ppo=None, stop=True, **collect
):
    options = {"num_envs": 8, "num_steps": 32, "eval_episodes": 10, **collect}
    config = CollectConfig(**options)
    return PPOTrainer(
        make_environments(source, config.num_envs, processes=0),
        lambda: make_environments(source, 5, processes=0),
        total_timesteps=total,
        seed=seed,
        ppo=PPOConfig(**{"learning_rate": 1e-3, "minibatch_size": 64, **(ppo or {})}),
        network=NetworkConfig(**{"hidden": (16,), **(network or {})}),
        collect=config,
        stop=stop,
    )


def flat(trainer):
    return torch.cat([p.detach().reshape(-1) for p in trainer.policy.parameters()])


def minibatch(obs, step, mask=None):
    zeros = torch.zeros(step.logprob.shape)
    return Minibatch(
        obs=obs,
        actions=step.action,
        logprobs=step.logprob,
        values=step.value,
        advantages=zeros,
        returns=zeros,
        valid=zeros == 0,
        action_mask=mask,
    )

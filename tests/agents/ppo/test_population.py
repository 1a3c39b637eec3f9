"""A population: its members are the runs of their seeds."""

import torch
from playout.agents.networks.config import NetworkConfig
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.ppo.population import Population
from playout.agents.ppo.trainer import PPOTrainer
from playout.agents.vector.factory import make_environments


def make(source="CartPole-v1", *, seed=0, total=100_000, network=None, stop=True, **collect):
    options = {"num_envs": 8, "num_steps": 32, "eval_episodes": 10, **collect}
    config = CollectConfig(**options)
    return PPOTrainer(
        make_environments(source, config.num_envs, processes=0),
        lambda: make_environments(source, 5, processes=0),
        total_timesteps=total,
        seed=seed,
        ppo=PPOConfig(learning_rate=1e-3, minibatch_size=64),
        network=NetworkConfig(**{"hidden": (16,), **(network or {})}),
        collect=config,
        stop=stop,
    )


def flat(trainer):
    return torch.cat([p.detach().reshape(-1) for p in trainer.policy.parameters()])


def test_members_of_a_population_are_the_runs_of_their_seeds():
    group = Population([make(seed=s, total=1500) for s in (0, 1)])
    while not group.finished:
        group.update()
        group.evaluate()
    for seed, member in enumerate(group.members):
        alone = make(seed=seed, total=1500)
        while not alone.finished:
            alone.update()
        assert torch.equal(flat(member), flat(alone))
    state = group.state_dict()
    best = group.members[group.best].policy.state_dict()
    assert all(torch.equal(state["model"][k], v) for k, v in best.items())
    again = Population([make(seed=s, total=1500) for s in (0, 1)])
    again.load_state_dict(state)
    assert again.finished and again.progress == group.progress
    assert "seed 1" in group.summary()

"""A population: its members are the runs of their seeds."""

import torch
from playout.agents.ppo.population import Population
from small_ppo import flat, make


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

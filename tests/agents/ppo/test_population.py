"""A population: its members are the runs of their seeds."""

import numpy as np
import playout
import pytest
import torch
from gymnasium import spaces
from playout.agents.ppo.population import Population, bound_advice
from playout.agents.ppo.trainer import PPOTrainer
from playout.errors import ConfigError
from ppo_worlds import Bandit, Target
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


class Scored:
    """A member that scores what it is told, at the updates it is told."""

    solved, seed = False, 0

    def __init__(self, scores, total):
        self.scores, self.total, self.updates = scores, total, 0

    @property
    def finished(self):
        return self.updates >= self.total

    def update(self):
        self.updates += 1
        return {}

    def evaluate(self):
        score = self.scores.get(self.updates)
        return {} if score is None else {"eval/mean_reward": score}

    def state_dict(self):
        return {"model": (self, self.updates), "normalizer": None, "spaces": None}


def test_a_population_is_measured_by_members_as_they_are_now():
    first, second = Scored({2: 480.0, 5: 90.0}, 5), Scored({3: 100.0, 4: 200.0, 6: 70.0}, 6)
    group, found = Population([first, second]), {}
    while not group.finished:
        group.update()
        if metrics := group.evaluate():
            found[group.members[1].updates] = (
                metrics["eval/mean_reward"],
                *group.state_dict()["model"],
            )
    assert found == {
        2: (480.0, first, 2),
        3: (100.0, second, 3),  # not the first, whose 480 was before its third update
        4: (200.0, second, 4),
        5: (90.0, first, 5),
        6: (90.0, first, 5),  # it has not changed since
    }


def test_a_population_takes_no_policy_and_no_foreign_environment(tmp_path, monkeypatch):
    more = {"population": 2, "run": tmp_path / "r", "num_envs": 4, "num_steps": 16, "quiet": True}
    with pytest.raises(ConfigError, match="leave out policy"):
        playout.ppo("CartPole-v1", policy=torch.nn.Linear(4, 2), **more)
    closed, close = [], PPOTrainer.close
    monkeypatch.setattr(PPOTrainer, "close", lambda self: (closed.append(1), close(self)))
    with pytest.raises(ConfigError, match="native environment"):
        playout.ppo(Bandit, processes=0, **more)
    assert closed == [1] and not (tmp_path / "r").exists()


class Far(Target):
    """Actions that leave out 0."""

    action_space = spaces.Box(2, 5, (2,), np.float32)


@pytest.mark.parametrize(
    ("options", "advised"),
    [({}, True), ({"squash": True}, False), ({"wrappers": ["rescale_action"]}, False)],
)
def test_actions_that_leave_out_0_are_told_of_at_the_start(tmp_path, capsys, options, advised):
    few = {
        "total_timesteps": 8,
        "num_steps": 4,
        "num_envs": 2,
        "minibatch_size": 8,
        "num_epochs": 1,
    }
    run = playout.ppo(Far, run=tmp_path / "run", processes=0, eval_episodes=1, **few, **options)
    told = "actions go from 2 to 5 and a new policy begins around 0, at their bound: --squash or "
    assert (f"\n{told}--wrappers rescale_action begins in" in capsys.readouterr().out) == advised
    if advised:
        playout.ppo(Far, resume=run.path, total_timesteps=16)
        assert told not in capsys.readouterr().out


def test_of_which_actions_a_new_policy_can_play_only_the_bounds():
    for low, high in ((0, 1), (-2, 0), (2, np.inf), (-np.inf, np.inf)):
        assert bound_advice(spaces.Box(low, high, (1,), np.float32)) == ""
    assert bound_advice(spaces.Discrete(3, start=2)) == ""
    below = spaces.Box(np.float32([-1, -5]), np.float32([1, -2]))
    assert bound_advice(below, wrapped=False).endswith("bound: --squash begins in their middle")
    assert "from -5 to -2" in bound_advice(spaces.Dict(a=spaces.Discrete(2), b=below))

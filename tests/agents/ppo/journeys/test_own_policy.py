"""A policy of one's own: no run keeps it, so it is given again to load, measure and resume."""

import playout
import pytest
import torch
from playout import cli
from playout.agents.networks.policy import PolicyStep
from playout.agents.runs.directory import RunDir
from playout.errors import CheckpointError, ConfigError, RunError
from torch import nn

SMALL = {"num_envs": 4, "num_steps": 16, "minibatch_size": 32, "eval_episodes": 4, "quiet": True}


class Own(nn.Module):
    """Two linear layers with the methods of a policy."""

    def __init__(self, width=4):
        super().__init__()
        self.logits, self.worth = nn.Linear(width, 2), nn.Linear(width, 1)

    def initial_state(self, num_envs):
        return None

    @torch.no_grad()
    def step(self, obs, state=None, mask=None, *, generator=None, deterministic=False):
        logs = torch.log_softmax(self.logits(obs), -1)
        chosen = torch.multinomial(logs.exp(), 1, generator=generator)[:, 0]
        action = logs.argmax(-1) if deterministic else chosen
        logprob = logs.gather(1, action[:, None])[:, 0]
        return PolicyStep(action, logprob, self.worth(obs)[:, 0], None)

    @torch.no_grad()
    def value(self, obs, state=None):
        return self.worth(obs)[:, 0]

    def evaluate(self, batch):
        logs = torch.log_softmax(self.logits(batch.obs), -1)
        logprob = logs.gather(1, batch.actions[:, None])[:, 0]
        return logprob, -(logs * logs.exp()).sum(-1), self.worth(batch.obs)[:, 0]

    def to_env(self, action):
        return action.numpy()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "run"
    return playout.ppo("CartPole-v1", policy=Own(), run=path, total_timesteps=128, **SMALL)


def test_a_policy_of_ones_own_is_given_again_to_be_used(run):
    assert run.config["own_policy"] is True
    policy = Own()
    player = playout.load(run, policy=policy)
    kept = run.load("best")[1]["model"]
    assert all(torch.equal(kept[name], part) for name, part in policy.state_dict().items())
    assert player.act(torch.zeros(3, 4).numpy()).shape == (3,)
    assert playout.evaluate(run, episodes=2, policy=Own())["episodes"] == 2
    playout.resume(run, policy=Own(), total_timesteps=192, quiet=True)
    assert RunDir.open(run.path).config["total_timesteps"] == 192
    with pytest.raises(CheckpointError, match="does not fit its run"):
        playout.load(run, policy=Own(5))


def test_a_policy_of_ones_own_that_is_missing_is_asked_for_in_one_line(run, capsys):
    for use in (playout.load, playout.evaluate, playout.resume):
        with pytest.raises(RunError, match=r"give it again in Python, as policy= of playout\.load"):
            use(run)
    for words in (["eval", str(run.path)], ["ppo", "--resume", str(run.path)]):
        assert cli.main(words) == 2
        error = capsys.readouterr().err
        assert "a policy of your own" in error and error.count("\n") == 1


def test_other_kinds_of_runs_take_no_policy(tmp_path):
    run = RunDir.create(tmp_path / "run", kind="alphazero", config={}, seed=0)
    for use in (playout.load, playout.evaluate):
        with pytest.raises(ConfigError, match="policy= is for runs of ppo"):
            use(run, policy=Own())

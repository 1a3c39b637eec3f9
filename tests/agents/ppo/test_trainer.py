"""The trainer: same seed same bytes, resume, thresholds, evaluation apart from training."""

import numpy as np
import pytest
import torch
from playout.agents.ppo.evaluation import evaluate_policy
from playout.errors import CheckpointError, EnvironmentFault
from ppo_worlds import Bandit, Column, Counter, Recall
from small_ppo import flat, make

CASES = {
    "compiled": {},
    "torch": {"network": {"activation": "silu"}},
    "normalised": {"normalize_obs": True, "normalize_rewards": True},
    "recurrent": {"source": Recall, "network": {"recurrent": "lstm", "recurrent_size": 8}},
    "sequences": {
        "source": Recall,
        "network": {"recurrent": "gru", "recurrent_size": 8},
        "sequence_length": 8,
    },
    "continuous": {"source": "Pendulum-v1"},
    "compiled by sgd": {"ppo": {"optimizer": "sgd", "learning_rate": 0.1}},
    "recurrent by momentum": {
        "source": Recall,
        "network": {"recurrent": "lstm", "recurrent_size": 8},
        "ppo": {"optimizer": "momentum"},
    },
    "pictures by muon": {
        "source": Column,
        "network": {"network": "stack(depth=2,width=8)"},
        "ppo": {"optimizer": "muon", "trunk_rate": 0.5},
    },
    "continuous by adamw": {"source": "Pendulum-v1", "ppo": {"optimizer": "adamw"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_resumed_trainer_equals_one_that_never_stopped(case):
    whole, stopped = make(**CASES[case]), make(**CASES[case])
    for _ in range(2):
        whole.update()
        stopped.update()
    resumed = make(**CASES[case])
    resumed.load_state_dict(stopped.state_dict())
    for _ in range(2):
        a, b = whole.update(), resumed.update()
        assert a == b
        whole.evaluate()
    assert torch.equal(flat(whole), flat(resumed))
    assert whole.progress == resumed.progress and whole.updates == resumed.updates == 4


@pytest.mark.parametrize("case", ["compiled", "torch", "recurrent"])
def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(case):
    found = []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        trainer = make(**CASES[case])
        for _ in range(2):
            trainer.update()
        found.append(flat(trainer))
    torch.set_num_threads(1)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert not torch.equal(found[0], flat(make(**CASES[case], seed=1)))


def test_metrics_carry_the_names_that_others_use():
    trainer = make()
    for _ in range(3):
        metrics = trainer.update()
    wanted = {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "time/total_timesteps",
        "time/iterations",
        "train/approx_kl",
        "train/clip_fraction",
        "train/clip_range",
        "train/entropy_loss",
        "train/explained_variance",
        "train/learning_rate",
        "train/loss",
        "train/n_updates",
        "train/policy_gradient_loss",
        "train/value_loss",
    }
    assert wanted <= set(metrics)
    assert metrics["time/total_timesteps"] == trainer.steps <= 3 * 8 * 32


def test_the_run_ends_when_fresh_episodes_confirm_the_threshold():
    trainer = make(Bandit, reward_threshold=0.9)
    while not trainer.finished:
        trainer.update()
        found = trainer.evaluate()
    assert trainer.solved and trainer.steps < 20_000
    assert found["eval/confirmed_reward"] >= 0.9
    assert "solved" in trainer.summary()


def test_without_stop_the_whole_budget_is_spent():
    trainer = make(Bandit, reward_threshold=0.1, total=2000, stop=False)
    while not trainer.finished:
        trainer.update()
        trainer.evaluate()
    assert trainer.steps >= 2000


def test_evaluation_changes_nothing_in_training():
    plain, watched = make(), make(eval_every=1)
    for _ in range(3):
        plain.update()
        watched.update()
        assert "eval/mean_reward" in watched.evaluate()
    assert torch.equal(flat(plain), flat(watched))


def test_steps_of_resets_bring_no_evaluation_forward():
    # Half of a rollout of Bandit are resets: 4 rounds of 8 rows are 128 steps, as 1 of 20 is.
    trainer = make(Bandit, num_steps=8, total=2560, stop=False)
    found = []
    for _ in range(8):
        trainer.update()
        found.append((trainer.steps, bool(trainer.evaluate())))
    assert found[0][0] < 64
    assert [due for _, due in found] == [
        now // 128 != before // 128
        for (now, _), (before, _) in zip(found, [(0, False), *found], strict=False)
    ]
    assert sum(due for _, due in found) == 2


def test_every_environment_plays_the_same_number_of_evaluation_episodes():
    class Uneven(Counter):
        made = 0

        def __init__(self):
            Uneven.made += 1
            super().__init__(length=2 if Uneven.made % 2 else 20)

    trainer = make(Uneven, num_envs=4, total=1000)
    found = trainer._evaluate("eval")
    assert len(found.lengths) == 10
    assert sorted(set(found.lengths.tolist())) == [2, 20]
    assert abs((found.lengths == 2).sum() - (found.lengths == 20).sum()) <= 2


def test_an_endless_episode_is_named():
    trainer = make(lambda: Counter(length=10**9), total=1000)
    envs = trainer.make_eval_envs()
    with pytest.raises(EnvironmentFault, match="still running after 50 steps"):
        evaluate_policy(trainer.policy, envs, episodes=5, seed=0, max_steps=50)


def test_a_checkpoint_of_another_network_is_refused():
    state = make().state_dict()
    with pytest.raises(CheckpointError, match="another network"):
        make(network={"hidden": (8,)}).load_state_dict(state)


def test_the_state_of_another_optimiser_is_refused_by_ppo():
    state = make().state_dict()
    with pytest.raises(CheckpointError, match="other optimisers"):
        make(ppo={"optimizer": "momentum"}).load_state_dict(state)
    state = make(ppo={"optimizer": "momentum"}).state_dict()
    with pytest.raises(CheckpointError, match="another optimiser than adam"):
        make().load_state_dict(state)


def test_returns_of_the_last_hundred_episodes_survive_a_resume():
    trainer = make()
    for _ in range(4):
        trainer.update()
    other = make()
    other.load_state_dict(trainer.state_dict())
    assert list(other.recent) == list(trainer.recent) and len(trainer.recent) > 10
    assert np.isfinite(trainer.first_return)

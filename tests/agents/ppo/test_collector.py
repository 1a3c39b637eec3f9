"""Collection: what stands in a rollout, step by step, for every way that episodes can end."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.ppo.collector import Collector
from playout.agents.ppo.config import CollectConfig
from playout.agents.ppo.gae import compute_gae
from playout.agents.vector.factory import make_environments
from playout.agents.vector.gymnasium_vector import VectorEnvs
from playout.errors import ConfigError, DivergedError, EnvironmentFault
from ppo_worlds import Counter, Masked, Recall


def collector(source, rows=2, steps=8, network=None, **options):
    envs = source if not callable(source) else make_environments(source, rows, processes=0)
    policy = build_policy(envs.observation_space, envs.action_space, network, seed=1)
    config = CollectConfig(num_envs=rows, num_steps=steps, **options)
    return Collector(envs, policy, config, gamma=0.9, seed=3)


def test_a_rollout_says_what_happened():
    ro = collector(lambda: Counter(length=3)).collect()
    assert ro.obs[0, :, 1].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert ro.valid[0].tolist() == [True, True, True, False] * 2
    assert ro.terminations[0].tolist() == [False, False, True, False] * 2
    assert ro.episode_starts[0].tolist() == [True, False, False, False] * 2
    assert torch.equal(ro.rewards[ro.valid], ro.actions[ro.valid].float())
    assert not ro.truncations.any() and ro.bootstrap_values is None
    assert (ro.rewards[~ro.valid] == 0).all()


def test_the_next_rollout_goes_on_where_the_last_one_ended():
    own = collector(lambda: Counter(length=5), steps=4)
    own.collect()
    ro = own.collect()
    assert ro.obs[0, :, 1].tolist() == [4, 5, 0, 1]
    assert ro.valid[0].tolist() == [True, False, True, True]
    assert ro.episode_starts[0].tolist() == [False, False, True, False]
    assert [length for _, length in own.finished] == [5, 5]
    assert own.steps == 2 * (4 + 3)


def test_autoreset_modes_give_the_same_advantages():
    """NEXT_STEP with its reset row, SAME_STEP and DISABLED describe the same experience."""
    found = {}
    for mode in gym.vector.AutoresetMode:
        vector = gym.vector.SyncVectorEnv(
            [lambda: Counter(length=3, truncate=True)] * 2, autoreset_mode=mode
        )
        own = collector(VectorEnvs(vector, "counter", native=False), steps=12)
        ro = own.collect()
        compute_gae(ro, gamma=0.9, gae_lambda=0.8)
        last = ro.truncations & ro.valid
        # In the last step of an episode: r + gamma * V(final observation) - V.
        finals = torch.cat([ro.obs[..., :1], torch.full((2, 12, 1), 3.0)], dim=2)
        names = ro.obs[..., 0]
        final_values = own.policy.value(finals.reshape(-1, 2)).reshape(2, 12)
        wanted = ro.rewards + 0.9 * final_values - ro.values
        torch.testing.assert_close(ro.advantages[last], wanted[last], rtol=1e-4, atol=1e-5)
        found[mode] = (int(last.sum()), names)
    assert found[gym.vector.AutoresetMode.SAME_STEP][0] == 8
    assert found[gym.vector.AutoresetMode.DISABLED][0] == 8
    assert found[gym.vector.AutoresetMode.NEXT_STEP][0] == 6


def test_masks_are_kept_with_the_steps_they_belong_to():
    ro = collector(Masked, steps=10).collect()
    assert ro.action_mask.sum(2).eq(3).all()
    taken = ro.action_mask.gather(2, ro.actions.unsqueeze(2)).squeeze(2)
    assert taken[ro.valid].all()


def test_recurrent_values_in_a_rollout_are_those_that_learning_computes():
    network = NetworkConfig(recurrent="lstm", recurrent_size=8)
    own = collector(Recall, rows=3, steps=12, network=network, sequence_length=4)
    own.collect()
    ro = own.collect()
    ro.advantages = ro.returns = ro.values
    for part in (ro, own.cut(ro)):
        batch = next(part.minibatches(100, by="rows", generator=torch.Generator().manual_seed(0)))
        logprobs, _, values = own.policy.evaluate(batch)
        torch.testing.assert_close(values, batch.values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logprobs, batch.logprobs, rtol=1e-4, atol=1e-5)
    assert own.cut(ro).num_rows == 9


@pytest.mark.parametrize("kind", ["native", "single", "recurrent", "normalised"])
def test_collection_continues_from_its_state_to_the_last_bit(kind):
    def make():
        options = {}
        network = NetworkConfig(recurrent="gru", recurrent_size=8) if kind == "recurrent" else None
        if kind == "normalised":
            options = {"normalize_obs": True, "normalize_rewards": True}
        if kind == "native":
            source = make_environments("CartPole-v1", 3)
        else:
            source = make_environments(lambda: Counter(length=7), 3, processes=0)
        return collector(source, rows=3, steps=10, network=network, **options)

    whole, stopped = make(), make()
    for own in (whole, stopped):
        own.collect()
    resumed = make()
    state = stopped.state_dict()
    if kind == "normalised":
        resumed.normalizer.load_state_dict(stopped.normalizer.state_dict())
    resumed.load_state_dict(state)
    for _ in range(3):
        a, b = whole.collect(), resumed.collect()
        for name in ("obs", "actions", "logprobs", "values", "rewards", "valid", "last_values"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert whole.finished == resumed.finished and whole.steps == resumed.steps


def test_environments_that_are_not_reproducible_are_said_to_be():
    class Moody(Counter):
        def step(self, action):
            obs, *rest = super().step(action)
            return obs + np.float32(np.random.default_rng().random()), *rest

    own = collector(lambda: Moody(length=9))
    own.collect()
    state = own.state_dict()
    with pytest.warns(UserWarning, match="not byte for byte"):
        own.load_state_dict(state)
    assert own.starting.all()
    own.collect()


def test_a_nan_observation_of_a_vector_environment_is_named():
    class Broken(Counter):
        pass

    vector = gym.vector.SyncVectorEnv([lambda: Broken(fault="obs_nan")] * 2)
    own = collector(VectorEnvs(vector, "broken", native=False))
    with pytest.raises(DivergedError, match="environment 0 gave an observation with NaN"):
        own.collect()


def test_a_nan_reward_is_named():
    own = collector(lambda: Counter(fault="reward_nan"))
    ro = own.collect()
    with pytest.raises(DivergedError, match="row 0 at step 2 of the rollout is nan"):
        compute_gae(ro, gamma=0.9, gae_lambda=0.9)


def test_a_fault_in_the_middle_of_a_rollout_passes_through():
    own = collector(lambda: Counter(fault="raise"))
    with pytest.raises(EnvironmentFault, match="motor"):
        own.collect()


def test_a_state_of_another_number_of_environments_is_refused():
    state = collector(lambda: Counter(), rows=2).state_dict()
    with pytest.raises(ConfigError, match="steps 2 environments together, these are 3"):
        collector(lambda: Counter(), rows=3).load_state_dict(state)


def test_a_worker_that_is_killed_does_not_cost_what_was_learned():
    envs = make_environments(Counter, 2, processes=2)
    own = collector(envs)
    try:
        own.collect()
        envs.group.processes[0].kill()
        envs.group.processes[0].join()
        assert own.state_dict()["broken"]
        with pytest.raises(EnvironmentFault, match=r"died \(exit code -9\)"):
            own.collect()
    finally:
        envs.close()

"""Every trainer of PPO whole on a second device: few crossings, exact resumption, true numbers."""

import gymnasium as gym
import numpy as np
import pytest
import second_device
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import ActorCritic
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.recurrent import Core
from playout.agents.optim.device_adam import DeviceAdam
from playout.agents.ppo import collector, loss, trainer
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.ppo.gae import doubling_gae
from playout.agents.ppo.population import Population
from playout.agents.ppo.trainer import PPOTrainer
from playout.agents.runs import devices
from playout.agents.runs.checkpoint import codec
from playout.agents.vector.factory import make_environments
from playout.errors import ConfigError
from ppo_worlds import Counter, Hand, Masked, Recall
from second_device import crossings

STEPS = 8


class Pixels(gym.Env):
    """A bright column of an image of 8 by 8; to point at its half pays. Cut after 6 steps."""

    observation_space = spaces.Box(0, 255, (8, 8, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def _obs(self):
        found = np.zeros((8, 8, 1), np.uint8)
        found[:, self.column] = 255
        return found

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.column, self.time = int(self.np_random.integers(8)), 0
        return self._obs(), {}

    def step(self, action):
        reward = float((self.column >= 4) == action)
        self.column, self.time = int(self.np_random.integers(8)), self.time + 1
        return self._obs(), reward, False, self.time >= 6, {}


def vector(count):
    """Episodes that are cut begin anew in the same step."""
    return gym.vector.SyncVectorEnv(
        [lambda: Counter(5, truncate=True)] * count,
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )


PPO = {"learning_rate": 1e-3, "num_epochs": 2, "minibatch_size": 16}
CASES = {
    "mlp": {},
    "normalised": {"normalize_obs": True, "normalize_rewards": True},
    "target_kl": {"ppo": {"target_kl": 0.003, "num_epochs": 6}},
    "cnn": {"source": Pixels},
    "lstm": {"source": Recall, "network": {"recurrent": "lstm", "recurrent_size": 32}},
    "gru": {
        "source": Recall,
        "network": {"recurrent": "gru", "recurrent_size": 8},
        "sequence_length": 4,
    },
    "masked": {"source": Masked},
    "dict": {"source": Hand},
    "same_step": {"source": vector},
    "same_step_lstm": {
        "source": vector,
        "network": {"recurrent": "lstm", "recurrent_size": 8},
    },
    "continuous": {"source": "Pendulum-v1", "ppo": {"ent_coef": 0.01}},
    "squashed": {
        "source": "Pendulum-v1",
        "network": {"squash": True},
        "noise_correlation": 0.5,
    },
    "native": {"source": "playout/CartPole-v1"},
}


def make(
    device,
    source="CartPole-v1",
    network=None,
    ppo=None,
    seed=0,
    dtype="auto",
    policy=None,
    **collect,
):
    config = CollectConfig(**{"num_envs": 4, "num_steps": STEPS, "eval_episodes": 2, **collect})

    def envs(count):
        given = source(count) if source is vector else source
        return make_environments(given, count, processes=0)

    return PPOTrainer(
        envs(config.num_envs),
        lambda: envs(2),
        total_timesteps=10_000,
        seed=seed,
        ppo=PPOConfig(**{**PPO, **(ppo or {})}),
        network=NetworkConfig(**{"hidden": (16,), **(network or {})}),
        collect=config,
        device=device,
        dtype=dtype,
        policy=policy,
    )


def flat(trainer):
    return torch.cat([p.detach().cpu().reshape(-1) for p in trainer.policy.parameters()])


def saved(state):
    """A state as it comes back from a checkpoint."""
    encoder = codec.Encoder()
    skeleton = encoder.encode(state, "state", ())
    return codec.Decoder(encoder.tensors).decode(skeleton, "state")


class Learned:
    """A trainer on the device after two updates, what they crossed, and its state between them."""

    def __init__(self, second, case):
        self.options = CASES[case]
        self.trainer = make(second, **self.options)
        self.crossed, self.states = [], []
        for _ in range(2):
            self.states.append(saved(self.trainer.state_dict()))
            with crossings() as found:
                self.metrics = self.trainer.update()
            self.crossed.append(found)


@pytest.fixture(scope="module", params=CASES)
def learned(request, second):
    return Learned(second, request.param)


def test_an_update_crosses_five_times_besides_the_steps_of_the_environments(learned, second):
    for found in learned.crossed:
        assert found.to_device >= STEPS <= found.to_host
        assert found.total - 2 * STEPS <= 5, found
    assert learned.metrics["train/grad_norm"] > 0
    assert all(p.device == second for p in learned.trainer.policy.parameters())


def test_an_evaluation_crosses_once_a_step_each_way(learned):
    with crossings() as found:
        evaluation = learned.trainer._evaluate("eval")
    assert found.to_device == found.to_host <= evaluation.lengths.sum(), found


def test_a_run_resumed_on_a_device_equals_one_that_never_stopped(learned, second):
    if not learned.trainer.envs.resumable:
        pytest.skip("these environments cannot be put back")
    resumed = make(second, **learned.options)
    resumed.load_state_dict(learned.states[1])
    assert resumed.update() == learned.metrics
    assert torch.equal(flat(resumed), flat(learned.trainer))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["momentum", "muon"])
def test_other_optimisers_learn_on_a_device_and_resume(second, optimizer):
    ppo = {"optimizer": optimizer, "trunk_rate": 0.5, "target_kl": 0.02}
    whole, stopped, resumed = (make(second, source=Pixels, ppo=ppo) for _ in range(3))
    before = flat(whole)
    whole.update()
    stopped.update()
    resumed.load_state_dict(saved(stopped.state_dict()))
    assert whole.update() == resumed.update()
    assert torch.equal(flat(whole), flat(resumed)) and not torch.equal(flat(whole), before)
    assert all(p.device == second for p in whole.policy.parameters())


def test_the_numbers_on_a_device_are_those_of_the_processor(learned, monkeypatch):
    # The processor by the operations of a device: nothing compiled, noise drawn ahead.
    monkeypatch.setattr(loss, "_plain", lambda *tensors: False)
    monkeypatch.setattr(Core, "forward", Core.by_steps)
    monkeypatch.setattr(
        collector,
        "draw_ahead",
        lambda policy, rows, generator, *where: (policy.draw(rows, generator), generator),
    )

    def estimate(rollout, **options):
        rollout.advantages, rollout.returns = doubling_gae(rollout, **options)

    monkeypatch.setattr(trainer, "compute_gae", estimate)
    here = make("cpu", **learned.options)
    here.policy.compiled = here.policy.parallel = None
    here.collector.ahead = True
    here.optimizer = DeviceAdam(here.policy.parameters(), lr=1e-3, eps=1e-5)
    for _ in range(2):
        found = here.update()
    if here.policy.recurrent or learned.options.get("source") is Pixels:
        # Steps of a sequence, and torch's convolutions by a layout that it chooses for the
        # processor it runs on, are added up in another order.
        torch.testing.assert_close(flat(here), flat(learned.trainer), rtol=1e-4, atol=1e-5)
        assert found["train/value_loss"] == pytest.approx(
            learned.metrics["train/value_loss"], rel=1e-3
        )
    else:
        assert torch.equal(flat(here), flat(learned.trainer))
        assert found == learned.metrics


@pytest.mark.slow
def test_a_population_learns_on_a_device_as_its_members_do_alone(second):
    def members():
        return [make(second, "playout/CartPole-v1", seed=seed) for seed in (0, 1)]

    population, (alone, _) = Population(members()), members()
    population.update()
    alone.update()
    assert torch.equal(flat(population.members[0]), flat(alone))
    other = Population(members())
    other.load_state_dict(saved(population.state_dict()))
    assert other.update() == population.update()
    population.evaluate()


def test_a_device_without_generators_crosses_no_more_and_draws_the_same(second):
    there = make(second)
    with second_device.without_generator():
        here = make(second)
        with crossings() as found:
            here.update()
    there.update()
    assert found.total - 2 * STEPS <= 5
    assert torch.equal(flat(here), flat(there))


def test_a_run_goes_on_on_the_processor_where_a_device_left_it(second):
    there = make(second)
    there.update()
    here = make("cpu")
    here.load_state_dict(saved(there.state_dict()))
    assert torch.equal(flat(here), flat(there))
    here.update()
    assert here.steps > there.steps
    there.load_state_dict(saved(here.state_dict()))
    assert torch.equal(flat(here), flat(there))


class DrawsItself(ActorCritic):
    """A policy of one's own, which knows no way to draw ahead."""

    def draw(self, rows, generator):
        return None


def test_a_policy_that_draws_by_itself_learns_on_a_device_and_resumes(second):
    space = spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def learner():
        torch.manual_seed(0)
        config = NetworkConfig(hidden=(8,))
        return make(second, policy=DrawsItself(space, spaces.Discrete(2), config))

    whole, other = learner(), learner()
    whole.update()
    other.load_state_dict(saved(whole.state_dict()))
    assert whole.update() == other.update()
    assert torch.equal(flat(whole), flat(other))


@pytest.mark.parametrize(("device", "case"), [("cpu", "cnn"), ("second", "lstm")])
def test_bfloat16_lowers_what_layers_compute_in_and_nothing_else(second, device, case):
    plain, lower = (make(device, dtype=dtype, **CASES[case]) for dtype in ("float32", "bfloat16"))
    assert torch.equal(flat(plain), flat(lower))
    found, other = plain.update(), lower.update()
    assert found["train/value_loss"] != other["train/value_loss"]
    assert found["train/value_loss"] == pytest.approx(other["train/value_loss"], rel=0.2)
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in lower.policy.parameters())
    assert lower.collector.values.dtype == lower.collector.logprobs.dtype == torch.float32
    lower._evaluate("eval")


def test_a_small_network_in_bfloat16_leaves_the_compiled_code():
    assert make("cpu").policy.compiled is not None
    assert make("cpu", dtype="bfloat16").policy.compiled is None
    with pytest.raises(ConfigError, match="float16 loses small gradients"):
        make("cpu", dtype="float16")


def test_auto_leaves_small_networks_on_the_processor_and_brings_others_to_a_gpu(
    second, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.resolve_device("auto", prefers_processor=True).type == "cpu"
    assert devices.resolve_device("auto").type == "cuda"
    asked = []
    resolve = devices.resolve_device

    def resolved(name, *, prefers_processor=False):
        asked.append((name, prefers_processor))
        return resolve("cpu")

    monkeypatch.setattr(trainer, "resolve_device", resolved)
    make("auto")
    make("auto", **CASES["cnn"])
    make("auto", dtype="bfloat16")
    assert asked == [("auto", True), ("auto", False), ("auto", False)]


def test_a_device_that_gets_full_is_one_line(second):
    learner = make(second)
    with second_device.full(), pytest.raises(ConfigError, match="second:0 is full"):
        learner.update()
    with second_device.full(), pytest.raises(ConfigError, match="cannot be used here: second out"):
        make(second)

"""Small runs of PPO that two ranks and one process make alike, for the tests to compare."""

import copy
from dataclasses import fields
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from launch import packed
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.ppo.gae import compute_gae
from playout.agents.ppo.league.trainer import make_self_play
from playout.agents.ppo.loss import LossVariant
from playout.agents.ppo.rollout import Rollout
from playout.agents.ppo.trainer import PPOTrainer
from playout.agents.ppo.update import policy_optimizer, ppo_update
from playout.agents.runs import ranks
from playout.agents.runs.loop import train
from playout.agents.vector.factory import make_environments
from playout.agents.vector.running import exchange_episodes
from playout.errors import DivergedError, EnvironmentFault, PlayoutError
from toy_ranks import open_run


class Picture(gym.Env):
    """A bright column of a picture says which way pays; unequal episodes, cut or ended."""

    observation_space = spaces.Box(0, 255, (12, 12, 1), np.uint8)
    action_space = spaces.Discrete(3)

    def _obs(self):
        picture = np.zeros((12, 12, 1), np.uint8)
        picture[:, 4 * self.good : 4 * self.good + 4] = 200 + self.time
        return picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.good, self.time = int(self.np_random.integers(3)), 0
        self.length = int(self.np_random.integers(2, 9))
        return self._obs(), {}

    def step(self, action):
        reward = float(action == self.good) + self.good
        self.good, self.time = int(self.np_random.integers(3)), self.time + 1
        over = self.time >= self.length
        return self._obs(), reward, over and self.length % 2 == 0, over, {}


class Sums(gym.Env):
    """Masked choices and a memory of what was seen: the observation is noise of any scale."""

    observation_space = spaces.Dict(
        {
            "observation": spaces.Box(-np.inf, np.inf, (5,), np.float32),
            "action_mask": spaces.MultiBinary(6),
        }
    )
    action_space = spaces.Discrete(6)

    def _obs(self):
        self.mask = np.zeros(6, np.int8)
        self.mask[self.np_random.choice(6, 3, replace=False)] = 1
        seen = self.np_random.normal(3.0, 5.0, 5).astype(np.float32)
        return {"observation": seen, "action_mask": self.mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        assert self.mask[action], "an illegal action"
        self.time += 1
        reward = float(action) * 10.0
        return self._obs(), reward, self.np_random.random() < 0.1, self.time >= 15, {}


KINDS = {
    "native": ("CartPole-v1", {}, {"target_kl": 0.003, "num_epochs": 3}, {}),
    "python": (Sums, {}, {"norm_adv_by": "batch", "ent_coef": 0.01}, {"num_envs": 5}),
    "gaussian": ("Pendulum-v1", {}, {}, {"noise_correlation": 0.5}),
    "pixels": (Picture, {"network": "grid"}, {}, {}),
    "rates": (
        Picture,
        {"network": "grid"},
        {"optimizer": "momentum", "learning_rate": 0.02, "trunk_rate": 0.3, "target_kl": 0.01},
        {},
    ),
    "memory": (Sums, {"recurrent": "lstm", "recurrent_size": 8}, {}, {"sequence_length": 8}),
    "normalised": (Sums, {}, {}, {"normalize_obs": True, "normalize_rewards": True}),
}


def trainer(kind, seed=3):
    """A trainer of one of KINDS, or "self-play", with this rank's environments."""
    source, network, ppo, collect = KINDS.get(kind, ("tic_tac_toe", {}, {}, {}))
    options = {"num_envs": 6, "num_steps": 32, "eval_episodes": 7, **collect}
    settings = {
        "total_timesteps": 10_000,
        "seed": seed,
        "ppo": PPOConfig(**{"learning_rate": 1e-3, "minibatch_size": 40, **ppo}),
        "network": NetworkConfig(**{"hidden": (16,), **network}),
        "collect": CollectConfig(**options),
        "threads": 1,  # as each of the ranks has
    }
    if kind == "self-play":
        found = make_self_play(source, **settings)
        # One process, too, draws by the games' numbers, and begins anew so.
        found.envs.by_number, found.envs.games.first = True, found.envs.place.first
        found.envs.begun[:] = found.envs.turn = 0
        found.learner.collector.load_rank_state(None)
        return found

    def make(count):
        own = ranks.share(count, "environments")
        return make_environments(source, len(own), first=own.start, processes=0)

    found = PPOTrainer(make(options["num_envs"]), lambda: make(7), stop=False, **settings)
    if found.normalizer is not None:
        # One process, too, joins what it has seen at times; it has seen the first observations.
        found.normalizer.apart, found.normalizer.joined = True, options["num_envs"]
    return found


def learn(kind, updates=3):
    """What some updates and an evaluation leave: metrics, weights, statistics."""
    own = trainer(kind)
    metrics = {}
    for _ in range(updates):
        metrics = own.update()
    if kind != "self-play":
        found = own._evaluate("eval")
        metrics |= {"mean": found.mean, "lengths": float(found.lengths.sum())}
    own.close()
    return {"metrics": metrics, "weights": weights(own)}


def weights(own):
    """All weights of a trainer's policy, packed."""
    return packed(torch.cat([p.detach().reshape(-1) for p in own.policy.parameters()]))


def resumed(kind):
    """Weights after four updates, and after the same with a new trainer for the last two."""
    own, again = trainer(kind), trainer(kind, seed=3)
    for _ in range(2):
        own.update()
    states = copy.deepcopy((own.state_dict(), own.rank_state()))
    own.update()
    own.update()
    whole = weights(own)
    again.load_state_dict(states[0])
    again.load_rank_state(states[1])
    again.update()
    again.update()
    return [whole, weights(again)]


class Burning(Picture):
    """Fails in its fortieth step, if it is the last of the job's."""

    made = 0

    def __init__(self):
        Burning.made += 1
        self.fails, self.total = Burning.made == 5, 0

    def step(self, action):
        self.total += 1
        if self.fails and ranks.rank() == ranks.world() - 1 and self.total == 40:
            raise RuntimeError("the motor is on fire")
        return super().step(action)


def fault(folder):
    """What every rank says when an environment of one fails, what is saved, how far it goes on."""
    KINDS["burning"] = (Burning, {"network": "grid"}, {}, {"num_envs": 9})
    run, said = open_run(Path(folder) / "burning"), ""
    try:
        train(trainer("burning"), run, save_every=1000, console=False)
    except EnvironmentFault as error:
        said = str(error)
    saved, again = run.find().step, trainer("burning")
    again.total_timesteps = 3 * 9 * 32
    train(again, run, console=False)
    return [said, saved, again.updates]


def two_faults():
    """What the ranks raise if one meets a fault and the other a number that is none."""
    fault = EnvironmentFault("fire") if ranks.is_first() else DivergedError("NaN")
    try:
        exchange_episodes([], *np.zeros((2, 1, 1), np.bool_), 0, fault)
    except PlayoutError as error:
        return [type(error).__name__, str(error)]


def one_update(minibatch_size):
    """Weights after an update of few steps, in rows, by plain gradient steps."""
    generator = torch.Generator().manual_seed(0)
    rows, steps = 3, 4
    whole = Rollout(
        obs=torch.randn(rows, steps, 3, generator=generator),
        actions=torch.randint(0, 2, (rows, steps), generator=generator),
        logprobs=torch.full((rows, steps), -0.69),
        values=torch.zeros(rows, steps),
        rewards=torch.randn(rows, steps, generator=generator),
        terminations=torch.rand(rows, steps, generator=generator) < 0.1,
        truncations=torch.zeros(rows, steps, dtype=torch.bool),
        valid=torch.rand(rows, steps, generator=generator) < 0.7,
        last_values=torch.zeros(rows),
    )
    own = ranks.share(rows, "rows")
    for field in fields(whole):
        value = getattr(whole, field.name)
        setattr(whole, field.name, None if value is None else value[own.start : own.stop])
    compute_gae(whole, gamma=0.9, gae_lambda=0.9)
    space = spaces.Box(-1, 1, (3,))
    policy = build_policy(space, spaces.Discrete(2), NetworkConfig(hidden=(8,)), seed=1)
    steps = {"num_epochs": 2, "minibatch_size": minibatch_size, "batch_by": "rows"}
    config = PPOConfig(optimizer="sgd", learning_rate=0.1, **steps)
    optimizer = policy_optimizer(policy, config)
    variant = LossVariant(mean_over_rows=True)
    order = torch.Generator().manual_seed(2)
    ppo_update(policy, optimizer, whole, config, generator=order, variant=variant)
    return packed(torch.cat([p.detach().reshape(-1) for p in policy.parameters()]))

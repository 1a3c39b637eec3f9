"""PPO and GRPO on language learn by agents' `ppo_update` and `compute_gae`, and by nothing else.

Shown twice: by what the sources call, and by watching every gradient and every step of an optimiser
while a policy learns.
"""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from playout.agents.optim.adam import Adam
from playout.agents.optim.names import OPTIMIZERS
from playout.agents.ppo.gae import compute_gae
from playout.agents.ppo.update import ppo_update
from playout.rlhf.data import synthetic
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online import ppo as ppo_module
from playout.rlhf.online import trainer as trainer_module
from playout.rlhf.online.config import GRPOConfig, RLHFConfig
from playout.rlhf.online.grpo import GRPOTrainer
from playout.rlhf.online.ppo import RLHFTrainer

ROOM = Path(trainer_module.__file__).parents[1]
# What a second learner could not do without: gradients, and steps along them.
DIFFERENTIATES = {"backward", "grad", "zero_grad", "requires_grad_"}


def calls(path):
    """(function or method, line) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            yield name.id if isinstance(name, ast.Name) else name, node.lineno


def imports(path):
    """Names that a file imports, with the module of each."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from ((alias.name, node.module) for alias in node.names)


def test_sampling_trainers_have_no_gradient_step_of_their_own():
    found = {
        (path.name, name)
        for path in (ROOM / "online").glob("*.py")
        for name, _ in calls(path)
        if name in DIFFERENTIATES
    }
    assert not found
    # Elsewhere one class alone differentiates a loss: the learner of the supervised stages.
    places = {
        path.relative_to(ROOM).as_posix()
        for path in ROOM.rglob("*.py")
        for name, _ in calls(path)
        if name in ("backward", "zero_grad")
    }
    assert places == {"supervised/trainer.py"}


def test_the_update_and_the_advantages_are_those_of_agents():
    learning = {"ppo_update": set(), "compute_gae": set()}
    for path in ROOM.rglob("*.py"):
        for name, module in imports(path):
            if name in learning:
                learning[name].add((path.relative_to(ROOM).as_posix(), module))
            assert name not in ("surrogate", "Learner") or "online" not in path.parts, path
    assert learning == {
        "ppo_update": {("online/trainer.py", "playout.agents.ppo.update")},
        "compute_gae": {("online/ppo.py", "playout.agents.ppo.gae")},
    }


class Watched:
    """Counts updates, advantages, gradients and steps; a gradient outside an update is an error."""

    def __init__(self, monkeypatch):
        self.updates = self.advantages = self.steps = 0
        self.inside = False
        self.estimated = self.weights = None
        monkeypatch.setattr(trainer_module, "ppo_update", self.update)
        monkeypatch.setattr(ppo_module, "compute_gae", self.estimate)
        step, backward = Adam.step, torch.autograd.backward

        def watched_step(optimizer, *args):
            assert self.inside, "an optimiser moved outside ppo_update"
            self.steps += 1
            return step(optimizer, *args)

        def watched_backward(*args, **options):
            assert self.inside, "a loss was differentiated outside ppo_update"
            return backward(*args, **options)

        monkeypatch.setattr(Adam, "step", watched_step)
        monkeypatch.setattr(torch.autograd, "backward", watched_backward)

    def estimate(self, rollout, **options):
        self.advantages += 1
        compute_gae(rollout, **options)
        self.estimated = rollout.advantages

    def update(self, policy, optimizer, rollout, config, **options):
        now = torch.cat([p.detach().flatten().clone() for p in policy.model.parameters()])
        assert self.weights is None or torch.equal(now, self.weights), "weights moved in between"
        assert self.estimated is None or rollout.advantages is self.estimated
        self.inside = True
        metrics = ppo_update(policy, optimizer, rollout, config, **options)
        self.inside = False
        self.updates += 1
        self.weights = torch.cat([p.detach().flatten().clone() for p in policy.model.parameters()])
        assert not torch.equal(self.weights, now)
        return metrics


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(synthetic.reviews(200), vocab_size=300)


def make(kind, config, tokenizer):
    shape = TransformerConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=32)
    return kind(
        Transformer(shape, seed=0),
        tokenizer,
        ["the", "a", "its"],
        lambda texts: [float(len(text)) for text in texts],
        config,
        seed=0,
    )


COMMON = {"updates": 3, "batch": 16, "max_new_tokens": 4, "dtype": "float32"}
PPO = RLHFConfig(**COMMON, epochs=2, minibatch=8, value_warmup=1)
GRPO = GRPOConfig(**COMMON, minibatch=8)


def test_every_gradient_step_of_ppo_goes_through_the_one_update(tokenizer, monkeypatch):
    watched = Watched(monkeypatch)
    trainer = make(RLHFTrainer, PPO, tokenizer)
    while not trainer.finished:
        trainer.update()
    # One estimate more than updates: the first values are fitted to plain returns.
    assert (watched.updates, watched.advantages, watched.steps) == (3, 4, 3 * 2 * 2)


def test_every_gradient_step_of_grpo_goes_through_the_one_update(tokenizer, monkeypatch):
    watched = Watched(monkeypatch)
    trainer = make(GRPOTrainer, GRPO, tokenizer)
    while not trainer.finished:
        trainer.update()
    assert (watched.updates, watched.advantages, watched.steps) == (3, 0, 3 * 2)


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "adam"])
@pytest.mark.parametrize(("kind", "config"), [(GRPOTrainer, GRPO), (RLHFTrainer, PPO)])
def test_every_optimiser_moves_a_sampling_policy_and_goes_on_to_the_last_bit(
    tokenizer, kind, config, optimizer
):
    chosen = replace(config, optimizer=optimizer, learning_rate=1e-2)
    if kind is RLHFTrainer:
        chosen = replace(chosen, critic="own")
    whole, first, second = (make(kind, chosen, tokenizer) for _ in range(3))
    before = [p.detach().clone() for p in whole.policy.parameters()]
    for _ in range(3):
        whole.update()
    first.update()
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.update()
    pairs = list(zip(before, whole.policy.parameters(), second.policy.parameters(), strict=True))
    assert all(torch.equal(mine, theirs) for _, mine, theirs in pairs)
    matrices = [(old, mine) for old, mine, _ in pairs if mine.dim() > 1]
    assert not any(torch.equal(old, mine) for old, mine in matrices)


class SecondLoss(GRPOTrainer):
    """What must not be: a loss beside the update's."""

    def learn(self, episodes):
        metrics = super().learn(episodes)
        self.optimizer.zero_grad()
        sum(p.square().sum() for p in self.policy.parameters()).backward()
        self.optimizer.step(1.0)
        return metrics


class SecondAdvantages(RLHFTrainer):
    """What must not be: advantages that are not agents'."""

    def learn(self, episodes):
        episodes.rollout.advantages = episodes.rollout.rewards - episodes.rollout.values
        return super().learn(episodes)


@pytest.mark.parametrize(
    ("kind", "config"), [(SecondLoss, GRPO), (SecondAdvantages, PPO)], ids=["loss", "advantages"]
)
def test_a_second_way_to_learn_is_seen(kind, config, tokenizer, monkeypatch):
    Watched(monkeypatch)
    with pytest.raises(AssertionError):
        make(kind, config, tokenizer).update()

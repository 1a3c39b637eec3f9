"""What a stage says of its cost: before it begins, and after three of its updates."""

import copy

import torch
from playout.agents.runs.console import Console
from playout.rlhf.model.adapters.held import HELD, hold_weights
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.stages import speed
from playout.rlhf.stages.speed import Speed, least_memory, short_size


class Listening(Console):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


class Toy:
    """A trainer of two rows of five tokens an update."""

    title, unit = "toy", "rows"

    def __init__(self, model):
        self.networks, self.done = [model], 0

    @property
    def progress(self):
        return self.done, 20

    def update(self):
        self.networks[0](torch.zeros(2, 5, dtype=torch.long)).sum().backward()
        with torch.no_grad():
            self.networks[0](torch.zeros(7, 9, dtype=torch.long))
        self.done += 2


def model_of():
    return Transformer(TransformerConfig(50, 64, 128, 2, 4, 2))


def test_memory_is_that_of_weights_gradients_and_moments():
    model = model_of()
    count = sum(p.numel() for p in model.parameters())
    tables = model.cos.nbytes + model.sin.nbytes
    assert least_memory([model]) == 16 * count + tables
    assert least_memory([model, model]) == least_memory([model])
    frozen = copy.deepcopy(model).requires_grad_(False)
    assert least_memory([model, frozen]) == 20 * count + 2 * tables
    trained = sum(p.numel() for p in add_adapters(model, LoRAConfig(rank=2)))
    assert least_memory([model]) == 4 * count + tables + 16 * trained
    hold_weights(model, HELD["int8"])
    assert least_memory([model]) < 1.8 * count + tables + 16 * trained


def test_the_first_updates_are_measured_and_only_what_learns_counts():
    trainer, console = Toy(model_of()), Listening()
    found = Speed(trainer, console)
    found.before()
    with found.counted():
        for _ in range(5):
            trainer.update()
            found.after(trainer, {"time/fps": 4.0})
    before, after = console.said
    assert "parameters; " in before and "thread" in before and "at least" in before
    # Four rows a second of five tokens each.
    assert after.startswith("measured in 3 updates: 4 rows/s, 20 tokens/s, ")
    assert not trainer.networks[0]._forward_hooks


def test_a_model_larger_than_the_machine_is_said_to_be(monkeypatch):
    monkeypatch.setattr(speed, "_memory", lambda device: (1, 1000))
    console = Listening()
    Speed(Toy(model_of()), console).before()
    assert "more than the 1 MB of this machine" in console.said[1]
    assert [short_size(n) for n in (2e4, 3.7e7, 1.24e9)] == ["1 MB", "37 MB", "1.2 GB"]

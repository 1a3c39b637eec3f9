"""A processor without AVX2 or bfloat16 learns by torch's operations, with the same results."""

import os
import subprocess
import sys

import pytest
import torch
from playout.agents.alphazero.config import LearnerConfig
from playout.agents.alphazero.learner import Learner
from playout.agents.kernels.processor import fuses_multiply_add, multiplies_bfloat16
from playout.agents.networks.boards.norm_relu import norm_relu
from playout.agents.networks.boards.resnet import build
from playout.agents.networks.recurrent import Core
from playout.agents.optim.adam import Adam
from playout.agents.runs import devices


@pytest.fixture
def old_processor(monkeypatch):
    """Torch says of the processor what it says of one without AVX2."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def steps():
    parameters = [torch.nn.Parameter(torch.linspace(-1, 1, n)) for n in (3, 17)]
    optimizer = Adam(parameters, lr=1e-2, weight_decay=0.1)
    norms = []
    for step in range(5):
        optimizer.zero_grad()
        for parameter in parameters:
            parameter.grad += torch.linspace(0, step, parameter.numel())
        norms.append(optimizer.step(0.5))
    return optimizer._native, norms, torch.cat([p.detach() for p in parameters])


def test_adam_takes_the_same_steps_by_torch(old_processor, monkeypatch):
    native, norms, found = steps()
    monkeypatch.undo()
    compiled, wanted_norms, wanted = steps()
    assert not native and compiled == fuses_multiply_add()
    assert norms == pytest.approx(wanted_norms, rel=1e-5)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_compiled_layers_step_aside(old_processor):
    assert not fuses_multiply_add() and not multiplies_bfloat16()
    x = torch.randn(4, 16, 3, 3).bfloat16()
    norm, other = torch.nn.BatchNorm2d(16), torch.nn.BatchNorm2d(16)
    assert torch.equal(norm_relu(x, norm), torch.relu(other(x)))
    assert not Core("lstm", 8, 32).compiled(torch.zeros(2, 8))


def test_a_learner_keeps_to_float32_where_bfloat16_is_slow(old_processor, monkeypatch):
    config = LearnerConfig(batch_size=32)
    assert Learner(build((2, 3, 3), 9, size="tiny"), config, device="cpu").dtype == "float32"
    monkeypatch.undo()
    wanted = "bfloat16" if multiplies_bfloat16() else "float32"
    assert Learner(build((2, 3, 3), 9, size="tiny"), config, device="cpu").dtype == wanted


@pytest.mark.slow
def test_torch_can_be_told_to_say_so():
    code = "from playout.agents.kernels.processor import *; print(fuses_multiply_add())"
    told = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True)
    x86 = os.uname().machine == "x86_64"
    assert done.stdout.strip() == str(not x86), done.stderr


@pytest.mark.parametrize(
    ("intel", "tiles", "products", "wanted"),
    [
        (True, True, True, "bfloat16"),
        (True, False, True, "float32"),
        (False, False, True, "bfloat16"),
        (False, False, False, "float32"),
    ],
    ids=["tiles", "products of half the speed", "products", "neither"],
)
def test_auto_is_bfloat16_only_where_it_is_faster(monkeypatch, intel, tiles, products, wanted):
    monkeypatch.setattr(devices, "_made_by_intel", lambda: intel)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: products)
    devices.slow_bfloat16.cache_clear()
    try:
        assert devices.resolve_dtype("auto", torch.device("cpu")) == wanted
        if wanted == "float32" and intel:
            assert not multiplies_bfloat16()
        assert devices.resolve_dtype("bfloat16", torch.device("cpu")) == "bfloat16"
    finally:
        devices.slow_bfloat16.cache_clear()

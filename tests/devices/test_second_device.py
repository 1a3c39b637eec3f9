"""The test device behaves as a card does: it refuses what a card refuses, and counts crossings."""

import copy

import pytest
import second_device
import torch
from playout.agents.runs.checkpoint import codec
from playout.agents.runs.devices import device_errors, fetch, resolve_device, to_device
from playout.errors import ConfigError
from second_device import crossings
from torch import nn


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 8)
    return nn.Sequential(*layers, nn.LayerNorm(8), nn.Linear(8, 2))


def test_a_device_is_found_by_its_name(second):
    assert resolve_device("second").type == "second"
    assert to_device(torch.ones(2), second).device == second


def test_tensors_of_two_devices_do_not_mix_but_numbers_do(second):
    x = torch.ones(3, device=second)
    with pytest.raises(RuntimeError, match="at least two devices"):
        x + torch.ones(3)
    with pytest.raises(RuntimeError, match="at least two devices"):
        nn.Linear(3, 2)(x)
    assert (x + torch.tensor(1.0)).tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(TypeError, match="convert second"):
        x.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        x.normal_(generator=torch.Generator())


def test_every_way_across_is_counted(second):
    with crossings() as found:
        x = torch.tensor([1.0, 2.0], device=second)
        y = torch.ones(2).to(second)
        z = torch.zeros(2, device=second)
        z.copy_(torch.ones(2))
        assert x.device == y.device == second
    assert (found.to_device, found.to_host) == (3, 0)
    ways = (
        lambda: x.cpu(),
        lambda: x.tolist(),
        lambda: x.sum().item(),
        lambda: float(x[0]),
        lambda: bool(x.sum() > 0),
        lambda: x.nonzero(),
        lambda: x[x > 1],
        lambda: torch.zeros(2).copy_(x),
        lambda: fetch({"a": x[0], "b": x[1], "c": x.sum()}),
    )
    for way in ways:
        with crossings() as found:
            way()
        assert (found.to_device, found.to_host) == (0, 1)
    with crossings() as found:
        x * 2 + torch.arange(2, device=second) + torch.randn(2, device=second)
    assert found.total == 0


def test_a_network_learns_to_the_same_numbers_as_on_the_processor(second):
    found = {}
    for device in (torch.device("cpu"), second):
        net = network().to(device)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
        rng = torch.Generator().manual_seed(1)
        for _ in range(3):
            obs = torch.randn(5, 1, 3, 3, generator=rng).to(device)
            optimizer.zero_grad()
            net(obs).square().mean().backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
        found[device.type] = torch.cat([p.detach().cpu().flatten() for p in net.parameters()])
    assert torch.equal(found["cpu"], found["second"])


def test_views_share_memory_and_data_can_be_moved_into_a_buffer(second):
    flat = torch.zeros(6, device=second)
    weight = nn.Parameter(torch.ones(2, 3, device=second))
    weight.data = flat.view(2, 3)
    with torch.no_grad():
        weight.add_(1.0)
        weight[0] = 5.0
    weight.data.mul_(2.0)
    assert flat.tolist() == [10.0] * 3 + [2.0] * 3
    flat.unsqueeze_(0)
    assert flat.shape == (1, 6)


def test_networks_are_saved_copied_and_moved_back(second):
    net, other = network().to(second), network()
    saved = {name: codec.from_torch(value) for name, value in net.state_dict().items()}
    other.load_state_dict({name: codec.to_torch(value, name) for name, value in saved.items()})
    for a, b in zip(copy.deepcopy(net).to("cpu").parameters(), other.parameters(), strict=True):
        assert isinstance(a, nn.Parameter) and torch.equal(a, b)


def test_autocast_lowers_the_precision(second):
    net = network().to(second)
    with torch.autocast("second", dtype=torch.bfloat16):
        out = net(torch.randn(5, 1, 3, 3, device=second))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in net.parameters())


def test_generators_draw_what_those_of_the_processor_draw(second):
    ours = torch.Generator(second).manual_seed(3)
    assert isinstance(ours, torch.Generator) and ours.device == second
    assert isinstance(torch.Generator(), torch.Generator)
    drawn = torch.rand(4, generator=ours, device=second).cpu()
    assert torch.equal(drawn, torch.rand(4, generator=torch.Generator().manual_seed(3)))
    with second_device.without_generator(), pytest.raises(NotImplementedError):
        torch.Generator("second")


def test_of_what_torch_says_about_a_device_the_first_sentence_is_shown(monkeypatch):
    def refuse(*shape, device):
        raise NotImplementedError("Could not run 'empty' there. This could be" + 500 * " because")

    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(
        ConfigError, match=r"'mps' cannot be used here: Could not run 'empty' there$"
    ):
        resolve_device("mps")


def test_a_full_device_is_one_line(second):
    refused = pytest.raises(ConfigError, match="second:0 is full: second out of memory")
    with second_device.full(), refused, device_errors(second):
        torch.zeros(3, device=second)
    with second_device.full(), pytest.raises(ConfigError, match="cannot be used here: second out"):
        resolve_device("second")

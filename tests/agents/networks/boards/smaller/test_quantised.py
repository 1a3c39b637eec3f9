"""Networks in int8: near the float network's answers, by the arithmetic of bytes, and playable."""

import numpy as np
import playout
import pytest
import torch
from playout.agents.networks.boards.registry import new_network
from playout.agents.networks.boards.smaller.quantised import QuantisedResNet, Scale, _Convolution
from playout.cli import main
from playout.errors import ConfigError
from torch import nn
from torch.nn import functional

GAME = playout.game("connect_four")


def positions(count=256):
    states = GAME.batch(count)
    states.random_plies(np.arange(count, dtype=np.int32) % 30, 1)
    obs = torch.from_numpy(states.observe())
    return obs.contiguous(memory_format=torch.channels_last)


def network(obs, **settings):
    """A network whose weights and normalisations are not the first ones."""
    net = new_network(GAME, "16x3", seed=1, **settings)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim < 3:
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
        net.train()
        for _ in range(20):
            net.heads(obs)
    return net.eval()


def test_bytes_stand_for_numbers_to_half_a_step():
    x = torch.linspace(-1.3, 4.1, 1000)
    scale = Scale.of(x)
    assert float((scale.restore(scale.quantise(x)) - x).abs().max()) <= scale.step * 0.51
    assert float(scale.restore(scale.quantise(torch.zeros(1)))) == 0.0


def test_a_convolution_of_bytes_is_the_sum_of_their_products():
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(4, 5, 3, padding=1).requires_grad_(False)
    source, target = Scale(0.02, 3), Scale(0.05, 0)
    q = torch.randint(0, 256, (2, 4, 6, 7), generator=generator, dtype=torch.uint8)
    ours = _Convolution(conv, source, target)
    found = ours.relu(q.contiguous(memory_format=torch.channels_last))
    scale = conv.weight.abs().amax(dim=(1, 2, 3)) / 127
    whole = (conv.weight / scale[:, None, None, None]).round()
    # The padding is of the number 0, which is the byte `zero`.
    plain = functional.conv2d(q.double() - 3, whole.double(), padding=1)
    plain = plain * 0.02 * scale.double()[:, None, None] + conv.bias.double()[:, None, None]
    expected = (plain.relu() / 0.05).round().clamp(0, 255)
    assert float((found.double() - expected).abs().max()) <= 1
    assert float((found.double() != expected).double().mean()) < 0.01


@pytest.mark.parametrize("settings", [{}, {"pooling": True}, {"heads": "pooled"}])
def test_answers_are_near_the_float_networks(settings):
    obs = positions()
    net = network(obs, **settings)
    with torch.inference_mode():
        logits, values = net(obs)
        ours, ours_values = QuantisedResNet(net, obs)(obs)
    spread = float(logits.std())
    assert float((ours - logits).abs().mean()) < 0.05 * spread
    assert float((ours_values - values).abs().max()) < 0.1
    assert float((ours - logits).abs().max()) > 0  # it is another arithmetic


def test_refreshed_it_answers_as_the_new_weights_do():
    obs = positions()
    first = network(obs)
    other = new_network(GAME, "16x3", seed=5).eval()
    quantised = QuantisedResNet(first, obs)
    quantised.refresh(other)
    with torch.inference_mode():
        again = QuantisedResNet(other, obs)(obs)
        assert all(torch.equal(a, b) for a, b in zip(quantised(obs), again, strict=True))


@pytest.mark.slow
def test_a_run_plays_in_int8_and_learns_in_other_types(tmp_path, capsys):
    run = playout.alphazero(
        "tic_tac_toe", updates=1, rating=False, quiet=True, run=tmp_path / "run"
    ).path
    line = ["match", str(run), "random", "--games", "4", "--simulations", "8", "--dtype", "int8"]
    assert main(line) == 0
    capsys.readouterr()
    for line in (["alphazero", "tic_tac_toe"], ["ppo", "CartPole-v1"]):
        assert main([*line, "--dtype", "int8", "--run", str(tmp_path / "no")]) == 2
        assert "int8 is for playing" in capsys.readouterr().err


def test_other_networks_have_no_int8():
    net = new_network(GAME, "tiny", network="transformer")
    with pytest.raises(ConfigError, match="residual networks"):
        QuantisedResNet(net, positions(16))

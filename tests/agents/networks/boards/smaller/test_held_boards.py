"""Weights of few bits: codes against plain rounding, and answers of the numbers they stand for."""

import json

import numpy as np
import own_boards  # noqa: F401 (imported, so that its name may be used)
import playout
import pytest
import torch
from playout.agents.networks.boards.registry import new_network, restore_network
from playout.agents.networks.boards.smaller.held import Held, plain_copy, plain_state, with_codes
from playout.agents.networks.boards.smaller.quantised import QuantisedResNet, can_quantise
from playout.agents.networks.boards.smaller.run import state_bytes
from playout.agents.networks.boards.transfer import take_weights
from playout.errors import ConfigError

GAME = playout.game("connect_four")
# Dettmers et al. 2023, appendix E, to four digits.
NF4 = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]
NF4 += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]
KINDS = [
    {"network": "resnet", "pooling": True},
    {"network": "resnet", "heads": "pooled", "planes": True, "scores": True},
    {"network": "transformer"},
]


def moved(size="16x2", game=GAME, **settings):
    """A network whose weights and statistics are not the first ones."""
    net = new_network(game, size, seed=1, **settings)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.2, generator=generator)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0, generator=generator)
    return net.eval()


def positions(count=32, game=GAME):
    states = game.batch(count)
    states.random_plies(np.arange(count, dtype=np.int32) % 25, 1)
    return torch.from_numpy(states.observe())


def rounded(weight, kind):
    """What a weight becomes, by NumPy's rounding and a search for the nearest number."""
    rows = weight.reshape(len(weight), -1)
    if kind == "int8":
        step = np.abs(rows).max(axis=1, keepdims=True) / np.float32(127)
        return (np.rint(rows / step) * step).reshape(weight.shape)
    flat = weight.reshape(-1)
    found = np.empty_like(flat)
    for start in range(0, len(flat), 64):
        block = flat[start : start + 64]
        scale = np.abs(block).max()
        nearest = np.abs(block[:, None] / scale - np.array(NF4)).argmin(axis=1)
        found[start : start + 64] = np.array(NF4)[nearest] * scale
    return found.reshape(weight.shape)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize(
    "size", ["16x2", "12x1"]
)  # blocks of 64 that are full, and one that is not
def test_held_weights_are_what_rounding_makes_of_them(kind, size):
    net = moved(size)
    held = with_codes(net, kind)
    plain, codes = net.state_dict(), plain_state(held)
    assert codes.keys() == plain.keys()
    layers = {f"{name}.weight" for name, part in held.named_modules() if isinstance(part, Held)}
    assert {"blocks.0.conv1.weight", "blocks.0.conv2.weight", "policy.weight"} <= layers
    assert not {"stem.weight", "value.weight"} & layers
    for name, weight in plain.items():
        if name not in layers:
            assert torch.equal(codes[name], weight), name
            continue
        # Published to four digits, and in the middle between two numbers either will do.
        bound = 1e-6 if kind == "int8" else 2e-4 * float(weight.abs().max())
        away = np.abs(codes[name].numpy() - rounded(weight.numpy(), kind))
        assert (away > bound).mean() < 0.002, name


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("settings", KINDS)
def test_a_held_network_answers_as_the_numbers_that_it_stands_for(kind, settings):
    game = playout.game("go(size=5)") if settings.get("planes") else GAME
    net, obs = moved(game=game, **settings), positions(game=game)
    held = with_codes(net, kind)
    plain = new_network(game, "16x2", seed=5, **settings).eval()
    plain.load_state_dict(plain_state(held))
    with torch.no_grad():
        for ours, theirs in zip(held(obs), plain(obs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        copies = (one.inference_copy(dtype=torch.float32, device="cpu") for one in (held, plain))
        for ours, theirs in zip(*(copy(obs) for copy in copies), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        again = plain_copy(held)
        assert again.config == net.config
        for name, weight in again.state_dict().items():
            assert torch.equal(weight, plain.state_dict()[name]), name
        distance = (held(obs)[0] - net(obs)[0]).abs().mean() / net(obs)[0].std()
    assert 0 < distance < (0.05 if kind == "int8" else 0.5)


@pytest.mark.parametrize("settings", KINDS[::2])
def test_a_held_network_comes_back_from_its_description(settings):
    held, obs = with_codes(moved(**settings), "nf4"), positions()
    again = restore_network(json.loads(json.dumps(held.config.to_dict())), "a run").eval()
    again.load_state_dict(held.state_dict())
    assert again.config == held.config and again.config.weights == "nf4"
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(held(obs), again(obs), strict=True))
    assert "weights" not in moved(**settings).config.to_dict()  # as descriptions were before
    with pytest.raises(ConfigError, match="weights are held in float32, int8, nf4, not in 'int3'"):
        restore_network({**held.config.to_dict(), "weights": "int3"})


def test_held_weights_take_a_quarter_and_an_eighth_of_the_bytes():
    net = moved("64x4")
    plain = state_bytes(net.state_dict())
    shares = [state_bytes(with_codes(net, kind).state_dict()) / plain for kind in ("int8", "nf4")]
    assert 0.25 < shares[0] < 0.3 and 0.125 < shares[1] < 0.2


def test_a_network_begins_with_the_numbers_that_codes_stand_for():
    held = with_codes(moved(), "nf4")
    fresh = new_network(GAME, "16x2", seed=9)
    left = take_weights(
        fresh, held.state_dict(), description=held.config.to_dict(), where="a run of nf4"
    )
    assert left == []
    wanted = plain_state(held)
    assert all(torch.equal(weight, wanted[name]) for name, weight in fresh.state_dict().items())


@pytest.mark.skipif(not can_quantise(), reason="this torch has no products of bytes")
def test_a_held_network_also_multiplies_bytes():
    held, obs = with_codes(moved(), "int8"), positions(128)
    with torch.inference_mode():
        logits, _ = held(obs)
        ours, _ = QuantisedResNet(held, obs)(obs)
    assert float((ours - logits).abs().mean()) < 0.05 * float(logits.std())


def test_what_cannot_be_held_is_said():
    with pytest.raises(ConfigError, match="holds its weights in int8 already"):
        with_codes(with_codes(moved(), "int8"), "nf4")
    own = new_network(playout.game("tic_tac_toe"), "8x1", network="own_boards:Mlp")
    with pytest.raises(ConfigError, match="playout's own networks"):
        with_codes(own, "nf4")
    with pytest.raises(ConfigError, match="too small"):
        with_codes(new_network(playout.game("tic_tac_toe"), "2x1", heads="pooled"), "nf4")

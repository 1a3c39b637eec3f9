import numpy as np
import pytest
import torch
from playout.agents.networks.boards.resnet import FoldedResNet, ResNetConfig, build, parse_size
from playout.errors import ConfigError


def trained(net):
    """Moves weights and running statistics away from where they start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.3 * torch.randn(buffer.shape, generator=generator))
            if name.endswith("running_var"):
                buffer.mul_(1.7)
    return net.eval()


def boards(count, shape=(2, 6, 7)):
    return torch.from_numpy(
        np.random.default_rng(0).integers(0, 2, (count, *shape)).astype(np.float32)
    )


@pytest.mark.parametrize("pooling", [False, True])
def test_a_folded_network_answers_as_the_original(pooling):
    net = trained(build((2, 6, 7), 7, size="16x3", pooling=pooling))
    obs = boards(9)
    with torch.no_grad():
        logits, values = net(obs)
        folded_logits, folded_values = FoldedResNet(net)(obs)
    assert values.shape == (9,)
    torch.testing.assert_close(folded_logits, logits, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(folded_values, values, atol=2e-4, rtol=2e-4)


def test_refresh_takes_over_new_weights():
    net = build((2, 3, 3), 9, size="tiny")
    folded = FoldedResNet(net.eval())
    obs = boards(4, (2, 3, 3))
    trained(net)
    folded.refresh(net)
    with torch.no_grad():
        torch.testing.assert_close(folded(obs)[0], net(obs)[0], atol=2e-4, rtol=2e-4)


def test_a_fresh_network_is_uniform_and_even():
    net = build((2, 6, 7), 7, size="tiny").eval()
    with torch.no_grad():
        logits, values = net(boards(5))
    assert logits.abs().max() < 0.1
    assert values.abs().max() < 0.1


def test_more_than_two_players_have_a_value_each():
    net = build((3, 4, 4), 5, size="tiny", num_players=3).eval()
    with torch.no_grad():
        assert net(boards(2, (3, 4, 4)))[1].shape == (2, 3)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    one, two, other = (build((2, 3, 3), 9, size="tiny", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.stem.weight, other.stem.weight)


@pytest.mark.parametrize("size", ["", "huge", "48", "0x4", "48x", "9999x4", "4x-1"])
def test_unknown_sizes_are_refused(size):
    with pytest.raises(ConfigError, match="size"):
        parse_size(size)


def test_a_description_survives_its_dictionary_and_refuses_strangers():
    config = build((2, 6, 7), 7, size="48x4").config
    assert ResNetConfig.from_dict(config.to_dict()) == config
    for damaged in (
        {},
        {**config.to_dict(), "colour": 1},
        {**config.to_dict(), "obs_shape": [1, 2]},
    ):
        with pytest.raises(ConfigError):
            ResNetConfig.from_dict(damaged)

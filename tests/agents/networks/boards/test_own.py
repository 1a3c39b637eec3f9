"""Networks of a person's own: what they need, what is said when something is missing."""

import re
import sys
import time

import numpy as np
import playout
import pytest
import torch
from own_boards import Marks
from playout.agents.alphazero.config import LearnerConfig
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.learner import Learner
from playout.agents.networks.boards.network import tuning_of
from playout.agents.networks.boards.registry import new_network, restore_network
from playout.agents.networks.boards.trunk import trunk_modules, trunk_parameters
from playout.agents.optim.muon import Muon
from playout.errors import ConfigError

GAME = playout.game("tic_tac_toe")


def boards(count):
    states = GAME.batch(count)
    states.random_plies(np.arange(count, dtype=np.int32) % 6, 3)
    return states.observe()


def test_sizes_come_from_the_dial_and_from_brackets():
    net = new_network(GAME, "12x3", network="own_boards:Convolutions")
    assert net.config.sizes == {"channels": 12, "blocks": 3}
    assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == 4
    net = new_network(GAME, "12x3", network="own_boards:Mlp(width=5)")
    assert net.config.sizes == {"width": 5} and net.net.out.in_features == 5
    again = restore_network(net.config.to_dict())
    assert again.net.out.in_features == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("own_boards:WrongLogits", r"logits of 2 boards must be [2, 9], not [2, 8]"),
        ("own_boards:WrongValues", r"values of 2 boards must be [2] or [2, 1], not [2, 2]"),
        ("own_boards:Points", "values must be results from -1 to 1, not 300"),
        ("own_boards:Whole", "must be floating-point numbers, not torch.float32 and torch.int64"),
        ("own_boards:OnlyLogits", "must return two tensors (logits, values), not Tensor"),
        ("own_boards:NotFinite", "not finite"),
        ("own_boards:Raises", "forward of [2, 2, 3, 3] raised RuntimeError: "),
        ("own_boards:NeedsMore", "constructor raised TypeError: NeedsMore.__init__() missing 1"),
        ("own_boards:Mlp(depth=3)", "constructor raised TypeError"),
        ("own_boards:Mlp(3)", "only keyword arguments"),
        ("own_boards:Mlp(width=", "write module:Class(name=value"),
        ("own_boards:Mlp(width=__import__('os'))", "write module:Class(name=value"),
        ("own_boards:Empty", "no parameters to learn"),
        ("own_boards:no_network", "must be a torch.nn.Module, not tuple"),
        ("own_boards:not_callable", "must be a class (torch.nn.Module), not 3"),
        ("own_boards:Nobody", "cannot find the network 'own_boards:Nobody'"),
    ],
)
def test_what_is_missing_is_said_in_a_line(text, said):
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        new_network(GAME, "tiny", network=text)
    assert "\n" not in str(caught.value)


def test_values_may_have_one_axis_or_a_second_one_of_length_one():
    column = new_network(GAME, "tiny", network="own_boards:Mlp").eval()
    flat = new_network(GAME, "tiny", network="own_boards:Flat").eval()
    obs = torch.from_numpy(boards(5))
    assert column.net(obs)[1].shape == (5, 1) and flat.net(obs)[1].shape == (5,)
    for one, other in zip(column(obs), flat(obs), strict=True):
        assert torch.equal(one, other)
    assert column(obs)[1].shape == (5,)


def test_more_players_want_a_value_each():
    game = playout.game(Marks(players=3, planes=3))
    with pytest.raises(ConfigError, match=r"values of 2 boards must be \[2, 3\], not \[2\]"):
        new_network(game, "tiny", network="own_boards:Convolutions")


def test_code_that_only_a_file_names_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "boards_of_a_stranger.py").write_text("from own_boards import Mlp\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "boards_of_a_stranger:Mlp"
    described = {
        **new_network(GAME, "tiny", network="own_boards:Mlp").config.to_dict(),
        "network": name,
    }
    with pytest.raises(ConfigError, match=r"runs/x names code .* add --trust boards_of_a_stranger"):
        restore_network(described, "runs/x")
    assert "boards_of_a_stranger" not in sys.modules
    monkeypatch.setenv("PLAYOUT_TRUST", "boards_of_a_stranger")
    assert restore_network(described, "runs/x").config.network == name


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("os:system", {"command": "touch ran"}),
        ("subprocess:Popen", {"args": ["touch", "ran"]}),
        ("playout.own_code:os.system", {"command": "touch ran"}),
    ],
)
def test_a_stored_network_calls_nothing_that_is_not_the_persons_own(
    name, sizes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    described = new_network(GAME, "tiny", network="own_boards:Mlp").config.to_dict()
    with pytest.raises(ConfigError, match="add --trust"):
        restore_network({**described, "network": name, "sizes": sizes}, "runs/x")
    time.sleep(0.05)  # for a program that was started
    assert not (tmp_path / "ran").exists()


def test_what_insists_on_float32_answers_in_float32():
    net = new_network(GAME, "tiny", network="own_boards:Insisting")
    exact, rounded = (
        NetworkEvaluator(net, device="cpu", dtype=dtype).evaluate_obs(boards(5))
        for dtype in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(rounded[0], exact[0], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_answers_that_are_parts_of_a_table_lie_together(dtype):
    net = new_network(GAME, "12x3", network="own_boards:Mlp(width=5)")
    for rows in (5, 200):  # one pass, and several
        for found in NetworkEvaluator(net, device="cpu", dtype=dtype).evaluate_obs(boards(rows)):
            assert found.flags.c_contiguous


def test_values_that_are_not_squashed_stay_within_bounds_and_learn():
    """Without a tanh of its own the network's values may leave [-1, 1]."""
    net = new_network(GAME, "tiny", network="own_boards:Convolutions")
    with torch.no_grad():
        net.net.value.bias.fill_(3.0)
    _, value_logits = net.heads(torch.from_numpy(boards(4)))
    values = net.eval()(torch.from_numpy(boards(4)))[1]
    assert value_logits.isfinite().all() and (values <= 1).all() and (values > 0.99).all()
    value_logits.sum().backward()
    assert net.net.value.bias.grad.abs() > 0


def test_a_network_of_ones_own_takes_careful_steps_unless_it_says_otherwise():
    net = new_network(GAME, "tiny", network="own_boards:Mlp")
    assert tuning_of(net).rate_scale == 0.1
    learner = Learner(net, LearnerConfig(learning_rate=0.02), device="cpu")
    assert learner.peak_rate == pytest.approx(0.002)
    net = new_network(GAME, "tiny", network="own_boards:Bold")
    learner = Learner(net, LearnerConfig(learning_rate=0.02), device="cpu")
    assert learner.peak_rate == pytest.approx(0.01)
    assert [one.parameters for one in learner.optimizers if isinstance(one, Muon)] == [
        [net.net.trunk[1].weight]
    ]


def test_a_network_of_ones_own_says_what_its_trunk_is():
    net = new_network(GAME, "tiny", network="own_boards:Bold")
    names = {name for name, _ in net.named_parameters() if name.startswith("net.trunk.")}
    assert set(trunk_parameters(net)) == names != set()
    assert set(trunk_modules(net)) == {net.net.trunk, *net.net.trunk}
    assert trunk_parameters(net, fresh=["net.trunk.1.weight"]) == ["net.trunk.1.bias"]
    with pytest.raises(ConfigError, match=r"names its heads \(Tuning.heads\)"):
        trunk_parameters(new_network(GAME, "tiny", network="own_boards:Mlp"))

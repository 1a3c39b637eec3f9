"""Evaluator and learner on a device that is no processor: same answers, counted crossings."""

import threading

import numpy as np
import playout
import pytest
import second_device
import torch
from own_boards import Marks
from playout.agents.alphazero.config import LearnerConfig
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.learner import Learner, mean_metrics
from playout.agents.networks.boards import inference
from playout.agents.networks.boards.registry import new_network
from playout.errors import DivergedError
from random_replay import replay_of
from torch.utils._pytree import tree_map

GAME = playout.game("connect_four")
NETWORKS = {
    "resnet": {"pooling": True},
    "resnet pooled": {"heads": "pooled"},
    "transformer": {"network": "transformer"},
    "own": {"network": "own_boards:Convolutions"},
}


def lively(network, game=GAME):
    """A network that says something."""
    net = new_network(game, "16x2", **NETWORKS[network])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def boards(count, game=GAME):
    states = game.batch(count)
    states.random_plies(np.arange(count, dtype=np.int32) % 7, 3)
    return states.observe()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_device_answers_as_the_processor_with_one_crossing_each_way(second, network, dtype):
    net, obs = lively(network), boards(21)
    there = NetworkEvaluator(net, device=second, dtype=dtype)
    wanted = NetworkEvaluator(net, device="cpu", dtype=dtype).evaluate_obs(obs)
    with second_device.crossings() as crossed:
        found = there.evaluate_obs(obs)
    assert (crossed.to_device, crossed.to_host) == (1, 1), crossed
    tolerance = 1e-4 if dtype == "float32" else 0.1
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=tolerance)


def test_large_batches_go_in_chunks_and_values_keep_a_column_a_player(second):
    game = playout.game(Marks(players=3, planes=3))
    net = lively("transformer", game)
    there = NetworkEvaluator(net, device="second", dtype="float32", chunk=16)
    wanted = NetworkEvaluator(net, device="cpu", dtype="float32").evaluate_obs(boards(37, game))
    with second_device.crossings() as crossed:
        found = there.evaluate_obs(boards(37, game))
    assert crossed.total == 6 and found[1].shape == (37, 3)
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_answers_that_are_not_finite_are_reported_on_a_device(second):
    net = lively("resnet")
    with torch.no_grad():
        net.value.bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match="NaN"):
        NetworkEvaluator(net, device=second).evaluate_obs(boards(3))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_crosses_once_and_an_update_fetches_once(second, network, optimizer):
    config = LearnerConfig(batch_size=32, optimizer=optimizer, num_shards=1, dtype="float32")
    here, there = (
        Learner(new_network(GAME, "16x1", **NETWORKS[network]), config, device=device)
        for device in ("cpu", second)
    )
    replay = replay_of(96, GAME)
    wanted = [here.step(replay.batch(i, 32), done=0.1) for i in range(3)]
    batches = [replay.batch(i, 32) for i in range(3)]
    with second_device.crossings() as crossed:
        rows = [there.step(batch, done=0.1) for batch in batches]
    assert crossed.total <= 3 * 1, crossed
    with second_device.crossings() as crossed:
        found = mean_metrics(rows)
    assert crossed.total == 1, crossed
    for name, value in mean_metrics(wanted).items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    obs = torch.from_numpy(boards(5))
    with torch.no_grad():  # not the weights: some have no gradient but rounding's
        answers = zip(there.average(obs.to(second)), here.average(obs), strict=True)
    for mine, theirs in answers:
        torch.testing.assert_close(mine.cpu(), theirs, atol=2e-3, rtol=2e-2)


def test_autocast_learns_on_a_device_and_its_state_moves_to_the_processor(second):
    config = LearnerConfig(batch_size=32)
    there = Learner(new_network(GAME, "16x1"), config, device=second)
    replay = replay_of(96, GAME)
    rows = [there.step(replay.batch(0, 32), done=0.1) for _ in range(12)]
    assert float(rows[-1]["train/policy_loss"]) < float(rows[0]["train/policy_loss"])
    state = tree_map(lambda x: x.cpu() if torch.is_tensor(x) else x, there.state_dict())
    here = Learner(new_network(GAME, "16x1", seed=9), config, device="cpu")
    here.load_state_dict(state)
    again = Learner(new_network(GAME, "16x1", seed=9), config, device=second)
    again.load_state_dict(state)
    for one in (here, again):
        for mine, theirs in zip(one.net.parameters(), there.net.parameters(), strict=True):
            assert torch.equal(mine.detach().cpu(), theirs.detach().cpu())
    batch = replay.batch(5, 32)
    for one in (there, again):
        one.step(batch, done=0.2)
    for mine, theirs in zip(again.net.parameters(), there.net.parameters(), strict=True):
        assert torch.equal(mine.detach().cpu(), theirs.detach().cpu())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_backend_that_has_nothing_but_operations_learns_as_the_processor(second, dtype):
    config = LearnerConfig(batch_size=64, num_shards=1, dtype=dtype)
    replay = replay_of(96, GAME)
    with second_device.plain():
        there = Learner(lively("resnet"), config, device=second)
        here = Learner(lively("resnet"), config, device="cpu")
        for number in range(3):
            for learner in (here, there):
                learner.step(replay.batch(number, 64), done=0.5)
    start, obs = lively("resnet").state_dict(), torch.from_numpy(boards(5))
    tolerance = 2e-3 if dtype == "float32" else 0.1
    for name in ("net", "average"):
        mine, theirs = (getattr(one, name).eval() for one in (there, here))
        for key, value in mine.state_dict().items():
            assert "weight" not in key or not torch.equal(value.cpu(), start[key]), key
        with torch.no_grad():
            for one, other in zip(mine(obs.to(second)), theirs(obs), strict=True):
                torch.testing.assert_close(one.cpu(), other, atol=tolerance, rtol=0.02)
    again = Learner(new_network(GAME, "16x2", pooling=True), config, device=second)
    again.load_state_dict(there.state_dict())
    for learner in (there, again):
        learner.step(replay.batch(3, 64), done=0.5)
    for mine, theirs in zip(again.average.parameters(), there.average.parameters(), strict=True):
        assert torch.equal(mine.cpu(), theirs.cpu())


def test_a_loss_that_is_not_finite_ends_the_update_on_a_device(second):
    learner = Learner(new_network(GAME, "8x1"), LearnerConfig(batch_size=32), device=second)
    with torch.no_grad():
        learner.net.policy.bias.fill_(float("nan"))
    rows = [learner.step(replay_of(96, GAME).batch(i, 32), done=0.0) for i in range(2)]
    with pytest.raises(DivergedError, match="not finite"):
        mean_metrics(rows)


def test_graphs_are_captured_when_the_evaluator_is_made_and_never_by_a_thread(monkeypatch):
    """With a stand-in for a card's graphs: who makes one, and when."""
    made = []

    class Counted(inference.RecordedPass):
        def __init__(self, net, config, *, dtype, device, max_rows):
            made.append((threading.current_thread().name, max_rows))
            super().__init__(net, config, dtype)

    def on_a_card(net, config, *, dtype, device, max_rows):
        return Counted(net, config, dtype=dtype, device=device, max_rows=max_rows)

    monkeypatch.setattr("playout.agents.alphazero.evaluator.make_pass", on_a_card)
    evaluator = NetworkEvaluator(lively("resnet"), device="cpu", chunk=64)
    main = threading.current_thread().name
    assert made == [(main, 64)]
    threads = [
        threading.Thread(target=evaluator.evaluate_obs, args=(boards(rows),))
        for rows in (3, 70, 200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    evaluator.refresh(lively("resnet"))
    evaluator.evaluate_obs(boards(5))
    assert made == [(main, 64)]


def test_padded_batches_have_few_shapes_and_little_waste():
    sizes = {inference.padded_rows(rows, processor=False) for rows in range(1, 4097)}
    assert len(sizes) < 20 and max(sizes) == 4096 and min(sizes) == 16
    for rows in range(1, 4097):
        padded = inference.padded_rows(rows, processor=False)
        assert padded >= rows and (padded <= 16 or padded <= 1.5 * rows)
    assert [inference.padded_rows(n, processor=True) for n in (1, 5, 16, 17, 40)] == [
        1,
        8,
        16,
        32,
        48,
    ]


def test_a_network_that_branches_on_its_batch_is_not_recorded():
    net = new_network(GAME, "tiny", network="own_boards:Branching")
    evaluator = NetworkEvaluator(net, device="cpu", dtype="float32", chunk=64)
    obs = boards(40)
    with torch.no_grad():
        wanted = net.eval()(torch.from_numpy(obs))[0].numpy()
    np.testing.assert_allclose(evaluator.evaluate_obs(obs)[0], wanted, atol=1e-5)

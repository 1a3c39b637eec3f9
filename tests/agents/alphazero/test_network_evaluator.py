import numpy as np
import playout
import pytest
import torch
from playout.agents.alphazero.evaluator import (
    NetworkEvaluator,
    RandomSymmetryEvaluator,
    SymmetricEvaluator,
    measure_rate,
)
from playout.agents.networks.boards.resnet import build
from playout.errors import ConfigError, DivergedError
from playout.mcts.evaluators import LeafBatch
from playout.mcts.search import Search, SearchConfig


def boards(count, shape=(2, 6, 7)):
    return np.random.default_rng(0).integers(0, 2, (count, *shape)).astype(np.float32)


def lively(size="16x2"):
    net = build((2, 6, 7), 7, size=size)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in (net.policy, net.value):
            layer.weight.normal_(std=0.05, generator=generator)
        for block in net.blocks:
            block.norm2.weight.fill_(0.5)
    return net.eval()


def test_padding_and_neighbours_do_not_change_a_row():
    evaluator = NetworkEvaluator(lively(), device="cpu", dtype="float32", chunk=16)
    obs = boards(37)
    logits, values = evaluator.evaluate_obs(obs)
    for rows in (slice(0, 16), slice(16, 32)):  # whole chunks: the very same shape
        part_logits, part_values = evaluator.evaluate_obs(obs[rows])
        assert np.array_equal(part_logits, logits[rows])
        assert np.array_equal(part_values, values[rows])
    for row in (0, 20, 36):  # other shapes: the same to rounding
        one_logits, one_values = evaluator.evaluate_obs(obs[row : row + 1])
        np.testing.assert_allclose(one_logits[0], logits[row], atol=1e-5)
        np.testing.assert_allclose(one_values[0], values[row], atol=1e-5)


def test_bfloat16_stays_close_to_float32():
    net = lively("32x3")
    obs = boards(64)
    exact = NetworkEvaluator(net, device="cpu", dtype="float32").evaluate_obs(obs)
    rounded = NetworkEvaluator(net, device="cpu", dtype="bfloat16").evaluate_obs(obs)
    assert np.abs(exact[0]).max() > 0.1
    np.testing.assert_allclose(rounded[0], exact[0], atol=0.05 * np.abs(exact[0]).max())
    np.testing.assert_allclose(rounded[1], exact[1], atol=0.05)


def test_a_network_that_answers_nan_is_reported():
    net = lively()
    with torch.no_grad():
        net.value.bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match="NaN"):
        NetworkEvaluator(net, device="cpu").evaluate_obs(boards(3))


def test_wrong_observations_dtypes_and_chunks_are_refused():
    net = lively()
    with pytest.raises(ValueError, match="observations"):
        NetworkEvaluator(net, device="cpu").evaluate_obs(boards(3, (2, 7, 6)))
    with pytest.raises(ConfigError, match="dtype"):
        NetworkEvaluator(net, device="cpu", dtype="int3")
    with pytest.raises(ConfigError, match="chunk"):
        NetworkEvaluator(net, device="cpu", chunk=48)
    with pytest.raises(ConfigError, match="shape"):
        NetworkEvaluator(net, device="cpu").refresh(build((2, 6, 7), 7, size="8x1"))


def test_it_evaluates_the_leaves_of_a_search():
    game = playout.game("connect_four")
    evaluator = NetworkEvaluator(lively(), device="cpu")
    search = Search(game, SearchConfig(num_simulations=8, cache_size=0), num_trees=5)
    result = search.run(game.batch(5), evaluator)
    assert (result.visits.sum(axis=1) == 8).all()
    assert evaluator.num_evaluations >= 5 * 8


def test_the_dtype_is_chosen_by_the_processor_and_the_rate_is_measured():
    assert NetworkEvaluator(lively(), device="cpu").dtype in ("float32", "bfloat16")
    assert measure_rate(NetworkEvaluator(lively(), device="cpu"), batch=16, seconds=0.01) > 0


def test_the_mean_over_symmetries_is_the_same_for_mirrored_positions():
    game = playout.game("tic_tac_toe")
    network = NetworkEvaluator(
        build(game.obs_shape, 9, size="tiny", seed=3), device="cpu", dtype="float32"
    )
    evaluator = SymmetricEvaluator(network, game)
    states = game.batch(20)
    states.random_plies(np.arange(20, dtype=np.int32) % 6, 4)
    logits, values = evaluator.evaluate(LeafBatch.of(states))
    moved = game.symmetry_actions()
    for k in range(game.num_symmetries):
        seen_logits, seen_values = evaluator.evaluate(LeafBatch.of(states.symmetry(k)))
        np.testing.assert_allclose(seen_values, values, atol=1e-5)
        np.testing.assert_allclose(seen_logits[:, moved[k]], logits, atol=1e-5)
    alone, _ = network.evaluate(LeafBatch.of(states))
    assert not np.allclose(alone, logits, atol=1e-6)


def test_a_position_is_answered_through_the_symmetry_that_was_drawn_for_it():
    game = playout.game("tic_tac_toe")
    network = NetworkEvaluator(
        build(game.obs_shape, 9, size="tiny", seed=3), device="cpu", dtype="float32"
    )
    evaluator = RandomSymmetryEvaluator(network, game, seed=5)
    states = game.batch(60)
    states.random_plies(np.arange(60, dtype=np.int32) % 6, 4)
    kinds = evaluator.symmetries(states)
    assert set(kinds.tolist()) == set(range(8))
    logits, values = evaluator.evaluate(LeafBatch.of(states))
    for row, kind in enumerate(kinds.tolist()):
        seen, worth = network.evaluate(LeafBatch.of(states[[row]].symmetry(kind)))
        back = [game.symmetry_action(kind, action) for action in range(9)]
        np.testing.assert_allclose(logits[row], seen[0, back], atol=1e-5)
        np.testing.assert_allclose(values[row], worth[0], atol=1e-5)
    alone, _ = evaluator.evaluate(LeafBatch.of(states[[7]]))
    np.testing.assert_allclose(alone[0], logits[7], atol=1e-5)
    evaluator.number = 1
    assert (evaluator.symmetries(states) != kinds).mean() > 0.5

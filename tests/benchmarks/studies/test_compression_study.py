"""The study of compression: what networks are judged on, and how bytes are counted."""

import numpy as np
import pytest
import torch
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.networks.boards.registry import new_network
from playout.agents.pretraining.data.sources import load
from playout.benchmarks.studies import compression, smaller_language
from playout.benchmarks.studies.smaller_language import Made, packed_bytes
from playout.rlhf.model.transformer import Transformer, TransformerConfig

GAME = "connect_four(width=4,height=4)"


def network(data):
    return new_network(data.train.game, "4x2", seed=0).eval()


@pytest.mark.slow
def test_a_network_is_judged_on_what_its_seed_held_out_and_shown_what_it_learned_from(monkeypatch):
    splits = [load(GAME, count=200, seed=seed) for seed in (0, 1)]
    shown, asked = [], []

    class Spy(NetworkEvaluator):
        def __init__(self, net, *, calibration, **options):
            shown.append(calibration)
            super().__init__(net, calibration=calibration, **options)
            asked.append([])

        def evaluate_obs(self, obs):
            asked[-1].append(obs)
            return super().evaluate_obs(obs)

    monkeypatch.setattr(compression, "NetworkEvaluator", Spy)
    monkeypatch.setattr(compression, "network_of", network)
    rows = compression.rows_of("a network", splits, splits, rounds=1)
    assert {row["type"] for row in rows} >= {"float32", "int8"} and len(shown) == 2 * len(rows)
    for number, (calibration, (judged, *_)) in enumerate(zip(shown, asked, strict=True)):
        own = splits[number % 2]
        assert np.array_equal(judged, own.test.images(np.arange(len(own.test))))
        learned = {board.tobytes() for board in own.train.images(np.arange(len(own.train)))}
        assert {board.tobytes() for board in calibration} <= learned


@pytest.mark.slow
def test_few_bits_and_onnx_runtime_have_rows_of_their_own(monkeypatch, tmp_path):
    split = load(GAME, count=200, seed=0)
    monkeypatch.setattr(compression, "network_of", network)
    rows = {row["type"]: row for row in compression.rows_of("a", [split], [split], rounds=1)}
    assert rows.keys() >= {"float32", "int8", "int8 weights", "nf4 weights"}
    assert rows["nf4 weights"]["kB"] < rows["int8 weights"]["kB"] < rows["float32"]["kB"]
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    found = list(compression.runtime_rows("a", [split], [split], tmp_path, rounds=1))
    kinds = ["ONNX Runtime float32", "ONNX Runtime int8", "ONNX Runtime int8 dynamic"]
    assert [row["type"] for row in found] == kinds
    assert found[0]["moves kept"] == rows["float32"]["moves kept"]
    assert all(row["kB"] > 0 and row["evaluations/s"] > 0 for row in found)
    assert {*rows, *kinds} <= compression.MARKS.keys()


def test_zeros_are_left_out_of_bytes_and_pay_for_their_places():
    weight = torch.ones(8, 8)
    weight[:, :6] = 0
    assert packed_bytes(weight, 4) == 16 * 4 + 8
    assert packed_bytes(weight, 1) == 16 + 8
    weight[:] = 1
    weight[0, 0] = 0
    assert packed_bytes(weight, 4) == 64 * 4  # a bitmap would cost more than it saves


def test_heads_and_the_first_convolution_stay_four_bytes_a_weight_in_int8():
    net = network(load(GAME, count=200, seed=0))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.1)
    whole, half, eighth = (
        compression.stored_bytes(net, kind) for kind in ("float32", "bfloat16", "int8")
    )
    assert half == whole / 2
    features = net.config.head_channels
    # Four convolutions of 4 channels and the 1x1 before the heads; each output has a scale.
    assert whole - eighth == 3 * (4 * 4 * 4 * 9 + 4 * features) - 4 * (4 * 4 + features)
    with torch.no_grad():
        net.blocks[0].conv1.weight[:3] = 0
    kept = 4 * 9
    assert compression.stored_bytes(net, "float32") == whole - 4 * (3 * kept) + 4 * kept / 8


def test_kilobytes_of_a_pruned_language_model_hold_the_places_of_its_weights(monkeypatch):
    monkeypatch.setattr(smaller_language, "tokens_a_second", lambda model: 1.0)
    model = Transformer(TransformerConfig(50, 16, 32, 1, 2, 2))
    before = Made("m", "pruned", model, 1.0, 1.0).row()["kB"]
    with torch.no_grad():
        model.blocks[0].o_proj.weight.zero_()
    count = model.blocks[0].o_proj.weight.numel()
    after = Made("m", "pruned", model, 1.0, 1.0).row()["kB"]
    assert before - after == pytest.approx((4 * count - count / 8) / 1000)

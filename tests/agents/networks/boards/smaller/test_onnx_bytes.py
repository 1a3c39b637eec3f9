"""Products of bytes by ONNX Runtime: near torch's answers, and bytes indeed."""

import numpy as np
import pytest
import torch
from playout.agents.networks.boards.smaller import export, onnx_bytes
from playout.agents.networks.boards.smaller.onnx_bytes import (
    agreement,
    answers_of,
    session_of,
    write_bytes_onnx,
)
from playout.agents.runs.kinds import ExportOptions
from playout.cli import main
from playout.errors import RunError

from tests.agents.networks.boards.smaller.test_held_boards import moved, positions

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def network():
    return moved("16x2", pooling=True)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_file_of_bytes_is_near_the_networks_answers(network, tmp_path, dynamic):
    shown, path = positions(256).numpy(), tmp_path / "bytes.onnx"
    write_bytes_onnx(network, path, shown, dynamic=dynamic)
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert kinds >= ({"ConvInteger"} if dynamic else {"QuantizeLinear", "DequantizeLinear"})
    asked = positions(100)
    with torch.no_grad():
        wanted, worth = network(asked)
    logits, values = answers_of(session_of(path), asked.numpy())
    assert abs(logits - wanted.numpy()).mean() < 0.1 * float(wanted.std())
    assert abs(values - worth.numpy()).max() < 0.2
    same, distance = agreement(network, path, shown)
    assert same > 0.8 and 0 < distance < 0.1


@pytest.mark.slow
def test_a_file_that_chooses_other_moves_is_refused(network, tmp_path, monkeypatch):
    shown, path = positions(64).numpy(), tmp_path / "bytes.onnx"
    write_bytes_onnx(network, path, shown, dynamic=True)
    monkeypatch.setattr(onnx_bytes, "LEAST_AGREEMENT", 1.1)
    with pytest.raises(RunError, match="nothing was kept"):
        agreement(network, path, shown)


def test_positions_that_choose_scales_are_not_those_that_are_compared(
    network, tmp_path, monkeypatch, capsys
):
    drawn, seen = [], {}

    def shown():
        drawn.append(np.arange(20, dtype=np.float32).reshape(20, 1, 1, 1))
        return drawn[-1]

    def write(net, path, positions, *, dynamic):
        seen["scales"] = set(positions.flat)
        path.touch()

    def compare(net, path, positions):
        seen["compared"] = set(positions.flat)
        return 1.0, 0.0

    monkeypatch.setattr(export, "write_bytes_onnx", write)
    monkeypatch.setattr(export, "agreement", compare)
    options = ExportOptions(format="onnx", quantise="int8", out=tmp_path / "net.onnx")
    export.export_in_few_bits(None, options, network, shown)
    assert len(drawn) == 1 and len(seen["scales"]) == len(seen["compared"]) == 10
    assert not seen["scales"] & seen["compared"]
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "dynamic"])
def test_the_command_writes_bytes_and_says_how_near_they_are(untrained_run, tmp_path, capsys, kind):
    out = tmp_path / "net.onnx"
    line = ["export", str(untrained_run), "--format", "onnx", "--quantise", kind]
    assert main([*line, "--out", str(out)]) == 0
    assert "the network's own move in" in capsys.readouterr().out
    assert session_of(out).get_inputs()[0].name == "obs" and list(tmp_path.iterdir()) == [out]

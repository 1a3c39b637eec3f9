"""`playout export` for runs that have learned a game: the network as ONNX or safetensors.

The ONNX network takes observations [batch, C, H, W] and answers logits and values, and is compared
with the original before the command ends. Search and rules are not part of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from playout.agents.alphazero.player import load_network
from playout.agents.networks.board import BoardNetwork
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import ExportOptions
from playout.errors import ConfigError, PlayoutError

TOLERANCE = 1e-4


def export(run: RunDir, options: ExportOptions) -> None:
    """Writes the network of a run."""
    game, net, step = load_network(run, options.which)
    head = {"game": str(game), "step": str(step), "network": json.dumps(net.config.to_dict())}
    if options.format == "safetensors":
        from safetensors.torch import save_file

        path = Path(options.out or run.path / "network.safetensors")
        save_file(
            {name: tensor.contiguous() for name, tensor in net.state_dict().items()},
            path,
            metadata=head,
        )
    elif options.format == "onnx":
        path = Path(options.out or run.path / "network.onnx")
        _write_onnx(net, path)
        if options.check:
            print(f"largest difference to the original: {check_onnx(net, path):.1e}")
    else:
        raise ConfigError(
            f"a game's network is exported as onnx or safetensors, not {options.format}"
        )
    print(f"wrote {path}")


def _write_onnx(net: BoardNetwork, path: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise PlayoutError(
            'exporting to ONNX needs more packages: pip install "playout[export]"'
        ) from None
    assert isinstance(net, torch.nn.Module)
    example = torch.zeros((2, *net.config.obs_shape))
    torch.onnx.export(
        net,
        (example,),
        str(path),
        input_names=["obs"],
        output_names=["logits", "values"],
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )


def check_onnx(net: BoardNetwork, path: Path) -> float:
    """The largest difference between the exported network and the original, on random boards."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    obs = np.random.default_rng(0).integers(0, 2, (5, *net.config.obs_shape)).astype(np.float32)
    answers = session.run(None, {"obs": obs})
    with torch.no_grad():
        expected = net(torch.from_numpy(obs))
    worst = max(float(np.abs(a - b.numpy()).max()) for a, b in zip(answers, expected, strict=True))
    if worst > TOLERANCE:
        raise PlayoutError(
            f"the exported network differs from the original by {worst:.2g}: do not use {path}"
        )
    return worst

"""A board network as ONNX that multiplies bytes, made and asked by ONNX Runtime (extra "export").

Static: activations have scales from positions that the network is shown (QDQ nodes, int8 weights
with a scale a channel). Dynamic: scales of activations are found anew for every batch. `agreement`
compares a file with its network. Left out: formats without loss (networks/export.py).
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.export import ExportedBoard, write_onnx
from playout.errors import RunError

__all__ = ["agreement", "answers_of", "session_of", "write_bytes_onnx"]

LEAST_AGREEMENT = 0.5  # of the likeliest moves: below it something is wrong, not merely rounded
BATCH = 64


def write_bytes_onnx(
    net: BoardNetwork, path: Path, shown: npt.NDArray[np.float32], *, dynamic: bool
) -> None:
    """Writes a network as ONNX with products of bytes.

    Args:
        net: the network.
        path: of the file.
        shown: float32 [M, C, H, W], positions as they are met; static scales follow from them.
        dynamic: scales of activations follow from every batch instead.

    Raises:
        RunError: the extra "export" is not installed.
    """
    try:
        from onnxruntime import quantization  # type: ignore[import-untyped]
    except ImportError:
        raise RunError("this needs onnxruntime: pip install 'playout[export]'") from None
    folded = net.inference_copy(dtype=torch.float32, device=torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder, _no_advice():
        plain = Path(folder) / "plain.onnx"
        write_onnx(ExportedBoard(net, folded), plain)
        if dynamic:
            quantization.quantize_dynamic(str(plain), str(path), per_channel=True)
            return
        quantization.quantize_static(
            str(plain),
            str(path),
            _Shown(shown),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
        )


def agreement(net: BoardNetwork, path: Path, shown: npt.NDArray[np.float32]) -> tuple[float, float]:
    """How near a file's answers are: the share of positions whose likeliest move is the network's.

    And the mean distance of values.

    Raises:
        RunError: they have hardly anything in common, or are not finite.
    """
    logits, values = answers_of(session_of(path), shown)
    with torch.no_grad():
        wanted, worth = (part.numpy() for part in net(torch.from_numpy(shown)))
    same = float((logits.argmax(1) == wanted.argmax(1)).mean())
    distance = float(np.abs(values - worth).mean())
    if not (np.isfinite(logits).all() and same >= LEAST_AGREEMENT and np.isfinite(distance)):
        raise RunError(
            f"in bytes the network chooses its own move in {100 * same:.0f} % of the positions "
            "only; nothing was kept"
        )
    return same, distance


def session_of(path: Path) -> Any:
    """The file, ready to be asked on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers_of(
    session: Any, obs: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Logits [M, A] and values of a file that is ready for positions [M, C, H, W]."""
    parts = [session.run(["logits", "values"], {"obs": part}) for part in _batches(obs)]
    return tuple(np.concatenate(side) for side in zip(*parts, strict=True))  # type: ignore[return-value]


def _batches(obs: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    return (obs[start : start + BATCH] for start in range(0, len(obs), BATCH))


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Keeps what quantising says of preprocessing, which was done, off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Shown:
    """Positions as ONNX Runtime reads them to find scales."""

    def __init__(self, obs: npt.NDArray[np.float32]) -> None:
        self._parts = _batches(obs)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next batch by the names of the inputs; None at the end."""
        part = next(self._parts, None)
        return None if part is None else {"obs": part}

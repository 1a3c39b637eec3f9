"""What `playout export RUN --quantise` does with the run of a board network: a run, or ONNX."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.smaller.onnx_bytes import agreement, write_bytes_onnx
from playout.agents.networks.boards.smaller.run import state_bytes, write_held_run
from playout.agents.networks.export import whole_file
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import ExportOptions
from playout.errors import ConfigError
from torch import nn

__all__ = ["export_in_few_bits"]


def export_in_few_bits(
    run: RunDir,
    options: ExportOptions,
    net: BoardNetwork,
    shown: Callable[[], npt.NDArray[np.float32]],
) -> None:
    """Writes a run of few bits, or with `--format onnx` a file that multiplies bytes.

    Args:
        run: The run.
        options: With `quantise`.
        net: Its network.
        shown: Positions as the network meets them, float32 [M, C, H, W]; every second one chooses
            scales, and the others are asked.

    Raises:
        ConfigError: There is no such thing.
    """
    bits, wanted = options.quantise, options.format
    assert bits is not None and isinstance(net, nn.Module)
    if wanted not in (None, "run", "onnx"):
        raise ConfigError(
            f"--quantise {bits} of a board network makes a run, or onnx, not {wanted}: export the "
            "run that it makes"
        )
    if bits == "dynamic" and wanted == "run":
        raise ConfigError("scales of each batch are ONNX Runtime's: use --format onnx")
    if bits == "nf4" and wanted == "onnx":
        raise ConfigError(
            "ONNX Runtime multiplies bytes: use --quantise int8 or dynamic, or export the run that "
            "--quantise nf4 makes"
        )
    if wanted == "onnx" or bits == "dynamic":
        path = options.out or run.path / f"network-{bits}.onnx"
        positions = shown()
        with whole_file(path) as aside:
            write_bytes_onnx(net, aside, positions[::2], dynamic=bits == "dynamic")
            text = f"ONNX, {aside.stat().st_size / 1000:,.0f} kB"
            if options.check:
                same, distance = agreement(net, aside, positions[1::2])
                text += (
                    f", the network's own move in {100 * same:.1f} % of other positions, "
                    f"values {distance:.3f} beside its"
                )
        print(f"wrote {path} ({text})")
        return
    if not options.check:
        raise ConfigError("--no-check does nothing for a run of few bits: leave it out")
    made = write_held_run(run, bits, options.out, which=options.which)
    _, state = made.load(only=("model",))
    held, before = (state_bytes(one) / 1000 for one in (state["model"], net.state_dict()))
    print(
        f"wrote {made.path} (a run of {held:,.0f} kB in {bits}, before {before:,.0f} kB)\n"
        f"Play against it    {made.command_for('play')}"
    )

"""Pictures of what a trunk draws: input, what it saw, what came out, and samples of a VAE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from playout.agents.pretraining.data.dataset import Dataset
from playout.agents.pretraining.objectives.objective import rectangles
from playout.agents.pretraining.objectives.reconstruction import (
    Autoencoder,
    Masked,
    VariationalAutoencoder,
)
from playout.agents.pretraining.trunk import BOARDS
from playout.agents.runs.devices import to_device
from playout.agents.runs.reporting import must_be_writable
from playout.errors import ConfigError
from torch import Tensor

COLUMNS = 10


def check_picture(path: Path) -> None:
    """Finds out before the work whether a picture can be written to a file.

    Raises:
        ConfigError: its suffix is of no kind of picture. DataError: it cannot be written.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    must_be_writable(path)
    if path.suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise ConfigError(
            f"{path} names no kind of picture that can be written: use {path.stem}.png"
        )


@torch.no_grad()
def draw_reconstructions(
    objective: Autoencoder | Masked, data: Dataset, path: Path, *, seed: int = 0
) -> None:
    """Writes a picture (PNG) of some held-out pictures and what the objective makes of them.

    Args:
        objective: reconstructs.
        data: some of which are shown, from its first to its last: neighbours are of one class, or
            of one episode.
        path: to write.
        seed: of masks and samples.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    objective.eval()
    objective.trunk.eval()  # no part of it, see Objective
    generator = torch.Generator().manual_seed(seed)
    device = next(objective.parameters()).device
    shown = np.linspace(0, len(data) - 1, min(COLUMNS, len(data))).round().astype(np.int64)
    images = to_device(data.images(shown), device)
    of_board = isinstance(objective.trunk.net, BOARDS)
    rows: list[tuple[str, Tensor]] = [("held out", images)]
    if isinstance(objective, Masked):
        shape = objective.trunk.shape
        hidden = rectangles(shape, len(images), objective.patch, objective.mask, generator)
        seen = images.masked_fill(hidden.to(device), 0.0)
        drawn = objective.draw(objective.trunk.map(seen)).float().sigmoid()
        rows += [("seen", seen), ("drawn", torch.where(hidden.to(device), drawn, images))]
    else:
        rows.append(("drawn", objective.reconstruct(images)))
    if isinstance(objective, VariationalAutoencoder):
        rows.append(("between", objective.interpolate(images[0], images[-1], len(images))))
        rows.append(("samples", objective.sample(len(images), generator)))
    figure, axes = pyplot.subplots(
        len(rows), len(images), figsize=(len(images), 1.1 * len(rows)), squeeze=False
    )
    for line, (name, pictures) in zip(axes, rows, strict=True):
        for axis, picture in zip(line, _to_show(pictures, of_board=of_board), strict=False):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def _to_show(pictures: Tensor, *, of_board: bool) -> list[np.ndarray]:
    """Grey or RGB arrays [H, W] or [H, W, 3]; of several frames of one picture the latest.

    Of planes of a board own stones are bright, the other's half as bright.
    """
    array = pictures.detach().float().cpu().numpy()
    if of_board and array.shape[1] > 1:
        return list(np.clip(array[:, 0] + 0.5 * array[:, 1], 0, 1))
    if not of_board and array.shape[1] == 3:
        return list(array.transpose(0, 2, 3, 1))
    return list(array[:, -1])

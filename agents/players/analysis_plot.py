"""A picture of an analysed position: the board beside a bar for every move.

matplotlib draws into a file, never to a window. SVG shows the board alone, and needs no matplotlib.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from playout.agents.players.analysis import Analysis
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.envs.core.game import State
from playout.envs.drawing.board import render_state, svg


def draw(path: Path, state: State, found: Analysis, *, row: int = 0) -> None:
    """Writes a PNG file, or an SVG file where the path ends so.

    Args:
        path: Where to.
        state: The position.
        found: What is thought of it.
        row: Which row of `found`.
    """
    if path.suffix.lower() == ".svg":
        replace_file(path.absolute(), svg(state).encode())
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    board, bars = figure.subplots(1, 2)
    image: Any = render_state(state, "rgb_array")
    board.imshow(np.asarray(image))
    board.set_axis_off()
    actions = state.legal_actions
    if len(actions) > 20:
        actions = sorted(sorted(actions, key=lambda action: -found.policy[row, action])[:20])
    names = [state.action_text(action) for action in actions]
    searched = bool(found.visits[row].any())
    bars.bar(names, found.policy[row, actions], label="policy")
    if searched:
        shares = found.visits[row] / found.visits[row].sum()
        bars.plot(names, shares[actions], "k_", markersize=16, label="visits")
        bars.legend()
    bars.set_ylim(0, 1)
    bars.set_xlabel("move")
    bars.set_title(f"expected result for the side to move: {found.value[row]:+.2f}")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    replace_file(path.absolute(), data.getvalue())

"""The picture of a self-play run: the end of a game, and how it learned, over games of self-play.

Shares of good moves where a solver has judged positions, and the rating with its interval. Left
out: what the numbers are (in_training.py).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.envs.core.game import State
from playout.envs.drawing.board import render_state

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARES = {
    "eval/policy_optimal_share": "moves that keep the outcome, policy alone",
    "eval/optimal_move_share": "moves that keep the outcome, search",
}
GAMES = "selfplay/games"


def draw(path: Path, run: RunDir, state: State | None, *, alone: bool) -> bool:
    """Writes a PNG file, unless there is nothing to show yet; whether it did.

    Args:
        path: where to.
        run: whose evaluations are shown.
        state: the position that is shown beside them, if any.
        alone: whether the game has one player, whose rating is a mean result.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = [row for row in read_rows(run.path) if GAMES in row]
    shared = any(key in row for row in rows for key in SHARES)
    rated = [row for row in rows if "eval/rating" in row]
    if state is None and not (shared or rated):
        return False
    figure = Figure(figsize=(6 if state is None else 10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    if state is None:
        curves = figure.subplots()
    else:
        board, curves = figure.subplots(1, 2, width_ratios=(2, 3))
        board.imshow(render_state(state, "rgb_array"))
        board.set_axis_off()
        board.set_title("The end of a game")
    if shared:
        _draw_shares(curves, rows)
    if rated:
        _draw_rating(curves.twinx() if shared else curves, rated, alone=alone)
    curves.set_xlabel("games of self-play")
    curves.set_xlim(left=0)
    curves.xaxis.set_major_locator(MaxNLocator(integer=True))
    curves.xaxis.set_major_formatter("{x:,.0f}")
    curves.grid(alpha=0.25)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    replace_file(path.absolute(), data.getvalue())
    return True


def _draw_shares(curves: Axes, rows: list[dict[str, float]]) -> None:
    """Shares of good moves in per cent."""
    for key, label in SHARES.items():
        points = [(row[GAMES], 100 * row[key]) for row in rows if key in row]
        if points:
            curves.plot(*zip(*points, strict=True), "o-", label=label)
    curves.set_title("How it learned, per cent, by evaluations in training")
    low, high = curves.get_ylim()[0], 101.0
    curves.set_ylim(low - 0.45 * (high - low), high)  # room for the legend
    curves.legend(frameon=False, loc="lower right")


def _draw_rating(axes: Axes, rows: list[dict[str, float]], *, alone: bool) -> None:
    """The rating, in a band of 95 %."""
    games = [row[GAMES] for row in rows]
    low, high = ([row[f"eval/rating_{end}"] for row in rows] for end in ("low", "high"))
    axes.fill_between(games, low, high, color="gray", alpha=0.15, linewidth=0)
    axes.plot(games, [row["eval/rating"] for row in rows], "o:", color="gray")
    axes.set_ylabel("mean result of a game" if alone else "Elo above random play (gray)")

"""The plots of a report: reward against KL, judge against reward, length, entropy, training.

Takes the gathered numbers of report.py and writes PNG files; nothing is computed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["draw"]

_COLOURS = {"rlhf": "#1f6fb4", "grpo": "#2a9d5b", "dpo": "#d1662b", "best of n": "#7a4fa3"}


def draw(data: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Title to file of every plot that there are numbers for."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    found: dict[str, Path] = {}

    def plot(name: str, title: str, fill: Callable[[Any], bool], axes: tuple[str, str]) -> None:
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        plane = figure.add_subplot()
        if not fill(plane):
            return
        plane.set_xlabel(axes[0])
        plane.set_ylabel(axes[1])
        plane.grid(alpha=0.25)
        plane.legend(frameon=False)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=120, metadata={"Software": None})
        found[title] = path

    nats = "KL to the supervised policy, nats a response"
    for y, label in (("reward", "learned reward"), ("judge", "independent judge")):
        plot(
            f"{y}_kl",
            f"{label.capitalize()} against KL; best-of-n at the most its KL can be",
            lambda plane, y=y: _against(plane, data, "kl", y),  # type: ignore[misc]
            (nats, f"{label}, mean"),
        )
    plot(
        "judge_reward",
        "Independent judge against learned reward: where the curve bends, the reward is exploited",
        lambda plane: _against(plane, data, "reward", "judge"),
        ("learned reward, mean", "independent judge, mean"),
    )
    for key, label in (("length", "tokens a response"), ("entropy", "entropy, nats a token")):
        plot(
            key,
            f"{label.capitalize()} over training",
            lambda plane, key=key: _over_time(plane, data, key),  # type: ignore[misc]
            ("share of training", label),
        )
    for stage, key, label in (
        ("pretrain", "eval/bits_per_byte", "bits per byte, held out"),
        ("sft", "eval/loss", "loss on held-out answers"),
        ("reward", "eval/accuracy", "held-out pairs in order"),
    ):
        plot(
            f"{stage}_curve",
            f"{stage}: {label}",
            lambda plane, stage=stage, key=key: _curve(plane, data, stage, key),  # type: ignore[misc]
            ("update", label),
        )
    return found


def _against(plane: Any, data: dict[str, Any], x: str, y: str) -> bool:
    drawn = False
    for name, rows in data["trained"].items():
        points = [(row[x], row[y]) for row in rows if x in row and y in row]
        if points:
            plane.plot(*zip(*points, strict=True), "o-", ms=4, label=name, color=_COLOURS[name])
            plane.plot(*points[0], "ks", ms=7)
            drawn = True
    table = data["best_of_n"] or []
    points = [(row[x], row[y]) for row in table if x in row and y in row]
    if points:
        colour = _COLOURS["best of n"]
        plane.plot(*zip(*points, strict=True), "^--", ms=5, label="best of n", color=colour)
        for row, point in zip(table, points, strict=True):
            plane.annotate(
                f" {row['n']}", point, color=colour, textcoords="offset points", xytext=(2, -10)
            )
        drawn = True
    return drawn


def _over_time(plane: Any, data: dict[str, Any], key: str) -> bool:
    drawn = False
    for name, rows in data["trained"].items():
        points = [(row["update"], row[key]) for row in rows if key in row]
        if len(points) > 1:
            end = points[-1][0]
            plane.plot(
                [x / end for x, _ in points],
                [y for _, y in points],
                "o-",
                ms=4,
                label=name,
                color=_COLOURS[name],
            )
            drawn = True
    return drawn


def _curve(plane: Any, data: dict[str, Any], stage: str, key: str) -> bool:
    points = data.get(stage, {}).get(key) or []
    if len(points) < 2:
        return False
    plane.plot(*zip(*points, strict=True), "o-", ms=3, label=stage)
    return True

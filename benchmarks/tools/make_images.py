"""Draws the pictures of README and docs from real states, runs and results.

    python benchmarks/tools/make_images.py                 the games and environments
    python benchmarks/tools/make_images.py --demo RUN      and the picture with which a demo ended

Every board and every environment is drawn by playout's own renderers. Leaves out the pictures that
benchmarks make themselves.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib
import numpy as np
from playout.envs.farama import pursuit

matplotlib.use("Agg")
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
INK, PALE = "#37404a", "#c9ced6"

# Actions that bring an environment into a state that shows what it is about.
SCENES: dict[str, tuple[str, Sequence[Any]]] = {
    "Connect Four": ("playout/ConnectFour-v0", (3, 3, 2, 4, 4, 2, 5, 1, 3, 5, 5, 6, 4, 3, 6, 2, 2)),
    "tic-tac-toe": ("playout/TicTacToe-v0", (4, 0, 2, 3, 5, 1, 6)),
    "CartPole": ("playout/CartPole-v1", (1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1)),
    "Acrobot": ("playout/Acrobot-v1", (2,) * 12 + (0,) * 14 + (2,) * 14 + (0,) * 10),
    "MountainCar": ("playout/MountainCar-v0", (0,) * 38 + (2,) * 41),
    "Pendulum": ("playout/Pendulum-v1", ((2.0,),) * 8 + ((-2.0,),) * 15 + ((2.0,),) * 14),
    "SignalMaze": ("playout/SignalMaze-v0", (1, 1)),
}


def scene(name: str, actions: Sequence[Any]) -> np.ndarray:
    """The picture of an environment after these actions, uint8 [H, W, 3]."""
    env = gym.make(name, render_mode="rgb_array")
    env.reset(seed=1)
    for action in actions:
        continuous = isinstance(action, tuple)
        _, _, over, cut, _ = env.step(np.array(action, np.float32) if continuous else action)
        if over or cut:
            break
    picture = env.render()
    env.close()
    return np.asarray(picture, np.uint8)


def hunt() -> np.ndarray:
    """The picture of Pursuit after a few moves of hunters that walk at random."""
    env = pursuit.parallel_env(render_mode="rgb_array")
    env.reset(seed=3)
    rng = np.random.default_rng(3)
    for _ in range(20):
        env.step({agent: int(rng.integers(5)) for agent in env.agents})
    return np.asarray(env.render(), np.uint8)


def contact_sheet(path: Path) -> None:
    """Games and environments, four in a row."""
    pictures = {title: scene(*found) for title, found in SCENES.items()}
    pictures["Pursuit"] = hunt()
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(10, 5.6), layout=layout)
    for plane, (title, picture) in zip(figure.subplots(2, 4).flat, pictures.items(), strict=True):
        framed(plane, picture)
        plane.set_title(title, fontsize=13, color=INK)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def framed(plane: Any, picture: np.ndarray) -> None:
    """A picture, made square by repeating its edges, with a thin frame and no scales."""
    height, width, _ = picture.shape
    missing = [max(height, width) - size for size in (height, width)]
    sides = [(size // 2, size - size // 2) for size in missing]
    plane.imshow(np.pad(picture, (*sides, (0, 0)), mode="edge"))
    plane.set(xticks=[], yticks=[])
    plane.spines[:].set_color(PALE)


def main() -> None:
    """Draws what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--demo", type=Path, metavar="RUN", help="what `make demo` left")
    parser.add_argument("--into", type=Path, default=IMAGES, help="the folder of the pictures")
    given = parser.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    contact_sheet(given.into / "environments.png")
    if given.demo is not None:
        shutil.copyfile(given.demo / "summary.png", given.into / "demo.png")


if __name__ == "__main__":
    main()

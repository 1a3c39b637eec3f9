"""Draws the pictures of README and docs from real states, runs and results.

    python docs/make_images.py                 the games and environments
    python docs/make_images.py --demo RUN      besides, a self-play run of Connect Four: how it
                                               learned, and a game of it against rollout search

Every board and every environment is drawn by playout's own renderers, every number is read from the
run's metrics and from benchmarks/results. Leaves out the pictures that benchmarks make themselves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib
import numpy as np
import playout
from playout.envs.farama import pursuit

matplotlib.use("Agg")
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
INK, PALE = "#37404a", "#c9ced6"
SEARCH, POLICY = "#1f6fb4", "#d1662b"
OPPONENT = "uct:500"

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


def curve(run: Path, key: str) -> tuple[list[float], list[float]]:
    """Minutes and values of a metric, wherever the run has it."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if key in row]
    return [row["time/elapsed"] / 60 for row in rows], [row[key] for row in rows]


def last_game(run: Path) -> tuple[Any, str]:
    """The last state of a game of the run against rollout search, and who won."""
    from playout.agents.players.load import make_player

    player = playout.load(run)
    opponent = make_player(OPPONENT, player.game, seed=1)
    states = player.game.batch(1)
    player.reset(0)
    plies = 0
    while not states.is_terminal()[0]:
        states.apply((player if plies % 2 == 0 else opponent).act(states))
        plies += 1
    result = float(states.returns()[0, 0])
    ending = "red wins" if result > 0 else "yellow wins" if result < 0 else "a draw"
    who = "red: the agent, yellow: search with 500 rollouts"
    return states[0], f"{who}\n{ending} after {plies} moves"


def rollouts() -> dict[str, float]:
    """Share of good moves of plain search with random rollouts, measured once and for all."""
    record = json.loads((ROOT / "benchmarks/results/connect_four.json").read_text("utf-8"))
    claims = record["results"]["claims"]
    ends = " random rollouts: moves that keep the outcome"
    return {
        claim["claim"].removesuffix(ends): claim["ours"]["median"]
        for claim in claims
        if claim["claim"].endswith(ends)
    }


def demo(run: Path, path: Path) -> None:
    """How a run of Connect Four learned, beside the end of a game that it plays."""
    from playout.envs.drawing.board import render_state

    figure = Figure(figsize=(10, 4), layout="constrained")
    learned, board = figure.subplots(1, 2, width_ratios=(1.35, 1))
    end = 0.0
    for key, label, color in (
        ("eval/optimal_move_share", "with a search of 128 simulations", SEARCH),
        ("eval/policy_optimal_share", "the network's first choice alone", POLICY),
    ):
        minutes, shares = curve(run, key)
        learned.plot(minutes, [100 * share for share in shares], "o-", color=color, label=label)
        end = max([end, *minutes])
    for number, share in rollouts().items():
        learned.axhline(share, color=INK, linewidth=0.9, linestyle=":")
        at = {"xytext": (6, 3), "textcoords": "offset points", "fontsize": 9, "color": INK}
        learned.annotate(f"{number} random rollouts a move", (0, share), **at)
    learned.set(xlim=(0, end * 1.02), ylim=(66, 100.5), xlabel="minutes of self-play on two cores")
    learned.set_title("Moves that keep the game's outcome, %", fontsize=12, color=INK)
    learned.grid(alpha=0.25)
    learned.legend(frameon=False, loc="lower right")
    state, ending = last_game(run)
    framed(board, np.asarray(render_state(state, "rgb_array")))
    board.set_title(ending, fontsize=12, color=INK)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def main() -> None:
    """Draws what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--demo", type=Path, metavar="RUN", help="a self-play run of Connect Four")
    parser.add_argument("--into", type=Path, default=IMAGES, help="the folder of the pictures")
    given = parser.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    contact_sheet(given.into / "environments.png")
    if given.demo is not None:
        demo(given.demo, given.into / "demo.png")


if __name__ == "__main__":
    main()

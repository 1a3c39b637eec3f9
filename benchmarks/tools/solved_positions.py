"""Make the files of solved positions in agents/rating/data.

    python -m playout.benchmarks.tools.solved_positions connect_four

The same arguments give the same file. The committed Connect Four file was made with the defaults.
"""

import argparse
from pathlib import Path

from playout.agents.rating.positions import DATA, write_positions
from playout.envs.core.registry import game as find_game
from playout.mcts.exact.positions import random_positions
from playout.mcts.exact.solver import Solver


def main() -> None:
    """Finds positions, solves them and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("game", nargs="?", default="connect_four")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--plies", type=int, nargs=2, default=(8, 26))
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--table-mb", type=int, default=256)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    game = find_game(args.game)
    low, high = args.plies
    positions = random_positions(
        game,
        args.count,
        plies=(low, high),
        seed=args.seed,
        solver=Solver(game, table_mb=args.table_mb),
        on_found=lambda found: print(f"\r{found} of {args.count}", end="", flush=True),
    )
    path = args.out or DATA / f"{game.name}_eval.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    note = (
        f"random play of {low} to {high} moves, seed {args.seed}; no move wins at once and "
        "legal moves differ in outcome; scores count from the end of the game"
    )
    write_positions(path, positions, note=note)
    print(f"\r{path}: {len(positions)} positions, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

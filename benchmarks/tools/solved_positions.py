"""Make the files of solved positions in agents/rating/data.

    python -m playout.benchmarks.tools.solved_positions connect_four

The same arguments give the same file. The committed file by which Connect Four is rated was made
with the defaults, the one by which checkpoints are chosen with `--seed 21 --choosing`; of the
latter, positions that are in the former are left out.
"""

import argparse
from pathlib import Path

from playout.agents.rating.positions import (
    CHOOSING,
    DATA,
    RATING,
    load_scored_positions,
    write_positions,
)
from playout.envs.core.registry import game as find_game
from playout.mcts.exact.positions import Positions, canonical_hashes, random_positions, unseen
from playout.mcts.exact.solver import Solver


def main() -> None:
    """Finds positions, solves them and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("game", nargs="?", default="connect_four")
    parser.add_argument("--count", type=int)
    parser.add_argument("--choosing", action="store_true", help="the file for choosing")
    parser.add_argument("--plies", type=int, nargs=2, default=(8, 26))
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--table-mb", type=int, default=256)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    game = find_game(args.game)
    low, high = args.plies
    count = args.count or (440 if args.choosing else 2000)
    positions = random_positions(
        game,
        count,
        plies=(low, high),
        seed=args.seed,
        solver=Solver(game, table_mb=args.table_mb),
        on_found=lambda found: print(f"\r{found} of {count}", end="", flush=True),
    )
    if args.choosing:
        rated = set(canonical_hashes(load_scored_positions(game).states).tolist())
        rows = unseen(positions.states, rated)
        moves = [positions.moves[row] for row in rows]
        positions = Positions(positions.states[rows], moves, positions.scores[rows])
    path = args.out or DATA / f"{game.name}_{CHOOSING if args.choosing else RATING}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    note = (
        f"random play of {low} to {high} moves, seed {args.seed}; no move wins at once and "
        "legal moves differ in outcome; scores count from the end of the game"
    )
    write_positions(path, positions, note=note)
    print(f"\r{path}: {len(positions)} positions, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""The winning openings of Hex, solved: `python -m benchmarks.tools.hex_openings SIZE`.

Prints a map with "W" where the first stone wins by best play of both, and the nodes that it took.
Minutes for 6x6; larger boards take much longer.
"""

import sys

import numpy as np
import playout
from playout.mcts.exact.solver import Solver


def opening_map(size: int) -> tuple[list[str], int]:
    """The rows of the map from the top, and the nodes searched."""
    game = playout.game("hex", size=size)
    solver = Solver(game, table_mb=256)
    outcomes = solver.outcomes(game.batch(1))[0].reshape(size, size)
    return ["".join(row) for row in np.where(outcomes == 1, "W", ".")], solver.nodes


if __name__ == "__main__":
    rows, nodes = opening_map(int(sys.argv[1]))
    print("\n".join(rows))
    print(f"{''.join(rows).count('W')} of {len(rows) ** 2} openings win; {nodes:,} nodes")

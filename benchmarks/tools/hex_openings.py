"""The winning openings of Hex: solved on small boards, and as a run judges them on 7x7.

A map has "W" where the first stone wins by best play of both. A run's judgement of an opening is
the sign of its search's value after it; it is compared with the map that is published for 7x7
(HexWiki, page "Swap", revision of 2008-04-27: 27 of 49 win).

    python -m playout.benchmarks.tools.hex_openings SIZE    minutes for 6x6; 7x7 takes much longer
    python -m playout.benchmarks.tools.hex_openings RUN     of hex(size=7)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import playout
from playout.mcts.exact.solver import Solver

PUBLISHED = ("......W", "..W.WWW", ".WWWWW.", "WWWWWWW", ".WWWWW.", "WWW.W..", "W......")


def opening_map(size: int) -> tuple[list[str], int]:
    """The rows of the map from the top, and the nodes searched."""
    game = playout.game("hex", size=size)
    solver = Solver(game, table_mb=256)
    outcomes = solver.outcomes(game.batch(1))[0].reshape(size, size)
    return ["".join(row) for row in np.where(outcomes == 1, "W", ".")], solver.nodes


def judged_map(run: Path, simulations: int = 200) -> list[str]:
    """The rows of the map as a run of hex(size=7) judges it, from the top."""
    batch = playout.game("hex(size=7)").batch(49)
    batch.apply(np.arange(49, dtype=np.int32))
    values = playout.analyse(run, batch, simulations=simulations).value  # of who replies
    return ["".join(row) for row in np.where(values < 0, "W", ".").reshape(7, 7)]


def judged_right(rows: list[str]) -> int:
    """How many of the 49 openings a map judges as the published one does."""
    pairs = zip("".join(rows), "".join(PUBLISHED), strict=True)
    return sum(one == other for one, other in pairs)


if __name__ == "__main__":
    if sys.argv[1].isdecimal():
        rows, nodes = opening_map(int(sys.argv[1]))
        said = f"{nodes:,} nodes"
    else:
        rows = judged_map(Path(sys.argv[1]))
        said = f"{judged_right(rows)} of 49 are judged as published"
    print("\n".join(rows))
    print(f"{''.join(rows).count('W')} of {len(rows) ** 2} openings win; {said}")

"""LightZero's C++ trees alone, in a Python of their own: run by benchmarks/search.py over a pipe.

LightZero needs older packages than the others, so this file imports nothing of playout. Every line
read asks for one round of work; the answer is a line with the simulations done. Evaluations are
lists made beforehand (LightZero's own loop converts arrays at every simulation, which is not
counted here), states are never touched.

    PYTHON lightzero_search.py gumbel|puct TREES SIMULATIONS SEARCHES
"""

import os
import sys

ACTIONS = 7


def gumbel(trees: int, simulations: int):
    """One batch of searches by the Gumbel MuZero tree."""
    from lzero.mcts.ctree.ctree_gumbel_muzero import gmz_tree as tree

    zeros, logits = [0.0] * trees, [[0.0] * ACTIONS for _ in range(trees)]
    legal = [list(range(ACTIONS)) for _ in range(trees)]

    def search() -> None:
        roots = tree.Roots(trees, legal)
        roots.prepare_no_noise(zeros, zeros, logits, [1] * trees)
        bounds = tree.MinMaxStatsList(trees)
        bounds.set_delta(0.01)
        for i in range(simulations):
            results = tree.ResultsWrapper(num=trees)
            _, _, _, mover = tree.batch_traverse(
                roots, simulations, ACTIONS, 1.0, results, [1] * trees
            )
            tree.batch_back_propagate(i + 1, 1.0, zeros, zeros, logits, bounds, results, mover)
        roots.get_distributions()

    return search


def puct(trees: int, simulations: int):
    """One batch of searches by the MuZero tree."""
    from lzero.mcts.ctree.ctree_muzero import mz_tree as tree

    zeros, logits = [0.0] * trees, [[0.0] * ACTIONS for _ in range(trees)]
    legal = [list(range(ACTIONS)) for _ in range(trees)]

    def search() -> None:
        roots = tree.Roots(trees, legal)
        roots.prepare_no_noise(zeros, logits, [1] * trees)
        bounds = tree.MinMaxStatsList(trees)
        bounds.set_delta(0.01)
        for i in range(simulations):
            results = tree.ResultsWrapper(num=trees)
            _, _, _, mover = tree.batch_traverse(
                roots, 19652, 1.25, 1.0, bounds, results, [1] * trees
            )
            tree.batch_backpropagate(i + 1, 1.0, zeros, zeros, logits, bounds, results, mover)
        roots.get_distributions()

    return search


def main() -> None:
    """Answers lines until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the imports print
    kind, (trees, simulations, searches) = sys.argv[1], map(int, sys.argv[2:5])
    search = {"gumbel": gumbel, "puct": puct}[kind](trees, simulations)
    for _ in sys.stdin:
        for _ in range(searches):
            search()
        print(trees * simulations * searches, file=answers, flush=True)


if __name__ == "__main__":
    main()

"""Exact play: what best play leads to, without a network.

solver.py answers for any small game of two players (by alphabeta.py, or for Connect Four by
connect_four/) and proves positions with little effort; tactics.py looks two plies ahead;
positions.py collects positions with exact scores.
"""

"""Exact play: what best play leads to, without a network.

prover.py says what a prover is, and asks the one that a game brings; tactics.py proves by looking
one or two plies ahead, alphabeta.py any small game, connect_four/ one game. solver.py solves to the
end, by a game's own solver or by alpha-beta; positions.py collects positions with exact scores.
"""

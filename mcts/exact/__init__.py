"""Exact play: solvers, tactics, positions with known values."""

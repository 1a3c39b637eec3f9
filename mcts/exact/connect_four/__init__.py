"""The solver of Connect Four: bitboards in C (solver.h, search.h) behind engine.py."""

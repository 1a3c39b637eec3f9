"""Hex solved by virtual connections: C headers, their extension, and the game's prover."""

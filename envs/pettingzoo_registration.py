"""Registers playout's games with PettingZoo, where it has a registry (1.27 and later)."""

"""Batched tree search; knows no torch."""

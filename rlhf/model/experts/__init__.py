"""Mixtures of experts: a layer whose tokens go to a few of many networks."""

"""How a learning rate rises and falls in the course of training, as factors of its peak.

A linear rise, then half a cosine (Loshchilov and Hutter 2017, without restarts). Every trainer that
knows how long it will train moves by it; which numbers it takes is its own business.
"""

import math

__all__ = ["half_cosine", "warmed_cosine"]


def half_cosine(falling: float, *, final: float = 0.0) -> float:
    """What is left of the peak after the share `falling` of the way from 1 down to `final`."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))


def warmed_cosine(done: float, warmup: float, *, first: float, final: float = 0.0) -> float:
    """The factor after the share `done` of training.

    Args:
        done: From 0 to 1; beyond it nothing falls any more.
        warmup: Share of training over which the rate rises; 0 for none.
        first: The factor at the very beginning.
        final: The factor at the end.
    """
    if done < warmup:
        return first + (1 - first) * done / warmup
    return half_cosine((done - warmup) / max(1e-9, 1 - warmup), final=final)

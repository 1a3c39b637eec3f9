"""A trainer without torch, quick enough to be killed hundreds of times; not a test itself."""

import time

import numpy as np
import numpy.random  # NumPy loads it lazily: once here, not in every forked child
from playout.agents.runs.trainer import Trainer


class ToyTrainer(Trainer):
    """A random walk with momentum: every later value depends on every earlier bit."""

    title, unit, best_metric = "toy", "steps", "eval/score"

    def __init__(self, total, seed=0, hook=None):
        self.total, self.n, self.hook = total, 0, hook
        self.weights, self.momentum = np.zeros(50, "float32"), np.zeros(50)
        self.rng = np.random.default_rng(seed)
        self.score = 0.0

    progress = property(lambda self: (self.n * 10, self.total * 10))
    finished = property(lambda self: self.n >= self.total)

    def update(self):
        if self.hook:
            self.hook(self)
        self.momentum = 0.9 * self.momentum + self.rng.normal(size=50)
        self.weights += self.momentum.astype("float32")
        self.n += 1
        return {"train/loss": float(self.weights.sum()), "time/clock": time.monotonic()}

    def evaluate(self):
        self.score = float(np.sin(self.weights.sum()))
        return {"eval/score": self.score}

    def state_dict(self):
        return {
            "model": {"weights": self.weights},
            "momentum": self.momentum,
            "n": self.n,
            "score": self.score,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state):
        self.weights, self.momentum = state["model"]["weights"], state["momentum"]
        self.n, self.score = state["n"], state["score"]
        self.rng.bit_generator.state = state["rng"]

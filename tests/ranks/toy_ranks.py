"""A trainer of a few numbers that any number of ranks share; not a test itself.

    toy_ranks.py FOLDER UPDATES     trains it, resumes it, as a command of playout would

Walkers are numbered through the whole job and have a generator each; a step is the mean of what all
of them drew. How the walkers are divided among ranks changes sums in their last bits only.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
from playout.agents.runs import ranks
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.agents.runs.trainer import Trainer
from playout.errors import PlayoutError

WALKERS = 6


class ToyRanks(Trainer):
    """A random walk of one weight, by the mean of its walkers."""

    best_metric = "eval/score"

    def __init__(self, total, hook=None):
        self.total, self.hook, self.n = total, hook, 0
        self.weight, self.evaluated = 0.0, 0
        self.mine = ranks.share(WALKERS, "walkers")
        self.walkers = {i: np.random.default_rng([7, i]) for i in self.mine}

    progress = property(lambda self: (self.n, self.total))

    def update(self):
        if self.hook:
            self.hook(self)
        drawn = [one.normal() for one in self.walkers.values()]
        self.weight += ranks.sums([sum(drawn)])[0] / WALKERS
        self.n += 1
        return ranks.merge_metrics({"train/weight": self.weight, "rollout/walker_max": max(drawn)})

    def evaluate(self):
        self.evaluated += 1
        return {"eval/score": float(np.sin(self.weight))}

    def state_dict(self):
        return {"model": {"weight": np.array(self.weight)}, "n": self.n}

    def load_state_dict(self, state):
        self.weight, self.n = float(state["model"]["weight"]), state["n"]

    def rank_state(self):
        return {"walkers": {i: one.bit_generator.state for i, one in self.walkers.items()}}

    def load_rank_state(self, state):
        for number, stored in state["walkers"].items():
            self.walkers[number].bit_generator.state = stored

    def deal_rank_states(self, parts):
        for part in parts:
            for number in self.mine:
                if number in part["walkers"]:
                    self.walkers[number].bit_generator.state = part["walkers"][number]
        return ""


class Forgetful(ToyRanks):
    """The same, but what ranks have for themselves is lost when their number changes."""

    deal_rank_states = Trainer.deal_rank_states


def open_run(path):
    """The run of the folder, made by rank 0 if it is not there."""
    there = ranks.by_first(lambda: RunDir.is_run(Path(path)))
    return RunDir.open(path) if there else RunDir.create(path, kind="toy", config={}, seed=0)


def outcome(path):
    """What is left of a run: the state's digests of the last checkpoint, and rows without times."""
    from playout.agents.runs.metrics import read_rows

    run = RunDir.open(path)
    rows = [
        {key: value for key, value in row.items() if not key.startswith(("time/", "eval/"))}
        for row in read_rows(run.path)
    ]
    return {name: digest for name, (_, digest) in run.find().files.items()}, rows


def main(folder, updates):
    """Train with a pause an update, or wait to be killed before certain updates.

    One a start, and one rank a start: 0 at the first. The others wait in a message for it, and end
    with it; torchrun would give a rank that sleeps half a minute.
    """
    waits = [int(number) for number in os.environ.get("TOY_WAITS", "").split(",") if number]

    def hook(trainer):
        time.sleep(float(os.environ.get("TOY_PAUSE", "0")))
        begun = ranks.restarts()
        if begun < len(waits) and ranks.rank() == begun and trainer.n >= waits[begun]:
            time.sleep(1000)

    try:
        train(ToyRanks(int(updates), hook), open_run(folder), save_every=1, console="plain")
    except PlayoutError as error:
        if ranks.may_speak():
            print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Four steps make up all learning: forward, loss, backward, update, on the library's own parts.

A small residual network learns who wins in tic-tac-toe and which moves keep that, from positions
that the solver has labelled; none that is held out is learned from. It takes seconds. Other losses
and optimisers go the same way: an objective of make_objective, an optimiser of
playout.agents.optim.

    python examples/training_loop.py
"""

import numpy as np
import torch
from playout.agents.optim.momentum import Momentum
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import most_frequent
from playout.agents.pretraining.data.positions import positions_of_game
from playout.agents.pretraining.objectives.objective import Batch
from playout.agents.pretraining.objectives.registry import make_objective
from playout.agents.pretraining.trunk import new_trunk


def main(steps=400, count=4000):
    data = positions_of_game("tic_tac_toe", count=count, seed=0)
    usual = 100 * most_frequent(data.test, np.arange(len(data.test)))["share"]
    print(f"{len(data.train)} positions; always the most frequent outcome: {usual:.0f} % right")
    trunk = new_trunk(data.train, size="tiny", seed=0)
    objective = make_objective(trunk, data.train, PretrainConfig(), seed=0)
    optimizer = Momentum([*trunk.parameters(), *objective.parameters()], lr=0.1)
    generator = torch.Generator().manual_seed(0)  # for objectives that draw masks or noise

    def batch_of(part, rows):
        arrays = part.images(rows), part.labels[rows], part.policy(rows)
        return Batch(*map(torch.from_numpy, arrays))

    random = np.random.default_rng(0)
    for step in range(steps):
        batch = batch_of(data.train, random.integers(0, len(data.train), 64))
        loss = objective.losses(batch, generator)["loss"]  # forward, and the loss
        optimizer.zero_grad()
        loss.backward()  # backward: the gradient of every weight
        optimizer.apply()  # update: every weight takes a step
        if step % 50 == 0 or step == steps - 1:
            trunk.eval()  # norms by what they have seen in training, not by what is held out
            with torch.no_grad():
                held = objective.losses(batch_of(data.test, np.arange(len(data.test))), generator)
            trunk.train()
            right, kept = (100 * float(held[name]) for name in ("accuracy", "moves_kept"))
            told = f"held out {kept:.0f} % of moves and {right:.0f} % of outcomes right"
            print(f"step {step:3}: loss {float(loss.detach()):.3f}, {told}")
    return float(held["accuracy"])


if __name__ == "__main__":
    torch.set_num_threads(1)  # so small a network is quickest on one
    main()

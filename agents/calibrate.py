"""How many updates fit into a budget of minutes: measured once, then read from the run.

From then on every schedule goes by counts, never by the clock, so that a resumed run equals one
that was never stopped.
"""

from __future__ import annotations

from dataclasses import replace

from playout.agents.alphazero import AlphaZeroConfig, AlphaZeroTrainer
from playout.agents.run.budget import plan
from playout.agents.run.directory import RunDir

PARTS = 4  # a piece of work that is measured is this part of an update
SHARE = (
    0.9  # of the time; the rest is for evaluations, saving and the network's first, slower games
)


def updates_for(run: RunDir, config: AlphaZeroConfig, minutes: float) -> int:
    """Updates that fit into `minutes`; measured on a throw-away trainer of the same sizes."""
    part = replace(
        config,
        updates=1 << 20,
        games=None,
        evaluations=max(1, config.evaluations // PARTS),
        steps=max(1, config.steps // PARTS),
        warmup_positions=config.learner.batch_size,
    )
    trainer: list[AlphaZeroTrainer] = []

    def measure() -> int:
        if not trainer:
            trainer.append(AlphaZeroTrainer(part, seed=0))
            trainer[0].selfplay.play(1)  # until there is something to learn from
            while len(trainer[0].replay) < part.warmup_positions:
                trainer[0].update()
        trainer[0].update()
        return 1

    total = plan(
        run, minutes=minutes, unit="parts of updates", measure=measure, seconds=12.0, share=SHARE
    )
    return max(1, total // PARTS)

"""One dial for self-play: a budget in minutes (or a size) becomes a whole configuration.

What learns fastest changes with the time there is: a small network sees more games early, a large
one ends higher. The numbers were found by short runs on two cores. Left out: how many updates fit
into the minutes on this machine, which is measured once at the start of a run
(commands/alphazero.py).
"""

from __future__ import annotations

from dataclasses import replace

from playout.agents.alphazero import AlphaZeroConfig
from playout.agents.learner import LearnerConfig
from playout.agents.resnet import parse_size
from playout.agents.selfplay import SelfPlayConfig
from playout.envs.game import NativeGame

# minutes from which a size pays off, largest first
SIZE_BY_MINUTES = ((25.0, "48x4"), (0.0, "small"))


def size_for(minutes: float) -> str:
    """The network that is strongest after so many minutes on two cores."""
    return next(size for least, size in SIZE_BY_MINUTES if minutes >= least)


def configure(
    game: NativeGame,
    *,
    size: str,
    simulations: int = 16,
    updates: int | None = None,
    games: int | None = None,
) -> AlphaZeroConfig:
    """The configuration for a game and a size of network, with all that depends on them."""
    channels = parse_size(size)[0]
    small = game.max_plies <= 12  # such as tic-tac-toe: everything can be small
    selfplay = SelfPlayConfig(
        num_trees=64 if small else 128,
        num_simulations=simulations,
        opening_share=0.5 if small else 0.8,
        opening_plies=max(0, min(26, game.max_plies * 2 // 3)),
        explore_plies=game.max_plies if small else max(6, game.max_plies // 7),
    )
    # A wide network wants shorter steps: 0.03 at 32 channels, 0.02 at 64.
    learner = LearnerConfig(learning_rate=round(min(0.03, 0.03 * (32 / channels) ** 0.5), 4))
    config = AlphaZeroConfig(
        game=str(game),
        size=size,
        updates=updates,
        games=games,
        selfplay=selfplay,
        learner=learner,
    )
    if small:
        config = replace(
            config,
            evaluations=2048,
            steps=8,
            replay_capacity=20_000,
            least_window=5_000,
            warmup_positions=256,
            eval_positions=150,
            eval_games=20,
            cache_size=1 << 13,
        )
    return config

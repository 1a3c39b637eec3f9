"""One dial for self-play: a budget in minutes (or a size) becomes a whole configuration.

What learns fastest changes with the work there is time for: a small network sees more games early,
a large one ends higher. The numbers were found by runs on two cores, one kind of them with twice
the speed of the other. Left out: how much work, and how many updates, fit into the minutes on this
machine, which is measured at the start of a run (budget.py).
"""

from __future__ import annotations

from dataclasses import replace

from playout.agents.alphazero.selfplay import SelfPlayConfig
from playout.agents.alphazero.trainer import AlphaZeroConfig
from playout.agents.networks.resnet import parse_size
from playout.envs.core.game import NativeGame

LARGE, MEDIUM, SMALL = "base", "medium", "small"
# A larger network pays off where there is time for so many evaluations of the large one, were there
# nothing else to do. With 11 million a network of 48x3 learned Connect Four as well as the small
# one (policy alone: 91.6 and 91.8 % of moves keep the outcome), from half as many games.
ENOUGH, ENOUGH_FOR_MEDIUM = 75e6, 25e6
FIRST_EVALUATIONS, FIRST_STEPS = 32768, 48  # of an update, for a network of 32 channels x 3 blocks
LONG_RUN = 25.0  # minutes from which updates are twice as long: fewer trees are begun anew
SIMULATIONS = 16
# Of a network that takes over: what is left to learn by then needs better targets, and a larger
# network more steps to learn it.
LATER_SIMULATIONS, LATER_STEPS = 24, 1.3
# Of a network that learns alone in a long run, found with the small one: a row costs a quarter less
# in batches twice as large, and a position is learned from four times, not twice (eight hurts).
LARGE_BATCH = 2


def sizes_for(evaluations: float) -> tuple[str, str]:
    """The network that learns first ("" for none) and the final one.

    `evaluations` are those of the large network that there is time for, `evaluations_within`.
    """
    if evaluations >= ENOUGH:
        return SMALL, LARGE
    return "", MEDIUM if evaluations >= ENOUGH_FOR_MEDIUM else SMALL


def cost(size: str) -> float:
    """Time of an evaluation or a gradient step: multiplications, and what goes by width alone."""
    channels, blocks, _ = parse_size(size)
    return blocks * channels * (channels + 40.0)


def configure(
    game: NativeGame,
    *,
    size: str,
    first_size: str = "",
    simulations: int | None = None,
    proofs: bool = True,
    updates: int | None = None,
    games: int | None = None,
    long: bool = False,
) -> AlphaZeroConfig:
    """The configuration for a game and sizes of networks, with all that depends on them.

    An update of a larger network takes about as long as one of the small network: it has fewer
    evaluations and steps.
    """
    small = game.max_plies <= 12  # such as tic-tac-toe: everything can be small
    selfplay = SelfPlayConfig(
        num_simulations=simulations or (LATER_SIMULATIONS if first_size else SIMULATIONS),
        opening_plies=min(game.max_plies // 2, 24),
        explore_plies=max(6, game.max_plies // 7),
    )
    if small:
        selfplay = replace(
            selfplay,
            num_trees=64,
            opening_share=0.5,
            opening_plies=game.max_plies * 2 // 3,
            explore_plies=game.max_plies,
        )
    times = 2 if long else 1
    part = min(1.0, cost(SMALL) / cost(size))
    config = AlphaZeroConfig(
        game=str(game),
        size=size,
        first_size=first_size,
        first_evaluations=times * FIRST_EVALUATIONS,
        first_steps=times * FIRST_STEPS,
        first_simulations=simulations or SIMULATIONS,
        updates=updates,
        games=games,
        evaluations=round(times * FIRST_EVALUATIONS * part),
        steps=max(1, round(times * FIRST_STEPS * part * (LATER_STEPS if first_size else 1.0))),
        selfplay=selfplay,
    )
    if long and not first_size:
        learner = config.learner
        learner = replace(
            learner,
            batch_size=LARGE_BATCH * learner.batch_size,
            learning_rate=LARGE_BATCH**0.5 * learner.learning_rate,
        )
        config = replace(config, learner=learner)
    if not proofs:
        selfplay = replace(selfplay, proof_nodes=0)
        config = replace(config, leaf_proof_nodes=0, selfplay=selfplay)
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

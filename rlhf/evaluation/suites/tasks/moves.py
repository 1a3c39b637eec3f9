"""Suites out of a game's positions: which move is legal, which of the legal ones is best.

Positions and prompts are those of language policies that learn a game (environments/), from the
side of the symmetry classes that nothing is learned from. An option is a move in the game's own
notation. Best moves need a game that a solver masters.
"""

from collections.abc import Callable

import numpy as np
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError, GameError
from playout.rlhf.environments.game_prompt import GamePrompt
from playout.rlhf.environments.game_tasks import Referee, find_positions, judging_positions
from playout.rlhf.evaluation.suites.suite import Choice, Suite

__all__ = ["best_moves", "legal_moves"]

POSITIONS = 200
OPTIONS = 32
"""Moves of which the legal ones are told apart, at most."""


def _all_moves(game: NativeGame) -> Callable[[int], str | None]:
    """The notation of each action, found in positions where it is legal; None where none is."""
    found: dict[int, str] = {}
    for number in range(64):
        state = game.initial_state()
        for ply in range(game.max_plies):
            state = state.resolve_chance(number, stream=ply)
            if state.to_play < 0:
                break
            actions = state.legal_actions
            for action in actions:
                found.setdefault(action, state.action_text(action))
            state = state.apply(actions[(11 * number + 3 * ply) % len(actions)])
        if len(found) == game.num_actions:
            break
    return found.get


def legal_moves(name: str, prompt: GamePrompt, *, count: int = POSITIONS, seed: int = 0) -> Suite:
    """Of moves that the game knows, one that is legal here; half of what is offered is not.

    Args:
        name: Of the suite.
        prompt: How positions are shown.
        count: Positions, at most.
        seed: Which moves are offered.

    Raises:
        ConfigError: In no position is a move of the game illegal.
    """
    game, notation = prompt.game, _all_moves(prompt.game)
    positions = find_positions(game, count, "test", seed=seed)
    rng, items = np.random.default_rng([seed, 55]), []
    for state in positions.states:
        legal = state.legal_actions
        texts = {state.action_text(action) for action in legal}
        barred = [
            text
            for action in range(game.num_actions)
            if action not in legal and (text := notation(action)) is not None and text not in texts
        ]
        allowed = [state.action_text(action) for action in legal]
        half = min(OPTIONS // 2, len(allowed), len(barred))
        if not half:
            continue
        offered = [(text, 1.0) for text in rng.permutation(allowed)[:half]]
        offered += [(text, 0.0) for text in rng.permutation(barred)[:half]]
        order = rng.permutation(len(offered))
        items.append(
            Choice(
                prompt(state),
                tuple(f" {offered[n][0]}" for n in order),
                tuple(offered[n][1] for n in order),
            )
        )
    if not items:
        raise ConfigError(f"{game}: every move is legal everywhere, so there is nothing to ask")
    return Suite(
        name=name,
        items=tuple(items),
        spoken=True,
        about=f"{game}: the likeliest of legal and illegal moves is legal",
    )


def best_moves(name: str, prompt: GamePrompt, *, count: int = POSITIONS) -> Suite:
    """Of the legal moves, one that keeps the outcome, in positions where not all do.

    Args:
        name: Of the suite.
        prompt: How positions are shown.
        count: Positions, at most.

    Raises:
        ConfigError: No solver masters the game.
    """
    game = prompt.game
    try:
        positions = judging_positions(game, count, Referee(game))
    except GameError as error:
        raise ConfigError(f"{name}: {error}") from None
    assert positions.outcomes is not None
    items = []
    for state, outcomes in zip(positions.states, positions.outcomes, strict=True):
        legal = state.legal_actions
        best = max(outcomes)
        items.append(
            Choice(
                prompt(state),
                tuple(f" {state.action_text(action)}" for action in legal),
                tuple(float(outcomes[action] == best) for action in legal),
            )
        )
    return Suite(
        name=name,
        items=tuple(items),
        spoken=True,
        about=f"{game}: the likeliest of the legal moves keeps the outcome",
    )

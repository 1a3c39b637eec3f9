"""Whether a game's symmetries are true ones; and how every check reports a broken promise.

Of many symmetries only some are examined at a state.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from playout.envs.core.game import NativeGame, State, StateBatch
from playout.errors import GameError

GARBAGE = 0xA5
SYMMETRIES = 16  # examined at every state


class GameCheckError(GameError):
    """A promise of the game ABI that a game does not keep."""


class SymmetryChecker:
    """Examines symmetries of one game's states; remembers inverses over all it has seen."""

    def __init__(self, game: NativeGame) -> None:
        self.game = game
        self.moves: list[str] = []
        kinds = min(game.num_symmetries, SYMMETRIES)
        self.inverses: list[set[int]] = [set(range(game.num_symmetries)) for _ in range(kinds)]

    def fail(self, what: str, hint: str) -> NoReturn:
        """Raises with the moves that lead to the position at hand."""
        moves = " ".join(self.moves)
        where = f"after the moves {moves[-300:]!r}" if moves else "in the first state"
        raise GameCheckError(f"{self.game}: {where}: {what}; {hint}")

    def need(self, good: Any, what: str, hint: str) -> None:
        """Fails unless `good`."""
        if not good:
            self.fail(what, hint)

    def check_symmetries(self, state: State, observations: NDArray[np.float32]) -> None:
        """Each symmetry keeps turn, results and numbers seen, and moves legal actions along."""
        game = self.game
        actions = state.legal_actions
        table = game.symmetry_actions()
        images = [state.symmetry(k) for k in range(len(self.inverses))]
        self.need(images[0] == state, "symmetry 0 changes the state", "it must be the identity")
        for k, image in enumerate(images):
            name = f"symmetry {k}"
            self.need(
                _filled_symmetry(state, k) == image.to_bytes(),
                f"{name} leaves bytes of the state as they were",
                "set the whole state, padding included",
            )
            try:
                game.from_bytes(image.to_bytes())
            except GameError:
                self.fail(f"check() refuses what {name} makes", "only true symmetries count")
            self.need(
                image.to_play == state.to_play and np.array_equal(image.returns, state.returns),
                f"{name} changes whose turn it is, or the result",
                "only true symmetries count",
            )
            self.need(
                image.legal_actions == sorted(int(table[k, action]) for action in actions),
                f"{name} and symmetry_action() disagree about the legal actions",
                "symmetry_action(k, a) must be where symmetry(k) takes the target of a",
            )
            self.need(
                state.symmetry_key(k) == image.eval_key,
                f"symmetry_key() is not the eval_key() of what {name} makes",
                "searches would take one position for another",
            )
            for action in actions[:8]:
                self.need(
                    state.apply(action).symmetry(k) == image.apply(int(table[k, action])),
                    f"moving and then {name} is not {name} and then moving (action {action})",
                    "symmetry_action(k, a) must be where symmetry(k) takes the target of a",
                )
            for player in range(game.num_players):
                self.need(
                    np.array_equal(
                        np.sort(image.observe(player), axis=None),
                        np.sort(observations[player], axis=None),
                    ),
                    f"{name} changes the numbers that player {player} sees, not only their places",
                    "observations must turn with the board",
                )
            self.inverses[k] = {j for j in self.inverses[k] if image.symmetry(j) == state}
            self.need(
                any(
                    (table[j, table[k]] == np.arange(game.num_actions)).all()
                    for j in self.inverses[k]
                ),
                f"no symmetry undoes {name}",
                "symmetries must form a group",
            )


def _filled_symmetry(state: State, k: int) -> bytes:
    """A symmetric state, written over garbage."""
    batch = StateBatch.from_states([state])
    return batch.symmetry(k, fill=GARBAGE).data.tobytes()

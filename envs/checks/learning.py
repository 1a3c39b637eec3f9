"""Whether what learning takes from a game holds: keys of evaluations, scores, targets, side planes.

No other check could show a mistake here: a search gives one position's priors to all with its
`eval_key`, and a network is taught whatever `score` and `targets` say.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout.envs.checks.hidden import HiddenChecker
from playout.envs.core.game import NativeGame, State, StateBatch

GUARD = 64  # floats before and after what is written that must stay untouched


class LearningChecker(HiddenChecker):
    """Examines what is learned from states; remembers what each `eval_key` stood for."""

    def __init__(self, game: NativeGame) -> None:
        super().__init__(game)
        self.by_eval: dict[int, Any] = {}  # digests: observations are large, and only compared

    def check_learning(self, state: State, observations: NDArray[np.float32]) -> None:
        """All of it; observations float32 [P, C, H, W]."""
        if state.to_play >= 0:
            self.check_eval_key(state, observations[state.to_play])
            self.check_side(state, observations[state.to_play])
        if state.is_terminal:
            self.check_score(state)
            self.check_targets(state)

    def images(self, state: State) -> StateBatch:
        """The state as its symmetries show it, the identity first."""
        return StateBatch.from_states([state.symmetry(k) for k in range(len(self.inverses))])

    def check_eval_key(self, state: State, seen: NDArray[np.float32]) -> None:
        """Equal keys mean equal sights and moves of the side to move, float32 [C, H, W]."""
        key = state.eval_key
        self.need(
            key == state.eval_key == int(StateBatch.from_states([state]).eval_key()[0]),
            "eval_key() differs on a second call",
            "use the state alone",
        )
        meaning = (tuple(state.legal_actions), blake2b(seen.tobytes(), digest_size=16).digest())
        self.need(
            self.by_eval.setdefault(key, meaning) == meaning,
            f"eval_key() {key:#x} belongs to another position too",
            "it must tell apart whatever the observation for the side to move or its legal actions "
            "do: searches give the evaluation of one position to all with its key",
        )

    def check_side(self, state: State, seen: NDArray[np.float32]) -> None:
        """Planes that are declared to tell the side to move apart do it."""
        if self.game.side_planes is None:
            return
        first, second = self.game.side_planes
        sums = seen.sum(axis=(1, 2))
        side = sums[second] - sums[first] if second >= 0 else seen[first].mean()
        self.need(
            float(np.clip(side, 0, 1)) == state.to_play,
            f"side_planes {self.game.side_planes} say that player {np.clip(side, 0, 1):g} is to "
            f"move, to_play() is {state.to_play}",
            "declare planes (a, b) of which b less a, summed up, is the side, or (a, -1) where a "
            "holds it everywhere",
        )

    def check_score(self, state: State) -> None:
        """A final score is finite numbers, the same each time and for every symmetry."""
        if not self.game.has_score:
            return
        images = self.images(state)
        scores = self.game.final_scores(images)
        self.need(
            np.isfinite(scores).all() and np.array_equal(scores, self.game.final_scores(images)),
            f"score() wrote {scores[0].tolist()}",
            "write a finite number for each player, the same on a second call",
        )
        for k, turned in enumerate(scores):
            self.need(
                np.array_equal(turned, scores[0]),
                f"score() is {scores[0].tolist()}, and as symmetry {k} shows the state {turned}",
                "only true symmetries count",
            )

    def check_targets(self, state: State) -> None:
        """Targets are numbers in [-1, 1], within their planes, that turn with the board."""
        game = self.game
        if not game.target_planes:
            return
        shape = (1, game.target_planes, *game.obs_shape[1:])
        size = int(np.prod(shape))
        images = self.images(state)
        for player in range(game.num_players):
            room = np.full(size + 2 * GUARD, np.nan, np.float32)
            planes = room[GUARD : GUARD + size].reshape(shape)
            game.final_targets(images[:1], np.array([player], np.int32), planes)
            self.need(
                np.isnan(room[:GUARD]).all() and np.isnan(room[GUARD + size :]).all(),
                f"targets() for player {player} writes outside {shape[1:]}",
                "write target_planes * H * W numbers",
            )
            everywhere = game.final_targets(images, np.full(len(images), player, np.int32))
            self.need(
                (np.abs(planes) <= 1).all() and np.array_equal(planes[0], everywhere[0]),
                f"targets() for player {player} wrote numbers from {planes.min():g} to "
                f"{planes.max():g}, or others on a second call",
                "they must lie in [-1, 1] and depend on the state and the player alone",
            )
            for k, turned in enumerate(everywhere):
                self.need(
                    np.array_equal(np.sort(turned, axis=None), np.sort(planes, axis=None)),
                    f"symmetry {k} changes the targets for player {player}, not only their places",
                    "targets must turn with the board",
                )

"""The checks behind `playout.testing.check_game` that look at more than one state.

Random games with every check of checks/states.py on the way, the same answers from batches cut in
any way and from several threads, and playouts as random as single moves.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from playout.envs.checks.states import StateChecker
from playout.envs.checks.symmetries import GARBAGE
from playout.envs.core.game import NativeGame
from playout.envs.core.rules import MAX_GOAL, is_sentence
from playout.envs.core.state_batch import StateBatch

BATCH = 32
PLAYOUTS = 2000


class GameChecker(StateChecker):
    """Examines one game."""

    def check_start(self) -> None:
        """Init fills every byte, the same way each time; the action table is in range."""
        game = self.game
        self.need(
            game.initial_state().to_bytes() == _filled_start(game),
            "init() leaves bytes of the state as they were",
            "set the whole state, padding included (memset it first)",
        )
        self.need(
            is_sentence(game.goal),
            f"the goal is {game.goal[:80]!r}",
            f"say it in one line of at most {MAX_GOAL} characters, without blanks around it",
        )
        table = game.symmetry_actions()
        for k, row in enumerate(table):
            self.need(
                sorted(row) == list(range(game.num_actions)),
                f"symmetry_action({k}, ...) is not a permutation of the actions",
                "each action must go to one action of its own",
            )
        self.need(
            (table[0] == np.arange(game.num_actions)).all(),
            "symmetry 0 moves actions",
            "symmetry 0 must be the identity",
        )

    def play(self, rng: np.random.Generator) -> tuple[int, NDArray[np.float32]]:
        """One random game with every check at every state; its plies and returns."""
        self.moves, self.plies_left = [], None
        state = self.game.initial_state()
        for ply in range(self.game.max_plies + 1):
            self.check_state(state)
            actions = state.legal_actions
            if not actions:
                return ply, state.returns
            possible = [action for action, prob in state.chance_outcomes if prob > 0] or actions
            action = possible[int(rng.integers(len(possible)))]
            text = state.action_text(action)
            if self.game.calls_python:
                self.game.forget_decoded()  # so that the next state is the one that apply() made
            state = state.apply(action)
            self.moves.append(text)
        self.fail(
            f"the game goes on after max_plies={self.game.max_plies} moves",
            "raise max_plies or end the game there",
        )

    def check_batches(self, seed: int) -> None:
        """A batch plays as its rows play alone, and twice the same."""
        self.moves = []
        whole, again = self.game.batch(BATCH), self.game.batch(BATCH)
        plies = np.arange(BATCH, dtype=np.int32)
        played = whole.random_plies(plies, seed)
        again.random_plies(plies, seed)
        self.need(
            np.array_equal(whole.data, again.data),
            "the same random numbers give another game on a second run",
            "functions must keep nothing outside the state",
        )
        for row in range(0, BATCH, 5):
            single = self.game.batch(1)
            count = single.random_plies([row], seed, streams=[row])
            self.need(
                np.array_equal(single.data[0], whole.data[row]) and count[0] == played[row],
                f"row {row} of a batch plays differently alone",
                "functions must keep nothing outside the state",
            )

    def check_threads(self, seed: int) -> None:
        """Several threads at once give what one gives."""

        def task(stream: int) -> bytes:
            batch = self.game.batch(BATCH)
            streams = np.arange(BATCH) + stream * BATCH
            batch.random_plies(self.game.max_plies, seed, streams=streams)
            values = batch.playouts(seed, streams=streams)
            return batch.data.tobytes() + values.tobytes() + batch.observe().tobytes()

        alone = [task(stream) for stream in range(4)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(task, range(4)))
        self.need(
            alone == together,
            "several threads at once get other results than one",
            "functions must keep nothing outside the state (no static buffers)",
        )

    def check_playouts(self, seed: int) -> None:
        """The game's own playout() is as random as single moves, within five standard errors."""
        slow_game = self.game.calls_python
        batch = self.game.batch(BATCH if slow_game else PLAYOUTS)
        fast = batch.playouts(seed)
        self.need(
            np.array_equal(fast, batch.playouts(seed)),
            "playout() differs on a second run",
            "all chance must come from the generator that is handed in",
        )
        batch.random_plies(self.game.max_plies, seed + 1 if seed < 2**63 else 0)
        self.need(batch.is_terminal().all(), "a game goes on after max_plies", "raise max_plies")
        slow = batch.returns()
        error = np.sqrt((fast.var(0) + slow.var(0)) / len(batch)) + 1e-3
        self.need(
            (np.abs(fast.mean(0) - slow.mean(0)) < 5 * error).all(),
            f"playout() gives mean results {fast.mean(0)}, single random moves {slow.mean(0)}",
            "playout() must draw uniformly from the legal moves",
        )


def _filled_start(game: NativeGame) -> bytes:
    """The first state, written over garbage."""
    data = np.full((1, game.state_size), GARBAGE, np.uint8)
    batch = StateBatch.from_data(game, data, check=False)
    batch.reset()
    return batch.data.tobytes()

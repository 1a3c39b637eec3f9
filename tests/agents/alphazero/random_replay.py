"""Positions that learners of tests learn from; not a test itself."""

import numpy as np
import playout
from playout.agents.alphazero.replay import Examples, Replay

GAME = playout.game("tic_tac_toe")


def replay_of(size, game=GAME, *, weighed=False):
    """Random positions with random targets, and with random weights if they are to be weighed."""
    rng = np.random.default_rng(3)
    states = game.batch(size)
    states.random_plies(rng.integers(0, 5, size, dtype=np.int32), 7)
    policy = rng.random((size, game.num_actions), dtype=np.float32) * states.legal_mask()
    policy /= policy.sum(axis=1, keepdims=True)
    values = rng.uniform(-1, 1, (size, 1)).astype(np.float32)
    replay = Replay(game, size)
    weights = rng.random(size, dtype=np.float32) if weighed else np.ones(size, np.float32)
    replay.add(Examples.from_dense(states.data.copy(), policy, values, weights))
    return replay

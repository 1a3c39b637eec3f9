"""Policies as pairs, and the memory of histories and replay that hold them."""

from array import array

import numpy as np
import playout
import pytest
from playout.agents.alphazero.replay import Examples, Replay
from playout.agents.alphazero.replay.policies import Policies
from playout.agents.alphazero.selfplay.targets import Histories
from playout.errors import CheckpointError
from playout.mcts.search import UNKNOWN
from small_games import Wide


def random_policies(count, actions, *, seed=0):
    rng = np.random.default_rng(seed)
    dense = rng.random((count, actions), dtype=np.float32) * (rng.random((count, actions)) < 0.3)
    dense[0] = 0
    return dense.astype(np.float32)


def test_pairs_are_the_dense_rows_to_the_bit():
    dense = random_policies(40, 300)
    packed = Policies.from_dense(dense)
    assert packed.actions.dtype == np.uint16 and len(packed) == 40
    assert np.array_equal(packed.dense(300), dense)
    rows = np.array([5, 0, 39, 5])
    assert np.array_equal(packed[rows].dense(300), dense[rows])
    assert np.array_equal(packed[3:9].dense(300), dense[3:9])
    joined = Policies.concatenate([packed[:4], packed[4:]])
    assert np.array_equal(joined.dense(300), dense)


def test_only_the_likeliest_moves_stay_where_few_are_kept():
    dense = random_policies(40, 50)
    dense[1:] /= dense[1:].sum(axis=1, keepdims=True)
    kept = Policies.from_dense(dense, max_moves=5).dense(50)
    assert ((kept > 0).sum(axis=1) <= 5).all()
    assert np.allclose(kept[1:].sum(axis=1), 1, atol=1e-6)
    for row in range(1, 40):
        likeliest = np.sort(dense[row])[-5:]
        assert np.allclose(np.sort(kept[row])[-5:], likeliest / likeliest.sum(), atol=1e-6)
    even = np.full((400, 50), 1 / 50, np.float32)
    counts = (Policies.from_dense(even, max_moves=10).dense(50) > 0).sum(axis=0)
    assert counts.min() > 30 and counts.max() < 140  # among equals, none is preferred


def test_checkpoints_with_dense_policies_are_read():
    game = playout.game("connect_four")
    states = game.batch(70)
    states.random_plies(np.arange(70, dtype=np.int32) % 9, 3)
    dense = random_policies(70, 7)
    examples = Examples.from_dense(
        states.data, dense, np.zeros((70, 1), np.float32), np.ones(70, np.float32)
    )
    today, old = Replay(game, 50, seed=3), Replay(game, 50, seed=3)
    today.add(examples)
    state = today.state_dict()
    counts, actions, probabilities = (
        state.pop(f"policy_{key}") for key in ("counts", "actions", "probabilities")
    )
    old.load_state_dict({**state, "policy": Policies(counts, actions, probabilities).dense(7)})
    for replay in (today, old):
        replay.add(examples[:20])
    assert np.array_equal(today.batch(4, 16).policy, old.batch(4, 16).policy)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(today.state_dict().values(), old.state_dict().values(), strict=True)
    )
    with pytest.raises(CheckpointError, match="policies"):
        old.load_state_dict({**state, "policy": np.zeros((50, 9), np.float32)})


def test_pairs_of_a_full_ring_are_those_of_its_rows_whatever_their_number():
    game = playout.game(Wide())
    replay, rng = Replay(game, 30), np.random.default_rng(0)
    kept = np.zeros((0, 4096), np.float32)
    for turn in range(40):
        count = int(rng.integers(1, 12))
        dense = np.zeros((count, 4096), np.float32)
        for row in range(count):
            moves = rng.integers(0, 4096, int(rng.integers(0, 200 if turn % 9 == 0 else 20)))
            dense[row, moves] = rng.random(len(moves), dtype=np.float32) + 0.1
        states = game.batch(count).data
        replay.add(
            Examples.from_dense(
                states, dense, np.zeros((count, 1), np.float32), np.ones(count, np.float32)
            )
        )
        kept = np.concatenate([kept, dense])[-30:]
        rows = (replay.num_added - len(kept) + np.arange(len(kept))) % 30
        assert np.array_equal(replay.examples(rows).policy.dense(4096), kept)


def held_bytes(one):
    """Bytes of all arrays that an object of these rooms holds."""
    if isinstance(one, np.ndarray | array):
        return memoryview(one).nbytes
    if isinstance(one, dict):
        return sum(map(held_bytes, one.values()))
    if isinstance(one, list | tuple):
        return sum(map(held_bytes, one))
    ours = type(one).__module__.startswith("playout.agents.alphazero")
    names = [*getattr(one, "__dict__", ()), *getattr(type(one), "__slots__", ())]
    return sum(held_bytes(getattr(one, name)) for name in names) if ours else 0


class Found:
    """What a search says of many positions: an even policy over 30 moves."""

    def __init__(self, states):
        legal = states.legal_mask()
        self.action_weights = (legal / 30).astype(np.float32)
        self.value = np.zeros(len(states), np.float32)
        self.proven = np.full(len(states), UNKNOWN, np.int8)
        self.q = np.zeros(legal.shape, np.float32)
        self.visits = legal.astype(np.int32)


def test_memory_of_games_in_play_goes_with_plies_played_and_moves_searched():
    game = playout.game(Wide())
    size, plies = 16, 25
    states, histories = game.batch(size), Histories(game, size)
    most = 0
    for ply in range(plies):
        found = Found(states)
        actions = found.action_weights.argmax(axis=1).astype(np.int32)
        histories.append(states, found, actions, regret_threshold=1.0)
        states.apply(actions)
        most = max(most, held_bytes(histories))
        if ply % 5 == 4:  # all but one end: their plies are dropped in time
            rows = np.arange(1, size)
            histories.finish(rows, np.zeros((size - 1, 2), np.float32), value_mix=0.0)
    a_ply = game.state_size + 8 + 4 + 8 + 30 * (2 + 4)  # state, fields, pairs
    assert most < 4 * size * 6 * a_ply  # a dense history takes 157 MB, a twentieth of it in use
    state = histories.state_dict()
    assert state["lengths"].tolist() == [plies] + [0] * (size - 1)
    assert len(state["policy_actions"]) == plies * 30


def test_memory_of_the_replay_goes_with_moves_kept():
    game = playout.game(Wide())
    states = game.batch(2000)
    dense = np.zeros((2000, 4096), np.float32)
    dense[:, :30] = 1 / 30
    examples = Examples.from_dense(
        states.data, dense, np.zeros((2000, 1), np.float32), np.ones(2000, np.float32)
    )
    replay = Replay(game, 2000)
    for _ in range(3):
        replay.add(examples)
    a_row = game.state_size + 4 + 4 + 8 + 4
    assert held_bytes(replay) < 2000 * (a_row + 2 * 30 * (2 + 4)) < dense.nbytes / 40
    batch = replay.batch(0, 8)
    assert batch.policy.shape == (8, 4096) and np.allclose(batch.policy.sum(axis=1), 1)

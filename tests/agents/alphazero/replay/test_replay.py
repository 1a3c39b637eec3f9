import numpy as np
import playout
import pytest
from playout.agents.alphazero.replay import Examples, Replay
from playout.envs.core.game import StateBatch
from playout.errors import CheckpointError, ConfigError


def examples(game, count, *, seed=0):
    states = game.batch(count)
    rng = np.random.default_rng(seed)
    states.random_plies(rng.integers(0, 5, count, dtype=np.int32), seed)
    policy = rng.random((count, game.num_actions), dtype=np.float32) * states.legal_mask()
    policy /= policy.sum(axis=1, keepdims=True)
    values = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
    return Examples.from_dense(states.data.copy(), policy, values, np.ones(count, np.float32))


@pytest.mark.parametrize("name", ["connect_four", "tic_tac_toe"])
def test_every_symmetry_moves_boards_and_policies_alike(name):
    game = playout.game(name)
    replay = Replay(game, 100)
    data = examples(game, 40)
    dense = data.policy.dense(game.num_actions)
    for k in range(game.num_symmetries):
        batch = replay.view(data, np.full(40, k, np.int32))
        for row in range(40):
            state = game.from_bytes(data.states[row].tobytes())
            shown = state.symmetry(k)
            assert np.array_equal(batch.obs[row], shown.observe())
            assert np.array_equal(batch.mask[row], shown.action_mask)
            for action in state.legal_actions:
                moved = game.symmetry_action(k, action)
                assert batch.policy[row, moved] == dense[row, action]
        assert np.allclose(batch.policy.sum(axis=1), 1, atol=1e-5)


def test_the_ring_keeps_the_newest_examples():
    game = playout.game("tic_tac_toe")
    replay = Replay(game, 10)
    parts = [examples(game, count, seed=count) for count in (6, 7, 25)]
    for part in parts[:2]:
        replay.add(part)
    assert len(replay) == 10
    newest = np.concatenate([parts[0].values[-3:], parts[1].values])
    rows = (replay.num_added - 10 + np.arange(10)) % 10
    assert np.array_equal(replay.examples(rows).values, newest)
    replay.add(parts[2])
    assert replay.num_added == 6 + 7 + 25
    rows = (replay.num_added - 10 + np.arange(10)) % 10
    assert np.array_equal(replay.examples(rows).values, parts[2].values[-10:])


def test_a_batch_is_a_function_of_seed_and_number_alone():
    game = playout.game("connect_four")
    one, two, other = Replay(game, 50, seed=1), Replay(game, 50, seed=1), Replay(game, 50, seed=2)
    for replay in (one, two, other):
        replay.add(examples(game, 60))
    one.batch(3, 16)
    assert np.array_equal(one.batch(7, 16).obs, two.batch(7, 16).obs)
    assert not np.array_equal(one.batch(7, 16).values, other.batch(7, 16).values)
    assert not np.array_equal(one.batch(7, 16).values, one.batch(8, 16).values)


def test_a_window_holds_only_the_newest_rows_once_each():
    game = playout.game("connect_four")
    replay = Replay(game, 50)
    replay.add(examples(game, 70))
    rows = replay.rows(0, 20, window=20)
    assert sorted(rows.tolist()) == sorted((np.arange(50, 70) % 50).tolist())
    assert len(replay.rows(0, 30, window=20)) == 30


def test_saving_and_loading_gives_the_same_batches():
    game = playout.game("connect_four")
    for count in (30, 80):
        replay, again = Replay(game, 50, seed=3), Replay(game, 50, seed=3)
        replay.add(examples(game, count))
        again.load_state_dict(replay.state_dict())
        for part in (replay, again):
            part.add(examples(game, 5, seed=9))
        assert np.array_equal(replay.batch(4, 16).obs, again.batch(4, 16).obs)
        assert np.array_equal(replay.batch(4, 16).policy, again.batch(4, 16).policy)


def test_what_does_not_fit_is_refused():
    game = playout.game("connect_four")
    replay = Replay(game, 50)
    with pytest.raises(ValueError, match="empty"):
        replay.batch(0, 4)
    with pytest.raises(ConfigError, match="room"):
        Replay(game, 0)
    with pytest.raises(CheckpointError, match="room for 50"):
        Replay(game, 60).load_state_dict(replay.state_dict())
    with pytest.raises(CheckpointError, match="does not fit"):
        Replay(playout.game("tic_tac_toe"), 50).load_state_dict(
            {**replay.state_dict(), "num_added": 3}
        )


def test_masks_of_a_batch_are_the_rules():
    game = playout.game("connect_four")
    replay = Replay(game, 50)
    replay.add(examples(game, 50))
    batch = replay.batch(0, 32)
    assert (batch.policy[batch.mask == 0] == 0).all()
    kept = replay.examples(np.arange(50)).states
    assert isinstance(StateBatch.from_data(game, kept, check=True), StateBatch)

"""Every position has its turns, no more and no fewer, and none waits for longer than a window."""

import numpy as np
import playout
import pytest
from playout.agents.alphazero.replay import CompactReplay, Examples, Replay
from playout.agents.alphazero.selfplay.actors.turns import DealtReplay
from playout.errors import CheckpointError, ConfigError

GAME = playout.game("tic_tac_toe")


def examples(count, first=0):
    """Positions that can be told apart by their values."""
    states = GAME.batch(count)
    policy = np.tile(np.eye(9, dtype=np.float32)[4], (count, 1))
    values = ((first + np.arange(count)) / 2**16).astype(np.float32)[:, None]
    return Examples.from_dense(states.data.copy(), policy, values, np.ones(count, np.float32))


def numbers(batch):
    return np.rint(batch.values[:, 0] * 2**16).astype(int)


@pytest.mark.parametrize("kind", [Replay, CompactReplay])
@pytest.mark.parametrize("reuse", [1, 3])
def test_positions_are_learned_from_exactly_as_often_as_allowed(kind, reuse):
    dealt = DealtReplay(kind(GAME, 4000), reuse=reuse)
    seen, added, batch = np.zeros(6000, int), 0, 0
    ages = []
    rng = np.random.default_rng(1)
    while added < 6000:
        size = int(rng.integers(1, 300))
        size = min(size, 6000 - added)
        assert dealt.has_room(size)
        dealt.add_spread(examples(size, added), 1000)
        added += size
        while dealt.turns > reuse * 500:
            drawn = numbers(dealt.batch(batch, 32))
            np.add.at(seen, drawn, 1)
            ages.extend(added - drawn)
            batch += 1
    assert max(ages) <= 1000 + 300 and seen.max() == reuse
    assert np.mean(ages) > 200  # batches are mixed, not the newest alone
    while dealt.turns >= 32:
        np.add.at(seen, numbers(dealt.batch(batch, 32)), 1)
        batch += 1
    np.add.at(seen, numbers(dealt.batch(batch, dealt.turns)), 1)
    assert (seen == reuse).all() and dealt.turns == 0
    with pytest.raises(ValueError, match="1 turns were asked for, and 0 are left"):
        dealt.rows(0, 1)


def test_nothing_that_has_a_turn_to_come_is_pushed_out():
    dealt = DealtReplay(Replay(GAME, 100), reuse=1)
    dealt.add_spread(examples(60), 10)
    assert dealt.has_room(40) and not dealt.has_room(41)
    dealt.batch(0, 60)
    assert dealt.has_room(100)


def test_turns_of_positions_that_are_pushed_out_all_the_same_are_lost():
    dealt = DealtReplay(Replay(GAME, 100), reuse=1)
    dealt.add_spread(examples(60), 10)
    dealt.add_spread(examples(70, 60), 10)  # 0 to 29 are gone
    assert dealt.turns == 100
    DealtReplay(Replay(GAME, 100), reuse=1).load_state_dict(dealt.state_dict())
    assert sorted(numbers(dealt.batch(0, 100))) == list(range(30, 130))


def test_a_checkpoint_goes_on_with_the_same_turns():
    dealt = DealtReplay(Replay(GAME, 500, seed=3), reuse=2)
    dealt.add_spread(examples(300), 100)
    dealt.batch(0, 64)
    state = dealt.state_dict()
    again = DealtReplay(Replay(GAME, 500, seed=3), reuse=2)
    again.load_state_dict(state)
    for one in (dealt, again):
        one.add_spread(examples(50, 300), 100)
    for number in range(1, 9):
        mine, theirs = dealt.batch(number, 64), again.batch(number, 64)
        np.testing.assert_array_equal(mine.values, theirs.values)
        np.testing.assert_array_equal(mine.obs, theirs.obs)
    bad = {**state, "turns": {"keys": state["turns"]["keys"], "numbers": np.full(536, 10**6)}}
    with pytest.raises(CheckpointError, match="turns do not fit"):
        again.load_state_dict(bad)
    with pytest.raises(CheckpointError, match="whose turn it is to be learned"):
        again.load_state_dict(Replay(GAME, 500).state_dict())
    with pytest.raises(ConfigError):
        DealtReplay(Replay(GAME, 5), reuse=0)

"""Batches of states: what they say agrees with single states, and what does not fit is refused."""

import numpy as np
import playout
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playout.envs import StateBatch, catalogue
from playout.envs.core.game import TERMINAL
from playout.errors import GameError, IllegalActionError

GAMES = ["connect_four", "tic_tac_toe", "connect_four(width=12, height=4, run=3)"]


def played(name, size=60, seed=3):
    """States of every age, some of them finished."""
    game = playout.game(name)
    states = game.batch(size)
    states.random_plies(np.arange(size) % (game.max_plies + 3), seed)
    return states


@pytest.mark.parametrize("name", GAMES)
def test_batches_say_what_single_states_say(name):
    states = played(name)
    game, singles = states.game, list(states)
    ends = [state.is_terminal for state in singles]
    assert any(ends) and not all(ends)
    assert states.to_play().tolist() == [state.to_play for state in singles]
    assert states.is_terminal().tolist() == ends
    assert np.array_equal(states.legal_mask(), [state.action_mask for state in singles])
    assert np.array_equal(states.observe(), [state.observe() for state in singles])
    for player in range(2):
        assert np.array_equal(states.observe(player=player), [s.observe(player) for s in singles])
    assert np.array_equal(states.returns(), [state.returns for state in singles])
    assert states.hash().tolist() == [state.hash for state in singles]
    k = np.arange(len(states)) % game.num_symmetries
    turned = [s.symmetry(int(i)) for s, i in zip(singles, k, strict=True)]
    assert list(states.symmetry(k)) == turned
    assert StateBatch.from_states(singles).data.tobytes() == states.data.tobytes()


@pytest.mark.parametrize("name", GAMES)
def test_a_step_is_apply_and_observe_and_all_the_rest(name):
    game = playout.game(name)
    size = 40
    stepped, plain = game.batch(size), game.batch(size)
    obs = np.full((size, *game.obs_shape), -9, np.float32)
    mask = np.full((size, game.num_actions), 9, np.int8)
    rewards, ended = np.empty(size, np.float32), np.empty(size, bool)
    returns, to_play = np.empty((size, 2), np.float32), np.empty(size, np.int32)
    finished = 0
    for ply in range(2 * game.max_plies + 2):
        over, movers = plain.is_terminal(), plain.to_play()
        actions = plain.random_actions(5, counter=ply)
        assert np.array_equal(actions == -1, over)
        stepped.step(
            actions, reset_finished=True, obs=obs, mask=mask, rewards=rewards, returns=returns,
            ended=ended, to_play=to_play,
        )  # fmt: skip
        plain.apply(actions, where=~over)
        plain.reset(where=over)
        assert np.array_equal(stepped.data, plain.data)
        assert np.array_equal(obs, plain.observe())
        assert np.array_equal(mask, plain.legal_mask())
        assert np.array_equal(ended, plain.is_terminal())
        assert np.array_equal(to_play, plain.to_play())
        assert np.array_equal(returns, plain.returns())
        expected = np.where(movers < 0, 0, plain.returns()[np.arange(size), np.maximum(movers, 0)])
        assert np.array_equal(rewards, expected)
        finished += int(ended.sum())
    assert finished >= size


def test_rows_outside_where_are_not_touched():
    states = played("connect_four", 8, seed=1)
    before, obs = states.data.copy(), np.full((8, 2, 6, 7), 7, np.float32)
    where = np.zeros(8, bool)
    where[2] = True
    actions = np.full(8, 99)
    actions[2] = states[2].legal_actions[0]
    states.step(actions, where, obs=obs)
    assert (np.flatnonzero((states.data != before).any(axis=1)) == [2]).all()
    assert (obs[[0, 1, 3, 4, 5, 6, 7]] == 7).all() and (obs[2] != 7).any()
    states.reset(where=[0, 1])
    assert not states.data[:2].any()


@pytest.mark.parametrize("call", ["apply", "step"])
def test_an_illegal_action_names_its_row_and_changes_nothing(call):
    states = played("connect_four", 6, seed=2)
    states.data[4] = np.frombuffer(states.game.from_moves("111111").to_bytes(), np.uint8)
    before = states.data.copy()
    actions = np.array([s.legal_actions[-1] for s in states])
    actions[4] = 0
    with pytest.raises(IllegalActionError, match=r"row 4: connect_four: action 0 .*\[1, 2"):
        getattr(states, call)(actions)
    for bad in (-1, 7, 2**31 - 1, -(2**31), 2**40):
        actions[4] = bad
        with pytest.raises(IllegalActionError, match="row 4"):
            getattr(states, call)(actions)
    assert np.array_equal(states.data, before)


@pytest.mark.parametrize("name", sorted(catalogue.GAMES))
def test_numbers_that_are_no_action_are_refused_by_every_game(name):
    states = playout.game(name).batch(2)
    before, num_actions = states.data.copy(), states.game.num_actions
    for bad in (-1, num_actions, num_actions + 1, num_actions + 4, 2**31 - 1, -(2**31)):
        for call in (states.apply, states.step):
            with pytest.raises(IllegalActionError, match="row 1"):
                call([0, bad], where=[False, True])
    assert np.array_equal(states.data, before)


def test_a_move_after_the_end_is_refused():
    game = playout.game("tic_tac_toe")
    states = StateBatch.from_states([game.from_moves("14253")])
    with pytest.raises(IllegalActionError, match=r"row 0: .*the game is over"):
        states.apply([5])


@pytest.mark.parametrize(
    ("actions", "error", "what"),
    [
        ([0.0, 1.0, 2.0], TypeError, "integers"),
        ([float("nan")] * 3, TypeError, "integers"),
        ([True, False, True], TypeError, "integers"),
        (["1", "2", "3"], TypeError, "integers"),
        ([None, 1, 2], TypeError, "integers"),
        ([0, 1], ValueError, r"shape \(3,\)"),
        ([[0, 1, 2]], ValueError, r"shape \(3,\)"),
    ],
)
def test_actions_of_another_shape_or_type_are_refused(actions, error, what):
    states = playout.game("connect_four").batch(3)
    with pytest.raises(error, match=what):
        states.apply(actions)
    assert not states.data.any()


def test_output_arrays_are_examined():
    states = playout.game("connect_four").batch(3)
    for bad in (
        np.empty((3, 2, 6, 7), np.float64),
        np.empty((2, 2, 6, 7), np.float32),
        np.empty((3, 2, 7, 6), np.float32),
        np.empty((3, 2, 6, 14), np.float32)[..., ::2],
    ):
        with pytest.raises(ValueError, match="must be"):
            states.observe(out=bad)
        with pytest.raises(ValueError, match="obs must be"):
            states.step([0, 0, 0], obs=bad)
    frozen = np.empty((3, 7), np.uint8)
    frozen.setflags(write=False)
    with pytest.raises(ValueError, match="writable"):
        states.legal_mask(out=frozen)
    with pytest.raises(TypeError, match="array"):
        states.legal_mask(out=[[0] * 7] * 3)
    assert not states.data.any()


def test_other_bad_arguments_are_refused():
    game = playout.game("connect_four")
    states = game.batch(3)
    for call in (
        lambda: game.batch(-1),
        lambda: game.batch(2.5),
        lambda: states.observe(player=2),
        lambda: states.observe(player=-1),
        lambda: states.symmetry(2),
        lambda: states.symmetry([0, -1, 0]),
        lambda: states.apply([0, 0, 0], where=[True, False]),
        lambda: states.apply([0, 0, 0], where=[0.5, 1, 1]),
        lambda: states.random_plies(-1, 0),
        lambda: states.random_plies(3, -1),
        lambda: states.random_plies(3, 2**64),
        lambda: states.random_plies(3, 0, streams=[1]),
        lambda: states.playouts(0, count=0),
        lambda: StateBatch.from_states([]),
        lambda: StateBatch.concatenate([]),
        lambda: StateBatch.concatenate([states, playout.game("tic_tac_toe").batch(1)]),
    ):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(IndexError):
        states[3]
    with pytest.raises(IndexError):
        states.apply([0, 0, 0], where=[5])


def test_state_bytes_from_outside_are_examined_row_by_row():
    game = playout.game("connect_four")
    data = game.batch(4).data.copy()
    assert len(StateBatch.from_data(game, data)) == 4
    data[2] = 255
    with pytest.raises(GameError, match="row 2"):
        StateBatch.from_data(game, data)
    with pytest.raises(ValueError, match="uint8"):
        StateBatch.from_data(game, data.astype(np.int64))
    with pytest.raises(ValueError, match="uint8"):
        StateBatch.from_data(game, data[:, :8].copy())


def test_copies_share_nothing():
    states = played("connect_four", 10)
    copy, part, tiled = states.copy(), states[2:5], states.tile(2)
    first = states[0]
    before = states.data.copy()
    states.reset()
    assert np.array_equal(copy.data, before)
    assert np.array_equal(part.data, before[2:5])
    assert np.array_equal(tiled.data, np.repeat(before, 2, axis=0))
    assert first.to_bytes() == before[0].tobytes()
    assert len(StateBatch.concatenate([copy, part])) == 13
    states[3:6] = part
    states[0] = first
    assert np.array_equal(states.data[3:6], before[2:5])
    assert states[[0, 3]].data.tobytes() == before[[0, 2]].tobytes()


def test_an_empty_batch_does_nothing():
    states = playout.game("connect_four").batch(0)
    states.apply(np.empty(0, np.int64))
    states.reset()
    assert states.observe().shape == (0, 2, 6, 7)
    assert states.playouts(0).shape == (0, 2)
    assert states.random_actions(0).shape == (0,)


@given(st.integers(0, 2**63), st.integers(1, 9), st.integers(0, 44))
@settings(max_examples=50, deadline=None)
def test_a_row_plays_the_same_in_any_batch(seed, cut, plies):
    game = playout.game("connect_four")
    whole, streams = game.batch(10), np.arange(10) + 100
    count = whole.random_plies(plies, seed, streams=streams)
    left, right = game.batch(cut), game.batch(10 - cut)
    left.random_plies(plies, seed, streams=streams[:cut])
    right.random_plies(plies, seed, streams=streams[cut:])
    assert np.array_equal(StateBatch.concatenate([left, right]).data, whole.data)
    assert ((count == plies) | (whole.to_play() == TERMINAL)).all()
    parts = [
        left.playouts(seed, streams=streams[:cut]),
        right.playouts(seed, streams=streams[cut:]),
    ]
    assert np.array_equal(np.concatenate(parts), whole.playouts(seed, streams=streams))


def test_the_array_and_the_game_of_a_batch_cannot_be_replaced():
    states = playout.game("chess").batch(3)
    for name, other in (("data", np.zeros((3, 8), np.uint8)), ("game", playout.game("go"))):
        with pytest.raises(AttributeError):
            setattr(states, name, other)
    states.data.shape = (3 * states.game.state_size // 8, 8)  # NumPy lets anybody do that
    with pytest.raises(ValueError, match=r"a state has .* bytes, the rows have 8"):
        states.legal_mask()


@pytest.mark.parametrize("name", ["go(size=5)", "hex(size=4)"])
def test_states_of_another_game_and_players_that_do_not_fit_are_refused(name):
    game, other = playout.game(name), playout.game("tic_tac_toe").batch(4)
    if game.has_score:
        with pytest.raises(ValueError, match="the states are of tic_tac_toe, not of go"):
            game.final_scores(other)
        with pytest.raises(ValueError, match="the states are of tic_tac_toe, not of go"):
            game.final_targets(other, np.zeros(4, np.int32))
        states = game.batch(4)
        states.random_plies(game.max_plies, 1)
        planes = game.final_targets(states, [0, 1, 0, 1])
        assert np.array_equal(planes[1], states[1].targets(1))
        for players, error in (
            ([0, 1], ValueError),
            ([0, 1, 0, 2], ValueError),
            ([0, 1, 0, -1], ValueError),
            ([0.0] * 4, TypeError),
        ):
            with pytest.raises(error, match="player must"):
                game.final_targets(states, players)
    else:
        with pytest.raises(ValueError, match="the states are of tic_tac_toe, not of hex"):
            game.plies_left(other)

"""Value and policy targets, from what searches and proofs said of the positions of a game."""

import numpy as np
import playout
import pytest
from playout.agents.alphazero.selfplay.targets import Histories, best_value
from playout.mcts.search import UNKNOWN


class Found:
    """What a search said, for one row."""

    def __init__(self, value, proven=UNKNOWN, bad=(), visits=(1,) * 9):
        good = np.array([[action not in bad for action in range(9)]])
        self.action_weights = (good / good.sum()).astype(np.float32)
        # The mean of all simulations is not what counts; where proven, it is the exact value.
        self.value = np.array([-1.0 if proven == UNKNOWN else proven], np.float32)
        self.proven = np.array([proven], np.int8)
        self.q = np.where(good, value, -0.9).astype(np.float32)
        self.visits = np.array([visits], np.int32)


def history(found, actions):
    """Plays actions in tic-tac-toe with the search's answers `found`."""
    game = playout.game("tic_tac_toe")
    states, histories = game.batch(1), Histories(game, 1)
    for one, action in zip(found, actions, strict=True):
        action = np.array([action], np.int32)
        histories.append(states, one, action, regret_threshold=0.5)
        states.apply(action)
    return histories


def targets(found, returns, *, value_mix, actions=(0, 1, 2)):
    examples = history(found, actions).finish(
        np.array([0]), np.array([returns], np.float32), value_mix=value_mix
    )
    return examples.values[:, 0].tolist()


def test_outcomes_are_seen_by_the_side_to_move():
    assert targets([Found(0.0)] * 3, (1, -1), value_mix=0.0) == [1, -1, 1]


def test_the_searchs_value_is_mixed_in_backwards():
    found = [Found(0.0), Found(0.5), Found(0.0)]
    assert targets(found, (1, -1), value_mix=0.5) == [-0.5 * 0.5 * (0.5 - 0.5), 0.0, 0.5]


def test_proven_positions_are_exact_and_cut_off_what_followed():
    found = [Found(0.1), Found(0.1, proven=1), Found(0.1)]
    assert targets(found, (1, -1), value_mix=0.0) == [-1, 1, 1]


def test_a_bad_move_on_purpose_says_nothing_of_the_position_before():
    found = [Found(0.25), Found(0.25, bad=[1]), Found(0.25)]  # 1 is what was played
    assert targets(found, (1, -1), value_mix=0.0) == [-0.25, 0.25, 1]


def test_a_searchs_value_is_that_of_its_improved_policy():
    found = Found(0.5, bad=[0, 1, 2, 3])
    assert best_value(found).tolist() == [0.5]
    found.action_weights[0, 4:] = (0.1, 0.3, 0.0, 0.2, 0.4)
    found.q[0, 4:] = (0.0, 1.0, -1.0, -0.5, 0.9)
    found.visits[0, 8] = 0  # nothing is known of it: the weights of the others are scaled up
    assert best_value(found)[0] == pytest.approx((0.3 - 0.1) / 0.6)
    found.visits[:] = 0
    assert best_value(found).tolist() == [-1.0]


def test_histories_survive_saving():
    found = [Found(0.25), Found(-0.5), Found(0.25, proven=0)]
    histories = history(found, (4, 0, 8))
    copied = Histories(histories.game, 1)
    copied.load_state_dict(histories.state_dict())
    ends = [
        part.finish(np.array([0]), np.array([[0, 0]], np.float32), value_mix=0.3)
        for part in (histories, copied)
    ]
    for name in ("states", "values", "policy_weights"):
        assert np.array_equal(*(getattr(part, name) for part in ends))
    assert np.array_equal(*(part.policy.dense(9) for part in ends))


class FoundAnywhere:
    """What a search said of one position of any game: a total `value`, all moves alike."""

    def __init__(self, state, value):
        legal = state.action_mask[None].astype(np.float32)
        self.action_weights = legal / legal.sum()
        self.visits = legal.astype(np.int32)
        self.q = value * legal
        self.value = np.array([value], np.float32)
        self.proven = np.array([UNKNOWN], np.int8)


def played(name, value):
    """A random game of `name` whose searches expected `value`; its returns and what they were."""
    game = playout.game(name)
    states, histories, before, movers = game.batch(1), Histories(game, 1), [], []
    for ply in range(game.max_plies):
        if (mover := states.to_play()[0]) == -1:
            break
        action = states.random_actions(3, counter=ply)
        if mover >= 0:
            found = FoundAnywhere(states[0], value)
            histories.append(states, found, action, regret_threshold=0.5)
            before.append(states.returns()[0])
            movers.append(mover)
        states.apply(action)
    return histories, states.returns(), np.array(before), np.array(movers)


@pytest.mark.parametrize("value_mix", [0.0, 0.5, 1.0])
def test_with_rewards_along_the_way_a_target_is_what_is_still_to_come(value_mix):
    histories, returns, before, _ = played("game_2048(size=2)", 0.3)
    examples = histories.finish(np.array([0]), returns, value_mix=value_mix)
    scale, final = histories.game.value_scale, returns[0, 0]
    left = np.arange(len(before), 0, -1)  # each ply back mixes the search's total in once more
    total = 0.3 + (final / scale - 0.3) * (1 - value_mix) ** left
    expected = np.clip(total - before[:, 0] / scale, -1, 1)
    assert np.allclose(examples.values[:, 0], expected, atol=1e-6)
    assert final > 0


def test_targets_of_points_are_in_units_of_the_games_scale():
    histories, returns, _, movers = played("backgammon", 0.0)
    examples = histories.finish(np.array([0]), returns, value_mix=0.0)
    assert np.allclose(examples.values[:, 0], returns[0][movers] / 3)
    assert abs(returns[0, 0]) in (1, 2, 3)

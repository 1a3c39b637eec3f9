"""Actions of Dict and Tuple spaces as flat rows, and masks of every form that people write."""

import numpy as np
import pytest
from gymnasium import spaces
from playout.agents.vector.actions import (
    check_masks,
    flat_mask,
    leaves,
    mask_size,
    nested,
    one_action,
    random_action,
    row_form,
    row_size,
)
from playout.agents.vector.spaces import decode_space, encode_space
from playout.errors import EnvironmentFault

HAND = spaces.Dict(
    {
        "finger": spaces.Discrete(3, start=1),
        "grip": spaces.Box(-1, 1, (2,), np.float32),
        "rest": spaces.Tuple([spaces.MultiDiscrete([2, 4]), spaces.MultiBinary(2)]),
    }
)


def test_random_rows_are_actions_of_the_space_and_obey_the_mask():
    rng = np.random.default_rng(0)
    mask = np.array([0, 1, 1, 1, 0, 0, 0, 0, 1], np.uint8)
    assert row_size(HAND) == 7 and mask_size(HAND) == len(mask) and len(list(leaves(HAND))) == 4
    for _ in range(20):
        row = random_action(HAND, mask, rng)
        assert (row.shape, row.dtype) == row_form(HAND)
        action = one_action(HAND, row)
        assert HAND.contains({**action, "finger": np.int64(action["finger"])})
        assert action["finger"] in (2, 3) and action["rest"][0].tolist() == [0, 3]
        assert isinstance(action["finger"], int)


@pytest.mark.parametrize("low", [-1.0, -np.inf])
def test_a_random_number_is_an_action_of_a_space_without_dimensions(low):
    space = spaces.Box(low, 1.0, (), np.float32)
    row = random_action(space, np.ones(0, np.uint8), np.random.default_rng(0))
    assert row.shape == () and row.dtype == np.float32 and space.contains(row)


def test_many_rows_become_a_dictionary_of_batches():
    rng, mask = np.random.default_rng(0), np.ones(9, np.uint8)
    rows = np.stack([random_action(HAND, mask, rng) for _ in range(5)])
    found = nested(HAND, rows)
    assert found["grip"].shape == (5, 2) and found["finger"].shape == (5,)
    assert found["rest"][1].shape == (5, 2) and found["rest"][1].dtype == np.int8


@pytest.mark.parametrize(
    ("space", "mask", "wanted"),
    [
        (spaces.Discrete(3), [True, False, True], [1, 0, 1]),
        (spaces.MultiDiscrete([2, 3]), (np.array([1, 0]), np.array([0, 1, 1])), [1, 0, 0, 1, 1]),
        (HAND, {"finger": [0, 1, 0]}, [0, 1, 0, 1, 1, 1, 1, 1, 1]),
        (HAND, {"rest": ([1, 0, 1, 0, 0, 0], None)}, [1, 1, 1, 1, 0, 1, 0, 0, 0]),
    ],
)
def test_masks_may_be_arrays_or_have_the_form_of_the_actions(space, mask, wanted):
    assert flat_mask(space, mask, "here", over=False).tolist() == wanted


def test_masks_that_cannot_be_are_refused_with_environment_and_step():
    with pytest.raises(EnvironmentFault, match=r"env 3, step 7: .* has 2 entries, not 3"):
        flat_mask(spaces.Discrete(3), [1, 1], "env 3, step 7", over=False)
    with pytest.raises(EnvironmentFault, match="env 3: the action mask allows no action"):
        flat_mask(spaces.MultiDiscrete([2, 2]), [1, 0, 0, 0], "env 3", over=False)
    assert flat_mask(spaces.Discrete(2), [0, 0], "env 3", over=True).tolist() == [0, 0]
    with pytest.raises(EnvironmentFault, match="cannot be read"):
        flat_mask(HAND, {"toe": [1]}, "env 3", over=False)
    with pytest.raises(EnvironmentFault, match="row 1: the action mask allows"):
        check_masks(spaces.Discrete(2), np.array([[1, 0], [0, 0]]), lambda row: f"row {row}")


def test_composite_spaces_survive_a_checkpoint_in_their_order():
    ordered = spaces.Dict([("z", spaces.Discrete(2)), ("a", spaces.Box(-1, 1, (1,), np.float32))])
    for space in (HAND, ordered):
        again = decode_space(encode_space(space))
        assert again == space
    assert list(decode_space(encode_space(ordered)).spaces) == ["z", "a"]

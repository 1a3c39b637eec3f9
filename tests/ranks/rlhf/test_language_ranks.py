"""Language stages under three ranks learn what one process learns, cut models included."""

import numpy as np
import pytest
from language_work import CUT, SUPERVISED, work
from launch import launch, numbers

ONLINE = ("dr_grpo", "rlhf", "failures", "own_critic")


@pytest.fixture(scope="module")
def alone():
    return work()


@pytest.fixture(scope="module")
def together():
    return launch(3, "from language_work import work\nreturn work()")


def check_equal(found, wanted):
    """To rounding: the moments of the gradient as a whole, and every metric."""
    left, right = (numbers(side["moments"]) for side in (found, wanted))
    assert np.linalg.norm(right) > 1e-4
    assert np.linalg.norm(left - right) < 1e-4 * np.linalg.norm(right)
    for row, expected in zip(found["shown"], wanted["shown"], strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=2e-3, abs=2e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("stage", SUPERVISED)
def test_a_supervised_step_of_three_ranks_is_that_of_one(stage, alone, together):
    found = [rank["supervised"][stage] for rank in together]
    check_equal(found[0], alone["supervised"][stage])
    assert all(one["digest"] == found[0]["digest"] for one in found)
    assert all(one["shown"] == found[0]["shown"] for one in found)


@pytest.mark.parametrize("kind", ONLINE)
def test_a_round_of_three_ranks_samples_and_learns_what_one_does(kind, alone, together):
    found = [rank["online"][kind] for rank in together]
    check_equal(found[0], alone["online"][kind])
    assert all(one["digest"] == found[0]["digest"] for one in found)
    assert all(one["shown"] == found[0]["shown"] for one in found)


@pytest.mark.parametrize("kind", ["failures", "own_critic"])
def test_failures_of_every_episode_of_a_rank_leave_it_nothing_to_learn(kind, alone, together):
    first, second = (row["env/failures"] for row in alone["online"][kind]["shown"])
    assert first >= 2 and second > 0
    assert together[1]["online"][kind]["shown"][0]["env/failures"] == first


def check_same_weights(found, wanted):
    assert found["names"] == wanted["names"]
    left, right = (numbers(side["weights"]) for side in (found, wanted))
    assert np.linalg.norm(left - right) < 1e-4 * np.linalg.norm(right)


@pytest.mark.parametrize("kind", ONLINE)
def test_a_round_of_a_policy_cut_over_three_ranks_is_that_of_one(kind, alone, together):
    found, wanted = together[0]["online cut"][kind], alone["online"][kind]
    check_equal(found, wanted)
    check_same_weights(found, wanted)
    assert all(rank["online cut"][kind]["shown"] == found["shown"] for rank in together)
    assert found["again"] == {name: found[name] for name in found["again"]}


@pytest.mark.parametrize("stage", CUT)
def test_weights_cut_over_three_ranks_become_those_of_one(stage, alone, together):
    found, wanted = together[0]["cut"][stage], alone["cut"][stage]
    check_equal(found, wanted)
    check_same_weights(found, wanted)
    assert all(rank["cut"][stage]["shown"] == found["shown"] for rank in together)

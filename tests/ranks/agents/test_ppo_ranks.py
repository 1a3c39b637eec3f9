"""PPO of two ranks: what one process learns, to rounding, whatever is collected and normalised."""

import numpy as np
import ppo_jobs
import pytest
from launch import launch, numbers

KINDS = [*ppo_jobs.KINDS, "self-play"]


@pytest.fixture(scope="module")
def found():
    """What each of two ranks learned of every kind."""
    return launch(2, f"import ppo_jobs\nreturn {{kind: ppo_jobs.learn(kind) for kind in {KINDS}}}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_learn_what_one_process_learns(found, kind):
    one, (first, second) = ppo_jobs.learn(kind), (part[kind] for part in found)
    assert first == second
    assert first["metrics"] == pytest.approx(one["metrics"], rel=1e-4, abs=1e-5)
    left, right = numbers(first["weights"]), numbers(one["weights"])
    np.testing.assert_allclose(left, right, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_a_rank_without_steps_in_a_minibatch_takes_the_others_step():
    parts = launch(2, "import ppo_jobs\nreturn ppo_jobs.one_update(minibatch_size=1)")
    one, two = (numbers(ppo_jobs.one_update(minibatch_size=size)) for size in (1, 2))
    assert parts[0] == parts[1]
    np.testing.assert_allclose(numbers(parts[0]), one, rtol=0, atol=2e-6)
    assert np.abs(one - two).max() > 1e-4


@pytest.mark.slow
def test_ranks_go_on_from_their_states_byte_for_byte_and_save_together_at_a_fault(tmp_path):
    body = f"""
        import ppo_jobs
        found = [ppo_jobs.resumed(kind) for kind in ("memory", "self-play", "rates")]
        return [*found, ppo_jobs.fault({str(tmp_path)!r}), ppo_jobs.two_faults()]
    """
    first, second = launch(2, body)
    for whole, again in (*first[:3], *second[:3]):
        assert whole == again
    assert first[:3] == second[:3]
    # Nothing was due to be saved before.
    (told, *left), (said, *right) = first[3], second[3]
    said, end = said.split("; the last good")
    assert "the motor is on fire" in said and told == f"{said} (on rank 1); the last good{end}"
    assert end.startswith(" checkpoint is 1 in") and left == right
    assert left[0] == 1 and left[1] > 1
    assert first[4] == ["DivergedError", "fire"] and second[4] == ["DivergedError", "NaN"]

"""Ranks that are stuck, and a store that does not answer, end the job with one line."""

import os
import signal

import pytest
from launch import TOY, begun, ended, launch, wait_for

QUICK = {"PLAYOUT_RANK_TIMEOUT": 1}
# One rank is busy with something that has no end; the watch goes on in its thread.
STUCK = """
import runpy, sys, threading
from playout.agents.runs import ranks
sys.argv[:] = sys.argv[1:]
toy = runpy.run_path(sys.argv[0], run_name="toy")
def hook(trainer):
    if trainer.n == 3 and ranks.rank() == int(sys.argv[3]):
        print("stuck", flush=True)
        threading.Event().wait()
try:
    toy["train"](toy["ToyRanks"](9, hook), toy["open_run"](sys.argv[1]), save_every=1)
except toy["PlayoutError"]:
    sys.exit(2)  # another's end was noticed first
"""


@pytest.mark.slow
def test_a_rank_that_is_stuck_is_named_by_those_who_wait_for_it(memory_path):
    for stuck, local in ((1, 3), (0, 1)):
        words = ("-c", STUCK, TOY, memory_path / f"run-{stuck}", 9, stuck)
        with begun(3, *words, LOCAL_WORLD_SIZE=local, PLAYOUT_RANK_LAG=2, **QUICK) as (ranks, _):
            codes, lines = ended(ranks)
        said = f"error: rank {stuck} has kept the others waiting for 2 s"
        assert codes == [2, 2, 2] and lines == [f"{said}; the job ends, its run is as last saved"]


@pytest.mark.slow
def test_what_rank_0_does_alone_may_take_longer_than_a_rank_may_keep_others_waiting():
    found = launch(
        2,
        """
        import time
        from playout.agents.runs.ranks import watch

        def alone():
            late = watch._watch[0].rounds + 30  # more than twice as long as either limit
            while watch._watch[0].rounds < late:
                time.sleep(0.01)
            return "done"

        ranks.sums([0.0])
        return [ranks.by_first(alone), ranks.first(alone() if ranks.is_first() else "")]
        """,
        PLAYOUT_RANK_LAG=1,
        **QUICK,
    )
    assert found == [["done", "done"]] * 2


@pytest.mark.slow
def test_a_store_that_does_not_answer_ends_the_ranks_of_each_machine_with_one_line(memory_path):
    words = (TOY, memory_path / "run", 1000)
    with begun(2, *words, TOY_WAITS="2", **QUICK) as (ranks, store):
        wait_for(memory_path / "run", 2)
        os.kill(store.pid, signal.SIGSTOP)
        codes, lines = ended(ranks)
    assert codes == [2, 2]
    said = "torchrun's store, on the machine of rank 0, has not answered for 1 s"
    assert lines == [f"error: {said}; the job ends, its run is as last saved"]


MEETING = """
import sys
from datetime import timedelta
from playout.agents.runs import ranks
from playout.agents.runs.ranks import messages
from playout.errors import PeerError

messages._START = timedelta(seconds=1)
try:
    ranks.start("cpu")
except PeerError as error:
    if ranks.may_speak():
        print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
"""


@pytest.mark.slow
def test_one_rank_of_a_machine_says_that_nobody_can_meet():
    # No torchrun: rank 0 opens the store itself, where somebody else has the port.
    own = {"TORCHELASTIC_USE_AGENT_STORE": False}
    with begun(2, "-c", MEETING, **own) as (ranks, _):
        codes, lines = ended(ranks)
    assert codes == [2, 2] and len(lines) == 1
    assert lines[0].startswith("error: rank 0 of 2 cannot meet the others at localhost:")

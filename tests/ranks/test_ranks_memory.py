"""Sums through shared memory: against sums in order of rank, in threads and in a job."""

import os
import subprocess
import threading

import numpy as np
import pytest
import torch
from launch import launch
from playout.agents.runs.ranks._memory import SharedSum, block_size
from playout.agents.runs.ranks.memory import RankMemory, create

PIECE = 256  # bytes


def members(world, piece=PIECE):
    block = bytearray(block_size(world, piece))
    return [SharedSum(block, rank, world, piece) for rank in range(world)]


def at_once(work, world):
    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("world", [2, 3])
def test_every_rank_gets_the_sum_in_order_of_rank(world, dtype):
    sums = members(world)
    rng = np.random.default_rng(world)
    for size in (1, 2, 31, 64, 65, 1000):
        given = [(9 * rng.random(size)).astype(dtype) for _ in range(world)]
        expected = given[0].copy()
        for one in given[1:]:
            expected += one
        found = [one.copy() for one in given]

        def work(rank, found=found):
            while not sums[rank].add(found[rank], 0.01):
                pass

        at_once(work, world)
        for one in found:
            np.testing.assert_array_equal(one, expected)


def test_a_rank_that_waits_in_vain_goes_on_where_it_was():
    first, second = members(2)
    mine, theirs = np.arange(200.0), np.ones(200)
    for _ in range(3):
        assert not first.add(mine, 0.001)
    assert first.position == 0
    np.testing.assert_array_equal(mine, np.arange(200.0))  # nothing is lost while it waits
    other = threading.Thread(target=second.add, args=(theirs, 60.0))
    other.start()
    while not first.add(mine, 0.001):
        pass
    other.join()
    np.testing.assert_array_equal(mine, np.arange(200.0) + 1)
    np.testing.assert_array_equal(theirs, mine)


def test_a_block_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="too small"):
        SharedSum(bytearray(block_size(2, PIECE) - 1), 0, 2, PIECE)


BODY = """
    import torch
    from playout.agents.runs.ranks import messages
    ranks.start("cpu")
    own = torch.arange(400_000, dtype=torch.float32).reshape(2, -1) * (ranks.rank() + 0.1)
    ranks.add_(own)
    return [messages._joined[0].memory is not None, own.double().sum().item(), own[1, 7].item()]
"""


@pytest.mark.slow
def test_ranks_of_one_machine_add_up_there_and_by_messages_where_they_may_not():
    near, far = launch(2, BODY), launch(2, BODY, PLAYOUT_RANK_MEMORY=0)
    assert [found[0] for found in near + far] == [True, True, False, False]
    assert [found[1:] for found in near] == [found[1:] for found in far]


def test_a_rank_that_is_killed_is_noticed_though_nobody_has_waited_for_it(monkeypatch):
    of_a_job = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in of_a_job.items():
        monkeypatch.setenv(name, value)
    other = subprocess.Popen(["sleep", "60"])
    descriptor, piece = create()
    memory = RankMemory(f"/proc/self/fd/{descriptor}", piece, [os.getpid(), other.pid])
    other.kill()
    with pytest.raises(RuntimeError, match="the process of rank 1 has ended"):
        memory.add_(torch.ones(3))
    other.wait()
    os.close(descriptor)

import math

import playout
import pytest
from playout.agents.alphazero.sizes import ENOUGH, ENOUGH_FOR_MEDIUM, configure, sizes_for


@pytest.mark.parametrize("size", ["small", "medium", "base"])
def test_a_network_that_learns_alone_for_long_learns_in_larger_batches(size):
    game = playout.game("connect_four")
    short = configure(game, size=size, updates=5).learner
    long = configure(game, size=size, updates=5, long=True).learner
    assert long.batch_size == 2 * short.batch_size
    assert math.isclose(long.learning_rate**2, 2 * short.learning_rate**2)


def test_networks_that_take_turns_keep_their_batches():
    game = playout.game("connect_four")
    both = configure(game, size="base", first_size="small", updates=5, long=True)
    assert both.learner == configure(game, size="base", updates=5).learner


def test_a_larger_network_needs_time_for_its_evaluations():
    assert sizes_for(0.9 * ENOUGH_FOR_MEDIUM) == ("", "small")
    assert sizes_for(1.1 * ENOUGH_FOR_MEDIUM) == sizes_for(0.9 * ENOUGH) == ("", "medium")
    assert sizes_for(1.1 * ENOUGH) == ("small", "base")

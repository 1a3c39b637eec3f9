"""Games with hidden information in front of a search: refused in a line, or drawn anew."""

import numpy as np
import playout
import pytest
from playout.envs import StateBatch
from playout.errors import ConfigError, SearchError
from playout.mcts import Search, SearchConfig

DRAWN = SearchConfig(algorithm="uct", num_simulations=200, resample=True)


def positions(count):
    """The second player holds the jack of hearts behind a king that it does not see."""
    return StateBatch.from_states([playout.game("leduc_poker").from_moves("Ks Jh r")] * count)


def test_a_search_that_would_see_hidden_cards_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"leduc_poker.* hides .* resample=True") as caught:
        Search("leduc_poker", SearchConfig(algorithm="uct"))
    assert "\n" not in str(caught.value)


def test_each_tree_searches_a_state_drawn_for_the_side_to_move():
    states = positions(64)
    search = Search("leduc_poker", DRAWN, num_trees=64, seed=1)
    search.run(states)
    drawn = search.states
    assert (drawn.info_key(1) == states.info_key(1)).all()
    assert len({state.text for state in drawn}) == 5  # every other card
    search.run(states)
    assert not np.array_equal(search.states.data, drawn.data)  # drawn anew each time
    again = Search("leduc_poker", DRAWN, num_trees=64, seed=1)
    again.run(states)
    assert np.array_equal(again.states.data, drawn.data)


def test_what_the_search_does_not_see_changes_nothing():
    states = positions(8)
    others = states.resample(7)
    assert not np.array_equal(states.data, others.data)
    found = [Search("leduc_poker", DRAWN, num_trees=8, seed=3).run(one) for one in (states, others)]
    assert (found[0].visits == found[1].visits).all()
    assert (found[0].action == found[1].action).all()


def test_trees_of_drawn_states_do_not_go_on():
    search = Search("leduc_poker", DRAWN, num_trees=2)
    search.run(positions(2))
    with pytest.raises(SearchError, match="searched anew"):
        search.advance([1, 1])


def test_resample_changes_nothing_where_nothing_is_hidden():
    states = playout.game("tic_tac_toe").batch(2)
    plain, asked = (
        Search(
            "tic_tac_toe",
            SearchConfig(algorithm="uct", num_simulations=50, resample=resample),
            num_trees=2,
        )
        for resample in (False, True)
    )
    assert (plain.run(states).visits == asked.run(states).visits).all()
    asked.advance([0, 1])

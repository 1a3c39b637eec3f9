"""The evaluation cache changes how often the evaluator is asked, not what is found."""

import numpy as np
import playout
import pytest
from playout.envs import StateBatch
from playout.mcts.search import Search, SearchConfig


def symmetric_evaluation(states, game, evaluate):
    """Like `evaluate`, but symmetric positions get the same value and matching logits."""
    count = game.num_symmetries
    twins = [states.symmetry(k) for k in range(count)]
    best = np.argmin([twin.hash() for twin in twins], axis=0)
    rows = [twins[k].data[row] for row, k in enumerate(best)]
    logits, values = evaluate([row.tobytes() for row in rows], game)
    to = np.array(
        [[game.symmetry_action(k, a) for a in range(game.num_actions)] for k in range(count)]
    )
    return np.take_along_axis(logits, to[best], 1), values


@pytest.mark.parametrize("name", ["connect_four", "tic_tac_toe"])
@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
@pytest.mark.parametrize("leaves", [1, 4])
@pytest.mark.parametrize("dense", [3, 32])
def test_a_cache_saves_evaluations_and_changes_nothing(name, algorithm, leaves, dense, tools):
    game = tools.game(name)

    def play(cache_size):
        config = SearchConfig(
            algorithm=algorithm,
            num_simulations=40,
            cache_size=cache_size,
            leaves_per_step=leaves,
            dense_edges=dense,
            gumbel_scale=0.0,
            dirichlet_fraction=0.0,
        )
        search = Search(game, config, num_trees=24, seed=1)
        states, asked, found = tools.random_states(game, 24, seed=3, plies=3), 0, []
        search.begin(states)
        for _ in range(2):
            while (asking := search.ask()) is not None:
                asked += asking.size
                batch = type(states).from_data(game, asking.states.copy())
                search.tell(*symmetric_evaluation(batch, game, tools.evaluate))
            result = search.result()
            found += [result.visits, result.q, result.proven]
            going = np.flatnonzero(result.action >= 0)
            search.advance(result.action[going], where=going)
        return found, asked, search.stats

    if leaves > 1:  # what is remembered is not under way, so that leaves fall differently
        (_, asked, stats), (_, plain, _) = play(1 << 16), play(0)
        assert asked < 0.7 * plain and stats["cache_hits"] > 0
        return
    (found, asked, stats), (expected, plain, _) = play(1 << 16), play(0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert asked < 0.7 * plain
    assert stats["cache_hits"] > 0


def test_equal_leaves_of_one_step_are_asked_once(tools):
    game = tools.game("connect_four")
    search = Search(game, SearchConfig(cache_size=64), num_trees=50)
    search.begin(game.batch(50))
    assert search.ask().size == 1
    search.tell(np.zeros((1, 7), np.float32), np.zeros(1, np.float32))
    assert search.ask().size == 4  # seven replies, three of them mirrored


@pytest.mark.parametrize("width", [1, 2], ids=["of the mover", "of both players"])
@pytest.mark.parametrize("together", [True, False])
def test_the_same_stones_with_the_other_side_to_move_are_another_question(tools, width, together):
    # Both sides see the same board, and a game's eval_key may say so; values are by player.
    game = playout.game("breakthrough(size=4)")
    states = [game.from_text(f"pppp/4/4/PPPP {side}") for side in "wb"]
    assert states[0].eval_key == states[1].eval_key
    batches = [states] if together else [[state] for state in states]
    config = SearchConfig(num_simulations=0, cache_size=64)
    search, found = Search(game, config, num_trees=len(batches[0])), []
    for batch in batches:
        search.begin(StateBatch.from_states(batch))
        asked = search.ask()
        values = np.full((asked.size, width), 0.5, np.float32)
        if width == 2:
            values[np.arange(asked.size), 1 - asked.to_play] = -0.5
        logits = np.zeros((asked.size, game.num_actions), np.float32)
        search.tell(logits, values if width == 2 else values[:, 0])
        assert search.ask() is None
        found += list(search.result().value)
    assert found == [0.5, 0.5]


def test_a_cache_holds_the_logits_of_legal_moves_only(tools):
    game = tools.game("wide_lines")  # 70,000 actions, of which 35 are legal at most
    search = Search(game, SearchConfig(cache_size=4096), num_trees=1)
    kept = 4096 * (35 * 4 + 2 * 4 + 16)
    assert search.stats["cache_bytes"] == kept + 2 * 70_000 * 4  # and the maps of one symmetry
    assert Search(game, SearchConfig(), num_trees=1).stats["cache_bytes"] == 0


def test_a_small_cache_forgets_and_still_changes_nothing(tools):
    game = tools.game("tic_tac_toe")
    visits = []
    for size in (0, 4, 64):
        config = SearchConfig(num_simulations=60, cache_size=size, cache_symmetric=False)
        search = Search(game, config, num_trees=6, seed=2)
        search.begin(game.batch(6))
        visits.append(tools.finish(search, game).visits)
    np.testing.assert_array_equal(visits[0], visits[1])
    np.testing.assert_array_equal(visits[0], visits[2])


def test_a_cleared_cache_asks_again(tools):
    game = tools.game("connect_four")
    search = Search(game, SearchConfig(num_simulations=0, cache_size=64), num_trees=1)
    for clear, size in ((False, 1), (False, None), (True, 1)):
        if clear:
            search.clear_cache()
        search.begin(game.batch(1))
        leaves = search.ask()
        assert (leaves and leaves.size) == size
        if leaves:
            search.tell(*tools.evaluate(leaves.states, game))


def test_searches_of_some_moves_do_not_share_the_priors_of_all(tools):
    game = tools.game("tic_tac_toe")
    found, allowed = [], np.ones((4, 9), bool)
    allowed[[0, 2], :6] = False  # all roots are equal positions
    for size in (0, 256):
        config = SearchConfig(num_simulations=30, cache_size=size, cache_symmetric=False)
        search = Search(game, config, num_trees=4, seed=2)
        for _ in range(2):  # the second time, what all moves are worth is remembered
            search.begin(game.batch(4), allowed=allowed)
            result = tools.finish(search, game)
            found.append((result.visits, result.prior_logits))
        assert (result.visits.sum(axis=1) == 30).all() and not result.visits[[0, 2], :6].any()
    for plain, cached in zip(found[:2], found[2:], strict=True):
        np.testing.assert_array_equal(plain[0], cached[0])
        np.testing.assert_array_equal(plain[1], cached[1])

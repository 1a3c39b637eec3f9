"""Threads change nothing; interrupts, forks, memory over many searches."""

import os
import signal
import threading

import numpy as np
import pytest
from playout.errors import SearchError
from playout.mcts.evaluators import UniformEvaluator
from playout.mcts.search import Search, SearchConfig


def games_played(tools, threads, **settings):
    game = tools.game("connect_four")
    search = Search(game, SearchConfig(threads=threads, **settings), num_trees=70, seed=3)
    search.begin(tools.random_states(game, 70, seed=1, plies=12))
    found = []
    for _ in range(3):
        rollouts = search.config.algorithm == "uct"
        result = search.run() if rollouts else tools.finish(search, game)
        going = np.flatnonzero(result.action >= 0)
        found += [result.visits, result.q, result.action_weights, result.action]
        search.advance(result.action[going], where=going)
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithm": "gumbel"},
        {"algorithm": "puct", "cache_size": 512},
        {"algorithm": "gumbel", "leaves_per_step": 4, "cache_size": 256},
        {"algorithm": "uct", "num_simulations": 300},
        {"algorithm": "gumbel", "dense_edges": 3, "cache_size": 512},
        {"algorithm": "puct", "dense_edges": 0, "leaves_per_step": 8},
    ],
    ids=str,
)
def test_trees_do_not_depend_on_the_number_of_threads(settings, tools):
    expected = games_played(tools, 1, **settings)
    for threads in (2, 5):
        for one, other in zip(games_played(tools, threads, **settings), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("settings", [{}, {"cache_size": 256}], ids=str)
@pytest.mark.parametrize("num_trees", [1, 3])
def test_leaves_of_few_trees_are_shared_among_threads_and_change_nothing(
    num_trees, settings, tools
):
    game, found = tools.game("connect_four"), []
    for threads in (1, 2, 5):
        config = SearchConfig(num_simulations=100, leaves_per_step=16, threads=threads, **settings)
        search = Search(game, config, num_trees=num_trees, seed=3)
        search.begin(tools.random_states(game, num_trees, seed=4, plies=8))
        result = tools.finish(search, game)
        found.append((result.visits, result.q, result.value))
    for other in found[1:]:
        for one, expected in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_a_step_goes_on_where_two_descents_meet(algorithm, tools):
    game, steps = tools.game("connect_four"), 0
    config = SearchConfig(algorithm=algorithm, num_simulations=200, leaves_per_step=32)
    search = Search(game, config, num_trees=1)
    search.begin(game.batch(1))
    while (leaves := search.ask()) is not None:
        search.tell(*tools.evaluate(leaves.states, game))
        steps += 1
    assert search.result().visits.sum() == 200
    assert steps <= 12  # 200 / 32, and a few at the beginning, when there are fewer leaves


def test_an_arena_shrinks_when_many_small_searches_follow_a_large_one(tools):
    game = tools.game("connect_four")
    search = Search(game, SearchConfig(), num_trees=2)
    search.run(game.batch(2), UniformEvaluator(), num_simulations=5000)
    large = search.stats["tree_bytes"]
    for i in range(40):  # now and then one that needs more: nothing is gained by giving it back
        budget = 4000 if i % 10 == 0 else 20
        search.run(game.batch(2), UniformEvaluator(), num_simulations=budget)
    assert search.stats["tree_bytes"] == large
    for _ in range(20):
        search.run(game.batch(2), UniformEvaluator(), num_simulations=20)
    assert search.stats["tree_bytes"] < large / 50


def test_two_searches_can_run_in_two_threads(tools):
    game = tools.game("connect_four")
    results = [None, None]

    def work(i):
        search = Search(game, SearchConfig(num_simulations=64), num_trees=32, seed=7)
        results[i] = search.run(game.batch(32), UniformEvaluator()).visits

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    np.testing.assert_array_equal(*results)


def test_one_search_in_two_threads_is_refused(tools):
    game = tools.game("connect_four")
    search = Search(game, SearchConfig(algorithm="uct", num_simulations=400_000), num_trees=1)
    search.begin(game.batch(1))
    thread = threading.Thread(target=lambda: search.run())
    thread.start()
    refused = False
    while thread.is_alive() and not refused:
        try:
            search.result()
        except SearchError as error:
            refused = "another thread" in str(error)
    thread.join()
    assert refused


def test_ctrl_c_stops_a_long_rollout_search_which_can_go_on(tools):
    game = tools.game("connect_four")
    search = Search(game, SearchConfig(algorithm="uct", num_simulations=3_000_000), num_trees=1)
    search.begin(game.batch(1))
    # A test run in the background inherits "ignore SIGINT": set what an interactive Python has.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            search.run()
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    so_far = search.result().visits.sum()
    assert 0 < so_far < 3_000_000
    assert not search.done.any()
    search.begin(game.batch(1), num_simulations=1000)
    assert search.run().visits.sum() == 1000


def test_a_forked_process_makes_its_own_threads(tools):
    game = tools.game("connect_four")
    search = Search(game, SearchConfig(threads=3), num_trees=60)
    expected = search.run(game.batch(60), UniformEvaluator(), noise=False).visits
    child = os.fork()
    if child == 0:
        again = search.run(game.batch(60), UniformEvaluator(), noise=False).visits
        os._exit(0 if (again == expected).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_memory_stays_constant_over_many_searches(tools):
    game = tools.game("connect_four")
    config = SearchConfig(num_simulations=16, cache_size=1024)
    search = Search(game, config, num_trees=64, seed=1)

    def work(times):
        for _ in range(times):
            search.begin(game.batch(64))
            for _ in range(4):
                result = search.run(None, UniformEvaluator())
                search.advance(result.action)
            Search(game, config, num_trees=16, seed=1).run(game.batch(16), UniformEvaluator())

    work(10)
    before = resident()
    work(150)
    assert resident() - before < 3 << 20


def test_an_edge_takes_at_most_64_bytes(tools):
    game = tools.game("connect_four")
    for algorithm, nodes_of in (("gumbel", 1.0), ("puct", 1.0), ("uct", 0.5)):
        config = SearchConfig(algorithm=algorithm, num_simulations=2000, prove=False)
        search = Search(game, config, num_trees=4)
        evaluator = None if algorithm == "uct" else UniformEvaluator()
        search.run(game.batch(4), evaluator)
        edges = 4 * 7 * 2000 * nodes_of
        assert search.stats["tree_bytes"] / edges < 40

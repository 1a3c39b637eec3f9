"""Players that search: kept trees, bare policies, strength against random play."""

import numpy as np
import playout
import pytest
from playout.agents.players.search import SearchPlayer, uct_player
from playout.agents.players.simple import (
    RandomPlayer,
)
from playout.agents.rating.arena import play_match
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError
from playout.mcts.evaluators import RolloutEvaluator, UniformEvaluator
from playout.mcts.search import SearchConfig


@pytest.fixture(scope="module")
def game():
    return playout.game("connect_four")


def positions(game, *moves):
    return StateBatch.from_states([game.from_moves(text) for text in moves])


def test_uct_beats_random_and_takes_wins(game):
    player = uct_player(game, 200, seed=0)
    assert player.act(positions(game, "121212", "12121")).tolist() == [0, 0]
    assert player.name == "uct:200"
    assert play_match(player, RandomPlayer(), game, 20).score("uct:200")[0] >= 19


def test_a_search_goes_on_in_its_tree_when_its_own_game_comes_back(game):
    config = SearchConfig(num_simulations=64, gumbel_scale=0.0, count_reused=False)
    player = SearchPlayer(game, config, RolloutEvaluator(), name="s")
    states = game.batch(4)
    first = player.search(states)
    states.apply(first.action)
    states.apply(np.array([0, 1, 2, 3], np.int32))
    kept = player.search(states[[3, 1, 0, 2]])  # rows in another order
    alone = SearchPlayer(game, config, RolloutEvaluator(), name="t").search(states)
    assert kept.nodes.sum() > alone.nodes.sum()
    assert (kept.visits.sum(axis=1) >= 64).all()
    # A position that no tree has foreseen, fewer rows, more rows: all are searched.
    for moves in (["4444"], ["12", "13", "14", "15", "16", "17"]):
        found = player.search(positions(game, *moves))
        assert len(found.action) == len(moves)
        assert (found.visits.sum(axis=1) > 0).all()
    player.reset(1)
    assert (player.search(states).action >= 0).all()


def test_equal_positions_in_one_batch_do_not_share_a_tree(game):
    player = uct_player(game, 50, seed=0)
    states = game.batch(1).tile(3)
    actions = player.act(states)
    states.apply(actions)
    states.apply(np.zeros(3, np.int32))
    assert player.search(states).visits.sum(axis=1).min() >= 45


def test_a_bare_policy_takes_the_likeliest_legal_move(game):
    class Likes:
        def evaluate(self, leaves):
            return np.tile(np.arange(7.0, dtype=np.float32), (leaves.size, 1)), np.zeros(
                leaves.size, np.float32
            )

    player = SearchPlayer(game, None, Likes(), name="bare")
    assert player.act(positions(game, "", "777777")).tolist() == [6, 5]
    with pytest.raises(ConfigError, match="bare"):
        player.search(game.batch(1))
    with pytest.raises(ConfigError, match="uct"):
        SearchPlayer(game, None)


def test_a_bare_policy_samples_where_it_has_a_temperature(game):
    player = SearchPlayer(game, None, UniformEvaluator(), name="bare", temperature=1.0)
    states = positions(game, "777777").tile(700)
    counts = np.bincount(player.act(states), minlength=7)
    assert counts[6] == 0 and (np.abs(counts[:6] - 700 / 6) < 50).all()
    player.reset(0)
    assert (np.bincount(player.act(states), minlength=7) == counts).all()


def test_a_search_of_some_moves_begins_a_tree_of_its_own(game):
    player = uct_player(game, 100, seed=0)
    states = game.batch(1)
    states.apply(player.act(states))
    states.apply(np.zeros(1, np.int32))  # a position that the tree has foreseen
    allowed = np.arange(7) < 2
    found = player.search(states, allowed=allowed)
    assert found.visits.sum() == 100 and not found.visits[0, 2:].any()
    assert player.search(states).visits[0, 2:].all()

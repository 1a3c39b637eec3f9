"""What a forfeited game brings: one rule for matches and for what language policies play."""

import numpy as np
import playout
import pytest
from playout.agents.players.player import Forfeit, results_without
from playout.agents.players.simple import RandomPlayer
from playout.agents.rating.play import play_games
from playout.rlhf.environments.game_reward import play_out


class GivesUp(RandomPlayer):
    """Never has a move."""

    name = "gives up"

    def act_after(self, states, lines):
        rows = range(len(states))
        return np.full(len(states), -1, np.int32), {row: Forfeit("resigned", False) for row in rows}

    def close(self):
        pass


@pytest.mark.parametrize(
    ("players", "seat", "results"),
    [
        (1, 0, [-1]),
        (2, 0, [-1, 1]),
        (2, 1, [1, -1]),
        (3, 1, [0.5, -1, 0.5]),
        (5, 4, [0.25, 0.25, 0.25, 0.25, -1]),
    ],
)
def test_who_forfeits_gets_the_worst_result_and_the_others_share_what_it_lost(
    players, seat, results
):
    assert results_without(players, seat) == results


def test_a_table_and_a_game_played_out_by_a_language_policy_agree():
    game = playout.game("kuhn_poker(players=3)")
    players = GivesUp(), RandomPlayer()
    (played,) = play_games(game, players, [(0, 1, 1)], [()], [0], seed=0)
    assert played.forfeit[0] == 0 and sum(played.returns) == 0
    assert played.returns == (-1, 0.5, 0.5)
    alone = play_out(game.initial_state(), GivesUp(), seed=0) / game.value_scale
    assert tuple(alone.tolist()) == played.returns

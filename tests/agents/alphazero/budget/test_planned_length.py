"""How long games are planned to be: as long as they may get, or some lengths of a random game."""

import playout
import pytest
from playout.agents.alphazero.budget.length import planned_plies


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("connect_four", 42, 42), ("game_2048", 600, 1500), ("backgammon", 800, 1600)],
)
def test_games_that_might_go_on_for_ever_are_planned_by_random_ones(name, low, high):
    assert low <= planned_plies(playout.game(name)) <= high

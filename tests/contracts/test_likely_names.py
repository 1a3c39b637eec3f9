"""Which known name an unknown one may have meant: a rule for commands, games and players."""

import playout
import pytest
from playout.agents.players.load import make_player
from playout.agents.runs.config import nearest
from playout.errors import ConfigError, likely_names

STAGES = ["report", "import-model", "grpo"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("import", ["import-model"]),
        ("imprt-model", ["import-model"]),
        ("rep", ["report"]),
        ("g", []),
        ("zzzz", []),
        ("", []),
    ],
)
def test_a_name_that_begins_a_known_one_comes_before_what_is_spelled_alike(name, found):
    assert likely_names(name, STAGES) == found


def test_several_are_in_the_order_of_likelihood_without_repeats():
    known = ["sum_of_products", "sum_of", "sums", "sun_of", "other"]
    assert likely_names("sum_o", known, count=3) == ["sum_of", "sum_of_products", "sun_of"]


def test_games_players_and_settings_go_by_it(monkeypatch):
    with pytest.raises(ConfigError, match=r"did you mean connect_four\?"):
        playout.game("conn")
    with pytest.raises(ConfigError, match="did you mean alphabeta"):
        make_player("al", playout.game("tic_tac_toe"))
    assert nearest("best", ["beta", "rest", "best_of_many_answers"]) == (
        "did you mean best_of_many_answers?"
    )

"""The long proof of the rules notices a wrong count, and a wrong move of another implementation."""

import playout
import pytest
from playout.benchmarks import rules
from playout.benchmarks.tools.peers import rules as others


def test_counts_are_compared_and_long_ones_left_out(tmp_path):
    path = tmp_path / "othello.perft"
    path.write_text(
        "# othello\nperft 2 12\ndeep 3 57\ngame othello(size=4)\nperft 1 4\ndeep 9 900000\n"
    )
    found = rules.check_counts(path, nodes=1e5)
    assert (found["counted"], found["leaves"]) == (3, 12 + 56 + 4)
    assert [line.split(": ")[1] for line in found["wrong"]] == ["56, published 57"]
    assert len(found["left_out"]) == 1


class Copy:
    """Another implementation: our own, with a fault after some plies."""

    def __init__(self, fault_at):
        self.state, self.left = playout.game("othello(size=4)").initial_state(), fault_at

    def moves(self):
        found = {self.state.action_text(action) for action in self.state.legal_actions}
        self.left -= 1
        return found if self.left else found | {"z9"}

    def play(self, move):
        self.state = self.state.apply(self.state.read_action(move))

    def returns(self):
        return self.state.returns.tolist()


def test_games_beside_another_implementation_stop_at_the_first_difference(monkeypatch):
    monkeypatch.setitem(others.RULES, ("othello(size=4)", "copy"), lambda: Copy(1000))
    assert others.play_beside("othello(size=4)", "copy", 5, seed=1) > 40
    monkeypatch.setitem(others.RULES, ("othello(size=4)", "copy"), lambda: Copy(5))
    with pytest.raises(AssertionError, match=r"there \['z9'\]"):
        others.play_beside("othello(size=4)", "copy", 1, seed=1)


def test_perfect_play_is_held_against_what_is_published():
    """2x2 to the 32 tile: about 8 %, by the source that rules.py names."""
    assert not rules.check_winner("breakthrough(size=4)", -1, table_mb=16)["wrong"]
    (wrong,) = rules.check_winner("breakthrough(size=4)", 1, table_mb=16)["wrong"]
    assert wrong == "breakthrough(size=4): -1 by best play, published 1"
    found = rules.check_tile("game_2048(size=2)", 32, 0.08)
    assert not found["wrong"] and found["positions"] > 57
    assert rules.check_tile("game_2048(size=2)", 32, 0.1)["wrong"]

"""The long proof of the rules notices a wrong count, and a wrong move of another implementation."""

import json

import playout
import pytest
from playout.benchmarks import rules
from playout.benchmarks.tools import report
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
    found = others.play_beside("othello(size=4)", "copy", 5, seed=1)
    assert found.games == 5 and found.positions > 40
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


def test_what_is_proven_has_a_row_each_and_a_difference_is_a_miss(tmp_path):
    results = {
        "counts": {"hex": {"counted": 9, "leaves": 1000, "wrong": [], "seconds": 1.0}},
        "games": {"hex, copy": {"games": 5, "wrong": ["hex: a difference"], "seconds": 1.0}},
        "perfect": {"hex(size=3)": {"outcome": 1, "nodes": 70, "wrong": [], "seconds": 1.0}},
    }
    claims = rules.claims_of(results)
    lines = report.grid(claims)
    assert lines[0] == "| | compared | positions | differences |"
    assert lines[2].startswith("| hex, published counts of move sequences | 9 | 1 k | 0; ")
    assert lines[3].startswith("| hex, copy, random games beside it | 5 | 0 | 1; ")
    assert lines[4].startswith("| hex(size=3), best play as published | 1 | 70 | 0; ")
    assert [lines[row].endswith("**no** |") for row in (2, 3, 4)] == [False, True, False]


@pytest.mark.parametrize(
    ("found", "whole", "games", "perfect"),
    [
        ({"games": {"go": 3}}, False, {"go": 3, "hex": 2}, {"boards": 1}),
        ({"games": {"go": 3}}, True, {"go": 3}, {"boards": 1}),
        ({"games": {"go": 3}, "perfect": {"tiles": 4}}, True, {"go": 3}, {"tiles": 4}),
        ({"perfect": {"tiles": 4}}, False, {"go": 1, "hex": 2}, {"boards": 1, "tiles": 4}),
    ],
)
def test_games_that_were_not_asked_for_keep_their_results(
    found, whole, games, perfect, tmp_path, monkeypatch
):
    monkeypatch.setattr(rules, "RESULTS", tmp_path)
    last = {"counts": {"go": 5}, "games": {"go": 1, "hex": 2}, "perfect": {"boards": 1}}
    (tmp_path / "rules.json").write_text(json.dumps({"results": last}))
    merged = rules.beside_last({"counts": {"chess": 6}, **found}, whole=whole)
    assert (merged["games"], merged["perfect"]) == (games, perfect)
    assert merged["counts"] == {"chess": 6, **({} if whole else {"go": 5})}
    (tmp_path / "rules.json").unlink()
    assert rules.beside_last(found, whole=False).get("games") == found.get("games", {})

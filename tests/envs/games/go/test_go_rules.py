"""Rule cases of Go by the names they have elsewhere, and counts derived twice."""

import itertools

import numpy as np
import playout
import pytest
from go_reference import Reference
from playout.errors import ConfigError, GameError, IllegalActionError
from playout.testing import perft

KOS = ("positional", "situational", "simple")


def position(text, **params):
    """The state of a line of text, on a board of its size."""
    return playout.game("go", size=text.index("/"), **params).from_text(text)


def moves(state):
    return [state.action_text(action) for action in state.legal_actions]


def play(state, *words):
    for word in words:
        state = state.apply(state.read_action(word))
    return state


def rows(state):
    """The board now, as rows of X, O and dots."""
    lines = str(state).split("\n")[: state.game.obs_shape[1]]
    return ["".join(c for c in line[2:] if c in "XO.") for line in lines]


@pytest.mark.parametrize("ko", KOS)
def test_a_simple_ko_may_be_taken_back_after_a_move_elsewhere(ko):
    state = play(position(".XO./XO.O/.XO./.... b", ko=ko), "C3")
    assert rows(state)[1] == "X.XO"
    assert "B3" not in moves(state)
    with pytest.raises(IllegalActionError):
        play(state, "B3")
    assert "B3" in moves(play(state, "A1", "D1"))


@pytest.mark.parametrize("ko", KOS)
def test_a_snapback_is_no_ko(ko):
    state = play(position("..../XX../OOX./..X. b", ko=ko), "A1", "B1")
    assert rows(state)[2:] == ["OOX.", ".OX."]
    assert rows(play(state, "A1"))[2:] == ["..X.", "X.X."]


def test_sending_two_and_returning_one_is_forbidden_by_positional_superko():
    start = "..../..../XXO./.O.O w"
    assert "B1" not in moves(play(position(start), "A1", "C1"))


def test_situational_superko_looks_at_who_is_to_move():
    state = play(position("..../..../XXO./.O.O w", ko="situational"), "A1", "C1", "B1", "pass")
    assert "A1" not in moves(state)
    assert "A1" in moves(play(state, "D4", "C4")), "another stone makes it another position"


def test_the_simple_rule_lets_long_cycles_go_on():
    state = position("..../..../XXO./.O.O w", ko="simple")
    for _ in range(3):
        state = play(state, "A1", "C1", "B1", "pass")
    assert rows(state) == ["....", "....", "XXO.", ".O.O"]


@pytest.mark.parametrize("ko", KOS)
def test_a_triple_ko_is_broken_by_superko_only(ko):
    kos = [".XO...XO.", "XO.O.X.XO", ".XO...XO.", 9 * ".", ".XO......", "XO.O.....", ".XO......"]
    start = "/".join([*kos, 9 * ".", 9 * "."]) + " b"
    state = play(position(start, ko=ko), "C8", "G8", "C4", "B8", "H8")
    assert ("B4" in moves(state)) == (ko == "simple")


def test_suicide_of_several_stones_is_an_option():
    start = ".../OO./X.O b"
    assert "B1" not in moves(position(start))
    state = play(position(start, suicide=1), "B1")
    assert rows(state) == ["...", "OO.", "..O"]


@pytest.mark.parametrize("ko", KOS)
@pytest.mark.parametrize("suicide", [0, 1])
def test_a_lone_stone_without_liberties_is_never_allowed(ko, suicide):
    assert "A1" not in moves(position(".../OO./.O. b", ko=ko, suicide=suicide))


@pytest.mark.parametrize("suicide", [0, 1])
def test_captures_come_before_suicide(suicide):
    state = play(position(".XX/XOO/XO. b", suicide=suicide), "C1")
    assert rows(state) == [".XX", "X..", "X.X"]


def test_two_passes_end_the_game_and_an_empty_board_scores_nothing():
    state = play(playout.game("go", komi=0).initial_state(), "pass", "PASS")
    assert state.is_terminal
    assert state.score.tolist() == [0, 0]
    assert state.returns.tolist() == [0, 0]


def test_komi_decides_and_a_whole_one_can_draw():
    corner = ".X.../XX.../...../...../..... w"
    won = {komi: play(position(corner, komi=komi), "pass", "pass") for komi in (24.5, 25, 25.5)}
    assert [state.returns[0] for state in won.values()] == [1, 0, -1]
    assert [state.score[1] for state in won.values()] == [-0.5, 0, 0.5]


@pytest.mark.parametrize(
    ("start", "black", "white"),
    [
        ("X.O/X.O/X.O b", 3, 3),  # neutral points
        (".X.O./XXXOO/...../OOOXX/.O.X. b", 9, 9),  # regions that touch both colors
        (".X.XO/XXXXO/OOOOO/.O.../OO.O. b", 8, 17),  # eyes
        ("XX.../X.O../XX.../...../..... b", 5, 1),  # dead stones are taken for alive
        (".XO.O/XXOOO/OO.../...../..... b", 4, 21),  # a dead group keeps its points
    ],
)
def test_area_is_counted_as_by_tromp_and_taylor(start, black, white):
    state = play(position(start, komi=0), "pass", "pass")
    stones = [{"X": 0, "O": 1, ".": 2}[c] for c in start[:-2] if c != "/"]
    reference = Reference(start.index("/"), board=stones)
    assert state.score[0] == black - white == reference.margin() + reference.komi
    owners = reference.owners()
    assert (owners.count(0), owners.count(1)) == (black, white)
    assert state.targets(0).ravel().tolist() == [(1, -1, 0)[owner] for owner in owners]
    assert (state.targets(1) == -state.targets(0)).all()


@pytest.mark.parametrize(("size", "count"), [(2, 57), (3, 12_675)])
def test_legal_positions_are_as_many_as_published(size, count):
    """OEIS A094777; a line of text is read if and only if all groups have liberties."""
    game, found = playout.game("go", size=size), 0
    for stones in itertools.product(".XO", repeat=size * size):
        lines = "/".join("".join(stones[i : i + size]) for i in range(0, size * size, size))
        try:
            game.from_text(lines + " b")
        except GameError:
            continue
        found += 1
    assert found == count


# By the rules in C and by go_reference.py.
@pytest.mark.parametrize(
    ("params", "counts"),
    [
        ({"size": 2}, [5, 21, 68, 156, 316, 604, 1088, 2184, 4184]),
        ({"size": 2, "ko": "situational"}, [5, 21, 68, 156, 316, 604, 1112, 2312]),
        ({"size": 2, "ko": "simple"}, [5, 21, 68, 156, 316, 604, 1168]),
        ({"size": 2, "ko": "situational", "suicide": 1}, [5, 21, 68, 156, 316, 604, 1184]),
        ({"size": 3}, [10, 91, 738, 5281, 33384]),
        ({"size": 4}, [17, 273, 4112, 57984]),
        ({}, [82, 6643, 531522]),
    ],
)
def test_move_sequences_are_as_many_as_two_programs_count(params, counts):
    game = playout.game("go", **params)
    assert [perft(game, depth) for depth in range(1, len(counts) + 1)] == counts


def test_a_game_ends_after_two_plies_a_point_and_fifty_on_tiny_boards():
    assert playout.game("go(size=2)").max_plies == playout.game("go(size=4)").max_plies == 50
    assert playout.game("go(size=19)").max_plies == 722
    state = position("..../..../XXO./.O.O w", ko="simple")
    for _ in range(12):
        state = play(state, "A1", "C1", "B1", "pass")
    assert not play(state, "A1").is_terminal
    assert play(state, "A1", "C1").is_terminal


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": 1}, "size must be 2 to 19"),
        ({"size": 20}, "size must be 2 to 19"),
        ({"komi": "seven"}, "komi must be a number"),
        ({"komi": 401}, "komi must be -400 to 400"),
        ({"ko": "super"}, "ko must be one of positional, situational, simple"),
        ({"suicide": 2}, "suicide must be 0 to 1"),
        ({"handicap": 2}, "no parameter 'handicap'"),
    ],
)
def test_parameters_that_cannot_be_played_are_named(params, message):
    with pytest.raises(ConfigError, match=message):
        playout.game("go", **params)


@pytest.mark.parametrize(
    "text",
    [
        "../.. ",
        "../..",
        "../.. x",
        "../../.. b",
        ".../... b",
        "XO/XO b",  # stones without liberties
        "X./.. b A2",  # on a stone
        "../.. b  A1",
        "../.. b pass pass A1",  # after the end
        "../.. b I1",
        "../.. b A0",
        "../.. b A01",
        "../.. b A3",
    ],
)
def test_lines_that_are_no_game_are_refused(text):
    with pytest.raises(GameError):
        playout.game("go(size=2)").from_text(text)


@pytest.mark.parametrize(
    "game", ["go(size=5)", "go(size=9,ko=situational)", "go(size=4,suicide=1)"]
)
def test_symmetric_states_are_known_by_their_keys_without_their_games(game):
    states = playout.game(game).batch(60)
    states.random_plies(np.arange(60), 7)
    for state in states:
        keys = [state.symmetry_key(k) for k in range(8)]
        assert keys == [state.symmetry(k).eval_key for k in range(8)]
    assert len({state.symmetry_key(3) for state in states}) > 50

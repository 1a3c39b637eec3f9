"""Backgammon's odd rules, one position each, its text and bytes. Peers have a file of their own."""

import random

import numpy as np
import playout
import pytest
from playout.errors import GameError, IllegalActionError

GAME = playout.game("backgammon")


def xgid(men, turn=1, dice="00"):
    """A position from {point as X counts it: men}, positive for X; 25 is X's bar, 0 is O's."""
    cells = ["-"] * 26
    for point, count in men.items():
        cells[point] = chr((ord("A") if count > 0 else ord("a")) + abs(count) - 1)
    return f"XGID={''.join(cells)}:0:0:{turn}:{dice}:0:0:0:0:10"


def moves(men, dice, turn=1):
    state = GAME.from_text(xgid(men, turn, dice))
    return {state.action_text(action) for action in state.legal_actions}


def test_the_opening_roll_says_who_begins_and_is_no_double():
    state = GAME.initial_state()
    assert len(state.chance_outcomes) == 30
    assert all(prob == pytest.approx(1 / 30) for _, prob in state.chance_outcomes)
    assert state.apply(state.read_action("31")).to_play == 0
    assert state.apply(state.read_action("13")).to_play == 1
    with pytest.raises(IllegalActionError):
        state.apply(state.read_action("33"))


def test_later_rolls_have_the_chances_of_two_dice():
    state = GAME.from_text(xgid({6: 15, 19: -15}))
    chances = {state.action_text(action): prob for action, prob in state.chance_outcomes}
    assert len(chances) == 21
    assert chances["66"] == pytest.approx(1 / 36)
    assert chances["65"] == pytest.approx(2 / 36)


def test_the_opening_position_is_the_usual_one():
    state = GAME.initial_state()
    assert state.text == "XGID=-b----E-C---eE---c-e----B-:0:0:0:00:0:0:0:0:10"
    after = state.apply(state.read_action("31"))
    for move in ("8/5", "6/5"):
        after = after.apply(after.read_action(move))
    assert after.text == "XGID=-b---BD-B---eE---c-e----B-:0:0:-1:00:0:0:0:0:10"


def test_men_on_the_bar_enter_first():
    assert moves({25: 1, 13: 14, 1: -15}, "61") == {"bar/24", "bar/19"}
    assert moves({25: 1, 13: 14, 24: -2, 1: -13}, "61") == {"bar/19"}
    stuck = GAME.from_text(xgid({25: 1, 13: 14, 24: -2, 19: -2, 1: -11}, dice="61"))
    assert stuck.to_play == -2  # the turn has ended


def test_as_many_dice_as_possible_are_played():
    # After 8/2 no five could be played, since 5 is held: the six is 10/4 then.
    men = {10: 1, 8: 1, 5: -2, 24: -13}
    assert moves(men, "65") == {"10/4", "8/3"}
    state = GAME.from_text(xgid(men, dice="65"))
    assert all(state.apply(action).to_play == 0 for action in state.legal_actions)


def test_where_only_one_die_can_be_played_it_is_the_higher():
    # One man on 13: by 6 to 7 or by 5 to 8, and then nothing: 2 is held.
    men = {13: 1, 2: -2, 24: -13}
    assert moves(men, "65") == {"13/7"}
    # The six is held as well, so the five it is.
    assert moves({13: 1, 2: -2, 7: -2, 24: -11}, "65") == {"13/8"}


def test_doubles_are_played_four_times_or_as_often_as_possible():
    state = GAME.from_text(xgid({13: 1, 24: -15}, dice="22"))
    for left in ("2x3", "2x2", "2x1"):
        state = state.apply(state.legal_actions[0])
        assert state.text.split(":")[4] == left
    assert state.apply(state.legal_actions[0]).to_play == -2
    blocked = GAME.from_text(xgid({13: 1, 9: -2, 24: -13}, dice="22"))
    assert blocked.apply(blocked.legal_actions[0]).to_play == -2


def test_hits_send_men_to_the_bar_and_are_marked():
    state = GAME.from_text(xgid({6: 1, 3: -1, 24: -14}, dice="31"))
    after = state.apply(state.read_action("6/3*"))
    assert state.read_action("6/3") == state.read_action("6/3*")
    assert after.text.startswith("XGID=a--A")


def test_men_go_off_by_the_exact_die_or_the_rearmost_by_a_higher_one():
    assert moves({6: 1, 3: 2, 24: -15}, "53") == {"6/1", "6/3", "3/off"}
    assert moves({4: 1, 2: 1, 24: -15}, "65") == {"4/off(6)", "4/off(5)"}
    assert moves({7: 1, 1: 1, 24: -15}, "61") == {"7/1", "7/6"}  # not before all are home


@pytest.mark.parametrize(
    ("men", "points"),
    [
        ({1: 1, 20: -14}, 1),
        ({1: 1, 12: -15}, 2),
        ({1: 1, 6: -1, 20: -14}, 3),
        ({1: 1, 0: -1, 20: -14}, 3),
    ],
)
def test_gammons_count_twice_and_backgammons_three_times(men, points):
    for name, factor in (("backgammon", points), ("backgammon(gammons=False)", 1)):
        game = playout.game(name)
        state = game.from_text(xgid(men, dice="11"))
        after = state.apply(state.read_action("1/off"))
        assert after.is_terminal
        assert after.returns.tolist() == [factor, -factor]
        assert game.value_scale == (3 if name == "backgammon" else 1)


def test_both_players_see_their_own_side():
    men, turned = {6: 5, 13: 10, 24: -15}, {19: -5, 12: -10, 1: 15}
    one = GAME.from_text(xgid(men, 1, "31"))
    other = GAME.from_text(xgid(turned, -1, "31"))
    assert np.array_equal(one.observe(0), other.observe(1))
    assert np.array_equal(one.observe(1), other.observe(0))
    names = [[s.action_text(a) for a in s.legal_actions] for s in (one, other)]
    assert names[0] == names[1]


def test_endless_games_are_drawn():
    state = GAME.from_text(xgid({6: 15, 19: -15}))
    data = bytearray(state.to_bytes())
    data[56:60] = (1000).to_bytes(4, "little")
    over = GAME.from_bytes(bytes(data))
    assert over.is_terminal
    assert over.returns.tolist() == [0, 0]
    assert over.hash != state.hash


@pytest.mark.parametrize(
    "text",
    [
        "",
        "XGID=",
        xgid({6: 15, 7: 1, 19: -15}),  # sixteen men
        xgid({6: 15, 19: -15}, turn=2),
        xgid({6: 15, 19: -15}, turn=0),  # the opening roll belongs to the first position
        xgid({6: 15, 19: -15}, dice="70"),
        xgid({6: 15, 19: -15}, dice="30"),
        xgid({6: 15, 19: -15}, dice="3x4"),
        xgid({19: -15}, dice="31"),  # X has won
        xgid({19: -15}, turn=1),
        xgid({6: 15, 19: -15}).replace(":0:0:", ":1:0:", 1),  # there is no cube
        xgid({6: 15, 19: -15}) + ":1:1",
        "XGID=-b----E-C---eE---c-e----B:0:0:1:31",
    ],
)
def test_impossible_positions_are_refused(text):
    with pytest.raises(GameError):
        GAME.from_text(text)


@pytest.mark.parametrize("text", ["6", "6/", "6/off(7)", "6/7", "26/20", "bar/bar", "13/6", "6/0"])
def test_what_is_no_move_is_refused(text):
    state = GAME.from_text(xgid({6: 15, 19: -15}, dice="61"))
    with pytest.raises(IllegalActionError):
        state.apply(state.read_action(text))


def test_changed_bytes_and_texts_are_refused_or_playable():
    rng = random.Random(5)
    batch = GAME.batch(50)
    batch.random_plies(np.arange(50) * 5, 6)
    for number in range(2000):
        state = batch[rng.randrange(50)]
        try:
            if number % 2:
                data = bytearray(state.to_bytes())
                data[rng.randrange(len(data))] = rng.choice((rng.randrange(256), rng.randrange(8)))
                state = GAME.from_bytes(bytes(data))
            else:
                place, other = rng.randrange(len(state.text)), chr(rng.randrange(32, 127))
                state = GAME.from_text(state.text[:place] + other + state.text[place + 1 :])
        except GameError:
            continue
        assert str(state)
        assert all(state.apply(action) for action in state.legal_actions)


@pytest.mark.parametrize("name", ["backgammon", "backgammon(gammons=False)"])
def test_all_promises_of_a_game_are_kept(name):
    playout.testing.check_game(name, num_games=2)

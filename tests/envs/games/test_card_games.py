"""Kuhn poker, Leduc poker and liar's dice: rules by OpenSpiel's, by published counts, by hand."""

import random

import numpy as np
import playout
import pytest
from playout.errors import ConfigError, GameError
from playout.mcts.exact import cfr
from playout.testing import check_game

GAMES = [
    "kuhn_poker",
    "kuhn_poker(players=3)",
    "kuhn_poker(players=8)",
    "leduc_poker",
    "leduc_poker(players=3)",
    "leduc_poker(players=8)",
    "liars_dice",
    "liars_dice(dice=2, sides=3)",
    "liars_dice(players=3, dice=2)",
    "liars_dice(players=8, dice=3, sides=9)",
]


@pytest.mark.parametrize("name", GAMES)
def test_the_game_keeps_every_promise_of_its_table(name):
    check_game(name, num_games=5)


@pytest.mark.parametrize(
    ("name", "histories", "infosets"),
    [  # chance, decisions, ends; of OpenSpiel's api_test and sequence_form_lp_test
        ("kuhn_poker", (4, 24, 30), 12),
        ("kuhn_poker(players=3)", (17, 288, 312), 48),
        ("leduc_poker", (157, 3780, 5520), 936),
    ],
)
def test_histories_and_information_sets_are_the_published_ones(name, histories, infosets):
    tree = cfr.GameTree(name)
    assert (tree.counts, tree.num_infosets) == (histories, infosets)


@pytest.mark.slow
def test_liars_dice_has_the_published_histories_and_information_sets():
    tree = cfr.GameTree("liars_dice")
    assert (tree.counts, tree.num_infosets) == ((7, 147_456, 147_420), 24_576)


@pytest.mark.parametrize(
    ("name", "moves", "returns"),
    [
        ("kuhn_poker", "JQpp", [-1, 1]),
        ("kuhn_poker", "KQpbb", [2, -2]),
        ("kuhn_poker", "JQbp", [1, -1]),
        ("kuhn_poker(players=3)", "AQKpbpb", [2 + 1 + 0, -2, -1]),
        ("leduc_poker", "Js Qh r f", [1, -1]),
        ("leduc_poker", "Js Kh c c Jh r c", [5, -5]),  # a pair beats the higher card
        ("leduc_poker", "Qs Qh r c Kh r r c", [0, 0]),  # equal ranks share the pot
        ("leduc_poker", "Ks Qh r r c Js r r c", [13, -13]),
        ("leduc_poker(players=3)", "As Ah Js c r c c Ks c c c", [1.5, 1.5, -3]),
        ("liars_dice", "3 6 1-3 2-3 liar", [-1, 1]),  # a six counts for every face
        ("liars_dice", "3 5 2-3 liar", [-1, 1]),
        ("liars_dice(players=3)", "1 2 3 1-1 1-2 liar", [0, 1, -1]),
    ],
)
def test_results_are_those_of_the_rules(name, moves, returns):
    state = playout.game(name).from_moves(moves)
    assert state.is_terminal
    assert state.returns.tolist() == returns


def test_positions_are_written_as_the_games_write_them():
    leduc = playout.game("leduc_poker").from_moves("Js Qh c r c Kh r")
    assert leduc.text == "crc/r:Js|Qh/Kh"
    assert [leduc.action_text(action) for action in leduc.legal_actions] == ["f", "c", "r"]
    assert playout.game("kuhn_poker").from_moves("JQpb").text == "pb:J|Q"
    dice = playout.game("liars_dice(dice=2)").from_moves("5 3 2 6 1-5 2-6 liar")
    assert dice.text == "35|26:1-5,2-6,liar"


def test_a_player_sees_its_own_cards_and_at_a_showdown_all():
    game = playout.game("leduc_poker")
    state = game.from_moves("Js Qh r c Kh r")
    assert "Js" in state.view(0) and "Qh" not in state.view(0) and "??" in state.view(0)
    assert "Qh" in state.view(1) and "Js" not in state.view(1)
    shown = state.apply(state.read_action("c"))
    assert "Js" in shown.view(1) and "Qh" in shown.view(0)
    folded = state.apply(state.read_action("f"))
    assert "Js" not in folded.view(1)


@pytest.mark.parametrize(
    ("name", "moves", "player"),
    [
        ("leduc_poker", "Js Qh r c Kh", 0),
        ("kuhn_poker(players=3)", "JQKp", 1),
        ("liars_dice(sides=4)", "2 3 1-2", 1),
    ],
)
def test_resampled_cards_are_equally_likely_among_those_unseen(name, moves, player):
    state = playout.game(name).from_moves(moves)
    many = playout.envs.StateBatch.from_states([state] * 6000).resample(5, player)
    assert (many.info_key(player) == state.info_key(player)).all()
    assert (many.observe(player=player) == state.observe(player)).all()
    texts, counts = np.unique([one.text for one in many], return_counts=True)
    assert state.text in texts
    expected = {"leduc_poker": 4, "kuhn_poker(players=3)": 6, "liars_dice(sides=4)": 4}[name]
    assert len(counts) == expected
    assert np.abs(counts - 6000 / expected).max() < 5 * (6000 / expected) ** 0.5


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("kuhn_poker(players=1)", "players must be 2 to 8"),
        ("leduc_poker(players=9)", "players must be 2 to 8"),
        ("liars_dice(players=8, dice=4)", r"players \* dice <= 24"),
        ("liars_dice(sides=10)", "sides must be 2 to 9"),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(name, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        playout.game(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kuhn_poker", "pb:J|J"),
        ("kuhn_poker", "ppp:J|Q"),
        ("kuhn_poker", "p:J"),
        ("kuhn_poker", ":A"),
        ("leduc_poker", "f:Js|Qh"),
        ("leduc_poker", "rrr:Js|Qh"),
        ("leduc_poker", "cr:Js|Qh/Kh"),
        ("leduc_poker", "cc/:Js|Qh/Js"),
        ("leduc_poker", "cc/:Js|Qh"),
        ("liars_dice", "3|5:2-1,1-6"),
        ("liars_dice", "3|5:liar"),
        ("liars_dice", "3|7:"),
        ("liars_dice", "3|5:1-1,"),
    ],
)
def test_impossible_positions_are_refused(name, text):
    with pytest.raises(GameError):
        playout.game(name).from_text(text)


@pytest.mark.parametrize("name", GAMES)
def test_changed_bytes_and_texts_never_crash(name):
    game, rng = playout.game(name), random.Random(3)
    alphabet = "fcrpb:|/JQKAsh0123456789-,liar "
    for number in range(300):
        batch = game.batch(1)
        batch.random_plies([number % (game.max_plies + 1)], number)
        state = batch[0]
        data = bytearray(state.to_bytes())
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 2, 255, rng.randrange(256)])
        text = list(state.text)
        text[rng.randrange(len(text))] = rng.choice(alphabet)
        for read, what in ((game.from_bytes, bytes(data)), (game.from_text, "".join(text))):
            try:
                found = read(what)
            except GameError:
                continue
            assert game.from_text(found.text) == found
            if not found.is_terminal:
                assert found.legal_actions

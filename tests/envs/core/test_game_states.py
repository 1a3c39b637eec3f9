"""Single states, moves as text, and games by name."""

import copy

import numpy as np
import playout
import pytest
from playout.envs.core.registry import game, games, register_game, unregister_game
from playout.envs.game_text import read
from playout.errors import ConfigError, GameError, IllegalActionError


def test_states_do_not_change():
    first = playout.game("tic_tac_toe").initial_state()
    second = first.apply(4)
    assert first.legal_actions == list(range(9))
    assert first != second and first == playout.game("tic_tac_toe").initial_state()
    assert (first.ply, second.ply) == (0, 1)
    assert len({first, second, first.apply(4)}) == 2


def test_games_and_states_can_be_copied_deeply():
    state = playout.game("tic_tac_toe").from_moves("15")
    copied = copy.deepcopy(state)
    assert copied == state and copied.game is state.game
    assert copy.deepcopy(state.game.batch(2)).data.shape == (2, 8)


def test_moves_are_read_in_every_form():
    four, wide = playout.game("connect_four"), playout.game("connect_four", width=12, height=4)
    same = [four.from_moves(moves) for moves in ("4455", "4 4 5 5", "4,4, 5,5", [3, 3, 4, 4])]
    same += [four.from_moves(["4", "4", 4, "5"]), four.from_moves(np.array([3, 3, 4, 4]))]
    assert all(state == same[0] for state in same)
    assert four.from_moves("") == four.from_moves("  ") == four.initial_state()
    assert wide.from_moves("12 12 1") == wide.from_moves([11, 11, 0])
    assert wide.from_moves("12") == wide.from_moves([11])


def test_bad_moves_name_the_ply():
    four = playout.game("connect_four")
    for moves in ("44x", ["4", "4", "x"], [3, 3, 7], [3, 3, -1], "440", "4 4 10"):
        with pytest.raises(IllegalActionError, match="move 3"):
            four.from_moves(moves)
    for moves in ([3.0], [None], [True]):
        with pytest.raises(TypeError, match="integer"):
            four.from_moves(moves)


def test_bytes_that_are_no_state_are_refused():
    four = playout.game("connect_four")
    for data in (b"", b"\0" * 15, b"\0" * 17, b"\xff" * 16):
        with pytest.raises(GameError, match="not a state"):
            four.from_bytes(data)
    with pytest.raises(TypeError, match="bytes"):
        four.from_bytes("0" * 16)
    with pytest.raises(TypeError, match="text"):
        four.from_text(b"0")
    assert four.from_bytes(bytearray(16)) == four.initial_state()


def test_the_observed_player_must_exist():
    state = playout.game("tic_tac_toe").initial_state()
    for player in (-1, 2):
        with pytest.raises(GameError, match="player"):
            state.observe(player)
    with pytest.raises(GameError, match="symmetry 8"):
        state.symmetry(8)
    with pytest.raises(GameError, match="action 9"):
        state.action_text(9)


def test_tic_tac_toe_symmetries_act_on_board_and_actions_alike():
    game = playout.game("tic_tac_toe")
    table = game.symmetry_actions()
    assert len({row.tobytes() for row in table}) == 8
    with pytest.raises(ValueError):
        table[0, 0] = 1
    for k in range(8):
        for action in range(9):
            turned = game.initial_state().apply(action).symmetry(k)
            assert turned == game.initial_state().apply(game.symmetry_action(k, action))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "...",
        "XX./.../...",
        "O../.../...",
        "XXX/OOO/...",
        "XXX/OO./O..",
        ".../.../.../",
        "x../.../...",
        ".........",
    ],
)
def test_tic_tac_toe_text_of_no_position_is_refused(text):
    with pytest.raises(GameError, match="not a position"):
        playout.game("tic_tac_toe").from_text(text)


def test_games_are_made_from_text_names_and_objects():
    small = game("connect_four(width=5, height=4)")
    assert small == game(" connect_four ( height = 4 , width = 5 ) ")
    assert small == game("connect_four", width=5, height=4)
    assert small.params == {"width": 5, "height": 4, "run": 4}
    assert game(str(small)) == small
    assert game(small) is small
    assert game(small.capsule).num_actions == 5
    assert small != game("connect_four")
    assert game("tic_tac_toe()") == game("tic_tac_toe")
    assert [info.name for info in games()] == sorted(info.name for info in games())


@pytest.mark.parametrize(
    "text",
    [
        "shogi",
        "",
        "connect_four(",
        "connect_four)",
        "connect_four(7)",
        "connect_four(width=)",
        "connect_four(width=7,,)",
        "connect_four(width=7, width=7)",
        "connect_four(depth=1)",
        "connect_four(width=__import__('os'))",
        "connect_four(width=1e3)",
        "connect_four(width=0x7)",
        "os.system",
        "playout.envs:game",
        "tic_tac_toe(width=3)",
        "connect_four(width=" + "9" * 2000 + ")",
        "connect_four\n(width=7)x",
    ],
)
def test_text_that_names_no_game_is_refused(text):
    with pytest.raises(ConfigError):
        game(text)


def test_parameters_go_with_names_only():
    with pytest.raises(ConfigError, match="given twice"):
        game("connect_four(width=5)", width=6)
    with pytest.raises(ConfigError, match="name"):
        game(playout.game("tic_tac_toe"), width=6)
    assert read("g(a=1, b=true, c=0.5, d=x)") == (
        "g",
        {"a": 1, "b": True, "c": 0.5, "d": "x"},
    )


def test_registered_games_are_known_by_name():
    def narrow(height: int = 6):
        return playout.game("connect_four", width=4, height=height)

    register_game("narrow_four", narrow)
    try:
        assert game("narrow_four(height=5)").max_plies == 20
        assert {"height": 6} in [info.params for info in games() if info.name == "narrow_four"]
        for name in ("narrow_four", "connect_four", "a b", "a(b)", "", 3):
            with pytest.raises(ConfigError):
                register_game(name, narrow)
        with pytest.raises(TypeError, match="callable"):
            register_game("other", 3)
        with pytest.raises(ConfigError, match="1 to 63"):
            game("narrow_four(height=100)")
    finally:
        unregister_game("narrow_four")
    with pytest.raises(ConfigError, match="no game"):
        game("narrow_four")


def test_the_headers_are_where_get_include_says():
    from pathlib import Path

    from playout.envs import get_include

    folder = Path(get_include())
    for name in ("playout_game.h", "playout_rng.h", "playout_game.pxd"):
        assert (folder / name).is_file()


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("othello", "f5 d6 c3"),
        ("othello(size=10)", "g6 e7"),
        ("hex(size=11,swap=1)", "b2 swap k11 a10"),
        ("gomoku", "h8 a1 o15"),
        ("mnk(m=5,n=4,k=3)", "a1 e4"),
        ("breakthrough", "b2c3 h7g6"),
        ("go(size=9)", "D4 pass J9"),
        ("chess", "e2e4 e7e5 g1f3"),
        ("game_2048(size=2)", ""),
    ],
)
def test_moves_are_read_in_either_case_and_without_blanks_between_them(name, moves):
    game = playout.game(name)
    state = game.from_moves(moves)
    assert game.from_moves(moves.replace(" ", "")) == state
    assert game.split_moves(moves.replace(" ", "")) == moves.split()
    if name != "chess":
        assert game.from_moves(moves.upper()) == state
        assert game.from_moves(moves.upper().replace(" ", "")) == state


def test_a_pass_of_othello_is_read_in_capitals():
    othello = playout.game("othello(size=4)")
    state = othello.initial_state()
    assert state.read_action("PASS") == state.read_action("pass") == 16


def test_words_that_are_no_moves_stay_whole():
    othello = playout.game("othello")
    for word in ("f5d6c9", "f5f5", "nonsense", "f", "@5", "[5"):
        assert othello.split_moves(word) == [word]
        with pytest.raises(IllegalActionError, match=r"move 1 \('"):
            othello.from_moves(word)

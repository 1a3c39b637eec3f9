"""Single states, moves as text, and games by name."""

import copy
from multiprocessing.reduction import ForkingPickler

import numpy as np
import playout
import pytest
from playout.envs import StateBatch
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


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda s: s.observe(5), GameError, "player 5 is not 0 to 1"),
        (lambda s: s.observe(2**40), GameError, "player 1099511627776 is not 0 to 1"),
        (lambda s: s.observe(0.0), TypeError, "player must be an integer, got float"),
        (lambda s: s.view(-1), GameError, "player -1 is not 0 to 1"),
        (lambda s: s.info_key(2**40), GameError, "player 1099511627776 is not"),
        (lambda s: s.targets(2**40), GameError, "player 1099511627776 is not"),
        (lambda s: s.resample(-1), ValueError, "a seed must be an integer from 0"),
        (lambda s: s.resample(0, stream=-1), ValueError, "a stream must be an integer from 0"),
        (lambda s: s.resample(0, 2**40), GameError, "player 1099511627776 is not"),
        (lambda s: s.symmetry(9), GameError, "symmetry 9 is not 0 to 7"),
        (lambda s: s.symmetry_key(2**40), GameError, "symmetry 1099511627776 is not"),
        (lambda s: s.game.symmetry_action(0, 2**40), GameError, "action 1099511627776 is not"),
        (lambda s: s.action_text(2**40), GameError, "action 1099511627776 is not 0 to 8"),
        (lambda s: s.action_text("a1"), TypeError, "action must be an integer, got str"),
        (lambda s: s.read_action(None), TypeError, "an action must be text, got NoneType"),
    ],
)
def test_numbers_that_no_state_has_are_refused(ask, error, message):
    with pytest.raises(error, match=message):
        ask(playout.game("tic_tac_toe").initial_state())


def test_numpys_integers_are_numbers_like_others():
    five = playout.game("hex", size=np.int64(5))
    assert five == playout.game("hex", size=5) and str(five).startswith("hex(size=5")
    state = five.initial_state()
    assert state.action_text(np.int64(3)) == state.action_text(3)
    assert state.symmetry(np.int8(1)) == state.symmetry(1)
    for size in (5.0, True, np.bool_(True), np.float64(5)):
        with pytest.raises(ConfigError, match="size must be an integer"):
            playout.game("hex", size=size)


@pytest.mark.parametrize("key", ["self", "name"])
def test_parameters_may_be_called_as_our_own_arguments_are(key):
    with pytest.raises(ConfigError, match=f"go has no parameter '{key}': it takes size"):
        game(f"go({key}=1)")


def passed_on(thing):
    """What another process gets."""
    return ForkingPickler.loads(ForkingPickler.dumps(thing))


@pytest.mark.parametrize("name", ["tic_tac_toe", "go(size=7)", "connect_four(width=5)"])
def test_games_and_states_come_to_other_processes(name):
    found = playout.game(name)
    state = found.initial_state().apply(2).apply(3)
    states = StateBatch.from_states([state, found.initial_state()])
    assert passed_on(found) == found and str(passed_on(found)) == str(found)
    again = passed_on(state)
    assert again == state and again.ply == 2 and again.game == found
    assert passed_on(found.from_text(state.text)).ply is None
    batch = passed_on(states)
    assert batch.game == found and np.array_equal(batch.data, states.data)
    batch.apply([4, 2])  # it is writable


def test_what_is_no_state_is_refused_when_it_comes_from_another_process():
    chess = playout.game("chess")
    broken = chess.from_bytes(b"\xff" * chess.state_size, check=False)
    with pytest.raises(GameError, match="not a state"):
        passed_on(broken)
    states = chess.batch(2)
    states.data[1] = 255
    with pytest.raises(GameError, match=r"row 1: .* not a state"):
        passed_on(states)
    state = chess.initial_state()
    state.ply = -1
    with pytest.raises(GameError, match="-1 is not the number of moves"):
        passed_on(state)

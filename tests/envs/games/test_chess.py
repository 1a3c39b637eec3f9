"""Chess's rules: moves, ends of games, FEN and notation, in positions made for one rule each."""

import random

import numpy as np
import playout
import pytest
from damage import many
from playout.errors import ConfigError, GameError, IllegalActionError
from playout.testing import check_game

GAME = playout.game("chess")
SAN = playout.game("chess(notation=san)")
START = "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1"
KIWIPETE = "r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq - 0 1"


def played(moves, game=GAME, start=START):
    state = game.from_text(start)
    for move in moves.split():
        state = state.apply(state.read_action(move))
    return state


def moves_of(state, begin=""):
    texts = (state.action_text(action) for action in state.legal_actions)
    return sorted(text for text in texts if text.startswith(begin))


@pytest.mark.slow
@pytest.mark.parametrize(
    "form", ["chess", "chess(draws=automatic)", "chess(max_plies=60,notation=san)"]
)
def test_chess_keeps_the_contract_of_games(form):
    check_game(form, num_games=1)


def test_parameters_out_of_range_are_refused_in_one_line():
    for form in ("chess(max_plies=0)", "chess(draws=never)", "chess(size=8)", "chess(notation=2)"):
        with pytest.raises(ConfigError) as error:
            playout.game(form)
        assert "\n" not in str(error.value)


def test_a_game_of_notes_in_either_notation_ends_in_the_same_mate():
    uci, san = played("e2e4 e7e5 d1h5 b8c6 f1c4 g8f6 h5f7"), played("e4 e5 Qh5 Nc6 Bc4 Nf6?? Qxf7#")
    assert uci == san
    assert uci.text == "r1bqkb1r/pppp1Qpp/2n2n2/4p3/2B1P3/8/PPPP1PPP/RNB1K1NR b KQkq - 0 4"
    assert uci.is_terminal and uci.returns.tolist() == [1, -1]
    assert str(uci).endswith("checkmate")


@pytest.mark.parametrize(
    ("fen", "castles"),
    [
        ("r3k2r/8/8/8/8/8/8/R3K2R w KQkq - 0 1", ["e1c1", "e1g1"]),
        ("r3k2r/8/8/8/8/8/8/R3K2R b KQkq - 0 1", ["e8c8", "e8g8"]),
        ("r3k2r/8/8/8/8/8/8/R3K2R w Qkq - 0 1", ["e1c1"]),
        ("4k3/8/8/8/4r3/8/8/R3K2R w KQ - 0 1", []),  # out of check
        ("4k3/8/8/8/3r4/8/8/R3K2R w KQ - 0 1", ["e1g1"]),  # through an attacked square
        ("4k3/8/8/8/1r6/8/8/R3K2R w KQ - 0 1", ["e1c1", "e1g1"]),  # b1 may be attacked
        ("4k3/8/8/8/6r1/8/8/R3K2R w KQ - 0 1", ["e1c1"]),  # onto an attacked square
        ("4k3/8/8/8/8/8/8/RN2K1NR w KQ - 0 1", []),  # over a piece
    ],
)
def test_castling_needs_rights_an_empty_way_and_no_attack_on_the_king(fen, castles):
    state = GAME.from_text(fen)
    assert [
        move
        for move in moves_of(state, "e1") + moves_of(state, "e8")
        if move in ("e1c1", "e1g1", "e8c8", "e8g8")
    ] == castles


def test_castling_moves_the_rook_and_rights_go_with_king_and_rooks():
    fen = "r3k2r/8/8/8/8/8/8/R3K2R w KQkq - 0 1"
    assert played("e1g1", start=fen).text == "r3k2r/8/8/8/8/8/8/R4RK1 b kq - 1 1"
    assert played("e1c1 e8g8", start=fen).text == "r4rk1/8/8/8/8/8/8/2KR3R w - - 2 2"
    assert played("a1b1 h8h7", start=fen).text == "r3k3/7r/8/8/8/8/8/1R2K2R w Kq - 2 2"
    assert played("h1h8", start=fen).text == "r3k2R/8/8/8/8/8/8/R3K3 b Qq - 0 1"


@pytest.mark.parametrize(
    ("fen", "legal"),
    [
        ("4k3/8/8/8/3Pp3/8/8/4K3 b - d3 0 1", True),
        ("8/8/8/8/k2Pp2R/8/8/4K3 b - d3 0 1", False),  # both pawns leave the king's rank
        ("4k3/8/8/8/3Pp3/8/8/4R1K1 b - d3 0 1", False),  # pinned on the file
        ("8/8/8/4k3/3Pp3/8/8/4K3 b - d3 0 1", True),  # takes the pawn that gives check
    ],
)
def test_en_passant_is_named_only_where_it_may_be_played(fen, legal):
    state = GAME.from_text(fen)
    assert (" d3 " in state.text) == legal
    assert ("e4d3" in moves_of(state)) == legal
    if legal:
        assert "P" not in state.apply(state.read_action("e4d3")).text.split()[0]


def test_a_pawn_on_the_last_rank_becomes_any_of_four_pieces():
    state = GAME.from_text("1n2k3/P7/8/8/8/8/8/4K3 w - - 0 1")
    assert moves_of(state, "a7") == sorted(f"a7{to}{p}" for to in ("a8", "b8") for p in "qrbn")
    assert state.apply(state.read_action("a7b8n")).text.startswith("1N2k3/")
    assert state.apply(state.read_action("axb8=R+")).text.startswith("1R2k3/")
    with pytest.raises(IllegalActionError):
        state.read_action("a7a8")


def test_the_third_occurrence_is_a_draw_and_moves_that_change_rights_begin_anew():
    knights = "g1f3 g8f6 f3g1 f6g8 "
    assert not played(knights).is_terminal
    twice = played(knights * 2)
    assert twice.is_terminal and twice.returns.tolist() == [0, 0]
    assert str(twice).endswith("draw by repetition")
    start = "4k2r/8/8/8/8/8/8/R3K3 w Qk - 0 1"
    kings = "e1e2 e8e7 e2e1 e7e8 "
    assert not played(kings * 2 + "e1e2", start=start).is_terminal  # black had rights at first
    assert played(kings * 2 + "e1e2 e8e7", start=start).is_terminal


def test_a_position_with_a_capture_en_passant_is_another_one():
    start = "4k3/8/8/8/4p3/8/3P4/4K3 w - - 0 1"
    kings = "e8e7 e1e2 e7e8 e2e1 "
    assert not played("d2d4 " + kings * 2, start=start).is_terminal
    assert played("d2d4 " + kings * 2 + "e8e7", start=start).is_terminal


def test_men_of_one_kind_that_have_changed_places_make_the_same_position():
    swap = "a1a2 e8d8 h1a1 d8e8 a2h2 e8d8 h2h1 d8e8"
    rooks, both = "4k3/8/8/8/8/4K3/8/R6R w - - 0 1", "4k3/8/8/8/8/4K3/8/R6Q w - - 0 1"
    assert played(swap, start=rooks).observe()[15, 0, 0] == 0.5
    assert played(swap, start=both).observe()[15, 0, 0] == 0


def test_five_times_and_75_moves_end_the_game_where_draws_are_automatic():
    game = playout.game("chess(draws=automatic)")
    knights = "g1f3 g8f6 f3g1 f6g8 "
    assert not played(knights * 3, game).is_terminal
    assert played(knights * 4, game).is_terminal
    for rules, limit in ((GAME, 100), (game, 150)):
        late = f"4k3/8/8/8/8/8/8/R3K3 w - - {limit - 1} 90"
        assert played("a1a2", rules, late).is_terminal
        assert not played("a1a2", rules, late.replace(str(limit - 1), str(limit - 2))).is_terminal
        with pytest.raises(GameError):
            rules.from_text(late.replace(str(limit - 1), str(limit + 1)))


def test_a_mate_on_the_last_move_of_fifty_wins():
    state = played("a1a8", start="6k1/5ppp/8/8/8/8/8/R3K3 w - - 99 80")
    assert state.returns.tolist() == [1, -1]
    assert played("a1b1", start="6k1/5ppp/8/8/8/8/8/R3K3 w - - 99 80").returns.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("men", "dead"),
    [
        ("4k3/8/8/8/8/8/8/4K3", True),
        ("4k3/8/8/8/8/8/8/2B1K3", True),
        ("4k3/8/8/8/8/8/8/2N1K3", True),
        ("4k1b1/8/8/8/8/8/8/2B1K3", False),  # c1 is dark, g8 light
        ("4kb2/8/8/8/8/8/8/2B1K3", True),
        ("4k3/8/8/8/8/8/8/1NN1K3", False),
        ("4k1n1/8/8/8/8/8/8/2N1K3", False),
        ("4k3/8/8/8/8/8/8/2B1KB2", False),
        ("4k3/8/8/8/8/8/P7/4K3", False),
    ],
)
def test_material_that_mates_nobody_ends_the_game(men, dead):
    assert GAME.from_text(f"{men} w - - 0 1").is_terminal == dead


def test_stalemate_and_the_bound_of_plies_are_draws():
    stale = GAME.from_text("7k/5Q2/6K1/8/8/8/8/8 b - - 0 1")
    assert stale.is_terminal and stale.returns.tolist() == [0, 0]
    short = playout.game("chess(max_plies=3)")
    state = short.from_moves("e2e4 e7e5 g1f3")
    assert state.is_terminal and state.returns.tolist() == [0, 0] and state.ply == 3
    assert str(state).endswith("draw by length")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "startpos",
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR",
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR x KQkq - 0 1",
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBN w Qkq - 0 1",
        "rnbqkbnr/pppppppp/9/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1",
        "rnbqkbnr/pppppppp/44/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1",
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkqK - 0 1",
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq e3 0 1",
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - -1 1",
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 999999",
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1 more",
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBKKBNR w KQkq - 0 1",  # two kings
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQ1BNR w kq - 0 1",  # no king
        "rnbqkbnr/pppppppp/8/8/8/P7/PPPPPPPP/RNBQKBNR w KQkq - 0 1",  # nine pawns
        "rnbqkbnr/pppppppp/8/8/8/Q7/PPPPPPPP/RNBQKBNR w KQkq - 0 1",  # two queens, eight pawns
        "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/1NBQKBNR w KQkq - 0 1",  # castles without a rook
        "rnbq1bnr/ppppkppp/8/4p3/4P3/8/PPPPKPPP/RNBQ1BNR w KQ - 2 3",
        "4k3/8/8/8/8/8/4R3/4K3 w - - 0 1",  # black is in check, white to move
        "P3k3/8/8/8/8/8/8/4K3 w - - 0 1",
        "4k3/8/8/8/8/8/8/p3K3 w - - 0 1",
        "4k3/8/8/8/4r3/8/2n3b1/4K1r1 w - - 0 1",  # three checks
        "4k3/8/8/8/3P4/8/8/4K3 b - d3 5 1",  # a pawn has just moved
        "4k3/8/8/8/3P4/3N4/8/4K3 b - d3 0 1",  # it came through a knight
    ],
)
def test_positions_that_no_game_reaches_are_refused_in_one_line(text):
    with pytest.raises(GameError) as error:
        GAME.from_text(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("startpos", "eight ranks of eight squares"),
        ("4k3/8/8/8/8/8/8/4K3 x - - 0 1", "not w or b"),
        ("4k3/8/8/8/8/8/8/4K3 w KK - 0 1", "each once"),
        ("4k3/8/8/8/8/8/8/4K3 w - e9 0 1", "en passant is not -"),
        ("4k3/8/8/8/8/8/8/4K3 w - - 0 one", "two counters"),
        ("4k3/8/8/8/8/8/8/R3K3 w - - 101 90", r"than the rules allow \(100, or 150"),
        ("4k3/8/8/8/8/8/8/2K1K3 w - - 0 1", "exactly one king"),
        ("4k3/8/8/8/8/P7/PPPPPPPP/4K3 w - - 0 1", "more men"),
        ("P3k3/8/8/8/8/8/8/4K3 w - - 0 1", "pawn stands on"),
        ("4k3/8/8/8/8/8/8/4K3 w K - 0 1", "not at home"),
        ("4k3/8/8/8/4r3/8/2n3b1/4K1r1 w - - 0 1", "three pieces at once"),
        ("4k3/8/8/8/8/8/4R3/4K3 w - - 0 1", "not to move is in check"),
        ("4k3/8/8/8/3P4/3N4/8/4K3 b - d3 0 1", "just gone past"),
    ],
)
def test_what_is_wrong_with_a_position_is_said(text, reason):
    with pytest.raises(GameError, match=reason):
        GAME.from_text(text)


def test_fen_without_its_counters_is_read():
    assert GAME.from_text(KIWIPETE[:-4]).text == KIWIPETE


def test_san_names_what_tells_pieces_apart():
    state = SAN.from_text("4k3/8/8/1N6/8/2P5/1N3N2/R3K2R w KQ - 0 1")
    names = moves_of(state)
    assert {"Nbd3", "Nfd3"} < set(names) and "Nd3" not in names
    queens = SAN.from_text("8/k7/8/8/4Q2Q/8/8/K6Q w - - 0 1")
    assert {"Qee1", "Qh4e1", "Q1e1"} < set(moves_of(queens))
    assert "O-O" in names and "O-O-O" in names


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("0-0", "e1g1"),
        ("O-O-O", "e1c1"),
        ("dxe6", "d5e6"),
        ("d5xe6!?", "d5e6"),
        ("Qxf6", "f3f6"),
        ("Qf3f6", "f3f6"),
        ("Qf6", "f3f6"),
        ("Nxd7", "e5d7"),
        ("Ne5xd7", "e5d7"),
        ("Rb1", "a1b1"),
    ],
)
def test_san_is_read_as_people_write_it(text, move):
    state = GAME.from_text(KIWIPETE)
    assert state.action_text(state.read_action(text)) == move


@pytest.mark.parametrize(
    "text", ["e4", "Nd5", "Bb1", "O-O-O-O", "e8=Q", "Qxf6=Q", "", "x", "Nxd7+a", "e6", "e2", "++"]
)
def test_what_names_no_move_here_is_refused(text):
    state = GAME.from_text(KIWIPETE)
    with pytest.raises(IllegalActionError):
        state.apply(state.read_action(text))


def test_both_colours_see_the_board_from_their_side():
    white = GAME.from_text("r3k3/8/8/8/3Pp3/8/8/4K2R b Kq d3 7 9".replace(" 7 9", " 0 9"))
    black = GAME.from_text("4k2r/8/8/3pP3/8/8/8/R3K3 w Qk d6 0 9")
    assert np.array_equal(white.observe(1), black.observe(0))
    assert np.array_equal(white.observe(0), black.observe(1))
    assert white.legal_actions == black.legal_actions
    own_king, other_king, rooks, passed = (black.observe(0)[plane] for plane in (5, 11, 12, 13))
    assert own_king[7, 4] == other_king[0, 4] == passed[2, 3] == 1
    assert rooks.sum() == 2 and rooks[7, 0] == rooks[0, 7] == 1


def test_garbage_of_bytes_is_refused_or_played_without_a_crash():
    rng = random.Random(5)
    states = [GAME.from_text(KIWIPETE), played("g1f3 g8f6 f3g1 f6g8 g1f3")]
    refused = 0
    for trial in range(2000):
        data = bytearray(states[trial % 2].to_bytes())
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            state = GAME.from_bytes(bytes(data))
        except GameError:
            refused += 1
            continue
        assert GAME.from_text(state.text).text == state.text
        for action in state.legal_actions:
            state.apply(action)
    assert refused > 1900


def test_mutated_fen_is_refused_or_played_without_a_crash():
    rng = random.Random(6)
    letters = "pnbrqkPNBRQK12345678/ -wbKQkqabcdefgh0369\x7fé"
    for _ in range(many(3000)):
        text = list(rng.choice((START, KIWIPETE, "8/2p5/3p4/KP5r/1R3p1k/8/4P1P1/8 w - - 3 7")))
        for _ in range(rng.randint(1, 4)):
            text[rng.randrange(len(text))] = rng.choice(letters) * rng.randint(0, 2)
        try:
            state = GAME.from_text("".join(text))
        except GameError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
            continue
        assert GAME.from_bytes(state.to_bytes()) == state
        for action in state.legal_actions:
            state.apply(action)

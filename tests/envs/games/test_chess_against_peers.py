"""Chess move by move beside python-chess and Fairy-Stockfish, and PGN exchanged with the first."""

import io
import random

import playout
import pytest
from playout.envs.records import pgn
from playout.envs.records.json_lines import GameRecord
from playout.errors import GameError

LIMITS = {"claimed": (3, 100), "automatic": (5, 150)}


def play(rng, game, shuffles):
    """States and actions of a random game; with `shuffles` mostly pieces that go to and fro."""
    state, taken_back = game.initial_state(), ["", ""]
    while not state.is_terminal:
        actions = {state.action_text(action): action for action in state.legal_actions}
        move = taken_back[0] if shuffles and rng.random() < 0.5 else ""
        if move not in actions:
            quiet = [m for m in actions if m[1] not in "27"] if shuffles else []
            move = rng.choice(quiet or list(actions))
        yield state, actions, move
        state = state.apply(actions[move])
        taken_back = [taken_back[1], move[2:4] + move[:2]]
    yield state, {}, ""


@pytest.mark.peer
@pytest.mark.parametrize("draws", ["claimed", "automatic"])
def test_python_chess_allows_the_same_moves_and_sees_the_same_ends(draws, num_games=40):
    chess = pytest.importorskip("chess")
    game = playout.game(f"chess(draws={draws},max_plies=20000)")
    times, limit = LIMITS[draws]
    rng = random.Random(31)
    for number in range(num_games):
        board = chess.Board()
        for state, actions, move in play(rng, game, shuffles=number % 2):
            assert state.text == board.fen()
            legal = list(board.legal_moves)
            drawn = board.is_insufficient_material() or board.is_repetition(times)
            over = not legal or drawn or board.halfmove_clock >= limit
            assert state.is_terminal == over
            if over:
                lost = not legal and board.is_check()
                assert state.returns[int(not board.turn)] == -float(lost)
                break
            assert set(actions) == {one.uci() for one in legal}
            one = rng.choice(legal)
            assert pgn.san(state, actions[one.uci()]) == board.san(one)
            assert state.read_action(board.san(one)) == actions[one.uci()]
            assert game.from_text(board.fen(en_passant="fen")).text == board.fen()
            board.push(chess.Move.from_uci(move))


@pytest.mark.peer
def test_fairy_stockfish_allows_the_same_moves(num_games=6):
    pyffish = pytest.importorskip("pyffish")
    rng = random.Random(37)
    game = playout.game("chess")
    for number in range(num_games):
        for state, actions, _ in play(rng, game, shuffles=number % 4 == 0):
            if actions:
                assert sorted(actions) == sorted(pyffish.legal_moves("chess", state.text, []))


@pytest.mark.peer
def test_python_chess_refuses_positions_that_are_refused_here():
    chess = pytest.importorskip("chess")
    game = playout.game("chess")
    rng = random.Random(41)
    kept = 0
    for _ in range(20_000):
        men = [" "] * 64
        for piece in [*rng.choices("PNBRQpnbrq", k=rng.randint(0, 12)), "K", "k"]:
            men[rng.randrange(64)] = piece
        rows = ["".join(men[8 * row : 8 * row + 8]) for row in range(8)]
        text = "/".join(rows)
        for blanks in range(8, 0, -1):
            text = text.replace(" " * blanks, str(blanks))
        fen = f"{text} {rng.choice('wb')} {rng.choice(['-', 'K', 'kq', 'KQkq', 'Qk'])} - 0 1"
        board = chess.Board(fen)
        try:
            state = game.from_text(fen)
        except GameError:
            # More promoted pieces than pawns gone are refused here alone.
            assert not board.is_valid() or chess.popcount(board.occupied) > 8
            continue
        kept += 1
        assert not board.status() & ~(
            chess.STATUS_IMPOSSIBLE_CHECK | chess.STATUS_TOO_MANY_CHECKERS
        )
        assert state.text == fen
    assert kept > 1000


@pytest.mark.peer
def test_python_chess_reads_what_is_written_and_the_other_way_round():
    chess_pgn = pytest.importorskip("chess.pgn")
    game = playout.game("chess")
    rng = random.Random(43)
    for number in range(40):
        moves = [move for _, _, move in play(rng, game, shuffles=number % 4 == 0) if move]
        keep = rng.randint(1, len(moves))
        state, actions = game.initial_state(), []
        for move in moves[:keep]:
            actions.append(state.read_action(move))
            state = state.apply(actions[-1])
        comments = [rng.choice([None, "a comment"]) for _ in actions]
        names = ["Anna", "Bert, B."]
        record = GameRecord.from_actions(game, actions, players=names, comments=comments)
        other = chess_pgn.read_game(io.StringIO(pgn.write(record)))
        assert not other.errors
        assert [move.uci() for move in other.mainline_moves()] == moves[:keep]
        assert [other.headers["White"], other.headers["Black"]] == names
        for node in list(other.mainline())[:-1:5]:
            node.nags.add(4)
            node.comment = "once more"
            for move in list(node.board().legal_moves)[:2]:
                if not node.has_variation(move):
                    node.add_variation(move, comment="or so (perhaps)")
        (back,) = pgn.parse(str(other))
        assert back.moves == record.moves and back.players == record.players

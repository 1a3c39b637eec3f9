"""PGN: games in and out, as people write them, and fuzzed text that never crashes."""

import random

import numpy as np
import playout
import pytest
from damage import many
from playout.envs.records import files, json_lines, pgn
from playout.envs.records.json_lines import GameRecord
from playout.errors import ConfigError, DataError

GAME = playout.game("chess")
OPERA = """\
[Event "A night at the opera"]
[Site "Paris FRA"]
[Date "1858.??.??"]
[Round "?"]
[White "Paul Morphy"]
[Black "Duke Karl / Count Isouard"]
[Result "1-0"]
[ECO "C41"]

1. e4 e5 2. Nf3 d6 3. d4 Bg4 {This is a weak move already.} 4. dxe5 Bxf3 5. Qxf3 dxe5
6. Bc4 Nf6 7. Qb3 Qe7 8. Nc3 $1 (8. Qxb7 Qb4+ (8... Nbd7) 9. Qxb4 {a queen less}) 8... c6
% an escaped line ) }
9. Bg5 b5 10. Nxb5 cxb5 11. Bxb5+ Nbd7 12. 0-0-0 Rd8 ; the rook is pinned
13.Rxd7! Rxd7 14.Rd1 Qe6 15.Bxd7+ Nxd7 16.Qb8+!! Nxb8 17.Rd8# 1-0
"""


def random_record(seed, game=GAME, most=120, **given):
    rng = random.Random(seed)
    state, actions = game.initial_state(), []
    while not state.is_terminal and len(actions) < most:
        actions.append(rng.choice(state.legal_actions))
        state = state.apply(actions[-1])
    return GameRecord.from_actions(game, actions, players=["a", 'b "the \\ rock"'], **given)


def test_a_famous_game_is_read_with_its_tags_and_comments():
    (record,) = pgn.parse(OPERA)
    assert record.players == ("Paul Morphy", "Duke Karl / Count Isouard")
    assert record.result == (1, -1) and len(record.moves) == 33
    assert record.moves[22] == "e1c1" and record.moves[-1] == "d1d8"
    assert record.info["ECO"] == "C41" and "Result" not in record.info
    assert record.comments[5] == "This is a weak move already."
    assert record.comments[23] == "the rook is pinned"
    assert list(record.states())[-1].is_terminal


def test_records_come_back_as_they_were(tmp_path):
    start = GAME.from_text("r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R b KQkq - 0 7")
    moves = [start.read_action("hxg2"), start.read_action("hxg2")]
    later = start.apply(moves[0])
    actions = [moves[0], later.read_action("O-O-O")]
    written = [
        *(random_record(seed, most=2000) for seed in range(4)),
        random_record(7, most=9, info={"opening": 3, "Event": "match", "seen": [1, "x"]}),
        random_record(8, most=4, comments=["good", None, "so", "{odd)"], info={"Result": "0-1"}),
        GameRecord.from_actions(GAME, actions, players=["x", "y"], start=start),
        random_record(9, playout.game("chess(draws=automatic)"), most=700),
        random_record(10, most=1, comments=[f"see https://example.org/{'page' * 50} there"]),
    ]
    path = tmp_path / "games.pgn"
    assert files.append(path, written[:3]) == 3
    assert files.append(path, written[3:]) == 6
    found = files.load(path)
    assert found[5].comments == ("good", None, "so", "{odd)")
    assert found == written
    assert max(map(len, path.read_text().splitlines())) <= 255
    assert "7... hxg2 8. O-O-O *" in path.read_text()


def test_what_is_said_before_the_first_move_is_kept(tmp_path):
    text = """[White "A"]
[Black "B"]

{Played by [post], over
two lines.} ; in 1923
{1} 1. e4 {best} e5 1/2-1/2 {agreed; a
long story}

{a study}
[White "C"]
[Black "D"]

1-0 ; not shown
"""
    first, second = pgn.parse(text)
    assert first.info["C"] == "Played by [post], over two lines. in 1923 1"
    assert first.comments == ("best", "agreed; a long story")
    assert second.info == {"C": "a study not shown", "Result": "1-0"} and second.comments is None
    pgn.append(tmp_path / "games.pgn", [first, second])
    assert pgn.load(tmp_path / "games.pgn") == [first, second]
    assert pgn.write(first).count("over two lines. in") == 1
    long = random_record(3, most=2, info={"C": "% word " * 60 + "end"})
    assert pgn.parse(pgn.write(long)) == [long]
    with pytest.raises(DataError, match="tag C must be text"):
        pgn.write(random_record(3, most=2, info={"C": 3}))


def test_tags_that_files_cannot_hold_are_refused(tmp_path):
    for info in ({"seed": float("nan")}, {"x": {1}}, {"x": "\ud800"}):
        with pytest.raises(DataError, match=r"plain JSON|half a character"):
            pgn.append(tmp_path / "games.pgn", [random_record(3, most=2, info=info)])
    record = random_record(3, most=2, info={"seed": np.int64(3)})
    assert pgn.parse(pgn.write(record))[0].info == {"seed": 3}
    half = pgn.write(record).replace('[seed "3"]', '[seed "\\"\\\\ud800\\""]')
    assert pgn.parse(pgn.write(pgn.parse(half)[0]))


def test_any_other_suffix_is_json_lines(tmp_path):
    record = random_record(1)
    files.append(tmp_path / "games.jsonl", [record])
    assert json_lines.load(tmp_path / "games.jsonl") == [record]


def test_a_game_played_on_is_read_with_draws_that_come_by_themselves():
    knights = " ".join(["Nf3 Nf6 Ng1 Ng8"] * 3)
    (record,) = pgn.parse(f"{knights} e4 *")
    assert record.params["draws"] == "automatic" and record.result is None
    (record,) = pgn.parse("Nf3 Nf6 Ng1 Ng8 Nf3 Nf6 Ng1 Ng8 1/2-1/2")
    assert record.params["draws"] == "claimed" and record.result == (0, 0)
    (record,) = pgn.parse("Nf3 Nf6 Ng1 Ng8 Nf3 Nf6 Ng1 Ng8 1-0")  # black's time ran out
    assert record.params["draws"] == "automatic" and record.info == {"Result": "1-0"}


def test_a_position_after_fifty_moves_that_nobody_claimed_is_played_on_by_automatic_draws():
    (record,) = pgn.parse('[SetUp "1"]\n[FEN "4k3/8/8/8/8/8/8/R3K3 w - - 101 90"]\n\n91. Ra2 *')
    assert record.params["draws"] == "automatic" and record.moves == ("a1a2",)
    assert pgn.parse(pgn.write(record)) == [record]


def test_signs_of_commentators_and_null_moves_in_variations_are_skipped():
    tags = '\ufeff[White "the "rock" b"] [Black "c"]\n'
    (record,) = pgn.parse(f"{tags}1. e4 += e5 (1... -- 2. d4 Z0 +-) 2. Nf3 = d6 *")
    assert record.moves == ("e2e4", "e7e5", "g1f3", "d7d6")
    assert record.players == ('the "rock" b', "c")


def test_by_rules_that_end_a_game_earlier_what_was_played_on_is_left_out():
    (record,) = pgn.parse("Nf3 Nf6 Ng1 Ng8 Nf3 Nf6 Ng1 Ng8 e4 e5 1-0")
    states, actions = files.played(record, GAME, "here")
    assert len(actions) == 8 and len(states) == 9 and states[-1].is_terminal
    other = GameRecord("chess", {}, ("a", "b"), ("e2e4", "e7e5", "e1e3"), None)
    with pytest.raises(DataError, match=r"here is no game of chess"):
        files.played(other, GAME, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1. e4 e5\n2. Ke3 *", r"line 2: move 3 \('Ke3'\) cannot be played"),
        ("e4 e5 Nf4", r"line 1: move 3 \('Nf4'\) cannot be played"),
        ("1. f3 e5 2. g4 Qh4# 3. a3", r"line 1: move 5 \('a3'\) comes after the end"),
        ("1. f3 e5 2. g4 Qh4# 1-0", "the moves lead to 0-1, not '1-0'"),
        ("1. e4 (1. d4", "a variation is not closed"),
        ("1. e4 {so", "a comment is not closed"),
        ("1. e4 ) e5", "brackets of variations do not match"),
        ("( 1. e4", "brackets of variations do not match"),
        ("1. e4 @ e5", "'@ e5' is not PGN"),
        ('[White "a]', "is not PGN"),
        ('[White "a"]\n[White "b"]', "line 2: the tag White is given twice"),
        (
            '[FEN "8/8/8/8/8/8/8/8 w - - 0 1"]\n\n*',
            "is no position: .*: a side has not exactly one",
        ),
        ('[FEN "4k3/8/8/8/8/8/8/R3K3 w - - 151 90"]\n\n*', "than the rules allow"),
        ('[Variant "Atomic"]\n\n1. e4 *', "'Atomic' is not the chess"),
        ('[PlayoutGame "go(size=9)"]\n\n1. e4 *', "PlayoutGame names no chess"),
        ("1. e4 -- 2. d4", r"move 2 \('--'\) cannot be played"),
        ("1. e4 Z0", "cannot be played"),
    ],
)
def test_what_cannot_be_read_is_named_by_line_and_move(text, message):
    with pytest.raises(DataError, match=message) as error:
        pgn.parse(text)
    assert "\n" not in str(error.value)


def test_the_file_is_named_and_what_was_read_before_is_kept(tmp_path):
    path = tmp_path / "games.pgn"
    path.write_bytes(OPERA.encode() + b"\n1. e4 e5 2. Qb3 *\n")
    games = pgn.read(path)
    assert len(next(games).moves) == 33
    with pytest.raises(DataError, match=r"games\.pgn, line 16: move 3 \('Qb3'\)"):
        next(games)
    path.write_bytes('\ufeff[White "M\u00fcller"]\n\n*\n'.encode())
    assert pgn.load(path)[0].players[0] == "M\u00fcller"
    path.write_bytes('[White "M\u00fcller"]\n\n*\n'.encode("latin-1"))
    assert pgn.load(path)[0].players[0] == "M\u00fcller"


def test_what_pgn_has_no_place_for_is_refused(tmp_path):
    path = tmp_path / "games.pgn"
    other = playout.game("connect_four")
    with pytest.raises(ConfigError, match=r"\.pgn files hold chess, not connect_four"):
        files.must_hold(path, other)
    with pytest.raises(ConfigError, match=r"hold chess, not go; use \.sgf or \.jsonl"):
        files.must_hold(path, playout.game("go(size=5)"))
    with pytest.raises(DataError, match="games of chess"):
        files.append(path, [GameRecord.from_actions(other, [3], players=["a", "b"])])
    for info in ({"two words": 1}, {"Event": 3}, {"FEN": "x"}):
        with pytest.raises(DataError):
            pgn.append(path, [random_record(1, most=3), random_record(2, most=3, info=info)])
    assert not path.exists()
    path.write_text("1. e4 *")
    with pytest.raises(DataError, match="cut off"):
        pgn.append(path, [random_record(1)])


def test_fuzzed_text_is_read_or_refused_in_one_line():
    rng = random.Random(11)
    parts = ["{", "}", "(", ")", "[", "]", '"', "\\", "$3", "1-0", "*", "\n", "%", ";", "e4", "é"]
    read = 0
    for _ in range(many(3000)):
        text = list(OPERA[rng.randrange(200, 400) :] if rng.random() < 0.5 else OPERA)
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(len(text))
            kind = rng.random()
            if kind < 0.4:
                text[at] = rng.choice(parts)
            elif kind < 0.7:
                text[at] = chr(rng.randrange(256))
            else:
                del text[at : at + rng.randint(1, 60)]
                text = text or ["*"]
        try:
            for record in pgn.parse("".join(text)):
                read += 1
                assert list(record.states())
        except DataError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
    assert read > 100

"""SGF: what is written is read back, files of others are understood, and nothing crashes."""

import random

import playout
import pytest
from damage import many
from playout.envs.records import files, sgf
from playout.envs.records.json_lines import GameRecord
from playout.envs.records.sgf_tree import escape, trees, unescape
from playout.errors import ConfigError, DataError, PlayoutError

NAMES = (
    "go(size=5,komi=7,ko=situational,suicide=1)",
    "go(size=17,ko=simple)",
    "gomoku",
    "othello(size=6)",
    "hex(size=4,swap=1)",
)


def random_record(name, seed, plies=120, **extra):
    game, rng = playout.game(name), random.Random(seed)
    state, actions = game.initial_state(), []
    while not state.is_terminal and len(actions) < plies:
        actions.append(rng.choice(state.legal_actions))
        state = state.apply(actions[-1])
    return GameRecord.from_actions(game, actions, players=["[A]\\", "Zwölf"], **extra)


def only(text):
    (record,) = sgf.from_sgf(text)
    return record


@pytest.mark.parametrize("name", NAMES)
def test_games_come_back_as_they_were(name, tmp_path):
    written = [random_record(name, seed) for seed in range(3)]
    comments = [None if ply % 3 else "a]b\\c:d\ne" for ply in range(len(written[0].moves))]
    notes = {"DT": "1846-09-11", "RE": "B+Resign", "C": "The ear-reddening game"}
    written.append(random_record(name, 0, comments=comments))
    written.append(random_record(name, 0, plies=4, info=notes))
    path = tmp_path / "games.sgf"
    assert files.append(path, written[:2]) == 2
    assert files.append(path, written[2:]) == 3
    assert list(files.read(path)) == written


def test_handicap_stones_and_the_side_to_move_come_back():
    game = playout.game("go(size=9,komi=0.5)")
    rows = ["." * 9] * 9
    rows[2] = rows[6] = "..X...X.."
    start = game.from_text("/".join(rows) + " w")
    record = GameRecord.from_actions(game, [40, 41], players=["a", "b"], start=start)
    text = sgf.to_sgf(record)
    assert "AB[cc][gc][cg][gg]PL[W]" in text
    assert text.endswith("\n;W[ee];B[fe])\n")
    assert only(text) == record


def test_a_position_with_moves_before_it_becomes_a_longer_game():
    game = playout.game("go(size=5)")
    record = GameRecord.from_actions(game, [12], players=["a", "b"], start=game.from_moves("A1 B2"))
    again = only(sgf.to_sgf(record))
    assert again.moves == ("A1", "B2", "C3")
    assert list(again.states())[-1] == list(record.states())[-1]


def test_a_file_of_another_program_is_understood():
    record = only(
        """(;GM[1]FF[4]CA[UTF-8]AP[Other:1]ST[2]
        RU[Japanese]SZ[9]KM[6.5]HA[2]TM[600]
        PW[White]PB[Black]AB[cc:dd][gg]RE[W+R]
        ;W[ee]C[a comment\\
 that goes on]LB[ee:A](;B[ef]BL[590];W[tt];B[])(;B[aa];W[bb]))"""
    )
    assert record.params == {"size": 9, "komi": 6.5, "ko": "simple"}
    assert record.start.split("/")[2:4] == ["..XX.....", "..XX....."]
    assert record.start.endswith(" w")
    assert record.moves == ("E5", "E4", "pass", "pass")
    assert record.comments == ("a comment that goes on", None, None, None)
    assert record.result == (-1, 1)
    assert record.info == {"HA": "2", "RE": "W+R", "RU": "Japanese", "TM": "600"}


def test_names_of_properties_as_in_older_files_and_latin_letters_are_read(tmp_path):
    path = tmp_path / "old.sgf"
    path.write_bytes("(;GaMe[1]SiZe[5]PlayerBlack[Jörg];Black[cc])".encode("latin-1"))
    (record,) = sgf.load(path)
    assert record.players == ("Jörg", "White")
    assert record.moves == ("C3",)


@pytest.mark.parametrize("charset", ["KOI8-R", "gb2312", "Shift_JIS", "utf-8"])
def test_files_are_read_in_the_letters_that_they_say(charset, tmp_path):
    names = {"KOI8-R": "Привет", "gb2312": "柯洁", "Shift_JIS": "表示ソ", "utf-8": "é"}
    text = f"(;GM[1]SZ[5]CA[{charset}]PB[{names[charset]}];B[cc])"
    (tmp_path / "one.sgf").write_bytes(text.encode(charset))
    assert sgf.load(tmp_path / "one.sgf")[0].players[0] == names[charset]
    (tmp_path / "two.sgf").write_bytes("(;SZ[5]CA[no-such]PB[é])".encode("latin-1"))
    assert sgf.load(tmp_path / "two.sgf")[0].players[0] == "é"


def test_komi_is_read_as_servers_write_it():
    assert only("(;SZ[9]KM[6,5])").params["komi"] == 6.5
    assert only("(;SZ[19]KM[375]RU[Chinese])").params["komi"] == 7.5


@pytest.mark.parametrize("komi", [375, -275.5, 0.1234567, 1e-7, 1 / 3])
def test_komi_of_our_own_rules_comes_back_as_it_was(komi):
    record = random_record(f"go(size=5,komi={komi!r})", 1)
    assert only(sgf.to_sgf(record)) == record


def test_white_moves_first_after_handicap_stones_even_where_no_move_follows():
    stones = "(;SZ[9]HA[{}]AB[gc][cg]{})"
    assert only(stones.format(2, "")).start.endswith(" w")
    assert only(stones.format(2, "PL[B]")).start.endswith(" b")
    assert only(stones.format(0, "")).start.endswith(" b")
    assert only("(;SZ[9]HA[2])").start is None  # Black is still to place them


def test_comments_of_nodes_without_a_move_of_their_own_are_kept():
    record = only("(;GM[11]SZ[3]C[a cup];C[the final];B[a1]C[good];C[?];W[resign]C[bye])")
    assert record.comments == ("good\n?\nbye",) and record.info["C"] == "a cup\nthe final"
    record = only("(;SZ[5];B[dd]C[one];W[];B[]C[two];W[]C[three])")
    assert record.comments == ("one", None, "two\nthree")
    assert only(sgf.to_sgf(record)).comments == record.comments


@pytest.mark.parametrize("name", NAMES)
def test_first_positions_come_back_as_they_were(name):
    game = playout.game(name)
    opening = list(random_record(name, 4, plies=6).states())
    for reached in opening[1:]:
        start = game.from_text(" ".join(reached.text.split(" ")[:2]))  # without moves before it
        actions = start.legal_actions[:1]
        record = GameRecord.from_actions(game, actions, players=["a", "b"], start=start)
        assert only(sgf.to_sgf(record)) == record


def test_stones_of_othello_gomoku_and_hex_are_set_up():
    usual = only("(;GM[2]AB[e4][d5]AW[d4][E5];B[d3])")
    assert usual.moves == ("d3",) and usual.start is None
    record = only("(;GM[2]SZ[4]AB[b2:b3]AW[c2:c3];W[a2])")
    assert record.start == "-----XO--XO----- O" and record.moves == ("a2",)
    record = only("(;GM[4]SZ[9]AB[ee][ff]AW[ef];W[fe])")
    assert record.start.split("/")[4:6] == ["....X....", "....OX..."]
    assert record.moves == ("f5",)
    record = only("(;GM[11]SZ[3]AB[b2:b3]AW[a1];W[a2])")
    assert record.start == "O../.X./.X." and record.moves == ("a2",)


def test_five_in_a_row_on_a_square_is_written_and_found_as_gomoku(tmp_path):
    game = playout.game("mnk(m=9,n=9,k=5,rule=exact)")
    record = GameRecord.from_actions(game, [40, 41], players=["a", "b"])
    files.must_hold("games.sgf", game)
    files.append(tmp_path / "games.sgf", [record])
    (found,) = files.read(tmp_path / "games.sgf")
    assert found.game == "gomoku" and found.params == {"size": 9, "rule": "exact"}
    assert found.moves == record.moves
    files.must_be_of(found, game, "it")
    files.must_be_of(record, playout.game("gomoku(size=9)"), "it")
    for other in ("mnk(m=9,n=8,k=5)", "mnk(m=9,n=9,k=4)", "mnk"):
        with pytest.raises(ConfigError, match=r"not mnk; use \.jsonl"):
            files.must_hold("games.sgf", playout.game(other))


def test_a_game_that_goes_on_after_two_passes_is_read_without_them():
    record = only("(;SZ[5]AB[cc];W[];B[bb];W[];B[]C[over?];W[dd]C[no];B[];W[])")
    assert record.moves == ("pass", "B4", "D2", "pass", "pass")
    assert record.comments[2] == "no" and record.result is not None


@pytest.mark.parametrize("third", ["B[]", "B[tt];W[]", "W[]"])
def test_passes_after_the_two_that_end_a_game_change_nothing(third):
    """By AGA's rules White passes last, so that three passes are usual."""
    record = only(f"(;SZ[5]KM[0];B[dd];W[];B[];{third})")
    assert record.moves == ("D2", "pass", "pass") and record.result == (1, -1)


def test_resigning_and_swapping_in_hex_are_read():
    record = only("(;GM[11]SZ[3];B[a1];W[swap-pieces];B[b2];W[resign])")
    assert record.params == {"size": 3, "swap": 1} and len(record.moves) == 3
    assert record.info["RE"] == "B+R"
    assert only(sgf.to_sgf(record)).moves == record.moves


@pytest.mark.parametrize("rules", ["Japanese", "koSIMPLEscoreTERRITORYtaxSEKIsui0"])
def test_territory_is_counted_as_area_and_what_the_file_says_of_it_is_kept(rules):
    record = only(f"(;SZ[5]RU[{rules}]KM[0.5]RE[W+2.5];B[cc];W[bb];B[dd];W[];B[])")
    assert record.result == (1, -1)  # the board would be Black's, dead stones and all
    assert record.info == {"RE": "W+2.5", "RU": rules}


def test_a_pass_that_a_file_leaves_out_is_played():
    assert only("(;SZ[5];B[cc];B[dd])").moves == ("C3", "pass", "D2")


def test_the_result_is_written_from_the_score():
    game = playout.game("go(size=5,komi=2)")
    record = GameRecord.from_actions(game, [12, 25, 25], players=["a", "b"])
    assert "RE[B+23]" in sgf.to_sgf(record)
    even = playout.game("go(size=5,komi=25)")
    record = GameRecord.from_actions(even, [12, 25, 25], players=["a", "b"])
    assert "RE[0]" in sgf.to_sgf(record)


@pytest.mark.parametrize(
    ("returns", "reason", "told"),
    [
        ([-1.0, 1.0], "resigned", "W+R"),
        ([1.0, -1.0], "no answer within 60 s", "B+F"),
        ([0, 0], "agreed", "0"),
        (None, "stopped", None),
    ],
)
def test_who_won_a_game_that_was_given_up_is_told(returns, reason, told):
    info = {"returns": returns, "reason": reason, "lost_by": "a"}
    assert only(sgf.to_sgf(random_record("go(size=5)", 0, 4, info=info))).info.get("RE") == told
    said = random_record("go(size=5)", 0, 4, info={**info, "RE": "B+T"})
    assert only(sgf.to_sgf(said)).info["RE"] == "B+T"
    over = random_record("othello(size=4)", 0, info=info)
    assert "RE" not in only(sgf.to_sgf(over)).info  # the moves tell


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: a game in SGF begins with"),
        ("{}", "line 1, column 1: a game in SGF begins with"),
        ("()", "line 1, column 1: a game without nodes"),
        ("(;SZ[9]", "line 1, column 8: expected .* may be cut off"),
        ("(;SZ[9];B[aa", r"line 1, column 10: this value of B has no end"),
        ("(;SZ)", "line 1, column 5: expected '\\[' after SZ"),
        ("(;SZ[5])x", "line 1, column 9: expected"),
        (
            "(;SZ[5]\n;B[aa]\n;W[aa])",
            r"line 3, column 1: move 2 \('A5'\) cannot be played: against the rules there",
        ),
        ("(;SZ[5];B[aa];W[ff])", "line 1, column 14: 'ff' is no point of a board of 5"),
        ("(;SZ[5];B[a])", "'a' is no point"),
        ("(;SZ[5];B[];W[];B[xy])", "'xy' is no point"),
        ("(;GM[11]SZ[3];B[a1];W[resign];B[b1])", "a move after W has resigned"),
        ("(;SZ[25])", "line 1, column 2: go: size must be 2 to 19"),
        ("(;SZ[9:7])", "SZ must be one number"),
        ("(;SZ[x])", "SZ must be one number"),
        ("(;SZ[4\x1c])x", "line 1, column 10: expected"),
        ("(;KM[seven])", "KM must be a number, not 'seven'"),
        ("(;KM[5000])", "komi must be -400 to 400"),
        ("(;GM[3])", r"GM '3' is not known here; known are 1 \(go\)"),
        ("(;SZ[5];B[aa];AB[bb])", "stones are set up after move 1"),
        (
            "(;SZ[2]AB[aa][ab]AW[ba][bb];B[])",
            "line 1, column 28: the stones set up before are no position",
        ),
        ("(;GM[11]SZ[3];W[a1])", "move 1 is not W's"),
        ("(;GM[4]AB[aa]AB[ab])", "column 2: the stones set up before are no position of gomoku"),
        ("(;GM[4]SZ[9]AB[ee][ff]AW[ef]PL[B])", "by the stones set up before it is not PL's turn"),
        ("(;GM[2]AB[e4][d5]AW[d4][xx])", "'xx' is no point of a board of 8"),
        ("(;PL[x])", "PL must be B or W"),
        ("(;SZ[5]AB[cc:aa])", "is no rectangle"),
    ],
)
def test_what_is_no_game_is_named_with_its_place(text, message):
    with pytest.raises(DataError, match=message) as caught:
        list(sgf.from_sgf(text))
    assert "\n" not in str(caught.value)


def test_the_number_of_the_game_in_a_file_is_named(tmp_path):
    path = tmp_path / "games.sgf"
    path.write_text("(;SZ[5];B[aa])\n(;SZ[5];B[aa];W[bb];B[bb])")
    with pytest.raises(DataError, match=r"games.sgf, game 2: line 2, column 20: move 3 \('B4'\)"):
        sgf.load(path)


def test_a_cut_off_file_is_not_added_to(tmp_path):
    path = tmp_path / "games.sgf"
    path.write_text("(;SZ[5];B[aa]")
    with pytest.raises(DataError, match="cut off"):
        files.append(path, [random_record("go(size=5)", 1)])
    assert path.read_text() == "(;SZ[5];B[aa]"


def test_games_that_sgf_does_not_hold_are_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "games.sgf"
    with pytest.raises(DataError, match="SGF holds go, othello, gomoku, hex here, not tic_tac_toe"):
        files.append(path, [random_record("tic_tac_toe", 1)])
    assert not path.exists()


def test_values_come_back_from_their_escapes():
    for value in ("a]b", "\\", "\\]", "[x]:y\\n", "two\nlines"):
        assert unescape(escape(value)) == value
        ((node,),) = trees(f"(;C[{escape(value)}])")
        assert node.first("C") == value


def test_only_the_first_variation_is_kept_however_they_lie():
    text = "(;A[0](;A[1];A[2](;A[3](;A[4])(;X[0]))(;X[1](;X[2])(;X[3])))(;X[4](;X[5])))"
    (nodes,) = trees(text)
    assert [node.first("A") for node in nodes] == ["0", "1", "2", "3", "4"]


def test_many_games_and_deep_variations_take_no_recursion():
    assert len(list(trees("(;SZ[5])" * 3000))) == 3000
    with pytest.raises(DataError, match="too many variations"):
        list(trees("(;" * 20_000))


def test_damaged_files_never_crash():
    rng = random.Random(3)
    texts = [sgf.to_sgf(random_record(name, 5, plies=20)) for name in NAMES]
    signs = "();[]\\:BWAPL CKMSZ0123456789abcdefghi\n\x00ü"
    refused, trials = 0, many(1500)
    for number in range(trials):
        letters = list(texts[number % len(texts)])
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(letters))
            kind = rng.randrange(4)
            if kind == 0:
                letters[at] = rng.choice(signs)
            elif kind == 1:
                letters.insert(at, rng.choice(signs))
            elif kind == 2:
                del letters[at : at + rng.randrange(1, 9)]
            else:
                letters[at:at] = letters[at : at + 12]
            letters = letters or [""]
        try:
            for record in sgf.from_sgf("".join(letters)):
                assert only(sgf.to_sgf(record)).moves == record.moves
        except PlayoutError as error:
            refused += 1
            assert type(error) is DataError, error
            assert "\n" not in str(error) and len(str(error)) < 400
    assert refused > trials / 3

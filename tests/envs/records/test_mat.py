""".mat: games of backgammon in and out, as programs write them, and damaged text."""

import random

import playout
import pytest
from damage import many
from playout.envs.records import files, mat
from playout.envs.records.json_lines import GameRecord
from playout.envs.records.mat_reader import from_mat
from playout.errors import ConfigError, DataError

# A game of a world championship as it was published: one double, won by the last man off.
PUBLISHED = """\
; [Site "somewhere"]

 25 point match

 Game 1
 Mochizuki_Masayouki_(JPN) : 0  Takumitsu_Suzuki_(JPN) : 0
  1)                             32: 24/21 13/11
  2) 52: 13/8 6/4*               54: 25/21* 13/8
  3) 43: 25/21 24/21             53: 24/21 13/8
  4) 62: 13/7 7/5                64: 21/15 15/11
  5) 44: 13/9 9/5 8/4* 8/4       21: 25/23 23/22
  6)  Doubles => 2                Takes
  7) 21: 6/4 4/3*                32: 25/22* 8/6
  8) 32: 25/23 6/3*              21: 25/23 23/22*
  9) 54: 25/20 24/20             33: 13/10 13/10 6/3 6/3
 10) 62: 13/7 7/5                53: 11/8 11/6
 11) 22: 23/21 13/11 11/9 5/3*   21: 25/23 23/22*
 12) 31: 25/24 21/18             54: 22/18 18/13
 13) 66: 20/14 20/14 18/12* 14/8 44:
 14) 64: 14/10 12/6              54:
 15) 31: 10/7 8/7                51: 25/24 8/3
 16) 42: 24/20 20/18             33: 10/7* 10/7 8/5 8/5
 17) 33:                         66: 8/2 8/2 7/1 7/1
 18) 51:                         64: 6/2
 19) 54: 25/21 21/16             61: 24/23
 20) 53: 21/18 21/16             21: 23/22 6/4
 21) 43: 16/12 12/9              31: 6/5 4/1
 22) 31: 16/15 6/3*              55:
 23) 64: 9/5 9/3                 62: 25/23
 24) 54: 15/10 10/6              65: 6/1
 25) 54: 18/13 6/2*              22: 25/23* 6/4 5/3 4/2
 26) 22:                         64: 5/1
 27) 63: 25/19 5/2*              41: 25/24 5/1
 28) 33: 13/10 10/7 8/5 5/2      55:
 29) 54: 19/14 14/10             62: 3/1
 30) 21: 10/9 8/6                42: 3/1
 31) 61: 9/8 7/1*                64:
 32) 33: 8/5 7/4 7/4 4/1         61:
 33) 61: 6/0 5/4                 33:
 34) 52: 6/4 6/1                 62: 25/19 19/17
 35) 32: 3/0 2/0                 61: 17/11 11/10
 36) 11: 4/3 1/0 1/0 1/0         31: 10/7 7/6
 37) 63: 5/0 3/0                 33: 6/3 3/0 3/0 3/0
 38) 62: 5/0 2/0                 61: 2/0 1/0
 39) 11: 4/3 3/2 2/1 1/0         65: 2/0 2/0
 40) 61: 4/0 3/2                 64: 2/0 1/0
 41) 61: 4/0 2/1                 51: 1/0 1/0
 42) 22: 4/2 2/0 1/0
      Wins 2 points
"""
HEAD = " 0 point match\n\n Game 1\n Ann : 0                          Bob : 0\n"


def games(text):
    return list(from_mat(text.splitlines(keepends=True)))


def one(*rows):
    (record,) = games(HEAD + "".join(f"{n:3}) {row}\n" for n, row in enumerate(rows, 1)))
    return record


def random_record(seed, plies=5000):
    game, rng = playout.game("backgammon"), random.Random(seed)
    state, actions = game.initial_state(), []
    while not state.is_terminal and len(actions) < plies:
        rolls = [roll for roll, _ in state.chance_outcomes] if state.to_play < 0 else []
        actions.append(rng.choice(rolls or state.legal_actions))
        state = state.apply(actions[-1])
    return GameRecord.from_actions(game, actions, players=["Ann O.", "Zwölf"])


def test_a_published_game_is_played_through_and_written_as_it_was():
    (record,) = games(PUBLISHED)
    assert record.players == ("Mochizuki_Masayouki_(JPN)", "Takumitsu_Suzuki_(JPN)")
    assert record.moves[:3] == ("23", "24/21", "13/11")  # the right one begins, with the higher die
    assert record.result == (1, -1) and list(record.states())[-1].is_terminal
    about = record.info["mat"]
    assert (about["match"], about["game"], about["score"]) == (25, 1, [0, 0])
    assert about["wins"] == [0, 2]
    assert [(side, text) for _, side, text in about["cube"]] == [(0, "Doubles => 2"), (1, "Takes")]
    told = [line.split() for line in mat.to_mat(record).splitlines() if line]
    assert told == [line.split() for line in PUBLISHED.splitlines()[1:] if line]


def test_random_games_come_back_as_they_were(tmp_path):
    path = tmp_path / "games.mat"
    written = [random_record(seed) for seed in range(3)] + [random_record(7, 40)]
    assert files.append(path, written[:2]) == 2 and files.append(path, written[2:]) == 2
    found = files.load(path)
    for record, before in zip(found, written, strict=True):
        assert (record.players, record.result) == (before.players, before.result)
        ends = [list(one.states())[-1].text for one in (record, before)]
        assert ends[0] == ends[1] and len(record.moves) == len(before.moves)
    again = tmp_path / "again.mat"
    files.append(again, found)
    assert files.load(again) == found and again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("told", "moves"),
    [
        ("13: 8/5 6/5", {"8/5", "6/5"}),  # dice in any order
        ("61: 13/7 8/7", {"13/7", "8/7"}),
        ("65: 24/13", {"24/18", "18/13"}),  # one man by both dice
        ("65: 24/18/13", {"24/18", "18/13"}),
    ],
)
def test_men_are_named_in_several_ways(told, moves):
    record = one(told)
    assert set(record.moves[1:]) == moves and record.result is None


def test_men_of_a_double_are_counted_and_enter_from_the_bar():
    record = one("31: 8/5 6/5                      62: 24/18 13/11", "33: 8/5(2) 6/3(2)")
    assert record.moves.count("8/5") == 3 and record.moves.count("6/3") == 2
    record = one("21: 13/11 6/5                    41: 24/20 6/5", "31: bar/22 24/23")
    assert record.moves[-3:] == ("31", "bar/22", "24/23")  # a hit needs no star
    assert "24/20*" in record.moves


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("31: 8/5 6/4",), "cannot be played"),
        (("31: 8/5",), ""),  # a turn that is not over may stand at the end alone
        (("31: 8/5                          52: 13/8 24/22",), "still to be moved"),
        (("33: 8/5(2) 6/3(2)",), "33"),  # nobody begins with a double
        (("31: 8/5 6/5", "52: 13/8 13/11"), "the other player's turn"),
        (("31: 8/5 six/5",), "moves no man"),
        (("31: 8/5 66/5",), "moves no man"),
        (("perhaps",), "not two players' turns"),
    ],
)
def test_what_cannot_be_played_is_one_line(rows, said):
    if not said:
        assert one(*rows).moves == ("31", "8/5")
        return
    with pytest.raises(DataError, match=f"line {4 + len(rows)}: .*{said}"):
        one(*rows)


def test_what_the_format_does_not_hold_is_refused(tmp_path):
    record = random_record(1, 30)
    others = (
        {"params": {"gammons": 0}},
        {"start": list(record.states())[9].text, "moves": [*record.moves[9:]]},
        {"info": {"mat": {"score": ["x", 0]}}},
        {"info": {"mat": {"cube": 3}}},
    )
    for changes in others:
        data = {"game": "backgammon", "players": ["a", "b"], "result": None}
        found = GameRecord.from_data(data | {"moves": list(record.moves)} | changes)
        with pytest.raises(DataError, match="mat"):
            files.append(tmp_path / "games.mat", [record, found])
    assert not (tmp_path / "games.mat").exists()
    with pytest.raises(ConfigError, match=r"\.mat files hold backgammon, not chess"):
        files.must_hold("games.mat", playout.game("chess"))
    with pytest.raises(ConfigError, match=r"games\.svg: games are kept as moves, not as pictures"):
        files.must_hold("games.svg", playout.game("chess"))
    files.must_hold("games.mat", playout.game("backgammon"))
    (tmp_path / "binary.mat").write_bytes(b"MATLAB 5.0 MAT-file\x00\x80\n")
    with pytest.raises(DataError, match=r"binary.mat, line 1: .* no part of a game"):
        files.load(tmp_path / "binary.mat")


def test_damaged_text_is_refused_or_read():
    rng = random.Random(3)
    letters = "0123456789 /*():\n25-Gabr"
    for _ in range(many(150)):
        text = list(PUBLISHED)
        for _ in range(rng.randrange(1, 6)):
            text[rng.randrange(len(text))] = rng.choice(letters)
        if rng.random() < 0.3:
            del text[rng.randrange(len(text)) :]
        try:
            games("".join(text))
        except DataError as error:
            assert "\n" not in str(error)

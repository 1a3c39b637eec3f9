"""Damaged bytes of files of games, their charset too: records that can be written, or one line."""

import random

import playout
import pytest
from damage import many
from playout.envs.records import files
from playout.envs.records.json_lines import GameRecord
from playout.errors import DataError, PlayoutError

CHARSETS = (
    b"utf-8",
    b"latin-1",
    b"utf-7",
    b"utf-16",
    b"gb18030",
    b"unicode_escape",
    b"rot13",
    b"x",
)
GAMES = {".sgf": "go(size=5)", ".pgn": "chess", ".mat": "backgammon", ".jsonl": "othello(size=6)"}


def record(name, seed):
    rng, state, actions = random.Random(seed), playout.game(name).initial_state(), []
    while not state.is_terminal and len(actions) < 60:
        actions.append(rng.choice(state.legal_actions))
        state = state.apply(actions[-1])
    return GameRecord.from_actions(state.game, actions, players=["Zwölf", "Ни\\кто"])


@pytest.mark.slow
@pytest.mark.parametrize("ending", GAMES)
def test_any_bytes_are_records_that_can_be_written_or_one_line(tmp_path, ending):
    rng, path, again = random.Random(7), tmp_path / f"game{ending}", tmp_path / f"again{ending}"
    for seed in (1, 2):
        files.append(path, [record(GAMES[ending], seed)])
    whole, read = path.read_bytes(), 0
    if ending == ".sgf":
        whole = whole.replace(b"CA[UTF-8]", b"CA[utf-8]")
    for _ in range(many(300)):
        data = bytearray(whole.replace(b"utf-8", rng.choice(CHARSETS)))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                data[at:at] = rng.choice(
                    [b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800"]
                )
            elif kind == 2:
                del data[at : at + rng.randrange(1, 9)]
            else:
                data[at:at] = data[at : at + 12]
        path.write_bytes(data)
        again.unlink(missing_ok=True)
        try:
            records = list(files.read(path))
        except PlayoutError as error:
            assert type(error) is DataError and "\n" not in str(error) and len(str(error)) < 600
            continue
        read += 1
        if records:
            files.append(again, records)
            assert [one.moves for one in files.read(again)] == [one.moves for one in records]
    assert 0 < read < many(300)


def test_a_charset_that_gives_half_a_letter_is_read_and_can_be_written(tmp_path):
    path = tmp_path / "half.sgf"
    path.write_bytes(b"(;GM[1]SZ[5]CA[unicode_escape]PB[\\ud800\xff];B[aa])")
    (one,) = files.read(path)
    assert one.players[0] == "?\xff"
    files.append(tmp_path / "again.sgf", [one])
    assert next(iter(files.read(tmp_path / "again.sgf"))).players == one.players

"""Records: what is written is read back, and nothing else is."""

import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import playout
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playout.cli import main
from playout.envs import game_text
from playout.envs.records import files
from playout.envs.records import json_lines as records
from playout.envs.records.json_lines import GameRecord
from playout.errors import DataError, IllegalActionError, PlayoutError


def random_record(seed, name="connect_four", **extra):
    rng = random.Random(seed)
    state = playout.game(name).initial_state()
    actions = []
    while not state.is_terminal:
        actions.append(rng.choice(state.legal_actions))
        state = state.apply(actions[-1])
    return GameRecord.from_actions(state.game, actions, players=["one", "two"], **extra)


def test_records_come_back_as_they_were(tmp_path):
    path = tmp_path / "games.jsonl"
    written = [random_record(seed) for seed in range(5)]
    written.append(random_record(7, "connect_four(width=12, height=4, run=3)"))
    written.append(random_record(8, "tic_tac_toe", info={"seed": 8, "note": "zwölf ✓"}))
    game = playout.game("connect_four")
    written.append(
        GameRecord.from_actions(
            game,
            [3, 3],
            players=["Anna", "Böb"],
            start=game.from_moves("44"),
            policy=[[0.5, 0.5, 0, 0, 0, 0, 0], None],
            value=[0.25, None],
            comments=["central", None],
        )
    )
    assert records.append(path, written[:3]) == 3
    assert records.append(path, written[3:]) == len(written) - 3
    assert records.append(path, []) == 0
    assert records.load(path) == written
    last = list(written[-1].states())
    assert [state.text.count("X") for state in last] == [1, 2, 2]
    assert written[-1].result is None and written[0].result in ((1, -1), (-1, 1), (0, 0))


def test_a_cut_off_last_line_is_named_and_can_be_repaired(tmp_path):
    path = tmp_path / "games.jsonl"
    records.append(path, [random_record(1), random_record(2)])
    whole = path.read_bytes()
    path.write_bytes(whole + random_record(3).to_json().encode()[:60])
    with pytest.raises(DataError, match=r"games.jsonl, line 3: the last line is cut off"):
        records.load(path)
    with pytest.raises(DataError, match="repair"):
        records.append(path, [random_record(4)])
    assert records.repair(path) == 60
    assert path.read_bytes() == whole
    assert records.repair(path) == 0
    assert records.append(path, [random_record(4)]) == 1
    assert len(records.load(path)) == 3
    path.write_bytes(b"no line end at all" * 9000)
    assert records.repair(path) == 18 * 9000
    assert records.load(path) == []


def test_any_cut_is_noticed(tmp_path):
    path = tmp_path / "games.jsonl"
    records.append(path, [random_record(1, "tic_tac_toe"), random_record(2, "tic_tac_toe")])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        if size == first:
            assert len(records.load(path)) == 1
        else:
            with pytest.raises(DataError, match=r"line [12]: the last line is cut off"):
                records.load(path)


def base(**changes):
    data = {"game": "connect_four", "players": ["a", "b"], "moves": ["4", "4"], "result": None}
    data.update(changes)
    return json.dumps({key: value for key, value in data.items() if value != "DROP"})


BAD = [
    ("", "not a JSON object"),
    ("null", "object"),
    ("[]", "object"),
    ("3", "object"),
    ("{", "cut off"),
    ("[" * 100_000, "not a JSON object"),
    ('{"game":' * 10_000, "not a JSON object"),
    ('{"a":NaN}', "NaN"),
    ('{"a":-Infinity}', "Infinity"),
    ('{"a":1,"a":2}', "twice"),
    ('{"value":' + "9" * 10_000 + "}", "JSON"),
    (base(extra=1), "unknown field"),
    (base(**{"x" * 5000: 1}), r"unknown field \['x{40}'\];"),
    (base(result=[0.5] * 1000), r"not \[0.5, 0.5.{0,80}$"),
    (base(game="DROP"), "'game' is missing"),
    (base(moves="DROP"), "'moves' is missing"),
    (base(result="DROP"), "'result' is missing"),
    (base(game="shogi"), "no game is named"),
    (base(game="os.system"), "is not a game"),
    (base(game="connect_four(width=5)"), "must be a name"),
    (base(game=3), "must be a name"),
    (base(params=[]), "params"),
    (base(params={"depth": 3}), "no parameter 'depth'"),
    (base(params={"width": "5"}), "integer"),
    (base(params={"width": 1e300}), "integer"),
    (base(params={"width": 10**25}), "1 to 32"),
    (base(params={"game": "x"}), "params"),
    (base(params={"width": None}), "integer"),
    (base(players=["a"]), "2 players"),
    (base(players="ab"), "list of texts"),
    (base(players=["a", 2]), "list of texts"),
    (base(moves="44"), "list of texts"),
    (base(moves=[4]), "list of texts"),
    (base(moves=["4"] * 7), r"move 7 \('4'\) cannot be played"),
    (base(moves=["4", "x"]), r"move 2 \('x'\)"),
    (base(moves=["1"] * 43), "more than a game"),
    (base(moves=list("12121212")), "move 8"),
    (base(moves=list("1212121"), result=[-1, 1]), r"result \[1.0, -1.0\]"),
    (base(moves=list("1212121"), result=None), "result"),
    (base(result=[0, 0]), "result None"),
    (base(result=[1e400, 0]), "not a number|result"),
    (base(result=["1", "0"]), "numbers"),
    (base(result="won"), "numbers"),
    (base(start=3), "start"),
    (base(start="......."), "not a position"),
    (base(policy=[None]), "2 moves"),
    (base(policy=[None, [1, 0]]), "7 numbers"),
    (base(policy=[None, [2, 0, 0, 0, 0, 0, 0]]), "from 0 to 1"),
    (base(policy=[None, [True, 0, 0, 0, 0, 0, 0]]), "from 0 to 1"),
    (base(policy={}), "policy must be a list"),
    (base(value=[0, 2]), "-1 to 1"),
    (base(value=[0]), "2 moves"),
    (base(value=[10**400, 0]), "-1 to 1"),
    (base(info={"x": "BIG"}).replace('"BIG"', "1e999"), "1e999 is not a number"),
    (base(comments=[1, 2]), "text"),
    (base(info=[]), "info"),
]


@pytest.mark.parametrize(("line", "what"), BAD, ids=range(len(BAD)))
def test_a_bad_line_is_refused_by_its_number(tmp_path, line, what):
    path = tmp_path / "games.jsonl"
    path.write_text(random_record(1).to_json() + "\n" + line + "\n")
    with pytest.raises(DataError, match=what) as caught:
        records.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line 2: ")
    assert "\n" not in message and len(message) < 500


def test_bytes_that_are_not_text_are_refused(tmp_path):
    path = tmp_path / "games.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        records.load(path)
    path.write_bytes(b"x" * (records.MAX_LINE + 10))
    with pytest.raises(DataError, match="line 1: the line is too long"):
        records.load(path)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_gives_a_record_or_one_clear_error(data):
    line = random_record(data.draw(st.integers(0, 20)), "tic_tac_toe").to_json().encode()
    place = data.draw(st.integers(0, len(line) - 1))
    changed = line[:place] + bytes([data.draw(st.integers(0, 127))]) + line[place + 1 :]
    try:
        record = GameRecord.from_json(changed.decode())
    except PlayoutError as error:
        assert "\n" not in str(error)
    else:
        assert GameRecord.from_json(record.to_json()) == record


def test_an_illegal_action_makes_no_record():
    game = playout.game("tic_tac_toe")
    with pytest.raises(IllegalActionError):
        GameRecord.from_actions(game, [4, 4], players=["a", "b"])
    with pytest.raises(DataError, match="2 players"):
        GameRecord.from_actions(game, [4], players=["a"])
    with pytest.raises(DataError, match="value"):
        GameRecord.from_actions(game, [4], players=["a", "b"], value=[float("nan")])


def test_values_are_as_large_as_results_may_be():
    game = playout.game("leduc_poker")
    deal = [0, 2, 2, 2]  # two cards and two raises
    record = GameRecord.from_actions(game, deal, players=["a", "b"], value=[None, None, 2.5, -13])
    assert GameRecord.from_json(record.to_json()) == record
    with pytest.raises(DataError, match="from -13 to 13"):
        GameRecord.from_actions(game, deal, players=["a", "b"], value=[None, None, 0, 13.5])


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "games.jsonl"
    records.append(path, [random_record(1)])
    before = path.read_bytes()
    write = os.write

    def full(descriptor, data):
        if len(data) > 100:
            return write(descriptor, data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", lambda d, data: full(d, data[: max(50, len(data) // 2)]))
    with pytest.raises(OSError, match="No space"):
        records.append(path, [random_record(2), random_record(3)])
    monkeypatch.undo()
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError):
        records.append(tmp_path / "missing" / "games.jsonl", [random_record(1)])
    with pytest.raises(OSError):
        records.load(tmp_path / "missing.jsonl")


EVIL = {
    "os:system": {"command": "touch ran"},
    "posix:system": {"command": "touch ran"},
    "subprocess:Popen": {"args": ["touch", "ran"]},
    "builtins:open": {"file": "ran", "mode": "w"},
    "shutil:copyfile": {"src": "here", "dst": "ran"},
    "gymnasium:make": {"id": "ran_code:X-v0"},
    "playout.own_code:os.system": {"command": "touch ran"},
    "playout.own_code:import_module": {"name": "ran_code"},
    "playout.agents.players.external.process:EngineProcess": {"argv": ["/usr/bin/touch", "ran"]},
    "playout.rlhf.environments.load:load_environment": {
        "name": "os:system",
        "options": {"command": "touch ran"},
    },
    "helps:os.system": {"command": "touch ran"},
    "helps:system": {"command": "touch ran"},
    "helps:Popen": {"args": ["touch", "ran"]},
}


@pytest.mark.parametrize("name", EVIL)
def test_a_record_runs_nothing_that_is_not_the_persons_own(name, tmp_path, monkeypatch, capsys):
    """Whatever any program has imported, playout itself, and what a trusted module has imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr("playout.own_code._trusted", set())
    (tmp_path / "here").write_text("")
    (tmp_path / "ran_code.py").write_text("open('ran', 'w')\n")
    (tmp_path / "helps.py").write_text(
        "import os\nfrom os import system\nfrom subprocess import Popen\n"
    )
    record = {
        "game": name,
        "params": EVIL[name],
        "players": ["a", "b"],
        "moves": [],
        "result": None,
    }
    Path("evil.jsonl").write_text(json.dumps(record) + "\n")
    line = "analyse tic_tac_toe --evaluator rollout --moves-file evil.jsonl --trust helps"
    assert main(line.split()) == 2
    with pytest.raises(DataError):
        records.load("evil.jsonl")
    time.sleep(0.05)  # for a program that was started
    assert not Path("ran").exists() and capsys.readouterr().err.count("error: ") == 1


def test_a_line_alone_is_a_record_or_a_data_error():
    good = json.loads(random_record(1, "tic_tac_toe").to_json())
    for field, value, what in (
        ("start", "nonsense", "start is no position"),
        ("params", {"size": 3}, "tic_tac_toe"),
        ("game", "no_such_game", "no game is named"),
        ("game", "a b(", "is not a game"),
        ("info", {"x": "\ud800"}, r"\\ud800 is half a character"),
        ("players", ["\udfff", "b"], r"\\udfff is half a character"),
    ):
        for ascii_only in (True, False):
            line = json.dumps({**good, field: value}, ensure_ascii=ascii_only)
            with pytest.raises(DataError, match=what) as caught:
                GameRecord.from_json(line)
            assert "\n" not in str(caught.value)
    both = json.dumps({**good, "info": {"x": "\U0001d11e ä"}})
    assert GameRecord.from_json(both).info == {"x": "\U0001d11e ä"}


def test_what_json_cannot_hold_is_not_written(tmp_path):
    for value in (float("nan"), np.float32("inf"), {1, 2}, "\ud800", np.zeros(2), {(1, 2): 3}):
        record = random_record(1, "tic_tac_toe", info={"x": value})
        with pytest.raises(DataError) as caught:
            record.to_json()
        assert "\n" not in str(caught.value)
        with pytest.raises(DataError):
            records.append(tmp_path / "games.jsonl", [record])
    assert not (tmp_path / "games.jsonl").exists()
    said = GameRecord.from_actions(
        playout.game("go(size=5)"), [0], players=["a", "b"], comments=["\ud800"]
    )
    with pytest.raises(DataError, match=r"\\ud800 is half a character"):
        files.append(tmp_path / "games.sgf", [said])
    numbers = {"x": np.int64(3), "y": np.float32(0.5), "z": [np.bool_(True)]}
    written = random_record(1, "tic_tac_toe", info=numbers).to_json()
    assert GameRecord.from_json(written).info == {"x": 3, "y": 0.5, "z": [True]}


def test_parameters_of_all_sizes_come_back_from_a_games_text():
    rng = random.Random(9)
    values = [0.1 * 0.1, 1e-4, 5e-324, 1.7976931348623157e308, 0.00012345678901234567]
    values += [rng.uniform(-1, 1) * 10.0 ** rng.randint(-320, 300) for _ in range(5000)]
    values += [rng.uniform(-1, 1) * 10.0 ** rng.randint(-6, 18) for _ in range(5000)]
    for value in values:
        params = {"x": value, "y": (value, repr(value))}
        assert game_text.read(game_text.write("g", params)) == ("g", params)
    komi = 0.1 * 0.1
    assert playout.game(f"go(komi={komi})") == playout.game("go", komi=komi)

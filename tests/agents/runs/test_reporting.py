"""What commands print and write: JSON in a file or on standard output, tables, bars."""

import json
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
from playout import cli
from playout.agents.runs.directory import RunDir
from playout.agents.runs.reporting import as_typed, bar, must_be_writable, table, write_json
from playout.errors import CheckpointError, DataError, RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Measure."""

    json: Path | None = None
    """Where to."""


@pytest.fixture
def measure(monkeypatch):
    """A command that prints a table and writes a result."""

    def main(command):
        must_be_writable(command.json)
        table("found", ["what", "share"], [["wins", "0.5"]])
        print("done")
        write_json(command.json, {"wins": 0.5, "draws": float("nan"), "text": "é"})

    module = types.ModuleType("playout_measure_command")
    module.Command, module.main = Command, main
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.GROUPS["Look"], "measure", (module.__name__, "measure"))


def test_a_dash_writes_json_to_standard_output_and_nothing_else_there(
    measure, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["measure", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"wins": 0.5, "draws": None, "text": "é"}
    assert "wins" in err and "done" in err and not list(tmp_path.iterdir())


def test_a_file_gets_the_json_and_standard_output_the_rest(measure, capsys, tmp_path):
    assert cli.main(["measure", "--json", str(tmp_path / "found.json")]) == 0
    assert "wins" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["wins"] == 0.5


def test_a_list_is_written_an_item_a_line(tmp_path):
    for value, lines in (([], 1), ([{"a": 1}, {"a": 2}], 4)):
        write_json(tmp_path / "x.json", value)
        text = (tmp_path / "x.json").read_text()
        assert json.loads(text) == value and text.count("\n") == lines


def test_text_that_is_no_unicode_is_escaped_and_read_back(tmp_path):
    write_json(tmp_path / "x.json", {"text": "a\udc80"})
    assert json.loads((tmp_path / "x.json").read_bytes()) == {"text": "a\udc80"}


def test_a_file_that_cannot_be_written_is_found_out_before_the_work(tmp_path):
    must_be_writable(tmp_path / "new.json")
    must_be_writable(Path("-"))
    with pytest.raises(DataError, match="it is a folder"):
        must_be_writable(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        must_be_writable(tmp_path / "no" / "x.json")


def test_a_bar_has_eighths():
    assert [bar(share, 2) for share in (0, 1 / 16, 0.5, 1, 2)] == ["", "▏", "█", "██", "██"]


def test_commands_are_told_as_they_work_where_the_command_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "a b" / "bin"
    programs.mkdir(parents=True)
    for name in ("playout", "tensorboard"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["a b/bin/playout"])
    monkeypatch.setenv("PATH", str(tmp_path))
    run = RunDir.create(tmp_path / "r", kind="toy", config={}, seed=0)
    assert as_typed("tensorboard") == "'a b/bin/tensorboard'"
    assert run.command_for("play") == f"'a b/bin/playout' play {run.path}"
    assert run.resume_command == f"'a b/bin/playout' toy --resume {run.path}"
    monkeypatch.setenv("PATH", str(programs))
    assert (as_typed(), as_typed("tensorboard")) == ("playout", "tensorboard")
    monkeypatch.setattr(sys, "argv", ["somewhere/pytest"])
    monkeypatch.setenv("PATH", "")
    assert as_typed() == "playout"


def test_paths_in_printed_commands_are_one_word(tmp_path):
    run = RunDir.create(tmp_path / "my run", kind="toy", config={}, seed=0)
    quoted = f"'{run.path}'"
    assert run.resume_command.endswith(f" toy --resume {quoted}")
    assert run.command_for("match", "random").endswith(f" match {quoted} random")
    with pytest.raises(RunError, match=re.escape(f"continue it with --resume {quoted} or")):
        RunDir.create(run.path, kind="toy", config={}, seed=0)
    for step in (1, 2):
        run.save(step, {"n": step})
    (run.find(2).path / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=re.escape(f"--resume {quoted} --from-step 1")):
        run.load()

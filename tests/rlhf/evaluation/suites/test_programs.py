"""Programs that a model has written: run where asked for, and kept from all that is not theirs."""

import json
import socket

import pytest
from playout import cli
from playout.errors import ConfigError, DataError
from playout.rlhf.evaluation.suites import score
from playout.rlhf.evaluation.suites.results import summary
from playout.rlhf.evaluation.suites.suite import Program
from playout.rlhf.evaluation.suites.tasks import catalogue, sandbox
from playout.rlhf.evaluation.suites.tasks.code import read_programs
from playout.rlhf.evaluation.suites.tasks.sandbox import passed
from playout.rlhf.model.folder import export_model
from small_language import chat_tokenizer, small_model

TOKENIZER = chat_tokenizer("chatml")
PROBLEM = {
    "task_id": "HumanEval/0",
    "prompt": "def add(a, b):\n    '''Their sum.'''\n",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3",
    "entry_point": "add",
}


@pytest.fixture
def confines():
    """Skips where this machine has no sandbox."""
    try:
        passed([])
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
def problems(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps(PROBLEM) + "\n" + json.dumps(PROBLEM) + "\n")
    return path


FAILS = {
    "an error": "assert False",
    "leaving before the tests are over": "import os; os._exit(0)",
    "ending before they are": "raise SystemExit(0)",
    "too much memory": "x = bytearray(2 << 30)",
    "too many processes": "import os, time\nfor _ in range(20):\n    os.fork() or time.sleep(99)",
    "too large a file": "open('a', 'wb').write(bytes(2 << 20))",
    "too many files": "for n in range(40):\n    open(str(n), 'wb').write(bytes(1 << 19))",
    "an interpreter for all": "import os, sys\nos.chmod(sys.executable, 0o4755)",
}


@pytest.mark.parametrize("program", FAILS.values(), ids=FAILS)
def test_a_program_does_not_pass_by(confines, program):
    assert passed([program]) == [False]


def test_a_program_that_comes_to_its_end_has_passed(confines):
    alone = "import os, math, typing\nassert os.getppid() <= 1 and os.getuid() == 65534"
    own = "open('a', 'w').write('b')\nassert open('a').read() == 'b' and os.listdir('.') == ['a']"
    assert passed([alone, f"import os\n{own}"]) == [True, True]


def test_what_a_program_says_last_need_not_end_its_line(confines):
    for said in ("print('a', end='')", "import sys\nsys.stdout.write('b')", "print(' ')"):
        assert passed([said]) == [True], said


def test_files_of_others_are_neither_read_nor_changed(confines, tmp_path):
    path = tmp_path / "precious"
    path.write_text("mine")
    acts = ("open(path)", "os.remove(path)", "os.truncate(path, 0)", "os.chmod(path, 0o777)",
            "os.listdir(os.path.dirname(path))", "os.mkdir('/other')")  # fmt: skip
    for act in acts:
        tried = f"try:\n    {act}\nexcept OSError:\n    pass\nelse:\n    raise SystemExit(1)"
        assert passed([f"import os\npath = {str(path)!r}\n{tried}"]) == [True], act
    assert path.read_text() == "mine" and path.stat().st_mode & 0o777 != 0o777


def test_nobody_of_this_machine_can_be_spoken_to(confines, tmp_path):
    with socket.socket() as near, socket.socket(socket.AF_UNIX) as file:
        near.bind(("127.0.0.1", 0))
        file.bind(str(tmp_path / "s"))
        for one, kind, place in ((near, 2, near.getsockname()), (file, 1, str(tmp_path / "s"))):
            one.listen()
            one.settimeout(0.05)
            talk = f"import socket\nsocket.socket({kind}).connect({place!r})"
            assert passed([talk]) == [False]
            with pytest.raises(TimeoutError):
                one.accept()


def test_without_a_sandbox_nothing_is_run(problems, monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    monkeypatch.setattr(sandbox.subprocess, "run", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(ConfigError, match="cannot be had here: bubblewrap is not installed"):
        passed(["x = 1"])
    with pytest.raises(ConfigError, match="in a sandbox alone"):
        catalogue.find_suite(f"programs:{problems}", catalogue.Material())


def test_a_sandbox_that_fails_on_the_way_is_no_wrong_program(monkeypatch):
    answers = [(0, "", ""), (1, "bwrap: no memory\n", ""), (1, "bwrap: no memory\n", "")]
    monkeypatch.setattr(sandbox, "_run", lambda program: answers.pop(0))
    with pytest.raises(ConfigError, match="bwrap: no memory"):
        passed(["x = 1"])


def test_what_a_model_writes_is_run_with_the_tests_of_its_problem(confines, problems, monkeypatch):
    suite = read_programs(problems)
    assert isinstance(suite.items[0], Program) and "check(add)" in suite.items[0].tests
    written = ["    return a + b\n", "    return a * b\n"]
    monkeypatch.setattr(score, "_texts", lambda *_: written)
    found = score.answers_of(small_model(TOKENIZER, length=96), TOKENIZER, suite)
    assert found.values.tolist() == [1.0, 0.0]
    row = summary(suite, found)
    assert (row["measure"], row["value"], row["kind"]) == ("passed", 0.5, "program")


def test_programs_are_asked_for_by_name_alone(confines, problems, tmp_path, monkeypatch, capsys):
    export_model(tmp_path / "model", small_model(TOKENIZER, length=96), TOKENIZER)
    asked = ["eval", str(tmp_path / "model"), "--suite"]
    with monkeypatch.context() as patched:
        patched.setattr(sandbox, "_run", lambda program: pytest.fail("something was run"))
        assert cli.main([*asked, f"humaneval:{problems}", str(problems)]) == 0
    capsys.readouterr()
    assert cli.main([*asked, f"programs:{problems}"]) == 0
    assert "passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"), [({"test": None}, "'test'"), ({"entry_point": "a b"}, "no name")]
)
def test_a_problem_without_tests_is_named(tmp_path, change, message):
    row = {k: v for k, v in (PROBLEM | change).items() if v is not None}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=rf"p\.jsonl, line 1.*{message}"):
        read_programs(tmp_path / "p.jsonl")

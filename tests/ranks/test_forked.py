"""Forked interpreters are like fresh ones: clean, each with its own draws, exit code and end."""

import json
import os
import signal
import subprocess
import sys
import time

import forked
import pytest

CLEAN = """
import json, os, sys, threading
import torch
said = {
    "name": __name__, "arguments": sys.argv, "first": sys.path[0], "folder": os.getcwd(),
    "variable": os.environ.get("OWN"), "kept": sorted(os.environ),
    "threads": [threading.active_count(), torch.get_num_threads()],
    "tests": [name for name in ("pytest", "forked", "second_device") if name in sys.modules],
    "files": sorted(os.listdir("/proc/self/fd")) if sys.platform == "linux" else list("0123"),
    "input": sys.stdin.read(), "leads": os.getpid() == os.getpgrp() == os.getsid(0),
}
print(json.dumps(said))
"""
DRAWN = """
import random
import numpy, torch
print(hash("name"), random.random(), numpy.random.random(), torch.rand(1).item())
"""

# Who begins in the background inherits that SIGINT is ignored.
INTERRUPTED = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""


def test_a_process_begins_clean_with_what_it_was_given(tmp_path):
    variables = {"OWN": "given", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    code, out, err = forked.run("-c", CLEAN, "one", folder=tmp_path, variables=variables)
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said.pop("kept") == sorted(variables)
    assert len(said.pop("files")) == 4  # three, and that of the listing
    assert said == {
        "name": "__main__",
        "arguments": ["-c", "one"],
        "first": "",
        "folder": str(tmp_path),
        "variable": "given",
        "threads": [1, 1],
        "tests": [],
        "input": "",
        "leads": True,
    }


@pytest.mark.slow
def test_processes_draw_for_themselves_and_neighbours_hash_differently():
    found = [forked.run("-c", DRAWN, number=number)[1].split() for number in (0, 1, 2)]
    hashes, *draws = zip(*found, strict=True)
    assert hashes[0] == hashes[2] != hashes[1]
    assert all(len(set(drawn)) == 3 for drawn in draws)


@pytest.mark.slow
def test_scripts_modules_and_programs_find_what_python_would_let_them_find(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "beside.py").write_text("if __name__ == '__main__': print('module')\n")
    (tmp_path / "inner" / "beside.py").write_text("NAME = 'inner'\n")
    (tmp_path / "inner" / "script.py").write_text(
        "import sys, beside; print(beside.NAME, sys.argv, __file__ == sys.argv[0])\n"
    )
    script = str(tmp_path / "inner" / "script.py")
    wanted = f"inner {[script, 'x']} True\n"
    assert forked.run(script, "x", folder="/") == (0, wanted, "")
    assert forked.run("-m", "beside", folder=tmp_path) == (0, "module\n", "")
    assert forked.run("-c", "import beside", folder=tmp_path)[0] == 0
    code, _, err = forked.run("-P", "-c", "import beside", folder=tmp_path)
    assert code == 1 and "No module named 'beside'" in err
    path = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path / "inner")}
    program = "import beside; print(beside.NAME)"
    assert forked.run("-P", "-c", program, variables=path) == (0, "inner\n", "")


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        ("print('x'); raise SystemExit(3)", 3, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import atexit, os; atexit.register(os.write, 2, b'bye')", 0, "bye"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        (INTERRUPTED, -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_a_process_ends_with_the_code_and_words_of_an_interpreter(program, code, said):
    found, _, err = forked.run("-c", program)
    assert found == code and said in err
    real = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True)
    assert real.returncode == code and err.split("\n")[-2:] == real.stderr.split("\n")[-2:]


def test_a_process_is_watched_signalled_and_killed_with_its_own_processes():
    program = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
child = subprocess.Popen(["sleep", "1000"])
print(child.pid, flush=True)
while True:
    time.sleep(0.01)
"""
    process = forked.start("-c", program)
    process.until("\n")
    child = int(process.out)
    process.send_signal(signal.SIGTERM)
    process.until("asked")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    assert process.poll() is None
    process.kill()
    assert process.wait() == -signal.SIGKILL
    wait_until_gone(child)


def wait_until_gone(pid):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":
                return  # it waits for whoever began it
        time.sleep(0.02)
    raise AssertionError(f"process {pid} lives")


@pytest.mark.parametrize("way", ["sys.exit()", "os.kill(os.getpid(), 9)"])
def test_everything_ends_with_the_tests_that_began_it(way):
    text = f"""
import os, sys
sys.path.insert(0, {os.path.dirname(forked.__file__)!r})
import forked
forked.IMPORTED = ()
processes = [forked.start("-c", "import time; time.sleep(1000)") for _ in range(3)]
print(*[one.pid for one in processes], *[one.process.pid for one in forked._templates], flush=True)
{way}
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=100)
    assert done.returncode == (0 if "exit" in way else -9) and not done.stderr
    found = [int(pid) for pid in done.stdout.split()]
    assert len(found) == 5
    for pid in found:
        wait_until_gone(pid)


def test_variables_that_come_too_late_are_refused():
    with pytest.raises(ValueError, match="OMP_NUM_THREADS comes too late"):
        forked.start("-c", "", variables={**os.environ, "OMP_NUM_THREADS": "7"})

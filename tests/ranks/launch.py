"""Runs a piece of Python, or a command of playout, on several ranks of this machine.

    results = launch(2, "return ranks.sums([ranks.rank()])")

Tests of every trainer use it. Ranks are forked from interpreters that have torch imported
(forked.py) and get the variables that torchrun sets, with a store that outlives them. What is about
torchrun itself, which watches, ends and restarts its ranks, starts it: `start` and `finish`.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from pathlib import Path

import forked
import numpy as np
from playout.benchmarks.studies.kills import ranks_of

_HERE = Path(__file__).parent
TOY = _HERE / "toy_ranks.py"
_GRACE = 15.0  # seconds until those that a failed rank has left behind are killed
_HEAD = """\
import json, os, sys
from pathlib import Path
from playout.agents.runs import ranks

def work():
{body}

found = work()
ranks.sums([0.0])  # all have come here
Path(sys.argv[1], f"{{ranks.rank()}}.json").write_text(json.dumps(found))
"""
_STORE = """\
import signal
from torch.distributed import TCPStore

store = TCPStore("localhost", 0, None, True, wait_for_workers=False)
print(store.port, flush=True)
signal.pause()
"""


def torchrun(count, *words, restarts=0):
    """The command line that starts `count` ranks of a script or module on this machine."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(count), "--max-restarts", str(restarts), *words),
    ]


def environment(**more):
    """Variables of a rank: one thread, nothing of a job around it, impatient."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    }
    # `import helper` finds what lies beside the test that asks.
    where = os.pathsep.join([*sys.path, str(_HERE)])
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": where, "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **own, **{name: str(value) for name, value in more.items()}}


def start(count, *words, restarts=0, **variables):
    """Begin a job of torchrun; returns its process, whose output is text."""
    return subprocess.Popen(
        torchrun(count, *map(str, words), restarts=restarts),
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, timeout=300):
    """Wait for a job of torchrun: its exit code, standard output and error output.

    Nothing of it is left: torchrun ends its ranks, and after the timeout all of them are killed.
    """
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        for one in [*ranks_of(process.pid), process.pid]:
            os.kill(one, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"the job did not end:\n{out}\n{err}") from None
    return process.returncode, out, err


def errors(err):
    """What playout itself has said of errors; torchrun writes pages of its own."""
    return re.findall(r"^error: .*", err, re.MULTILINE)


def wait_for(run, updates, timeout=90):
    """Returns when a run has a row of that update."""
    path = Path(run, "metrics.jsonl")
    until = time.monotonic() + timeout
    while not path.exists() or path.read_bytes().count(b"\n") < updates:
        assert time.monotonic() < until, "the job does not get on"
        time.sleep(0.02)


def place(rank, count, port, name):
    """The variables that torchrun gives a rank of one machine in a job of that name, whose store is
    at that port.
    """
    return {
        **dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), rank),
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), count),
        "GROUP_RANK": 0,
        "GROUP_WORLD_SIZE": 1,
        "ROLE_NAME": "default",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
        "TORCHELASTIC_RESTART_COUNT": 0,
        "TORCHELASTIC_MAX_RESTARTS": 0,
        "TORCHELASTIC_RUN_ID": name,
        "TORCHELASTIC_USE_AGENT_STORE": True,
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": 1,
    }


@contextlib.contextmanager
def begun(count, *words, each=None, **variables):
    """Ranks of a program, and the process that has their store; none is left at the end.

    Args:
        count: How many.
        *words: After `python`.
        each: Of every rank more words and more variables, if they differ.
        **variables: For the environment of all.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        store, ranks, name = forked.start("-c", _STORE, number=0), [], uuid.uuid4().hex
        try:
            store.until("\n")
            for number in range(count):
                more, other = each[number] if each else ((), {})
                own = {**place(number, count, store.out.strip(), name), **variables, **other}
                own = {key: value for key, value in own.items() if value is not None}
                process = forked.start(
                    *words, *more, variables=environment(**own), out=out, err=err, number=number
                )
                ranks.append(process)
            yield ranks, store
        finally:
            for process in (*ranks, store):
                process.kill()


def job(count, *words, timeout=300, each=None, **variables):
    """Ranks of a program (see `begun`): exit code, output, error output of all.

    Nothing of them is left: where one fails, or after the timeout, the others are killed.
    """
    if count == 1:
        return forked.run(*words, variables=environment(**variables), timeout=timeout)
    with begun(count, *words, each=each, **variables) as (ranks, _):
        code = _wait(ranks, timeout)
        said = ranks[0].out, ranks[0].err
    assert code is not None, "the job did not end:\n{}\n{}".format(*said)
    return code, *said


def _wait(ranks, timeout):
    """The exit code of a job, that of the first rank that failed; None if it does not end."""
    until, failed = time.monotonic() + timeout, 0
    while None in (codes := [process.poll() for process in ranks]):
        if not failed and (failed := next(filter(None, codes), 0)):
            until = min(until, time.monotonic() + _GRACE)
        if time.monotonic() > until:
            return failed or None
        time.sleep(0.005)
    return failed or next(filter(None, codes), 0)


def playout(count, *words, timeout=300, each=None, **variables):
    """A command of playout on several ranks: exit code, standard output, error output."""
    return job(count, "-m", "playout", *words, timeout=timeout, each=each, **variables)


def ended(ranks, timeout=60):
    """The exit codes of ranks, which have to end by themselves, and what they said of errors."""
    codes = [process.wait(timeout) for process in ranks]
    return codes, errors(ranks[0].err)


def launch(count, body, timeout=300, **variables):
    """Runs the body of a function on every rank; returns what each returns, in order of rank.

    Args:
        count: How many ranks; 1 is a process like any other.
        body: Statements that `return` something that JSON holds; `ranks` is imported.
        timeout: Seconds.
        **variables: For the environment.
    """
    text = _HEAD.format(body=textwrap.indent(textwrap.dedent(body).strip(), "    "))
    with tempfile.TemporaryDirectory() as name:
        code, _, err = job(count, "-c", text, name, timeout=timeout, **variables)
        assert code == 0, err
        return [json.loads((Path(name) / f"{i}.json").read_text()) for i in range(count)]


def packed(tensor):
    """All numbers of a tensor as one text, exactly: JSON takes seconds for a network's weights."""
    return tensor.detach().double().cpu().numpy().tobytes().hex()


def numbers(text):
    """What was packed, float64 [N]."""
    return np.frombuffer(bytes.fromhex(text))

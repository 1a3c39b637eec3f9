"""Runs a piece of Python, or a command of playout, under torchrun with several ranks.

    results = launch(2, "return ranks.sums([ranks.rank()])")

Tests of every trainer use it. The ranks are processes of this machine that meet on its loopback.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from playout.benchmarks.studies.kills import ranks_of

_HERE = Path(__file__).parent
_HEAD = """\
import json, os, sys
from pathlib import Path
from playout.agents.runs import ranks

def work():
{body}

found = work()
ranks.wait_for_all()
Path(sys.argv[1], f"{{ranks.rank()}}.json").write_text(json.dumps(found))
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
    """Begin a job; returns the process of torchrun, whose output is text."""
    return subprocess.Popen(
        torchrun(count, *map(str, words), restarts=restarts),
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, timeout=300):
    """Wait for a job: its exit code, standard output and error output.

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


def playout(count, *words, timeout=300, **variables):
    """A command of playout under torchrun: exit code, standard output, error output."""
    # Without "--" torchrun takes --run for short of its own --run-path.
    return finish(start(count, "-m", "--", "playout", *words, **variables), timeout)


def launch(count, body, timeout=300, **variables):
    """Runs the body of a function on every rank; returns what each returns, in order of rank.

    Args:
        count: How many ranks; 1 runs the same without torchrun.
        body: Statements that `return` something that JSON holds; `ranks` is imported.
        **variables: For the environment.
    """
    with tempfile.TemporaryDirectory() as name:
        script = Path(name) / "script.py"
        text = textwrap.indent(textwrap.dedent(body).strip(), "    ")
        script.write_text(_HEAD.format(body=text))
        if count == 1:
            done = subprocess.run(
                [sys.executable, str(script), name],
                env=environment(**variables),
                capture_output=True,
                text=True,
                timeout=timeout,
            )
            code, err = done.returncode, done.stderr
        else:
            code, _, err = finish(start(count, str(script), name, **variables), timeout)
        assert code == 0, err
        return [json.loads((Path(name) / f"{i}.json").read_text()) for i in range(count)]

"""The scripts for clusters are sound by their own linters, and start commands that there are.

shellcheck and kubernetes-validate are asked where they are installed; the commands inside are
parsed everywhere, and the Slurm script runs with programs that only note how they were called.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playout import cli

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "examples" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
MANIFESTS = sorted(CLUSTER.glob("*.yaml"))
ALL = [*SCRIPTS, *MANIFESTS]


def program(name):
    """A linter, beside this Python or on the path."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))
    return found or shutil.which(name)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_are_sound(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    if (linter := program("shellcheck")) is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([linter, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_follow_the_schemas_of_kubernetes(path):
    if (linter := program("kubernetes-validate")) is None:
        pytest.skip("kubernetes-validate is not installed")
    done = subprocess.run([linter, "--strict", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def commands(text):
    """The words of every command of playout in a text, placeholders filled in."""
    text = re.sub(r'"\$(\w+)"', r"\1", text.replace("\\\n", " "))
    text = re.sub(r"^#( |$)", "", text, flags=re.M)
    for match in re.finditer(r"\bplayout (alphazero|selfplay|rlhf) [^;\n]*", text):
        line = match[0].partition(" || ")[0].rstrip('"').replace("$@", "")
        yield shlex.split(line.rstrip('" '))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_the_commands_inside_can_be_parsed(path, monkeypatch):
    # In a list of a manifest a word stands on a line of its own.
    text = path.read_text()
    listed = re.search(r'command: \["playout", "selfplay"\]\n +args:\n((?: +- .*\n)+)', text)
    found = list(commands(text))
    if listed:
        found.append(["playout", "selfplay", *(w.strip(' -"') for w in listed[1].splitlines())])
        found[-1] = [f"--{w}" if w in ("from", "into", "threads", "wait") else w for w in found[-1]]
    for words in found:
        name, rest = words[1], words[2:]
        if "--resume" in rest or "@" in rest:
            continue
        module = cli.commands()[name][0] if name != "rlhf" else cli.stages()[rest.pop(0)]
        command = __import__(module, fromlist=["Command"]).Command
        rest = [word.replace("SLURM_CPUS_PER_TASK", "4") for word in rest]
        cli.parse(command, rest, "playout")
    assert found or "torchrun" in text


def test_the_slurm_script_starts_torchrun_once_a_machine_and_goes_on_where_a_run_is(tmp_path):
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    note = tmp_path / "calls"
    for name, body in {
        "srun": f'echo "srun $OMP_NUM_THREADS $*" >> {note}\n'
        f'if [ -n "${{WARN:-}}" ]; then kill -USR1 "$PPID"\n'
        f"until grep -q scancel {note}; do sleep 0.01; done; fi\n"
        'exit "${FAIL:-0}"',
        "scontrol": f'[ "$1" = show ] && echo node7 || echo "scontrol $*" >> {note}',
        "scancel": f'echo "scancel $*" >> {note}',
    }.items():
        (bin_ / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin_ / name).chmod(0o755)
    run = tmp_path / "run"
    variables = {
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "RUN": str(run),
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "32",
        "SLURM_GPUS_ON_NODE": "8",
    }

    def submit(*words, **more):
        note.write_text("")
        script = str(CLUSTER / "slurm_train.sh")
        done = subprocess.run(["bash", script, *words], env={**variables, **more})
        return done.returncode, note.read_text()

    code, calls = submit("alphazero", "hex(size=5)", "--minutes", "9")
    assert code == 0 and calls.startswith("srun 4 torchrun --nnodes 2 --nproc-per-node 8 ")
    assert "--rdzv-endpoint node7:29500 --max-restarts 3 -m -- playout" in calls
    assert calls.endswith(f"-m -- playout alphazero hex(size=5) --minutes 9 --run {run}\n")
    run.mkdir()
    (run / "run.json").write_text("{}")
    words = ("alphazero", "mine:Game", "--trust", "mine", "--threads", "3")
    code, calls = submit(*words, FAIL="1", WARN="1")
    line, *then = calls.splitlines()
    assert line.endswith(f"-m -- playout {' '.join(words)} --resume {run}")
    assert (code, then) == (1, ["scancel --signal=TERM 42", "scontrol requeue 42"])
    assert "requeue" not in submit(*words, FAIL="1")[1]  # it failed by itself
    assert "requeue" not in submit(*words, WARN="1")[1]  # it came to its end all the same
    assert "requeue" not in submit(*words, FAIL="1", WARN="1", SLURM_RESTART_COUNT="50")[1]
    del variables["RUN"]
    assert submit("ppo", "CartPole-v1")[0] != 0

"""A job of forked ranks is one of torchrun: the same variables, the same numbers, an end."""

import json

import launch
import pytest

PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
from playout.agents.runs import ranks

ranks.start("cpu")
torch.manual_seed(ranks.rank())
net = torch.nn.Linear(3, 3)
gradients = []
for _ in range(3):
    net.zero_grad()
    net(torch.randn(5, 3)).square().mean().backward()
    gradients.append(ranks.add_(net.weight.grad).flatten().tolist())
own = ("RANK", "WORLD", "MASTER", "ROLE", "TORCH", "OMP")
said = {
    "gradients": gradients, "first": ranks.first({"rank": ranks.rank()}),
    "variables": {name: value for name, value in os.environ.items() if any(x in name for x in own)},
    "place": [ranks.rank(), ranks.world(), ranks.local_rank(), ranks.on_one_machine()],
    "restarts": [ranks.restarts(), ranks.may_restart()], "threads": torch.get_num_threads(),
}
ranks.sums([0.0])  # all have come here
Path(sys.argv[1], f"{ranks.rank()}.json").write_text(json.dumps(said))
print("done", flush=True)
"""
# What is another one for every job, or meant for torchrun's own processes.
OWN = {"MASTER_PORT", "TORCHELASTIC_RUN_ID"}
OWN |= {"TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_SIGNALS_TO_HANDLE"}


@pytest.mark.slow
def test_a_job_of_forked_ranks_gives_what_one_of_torchrun_gives(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    found = []
    for name, run in (
        ("forked", lambda *words: launch.job(2, *words)),
        ("torchrun", lambda *words: launch.finish(launch.start(2, *words))),
    ):
        (tmp_path / name).mkdir()
        code, out, err = run(script, tmp_path / name)
        assert code == 0 and out.count("done") == 2, err
        found.append([json.loads((tmp_path / name / f"{i}.json").read_text()) for i in range(2)])
    for forked, real in zip(*found, strict=True):
        assert forked["variables"].keys() | OWN == real["variables"].keys()
        for told in (forked["variables"], real["variables"]):
            for name in OWN:
                told.pop(name, None)
        assert forked == real
    assert found[0][0]["gradients"] == found[0][1]["gradients"]


def test_a_rank_that_fails_ends_the_job_with_its_code_and_words(monkeypatch):
    monkeypatch.setattr(launch, "_GRACE", 0.3)
    program = "import os, time\nif os.environ['RANK'] == '1': 1 / 0\ntime.sleep(1000)"
    code, _, err = launch.job(3, "-c", program)
    assert code == 1 and "ZeroDivisionError" in err


def test_a_job_that_does_not_end_is_killed():
    with pytest.raises(AssertionError, match="did not end"):
        launch.job(2, "-c", "import time; time.sleep(1000)", timeout=0.1)


def test_one_rank_is_a_process_without_a_job():
    assert launch.launch(1, "return [ranks.world(), os.environ.get('RANK')]") == [[1, None]]

"""Only what all ranks have learned is saved, or nothing: full disks of rank 0, unlike machines."""

import json

import pytest
from launch import TOY, begun, ended, job
from playout.agents.runs.directory import RunDir

# After three updates rank 0 has no space left where `full` says; its own output still has.
PROGRAM = """
import errno, os, runpy, sys
from playout.agents.runs import ranks
from playout.agents.runs.checkpoint import durable_io

where, run, full = sys.argv[1:]
toy = runpy.run_path(where, run_name="toy")
write = durable_io.write_all

def refuse(descriptor, data):
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if ranks.is_first() and full in path and trainer.n > 3:
        raise OSError(errno.ENOSPC, "full")
    write(descriptor, data)

def hook(trainer):
    if full == "weight" and trainer.n == 3 and ranks.rank() == 1:
        trainer.weight += 2.0**-52  # as another processor might round

durable_io.write_all = refuse
trainer = toy["ToyRanks"](9, hook)
try:
    toy["train"](trainer, toy["open_run"](run), save_every=1, console=False)
except toy["PlayoutError"] as error:
    if ranks.may_speak():
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(2)
"""
KEPT = "the last good checkpoint is 3 in "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("full", "line"),
    [
        ("state.json", "RunError: rank 0 cannot save checkpoint 4"),
        ("MANIFEST.json", "RunError: cannot save checkpoint 4"),
        ("metrics.jsonl", "RunError: cannot write "),
        ("weight", "DivergedError: ranks differ in what they have learned: rank 0 has "),
    ],
)
@pytest.mark.parametrize("local", [2, 1], ids=["one machine", "two machines"])
def test_what_rank_0_cannot_save_ends_all_with_one_line(memory_path, full, line, local):
    run = memory_path / "run"
    with begun(2, "-c", PROGRAM, TOY, run, full, LOCAL_WORLD_SIZE=local) as (ranks, _):
        codes, lines = ended(ranks)
    assert codes == [2, 2]
    (said,) = lines
    assert said.startswith(f"error: {line}") and KEPT in said
    if full != "weight":
        assert "no space left on the disk" in said
    kept = RunDir.open(run).find()
    assert kept.step == 3
    assert RunDir.open(run).load()[1]["n"] == 3
    code, _, err = job(2, "-c", PROGRAM, TOY, run, "nowhere")
    assert code == 0, err
    alone = memory_path / "alone"
    assert job(2, "-c", PROGRAM, TOY, alone, "nowhere")[0] == 0
    assert outcome(run) == outcome(alone)


def outcome(path):
    """The digests of the last checkpoint's files, and the weight after every update."""
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return RunDir.open(path).find().files, [row["train/weight"] for row in rows]

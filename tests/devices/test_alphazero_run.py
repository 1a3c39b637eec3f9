"""A whole run of self-play on the test device: rated, saved, repeated and resumed."""

from contextlib import nullcontext

import playout
import pytest
import second_device  # before anything is differentiated in this process
from playout.agents.runs.directory import RunDir

SMALL = {
    "device": second_device.NAME,
    "dtype": "float32",
    "size": "8x1",
    "simulations": 4,
    "quiet": True,
    "evaluations": 100,
    "steps": 2,
    "num_trees": 8,
    "batch_size": 32,
    "warmup_positions": 32,
    "eval_games": 4,
    "eval_positions": 10,
    "eval_simulations": 4,
    "eval_max_anchor": 4,
}


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [False, True])
def test_two_runs_on_the_second_device_are_equal_and_go_on(second, tmp_path, overlap):
    with nullcontext() if overlap else second_device.plain():
        parts = playout.alphazero(
            "tic_tac_toe", updates=3, run=tmp_path / "a", overlap=overlap, **SMALL
        )
        whole = playout.alphazero(
            "tic_tac_toe", updates=3, run=tmp_path / "b", overlap=overlap, **SMALL
        )
    files = [RunDir.open(run.path).find().files for run in (parts, whole)]
    digests = [{name: digest for name, (_, digest) in one.items()} for one in files]
    assert digests[0] == digests[1]
    assert '"eval/rating"' in (whole.path / "metrics.jsonl").read_text()
    again = playout.alphazero(resume=whole.path, updates=4, device="second", quiet=True)
    assert again.find().step == 4
    last = (again.path / "metrics.jsonl").read_text().splitlines()[-1]
    assert '"train/policy_loss"' in last

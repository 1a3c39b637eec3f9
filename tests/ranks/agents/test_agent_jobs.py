"""Training commands of agents on several ranks, as they are typed: the same bytes, one decision."""

import json

import pytest
from launch import playout
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.kills import outcome

PPO = ("ppo", "CartPole-v1", "--num-envs", 5, "--num-steps", 16, "--minibatch-size", 40)
PPO += ("--eval-episodes", 4)
TRUNK = ("pretrain-trunk", "tic_tac_toe", "--count", 600, "--size", "8x1", "--batch", 41)
GAME = ("alphazero", "tic_tac_toe", "--size", "8x1", "--simulations", 8, "--no-rating")
GAME += ("--learner.batch-size", 32)
COMMANDS = {
    "ppo": (*PPO, "--no-stop", "--eval-every", 2, "--total-timesteps", 480),
    "trunk": (*TRUNK, "--epochs", 4),
}


def train(count, run, *words):
    """Rows of the metrics of a run that a command has made, once it has ended well."""
    code, out, err = playout(count, *words, "--run", run)
    assert code == 0, err
    told = [line for line in out.splitlines() if str(run) in line]
    assert told and len(told) == len({*told}), "one rank speaks"
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_of_two_ranks_repeats_itself_byte_for_byte(name, memory_path):
    rows, again = (train(2, memory_path / str(i), *COMMANDS[name]) for i in range(2))
    assert len(rows) == len(again) > 1
    assert outcome(memory_path / "0") == outcome(memory_path / "1")
    entry = RunDir.open(memory_path / "0").find("best")
    metric = {"ppo": "eval/mean_reward", "trunk": "eval/score"}[name]
    assert entry.metric == max(row[metric] for row in rows if metric in row)


@pytest.mark.slow
def test_ranks_stop_together_where_an_evaluation_confirms_the_threshold(memory_path):
    words = (*PPO, "--reward-threshold", 5, "--total-timesteps", 100_000)
    rows = train(2, memory_path / "run", *words)
    assert len(rows) < 20 and rows[-1]["eval/confirmed_reward"] >= 5
    assert RunDir.open(memory_path / "run").find("best").step == len(rows)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "minutes"), [(TRUNK, 0.01), (GAME, 0.05)], ids=["trunk", "game"])
def test_ranks_agree_on_what_fits_into_minutes(words, minutes, memory_path):
    rows = train(2, memory_path / "run", *words, "--minutes", minutes)
    budget = RunDir.open(memory_path / "run").record["budget"]
    # A plan is corrected on the way by how long updates take, by both ranks to the same number.
    planned = [budget["total"], *(total for _, total in budget.get("corrections", []))]
    assert budget["minutes"] == minutes and rows[-1]["step"] == planned[-1]


@pytest.mark.slow
def test_four_ranks_collect_and_learn_as_two_do(memory_path):
    words = (*COMMANDS["ppo"], "--total-timesteps", 160)
    two, four = (train(count, memory_path / str(count), *words) for count in (2, 4))
    assert RunDir.open(memory_path / "4").find().ranks == 4
    for row, expected in zip(four, two, strict=True):
        for key in ("rollout/ep_rew_mean", "train/loss", "eval/mean_reward"):
            assert row.get(key, 0) == pytest.approx(expected.get(key, 0), rel=1e-4)

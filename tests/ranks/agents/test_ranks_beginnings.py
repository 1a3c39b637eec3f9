"""Runs of two ranks that begin with recorded games, or with the weights of another run."""

import json

import beginnings
import numpy as np
import playout
import pytest
from launch import launch, numbers
from launch import playout as launch_command
from playout.agents.runs.directory import RunDir


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Recorded games, and runs of self-play and of pictures to begin with."""
    return beginnings.make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def two_ranks(made):
    body = f"""
    import beginnings
    folder = {str(made)!r}
    return {{
        "recorded": beginnings.recorded(folder),
        "encoder": beginnings.encoder(folder, folder + "/ppo-2"),
        "board": beginnings.board(folder, folder + "/board-2"),
        "refused": beginnings.refused(folder, folder + "/refused"),
    }}
    """
    return launch(2, body)


@pytest.mark.slow
def test_two_ranks_learn_recorded_games_as_one_process_does(made, two_ranks):
    first, second = (rank["recorded"] for rank in two_ranks)
    alone = beginnings.recorded(str(made))
    assert first["weights"] == second["weights"] and first["begun"] == second["begun"]
    assert first["begun"] == alone["begun"], "ranks begin with the weights of the other run"
    assert first["metrics"] == pytest.approx(alone["metrics"], rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(numbers(first["weights"]), numbers(alone["weights"]), atol=2e-5)


def test_ranks_with_other_games_under_one_name_are_told_so(made, two_ranks):
    for said in (rank["refused"] for rank in two_ranks):
        assert "ranks differ in the games of --records" in said
    assert not RunDir.is_run(made / "refused") or not RunDir.open(made / "refused").checkpoints()


def test_ppo_of_two_ranks_begins_with_a_pretrained_encoder(made, two_ranks, tmp_path):
    found = [numbers(rank["encoder"]) for rank in two_ranks]
    alone = numbers(beginnings.encoder(str(made), tmp_path / "ppo-1"))
    model = RunDir.open(made / "pictures").load(only=("model",))[1]["model"]
    taught = next(tensor for tensor in model.values() if tensor.ndim == 4)
    for one in (*found, alone):
        np.testing.assert_allclose(one, taught.reshape(-1).double(), atol=1e-6)
    np.testing.assert_array_equal(*found)


def test_ppo_of_two_ranks_begins_with_a_network_of_self_play(made, two_ranks):
    model = RunDir.open(made / "four").load(only=("model",))[1]["model"]
    taught = model["stem.weight"].reshape(-1).double().numpy()
    first, second = (rank["board"] for rank in two_ranks)
    for rank in (first, second):
        np.testing.assert_array_equal(np.ravel(numbers(rank["begun"])), taught)
    np.testing.assert_array_equal(numbers(first["learned"]), numbers(second["learned"]))
    assert not np.array_equal(np.ravel(numbers(first["learned"])), taught)


@pytest.mark.slow
def test_a_job_begins_with_records_and_weights_and_plays_on(made, tmp_path):
    run = tmp_path / "run"
    words = ("--init", made / "four", "--records", made / "games.jsonl", "--record-epochs", 1)
    small = (*beginnings.SMALL, "--no-rating", "--run", run)
    code, out, err = launch_command(
        2, "alphazero", "tic_tac_toe", *words, *small, "--steps", 2, "--updates", 5
    )
    assert code == 0, err
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["records/games"] == 40 and "records/held_out_accuracy" in rows[0]
    assert "selfplay/games" not in rows[0] and rows[-1]["selfplay/positions"] > 0
    assert out.count("Learning tic_tac_toe") == 1
    assert playout.load(run).act(playout.game("tic_tac_toe").batch(1))[0] in range(9)
    # It goes on with one process, without the files, which it has behind it.
    (made / "games.jsonl").rename(made / "moved.jsonl")
    try:
        code, _, err = launch_command(1, "alphazero", "--resume", run, "--updates", 6)
    finally:
        (made / "moved.jsonl").rename(made / "games.jsonl")
    assert code == 0, err

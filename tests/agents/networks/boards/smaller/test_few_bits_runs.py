"""Runs of few bits: they play, are exported and begun from, and are not resumed."""

import playout
import pytest
import torch
from playout.agents.networks.boards.smaller.held import Held
from playout.agents.pretraining.trunk import learned_trunk, trunk_of
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import ConfigError


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    path = tmp_path_factory.mktemp("learned") / "run"
    return playout.alphazero(
        "tic_tac_toe", size="16x1", updates=1, rating=False, quiet=True, run=path
    )


@pytest.fixture(scope="module", params=["int8", "nf4"])
def held(request, learned):
    """A run of few bits, where it is without --out."""
    assert main(["export", str(learned.path), "--quantise", request.param]) == 0
    path = learned.path.with_name(f"run-{request.param}")
    return RunDir.open(path)


def refused(capsys, *line):
    """The one line with which a command ends."""
    assert main([str(word) for word in line]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.mark.slow
def test_a_run_of_few_bits_plays_and_is_looked_at(held, capsys):
    assert held.kind == "alphazero"
    for line in (
        ["match", str(held.path), "random", "--games", "4", "--simulations", "8"],
        ["inspect", str(held.path)],
        ["list", "runs", "--folder", str(held.path.parent)],
        ["eval", str(held.path), "--episodes", "4", "--simulations", "4", "--opponents", "random"],
    ):
        assert main(line) == 0, line
    capsys.readouterr()


@pytest.mark.slow
def test_a_run_of_few_bits_is_exported_with_its_own_answers(held, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    assert main(["export", str(held.path), "--format", "onnx", "--out", str(path)]) == 0
    player = playout.load(held.path)
    obs = player.game.batch(1).observe()
    logits, _ = onnxruntime.InferenceSession(str(path)).run(["logits", "values"], {"obs": obs})
    ours, _ = player.network.evaluate_obs(obs)
    assert logits == pytest.approx(ours, abs=0.05)  # the player may compute in bfloat16
    file = tmp_path / "net.safetensors"
    assert main(["export", str(held.path), "--format", "safetensors", "--out", str(file)]) == 0
    assert file.stat().st_size < path.stat().st_size
    capsys.readouterr()


def test_a_run_of_few_bits_is_begun_from_and_not_resumed(held, tmp_path, capsys):
    bits = held.config["held"]["weights"]
    for given in ([], ["--updates", "2"]):
        error = refused(capsys, "alphazero", "--resume", held.path, *given)
        assert f"holds its weights in {bits} and learns no more" in error
        assert f"--init {held.path}" in error
    with pytest.raises(ConfigError, match="learns no more"):
        playout.resume(held.path, updates=2)
    line = {"updates": 1, "rating": False, "quiet": True, "run": tmp_path / "on"}
    run = playout.alphazero("tic_tac_toe", init=str(held.path), **line)
    state = run.load(only=("model",))[1]["model"]
    assert state["blocks.0.conv1.weight"].dtype == torch.float32


def test_the_trunk_of_few_bits_answers_as_before_and_learns(held):
    trunk = trunk_of(held)
    assert not any(isinstance(part, Held) for part in trunk.modules())
    assert dict(trunk.net.named_parameters())["blocks.0.conv1.weight"].requires_grad
    codes = learned_trunk(held.load(only=("model", "network"))[1], "a run").eval()
    board = torch.from_numpy(playout.game("tic_tac_toe").batch(1).observe())
    with torch.no_grad():
        torch.testing.assert_close(trunk.eval().vector(board), codes.vector(board))


def test_a_run_is_held_in_few_bits_once(held, tmp_path, capsys):
    out = ("--out", tmp_path / "again")
    error = refused(capsys, "export", held.path, "--quantise", "nf4", *out)
    assert "already" in error and not any(tmp_path.iterdir())


def test_bits_that_a_format_or_a_run_cannot_have_are_refused(learned, tmp_path, capsys):
    whole = ("export", learned.path, "--out", tmp_path / "x")
    assert "say --quantise" in refused(capsys, *whole, "--format", "run")
    error = refused(capsys, *whole, "--format", "safetensors", "--quantise", "int8")
    assert "makes a run, or onnx" in error
    error = refused(capsys, *whole, "--format", "onnx", "--quantise", "nf4")
    assert "ONNX Runtime multiplies bytes" in error
    error = refused(capsys, *whole, "--format", "run", "--quantise", "dynamic")
    assert "use --format onnx" in error
    error = refused(capsys, *whole, "--quantise", "int8", "--no-check")
    assert "--no-check does nothing for a run" in error
    assert not any(tmp_path.iterdir())
    error = refused(capsys, "export", learned.path, "--out", learned.path, "--quantise", "int8")
    assert "is a run already" in error
    ppo = playout.ppo("CartPole-v1", total_timesteps=64, num_envs=2, num_steps=32, quiet=True,
                      run=tmp_path / "ppo")  # fmt: skip
    assert "--quantise is for" in refused(capsys, "export", ppo.path, "--quantise", "int8")

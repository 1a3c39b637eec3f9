"""`playout ppo --device second` to the last verb: learned, resumed, measured, played, matched."""

import json
from importlib.util import find_spec

import numpy as np
import playout
import pytest
import torch
from playout import cli
from playout.agents.networks.config import NetworkConfig
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.ppo.league import environments
from playout.agents.ppo.league.trainer import make_self_play
from playout.agents.runs.directory import RunDir
from second_device import crossings, full

SMALL = ("--num-envs", "4", "--num-steps", "8", "--minibatch-size", "16", "--num-epochs", "1")
MACHINE = ("--device", "second")


def weights(path):
    _, state = RunDir.open(path).load()
    return state["model"]


def learn(path, steps, *extra, env="CartPole-v1"):
    command = ["ppo", env, *MACHINE, *SMALL, "--eval-episodes", "2", "--no-stop", "--quiet"]
    return cli.main([*command, "--run", str(path), "--total-timesteps", str(steps), *extra])


@pytest.mark.slow
def test_a_run_learns_resumes_and_is_measured_on_a_device(second, tmp_path, capsys):
    assert learn(tmp_path / "run", 64) == 0
    again = ["ppo", "--resume", str(tmp_path / "run"), *MACHINE, "--total-timesteps", "128"]
    assert cli.main([*again, "--quiet"]) == 0
    for extra in ((), ("--stochastic",)):
        path = tmp_path / "found.json"
        command = ["eval", str(tmp_path / "run"), *MACHINE, "--episodes", "2", "--json", str(path)]
        assert cli.main([*command, *extra]) == 0
        assert json.loads(path.read_text())["mean_reward"] > 0
    player = playout.load(tmp_path / "run", device="second")
    with crossings() as found:
        actions = player.act(np.zeros((3, 4), np.float32))
    assert actions.shape == (3,) and found.total == 2
    elsewhere = playout.load(tmp_path / "run", device="cpu")
    assert np.array_equal(elsewhere.act(np.zeros((3, 4), np.float32)), actions)
    out = tmp_path / f"policy.{'onnx' if find_spec('onnxscript') else 'safetensors'}"
    assert cli.main(["export", str(tmp_path / "run"), "--out", str(out), *MACHINE]) == 0
    assert out.exists()


def self_play(device, **collect):
    return make_self_play(
        "tic_tac_toe",
        total_timesteps=10_000,
        seed=0,
        ppo=PPOConfig(num_epochs=1, minibatch_size=16),
        network=NetworkConfig(network="mlp", hidden=(16,)),
        collect=CollectConfig(num_envs=4, num_steps=8, eval_episodes=4, eval_every=1, **collect),
        device=device,
    )


@pytest.mark.slow
def test_self_play_crosses_once_a_move_each_way_and_resumes(second, monkeypatch):
    answers = []
    choose = environments.choose_moves
    monkeypatch.setattr(
        environments,
        "choose_moves",
        lambda *args, **options: answers.append(1) or choose(*args, **options),
    )
    whole = self_play(second, normalize_obs=True)
    whole.version_every = 1
    for _ in range(3):
        answers.clear()
        with crossings() as found:
            whole.update()
        assert found.total - 2 * (8 + len(answers)) <= 5, found
    state = whole.state_dict()
    other = self_play(second, normalize_obs=True)
    other.version_every = 1
    other.load_state_dict(state)
    assert whole.update() == other.update()
    pairs = zip(whole.policy.parameters(), other.policy.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert "eval/mean_reward" in whole.evaluate()


@pytest.mark.slow
def test_a_game_learned_on_a_device_is_matched_and_measured_there(second, tmp_path, capsys):
    run = tmp_path / "run"
    assert learn(run, 64, "--self-play", env="tic_tac_toe") == 0
    assert cli.main(["match", str(run), "random", "--games", "2", *MACHINE]) == 0
    assert cli.main(["match", f"{run}:4", "random", "--games", "2", *MACHINE]) == 0
    assert "random" in capsys.readouterr().out


def test_an_unknown_or_a_full_device_is_one_line_and_leaves_nothing(second, tmp_path, capsys):
    assert learn(tmp_path / "run", 64, "--device", "warp") == 2
    assert learn(tmp_path / "run", 64, "--device", "meta") == 2
    with full():
        assert learn(tmp_path / "run", 64) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3 and "unknown device 'warp'" in lines[0]
    assert "holds no numbers" in lines[1] and "out of memory" in lines[2]
    assert not (tmp_path / "run").exists()


def test_the_note_says_what_computes(second, tmp_path, capsys):
    command = ["ppo", "CartPole-v1", *SMALL, "--run", str(tmp_path / "run")]
    command += ["--total-timesteps", "32", "--eval-episodes", "2"]
    assert cli.main([*command, *MACHINE, "--dtype", "bfloat16"]) == 0
    assert "parameters on second:0 in bfloat16, 1 thread(s)" in capsys.readouterr().out

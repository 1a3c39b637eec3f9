"""`playout ppo` as a person uses it: presets, flags, faults, kill and resume, what follows."""

import json
import signal
import sys
import time
from pathlib import Path

import forked
import gymnasium as gym
import numpy as np
import playout
import pytest
from playout import cli
from playout.agents.commands.ppo import Command
from playout.agents.ppo import run as ppo_run
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions
from playout.errors import ConfigError, DivergedError, EnvironmentFault, RunError
from ppo_worlds import Bandit, Counter, Recall

CLOCKS = {"time/elapsed", "time/fps"}


HERE = Path(__file__).parents[1]


SMALL = {"num_envs": 4, "num_steps": 16, "minibatch_size": 32, "eval_episodes": 8, "quiet": True}


def flags(*extra):
    return ["--num-envs", "4", "--num-steps", "16", "--eval-episodes", "8", "--quiet", *extra]


def weights(path, step="latest"):
    return RunDir.open(path).load(step)[1]["model"]


def test_the_command_trains_and_the_run_can_act(tmp_path, capsys):
    run = tmp_path / "run"
    code = cli.main(
        [
            "ppo",
            "CartPole-v1",
            "--seed",
            "1",
            "--run",
            str(run),
            "--total-timesteps",
            "300",
            *flags(),
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert code == 0 and f"run {run}" in lines and "|" not in "".join(lines[-3:])
    for verb, line in zip(("eval", "play", "export"), lines[-3:], strict=True):
        assert line.endswith(f"  playout {verb} {run}")
    player = playout.load(run)
    envs = gym.make_vec("CartPole-v1", num_envs=6)
    observations, _ = envs.reset(seed=0)
    actions = player.act(observations)
    assert actions.shape == (6,) and actions.dtype == np.int64 and set(actions) <= {0, 1}
    assert np.array_equal(actions, player.act(observations))
    assert player.act(observations[0]) == actions[0]
    envs.step(actions)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert lines[-1]["time/total_timesteps"] >= 300


def test_an_unknown_option_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean learning_rate"):
        playout.ppo("CartPole-v1", learning_rat=1e-3, run=tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["natrue", "my_module.Net"])
def test_a_network_that_is_not_there_is_refused_over_vectors_too(tmp_path, name):
    with pytest.raises(ConfigError, match=f"unknown network '{name}'; known are auto, mlp, nature"):
        playout.ppo("CartPole-v1", network=name, total_timesteps=300, run=tmp_path / "x", **SMALL)
    assert not (tmp_path / "x").exists()


def test_errors_are_one_line_and_leave_no_folder(tmp_path, capsys):
    for env, message in (
        ("NoSuch-v1", "no environment"),
        ("LunarLander-v3", '(pip install "gymnasium[box2d]")'),
    ):
        assert cli.main(["ppo", env, "--run", str(tmp_path / "r"), *flags()]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert cli.main(["ppo"]) == 2
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("cores", [1, 2])
def test_a_run_that_fails_in_its_first_update_leaves_no_folder(tmp_path, monkeypatch, cores):
    # Of one core nothing is measured first: it fails in the update itself.
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)

    class Ends(Bandit):
        def step(self, action):
            raise KeyError("lost")

    with pytest.raises(EnvironmentFault, match="lost"):
        playout.ppo(Ends, run=tmp_path / "runs" / "r", total_timesteps=300, **SMALL)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["aec", "parallel"])
def test_a_package_that_pettingzoo_lacks_is_named(tmp_path, capsys, monkeypatch, kind):
    (tmp_path / "needs_pygame.py").write_text("import pygame")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert cli.main(["ppo", f"{kind}:needs_pygame", "--run", str(tmp_path / "r"), *flags()]) == 2
    assert "(pip install pygame)" in capsys.readouterr().err


def test_lr_is_short_for_learning_rate():
    assert cli.parse(Command, ["CartPole-v1", "--lr", "0.5"], "ppo").ppo.learning_rate == 0.5


def test_a_function_that_makes_an_environment_can_be_given(tmp_path):
    seen = []
    run = playout.ppo(
        Bandit,
        run=tmp_path / "r",
        total_timesteps=200,
        callbacks=[lambda trainer, metrics: seen.append((trainer.steps, len(metrics)))],
        **SMALL,
    )
    assert len(seen) >= 3 and seen[-1][0] >= 200
    assert playout.load(run.path).act(np.ones((2, 1))).shape == (2,)


def test_a_vector_environment_can_be_given(tmp_path):
    envs = gym.make_vec("CartPole-v1", num_envs=4, vectorization_mode="sync")
    options = {key: value for key, value in SMALL.items() if key != "num_envs"}
    run = playout.ppo(envs, run=tmp_path / "r", total_timesteps=200, num_envs=4, **options)
    assert run.find("latest").step >= 3


def test_resume_to_a_larger_budget_equals_one_long_run(tmp_path):
    common = {"run": None, "seed": 3, "anneal_lr": False, **SMALL}
    whole = playout.ppo("CartPole-v1", **{**common, "run": tmp_path / "a"}, total_timesteps=400)
    part = playout.ppo("CartPole-v1", **{**common, "run": tmp_path / "b"}, total_timesteps=200)
    playout.ppo("CartPole-v1", resume=part.path, total_timesteps=400, quiet=True)
    first, second = weights(whole.path), weights(part.path)
    assert all((first[key] == second[key]).all() for key in first)


def test_a_resumed_run_keeps_its_settings(tmp_path, capsys):
    run = tmp_path / "r"
    common = ["ppo", "CartPole-v1", "--run", str(run), "--total-timesteps", "100"]
    assert cli.main([*common, *flags()]) == 0
    code = cli.main(["ppo", "--resume", str(run), "--learning-rate", "0.5", "--quiet"])
    assert code == 2
    error = capsys.readouterr().err
    assert "ppo.learning_rate (was" in error and error.count("\n") == 1
    with pytest.raises(ConfigError, match="learns CartPole-v1"):
        playout.ppo("Pendulum-v1", resume=run)


def child(run, total, kill_after=None):
    """Train in another process, perhaps killed some seconds after its first checkpoint.

    Who is to be killed waits for it before the end.
    """
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import playout\n"
        "from ppo_worlds import Counter\n"
        "kind, run, total = sys.argv[2], sys.argv[3], int(sys.argv[4])\n"
        "env = 'CartPole-v1' if kind == 'native' else Counter\n"
        "options = dict(total_timesteps=total, quiet=True)\n"
        "import os\n"
        "if os.path.exists(run): options['resume'] = run\n"
        "else: options.update(run=run, seed=5, num_envs=4, num_steps=16, minibatch_size=32,\n"
        "    save_every=1e-6, processes=0, stop=False)\n"
        "import time\n"
        "def hold(trainer, metrics):\n"
        "    if trainer.steps >= int(sys.argv[5]): time.sleep(1000)\n"
        "playout.ppo(env, **options, callbacks=[hold])\n"
    )
    kind = "native" if "native" in run.name else "foreign"
    last = 1 << 40 if kill_after is None else total // 2
    process = forked.start("-c", code, HERE, kind, run, total, last)
    if kill_after is not None:
        while not (run / "LATEST").exists():
            assert process.poll() is None, process.err
            time.sleep(0.005)
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return
    code, _, error = forked.finish(process)
    assert code == 0, error


@pytest.mark.parametrize("kind", ["native", "foreign"])
def test_kill_9_and_resume_gives_the_bytes_of_a_run_that_was_never_stopped(tmp_path, kind):
    whole, killed = tmp_path / f"{kind}-whole", tmp_path / f"{kind}-killed"
    child(whole, 2000)
    child(killed, 2000, kill_after=0.05)
    assert RunDir.open(killed).find("latest").step < RunDir.open(whole).find("latest").step
    child(killed, 2000)
    first, second = weights(whole), weights(killed)
    assert all((first[key] == second[key]).all() for key in first)

    def metrics(path):
        lines = [json.loads(line) for line in (path / "metrics.jsonl").open()]
        return [{k: v for k, v in e.items() if k not in CLOCKS} for e in lines]

    assert metrics(whole) == metrics(killed)


def test_a_fault_of_the_environment_saves_what_was_learned_and_says_so(tmp_path):
    run = tmp_path / "r"

    def late():
        return Counter(fault="raise", at=40)

    with pytest.raises(EnvironmentFault, match=r"motor.*last good checkpoint is 2 in") as caught:
        playout.ppo(late, run=run, total_timesteps=1000, processes=0, **SMALL)
    assert "\n" not in str(caught.value)
    assert RunDir.open(run).find("latest").step == 2
    resumed = playout.ppo(lambda: Counter(), resume=run, total_timesteps=300, quiet=True)
    assert resumed.find("latest").step > 2


def test_a_nan_reward_stops_the_run_and_names_the_last_good_checkpoint(tmp_path):
    with pytest.raises(DivergedError, match=r"reward of row 0 .* is nan; no checkpoint was saved"):
        playout.ppo(
            lambda: Counter(fault="reward_nan"),
            run=tmp_path / "r",
            total_timesteps=500,
            processes=0,
            **SMALL,
        )


@pytest.mark.slow
def test_eval_play_and_export_work_on_a_run(tmp_path, capsys, monkeypatch):
    run = playout.ppo("CartPole-v1", run=tmp_path / "r", total_timesteps=200, **SMALL).path
    report = tmp_path / "e.json"
    assert cli.main(["eval", str(run), "--episodes", "6", "--json", str(report)]) == 0
    assert "CartPole-v1" in capsys.readouterr().out
    assert json.loads(report.read_text())["episodes"] == 6
    assert cli.main(["eval", str(run), "--episodes", "4", "--stochastic"]) == 0
    assert cli.main(["play", str(run), "--out", str(tmp_path / "x.gif")]) == 0
    assert (tmp_path / "x.gif").read_bytes()[:3] == b"GIF"
    capsys.readouterr()
    for out, said in (("vid", "use .gif, .webp or .png"), ("/proc/none/x.gif", "does not exist")):
        assert cli.main(["play", str(run), "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert said in captured.err and captured.out == ""  # before the episode is played
    assert cli.main(["export", str(run), "--format", "safetensors"]) == 0
    assert (run / "policy.safetensors").exists()
    assert cli.main(["eval", str(run), "--which", "77"]) == 2
    assert "no checkpoint 77" in capsys.readouterr().err


@pytest.mark.slow
def test_the_curve_is_drawn_on_request(tmp_path):
    run = playout.ppo("CartPole-v1", run=tmp_path / "r", total_timesteps=200, plot=True, **SMALL)
    assert (run.path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9')  # as a kill leaves it
    assert ppo_run.plot_run(run) == run.path / "curve.png"


def test_code_named_by_a_run_is_not_imported_unless_trusted(tmp_path, monkeypatch):
    run = playout.ppo("CartPole-v1", run=tmp_path / "r", total_timesteps=64, **SMALL)
    (tmp_path / "evil_networks.py").write_text("open('owned', 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = dict(run.config)
    config["network"] = {**config["network"], "network": "evil_networks:X"}
    with run.lock():
        run.change_config(**config)
    with pytest.raises(ConfigError, match="--trust evil_networks"):
        playout.load(run.path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"env": "os:system"}, {"command": "touch ran"}),
        ({"env": "parallel:os:system"}, {"command": "touch ran"}),
        ({"env": "os:system(command='touch ran')"}, {}),
        ({"env": "subprocess:Popen"}, {"args": ["touch", "ran"]}),
        ({"env": "aec:playout.own_code:import_module"}, {"name": "ran_code"}),
        ({"env": "gymnasium:make"}, {"id": "ran_code:X-v0"}),
        ({"env": "aec:ran_code:x/y"}, {}),
        ({"env": "helps:system"}, {"command": "touch ran"}),
        ({"network": "ran_code:X"}, {}),
        ({"network": "subprocess:Popen"}, {}),
    ],
)
def test_a_run_calls_nothing_that_is_not_the_persons_own(
    changes, options, tmp_path, monkeypatch, capsys
):
    run = playout.ppo("CartPole-v1", run=tmp_path / "r", total_timesteps=64, **SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("playout.own_code._trusted", set())
    (tmp_path / "ran_code.py").write_text("open('ran', 'w')\n")
    (tmp_path / "helps.py").write_text("from os import system\n")
    config = dict(run.config)
    if "network" in changes:
        changes = {"network": {**config["network"], **changes}}
    config |= {**changes, "collect": {**config["collect"], "env_options": options}}
    with run.lock():
        run.change_config(**config)
    for line in ("eval r", "play r --out x.gif", "ppo --resume r --total-timesteps 128"):
        assert cli.main([*line.split(), "--trust", "helps"]) == 2
        assert capsys.readouterr().err.count("error: ") == 1
        time.sleep(0.02)  # for a program that was started
        assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_recurrent_player_remembers_between_calls_and_forgets_on_request(tmp_path):
    options = {**SMALL, "recurrent": "gru", "recurrent_size": 8}
    run = playout.ppo(Recall, run=tmp_path / "r", total_timesteps=64, **options)
    player = playout.load(run.path)
    cue, blank = np.array([[1, 0, 0]], np.float32), np.zeros((1, 3), np.float32)
    player.act(cue)
    after_cue = player.state[0][0].clone()
    player.act(blank)
    remembered = player.state[0][0].clone()
    player.act(blank, episode_starts=[True])
    assert not (player.state[0][0] == remembered).all()
    player.reset()
    player.act(cue)
    assert (player.state[0][0] == after_cue).all()


def test_wrong_observations_are_refused_in_one_line(tmp_path):
    run = playout.ppo("CartPole-v1", run=tmp_path / "r", total_timesteps=64, **SMALL)
    player = playout.load(run.path)
    with pytest.raises(ValueError, match=r"must have shape \[N, 4\], not \[2, 5\]"):
        player.act(np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"must have shape \[N, 4\], not \[5\]"):
        player.act(np.zeros(5))
    with pytest.raises(ValueError, match="dictionary with 'observation'"):
        player.act({"obs": np.zeros((2, 4))})
    with pytest.raises(ValueError, match="NaN"):
        player.act(np.full((2, 4), np.nan))
    with pytest.raises(RunError, match="no checkpoint"):
        playout.load(run.path, which=12345)


def test_settings_that_cannot_be_leave_no_folder(tmp_path):
    for bad in ({"seed": -1}, {"save_every": -1}, {"processes": -2}, {"total_timesteps": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            playout.ppo("CartPole-v1", run=tmp_path / "r", **{**SMALL, **bad})
    assert not (tmp_path / "r").exists()


def test_a_run_made_with_a_nameless_function_asks_for_it_and_takes_it(tmp_path, capsys):
    run = playout.ppo(
        lambda: Counter(), run=tmp_path / "r", total_timesteps=64, processes=0, **SMALL
    )
    assert cli.main(["eval", str(run.path), "--episodes", "2"]) == 2
    said = capsys.readouterr().err
    assert "was trained in Python on <lambda>" in said and said.count("\n") == 1
    found = ppo_run.evaluate(run, EvalOptions(episodes=2), game=Counter)
    assert found["mean_ep_length"] == 5.0


def test_a_vector_environment_that_is_handed_over_is_copied_for_training_and_evaluation(tmp_path):
    envs, calls = gym.vector.SyncVectorEnv([Counter] * 4), []
    envs.reset = envs.close = lambda **given: calls.append(1)
    run = playout.ppo(envs, run=tmp_path / "r", total_timesteps=200, eval_every=1, **SMALL)
    assert ppo_run.evaluate(run, EvalOptions(episodes=2), game=envs)["mean_ep_length"] == 5.0
    assert not calls


@pytest.mark.slow
def test_to_name_the_environment_again_is_trust_and_another_is_refused(tmp_path, capsys):
    (tmp_path / "own_counter.py").write_text("from ppo_worlds import Counter as Mine\n")
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from playout.cli import main\n"
        "print([main(arguments) for arguments in json.loads(sys.argv[2])])"
    )
    run = playout.ppo(Counter, run=tmp_path / "r", total_timesteps=64, processes=0, **SMALL)
    with run.lock():
        run.change_config(env="own_counter:Mine")
    resume = ["ppo", "--resume", "r", "--quiet", "--total-timesteps", "128"]
    words = [resume, [*resume[:1], "CartPole-v1", *resume[1:]], ["ppo", "own_counter:Mine"]]
    words[2] += resume[1:]
    _, out, err = forked.run("-P", "-c", code, HERE, json.dumps(words), folder=tmp_path)
    assert out.splitlines()[-1] == "[2, 2, 0]", err
    assert "--trust own_counter" in err and "not CartPole-v1" in err

"""Ranks agree on what they run and whether it goes on before they say anything else."""

import json

import pytest
from launch import begun, ended, environment, launch, playout
from playout.agents.runs.directory import RunDir
from playout.agents.runs.ranks import agreement

TINY = ("ppo", "CartPole-v1", "--total-timesteps", 64, "--num-envs", 4, "--num-steps", 8)
TINY = (*TINY, "--minibatch-size", 16, "--eval-episodes", 2, "--no-stop", "--quiet")


def told(restarts=0, **changed):
    """A rank's statement."""
    words = ["ppo", "--seed", "1"]
    alike = {"versions": {"torch": "2.1", "numpy": "2.0"}, "code": "a", "words": words}
    return json.dumps([{**alike, **changed}, restarts])


def test_all_ranks_learn_how_often_any_of_them_has_begun_again():
    assert agreement.decided(agreement.decide([told(0), told(2), told(1)])) == ("", 2)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"versions": {"torch": "2.2", "numpy": "2.0"}},
            "versions: rank 0 has torch '2.1', rank 2 has torch '2.2'",
        ),
        ({"code": "b"}, "code: rank 0 has a, rank 2 has b"),
        ({"words": ["ppo", "--seed", "3"]}, "words: rank 0 has --seed 1, rank 2 has --seed 3"),
        (
            {"words": ["ppo", "--seed", "1", "--stop"]},
            "words: rank 0 has nothing more, rank 2 has --stop",
        ),
        ({"words": ["alphazero"]}, "words: rank 0 has ppo --seed 1, rank 2 has alphazero"),
    ],
    ids=["versions", "code", "a value", "more words", "another command"],
)
def test_the_first_rank_that_differs_is_named_with_what_differs(changed, line):
    decision = agreement.decide([told(), told(), told(**changed), told(**changed)])
    assert agreement.decided(decision)[0] == f"ranks differ in {line}"


def test_each_machine_may_have_its_own_device_and_threads(monkeypatch):
    said = []
    for words in (["--device=cpu", "--threads", "3", "--seed", "1"], ["--seed", "1"]):
        monkeypatch.setattr("sys.argv", ["playout", "ppo", *words])
        said.append(agreement.statement())
    assert said[0] == said[1]
    monkeypatch.setattr("sys.argv", ["playout", "ppo", "--seed", "2"])
    assert agreement.statement() != said[0]


# One learns alone and the other plays against itself: neither waits for what the other says.
@pytest.mark.slow
@pytest.mark.parametrize("local", [2, 1], ids=["one machine", "two machines"])
def test_ranks_of_other_commands_end_with_one_line_before_anything_is_made(memory_path, local):
    run = memory_path / "run"
    words = ("-m", "playout", *TINY, "--run", run)
    each = [((), {}), (("--population", 2), {})]
    with begun(2, *words, each=each, LOCAL_WORLD_SIZE=local) as (ranks, _):
        codes, lines = ended(ranks)
    assert codes == [2, 2]
    difference = "rank 0 has nothing more, rank 1 has --population 2"
    assert lines == [f"error: ranks differ in their command: {difference}"]
    assert not run.exists()


@pytest.mark.slow
def test_a_job_goes_on_in_its_run_whatever_its_machines_have_counted(memory_path):
    run = memory_path / "run"
    words = (*TINY, "--run", run)
    counts = [((), {"TORCHELASTIC_RESTART_COUNT": number}) for number in (0, 1)]
    assert playout(2, *words, TORCHELASTIC_RUN_ID="mine")[0] == 0
    begun = RunDir.open(run).record
    assert begun["job"] == "mine"
    # Where a machine comes instead of another, nobody may have counted.
    code, _, err = playout(2, *words, TORCHELASTIC_RUN_ID="mine", LOCAL_WORLD_SIZE=1)
    assert code == 0, err
    code, _, err = playout(2, *words, TORCHELASTIC_RUN_ID="none", each=counts, LOCAL_WORLD_SIZE=1)
    assert code == 0, err
    assert RunDir.open(run).id == begun["id"]
    for name in ("another", "none"):
        code, _, err = playout(2, *words, TORCHELASTIC_RUN_ID=name)
        assert code == 2 and "is a run already" in err


@pytest.mark.slow
def test_a_job_goes_back_to_a_checkpoint_once_however_often_it_begins(memory_path):
    run = memory_path / "run"
    body = f"""
        import playout
        playout.ppo(
            "CartPole-v1", num_envs=4, num_steps=8, minibatch_size=16, total_timesteps=64,
            eval_episodes=2, stop=False, save_every=1e-9, quiet=True, {{where}},
        )
        return len(list(Path({str(run)!r}).glob("abandoned/*")))
        """
    launch(2, body.format(where=f"run={str(run)!r}"), TORCHELASTIC_RUN_ID="first")
    again = body.format(where=f"resume={str(run)!r}, from_step=1")
    for name, times in [("second", 1), ("second", 1), ("third", 2)]:
        assert launch(2, again, TORCHELASTIC_RUN_ID=name) == [times, times]


ENVIRONMENT = """
import gymnasium as gym
import numpy as np

class Coin(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {{}}

    def step(self, action):
        return np.zeros(1, np.float32), {pays} * float(action), True, False, {{}}
"""


@pytest.mark.slow
def test_ranks_whose_machines_hold_other_code_of_ones_own_are_refused(memory_path):
    each = []
    for pays in (1, 2):
        folder = memory_path / f"machine-{pays}"
        folder.mkdir()
        (folder / "coins.py").write_text(ENVIRONMENT.format(pays=pays))
        each.append(((), {"PYTHONPATH": f"{folder}:{environment()['PYTHONPATH']}"}))
    words = [*TINY, "--run", memory_path / "run"]
    words[1] = "coins:Coin"
    code, _, err = playout(2, *words, each=each)
    assert code == 2
    assert "error: ranks differ in code of your own: rank 0 has coins '" in err
    assert err.count("error: ") == 1
    assert not (memory_path / "run").exists()


@pytest.mark.slow
def test_settings_that_a_program_gives_only_one_rank_are_refused_before_they_are_used(memory_path):
    found = launch(
        2,
        f"""
        import playout
        from playout.errors import ConfigError
        said = []
        for more in ({{"seed": ranks.rank()}}, {{"num_envs": 4 + 4 * ranks.rank()}}):
            try:
                playout.ppo("CartPole-v1", run={str(memory_path / "run")!r}, **more)
            except ConfigError as error:
                said.append(str(error))
        return said
        """,
    )
    said = [
        "ranks differ in settings: rank 0 has seed 0, rank 1 has seed 1",
        "ranks differ in settings: rank 0 has collect.num_envs 4, rank 1 has collect.num_envs 8",
    ]
    assert found == [said, said]
    assert not (memory_path / "run").exists()

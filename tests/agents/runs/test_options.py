"""Starting and resuming a run: what is kept, what may change, and budgets in minutes."""

import time
from dataclasses import dataclass, fields

import numpy as np
import pytest
from playout.agents.pretraining.budget import plan
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import (
    TrainingOptions,
    make_command,
    open_run,
    resumed,
    run_options_last,
)
from playout.errors import ConfigError, RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    env: str = ""
    lr: float = 0.1
    total: int = 10
    sizes: tuple[int, ...] = (1, 2)
    minutes: float | None = None


def start(folder, **options):
    return open_run(make_command(Command, run=folder, **options), kind="toy", name="X")


def resume(folder, **options):
    command = make_command(Command, resume=folder, **options)
    return open_run(command, kind="toy", name="X", may_change=("total", "minutes"))


def test_a_run_stores_its_settings_but_not_how_it_was_started(tmp_path):
    run = start(tmp_path / "r", env="E", seed=4, quiet=True)
    assert run.seed == 4
    assert run.config == {
        "seed": 4,
        "env": "E",
        "lr": 0.1,
        "total": 10,
        "sizes": [1, 2],
        "minutes": None,
        "device": "auto",
        "dtype": "auto",
        "threads": 0,
    }


def test_extra_tables_are_stored_beside_the_flags_and_ignored_on_resume(tmp_path):
    command = make_command(Command, run=tmp_path / "r", env="E")
    open_run(command, kind="toy", name="E", extra={"ppo": {"gamma": 0.9}})
    assert resume(tmp_path / "r").config["ppo"] == {"gamma": 0.9}


def test_resuming_takes_what_is_not_given_from_the_run(tmp_path):
    start(tmp_path / "r", env="E", lr=0.5, seed=4, sizes=(7,))
    command = resumed(Command, tmp_path / "r")
    assert (command.env, command.lr, command.seed, command.sizes) == ("E", 0.5, 4, (7,))
    assert resume(tmp_path / "r").config["lr"] == 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Later(Command):
    depth: int = 3


def test_a_setting_that_came_after_a_run_has_its_default_there(tmp_path):
    start(tmp_path / "r", env="E")
    same = make_command(Later, resume=tmp_path / "r")
    assert open_run(same, kind="toy", name="X").config["env"] == "E"
    other = make_command(Later, resume=tmp_path / "r", depth=4)
    with pytest.raises(ConfigError, match=r"depth \(was 3, now 4\)"):
        open_run(other, kind="toy", name="X")


def test_options_that_every_command_has_are_shown_after_its_own():
    assert [f.name for f in fields(run_options_last(Later))] == [
        *("env", "lr", "total", "sizes", "minutes", "depth"),
        *("device", "dtype", "threads", "trust"),
        *("run", "resume", "from_step", "seed", "quiet"),
    ]


def test_settings_that_may_not_change_are_listed(tmp_path):
    start(tmp_path / "r", env="E")
    with pytest.raises(ConfigError, match=r"env \(was 'E', now 'F'\), lr \(was 0\.1, now 0\.2\)"):
        resume(tmp_path / "r", env="F", lr=0.2, total=20)
    assert RunDir.open(tmp_path / "r").config["total"] == 10


def test_settings_that_may_change_are_changed_and_remembered(tmp_path):
    start(tmp_path / "r", env="E")
    run = resume(tmp_path / "r", total=20)
    assert run.config["total"] == 20
    assert RunDir.open(tmp_path / "r").record["changes"][0]["to"] == {"total": 20}


def test_going_back_to_an_earlier_checkpoint(tmp_path):
    run = start(tmp_path / "r")
    for n in (1, 2, 3):
        run.save(n, {"n": n})
    assert resume(tmp_path / "r", from_step=2).load()[0] == 2
    with pytest.raises(RunError, match="no checkpoint 9"):
        resume(tmp_path / "r", from_step=9)
    with pytest.raises(ConfigError, match="goes with --resume"):
        start(tmp_path / "s", from_step=1)


def test_a_run_of_another_kind_is_not_resumed(tmp_path):
    start(tmp_path / "r")
    command = make_command(Command, resume=tmp_path / "r")
    with pytest.raises(ConfigError, match="of kind toy"):
        open_run(command, kind="ppo", name="x")
    with pytest.raises(ConfigError, match="leave out --run"):
        resume(tmp_path / "r", run=tmp_path / "elsewhere")


def test_new_runs_get_numbered_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [
        open_run(make_command(Command), kind="toy", name="playout/CartPole-v1").path
        for _ in range(2)
    ]
    assert [str(path) for path in paths] == [
        "runs/playout-cartpole-v1-1",
        "runs/playout-cartpole-v1-2",
    ]


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean sizes"):
        make_command(Command, size=(1,))
    with pytest.raises(ConfigError, match="lr must be float"):
        make_command(Command, lr="fast")


def work():
    time.sleep(0.001)
    return 5


def test_minutes_become_a_count_once_and_for_all(tmp_path):
    run = start(tmp_path / "r")
    total = plan(run, minutes=2, unit="games", measure=work, seconds=0.05)
    assert 120 * 5 * 1 < total < 120 * 5 * 1000

    def fail():
        raise AssertionError("measured again")

    again = RunDir.open(run.path)
    assert plan(again, minutes=2, unit="games", measure=fail) == total
    longer = plan(again, minutes=4, unit="games", measure=fail)
    assert abs(longer - 2 * total) <= 1
    assert RunDir.open(run.path).record["budget"]["total"] == longer


def test_work_that_takes_longer_than_the_calibration_still_counts(tmp_path):
    run = start(tmp_path / "r")
    fastest = 5 / 0.001 * 0.6  # units in 0.01 minutes
    assert 1 < plan(run, minutes=0.01, unit="x", measure=work, seconds=1e-9) < fastest
    assert plan(start(tmp_path / "s"), minutes=1e-9, unit="x", measure=work) == 1


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_impossible_minutes_are_refused(tmp_path, minutes):
    with pytest.raises(ConfigError, match="positive number"):
        plan(start(tmp_path / "r"), minutes=minutes, unit="x", measure=work)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 2**63}])
def test_a_seed_that_cannot_be_leaves_no_folder_behind(tmp_path, wrong):
    with pytest.raises(ConfigError, match="--seed must be from 0"):
        start(tmp_path / "r", **wrong)
    assert not (tmp_path / "r").exists()


def test_what_is_given_to_a_run_that_goes_on_is_checked_and_converted(tmp_path):
    path = tmp_path / "r"
    start(path, env="E")
    for wrong, message in (
        ({"totl": 5}, "no setting 'totl'; did you mean total"),
        ({"totl": len}, "no setting 'totl'; did you mean total"),  # what no option holds
        ({"minutes": "5"}, "minutes must be float, not '5'"),
        ({"threads": "x"}, "threads must be int, not 'x'"),
    ):
        with pytest.raises(ConfigError, match=message):
            resume(path, **wrong)
    again = resumed(Command, path, run=str(path), sizes=[3], minutes=2, total=np.int64(20))
    assert (again.run, again.resume, again.sizes) == (path, path, (3,))
    assert type(again.minutes) is float and type(again.total) is int
    assert resume(path, run=str(path)).path == path

"""The run directory: making, opening, locking, and which checkpoints it keeps."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from playout.agents.runs.checkpoint import durable_io
from playout.agents.runs.directory import RunDir
from playout.errors import CheckpointError, ConfigError, RunError


@pytest.fixture
def run(tmp_path):
    config = {
        "env": "X-v0",
        "lr": 1e-3,
        "sizes": (64, 64),
        "kl": None,
        "net": {"act": None, "n": 2},
    }
    return RunDir.create(tmp_path / "r", kind="toy", config=config, seed=7)


def state(n):
    return {"model": {"w": np.full(3, n)}, "n": n}


def steps(run):
    return [entry.step for entry in run.checkpoints()]


def test_an_opened_run_knows_what_the_created_one_did(run):
    again = RunDir.open(run.path)
    assert (again.kind, again.seed, again.id) == ("toy", 7, run.id)
    assert again.config == run.config
    assert again.config["sizes"] == [64, 64] and again.config["net"] == {"act": None, "n": 2}
    assert {"versions", "machine", "commit", "command", "created"} <= set(again.record)


def test_config_toml_is_for_people_and_says_what_is_not_set(run):
    import tomllib

    text = (run.path / "config.toml").read_text()
    assert tomllib.loads(text)["lr"] == 1e-3
    assert "# not set: kl, net.act" in text


def test_a_folder_with_other_things_is_refused_and_untouched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty and not a run"):
        RunDir.create(tmp_path, kind="toy", config={}, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_is_not_created_twice(run):
    with pytest.raises(RunError, match="continue it with --resume"):
        RunDir.create(run.path, kind="toy", config={}, seed=0)
    assert RunDir.open_or_create(run.path, kind="toy", config={}, seed=0).seed == 7
    with pytest.raises(RunError, match="of kind toy, not ppo"):
        RunDir.open_or_create(run.path, kind="ppo", config={}, seed=0)


def test_an_empty_folder_or_a_creation_that_was_killed_can_become_a_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "run.json.tmp").write_text("{")
    RunDir.create(tmp_path, kind="toy", config={}, seed=0)
    assert RunDir.open(tmp_path).kind == "toy"


def test_what_is_not_a_run_is_named(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        RunDir.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is not a run directory"):
        RunDir.open(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes"])
def test_a_setting_that_cannot_be_written_is_named(tmp_path, value):
    with pytest.raises((TypeError, ValueError), match=r"setting a\.b"):
        RunDir.create(tmp_path / "r", kind="toy", config={"a": {"b": value}}, seed=0)
    assert not (tmp_path / "r").exists()


def test_an_edited_config_is_noticed(run):
    with (run.path / "config.toml").open("a") as file:
        file.write("seed = 9\n")
    with pytest.raises(CheckpointError, match=r"was edited.*delete it and it is written again"):
        RunDir.open(run.path)


def test_a_missing_config_is_put_back_by_the_next_writer(run):
    before = (run.path / "config.toml").read_text()
    (run.path / "config.toml").unlink()
    again = RunDir.open(run.path)
    with again.lock():
        pass
    assert (run.path / "config.toml").read_text() == before
    RunDir.open(run.path)


def test_changed_settings_keep_their_history(run):
    run.change_config(lr=2e-3, kl=0.1)
    again = RunDir.open(run.path)
    assert again.config["lr"] == 2e-3
    assert again.record["changes"][0]["from"] == {"lr": 1e-3, "kl": None}


def test_the_lock_names_the_process_that_holds_it(run):
    code = (
        "import sys\nfrom playout.agents.runs.directory import RunDir\n"
        f"run = RunDir.open({str(run.path)!r})\n"
        "with run.lock():\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=f"in use by process {holder.pid}"), run.lock():
        pass
    holder.kill()
    holder.communicate()
    with run.lock(), pytest.raises(RunError, match="by this process"), RunDir.open(run.path).lock():
        pass
    with run.lock():
        pass


def test_two_threads_cannot_hold_the_lock_at_once(run):
    seen = []

    def other():
        try:
            with run.lock():
                seen.append("held")
        except RunError:
            seen.append("refused")

    with run.lock():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == ["refused"]


def test_the_last_few_and_the_best_are_kept(run):
    for n, metric in enumerate([1.0, 5.0, None, 3.0, 5.0, 2.0, None, None], start=1):
        run.save(n, state(n), metric=metric, keep=2)
    assert steps(run) == [8, 7, 5]
    assert run.load()[0] == 8 and run.load("best")[0] == 5 and run.load(7)[1]["n"] == 7
    assert run.load("7")[0] == 7
    assert (run.path / "LATEST").read_text() == "000008\n"


def test_without_metrics_best_is_the_latest(run):
    run.save(1, state(1))
    run.save(2, state(2))
    assert run.load("best")[0] == 2


def test_asking_for_what_is_not_there_says_what_is(run):
    with pytest.raises(RunError, match="no checkpoint yet"):
        run.load()
    assert run.find() is None
    run.save(3, state(3))
    with pytest.raises(RunError, match="no checkpoint 9; it has 3"):
        run.load(9)
    assert run.load(np.int64(3))[0] == 3
    for which in ("newest", "²", -1, np.int64(-1), True):
        with pytest.raises(ConfigError, match='"latest" or a number, not'):
            run.load(which)


def test_a_step_can_be_saved_again(run):
    run.save(1, state(1))
    run.save(1, state(5))
    assert run.load()[1]["n"] == 5 and steps(run) == [1]


def test_leftovers_are_ignored_and_swept_by_the_next_writer(run):
    run.save(1, state(1))
    folder = run.path / "checkpoints"
    (folder / "000002.tmp").mkdir()
    (folder / "000002.tmp" / "state.json").write_text("{")
    (run.path / "LATEST.tmp").write_text("000")
    (folder / "000001").rename(folder / "000001.old.tmp")
    with run.lock():
        pass
    assert run.load()[0] == 1
    assert not list(run.path.rglob("*.tmp"))


def test_a_checkpoint_newer_than_latest_is_used(run):
    run.save(1, state(1))
    run.save(2, state(2))
    (run.path / "LATEST").write_text("000001\n")
    assert run.load()[0] == 2
    (run.path / "LATEST").unlink()
    assert run.load()[0] == 2


@pytest.mark.parametrize("text", [b"garbage", b"", b"\xff" * 500])
def test_a_latest_file_that_names_nothing_is_passed_over_with_a_note(run, capsys, text):
    run.save(1, state(1))
    (run.path / "LATEST").write_bytes(text)
    assert run.load()[0] == 1
    assert "LATEST does not name a checkpoint; the newest one is taken" in capsys.readouterr().err


def test_a_lost_latest_checkpoint_is_an_error_that_names_the_newest_good_one(run):
    import shutil

    run.save(1, state(1))
    run.save(2, state(2))
    shutil.rmtree(run.path / "checkpoints" / "000002")
    with pytest.raises(CheckpointError, match=r"000002|2 .*missing.*--from-step 1"):
        run.load()


def test_a_damaged_latest_checkpoint_is_an_error_that_names_the_newest_good_one(run):
    for n in (1, 2, 3):
        run.save(n, state(n))
    for n in (2, 3):
        path = run.path / "checkpoints" / f"{n:06d}" / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    with pytest.raises(
        CheckpointError,
        match=r"sha256.*newest good checkpoint is 1: use it with --which 1, .*--from-step 1",
    ):
        run.load()
    with run.lock():
        run.abandon_after(1)
    assert run.load()[0] == 1
    moved = sorted(path.name for path in run.path.glob("abandoned/*/*"))
    assert moved == ["000002", "000003"]


def test_only_damaged_checkpoints_left_says_so(run):
    run.save(1, state(1))
    (run.path / "checkpoints" / "000001" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no good checkpoint is left"):
        run.load()


def test_a_checkpoint_of_another_run_is_refused(run, tmp_path):
    other = RunDir.create(tmp_path / "other", kind="toy", config={}, seed=0)
    other.save(5, state(5))
    os.rename(other.path / "checkpoints" / "000005", run.path / "checkpoints" / "000005")
    with pytest.raises(CheckpointError, match="made by another run"):
        run.load()


def test_a_renamed_checkpoint_is_refused(run):
    run.save(5, state(5))
    os.rename(run.path / "checkpoints" / "000005", run.path / "checkpoints" / "000006")
    with pytest.raises(CheckpointError, match="holds step 5"):
        run.load()


def test_a_copied_run_works_and_both_go_on(run, tmp_path):
    import shutil

    run.save(1, state(1))
    shutil.copytree(run.path, tmp_path / "copy")
    copy = RunDir.open(tmp_path / "copy")
    copy.save(2, state(2))
    assert copy.load()[0] == 2 and run.load()[0] == 1


@pytest.mark.parametrize("bad", [{"step": -1}, {"step": 1.0}, {"metric": float("nan")}])
def test_impossible_steps_and_metrics_are_refused(run, bad):
    with pytest.raises(ValueError, match="a checkpoint's"):
        run.save(**{"step": 1, "state": state(1), **bad})
    with pytest.raises(TypeError):
        run.save(1, state(1), info={"x": object()})
    assert run.find() is None and not list(run.path.rglob("*.tmp"))


def test_going_back_twice_keeps_what_was_left_each_time(run):
    for _ in range(2):
        run.save(1, state(1))
        run.save(2, state(2))
        run.abandon_after(1)
    found = sorted(path.relative_to(run.path).as_posix() for path in run.path.glob("abandoned/*/*"))
    assert found == ["abandoned/1/000002", "abandoned/2/000002"]


def test_stages_live_inside_a_run(run):
    stage = RunDir.open_or_create(run.subrun("sft"), kind="rlhf.sft", config={}, seed=1)
    assert RunDir.open(run.path / "sft").kind == stage.kind
    for name in ("../x", "a/b", "", ".."):
        with pytest.raises(ValueError, match="plain name"):
            run.subrun(name)


def test_manifest_and_state_are_readable_json(run):
    run.save(1, state(1), metric=2.5, info={"done": 10})
    manifest = json.loads((run.path / "checkpoints/000001/MANIFEST.json").read_text())
    assert manifest["metric"] == 2.5 and manifest["info"] == {"done": 10}
    assert json.loads((run.path / "checkpoints/000001/state.json").read_text())["n"] == 1


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_can_be_read_by_whom_the_umask_lets(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        run = RunDir.create(tmp_path / "r", kind="toy", config={}, seed=0)
        run.save(1, {"model": {"weight": np.zeros(3, np.float32)}})
        durable_io.replace_file(tmp_path / "result.json", b"{}")
    finally:
        os.umask(before)
    written = [tmp_path / "result.json", run.path / "run.json", *run.find().path.iterdir()]
    assert {path.stat().st_mode & 0o777 for path in written} == {mode}


def begun_at_once(where, monkeypatch, folder, numbered):
    """What three processes come to that make a run at the same time and give up if they cannot."""
    monkeypatch.chdir(where)
    context = multiprocessing.get_context("fork")
    barrier, told = context.Barrier(3), context.Queue()

    def begin(seed):
        barrier.wait()
        try:
            run = RunDir.create(folder, kind="toy", config={}, seed=seed, numbered=numbered)
            try:
                with run.lock():
                    barrier.wait() if numbered else time.sleep(0.1)
                    told.put("own" if RunDir.open(run.path).id == run.id else "another's")
            except BaseException:
                run.discard_unused()
                raise
        except RunError as error:
            told.put(str(error))

    processes = [context.Process(target=begin, args=(seed,)) for seed in range(3)]
    for process in processes:
        process.start()
    found = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    return sorted(found)


def test_runs_that_begin_at_once_get_folders_of_their_own(tmp_path, monkeypatch):
    assert begun_at_once(tmp_path, monkeypatch, "runs/toy", True) == ["own"] * 3
    seeds = {RunDir.open(tmp_path / "runs" / f"toy-{n}").seed for n in (1, 2, 3)}
    assert seeds == {0, 1, 2}


def test_of_runs_that_begin_in_one_folder_at_once_at_most_one_is_made(tmp_path, monkeypatch):
    refused = re.compile("is in use by process|is a run already")
    made = []
    for trial in range(5):
        found = begun_at_once(tmp_path, monkeypatch, f"r{trial}", False)
        made.append(found.count("own"))
        assert sum(bool(refused.search(text)) for text in found) == 3 - made[-1], found
        assert made[-1] <= 1 and RunDir.is_run(tmp_path / f"r{trial}") == bool(made[-1])
    assert any(made)


def test_a_run_that_could_not_begin_is_removed_but_not_what_others_use(tmp_path):
    unused = RunDir.create(tmp_path / "new" / "r", kind="toy", config={}, seed=0, numbered=True)
    assert unused.path.name == "r-1"
    with unused.lock():
        RunDir.open(unused.path).discard_unused()
    assert RunDir.is_run(unused.path)
    other = RunDir.open(unused.path)
    unused.discard_unused()
    assert not (tmp_path / "new").exists()
    again = RunDir.create(unused.path, kind="toy", config={}, seed=1)
    other.discard_unused()
    assert RunDir.open(unused.path).id == again.id

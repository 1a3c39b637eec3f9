"""What actors publish is learned from once, whoever is killed when, and whatever lies about."""

import contextlib
import os
import signal
import threading

import numpy as np
import pytest
from actor_runs import actor_of, learner_of, publish, save, state_of
from playout.agents.alphazero.config import SelfPlayConfig
from playout.agents.alphazero.selfplay.actors import actor as actors
from playout.agents.alphazero.selfplay.actors import trainer as trainers
from playout.agents.alphazero.selfplay.actors.folder import durable_io
from playout.agents.alphazero.selfplay.actors.game_file import read
from playout.agents.alphazero.selfplay.actors.networks import NewestNetwork, wait_for_run
from playout.agents.runs.directory import RunDir
from playout.agents.runs.signals import Interrupted, stop_at_once
from playout.errors import CheckpointError, ConfigError, RunError, StoppedError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(actors, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(actors, "REPORT_SECONDS", 3600.0)
    monkeypatch.setattr(actors, "BURST_SECONDS", 0.001)  # a few moves each
    monkeypatch.setattr(trainers, "POLL_SECONDS", 0.01)


def holdings(folder):
    return sorted(one.name for one in folder.iterdir() if one.is_file())


def samples(trainer):
    """How often anything was learned from."""
    return trainer.learners[0].steps * trainer.config.learner.batch_size


def test_games_are_learned_from_exactly_as_often_as_asked_and_files_vanish_after_a_checkpoint(
    tmp_path,
):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, run, _ = learner_of(run_path, folder, reuse=3)
    actor = actor_of(run_path, folder)
    publish(actor, 4)
    before = holdings(folder)
    headers = [
        read(folder / name, {"tic_tac_toe": trainer.game}, run=run.id)[0]
        for name in before
        if name.endswith(".games")
    ]
    while trainer.reader.files["learned"] < 4:
        metrics = trainer.update()
    assert trainer.totals.games == sum(one.counts.games for one in headers) >= 32
    assert metrics["selfplay/positions"] == sum(one.positions for one in headers)
    assert samples(trainer) + trainer.dealt[0].turns == 3 * metrics["selfplay/positions"]
    assert [one.removesuffix("read") for one in holdings(folder)[:4]] == [
        one.removesuffix("games") for one in before[:4]
    ]
    save(trainer, run)
    publish(actor, 1)
    trainer.update()
    assert not {one.removesuffix(".read") for one in holdings(folder)} & {
        one.removesuffix(".games") for one in before
    } - {"folder.json"}


def test_a_learner_of_actors_games_rates_on_all_cores(tmp_path):
    selfplay = SelfPlayConfig(num_groups=3, num_trees=8, num_simulations=4)
    trainer, _, _ = learner_of(tmp_path / "run", tmp_path / "games", selfplay=selfplay)
    assert trainer._rated.of(0, trainer.learners[0].average).threads == 3


@pytest.mark.slow
def test_a_killed_learner_goes_on_without_losing_or_repeating_a_game(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, run, _ = learner_of(run_path, folder)
    actor = actor_of(run_path, folder)
    publish(actor, 3)
    trainer.update()
    save(trainer, run)  # the last that is known ...
    known = trainer.totals.games
    publish(actor, 3)
    while trainer.reader.files["learned"] < 5:
        trainer.update()  # ... of what is done here nothing is
    del trainer
    again, _, said = learner_of(run_path, folder)
    assert again.totals.games == known
    while again.reader.files["learned"] < 6:
        again.update()
    assert len(said) == 1 and "files of games will be read again" in said[0]
    assert again.totals.games == actor.published
    positions = again.dealt[0].num_added
    assert samples(again) + again.dealt[0].turns == 4 * positions


def test_a_power_cut_that_undoes_a_renaming_makes_no_game_be_learned_twice(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, run, _ = learner_of(run_path, folder)
    actor = actor_of(run_path, folder)
    publish(actor, 2)
    trainer.update()
    save(trainer, run)
    for path in folder.glob("*.read"):
        os.rename(path, path.with_suffix(".games"))
    again, _, said = learner_of(run_path, folder)
    publish(actor, 2)
    while again.reader.files["learned"] < 4:
        again.update()
    assert again.totals.games == actor.published and not said


def test_an_actor_pauses_while_files_lie_unread_and_goes_on_afterwards(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, _, _ = learner_of(run_path, folder)
    actor = actor_of(run_path, folder, ahead=3)
    said = []
    actor.say = said.append
    publish(actor, 3)
    for _ in range(5):
        actor.turn()
    assert actor.files == 3 and said == ["pausing: 3 files or more lie unread"]
    trainer.update()
    publish(actor, 1)


def test_a_learner_reads_no_further_ahead_than_it_learns(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, _, _ = learner_of(run_path, folder, reuse=4, min_window=100, window=0.1)
    actor = actor_of(run_path, folder, ahead=1000)
    publish(actor, 12)
    trainer.update()
    learned = trainer.reader.files["learned"]
    assert 0 < learned < 12 and len(trainer.reader.folder.unread()) == 12 - learned


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [30, 100, 150])
def test_a_replay_that_has_no_room_for_a_file_is_learned_from_first(
    tmp_path, monkeypatch, capacity
):
    monkeypatch.setattr(trainers, "PATIENCE", 1.0)
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, _, said = learner_of(
        run_path, folder, replay_capacity=capacity, warmup_positions=4096, steps=4
    )
    trainer.reader.say = lambda text: (said.append(text), trainer.stop_soon())
    actor = actor_of(run_path, folder, ahead=1000)
    publish(actor, 12)  # of about 60 positions
    times, places = np.zeros(2000, int), trainer.dealt[0]._places

    def counted(numbers):
        assert numbers.min() >= trainer.dealt[0].num_added - capacity
        np.add.at(times, numbers, 1)
        return places(numbers)

    monkeypatch.setattr(trainer.dealt[0], "_places", counted)
    with contextlib.suppress(StoppedError):  # of the last file too few turns may be left
        while trainer.reader.files["learned"] < 12:
            before = trainer.learners[0].steps
            trainer.update()
            assert trainer.learners[0].steps > before and not said
    assert trainer.reader.files["learned"] == 12
    assert times.sum() == samples(trainer) and times.max() <= trainer.config.reuse


def test_games_of_networks_that_are_too_old_are_left_out_and_counted(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, run, _ = learner_of(run_path, folder, stale_after=2)
    actor = actor_of(run_path, folder)
    publish(actor, 3)
    while trainer.updates < 3:
        trainer.update()
    read_before = trainer.reader.files["learned"]
    save(trainer, run)  # the network of update 3; what is unread was played by that of update 0
    old = actor_of(run_path, folder)
    old.newest.poll = lambda: None
    old._take(actor._network)
    publish(old, 2)
    publish(actor, 2)
    assert actor._network.step == 3
    while trainer.reader.files["learned"] == read_before:
        metrics = trainer.update()
    assert trainer.reader.files["stale"] >= 2 and metrics["actors/stale_games"] >= old.published


def test_what_cannot_be_used_is_named_once_and_set_aside(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, _, said = learner_of(run_path, folder)
    actor = actor_of(run_path, folder)
    publish(actor, 2)
    good = next(folder.glob("*.games"))
    (folder / "00000000-0123456789abcdef-000000.games").write_bytes(b"PK\x03\x04")
    (folder / "00000001-0123456789abcdef-000000.games").write_bytes(good.read_bytes()[:-9])
    (folder / "evil\n\x1b[2J.games").mkdir()
    (folder / "notes.txt").write_text("mine")
    publish(actor, 2)
    for _ in range(2):
        while trainer.reader.take(lambda count: True, 0) is not None:
            pass
        trainer.reader.clear_up()
    assert len(said) == 4 and not any("\n" in one or "\x1b" in one for one in said)
    assert any("notes.txt" in one and "no file of games" in one for one in said)
    assert len(list((folder / "aside").iterdir())) == 3
    assert (folder / "notes.txt").read_text() == "mine"
    assert trainer.reader.files == {"learned": 4, "stale": 0, "aside": 3}


def test_a_starved_learner_says_so_and_stops_when_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(trainers, "PATIENCE", 0.05)
    trainer, run, said = learner_of(tmp_path / "run", tmp_path / "games")

    def say(text):
        said.append(text)
        trainer.stop_soon()

    trainer.reader.say = say
    with pytest.raises(StoppedError):
        trainer.update()
    assert "waiting for games" in said[0]
    assert f"playout selfplay --from {run.path} --into {tmp_path / 'games'}" in said[0]


def test_a_folder_belongs_to_one_run(tmp_path):
    learner_of(tmp_path / "run", tmp_path / "games")
    with pytest.raises(ConfigError, match="takes the games of"):
        learner_of(tmp_path / "other", tmp_path / "games")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"holds other things \(thesis.tex\)"):
        learner_of(tmp_path / "third", tmp_path / "mine")


@pytest.mark.slow
def test_an_actor_takes_newer_networks_while_old_checkpoints_are_swept(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, run, _ = learner_of(run_path, folder)
    newest, stop = NewestNetwork(RunDir.open(run_path)), threading.Event()
    weights = {}

    def keep_saving():
        state, step = state_of(trainer), 0
        while not stop.is_set():
            step += 1
            for value in state["model"].values():
                value.fill_(step)
            run.save(step, state, keep=1, info={"done": step, "total": 1 << 40})

    with run.lock():
        writer = threading.Thread(target=keep_saving)
        writer.start()
        while len(weights) < 25 and writer.is_alive():
            found = newest.poll()
            if found is not None:
                weights[found.step] = float(
                    next(iter(found.net.parameters())).detach().flatten()[0]
                )
        stop.set()
        writer.join()
    assert len(weights) == 25 and all(step == value for step, value in weights.items() if step)
    assert list(weights) == sorted(weights)


def test_a_run_that_is_not_there_is_waited_for_only_so_long(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        wait_for_run(tmp_path / "nowhere", 0.1, print)


def test_an_actor_ends_with_the_run_and_publishes_what_is_finished(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, run, _ = learner_of(run_path, folder)
    actor = actor_of(run_path, folder, games_per_file=10_000)
    said = []
    actor.say = said.append
    while not actor.waiting_games:
        actor.turn()
    run.save(5, state_of(trainer), info={"done": 5, "total": 5})
    actor.work()
    assert actor.files == 1 and actor.published > 0
    assert said[0] == f"{run_path} is complete: it needs no more games"
    other = actor_of(run_path, folder, games=20)
    other.newest.run.save(6, state_of(trainer), info={"done": 5, "total": 9})
    other.work()
    assert 20 <= other.published < 20 + 16


def test_what_is_finished_is_published_also_when_an_actor_is_stopped(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    learner_of(run_path, folder)
    actor = actor_of(run_path, folder, games_per_file=10_000)
    while not actor.waiting_games:
        actor.turn()
    actor.turn = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        actor.work()
    assert actor.files == 1 and len(list(folder.glob("*.games"))) == 1


@pytest.mark.parametrize("place", ["write_new", "fsync_folder"])
@pytest.mark.parametrize("last", [False, True])
def test_a_signal_while_games_are_published_publishes_them_once(tmp_path, monkeypatch, place, last):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, run, _ = learner_of(run_path, folder)
    actor = actor_of(run_path, folder, games_per_file=10_000)
    while not actor.waiting_games:
        actor.turn()
    finished, read_there = actor.waiting_games, []
    if last:  # the file that is written at the end anyway
        run.save(5, state_of(trainer), info={"done": 5, "total": 5})
    else:
        actor.turn = actor._publish
    whole = getattr(durable_io, place)

    def stopped(*given):
        monkeypatch.setattr(durable_io, place, whole)
        done = whole(*given)
        if place == "fsync_folder":  # it is there: a learner may have read it
            read_there.append(trainer.reader.take(lambda count: True, 0))
        signal.raise_signal(signal.SIGTERM)
        return done

    monkeypatch.setattr(durable_io, place, stopped)
    with pytest.raises(Interrupted), stop_at_once("what was finished is published"):
        actor.work()
    left = [one.suffix for one in folder.iterdir() if one.name != "folder.json"]
    assert left == ([".read"] if read_there else [".games"])
    assert actor.files == 1 and actor.published == finished


def test_games_that_are_too_many_for_a_file_go_into_several(tmp_path, monkeypatch):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, _, _ = learner_of(run_path, folder)
    actor = actor_of(run_path, folder, games_per_file=10_000)
    monkeypatch.setattr(actors, "most_positions", lambda game: 50)
    while actor.waiting_games < 25:
        actor.turn()
    positions, games = sum(map(len, actor._waiting[0])), actor.waiting_games
    actor._publish()
    found = []
    while (one := trainer.reader.take(lambda count: True, 0)) is not None:
        found.append(one)
    assert [len(examples) for _, examples in found[:-1]] == [50] * (positions // 50)
    assert sum(len(examples) for _, examples in found) == positions
    assert sum(header.counts.games for header, _ in found) == games == actor.published


def test_a_file_that_appears_again_is_not_learned_from_again(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    trainer, _, said = learner_of(run_path, folder)
    actor = actor_of(run_path, folder)
    publish(actor, 1)
    (path,) = folder.glob("*.games")
    data = path.read_bytes()
    assert trainer.reader.take(lambda count: True, 0) is not None
    path.write_bytes(data)
    assert trainer.reader.take(lambda count: True, 0) is None
    assert holdings(folder) == [f"{path.stem}.read", "folder.json"] and not said


def test_a_checkpoint_cannot_have_files_deleted_that_are_no_games(tmp_path):
    trainer, _, _ = learner_of(tmp_path / "run", tmp_path / "games")
    state = trainer.reader.state_dict()
    (tmp_path / "thesis.games").write_text("mine")
    with pytest.raises(CheckpointError, match="by names that no file has"):
        trainer.reader.load_state_dict({**state, "consumed": {"../thesis.games": 1}})


def test_actors_play_any_game_and_finals_come_along(tmp_path):
    run_path, folder = tmp_path / "run", tmp_path / "games"
    to_the_end = SelfPlayConfig(
        num_groups=1, num_trees=8, num_simulations=4, opening_plies=2, stop_proven=False
    )
    trainer, _, _ = learner_of(
        run_path,
        folder,
        game="othello(size=4)",
        learner={"target_weight": 0.5},
        selfplay=to_the_end,
    )
    actor = actor_of(run_path, folder)
    publish(actor, 3)
    metrics = trainer.update()
    assert np.isfinite(metrics["train/target_loss"]) and metrics["train/target_loss"] > 0


def test_recorded_games_say_nothing_of_how_long_updates_of_actors_take(tmp_path):
    trainer, run, _ = learner_of(tmp_path / "run", tmp_path / "games", updates=4)
    trainer.recorded._updates = 10
    run.update(budget={"minutes": 1.0, "total": 4})
    plan = trainers.ClockPlan(run, 1.0, trainer)
    for trainer.updates in range(1, 12):
        assert trainer.progress[1] == 14
        waited = {"time/selfplay_s": 3.0} if trainer.updates > 10 else {}
        plan(trainer, {"time/train_s": 0.01, "time/elapsed": trainer.updates / 10, **waited})
    assert trainer.plan == [(0, 30)]
    assert run.record["budget"]["total"] == 30

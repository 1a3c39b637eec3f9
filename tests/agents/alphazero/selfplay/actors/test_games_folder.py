"""A folder of games is claimed once, however many begin, and holds on to what is not its own."""

import os
import threading
from pathlib import Path

import playout
import pytest
from playout.agents.alphazero.budget import minutes
from playout.agents.alphazero.selfplay.actors import folder as folders
from playout.agents.alphazero.selfplay.actors.folder import GamesFolder
from playout.errors import ConfigError, RunError

NAME = "00000007-0123456789abcdef-000003.games"
RUN = Path("run")


def claim(path, run="one"):
    return GamesFolder(path, run=run, where=RUN)


def make(path, *names, old=True):
    """Files that were written two hours ago, and a folder for every name that ends in /."""
    path.mkdir(exist_ok=True)
    for name in names:
        if name.endswith("/"):
            (path / name).mkdir()
            (path / name / "chapter").write_text("mine")
        else:
            (path / name).write_text("mine")
        if old:
            before = (path / name).stat().st_mtime - 7200
            os.utime(path / name, (before, before))


FOREIGN = ("thesis.tmp", "drafts.tmp/", "chess.games", f"{NAME}.tmp.old", "folder.json.tmp")


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_of_somebody_else_is_not_taken_for_one_of_games(tmp_path, name):
    make(tmp_path, name)
    with pytest.raises(ConfigError, match="holds other things"):
        claim(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("stamped", [True, False])
def test_a_foreign_folder_is_refused_before_anything_is_measured(tmp_path, monkeypatch, stamped):
    def measured(*args, **options):
        raise AssertionError("a speed was measured")

    monkeypatch.setattr(minutes, "choose_sizes", measured)
    if stamped:
        claim(tmp_path / "games")
    else:
        make(tmp_path / "games", "thesis.tex")
    before = {one.name: one.read_bytes() for one in (tmp_path / "games").iterdir()}
    with pytest.raises(ConfigError, match=r"takes the games of|holds other things"):
        playout.alphazero("connect_four", games_from=str(tmp_path / "games"), run=tmp_path / "run")
    assert before == {one.name: one.read_bytes() for one in (tmp_path / "games").iterdir()}
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_refused_for_something_else_stamps_no_folder(tmp_path):
    place = {"games_from": str(tmp_path / "games"), "run": tmp_path / "run"}
    with pytest.raises(ConfigError, match="vast"):
        playout.alphazero("connect_four", size="vast", **place)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_only_begun_is_taken(tmp_path):
    make(tmp_path, f"folder.json.{'0a' * 8}.tmp", f"{NAME}.tmp", ".nfs0001", NAME)
    claim(tmp_path)
    assert (tmp_path / "folder.json").exists()


def test_only_what_was_begun_here_is_swept_and_only_after_a_while(tmp_path):
    place = claim(tmp_path / "games")
    begun = (f"folder.json.{'0a' * 8}.tmp", f"{NAME}.tmp")
    foreign = [name for name in FOREIGN if name != "chess.games"]
    make(place.path, *foreign, *begun)
    make(place.path, NAME.replace("3.games", "4.games.tmp"), old=False)
    place.sweep()
    left = {one.name for one in place.path.iterdir()}
    assert left == {
        *(name.rstrip("/") for name in foreign),
        "folder.json",
        NAME.replace("3.games", "4.games.tmp"),
    }
    assert (place.path / "drafts.tmp" / "chapter").read_text() == "mine"
    assert place.strangers() == sorted(name.rstrip("/") for name in foreign)


def test_whoever_is_stamped_by_another_process_in_between_belongs_to_it(tmp_path, monkeypatch):
    listed = os.listdir

    def late(path):
        monkeypatch.setattr(folders.os, "listdir", listed)
        claim(path)  # another process, of the same run
        return listed(path)

    for run, refused in (("one", False), ("two", True)):
        path = tmp_path / run
        monkeypatch.setattr(folders.os, "listdir", late)
        if refused:
            with pytest.raises(ConfigError, match="takes the games of"):
                claim(path, run)
        else:
            claim(path, run)
        assert listed(path) == ["folder.json"]


def test_of_many_that_begin_at_once_all_of_one_run_come_in(tmp_path):
    for number in range(20):
        problems, barrier = [], threading.Barrier(4)

        def begin(path, problems=problems, barrier=barrier):
            barrier.wait()
            try:
                claim(path)
            except ConfigError as error:
                problems.append(str(error))

        path = tmp_path / str(number)
        threads = [threading.Thread(target=begin, args=(path,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems and os.listdir(path) == ["folder.json"]


def test_what_is_set_aside_finds_room_where_a_file_is_called_aside(tmp_path):
    place = claim(tmp_path / "games")
    make(place.path, NAME, "aside")
    place.set_aside(NAME)
    (moved,) = place.strangers()
    assert moved.startswith("aside.") and (place.path / moved).read_text() == "mine"
    assert [one.name for one in (place.path / "aside").iterdir()] == [NAME]


def test_a_folder_that_cannot_be_renamed_over_is_one_line(tmp_path, monkeypatch):
    place = claim(tmp_path / "games")
    make(place.path, f"{NAME}/")

    def refuse(old, new):
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(folders.os, "rename", refuse)
    with pytest.raises(RunError, match="cannot rename"):
        place.mark_read(NAME)

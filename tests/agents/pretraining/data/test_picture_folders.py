"""Folders that bring their own split, and what lies beside the folders of classes."""

import pytest
from playout.agents.pretraining.data.folders import holds_split, read_folder
from playout.agents.pretraining.data.sources import takes_seed
from playout.errors import DataError

from tests.agents.pretraining.data.test_picture_files import png


def sides(folder, *names, count=3):
    """Two classes below each name, of pictures that differ."""
    for place, name in enumerate(names):
        for number in range(count):
            png(folder / name / "a" / f"{number}.png", 10 * place + number, mode="L")
            png(folder / name / "b" / f"{number}.png", 100 + 10 * place + number, mode="L")
    return folder


@pytest.mark.parametrize("held", ["test", "val", "valid", "validation"])
def test_a_side_that_is_held_out_has_one_of_several_names(tmp_path, held, capsys):
    split = read_folder(sides(tmp_path, "train", held))
    assert split.train.classes == ("a", "b")
    assert sorted(split.test.pixels[:, 0, 0, 0]) == [10, 11, 12, 110, 111, 112]
    assert holds_split(tmp_path) and not takes_seed(str(tmp_path))
    assert not capsys.readouterr().err


def test_of_several_sides_that_are_held_out_test_is_taken_which_is_said(tmp_path, capsys):
    split = read_folder(sides(tmp_path, "train", "val", "test"))
    assert sorted(split.test.pixels[:, 0, 0, 0]) == [20, 21, 22, 120, 121, 122]
    said = capsys.readouterr().err
    assert said == f"note: {tmp_path / 'test'} is held out; not read beside it: val\n"


def test_a_side_to_learn_from_with_none_that_is_held_out_is_refused(tmp_path):
    sides(tmp_path, "train")
    with pytest.raises(DataError, match="holds train alone: put what is held out into one of"):
        read_folder(tmp_path)
    sides(tmp_path, "train", "dev")
    with pytest.raises(DataError, match=r"holds train beside dev: .* or name .*train$"):
        read_folder(tmp_path)
    assert not holds_split(tmp_path)
    earlier = read_folder(tmp_path, version=2)  # a run keeps what it has learned from
    assert earlier.train.classes == ("dev", "train")


def test_train_may_be_a_class(tmp_path):
    for number in range(12):
        png(tmp_path / "car" / f"{number}.png", number, mode="L")
        png(tmp_path / "train" / f"{number}.png", 100 + number, mode="L")
    assert read_folder(tmp_path).train.classes == ("car", "train")


@pytest.mark.parametrize("side", ["", "train", "test"])
def test_pictures_beside_the_folders_of_classes_are_named(tmp_path, side):
    sides(tmp_path, *(("train", "test") if side else ("",)), count=12)
    for name in ("x.png", "y.JPG"):
        png(tmp_path / side / f"{name}.png", 3, mode="L")
    with pytest.raises(DataError, match=r"holds 2 pictures beside the folders .*x\.png\.png"):
        read_folder(tmp_path)
    assert len(read_folder(tmp_path, version=2).train)

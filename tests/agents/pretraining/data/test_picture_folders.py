"""Folders that bring their own split, what lies beside those of classes, and which files count."""

import pytest
from playout.agents.pretraining.data.dataset import UNKNOWN, check_labels
from playout.agents.pretraining.data.folders import holds_split, read_folder, read_given
from playout.agents.pretraining.data.sources import takes_seed
from playout.cli import main
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
    (tmp_path / side / "x.png.png").unlink()
    with pytest.raises(DataError, match=r"holds 1 picture beside .*, y\.JPG\.png: move it into"):
        read_folder(tmp_path)
    assert len(read_folder(tmp_path, version=2).train)


@pytest.mark.parametrize(
    ("learned", "held"), [("Train", "Test"), ("training", "testing"), ("Training", "VAL")]
)
def test_sides_are_known_by_capitals_and_longer_names(tmp_path, learned, held):
    split = read_folder(sides(tmp_path, learned, held))
    assert split.train.classes == ("a", "b") and len(split.train) == 6
    assert sorted(split.test.pixels[:, 0, 0, 0]) == [10, 11, 12, 110, 111, 112]
    assert holds_split(tmp_path) and not takes_seed(str(tmp_path))
    assert read_folder(tmp_path, version=3).train.classes == tuple(sorted((learned, held)))


def test_of_several_spellings_of_a_side_the_plain_one_is_taken(tmp_path, capsys):
    split = read_folder(sides(tmp_path, "Train", "train", "testing", "test"))
    assert sorted(split.train.pixels[:, 0, 0, 0]) == [10, 11, 12, 110, 111, 112]
    assert sorted(split.test.pixels[:, 0, 0, 0]) == [30, 31, 32, 130, 131, 132]
    assert "not read beside it: Train, testing" in capsys.readouterr().err


def shades(split):
    """The upper left pixels of both sides, sorted."""
    return sorted([*split.train.pixels[:, 0, 0, 0], *split.test.pixels[:, 0, 0, 0]])


def test_what_pillow_reads_is_read_and_other_files_are_told_of(tmp_path, capsys):
    sides(tmp_path, "", count=4)
    for number, suffix in enumerate((".tga", ".JFIF", ".pgm")):
        png(tmp_path / "a" / f"x{number}.png", 200 + number, mode="L")
        (tmp_path / "a" / f"x{number}.png").rename(tmp_path / "a" / f"x{number}{suffix}")
    earlier = shades(read_folder(tmp_path, version=3))
    assert earlier == [0, 1, 2, 3, 100, 101, 102, 103] and not capsys.readouterr().err
    assert shades(read_folder(tmp_path)) == [*earlier, 200, 201, 202]
    assert not capsys.readouterr().err
    (tmp_path / "b" / "y.heic?").write_bytes(b"12")
    assert len(shades(read_folder(tmp_path))) == 11
    note = f"not read, of no kind of picture that is known: {tmp_path / 'b' / 'y.heic?'}\n"
    assert capsys.readouterr().err == f"note: 1 file is {note}"
    (tmp_path / "b" / "z.txt").touch()
    assert len(read_given([tmp_path], (1, 8, 10))[0]) == 11
    assert capsys.readouterr().err == f"note: 2 files are {note}"


def test_links_to_folders_are_followed_once_and_never_round(tmp_path):
    data = sides(tmp_path / "data", "", count=4)
    for number in range(3):
        png(tmp_path / "more" / "deep" / f"{number}.png", 200 + number, mode="L")
    (data / "b" / "other").symlink_to(tmp_path / "more", target_is_directory=True)
    (data / "b" / "again").symlink_to(tmp_path / "more" / "deep", target_is_directory=True)
    (tmp_path / "more" / "round").symlink_to(tmp_path / "more", target_is_directory=True)
    (data / "a" / "up").symlink_to(data, target_is_directory=True)
    (data / "a" / "beside").symlink_to(data / "b", target_is_directory=True)
    png(data / "a" / ".kept" / "0.png", 4, mode="L")
    (data / "a" / "shown").symlink_to(data / "a" / ".kept", target_is_directory=True)
    split = read_folder(data)
    assert shades(split) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 200, 201, 202]
    for part in (split.train, split.test):
        assert ((part.pixels[:, 0, 0, 0] >= 100) == part.labels).all()


def test_a_link_to_itself_is_named(tmp_path):
    sides(tmp_path, "", count=4)
    (tmp_path / "a" / "loop.png").symlink_to("loop.png")
    with pytest.raises(DataError, match=r"loop\.png is a link that leads to itself"):
        read_folder(tmp_path)
    (tmp_path / "a" / "loop.png").unlink()
    (tmp_path / "a" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png cannot be read: .*No such file"):
        read_folder(tmp_path)


def test_what_is_hidden_is_no_part_of_the_data(tmp_path, capsys):
    sides(tmp_path, "", count=4)
    for name in ("a/.ipynb_checkpoints/0.png", ".cache/0.png", "a/deep/.thumbnails/0.png"):
        png(tmp_path / name, 250, mode="L")
    for name in ("a/._0.png", "._1.png", "__MACOSX/a/._0.png", ".DS_Store", "b/.DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7no picture")
    png(tmp_path / "b" / "__MACOSX" / "0.png", 250, mode="L")
    split = read_folder(tmp_path)
    assert split.train.classes == ("a", "b") and max(shades(split)) == 103
    assert not capsys.readouterr().err
    assert len(read_given([tmp_path], (1, 8, 10))[0]) == 8


def test_an_earlier_run_keeps_what_it_has_learned_from_hidden_folders(tmp_path):
    sides(tmp_path, "", count=4)
    png(tmp_path / "a" / ".thumbnails" / "0.png", 250, mode="L")
    assert shades(read_folder(tmp_path, version=3))[-1] == 250
    assert shades(read_folder(tmp_path))[-1] == 103


@pytest.mark.parametrize("names", [("",), ("train", "test")])
def test_pictures_in_no_folder_of_a_class_have_no_labels(tmp_path, names, capsys):
    for name in names:
        for number in range(12):
            png(tmp_path / name / f"{number}.png", 10 * len(name) + number, mode="L")
    split = read_folder(tmp_path)
    for side in (split.train, split.test):
        assert side.classes == () and (side.labels == UNKNOWN).all()
    assert len(split.train) + len(split.test) == 12 * len(names)
    assert not capsys.readouterr().err
    with pytest.raises(DataError, match="has no labels; choose an objective"):
        check_labels(split.train)


def test_sides_of_other_classes_are_told_by_one_of_them(tmp_path):
    sides(tmp_path, "train", "test")
    png(tmp_path / "train" / "c" / "0.png", 3, mode="L")
    with pytest.raises(DataError, match=r"train and test differ in classes \(one alone has c\)$"):
        read_folder(tmp_path)


@pytest.mark.parametrize(("size", "mode"), [((8000, 12000), "1"), ((4, 4), "F")])
def test_a_picture_that_is_refused_is_named_once_without_warnings(tmp_path, size, mode, recwarn):
    for name in ("a", "b"):
        png(tmp_path / name / "0.png", 3, mode="L")
    path = tmp_path / "b" / "1.tif"
    png(path, 0, size, mode)
    with pytest.raises(DataError) as found:
        read_folder(tmp_path)
    assert str(found.value).startswith(f"{path} has ") and str(found.value).count(str(path)) == 1
    assert not [one for one in recwarn if "Bomb" in str(one.category)]


@pytest.mark.slow
def test_what_has_no_labels_is_not_to_be_measured_by_a_reader_of_labels(tmp_path, capsys):
    for number in range(20):
        png(tmp_path / "flat" / f"{number}.png", number, mode="L")
    run = tmp_path / "run"
    words = ["pretrain-trunk", str(tmp_path / "flat"), "--objective", "rotation", "--epochs", "1"]
    assert main([*words, "--network", "grid", "--run", str(run)]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("Measure it")]
    assert line.endswith(f" eval {run}")
    assert main(["eval", str(run)]) == 0 and main(["play", str(run)]) == 2
    assert capsys.readouterr().err.endswith(f" eval {run}\n")


def test_classes_without_a_picture_are_named(tmp_path, capsys):
    sides(tmp_path, "train", "test")
    for side in ("train", "test"):
        (tmp_path / side / "c").mkdir()
    assert read_folder(tmp_path).train.classes == ("a", "b", "c")
    said = capsys.readouterr().err
    assert said == "note: no pictures to learn from in the folders of classes: c\n"

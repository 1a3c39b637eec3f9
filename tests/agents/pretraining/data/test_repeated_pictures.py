"""Pictures of the same pixels: never on both sides of what is divided here, told of elsewhere."""

import numpy as np
from playout.agents.pretraining.data.dataset import (
    Split,
    independent,
    split_rows,
    validation_rows,
)
from playout.agents.pretraining.data.folders import read_folder
from playout.agents.pretraining.data.pictures import same_pixels
from playout.agents.pretraining.data.repeats import tell_of_repeats
from playout.cli import main

from tests.agents.pretraining.data.test_picture_files import png


def shades(part):
    return part.pixels[:, 0, 0, 0].tolist()


def test_pictures_of_the_same_pixels_are_on_one_side_whatever_their_names_and_classes(tmp_path):
    for number in range(60):
        png(tmp_path / "ab"[number % 2] / f"{number}.png", number // 3, mode="L")
    for seed in range(5):
        split = read_folder(tmp_path, seed=seed)
        assert not set(shades(split.train)) & set(shades(split.test))
        assert sorted(shades(split.train) + shades(split.test)) == sorted([*range(20)] * 3)
        assert len(split.test) == 6
    assert independent(split.test, np.arange(6)) == 2


def test_folders_that_a_picture_links_are_on_one_side(tmp_path):
    for number in range(60):
        png(tmp_path / "a" / f"series{number // 5:02}" / f"{number}.png", number, mode="L")
    png(tmp_path / "a" / "series00" / "same.png", 200, mode="L")
    png(tmp_path / "b" / "series07" / "same.png", 200, mode="L")
    for seed in range(8):
        split = read_folder(tmp_path, seed=seed)
        sides = [{min(shade // 5, 40) for shade in shades(p)} for p in (split.train, split.test)]
        assert not sides[0] & sides[1]
        assert len({number in sides[0] for number in (0, 7, 40)}) == 1
    for number in range(1, 12):  # all series hold it: these are parted, the picture is not
        png(tmp_path / "b" / f"series{number:02}" / "same.png", 200, mode="L")
    split = read_folder(tmp_path)
    assert (200 in shades(split.train)) != (200 in shades(split.test)) and len(split.test) > 1


def test_without_repeated_pictures_a_folder_is_split_as_ever(tmp_path):
    for number in range(40):
        png(tmp_path / "ab"[number % 2] / f"{number:02}.png", number, mode="L")
    split = read_folder(tmp_path, seed=3)
    assert split.train.groups is None
    whole = [*range(0, 40, 2), *range(1, 40, 2)]
    assert shades(split.test) == [whole[n] for n in split_rows(40, None, 0.1, seed=3)]


def test_of_a_split_of_its_own_nothing_is_moved_and_what_is_repeated_is_said(tmp_path, capsys):
    for number in range(20):
        png(tmp_path / "train" / "ab"[number % 2] / f"{number}.png", number, mode="L")
    for number in range(17, 25):
        png(tmp_path / "test" / "ab"[number % 2] / f"{number}.png", number, mode="L")
    split = read_folder(tmp_path)
    assert len(split.train) == 20 and len(split.test) == 8
    tell_of_repeats(split)
    said = capsys.readouterr().out
    assert said.startswith("note: 3 of 8 held-out pictures of ") and said.count("\n") == 1
    others = np.flatnonzero(split.train.pixels[:, 0, 0, 0] < 17)
    tell_of_repeats(Split(split.train.subset(others), split.test))
    assert not capsys.readouterr().out


def test_what_chooses_the_best_checkpoint_shares_no_picture_with_what_is_learned_from(tmp_path):
    for number in range(600):
        colour = (number // 3, 0, number // 300)
        png(tmp_path / "ab"[number % 2] / f"{number}.png", colour, size=(4, 4))
    train = read_folder(tmp_path).train
    chosen = validation_rows(train, np.arange(len(train)), 0.1)
    assert len(chosen) >= 50
    numbers = same_pixels(train.pixels)
    assert not set(numbers[chosen]) & set(np.delete(numbers, chosen))


def test_training_and_measuring_say_what_is_repeated(folder, tmp_path, capsys):
    words = [str(folder), "--objective", "masked", "--network", "grid", "--epochs", "1"]
    note = "note: 4 of 4 held-out pictures of bars"
    assert main(["pretrain-trunk", *words, "--run", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.count(note) == 1
    for more in ([], ["--probe", "neighbours"]):
        assert main(["eval", str(tmp_path / "run"), *more]) == 0
        assert capsys.readouterr().out.count(note) == 1

"""Reading pictures: IDX files made by hand, folders of PNG files, and what is wrong with them."""

import gzip
import struct
import sys
from types import ModuleType, SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from PIL import Image
from playout.agents.pretraining.data import sources
from playout.agents.pretraining.data.dataset import (
    Augmentation,
    check_labels,
    labelled_rows,
    split_rows,
)
from playout.agents.pretraining.data.folders import read_folder
from playout.agents.pretraining.data.idx import read_idx, read_idx_folder
from playout.agents.pretraining.data.pictures import Pictures, augment
from playout.agents.pretraining.data.sources import load
from playout.errors import ConfigError, DataError


def write_idx(path, array):
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def idx_folder(folder, images, labels, *, suffix=""):
    folder.mkdir(exist_ok=True)
    for stem, part in (("train", slice(None)), ("t10k", slice(0, 4))):
        write_idx(folder / f"{stem}-images-idx3-ubyte{suffix}", images[part])
        write_idx(folder / f"{stem}-labels-idx1-ubyte{suffix}", labels[part])
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_hold_what_was_written(tmp_path, suffix):
    images = np.random.default_rng(0).integers(0, 256, (12, 9, 8))
    split = read_idx_folder(idx_folder(tmp_path, images, np.arange(12) % 3, suffix=suffix))
    assert np.array_equal(split.train.pixels[:, 0], images)
    assert split.train.labels.tolist() == [0, 1, 2] * 4
    assert split.train.classes == ("0", "1", "2")
    assert len(split.test) == 4
    assert np.allclose(split.test.images(np.array([1]))[0, 0], images[1] / 255, atol=1e-6)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_found_under_their_other_spelling(tmp_path, suffix):
    images = np.random.default_rng(0).integers(0, 256, (12, 9, 8))
    for path in idx_folder(tmp_path, images, np.arange(12) % 3, suffix=suffix).iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    split = load(str(tmp_path))
    assert np.array_equal(split.train.pixels[:, 0], images)
    assert split.train.labels.tolist() == [0, 1, 2] * 4 and len(split.test) == 4


def test_fashion_mnist_is_known_by_what_it_holds(tmp_path, monkeypatch):
    folder = idx_folder(tmp_path / "data", np.zeros((12, 9, 8)), np.arange(12) % 3)
    monkeypatch.setattr(sources, "FASHION_FOLDER", folder)
    with pytest.raises(DataError, match="does not hold Fashion-MNIST as published"):
        load("fashion-mnist")
    monkeypatch.setattr(sources, "FASHION_DIGEST", sources.digest(load(str(folder))))
    assert load("fashion-mnist").train.classes[1] == "Trouser"


@pytest.mark.parametrize("there", [False, True], ids=["no folder", "an empty one"])
def test_fashion_mnist_that_is_not_installed_says_how_to_get_it(tmp_path, monkeypatch, there):
    monkeypatch.setattr(sources, "FASHION_FOLDER", tmp_path if there else tmp_path / "none")
    with pytest.raises(DataError, match="apt install dataset-fashion-mnist, or name a folder"):
        load("fashion-mnist")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is not an IDX file"),
        (b"\0\0\x0d\1" + bytes(8), "is not an IDX file"),  # floats
        (b"\0\0\x08\3" + bytes(6), "train-images-idx3-ubyte ends before"),
        (b"\0\0\x08\2" + struct.pack(">2I", 3, 3) + bytes(8), "should hold 9 bytes and has 8"),
        (b"\0\0\x08\3" + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 9) + bytes(9), "should hold"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, data, what):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataError, match=what):
        read_idx(path)
    write_idx(path.with_suffix(".gz"), np.zeros(99))
    path.with_suffix(".gz").write_bytes(path.with_suffix(".gz").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cannot be read: .*; replace it by a whole one$"):
        read_idx(path.with_suffix(".gz"))


def test_labels_of_another_number_are_refused(tmp_path):
    images = np.zeros((5, 8, 8))
    folder = idx_folder(tmp_path, images, np.zeros(5))
    write_idx(folder / "train-labels-idx1-ubyte", np.zeros(4))
    with pytest.raises(DataError, match="4 labels for 5 pictures"):
        read_idx_folder(folder)


def png(path, color, size=(10, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def test_a_folder_a_class_becomes_labels(tmp_path):
    for number in range(10):
        png(tmp_path / "red" / f"{number}.png", (250, 0, number))
        png(tmp_path / "blue" / f"{number}.png", (0, 0, 250))
    split = read_folder(tmp_path)
    whole = np.concatenate([split.train.labels, split.test.labels])
    assert split.train.classes == ("blue", "red")
    assert np.bincount(whole).tolist() == [10, 10]
    assert split.train.shape == (3, 8, 10)
    for part in (split.train, split.test):
        assert ((part.pixels[:, 0, 0, 0] == 250) == (part.labels == 1)).all()


def test_pictures_of_two_sizes_are_named_and_can_be_brought_to_one(tmp_path):
    for number in range(9):
        png(tmp_path / "a" / f"{number}.png", number, mode="L")
    png(tmp_path / "b" / "odd.png", 3, size=(20, 20), mode="L")
    with pytest.raises(DataError, match=r"odd\.png is 20x20 and 0\.png 10x8.*--image-size"):
        read_folder(tmp_path)
    assert read_folder(tmp_path, size=12).train.shape == (1, 12, 12)


def test_a_broken_picture_is_named(tmp_path):
    png(tmp_path / "a" / "good.png", (1, 2, 3))
    (tmp_path / "a" / "torn.png").write_bytes((tmp_path / "a" / "good.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"torn\.png .*: remove or replace it$"):
        read_folder(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_pictures_of_16_bits_keep_their_upper_byte(tmp_path, suffix):
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    for number in range(10):
        path = tmp_path / "a" / f"{number}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(ramp).save(path)
    found = read_folder(tmp_path).train.pixels
    assert found.shape == (9, 1, 8, 8) and (found == ramp >> 8).all()


def test_folders_below_those_of_classes_are_held_out_whole(tmp_path):
    for number in range(60):
        person, kind = number % 20, "ab"[number % 2]
        png(tmp_path / kind / f"person{person // 2}" / f"{number}.png", person // 2, mode="L")
    for seed in range(3):
        split = read_folder(tmp_path, seed=seed)
        sides = [set(part.pixels[:, 0, 0, 0].tolist()) for part in (split.train, split.test)]
        assert sides[0] | sides[1] == set(range(10)) and not sides[0] & sides[1]
        assert len(split.test) == 6
    png(tmp_path / "one" / "a" / "only" / "1.png", 1, mode="L")
    png(tmp_path / "one" / "b" / "only" / "2.png", 2, mode="L")
    assert len(read_folder(tmp_path / "one").test) == 1  # one group alone is parted


def test_one_picture_in_colour_after_many_grey_ones_keeps_its_colour(tmp_path):
    for number in range(60):
        png(tmp_path / "train" / "a" / f"{number:02}.png", number, mode="L")
        png(tmp_path / "test" / "a" / f"{number:02}.png", number, mode="L")
    png(tmp_path / "test" / "b" / "last.png", (250, 0, 0))
    png(tmp_path / "train" / "b" / "last.png", 7, mode="L")
    split = read_folder(tmp_path)
    assert split.train.shape == split.test.shape == (3, 8, 10)
    assert split.test.pixels[-1, :, 0, 0].tolist() == [250, 0, 0]
    assert split.train.pixels[59, :, 0, 0].tolist() == [59, 59, 59]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white_whatever_its_colour(mode, tmp_path):
    shape, half = Image.new("RGBA", (8, 8)), (0, 0, 8, 4)  # black, and all of it transparent
    shape.paste((0, 0, 0, 255), half)
    for number in range(10):
        path = tmp_path / "a" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        if mode == "P":
            paletted = Image.new("P", (8, 8), 1)
            paletted.putpalette([0, 0, 0, 9, 9, 9])
            paletted.paste(0, half)
            paletted.save(path, transparency=1)
        else:
            shape.convert(mode).save(path)
    found = read_folder(tmp_path).train.pixels
    assert found.shape == (9, 1 if mode == "LA" else 3, 8, 8)
    assert (found[:, :, :4] == 0).all() and (found[:, :, 4:] == 255).all()


def test_photographs_stand_as_the_camera_was_held(tmp_path):
    upright = np.zeros((12, 8, 3), np.uint8)
    upright[:6] = 255  # the sky
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    for number in range(10):
        path = tmp_path / "a" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        lying.save(path, exif=exif)
    found = read_folder(tmp_path).train.pixels
    assert found.shape == (9, 3, 12, 8)
    assert (found == upright.transpose(2, 0, 1)).all()


def test_pictures_of_numbers_without_a_scale_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(10):
        Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a" / f"{number}.tif")
    with pytest.raises(DataError, match=r"0\.tif has pixels of mode F"):
        read_folder(tmp_path)


def pictures(labels, classes=("a", "b")):
    pixels = np.zeros((len(labels), 1, 8, 8), np.uint8)
    return Pictures(name="set", pixels=pixels, labels=np.array(labels), classes=classes)


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ([-1, -1], "has no labels"),
        ([0, 2], "picture 1 has the label 2"),
        ([0, 0], r"one class only \(a\)"),
    ],
)
def test_labels_that_cannot_be_learned_are_named(labels, what):
    with pytest.raises(DataError, match=what):
        check_labels(pictures(labels))


def test_a_share_of_the_labels_is_the_same_share_of_every_class():
    data = pictures([0] * 300 + [1] * 100)
    rows = labelled_rows(data, 0.1, seed=3)
    assert np.bincount(data.labels[rows]).tolist() == [30, 10]
    assert np.array_equal(rows, labelled_rows(data, 0.1, seed=3))
    assert not np.array_equal(rows, labelled_rows(data, 0.1, seed=4))


def test_groups_are_never_cut():
    groups = np.repeat(np.arange(20), 5)
    held = split_rows(100, groups, 0.2, seed=0)
    rest = np.setdiff1d(np.arange(100), held)
    assert len(held) == 20
    assert not set(groups[held]) & set(groups[rest])


def test_groups_of_many_sizes_are_held_out_by_their_rows():
    for sizes, expected in (([200, 1], 1), ([60, 50, 9, 1], 10), ([10] * 10, 10)):
        groups = np.repeat(np.arange(len(sizes)), sizes)
        held = split_rows(sum(sizes), groups, 0.1, seed=0, by_rows=True)
        assert len(held) == expected
        assert not set(groups[held]) & set(np.delete(groups, held))


class Film(gym.Env):
    """An environment that shows how many steps were made."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def render(self):
        return np.full((8, 8, 3), self.steps, np.uint8)


@pytest.mark.parametrize(("count", "held"), [(19, 2), (20, 2), (21, 1), (200, 20)])
def test_frames_of_few_episodes_leave_most_to_learn_from(count, held, monkeypatch):
    film = EnvSpec("Film-v0", entry_point=Film, max_episode_steps=20)
    monkeypatch.setitem(gym.registry, "Film-v0", film)
    split = load("frames:Film-v0", count=count, image_size=8)
    assert (len(split.train), len(split.test)) == (count - held, held)


def test_a_shift_moves_the_picture_and_a_flip_mirrors_it():
    one = np.zeros((64, 1, 10, 10), np.uint8)
    one[:, 0, 5, 3] = 255
    rng = np.random.default_rng(0)
    moved = augment(one, Augmentation(shift=0.2), rng)
    places = np.argwhere(moved[:, 0] == 255)
    assert (np.abs(places[:, 1] - 5) <= 2).all()
    assert (np.abs(places[:, 2] - 3) <= 2).all()
    assert len(np.unique(places[:, 1:], axis=0)) > 15
    flipped = augment(one, Augmentation(shift=0.0, flip=True), rng)
    columns = np.argwhere(flipped[:, 0] == 255)[:, 2]
    assert set(columns) == {3, 6}
    covered = augment(one, Augmentation(shift=0.0, erase=1.0), rng)
    assert ((covered != one).reshape(64, -1).any(1)).mean() > 0.9


def test_a_crop_shows_a_part_as_large_as_the_whole():
    """Of a picture whose pixels say where they are, both sides tell which part it is."""
    ramp = np.arange(0, 200, 10, dtype=np.uint8)
    one = np.stack([np.tile(ramp[:, None], 20), np.tile(ramp, (20, 1))])[None].repeat(300, axis=0)
    crop = augment(one, Augmentation(shift=0.0, crop=0.25), np.random.default_rng(1))
    down, right = crop[:, 0, :, 0].astype(int), crop[:, 1, 0, :].astype(int)
    # Every row of what is shown is one row of the picture, or lies between two.
    assert (crop[:, 0] == crop[:, 0, :, :1]).all() and (crop[:, 1] == crop[:, 1, :1]).all()
    tall, wide = ((side[:, 15] - side[:, 5]) / 100 for side in (down, right))  # of all
    assert 0.23 < (tall * wide).min() < 0.3 and 0.9 < (tall * wide).max() < 1.03
    assert 0.70 < (tall / wide).min() < 0.8 and 1.25 < (tall / wide).max() < 1.43
    assert down.min() == 0 and down.max() == 190 and (np.diff(down) >= 0).all()
    assert len(np.unique(down[:, 0])) > 30 and len(np.unique(right[:, 0])) > 30
    whole = augment(one, Augmentation(shift=0.0, crop=1.0), np.random.default_rng(1))
    assert (whole == one).all()


def test_a_part_of_a_batch_is_cropped_as_in_the_whole_batch():
    pixels = np.random.default_rng(3).integers(0, 256, (12, 3, 9, 7)).astype(np.uint8)
    how = Augmentation(shift=0.2, flip=True, erase=0.5, crop=0.3)
    whole = augment(pixels, how, np.random.default_rng(5))
    part = augment(pixels[4:9], how, np.random.default_rng(5), slice(4, 9), 12)
    assert (part == whole[4:9]).all()


def test_links_to_pictures_of_the_folder_are_no_further_pictures(tmp_path):
    outside = tmp_path / "outside.png"
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(outside)
    for number in range(20):
        path = tmp_path / "set" / ("a", "b")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 100 + number, np.uint8)).save(path)
    (tmp_path / "set" / "b" / "again.png").symlink_to(tmp_path / "set" / "a" / "0.png")
    (tmp_path / "set" / "b" / "new.png").symlink_to(outside)
    split = read_folder(tmp_path / "set")
    pixels = [*split.train.pixels[:, 0, 0, 0], *split.test.pixels[:, 0, 0, 0]]
    assert sorted(pixels) == [9, *range(100, 120)]


@pytest.mark.parametrize("kept", ["images", ".git/annex"])
def test_links_to_pictures_that_no_class_holds_are_read_once(tmp_path, kept):
    (tmp_path / kept).mkdir(parents=True)
    sides = [tmp_path / side for side in ("train", "test")] if kept == "images" else [tmp_path]
    for number in range(20):
        target = tmp_path / kept / f"{number}.png"
        Image.fromarray(np.full((8, 8), 100 + number, np.uint8)).save(target)
        link = sides[number // 2 % len(sides)] / ("a", "b")[number % 2] / f"{number}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    (sides[0] / "b" / "twice.png").symlink_to(tmp_path / kept / "0.png")
    split = read_folder(tmp_path)
    pixels = [*split.train.pixels[:, 0, 0, 0], *split.test.pixels[:, 0, 0, 0]]
    assert sorted(pixels) == [*range(100, 120)]


def test_icons_are_a_class_a_category_and_their_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ICONS_FOLDER", tmp_path / "48x48")
    with pytest.raises(DataError, match="apt install gnome-icon-theme"):
        load("icons")
    for number in range(20):
        path = tmp_path / "48x48" / ("actions", "apps")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (384, 192) if number == 3 else (48, 48)
        Image.new("RGBA", size, (number, 0, 200, 255)).save(path)
    split = load("icons")
    assert split.train.classes == ("actions", "apps") and split.train.shape == (3, 48, 48)
    assert len(split.train) + len(split.test) == 20


def test_photographs_are_cut_and_their_right_sides_held_out(monkeypatch):
    image = np.zeros((70, 330, 3), np.uint8)
    image[..., 0] = np.arange(330) // 32
    bunch = SimpleNamespace(images=[image, image + 100], filenames=["china.jpg", "flower.jpg"])
    fake = ModuleType("sklearn.datasets")
    fake.load_sample_images = lambda: bunch
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", fake)
    split = load("photographs")
    assert split.train.classes == ("china", "flower") and split.train.shape == (3, 32, 32)
    assert sorted(set(split.train.pixels[:, 0].flat)) == [*range(8), *range(100, 108)]
    assert sorted(set(split.test.pixels[:, 0].flat)) == [8, 9, 108, 109]
    assert (split.test.labels == (split.test.pixels[:, 0, 0, 0] >= 100)).all()


def test_a_name_that_is_no_data_says_what_there_is():
    with pytest.raises(
        ConfigError, match=r"no data 'fashion' \(did you mean fashion-mnist\?\).*frames:"
    ):
        load("fashion")

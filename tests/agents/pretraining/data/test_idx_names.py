"""IDX files under the names that their publishers give them, and what is said of others."""

import numpy as np
import pytest
from playout.agents.pretraining.data.idx import holds_idx, read_idx_folder
from playout.agents.pretraining.data.sources import load, takes_size
from playout.errors import DataError

from tests.agents.pretraining.data.test_picture_files import idx_folder, write_idx

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 9, 8))


def named(folder, change, *, suffix=".gz"):
    """A folder of IDX files whose names are changed."""
    for path in idx_folder(folder, IMAGES, np.arange(12) % 3, suffix=suffix).iterdir():
        path.rename(path.with_name(change(path.name)))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"emnist-letters-{name}",
        lambda name: f"kmnist_{name}",
        lambda name: name.replace(".gz", ".GZ"),
        lambda name: name.upper(),
        lambda name: f"Set.{name.replace('-idx', '.idx').replace('t10k', 'test')}",
    ],
)
def test_words_in_front_and_capitals_are_no_hindrance(tmp_path, change):
    folder = named(tmp_path, change)
    assert holds_idx(folder) and not takes_size(str(folder))
    split = load(str(folder))
    assert np.array_equal(split.train.pixels[:, 0], IMAGES) and len(split.test) == 4
    assert split.train.labels.tolist() == [0, 1, 2] * 4 and split.train.classes == ("0", "1", "2")


def test_files_of_several_sets_are_told_apart(tmp_path):
    for front in ("letters", "digits"):
        named(tmp_path / front, lambda name, front=front: f"emnist-{front}-{name}")
        for path in (tmp_path / front).iterdir():
            path.rename(tmp_path / path.name)
    with pytest.raises(DataError, match="holds the IDX files of emnist-digits, emnist-letters: na"):
        load(str(tmp_path))
    idx_folder(tmp_path, IMAGES[:, :5], np.arange(12) % 3)  # those without are meant
    assert read_idx_folder(tmp_path).train.shape == (1, 5, 8)


def test_a_set_needs_both_sides_with_the_same_words_in_front(tmp_path):
    named(tmp_path, lambda name: f"a-{name}" if "train" in name else f"b-{name}")
    with pytest.raises(DataError, match=r"holds no a-t10k-images-idx3-ubyte \(or \.gz\)"):
        load(str(tmp_path))


def test_labels_of_several_numbers_are_told_by_their_axes(tmp_path):
    idx_folder(tmp_path, IMAGES, np.zeros((6, 2)))
    with pytest.raises(DataError, match="has 6 x 2 labels for 12 pictures"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["train-images-idx4-ubyte.gz", "pictures.idx3-ubyte"])
def test_files_that_cannot_be_used_are_told_how_they_are_called(tmp_path, name):
    write_idx(tmp_path / name, np.zeros((12, 9, 8, 3)))
    with pytest.raises(DataError) as caught:
        load(str(tmp_path))
    said = str(caught.value)
    assert f"holds no pictures: of IDX files such as {name} it takes train-images-idx3-ub" in said
    assert "train-labels-idx1-ubyte" in said and "\n" not in said

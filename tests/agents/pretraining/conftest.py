"""A folder of pictures in the IDX form."""

import pytest

from tests.agents.pretraining.bars import bars
from tests.agents.pretraining.data.test_picture_files import idx_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    pixels, labels = bars(120)
    return idx_folder(tmp_path_factory.mktemp("bars"), pixels, labels)

"""metrics.jsonl is the truth, TensorBoard its view; both survive being cut short."""

import json
import math

import pytest
from playout.agents.runs.metrics import (
    MetricsLog,
    encode_row,
    last_measures,
    read_rows,
    tensorboard,
)
from playout.errors import CheckpointError


def write(folder, rows, resume=None):
    log = MetricsLog(folder, resume)
    for n in rows:
        log.append(n, n * 10, {"train/loss": n / 2})
    mark = log.mark()
    log.close()
    return mark


def updates(folder):
    return [row["update"] for row in read_rows(folder)]


def test_rows_come_back(tmp_path):
    write(tmp_path, [1, 2])
    assert list(read_rows(tmp_path))[1] == {"update": 2, "step": 20, "train/loss": 1.0}


def test_values_that_are_not_finite_become_null_and_whole_numbers_stay_whole():
    row = json.loads(encode_row(1, 2, {"a": math.nan, "b": -math.inf, "n": 3, "t": True}))
    assert row == {"update": 1, "step": 2, "a": None, "b": None, "n": 3, "t": 1.0}


def test_numbers_of_numpy_and_torch_are_written():
    import numpy as np
    import torch

    row = json.loads(encode_row(1, 2, {"a": np.float32(0.5), "b": torch.tensor(2.0)}))
    assert row["a"] == 0.5 and row["b"] == 2.0


def test_resuming_cuts_off_what_came_after_the_checkpoint(tmp_path):
    mark = write(tmp_path, [1, 2, 3])
    write(tmp_path, [4, 5], mark)
    again = write(tmp_path, [4], mark)
    assert updates(tmp_path) == [1, 2, 3, 4]
    assert write(tmp_path, [], again) == again


def test_a_torn_last_line_is_left_out_and_cut_on_resume(tmp_path):
    mark = write(tmp_path, [1, 2])
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"update":3,"st')
    assert updates(tmp_path) == [1, 2]
    write(tmp_path, [3], mark)
    assert updates(tmp_path) == [1, 2, 3]


def test_the_latest_number_of_each_measure_is_told_also_after_a_torn_line(tmp_path):
    log = MetricsLog(tmp_path)
    for n, loss in enumerate((0.5, 0.25, math.nan), 1):
        log.append(n, n, {"train/loss": 1.0, "eval/loss": loss, "eval/nothing": math.nan})
    log.close()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"update":4,"st')
    assert last_measures(tmp_path) == {"eval/loss": 0.25}


@pytest.mark.parametrize("damage", ["shorten", "edit"])
def test_damaged_rows_before_the_checkpoint_are_refused_and_kept(tmp_path, damage):
    mark = write(tmp_path, [1, 2, 3])
    path = tmp_path / "metrics.jsonl"
    data = path.read_bytes()
    data = data[:-5] if damage == "shorten" else data.replace(b"20", b"21")
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="move it away"):
        MetricsLog(tmp_path, mark)
    assert path.read_bytes() == data
    path.unlink()
    write(tmp_path, [4], mark)
    assert updates(tmp_path) == [4]


def test_a_line_that_is_no_row_is_named(tmp_path):
    write(tmp_path, [1])
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b"[1]\n")
    with pytest.raises(CheckpointError, match="line 2"):
        list(read_rows(tmp_path))


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in tags}


def test_tensorboard_reads_what_was_written(tmp_path):
    view = tensorboard.TensorBoardView(tmp_path / "tb")
    view.append(1, {"train/loss": 0.5, "eval/größe": -3.0})
    view.append(1 << 40, {"train/loss": 1e300, "time/fps": math.nan})
    view.close()
    found = events(tmp_path / "tb")
    assert found["train/loss"][0] == (1, 0.5)
    assert found["train/loss"][1] == (1 << 40, pytest.approx(3.4028235e38))
    assert found["eval/größe"] == [(1, -3.0)]
    assert math.isnan(found["time/fps"][0][1])


def test_a_resumed_view_hides_the_steps_that_are_repeated(tmp_path):
    first = tensorboard.TensorBoardView(tmp_path / "tb", purge_step=0)
    for step in (10, 20, 30):
        first.append(step, {"x": step})
    first.close()
    second = tensorboard.TensorBoardView(tmp_path / "tb", purge_step=21)
    second.append(30, {"x": -30})
    second.close()
    assert events(tmp_path / "tb")["x"] == [(10, 10.0), (20, 20.0), (30, -30.0)]


def test_names_of_views_sort_as_they_were_opened(tmp_path):
    views = [tensorboard.TensorBoardView(tmp_path / "tb") for _ in range(120)]
    opened = []
    for view in views:
        view.close()
        opened += sorted({path.name for path in (tmp_path / "tb").iterdir()} - set(opened))
    assert opened == sorted(opened) and len(opened) == 120


def test_the_checksum_is_crc32c():
    # The check value of CRC-32C, masked as TFRecord files do.
    crc = 0xE3069283
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert tensorboard.masked_crc32c(b"123456789") == masked


def test_two_views_opened_in_one_second_do_not_collide(tmp_path):
    views = [tensorboard.TensorBoardView(tmp_path / "tb") for _ in range(3)]
    for view in views:
        view.append(1, {"x": 1})
        view.close()
    assert len(list((tmp_path / "tb").iterdir())) == 3

"""Files made to harm: links, traversal, huge claims, foreign folders; each refused in one line."""

import json
import os
import socket
import struct

import numpy as np
import pytest
from playout.agents.runs.checkpoint import durable_io
from playout.agents.runs.checkpoint import folder as checkpoints
from playout.agents.runs.checkpoint.tensor_file import parse
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import MetricsLog, read_rows
from playout.errors import CheckpointError, PlayoutError, RunError


@pytest.fixture
def run(memory_path):
    run = RunDir.create(memory_path / "r", kind="toy", config={"a": 1}, seed=0)
    run.save(1, {"model": {"w": np.arange(4.0)}, "n": 1})
    return run


def manifest(run, change):
    """Rewrite the manifest through `change` and seal it again, as an attacker would."""
    path = run.path / "checkpoints/000001/MANIFEST.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_bytes(durable_io.encode_json(durable_io.seal(value)))


def plant(run, name, data):
    """Replace a checkpoint's file and make the manifest agree."""
    path = run.path / "checkpoints/000001" / name
    path.write_bytes(data)
    size, digest = durable_io.hash_file(path)
    manifest(run, lambda value: value["files"].update({name: {"bytes": size, "sha256": digest}}))


def tensor_file(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/passwd",
        "/etc/passwd",
        "..",
        "a/b.safetensors",
        "x.pkl",
        "x.pt",
        ".safetensors",
    ],
)
def test_a_manifest_cannot_name_files_elsewhere_or_of_other_types(run, name):
    manifest(run, lambda value: value["files"].update({name: {"bytes": 1, "sha256": "0" * 64}}))
    with pytest.raises(CheckpointError, match="names a file that a checkpoint cannot hold"):
        run.load()


@pytest.mark.parametrize(
    "target",
    ["model.safetensors", "state.json", "MANIFEST.json", "LATEST", "run.json", "config.toml"],
)
def test_links_are_not_followed_for_reading(run, memory_path, target):
    path = run.path / target
    if not path.exists():
        path = run.path / "checkpoints/000001" / target
    outside = memory_path / "outside"
    os.rename(path, outside)
    path.symlink_to(outside)
    with pytest.raises(CheckpointError, match="symbolic link"):
        RunDir.open(run.path).load()


@pytest.mark.parametrize("name", ["metrics.jsonl", "lock"])
def test_links_are_not_followed_for_writing(run, memory_path, name):
    victim = memory_path / "victim"
    victim.write_text("precious\n")
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(victim)
    with pytest.raises(RunError, match="symbolic link"):
        if name == "lock":
            with run.lock():
                pass
        else:
            MetricsLog(run.path)
    assert victim.read_text() == "precious\n"


@pytest.mark.parametrize("name", ["LATEST.tmp", "run.json.tmp", "checkpoints/000002.tmp"])
def test_a_link_in_the_place_of_a_file_aside_is_removed_not_followed(run, memory_path, name):
    victim = memory_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("precious\n")
    (run.path / name).symlink_to(victim)
    run.save(2, {"n": 2})
    run.update(note="x")
    with run.lock():
        pass
    assert (victim / "precious").read_text() == "precious\n"
    assert run.load()[0] == 2


def test_a_linked_checkpoint_folder_is_refused(run, memory_path):
    folder = run.path / "checkpoints/000001"
    os.rename(folder, memory_path / "000001")
    folder.symlink_to(memory_path / "000001")
    with pytest.raises(CheckpointError, match="not a checkpoint folder"):
        run.load()


def test_a_linked_folder_of_checkpoints_is_never_written(run, memory_path):
    os.rename(run.path / "checkpoints", memory_path / "elsewhere")
    (run.path / "checkpoints").symlink_to(memory_path / "elsewhere")
    with pytest.raises(RunError, match="is not a folder"), run.lock():
        pass


@pytest.mark.parametrize("name", ["metrics.jsonl", "LATEST", "config.toml", "run.json"])
def test_pipes_and_sockets_do_not_hang_a_reader(run, name):
    path = run.path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(PlayoutError, match="not a regular file"):
        opened = RunDir.open(run.path)
        opened.load()
        list(read_rows(run.path))
    path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    with pytest.raises(PlayoutError):
        opened = RunDir.open(run.path)
        opened.load()
        list(read_rows(run.path))
    listener.close()


def test_a_huge_sparse_file_is_refused_before_it_is_read(run):
    path = run.path / "checkpoints/000001/MANIFEST.json"
    os.truncate(path, 1 << 45)
    with pytest.raises(CheckpointError, match="more than the"):
        run.load()
    os.truncate(run.path / "run.json", 1 << 45)
    with pytest.raises(CheckpointError, match="more than the"):
        RunDir.open(run.path)


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        (struct.pack("<Q", 1 << 62), None, "claims a header"),
        (struct.pack("<Q", 50 << 20), None, "claims a header"),
        (b"\0" * 4, None, "too short"),
        (b"[]", b"", "not a safetensors"),
        (b" {}", b"", "not a safetensors"),
        (b'{"a":' * 5000, b"", "not valid JSON"),
        (b'{"w":{},"w":{}}', b"", "holds a key twice"),
        (
            {"w": {"dtype": "F64", "shape": [4], "data_offsets": [0, 32]}},
            b"\0" * 33,
            "belong to no",
        ),
        (
            {"w": {"dtype": "F64", "shape": [4], "data_offsets": [0, 32]}},
            b"\0" * 31,
            "belong to no",
        ),
        ({"w": {"dtype": "F64", "shape": [4], "data_offsets": [8, 40]}}, b"\0" * 40, "overlap"),
        ({"w": {"dtype": "F64", "shape": [5], "data_offsets": [0, 32]}}, b"\0" * 32, "not match"),
        (
            {"w": {"dtype": "object", "shape": [4], "data_offsets": [0, 32]}},
            b"\0" * 32,
            "type that",
        ),
        ({"w": {"dtype": ["F64"], "shape": [4], "data_offsets": [0, 32]}}, b"\0" * 32, "type that"),
        ({"w": {"dtype": "F64", "shape": [-4], "data_offsets": [0, 32]}}, b"\0" * 32, "malformed"),
        ({"w": {"dtype": "F64", "shape": [True], "data_offsets": [0, 8]}}, b"\0" * 8, "malformed"),
        ({"w": {"dtype": "F64", "shape": [4.0], "data_offsets": [0, 32]}}, b"\0" * 32, "malformed"),
        ({"w": {"dtype": "F64", "shape": [1 << 62, 0], "data_offsets": [0, 0]}}, b"", "impossible"),
        (
            {"w": {"dtype": "F64", "shape": [1] * 99, "data_offsets": [0, 8]}},
            b"\0" * 8,
            "malformed",
        ),
        ({"w": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\7", "truth values"),
        ({"w": 1}, b"", "malformed"),
        ({"__metadata__": {"a": 1}}, b"", "malformed metadata"),
        ({"__metadata__": 1}, b"", "malformed metadata"),
        (
            {
                "a": {"dtype": "F64", "shape": [4], "data_offsets": [0, 32]},
                "w": {"dtype": "F64", "shape": [4], "data_offsets": [16, 48]},
            },
            b"\0" * 48,
            "overlap",
        ),
    ],
)
def test_a_hostile_tensor_file_is_refused(run, header, body, message):
    plant(run, "model.safetensors", header if body is None else tensor_file(header, body))
    with pytest.raises(CheckpointError, match=message):
        run.load()


@pytest.mark.parametrize(
    ("skeleton", "message"),
    [
        ({"model": {"w": {"$array": "nothing"}}}, "not there"),
        ({"model": {"w": {"$array": ["w"]}}}, "not there"),
        ({"model": [{"$array": "w"}, {"$array": "w"}]}, "already used"),
        ({"model": {"w": {"$object": "os.system"}}}, "unknown mark"),
        ({"model": {"w": {"$array": "w", "x": 1}}}, "mixes a mark"),
        ({"model": {"w": {"$tuple": 3}}}, "malformed tuple"),
        ({"model": {"w": {"$dict": [[1]]}}}, "malformed dict"),
        ({"model": {"w": {"$dict": [[[], 1]]}}}, "cannot be one"),
        ({"model": {"w": {"$dict": [[1, 1], [1, 2]]}}}, "key twice"),
        ({"model": {"w": {"$float": "zz"}}}, "malformed number"),
        ({"model": {"w": {"$float": None}}}, "malformed number"),
        ({"model": {}, "n": 1}, "does not mention"),
        ({"n": 1}, "does not mention"),
        ([], "malformed"),
        (b'{"a":1,"a":2}', "key twice"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"model":{},"a":1e999}', "out of range"),
        (b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[" * 200_000, "not valid JSON"),
        (b'{"a":' + b"[" * 80 + b"]" * 80 + b"}", "levels deep"),
        (b'{"a":"\xff"}', "not valid JSON"),
    ],
)
def test_a_hostile_skeleton_is_refused(run, skeleton, message):
    data = skeleton if isinstance(skeleton, bytes) else json.dumps(skeleton).encode()
    plant(run, "state.json", data)
    with pytest.raises(CheckpointError, match=message):
        run.load()


@pytest.mark.parametrize(
    "change",
    [
        {"files": {}},
        {"files": []},
        {"files": {"state.json": 3}},
        {"files": {"state.json": {"bytes": -1, "sha256": "0"}}},
        {"files": {"state.json": {"bytes": True, "sha256": "0"}}},
        {"step": "1"},
        {"step": 2},
        {"metric": "9"},
        {"metric": True},
        {"info": None},
        {"created": "now"},
        {"format": "playout.checkpoint.v9"},
    ],
)
def test_a_malformed_manifest_is_refused(run, change):
    manifest(run, lambda value: value.update(change))
    with pytest.raises(CheckpointError):
        run.load()


def test_a_foreign_folder_is_not_taken_for_a_run(memory_path):
    (memory_path / "checkpoints").mkdir()
    (memory_path / "config.toml").write_text("a = 1\n")
    (memory_path / "run.json").write_text('{"kind": "ppo"}')
    with pytest.raises(CheckpointError, match=r"not a playout\.run\.v1 file"):
        RunDir.open(memory_path)
    (memory_path / "run.json").unlink()
    with pytest.raises(RunError, match="not empty and not a run"):
        RunDir.create(memory_path, kind="ppo", config={}, seed=0)


@pytest.mark.parametrize("name", ["000001.pkl", "1", "0000001", "-00001", "00000١", "latest"])
def test_other_names_are_not_checkpoints(run, name):
    (run.path / "checkpoints" / name).mkdir()
    assert [step for step, _ in checkpoints.newest_first(run.path / "checkpoints")] == [1]


def test_a_checkpoint_never_takes_more_memory_than_its_files(run):
    """Shapes are checked against the bytes that are there: a small file asks for no large array."""
    header = {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    with pytest.raises(CheckpointError):
        parse(bytearray(tensor_file(header)), run.path)

"""A thousand random mutations of every format: refused in one line, or read as it was written."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import playout
import pytest
import safetensors
from playout.agents.runs.checkpoint import codec, durable_io, tensor_file
from playout.agents.runs.checkpoint import folder as checkpoints
from playout.agents.runs.config import read_toml
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import MetricsLog, read_rows
from playout.envs.records import files
from playout.errors import CheckpointError, ConfigError, DataError, GameError, PlayoutError

NUMBER = 10_000 if os.environ.get("PLAYOUT_LONG") else 1000
TOKENS = [
    b"[" * 500,
    b"{",
    b'"',
    b"\0",
    b"9" * 30,
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"\xff\xfe",
    b"../",
]
FILES = ["run.json", "config.toml", "LATEST", "metrics.jsonl"]
FILES += [
    f"checkpoints/000002/{name}" for name in ("MANIFEST.json", "state.json", "model.safetensors")
]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to three small or large injuries."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at, other = sorted(rng.randrange(len(out) + 1) for _ in range(2))
        kind = rng.randrange(7)
        if kind == 0 and out:
            out[at - 1] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at - 1] = rng.randrange(256)
        elif kind == 2:
            del out[at : rng.choice([at + 1, other])]
        elif kind == 3:
            out[at:at] = rng.choice(TOKENS)
        elif kind == 4:
            out[at:at] = out[at:other]
        elif kind == 5:
            del out[at:]
        else:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(out)


def state():
    return {
        "model": {"w": np.arange(6, dtype="float32").reshape(2, 3), "b": np.zeros(3, bool)},
        "n": 2,
        "rng": {"state": (1, 2.5, "text", None, [True]), 3: b"bytes"},
    }


@pytest.fixture
def run(memory_path):
    run = RunDir.create(memory_path / "r", kind="toy", config={"a": [1, None], "b": "x"}, seed=3)
    log = MetricsLog(run.path)
    for n in (1, 2):
        log.append(n, n * 10, {"train/loss": n / 3})
        run.save(n, {**state(), "n": n}, metric=float(n), info={"metrics": log.mark()})
    log.append(3, 30, {"train/loss": 1.0})
    log.close()
    return run


def refuse(error: PlayoutError) -> None:
    text = str(error)
    assert text and "\n" not in text and len(text) < 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_mutated_run_is_refused_or_read_as_it_was(run, name):
    rng = random.Random(name)
    path = run.path / name
    original, wanted = path.read_bytes(), repr(run.load()[1])
    refused = 0
    for _ in range(NUMBER):
        path.write_bytes(mutate(original, rng))
        try:
            found = RunDir.open(run.path)
            assert found.config == run.config and found.seed == 3
            step, loaded = found.load()
            assert step == 2 and repr(loaded) == wanted
            list(read_rows(found.path))
            log = MetricsLog(found.path, found.find().info["metrics"])
            log.close()
            path.write_bytes(original)
        except PlayoutError as error:
            refuse(error)
            refused += 1
        assert run.path.joinpath("checkpoints/000001/MANIFEST.json").exists()
    assert refused > NUMBER * 0.3 or name in ("LATEST", "metrics.jsonl")


def test_a_mutated_tensor_file_is_refused_by_the_reader_itself_or_agrees_with_the_library():
    rng = random.Random(1)
    tensors = {name: codec.from_numpy(value) for name, value in state()["model"].items()}
    data = b"".join(bytes(part) for part in tensor_file.chunks(tensors, {"format": "np"}))
    accepted = 0
    for _ in range(NUMBER):
        mutated = mutate(data, rng)
        try:
            found = tensor_file.parse(bytearray(mutated), Path("x.safetensors"))
            arrays = {name: codec.to_numpy(tensor, name) for name, tensor in found.items()}
        except CheckpointError as error:
            refuse(error)
            continue
        accepted += 1
        theirs = dict(safetensors.deserialize(mutated))
        assert set(theirs) == set(arrays)
        for name, entry in theirs.items():
            assert (
                entry["dtype"] == found[name].dtype and tuple(entry["shape"]) == found[name].shape
            )
            assert bytes(entry["data"]) == arrays[name].tobytes()
    assert accepted > 0


def test_a_mutated_skeleton_is_refused_or_becomes_plain_data():
    rng = random.Random(2)
    text, groups = checkpoints.encode(state())
    plain = (dict, list, tuple, str, int, float, bool, type(None), bytes, np.ndarray)
    for _ in range(NUMBER):
        try:
            skeleton = durable_io.parse_json(mutate(text, rng), Path("state.json"))
            for key, tensors in groups.items():
                if isinstance(skeleton, dict) and key in skeleton:
                    assert isinstance(codec.Decoder(tensors).decode(skeleton[key], "state"), plain)
        except CheckpointError as error:
            refuse(error)


def test_a_mutated_settings_file_is_refused_or_parsed(memory_path):
    rng = random.Random(3)
    text = b'[default]\nlr = 3e-4\n["CartPole-v1"]\nnum_envs = 64\nnet = {sizes = [64, 64]}\n'
    path = memory_path / "p.toml"
    for _ in range(NUMBER):
        path.write_bytes(mutate(text, rng))
        try:
            read_toml(path)
        except ConfigError as error:
            refuse(error)


def games(suffix):
    """A file of two games with this suffix, where other programs write them not in UTF-8."""
    fen = "r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R b KQkq - 0 7"
    if suffix == ".sgf":
        head = "(;GM[1]FF[4]CA[ISO-8859-1]SZ[9]KM[6.5]HA[2]AB[cc][gg]PB[Jörg]RE[W+R]"
        text = f"{head};W[ee]C[\u00e9](;B[cg])(;B[gc]))\n(;GM[11]SZ[4];B[b2];W[c3])\n"
    elif suffix == ".pgn":
        head = f'[White "Jörg"]\n[FEN "{fen}"]\n\n7... hxg2 {{\u00e9}}'
        text = f"{head} 8. a3 (8. a4) *\n\n1. e4 e5 *\n"
    elif suffix == ".mat":
        rows = "  1) 31: 8/5 6/5          62: 24/18 13/11\n  2)  Doubles => 2        Drops\n"
        text = f" 3 point match\n Game 1\n Jörg : 0   Bob : 0\n{rows} Game 2\n  1) 21: 13/10\n"
    else:
        data = {"game": "connect_four", "players": ["a", "Jörg"], "moves": ["4"], "result": None}
        return 2 * f"{json.dumps(data, ensure_ascii=False)}\n".encode()
    return text.encode("latin-1")


@pytest.mark.parametrize("suffix", [".sgf", ".pgn", ".mat", ".jsonl"])
def test_a_mutated_file_of_games_is_refused_or_read(memory_path, suffix):
    rng = random.Random(suffix)
    path = memory_path / f"games{suffix}"
    original = games(suffix)
    path.write_bytes(original)
    assert len(files.load(path)) == 2
    refused = 0
    for _ in range(NUMBER):
        path.write_bytes(mutate(original, rng))
        try:
            for record in files.read(path):
                assert len(list(record.states())) == len(record.moves) + 1
        except DataError as error:
            refuse(error)
            assert path.name in str(error)
            refused += 1
    assert NUMBER * 0.2 < refused < NUMBER


def test_mutated_fen_of_any_bytes_is_refused_or_a_position():
    rng = random.Random(6)
    chess = playout.game("chess")
    fen = b"r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq - 0 1"
    for _ in range(NUMBER):
        try:
            state = chess.from_text(mutate(fen, rng).decode("latin-1"))
        except GameError as error:
            refuse(error)
        else:
            assert chess.from_text(state.text) == state


def test_a_mutated_manifest_with_a_correct_digest_still_loads_nothing_else(run):
    """An attacker can seal a manifest; then its own checks have to hold."""
    rng = random.Random(4)
    path = run.path / "checkpoints/000002/MANIFEST.json"
    original = path.read_bytes()
    for _ in range(NUMBER):
        try:
            value = json.loads(mutate(original, rng))
            path.write_bytes(durable_io.encode_json(durable_io.seal(value)))
        except (ValueError, AttributeError, RecursionError, UnicodeDecodeError):
            continue
        try:
            step, loaded = run.load()
            assert step == 2 and repr(loaded["model"]) == repr(state()["model"])
        except PlayoutError as error:
            refuse(error)
    shutil.rmtree(run.path)

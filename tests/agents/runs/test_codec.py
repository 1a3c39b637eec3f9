"""State trees come back from disk equal to the last bit and type; the rest is refused by name."""

import collections
import math
import os
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from playout.agents.runs.checkpoint import codec, tensor_file
from playout.agents.runs.directory import RunDir
from playout.errors import CheckpointError

NUMPY_DTYPES = [np.dtype(numpy) for numpy, _, _ in codec.DTYPES.values() if numpy]
TORCH_DTYPES = [getattr(torch, name) for _, name, _ in codec.DTYPES.values() if name]


def same(a, b) -> bool:
    """Equal in value, bits, type, dtype, shape and order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(map(repr, a)) == list(map(repr, b)) and all(
            same(x, y) for x, y in zip(a.values(), b.values(), strict=True)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        raw = [x.contiguous().reshape(-1).view(torch.uint8) if x.numel() else x for x in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    return a == b


@st.composite
def torch_tensors(draw):
    dtype = draw(st.sampled_from(TORCH_DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    size = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    data = draw(st.binary(min_size=size, max_size=size))
    if dtype == torch.bool:
        data = bytes(byte & 1 for byte in data)
    if not size:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


def arrays():
    shape = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    return st.sampled_from(NUMPY_DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, shape))


texts = st.text(st.characters(), max_size=8)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    texts,
    st.binary(max_size=20),
    arrays(),
    arrays().map(lambda a: a.reshape(-1)[0] if a.size else np.float32(1)),
    torch_tensors(),
)
keys = st.one_of(
    texts, st.integers(), st.sampled_from(["$tensor", "a.b", "a", "b", "__metadata__"])
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
    ),
    max_leaves=12,
)
states = st.dictionaries(st.one_of(texts, st.just("model"), st.just("other")), trees, max_size=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    # In memory where possible: hundreds of saves would wait for the disk.
    base = tempfile.mkdtemp(dir="/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    folder = Path(base) if base else tmp_path_factory.mktemp("run")
    yield RunDir.create(folder / "r", kind="toy", config={}, seed=0)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(state=states)
def test_a_state_comes_back_equal_to_the_last_bit_and_type(run, state):
    run.save(1, state, keep=1)
    step, loaded = run.load()
    assert step == 1 and same(state, loaded)


def test_an_optimizer_and_its_generator_go_on_exactly(run):
    def make():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
        return net, torch.optim.Adam(net.parameters()), torch.Generator().manual_seed(7)

    def learn(net, optimizer, generator):
        loss = net(torch.rand(5, 3, generator=generator)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    first, second = make(), make()
    learn(*first)
    net, optimizer, generator = first
    state = {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": generator.get_state(),
    }
    run.save(2, state)
    learn(*first)
    _, loaded = run.load(2)
    second[0].load_state_dict(loaded["model"])
    second[1].load_state_dict(loaded["optimizer"])
    second[2].set_state(loaded["rng"])
    learn(*second)
    pairs = zip(net.parameters(), second[0].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_model_is_a_plain_safetensors_file_under_its_own_names(run):
    weights = {
        "layer.weight": torch.randn(3, 2),
        "layer.bias": torch.zeros(3, dtype=torch.bfloat16),
    }
    run.save(3, {"model": weights, "n": 1})
    path = run.find(3).path / "model.safetensors"
    loaded = safetensors.torch.load_file(path)
    assert set(loaded) == set(weights)
    assert all(same(loaded[name], weights[name]) for name in weights)


def test_part_of_a_state_loads_without_reading_the_rest(run):
    run.save(4, {"model": {"w": torch.ones(2)}, "replay": np.zeros(9), "n": 5})
    (run.find(4).path / "replay.safetensors").write_bytes(b"damaged")
    _, state = run.load(4, only=("model",))
    assert list(state) == ["model"] and torch.equal(state["model"]["w"], torch.ones(2))
    with pytest.raises(CheckpointError, match="has no nonsense"):
        run.load(4, only=("nonsense",))
    with pytest.raises(CheckpointError, match="replay"):
        run.load(4)


def test_loaded_arrays_and_tensors_can_be_written_to(run):
    run.save(5, {"a": np.zeros(3), "t": torch.zeros(3), "empty": np.zeros((0, 2))})
    _, state = run.load(5)
    state["a"][0], state["t"][0] = 1, 1
    assert state["a"].flags.writeable and state["empty"].shape == (0, 2)


def test_views_and_odd_layouts_are_saved_by_value(run):
    base = torch.arange(12.0).reshape(3, 4)
    array = np.arange(12.0).reshape(3, 4)
    state = {"t": base.T, "s": base[:, 1:3], "a": array.T, "b": array[::-1, ::2], "g": base.clone()}
    state["g"].requires_grad_(True)
    run.save(6, state)
    _, loaded = run.load(6)
    assert torch.equal(loaded["t"], base.T) and np.array_equal(loaded["b"], array[::-1, ::2])
    assert not loaded["g"].requires_grad


def test_ordered_dicts_come_back_as_dicts(run):
    run.save(7, {"d": collections.OrderedDict(b=1, a=2)})
    assert run.load(7)[1] == {"d": {"b": 1, "a": 2}}


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "builtins.object"),
        ({1, 2}, "set"),
        (lambda: 0, "function"),
        (np.array([object()]), "array of object"),
        (np.array(["text"]), "array of <U4"),
        (np.zeros(2, ">f4"), "array of >f4"),
        (np.zeros(2, "complex128"), "complex128"),
        (torch.zeros(2, dtype=torch.complex128), "complex128"),
        (torch.eye(2).to_sparse(), "sparse"),
        (deep(100), "nested more than"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_refused_by_name(run, value, message):
    with pytest.raises(TypeError, match=r"state\['x'\].*" + message.replace("<", "<")):
        run.save(8, {"x": {"y": value}})
    assert run.find().step != 8 and not list(run.path.glob("checkpoints/*.tmp"))


def test_tensors_for_other_programs_are_theirs_to_read(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16)}
    before = os.umask(0o022)
    try:
        tensor_file.save(tmp_path / "x.safetensors", tensors, {"game": "hex"})
    finally:
        os.umask(before)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o644
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"game": "hex"}
        assert all(torch.equal(file.get_tensor(name), value) for name, value in tensors.items())

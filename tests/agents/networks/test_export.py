"""Export: the same answers from onnxruntime for every kind of network, and honest refusals."""

import numpy as np
import own_boards  # noqa: F401 (imported, so that its name may be used)
import pytest
import safetensors
import torch
from gymnasium import spaces
from playout.agents.networks import export
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.boards.registry import new_network
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.export import ExportedBoard, ExportedPolicy, check_onnx, write_onnx
from playout.agents.ppo.player import PPOPlayer
from playout.agents.vector.normalize import ObsNormalizer
from playout.cli import main
from playout.envs.core.registry import game
from playout.errors import ConfigError, RunError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
VECTOR = spaces.Box(-1, 1, (5,))


def player(observation_space, action_space, normalize=False, **network):
    policy = build_policy(observation_space, action_space, NetworkConfig(**network), seed=1)
    normalizer = None
    if normalize:
        normalizer = ObsNormalizer(observation_space, clip=5.0)
        rng = np.random.default_rng(0)
        normalizer.update(rng.normal(3.0, 2.0, (50, 5)).astype(np.float32))
    return PPOPlayer(policy, observation_space, action_space, normalizer)


def exported(own, path):
    """The largest difference between a player's policy and its file."""
    network = ExportedPolicy(own.policy, own.observation_space, own.normalizer)
    write_onnx(network, path)
    return check_onnx(network, path)


@pytest.mark.slow
def test_a_normalised_continuous_policy_answers_alike(tmp_path):
    own = player(VECTOR, spaces.Box(-1, 1, (2,)), normalize=True, hidden=(8,))
    assert exported(own, tmp_path / "a.onnx") < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    obs = np.random.default_rng(1).normal(3.0, 2.0, (9, 5)).astype(np.float32)
    action = session.run(["action"], {"obs": obs})[0]
    np.testing.assert_allclose(np.clip(action, -1, 1), own.act(obs), atol=1e-5)


@pytest.mark.slow
def test_a_masked_recurrent_policy_over_a_dictionary_answers_alike(tmp_path):
    space = spaces.Dict({"x": VECTOR, "n": spaces.Discrete(3)})
    own = player(space, spaces.Discrete(4), recurrent="lstm", recurrent_size=8, hidden=(8,))
    assert exported(own, tmp_path / "a.onnx") < 1e-4
    names = [entry.name for entry in onnxruntime.InferenceSession(tmp_path / "a.onnx").get_inputs()]
    assert names == ["obs_n", "obs_x", "mask", "state_0", "state_1", "state_2", "state_3"]


@pytest.mark.slow
def test_an_image_policy_answers_alike(tmp_path):
    image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    assert exported(player(image, spaces.Discrete(3)), tmp_path / "a.onnx") < 1e-4


@pytest.mark.slow
def test_a_board_network_answers_alike(tmp_path):
    network = ExportedBoard(new_network(game("connect_four"), "tiny", pooling=True, seed=1))
    write_onnx(network, tmp_path / "a.onnx")
    assert check_onnx(network, tmp_path / "a.onnx") < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    boards = np.zeros((3, 2, 6, 7), np.float32)
    assert [part.shape for part in session.run(["logits", "values"], {"obs": boards})] == [
        (3, 7),
        (3,),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["transformer", "own_boards:Mlp"])
def test_every_kind_of_board_network_answers_alike(tmp_path, network):
    exportable = ExportedBoard(new_network(game("tic_tac_toe"), "8x1", network=network, seed=1))
    write_onnx(exportable, tmp_path / "a.onnx")
    assert check_onnx(exportable, tmp_path / "a.onnx") < 1e-4


@pytest.mark.slow
def test_a_file_that_answers_differently_is_refused(tmp_path):
    own, other = (player(VECTOR, spaces.Discrete(3), hidden=(8,)) for _ in range(2))
    exported(own, tmp_path / "a.onnx")
    other.policy.value_head.bias.data += 1.0
    with pytest.raises(RunError, match="differs from the original"):
        check_onnx(ExportedPolicy(other.policy, VECTOR), tmp_path / "a.onnx")


def test_policies_of_your_own_are_refused():
    with pytest.raises(ConfigError, match="playout's own networks"):
        ExportedPolicy(torch.nn.Linear(1, 1), VECTOR)


@pytest.mark.slow
def test_the_command_chooses_a_format_and_says_what_it_wrote(untrained_run, capsys, monkeypatch):
    assert main(["export", str(untrained_run)]) == 0
    path = untrained_run / "network.onnx"
    assert f"wrote {path} (ONNX, largest difference" in capsys.readouterr().out
    assert onnxruntime.InferenceSession(str(path)).get_inputs()[0].name == "obs"
    monkeypatch.setattr(export, "find_spec", lambda name: None)  # as without the extra
    assert main(["export", str(untrained_run)]) == 0
    path = untrained_run / "network.safetensors"
    assert f"wrote {path} (safetensors; for ONNX: pip install" in capsys.readouterr().out
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["game"].startswith("connect_four")
    assert main(["export", str(untrained_run), "--format", "onnx"]) == 2
    assert "pip install 'playout[export]'" in capsys.readouterr().err
    assert main(["export", str(untrained_run), "--format", "hf"]) == 2
    assert "exported as onnx or safetensors, not hf" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "safetensors"])
def test_what_cannot_be_written_is_one_line_that_names_the_file(untrained_run, capsys, kind):
    for path in ("/proc/x.file", "/nowhere/x.file"):  # even the superuser cannot write there
        assert main(["export", str(untrained_run), "--format", kind, "--out", path]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: cannot write {path}: ") and error.count("\n") == 1
        assert "Errno" not in error


def test_the_ending_of_a_file_says_what_is_written(untrained_run, tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    assert main(["export", str(untrained_run), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out} (safetensors)\n"
    with safetensors.safe_open(out, "pt") as file:
        assert file.metadata()["game"].startswith("connect_four")
    for kind, other in (("onnx", "safetensors"), ("safetensors", "onnx")):
        path = tmp_path / f"y.{other}"
        assert main(["export", str(untrained_run), "--out", str(path), "--format", kind]) == 2
        assert capsys.readouterr().err == f"error: {path} names a file of {other}, not of {kind}\n"
        assert not path.exists()


@pytest.mark.slow
def test_a_file_that_is_refused_is_not_kept(untrained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "_TOLERANCE", -1.0)
    out = tmp_path / "x.onnx"
    assert main(["export", str(untrained_run), "--out", str(out), "--format", "onnx"]) == 2
    assert "nothing was kept" in capsys.readouterr().err and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [(np.float64, (-5, 5)), (np.float16, (-1, 1)), (np.int64, (-7, 9)), (np.uint8, (0, 255))],
)
def test_examples_are_of_the_type_and_range_of_observations(dtype, bounds):
    space = spaces.Box(*bounds, (4,), dtype)
    network = ExportedPolicy(build_policy(space, spaces.Discrete(2)), space)
    found, *rest = network.example_inputs(64, 0)
    assert found.numpy().dtype == dtype and found.shape == (64, 4)
    assert found.min() >= bounds[0] and found.max() <= bounds[1] and len(found.unique()) > 10
    assert all(torch.isfinite(part.double()).all() for part in network(found, *rest))


def nested_player():
    """A policy of dictionaries in dictionaries, whose normaliser has seen some."""
    parts = {"a.b": VECTOR, "pair": spaces.Dict({"0": spaces.Discrete(3), "1": VECTOR})}
    space = spaces.Dict(parts)
    normalizer = ObsNormalizer(space, clip=5.0)
    rng = np.random.default_rng(0)
    vectors = [rng.normal(3.0, 2.0, (50, 5)).astype(np.float32) for _ in range(2)]
    normalizer.update({"a.b": vectors[0], "pair": {"0": np.zeros(50), "1": vectors[1]}})
    policy = build_policy(space, spaces.Discrete(2), NetworkConfig(hidden=(8,)), seed=1)
    return PPOPlayer(policy, space, spaces.Discrete(2), normalizer)


def test_nested_observations_are_an_input_a_part():
    own = nested_player()
    network = ExportedPolicy(own.policy, own.observation_space, own.normalizer)
    assert network.input_names == ["obs_a.b", "obs_pair.0", "obs_pair.1", "mask"]
    first, number, second, mask = network.example_inputs(9, 0)
    with torch.no_grad():
        actions, *_ = network(first, number, second, mask)
    obs = {"a.b": first.numpy(), "pair": {"0": number.numpy(), "1": second.numpy()}}
    assert np.array_equal(actions.numpy(), own.act(obs, mask=mask.numpy()))


@pytest.mark.slow
def test_policies_of_nested_observations_answer_alike(tmp_path):
    assert exported(nested_player(), tmp_path / "a.onnx") < 1e-4
    inputs = onnxruntime.InferenceSession(tmp_path / "a.onnx").get_inputs()
    assert [one.name for one in inputs] == ["obs_a.b", "obs_pair.0", "obs_pair.1", "mask"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_policies_of_other_types_of_observations_answer_alike(tmp_path, dtype):
    own = player(spaces.Box(-100, 100, (4,), dtype), spaces.Discrete(2), hidden=(8,))
    assert exported(own, tmp_path / "a.onnx") < 1e-4
    taken, *_ = onnxruntime.InferenceSession(tmp_path / "a.onnx").get_inputs()
    assert taken.type == {np.float64: "tensor(double)", np.int64: "tensor(int64)"}[dtype]

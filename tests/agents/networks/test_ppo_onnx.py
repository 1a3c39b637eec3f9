"""ONNX export: the same answers from onnxruntime for every kind of policy, and honest refusals."""

import numpy as np
import pytest
from gymnasium import spaces
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.export import Exported, compare, export_onnx
from playout.agents.ppo.player import PPOPlayer
from playout.agents.vector.normalize import ObsNormalizer
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


def test_a_normalised_continuous_policy_answers_alike(tmp_path):
    own = player(VECTOR, spaces.Box(-1, 1, (2,)), normalize=True, hidden=(8,))
    assert export_onnx(own, tmp_path / "a.onnx") < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    obs = np.random.default_rng(1).normal(3.0, 2.0, (9, 5)).astype(np.float32)
    action = session.run(["action"], {"obs": obs})[0]
    np.testing.assert_allclose(np.clip(action, -1, 1), own.act(obs), atol=1e-5)


def test_a_masked_recurrent_policy_over_a_dictionary_answers_alike(tmp_path):
    space = spaces.Dict({"x": VECTOR, "n": spaces.Discrete(3)})
    own = player(space, spaces.Discrete(4), recurrent="lstm", recurrent_size=8, hidden=(8,))
    assert export_onnx(own, tmp_path / "a.onnx") < 1e-4
    names = [entry.name for entry in onnxruntime.InferenceSession(tmp_path / "a.onnx").get_inputs()]
    assert names == ["obs_n", "obs_x", "mask", "state_0", "state_1", "state_2", "state_3"]


def test_an_image_policy_answers_alike(tmp_path):
    image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    assert export_onnx(player(image, spaces.Discrete(3)), tmp_path / "a.onnx") < 1e-4


def test_a_file_that_answers_differently_is_refused(tmp_path):
    own = player(VECTOR, spaces.Discrete(3), hidden=(8,))
    export_onnx(own, tmp_path / "a.onnx", check=False)
    other = player(VECTOR, spaces.Discrete(3), hidden=(8,))
    other.policy.value_head.bias.data += 1.0
    with pytest.raises(RunError, match="differs from the original"):
        compare(other, Exported(other), tmp_path / "a.onnx")


def test_policies_of_your_own_are_refused():
    own = player(VECTOR, spaces.Discrete(3))
    own.policy = object()
    with pytest.raises(ConfigError, match="playout's own networks"):
        Exported(own)

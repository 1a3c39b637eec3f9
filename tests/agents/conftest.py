"""Fixtures of the tests of agents: a run with a small untrained network, made in no time."""

import sys
from pathlib import Path

import pytest

# Worlds, positions and the like are plain modules beside the tests: worker processes and child runs
# import them too.
HERE = Path(__file__).parent
sys.path[:0] = [str(room) for room in (HERE, HERE / "alphazero", HERE.parent / "envs")]


@pytest.fixture(scope="session")
def untrained_run(tmp_path_factory):
    """The folder of a run of kind alphazero on connect_four, checkpoint 1, network untrained."""
    torch = pytest.importorskip("torch")
    from playout.agents.networks.boards.resnet import ResNet, ResNetConfig
    from playout.agents.runs.directory import RunDir

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("runs") / "untrained"
    run = RunDir.create(
        path, kind="alphazero", config={"alphazero": {"game": "connect_four"}}, seed=0
    )
    config = ResNetConfig(obs_shape=(2, 6, 7), num_actions=7, channels=8, blocks=1)
    state = {"model": ResNet(config).state_dict(), "network": config.to_dict()}
    with run.lock():
        run.save(1, state)
    return path

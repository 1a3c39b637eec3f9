"""`import playout` registers the environments in whatever order, and stays cheap."""

import subprocess
import sys

import pytest


def run(code):
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import playout, gymnasium as gym; print(gym.make('playout/CartPole-v1').spec.id)",
        "import gymnasium as gym, playout; print(gym.make('playout/CartPole-v1').spec.id)",
        "import gymnasium as gym; print(gym.make('playout:playout/CartPole-v1').spec.id)",
        "import playout\nfrom gymnasium.envs.registration import make\n"
        "print(make('playout/CartPole-v1').spec.id)",
        "import playout, playout.envs.farama.control_vector, gymnasium as gym\n"
        "print(gym.make_vec('playout/CartPole-v1', num_envs=2).spec.id)",
    ],
)
def test_gymnasium_knows_the_ids_in_whatever_order(code):
    assert run(code) == "playout/CartPole-v1"


@pytest.mark.parametrize("order", ["playout, pettingzoo", "pettingzoo, playout"])
def test_pettingzoo_knows_the_ids_in_whatever_order(order):
    code = f"import {order}; print(pettingzoo.make('aec', 'playout/tic_tac_toe-v0'))"
    assert run(code) == "tic_tac_toe_v0"


def test_import_playout_loads_nothing_heavy():
    heavy = "numpy gymnasium pettingzoo torch scipy matplotlib"
    code = f"import sys, playout; print([m for m in '{heavy}'.split() if m in sys.modules])"
    assert run(code) == "[]"


def test_the_hook_leaves_other_imports_alone():
    code = (
        "import playout, importlib.util, gymnasium, sys\n"
        "assert gymnasium.__spec__.loader is gymnasium.__loader__\n"
        "assert 'playout' not in type(gymnasium.__loader__).__module__\n"
        "assert importlib.util.find_spec('json')\n"
        "assert importlib.util.find_spec('nothing_xyz') is None\n"
        "import json, importlib; importlib.reload(gymnasium); print('good')"
    )
    assert run(code) == "good"

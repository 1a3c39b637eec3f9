"""What a person names or hands over as an environment is told apart, and made."""

import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from playout.agents.vector.factory import make_environments
from playout.agents.vector.sources import find_source
from playout.errors import ConfigError, EnvironmentFault
from ppo_worlds import Counter, Hand

MODULE = """
import gymnasium as gym
from ppo_worlds import Counter

class Sized(Counter):
    def __init__(self, length=5):
        super().__init__(length)

def make(length=4):
    return Counter(length)

def many(num_envs=2):
    return gym.vector.SyncVectorEnv([Counter] * num_envs)

class Bare(gym.Env):
    pass

def number():
    return 3

ready = Counter()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of the person's with the module `own_source` in it."""
    (tmp_path / "own_source.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("own_source", "own_wrong"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("text", "kind", "rows"),
    [
        ("own_source:Sized", "single", 3),
        ("own_source:Sized(length=2)", "single", 3),
        ("own_source:make", "single", 3),
        ("own_source:many", "vector", 3),
        ("own_source:ready", "single", 3),
        ("CartPole-v1", "id", 3),
        ("parallel:playout/pursuit-v0", "parallel", 4),
        ("tic_tac_toe", "game", None),
        ("aec:playout/tic_tac_toe-v0", "aec", None),
    ],
)
def test_texts_are_told_apart_and_make_environments(here, text, kind, rows):
    source = find_source(text)
    assert (source.kind, source.text, source.named) == (kind, text, True)
    if rows is None:
        with pytest.raises(ConfigError, match="self-play"):
            make_environments(text, 3)
        return
    envs = make_environments(text, 3, processes=0)
    envs.reset(0)
    assert envs.num_envs == rows
    envs.close()


def test_parameters_in_the_text_reach_the_environment(here):
    envs = make_environments("own_source:Sized(length=2)", 1, processes=0)
    envs.reset(0)
    assert [bool(envs.step(np.zeros(1, int))[2][0]) for _ in range(2)] == [False, True]


def test_objects_are_named_where_their_name_leads_back_to_them():
    def inside():
        return Counter()

    for given, text, named in (
        (Counter, "ppo_worlds:Counter", True),
        (inside, "inside", False),
        (lambda: Counter(), "<lambda>", False),
        (Hand(), "ppo_worlds:Hand", True),
        (gym.make("CartPole-v1"), "CartPole-v1", True),
        (gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"), "CartPole-v1", True),
        (gym.vector.SyncVectorEnv([Counter] * 2), "SyncVectorEnv", False),
    ):
        source = find_source(given)
        assert (source.text, source.named) == (text, named)
        made = source.make()
        assert made is not given
        made.close()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("own_source:number", "makes a int, which is no gymnasium.Env"),
        ("own_source:Nothing", "cannot find environment 'own_source:Nothing'"),
        ("own_source:make(wide=3)", "unexpected keyword argument 'wide'"),
        ("own_wrong:Env", r"cannot import the module 'own_wrong': SyntaxError"),
        ("aec:parallel_only", "cannot make the PettingZoo environment 'parallel_only'"),
        (7, "7 is no environment: give an id, a class or function"),
    ],
)
def test_what_is_no_environment_gets_one_line(here, source, message):
    (here / "own_wrong.py").write_text("def broken(:\n")
    with pytest.raises((ConfigError, EnvironmentFault), match=message) as caught:
        find_source(source)
    assert "\n" not in str(caught.value)


def test_an_environment_without_spaces_is_refused(here):
    with pytest.raises(ConfigError, match="Bare has no observation_space, a gymnasium"):
        make_environments("own_source:Bare", 2, processes=0)


def test_a_pettingzoo_name_may_leave_out_the_package():
    pytest.importorskip("pettingzoo.butterfly", exc_type=ImportError)
    with pytest.raises(ConfigError, match="cannot make"):
        find_source("parallel:butterfly.no_such_v1")


class Loose(Counter):
    """Gives whatever it is told to."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    gives: object = None

    def _obs(self):
        return self.gives


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (np.array([0.0, 7.0]), r"number \[1\] is 7, outside -1 to 1; widen observation_space"),
        (np.array(["0", "1"]), "no number"),
        ("high", "no number"),
        (np.zeros((2, 1)), r"shape \(2, 1\), not \(2,\)"),
        (np.array([0.0, np.nan]), "NaN or infinity"),
        (None, "no number"),
    ],
)
def test_observations_outside_their_space_are_named_with_environment_and_step(gives, message):
    envs = make_environments(type("Own", (Loose,), {"gives": gives}), 1, processes=0)
    with pytest.raises(EnvironmentFault, match=message) as caught:
        envs.reset(0)
    assert "environment 0" in str(caught.value) and "step 0" in str(caught.value)


def test_rounding_may_pass_the_bounds_by_a_little():
    envs = make_environments(type("Own", (Loose,), {"gives": np.array([1.0001, 0.0])}), 1)
    envs.reset(0)

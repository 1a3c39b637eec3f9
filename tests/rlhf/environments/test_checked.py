"""Environments held to their contract: what they draw, how long a call may take, what it raises."""

import asyncio
import os
import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from playout.agents.runs.signals import Interrupted
from playout.errors import ConfigError, DataError, EnvironmentFault
from playout.rlhf.commands.environment_options import named_environment, open_environment
from playout.rlhf.environments import load
from playout.rlhf.environments.adaptors import trl
from playout.rlhf.environments.checked import CheckedEnvironment, seed_generators
from playout.rlhf.environments.load import load_environment, own_environment
from playout.rlhf.environments.prompts import prompt_environment
from playout.rlhf.online.config import EpisodeLimits
from playout.rlhf.online.engine import EpisodeEngine, EpisodeRequest
from playout.rlhf.online.rewards import checked_rewards
from small_language import chat_tokenizer, small_model


class Dice:
    """Draws wherever it is asked."""

    def __init__(self):
        self.drawn = [random.random(), np.random.random()]  # noqa: NPY002

    @classmethod
    def tasks(cls, split):
        return [random.random() for _ in range(3)]

    def reset(self, task, seed):
        return f"{self.drawn} {random.random()}"

    def answers(self):
        return [str(random.random())]

    def role(self):
        return str(random.random())

    def step(self, answer):
        return f"{random.random()} {np.random.random()}", 0.0, False  # noqa: NPY002

    def metrics(self):
        return {"drawn": random.random()}


def heard(seed, *, noise=0, asks=True):
    held = CheckedEnvironment(own_environment(Dice))
    random.seed(noise)
    np.random.seed(noise)  # noqa: NPY002
    found = [held.reset(None, seed)]
    for _ in range(2):
        found += [held.answers(), held.role()] if asks else []
        found.append(held.step("").reply)
    return [*found, held.metrics()]


def test_whatever_an_episode_draws_follows_from_its_seed_alone():
    assert heard(5) == heard(5, noise=1) != heard(6)
    # Each call draws numbers of its own, whatever was asked before.
    first, _, _, second, _, _, third, last = heard(5)
    assert heard(5, asks=False) == [first, second, third, last]
    drawn = " ".join(map(str, heard(5))).replace("[", " ").replace("]", " ").split()
    assert len(set(drawn)) == len(drawn)


def test_tasks_that_are_drawn_are_the_same_in_a_run_that_goes_on():
    first = own_environment(Dice).tasks("train")
    before = random.getstate()
    again = own_environment(Dice)
    assert again.tasks("train") == first != again.tasks("test")
    assert random.getstate() == before


def test_every_bit_of_a_seed_counts_for_numpy():
    found = set()
    for seed in (7, 7 + (1 << 20), 7 + (1 << 30), 7 + (1 << 62)):
        seed_generators(seed, 0, "step")
        found.add(float(np.random.random()))  # noqa: NPY002
    assert len(found) == 4


def asked(step=None, seconds=60.0, **methods):
    """An episode that has begun, of an environment with this step and other methods."""

    class Odd:
        def reset(self, task, seed):
            return "?"

    Odd.step = lambda self, answer: step() if step else (None, 1.0, True)
    for name, method in methods.items():
        setattr(Odd, name, method)
    held = CheckedEnvironment(own_environment(Odd), seconds=seconds)
    held.reset(None, 0)
    return held


def swallow_all():
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except:  # noqa: E722
            continue
    return None, 1.0, True


def swallow_one():
    try:
        time.sleep(5)
    except:  # noqa: E722
        time.sleep(5)
    return None, 1.0, True


@pytest.mark.parametrize("step", [swallow_all, swallow_one])
def test_a_call_that_swallows_its_time_limit_is_a_fault_all_the_same(step):
    held = asked(step, seconds=0.05)
    begun = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"step took longer than 0\.05 s$"):
        held.step("")
    assert time.monotonic() - begun < 2


def waits(*_):
    end = time.monotonic() + 5
    while time.monotonic() < end:
        pass
    yield from ()


@pytest.mark.parametrize(
    ("tasks", "late"),
    [
        (None, "making it"),
        (lambda split: list(waits()), r"tasks\('train'\)"),
        (lambda split: waits(), r"tasks\('train'\)"),
    ],
)
def test_making_an_environment_and_its_tasks_have_the_limit_of_a_call(tasks, late):
    class Slow(Dice):
        def __init__(self):
            list(waits() if tasks is None else ())

    if tasks is not None:
        Slow.tasks = staticmethod(tasks)
    before, begun = random.getstate(), time.monotonic()
    with pytest.raises(EnvironmentFault, match=rf"^the environment Slow: {late} took longer than"):
        own_environment(Slow, seconds=0.05).tasks("train")
    assert time.monotonic() - begun < 2 and random.getstate() == before


def test_a_class_in_trls_shape_has_that_limit_too(monkeypatch):
    monkeypatch.setattr(trl, "load_object", lambda *_: lambda: list(waits()))
    with pytest.raises(
        EnvironmentFault, match=r"trl:any:Class: making it took longer than 0\.05 s"
    ):
        load_environment("trl:any:Class", seconds=0.05)


def test_the_commands_hold_the_making_to_their_limit(monkeypatch):
    monkeypatch.setattr(load, "load_object", lambda *_: lambda: list(waits()))
    command = SimpleNamespace(env="any:Class", env_timeout=0.05, resume=None)
    with pytest.raises(EnvironmentFault, match=r"any:Class: making it took longer than 0\.05 s$"):
        open_environment(command)
    with pytest.raises(EnvironmentFault, match=r"making it took longer than 0\.05 s$"):
        named_environment(lambda: list(waits()), 0.05)


def raises(error):
    def function(*_):
        raise error

    return function


@pytest.mark.parametrize(
    "error", [TimeoutError("api"), asyncio.CancelledError("gone"), SystemExit(0), GeneratorExit()]
)
def test_whatever_a_persons_code_raises_is_told_with_file_and_line(error):
    what = rf"raised {type(error).__name__}.* \(.*test_checked\.py, line \d+\)$"
    with pytest.raises(EnvironmentFault, match=f"step {what}"):
        asked(raises(error)).step("")
    with pytest.raises(EnvironmentFault, match=f"role {what}"):
        asked(role=property(raises(error))).role()
    with pytest.raises(DataError, match=f"function function {what}"):
        checked_rewards(raises(error), ["a"])
    cause = what.removeprefix("raised ")
    with pytest.raises(ConfigError, match=f"cannot be made: {cause}"):
        own_environment(raises(error))
    with pytest.raises(ConfigError, match=f"has no tasks for train; .*{cause}"):
        own_environment(type("Odd", (Dice,), {"tasks": raises(error)})).tasks("train")


def test_a_class_in_trls_shape_that_leaves_as_it_is_made_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(trl, "load_object", lambda *_: lambda: raises(SystemExit(0))())
    with pytest.raises(ConfigError, match="cannot be made: SystemExit: 0"):
        trl.make("any:Class", {})


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted(15)])
def test_a_person_who_ends_the_program_is_no_fault_of_the_environment(error):
    with pytest.raises(type(error)):
        asked(raises(error)).step("")
    with pytest.raises(type(error)):
        checked_rewards(raises(error), ["a"])
    with pytest.raises(type(error)):
        own_environment(raises(error))


def test_what_goes_wrong_while_an_environment_is_closed_matters_to_nobody():
    for close in (raises(SystemExit(0)), raises(asyncio.CancelledError()), 3.5):
        asked(close=close).close()
    with pytest.raises(KeyboardInterrupt):
        asked(close=raises(KeyboardInterrupt())).close()


@pytest.mark.parametrize("name", ["answers", "role", "metrics"])
def test_an_attribute_in_the_place_of_a_method_is_named(name):
    with pytest.raises(EnvironmentFault, match=rf"{name} is an attribute \('a'\) .*method: def"):
        getattr(asked(**{name: "a"}), name)()
    assert not getattr(asked(**{name: None}), name)()


class Wanders(Dice):
    """Works in a folder of its own, as environments of programming tasks do."""

    folder = ""

    def __init__(self):
        os.chdir(self.folder)

    def reset(self, task, seed):
        os.chdir(self.folder)
        return "?"

    def role(self):
        return ""

    def step(self, answer):
        os.rmdir(self.folder)
        return None, 1.0, True


def small_engine(**limits):
    tokenizer = chat_tokenizer("chatml")
    return EpisodeEngine(
        small_model(tokenizer, length=64),
        tokenizer,
        limits=EpisodeLimits(**limits),
        seed=0,
        dtype=torch.float32,
    )


def test_a_run_stays_where_it_is_when_an_environment_or_a_reward_goes_elsewhere(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "away").mkdir()
    Wanders.folder = str(tmp_path / "away")
    factory = own_environment(Wanders)
    assert os.getcwd() == str(tmp_path)
    engine = small_engine(max_new_tokens=2)
    (found,) = engine.run([EpisodeRequest(factory, None, 0, 0)])
    assert found.ended and not (tmp_path / "away").exists() and os.getcwd() == str(tmp_path)

    def reward(texts):
        os.chdir(tmp_path.parent)
        return [1.0] * len(texts)

    checked_rewards(reward, ["a"])
    assert os.getcwd() == str(tmp_path)


def test_what_is_no_name_is_no_role():
    with pytest.raises(EnvironmentFault, match="role returned list, not a name"):
        asked(role=lambda self: ["a"]).role()
    assert asked(role=lambda self: 1).role() == "1"


def test_an_episode_of_a_prompt_has_ended_where_its_answer_has():
    engine = small_engine(max_new_tokens=4)
    factory = prompt_environment(["the cat"])
    (task,) = factory.tasks("train")
    found = engine.run([EpisodeRequest(factory, task, 0, n) for n in range(60)])
    assert {(e.ended, *e.answer_ended) for e in found} == {(True, True), (False, False)}

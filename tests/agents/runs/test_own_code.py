"""Code of the person's own: found in the current folder, refused from files, faults in one line."""

import sys

import pytest
from playout.errors import ConfigError
from playout.own_code import (
    import_module,
    load_object,
    own_sources,
    trust,
    trust_environment,
    trust_given,
    trust_modules,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    return tmp_path


def test_a_module_is_found_in_the_current_folder(folder):
    (folder / "here_it_is.py").write_text("class Thing: pass\n")
    assert import_module("here_it_is").Thing is load_object("here_it_is:Thing", "thing")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(:\n", "SyntaxError.*line 1"),
        ("x = 1\n1 / 0\n", "ZeroDivisionError.*line 2"),
        ("x = 1\nx = 2\nimport no_such_here\n", r"'no_such_here' \(.*faulty_.*\.py, line 3\)"),
    ],
)
def test_a_module_that_raises_is_named_in_one_line(folder, text, said):
    name = f"faulty_{len(text)}"
    (folder / f"{name}.py").write_text(text)
    with pytest.raises(ConfigError, match=f"cannot import the module '{name}'.*{said}") as caught:
        import_module(name)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_not_there_says_what_was_looked_for():
    with pytest.raises(ConfigError, match=r"cannot find network 'json:Nope': json has no Nope$"):
        load_object("json:Nope", "network")
    with pytest.raises(ConfigError, match=r"json has no JSONEncodr; did you mean JSONEncoder\?"):
        load_object("json:JSONEncodr", "network")
    with pytest.raises(ConfigError, match=r"JSONEncoder has no defualt; did you mean default\?"):
        load_object("json:JSONEncoder.defualt", "network")


def test_code_named_by_a_file_is_used_only_if_it_is_the_persons_or_allowed(folder, monkeypatch):
    monkeypatch.setattr("playout.own_code._trusted", set())
    for name in ("never_seen:X", "json:loads", "os:system", "builtins:exec", "gymnasium:make",
                 "numpy:load", "playout.own_code:load_object"):  # fmt: skip
        with pytest.raises(ConfigError, match=f"--trust {name.partition(':')[0]}"):
            trust(name, "a run")
    trust(f"{__name__}:folder", "a run")  # a program imports its own modules itself
    (folder / "seen_now.py").write_text("class X: pass\n")
    monkeypatch.setenv("PLAYOUT_TRUST", "other,seen_now")
    trust("seen_now:X", "a run")


OWN = """
import functools, os, subprocess
from os import system
from subprocess import Popen

class Thing: pass
class Process(Popen): pass
def make(): pass
small, run = functools.partial(Thing), functools.partial(system, "true")
ready, calls = Thing(), Thing().__str__
"""


def test_the_word_for_a_module_covers_what_was_written_there(folder, monkeypatch):
    monkeypatch.setattr("playout.own_code._trusted", set())
    (folder / "hers.py").write_text(OWN)
    trust_modules("hers")
    for name in ("Thing", "Process", "make", "small", "ready"):
        trust(f"hers:{name}", "a run")
    for name in (
        "system",
        "Popen",
        "run",
        "calls",
        "os.system",
        "subprocess.Popen",
        "make.__globals__.get",
        "__loader__.set_data",
        "Thing.__subclasses__",
    ):
        with pytest.raises(ConfigError, match=r"only imported|imported there|nobody's own"):
            trust(f"hers:{name}", "a run")
    trust_modules("hers:Popen")  # a name that a person gives whole is their word for that, too
    trust("hers:Popen", "a run")
    trust_given("shutil:rmtree(path=x)")  # what is handed over in Python says nothing of the rest
    trust("shutil:rmtree", "a run")
    with pytest.raises(ConfigError, match="--trust shutil"):
        trust("shutil:move", "a run")


def test_an_environment_needs_trust_where_its_name_imports_a_module_or_calls_something():
    for env in (
        "CartPole-v1",
        "ALE/Pong-v5",
        "aec:classic/go-v5",
        "parallel:pettingzoo.mpe.x",
        "gymnasium:CartPole-v1",
        "gymnasium.envs.classic_control.cartpole:CartPoleEnv(sutton_barto_reward=true)",
        "parallel:playout.envs.farama.pursuit:parallel_env",
    ):
        trust_environment(env, "a run")
    for env in (
        "never_seen:Env-v0",
        "aec:never_seen.env",
        "parallel:never_seen.env",
        "aec:never_seen:x/y",
        "os:system",
        "parallel:os:system",
        "aec:subprocess:run",
        "aec:shutil",
        "gymnasium:make",
        "aec:playout.own_code:load_object",
        "playout.agents.players.external.process:EngineProcess(argv=(1,))",
    ):
        with pytest.raises(ConfigError, match=r"add --trust [a-z_.]+ \(in"):
            trust_environment(env, "a run")


def test_the_sources_of_ones_own_code_are_found_without_an_import(folder, monkeypatch):
    (folder / "own_games").mkdir()
    for name in ("__init__", "board"):
        (folder / "own_games" / f"{name}.py").write_text("raise AssertionError\n")
    (folder / "own_env.py").write_text("raise AssertionError\n")
    monkeypatch.setenv("PLAYOUT_TRUST", "own_env")
    found = own_sources({"game": "own_games.board:Game(size=3)", "collect": {"env": "not_here:E"}})
    assert {path.name for path in found["own_games.board"]} == {"__init__.py", "board.py"}
    assert [path.name for path in found["own_env"]] == ["own_env.py"]
    assert not {"not_here", "playout", "gymnasium"} & found.keys()

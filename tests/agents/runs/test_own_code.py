"""Code of the person's own: found in the current folder, refused from files, faults in one line."""

import sys

import pytest
from playout.errors import ConfigError
from playout.own_code import import_module, load_object, trust, trust_environment


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
    with pytest.raises(ConfigError, match="cannot find network 'json:Nope'"):
        load_object("json:Nope", "network")


def test_code_named_by_a_file_is_trusted_only_if_known_imported_or_allowed(monkeypatch):
    trust("gymnasium:X", "a run")
    trust("json:X", "a run")
    with pytest.raises(ConfigError, match="--trust never_seen"):
        trust("never_seen:X", "a run")
    monkeypatch.setenv("PLAYOUT_TRUST", "other,never_seen")
    trust("never_seen:X", "a run")


def test_an_environment_needs_trust_only_where_its_name_imports_a_module():
    for env in ("CartPole-v1", "ALE/Pong-v5", "aec:classic/go-v5", "parallel:pettingzoo.mpe.x"):
        trust_environment(env, "a run")
    for env in ("never_seen:Env-v0", "aec:never_seen.env", "parallel:never_seen.env"):
        with pytest.raises(ConfigError, match="--trust never_seen"):
            trust_environment(env, "a run")

"""Settings between dataclasses, dicts and TOML: strict, and helpful about what is wrong."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from playout.agents.runs import config as settings
from playout.agents.runs.config import from_dict, nearest, to_dict
from playout.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Net:
    sizes: tuple[int, ...] = (64, 64)
    act: Literal["tanh", "relu"] = "tanh"


@dataclass(frozen=True, slots=True)
class Config:
    name: str
    lr: float = 1e-3
    kl: float | None = None
    steps: int | Literal["auto"] = "auto"
    norm: bool = True
    where: Path = Path("x")
    pair: tuple[int, float] = (1, 2.0)
    net: Net = Net()
    extra: dict[str, float] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    anything: Any = None


def test_settings_survive_the_way_to_a_file_and_back():
    config = Config(
        "a", 2.0, 0.1, 5, False, Path("p/q"), (3, 4.0), Net((1,), "relu"), {"x": 1.0}, ["n"], [1]
    )
    assert from_dict(Config, to_dict(config), where="test") == config
    assert from_dict(Config, {"name": "b"}, where="test") == Config("b")
    assert to_dict(config)["where"] == "p/q" and to_dict(config)["net"]["sizes"] == [1]


def test_settings_left_out_come_from_the_base():
    base = Config("a", 2.0)
    assert from_dict(Config, {"kl": 1}, where="test", base=base) == Config("a", 2.0, 1.0)


def test_a_table_within_leaves_out_what_the_base_has_there():
    base = Config("a", net=Net((7,), "relu"))
    found = from_dict(Config, {"net": {"act": "tanh"}}, where="test", base=base)
    assert found == Config("a", net=Net((7,), "tanh"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a", "learning": 1}, "has no setting 'learning'"),
        ({"name": "a", "nrom": True}, "did you mean norm"),
        ({}, "lacks the setting 'name'"),
        ({"name": 3}, "name must be str, not 3"),
        ({"name": "a", "lr": "fast"}, "lr must be float"),
        ({"name": "a", "lr": True}, "lr must be float"),
        ({"name": "a", "norm": 1}, "norm must be bool"),
        ({"name": "a", "steps": 1.5}, "steps must be int or one of auto"),
        ({"name": "a", "kl": "x"}, "kl must be float"),
        ({"name": "a", "net": {"act": "gelu"}}, "net: act must be one of tanh, relu"),
        ({"name": "a", "net": {"size": [1]}}, "did you mean sizes"),
        ({"name": "a", "net": 3}, "must be a table"),
        ({"name": "a", "steps": "never"}, "steps must be int or one of auto, not 'never'"),
        ({"name": "a", "lr": float}, "lr must be float"),
        ({"name": "a", "where": 3}, "where must be Path"),
        ({"name": "a", "pair": [1]}, r"pair must be tuple\[int, float\], not \[1\]"),
        ({"name": "a", "pair": "ab"}, r"pair must be tuple\[int, float\], not 'ab'"),
        ({"name": "a", "extra": {"x": "y"}}, r"extra must be dict\[str, float\]"),
        ({"name": "a", "names": [1]}, r"names must be list\[str\], not \[1\]"),
        ([], "must be a table"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Config, values, where="preset")


def test_the_nearest_name_or_the_list_is_offered():
    assert nearest("CartPol-v1", ["CartPole-v1", "Pong-v5"]) == "did you mean CartPole-v1?"
    assert nearest("xyz", ["b", "a"]) == "there are a, b"


def test_preset_files_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "PRESETS", tmp_path)
    (tmp_path / "p.toml").write_text('[default]\nlr = 0.5\n["X-v1"]\nname = "x"\n')
    assert settings.preset_files() == ["p"]
    assert settings.read_presets("p") == {"default": {"lr": 0.5}, "X-v1": {"name": "x"}}
    with pytest.raises(ConfigError, match="no presets 'q'; there are p"):
        settings.read_presets("q")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"lr = ", "not valid TOML"),
        (b"\xff", "not valid TOML"),
        (b"lr = 1", "must stand in a table"),
        (b"[default]\nlr = 1\nlr = 2", "not valid TOML"),
        (b"#" * (1 << 20) + b"#", "too large"),
    ],
)
def test_a_wrong_preset_file_is_refused_with_its_name(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(settings, "PRESETS", tmp_path)
    (tmp_path / "p.toml").write_bytes(text)
    with pytest.raises(ConfigError, match=message):
        settings.read_presets("p")


def test_the_presets_that_come_with_playout_can_be_read():
    for name in settings.preset_files():
        assert settings.read_presets(name)


def test_numbers_of_numpys_are_plain_ones():
    given = {"name": np.str_("a"), "lr": np.float32(0.5), "steps": np.int64(3), "norm": np.bool_(0)}
    found = to_dict({**given, "names": [np.int8(1)]})
    assert found == {"name": "a", "lr": 0.5, "steps": 3, "norm": False, "names": [1]}
    assert {type(value) for value in found.values()} == {str, float, int, bool, list}
    assert from_dict(Config, to_dict(given), where="test") == Config("a", 0.5, None, 3, False)
    with pytest.raises(ConfigError, match=r"setting lr is nan, which is no number$"):
        to_dict({"lr": np.float32("nan")})
    with pytest.raises(ConfigError, match=r"setting lr is inf, which is not finite"):
        to_dict({"lr": np.float64("inf")})

"""The example's network trains from Python and from the command line, and needs a word of trust."""

import json
import shutil
import sys
from pathlib import Path

import playout
import pytest
import safetensors
from playout.cli import main

EXAMPLE = Path(playout.__file__).parent / "examples" / "own_board_network.py"
SMALL = {"updates": 2, "size": "8x1", "simulations": 4, "seed": 3, "quiet": True, "rating": False}
NAME = "own_board_network"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the example in it, whose module nobody has imported yet."""
    shutil.copy(EXAMPLE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr("playout.own_code._trusted", set())
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield tmp_path
    sys.modules.pop(NAME, None)


@pytest.mark.slow
def test_the_example_learns_and_is_used(folder):
    import own_board_network

    player = own_board_network.main(run=folder / "run", **SMALL)
    states = player.game.batch(2)
    assert states.legal_mask()[[0, 1], player.act(states)].all()
    described = player.network.config
    assert described.sizes == {"channels": 8, "mixers": 2}
    assert main(["export", "run", "--format", "safetensors"]) == 0
    with safetensors.safe_open(folder / "run" / "network.safetensors", "pt") as file:
        assert json.loads(file.metadata()["network"])["network"] == f"{NAME}:Mixer"
        assert "net.embed.weight" in file.keys()  # noqa: SIM118


@pytest.mark.slow
def test_the_command_takes_the_network_and_only_later_use_asks_for_trust(folder, capsys):
    words = ["tic_tac_toe", "--network", f"{NAME}:Mixer", "--run", "run", "--quiet", "--no-rating"]
    words += ["--updates", "2", "--size", "8x1", "--simulations", "4"]
    assert main(["alphazero", *words]) == 0
    sys.modules.pop(NAME)
    playout.own_code._trusted.clear()
    again = ["match", "run:0", "random", "--games", "2"]
    assert main(again) == 2
    assert f"add --trust {NAME}" in capsys.readouterr().err
    assert main([*again, "--trust", NAME]) == 0


def test_a_network_that_does_not_fit_is_a_line_and_leaves_nothing(folder, capsys):
    (folder / "narrow.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.last = torch.nn.Linear(18, 5)\n"
        "    def forward(self, obs):\n"
        "        x = self.last(obs.flatten(1))\n"
        "        return x, x[:, 0]\n"
    )
    words = ["alphazero", "tic_tac_toe", "--network", "narrow:Net", "--updates", "1", "--run", "r"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "logits of 2 boards must be [2, 9], not [2, 5]" in error and error.count("\n") == 1
    assert not (folder / "r").exists()

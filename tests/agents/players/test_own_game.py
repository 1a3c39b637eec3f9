"""A game written in a folder, learned from the command line there and used by every command.

The game is one that nothing in playout has seen. Commands run in processes of their own that do not
look in the current folder by themselves, as the installed command does not.
"""

import json

import forked
import pytest

GAME = '''
"""Two players take 1 to `most` stones from a pile; who takes the last one wins."""

import numpy as np


class Pile:
    name, num_players = "pile", 2

    def __init__(self, stones=8, most=3):
        self.stones, self.most = stones, most
        self.num_actions, self.max_plies, self.obs_shape = most, stones, (1, 1, stones)

    def initial_state(self):
        return (self.stones, 0)

    def to_play(self, state):
        return state[1] if state[0] else -1

    def legal_actions(self, state):
        return range(min(self.most, state[0]))

    def apply(self, state, action):
        return (state[0] - action - 1, 1 - state[1])

    def returns(self, state):
        return [1.0, -1.0] if state[1] else [-1.0, 1.0]

    def observe(self, state, player):
        planes = np.zeros(self.obs_shape, np.float32)
        planes[0, 0, : state[0]] = 1
        return planes

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        if len(data) != 2 or data[0] > self.stones or data[1] > 1:
            raise ValueError("not a state of this game")
        return tuple(data)

    def action_text(self, state, action):
        return str(action + 1)
'''
SMALL = """size="4x1", simulations=2, rating=False, quiet=True, evaluations=16, steps=1,
    num_groups=1, num_trees=2, batch_size=8, num_shards=1, warmup_positions=8"""


def fresh(folder, text):
    """Runs Python in a process of its own that does not find the folder's modules by itself."""
    code, out, err = forked.run("-P", "-c", text, folder=folder)
    assert code == 0, out + err
    return out


LEARN = """
from playout.cli import main
words = ["--no-rating", "--size", "4x1", "--simulations", "2", "--evaluations", "16",
    "--steps", "1", "--selfplay.num-groups", "1", "--selfplay.num-trees", "2",
    "--learner.batch-size", "8", "--learner.num-shards", "1", "--warmup-positions", "8"]
assert main(["alphazero", "pile:Pile(stones=6)", "--updates", "2", "--run", "run", *words]) == 0
"""

USE = """
import contextlib, io, json, pathlib, shlex, sys
import playout
from playout.cli import main

def call(line, typed=""):
    sys.stdin, out, err = io.StringIO(typed), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(line))
    return code, out.getvalue(), err.getvalue()

for verb in ("play RUN", "match RUN random", "analyse RUN --moves 1", "eval RUN", "engine RUN",
             "export RUN", "alphazero --resume RUN"):
    code, out, err = call(verb.replace("RUN", "run"))
    assert code == 2 and "add --trust pile" in err and err.count("\\n") == 1, (verb, code, out, err)
assert "pile" not in sys.modules
T = "--trust pile"
for line, typed, said in json.loads(LINES):
    code, out, err = call(line + (" " + T if "RUN" not in line else ""), typed)
    assert code == 0 and said in out, (line, code, out, err)
assert "pile:Pile(stones=6)" in call("inspect run")[1]
records = __import__("playout.envs.records.json_lines", fromlist=["load"]).load("games.jsonl")
assert records[0].game == "pile:Pile" and records[0].params == {"stones": 6, "most": 3}
code, out, err = call(f"alphazero --resume run --updates 3 {T}")
assert code == 0, err
assert json.loads(pathlib.Path("run/metrics.jsonl").read_text().split("\\n")[2])["update"] == 3
"""

LINES = [
    ("match run random uct:5 --games 4 --openings 0", "", "pile"),
    ("match run:4 run:0 --games 2 --openings 0", "", "run:4"),
    ("analyse run --moves 12 --simulations 4", "", "The first player, to move, would play"),
    ("analyse pile:Pile(stones=4) --evaluator rollout --moves 1", "", "to move, would play 3"),
    ("eval run --episodes 2 --opponents random", "", "Ratings, random = 0 Elo"),
    ("play run --opponent random --out games.jsonl", "", "against random"),
    ("play run --simulations 4", "1\nquit\n", "run:4 plays"),
    ("engine run:4", "play b 1\ngenmove w\nquit\n", "=\n\n= "),
    ("export run --format safetensors", "", "wrote run/network.safetensors"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the game and a run that has learned it."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("own")
    (folder / "pile.py").write_text(GAME)
    closing = fresh(folder, LEARN)
    assert "playout play run --trust pile\n" in closing
    assert "playout match run uct:1000 --trust pile\n" in closing
    return folder


@pytest.mark.slow
def test_every_command_uses_a_run_of_a_game_of_your_own(folder):
    quoted = [(line.replace("(", "'(").replace(")", ")'"), *rest) for line, *rest in LINES]
    fresh(folder, USE.replace("LINES", repr(json.dumps(quoted))))


PYTHON = f"""
import os, pathlib, sys
import playout
from playout.errors import ConfigError, PlayoutError

try:
    playout.load("run")
except ConfigError as error:
    assert 'trust="pile"' in str(error)
player = playout.load("run", trust="pile", device="cpu", threads=1)
assert player.game.max_plies == 6 and len(player.act(player.game.batch(2))) == 2
from pile import Pile

run = playout.alphazero(Pile(stones=5), updates=1, run="second", {SMALL})
assert run.config["alphazero"]["game"] == "pile:Pile(stones=5, most=3)"
again = playout.resume(run, updates=2, quiet=True)
assert again.path == run.path and again.find().step == 2
met = playout.match([run, "random"], games=2, openings=0)
assert 0 <= met.score("second") <= 1 and "second" in str(met)
assert playout.match([playout.load(run), "random"], games=2, openings=0).game.max_plies == 5
found = playout.analyse(run, ["1", ""], simulations=4)
assert found.action.shape == (2,) and found.visits.sum() > 0
assert playout.analyse(playout.load(run), "1").action.shape == (1,)
measured = playout.evaluate(run, episodes=2, opponents=("random",))
assert {{one["player"] for one in measured["ratings"]}} == {{"random", "second"}}


class Hidden(Pile):  # keeps its parameter under another name: no text makes it again
    def __init__(self, size):
        super().__init__(size)


hidden = playout.alphazero(Hidden(4), updates=1, run="hidden", {SMALL})
for use in (playout.load, playout.evaluate, lambda run: playout.match([run, "random"])):
    try:
        use(hidden)
    except ConfigError as error:
        assert "game=" in str(error) and "--game module:Name" in str(error), error
    else:
        raise AssertionError(use)
assert playout.load(hidden, game=Hidden(4)).game.max_plies == 4
assert playout.match([hidden, "random"], game=Hidden(4), games=2, openings=0).matches
assert playout.evaluate(hidden, game=Hidden(4), episodes=2, opponents=("random",))["matches"]
assert playout.analyse(hidden, "1", game=Hidden(4), simulations=0).action.shape == (1,)
assert playout.resume(hidden, game=Hidden(4), updates=2, quiet=True).find().step == 2
try:
    playout.load(hidden, game=Hidden(5))
except PlayoutError as error:
    assert "was not made for pile" in str(error)
else:
    raise AssertionError("a pile of another size")
"""


@pytest.mark.slow
def test_python_trains_and_uses_it_alike_without_a_word(folder):
    assert fresh(folder, PYTHON) == ""

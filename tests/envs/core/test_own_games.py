"""Games of one's own by name: made from text, from objects, and the text that makes them again."""

import sys
import time
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import numpy as np
import playout
import pytest
from playout.envs.core.registry import game, game_text, given_game, register_game, unregister_game
from playout.envs.game_text import is_plain, read, write
from playout.errors import ConfigError, GameError
from playout.own_code import import_module, refuse_while_importing, trust_modules

SOURCE = '''
import numpy as np
import playout

class Take:
    """Players take 1 to `most` stones; who takes the last one wins."""

    name, num_players, obs_shape = "take", 2, (1, 1, 30)

    def __init__(self, stones=9, most=3, extra=(1, 2), label="a,b"):
        self.stones, self.most, self.extra, self.label = stones, most, extra, label
        self.num_actions, self.max_plies = most, stones

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
        if len(data) != 2:
            raise ValueError
        return tuple(data)

class Follows(playout.Game):
    name, num_players, obs_shape, num_actions, max_plies = "follows", 1, (1, 1, 1), 1, 1
    initial_state = lambda self: 0
    to_play = lambda self, state: 0 if state == 0 else -1
    legal_actions = lambda self, state: [0]
    apply = lambda self, state, action: 1
    returns = lambda self, state: [1.0]
    observe = lambda self, state, player: [[[state]]]
    encode = lambda self, state: bytes([state])
    decode = lambda self, data: data[0]

class Forgets(Take):
    def __init__(self, stones=5):
        super().__init__(stones)
        del self.stones
        self.kept = stones
    def initial_state(self):
        return (self.kept, 0)

class Needs(Take):
    def __init__(self, stones):
        super().__init__(stones)

class Breaks(Take):
    def initial_state(self):
        return 1 / 0

class Fails(Take):
    def __init__(self):
        raise RuntimeError("no licence")

class Room:
    class Inner(Take):
        pass

def make(width: int = 4):
    return playout.game("connect_four", width=width, height=4)

SMALL = Take(4)
NATIVE = playout.game("tic_tac_toe")
CAPSULE = NATIVE.capsule
NUMBER = 3
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr("playout.own_code._trusted", set())
    (tmp_path / "own_take.py").write_text(SOURCE)
    yield "own_take"
    sys.modules.pop("own_take", None)


def test_a_game_of_your_own_is_made_from_a_name_once_its_module_is_trusted(own):
    with pytest.raises(ConfigError, match="--trust own_take"):
        game("own_take:Take")
    assert own not in sys.modules
    trust_modules(own)
    made = game("own_take:Take(stones=12, most=2)")
    assert made.max_plies == 12 and made.num_actions == 2
    assert made.params == {"stones": 12, "most": 2, "extra": (1, 2), "label": "a,b"}
    assert game("own_take:Take", stones=12, most=2) == made != game("own_take:Take")


def test_a_name_that_a_person_gives_in_python_is_their_word(own):
    assert given_game("own_take:Take(stones=7)").max_plies == 7
    assert playout.game("own_take:Room.Inner").name == "take"


@pytest.mark.parametrize(
    ("name", "known_as"), [("SMALL", "take"), ("NATIVE", "tic_tac_toe"), ("CAPSULE", "tic_tac_toe")]
)
def test_a_name_may_stand_for_a_game_that_is_made_already(own, name, known_as):
    made = given_game(f"own_take:{name}")
    assert made.name == known_as and game_text(made) == f"own_take:{name}"
    with pytest.raises(ConfigError, match="takes no parameters"):
        game(f"own_take:{name}(stones=3)")


@pytest.mark.parametrize("text", ["own_take:Take(stones=8)", "own_take:make(width=5)"])
def test_the_text_of_a_game_makes_it_again(own, text):
    made = given_game(text)
    again = game_text(made)
    assert again is not None and again.startswith(text[:-1])
    assert game(again) == made and game_text(again) == again


def test_an_object_is_known_by_its_class_and_the_parameters_it_keeps(own):
    module = import_module(own)
    text = game_text(module.Take(11, most=2, extra=[3, (4,)]))
    assert text == 'own_take:Take(stones=11, most=2, extra=(3, (4,)), label="a,b")'
    assert game(text) == game(module.Take(11, most=2, extra=[3, (4,)]))
    assert game_text(module.Follows()) == game_text("own_take:Follows") == "own_take:Follows"
    assert game_text(module.Forgets(6)) is None  # rebuilt by its name it would be another game


def test_a_dataclass_is_known_by_its_fields_and_a_local_class_not_at_all(own):
    module = import_module(own)
    module.Kept = dataclass(type("Kept", (module.Take,), {"__annotations__": {"stones": int}}))
    module.Kept.__module__, module.Kept.__qualname__ = own, "Kept"
    module.Kept.num_actions, module.Kept.max_plies, module.Kept.most = 3, 30, 3
    assert game_text(module.Kept(5)) == "own_take:Kept(stones=5)"

    class Local(module.Take):
        pass

    assert game_text(Local()) is None and game(Local()).origin is None


def test_a_registered_game_is_known_by_its_factory(own):
    module = import_module(own)
    register_game("take_stones", module.Take)
    register_game("by_lambda", lambda stones=4: module.Take(stones))
    try:
        made = game("take_stones(stones=5)")
        assert str(game(str(made).replace("take(", "take_stones("))) == str(made)  # a tuple default
        assert game_text("take_stones(stones=5)").startswith("own_take:Take(stones=5, most=3")
        assert game_text("by_lambda") == "by_lambda(stones=4)"
    finally:
        unregister_game("take_stones")
        unregister_game("by_lambda")


@pytest.mark.parametrize(
    "text",
    [
        "os:system(command='touch ran')",
        "playout.own_code:os.system(command='touch ran')",
        "own_take:playout.agents.players.external.process.EngineProcess(argv=(touch, ran))",
    ],
)
def test_a_run_of_a_game_that_is_no_game_runs_nothing(own, text, tmp_path):
    player = pytest.importorskip("playout.agents.alphazero.player")
    trust_modules(own)
    with pytest.raises(ConfigError):
        player.learned_game(text, SimpleNamespace(path="runs/x"))
    time.sleep(0.02)  # for a program that was started
    assert not (tmp_path / "ran").exists()


def test_built_in_games_keep_their_names():
    assert game_text("connect_four") == "connect_four(width=7, height=6, run=4)"
    assert game_text(playout.game("tic_tac_toe")) == "tic_tac_toe"
    assert game_text(playout.game("tic_tac_toe").capsule) == "tic_tac_toe"


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("own_nowhere:Take", ConfigError, "cannot import the module 'own_nowhere'"),
        ("own_take:Nope", ConfigError, "cannot find game 'own_take:Nope'"),
        ("own_take:NUMBER", GameError, "int is not a game"),
        ("own_take:Room", GameError, "Room is not a game.* lacks initial_state, .*, decode$"),
        ("own_take:Take(size=3)", ConfigError, "no parameter 'size': it takes stones, most"),
        ("own_take:Needs", ConfigError, r"needs the parameter 'stones': write own_take:Needs\(st"),
        ("own_take:Breaks", GameError, "Breaks raised ZeroDivisionError"),
        ("own_take:Fails", ConfigError, "own_take:Fails raised RuntimeError: no licence"),
        ("own_take:Take(stones=x)", ConfigError, "stones|max_plies|must be|operand"),
        ("own_take:", ConfigError, "module:Name"),
        ("own_take:Take(stones=[)", ConfigError, "brackets"),
        ("own_take:Take(label='x)", ConfigError, "closing quote"),
    ],
)
def test_what_is_no_game_is_said_in_one_line(own, text, error, said):
    with pytest.raises((ConfigError, GameError), match=said) as caught:
        given_game(text)
    assert isinstance(caught.value, error | GameError) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        3,
        -2,
        7.5,
        1e-7,
        True,
        False,
        None,
        "plain",
        "a,b",
        "3",
        "none",
        "",
        'q"x',
        "x ",
        (1, "a,b"),
        (),
    ],
)
def test_parameters_are_read_as_they_were_written(value):
    assert is_plain(value)
    name, params = read(write("m.n:Game", {"value": value, "other": 1}))
    assert (name, params) == ("m.n:Game", {"value": value, "other": 1})
    assert type(params["value"]) is type(value)
    assert not any(map(is_plain, (np.inf, object(), 10**30, {1: 2})))


def test_a_script_that_trains_when_it_is_imported_is_stopped(own, tmp_path):
    (tmp_path / "own_script.py").write_text(
        "from playout.own_code import refuse_while_importing\nrefuse_while_importing('training')\n"
    )
    with pytest.raises(ConfigError, match=r'training was begun.*if __name__ == "__main__"'):
        import_module("own_script")
    refuse_while_importing("training")


def test_games_of_your_own_come_to_other_processes_by_their_text(own):
    trust_modules(own)
    made = game("own_take:Take(stones=12, most=2)")
    state = made.from_moves([1, 0])
    again = ForkingPickler.loads(ForkingPickler.dumps(state))
    assert again == state and again.game == made and again.ply == 2
    batch = ForkingPickler.loads(ForkingPickler.dumps(made.batch(3)))
    assert batch.game == made and len(batch) == 3
    forgets = game(import_module(own).Forgets(5))
    with pytest.raises(GameError, match="take cannot be copied to another process, as no text"):
        ForkingPickler.dumps(forgets.initial_state())


def test_games_of_your_own_are_equal_where_what_they_keep_is(own):
    trust_modules(own)
    module = import_module(own)
    one, two = module.Forgets(5), module.Forgets(5)
    assert game(one) == game(one) == game(two)
    one.table, two.table = np.arange(2), np.arange(2)  # nobody can say that they are the same
    assert game(one) == game(one) != game(two)
    assert game("own_take:Forgets(stones=5)") == game("own_take:Forgets(stones=5)")
    assert game(module.Take(6)) == game(module.Take(6)) == game("own_take:Take(stones=6)")

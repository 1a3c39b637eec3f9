"""check_game on games in Python that hide badly: each broken promise is found and named."""

import numpy as np
import pytest
from playout.envs import from_python
from playout.errors import GameError
from playout.testing import GameCheckError, check_game


class Coins:
    """Both players choose a coin of three, unseen by each other; equal ones are the first's."""

    name, num_players, num_actions, max_plies, obs_shape = "coins", 2, 3, 2, (1, 1, 4)
    hidden, state_bytes = True, 2

    def initial_state(self):
        return ()

    def to_play(self, state):
        return len(state) if len(state) < 2 else -1

    def legal_actions(self, state):
        return [0, 1, 2]

    def apply(self, state, action):
        return (*state, action)

    def returns(self, state):
        return [1, -1] if state[0] == state[1] else [-1, 1]

    def seen(self, state, player):
        return tuple(
            coin if who == player or len(state) == 2 else -1 for who, coin in enumerate(state)
        )

    def observe(self, state, player):
        known = (player, len(state), *self.seen(state, player))
        return np.array([*known, *(-2,) * (4 - len(known))], np.float32).reshape(self.obs_shape)

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        if len(data) > 2 or any(byte > 2 for byte in data):
            raise ValueError("no state")
        return tuple(data)

    def board_text(self, state):
        return f"coins: {state}"

    def view_text(self, state, player):
        return f"coins: {self.seen(state, player)}"

    def info_key(self, state, player):
        return (player, *self.seen(state, player))

    def resample(self, state, player, rng):
        known = self.seen(state, player)
        return tuple(coin if coin >= 0 else int(rng.integers(3)) for coin in known)


def test_a_game_that_hides_well_passes():
    check_game(Coins())


def leak(self, state, player):
    return np.array([player, len(state), *(*state, -2, -2)[:2]], np.float32).reshape((1, 1, 4))


FAULTS = [
    ({"observe": leak}, "info_key.* tell apart|another observe"),
    (
        {"view_text": lambda self, state, player: str(state)},
        "tell apart|another text for the player",
    ),
    ({"info_key": lambda self, state, player: (player, *state)}, "changes its info_key"),
    ({"info_key": lambda self, state, player: player}, "that it can tell apart"),
    ({"resample": lambda self, state, player, rng: (0,) * len(state)}, "changes"),
    ({"resample": lambda self, state, player, rng: ()}, "changes"),
]


@pytest.mark.parametrize(("fault", "problem"), FAULTS)
def test_each_way_of_hiding_badly_is_found(fault, problem):
    with pytest.raises(GameCheckError, match=problem):
        check_game(type("Faulty", (Coins,), fault)(), num_games=20)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ({"hidden": 1}, "hidden must be True or False"),
        ({"info_key": None}, r"no info_key\(state, player\)"),
        ({"value_scale": 0}, "value_scale must be a positive number"),
    ],
)
def test_impossible_declarations_are_refused(fault, problem):
    with pytest.raises(GameError, match=problem):
        from_python(type("Faulty", (Coins,), fault)())


def test_an_info_key_of_another_kind_is_refused():
    faulty = type("Faulty", (Coins,), {"info_key": lambda self, state, player: [player]})()
    with pytest.raises(GameError, match="not text, bytes, an integer or a tuple"):
        from_python(faulty).initial_state().info_key(0)


def test_results_beyond_value_scale_are_refused():
    faulty = type("Faulty", (Coins,), {"returns": lambda self, state: [3, -3]})
    with pytest.raises(GameError, match=r"not 2 numbers in \[-1, 1\]"):
        check_game(faulty())
    check_game(type("Scaled", (faulty,), {"value_scale": 3})())

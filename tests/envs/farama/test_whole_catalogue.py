"""Every game of the catalogue, small, through PettingZoo's and Gymnasium's own checks."""

import warnings

import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import api_test, seed_test
from playout.envs.catalogue import GAMES
from playout.envs.farama.game_aec import env
from playout.envs.farama.game_env import GameEnv

SMALL = {
    "backgammon": "backgammon",
    "breakthrough": "breakthrough(size=4)",
    "chess": "chess(max_plies=40)",
    "connect_four": "connect_four(width=5, height=4, run=3)",
    "game_2048": "game_2048(size=2)",
    "go": "go(size=3)",
    "gomoku": "gomoku(size=5)",
    "hex": "hex(size=3, swap=1)",
    "kuhn_poker": "kuhn_poker(players=3)",
    "leduc_poker": "leduc_poker",
    "liars_dice": "liars_dice(dice=2, sides=3)",
    "mnk": "mnk(m=4, n=3, k=3)",
    "othello": "othello(size=4)",
    "tic_tac_toe": "tic_tac_toe",
}
each_game = pytest.mark.parametrize("name", sorted(SMALL))


class Patient(GameEnv):
    """Plays the first legal action where the one given is none.

    Gymnasium's check of determinism draws an action, then resets, then plays it: in most games it
    is legal in another position only.
    """

    def step(self, action):
        mask = self.action_masks()
        return super().step(action if mask[action] or not mask.any() else mask.argmax())


def test_no_game_of_the_catalogue_is_left_out():
    assert SMALL.keys() == GAMES.keys()


@pytest.mark.filterwarnings("ignore::UserWarning")
@each_game
def test_turn_by_turn_it_passes_pettingzoos_checks(name, capsys):
    api_test(env(SMALL[name]), num_cycles=20)
    seed_test(lambda: env(SMALL[name]), num_cycles=20)


@each_game
@pytest.mark.parametrize("opponent", [None, "random"])
def test_alone_it_passes_gymnasiums_checks(name, opponent):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(infinity|spec).*")
        check_env(Patient(SMALL[name], opponent=opponent), skip_render_check=True)


@each_game
def test_what_it_shows_lies_in_the_space_that_it_declares(name):
    made = GameEnv(SMALL[name])
    made.action_space.seed(1)
    for seed in range(3):
        seen, _ = made.reset(seed=seed)
        over = False
        while not over:
            assert made.observation_space.contains(seen)
            seen, _, over, _, _ = made.step(made.action_space.sample())
        assert made.observation_space.contains(seen)

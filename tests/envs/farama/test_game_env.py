"""One board as a Gymnasium environment: Gymnasium's own checks on games of every kind."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from playout.envs.farama.game_env import GameEnv
from playout.errors import IllegalActionError


class Subtract:
    """Players in turn take 2 or 3 of a heap of 20: actions 0 and 1 are never legal."""

    name, num_actions, max_plies, obs_shape = "subtract", 4, 10, (1, 1, 21)

    def __init__(self, players):
        self.num_players = players

    def initial_state(self):
        return (20, 0)

    def to_play(self, s):
        return s[1] % self.num_players if s[0] >= 2 else -1

    def legal_actions(self, s):
        return [a for a in (2, 3) if a <= s[0]]

    def apply(self, s, a):
        return (s[0] - a, s[1] + 1)

    def returns(self, s):
        values = [0.0 if self.num_players == 1 else -1.0 / (self.num_players - 1)]
        values *= self.num_players
        values[(s[1] - 1) % self.num_players] = 1.0
        return values

    def observe(self, s, player):
        return np.eye(21)[s[0]].reshape(1, 1, 21)

    def encode(self, s):
        return bytes(s)

    def decode(self, data):
        left, plies = data
        return (left, plies)


GAMES = ["connect_four", "tic_tac_toe", Subtract(1), Subtract(2), Subtract(3)]
by_game = pytest.mark.parametrize("game", GAMES, ids=lambda game: getattr(game, "name", game))


@by_game
@pytest.mark.parametrize("opponent", [None, "random"])
def test_gymnasiums_checks_pass(game, opponent):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(infinity|spec).*")
        check_env(GameEnv(game, opponent=opponent), skip_render_check=True)


@by_game
def test_samples_of_the_action_space_play_whole_games(game):
    env = GameEnv(game)
    env.action_space.seed(3)
    ends = []
    for seed in range(20):
        env.reset(seed=seed)
        over = False
        while not over:
            _, reward, over, _, info = env.step(env.action_space.sample())
            assert info["action_mask"].any() != over
        ends.append(reward)
        assert env.action_space.contains(env.action_space.sample())
    assert max(ends) == 1.0


def test_the_action_space_is_discrete_to_everybody_else():
    env = GameEnv(Subtract(2))
    assert env.action_space == gymnasium.spaces.Discrete(4)
    mask = np.array([1, 0, 0, 0], np.int8)
    assert env.action_space.sample(mask) == 0
    space = gymnasium.vector.utils.batch_space(env.action_space, 3)
    assert space == gymnasium.spaces.MultiDiscrete([4, 4, 4])


@pytest.mark.parametrize("action", [None, 1.5, "2", [2, 3], np.float32(2)])
def test_what_is_no_action_is_named(action):
    env = GameEnv(Subtract(2))
    env.reset(seed=0)
    with pytest.raises(TypeError, match="an action must be a whole number, got"):
        env.step(action)


@pytest.mark.parametrize("action", [0, 1, -1, 4, 2**40])
def test_an_illegal_action_is_one_clear_error_and_changes_nothing(action):
    env = GameEnv(Subtract(2))
    env.reset(seed=0)
    with pytest.raises(IllegalActionError, match=rf"action {action} is not legal here; legal are"):
        env.step(action)
    assert env.state.text == GameEnv(Subtract(2)).game.initial_state().text
    env.step(2)

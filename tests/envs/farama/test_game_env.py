"""One board as a Gymnasium environment: Gymnasium's own checks on games of every kind."""

import copy
import warnings
from multiprocessing.reduction import ForkingPickler

import gymnasium
import numpy as np
import playout
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from playout.envs.farama.game_env import GameEnv
from playout.envs.farama.game_vector import GameVectorEnv
from playout.errors import ConfigError, IllegalActionError


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


@pytest.mark.parametrize("game", ["chess", "backgammon", "go", "leduc_poker"])
def test_there_is_no_state_before_the_first_reset(game):
    env = GameEnv(game, render_mode="ansi")
    for ask in (lambda: env.state, env.render):
        with pytest.raises(ResetNeeded, match="call reset"):
            ask()
    envs = GameVectorEnv(game, 2)
    with pytest.raises(ResetNeeded, match="call reset"):
        envs.states()
    with pytest.raises(ResetNeeded, match=r"first reset.* must begin every environment"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    env.reset(seed=0)
    assert env.state.legal_actions and env.render()


def test_an_episode_is_cut_off_at_its_limit():
    env = GameEnv("tic_tac_toe", max_episode_steps=2)
    env.reset(seed=0)
    assert env.step(0)[2:4] == (False, False) and env.step(1)[2:4] == (False, True)
    with pytest.raises(ResetNeeded, match="the episode is over"):
        env.step(2)
    env.reset()
    assert env.step(2)[2:4] == (False, False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_envs": 3}, ConfigError, "one board without num_envs: use GameVectorEnv"),
        ({"autoreset_mode": "SameStep"}, ConfigError, "one board without autoreset_mode"),
        ({"copy": False}, ConfigError, "one board without copy"),
        ({"max_episode_steps": 2.7}, TypeError, "max_episode_steps must be a whole number"),
        ({"seat": 1}, ConfigError, "no parameter 'seat'"),
    ],
)
def test_arguments_that_make_no_sense_for_one_board_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        GameEnv("tic_tac_toe", **arguments)


def test_seeds_and_options_are_examined():
    with pytest.raises(TypeError, match=r"seeds must be whole numbers or None, got 1\.5"):
        GameVectorEnv("tic_tac_toe", 2).reset(seed=[1.5, 2.5])
    with pytest.raises(ValueError, match="unknown reset option 'reset_mask'; GameEnv has none"):
        GameEnv("tic_tac_toe").reset(options={"reset_mask": np.ones(1, bool)})


def test_rows_that_play_does_not_reach_are_refused():
    envs = GameVectorEnv("tic_tac_toe", 2)
    envs.reset(seed=0)
    before = envs.get_state()
    over = playout.game("tic_tac_toe").from_moves([0, 3, 1, 4, 2])
    state = {key: array.copy() for key, array in before.items()}
    state["states"][1] = np.frombuffer(over.to_bytes(), np.uint8)
    with pytest.raises(ValueError, match="row 1 of states is over, but not pending"):
        envs.set_state(state)
    state["pending"][1] = True
    envs.set_state(state)
    assert envs.is_over().tolist() == [False, True]
    against = GameVectorEnv("tic_tac_toe", 1, opponent="random", player=0)
    against.reset(seed=0)
    state = against.get_state()
    state["seats"][0] = 1
    with pytest.raises(ValueError, match="row 0 of states waits for chance or for the opponent"):
        against.set_state(state)


def actions_of(env, count=4):
    """The observations and rewards of a few steps, each with the last legal action."""
    told = []
    for _ in range(count):
        step = env.step(np.flatnonzero(env.action_masks())[-1])
        told.append((step[0].tobytes(), *step[1:4]))
    return told


class Dice:
    """Moves at random, by numbers of its own."""

    name = "dice"

    def reset(self, seed):
        self.rng = np.random.default_rng(seed)

    def act(self, states):
        mask = states.legal_mask()
        return np.where(mask, self.rng.random(mask.shape), -1).argmax(axis=1).astype(np.int32)


@pytest.mark.parametrize("opponent", [None, "random", Dice()], ids=["self", "random", "player"])
@pytest.mark.parametrize(
    "game", ["connect_four", "backgammon", Subtract(2)], ids=["solved", "dice", "own"]
)
def test_environments_can_be_copied_and_go_on_alike(game, opponent):
    env = GameEnv(game, opponent=opponent)
    copy.deepcopy(env).reset(seed=0)
    env.reset(seed=5)
    actions_of(env, 2)
    env.action_space.seed(3)
    twin = copy.deepcopy(env)
    assert twin.state == env.state and np.array_equal(twin.action_masks(), env.action_masks())
    assert twin.action_space.mask.tolist() == env.action_masks().tolist()
    assert twin.action_space.sample() == env.action_space.sample()
    kept, before = env.get_state(), env.state
    told = actions_of(env, 2)
    assert actions_of(twin, 2) == told
    assert twin.action_space.mask.tolist() == twin.action_masks().tolist()
    if opponent != "random" and opponent is not None:
        return  # what a player draws is its own
    env.set_state(kept)
    assert env.state == before and actions_of(env, 2) == told
    assert env.reset()[0].tobytes() == twin.reset()[0].tobytes()


def test_environments_come_to_other_processes():
    envs = GameVectorEnv("leduc_poker", 3, opponent="random", max_episode_steps=5)
    envs.reset(seed=2)
    again = ForkingPickler.loads(ForkingPickler.dumps(envs))
    for _ in range(6):
        actions = envs.action_masks().argmax(axis=1)
        for mine, other in zip(envs.step(actions)[:4], again.step(actions)[:4], strict=True):
            assert np.array_equal(mine, other)
    made = gymnasium.make("playout/TicTacToe-v0")
    made.reset(seed=0)
    twin = copy.deepcopy(made)
    made.step(0)
    assert twin.unwrapped.state.legal_actions == list(range(9)) and twin.spec.id == made.spec.id

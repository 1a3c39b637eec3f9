"""Board games as Gymnasium environments: rules of the table, autoreset, opponents."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import playout
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from playout.envs.farama.game_vector import GameVectorEnv
from playout.errors import ConfigError, IllegalActionError
from same import assert_same

IDS = ["playout/ConnectFour-v0", "playout/TicTacToe-v0"]
MODES = list(AutoresetMode)


def draw(masks, rng):
    """A random legal action a row; 0 where the game is over."""
    return np.where(masks, rng.random(masks.shape), -1.0).argmax(axis=1)


class Lowest:
    """Plays the first legal action; remembers what it was told."""

    name = "lowest"

    def __init__(self):
        self.seeds = []

    def reset(self, seed):
        self.seeds.append(seed)

    def act(self, states):
        return states.legal_mask().argmax(axis=1).astype(np.int32)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("env_id", IDS)
def test_every_id_passes_gymnasiums_check(env_id):
    check_env(gym.make(env_id).unwrapped)
    env = gym.make(env_id, opponent="random").unwrapped
    # The checker draws from the whole space; the opponent may have moved first, and an occupied
    # cell is refused: let it draw legal actions.
    env.action_space.sample = lambda *_, **__: np.flatnonzero(env.action_masks())[0]
    check_env(env)


@pytest.mark.parametrize("opponent", [None, "random", Lowest()], ids=["self", "random", "player"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_rows_equal_gymnasiums_sync_vector_env_in_every_autoreset_mode(env_id, mode, opponent):
    count = 5
    ours = gym.make_vec(env_id, num_envs=count, autoreset_mode=mode, opponent=opponent)
    theirs = SyncVectorEnv(
        [lambda: gym.make(env_id, opponent=opponent, disable_env_checker=True)] * count,
        autoreset_mode=mode,
    )
    assert_same(ours.reset(seed=3), theirs.reset(seed=3), dtypes=False)
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(120):
        actions = draw(ours.action_masks(), rng)
        step = ours.step(actions)
        assert_same(step, theirs.step(actions), dtypes=False)  # Gymnasium has float64 rewards
        assert np.array_equal(step[4]["action_mask"], ours.action_masks())
        ended += step[2].sum()
        if mode is AutoresetMode.DISABLED and step[2].any():
            options = {"reset_mask": step[2]}
            obs, infos = ours.reset(options=options)
            their_obs, their_infos = theirs.reset(options=dict(options))
            assert_same(obs, their_obs, dtypes=False)
            # Gymnasium tells of the reset rows only, we tell of all.
            assert np.array_equal(
                infos["action_mask"][step[2]], their_infos["action_mask"][step[2]]
            )
            assert np.array_equal(infos["action_mask"], ours.action_masks())
    assert ended > count


class Plain:
    """One row of GameVectorEnv, written again with single States, a move at a time."""

    def __init__(self, game, player):
        self.game, self.player = game, player  # None: self-play
        self.start()

    def start(self):
        self.state = self.game.initial_state()
        self.over = False
        self.reply()

    def reply(self):
        """The other player's first legal action, as Lowest plays."""
        while self.player is not None and self.state.to_play not in (self.player, -1):
            self.state = self.state.apply(self.state.legal_actions[0])

    def step(self, action):
        """The reward of the player who acts."""
        player = self.state.to_play if self.player is None else self.player
        self.state = self.state.apply(int(action))
        self.reply()
        self.over = self.state.is_terminal
        return self.state.returns[player] if self.over else 0.0

    def seen(self):
        """What the agent sees: planes, legal actions, who is to move."""
        viewer = max(self.state.to_play, 0) if self.player is None else self.player
        return self.state.observe(viewer), self.state.action_mask, self.state.to_play


def assert_seen(rows, obs, mask, to_play):
    for i, row in enumerate(rows):
        planes, legal, player = row.seen()
        assert np.array_equal(obs[i], planes) and np.array_equal(mask[i], legal)
        assert to_play[i] == player


@pytest.mark.parametrize("player", [None, 0, 1], ids=["self-play", "first", "second"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_rows_equal_games_played_with_single_states(env_id, mode, player):
    count, steps = 16, 60
    opponent = None if player is None else Lowest()
    envs = gym.make_vec(
        env_id, num_envs=count, autoreset_mode=mode, opponent=opponent, player=player
    )
    rows = [Plain(envs.game, player) for _ in range(count)]
    obs, infos = envs.reset(seed=0)
    assert_seen(rows, obs, infos["action_mask"], infos["to_play"])
    rng = np.random.default_rng(1)
    ended = won = 0
    for _ in range(steps):
        actions = draw(infos["action_mask"] > 0, rng)
        expected = np.zeros(count)
        for i, row in enumerate(rows):
            if row.over:  # a step without a move, which restarts the row
                actions[i] = 99
                row.start()
            else:
                expected[i] = row.step(actions[i])
        obs, rewards, terminations, truncations, infos = envs.step(actions)
        over = np.array([row.over for row in rows])
        assert np.array_equal(rewards, expected)
        assert np.array_equal(terminations, over) and not truncations.any()
        assert infos["_action_mask"].all() and infos["_to_play"].all()
        if mode is AutoresetMode.SAME_STEP and over.any():
            assert np.array_equal(infos["_final_obs"], over)
            last = infos["final_info"]
            for i in np.flatnonzero(over):
                planes, legal, player = rows[i].seen()
                assert np.array_equal(infos["final_obs"][i], planes)
                assert np.array_equal(last["action_mask"][i], legal)
                assert last["to_play"][i] == player == -1
                rows[i].start()
        elif mode is AutoresetMode.DISABLED and over.any():
            assert_seen(rows, obs, infos["action_mask"], infos["to_play"])
            for i in np.flatnonzero(over):
                rows[i].start()
            obs, infos = envs.reset(options={"reset_mask": over})
        assert_seen(rows, obs, infos["action_mask"], infos["to_play"])
        ended, won = ended + over.sum(), won + (expected > 0).sum()
    assert ended > count and won > 0


def test_a_row_does_not_depend_on_how_the_batch_is_cut():
    whole = GameVectorEnv("connect_four", 40, opponent="random")
    cuts = [GameVectorEnv("connect_four", count, opponent="random") for count in (1, 39)]
    whole.reset(seed=9)
    cuts[0].reset(seed=9)
    cuts[1].reset(seed=10)
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = draw(whole.action_masks(), rng)
        results = whole.step(actions)
        for rows, cut in zip((slice(0, 1), slice(1, 40)), cuts, strict=True):
            assert_same(cut.step(actions[rows])[:4], tuple(r[rows] for r in results[:4]))


@pytest.mark.parametrize("mode", MODES[:2])
@pytest.mark.parametrize("opponent", [None, "random"])
def test_a_saved_state_continues_to_the_same_bits(mode, opponent):
    envs = GameVectorEnv("connect_four", 20, opponent=opponent, autoreset_mode=mode)
    envs.reset(seed=3)
    rng = np.random.default_rng(2)
    for _ in range(33):
        envs.step(draw(envs.action_masks(), rng))
    other = GameVectorEnv("connect_four", 20, opponent=opponent, autoreset_mode=mode)
    assert np.array_equal(other.set_state(envs.get_state()), envs.observe())
    for _ in range(60):
        actions = draw(envs.action_masks(), rng)
        assert_same(other.step(actions), envs.step(actions))
        assert_same(other.get_state(), envs.get_state())


def test_with_an_opponent_all_is_seen_from_the_callers_seat():
    envs = GameVectorEnv("tic_tac_toe", 200, opponent="random", autoreset_mode="Disabled")
    obs, infos = envs.reset(seed=0)
    stones = obs.sum(axis=(2, 3)).astype(int)
    second = stones[:, 1] == 1  # the opponent began
    assert 60 < second.sum() < 140 and np.array_equal(stones[:, 0], np.zeros(200))
    assert np.array_equal(infos["to_play"], second.astype(int))
    rng = np.random.default_rng(0)
    won = lost = 0
    for _ in range(5):
        live = ~envs.is_over()
        state = envs.states()
        obs, rewards, terminations, _, infos = envs.step(draw(envs.action_masks(), rng))
        assert np.all(obs[live & ~terminations].sum(axis=(1, 2, 3)) <= 9)
        results = envs.states().returns()[np.arange(200), second.astype(int)]
        assert np.array_equal(rewards[live], results[live])
        assert not infos["action_mask"][terminations].any()
        assert len(state) == 200
        won, lost = won + (rewards > 0).sum(), lost + (rewards < 0).sum()
        if terminations.any():
            envs.reset(options={"reset_mask": terminations})
            second = envs.get_state()["seats"] == 1
    assert won > 50 and lost > 50


def test_the_player_can_be_chosen():
    for player in (0, 1, np.int64(1)):
        envs = GameVectorEnv("connect_four", 50, opponent="random", player=player)
        obs, infos = envs.reset(seed=0)
        assert np.all(infos["to_play"] == player) and obs.sum() == 50 * player
    for wrong in (0.7, "1", 2, True):
        with pytest.raises(ConfigError, match="player must be 0 to 1"):
            GameVectorEnv("connect_four", 1, opponent="random", player=wrong)
    with pytest.raises(ConfigError, match="no parameter 'seat'"):
        GameVectorEnv("connect_four", 1, opponent="random", seat=1)


def test_a_player_is_asked_for_exactly_the_rows_that_wait():
    player = Lowest()
    envs = GameVectorEnv("connect_four", 3, opponent=player, player=1)
    obs, _ = envs.reset(seed=11)
    assert player.seeds == [11]
    GameVectorEnv("connect_four", 3, opponent=player, player=1).reset(seed=[None, 12, 13])
    assert player.seeds == [11, 12]
    with pytest.raises(TypeError, match=r"opponent must have reset\(seed\), SimpleNamespace"):
        GameVectorEnv("connect_four", opponent=SimpleNamespace(act=player.act))
    assert np.array_equal(obs[:, 1, 5], np.tile([1, 0, 0, 0, 0, 0, 0], (3, 1)))
    obs, *_ = envs.step(np.array([3, 4, 5]))
    assert np.array_equal(obs[:, 1, 4:, 0], np.ones((3, 2)))


class Wrong(Lowest):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def act(self, states):
        return np.resize(self.answer, len(states)) if np.ndim(self.answer) == 0 else self.answer


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (7, IllegalActionError, "opponent's action 7 in environment 0"),
        (-1, IllegalActionError, "opponent's action -1"),
        (0.5, ValueError, "whole numbers"),
        (np.zeros(5, int), ValueError, "2 states"),
    ],
)
def test_a_player_that_answers_wrongly_is_named(answer, error, message):
    envs = GameVectorEnv("connect_four", 2, opponent=Wrong(answer), player=0)
    envs.reset(seed=0)
    with pytest.raises(error, match=message):
        envs.step(np.array([0, 0]))
    with pytest.raises(ResetNeeded):
        envs.step(np.array([0, 0]))


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        ([3, 3, 7], IllegalActionError, "environment 2: action 7"),
        ([3, -1, 3], IllegalActionError, "environment 1: action -1"),
        ([2**40, 3, 3], IllegalActionError, "environment 0: action 1099511627776"),
        (
            [0, 1, 3],
            IllegalActionError,
            r"environment 0: action 0 is not legal.*\[1, 2, 3, 4, 5, 6",
        ),
        ([3, 3], ValueError, "shape"),
        ([[3], [3], [3]], ValueError, "shape"),
        ([3.0, 3.0, 3.0], TypeError, "whole numbers"),
    ],
)
def test_bad_actions_are_refused_before_anything_changes(actions, error, message):
    envs = GameVectorEnv("connect_four", 3)
    envs.reset(seed=0)
    for _ in range(6):
        envs.step(np.array([0, 1, 2]))
    before = envs.get_state()
    with pytest.raises(error, match=message) as caught:
        envs.step(np.array(actions))
    assert "\n" not in str(caught.value)
    assert_same(envs.get_state(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"game": "conect_four"}, "conect_four"),
        ({"opponent": "alphabeta"}, "make_player"),
        ({"player": 0}, "player needs an opponent"),
        ({"player": 2, "opponent": "random"}, "player must be 0 to 1"),
        ({"width": 70}, "width"),
        ({"colour": 1}, "no parameter 'colour'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        GameVectorEnv(**{"game": "connect_four", **arguments})
    with pytest.raises(TypeError, match="act"):
        GameVectorEnv("connect_four", opponent=3)


def test_stepping_out_of_order_is_refused():
    envs = GameVectorEnv("connect_four", 2, autoreset_mode="Disabled")
    with pytest.raises(ResetNeeded, match="reset"):
        envs.step(np.array([0, 0]))
    envs.reset(seed=0)
    for column in (0, 1, 0, 1, 0, 1, 0):
        step = envs.step(np.array([column, column]))
    assert step[1].tolist() == [1.0, 1.0] and step[2].all()
    with pytest.raises(ResetNeeded, match="environment 0 is over"):
        envs.step(np.array([2, 2]))
    with pytest.raises(ValueError, match="unknown reset options"):
        envs.reset(options={"low": 1})


def test_states_from_elsewhere_are_examined():
    envs = GameVectorEnv("connect_four", 2)
    envs.reset(seed=0)
    good = envs.get_state()
    broken = good["states"].copy()
    broken[1] = 255
    for key, value in (
        ("states", broken),
        ("seats", good["seats"] + 1),
        ("elapsed", good["elapsed"] - 1),
        ("pending", np.zeros(3, bool)),
    ):
        with pytest.raises((ValueError, playout.errors.GameError)):
            envs.set_state({**good, key: value})
    assert_same(envs.get_state(), good)


def test_a_limit_truncates_in_the_callers_moves():
    envs = GameVectorEnv(
        "connect_four", 2, opponent="random", max_episode_steps=2, autoreset_mode="SameStep"
    )
    envs.reset(seed=0)
    assert not envs.step(np.array([0, 1]))[3].any()
    _, _, terminations, truncations, infos = envs.step(np.array([5, 6]))
    assert truncations.all() and not terminations.any()
    assert infos["final_info"]["action_mask"].any(axis=1).all()
    assert all(2 <= last.sum() <= 5 for last in infos["final_obs"])


def test_without_copies_the_same_buffers_come_back():
    envs = GameVectorEnv("connect_four", 3, copy=False)
    obs, infos = envs.reset(seed=0)
    step = envs.step(np.array([0, 1, 2], np.int32))
    assert step[0] is obs and step[4]["action_mask"] is infos["action_mask"]


def test_the_board_can_be_of_another_size_and_the_game_of_another_kind():
    envs = gym.make_vec("playout/ConnectFour-v0", num_envs=2, width=5, height=4)
    assert envs.single_observation_space.shape == (2, 4, 5)
    assert envs.single_action_space.n == 5
    envs = GameVectorEnv(playout.game("tic_tac_toe"), 2)
    assert envs.reset(seed=0)[0].shape == (2, 2, 3, 3)


def test_one_board_gives_its_state_and_its_mask():
    env = gym.make("playout/ConnectFour-v0").unwrapped
    env.reset(seed=0)
    for _ in range(6):
        env.step(3)
    assert env.action_masks().tolist() == [True, True, True, False, True, True, True]
    assert env.state == playout.game("connect_four").from_moves("444444")
    with pytest.raises(IllegalActionError, match=r"^action 3 is not legal"):
        env.step(3)

"""Games through PettingZoo's turn-based API, and the hunt through its parallel one."""

import copy
import warnings

import numpy as np
import pettingzoo
import playout
import pytest
from gymnasium.error import ResetNeeded
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test
from playout.envs.farama.game_aec import env, raw_env
from playout.envs.farama.pursuit import Pursuit
from playout.errors import IllegalActionError

GAMES = ["connect_four", "tic_tac_toe", "connect_four(width=5, height=4, run=3)"]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("make", [env, raw_env])
def test_games_of_connected_stones_pass_pettingzoos_tests(game, make, capsys):
    api_test(make(game), num_cycles=60)
    seed_test(lambda: make(game), num_cycles=30)


def test_games_are_registered_with_pettingzoo():
    made = pettingzoo.make("aec", "playout/connect_four-v0")
    assert made.unwrapped.game.name == "connect_four"
    assert pettingzoo.make("aec", "playout/tic_tac_toe-v0", render_mode="ansi").render_mode
    assert isinstance(pettingzoo.make("parallel", "playout/pursuit-v0"), Pursuit)


def test_a_game_is_told_from_both_sides():
    game = raw_env("connect_four")
    game.reset(seed=0)
    assert game.agents == ["player_0", "player_1"]
    for column in (0, 1, 0, 1, 0, 1):
        idle = game.possible_agents[1 - game.possible_agents.index(game.agent_selection)]
        assert not game.observe(idle)["action_mask"].any()
        assert game.observe(game.agent_selection)["action_mask"].dtype == np.int8
        game.step(column)
    mine, other = (game.observe(agent)["observation"] for agent in game.possible_agents)
    assert np.array_equal(mine, other[::-1]) and mine[0, 3:, 0].all() and mine[1, 3:, 1].all()
    game.step(0)
    assert game.rewards == {"player_0": 1.0, "player_1": -1.0}
    assert all(game.terminations.values()) and game.agent_selection == "player_1"
    assert game.position.is_terminal
    assert not any(game.observe(agent)["action_mask"].any() for agent in game.agents)


def test_an_illegal_move_raises_raw_and_loses_wrapped():
    raw = raw_env("connect_four")
    raw.reset()
    for _ in range(6):
        raw.step(3)
    for action, error in ((3, IllegalActionError), (-1, IllegalActionError), (1.5, TypeError)):
        with pytest.raises(error):
            raw.step(action)
    assert raw.position == playout.game("connect_four").from_moves("444444")
    wrapped = env("connect_four")
    wrapped.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(7):
            wrapped.step(3)
    assert wrapped.rewards["player_0"] == -1 and all(wrapped.terminations.values())


def test_a_seed_names_the_stream_of_chance_and_without_one_it_goes_on():
    dealt = []
    for _ in range(2):
        game = raw_env("backgammon")
        game.reset(seed=1)
        texts = [game.position.text]
        for _ in range(8):
            game.reset()
            texts.append(game.position.text)
        dealt.append(texts)
    assert dealt[0] == dealt[1] and len(set(dealt[0])) > 3
    assert texts[0] == playout.game("backgammon").initial_state().resolve_chance(1).text


def test_random_games_agree_with_the_state_api():
    game = raw_env("tic_tac_toe", render_mode="ansi")
    rng = np.random.default_rng(0)
    for _ in range(30):
        game.reset()
        state = playout.game("tic_tac_toe").initial_state()
        while not state.is_terminal:
            observed, reward, *_ = game.last()
            assert np.array_equal(observed["observation"], state.observe())
            assert np.flatnonzero(observed["action_mask"]).tolist() == state.legal_actions
            assert reward == 0
            action = int(rng.choice(state.legal_actions))
            game.step(action)
            state = state.apply(action)
        assert list(game.rewards.values()) == state.returns.tolist()
        assert game.render() == f"{state}\n"


def test_connect_four_agrees_with_pettingzoos_own():
    pytest.importorskip("pygame")
    theirs_module = pytest.importorskip("pettingzoo.classic.connect_four_v3")
    ours, theirs = raw_env("connect_four"), theirs_module.raw_env()
    rng = np.random.default_rng(0)
    for _ in range(40):
        ours.reset()
        theirs.reset()
        while True:
            assert ours.agent_selection == theirs.agent_selection
            (mine, reward, over, _, _), (other, their_reward, their_over, _, _) = (
                ours.last(),
                theirs.last(),
            )
            assert np.array_equal(mine["observation"], other["observation"].transpose(2, 0, 1))
            assert reward == their_reward and over == their_over
            if over:
                break
            assert np.array_equal(mine["action_mask"], other["action_mask"])
            action = int(rng.choice(np.flatnonzero(mine["action_mask"])))
            ours.step(action)
            theirs.step(action)


@pytest.mark.parametrize("hunters", [2, 4])
def test_pursuit_passes_pettingzoos_tests(hunters, capsys):
    parallel_api_test(Pursuit(hunters), num_cycles=150)
    parallel_seed_test(lambda: Pursuit(hunters), num_cycles=60)


def test_hunters_that_close_in_catch_the_target_and_idle_ones_do_not():
    lengths = []
    for seed in range(20):
        hunt = Pursuit(render_mode="rgb_array")
        hunt.reset(seed=seed)
        while hunt.agents:
            apart = (hunt._target - hunt._hunters + 5) % 10 - 5
            by_row = np.abs(apart[:, 0]) >= np.abs(apart[:, 1])
            toward = np.where(
                by_row, np.where(apart[:, 0] < 0, 1, 3), np.where(apart[:, 1] > 0, 2, 4)
            )
            beside = np.abs(apart).sum(axis=1) == 1
            moves = np.where(beside, 0, toward)
            agents = hunt.agents
            obs, rewards, terminations, _, _ = hunt.step(
                dict(zip(agents, moves.tolist(), strict=True))
            )
        lengths.append(hunt._steps)
        if terminations["hunter_0"]:
            assert sorted(rewards.values())[-2:] == [1.0, 1.0]
        assert all(hunt.observation_space(a).contains(o) for a, o in obs.items())
    assert np.mean(np.array(lengths) < 100) > 0.5
    assert hunt.render().shape == (400, 400, 3)


def test_a_hunter_sees_its_window_and_not_the_board():
    hunt = Pursuit(2, view=2)
    hunt.reset(seed=0)
    hunt._hunters[:] = [[0, 0], [9, 9]]
    hunt._target = np.array([5, 5])
    views = hunt._observe()
    assert views["hunter_0"][0].nonzero() == (np.array([1]), np.array([1]))
    assert views["hunter_1"][0].nonzero() == (np.array([3]), np.array([3]))
    assert not views["hunter_0"][1].any()
    hunt._target = np.array([0, 2])
    assert hunt._observe()["hunter_0"][1, 2, 4] == 1


@pytest.mark.parametrize("actions", [{}, {"hunter_0": 0}, {"hunter_0": 0, "hunter_1": 5}])
def test_bad_hunts_are_refused(actions):
    hunt = Pursuit(2)
    hunt.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        hunt.step(actions)
    with pytest.raises(ValueError, match="view"):
        Pursuit(view=9)
    with pytest.raises(ValueError, match="hunt needs"):
        Pursuit(1)


def test_nothing_is_rendered_or_played_before_the_first_reset():
    made = raw_env("tic_tac_toe", render_mode="ansi")
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before render"):
        made.render()
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before step"):
        made.step(0)
    made.reset(seed=0)
    twin = copy.deepcopy(made)
    made.step(0)
    assert made.render() != twin.render() and twin.position.ply == 0

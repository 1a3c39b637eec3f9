"""Games with hidden information as environments: each agent sees what its player knows, no more."""

import gymnasium as gym
import numpy as np
import playout
import pytest
from pettingzoo.test import api_test, seed_test
from playout.agents.players.hidden import CfrPlayer
from playout.envs.drawing import render_state
from playout.envs.farama.game_aec import env, raw_env
from playout.envs.farama.game_vector import GameVectorEnv

GAMES = ["leduc_poker", "kuhn_poker(players=3)", "liars_dice(dice=2, sides=3)"]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("game", GAMES)
def test_pettingzoos_tests_pass(game, capsys):
    api_test(env(game), num_cycles=40)
    seed_test(lambda: raw_env(game), num_cycles=20)


@pytest.mark.parametrize("game", GAMES)
def test_an_agent_of_pettingzoo_sees_the_same_whatever_it_does_not_know(game):
    made = raw_env(game)
    rng = np.random.default_rng(2)
    differ = 0
    for seed in range(10):
        made.reset(seed=seed)
        while not any(made.terminations.values()):
            for player, agent in enumerate(made.possible_agents):
                seen = made.observe(agent)
                drawn = made.position.resample(seed, player)
                differ += drawn != made.position
                assert (seen["observation"] == drawn.observe(player)).all()
                mine = made.position.to_play == player
                assert seen["action_mask"].any() == mine
            mask = made.observe(made.agent_selection)["action_mask"]
            made.step(int(rng.choice(np.flatnonzero(mask))))
        assert sum(made.rewards.values()) == pytest.approx(0, abs=1e-5)
    assert differ > 10


def test_rows_of_gymnasium_show_what_the_side_to_move_knows_and_pay_chips():
    envs = GameVectorEnv("leduc_poker", 64, opponent="random", player=1)
    obs, infos = envs.reset(seed=4)
    paid = []
    rng = np.random.default_rng(0)
    for _ in range(60):
        states = envs.states()
        going = np.flatnonzero(states.to_play() == 1)
        drawn = states[going].resample(9, 1)
        assert (obs[going] == drawn.observe(player=1)).all()
        mask = infos["action_mask"]
        actions = (rng.random(mask.shape) * mask).argmax(axis=1)
        obs, rewards, over, _, infos = envs.step(actions)
        paid.extend(rewards[over])
    assert set(np.abs(paid)) <= {0, 1, 3, 5, 7, 9, 11, 13}
    assert max(paid) > 1


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("opponent", [None, "random"])
def test_pictures_and_text_show_what_the_agent_knows_and_a_spectator_everything(game, opponent):
    player = None if opponent is None else 1
    given = {"opponent": opponent, "player": player, "num_envs": 4}
    shown = GameVectorEnv(game, render_mode="ansi", **given)
    drawn = GameVectorEnv(game, render_mode="rgb_array", **given)
    whole = GameVectorEnv(game, render_mode="ansi", spectator=True, **given)
    for envs in (shown, drawn, whole):
        envs.reset(seed=5)
    for row, state in enumerate(shown.states()):
        viewer = state.to_play if player is None else player
        assert shown.render()[row] == f"{state.view(viewer)}\n" != f"{state}\n"
        assert whole.render()[row] == f"{state}\n"
        other = next(one for n in range(99) if (one := state.resample(n, viewer)) != state)
        pixels = drawn.render()[row]
        assert (pixels == render_state(other, "rgb_array", viewer)).all()
        assert (render_state(other, "rgb_array") != render_state(state, "rgb_array")).any()


def test_an_agent_of_pettingzoo_is_rendered_what_it_knows():
    for spectator in (False, True):
        made = env("leduc_poker", render_mode="ansi", spectator=spectator)
        made.reset(seed=3)
        state = made.unwrapped.position
        assert made.render() == f"{state if spectator else state.view(0)}\n"
        made.step(1)
        state = made.unwrapped.position
        assert made.render() == f"{state if spectator else state.view(1)}\n"


def test_a_player_may_be_the_opponent_in_an_environment():
    game = playout.game("kuhn_poker")
    made = gym.make("playout/KuhnPoker-v0", opponent=CfrPlayer(game), player=0)
    total = 0.0
    for seed in range(300):
        _, info = made.reset(seed=seed)
        over = False
        while not over:
            action = int(np.flatnonzero(info["action_mask"])[0])
            _, reward, over, _, info = made.step(action)
        total += reward
    assert total < 0  # who always passes loses

"""Random games played move by move beside other implementations: PettingZoo and OpenSpiel."""

import random

import numpy as np
import playout
import pytest


@pytest.mark.parametrize(
    ("name", "module", "num_games"),
    [("connect_four", "connect_four_v3", 60), ("tic_tac_toe", "tictactoe_v3", 120)],
)
def test_pettingzoo_allows_the_same_moves_and_sees_the_same_ends(name, module, num_games):
    classic = pytest.importorskip(f"pettingzoo.classic.{module}")
    env = classic.raw_env()
    game = playout.game(name)
    rng = random.Random(17)
    for number in range(num_games):
        env.reset(seed=number)
        state = game.initial_state()
        while True:
            agent = env.agent_selection
            seen = env.observe(agent)
            ended = env.terminations[agent]
            assert ended == state.is_terminal
            if ended:
                rewards = [env.rewards[player] for player in env.possible_agents]
                assert rewards == state.returns.tolist()
                break
            assert np.flatnonzero(seen["action_mask"]).tolist() == peer_actions(name, state)
            planes = seen["observation"].transpose(2, 0, 1)
            if name == "tic_tac_toe":  # numbered down the columns there
                planes = planes.transpose(0, 2, 1)
            assert np.array_equal(planes, state.observe())
            action = rng.choice(state.legal_actions)
            env.step(peer_action(name, action))
            state = state.apply(action)


def peer_action(name, action):
    return action if name == "connect_four" else 3 * (action % 3) + action // 3


def peer_actions(name, state):
    return sorted(peer_action(name, action) for action in state.legal_actions)


@pytest.mark.peer
@pytest.mark.parametrize(("name", "num_games"), [("connect_four", 400), ("tic_tac_toe", 800)])
def test_openspiel_allows_the_same_moves_and_sees_the_same_ends(name, num_games):
    pyspiel = pytest.importorskip("pyspiel")
    other = pyspiel.load_game(name)
    game = playout.game(name)
    rng = random.Random(23)
    for _ in range(num_games):
        peer, state = other.new_initial_state(), game.initial_state()
        while True:
            assert peer.is_terminal() == state.is_terminal
            if state.is_terminal:
                assert peer.returns() == state.returns.tolist()
                break
            assert peer.legal_actions() == state.legal_actions
            assert peer.current_player() == state.to_play
            action = rng.choice(state.legal_actions)
            peer.apply_action(action)
            state = state.apply(action)

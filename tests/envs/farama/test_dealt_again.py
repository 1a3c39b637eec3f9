"""Games that an opponent may end before the caller's first move."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from pettingzoo.test import seed_test
from playout.envs.farama.game_aec import raw_env
from playout.envs.farama.game_vector import GameVectorEnv
from playout.errors import GameError


class Quick:
    """Whoever takes the last of three counters wins, at the first move perhaps."""

    name, num_players, num_actions, max_plies, obs_shape = "quick", 2, 3, 3, (1, 1, 1)

    def __init__(self, counters=3):
        self.counters = counters

    def initial_state(self):
        return (self.counters, 0)

    def to_play(self, state):
        return state[1] if state[0] else -1

    def legal_actions(self, state):
        return list(range(state[0]))

    def apply(self, state, action):
        return (state[0] - action - 1, 1 - state[1])

    def returns(self, state):
        return [1, -1] if state[1] else [-1, 1]

    def observe(self, state, player):
        return [[[state[0] / 3]]]

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        return tuple(data)


class Natural(Quick):
    """Chance ends the game at once by outcome 0, of that probability, or leaves it to be played."""

    name, max_plies = "natural", 4

    def __init__(self, prob):
        super().__init__()
        self.prob = prob

    def initial_state(self):
        return (self.counters, 2)

    def to_play(self, state):
        return -2 if state[1] == 2 else super().to_play(state)

    def legal_actions(self, state):
        return [0, 1] if state[1] == 2 else super().legal_actions(state)

    def chance(self, state):
        return [(0, self.prob), (1, 1 - self.prob)]

    def apply(self, state, action):
        if state[1] == 2:
            return (0, 0) if action == 0 else (self.counters, 0)
        return super().apply(state, action)


class Hasty:
    """Ends every second game at once."""

    def __init__(self):
        self.count = 0

    def reset(self, seed):
        pass

    def act(self, states):
        found = np.zeros(len(states), np.int32)
        for row, mask in enumerate(states.legal_mask()):
            self.count += mask.all()
            found[row] = np.flatnonzero(mask)[-1 if self.count % 2 else 0]
        return found


@pytest.mark.parametrize("opponent", ["random", Hasty()], ids=["random", "player"])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_game_that_ends_before_the_callers_first_move_is_dealt_again(mode, opponent):
    envs = GameVectorEnv(Quick(), 16, opponent=opponent, player=1, autoreset_mode=mode)
    _, infos = envs.reset(seed=0)
    ends = 0
    for _ in range(30):
        over = envs.is_over()
        assert (envs.action_masks().any(axis=1) | over).all()
        # The caller takes all that is left and wins; whoever takes one may lose.
        actions = infos["action_mask"].sum(axis=1).clip(1) - 1
        _, rewards, terminations, _, infos = envs.step(actions)
        assert (rewards == np.where(over, 0.0, 1.0)).all() and (terminations == ~over).all()
        ends += terminations.sum()
        if mode is AutoresetMode.DISABLED:
            _, infos = envs.reset(options={"reset_mask": terminations})
    assert ends >= 16 * 15


def test_a_game_that_chance_ends_before_anybody_moves_is_dealt_again():
    game = raw_env(Natural(0.9))
    for seed in range(20):
        game.reset(seed=seed)
        assert game.position.to_play == 0 and game.agent_selection == "player_0"
        assert game.observe("player_0")["action_mask"].tolist() == [1, 1, 1]
        first = game._seed
        game.reset(seed=seed)
        assert game._seed == first
    seed_test(lambda: raw_env(Natural(0.9)), num_cycles=20)
    with pytest.raises(GameError, match="every game ends before anybody moves"):
        raw_env(Natural(1.0)).reset(seed=0)


def test_games_that_all_end_before_the_callers_first_move_are_an_error():
    for opponent in ("random", Hasty()):
        envs = GameVectorEnv(Quick(1), 2, opponent=opponent, player=1)
        envs.reset(seed=0)
        with pytest.raises(GameError, match="every game ends before the agent's first move"):
            envs.step(np.zeros(2, int))

"""Games of one and of three players and games with dice in the terminal and in the protocol."""

import io
import json

import pytest
from playout.agents.players.human import HumanPlayer
from playout.agents.players.protocols.gtp import GtpEngine
from playout.agents.players.search import uct_player
from playout.agents.players.simple import RandomPlayer
from playout.agents.players.terminal import play_games, play_one
from playout.agents.runs.kinds import PlayOptions
from playout.envs import from_python
from playout.errors import ConfigError


class Race:
    """Each player in turn steps 1 or 2 fields; with dice, a fall of 0 or 1 fields follows.

    Who first stands on the goal has won; a single player gets 0.75.
    """

    name, num_actions, obs_shape = "race", 3, (1, 1, 8)

    def __init__(self, players=2, dice=False, goal=3):
        self.num_players, self.dice, self.goal = players, dice, goal
        self.max_plies = 10 * players

    def initial_state(self):
        return (0, 0, *(0,) * self.num_players)  # mover, whether dice fall now, fields

    def to_play(self, s):
        over = max(s[2:]) >= self.goal
        return -1 if over else -2 if s[1] else s[0]

    def legal_actions(self, s):
        return [1, 2]

    def chance(self, s):
        return [(0, 0.75), (1, 0.25)]

    def apply(self, s, a):
        fields = list(s[2:])
        if s[1]:
            fields[s[0]] -= min(a, fields[s[0]])
            return ((s[0] + 1) % self.num_players, 0, *fields)
        fields[s[0]] += a
        if self.dice:
            return (s[0], 1, *fields)
        return ((s[0] + 1) % self.num_players, 0, *fields)

    def returns(self, s):
        if self.num_players == 1:
            return [0.75 if s[2] >= self.goal else 0.0]
        return [1.0 if x >= self.goal else -1 / (self.num_players - 1) for x in s[2:]]

    def observe(self, s, player):
        return [[[*s, *(0,) * (8 - len(s))]]]

    def encode(self, s):
        return bytes(s)

    def decode(self, data):
        if len(data) != 2 + self.num_players:
            raise ValueError("not a state")
        return tuple(data)


def race(**options):
    return from_python(Race(**options))


def test_a_game_of_one_player_is_watched_to_its_end(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))  # nobody is asked
    play_games(uct_player(race(players=1), 8), PlayOptions())
    text = capsys.readouterr().out
    assert "uct:8 plays" in text and "The result is 0.75." in text


def test_a_person_is_asked_in_turn_among_three_players(capsys, monkeypatch, tmp_path):
    out = tmp_path / "games.jsonl"
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n1\ny\n" + "1\n" * 9))
    play_games(uct_player(race(players=3, goal=4), 8, seed=1), PlayOptions(out=out))
    text = capsys.readouterr().out
    assert "You are player 1 of 3, you move first." in text
    assert "You are player 2 of 3, uct:8 begins." in text
    assert "uct:8 (player 3) plays" in text and "(player 2) wins. (-0.5, 1, -0.5)" in text
    first, second = map(json.loads, out.read_text().splitlines())
    assert first["players"] == ["you", "uct:8", "uct:8"]
    assert second["players"] == ["uct:8", "you", "uct:8"] and len(second["result"]) == 3


def test_one_against_two_others_is_shown_with_their_seats(capsys):
    player = uct_player(race(players=3), 8)
    play_games(player, PlayOptions(opponent="random", episodes=2, second=True))
    text = capsys.readouterr().out
    assert "random (player 1) against uct:8 (player 2) against random (player 3)" in text
    assert "random (player 1) against random (player 2) against uct:8 (player 3)" in text


def test_dice_fall_and_are_shown_and_kept_and_moves_before_them_can_be_taken_back():
    shown, words = [], iter(["1", "undo", "undo", "2", "2", "2"])
    person = HumanPlayer(ask=lambda text: next(words), show=shown.append)
    game = race(dice=True)
    seats = (person, RandomPlayer(seed=1))
    played = play_one(game, seats, show=shown.append, seed=3).actions
    dice = [line for line in shown if line.startswith("Chance brings")]
    # The one move that was taken back and the answer to it had their dice as well.
    assert len(dice) == len(played) // 2 + 2 and "There is nothing to take back." in shown
    assert set(played[1::2]) <= {0, 1} and set(played[::2]) <= {1, 2} and played[0] == 2
    state = game.initial_state()
    for action in played:
        state = state.apply(action)
    assert state.is_terminal


def test_the_same_seed_throws_the_same_dice():
    def one(seed):
        seats = (RandomPlayer(seed=1), RandomPlayer(seed=2))
        return play_one(race(dice=True, goal=9), seats, show=lambda text: None, seed=seed)

    assert one(1) == one(1) and one(1) != one(2)


@pytest.mark.parametrize(
    ("options", "reason"), [({"players": 3}, "two players"), ({"dice": True}, "dice")]
)
def test_the_protocol_refuses_games_that_it_has_no_words_for(options, reason):
    with pytest.raises(ConfigError, match=reason):
        GtpEngine(RandomPlayer(), race(**options))

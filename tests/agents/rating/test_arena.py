"""Matches: pairing, colours, records, early stops, and players that break the rules."""

import numpy as np
import playout
import pytest
from playout.agents.players.load import make_player
from playout.agents.players.simple import GreedyPlayer, RandomPlayer
from playout.agents.rating.arena import num_games_of, play_match, round_robin
from playout.agents.rating.games import MatchResult, PlayedGame, to_record
from playout.agents.rating.play import play_games, usual_plies
from playout.agents.rating.ratings import rate
from playout.agents.rating.sprt import SprtConfig
from playout.envs.core.game import NativeGame
from playout.envs.records.json_lines import GameRecord
from playout.errors import ConfigError, GameError, StoppedError
from rating_games import Nim, Stairs, Thirds


class Fixed:
    """Plays what a function of the state batch says."""

    def __init__(self, name, choose):
        self.name, self.choose, self.seeds, self.heard = name, choose, [], []

    def reset(self, seed):
        self.seeds.append(seed)

    def act(self, states):
        return self.choose(states)

    def observe(self, states, actions):
        self.heard += [
            (state.text, int(action)) for state, action in zip(states, actions, strict=True)
        ]


def lowest(states):
    return states.legal_mask().argmax(axis=1).astype(np.int32)


def highest(states):
    return (states.game.num_actions - 1 - states.legal_mask()[:, ::-1].argmax(axis=1)).astype(
        np.int32
    )


def test_every_opening_is_played_with_both_colours_and_results_add_up():
    game = playout.game("connect_four")
    a, b = GreedyPlayer(seed=0), RandomPlayer(seed=0)
    found = play_match(a, b, game, 41, openings=3, seed=5, batch=16)
    assert len(found.games) == 42
    for one, two in zip(found.games[::2], found.games[1::2], strict=True):
        assert one.players == ("greedy", "random") and two.players == ("random", "greedy")
        assert one.moves[:3] == two.moves[:3] and one.opening == two.opening
    for played in found.games:
        state = game.from_moves(list(played.moves))
        assert state.is_terminal and tuple(state.returns) == played.returns
    wins, draws, losses = found.score("greedy")
    assert wins + draws + losses == 42 and found.score("random") == (losses, draws, wins)
    pairs = found.pairs()
    assert sum(pairs) == 21
    assert sum(points * count for points, count in enumerate(pairs)) == 2 * wins + draws
    assert sum(sum(result[2:]) for result in found.results()) == 42
    assert wins > 30


def test_how_long_a_game_usually_is_is_found_once_for_each_set_of_rules(monkeypatch):
    class Short(Nim):
        stones = 3

    games = [playout.game(rules()) for rules in (Nim, Short)]
    usual = [usual_plies(game) for game in games]
    assert usual[0] > usual[1]  # though both are called alike
    monkeypatch.setattr(NativeGame, "batch", None)  # no game is played again
    assert usual_plies(games[0]) == usual[0]


def test_the_same_seed_gives_the_same_match_and_another_seed_another():
    game = playout.game("connect_four")

    def moves(seed):
        players = make_player("uct:30", game), make_player("alphabeta:2", game)
        return [g.moves for g in play_match(*players, game, 12, seed=seed).games]

    assert moves(1) == moves(1)
    assert moves(1) != moves(2)


def test_deterministic_players_repeat_games_and_the_result_says_so():
    game = playout.game("tic_tac_toe")
    found = play_match(Fixed("low", lowest), Fixed("high", highest), game, 10, openings=0)
    assert found.distinct_games() == 2
    # low: 1, high: 9, low: 2, high: 8, low: 3 wins; and the same the other way round.
    assert found.score("low") == (5, 0, 5)
    assert [g.moves for g in found.games[:2]] == [(0, 8, 1, 7, 2), (8, 0, 7, 1, 6)]


def test_players_hear_of_the_moves_that_the_other_played():
    game = playout.game("tic_tac_toe")
    low, high = Fixed("low", lowest), Fixed("high", highest)
    found = play_match(low, high, game, 2, openings=0)
    wanted = {"low": set(), "high": set()}
    for played in found.games:
        state = game.initial_state()
        for ply, action in enumerate(played.moves):
            hears = played.players[1 - ply % 2]
            wanted[hears].add((state.text, action))
            state = state.apply(action)
    assert set(low.heard) == wanted["low"] and set(high.heard) == wanted["high"]


def test_a_test_ends_a_match_early_and_games_are_reported_as_they_end():
    game = playout.game("connect_four")
    told = []
    found = play_match(
        GreedyPlayer(),
        RandomPlayer(),
        game,
        400,
        batch=20,
        stop=SprtConfig(0, 100),
        on_games=told.append,
    )
    assert found.sprt.decision == "H1"
    seen = [one for games in told for one in games]
    assert sorted(one.moves for one in seen) == sorted(one.moves for one in found.games)
    assert len(seen) < 400 and len(seen) % 20 == 0
    lengths = [len(one.moves) for one in seen[:20]]
    assert lengths == sorted(lengths) and len(told[0]) < 20


def test_progress_of_a_match_rises_move_by_move_to_its_games():
    game = playout.game("connect_four")
    told = []
    play_match(GreedyPlayer(), RandomPlayer(), game, 40, batch=20, on_ply=told.append)
    assert told == sorted(told) and told[-1] == 40
    assert 0 < told[0] < 10 and len([done for done in told if 0 < done < 20]) > 6


def test_everybody_meets_everybody_in_a_round_robin():
    game = playout.game("tic_tac_toe")
    players = [Fixed("low", lowest), Fixed("high", highest), RandomPlayer()]
    told = []
    found = round_robin(players, game, 5, seed=3, on_ply=lambda done, who: told.append((done, who)))
    pairs = [("low", "high"), ("low", "random"), ("high", "random")]
    assert [(match.a, match.b) for match in found] == pairs
    assert [len(match.games) for match in found] == [6, 6, 6] and told[-1] == (18, "high - random")
    alone = play_match(players[0], players[2], game, 5, seed=4)
    assert [one.moves for one in alone.games] == [one.moves for one in found[1].games]


def test_records_of_a_match_load_back():
    game = playout.game("connect_four", width=5, height=4)
    found = play_match(GreedyPlayer(), RandomPlayer(), game, 4, openings=2)
    for played in found.games:
        record = GameRecord.from_json(to_record(game, played).to_json())
        assert record.players == played.players
        assert tuple(record.result) == played.returns
        assert record.info == {"opening": played.opening}


@pytest.mark.parametrize(
    "choose",
    [
        lambda states: np.full(len(states), 9, np.int32),
        lambda states: np.full(len(states), -1, np.int32),
        lambda states: np.zeros(len(states), np.int32),  # legal until the column is full
        lambda states: np.zeros(len(states), np.float32),
        lambda states: np.zeros(len(states) + 1, np.int32),
    ],
)
def test_a_player_that_breaks_the_rules_is_named(choose):
    game = playout.game("connect_four")
    with pytest.raises(GameError, match="player cheat"):
        play_match(Fixed("cheat", choose), Fixed("zero", lowest), game, 4, openings=0)


def test_matches_that_cannot_be_are_refused():
    game = playout.game("connect_four")
    with pytest.raises(ConfigError, match="called"):
        play_match(RandomPlayer(), RandomPlayer(), game)
    with pytest.raises(ConfigError, match="at least one game"):
        play_match(RandomPlayer(), GreedyPlayer(), game, 0)


def test_pairs_count_points_of_the_first_player():
    games = [
        PlayedGame(("a", "b"), (), 0, (1, -1)),
        PlayedGame(("b", "a"), (), 0, (-1, 1)),
        PlayedGame(("a", "b"), (), 1, (0, 0)),
        PlayedGame(("b", "a"), (), 1, (1, -1)),
    ]
    assert MatchResult("a", "b", games).pairs() == [0, 1, 0, 0, 1]
    assert MatchResult("a", "b", games[:3]).pairs() == []  # it was stopped between two games


def test_three_players_sit_everywhere_and_every_two_of_them_are_compared():
    game = playout.game(Thirds())
    players = [Fixed("low", lowest), Fixed("high", highest), RandomPlayer()]
    seen, told = [], []
    found = round_robin(
        players,
        game,
        9,
        openings=0,
        on_games=seen.extend,
        on_ply=lambda done, who: told.append((done, who)),
    )
    assert num_games_of(game, 3, 9) == len(seen) == 9 == told[-1][0]
    seats = sorted(played.players for played in seen)
    assert (
        seats[::3]
        == seats[1::3]
        == seats[2::3]
        == [
            ("high", "random", "low"),
            ("low", "high", "random"),
            ("random", "low", "high"),
        ]
    )
    assert [(match.a, match.b) for match in found] == [
        ("low", "high"),
        ("low", "random"),
        ("high", "random"),
    ]
    for played in seen:
        state = game.from_moves(list(played.moves))
        assert tuple(state.returns) == played.returns
    for match in found:
        wins, draws, losses = match.score(match.a)
        assert wins + draws + losses == 9 and match.score(match.b) == (losses, draws, wins)
        ahead = sum(
            played.returns[played.players.index(match.a)]
            > played.returns[played.players.index(match.b)]
            for played in seen
        )
        assert wins == ahead
    ratings = rate([one for match in found for one in match.results()], weight=2 / 3)
    assert set(ratings.names) == {"low", "high", "random"}


def test_two_players_share_the_seats_of_a_game_of_three():
    game = playout.game(Thirds())
    seen = []
    (match,) = round_robin(
        [Fixed("low", lowest), RandomPlayer()], game, 3, openings=0, on_games=seen.extend
    )
    seats = {tuple(played.players) for played in seen}
    assert len(seats) == 6 and ("low", "low", "random") in seats and len(seen) == 6
    assert sum(match.score("low")) == 12  # two meetings a game


def test_games_of_one_player_are_compared_on_the_same_openings():
    game = playout.game(Stairs())
    seen = []
    players = [Fixed("low", lowest), Fixed("high", highest), Fixed("same", lowest)]
    found = {(m.a, m.b): m for m in round_robin(players, game, 6, on_games=seen.extend)}
    assert len(seen) == 18
    assert [one.moves[:3] for one in seen[:6]] == [one.moves[:3] for one in seen[6:12]]
    assert found["low", "same"].score("low") == (0, 6, 0)
    wins, draws, losses = found["low", "high"].score("high")
    assert wins + losses > 0 and wins + draws + losses == 6


def test_a_game_that_never_ends_is_named_and_work_can_be_stopped():
    class Endless(Nim):
        name = "endless"

        def apply(self, state, action):
            return (max(1, state[0] - action - 1), 1 - state[1])

    game, seats = playout.game(Endless()), [(0, 1)]
    players = [Fixed("low", lowest), Fixed("high", lowest)]
    with pytest.raises(GameError, match="max_plies 21"):
        play_games(game, players, seats, [[]], [0], seed=0)
    asked = []
    with pytest.raises(StoppedError):
        play_games(
            game, players, seats, [[]], [0], seed=0, stop=lambda: len(asked) > 3 or asked.append(1)
        )
    assert len(asked) == 4

"""Games whose results are counted: what others' players are shown, and what a table tells."""

import numpy as np
import playout
import pytest
from playout.agents.players.simple import RandomPlayer
from playout.agents.rating.arena import play_match
from playout.agents.rating.tables import play_tables
from playout.benchmarks.studies.games import counted_games
from playout.benchmarks.tools.peers import backgammon_players as others
from playout.envs.core.game import CHANCE
from playout.envs.core.state_batch import StateBatch

OPENING = "XGID=-b----E-C---eE---c-e----B-:0:0:1:31:0:0:0:0:10"


def random_turn(seed):
    """A position of backgammon in which a turn begins, after some random play."""
    rng, rolled = np.random.default_rng(seed), False
    state, plies = playout.game("backgammon").initial_state(), int(rng.integers(4, 120))
    while True:
        whole = plies <= 0 and state.to_play != CHANCE and not state.is_terminal
        if whole and rolled:
            return state
        if state.is_terminal:
            state, plies = state.game.initial_state(), int(rng.integers(4, 60))
        rolled = state.to_play == CHANCE
        outcomes = state.chance_outcomes if rolled else [(a, 1.0) for a in state.legal_actions]
        state = state.apply(outcomes[int(rng.integers(len(outcomes)))][0])
        plies -= 1


def test_a_turn_has_the_ends_that_its_dice_allow():
    state = playout.game("backgammon").from_text(OPENING)
    ends = others.ends_of_turn(state)
    assert len(ends) == 16  # of 3 and 1 at the beginning, as every book of openings counts them
    for end, way in ends.items():
        here = state
        for before, action in way:
            assert here == before
            here = here.apply(action)
        assert here == end and end.to_play == CHANCE


def test_a_board_is_shown_as_each_player_counts_its_points():
    state = playout.game("backgammon").from_text(OPENING)
    own = {5: 5, 7: 3, 12: 5, 23: 2}  # 6-point, 8-point, mid-point, the two at the back
    row = [own.get(point, 0) for point in range(25)]
    assert others.board_of(state, 0) == [row, row]
    after = state.apply(state.read_action("8/5")).apply(
        state.apply(state.read_action("8/5")).read_action("6/5")
    )
    moved = {4: 2, 5: 4, 7: 2, 12: 5, 23: 2}
    assert others.board_of(after, 0) == [row, [moved.get(point, 0) for point in range(25)]]
    assert others.board_of(after, 1) == others.board_of(after, 0)[::-1]


def test_the_turn_that_is_worth_most_is_played_to_its_end_even_if_another_began_it():
    game = playout.game("backgammon")

    def pips(end, mover):
        """Men on its 5-point are what this player wants."""
        return others.board_of(end, mover)[1][4]

    player = others.TurnPlayer("five points", pips)
    state = game.from_text(OPENING)
    for begun in (state, state.apply(state.read_action("6/5"))):
        here = begun
        while here.to_play == state.to_play:
            (action,) = player.act(StateBatch.from_states([here]))
            here = here.apply(int(action))
        assert others.board_of(here, 0)[1][4] == 2
    match = play_match(player, RandomPlayer(), game, 4, seed=1)
    assert len(match.games) == 4 and not match.forfeits(player.name)


def test_whoever_can_win_wins_whatever_a_board_is_worth():
    men = "-AA" + 20 * "-" + "a--"  # one on each of the points that the dice bear off from
    state = playout.game("backgammon").from_text(f"XGID={men}:0:0:1:21:0:0:0:0:10")
    player = others.TurnPlayer("dislikes", lambda end, mover: 1e9)
    for _ in range(2):
        (action,) = player.act(StateBatch.from_states([state]))
        state = state.apply(int(action))
    assert state.is_terminal and state.returns[0] > 0


@pytest.mark.peer
def test_turns_and_choices_are_those_of_gnu_backgammon():
    nn = pytest.importorskip("gnubg_nn")
    gnubg, pubeval = others.backgammon_players()
    agreed = 0
    for seed in range(150):
        state = random_turn(seed)
        mover, dice = state.to_play, [int(one) for one in state.text.split(":")[4]]
        board = others.board_of(state, mover)
        ends = others.ends_of_turn(state)
        keys = {nn.key_of_board(others.board_of(end, mover)): end for end in ends}
        assert set(nn.moves(board, *dice)) == set(keys)
        # GNU Backgammon counts points from 1, and as pairs; pubeval from 0, in one row.
        theirs = [[point - 1 for man in nn.best_move(board, *dice) for point in man]]
        theirs.append(nn.pub_best_move(board, *dice))
        for player, best in zip((gnubg, pubeval), theirs, strict=True):
            here = state
            while here.to_play == mover:
                here = here.apply(int(player.act(StateBatch.from_states([here]))[0]))
            mine = nn.key_of_board(others.board_of(here, mover))
            agreed += mine == nn.key_of_board(moved(board, best))
    assert agreed >= 298  # of two ends that are worth the same either may be played


def moved(board, points):
    """A board after the men of whoever has the dice went from every first point to the next."""
    other, own = (list(row) for row in board)
    for source, target in zip(points[::2], points[1::2], strict=True):
        own[source] -= 1
        if target >= 0:
            own[target] += 1
            if other[23 - target] == 1:
                other[23 - target], other[24] = 0, other[24] + 1
    return [other, own]


def test_scores_and_tiles_are_those_on_the_board_at_the_end():
    game = playout.game("game_2048")
    tables = play_tables([RandomPlayer()], game, 30, seed=0)
    ends = [game.from_moves(list(one.moves)) for one in tables]
    # A state's bytes hold the powers of its tiles.
    tiles = [2 ** max(end.to_bytes()[:16]) for end in ends]
    assert [counted_games.highest_tile(game, one) for one in tables] == tiles
    assert len(set(tiles)) > 2
    found = counted_games.scores([RandomPlayer()], game, 30)["random"]
    mean, low, high = found[counted_games.SCORE]
    assert low < mean < high
    assert mean == pytest.approx(np.mean([end.returns[0] for end in ends]))
    assert [found[f"{tile:,} tile"][0] for tile in (512, 1024, 2048)] == [0, 0, 0]


def test_a_table_has_a_row_a_player_and_what_is_published_beside_it():
    score = {counted_games.SCORE: (2000.0, 1800.0, 2200.0), "2,048 tile": (50.0, 40.0, 60.0)}
    run = {"game": "game_2048", "length": "20 minutes on one core", "learned": ", 1,234 games",
           "seed": 0, "simulations": 16, "results": {"run": score, "random": score}}  # fmt: skip
    claims = counted_games.claims_of([run, {**run, "seed": 1}])
    rows = list(dict.fromkeys(claim["row"] for claim in claims))
    mine = "game_2048, 20 minutes on one core, 1,234 games, seed {}; 16 simulations a move"
    published = counted_games.PUBLISHED["row"]
    assert rows == [mine.format(0), "game_2048, random", mine.format(1), published]
    assert claims[0]["ours"] == {"median": 2000.0, "min": 1800.0, "max": 2200.0}
    units = {claim["column"]: claim["unit"] for claim in claims}
    assert units == {counted_games.SCORE: "", "2,048 tile": "%"}


def test_what_is_exact_has_no_interval_and_hidden_games_are_judged_against_what_was_wanted():
    kuhn = playout.game("kuhn_poker")
    found = counted_games.exploited({"random": "uniform"}, kuhn)
    lost = found["random"][counted_games.EXPLOITED]
    assert lost[0] == pytest.approx(11 / 24)  # half of NashConv 11/12, which is published
    run = {"game": counted_games.LEDUC, "length": "PPO, 10 moves on one core", "learned": "",
           "seed": 0, "simulations": None, "results": {"run": found["random"]}}  # fmt: skip
    (claim,) = counted_games.claims_of([run])
    assert claim["ours"] == pytest.approx(11 / 24) and claim["unit"] == "a game"
    assert claim["target"] == 0.3 and claim["better"] == "lower"

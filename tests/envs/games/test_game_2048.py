"""2048's rules against lists and loops, its text and its bytes."""

import random

import numpy as np
import playout
import pytest
from playout.errors import ConfigError, GameError

UP, RIGHT, DOWN, LEFT = range(4)


def plain_slide(rows, move):
    """(rows after the move, sum of merged tiles), on lists of tiles with 0 for none."""
    if move in (UP, DOWN):
        turned, gained = plain_slide([list(one) for one in zip(*rows, strict=True)], 3 - move)
        return [list(one) for one in zip(*turned, strict=True)], gained
    done, gained = [], 0
    for row in rows:
        tiles = [tile for tile in (row if move == LEFT else row[::-1]) if tile]
        merged = []
        while tiles:
            if len(tiles) > 1 and tiles[0] == tiles[1]:
                merged.append(2 * tiles[0])
                gained += merged[-1]
                tiles = tiles[2:]
            else:
                merged.append(tiles.pop(0))
        merged += [0] * (len(row) - len(merged))
        done.append(merged if move == LEFT else merged[::-1])
    return done, gained


def rows_of(state):
    board = state.text.split()[0]
    return [[0 if t == "." else int(t) for t in row.split(",")] for row in board.split("/")]


@pytest.mark.parametrize("size", ["size=4", "size=2", "size=3,columns=4", "size=5,columns=2"])
def test_moves_slide_merge_and_score_as_a_plain_implementation_says(size):
    game, rng = playout.game(f"game_2048({size})"), random.Random(size)
    for _ in range(20):
        state = game.initial_state()
        while not state.is_terminal:
            rows, score = rows_of(state), state.returns[0]
            if state.to_play < 0:
                empty = [tile for row in rows for tile in row].count(0)
                assert sum(p for a, p in state.chance_outcomes if a % 2) == pytest.approx(0.1)
                assert len(state.chance_outcomes) == 2 * empty
                action = rng.choice(state.legal_actions)
                after = state.apply(action)
                cell = (action - 4) // 2
                rows[cell // len(rows[0])][cell % len(rows[0])] += 4 if action % 2 else 2
                gained = 0
            else:
                slides = [plain_slide(rows, move) for move in range(4)]
                changing = [move for move in range(4) if slides[move][0] != rows]
                assert state.legal_actions == changing
                action = rng.choice(changing)
                after, (rows, gained) = state.apply(action), slides[action]
            assert rows_of(after) == rows
            assert after.returns[0] - score == gained
            state = after
        assert all(plain_slide(rows_of(state), move)[0] == rows_of(state) for move in range(4))


def test_every_tile_merges_once_a_move():
    game = playout.game("game_2048")
    state = game.from_text("2,2,2,2/4,4,8,./.,.,2,2/8,4,4,8 24 0")
    left = state.apply(LEFT)
    assert left.text == "4,4,.,./8,8,.,./4,.,.,./8,8,8,. 52 1"
    assert state.apply(RIGHT).text == ".,.,4,4/.,.,8,8/.,.,.,4/.,8,8,8 52 1"
    assert left.apply(game.from_text(left.text).read_action("d4=4")).text.endswith("8,8,8,4 52 0")


def test_fast_random_games_score_as_the_generic_ones():
    batch = playout.game("game_2048").batch(4000)
    fast = batch.playouts(3)[:, 0]
    batch.random_plies(10_000, 4)
    slow = batch.returns()[:, 0]
    error = np.sqrt(fast.var() / 4000 + slow.var() / 4000)
    assert abs(fast.mean() - slow.mean()) < 4 * error


@pytest.mark.parametrize("size", ["size=4", "size=3,columns=2", "size=2"])
def test_all_promises_of_a_game_are_kept(size):
    playout.testing.check_game(f"game_2048({size})", num_games=3)


def test_evaluations_are_shared_between_positions_of_different_scores():
    game = playout.game("game_2048(size=2)")
    one, other = game.from_text("8,4/.,2 16 0"), game.from_text("8,4/.,2 12 0")
    assert one.eval_key == other.eval_key
    assert one.hash != other.hash


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2,2/.,.",
        "2,2/.,. 0",
        "2,2/.,. 4 0",  # two tiles of 2 have earned nothing
        "3,2/.,. 0 0",
        "1,2/.,. 0 0",
        "64,2/.,. 256 0",  # a board of four cells ends at 32
        "2,2/.,. 0 2",  # two tiles come to an empty board only
        "2,4/2,4 0 1",
        "2,2/.,. 0 0 ",
        "02,2/.,. 0 0",
        "2,2,./.,.,. 0 0",
        "8,2/.,. 99999999999999999999 0",
    ],
)
def test_impossible_positions_are_refused(text):
    with pytest.raises(GameError):
        playout.game("game_2048(size=2)").from_text(text)


def test_changed_bytes_are_refused_or_playable():
    game, rng = playout.game("game_2048"), random.Random(5)
    batch = game.batch(50)
    batch.random_plies(np.arange(50) * 3, 6)
    for _ in range(1000):
        data = bytearray(batch.data[rng.randrange(50)].tobytes())
        data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            state = game.from_bytes(bytes(data))
        except GameError:
            continue
        assert str(state)
        assert all(state.apply(action) for action in state.legal_actions)


@pytest.mark.parametrize("params", ["size=6", "size=1", "columns=1", "columns=6", "value_scale=-1"])
def test_impossible_sizes_are_refused(params):
    with pytest.raises(ConfigError):
        playout.game(f"game_2048({params})")

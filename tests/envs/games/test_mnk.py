"""The m,n,k games against a slow program that shares nothing with them, and gomoku's rule cases."""

import random
from collections import Counter
from itertools import islice, pairwise

import numpy as np
import playout
import pytest
from damage import assert_refused_or_proper
from playout.errors import ConfigError, GameError
from playout.testing import check_game, count_games, count_positions, perft


def runs(stones, cell):
    """Lengths of the four rows through a stone; cells are (column, row)."""
    for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
        length = 1
        for sign in (1, -1):
            x, y = cell[0] + sign * dx, cell[1] + sign * dy
            while (x, y) in stones:
                length, x, y = length + 1, x + sign * dx, y + sign * dy
        yield length


def won(stones, cell, k, exact):
    return any(length == k or (length > k and not exact) for length in runs(stones, cell))


def layers(m, n, k, exact):
    """For each ply: how many games lead to each position, (first's stones, second's, ended)."""
    cells = [(x, y) for y in range(n) for x in range(m)]
    layer = Counter({(frozenset(), frozenset(), False): 1})
    for ply in range(m * n + 1):
        yield layer
        following = Counter()
        for (first, second, ended), ways in layer.items():
            if ended:
                continue
            for cell in cells:
                if cell not in first and cell not in second:
                    sides = [first, second]
                    sides[ply % 2] = sides[ply % 2] | {cell}
                    following[*sides, won(sides[ply % 2], cell, k, exact)] += ways
        layer = following


@pytest.mark.parametrize(
    ("m", "n", "k", "rule", "plies"),
    [
        (3, 3, 3, "freestyle", 9),
        (4, 3, 3, "freestyle", 5),
        (5, 2, 3, "exact", 10),
        (5, 2, 3, "freestyle", 10),
        (2, 4, 2, "exact", 8),
        (7, 1, 3, "exact", 7),
    ],
)
def test_counts_are_those_of_another_program(m, n, k, rule, plies):
    game = playout.game(f"mnk(m={m},n={n},k={k},rule={rule})")
    found = [layer for layer in islice(layers(m, n, k, rule == "exact"), plies + 1) if layer]
    last = len(found) - 1
    assert [perft(game, ply) for ply in range(last + 1)] == [sum(layer.values()) for layer in found]
    assert count_positions(game, last) == [len(layer) for layer in found]


def test_three_by_three_is_tic_tac_toe():
    game, other = playout.game("mnk"), playout.game("tic_tac_toe")
    assert sum(perft(game, ply) for ply in range(10)) == 549_946
    assert sum(count_positions(game, 9)) == 5_478
    assert count_games(game) == count_games(other) and sum(count_games(game).values()) == 255_168
    rng = random.Random(1)
    for _ in range(50):
        state, same = game.initial_state(), other.initial_state()
        while not state.is_terminal:
            assert state.text == same.text
            assert np.array_equal(state.observe(), same.observe())
            action = rng.choice(state.legal_actions)
            state, same = state.apply(action), same.apply(action)
        assert np.array_equal(state.returns, same.returns)


@pytest.mark.parametrize("rule", ["freestyle", "exact"])
@pytest.mark.parametrize("shape", [(15, 15, 5), (19, 19, 5), (6, 9, 4), (8, 8, 3), (26, 5, 5)])
def test_random_games_end_where_a_slow_look_ends_them(shape, rule):
    m, n, k = shape
    game = playout.game(f"mnk(m={m},n={n},k={k},rule={rule})")
    rng = random.Random(m * n)
    for _ in range(6):
        state, sides, ended = game.initial_state(), (set(), set()), False
        while not state.is_terminal:
            assert not ended and len(state.legal_actions) == m * n - state.ply
            side = state.to_play
            # Near a stone of one's own, so that rows and overlines are common.
            near = [a for a in state.legal_actions if any_near(sides[side], (a % m, a // m))]
            action = rng.choice(near or state.legal_actions)
            sides[side].add((action % m, action // m))
            state = state.apply(action)
            ended = won(sides[side], (action % m, action // m), k, rule == "exact")
        assert ended or len(sides[0]) + len(sides[1]) == m * n
        assert state.returns[side] == (1.0 if ended else 0.0)


def any_near(stones, cell):
    return any(max(abs(cell[0] - x), abs(cell[1] - y)) == 1 for x, y in stones)


def test_five_wins_on_every_place_of_the_board_in_all_directions():
    game = playout.game("gomoku(size=9)")
    far = {(0, 0): "i9 i7 g9 g7", (1, 1): "a1 a3 c1 c3"}
    placed = 0
    for y in range(9):
        for x in range(9):
            for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
                cells = [(x + i * dx, y + i * dy) for i in range(5)]
                if not all(0 <= a < 9 and 0 <= b < 9 for a, b in cells):
                    continue
                row = [9 * b + a for a, b in cells]
                corner = (0, 0) if x + y < 9 else (1, 1)
                other = [game.initial_state().read_action(text) for text in far[corner].split()]
                other = [a for a in other if a not in row]
                free = [a for a in range(81) if a not in row and a not in other]
                other += free[:: len(free) // 4][: 4 - len(other)]
                state = game.initial_state()
                for mine, theirs in zip(row, [*other, None], strict=True):
                    assert not state.is_terminal
                    state = state.apply(mine)
                    if theirs is not None:
                        state = state.apply(theirs)
                assert state.is_terminal and state.returns.tolist() == [1.0, -1.0]
                placed += 1
    assert placed == 2 * 9 * 5 + 2 * 5 * 5


def test_six_in_a_row_win_in_freestyle_only():
    moves = "a1 a9 b1 b9 c1 d9 e1 e9 f1 g9 d1"
    free = playout.game("gomoku(size=9)").from_moves(moves)
    exact = playout.game("gomoku(size=9,rule=exact)").from_moves(moves)
    assert free.returns.tolist() == [1.0, -1.0]
    assert not exact.is_terminal
    # Six along one line and five along another: the five wins.
    both = playout.game("gomoku(size=9,rule=exact)").from_moves(
        "a1 a9 b1 b9 c1 e9 e1 f9 f1 h9 d2 i9 d3 i7 d4 h7 d5 g7 d1"
    )
    assert both.returns.tolist() == [1.0, -1.0]


def test_a_full_board_without_a_row_is_a_draw():
    game = playout.game("mnk(m=4,n=4,k=4)")
    state = game.from_text("XXOO/OOXX/XXOO/.OXX")
    state = state.apply(state.read_action("a1"))
    assert state.is_terminal and not state.returns.any()


def test_positions_that_play_cannot_reach_are_refused():
    game = playout.game("mnk(m=4,n=3,k=3)")
    for text in (
        "XX../..../....",  # one side has moved twice
        "XXX./OOO./....",  # two rows
        "XXX./OO../O...",  # the other side moved on after the row
        "X..X/..../....",
        "X.../....",
        "X.../..../.... ",
        "x.../..../....",
    ):
        with pytest.raises(GameError):
            game.from_text(text)
    assert game.from_text("XXX./OO../....").is_terminal
    # The last stone may finish several rows at once, but they must share it.
    assert playout.game("mnk(m=5,n=5,k=3)").from_text("XXX../X.OO./X..O./.O.../.....").is_terminal
    with pytest.raises(GameError):
        playout.game("mnk(m=6,n=3,k=3)").from_text("XXXOOO/XXXO.O/..O...")


@pytest.mark.parametrize(
    "name",
    ["mnk(m=1,n=2,k=2)", "mnk(m=5,n=4,k=3,rule=exact)", "gomoku(size=9,rule=exact)"],
)
def test_the_games_pass_their_checks(name):
    check_game(playout.game(name), num_games=4)


def test_moves_are_written_as_on_paper():
    state = playout.game("gomoku").from_moves("h8 a1 o15")
    assert [state.action_text(action) for action in (0, 14, 210)] == ["a15", "o15", "a1"]
    assert str(state).splitlines()[0] == "15 . . . . . . . . . . . . . . X"
    assert str(state).splitlines()[-1].split() == list("abcdefghijklmno")
    for text in ("a0", "a16", "p1", "a01", "", "a", "h8x", "8h", "P1"):
        with pytest.raises(GameError):
            state.read_action(text)


def test_impossible_sizes_are_refused_in_one_line():
    for name in ("mnk(m=3,n=3,k=4)", "mnk(m=27)", "gomoku(size=4)", "mnk(rule=renju)", "mnk(k=1)"):
        with pytest.raises(ConfigError) as refused:
            playout.game(name)
        assert "\n" not in str(refused.value)


def test_symmetries_of_a_square_are_eight_different_ones():
    game = playout.game("gomoku(size=6)")
    state = game.from_moves("a1 b1 c2 f3")
    texts = {state.symmetry(k).text for k in range(game.num_symmetries)}
    assert len(texts) == game.num_symmetries == 8
    assert playout.game("mnk(m=4,n=3,k=3)").num_symmetries == 4


@pytest.mark.peer
def test_openspiel_plays_the_same_games():
    pyspiel = pytest.importorskip("pyspiel")
    rng = random.Random(5)
    for m, n, k, games in ((15, 15, 5, 150), (7, 6, 4, 500), (5, 3, 3, 500)):
        other = pyspiel.load_game(f"mnk(m={m},n={n},k={k})")
        game = playout.game(f"mnk(m={m},n={n},k={k})")
        for _ in range(games):
            peer, state = other.new_initial_state(), game.initial_state()
            while not state.is_terminal:
                assert not peer.is_terminal() and peer.legal_actions() == state.legal_actions
                action = rng.choice(state.legal_actions)
                peer.apply_action(action)
                state = state.apply(action)
            assert peer.is_terminal() and peer.returns() == state.returns.tolist()


def test_mutated_bytes_and_texts_never_crash():
    rng = random.Random(3)
    game = playout.game("mnk(m=7,n=5,k=4)")
    states = [game.initial_state()]
    while not states[-1].is_terminal:
        states.append(states[-1].apply(rng.choice(states[-1].legal_actions)))
    for before, after in pairwise(states):
        assert game.from_text(after.text) == after != before
    for _ in range(500):
        state, changes = rng.choice(states), rng.randint(1, 3)
        assert_refused_or_proper(game, state, rng, "XO./ x\x00é", changes=changes)

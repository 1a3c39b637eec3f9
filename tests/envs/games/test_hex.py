"""Hex against slow programs of its own, the known winning openings, and OpenSpiel."""

import random
from functools import cache

import numpy as np
import playout
import pytest
from damage import assert_refused_or_proper
from playout.envs import StateBatch
from playout.errors import ConfigError, GameError
from playout.testing import check_game, count_positions, perft


def neighbors(size, cell):
    row, column = divmod(cell, size)
    for down, right in ((-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0)):
        if 0 <= row + down < size and 0 <= column + right < size:
            yield (row + down) * size + column + right


def joins(size, stones, side):
    """Do the stones join top and bottom (side 0), or left and right (side 1)?"""
    depth = (lambda cell: cell // size) if side == 0 else (lambda cell: cell % size)
    seen = {cell for cell in stones if depth(cell) == 0}
    edge = list(seen)
    while edge:
        for cell in neighbors(size, edge.pop()):
            if cell in stones and cell not in seen:
                seen.add(cell)
                edge.append(cell)
    return any(depth(cell) == size - 1 for cell in seen)


def layers(size):
    """For each ply the games that lead to each position (first's stones, second's)."""
    layer = {(frozenset(), frozenset()): 1}
    for ply in range(size * size + 1):
        yield layer
        following = {}
        for sides, ways in layer.items():
            if joins(size, sides[0], 0) or joins(size, sides[1], 1):
                continue
            for cell in range(size * size):
                if cell not in sides[0] | sides[1]:
                    after = list(sides)
                    after[ply % 2] = sides[ply % 2] | {cell}
                    following[tuple(after)] = following.get(tuple(after), 0) + ways
        layer = following


def winning_openings(game):
    """The board as a map: "W" where the first stone wins by best play of both."""

    @cache
    def wins(state):
        if state.is_terminal:
            return False  # who has just moved has won
        return any(not wins(state.apply(action)) for action in state.legal_actions)

    start = game.initial_state()
    cells = ["." if wins(start.apply(action)) else "W" for action in start.legal_actions]
    size = game.params["size"]
    return "/".join("".join(cells[row * size : (row + 1) * size]) for row in range(size))


@pytest.mark.parametrize("size", [2, 3])
def test_counts_are_those_of_another_program(size):
    game = playout.game(f"hex(size={size})")
    found = [layer for layer in layers(size) if layer]
    counts = [perft(game, ply) for ply in range(len(found))]
    assert counts == [sum(layer.values()) for layer in found]
    assert count_positions(game, len(found) - 1) == [len(layer) for layer in found]


def test_the_winning_openings_of_small_boards_are_the_known_ones():
    assert winning_openings(playout.game("hex(size=2)")) == ".W/W."
    assert winning_openings(playout.game("hex(size=3)")) == "..W/WWW/W.."


def test_with_the_swap_rule_the_second_player_wins_every_opening():
    assert winning_openings(playout.game("hex(size=2,swap=1)")) == "../.."
    assert winning_openings(playout.game("hex(size=3,swap=1)")) == ".../.../..."


@pytest.mark.parametrize("size", [2, 4, 8, 11, 19])
def test_random_games_end_where_a_slow_look_ends_them_and_never_in_a_draw(size):
    game = playout.game(f"hex(size={size})")
    rng = random.Random(size)
    for number in range(max(2, 60 // size)):
        state, sides = game.initial_state(), (set(), set())
        looks = 0 if number else size * size  # at every move of the first game, then at the last
        while not state.is_terminal:
            side, action = state.to_play, rng.choice(state.legal_actions)
            if looks > 0:
                assert not joins(size, sides[1 - side], 1 - side)
                assert len(state.legal_actions) == size * size - state.ply
            sides[side].add(action)
            before, state = state, state.apply(action)
        assert joins(size, sides[side], side) and not joins(size, sides[1 - side], 1 - side)
        assert not joins(size, sides[side] - {action}, side) and not before.is_terminal
        assert state.returns[side] == 1 and state.returns[1 - side] == -1


@pytest.mark.parametrize("size", [3, 6, 11, 13])
def test_a_full_board_has_one_winner_and_so_has_its_mirror_image_in_changed_colors(size):
    game = playout.game(f"hex(size={size})")
    mirror = np.arange(size * size).reshape(size, size).T.ravel()
    batch = game.batch(64)
    values = batch.playouts(seed=size)
    assert (np.abs(values) == 1).all() and not values.sum(axis=1).any()
    rng = random.Random(size)
    for _ in range(20):
        state = game.initial_state()
        while not state.is_terminal:
            state = state.apply(rng.choice(state.legal_actions))
        sides = [np.flatnonzero(state.observe(0)[side].ravel()) for side in (0, 1)]
        turned = [{int(mirror[cell]) for cell in cells} for cells in sides]
        for side in (0, 1):
            assert joins(size, turned[1 - side], side) == (state.returns[1 - side] == 1)


def test_playouts_from_any_position_are_as_random_as_single_moves():
    for name, moves in (
        ("hex(size=4)", "b2 c2 a4"),
        ("hex(size=3,swap=1)", ""),
        ("hex(size=5)", ""),
    ):
        state = playout.game(name).from_moves(moves)
        n = 8000
        batch = StateBatch.from_states([state] * n)
        fast = batch.playouts(seed=1)[:, 0].mean()
        batch.random_plies(30, seed=2)
        slow = batch.returns()[:, 0].mean()
        assert abs(fast - slow) < 5 * (2 / n) ** 0.5, name


def test_the_second_player_may_take_over_the_first_stone():
    game = playout.game("hex(size=5,swap=1)")
    state = game.from_moves("b4")
    assert state.legal_actions == list(range(25))
    taken = state.apply(state.read_action("swap"))
    assert state.action_text(state.read_action("b4")) == "swap" == state.action_text(16)
    assert taken == game.from_moves("b4 swap-pieces") and taken.to_play == 0
    # b4 is row 4, column 2; its mirror image is row 2, column 4, that is d2.
    assert taken.text == "...../...O./...../...../..... X"
    assert game.from_text(taken.text) == taken
    assert len(taken.legal_actions) == 24
    plain = game.from_moves("b4 d2")
    assert plain.legal_actions == [cell for cell in range(25) if cell not in (16, 8)]
    with pytest.raises(GameError):
        playout.game("hex(size=5)").from_moves("b4 swap")
    with pytest.raises(GameError):
        game.from_moves("b4 swap swap")


def test_positions_that_play_cannot_reach_are_refused():
    game, swap = playout.game("hex(size=3)"), playout.game("hex(size=3,swap=1)")
    for text in (
        "X../.../..X",  # two moves of one side
        "X../X../X..",
        "O../.../...",  # the second player cannot be alone without a swap
        "X.O/X.O/X.O",  # moved on after the game was over
        "XX./X.O/XOO/",
        "X../...",
        "X../.../.. ",
    ):
        with pytest.raises(GameError):
            game.from_text(text)
    assert game.from_text("X.O/X.O/X..").is_terminal
    for text in (
        "O../.../... O",
        "X../.../... X",
        "X../.../...",
        "OO./.../... X",
        "X.. /.../... O",
    ):
        with pytest.raises(GameError):
            swap.from_text(text)
    assert swap.from_text("XO./.../... O").to_play == 1  # after a swap
    assert swap.from_text("XO./.../... X").to_play == 0


def test_the_board_leans_and_cells_are_named_from_the_top_left():
    state = playout.game("hex(size=3)").from_moves("a2 c3")
    assert str(state).splitlines() == ["   a b c", " 1 . . .", "  2 X . .", "   3 . . O"]
    for text in ("a0", "a4", "d1", "a01", "", "a", "1a", "@1", "swap"):
        with pytest.raises(GameError):
            state.read_action(text)


@pytest.mark.parametrize("name", ["hex(size=2,swap=1)", "hex(size=4)", "hex(size=9,swap=1)"])
def test_the_game_passes_its_checks(name):
    check_game(playout.game(name), num_games=4)


def test_impossible_sizes_are_refused_in_one_line():
    for name in ("hex(size=1)", "hex(size=20)", "hex(swap=2)", "hex(size=5.5)"):
        with pytest.raises(ConfigError) as refused:
            playout.game(name)
        assert "\n" not in str(refused.value)


def test_mutated_bytes_and_texts_never_crash():
    rng = random.Random(3)
    game = playout.game("hex(size=6,swap=1)")
    states = [game.initial_state()]
    while not states[-1].is_terminal:
        states.append(states[-1].apply(rng.choice(states[-1].legal_actions)))
    for state in states:
        assert game.from_text(state.text) == state
    for _ in range(500):
        state, changes = rng.choice(states), rng.randint(1, 3)
        assert_refused_or_proper(game, state, rng, "XO./ x\x00é", changes=changes)


@pytest.mark.peer
@pytest.mark.parametrize(("size", "games"), [(3, 400), (5, 300), (11, 100), (19, 20)])
def test_openspiel_allows_the_same_moves_and_sees_the_same_ends(size, games):
    pyspiel = pytest.importorskip("pyspiel")
    for swap in (False, True):
        other = pyspiel.load_game("hex", {"board_size": size, "swap": swap})
        game = playout.game(f"hex(size={size},swap={int(swap)})")
        rng = random.Random(size)
        for _ in range(games):
            peer, state = other.new_initial_state(), game.initial_state()
            while not state.is_terminal:
                asked = swap and state.ply == 1
                # There the swap is an action of its own, here it is the cell that is taken over.
                first = state.read_action("swap") if asked else -1
                named = [size * size if a == first else a for a in state.legal_actions]
                assert peer.legal_actions() == sorted(named)
                assert peer.current_player() == state.to_play
                action = rng.choice(state.legal_actions)
                if asked and rng.random() < 0.5:
                    action = first
                peer.apply_action(size * size if action == first else action)
                state = state.apply(action)
            assert peer.is_terminal() and peer.returns() == state.returns.tolist()

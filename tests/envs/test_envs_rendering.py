"""Shapes on the canvas and pictures of boards, by a few pixels that must be right."""

from xml.etree import ElementTree

import numpy as np
import playout
import pytest
from namesake import Namesake
from playout.envs.catalogue import GAMES
from playout.envs.drawing import Board, Piece, board_of, paint, render_state, svg
from playout.envs.drawing.board import PAPER, STONES, any_board
from playout.envs.drawing.canvas import Canvas
from playout.envs.drawing.glyphs import strokes
from playout.envs.drawing.paint import HOLE, PLATE, pixels
from playout.envs.drawing.pieces import MARK
from playout.envs.drawing.stones import BLUE, winning_cells
from playout.envs.farama.game_vector import GameVectorEnv

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def test_areas_of_shapes_are_those_of_geometry():
    shapes = [
        (lambda c: c.disc((50.3, 49.6), 20, BLACK), np.pi * 400),
        (lambda c: c.ring((50, 50), 20, 4, BLACK), np.pi * (22**2 - 18**2)),
        (lambda c: c.rectangle((10, 20), (30.5, 45.25), BLACK), 20.5 * 25.25),
        (lambda c: c.polygon([(10, 10), (50, 10), (10, 40)], BLACK), 600),
        (lambda c: c.polygon([(10, 40), (50, 10), (10, 10)], BLACK), 600),
        (lambda c: c.line((20, 20), (60, 50), 6, BLACK), 50 * 6 + np.pi * 9),
        (lambda c: c.line((20, 20), (20, 20), 6, BLACK), np.pi * 9),
    ]
    for draw, area in shapes:
        canvas = Canvas(100, 100, WHITE)
        draw(canvas)
        covered = (255 - canvas.image[..., 0].astype(float)).sum() / 255
        assert covered == pytest.approx(area, rel=0.02)


def test_shapes_outside_or_across_the_edge_are_cut_off():
    canvas = Canvas(20, 10, WHITE)
    canvas.disc((-50, 5), 10, BLACK)
    canvas.line((100, 100), (200, 200), 3, BLACK)
    assert np.all(canvas.image == 255)
    canvas.disc((0, 0), 5, BLACK)
    assert tuple(canvas.image[0, 0]) == BLACK and canvas.image.shape == (10, 20, 3)


def test_connect_four_shows_discs_where_they_fell_and_marks_the_winning_four():
    state = playout.game("connect_four").from_moves("4455667")
    picture = render_state(state, "rgb_array")
    assert picture.shape == (416, 480, 3) and picture.dtype == np.uint8

    def pixel(row, column, up=0):
        return tuple(picture[16 + 64 * row + 32 - up, 16 + 64 * column + 32])

    assert pixel(5, 3) == STONES[0] and pixel(4, 3) == STONES[1] and pixel(0, 0) == HOLE
    assert tuple(picture[2, 2]) == PLATE
    assert pixel(5, 3, up=16) == MARK  # the ring of a winner
    assert pixel(4, 3, up=16) == STONES[1]
    assert winning_cells(state.observe(0), 4) == [(0, 5, column) for column in range(3, 7)]
    before = render_state(playout.game("connect_four").from_moves("445566"), "rgb_array")
    assert tuple(before[16 + 64 * 5 + 16, 16 + 64 * 3 + 32]) == STONES[0]


def test_tic_tac_toe_shows_crosses_and_rings():
    state = playout.game("tic_tac_toe").initial_state().apply(4).apply(0)
    picture = render_state(state, "rgb_array")
    assert picture.shape == (288, 288, 3)
    assert tuple(picture[144, 144]) == STONES[0]
    assert tuple(picture[48, 48]) == PAPER and tuple(picture[48, 48 + 26]) == BLUE


def test_any_other_game_is_drawn_by_its_planes():
    picture = pixels(any_board(playout.game("connect_four").from_moves("44")))
    assert picture.shape == (6 * 64, 7 * 64, 3)
    assert tuple(picture[5 * 64 + 32, 3 * 64 + 32]) == STONES[0]
    assert tuple(picture[4 * 64 + 32, 3 * 64 + 32]) == STONES[1]


@pytest.mark.parametrize("name", ["go", "chess", "backgammon", "connect_four"])
def test_a_game_of_ones_own_is_not_drawn_as_the_one_of_that_name(name):
    state = playout.game(Namesake(name)).initial_state().apply(3)
    assert np.array_equal(render_state(state, "rgb_array"), pixels(any_board(state)))


def test_environments_render_each_board_as_asked():
    envs = GameVectorEnv("tic_tac_toe", 2, render_mode="ansi")
    envs.reset(seed=0)
    envs.step(np.array([0, 8]))
    first, second = envs.render()
    assert first != second and "X" in first
    picture = GameVectorEnv("connect_four", 2, render_mode="rgb_array")
    picture.reset(seed=0)
    assert [frame.shape for frame in picture.render()] == [(416, 480, 3)] * 2
    assert GameVectorEnv("connect_four").render() is None
    with pytest.raises(ValueError, match="ansi"):
        render_state(playout.game("tic_tac_toe").initial_state(), "human")


def position(name, plies):
    states = playout.game(name).batch(1)
    states.random_plies([plies], 5)
    return states[0]


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("plies", [0, 9, 1000])
def test_every_game_of_the_catalogue_is_drawn_as_pixels_as_svg_and_as_text(name, plies):
    state = position(name, plies)
    board = board_of(state)
    picture, document = render_state(state, "rgb_array"), ElementTree.fromstring(svg(state))
    height, width, _ = picture.shape
    assert picture.dtype == np.uint8 and max(picture.shape) < 1200
    assert document.attrib["viewBox"] == f"0 0 {width} {height}"
    assert len(document) > board.rows and all(element.tag[0] == "{" for element in document)
    assert np.ptp(picture) > 0
    assert len(board.text().splitlines()) >= len(board.captions)
    for piece in board.pieces:
        assert -1 < piece.row < board.rows + 1 and -1 < piece.column < board.columns + 1


@pytest.mark.parametrize(
    "name", ["hex(size=2)", "go(size=2)", "mnk(m=26,n=2,k=2)", "othello(size=4)"]
)
def test_the_smallest_and_longest_boards_are_drawn(name):
    for plies in (0, 3):
        assert render_state(position(name, plies), "rgb_array").shape[2] == 3
        ElementTree.fromstring(svg(position(name, plies)))


def test_text_and_pictures_come_from_one_description():
    state = playout.game("hex(size=3)").from_moves("a2 c3 a1")
    board = board_of(state)
    assert board.text().splitlines() == ["  a b c", "1 X . .", " 2 X . .", "  3 . . O"]
    mnk = playout.game("mnk(m=7,n=6,k=4)").from_moves("a1 b1")
    assert board_of(mnk).text().splitlines()[-2:] == ["1 X O . . . . .", "  a b c d e f g"]
    fen = board_of(playout.game("chess").initial_state()).text().splitlines()
    assert fen[0] == "8 r n b q k b n r" and fen[7] == "1 R N B Q K B N R"


def test_a_chain_of_hex_that_won_is_marked_and_nothing_else():
    state = playout.game("hex(size=3)").from_moves("b1 a1 c1 a2 b2 c2 b3")
    marked = {(piece.row, piece.column) for piece in board_of(state).pieces if piece.marked}
    assert marked == {(0, 1), (1, 1), (2, 1)} or marked == {(0, 2), (1, 1), (2, 1)}


def test_labels_are_escaped_and_unknown_letters_are_boxes():
    board = Board("table", 1, 3, (Piece(0, 1, "label", (0, 0, 0), label="<&>"),), captions=("a<b",))
    document = ElementTree.fromstring(paint.svg(board))
    texts = [element.text for element in document if element.text]
    assert texts == ["<&>", "a<b"]
    assert len(strokes("\u00e9")) == 4 and strokes("a") == strokes("A")
    assert pixels(board).std() > 0

"""Other boards, described: chess, Breakthrough, 2048, backgammon, and tables with cards or dice.

Each function takes a State and gives a `Board`, read from the state's text; the catalogue names
them. Those of hidden cards and dice also take the player who looks, None being shown everything.
"""

from __future__ import annotations

from playout.envs.core.game import State
from playout.envs.drawing.canvas import Color
from playout.envs.drawing.description import Board, Piece, Shape
from playout.envs.drawing.pieces import CARD
from playout.envs.drawing.stones import BLACK, BLUE, LETTERS, RED, WHITE

LIGHT: Color = (236, 218, 185)
DARK: Color = (176, 136, 104)
IVORY: Color = (252, 250, 244)
SLATE: Color = (54, 57, 66)
TRAY: Color = (187, 173, 160)
HOLLOW: Color = (205, 193, 180)
FELT: Color = (88, 128, 96)
MEN: tuple[Color, Color] = (WHITE, (112, 40, 44))
TILES: tuple[Color, ...] = (
    (238, 228, 218),
    (237, 224, 200),
    (242, 177, 121),
    (245, 149, 99),
    (246, 124, 95),
    (246, 94, 59),
    (237, 207, 114),
    (237, 204, 97),
    (237, 200, 80),
    (237, 197, 63),
    (237, 194, 46),
    (60, 58, 50),
)
_CHESS: dict[str, Shape] = {
    "k": "king",
    "q": "queen",
    "r": "rook",
    "b": "bishop",
    "n": "knight",
    "p": "pawn",
}
_MAX_CAPTION = 64  # letters


def _text(state: State, player: int | None) -> str:
    return str(state) if player is None else state.view(player)


def _captions(state: State, player: int | None = None) -> tuple[str, ...]:
    """The lines of the state's own text, long ones by their ends."""
    lines = _text(state, player).splitlines()
    return tuple(
        line if len(line) <= _MAX_CAPTION else "..." + line[3 - _MAX_CAPTION :] for line in lines
    )


def chess(state: State) -> Board:
    """The board of FEN: rows from the eighth down, digits for empty squares, capitals are white."""
    rows = state.text.split()[0].split("/")
    pieces = []
    for row, line in enumerate(rows):
        column = 0
        number = ""
        for letter in [*line, ""]:
            if letter.isdigit():
                number += letter
                continue
            column += int(number or 0)
            number = ""
            if letter:
                color = IVORY if letter.isupper() else SLATE
                pieces.append(Piece(row, column, _CHESS[letter.lower()], color, letter))
                column += 1
    columns = state.game.obs_shape[2]
    return Board(
        "cells",
        len(rows),
        columns,
        tuple(pieces),
        ground=LIGHT,
        second=DARK,
        row_names=tuple(str(len(rows) - row) for row in range(len(rows))),
        column_names=tuple(chr(ord("a") + i) for i in range(columns)),
    )


def breakthrough(state: State) -> Board:
    """Pawns of chess, written in the same way."""
    return chess(state)


def game_2048(state: State) -> Board:
    """Tiles in the colours by which the game is known, the score below."""
    rows = [line.split(",") for line in state.text.split()[0].split("/")]
    pieces = []
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            if tile == ".":
                pieces.append(Piece(y, x, "tile", HOLLOW))
                continue
            color = TILES[min(int(tile).bit_length() - 2, len(TILES) - 1)]
            pieces.append(Piece(y, x, "tile", color, tile, label=tile))
    score = f"score {state.text.split()[1]}"
    return Board("cells", len(rows), len(rows[0]), tuple(pieces), ground=TRAY, captions=(score,))


def _place(point: int) -> tuple[int, int]:
    """Column and direction of a point as player 0 counts: 1 at the lower right, 24 above it."""
    if point <= 12:
        return (13 - point if point <= 6 else 12 - point), -1
    return (point - 13 if point <= 18 else point - 12), 1


def _stack(column: float, start: float, step: float, count: int, player: int) -> list[Piece]:
    """Men upon each other, closer together from the sixth on."""
    gap = step * min(1.0, 4.0 / max(1, count - 1))
    color, letter = MEN[player], LETTERS[player]
    return [Piece(start + i * gap, column, "disc", color, letter) for i in range(count)]


def backgammon(state: State) -> Board:
    """Points 1 to 12 below and 13 to 24 above, as player 0, white, counts them, and the dice."""
    fields = state.text.removeprefix("XGID=").split(":")
    pieces: list[Piece] = []
    left = [15, 15]
    for point, letter in enumerate(fields[0]):
        if letter == "-":
            continue
        player = int(letter.islower())
        count = ord(letter.upper()) - ord("A") + 1
        left[player] -= count
        if point in (0, 25):  # the bar of player 1, and of player 0
            pieces += _stack(6, 7 if point else 4, 0.8 if point else -0.8, count, player)
            continue
        column, step = _place(point)
        pieces += _stack(column, 0 if step == 1 else 11, step, count, player)
    for player, row in ((0, 11.0), (1, 0.0)):
        if left[player]:
            color = MEN[player]
            pieces.append(Piece(row, 13, "disc", color, LETTERS[player], label=str(left[player])))
    turn, roll = fields[3], fields[4]
    dice = [roll[0]] * int(roll[2]) if "x" in roll else [die for die in roll if die != "0"]
    # On the right for player 0, on the left for player 1, in the middle while nobody has begun.
    first = {"1": 9.0, "-1": 1.5}.get(turn, 4.5)
    color = MEN[1] if turn == "-1" else CARD
    pieces += [Piece(5.5, first + i, "die", color, label=die) for i, die in enumerate(dice)]
    return Board("triangles", 12, 14, tuple(pieces), ground=FELT, captions=_captions(state)[-2:])


def _told(state: State, player: int | None) -> dict[str, list[str]]:
    """The words of each line that `player` is shown, or everybody, by what stands before them."""
    lines = (line.partition(":") for line in _text(state, player).splitlines())
    return {name: words.split() for name, _, words in lines}


def _card(row: float, column: float, text: str) -> Piece:
    """A card; its ink is red for hearts and diamonds. One that is not seen shows its back."""
    if text.startswith("?"):
        return Piece(row, column, "card", BLUE, "?", label="?")
    return Piece(row, column, "card", CARD, text, label=text)


def kuhn_poker(state: State, player: int | None = None) -> Board:
    """A card for each player, what was bet below."""
    return _cards(state, player)


def leduc_poker(state: State, player: int | None = None) -> Board:
    """A card for each player, the common card at the right, what was bet below."""
    return _cards(state, player)


def _cards(state: State, player: int | None) -> Board:
    told, players = _told(state, player), state.game.num_players
    hands = [told[f"player {i + 1}"][0] for i in range(players)]
    pieces = [_card(0, i, card) for i, card in enumerate(hands) if card[0] != "-"]
    pieces += [Piece(0.66, i, "label", WHITE, label=f"{i + 1}") for i in range(players)]
    for common in told.get("common card", ()):
        if common[0] != "-":
            pieces.append(_card(0, players + 0.5, common))
    columns = max(players + 2, 5)
    return Board("table", 1, columns, tuple(pieces), captions=("", *_captions(state, player)))


def liars_dice(state: State, player: int | None = None) -> Board:
    """Each player's dice in a row, those that are not seen without pips; the bids below."""
    told = _told(state, player)
    rows = [told[f"player {i + 1}"] for i in range(state.game.num_players)]
    hands = [thrown for row in rows if (thrown := [die for die in row if die != "-"])]
    colors: tuple[Color, ...] = (CARD, RED, BLUE, BLACK)
    pieces = [
        Piece(row, column + 1, "die", colors[row % len(colors)], die, label=die.replace("?", "0"))
        for row, hand in enumerate(hands)
        for column, die in enumerate(hand)
    ]
    pieces += [Piece(row, 0, "label", WHITE, label=f"{row + 1}") for row in range(len(hands))]
    columns = max([5, *(len(hand) + 1 for hand in hands)])
    captions = ("", *_captions(state, player))
    return Board("table", max(1, len(hands)), columns, tuple(pieces), captions=captions)

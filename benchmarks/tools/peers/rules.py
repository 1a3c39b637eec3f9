"""Other implementations of games behind one interface, and games played on both move by move.

Each adaptor speaks playout's notation of moves. pyffish is Fairy-Stockfish's rules, OpenSpiel and
python-chess bring their own; none shares code with playout. Which game is held against which:
RULES below.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import playout
from playout.benchmarks.tools.measuring import peer
from playout.benchmarks.tools.peers.other_rules import GAMES

PASS = "pass"


class OtherRules(Protocol):
    """One game under way in another implementation."""

    def moves(self) -> set[str]:
        """The legal moves as playout writes them; none when the game is over."""

    def play(self, move: str) -> None:
        """Plays one of them."""

    def returns(self) -> list[float]:
        """The result of a finished game, [P]."""


# Variants that pyffish does not bring: smaller boards.
_VARIANTS = """
[flipello6:flipello]
maxRank = 6
maxFile = f
startFen = 6/6/2pP2/2Pp2/6/6[PPPPPPPPPPPPPPPPPPpppppppppppppppppp] w 0 1
enclosingDropStart = c3 d3 c4 d4
[flipello4:flipello]
maxRank = 4
maxFile = d
startFen = 4/1pP1/1Pp1/4[PPPPPPPPpppppppp] w 0 1
enclosingDropStart = b2 c2 b3 c3
[breakthrough6:breakthrough]
maxRank = 6
maxFile = f
startFen = pppppp/pppppp/6/6/PPPPPP/PPPPPP w 0 1
flagRegionWhite = *6
flagRegionBlack = *1
[breakthrough5:breakthrough]
maxRank = 5
maxFile = e
startFen = ppppp/ppppp/5/PPPPP/PPPPP w 0 1
flagRegionWhite = *5
flagRegionBlack = *1
"""


class Pyffish:
    """A game of Fairy-Stockfish.

    Args:
        variant: Its name there.
        ours: Turns a move there into playout's.
    """

    def __init__(self, variant: str, ours: Callable[[str], str] = str) -> None:
        self.rules = peer("pyffish", "pyffish")
        assert self.rules is not None
        if variant not in self.rules.variants():
            self.rules.load_variant_config(_VARIANTS)
        self.variant, self.ours = variant, ours
        self.start = self.rules.start_fen(variant)
        self.played: list[str] = []
        self._theirs: dict[str, str] = {}

    def moves(self) -> set[str]:
        """See `OtherRules`."""
        self._theirs = {self.ours(move): move for move in self._legal(self.played)}
        if set(self._theirs) == {PASS}:
            after = self._legal([*self.played, self._theirs[PASS]])
            if {*map(self.ours, after)} <= {PASS}:
                self._theirs = {}  # there both would pass for ever
        return set(self._theirs)

    def play(self, move: str) -> None:
        """See `OtherRules`."""
        self.played.append(self._theirs[move])

    def returns(self) -> list[float]:
        """See `OtherRules`."""
        turn = len(self.played) % 2
        over, value = self.rules.is_immediate_game_end(self.variant, self.start, self.played)
        if not over and self._legal(self.played):  # nobody can do but pass: pieces count
            fen: str = self.rules.get_fen(self.variant, self.start, self.played)
            board = fen.partition("[")[0]
            over, value = True, (board.count("P") - board.count("p")) * (1 - 2 * turn)
        if not over:
            value = self.rules.game_result(self.variant, self.start, self.played)
        won = float((value > 0) - (value < 0))
        return [-won, won] if turn else [won, -won]

    def _legal(self, played: list[str]) -> list[str]:
        if self.rules.is_immediate_game_end(self.variant, self.start, played)[0]:
            return []
        found: list[str] = self.rules.legal_moves(self.variant, self.start, played)
        return found


class OpenSpiel:
    """A game of OpenSpiel.

    Args:
        name: The game there, with its parameters.
        ours: Turns a move there into playout's.
        swapped: The second player there is the first one here.
    """

    def __init__(
        self, name: str, ours: Callable[[str], str] = str, *, swapped: bool = False
    ) -> None:
        pyspiel = peer("pyspiel", "open-spiel")
        assert pyspiel is not None
        self.state = pyspiel.load_game(name).new_initial_state()
        self.ours, self.swapped = ours, swapped
        self._theirs: dict[str, int] = {}

    def moves(self) -> set[str]:
        """See `OtherRules`."""
        state = self.state
        self._theirs = {self.ours(state.action_to_string(a)): a for a in state.legal_actions()}
        return set(self._theirs)

    def play(self, move: str) -> None:
        """See `OtherRules`."""
        self.state.apply_action(self._theirs[move])

    def returns(self) -> list[float]:
        """See `OtherRules`."""
        found: list[float] = self.state.returns()
        return found[::-1] if self.swapped else found


class PythonChess:
    """Chess of python-chess, draws as claimed or by themselves."""

    def __init__(self, repeats: int, clock: int) -> None:
        chess = peer("chess", "chess")
        assert chess is not None
        self.board = chess.Board()
        self.repeats, self.clock = repeats, clock

    def moves(self) -> set[str]:
        """See `OtherRules`."""
        board = self.board
        if (
            board.is_insufficient_material()
            or board.is_repetition(self.repeats)
            or board.halfmove_clock >= self.clock
        ):
            return set()
        return {move.uci() for move in board.legal_moves}

    def play(self, move: str) -> None:
        """See `OtherRules`."""
        self.board.push_uci(move)

    def returns(self) -> list[float]:
        """See `OtherRules`."""
        mated = float(self.board.is_checkmate())
        return [-mated, mated] if self.board.turn else [mated, -mated]


def flipello(side: int) -> Callable[[str], str]:
    """Fairy-Stockfish's drops "P@g6": its board is the mirror image, and a pass stays on a cell."""

    def ours(move: str) -> str:
        if "@" not in move:
            return PASS
        return chr(ord("a") + side - 1 - (ord(move[2]) - ord("a"))) + move[3:]

    return ours


def downwards(rows: int) -> Callable[[str], str]:
    """OpenSpiel's Breakthrough: the first player comes from above; "*" marks what takes."""
    return lambda move: "".join(
        str(rows + 1 - int(letter)) if letter.isdigit() else letter for letter in move.rstrip("*")
    )


def crosses(rows: int) -> Callable[[str], str]:
    """OpenSpiel's m,n,k game: "x(row,column)" from the top left."""

    def ours(move: str) -> str:
        row, column = move[2:-1].split(",")
        return f"{chr(ord('a') + int(column))}{rows - int(row)}"

    return ours


# By game and peer's package, what starts a game there. Further games add their lines here.
RULES: dict[tuple[str, str], Callable[[], OtherRules]] = {
    ("breakthrough", "pyffish"): lambda: Pyffish("breakthrough"),
    ("breakthrough(size=6)", "pyffish"): lambda: Pyffish("breakthrough6"),
    ("breakthrough(size=5)", "pyffish"): lambda: Pyffish("breakthrough5"),
    ("breakthrough", "pyspiel"): lambda: OpenSpiel("breakthrough", downwards(8)),
    ("breakthrough(size=6)", "pyspiel"): lambda: OpenSpiel(
        "breakthrough(rows=6,columns=6)", downwards(6)
    ),
    ("breakthrough(size=9, columns=5)", "pyspiel"): lambda: OpenSpiel(
        "breakthrough(rows=9,columns=5)", downwards(9)
    ),
    ("gomoku", "pyspiel"): lambda: OpenSpiel("mnk(m=15,n=15,k=5)", crosses(15)),
    ("hex", "pyspiel"): lambda: OpenSpiel("hex"),
    ("hex(size=5, swap=1)", "pyspiel"): lambda: OpenSpiel("hex(board_size=5,swap=True)"),
    ("hex(size=19)", "pyspiel"): lambda: OpenSpiel("hex(board_size=19)"),
    ("mnk(m=7, n=6, k=4)", "pyspiel"): lambda: OpenSpiel("mnk(m=7,n=6,k=4)", crosses(6)),
    ("chess(max_plies=20000)", "chess"): lambda: PythonChess(3, 100),
    ("chess(draws=automatic, max_plies=20000)", "chess"): lambda: PythonChess(5, 150),
    ("chess(max_plies=20000, notation=san)", "pyspiel"): lambda: OpenSpiel("chess", swapped=True),
    ("othello", "pyffish"): lambda: Pyffish("flipello", flipello(8)),
    ("othello(size=4)", "pyffish"): lambda: Pyffish("flipello4", flipello(4)),
    ("othello(size=6)", "pyffish"): lambda: Pyffish("flipello6", flipello(6)),
    ("othello(size=10)", "pyffish"): lambda: Pyffish("flipello10", flipello(10)),
    ("othello", "pyspiel"): lambda: OpenSpiel("othello"),
}

# Every game and peer's package that can be played side by side.
PAIRS: tuple[tuple[str, str], ...] = (*RULES, *GAMES)


class Compared(NamedTuple):
    """How many games were played, and how many positions of them compared."""

    games: int
    positions: int


def play_beside(
    name: str, package: str, num_games: int, seed: int, seconds: float = math.inf
) -> Compared:
    """Random games on both; every legal move and every result is compared.

    Args:
        name: A game of PAIRS.
        package: The peer's, which must be installed.
        num_games: How many games at most.
        seed: The same seed gives the same games.
        seconds: No game begins later than this; after a thirtieth of it, none where all would take
            longer.

    Returns:
        What was compared.

    Raises:
        AssertionError: They differ; it names the position.
    """
    rng, games, positions, begun = random.Random(seed), 0, 0, time.monotonic()
    play = GAMES.get((name, package)) or partial(one_game, package)
    while games < num_games:
        positions += play(name, rng)
        games += 1
        taken = time.monotonic() - begun
        hopeless = taken * num_games / games > seconds
        if taken >= (seconds / 30 if hopeless else seconds):
            break
    return Compared(games, positions)


def one_game(package: str, name: str, rng: random.Random) -> int:
    """A random game of RULES on both; returns how many positions were compared."""
    game, other, compared = playout.game(name), RULES[name, package](), 0
    state = game.initial_state()
    while True:
        moves = {state.action_text(action): action for action in state.legal_actions}
        theirs = other.moves()
        compared += 1
        if set(moves) != theirs:
            only = f"only here {sorted(set(moves) - theirs)}, there {sorted(theirs - set(moves))}"
            raise AssertionError(f"{game}, {package}: {state.text}: {only}")
        if not moves:
            if other.returns() != state.returns.tolist():
                here, there = state.returns.tolist(), other.returns()
                raise AssertionError(f"{game}, {package}: {state.text}: {here}, there {there}")
            return compared
        move = rng.choice(sorted(moves))
        other.play(move)
        state = state.apply(moves[move])

"""What a player of games owes: `Player`, and `RunPlayer` for what a run has learned.

Matches, engines and games in the terminal know players by these alone. Shapes: `B` positions side
by side, one row each, whose order and number may change from call to call. Leaves out all players
(simple.py, search.py, terminal.py) and reading them from text (load.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import CHANCE, NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, DataError, GameError

if TYPE_CHECKING:
    from playout.agents.players.analysis import Judge

Actions = npt.NDArray[np.int32]


class GivenUp(GameError):
    """The player gives up the game instead of a move."""


class NoSearchError(ConfigError):
    """Simulations for a player that does not search."""


def must_be_positions(states: StateBatch, player: str, game: NativeGame | None = None) -> None:
    """Refuses in one line what `Player.act` cannot be asked about.

    Args:
        states: What was given.
        player: The player's name, for the message.
        game: The only game that it plays; None: any.

    Raises:
        DataError: Not a StateBatch, or of another game. GameError: Nobody is to move in a row.
    """
    if not isinstance(states, StateBatch):
        given = type(states).__name__
        if isinstance(states, np.ndarray):
            given = f"an array {states.dtype} {list(states.shape)}"
        raise DataError(
            f"{player} chooses moves for a StateBatch, not for {given}; "
            "StateBatch.from_states([state, ...]) makes one"
        )
    if game is not None and states.game != game:
        raise DataError(f"{player} plays {game}, these are positions of {states.game}")
    turn = states.to_play()
    if len(turn) and turn.min() < 0:
        row = int((turn < 0).argmax())
        why = "chance decides there" if turn[row] == CHANCE else "the game is over"
        raise GameError(f"row {row}: there is no action to choose, {why}")


class Player(Protocol):
    """Chooses moves.

    Attributes:
        name: What tables and records call it.
    """

    name: str

    def reset(self, seed: int) -> None:
        """New games begin; whatever is random from here on derives from the seed."""
        ...

    def act(self, states: StateBatch) -> Actions:
        """Chooses a move in each position.

        Args:
            states: B positions, none of them over.

        Returns:
            int32 [B], a legal action for each row.
        """
        ...

    def observe(self, states: StateBatch, actions: Actions) -> None:
        """Optional: hears of moves that other players chose, for players that follow a whole game.

        Args:
            states: B positions in which somebody else was to move.
            actions: int32 [B], what was played there.
        """
        return


@dataclass(frozen=True, slots=True)
class Forfeit:
    """Why a player has no move, and so has lost its game.

    Attributes:
        reason: For people, such as "resigned" or "no answer within 60 s".
        failed: Did it break down? False where it gave up a game that it had lost.
    """

    reason: str
    failed: bool = True


def results_without(num_players: int, seat: int) -> list[float]:
    """The results of a game that the player of a seat has forfeited.

    It gets the worst result, -1, and the others share equally what it has lost: results add up to
    0, as those of a game that was played out. Of two players the other one has won.

    Args:
        num_players: Seats of the game.
        seat: Whose player has forfeited.
    """
    share = 1.0 / max(1, num_players - 1)
    return [-1.0 if one == seat else share for one in range(num_players)]


@runtime_checkable
class LinePlayer(Player, Protocol):
    """A player that needs all the moves that led to a position, and may forfeit a game."""

    def act_after(
        self, states: StateBatch, lines: Sequence[Sequence[int]]
    ) -> tuple[Actions, dict[int, Forfeit]]:
        """Chooses a move in each position.

        Args:
            states: B positions, none of them over.
            lines: The actions from the first position to each of them.

        Returns:
            int32 [B], and for the rows without a move (-1 there) why there is none.
        """
        ...

    def close(self) -> None:
        """Ends what was started for it; it can be asked again."""
        ...


@runtime_checkable
class RemarkingPlayer(Player, Protocol):
    """A player of which there is more to tell than its results."""

    def remarks(self) -> dict[str, float]:
        """Counts since it was made, such as {"answers": 500, "illegal": 3}.

        Here: answers given, and those that were no moves. A match tells by how much they rose.
        """
        ...


def choose(
    player: Player, states: StateBatch, lines: Sequence[Sequence[int]] | None
) -> tuple[Actions, dict[int, Forfeit]]:
    """Any player's moves: `act`, or `act_after` where it needs the whole lines.

    Args:
        player: Who is to move.
        states: B positions, none of them over.
        lines: The actions that led to each of them, or None if nobody knows.

    Returns:
        int32 [B], and the rows that it forfeits, whose move is -1.
    """
    if isinstance(player, LinePlayer) and lines is not None:
        return player.act_after(states, lines)
    return player.act(states), {}


def close(player: Player) -> None:
    """Ends the programs that a player has started, if any."""
    if isinstance(player, LinePlayer):
        player.close()


@dataclass(frozen=True, slots=True)
class Forecast:
    """How B positions are expected to end, as the side to move sees it; None: nobody knows.

    Attributes:
        score: float32 [B], the game's own score, such as points that it is ahead by.
        ownership: float32 [B, H, W], from 1, where a cell is expected to be its own, to -1.
    """

    score: npt.NDArray[np.float32] | None = None
    ownership: npt.NDArray[np.float32] | None = None


@runtime_checkable
class ForecastPlayer(Player, Protocol):
    """A player that may know more of a game's end than who wins."""

    def forecast(self, states: StateBatch) -> Forecast:
        """What it expects of B positions, none of them over."""
        ...


@runtime_checkable
class RunPlayer(Player, Protocol):
    """What `eval`, `play` and `analyse` ask of the player of a run.

    Attributes:
        game: The game it has learned.
        temperature: 0 plays the best move; more samples moves by how good they look.
    """

    game: NativeGame
    temperature: float

    def with_simulations(self, simulations: int) -> RunPlayer:
        """The same network with so many simulations a move; 0 plays its bare policy.

        Raises:
            NoSearchError: It does not search.
        """
        ...

    def judge(self) -> Judge:
        """Tells what it thinks of positions, as it plays but without randomness."""
        ...

    def judges(self) -> dict[str, Judge]:
        """The same by name for other efforts worth comparing: the bare policy first."""
        ...

"""Games in the terminal: a person against a player, or players that are watched.

Games of any number of players, with dice or without. The board is shown before every move; a person
can ask for a hint, take a move back and leave. Finished games can be appended to a file of records.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playout.agents.players.analysis import move_texts
from playout.agents.players.human import HumanPlayer, Quit, Undo
from playout.agents.players.load import make_player
from playout.agents.players.player import GivenUp, Player, RunPlayer, choose, results_without
from playout.agents.players.search import SearchPlayer
from playout.agents.runs.kinds import PlayOptions
from playout.agents.runs.reporting import must_be_writable
from playout.envs.core.game import CHANCE, NativeGame, State, StateBatch
from playout.envs.records import files as records
from playout.envs.records.json_lines import GameRecord
from playout.errors import ConfigError, EngineError


@dataclass(frozen=True, slots=True)
class TerminalGame:
    """A game that was shown.

    Attributes:
        actions: All that were played, chance outcomes included.
        resigned: Who gave it up, as the number of a seat; None: it went on to its end.
    """

    actions: list[int]
    resigned: int | None = None


Seats = tuple[Player, ...]  # who plays as player 0, 1 ...
_COLOURS = {"X": "\x1b[1;31m", "O": "\x1b[1;33m"}


def play_games(player: Player, options: PlayOptions, game: NativeGame | None = None) -> None:
    """What `playout play RUN` does with a game's run, or with another player of a game.

    A game of one player is watched. In a game of more than two the run plays for everybody but the
    person, and for one among its opponents. Who sits where changes from game to game.

    Args:
        player: The run's player.
        options: Who plays, who begins, where records go.
        game: What is played; a run's player knows it.
    """
    if game is None:
        assert isinstance(player, RunPlayer)
        game = player.game
    if options.out is not None:
        must_be_writable(options.out)
        records.must_hold(options.out, game)
    if game.num_players == 1 and (options.opponent != "human" or options.second):
        name = "opponent" if options.opponent != "human" else "second"
        raise ConfigError(f"--{name} does nothing in a game of one player: leave it out")
    if options.opponent == "human" and game.num_players > 1:
        if options.episodes is not None:
            raise ConfigError(
                "--episodes does nothing where you play yourself, you are asked after each game: "
                "leave it out, or name an --opponent"
            )
        hint = _hinter(player) if isinstance(player, RunPlayer) else None
        _with_person(game, player, HumanPlayer(hint=hint, name="you"), options)
        return
    opponent: Player = player
    if game.num_players > 1:
        opponent = make_player(options.opponent, game, seed=options.seed + 1, machine=options)
    player.reset(options.seed)
    for number in range(1 if options.episodes is None else options.episodes):
        seats = _seated(game, player, opponent, number + options.second)
        print(" against ".join(_labels(game, seats)))
        played = play_one(game, seats, show=print, seed=options.seed + number)
        _keep(options.out, game, played, seats)


def _with_person(
    game: NativeGame, player: Player, person: HumanPlayer, options: PlayOptions
) -> None:
    """Games until the person has had enough, in another seat each time."""
    print(f"You play {game.name} against {player.name}. Type a move, or: hint, undo, quit.")
    if game.goal:
        print(game.goal)
    for number in itertools.count():
        seats = _seated(game, person, player, number + options.second)
        print(_who_begins(game, seats, seats.index(person)))
        played = play_one(game, seats, show=print, seed=options.seed + number)
        if played is None:
            print("Bye.")
            return
        _keep(options.out, game, played, seats)
        try:
            again = input("Another game? (y/n) ").strip().lower()
        except EOFError:
            return
        if again not in ("y", "yes"):
            return


def _seated(game: NativeGame, one: Player, others: Player, turn: int) -> Seats:
    """One player in the seat whose turn it is, another in all the others."""
    own = turn % game.num_players
    return tuple(one if seat == own else others for seat in range(game.num_players))


def _letters(game: NativeGame) -> str:
    """The letters XO where the first move of two puts an X on the board, else nothing."""
    state = game.initial_state()
    if game.num_players != 2 or state.to_play < 0:
        return ""
    boards = (str(state), str(state.apply(state.legal_actions[0])))
    before, after = (len(re.findall(r"\bX\b", board)) for board in boards)
    return "XO" if after > before else ""


def _who_begins(game: NativeGame, seats: Seats, own: int) -> str:
    letters, first = _letters(game), game.initial_state().to_play
    you = f"You are {letters[own] if letters else f'player {own + 1} of {len(seats)}'}"
    if first < 0:  # the dice decide
        return f"{you}."
    return f"{you}, {'you move first' if first == own else f'{seats[first].name} begins'}."


def _labels(game: NativeGame, seats: Seats) -> list[str]:
    """What to call the player in each seat; with its letter or number where that is needed."""
    marks = _letters(game) or [f"player {seat + 1}" for seat in range(len(seats))]
    if len(seats) == 1:
        return [seats[0].name]
    return [f"{player.name} ({mark})" for player, mark in zip(seats, marks, strict=True)]


def play_one(
    game: NativeGame, seats: Seats, *, show: Callable[[str], None], seed: int = 0
) -> TerminalGame | None:
    """One game, shown as it goes.

    Args:
        game: The game.
        seats: Who plays as player 0, 1 ...; one may sit in several seats.
        show: Prints a text.
        seed: Of the dice; after a move was taken back they fall as before.

    Returns:
        What was played, or None if a person left before the end.
    """
    states, actions = [game.initial_state()], list[int]()
    names = [player.name for player in seats]
    if len(seats) > 2 or len({id(player) for player in seats}) < len(seats):
        names = _labels(game, seats)
    persons = [seat for seat, player in enumerate(seats) if isinstance(player, HumanPlayer)]
    person = persons[0] if persons else None
    while not states[-1].is_terminal:
        state = states[-1]
        batch = StateBatch.from_states([state])
        if state.to_play == CHANCE:
            action = int(batch.random_actions(seed, counter=len(actions))[0])
            if _is_told(state, person):
                show(f"Chance brings {state.action_text(action)}")
            states.append(state.apply(action))
            actions.append(action)
            continue
        mover = seats[state.to_play]
        asked = isinstance(mover, HumanPlayer)
        if asked or person is None:
            show("\n" + painted(_board(state, person)) + "\n")
        try:
            action, remark = _choose(mover, batch, actions)
        except Quit:
            return None
        except GivenUp:
            show(f"{names[state.to_play]} resigns.")
            show(_verdict(results_without(len(seats), state.to_play), seats, names))
            return TerminalGame(actions, state.to_play)
        except Undo:
            if not _take_back(states, actions, state.to_play):
                show("There is nothing to take back.")
            continue
        for other in {id(player): player for player in seats if player is not mover}.values():
            other.observe(batch, np.array([action], np.int32))
        if not asked:
            show(f"{names[state.to_play]} plays {state.action_text(action)}{remark}")
        states.append(state.apply(action))
        actions.append(action)
        if asked and not states[-1].is_terminal and states[-1].to_play != state.to_play:
            show("\n" + painted(_board(states[-1], person)) + "\n")
    show("\n" + painted(_board(states[-1], person)) + "\n")
    show(_verdict(states[-1].returns.tolist(), seats, names))
    return TerminalGame(actions)


def _board(state: State, person: int | None) -> str:
    """The board as a person sees it; all of it where nobody plays, or nothing is hidden."""
    return str(state) if person is None or not state.game.hidden else state.view(person)


def _is_told(state: State, person: int | None) -> bool:
    """Does the person learn what chance decides here?"""
    if person is None or not state.game.hidden:
        return True
    outcomes = state.legal_actions
    return len({state.apply(one).info_key(person) for one in outcomes}) == len(outcomes)


def _choose(mover: Player, batch: StateBatch, line: Sequence[int]) -> tuple[int, str]:
    """A player's move, and what its search thinks of the position."""
    if isinstance(mover, SearchPlayer) and mover.config is not None:
        found = mover.search(batch)
        value = float(found.value[0])
        proven = int(found.proven[0])
        known = {1: "it has seen the win", 0: "it has seen the draw", -1: "it has seen its loss"}
        return int(found.action[0]), f" ({known.get(proven, f'it expects {value:+.2f}')})"
    chosen, forfeits = choose(mover, batch, [line])
    if forfeits and not forfeits[0].failed:
        raise GivenUp
    if forfeits:
        raise EngineError(f"{mover.name}: {forfeits[0].reason}")
    return int(chosen[0]), ""


def _take_back(states: list[State], actions: list[int], person: int) -> bool:
    """Goes back to the person's move before this one."""
    for index in range(len(states) - 2, -1, -1):
        if states[index].to_play == person:
            del states[index + 1 :], actions[index:]
            return True
    return False


def _verdict(returns: Sequence[float], seats: Seats, names: Sequence[str]) -> str:
    """Who has won; the results themselves where they say more than that."""
    shown = ", ".join(f"{result:g}" for result in returns)
    if len(returns) == 1:
        return f"The result is {shown}."
    results = "" if set(returns) <= {-1.0, 0.0, 1.0} and len(returns) == 2 else f" ({shown})"
    best = [seat for seat, result in enumerate(returns) if result == max(returns)]
    if len(best) == len(returns):
        return f"A draw{results}."
    if len(best) > 1:
        return f"{' and '.join(names[seat] for seat in best)} win{results}."
    who = "You win!" if isinstance(seats[best[0]], HumanPlayer) else f"{names[best[0]]} wins."
    return f"{who}{results}"


def _hinter(player: RunPlayer) -> Callable[[State], str]:
    """Asks the run's own network (or search) about a position, aside from its game."""

    def hint(state: State) -> str:
        found = player.judge()(StateBatch.from_states([state]))
        moves = move_texts(state, found.pv[0][:6])
        expected = f"expects {found.value[0]:+.2f} for you ({' '.join(moves)})"
        return f"{player.name} would play {moves[0]} and {expected}."

    return hint


def _keep(out: Path | None, game: NativeGame, played: TerminalGame | None, seats: Seats) -> None:
    """Appends a game that was not left; one that was given up tells so as those of matches do."""
    if out is None or played is None:
        return
    names = [player.name for player in seats]
    info: dict[str, object] = {}
    if played.resigned is not None:
        info = {"lost_by": names[played.resigned], "reason": "resigned"}
        info["returns"] = results_without(len(names), played.resigned)
    records.append(out, [GameRecord.from_actions(game, played.actions, players=names, info=info)])


def painted(board: str) -> str:
    """The board with coloured stones, where the terminal shows colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return board
    return re.sub(
        r"\b[XO]\b", lambda found: f"{_COLOURS[found.group()]}{found.group()}\x1b[0m", board
    )

"""Games in the terminal: a person against a player, or two players that are watched.

The board is shown before every move; a person can ask for a hint, take a move back and leave.
Finished games can be appended to a file of records.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from playout.agents.players.simple import Player, make_player
from playout.agents.players.terminal import HumanPlayer, Quit, Undo
from playout.agents.runs.kinds import PlayOptions
from playout.agents.runs.reporting import must_be_writable
from playout.envs.core import records
from playout.envs.core.game import NativeGame, State, StateBatch
from playout.errors import ConfigError

_COLOURS = {"X": "\x1b[1;31m", "O": "\x1b[1;33m"}


def play_games(player: Any, options: PlayOptions) -> None:
    """What `playout play RUN` does with a game's run.

    Args:
        player: The run's player; has `.game`.
        options: Who plays, who begins, where records go.
    """
    game: NativeGame = player.game
    if game.num_players != 2:
        raise ConfigError(
            f"`playout play` shows games of two players, {game} has {game.num_players}"
        )
    if options.out is not None:
        must_be_writable(options.out)
    games = 1 if options.episodes is None else options.episodes
    if games < 1:
        raise ConfigError(f"--episodes must be at least 1, not {games}")
    if options.opponent == "human":
        person = HumanPlayer(hint=_hinter(player), name="you")
        _with_person(player, person, person_first=not options.second, out=options.out)
        return
    opponent: Any = make_player(options.opponent, game, seed=options.seed + 1)
    player.reset(options.seed)
    for number in range(games):
        first = (number % 2 == 0) != options.second
        seats: list[Any] = [player, opponent] if first else [opponent, player]
        print(f"{seats[0].name} (X) against {seats[1].name} (O)")
        states, _ = play_one(game, seats, show=print)
        _keep(options.out, game, states, seats)


def _with_person(player: Any, person: HumanPlayer, *, person_first: bool, out: Path | None) -> None:
    """Games until the person has had enough, with alternating colours."""
    game: NativeGame = player.game
    print(f"You play {game.name} against {player.name}. Type a move, or: hint, undo, quit.")
    while True:
        seats: list[Any] = [person, player] if person_first else [player, person]
        print("You are X, you move first." if person_first else f"You are O, {player.name} begins.")
        states, left = play_one(game, seats, show=print)
        if left:
            print("Bye.")
            return
        _keep(out, game, states, seats)
        try:
            again = input("Another game? (y/n) ").strip().lower()
        except EOFError:
            return
        if again not in ("y", "yes"):
            return
        person_first = not person_first


def play_one(
    game: NativeGame, seats: list[Any], *, show: Callable[[str], None]
) -> tuple[list[State], bool]:
    """One game, shown as it goes.

    Returns:
        All its positions, and whether a person left before the end.
    """
    states = [game.initial_state()]
    while not states[-1].is_terminal:
        state = states[-1]
        mover = seats[state.to_play]
        person = isinstance(mover, HumanPlayer)
        if person or not any(isinstance(seat, HumanPlayer) for seat in seats):
            show("\n" + painted(str(state)) + "\n")
        try:
            action, remark = _choose(mover, state)
        except Quit:
            return states, True
        except Undo:
            if not _take_back(states, state.to_play):
                show("There is nothing to take back.")
            continue
        if not person:
            show(f"{mover.name} plays {state.action_text(action)}{remark}")
        states.append(state.apply(action))
    show("\n" + painted(str(states[-1])) + "\n")
    show(_verdict(states[-1], seats))
    return states, False


def _choose(mover: Any, state: State) -> tuple[int, str]:
    """A player's move, and what its search thinks of the position."""
    batch = StateBatch.from_states([state])
    if getattr(mover, "config", None) is not None and hasattr(mover, "search"):
        found = mover.search(batch)
        value = float(found.value[0])
        proven = int(found.proven[0])
        known = {1: "it has seen the win", 0: "it has seen the draw", -1: "it has seen its loss"}
        return int(found.action[0]), f" ({known.get(proven, f'it expects {value:+.2f}')})"
    return int(mover.act(batch)[0]), ""


def _take_back(states: list[State], person: int) -> bool:
    """Goes back to the person's move before this one."""
    for index in range(len(states) - 2, -1, -1):
        if states[index].to_play == person:
            del states[index + 1 :]
            return True
    return False


def _verdict(state: State, seats: list[Any]) -> str:
    returns = state.returns.tolist()
    if returns[0] == returns[1]:
        return "A draw."
    winner = seats[0 if returns[0] > returns[1] else 1]
    return "You win!" if isinstance(winner, HumanPlayer) else f"{winner.name} wins."


def _hinter(player: Any) -> Callable[[State], str]:
    """Asks the run's own network (or search) about a position, aside from its game."""

    def hint(state: State) -> str:
        from playout.agents.rating.analysis import policy_judge, search_judge

        batch = StateBatch.from_states([state])
        if getattr(player, "evaluator", None) is None and getattr(player, "config", None) is None:
            return f"{player.name} would play {state.action_text(int(player.act(batch)[0]))}."
        if player.config is None:
            found = policy_judge(player.evaluator)(batch)
        else:
            found = search_judge(player.game, player.config, player.evaluator)(batch)
        line, names = state, []
        for action in found.pv[0][:6]:
            names.append(line.action_text(action))
            line = line.apply(action)
        expected = f"expects {found.value[0]:+.2f} for you ({' '.join(names)})"
        return f"{player.name} would play {names[0]} and {expected}."

    return hint


def _keep(out: Path | None, game: NativeGame, states: list[State], seats: list[Player]) -> None:
    if out is None:
        return
    actions = [
        next(a for a in before.legal_actions if before.apply(a) == after)
        for before, after in pairwise(states)
    ]
    names = [seat.name for seat in seats]
    records.append(out, [records.GameRecord.from_actions(game, actions, players=names)])


def painted(board: str) -> str:
    """The board with coloured stones, where the terminal shows colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return board
    return re.sub(
        r"\b[XO]\b", lambda found: f"{_COLOURS[found.group()]}{found.group()}\x1b[0m", board
    )

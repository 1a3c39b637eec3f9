"""Games in the terminal: a person against a player, or two players that are watched.

The board is shown before every move; a person can ask for a hint, take a move back and leave.
Finished games can be appended to a file of records.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from playout.agents.players.analysis import move_texts
from playout.agents.players.human import HumanPlayer, Quit, Undo
from playout.agents.players.load import make_player
from playout.agents.players.player import Player, RunPlayer
from playout.agents.players.search import SearchPlayer
from playout.agents.runs.kinds import PlayOptions
from playout.agents.runs.reporting import must_be_writable
from playout.envs.core import records
from playout.envs.core.game import NativeGame, State, StateBatch
from playout.errors import ConfigError

Pair = tuple[Player, Player]  # who moves first, who moves second
_COLOURS = {"X": "\x1b[1;31m", "O": "\x1b[1;33m"}


def play_games(player: RunPlayer, options: PlayOptions) -> None:
    """What `playout play RUN` does with a game's run.

    Args:
        player: The run's player.
        options: Who plays, who begins, where records go.
    """
    game = player.game
    if game.num_players != 2:
        raise ConfigError(
            f"`playout play` shows games of two players, {game} has {game.num_players}"
        )
    if options.out is not None:
        must_be_writable(options.out)
    games = 1 if options.episodes is None else options.episodes
    if options.opponent == "human":
        person = HumanPlayer(hint=_hinter(player), name="you")
        _with_person(player, person, person_first=not options.second, out=options.out)
        return
    opponent = make_player(options.opponent, game, seed=options.seed + 1)
    player.reset(options.seed)
    for number in range(games):
        first = (number % 2 == 0) != options.second
        pair = (player, opponent) if first else (opponent, player)
        print(f"{pair[0].name} (X) against {pair[1].name} (O)")
        played = play_one(game, pair, show=print)
        _keep(options.out, game, played, pair)


def _with_person(
    player: RunPlayer, person: HumanPlayer, *, person_first: bool, out: Path | None
) -> None:
    """Games until the person has had enough, with alternating colours."""
    game = player.game
    print(f"You play {game.name} against {player.name}. Type a move, or: hint, undo, quit.")
    while True:
        pair: Pair = (person, player) if person_first else (player, person)
        print("You are X, you move first." if person_first else f"You are O, {player.name} begins.")
        played = play_one(game, pair, show=print)
        if played is None:
            print("Bye.")
            return
        _keep(out, game, played, pair)
        try:
            again = input("Another game? (y/n) ").strip().lower()
        except EOFError:
            return
        if again not in ("y", "yes"):
            return
        person_first = not person_first


def play_one(game: NativeGame, pair: Pair, *, show: Callable[[str], None]) -> list[int] | None:
    """One game between two players, shown as it goes.

    Returns:
        The actions played, or None if a person left before the end.
    """
    states, actions = [game.initial_state()], list[int]()
    watched = not any(isinstance(player, HumanPlayer) for player in pair)
    while not states[-1].is_terminal:
        state = states[-1]
        mover, other = pair[state.to_play], pair[1 - state.to_play]
        person = isinstance(mover, HumanPlayer)
        if person or watched:
            show("\n" + painted(str(state)) + "\n")
        batch = StateBatch.from_states([state])
        try:
            action, remark = _choose(mover, batch)
        except Quit:
            return None
        except Undo:
            if not _take_back(states, actions, state.to_play):
                show("There is nothing to take back.")
            continue
        other.observe(batch, np.array([action], np.int32))
        if not person:
            show(f"{mover.name} plays {state.action_text(action)}{remark}")
        states.append(state.apply(action))
        actions.append(action)
    show("\n" + painted(str(states[-1])) + "\n")
    show(_verdict(states[-1], pair))
    return actions


def _choose(mover: Player, batch: StateBatch) -> tuple[int, str]:
    """A player's move, and what its search thinks of the position."""
    if isinstance(mover, SearchPlayer) and mover.config is not None:
        found = mover.search(batch)
        value = float(found.value[0])
        proven = int(found.proven[0])
        known = {1: "it has seen the win", 0: "it has seen the draw", -1: "it has seen its loss"}
        return int(found.action[0]), f" ({known.get(proven, f'it expects {value:+.2f}')})"
    return int(mover.act(batch)[0]), ""


def _take_back(states: list[State], actions: list[int], person: int) -> bool:
    """Goes back to the person's move before this one."""
    for index in range(len(states) - 2, -1, -1):
        if states[index].to_play == person:
            del states[index + 1 :], actions[index:]
            return True
    return False


def _verdict(state: State, pair: Pair) -> str:
    returns = state.returns.tolist()
    if returns[0] == returns[1]:
        return "A draw."
    winner = pair[0 if returns[0] > returns[1] else 1]
    return "You win!" if isinstance(winner, HumanPlayer) else f"{winner.name} wins."


def _hinter(player: RunPlayer) -> Callable[[State], str]:
    """Asks the run's own network (or search) about a position, aside from its game."""

    def hint(state: State) -> str:
        found = player.judge()(StateBatch.from_states([state]))
        moves = move_texts(state, found.pv[0][:6])
        expected = f"expects {found.value[0]:+.2f} for you ({' '.join(moves)})"
        return f"{player.name} would play {moves[0]} and {expected}."

    return hint


def _keep(out: Path | None, game: NativeGame, actions: list[int] | None, pair: Pair) -> None:
    if out is not None and actions is not None:
        names = [player.name for player in pair]
        records.append(out, [records.GameRecord.from_actions(game, actions, players=names)])


def painted(board: str) -> str:
    """The board with coloured stones, where the terminal shows colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return board
    return re.sub(
        r"\b[XO]\b", lambda found: f"{_COLOURS[found.group()]}{found.group()}\x1b[0m", board
    )

"""Judge positions of a game by a run's network, by random rollouts, or by exact play.

A file of positions becomes a JSON list; a single position is shown with its board, the move to play
and a bar for every move. Answers have no randomness in them. Judging is players/analysis.py.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from playout.agents.runs.options import (
    MachineOptions,
    check_device,
    make_command,
    run_options_last,
)
from playout.cores import usable_cores
from playout.errors import ConfigError, DataError, PlayoutError
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from playout.agents.players.analysis import Analysis, Judge
    from playout.agents.players.player import RunPlayer
    from playout.envs.core.game import NativeGame, State, StateBatch

_MAX_BYTES = 256 << 20
_ROLLOUT_SIMULATIONS = 1000
_MAX_LISTED_ACTIONS = 400  # Go 19x19 has 362


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(MachineOptions):
    """Say which move to play in positions of a game, and how good the others are.

    For example:
      playout analyse runs/demo --moves 4455               one position, with its board
      playout analyse connect_four --evaluator solver --moves 4455
      playout analyse runs/demo --moves-file moves.txt --json answers.json

    Without --moves and --moves-file positions are read from standard input, one a line;
    if nothing comes, the start is shown.

    In JSON: "action" is the move to play, numbered from 0, and "move" the same as the
    board shows it; "pv" and "pv_moves" are the expected line alike. "policy" and
    "visits" have an entry for each action, numbered from 0, or with --by move one for
    each legal move, the likeliest first; "value" is the result that the side to move
    expects, from -1 to 1: with a search the mean over all moves that it tried.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """A run directory; with --evaluator rollout or solver also the name of a game."""

    game: Annotated[str | None, arg(metavar="GAME", help_behavior_hint="")] = None
    """The game, where the run cannot name it: module:Name of what makes it; or the one that it has
    learned by other rules on the same board, such as another komi.
    """

    moves: Annotated[str | None, arg(metavar="MOVES", help_behavior_hint="")] = None
    """A position to show, as the moves from the start; Connect Four's are columns, such as 4455."""

    moves_file: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Positions, one a line, written alike; an empty line is the start. Of a file of games (.sgf,
    .pgn, .mat or JSON lines, as --records writes), every position in which a move was played.
    """

    json: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Write the answers to this file, a JSON list with one object a line; - is standard output."""

    by: Literal["auto", "action", "move"] = "auto"
    """In JSON: "policy" and "visits" as lists by action or objects by legal move; "auto": by move
    where a game has more than 400 actions, as chess has."""

    simulations: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Simulations a position, 0 for the bare policy; by default what the run plays with."""

    evaluator: Literal["network", "rollout", "solver"] = "network"
    """What judges: the run's network, random games, or exact play."""

    which: str = "best"
    """Checkpoint: best, latest or its number."""

    plot: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """With --moves: also draw the position into this file: PNG with a bar for every move, or, if
    its name ends with .svg, the board alone."""

    quiet: bool = False
    """Show no progress."""


def _check(command: Command) -> None:
    check_device(command)
    if command.simulations is not None and not 0 <= command.simulations <= 1 << 22:
        raise ConfigError(f"--simulations must be from 0 to {1 << 22}, not {command.simulations}")


def main(command: Command) -> int:
    """Answers for a file, or shows single positions."""
    _check(command)
    if command.moves is not None and command.moves_file is not None:
        raise ConfigError("give either --moves or --moves-file, not both")
    if command.plot is not None and command.moves is None:
        raise ConfigError("--plot goes with --moves")
    from playout.agents.runs.reporting import must_be_writable

    for path in (command.json, command.plot):
        if path is not None:
            must_be_writable(path)
    if command.moves_file is not None:
        return _answer_file(command, command.moves_file)
    if command.json is not None and command.moves is None:
        raise ConfigError("--json needs positions: --moves-file FILE, or --moves MOVES")
    return _show(command)


def _answer_file(command: Command, path: Path) -> int:
    from playout.agents.players.analysis import BATCH, analyse, answer
    from playout.agents.runs.console import no_progress, progress
    from playout.agents.runs.reporting import write_json
    from playout.envs.core.game import StateBatch
    from playout.envs.records.files import holds_games

    of_games, states = holds_games(path), []
    lines = [] if of_games else read_lines(path)
    if of_games:
        for moves, state in read_games(_game(command), path):
            lines.append(moves)
            states.append(state)
    # More than one chunk: judges share the cores out among them; their answers do not differ.
    cores = (command.threads or usable_cores()) if command.evaluator == "network" else 1
    if (count := min(cores, 8, len(lines) // BATCH)) > 1:
        command = replace(command, threads=cores // count)
    game, *judges = open_judge(command)
    judges += [open_judge(command)[1] for _ in range(1, count)]
    if not of_games:
        states = [read_position(game, line, path, number) for number, line in enumerate(lines, 1)]
    with no_progress(command.quiet), progress("analyse", len(states), unit="positions") as tell:
        batch = StateBatch.from_states(states) if states else game.batch(0)
        found = analyse(batch, *judges, on_done=tell)
    by_move = _by_move(command, game)
    answers = [
        answer(line, states[row], found, row, by_move=by_move) for row, line in enumerate(lines)
    ]
    write_json(command.json if command.json is not None else Path("-"), answers)
    return 0


def _by_move(command: Command, game: NativeGame) -> bool:
    """Whether answers name moves, since a list of all actions would be mostly zeros."""
    many = game.num_actions > _MAX_LISTED_ACTIONS
    return command.by == "move" or (command.by == "auto" and many)


def read_lines(path: Path) -> list[str]:
    """The lines of a file, blanks stripped; a newline at the very end opens no further line."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} has more than {_MAX_BYTES} bytes: cut it into several files")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file: byte {error.start} is not UTF-8") from error
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.strip() for line in lines]


def read_games(game: NativeGame, path: Path) -> Iterator[tuple[str, State]]:
    """The positions of the games of a file in which somebody moved: the moves so far, the state.

    They are played through by the rules of `game`, which may have another komi than the file says.
    """
    from playout.envs.records import files

    try:
        for number, record in enumerate(files.read(path), 1):
            where = f"{path}, game {number}"
            files.must_be_of(record, game, where)
            states, actions = files.played(record, game, where)
            for ply, state in enumerate(states[: len(actions)]):
                if state.to_play >= 0:
                    yield " ".join(record.moves[:ply]), state
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def read_position(game: NativeGame, moves: str, path: Path | str, number: int) -> State:
    """A position from its moves; errors name the line."""
    from playout.envs.core.game import CHANCE, possible_moves

    try:
        if len(moves) > 64 * (game.max_plies + 1):
            raise DataError(f"{len(moves)} characters are more than a game can have")
        state = game.from_moves(moves)
    except (PlayoutError, ValueError) as error:
        raise DataError(f"{path}, line {number}: {error}") from None
    if state.is_terminal:
        raise DataError(
            f"{path}, line {number}: the game is over after {moves!r}, there is no move to judge"
        )
    if state.to_play == CHANCE:
        where = f"after {moves!r}" if moves.strip() else "at the start"
        raise DataError(
            f"{path}, line {number}: {where} chance decides, nobody is to move; write what it "
            f"brings as a move: {possible_moves(state)}"
        )
    return state


def _game(command: Command, given: object | None = None) -> NativeGame:
    """The game whose positions are judged."""
    from playout.agents.players.load import game_of_run
    from playout.envs.core.registry import given_game

    chosen, is_run = given if given is not None else command.game, Path(command.run).is_dir()
    if command.evaluator == "network" and not is_run:
        raise ConfigError(
            f"{command.run} is not a run directory (`playout list runs` shows those below this "
            "folder); positions of a game without a run are judged by --evaluator rollout or solver"
        )
    if chosen is None and is_run:
        return game_of_run(command.run)
    return given_game(command.run if chosen is None else chosen)


def open_judge(command: Command, game: object | None = None) -> tuple[NativeGame, Judge]:
    """The game and what judges its positions."""
    from playout.agents.players import analysis
    from playout.agents.players.load import load_player, one_torch_thread

    known = _game(command, game)
    if command.evaluator == "network":
        player = load_player(
            command.run,
            which=command.which,
            simulations=command.simulations,
            game=known,
            machine=command,
        )
        one_torch_thread()
        return player.game, player.judge()
    if command.evaluator == "solver":
        from playout.mcts.exact.solver import Solver

        return known, analysis.solver_judge(Solver.patient(known, table_mb=256))
    simulations = _ROLLOUT_SIMULATIONS if command.simulations is None else command.simulations
    return known, analysis.rollout_judge(known, simulations, threads=command.threads)


def analyse(
    run: str | os.PathLike[str] | RunPlayer,
    positions: str | State | StateBatch | Sequence[str | State],
    *,
    game: object | None = None,
    **options: Any,
) -> Analysis:
    """`playout analyse` in Python: `playout.analyse("runs/demo", ["4455", ""]).action`.

    Args:
        run: A run, or a player that `playout.load` returned; with evaluator="rollout" or "solver"
            also the name of a game.
        positions: One or more: moves from the start as text, states, or a batch of states.
        game: The game itself, where the run cannot name it.
        **options: The command's: simulations, evaluator, which, device, trust ...; simulations and
            the like of a player are its own.

    Returns:
        A row for each position.

    Raises:
        DataError: A position that cannot be reached, or where the game is over.
    """
    from playout.agents.players import analysis
    from playout.agents.runs.console import no_progress
    from playout.envs.core.game import State, StateBatch

    if isinstance(run, str | os.PathLike):
        command = make_command(Command, run=os.fspath(run), **options)
        _check(command)
        known, judge = open_judge(command, game)
    else:
        if options or game is not None:
            raise ConfigError("a player has its game and its options already: give positions alone")
        known, judge = run.game, run.judge()
    if not isinstance(positions, StateBatch):
        given = [positions] if isinstance(positions, str | State) else list(positions)
        states = [
            one if isinstance(one, State) else read_position(known, one, "positions", number)
            for number, one in enumerate(given, 1)
        ]
        positions = StateBatch.from_states(states) if states else known.batch(0)
    with no_progress():
        return analysis.analyse(positions, judge)


def _show(command: Command) -> int:
    """One position, or one after the other as they are typed."""
    game, judge = open_judge(command)
    if command.moves is not None:
        _show_position(command, game, judge, command.moves)
        return 0
    interactive = sys.stdin.isatty()
    if interactive:
        print(
            f"Type positions of {game}, one a line, as moves from the start; "
            "an empty line is the start, q ends."
        )
    for number in itertools.count(1):
        try:
            line = input("moves: " if interactive else "").strip()
        except EOFError:
            if number > 1 or interactive:
                break
            line = ""  # nothing came: the start
        if line in ("q", "quit", "exit"):
            break
        try:
            _show_position(command, game, judge, line, "standard input", number)
        except (PlayoutError, ValueError) as error:
            if not interactive:
                raise
            print(f"error: {error}")
    return 0


def _show_position(
    command: Command,
    game: NativeGame,
    judge: Judge,
    moves: str,
    source: str = "--moves",
    number: int = 1,
) -> None:
    from playout.agents.runs.console import no_progress
    from playout.agents.runs.reporting import write_json
    from playout.envs.core.game import StateBatch

    state = read_position(game, moves, source, number)
    with no_progress(command.quiet):
        found = judge(StateBatch.from_states([state]))
    print(describe(state, found))
    if command.json is not None:
        from playout.agents.players.analysis import answer

        by_move = _by_move(command, game)
        write_json(command.json, [answer(moves, state, found, 0, by_move=by_move)])
    if command.plot is not None:
        from playout.agents.players.analysis_plot import draw

        draw(command.plot, state, found)
        print(f"wrote {command.plot}")


def describe(state: State, found: Analysis) -> str:
    """A position and what is thought of it, as text for people: the move to play comes first."""
    from playout.agents.players.analysis import move_texts
    from playout.agents.runs.reporting import bar

    chosen = int(found.action[0])
    value = float(found.q[0, chosen])  # of the move that is named, as the table has it, ...
    if value != value:  # ... NaN: only the position's is known
        value = float(found.value[0])
    players = state.game.num_players
    who = f"Player {state.to_play + 1} of {players}"
    if players == 2:
        who = f"The {'second' if state.to_play else 'first'} player"
    scale = " (1 win, 0 draw, -1 loss)" if players == 2 and state.game.zero_sum else ""
    lines = [
        str(state),
        "",
        f"{who}, to move, would play {state.action_text(chosen)} and expects {value:+.3f}{scale}.",
        f"Expected moves: {' '.join(move_texts(state, found.pv[0]))}",
        "",
    ]
    searched = bool(found.visits[0].any())
    policy = found.policy[0]
    others = sorted(set(state.legal_actions) - {chosen}, key=lambda action: -policy[action])
    for action in [chosen, *others]:
        share = float(policy[action])
        text = f"{state.action_text(action):>4} {100 * share:6.1f} % {bar(share):<20}"
        if searched:
            text += f" {found.visits[0, action]:>8} visits"
        if found.q[0, action] == found.q[0, action]:  # not NaN
            text += f"  result {found.q[0, action]:+.3f}"
        lines.append(text.rstrip())
    best = others[0] if others else chosen
    if policy[best] > policy[chosen] and found.visits[0, best] < found.visits[0, chosen]:
        lines.append(
            f"{state.action_text(best)} has more weight, from fewer visits; what is played is the "
            "best of the moves that the search looked at most."
        )
    return "\n".join(lines)

"""What a self-play run tells people: its plan, and at the end how well it plays, with a picture.

Training's own evaluations are small; the end of a run looks at all solved positions and plays more
games (final.py), so that the intervals are narrow enough to say something. The picture is made in
picture.py. Left out: the progress line (trainer.py, agents/runs/console.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.evaluation.final import (
    earlier_players,
    ladder_of,
    rate_player,
    usual_anchor,
)
from playout.agents.alphazero.evaluation.picture import draw
from playout.agents.alphazero.player import AlphaZeroPlayer, load
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.own import OwnNetwork
from playout.agents.networks.boards.resnet import parse_size
from playout.agents.players.load import game_of_run, make_player
from playout.agents.players.terminal import painted
from playout.agents.rating.intervals import format_mean, format_number, format_share
from playout.agents.rating.play import play_games
from playout.agents.runs.checkpoint.durable_io import read_json
from playout.agents.runs.console import counted
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics.log import read_rows
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.agents.runs.reporting import as_typed, as_word, write_json
from playout.envs.core.game import NativeGame, State
from playout.envs.core.registry import game_text
from playout.errors import CheckpointError, PlayoutError, StoppedError
from playout.own_code import trust_words

SHOWN_SHARE = 0.2  # of the time, for the game that is shown
WRONG, MOST_WRONG = "selfplay/resigned_wrongly", 0.05
SIMULATIONS = 128  # of the rated player, or fewer where evaluations in training had fewer


def _begins(run: RunDir, net: BoardNetwork) -> str:
    """How much of its network a run has from the one that it begins with, as a line."""
    fresh, count = run.record.get("fresh", []), len(net.state_dict())
    line = f"  begins     with {count - len(fresh)} of {count} tensors of {run.config['init']}"
    if fresh:
        line += f"; of another shape there, or not there: {', '.join(fresh)}"
    return f"{line}\n"


def print_plan(
    run: RunDir,
    config: AlphaZeroConfig,
    minutes: float | None,
    networks: Sequence[BoardNetwork],
    *,
    rate: bool = True,
) -> None:
    """What the dial was turned into.

    Args:
        run: where it is saved.
        config: with the length in updates or games.
        minutes: what the updates were planned to fit into, if anything.
        networks: that learn, the final one last.
        rate: whether what was learned is measured at the end.
    """
    play = config.selfplay
    length = counted(config.games or 0, "game")
    if config.updates is not None:
        length = counted(config.updates, "update")
    if minutes is not None:
        unit = "minute" if minutes == 1 else "minutes"
        length = f"about {minutes:g} {unit} ({length} to begin with)"
    network = describe_network(config.network, config.size, networks[-1])
    if config.first_size:
        first = describe_network(config.network, config.first_size, networks[0])
        network = f"{first} for {config.grow_at:.0%} of the time, then {network}"
    more = ""
    if config.records:
        more += (
            f"  records    {', '.join(config.records)}: each position "
            f"{config.record_epochs:g} times before self-play begins\n"
        )
    work = (
        f"  self-play  {play.num_groups * play.num_trees} games at once, "
        f"{play.num_simulations} simulations a move\n"
        f"  learning   {counted(config.steps, 'step')} of {config.learner.batch_size} positions "
        f"after every {config.evaluations:,} positions that the network has judged\n"
    )
    if config.games_from:
        times = counted(config.reuse, "time")
        work = (
            f"  games from {config.games_from}: each position {times}; they are made by\n"
            f"             playout selfplay --from {as_word(run.path)} --into "
            f"{as_word(config.games_from)}"
            f"{trust_words(run.config)}\n"
            f"  learning   {counted(config.steps, 'step')} of {config.learner.batch_size} "
            "positions an update\n"
        )
    if run.config.get("init") and run.find() is None:
        more = _begins(run, networks[-1]) + more
    if config.also:
        more += f"  also       {', '.join(config.also)}: {config.also_share:.0%} of the updates\n"
    preset = run.record.get("preset", {"name": "of an earlier version", "basis": ""})
    basis = f" ({preset['basis']})" if preset["basis"] else ""
    print(
        f"Learning {config.game} by self-play: {length}"
        f"{', then a short measurement' if rate else ''}.\n"
        f"  preset     {preset['name']}{basis}\n"
        f"  network    {network}\n"
        f"{more}{work}"
        f"  saved in   {run.path}\n",
        flush=True,
    )


def describe_network(name: str, size: str, net: BoardNetwork) -> str:
    """A network for people: its kind, its size where it has one, and its number of parameters."""
    channels, blocks, _, inner = parse_size(size)
    sizes = {"channels": channels, "blocks": blocks}
    if isinstance(net, OwnNetwork):  # its class takes one of them, both or none
        sizes = {one: net.config.sizes[one] for one in sizes if one in net.config.sizes}
    shape = " x ".join(counted(count, one[:-1]) for one, count in sizes.items())
    inside = f"{inner} inside each" if inner else ""
    count = sum(parameter.numel() for parameter in net.parameters())
    return ", ".join(filter(None, (name, shape, inside, f"{count:,} parameters")))


def print_summary(
    run: RunDir,
    *,
    rate: bool = True,
    seconds: float | None = None,
    machine: MachineOptions = DEFAULT_MACHINE,
    game: NativeGame | None = None,
) -> None:
    """Rates the run's player, shows a game, saves a picture and says how to go on.

    Args:
        run: what has been trained.
        rate: without it, all that is said is how to go on.
        seconds: that positions and games may take, from now on; None is as long as they take.
            Where nothing is left for it, no game is shown.
        machine: device, dtype and threads.
        game: what the run has learned, where it cannot name that itself.
    """
    if rate:
        begun = time.monotonic()
        simulations = run.config["alphazero"].get("eval_simulations", SIMULATIONS)
        player = load(run, machine=machine, game=game)
        player = player.with_simulations(max(1, min(SIMULATIONS, int(simulations))))
        print("\nMeasuring what it has learned ...\n", flush=True)
        ladder, games = ladder_of(run, "best", player.game), learned_games(run)
        earlier = earlier_players(ladder, player, games=games)
        until = None if seconds is None else begun + seconds
        left = None if until is None else (1 - SHOWN_SHARE) * (until - time.monotonic())
        report = rate_player(player, ladder, earlier=earlier, seconds=left, seed=run.seed)
        latest = run.find()
        step = None if latest is None else latest.step
        write_json(run.path / "strength.json", report | {"latest_checkpoint": step})
        timed = run.config.get("updates") is None and run.config.get("games") is None
        lines = summary_lines(report, games, checkpoint_text(run), timed=timed)
        print("\n".join([*lines, ""]), flush=True)
        picture, end = run.path / "summary.png", show_game(player, report, run.seed, until=until)
        if draw(picture, run, end, alone=player.game.num_players == 1):
            what = "how it learned" if end is None else "this game's end and of how it learned"
            print(f"A picture of {what}: {picture}\n")
    if warning := resigned_too_soon(run):
        print(f"warning: {warning}\n")
    # A game that was given as an object cannot be made again from what the run stores.
    named = game is None or game_text(game) is not None
    words = () if named else ("--game", "MODULE:NAME")
    alone = (game_of_run(run.path) if game is None else game).num_players == 1
    print(
        f"{'Watch it play' if alone else 'Play against it':21}{run.command_for('play', *words)}\n"
        f"Ask it about moves   {run.command_for('analyse', *words)}\n"
        f"Let it play others   {run.command_for('match', 'uct:1000', *words)}\n"
        f"See all curves       {as_typed('tensorboard')} --logdir {as_word(run.path / 'tb')}"
    )
    if not named:
        print(
            "The run cannot name its game: MODULE:NAME is what makes it, such as my_game:make, and "
            "in Python playout.load(run, game=...) takes the game itself."
        )


def resigned_too_soon(run: RunDir) -> str:
    """A sentence where self-play gave up more games than it may that were not lost; else nothing.

    AlphaGo Zero's bound is 5 % (Silver et al. 2017, Methods). What counts is the later half of the
    run, and a draw is not lost.
    """
    rows = [row for row in read_rows(run.path) if WRONG in row]
    shares = [row[WRONG] for row in rows[len(rows) // 2 :]]
    if not shares or (share := sum(shares) / len(shares)) <= MOST_WRONG:
        return ""
    below = run.config["alphazero"]["selfplay"]["resign_below"]
    return (
        f"{share:.0%} of the games that a side would have given up at {below:g} were not lost: "
        "a lower --selfplay.resign-below gives up fewer"
    )


def learned_games(run: RunDir) -> int:
    """Games of self-play until the best checkpoint."""
    try:
        return int(run.load("best", only=("totals",))[1]["totals"]["games"])
    except CheckpointError:  # holds a network alone
        return 0


def checkpoint_text(run: RunDir) -> str:
    """Which checkpoint the best is, where training went on after it; else nothing."""
    best, latest = run.find("best"), run.find()
    if best is None or latest is None or best.step == latest.step:
        return ""
    games = int(run.load("latest", only=("totals",))[1]["totals"]["games"])
    return f"best checkpoint, update {best.step} of {latest.step}; {games:,} games in all"


def _was_complete(run: RunDir, before: int | None) -> bool:
    """Whether a run that was resumed after update `before` has learned nothing since."""
    latest = run.find()
    return before is not None and latest is not None and latest.step == before


def measured_before(run: RunDir, before: int | None) -> bool:
    """Was a run that was resumed after update `before` complete, and measured at its end?

    What was measured then had the whole run's time, and is kept.
    """
    if not _was_complete(run, before):
        return False
    try:
        found = read_json(run.path / "strength.json")
    except (OSError, PlayoutError):  # missing or damaged
        return False
    return isinstance(found, dict) and found.get("latest_checkpoint") == before


def say_measured_before(run: RunDir) -> None:
    """Tells a person that a run is not measured once more, and how to ask for it."""
    print(f"It was measured at its end; to measure it anew: {run.command_for('eval')}\n")


def say_nothing_was_left(run: RunDir, before: int | None) -> None:
    """Tells a person who resumed a run that was complete, after update `before`, how to go on."""
    if _was_complete(run, before):
        counted = [one for one in ("updates", "games") if run.config.get(one) is not None]
        dial = counted[0] if counted else "minutes"  # a run keeps its own
        print(
            f"{run.path} is already complete: to go on, give larger --{dial} (they count from "
            "the beginning)",
            flush=True,
        )


def summary_lines(
    report: dict[str, Any], games: int, checkpoint: str = "", *, timed: bool = True
) -> list[str]:
    """The report of `rate_player` as lines of text.

    Args:
        report: plain data.
        games: of self-play that the player has learned from.
        checkpoint: which one it is, where there are later ones.
        timed: whether the run has minutes, which the report shares; else its length is counted.
    """
    lines = [f"What it has learned from {games:,} games of self-play"]
    if checkpoint:
        lines[0] += f" ({checkpoint})"
    elif not games:
        lines.append("  No game was over in this time, so nothing was learned: give it more.")
    positions, matches = report["positions"], report.get("matches", [])
    returns, rating = report.get("returns", []), report.get("rating")
    names = [one["by"] for one in positions] + [one["opponent"] for one in matches]
    width = (
        max([len(name) for name in [*names, *(one["player"] for one in returns)]], default=0) + 2
    )
    if positions:
        count = positions[0]["positions"]
        lines.append(f"  {count:,} solved positions: how often its move keeps the outcome")
    for one in positions:
        share = format_share(one["value_preserving"], one["value_preserving_interval"])
        lines.append(f"    {one['by']:{width}}{share}")
    if matches:
        played = sorted({one["games"] for one in matches})
        many = " to ".join(map(str, dict.fromkeys((played[0], played[-1]))))
        lines.append(f"  {many} games against each of these: its points, in draws half")
    for one in matches:
        share = format_share(one["score"], one["score_interval"])
        lines.append(f"    {one['opponent']:{width}}{share}")
    if returns:
        lines.append(
            f"  the mean result of {returns[0]['games']} games on the same openings and dice"
        )
    for one in returns:
        lines.append(f"    {one['player']:{width}}{format_mean(one['mean'], one['interval'])}")
    if rating is not None:
        low, high = rating["interval"]
        lines.append(
            f"  {rating['elo']:z,.0f} Elo above random play ({low:z,.0f} .. {high:z,.0f}), by all "
            "of these games"
        )
    if not (matches or returns):
        why = "The minutes left no time for games"
        if not timed:
            why = "No game fitted into this report, which takes a twentieth of the run's time"
        lines.append(f"  {why}: playout eval plays some.")
    notes = ["95 % intervals in brackets"] if positions or matches or returns else []
    if any(name.startswith("uct:") for name in names + [one["player"] for one in returns]):
        notes.append("uct:N is tree search with N random games a move")
    return [*lines, f"  ({'; '.join(notes)})"] if notes else lines


def show_game(
    player: AlphaZeroPlayer, report: dict[str, Any], seed: int, *, until: float | None = None
) -> State | None:
    """Prints a game from the beginning against rollout search; returns the last position.

    None where it is not over at `until`, by time.monotonic().
    """
    met = [one["opponent"] for one in report.get("matches", [])]
    spec = usual_anchor(player.game)
    spec = spec if spec in met else "random"
    opponent = make_player(spec, player.game, seed=seed + 1)
    opponent.reset(seed + 1)
    player.reset(seed)
    seats = [(0, *[1] * (player.game.num_players - 1))]

    def late() -> bool:
        return until is not None and time.monotonic() > until

    try:
        played = play_games(
            player.game, (player, opponent), seats, [[]], [0], seed=seed, stop=late
        )[0]
    except StoppedError:
        return None
    state, moves = player.game.initial_state(), []
    for action in played.moves:
        moves.append(state.action_text(action))
        state = state.apply(action)
    mine, *others = played.returns
    if not others:
        how = f"A game: its result is {format_number(mine)}."
    else:
        ending = "wins" if mine > max(others) else "loses" if mine < max(others) else "draws"
        how = f"A game: it moves first against {opponent.name} and {ending}."
    print(f"{how}\n  {' '.join(moves)}\n\n{painted(str(state))}\n")
    return state

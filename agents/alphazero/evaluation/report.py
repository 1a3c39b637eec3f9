"""What a self-play run tells people: its plan, and at the end how well it plays, with a picture.

Training's own evaluations are small; the end of a run looks at all solved positions and plays more
games, so that the intervals are narrow enough to say something. Everything here can be had again by
`playout eval RUN`. Left out: the progress line (trainer.py, agents/runs/console.py).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.player import AlphaZeroPlayer, load
from playout.agents.networks.boards.resnet import parse_size
from playout.agents.players.load import make_player
from playout.agents.players.terminal import painted
from playout.agents.rating.arena import play_match
from playout.agents.rating.evaluation import judge_positions, score_of
from playout.agents.rating.intervals import format_share
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.agents.runs.console import progress
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.agents.runs.reporting import write_json
from playout.envs.core.game import NativeGame, State
from playout.envs.drawing.board import render_state

SIMULATIONS = 128
ANCHORS = ("random", "uct:500")
GAMES = 200  # against each anchor
CURVES = {
    "eval/policy_optimal_share": "moves that keep the outcome, policy alone",
    "eval/optimal_move_share": "moves that keep the outcome, search",
    "eval/score_uct512": "points against uct:512",
}


def print_plan(
    run: RunDir, config: AlphaZeroConfig, minutes: float | None, game: NativeGame
) -> None:
    """What the dial was turned into.

    Args:
        run: where it is saved.
        config: with the length in updates or games.
        minutes: what the updates were planned to fit into, if anything.
        game: what is learned.
    """
    play = config.selfplay
    length = f"{config.updates} updates" if config.updates is not None else f"{config.games} games"
    if minutes is not None:
        length = f"about {minutes:g} minutes ({length} to begin with)"
    network = describe_size(config.size)
    if config.first_size:
        first = describe_size(config.first_size)
        network = f"{first} for {config.grow_at:.0%} of the time, then {network}"
    preset = run.record.get("preset", {"name": "of an earlier version", "basis": ""})
    basis = f" ({preset['basis']})" if preset["basis"] else ""
    print(
        f"Learning {config.game} by self-play: {length}, then a short "
        "measurement.\n"
        f"  preset     {preset['name']}{basis}\n"
        f"  network    {network}\n"
        f"  self-play  {play.num_groups * play.num_trees} games at once, "
        f"{play.num_simulations} simulations a move\n"
        f"  learning   {config.steps} steps of {config.learner.batch_size} positions "
        f"after every {config.evaluations:,} positions that the network has judged\n"
        f"  saved in   {run.path}\n",
        flush=True,
    )


def describe_size(size: str) -> str:
    """A size for people."""
    channels, blocks, _ = parse_size(size)
    return f"{channels} channels x {blocks} blocks"


def measure(player: AlphaZeroPlayer, *, games: int, seed: int = 0) -> dict[str, Any]:
    """Shares on all solved positions and results against the anchors, with intervals."""
    report: dict[str, Any] = {"positions": judge_positions(player), "matches": []}
    with progress("games", len(ANCHORS) * games, unit="games") as tell:
        for number, spec in enumerate(ANCHORS):
            tell(number * games, f"against {spec}")
            opponent = make_player(spec, player.game, seed=seed)
            match = play_match(
                player, opponent, player.game, games, part="rating", seed=seed + number
            )
            report["matches"].append(score_of(match, player.name))
    return report


def print_summary(run: RunDir, *, rate: bool = True) -> None:
    """Rates the run's player, shows a game, saves a picture and says how to go on.

    Without `rate` it only says how to go on.
    """
    player = load(run).with_simulations(SIMULATIONS) if rate else None
    if player is not None and player.game.num_players == 2:
        print("\nMeasuring what it has learned ...\n", flush=True)
        report = measure(player, games=GAMES, seed=run.seed)
        write_json(run.path / "strength.json", report)
        print("\n".join([*summary_lines(run, report), ""]))
        last = show_game(player, run.seed)
        picture = run.path / "summary.png"
        draw(picture, run, last)
        print(f"A picture of this game's end and of how it learned: {picture}\n")
    print(
        f"Play against it      {run.command_for('play')}\n"
        f"Ask it about moves   {run.command_for('analyse')}\n"
        f"Let it play others   {run.command_for('match', 'uct:1000')}\n"
        f"See all curves       tensorboard --logdir {run.path / 'tb'}"
    )


def summary_lines(run: RunDir, report: dict[str, Any]) -> list[str]:
    """The report of `measure` as lines of text."""
    games = [row["selfplay/games"] for row in read_rows(run.path) if "selfplay/games" in row]
    lines = [f"What it has learned from {games[-1] if games else 0:,.0f} games of self-play"]
    positions, matches = report["positions"], report["matches"]
    names = [one["by"] for one in positions] + [one["opponent"] for one in matches]
    width = max(map(len, names)) + 2
    if positions:
        count = positions[0]["positions"]
        lines.append(f"  {count:,} solved positions: how often its move keeps the outcome")
    for one in positions:
        share = format_share(one["value_preserving"], one["value_preserving_interval"])
        lines.append(f"    {one['by']:{width}}{share}")
    lines.append(f"  {matches[0]['games']} games against each of these: its points, in draws half")
    for one in matches:
        share = format_share(one["score"], one["score_interval"])
        lines.append(f"    {one['opponent']:{width}}{share}")
    lines.append("  (95 % intervals in brackets; uct:N is tree search with N random games a move)")
    return lines


def show_game(player: AlphaZeroPlayer, seed: int) -> State:
    """Prints a game against rollout search from the beginning; returns the last position."""
    opponent = make_player(ANCHORS[-1], player.game, seed=seed + 1)
    states = player.game.batch(1)
    sides = (player, opponent)
    moves: list[str] = []
    player.reset(seed)
    while not states.is_terminal()[0]:
        actions = sides[int(states.to_play()[0])].act(states)
        moves.append(states[0].action_text(int(actions[0])))
        states.apply(actions)
    result = float(states.returns()[0, 0])
    ending = "wins" if result > 0 else "loses" if result < 0 else "draws"
    print(
        f"A game: it moves first against {opponent.name} and {ending}.\n"
        f"  {' '.join(moves)}\n\n"
        f"{painted(str(states[0]))}\n"
    )
    return states[0]


def draw(path: Path, run: RunDir, state: State) -> None:
    """Writes a PNG file: a position, and what the evaluations of the run have found over games."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    board, curves = figure.subplots(1, 2, width_ratios=(2, 3))
    board.imshow(render_state(state, "rgb_array"))
    board.set_axis_off()
    board.set_title(f"The end of a game against {ANCHORS[-1]}")
    rows = list(read_rows(run.path))
    for key, label in CURVES.items():
        points = [(row["selfplay/games"], 100 * row[key]) for row in rows if key in row]
        if points:
            curves.plot(*zip(*points, strict=True), "o-", label=label)
    curves.set_title("How it learned, per cent")
    curves.set_xlabel("games of self-play")
    curves.set_xlim(left=0)
    curves.xaxis.set_major_formatter("{x:,.0f}")
    curves.grid(alpha=0.25)
    if curves.lines:
        low, high = curves.get_ylim()[0], 101.0
        curves.set_ylim(low - 0.45 * (high - low), high)  # room for the legend
        curves.legend(frameon=False, loc="lower right")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    replace_file(path.absolute(), data.getvalue())

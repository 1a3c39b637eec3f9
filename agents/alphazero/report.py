"""What a self-play run tells: its plan, and at the end its strength and a game to look at.

Training's own evaluations are small; the end of a run looks at all solved positions and plays more
games, so that the intervals are narrow enough to say something. Everything here can be had again by
`playout eval RUN`.
"""

from __future__ import annotations

import json
from typing import Any

from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.evaluation import ANCHORS
from playout.agents.alphazero.player import AlphaZeroPlayer, load
from playout.agents.networks.resnet import parse_size
from playout.agents.players.load import make_player
from playout.agents.players.terminal import painted
from playout.agents.rating.arena import play_match
from playout.agents.rating.evaluation import judge_positions, score_of
from playout.agents.runs.directory import RunDir
from playout.agents.runs.reporting import table, write_json

SIMULATIONS = 128
GAMES = 200  # against each anchor


def print_plan(run: RunDir, config: AlphaZeroConfig) -> None:
    """What the dial was turned into."""
    play = config.selfplay
    length = f"{config.updates} updates" if config.updates is not None else f"{config.games} games"
    network = shape(config.size)
    if config.first_size:
        share = f"{config.grow_at:.0%}"
        network = f"{shape(config.first_size)} for {share} of the run, then {network}"
    print(
        f"{config.game}: network of {network}, {config.infer_dtype} in self-play; {length}\n"
        f"  each update: {config.evaluations:,} evaluations in {play.num_groups} x "
        f"{play.num_trees} games at {play.num_simulations} simulations a move, "
        f"then {config.steps} gradient steps of {config.learner.batch_size} positions\n"
        f"  run directory: {run.path}"
    )


def shape(size: str) -> str:
    """A size for people."""
    channels, blocks, _ = parse_size(size)
    return f"{channels} channels x {blocks} blocks"


def measure(player: AlphaZeroPlayer, *, games: int, seed: int = 0) -> dict[str, Any]:
    """Shares on all solved positions and results against the anchors, with intervals."""
    report: dict[str, Any] = {"positions": judge_positions(player), "matches": []}
    for number, spec in enumerate(ANCHORS):
        opponent = make_player(spec, player.game, seed=seed)
        match = play_match(player, opponent, player.game, games, seed=seed + number)
        report["matches"].append(score_of(match, player.name))
    return report


def print_summary(run: RunDir) -> None:
    """Rates the run's player, prints the table, shows a game and says how to go on."""
    player = load(run).with_simulations(SIMULATIONS)
    if player.game.num_players == 2:
        report = measure(player, games=GAMES, seed=run.seed)
        write_json(run.path / "strength.json", report)
        table(
            f"What {run.path} has learned",
            ("measured on", "by", "result", "95 % interval"),
            rows(report),
        )
        print()
        show_game(player, run.seed)
    last = last_metrics(run)
    if "selfplay/games" in last:
        print(f"Learned from {last['selfplay/games']:,.0f} games of self-play.")
    print(
        f"\nPlay against it:   playout play {run.path}\n"
        f"Ask it:            playout analyse {run.path}\n"
        f"Match it:          playout match {run.path} uct:1000\n"
        f"See how it went:   tensorboard --logdir {run.path / 'tb'}"
    )


def rows(report: dict[str, Any]) -> list[list[str]]:
    """The report as lines of a table."""
    found = []
    for one in report["positions"]:
        low, high = one["value_preserving_interval"]
        what = f"{one['positions']:,} solved positions: keeps the outcome"
        found.append(
            [what, one["by"], f"{one['value_preserving']:.1%}", f"{low:.1%} to {high:.1%}"]
        )
    for one in report["matches"]:
        low, high = one["score_interval"]
        what = f"{one['games']} games against {one['opponent']}: points"
        by = f"search of {SIMULATIONS}"
        found.append([what, by, f"{one['score']:.1%}", f"{low:.1%} to {high:.1%}"])
    return found


def show_game(player: AlphaZeroPlayer, seed: int) -> None:
    """One game against rollout search from the beginning: the moves, and the last board."""
    opponent = make_player(ANCHORS[-1], player.game, seed=seed + 1)
    states = player.game.batch(1)
    seats = (player, opponent)
    moves: list[str] = []
    player.reset(seed)
    while not states.is_terminal()[0]:
        actions = seats[int(states.to_play()[0])].act(states)
        moves.append(states[0].action_text(int(actions[0])))
        states.apply(actions)
    result = float(states.returns()[0, 0])
    ending = "wins" if result > 0 else "loses" if result < 0 else "draws"
    print(
        f"A game against {opponent.name}, which moves second: {' '.join(moves)}. "
        f"{player.name} {ending}.\n"
    )
    print(painted(str(states[0])) + "\n")


def last_metrics(run: RunDir) -> dict[str, float]:
    """The metrics of the last update."""
    last: dict[str, float] = {}
    path = run.path / "metrics.jsonl"
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            last = json.loads(line)
    return last

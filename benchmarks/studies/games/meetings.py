"""Matches among what a study has trained, kept as they are played, and what they say in Elo.

An entrant is a run, a snapshot of a network, or a player by its text. Every pair plays the same
openings, each with both colours; pairs go side by side, a process a core, and a pair that was
played before (by the same networks) is not played again. Networks see each position through one
symmetry of the board: the mean of eight takes eight times as long. Left out: training, and the
model of ratings (agents/rating).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import playout
import torch
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.player import AlphaZeroPlayer
from playout.agents.alphazero.proofs import Symmetry
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.registry import restore_network
from playout.agents.players.load import load_player, make_player
from playout.agents.players.player import Player, close
from playout.agents.rating.arena import play_match
from playout.agents.rating.ratings import Ratings, Result
from playout.agents.runs.checkpoint import tensor_file
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.cases import beside
from safetensors import safe_open

SEED = 0  # of openings: the same for every pair
SNAPSHOT = ".safetensors"
SEEN: Symmetry = "random"


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who takes part.

    Attributes:
        name: In results.
        source: A run's folder, a snapshot's file, or a player's text ("uct:1000").
        simulations: A move of networks; 0 is the bare policy.
    """

    name: str
    source: str
    simulations: int = 0

    def identity(self) -> str:
        """What tells it from another of its name: a result is kept for it."""
        path = Path(self.source)
        if path.suffix == SNAPSHOT:
            return f"{hashlib.sha256(path.read_bytes()).hexdigest()}:{self.simulations}:{SEEN}"
        if RunDir.is_run(path):
            return f"{RunDir.open(path).id}:{self.simulations}:{SEEN}"
        return self.source

    def player(self, game: str) -> Player:
        """The player; its checkpoint is the newest one."""
        path = Path(self.source)
        player: Any
        if path.suffix == SNAPSHOT:
            known = playout.game(game)
            net = NetworkEvaluator(read_network(path))
            player = AlphaZeroPlayer(
                known, net, simulations=self.simulations, proofs=False, symmetry=SEEN
            )
        elif RunDir.is_run(path):
            player = load_player(path, which="latest", simulations=self.simulations, game=game)
            if isinstance(player, AlphaZeroPlayer):
                player = player.with_words({"symmetry": SEEN})
        else:
            player = make_player(self.source, game, seed=SEED)
        player.name = self.name
        return player  # type: ignore[no-any-return]


def write_network(net: BoardNetwork, path: Path, **about: float) -> None:
    """Writes a snapshot: the weights as safetensors, with what they are weights of, and numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {"network": json.dumps(net.config.to_dict()), "about": json.dumps(about)}
    weights = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
    tensor_file.save(path, weights, text)


def about(path: Path) -> dict[str, float]:
    """The numbers that a snapshot was written with."""
    with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
        return dict(json.loads(file.metadata()["about"]))


def read_network(path: Path) -> BoardNetwork:
    """The network of a snapshot."""
    with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
        net = restore_network(json.loads(file.metadata()["network"]), path)
        net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return net.eval()


def play(game: str, a: Entrant, b: Entrant, games: int) -> list[Result]:
    """The match of a pair, wherever this process is."""
    torch.set_num_threads(1)
    players = [one.player(game) for one in (a, b)]
    try:
        return play_match(players[0], players[1], game, games, seed=SEED).results()
    finally:
        for player in players:
            close(player)


def meet(
    game: str, pairs: Sequence[tuple[Entrant, Entrant]], games: int, kept: Path
) -> list[Result]:
    """Lets pairs meet.

    Args:
        game: What they play.
        pairs: Who meets whom.
        games: Of a pair, rounded up to an even number.
        kept: A file of JSON lines that results are taken from and added to.

    Returns:
        For `rate`, in the order of the pairs.
    """
    keys = [json.dumps([game, a.identity(), b.identity(), games]) for a, b in pairs]
    known: dict[str, list[list[int]]] = {}
    if kept.is_file():
        for line in kept.read_text(encoding="utf-8").splitlines():
            known.update([json.loads(line)])
    missing = [at for at, key in enumerate(keys) if key not in known]
    if missing:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(kept, "a", encoding="utf-8") as file,
            beside(play, [(game, *pairs[at], games) for at in missing], spare=0) as found,
        ):
            at_of = dict(zip(found, missing, strict=True))
            for done, future in enumerate(as_completed(found), 1):
                at = at_of[future]
                a, b = pairs[at]
                # By who moves first, a or b: names are this study's, networks are anybody's.
                counts = [[r.first == a.name, r.wins, r.draws, r.losses] for r in future.result()]
                known[keys[at]] = counts
                file.write(json.dumps([keys[at], counts]) + "\n")
                file.flush()
                print(f"match {done} of {len(missing)}: {a.name}, {b.name}", flush=True)
    results = []
    for (a, b), key in zip(pairs, keys, strict=True):
        for a_first, *counts in known[key]:
            first, second = (a.name, b.name) if a_first else (b.name, a.name)
            results.append(Result(first, second, *counts))
    return results


def difference(
    ratings: Ratings, some: Sequence[str], others: Sequence[str]
) -> tuple[float, float, float]:
    """How much stronger some players are than others on average, in Elo, with its 95 % interval.

    Both are of the same seeds, in one order: runs of a seed begin with the same weights and are
    strong or weak together. The interval is that of the games, or, where seeds differ by more than
    games explain, Student's of the differences seed by seed.
    """
    elo = {rating.name: rating.elo for rating in ratings.players}
    mine, theirs = ([elo[name] for name in names] for names in (some, others))
    weights = np.zeros(len(ratings.names))
    for names, sign in ((some, 1.0), (others, -1.0)):
        for name in names:
            weights[ratings.names.index(name)] += sign / len(names)
    half = 1.959964 * math.sqrt(max(float(weights @ ratings.covariance @ weights), 0.0))
    if len(mine) > 1:
        from scipy import stats

        apart = np.std(np.subtract(mine, theirs), ddof=1) / math.sqrt(len(mine))
        half = max(half, float(stats.t.ppf(0.975, len(mine) - 1) * apart))
    mean = float(np.mean(mine) - np.mean(theirs))
    return mean, mean - half, mean + half

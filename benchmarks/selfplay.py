"""Self-play beside mctx with pgx: strictly the same work, and each side as it is shipped.

Connect Four, Gumbel search, 256 games at once, the same residual network (64 channels, 4 blocks,
fresh weights). *Strictly the same*: whole games from the beginning, every simulation asks the
network once (no cache, no reuse of trees, no proofs, no answers from rules), float32 on both sides,
and once more with bfloat16 on both. *Shipped against shipped*: ours with everything it has, theirs
as its examples run it. Evaluations a move stand beside each. The share of the network's own speed
that self-play keeps is measured at the batches that self-play asks for. Turn about, one process.

    python -m playout.benchmarks.selfplay [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import playout
import torch
from playout.agents.alphazero.budget.presets import configure
from playout.agents.alphazero.config import selfplay_search
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.proofs import TacticalEvaluator
from playout.agents.alphazero.selfplay import SelfPlay
from playout.agents.networks.boards.resnet import build, parse_size
from playout.agents.runs.devices import resolve_dtype
from playout.benchmarks.tools.measuring import Rate, measure, peer, write_result
from playout.cores import usable_cores
from playout.mcts.evaluators import Evaluator, LeafBatch
from playout.mcts.search import SearchConfig

COMMAND = "python -m playout.benchmarks.selfplay"
GAMES = 256
SETTLE = 24  # moves a game before anything counts: at first all games are equally old
PEER = "mctx with pgx"
TYPES = ("float32", "bfloat16")


class Asked(Evaluator):
    """A network that notes how many positions each question has."""

    def __init__(self, network: NetworkEvaluator) -> None:
        self.network = network
        self.sizes: list[int] = []

    def evaluate(self, leaves: LeafBatch) -> tuple[Any, Any]:
        """The network's answers."""
        self.sizes.append(leaves.size)
        return self.network.evaluate(leaves)


@dataclass
class Ours:
    """Our loop, warmed up; a call of `run` plays until a number of questions has been answered."""

    loop: SelfPlay
    networks: list[NetworkEvaluator]
    asked: list[Asked]
    evaluations: int
    counts: list[Any] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for _ in range(SETTLE):
            self.loop.play(1)
        for one in self.asked:
            one.sizes.clear()
        self.loop.play(self.evaluations)
        self.sizes = [list(one.sizes) for one in self.asked]  # of a typical round

    def run(self) -> float:
        """Games that ended."""
        before = sum(network.num_evaluations for network in self.networks)
        _, counts = self.loop.play(self.evaluations)
        self.counts.append(counts)
        self.answered.append(sum(network.num_evaluations for network in self.networks) - before)
        return float(counts.games)

    def evaluations_a_move(self) -> float:
        """Over all calls so far."""
        return sum(self.answered) / max(1, sum(one.moves for one in self.counts))


def ours(size: str, simulations: int, evaluations: int, *, dtype: str, strict: bool) -> Ours:
    """Our loop as it is shipped, or doing strictly what the peer does."""
    game, groups = playout.game("connect_four"), min(2, usable_cores())
    preset = configure(game, size=size, simulations=simulations, updates=1).selfplay
    config = replace(preset, num_groups=groups, num_trees=GAMES // groups)
    net = build(game.obs_shape, game.num_actions, size=size)
    networks = [NetworkEvaluator(net, device="cpu", dtype=dtype) for _ in range(groups)]
    asked = [Asked(network) for network in networks]
    evaluators: list[Evaluator] = list(asked)
    if strict:
        config = replace(
            config, opening_share=0.0, stop_proven=False, explore_plies=42, proof_nodes=0
        )
        search = SearchConfig(num_simulations=simulations, prove=False, reuse_subtree=False)
    else:
        evaluators = [TacticalEvaluator(one, game) for one in asked]
        search = selfplay_search(simulations, cache_size=1 << 17)
    return Ours(SelfPlay(game, evaluators, config, search=search), networks, asked, evaluations)


def network_alone(networks: list[NetworkEvaluator], sizes: list[list[int]]) -> Callable[[], float]:
    """Every thread evaluates batches of its own; returns how many positions were answered."""
    batch = GAMES // len(networks)
    states = playout.game("connect_four").batch(batch)
    states.random_plies(np.arange(batch, dtype=np.int32) % 20, 1)
    obs = states.observe()
    pool = ThreadPoolExecutor(len(networks), initializer=torch.set_num_threads, initargs=(1,))

    def work(network: NetworkEvaluator, asked: list[int]) -> None:
        for size in asked:
            network.evaluate_obs(obs[:size])

    def run() -> float:
        list(pool.map(work, networks, sizes))
        return float(sum(map(sum, sizes)))

    return run


def main() -> None:
    """Measures and writes benchmarks/results/selfplay.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", default="base")
    parser.add_argument("--simulations", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    evaluations, repeats = (12_000, 2) if args.quick else (60_000, 5)
    best = resolve_dtype("auto", torch.device("cpu"))
    loops = {
        f"strictly the same, {dtype}": ours(
            args.size, args.simulations, evaluations, dtype=dtype, strict=True
        )
        for dtype in TYPES
    }
    loops["as shipped"] = ours(args.size, args.simulations, evaluations, dtype=best, strict=False)
    candidates = {f"playout, {name}": loop.run for name, loop in loops.items()}
    kept = loops[f"strictly the same, {best}"]
    candidates["network alone"] = network_alone(kept.networks, kept.sizes)
    shipped = loops["as shipped"]
    candidates["network alone, batches as shipped"] = network_alone(shipped.networks, shipped.sizes)
    channels, blocks, *_ = parse_size(args.size)
    if peer("mctx", "mctx") is not None and peer("pgx", "pgx") is not None:
        from playout.benchmarks.tools.peers.mctx_selfplay import selfplay

        moves = 2 if args.quick else 8
        for dtype in TYPES:
            candidates[f"{PEER}, {dtype}"] = selfplay(
                GAMES, args.simulations, channels, blocks, moves, settle=SETTLE, dtype=dtype
            )
    warmup = 1
    rates = measure(candidates, repeats=repeats, warmup=warmup)
    what = f"{args.size} network, {args.simulations} simulations"
    claims = self_play_claims(loops, rates, what, args.simulations)
    claims += network_claims(loops, rates, what, warmup, best)
    for name, rate in rates.items():
        print(f"{name}: {rate}")
    for row in claims:
        print(f"  {row['claim']} ({row.get('note', '')}): {row.get('ratio', row['ours'])}")
    settings = {
        "size": args.size,
        "simulations": args.simulations,
        "games at once": f"{len(kept.networks)} x {GAMES // len(kept.networks)} (playout), {GAMES}",
        "threads": len(kept.networks),
        "repeats": repeats,
        "command": COMMAND,
    }
    if not args.quick:
        payload = {"rates": rates, "claims": claims}
        print(f"wrote {write_result('selfplay', payload, settings=settings)}")


def self_play_claims(
    loops: dict[str, Ours], rates: dict[str, Rate], what: str, simulations: int
) -> list[dict[str, Any]]:
    """Games a second: the same work in both types, and each side's best as shipped."""
    theirs = {dtype: rates[f"{PEER}, {dtype}"] for dtype in TYPES if f"{PEER}, {dtype}" in rates}
    fastest = max(theirs, key=lambda dtype: theirs[dtype].median, default="")
    claims = []
    for name, loop in loops.items():
        dtype = name.rpartition(", ")[2]
        other, target = (dtype, 4) if dtype in TYPES else (fastest, 10)
        asks = f"{loop.evaluations_a_move():.1f} evaluations a move"
        row: dict[str, Any] = {
            "claim": f"Connect Four self-play, {name}, {what}",
            "note": f"ours {asks}, theirs {simulations + 1}",
            "ours": rates[f"playout, {name}"],
            "unit": "games/s",
            "command": COMMAND,
        }
        if other in theirs:
            ratio = rates[f"playout, {name}"].over(theirs[other])
            row |= {
                "peer": theirs[other],
                "peer_name": f"{PEER}, {other}",
                "ratio": ratio,
                "target": target,
            }
        claims.append(row)
    if theirs:
        # What both would choose: the type in which each is faster.
        mine = max(TYPES, key=lambda d: rates[f"playout, strictly the same, {d}"].median)
        rate = rates[f"playout, strictly the same, {mine}"]
        claims.insert(
            0,
            {
                "claim": f"Connect Four self-play, strictly the same, best type, {what}",
                "note": f"ours {mine}, theirs {fastest}; one evaluation a simulation on both sides",
                "ours": rate,
                "unit": "games/s",
                "peer": theirs[fastest],
                "peer_name": f"{PEER}, {fastest}",
                "ratio": rate.over(theirs[fastest]),
                "target": 4,
                "command": COMMAND,
            },
        )
    return claims


def network_claims(
    loops: dict[str, Ours], rates: dict[str, Rate], what: str, warmup: int, best: str
) -> list[dict[str, Any]]:
    """The share of the network's own speed that self-play keeps, with its own batches."""
    claims = []
    for name, alone, batches in (
        (f"strictly the same, {best}", "network alone", "full batches"),
        ("as shipped", "network alone, batches as shipped", "its own batches"),
    ):
        loop, games = loops[name], rates[f"playout, {name}"].runs
        counts, answered = loop.counts[warmup:], loop.answered[warmup:]
        seconds = [one.games / rate for one, rate in zip(counts, games, strict=True)]
        evaluations = Rate.of([n / s for n, s in zip(answered, seconds, strict=True)])
        share = evaluations.over(rates[alone])
        claims.append(
            {
                "claim": f"speed of the network alone that self-play keeps, {batches}, {what}",
                "note": name,
                "ours": {kind: 100 * getattr(share, kind) for kind in ("median", "min", "max")},
                "unit": "%",
                "target": 80,
                "command": COMMAND,
            }
        )
    return claims


if __name__ == "__main__":
    main()

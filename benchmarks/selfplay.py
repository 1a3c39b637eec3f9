"""Self-play beside mctx with pgx, and beside the network alone.

Connect Four, Gumbel search, 256 games at once, the same residual network (64 channels, 4 blocks,
fresh weights) on both sides. Three numbers: games a second of the whole loop, moves a second, and
the share of the network's own speed that self-play keeps, at the batch sizes that self-play asks
for (and at a full batch a group, which it would ask for without cache and lookahead). Ours counts
everything it has: games share answers in a cache, trees are kept between moves, what is proven is
not searched again. Rates are taken turn about in one process.

    python -m playout.benchmarks.selfplay [--quick]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import playout
import torch
from playout.agents.alphazero.budget.presets import configure
from playout.agents.alphazero.config import (
    LEAF_PROOF_NODES,
    SelfPlayConfig,
    selfplay_search,
)
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.proofs import TacticalEvaluator
from playout.agents.alphazero.selfplay import SelfPlay
from playout.agents.networks.boards.resnet import build, parse_size
from playout.benchmarks.tools.measuring import Rate, measure, peer, write_result
from playout.mcts.evaluators import LeafBatch
from playout.mcts.search import SearchConfig

COMMAND = "python -m playout.benchmarks.selfplay"
GAMES = 256
SETTLE = 24  # moves a game before anything counts: at first all games are equally old


class Asked:
    """A network that notes how many positions each question has."""

    def __init__(self, network: NetworkEvaluator) -> None:
        self.network = network
        self.sizes: list[int] = []

    def evaluate(self, leaves: LeafBatch) -> tuple[Any, Any]:
        """The network's answers."""
        self.sizes.append(leaves.size)
        return self.network.evaluate(leaves)


class Ours:
    """Our loop; `run` plays until the network has answered a number of questions."""

    def __init__(self, size: str, config: SelfPlayConfig, evaluations: int) -> None:
        game, simulations = playout.game("connect_four"), config.num_simulations
        net = build(game.obs_shape, game.num_actions, size=size)
        self.networks = [NetworkEvaluator(net, device="cpu") for _ in range(config.num_groups)]
        nodes = LEAF_PROOF_NODES if config.proof_nodes else 0
        self.asked = [Asked(network) for network in self.networks]
        seeing = [TacticalEvaluator(one, game, proof_nodes=nodes) for one in self.asked]
        search = SearchConfig(num_simulations=simulations)  # as mctx searches, or as shipped
        if config.proof_nodes:
            search = selfplay_search(simulations)
        search = replace(search, cache_size=1 << 17)
        self.loop = SelfPlay(game, seeing, config, search=search)
        self.evaluations = evaluations
        for _ in range(SETTLE):
            self.loop.play(1)
        for one in self.asked:
            one.sizes.clear()
        self.loop.play(evaluations)
        self.sizes = [list(one.sizes) for one in self.asked]  # of a typical round
        self.counts: list[Any] = []
        self.answered: list[int] = []

    def run(self) -> float:
        """Games that ended."""
        before = sum(network.num_evaluations for network in self.networks)
        _, counts = self.loop.play(self.evaluations)
        self.counts.append(counts)
        self.answered.append(sum(network.num_evaluations for network in self.networks) - before)
        return float(counts.games)


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
    groups = min(2, os.cpu_count() or 1)
    evaluations, repeats = (12_000, 2) if args.quick else (60_000, 5)
    shipped_run = configure(
        playout.game("connect_four"), size=args.size, simulations=args.simulations, updates=1
    )
    as_shipped = replace(shipped_run.selfplay, num_groups=groups, num_trees=GAMES // groups)
    from_start = replace(
        as_shipped,
        opening_share=0.0,
        stop_proven=False,
        explore_plies=42,
        proof_nodes=0,  # the network answers all but what ends within two plies
    )
    same = Ours(args.size, from_start, evaluations)
    shipped = Ours(args.size, as_shipped, evaluations)
    full = [[GAMES // groups] * (evaluations // GAMES)] * groups
    candidates: dict[str, Callable[[], float]] = {
        "playout, games/s": same.run,
        "playout as shipped, games/s": shipped.run,
        "network alone, evaluations/s": network_alone(same.networks, same.sizes),
        "network alone in full batches, evaluations/s": network_alone(same.networks, full),
    }
    channels, blocks, _ = parse_size(args.size)
    peers = peer("mctx", "mctx") is not None and peer("pgx", "pgx") is not None
    if peers:
        from playout.benchmarks.peers.mctx_selfplay import selfplay

        moves = 2 if args.quick else 8
        candidates["mctx + pgx, games/s"] = selfplay(
            GAMES, args.simulations, channels, blocks, moves, settle=SETTLE
        )
    warmup = 1
    rates = measure(candidates, repeats=repeats, warmup=warmup)
    results: dict[str, Any] = {"rates": rates, **loop_numbers(same, rates, warmup)}
    if peers:
        ours, theirs = rates["playout, games/s"], rates["mctx + pgx, games/s"]
        results["ratio, games/s"] = ours.over(theirs)
        results["ratio as shipped, games/s"] = rates["playout as shipped, games/s"].over(theirs)
    results["claims"] = claims_of(results, f"{args.size} network, {args.simulations} simulations")
    for name, value in results.items():
        print(f"{name}: {value}")
    for name, rate in rates.items():
        print(f"  {name}: {rate}")
    settings = {
        "size": args.size,
        "simulations": args.simulations,
        "games at once": f"{groups} x {GAMES // groups} (playout), {GAMES} (mctx + pgx)",
        "threads": groups,
        "dtype": same.networks[0].dtype,
        "repeats": repeats,
        "command": COMMAND,
    }
    print(f"wrote {write_result('selfplay', results, settings=settings)}")


def loop_numbers(ours: Ours, rates: dict[str, Rate], warmup: int) -> dict[str, Any]:
    """What the loop did a second besides games, and the share of the network's own speed."""
    counts = ours.counts[warmup:]
    games = rates["playout, games/s"].runs
    seconds = [one.games / rate for one, rate in zip(counts, games, strict=True)]
    evaluations = Rate.of([n / s for n, s in zip(ours.answered[warmup:], seconds, strict=True)])
    moves = Rate.of([one.moves / s for one, s in zip(counts, seconds, strict=True)])
    simulations = Rate.of([one.simulations / s for one, s in zip(counts, seconds, strict=True)])
    return {
        "moves/s": moves,
        "simulations/s": simulations,
        "evaluations/s in self-play": evaluations,
        "share of the network alone": evaluations.over(rates["network alone, evaluations/s"]),
        "share of the network in full batches": evaluations.over(
            rates["network alone in full batches, evaluations/s"]
        ),
        "positions a question": float(np.mean([size for sizes in ours.sizes for size in sizes])),
        "moves a game": sum(one.moves for one in counts) / max(1, sum(one.games for one in counts)),
        "evaluations a move": sum(ours.answered[warmup:]) / sum(one.moves for one in counts),
    }


def claims_of(results: dict[str, Any], what: str) -> list[dict[str, Any]]:
    """The numbers that were promised, as report.py reads them."""
    rates, common = results["rates"], {"command": COMMAND}
    claims: list[dict[str, Any]] = []
    for kind, sizes, target in (
        ("share of the network alone", "its own batches", {"target": 80}),
        ("share of the network in full batches", "full batches", {}),
    ):
        claim: dict[str, Any] = {
            "claim": f"speed of the network alone that self-play keeps, {sizes}, {what}",
            "ours": {n: 100 * getattr(results[kind], n) for n in ("median", "min", "max")},
            "unit": "%",
        }
        claims.append(claim | target | common)
    for kind, ratio, note in (
        ("playout, games/s", "ratio, games/s", "same settings"),
        ("playout as shipped, games/s", "ratio as shipped, games/s", "as shipped"),
    ):
        claim = {
            "claim": f"Connect Four self-play, {what}",
            "note": note,
            "ours": rates[kind],
            "unit": "games/s",
        }
        if ratio in results:
            theirs = {"peer": rates["mctx + pgx, games/s"], "peer_name": "mctx with pgx"}
            claim |= theirs | {"ratio": results[ratio], "target": 5}
        claims.append(claim | common)
    return claims


if __name__ == "__main__":
    main()

"""Games alone: random playouts, boards stepped in a batch, and perft, beside OpenSpiel and pgx.

One thread. Peers are optional: run it with a Python that has open-spiel and pgx to get the ratios.
Run it: python -m playout.benchmarks.games [--quick]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import playout
from playout.benchmarks.tools.measuring import measure, peer, write_result
from playout.testing import count_positions, perft

GAMES = ("connect_four", "tic_tac_toe")
BOARDS = 1024
# Distinct Connect Four positions after 10 and 11 plies (OEIS A212693); the tests go to 9.
DEEPER = {10: 1_662_623, 11: 4_568_683}


def mean_length(name: str, num_games: int = 200_000) -> float:
    """Mean plies of a random game."""
    states = playout.game(name).batch(num_games)
    return float(states.random_plies(states.game.max_plies, 1).mean())


def our_playouts(name: str, count: int) -> Callable[[], float]:
    """Random games from the first state, `count` of them."""
    states = playout.game(name).batch(1)

    def run() -> float:
        states.playouts(1, count=count)
        return count

    return run


def openspiel_playouts(name: str, count: int) -> Callable[[], float] | None:
    """The same by OpenSpiel's C++ rollout evaluator.

    It cannot be called from Python alone, so a search of two simulations asks it: half the games
    start at the root, half one move later.
    """
    pyspiel = peer("pyspiel", "open-spiel")
    if pyspiel is None:
        return None
    game = pyspiel.load_game(name)
    evaluator = pyspiel.RandomRolloutEvaluator(count // 2, 1)
    select = pyspiel.ChildSelectionPolicy.UCT
    bot = pyspiel.MCTSBot(game, evaluator, 2.0, 2, 100, False, 1, False, select)
    state = game.new_initial_state()

    def run() -> float:
        bot.mcts_search(state)
        return count

    return run


def our_steps(name: str, plies: int) -> Callable[[], float]:
    """Random legal moves on a batch of boards, observation and mask written after each."""
    game = playout.game(name)
    states = game.batch(BOARDS)
    obs = np.empty((BOARDS, *game.obs_shape), np.float32)
    mask = np.empty((BOARDS, game.num_actions), np.uint8)
    rewards, ended = np.empty(BOARDS, np.float32), np.empty(BOARDS, np.uint8)

    def run() -> float:
        for ply in range(plies):
            actions = states.random_actions(1, counter=ply)
            states.step(
                actions, reset_finished=True, obs=obs, mask=mask, rewards=rewards, ended=ended
            )
        return plies * BOARDS

    return run


def pgx_steps(name: str, plies: int) -> Callable[[], float] | None:
    """The same in pgx, compiled as one loop."""
    pgx = peer("pgx", "pgx")
    jax = peer("jax", "jax")
    if pgx is None or jax is None:
        return None
    env = pgx.make(name)
    step = jax.vmap(pgx.experimental.auto_reset(env.step, env.init))

    def ply(carry: Any, _: Any) -> Any:
        state, key = carry
        key, draw, reset = jax.random.split(key, 3)
        logits = jax.numpy.log(state.legal_action_mask.astype(jax.numpy.float32))
        actions = jax.random.categorical(draw, logits)
        state = step(state, actions, jax.random.split(reset, BOARDS))
        return (state, key), state.observation.sum()

    @jax.jit
    def loop(state: Any, key: Any) -> Any:
        return jax.lax.scan(ply, (state, key), None, length=plies)

    first = jax.jit(jax.vmap(env.init))(jax.random.split(jax.random.key(0), BOARDS))

    def run() -> float:
        jax.block_until_ready(loop(first, jax.random.key(1)))
        return plies * BOARDS

    return run


def perft_rate(name: str, depth: int) -> Callable[[], float]:
    """Leaves of the tree of move sequences."""
    game = playout.game(name)
    return lambda: perft(game, depth)


def check_deeper() -> dict[str, Any]:
    """Counts positions beyond what the tests count, and stops if a published number is missed."""
    start = time.perf_counter()
    counts = count_positions("connect_four", max(DEEPER))
    seconds = time.perf_counter() - start
    for ply, expected in DEEPER.items():
        if counts[ply] != expected:
            raise SystemExit(f"{counts[ply]} positions after {ply} plies, published are {expected}")
    print(f"distinct positions to ply {max(DEEPER)} as published, {seconds:.1f} s")
    return {"positions_by_ply": counts, "seconds": seconds}


def compare(name: str, subject: str, found: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Measures candidates that are there and prints one line each."""
    rates = measure({key: run for key, run in found.items() if run is not None}, repeats=repeats)
    result: dict[str, Any] = {"rates": rates}
    for key, rate in rates.items():
        print(f"{name:14} {subject:16} {key:10} {rate}")
        if key != "playout":
            ratio = rates["playout"].over(rate)
            result[f"ratio_to_{key}"] = ratio
            print(f"{'':14} {'':16} playout / {key}: {ratio}")
    return result


def main() -> None:
    """Measures, prints, and writes benchmarks/results/games.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter runs, no result file")
    quick = parser.parse_args().quick
    scale, repeats = (10, 3) if quick else (1, 7)
    started = time.perf_counter()
    results: dict[str, Any] = {}
    for name in GAMES:
        playouts = {
            "playout": our_playouts(name, 4_000_000 // scale),
            "openspiel": openspiel_playouts(name, 100_000 // scale),
        }
        steps = {"playout": our_steps(name, 2000 // scale), "pgx": pgx_steps(name, 200 // scale)}
        depth = 9 if name == "connect_four" else 8
        counts = {"playout": perft_rate(name, depth)}
        results[name] = {
            "mean_length": mean_length(name),
            "random_games_per_s": compare(name, "random games/s", playouts, repeats),
            "batched_moves_per_s": compare(name, "batched moves/s", steps, repeats),
            f"perft_{depth}_leaves_per_s": compare(name, f"perft {depth}/s", counts, repeats),
        }
    if not quick:
        results["connect_four"]["counts"] = check_deeper()
    print(f"{time.perf_counter() - started:.0f} s")
    if not quick:
        settings = {"threads": 1, "boards": BOARDS, "repeats": repeats}
        print(write_result("games", results, settings=settings))


if __name__ == "__main__":
    main()

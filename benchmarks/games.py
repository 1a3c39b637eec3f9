"""Games alone: random playouts, environments stepped with masks, boards stepped in a batch.

One thread; beside OpenSpiel (C++ rollouts, and its states stepped from Python) and pgx. Random
playouts in a plain loop are the floor under a search with rollouts. Peers are optional: run it with
a Python that has open-spiel, and jax with pgx, to get the ratios.

    python -m playout.benchmarks.games [GAME ...] [--quick]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import playout
from playout.benchmarks.envs import our_boards
from playout.benchmarks.tools.measuring import add_games, is_named, measure, peer, write_result

COMMAND = "python -m playout.benchmarks.games"
BOARDS = 1024
WANTED = 20  # times OpenSpiel's environment steps


class Case(NamedTuple):
    """A game and what it is called elsewhere; "" where it is not there, or not the same game.

    pgx's chess takes minutes to compile.
    """

    title: str
    name: str
    openspiel: str
    pgx: str


CASES = (
    Case("Connect Four", "connect_four", "connect_four", "connect_four"),
    Case("Tic-tac-toe", "tic_tac_toe", "tic_tac_toe", "tic_tac_toe"),
    Case("Othello", "othello", "othello", "othello"),
    Case("Breakthrough", "breakthrough", "breakthrough", ""),
    Case("Hex 11x11", "hex(size=11)", "hex(board_size=11)", "hex"),
    Case("Go 9x9", "go(size=9)", "go(board_size=9)", "go_9x9"),
    Case("Chess", "chess", "chess", ""),
    Case("Backgammon", "backgammon", "backgammon", "backgammon"),
    Case("2048", "game_2048", "2048", "2048"),
    Case("Leduc poker", "leduc_poker", "leduc_poker", ""),
)


def mean_length(name: str, num_games: int) -> float:
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
    """The same by OpenSpiel's C++ rollout evaluator; None where chance has the first word.

    It cannot be called from Python alone, so a search of two simulations asks it: half the games
    start at the root, half one move later. A search whose root is a roll of dice crashes there.
    """
    pyspiel = peer("pyspiel", "open-spiel")
    if pyspiel is None:
        return None
    game = pyspiel.load_game(name)
    state = game.new_initial_state()
    if state.is_chance_node():
        return None
    evaluator = pyspiel.RandomRolloutEvaluator(count // 2, 1)
    select = pyspiel.ChildSelectionPolicy.UCT
    bot = pyspiel.MCTSBot(game, evaluator, 2.0, 2, 100, False, 1, False, select)

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


def openspiel_steps(name: str, count: int) -> Callable[[], float] | None:
    """Random games of OpenSpiel's states, observation and mask read before each move.

    Moves are drawn before; what is counted are decisions.
    """
    pyspiel = peer("pyspiel", "open-spiel")
    if pyspiel is None:
        return None
    game, rng, games = pyspiel.load_game(name), np.random.default_rng(0), list[list[int]]()
    decisions = 0
    for _ in range(count):
        state, actions = game.new_initial_state(), list[int]()
        while not state.is_terminal():
            actions.append(int(rng.choice(state.legal_actions())))
            decisions += not state.is_chance_node()
            state.apply_action(actions[-1])
        games.append(actions)

    def run() -> float:
        for actions in games:
            state = game.new_initial_state()
            for action in actions:
                if not state.is_chance_node():
                    state.observation_tensor()
                    state.legal_actions_mask()
                state.apply_action(action)
        return decisions

    return run


def compare(name: str, subject: str, found: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Measures candidates that are there and prints one line each."""
    rates = measure({key: run for key, run in found.items() if run is not None}, repeats=repeats)
    result: dict[str, Any] = {"rates": rates}
    for key, rate in rates.items():
        print(f"{name:14} {subject:20} {key:10} {rate}", flush=True)
        if key != "playout":
            ratio = rates["playout"].over(rate)
            result[f"ratio_to_{key}"] = ratio
            print(f"{'':14} {'':20} playout / {key}: {ratio}", flush=True)
    return result


def measured(case: Case, scale: float, repeats: int) -> dict[str, Any]:
    """All rates of a game."""
    length = mean_length(case.name, 2000)
    theirs = max(2, int(60_000 * scale / length))
    steps = max(5, int(scale * np.clip(4e5 / playout.game(case.name).num_actions, 50, 1000)))
    return {
        "mean_length": length,
        "random games/s": compare(
            case.title,
            "random games/s",
            {
                "playout": our_playouts(case.name, int(30e6 * scale / length)),
                "openspiel": openspiel_playouts(case.openspiel, theirs),
            },
            repeats,
        ),
        "environment steps/s": compare(
            case.title,
            "environment steps/s",
            {
                "playout": our_boards(BOARDS, steps, case.name),
                "openspiel": openspiel_steps(case.openspiel, max(2, theirs // 4)),
            },
            repeats,
        ),
        "batched moves/s": compare(
            case.title,
            "batched moves/s",
            {
                "playout": our_steps(case.name, steps),
                "pgx": pgx_steps(case.pgx, max(5, int(100 * scale))) if case.pgx else None,
            },
            repeats,
        ),
    }


def claims_of(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rates as benchmarks/tools/report.py reads them."""
    words = {
        "random games/s": ("random games in a plain loop", "games/s", "openspiel", "OpenSpiel C++"),
        "environment steps/s": (
            f"{BOARDS:,} boards stepped by Gymnasium's vector interface, with observations and "
            "masks",
            "steps/s",
            "openspiel",
            "OpenSpiel's states in Python",
        ),
        "batched moves/s": ("boards moved in one array", "moves/s", "pgx", "pgx, compiled"),
    }
    claims = []
    for title, found in results.items():
        for subject, (text, unit, key, name) in words.items():
            rates = found[subject]["rates"]
            claim = {
                "claim": f"{title}: {text}",
                "ours": rates["playout"],
                "unit": unit,
                "command": COMMAND,
            }
            if key in rates:
                ratio = found[subject][f"ratio_to_{key}"]
                claim |= {"peer": rates[key], "peer_name": name, "ratio": ratio}
                claim |= {"target": WANTED} if subject == "environment steps/s" else {}
            claims.append(claim)
    return claims


def main() -> None:
    """Measures, prints, and writes benchmarks/results/games.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_games(parser, [case.name for case in CASES])
    parser.add_argument("--quick", action="store_true", help="shorter runs, no result file")
    arguments = parser.parse_args()
    scale, repeats = (0.05, 3) if arguments.quick else (1, 7)
    started = time.perf_counter()
    results = {
        case.title: measured(case, scale, repeats)
        for case in CASES
        if is_named(case.name, arguments.names)
    }
    print(f"{time.perf_counter() - started:.0f} s")
    if not arguments.quick and not arguments.names:
        settings = {"threads": 1, "boards": BOARDS, "repeats": repeats}
        payload = {**results, "claims": claims_of(results)}
        print(write_result("games", payload, settings=settings))


if __name__ == "__main__":
    main()

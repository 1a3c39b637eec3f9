"""Environments against EnvPool, Gymnasium and PettingZoo, turn about on the same machine.

Steps include observations, and masks for board games; actions are drawn beforehand for everybody.
Arrays are copied for the caller, as users have it (`copy=True`), except where a row says so. Ours
steps on one thread; EnvPool runs with the threads that were the fastest here, tried before each
row. Peers are optional: run it with a Python that has envpool and pettingzoo[classic].
Run it: python -m playout.benchmarks.envs [--quick]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import playout
from playout.benchmarks.tools.floor import arithmetic
from playout.benchmarks.tools.measuring import Rate, measure, peer, write_result
from playout.cores import usable_cores
from playout.envs.farama.game_vector import GameVectorEnv

COMMAND = "python -m playout.benchmarks.envs"
SIZES = (1, 64, 1024, 4096)
TASKS = ("Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1")
# CartPole, a step of one environment: bytes that must move (state in and out, observation, action,
# reward, flags, counters), operations and divisions in double precision, counted in the sources.
CARTPOLE_BYTES = 2 * 32 + 16 + 8 + 8 + 8 + 3
CARTPOLE_OPERATIONS, CARTPOLE_DIVISIONS = 46, 4

Work = Callable[[], float]
Actions = list[npt.NDArray[Any]]


def draw(space: gym.Space[Any], count: int, kind: type) -> Actions:
    """Sixteen batches of random actions [count] or [count, 1]."""
    rng = np.random.default_rng(0)
    if isinstance(space, gym.spaces.Discrete):
        return [rng.integers(0, space.n, count).astype(kind) for _ in range(16)]
    assert isinstance(space, gym.spaces.Box)
    low, high = space.low[0], space.high[0]
    return [rng.uniform(low, high, (count, 1)).astype(np.float32) for _ in range(16)]


def stepping(step: Callable[[Any], Any], actions: Actions, count: int, steps: int) -> Work:
    """Runs `steps` steps of `count` environments."""

    def run() -> float:
        for i in range(steps):
            step(actions[i % len(actions)])
        return count * steps

    return run


def ours(env_id: str, count: int, steps: int, **options: Any) -> Work:
    """Our vector environment as gym.make_vec gives it."""
    envs = gym.make_vec(f"playout/{env_id}", num_envs=count, **options)
    envs.reset(seed=0)
    actions = draw(envs.single_action_space, count, np.int64)
    return stepping(envs.step, actions, count, steps)


def gymnasiums(env_id: str, count: int, steps: int) -> Work:
    """Gymnasium's own: its vector entry point, or environments one after another."""
    envs = gym.make_vec(env_id, num_envs=count)
    envs.reset(seed=0)
    return stepping(envs.step, draw(envs.single_action_space, count, np.int64), count, steps)


def fastest(make: Callable[[int], Work]) -> tuple[int, Work]:
    """The number of threads with which a short run was the fastest, and such a run anew."""
    candidates = {threads: make(threads) for threads in range(1, usable_cores() + 1)}
    rates = measure({str(n): work for n, work in candidates.items()}, repeats=3)
    best = max(candidates, key=lambda n: rates[str(n)].median)
    return best, candidates[best]


def envpools(env_id: str, count: int, steps: int) -> tuple[str, Work] | None:
    """EnvPool, and how it ran."""
    envpool = peer("envpool", "envpool")
    if envpool is None:
        return None

    def make(threads: int) -> Work:
        envs = envpool.make_gymnasium(env_id, num_envs=count, num_threads=threads, seed=0)
        envs.reset()
        return stepping(envs.step, draw(envs.action_space, count, np.int32), count, steps)

    threads, work = fastest(make)
    return f"EnvPool, {threads} thread{'s'[threads == 1 :]}", work


def our_boards(count: int, steps: int, game: str = "connect_four") -> Work:
    """A game, random legal moves drawn in a first run and repeated."""
    envs = GameVectorEnv(game, count)
    rng = np.random.default_rng(0)
    envs.reset(seed=0)
    actions = []
    for _ in range(steps):
        masks = envs.action_masks()
        actions.append(np.where(masks, rng.random(masks.shape), -1).argmax(axis=1).astype(np.int32))
        envs.step(actions[-1])

    def run() -> float:
        envs.reset(seed=0)
        for action in actions:
            envs.step(action)
        return count * steps

    return run


def envpools_boards(count: int, steps: int, runs: int) -> tuple[str, Work] | None:
    """EnvPool's Connect Four in the same way; each of the `runs` has a new pool made before."""
    envpool = peer("envpool", "envpool")
    if envpool is None:
        return None

    def make(threads: int) -> Any:
        envs = envpool.make_gymnasium("ConnectFour-v1", num_envs=count, num_threads=threads, seed=0)
        return envs, envs.reset()[1]["legal_action_mask"]

    rng = np.random.default_rng(0)
    envs, masks = make(1)
    actions = []
    for _ in range(steps):
        actions.append(np.where(masks, rng.random(masks.shape), -1).argmax(axis=1).astype(np.int32))
        masks = envs.step(actions[-1])[4]["legal_action_mask"]

    def repeated(threads: int) -> Work:
        waiting = [make(threads)[0] for _ in range(runs + 4)]  # the search for threads plays, too

        def run() -> float:
            envs = waiting.pop()
            for action in actions:
                envs.step(action)
            return count * steps

        return run

    threads, work = fastest(repeated)
    return f"EnvPool, {threads} thread{'s'[threads == 1 :]}", work


def single(make: Callable[[], gym.Env[Any, Any]], steps: int) -> Work:
    """One environment through `reset` and `step`, as a script does it, wrappers included."""
    env = make()
    env.reset(seed=0)
    assert isinstance(env.action_space, gym.spaces.Discrete | gym.spaces.Box)
    actions = draw(env.action_space, 1, np.int64)
    plain = isinstance(env.action_space, gym.spaces.Discrete)
    drawn = [int(one[0]) if plain else one[0] for one in actions]

    def run() -> float:
        for i in range(steps):
            _, _, terminated, truncated, _ = env.step(drawn[i % len(drawn)])
            if terminated or truncated:
                env.reset()
        return steps

    return run


def python_vector(env_id: str, count: int, steps: int) -> Work:
    """Gymnasium's own Python environment, stepped by what our PPO steps such environments with."""
    from playout.agents.vector.factory import make_environments

    envs = make_environments(env_id, count, native=False, processes=0)
    envs.reset(0)
    space = gym.make(env_id).action_space
    return stepping(envs.step, draw(space, count, np.int64), count, steps)


def sync_vector(env_id: str, count: int, steps: int) -> Work:
    """The same environments in Gymnasium's SyncVectorEnv."""
    envs = gym.make_vec(env_id, num_envs=count, vectorization_mode="sync")
    envs.reset(seed=0)
    return stepping(envs.step, draw(envs.single_action_space, count, np.int64), count, steps)


def random_games(count: int) -> list[list[int]]:
    """Games of random legal moves, as lists of columns."""
    rng = np.random.default_rng(0)
    games = []
    for _ in range(count):
        state, moves = playout.game("connect_four").initial_state(), []
        while not state.is_terminal:
            moves.append(int(rng.choice(state.legal_actions)))
            state = state.apply(moves[-1])
        games.append(moves)
    return games


def aec_games(make: Callable[[], Any], games: list[list[int]]) -> Work:
    """Plays games through PettingZoo's loop: look, then move."""
    env = make()

    def run() -> float:
        for moves in games:
            env.reset()
            for move in moves:
                env.last()
                env.step(move)
        return sum(map(len, games))

    return run


def bandwidth(size: int) -> float:
    """Bytes a second, read and written, of copying within `size` bytes."""
    source, target = np.ones(size // 16), np.empty(size // 16)

    def run() -> float:
        for _ in range(2000):
            np.copyto(target, source)
        return 2000 * 2 * source.nbytes

    return measure({"copy": run}, repeats=7)["copy"].max


def cartpole_floor(count: int) -> dict[str, float]:
    """Steps a second that memory and arithmetic alone would allow on this core."""
    operations, divisions = arithmetic()
    seconds = CARTPOLE_OPERATIONS / operations + CARTPOLE_DIVISIONS / divisions
    return {
        "bytes": CARTPOLE_BYTES,
        "operations": CARTPOLE_OPERATIONS,
        "divisions": CARTPOLE_DIVISIONS,
        "memory_steps_per_s": bandwidth(CARTPOLE_BYTES * count) / CARTPOLE_BYTES,
        "arithmetic_steps_per_s": 1 / seconds,
    }


def duel(name: str, mine: Work, other: Work | None, repeats: int) -> tuple[Rate, Rate | None]:
    """Rates of both, measured by turns."""
    candidates = {"playout": mine} | ({"peer": other} if other is not None else {})
    rates = measure(candidates, repeats=repeats)
    shown = f"{name}: {rates['playout']} steps/s"
    if other is not None:
        shown += f", peer {rates['peer']}, ratio {rates['playout'].over(rates['peer'])}"
    print(shown, flush=True)
    return rates["playout"], rates.get("peer")


def claim(
    text: str, rates: tuple[Rate, Rate | None], name: str, target: float, **more: Any
) -> dict[str, Any]:
    """One row of the report."""
    mine, other = rates
    row = {"claim": text, "ours": mine, "unit": "steps/s", "target": target, "command": COMMAND}
    if other is not None:
        row |= {"peer": other, "peer_name": name, "ratio": mine.over(other)}
    return row | more


def control_claims(effort: int, repeats: int) -> list[dict[str, Any]]:
    """CartPole against Gymnasium's vector entry point, all else against EnvPool."""
    claims = []
    for count in (1024, 4096):
        mine = ours("CartPole-v1", count, effort * 8_000_000 // count)
        other = gymnasiums("CartPole-v1", count, effort * 1_000_000 // count)
        rates = duel(f"CartPole-v1, {count} environments", mine, other, repeats)
        claims.append(claim(f"CartPole-v1, {count:,} environments", rates, "Gymnasium", 5))
    mine = ours("CartPole-v1", 1024, effort * 8_000, copy=False)
    other = gymnasiums("CartPole-v1", 1024, effort * 1_000)
    rates = duel("CartPole-v1, 1024 environments, arrays reused", mine, other, repeats)
    text = "CartPole-v1, 1,024 environments, copy=False: the caller gets the same arrays each step"
    claims.append(claim(text, rates, "Gymnasium", 5))
    for env_id in TASKS:
        mine = ours(env_id, 1024, effort * 2000)
        name, theirs = envpools(env_id, 1024, effort * 50) or ("EnvPool", None)
        rates = duel(f"{env_id}, 1024 environments", mine, theirs, repeats)
        claims.append(claim(f"{env_id}, 1,024 environments", rates, name, 25))
    for env_id in ("CartPole-v1", *TASKS):
        mine = ours(env_id, 1, effort * 50_000)
        name, theirs = envpools(env_id, 1, effort * 1000) or ("EnvPool", None)
        rates = duel(f"{env_id}, vector of 1", mine, theirs, repeats)
        text = f"{env_id}, a vector environment of 1: cost of a call"
        claims.append(claim(text, rates, name, 1))
        mine = single(lambda env_id=env_id: gym.make(f"playout/{env_id}"), effort * 5000)  # type: ignore[misc]
        other = single(lambda env_id=env_id: gym.make(env_id), effort * 2000)  # type: ignore[misc]
        rates = duel(f"{env_id}, gym.make", mine, other, repeats)
        text = f"{env_id}, one environment from gym.make, with Gymnasium's wrappers"
        claims.append(claim(text, rates, "Gymnasium", 1))
    for count in (8, 64):
        mine = python_vector("CartPole-v1", count, effort * 8000 // count)
        other = sync_vector("CartPole-v1", count, effort * 8000 // count)
        rates = duel(f"Gymnasium's CartPole in Python, {count}", mine, other, repeats)
        text = f"CartPole-v1 of Gymnasium in Python, {count} stepped by each side's vector code"
        claims.append(claim(text, rates, "Gymnasium SyncVectorEnv", 1))
    return claims


def board_claims(effort: int, repeats: int) -> list[dict[str, Any]]:
    """Connect Four boards against EnvPool and PettingZoo."""
    claims = []
    steps = effort * 200
    name, theirs = envpools_boards(1024, 40, repeats + 1) or ("EnvPool", None)
    rates = duel("Connect Four, 1024 boards", our_boards(1024, steps), theirs, repeats)
    text = "Connect Four, 1,024 boards, with masks, beside the fastest vector environment"
    claims.append(claim(text, rates, name, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classic = peer("pettingzoo.classic.connect_four_v3", "pettingzoo[classic]")
    games = random_games(effort * 40)
    from playout.envs.farama.game_aec import env, raw_env

    for text, target, mine, other in (
        ("Connect Four, 1,024 boards, with masks", 500, None, "env"),
        ("Connect Four, 1,024 boards, with masks", 500, None, "raw_env"),
        ("Connect Four in PettingZoo's loop", 1, env, "env"),
        ("Connect Four in PettingZoo's loop, raw", 1, raw_env, "raw_env"),
    ):
        work = our_boards(1024, steps) if mine is None else aec_games(mine, games)
        against = None if classic is None else aec_games(getattr(classic, other), games)
        rates = duel(f"{text} against PettingZoo's {other}", work, against, repeats)
        claims.append(claim(text, rates, f"PettingZoo, {other}", target))
    return claims


def main() -> None:
    """Measures everything and writes benchmarks/results/envs.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, three rounds")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="gymnasium")
    effort, repeats = (1, 3) if arguments.quick else (5, 9)
    floor = cartpole_floor(1024)
    print(f"CartPole floor at 1,024: {floor}", flush=True)
    claims = control_claims(effort, repeats) + board_claims(effort, repeats)
    names = ("CartPole-v1", *TASKS, "SignalMaze-v0")
    rates = {
        env_id: {
            str(count): measure(
                {"playout": ours(env_id, count, max(20, effort * 400_000 // (count + 7)))},
                repeats=repeats,
            )["playout"]
            for count in SIZES
        }
        for env_id in names
    }
    best = {
        "claim": "CartPole-v1, 1,024 environments, goal",
        "ours": claims[0]["ours"],
        "unit": "steps/s",
        "target": 200e6,
        "command": COMMAND,
        "note": f"arithmetic alone would allow {floor['arithmetic_steps_per_s'] / 1e6:.0f} M, "
        f"memory {floor['memory_steps_per_s'] / 1e6:.0f} M",
    }
    payload = {"claims": [best, *claims], "floor": floor, "steps_per_s": rates}
    settings = {"repeats": repeats, "threads of ours": 1, "copy": True}
    if not arguments.quick:
        print(write_result("envs", payload, settings=settings))


if __name__ == "__main__":
    main()

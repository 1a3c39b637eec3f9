"""What the recipe learns from: records of random games, and positions with good moves.

A record is what the text environment shows one side of a random game: prompt, move, prompt, move.
Demonstrations are positions with a move that keeps what they are worth, by the solver, or by search
where a game has none. Positions of the side that is judged on are in neither. All is written to
files once, so that stages read it as they read anybody's data.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playout.agents.players.analysis import rollout_judge
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts.exact.tactics import winning_actions
from playout.rlhf.environments.game_prompt import GamePrompt
from playout.rlhf.environments.game_tasks import (
    Referee,
    SolvedPositions,
    find_positions,
    is_test,
    plies_of,
    write_positions,
)

__all__ = ["GameData", "write_data"]

_SEARCH = 200  # simulations that stand for a solver
_ROUND = 64  # random games played side by side
_EARLY = 0.03  # share of positions from the first plies, which take longest to solve
_OPEN = 0.25  # share of positions where nothing is at stake, or a win is at hand


@dataclass(frozen=True, slots=True)
class GameData:
    """How much there is to be of everything."""

    records: int
    """Pairs of prompt and move in records of random games."""
    demonstrations: int
    """Positions with good moves."""
    copies: int
    """Images and moves of each such position."""
    tasks: int
    """Further positions, for learning from reward."""


def write_data(
    folder: Path,
    game: NativeGame,
    prompt: GamePrompt,
    size: GameData,
    *,
    seed: int,
    threads: int,
    talks: bool = False,
    tell: Callable[[str], None] = print,
) -> None:
    """Write records.jsonl, demonstrations.jsonl and tasks.jsonl, those that are not there yet.

    Args:
        folder: Where to.
        game: The game.
        prompt: How positions are shown.
        size: How much.
        seed: Of all randomness.
        threads: For the solver.
        talks: The policy is a chat model: demonstrations are conversations.
        tell: Says what is done.
    """
    folder.mkdir(exist_ok=True)
    if size.records and not (folder / "records.jsonl").exists():
        texts = _records(game, prompt, size.records, seed)
        _write(folder / "records.jsonl", [{"text": text} for text in texts])
        tell(f"{len(texts)} moves of random games")
    if (folder / "tasks.jsonl").exists():
        return
    try:
        referee: Referee | None = Referee(game, threads=threads)
    except ConfigError:
        referee = None
    learned = _positions(game, size.demonstrations + size.tasks, referee, seed)
    # A share of each part goes to either, in an order that mixes the parts.
    order = np.random.default_rng([seed, 41]).permutation(len(learned))
    count = round(len(learned) * size.demonstrations / (size.demonstrations + size.tasks))
    kinds = order[:count], order[count:]
    taught, tasks = (_rows(learned, kind) for kind in kinds)
    rows = list(_demonstrations(taught, prompt, size.copies, seed, talks))
    _write(folder / "demonstrations.jsonl", rows)
    how = "solved" if referee is not None else f"searched with {_SEARCH} simulations"
    tell(f"{len(taught)} positions {how}, {len(rows)} demonstrations; {len(tasks)} tasks")
    write_positions(folder / "tasks.jsonl", tasks)


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    replace_file(path, text.encode())


def _rows(positions: SolvedPositions, rows: np.ndarray) -> SolvedPositions:
    outcomes = positions.outcomes
    return SolvedPositions(positions.states[rows], None if outcomes is None else outcomes[rows])


def _records(game: NativeGame, prompt: GamePrompt, count: int, seed: int) -> list[str]:
    """Prompt and move of one side of random games after another, about `count` in all."""
    found: list[str] = []
    number = 0
    first = plies_of(game, solved=True)[0]
    while len(found) < count:
        states = game.batch(_ROUND)
        told: list[list[str]] = [[] for _ in range(_ROUND)]
        for ply in range(game.max_plies):
            states.resolve_chance(seed + number, counter=ply << 8)
            actions = states.random_actions(seed + number, counter=(ply << 8) + 77)
            going = actions >= 0
            if not going.any():
                break
            judged = is_test(states) & (ply >= first)
            turn = states.to_play()
            for row in np.flatnonzero(going & ~judged).tolist():
                if game.num_players == 1 or turn[row] == row % game.num_players:
                    state = states[row]
                    told[row].append(prompt(state) + prompt.answer(state, int(actions[row])))
            states.apply(actions, where=going)
        found += [text for one in told for text in one]
        number += 1
    return found[:count]


def _positions(game: NativeGame, count: int, referee: Referee | None, seed: int) -> SolvedPositions:
    """Positions to learn from: mostly those that can be gone wrong in, and some of all others."""
    least, most = plies_of(game, solved=referee is not None)
    parts = []
    early, open_ = int(_EARLY * count), int(_OPEN * count)
    middle = least + (most - least) // 4
    plans = [(count - early - open_, (middle, most), True), (open_, (middle, most), False)]
    plans.append((early, (least, max(least, middle)), True))
    for number, (wanted, plies, matters) in enumerate(plans):
        if wanted:
            parts.append(
                find_positions(
                    game,
                    wanted,
                    "train",
                    plies=plies,
                    seed=seed + number,
                    referee=referee,
                    matters=matters,
                )
            )
    states = StateBatch.concatenate([part.states for part in parts])
    outcomes = [part.outcomes for part in parts if part.outcomes is not None]
    return SolvedPositions(states, np.concatenate(outcomes) if outcomes else None)


def _demonstrations(
    positions: SolvedPositions, prompt: GamePrompt, copies: int, seed: int, talks: bool
) -> Iterator[dict[str, object]]:
    """Images of positions with good moves, each copy drawn anew."""
    game = prompt.game
    good = _good_moves(positions, seed)
    moved = game.symmetry_actions()
    for copy in range(copies):
        rng = np.random.default_rng([seed, 43, copy])
        kinds = rng.integers(0, game.num_symmetries, len(positions))
        images = positions.states.symmetry(kinds)
        chosen = np.where(good, rng.random(good.shape), -1.0).argmax(axis=1)
        for row in rng.permutation(len(positions)).tolist():
            state, action = images[row], int(moved[kinds[row], chosen[row]])
            if talks:
                messages = [
                    {"role": "user", "content": prompt(state)},
                    {"role": "assistant", "content": state.action_text(action)},
                ]
                yield {"messages": messages}
            else:
                yield {"prompt": prompt(state), "response": prompt.answer(state, action)}


def _good_moves(positions: SolvedPositions, seed: int) -> np.ndarray:
    """Bool [N, A]: moves that win at once where there are any, else those that keep the outcome."""
    states, outcomes = positions.states, positions.outcomes
    if outcomes is None:
        judge = rollout_judge(states.game, _SEARCH, seed=seed)
        good = np.zeros((len(states), states.game.num_actions), np.bool_)
        for start in range(0, len(states), 256):
            found = judge(states[start : start + 256])
            good[np.arange(start, start + len(found.action)), found.action] = True
        return good
    good = outcomes == outcomes.max(axis=1, keepdims=True)
    wins = winning_actions(states)
    at_once = wins.any(axis=1)
    good[at_once] = wins[at_once]
    return good

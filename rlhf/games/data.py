"""What the recipe learns from: records of random games, and positions with good moves.

A record is what the text environment shows one side of a random game: prompt, move, prompt, move,
with what one ply shows before the move where answers are to tell it.
Demonstrations are demonstrations.py's. Positions of the side that is judged on are in neither. All
is written to files once, so that stages read it as they read anybody's data.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.rlhf.environments.game_prompt import GamePrompt
from playout.rlhf.environments.game_sides import is_test
from playout.rlhf.environments.game_tasks import (
    Referee,
    SolvedPositions,
    find_positions,
    plies_of,
    write_positions,
)
from playout.rlhf.games.demonstrations import SEARCH, Demonstrator, told_outcomes
from playout.rlhf.generation.tokenizer import Tokenizer

__all__ = ["TOKENIZER", "GameData", "write_data"]

TOKENIZER = "tokenizer"
"""The folder of the tokenizer beside the data."""
_ROUND = 64  # random games played side by side
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
    games: int
    """Whole games, for the later turns of episodes."""
    early: float = 0.03
    """Share of positions from the first plies, which take longest to solve."""
    sights: int = 0
    """Positions with what two plies show."""


def write_data(
    folder: Path,
    game: NativeGame,
    prompt: GamePrompt,
    size: GameData,
    *,
    seed: int,
    threads: int,
    vocabulary: int = 0,
    tell: Callable[[str], None] = print,
) -> None:
    """Write records, tactics, demonstrations and tasks, those that are not there yet.

    With records comes a tokenizer for them, in which each mark of an answer is a token of its own:
    marks that merge would tell several outcomes at one place.

    Args:
        folder: Where to.
        game: The game.
        prompt: How positions are shown.
        size: How much.
        seed: Of all randomness.
        threads: For the solver.
        vocabulary: Tokens of the tokenizer; 0 makes none.
        tell: Says what is done.
    """
    folder.mkdir(exist_ok=True)
    try:
        referee: Referee | None = Referee(game, threads=threads)
    except ConfigError:
        referee = None
    shown = Demonstrator(prompt, referee, seed)
    if size.records and not (folder / "records.jsonl").exists():
        told = _records(shown, size.records, seed)
        if vocabulary:
            plain = [asked + move for asked, _, move in told]
            Tokenizer.train(plain, vocab_size=vocabulary).save(folder / TOKENIZER)
        _write(folder / "records.jsonl", [{"text": "".join(parts)} for parts in told])
        tell(f"{len(told)} moves of random games")
    if (folder / "tasks.jsonl").exists():
        return
    if size.sights and shown.tells:
        seen = find_positions(game, size.sights, "train", seed=seed + 7)
        _write(folder / "tactics.jsonl", list(shown.in_turns(shown.sights(seen.states))))
        tell(f"{len(seen)} positions as two plies show them")
    learned = _positions(game, size, referee, seed)
    # A share of each part goes to either, in an order that mixes the parts.
    order = np.random.default_rng([seed, 41]).permutation(len(learned))
    count = round(len(learned) * size.demonstrations / (size.demonstrations + size.tasks))
    kinds = order[:count], order[count:]
    taught, tasks = (_rows(learned, kind) for kind in kinds)
    single = shown.in_turns(shown.single(taught, size.copies))
    rows = [*single, *(played := shown.games(size.games))]
    _write(folder / "demonstrations.jsonl", rows)
    how = "solved" if referee is not None else f"searched with {SEARCH} simulations"
    tell(
        f"{len(taught)} positions {how}, {len(rows)} demonstrations, {len(played)} of them with "
        f"turns of whole games; {len(tasks)} tasks"
    )
    write_positions(folder / "tasks.jsonl", tasks)


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    replace_file(path, text.encode())


def _rows(positions: SolvedPositions, rows: np.ndarray) -> SolvedPositions:
    outcomes = positions.outcomes
    return SolvedPositions(positions.states[rows], None if outcomes is None else outcomes[rows])


def _records(shown: Demonstrator, count: int, seed: int) -> list[tuple[str, str, str]]:
    """Prompt, what is told, and move of one side of random games after another, `count` in all."""
    found: list[tuple[str, str, str]] = []
    number = 0
    prompt, game = shown.prompt, shown.prompt.game
    first = plies_of(game, solved=shown.referee is not None)[0]
    seats = np.arange(_ROUND) % game.num_players
    while len(found) < count:
        states = game.batch(_ROUND)
        told: list[list[tuple[str, str, str]]] = [[] for _ in range(_ROUND)]
        for ply in range(game.max_plies):
            states.resolve_chance(seed + number, counter=ply << 8)
            actions = states.random_actions(seed + number, counter=(ply << 8) + 77)
            going = actions >= 0
            if not going.any():
                break
            judged = is_test(states) & (ply >= first)
            asked = going & ~judged & (states.to_play() == seats)
            seen = shown.first_sight(states, asked)
            for row in np.flatnonzero(asked).tolist():
                state = states[row]
                thought = "" if seen is None else told_outcomes(seen[row])
                told[row].append((prompt(state), thought, prompt.answer(state, int(actions[row]))))
            states.apply(actions, where=going)
        found += [record for one in told for record in one]
        number += 1
    return found[:count]


def _positions(
    game: NativeGame, size: GameData, referee: Referee | None, seed: int
) -> SolvedPositions:
    """Positions to learn from: mostly those that can be gone wrong in, and some of all others."""
    least, most = plies_of(game, solved=referee is not None)
    parts = []
    count = size.demonstrations + size.tasks
    early, open_ = int(size.early * count), int(_OPEN * count)
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

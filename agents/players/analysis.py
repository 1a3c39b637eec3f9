"""What a search, a bare network or the solver says about positions: `analyse(states, judge)`.

A judge turns positions into an `Analysis`: a policy, a value for the side to move, visits and the
expected line. What evaluates is a network (with search or without), random rollouts or the exact
solver. All are without noise and give the same answer every time. Reading positions and showing
answers is the command's part.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from playout.agents.players.hidden import search_drawn
from playout.agents.players.patience import told_wait
from playout.envs.core.game import CHANCE, NativeGame, State
from playout.envs.core.state_batch import StateBatch
from playout.mcts.evaluators import Evaluator, LeafBatch, RolloutEvaluator
from playout.mcts.exact.solver import ILLEGAL, ILLEGAL_OUTCOME, Solver
from playout.mcts.search import Search, SearchConfig

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

BATCH = 256  # positions searched side by side
_BARE_ROLLOUTS = 100  # random games that stand for a value where there is no search


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is thought of B positions.

    Attributes:
        action: int32 [B], the move to play.
        policy: float32 [B, A], how good the moves look; adds up to 1, 0 where illegal.
        value: float32 [B], the expected result for the side to move, -1 to 1.
        visits: int32 [B, A], simulations through each move; 0 without search.
        q: float32 [B, A], the expected result after each move; NaN where nothing is known.
        pv: The expected line of each position, its action first.
    """

    action: Ints
    policy: Floats
    value: Floats
    visits: Ints
    q: Floats
    pv: list[list[int]]


class Judge(Protocol):
    """Says what it thinks of positions."""

    def __call__(self, states: StateBatch) -> Analysis:
        """Analyses B positions, none of them over; a row's answer depends on that row alone."""
        ...


def analyse(
    states: StateBatch, judge: Judge, *others: Judge, on_done: Callable[[int], None] | None = None
) -> Analysis:
    """Asks a judge about any number of positions.

    Args:
        states: B positions that are not over.
        judge: `search_judge(...)`, `policy_judge(...)`, `rollout_judge(...)` or
            `solver_judge(...)`.
        others: More judges that answer alike: each works on a thread of its own.
        on_done: Told how many are done.
    """
    over = np.flatnonzero(states.is_terminal())
    if over.size:
        raise ValueError(f"position {over[0] + 1}: the game is over, there is nothing to analyse")
    dice = np.flatnonzero(states.to_play() == CHANCE)
    if dice.size:
        raise ValueError(f"position {dice[0] + 1}: chance decides there, nobody is to move")
    starts = range(0, len(states), BATCH)
    parts: list[Analysis] = []
    free = queue.SimpleQueue[Judge]()
    for one in (judge, *others):
        free.put(one)

    def work(start: int) -> Analysis:
        one = free.get()
        try:
            return one(states[start : start + BATCH])
        finally:
            free.put(one)

    pool = ThreadPoolExecutor(1 + len(others))
    try:
        for part in pool.map(work, starts) if others else map(work, starts):
            parts.append(part)
            if on_done is not None:
                on_done(min(len(parts) * BATCH, len(states)))
    finally:  # after an error or a signal nobody waits for the positions that are left
        pool.shutdown(wait=False, cancel_futures=True)
    if not parts:
        shape = (0, states.game.num_actions)
        empty = np.zeros(0, np.int32)
        return Analysis(
            empty,
            np.zeros(shape, np.float32),
            np.zeros(0, np.float32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.float32),
            [],
        )
    return Analysis(
        action=np.concatenate([part.action for part in parts]),
        policy=np.concatenate([part.policy for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        visits=np.concatenate([part.visits for part in parts]),
        q=np.concatenate([part.q for part in parts]),
        pv=[line for part in parts for line in part.pv],
    )


def search_judge(
    game: NativeGame, config: SearchConfig, evaluator: Evaluator | None, *, seed: int = 0
) -> Judge:
    """Tree search; without an evaluator the algorithm must be "uct".

    Every chunk begins at tree 0 with new random streams, so that a position's answer depends on its
    row alone.
    """

    def judge(states: StateBatch) -> Analysis:
        if game.hidden:
            found = search_drawn(states, config, evaluator, seed=seed)
        else:
            search = Search(game, config, num_trees=len(states), seed=seed)
            found = search.run(states, evaluator, noise=False)
        policy = np.asarray(found.action_weights, np.float32)
        q = np.where(found.visits > 0, found.q, np.nan).astype(np.float32)
        if game.hidden:  # a line of one drawn state tells nothing of the others
            lines = [[action] for action in found.action.tolist()]
        else:
            lines = [found.pv(row) for row in range(len(states))]
        return Analysis(found.action, policy, found.value, found.visits, q, lines)

    return judge


def policy_judge(evaluator: Evaluator) -> Judge:
    """The evaluator's own opinion, without search."""

    def judge(states: StateBatch) -> Analysis:
        leaves = LeafBatch.of(states)
        mask = leaves.mask
        logits, values = evaluator.evaluate(leaves)
        if values.ndim == 2:
            values = values[np.arange(len(states)), leaves.to_play]
        logits = np.where(mask > 0, logits, -np.inf)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        policy = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        action = logits.argmax(axis=1).astype(np.int32)
        visits = np.zeros(mask.shape, np.int32)
        q = np.full(mask.shape, np.nan, np.float32)
        return Analysis(
            action, policy, values.astype(np.float32), visits, q, [[a] for a in action.tolist()]
        )

    return judge


def rollout_judge(game: NativeGame, simulations: int, *, seed: int = 0, threads: int = 1) -> Judge:
    """UCT with random rollouts; without simulations, equal moves and the mean of random games."""
    if simulations == 0:
        return policy_judge(RolloutEvaluator(seed=seed, num_rollouts=_BARE_ROLLOUTS))
    return search_judge(
        game,
        SearchConfig(algorithm="uct", num_simulations=simulations, threads=threads),
        None,
        seed=seed,
    )


def solver_judge(solver: Solver) -> Judge:
    """Exact: an even policy over the moves that keep the outcome, the action best by score."""

    def judge(states: StateBatch) -> Analysis:
        with told_wait("the solver", states):
            scores = solver.scores_of(states)
            lines = _best_lines(states, scores, solver)
        signs = np.where(scores == ILLEGAL, ILLEGAL_OUTCOME, np.sign(scores))
        value = signs.max(axis=1)
        keeps = signs == value[:, None]
        policy = (keeps / keeps.sum(axis=1, keepdims=True)).astype(np.float32)
        action = np.array([line[0] for line in lines], np.int32)
        q = np.where(scores == ILLEGAL, np.nan, signs).astype(np.float32)
        return Analysis(
            action, policy, value.astype(np.float32), np.zeros(scores.shape, np.int32), q, lines
        )

    return judge


def _best_lines(
    states: StateBatch, scores: npt.NDArray[np.int32], solver: Solver
) -> list[list[int]]:
    """Best play to the end of the game; the solver remembers, so later moves cost little."""
    lines: list[list[int]] = [[] for _ in range(len(states))]
    rows, batch = np.arange(len(states)), states.copy()
    while len(rows):
        best = scores.argmax(axis=1).astype(np.int32)
        for row, action in zip(rows.tolist(), best.tolist(), strict=True):
            lines[row].append(action)
        batch.apply(best)
        going = np.flatnonzero(~batch.is_terminal())
        rows, batch = rows[going], batch[going]
        if len(rows):
            scores = solver.scores_of(batch)
    return lines


def move_texts(state: State, actions: Sequence[int]) -> list[str]:
    """Actions played one after the other from a position, as the game writes them."""
    texts = []
    for action in actions:
        texts.append(state.action_text(action))
        state = state.apply(action)
    return texts


def answer(
    moves: str, state: State, found: Analysis, row: int, *, by_move: bool = False
) -> dict[str, Any]:
    """One position's object of `playout analyse --json`, whose help says what is in it.

    Args:
        moves: how the position was named.
        state: the position ...
        found: ... and what was found, in this row.
        row: see found.
        by_move: policy and visits by legal move, the likeliest first, instead of by action.
    """
    policy: Any = [round(float(weight), 6) for weight in found.policy[row]]
    visits: Any = found.visits[row].tolist()
    if by_move:
        legal = sorted(state.legal_actions, key=lambda action: (-policy[action], -visits[action]))
        texts = [state.action_text(action) for action in legal]
        policy = {text: policy[action] for text, action in zip(texts, legal, strict=True)}
        visits = {text: visits[action] for text, action in zip(texts, legal, strict=True)}
    return {
        "moves": moves,
        "action": int(found.action[row]),
        "move": state.action_text(int(found.action[row])),
        "policy": policy,
        "value": round(float(found.value[row]), 6),
        "visits": visits,
        "pv": found.pv[row],
        "pv_moves": move_texts(state, found.pv[row]),
    }

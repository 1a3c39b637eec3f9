"""What a move is worth, verified: legal, keeps the outcome, regret, a search's value, the result.

Rewards of one legal move lie in [0, 1] (of the result in [-1, 1]) and may be added up; what is no
legal move is the environment's affair. The exact ones ask the solver, `search` asks UCT or a run,
`result` plays the game out. Answers are kept, since all moves of a group are asked about one
position. Which positions are asked about is game_tasks.py's.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from playout.agents.players.analysis import Judge
from playout.agents.players.player import Player, choose, results_without
from playout.envs.core.game import NativeGame, State
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts.exact.solver import ILLEGAL
from playout.rlhf.environments.game_tasks import Referee

__all__ = ["EXACT", "REWARDS", "MoveReward", "play_out"]

REWARDS = ("legal", "outcome", "regret", "search", "result")
EXACT = ("outcome", "regret")
"""Those that ask the solver."""

_KEPT = 200_000  # positions whose answers are remembered


class MoveReward:
    """Rates legal moves; one serves all episodes of an environment."""

    def __init__(
        self,
        game: NativeGame,
        kinds: Sequence[str],
        *,
        referee: Referee | None = None,
        judge: Judge | None = None,
        opponent: Player | None = None,
    ) -> None:
        """Check what is asked for.

        Args:
            game: The game.
            kinds: Some of REWARDS, added up.
            referee: For those that are EXACT.
            judge: For `search`.
            opponent: Plays all sides to the end, for `result` of one move.

        Raises:
            ConfigError: A reward is unknown, or the game cannot be asked for it.
        """
        for kind in kinds:
            if kind not in REWARDS:
                raise ConfigError(f"there is no reward {kind!r}; choose from {', '.join(REWARDS)}")
        if referee is None and set(kinds) & set(EXACT):
            raise ConfigError(
                f"no solver masters {game}: take the reward search in place of {kinds[0]}"
            )
        self.game, self.kinds, self.judge, self.opponent = game, tuple(kinds), judge, opponent
        self.referee = referee if set(kinds) & set(EXACT) else None
        self._values: OrderedDict[tuple[str, bytes], NDArray[np.float32] | None] = OrderedDict()

    def __call__(self, state: State, action: int, seed: int, *, to_the_end: bool = True) -> float:
        """The reward of a legal action.

        Args:
            state: Where it is played.
            action: The action.
            seed: Of what is played out.
            to_the_end: Whether `result` counts; in whole games it comes at their end.
        """
        total = 0.0
        for kind in self.kinds:
            if kind == "legal":
                total += 1.0
            elif kind == "result":
                total += self._result(state, action, seed) if to_the_end else 0.0
            else:
                rated = self._rated(kind, state)
                # What is too hard for the solver is held against nobody.
                total += 1.0 if rated is None else float(rated[action])
        return total

    def keeps(self, state: State, action: int) -> bool | None:
        """Whether a legal action keeps the outcome; None where the solver is not asked or fails."""
        rated = self._rated("outcome", state) if self.referee is not None else None
        return None if rated is None else bool(rated[action] == 1.0)

    def remember(self, states: StateBatch, outcomes: NDArray[np.int8]) -> None:
        """Keep the outcomes [B, A] of positions that were solved already."""
        for row in range(len(states)):
            self._keep(("outcome", states.data[row].tobytes()), _kept(outcomes[row]))

    def _rated(self, kind: str, state: State) -> NDArray[np.float32] | None:
        """float32 [A]: what each action is worth, anything where it is illegal; None: too hard."""
        key = kind, state.to_bytes()
        if key not in self._values:
            self._keep(key, self._ask(kind, state))
        self._values.move_to_end(key)
        return self._values[key]

    def _keep(self, key: tuple[str, bytes], values: NDArray[np.float32] | None) -> None:
        self._values[key] = values
        if len(self._values) > _KEPT:
            self._values.popitem(last=False)

    def _ask(self, kind: str, state: State) -> NDArray[np.float32] | None:
        if kind == "search":
            assert self.judge is not None
            q = self.judge(StateBatch.from_states([state])).q[0]
            seen = np.isfinite(q)
            q = np.where(seen, q, q[seen].min() if seen.any() else 0.0)
            return np.clip(1.0 - (q.max() - q) / 2.0, 0.0, 1.0).astype(np.float32)
        assert self.referee is not None
        if kind == "outcome":
            outcomes, known = self.referee.outcomes(StateBatch.from_states([state]))
            return _kept(outcomes[0]) if known[0] else None
        scores = self.referee.scores(state)
        return None if scores is None else _regret(scores, self.game.max_plies)

    def _result(self, state: State, action: int, seed: int) -> float:
        """The result for the side that moves when others play the game out after its move."""
        assert self.opponent is not None
        self.opponent.reset(seed)
        returns = play_out(state.apply(action), self.opponent, seed)
        return float(returns[state.to_play]) / self.game.value_scale


def _kept(outcomes: NDArray[np.int8]) -> NDArray[np.float32]:
    """1 for the actions that keep what the position is worth, 0 for others, float32 [A]."""
    return (outcomes == outcomes.max()).astype(np.float32)


def _regret(scores: NDArray[np.int32], max_plies: int) -> NDArray[np.float32]:
    """1 for a best action, less the more is given away, float32 [A].

    To give the outcome away costs more than to win later: half the scale is for the outcome, half
    for how fast.
    """
    legal = scores != ILLEGAL
    most = max(1.0, max_plies / 2, float(np.abs(scores[legal]).max()))
    worth = np.sign(scores) * (0.5 + 0.5 * np.abs(scores) / most)
    best = worth[legal].max()
    return np.where(legal, 1.0 - (best - worth) / 2.0, 0.0).astype(np.float32)


def play_out(state: State, player: Player, seed: int) -> NDArray[np.float32]:
    """The results float32 [P] when one player moves for all sides to the end; dice by the seed."""
    ply = 0
    while True:
        state = state.resolve_chance(seed, stream=ply)
        if state.to_play < 0:
            return state.returns
        actions, given_up = choose(player, StateBatch.from_states([state]), [()])
        if given_up:
            results = results_without(state.game.num_players, state.to_play)
            return np.array(results, np.float32) * state.game.value_scale
        state = state.apply(int(actions[0]))
        ply += 1

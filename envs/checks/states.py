"""What one state of a game has to keep, one method a promise of the game ABI.

Each message says what does not hold, where, and what is usually the cause. Whole games, batches and
threads stand in checks/games.py. Of many actions or symmetries only some are tried at a state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout.envs.checks.learning import GUARD, LearningChecker
from playout.envs.core.game import CHANCE, TERMINAL, NativeGame, State, StateBatch
from playout.errors import GameError, IllegalActionError

ACTIONS = 64  # tried at every state, legal ones and others


class StateChecker(LearningChecker):
    """Examines states of one game; remembers hashes and inverses over all it has seen."""

    def __init__(self, game: NativeGame) -> None:
        super().__init__(game)
        self.by_hash: dict[int, tuple[bytes, Any]] = {}
        self.plies_left: int | None = None  # at the state before
        self.turn = 0  # states seen: which actions are tried where there are many

    def check_state(self, state: State) -> None:
        """Everything about one state."""
        player = state.to_play
        self.need(
            player in (TERMINAL, CHANCE) or 0 <= player < self.game.num_players,
            f"to_play() is {player}",
            f"it must be 0 to {self.game.num_players - 1}, or -1 at the end",
        )
        self.check_encoding(state)
        self.check_chance(state)
        actions = self.check_actions(state)
        self.check_plies_left(state)
        self.check_children(state, actions)
        self.check_serial(state)
        observations = self.check_observations(state)
        self.check_returns(state)
        self.check_hash(state, observations)
        self.check_learning(state, observations)
        self.check_hidden(state)
        self.check_symmetries(state, observations)
        self.check_batch_row(state, observations)

    def check_encoding(self, state: State) -> None:
        """A state of a Python game is the same when it is decoded from its bytes."""
        if not self.game.calls_python:
            return
        before = _answers(state)  # of the state as it was made
        try:
            self.game.forget_decoded()
            after = _answers(state)
        except GameError as error:
            cause = error.__cause__
            if cause is None or isinstance(cause, GameError):
                raise
            self.fail(
                f"decode(encode(state)) raises {type(cause).__name__}: {cause}",
                "decode() must read what encode() writes",
            )
        for what, old in before.items():
            self.need(
                old == after[what],
                f"decode(encode(state)) is another state: {what} differs",
                "encode() must write all that a state holds, whose turn it is included, "
                "and decode() read it back",
            )

    def check_chance(self, state: State) -> None:
        """Outcomes are there exactly at chance nodes, and their probabilities add up to 1."""
        outcomes = state.chance_outcomes
        if state.to_play != CHANCE:
            return
        self.need(
            self.game.has_chance,
            "to_play() is -2, a chance node, but the game has no chance()",
            "give it chance(), or return the player to move",
        )
        probs = [prob for _, prob in outcomes]
        self.need(
            all(prob >= 0 for prob in probs) and abs(sum(probs) - 1) < 1e-6,
            f"chance() gives probabilities {probs[:20]} that add up to {sum(probs):.6g}",
            "they must not be negative, and add up to 1",
        )
        self.need(
            outcomes == state.chance_outcomes,
            "chance() differs on a second call",
            "use the state alone",
        )

    def check_plies_left(self, state: State) -> None:
        """The bound of plies to come is 0 at the end, and falls with every ply."""
        left = self.game.plies_left(StateBatch.from_states([state]))
        if left is None:
            return
        number, over = int(left[0]), state.is_terminal
        self.need(
            number == 0 if over else number >= 1,
            f"plies_left() is {number} {'at the end' if over else 'before the end'}",
            "it bounds the plies still to come: 0 at the end, at least 1 before",
        )
        self.need(
            self.plies_left is None or number < self.plies_left,
            f"plies_left() is {number}, and {self.plies_left} a ply before",
            "it must never be less than the plies still to come",
        )
        self.plies_left = number

    def check_actions(self, state: State) -> list[int]:
        """Legal actions are sorted, distinct, in range, and exist exactly before the end."""
        actions = state.legal_actions
        hint = "legal() must write distinct actions in rising order and return how many"
        self.need(actions == sorted(set(actions)), f"legal() wrote {actions}", hint)
        inside = all(0 <= action < self.game.num_actions for action in actions)
        self.need(inside, f"legal() wrote {actions}", f"num_actions is {self.game.num_actions}")
        most = self.game.max_legal
        self.need(
            len(actions) <= most,
            f"{len(actions)} actions are legal, more than max_legal {most}",
            "declare the most that any state has, chance outcomes included",
        )
        if state.is_terminal:
            self.need(not actions, f"legal() wrote {actions} at the end", "return 0 there")
        else:
            self.need(
                actions, "no action is legal but the game is not over", "add a pass or end it"
            )
        return actions

    def check_children(self, state: State, actions: list[int]) -> None:
        """Tries actions: the legal ones lead to proper states, the others are refused."""
        before = state.to_bytes()
        texts: dict[str, int] = {}
        legal = set(actions)
        self.turn += 1
        others = [action for action in range(self.game.num_actions) if action not in legal]
        for action in _some(others, self.turn) + _some(actions, self.turn):
            if action not in legal:
                try:
                    state.apply(action)
                except IllegalActionError:
                    continue
                self.fail(f"illegal action {action} was accepted", "legal() gives two answers")
            child = state.apply(action)
            self.need(
                state.to_bytes() == before and state.legal_actions == actions,
                f"applying action {action} to a copy changed the original",
                "a state must hold no pointers, and apply() must change nothing outside it",
            )
            self.need(
                _filled_apply(state, action) == child.to_bytes(),
                f"apply({action}) gives different bytes on a second call",
                "apply() must depend on the state alone and set every byte",
            )
            try:
                self.game.from_bytes(child.to_bytes())
            except GameError:
                self.check_encoding(child)
                self.fail(
                    f"check() refuses the state after action {action}",
                    "check() must accept every state that play reaches",
                )
            text = state.action_text(action)
            back = state.read_action(text)
            self.need(
                back == action,
                f"action {action} is written {text!r}, which read_action() takes for {back}",
                "write_action() and read_action() must agree",
            )
            self.need(text not in texts, f"two actions are written {text!r}", "tell them apart")
            self.need(
                text.strip() == text and text and not set(text) & set(" ,\n\t"),
                f"action {action} is written {text!r}",
                "a move must be one word without commas",
            )
            texts[text] = action

    def check_serial(self, state: State) -> None:
        """The state comes back from its bytes and from its line of text."""
        data = state.to_bytes()
        try:
            same = self.game.from_bytes(data).to_bytes() == data
        except GameError:
            same = False
        self.need(same, "check() refuses the state's own bytes", "it must accept reachable states")
        text = state.text
        self.need(
            "\n" not in text, "write_state() wrote several lines", "boards go to write_board()"
        )
        try:
            back = self.game.from_text(text)
        except GameError:
            self.fail(f"read_state() refuses {text!r}", "it must read what write_state() writes")
        if self.game.text_leaves_out_history:
            kept = (back.text, back.to_play, back.legal_actions)
            same = kept == (text, state.to_play, state.legal_actions) or state.is_terminal
        else:
            same = back.to_bytes() == data
        self.need(
            same,
            f"read_state({text!r}) gives another state",
            "the line must hold everything that the state holds, whose turn it is included "
            "(a game whose line leaves out its history declares text_leaves_out_history, in C "
            "PLAYOUT_HISTORY)",
        )
        self.need(str(state), "write_board() wrote nothing", "show the position to people")

    def check_observations(self, state: State) -> NDArray[np.float32]:
        """float32 [P, C, H, W]: every number is written, finite, the same twice, none outside."""
        game = self.game
        size = int(np.prod(game.obs_shape))
        seen = []
        for player in range(game.num_players):
            room = np.full(size + 2 * GUARD, np.nan, np.float32)
            view = room[GUARD : GUARD + size].reshape(1, *game.obs_shape)
            StateBatch.from_states([state]).observe(view, player)
            self.need(
                np.isnan(room[:GUARD]).all() and np.isnan(room[GUARD + size :]).all(),
                f"observe() for player {player} writes outside {game.obs_shape}",
                "write C * H * W numbers",
            )
            self.need(
                np.isfinite(view).all(),
                f"observe() for player {player} leaves numbers unwritten or not finite",
                "write every number, zeros too",
            )
            again = state.observe(player)
            self.need(
                np.array_equal(again, view[0]),
                f"observe() for player {player} differs on a second call",
                "it must depend on the state and the player alone",
            )
            seen.append(again)
        return np.stack(seen)

    def check_returns(self, state: State) -> None:
        """Results are numbers in [-1, 1], or up to value_scale, the same each time."""
        values = state.returns
        if self.game.step_rewards:
            self.need(
                np.isfinite(values).all() and np.array_equal(values, state.returns),
                f"returns() wrote {values.tolist()}",
                "what was collected so far must be finite numbers, the same on a second call",
            )
            self.need(
                self.moves or not values.any(),
                f"returns() wrote {values.tolist()}",
                "nothing can have been collected yet",
            )
        if not state.is_terminal:
            return
        most = np.float32(self.game.value_scale)
        self.need(
            self.game.step_rewards
            or (np.isfinite(values).all() and (np.abs(values) <= most).all()),
            f"returns() wrote {values.tolist()}",
            f"results must lie in [-{most:g}, {most:g}] (value_scale says how large they may be)",
        )
        self.need(
            not self.game.zero_sum or abs(float(values.sum())) < 1e-5 * most,
            f"returns() wrote {values.tolist()}, which do not add up to 0",
            "declare zero_sum = False (in C PLAYOUT_GENERAL_SUM) if one's gain is not the others' "
            "loss",
        )
        self.need(
            np.array_equal(values, state.returns),
            "returns() differs on a second call",
            "use the state alone",
        )
        try:
            state.apply(0)
        except IllegalActionError:
            return
        self.fail("a move is accepted after the end", "legal() must return 0 there")

    def check_hash(self, state: State, observations: NDArray[np.float32]) -> None:
        """Equal bytes have equal hashes, and equal hashes mean equal positions."""
        value = state.hash
        self.need(value == state.hash, "hash() differs on a second call", "use the state alone")
        meaning = (state.to_play, tuple(state.legal_actions), observations.tobytes())
        known = self.by_hash.setdefault(value, (state.to_bytes(), meaning))
        self.need(
            known[1] == meaning,
            f"hash() {value:#x} belongs to another position too",
            "hash everything that the future or the observation depends on, and mix it well",
        )

    def check_batch_row(self, state: State, observations: NDArray[np.float32]) -> None:
        """Batch calls answer as scalar calls do."""
        batch = StateBatch.from_states([state, state])
        player = max(state.to_play, 0)
        same = (
            (batch.to_play() == state.to_play).all()
            and (batch.legal_mask() == state.action_mask).all()
            and (batch.observe() == observations[player]).all()
            and (batch.returns() == state.returns).all()
            and (batch.hash() == np.uint64(state.hash)).all()
        )
        self.need(
            same, "batch and single calls differ", "functions must keep nothing between calls"
        )


def _answers(state: State) -> dict[str, Any]:
    """What a game says of a state."""
    game = state.game
    return {
        "to_play()": state.to_play,
        "legal_actions()": state.legal_actions,
        "chance()": state.chance_outcomes,
        "returns()": state.returns.tolist(),
        "observe()": [state.observe(player).tobytes() for player in range(game.num_players)],
        "encode()": game.from_bytes(state.to_bytes(), check=False).text,
    }


def _some(actions: list[int], turn: int) -> list[int]:
    """All actions, or where there are many a part of them, another one at each turn."""
    if len(actions) <= ACTIONS // 2:
        return actions
    size = ACTIONS // 2
    first = turn * size % len(actions)
    return (actions + actions)[first : first + size]


def _filled_apply(state: State, action: int) -> bytes:
    """The state after an action, in memory of its own."""
    batch = StateBatch.from_states([state])
    batch.apply([action])
    return batch.data.tobytes()

"""GameVectorEnv: a batch of one board game as a Gymnasium vector environment.

Any game that `playout.game` knows: by name, as a capsule, or written in Python. The rows live in
_vector.pyx; seeds, modes and infos are vector_base.py's. Leaves out strong opponents: those come
from `playout.agents.players.load` or from the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from playout.envs.catalogue import GAMES
from playout.envs.core.arrays import is_whole
from playout.envs.core.game import CHANCE, TERMINAL, NativeGame
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.envs.farama._vector import GameRows
from playout.envs.farama.sb3 import as_sb3
from playout.envs.farama.vector_base import Array, NativeVectorEnv, read_limit, read_num_envs
from playout.errors import ConfigError, IllegalActionError

__all__ = ["GameVectorEnv", "Opponent", "as_sb3"]

_DEALS = 1000  # games in a row that may end before the caller moves, as in game_rows.h


class Opponent(Protocol):
    """What `opponent=` takes: a Player."""

    def reset(self, seed: int) -> None:
        """Begins a match."""

    def act(self, states: StateBatch) -> npt.NDArray[np.int32]:
        """One legal action for each state, int32 [B]."""


def observation_space(game: NativeGame) -> spaces.Box:
    """Planes of the catalogue's games hold 0 and 1; others may hold anything."""
    low, high = (0.0, 1.0) if game.origin is None and game.name in GAMES else (-np.inf, np.inf)
    return spaces.Box(low, high, game.obs_shape, np.float32)


def read_opponent(opponent: Opponent | str | None) -> str:
    """How the rows find the other players' moves: "self", "random" or "ask"."""
    if opponent is None:
        return "self"
    if isinstance(opponent, str):
        if opponent != "random":
            raise ConfigError(
                f"opponent must be None, 'random' or a Player, got {opponent!r}; "
                "playout.agents.players.load.make_player makes one of a name"
            )
        return "random"
    for method, call in (("act", "act(states)"), ("reset", "reset(seed)")):
        if not callable(getattr(opponent, method, None)):
            raise TypeError(f"opponent must have {call}, {type(opponent).__name__} has not")
    return "ask"


class GameVectorEnv(NativeVectorEnv):
    """`num_envs` boards.

    Without an opponent the caller moves for every player in turn (self-play): observation and mask
    are the side to move's, the reward is the mover's, infos["to_play"] says who is next. With one,
    the caller is one player, the others reply within the step, and everything is seen as that
    player sees it. The reward of a step is what that player's returns have grown by: the result
    at the end, and in a game with rewards along the way what the step brought, the replies and
    chance included. A game that the others end before the caller's first move is dealt again.

    Args:
        game: a name, a NativeGame, a capsule or a Python game.
        num_envs: B, how many boards.
        opponent: None, "random", or a Player (`reset(seed)`, `act(states)`), which moves for all
            other players.
        player: the caller's; None: drawn anew for every episode. Only with an opponent.
        max_episode_steps: truncates after so many of the caller's moves; None or -1: never.
        render_mode: None, "ansi" or "rgb_array".
        spectator: hidden cards and dice are rendered for somebody who sees them all, not as the
            caller's player does (in self-play the one to move).
        autoreset_mode: Gymnasium's NEXT_STEP (default), SAME_STEP or DISABLED.
        copy: return fresh arrays; with False the buffers that the next call overwrites.
        **params: the game's own, such as width and height.
    """

    def __init__(
        self,
        game: object,
        num_envs: int = 1,
        *,
        opponent: Opponent | str | None = None,
        player: int | None = None,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        spectator: bool = False,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        **params: Any,
    ) -> None:
        self.game = find_game(game, **params)
        self.opponent = opponent
        self._arguments = {
            "game": self.game,
            "num_envs": num_envs,
            "opponent": opponent,
            "player": player,
            "max_episode_steps": max_episode_steps,
            "render_mode": render_mode,
            "spectator": spectator,
            "autoreset_mode": autoreset_mode,
            "copy": copy,
        }
        self._begin(num_envs, autoreset_mode, copy, render_mode, 2, ["ansi", "rgb_array"])
        how = read_opponent(opponent)
        if player is not None and how == "self":
            raise ConfigError("player needs an opponent: in self-play the caller plays them all")
        if player is not None and not (is_whole(player) and 0 <= player < self.game.num_players):
            raise ConfigError(f"player must be 0 to {self.game.num_players - 1}, got {player!r}")
        self._ask, self._spectator = how == "ask", spectator
        self._rows = rows = GameRows(
            self.game.capsule,
            read_num_envs(num_envs),
            mode=self.autoreset_mode.value,
            opponent=how,
            player=-1 if player is None else int(player),
            limit=read_limit(max_episode_steps, 0),
        )
        self._seeds, self._episodes = rows.seeds, rows.episodes
        self._results = (rows.obs, rows.rewards, rows.terminations, rows.truncations)
        self._everywhere = np.ones(self.num_envs, np.bool_)
        self._started = self._began = False
        self.single_observation_space = observation_space(self.game)
        self.single_action_space = spaces.Discrete(self.game.num_actions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Starts new games, of the rows in options["reset_mask"] [B] only if it is given.

        Returns:
            Observations float32 [B, C, H, W]; infos with "action_mask" int8 [B, A], "to_play" [B].
        """
        mask, rest = self._begin_reset(seed, options)
        if rest:
            raise ValueError(f"unknown reset options {sorted(rest)}; there is 'reset_mask'")
        began = self._everywhere if mask is None else mask
        if not self._began and not began.all():
            raise ResetNeeded("the first reset() must begin every environment: leave the mask out")
        self._reset_opponent(seed, began)
        self._rows.start(began)
        self._began = True
        self._reply(began)
        self._rows.show()
        self._started = True
        return self.observe(), self._infos()

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Plays one action on every board.

        Args:
            actions: whole numbers [B]; all are checked before anything changes.

        Returns:
            Observations [B, C, H, W], rewards float32 [B], terminations, truncations, infos.

        Raises:
            IllegalActionError: names the first bad row.
        """
        rows = self._rows
        if not self._started:
            raise ResetNeeded("call reset() before step()")
        if self.autoreset_mode is AutoresetMode.DISABLED and rows.pending.any():
            raise ResetNeeded(
                f"the game of environment {np.flatnonzero(rows.pending)[0]} is over; with "
                "autoreset disabled, reset it by reset(options={'reset_mask': mask}) before the "
                "next step"
            )
        if self._ask:
            began = rows.pending.copy()
            rows.begin_step(actions)
            self._reply(began)
            restarted = rows.end_step()
            if restarted and self._reply(rows.terminations | rows.truncations):
                rows.show()
        else:
            restarted = rows.step(actions)
        infos = self._infos()
        if restarted:
            over = rows.terminations | rows.truncations
            self._final_infos(infos, over, rows.final_obs)
            mask, to_play = rows.final_mask * over[:, None], np.where(over, rows.final_to_play, 0)
            infos["final_info"] = {
                "action_mask": mask,
                "_action_mask": over,
                "to_play": to_play,
                "_to_play": over,
            }
        obs, rewards, terminations, truncations = self._results
        if self.copy:
            return obs.copy(), rewards.copy(), terminations.copy(), truncations.copy(), infos
        return obs, rewards, terminations, truncations, infos

    def observe(self) -> Array:
        """The present observations [B, C, H, W]."""
        return self._rows.obs.copy() if self.copy else self._rows.obs

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """The legal actions, bool [B, A]; none where a game is over."""
        mask = self._rows.mask.view(np.bool_)
        return mask.copy() if self.copy else mask

    def is_over(self) -> npt.NDArray[np.bool_]:
        """Rows [B] whose episode is over and not reset yet."""
        return self._rows.pending.copy()

    def states(self) -> StateBatch:
        """A copy of the boards, for search or analysis."""
        if not self._began:
            raise ResetNeeded("there are no boards yet: call reset() first")
        return StateBatch.from_data(self.game, self._rows.states.copy(), check=False)

    def render(self) -> tuple[Any, ...] | None:
        """A text ("ansi") or a picture uint8 [H, W, 3] ("rgb_array") of each board."""
        if self.render_mode is None:
            return None
        from playout.envs.drawing.board import render_state

        states, rows = self.states(), self._rows
        viewers = rows.to_play if self.opponent is None else rows.players
        return tuple(
            render_state(states[row], self.render_mode, None if self._spectator else max(viewer, 0))
            for row, viewer in enumerate(viewers.tolist())
        )

    def _arrays(self) -> dict[str, Array]:
        rows = self._rows
        return {
            "states": rows.states,
            "seeds": rows.seeds,
            "episodes": rows.episodes,
            "draws": rows.draws,
            "elapsed": rows.elapsed,
            "seats": rows.players,  # as saved runs name it
            "pending": rows.pending,
        }

    def _check_values(self, state: Mapping[str, Array]) -> None:
        to_play = StateBatch.from_data(self.game, np.array(state["states"])).to_play()
        low = -1 if self.opponent is None else 0
        players = state["seats"]
        if np.any(players < low) or np.any(players >= (self.game.num_players if low == 0 else 0)):
            raise ValueError("seats must be players of this game, or all -1 in self-play")
        waits = (to_play == CHANCE) | ((to_play >= 0) & (low == 0) & (to_play != players))
        for rows, fault in (
            (to_play == TERMINAL, "is over, but not pending"),
            (waits, "waits for chance or for the opponent"),
        ):
            rows = rows & ~np.asarray(state["pending"])
            if rows.any():
                raise ValueError(f"row {np.flatnonzero(rows)[0]} of states {fault}")

    def _show(self) -> None:
        self._started = self._began = True
        self._rows.show()

    def _can_go_on(self) -> bool:
        return self._started

    def _infos(self) -> dict[str, Any]:
        mask, to_play = self._rows.mask, self._rows.to_play
        if self.copy:
            mask, to_play = mask.copy(), to_play.copy()
        here = self._everywhere.copy() if self.copy else self._everywhere
        return {"action_mask": mask, "_action_mask": here, "to_play": to_play, "_to_play": here}

    def _reset_opponent(
        self, seed: int | Sequence[int | None] | None, began: npt.NDArray[np.bool_]
    ) -> None:
        """Tells a Player the seed; of a list the first that a row begins with."""
        if not self._ask or seed is None:
            return
        given = [seed] if isinstance(seed, (int, np.integer)) else [*compress(seed, began)]
        first = next((int(one) for one in given if one is not None), None)
        if first is not None:
            self.opponent.reset(first)  # type: ignore[union-attr]

    def _reply(self, began: npt.NDArray[np.bool_]) -> bool:
        """Lets a Player move until it is the caller's turn everywhere; did it move at all?

        Of the rows that `began` just now, a game that it ends before the caller's first move is
        dealt again, and flags and rewards are those of the step before.
        """
        if not self._ask:
            return False
        rows = self._rows
        told = (rows.rewards, rows.terminations, rows.truncations)
        before = [array[began] for array in told]
        moved = self._play()
        for _ in range(_DEALS):
            over = began & (rows.to_play < 0)
            if not over.any():
                break
            rows.start(over)
            self._play()
            moved = True
        for array, kept in zip(told, before, strict=True):
            array[began] = kept
        return moved

    def _play(self) -> bool:
        moved = False
        while len(waiting := self._rows.waiting()):
            self._started = False  # until the Player has answered: an error leaves half a step
            states = StateBatch.from_data(self.game, self._rows.states[waiting], check=False)
            actions = np.asarray(self.opponent.act(states))  # type: ignore[union-attr]
            if actions.shape != waiting.shape or actions.dtype.kind not in "iu":
                raise ValueError(
                    f"the opponent must answer {len(waiting)} states with as many whole numbers, "
                    f"got {actions.dtype} of shape {actions.shape}"
                )
            legal = states.legal_mask()
            inside = (actions >= 0) & (actions < self.game.num_actions)
            good = inside & (legal[np.arange(len(actions)), np.where(inside, actions, 0)] != 0)
            if not good.all():
                row = int(np.flatnonzero(~good)[0])
                raise IllegalActionError(
                    f"the opponent's action {actions[row]} in environment {waiting[row]} is illegal"
                )
            self._rows.reply(waiting.astype(np.int64), actions.astype(np.int32))
            self._started = moved = True
        return moved

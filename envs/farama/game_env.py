"""GameEnv: one board as a plain Gymnasium environment, for `gym.make`.

A batch of one with autoreset off. Arguments are GameVectorEnv's (game_vector.py).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from playout.envs.core.game import State
from playout.envs.farama.game_vector import GameVectorEnv, Opponent
from playout.errors import IllegalActionError

Obs = npt.NDArray[np.float32]


class LegalActions(spaces.Discrete):
    """Discrete(A) whose samples are legal now, so that random play and Gymnasium's checks work.

    But for one: check_env() also draws an action before a reset and plays it behind that, where it
    may be illegal and raises.

    Attributes:
        mask: int8 [A], the environment's own, which every step overwrites.
    """

    def __init__(self, mask: npt.NDArray[np.int8]) -> None:
        super().__init__(len(mask))
        self.mask = mask

    def sample(self, mask: Any = None, probability: Any = None) -> np.int64:
        """A number by the caller's mask, else one that is legal; any once the game is over."""
        legal = mask is None and probability is None and self.mask.any() and not self.mask.all()
        return super().sample(self.mask if legal else mask, probability)


class GameEnv(gym.Env[Obs, Any]):
    """One board; infos hold "action_mask" int8 [A] and "to_play". Illegal actions raise."""

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}  # noqa: RUF012 (Gymnasium's)

    def __init__(
        self,
        game: object,
        *,
        opponent: Opponent | str | None = None,
        player: int | None = None,
        seat: int | None = None,
        render_mode: str | None = None,
        spectator: bool = False,
        **params: Any,
    ) -> None:
        self._envs = GameVectorEnv(
            game,
            opponent=opponent,
            player=player,
            seat=seat,
            render_mode=render_mode,
            spectator=spectator,
            autoreset_mode="Disabled",
            **params,
        )
        self.game = self._envs.game
        self.render_mode = render_mode
        self.observation_space = self._envs.single_observation_space
        self.action_space = LegalActions(self._envs._rows.mask[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Starts a game; a seed names the stream, without one the stream goes on."""
        super().reset(seed=seed)
        if self._np_random is None or not self._envs._seeded:
            drawn = int(self.np_random.integers(0, 2**63)) if seed is None else seed
            seed = drawn
        obs, infos = self._envs.reset(seed=seed, options=options)
        return obs[0], self._info(infos)

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Plays one legal action."""
        if self._envs.is_over()[0]:
            raise ResetNeeded("the game is over: call reset() before the next step")
        actions = np.asarray(action)
        if actions.size != 1 or actions.dtype.kind not in "iu":
            raise TypeError(f"an action must be a whole number, got {action!r}")
        try:
            obs, rewards, terminations, _, infos = self._envs.step(actions.reshape(1))
        except IllegalActionError as error:
            raise IllegalActionError(str(error).removeprefix("environment 0: ")) from None
        return obs[0], float(rewards[0]), bool(terminations[0]), False, self._info(infos)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """The legal actions, bool [A]."""
        return np.asarray(self._envs.action_masks()[0])

    def render(self) -> Any:
        """The board as text ("ansi") or a picture uint8 [H, W, 3] ("rgb_array")."""
        frames = self._envs.render()
        return None if frames is None else frames[0]

    @property
    def state(self) -> State:
        """The position, for search or analysis."""
        return self._envs.states()[0]

    @staticmethod
    def _info(infos: dict[str, Any]) -> dict[str, Any]:
        return {"action_mask": infos["action_mask"][0], "to_play": int(infos["to_play"][0])}

"""GameEnv: one board as a plain Gymnasium environment, for `gym.make`.

A batch of one with autoreset off. Arguments are GameVectorEnv's (game_vector.py), but for those of
many boards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from playout.envs.core.game import State
from playout.envs.farama.game_vector import GameVectorEnv, Opponent
from playout.errors import ConfigError, IllegalActionError

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
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        spectator: bool = False,
        **params: Any,
    ) -> None:
        for key in ("num_envs", "autoreset_mode", "copy"):
            if key in params:
                raise ConfigError(f"GameEnv is one board without {key}: use GameVectorEnv")
        self._envs = GameVectorEnv(
            game,
            opponent=opponent,
            player=player,
            max_episode_steps=max_episode_steps,
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
        for key in options or ():
            raise ValueError(f"unknown reset option {key!r}; GameEnv has none")
        super().reset(seed=seed)
        if self._np_random is None or not self._envs._seeded:
            drawn = int(self.np_random.integers(0, 2**63)) if seed is None else seed
            seed = drawn
        obs, infos = self._envs.reset(seed=seed)
        return obs[0], self._info(infos)

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Plays one legal action."""
        if self._envs.is_over()[0]:
            raise ResetNeeded("the episode is over: call reset() before the next step")
        actions = np.asarray(action)
        if actions.size != 1 or actions.dtype.kind not in "iu":
            raise TypeError(f"an action must be a whole number, got {action!r}")
        try:
            obs, rewards, terminations, truncations, infos = self._envs.step(actions.reshape(1))
        except IllegalActionError as error:
            raise IllegalActionError(str(error).removeprefix("environment 0: ")) from None
        ended, cut = bool(terminations[0]), bool(truncations[0])
        return obs[0], float(rewards[0]), ended, cut, self._info(infos)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """The legal actions, bool [A]."""
        return np.asarray(self._envs.action_masks()[0])

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything that the future depends on, as GameVectorEnv's of one row; for set_state."""
        return self._envs.get_state()

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> Obs:
        """Continues from `get_state`'s arrays; returns the observation.

        Raises:
            ValueError: They are not of this environment, or play cannot reach them.
        """
        return np.asarray(self._envs.set_state(state)[0])

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.action_space.mask = self._envs._rows.mask[0]  # type: ignore[attr-defined]

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

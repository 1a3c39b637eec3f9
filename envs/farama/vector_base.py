"""What all native vector environments share: seeds, reset masks, autoreset modes, infos, states.

The steps themselves happen in C (control/_control.pyx, farama/_vector.pyx); this is the thin
Gymnasium side. Leaves out spaces and rendering, which each environment defines for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from playout.envs.core.arrays import is_whole

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]


def read_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """The enum member for a member, its value ("NextStep") or its name ("next_step")."""
    if isinstance(mode, AutoresetMode):
        return mode
    for member in AutoresetMode:
        if str(mode).lower() in (member.value.lower(), member.name.lower()):
            return member
    names = ", ".join(repr(member.value) for member in AutoresetMode)
    raise ValueError(f"autoreset_mode must be one of {names}, got {mode!r}")


def read_num_envs(num_envs: int) -> int:
    """Checks the number of environments."""
    if not is_whole(num_envs):
        raise TypeError(f"num_envs must be a whole number, got {num_envs!r}")
    if not 1 <= num_envs <= 2**24:
        raise ValueError(f"num_envs must be between 1 and {2**24}, got {num_envs}")
    return int(num_envs)


def read_limit(max_episode_steps: int | None, default: int) -> int:
    """The time limit: None means the task's own, -1 none at all (returned as 0)."""
    if max_episode_steps is None:
        return default
    if not is_whole(max_episode_steps):
        raise TypeError(f"max_episode_steps must be a whole number, got {max_episode_steps!r}")
    limit = int(max_episode_steps)
    if limit == -1:
        return 0
    if not 1 <= limit < 2**31:
        raise ValueError(f"max_episode_steps must be at least 1, or -1 for none, got {limit}")
    return limit


def read_mask(mask: object, num_envs: int) -> BoolArray:
    """Checks `options["reset_mask"]` as Gymnasium does."""
    if not isinstance(mask, np.ndarray):
        raise TypeError(f"options['reset_mask'] must be a numpy array, got {type(mask).__name__}")
    if mask.dtype != np.bool_:
        raise TypeError(f"options['reset_mask'] must have dtype bool, got {mask.dtype}")
    if mask.shape != (num_envs,):
        raise ValueError(f"options['reset_mask'] must have shape ({num_envs},), got {mask.shape}")
    if not mask.any():
        raise ValueError("options['reset_mask'] must have at least one True")
    return mask


def read_seeds(
    seed: int | Sequence[int | None] | None, num_envs: int
) -> list[int | None] | range | None:
    """One seed a row: environment i of an int seed gets seed + i, wherever the batch was cut."""
    if seed is None:
        return None
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed must be between 0 and 2**63 - 1, got {seed}")
        return range(int(seed), int(seed) + num_envs)
    if isinstance(seed, (str, bytes)) or not isinstance(seed, Sequence | np.ndarray):
        raise TypeError(f"seed must be an int or a list of ints, got {seed!r}")
    if len(seed) != num_envs:
        raise ValueError(f"a list of seeds must have one for each of {num_envs}, got {len(seed)}")
    seeds: list[int | None] = []
    for one in seed:
        if one is not None and not is_whole(one):
            raise TypeError(f"seeds must be whole numbers or None, got {one!r}")
        if one is not None and not 0 <= one < 2**63:
            raise ValueError(f"seeds must be between 0 and 2**63 - 1, got {one}")
        seeds.append(None if one is None else int(one))
    return seeds


# What a copy has besides its arguments and the arrays of `get_state`.
_KEPT = (
    "spec",
    "closed",
    "_np_random",
    "_np_random_seed",
    "_seeded",
    "_bounds",
    "action_space",
    "single_action_space",
    "observation_space",
    "single_observation_space",
)


def made_again(cls: type[NativeVectorEnv], arguments: Mapping[str, Any]) -> NativeVectorEnv:
    """An environment with the arguments of another, in this process or another one."""
    return cls(**arguments)


class NativeVectorEnv(VectorEnv[Any, Any, Array]):
    """Seeds, streams and SAME_STEP infos, over the seeds and episodes [B] of the native batch.

    Row i draws from the stream (seed of row i, number of its episode), so its episodes depend on
    nothing else. Copies (copy.deepcopy, another process) are made with the same arguments and go on
    from the same state.
    """

    autoreset_mode: AutoresetMode
    copy: bool
    _arguments: dict[str, Any]
    _seeds: npt.NDArray[np.uint64]
    _episodes: npt.NDArray[np.uint64]
    _seeded: bool = False

    def _begin(
        self,
        num_envs: int,
        autoreset_mode: str | AutoresetMode,
        copy: bool,
        render_mode: str | None,
        fps: int,
        render_modes: Sequence[str],
    ) -> None:
        if render_mode is not None and render_mode not in render_modes:
            raise ValueError(
                f"render_mode must be one of {list(render_modes)}, got {render_mode!r}"
            )
        self.num_envs = read_num_envs(num_envs)
        self.autoreset_mode = read_mode(autoreset_mode)
        self.copy = bool(copy)
        self.render_mode = render_mode
        self.metadata = {
            "render_modes": list(render_modes),
            "render_fps": fps,
            "autoreset_mode": self.autoreset_mode,
        }

    def _begin_reset(
        self,
        seed: int | Sequence[int | None] | None,
        options: Mapping[str, Any] | None,
    ) -> tuple[BoolArray | None, dict[str, Any]]:
        """Sets the streams of the rows to reset; returns their mask (None: all) and the options."""
        rest = dict(options) if options is not None else {}
        mask = None
        if "reset_mask" in rest:
            mask = read_mask(rest.pop("reset_mask"), self.num_envs)
        seeds = read_seeds(seed, self.num_envs)
        if isinstance(seed, (int, np.integer)):
            super().reset(seed=int(seed))
        if not self._seeded:
            self._seeds[:] = self.np_random.integers(0, 2**63, self.num_envs, dtype=np.uint64)
            self._seeded = True
        if isinstance(seeds, range):
            rows = slice(None) if mask is None else mask
            self._seeds[rows] = np.arange(seeds.start, seeds.stop, dtype=np.uint64)[rows]
            self._episodes[rows] = 0
        elif seeds is not None:
            for row, one in enumerate(seeds):
                if one is not None and (mask is None or mask[row]):
                    self._seeds[row] = one
                    self._episodes[row] = 0
        return mask, rest

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.get_state()
        kept = {key: self.__dict__[key] for key in _KEPT if key in self.__dict__}
        return made_again, (type(self), self._arguments), (kept, state, self._can_go_on())

    def __setstate__(self, given: tuple[dict[str, Any], Mapping[str, Array], bool]) -> None:
        kept, state, goes_on = given
        self.__dict__.update(kept)
        self._resume(state, goes_on)

    def _can_go_on(self) -> bool:
        """Whether the state is one that a copy may step on from; else it waits for reset()."""
        return self._seeded

    def _resume(self, state: Mapping[str, Array], goes_on: bool) -> None:
        if goes_on:
            self.set_state(state)
        else:
            self._seeds[:], self._episodes[:] = state["seeds"], state["episodes"]

    def _final_infos(self, infos: dict[str, Any], over: BoolArray, final_obs: Array) -> None:
        """Adds what Gymnasium reports of rows [B] that ended and began anew in one step.

        With `copy` False, infos["final_obs"] is the buffer itself [B, ...], valid where
        infos["_final_obs"] is set.
        """
        if self.copy:
            rows = np.flatnonzero(over)
            objects = np.full(self.num_envs, None, dtype=object)
            for row, last in zip(rows.tolist(), final_obs[rows], strict=True):
                objects[row] = last
            infos["final_obs"] = objects
        else:
            infos["final_obs"] = final_obs
        infos["_final_obs"] = over
        infos["final_info"] = {}
        infos["_final_info"] = over.copy()

    def observe(self) -> Array:
        """The present observations [B, ...]."""
        raise NotImplementedError

    def get_state(self) -> dict[str, Array]:
        """Everything that the future depends on, as fresh arrays [B, ...]; for set_state."""
        return {key: np.array(array, order="C") for key, array in self._arrays().items()}

    def set_state(self, state: Mapping[str, Array]) -> Array:
        """Continues from `get_state`'s arrays; returns the observations [B, ...].

        Raises:
            ValueError: Other arrays than this environment's, or values that play cannot reach;
                nothing has changed then.
        """
        arrays = self._arrays()
        if set(state) != set(arrays):
            raise ValueError(f"the state must have {sorted(arrays)}, got {sorted(state)}")
        for key, array in arrays.items():
            given = np.asarray(state[key])
            if given.shape != array.shape or given.dtype != array.dtype:
                raise ValueError(
                    f"{key} must be {array.dtype} of shape {array.shape}, got "
                    f"{given.dtype} of shape {given.shape}"
                )
        self._check_values(state)
        if np.any(state["elapsed"] < 0):
            raise ValueError("elapsed must not be negative")
        for key, array in arrays.items():
            array[:] = state[key]
        self._seeded = True
        self._show()
        return self.observe()

    def _arrays(self) -> dict[str, Array]:
        """Views [B, ...] of the native batch's own arrays, by the names that get_state gives."""
        raise NotImplementedError

    def _check_values(self, state: Mapping[str, Array]) -> None:
        """Raises if the arrays, whose shapes are right, hold what play cannot reach."""
        raise NotImplementedError

    def _show(self) -> None:
        """Writes observations anew from the state."""
        raise NotImplementedError

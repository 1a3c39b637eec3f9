"""Evaluation: returns and lengths of whole episodes, on environments apart from training's.

Every environment plays the same number of episodes, so that short ones are not favoured; the
statistics of normalisation stay as they are. Ranks may play a part each. Leaves out what follows
from the result.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.networks.policy import Policy, draw_ahead, map_tree
from playout.agents.runs import ranks
from playout.agents.runs.devices import nests_to_device
from playout.agents.vector.episodes import place_of
from playout.agents.vector.interface import Environments
from playout.agents.vector.normalize import ObsNormalizer
from playout.agents.vector.spaces import Arrays
from playout.errors import EnvironmentFault, StoppedError

MAX_STEPS = 1_000_000
"""Of one environment in an evaluation; one whose episodes have no end is given up then."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Undiscounted returns and lengths of finished episodes, `[N]`."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Deviation of the returns (with N - 1)."""
        return float(self.returns.std(ddof=1)) if len(self.returns) > 1 else 0.0

    @property
    def stderr(self) -> float:
        """Standard error of the mean."""
        return self.std / max(len(self.returns), 1) ** 0.5


def joined(parts: Sequence[Evaluation]) -> Evaluation:
    """The episodes of several, in their order; there must be one at least."""
    return Evaluation(
        np.concatenate([part.returns for part in parts]),
        np.concatenate([part.lengths for part in parts]),
    )


@torch.no_grad()
def evaluate_policy(
    policy: Policy,
    envs: Environments,
    *,
    episodes: int,
    seed: int,
    deterministic: bool = True,
    normalizer: ObsNormalizer | None = None,
    max_steps: int = MAX_STEPS,
    together: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_episodes: Callable[[Evaluation], None] | None = None,
) -> Evaluation:
    """Play `episodes` episodes (rounded up to the same number in each environment).

    A row whose agent has not once been there when the others are done has none.

    Args:
        policy: The policy to be judged.
        envs: Environments of the evaluation's own; they are reset here.
        episodes: How many.
        seed: Of the environments and, if stochastic, the actions.
        deterministic: Take the most likely action instead of sampling.
        normalizer: Statistics of training; used, not changed.
        max_steps: Give up after so many steps of each environment.
        together: The environments are this rank's part; every rank calls it, and gets the episodes
            of all.
        stop: Looked at before each step.
        on_episodes: Told episodes as they end.

    Raises:
        EnvironmentFault: An environment gave NaN or infinity, or none of its episodes ends.
        StoppedError: `stop` said so.
    """
    rows = envs.num_envs
    quota = -(-episodes // (place_of(rows).total if together else rows))
    device = device_of(policy)
    generator = torch.Generator().manual_seed(seed)
    raw = envs.reset(seed)
    state = map_tree(lambda x: x.to(device), policy.initial_state(rows))
    totals, lengths, done = np.zeros(rows), np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    found: list[tuple[NDArray[Any], NDArray[Any]]] = []
    fresh, seen = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    for _ in range(max_steps):
        if stop():
            raise StoppedError("the evaluation was stopped")
        _check(raw, "an observation", done, lengths)
        mask = envs.masks()
        starts = fresh if state is not None and fresh.any() else None
        noise, source = None, generator
        if not deterministic:
            noise, source = draw_ahead(policy, rows, generator, device)
        obs, legal, starts, noise = nests_to_device(
            (
                raw if normalizer is None else normalizer(raw),
                None if mask is None else np.array(mask),
                starts,
                noise,
            ),
            device,
        )
        if starts is not None:
            state = policy.reset_state(state, starts)
        chosen = {} if noise is None else {"noise": noise}
        step = policy.step(
            obs, state, legal, generator=source, deterministic=deterministic, **chosen
        )
        active = ~envs.idle
        raw, rewards, terminations, truncations = envs.step(policy.to_env(step.action))
        lengths += active
        seen |= active
        _check(rewards, "a reward", done, lengths)
        totals += rewards
        over = terminations | truncations
        state = step.state
        fresh = over if envs.same_step else ~(active | envs.idle)
        if over.any():
            ended = np.flatnonzero(over & (done < quota))
            found.append((totals[ended], lengths[ended]))
            if on_episodes is not None and len(ended):
                on_episodes(Evaluation(*found[-1]))
            done[ended] += 1
            totals[over] = 0.0
            lengths[over] = 0
            if done[seen].min() >= quota:
                break
    else:
        raise EnvironmentFault(
            f"an evaluation episode is still running after {max_steps:,} steps; "
            "give the environment a time limit"
        )
    returns, counts = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if together:
        returns = np.frombuffer(b"".join(ranks.everybody(returns.tobytes())), np.float64)
        counts = np.frombuffer(b"".join(ranks.everybody(counts.tobytes())), np.int64)
    return Evaluation(returns, counts)


def figures(value: float) -> str:
    """A return for people: three figures, whatever its scale, and one decimal at least."""
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:.1f}"
    return f"{value:.{min(2 - math.floor(math.log10(size)), 12)}f}"


def device_of(policy: Policy) -> torch.device:
    """Where a policy's parameters are; the processor if it has none."""
    first = next(iter(policy.parameters()), None) if hasattr(policy, "parameters") else None
    return torch.device("cpu") if first is None else first.device


def _check(
    arrays: Arrays, what: str, episodes: NDArray[np.int64], lengths: NDArray[np.int64]
) -> None:
    """Refuse NaN and infinity, and name the environment, its episode and step."""
    if isinstance(arrays, dict):
        for key, part in arrays.items():
            _check(part, f"{what} ({key})", episodes, lengths)
    elif arrays.dtype.kind == "f" and not math.isfinite(float(arrays.sum(dtype=np.float64))):
        bad = ~np.isfinite(arrays).reshape(len(arrays), -1).all(axis=1)
        if bad.any():
            row = int(bad.argmax())
            raise EnvironmentFault(
                f"environment {row} gave {what} that is NaN or infinite in an evaluation "
                f"(episode {episodes[row]}, step {lengths[row]})"
            )

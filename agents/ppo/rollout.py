"""Rollouts: a policy's actions and their rewards, rows by time, and minibatches cut from them.

A row is one environment or one response; time is its steps or tokens. Steps that are not `valid`
(the reset row of NEXT_STEP autoreset, prompt tokens, padding, an opponent's turn) stay in the
tensors and take no part in any statistic. A rank holds its own rows, and cuts its part of the
minibatches of all. This file only holds and cuts data: advantages come from gae.py, learning from
update.py, collection from collector.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.networks.policy import Minibatch, Tree, join_trees, map_tree
from playout.agents.runs.devices import to_device
from playout.agents.vector.episodes import place_of
from playout.agents.vector.spaces import Arrays, map_arrays, rows_of
from playout.errors import ConfigError
from torch import Tensor


def to_tensors(arrays: Arrays, device: torch.device | None = None) -> Tree:
    """Arrays (or a dict of them) as tensors that share memory where they can."""
    if isinstance(arrays, dict):
        return {key: to_tensors(value, device) for key, value in arrays.items()}
    found = torch.from_numpy(arrays)
    return found if device is None or device.type == "cpu" else found.to(device)


@dataclass(frozen=True, slots=True)
class Order:
    """The order in which a pass visits this rank's steps or rows, and where minibatches are cut."""

    places: Tensor
    """int64 [N], places (row * T + t) of steps or numbers of rows."""
    bounds: Sequence[int]
    """[M + 1], where this rank's parts of the M minibatches begin and end."""


@dataclass(slots=True)
class Rollout:
    """Experience of R rows over T steps; every field is `[R, T, ...]` unless said otherwise.

    Attributes:
        obs: Observation before the action: a tensor `[R, T, ...]` or a dict of them.
            Language: token ids.
        actions: The action taken, `[R, T]` or `[R, T, ...]`.
        logprobs: Log-probability of the action under the policy that acted, `[R, T]`.
        values: That policy's value estimate of `obs`, `[R, T]`.
        rewards: Reward for the action, `[R, T]`.
        terminations: The episode ended by itself with this step, bool `[R, T]`.
        truncations: The episode was cut with this step (time limit), bool `[R, T]`; the rest is
            bootstrapped.
        valid: The step counts, bool `[R, T]`.
        last_values: Value of what follows the last step, `[R]`.
        action_mask: 1 where an action is legal, `[R, T, A]`, or None.
        bootstrap_values: Value of the final observation where a step truncates, `[R, T]`, or None
            when the observation at t+1 is that final observation (NEXT_STEP autoreset).
        episode_starts: The step is the first of its episode, bool `[R, T]`; recurrent policies
            reset there.
        initial_state: Recurrent state before the first step, a tree of tensors `[R, ...]`, or None.
        advantages: `[R, T]`, filled by `compute_gae`.
        returns: `[R, T]`, advantages + values, filled by `compute_gae`.
        valid_steps: Places (row * T + t) of the valid steps, in order, or None where only `valid`
            says them: then a device must be waited for to count them.
        ref_logprobs: Log-probability of the action under a reference that the policy is to stay
            near to, `[R, T]`, or None.
        weights: How much a step counts in the policy's loss, `[R, T]`, or None: each as much.
        allowed: Where actions are many and those that could be taken few: the numbers of these,
            int64 `[R, T, K]`, padded with -1, and nothing but -1 where all could; or None.
    """

    obs: Tree
    actions: Tensor
    logprobs: Tensor
    values: Tensor
    rewards: Tensor
    terminations: Tensor
    truncations: Tensor
    valid: Tensor
    last_values: Tensor
    action_mask: Tensor | None = None
    bootstrap_values: Tensor | None = None
    episode_starts: Tensor | None = None
    initial_state: Tree = None
    advantages: Tensor | None = None
    returns: Tensor | None = None
    valid_steps: Tensor | None = None
    ref_logprobs: Tensor | None = None
    weights: Tensor | None = None
    allowed: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """R, the number of environments or responses."""
        return int(self.rewards.shape[0])

    @property
    def num_steps(self) -> int:
        """T, the number of steps or tokens a row."""
        return int(self.rewards.shape[1])

    def orders(
        self,
        count: int,
        *,
        size: int,
        by: Literal["steps", "rows"],
        generator: torch.Generator,
    ) -> Iterator[Order]:
        """`count` random orders of the valid steps or of the rows of all ranks.

        On the CPU each is drawn when it is asked for; to a device all go in one crossing. Under
        ranks everybody draws the same and keeps its own.

        Args:
            count: How many.
            size: As in `minibatches`.
            by: As in `minibatches`.
            generator: On the CPU, alike on all ranks.
        """
        device = self.rewards.device
        chosen: Tensor | None = None
        if by == "steps":
            chosen = self.valid_steps
            if chosen is None:
                chosen = self.valid.reshape(-1).nonzero().squeeze(1)
        place = place_of(self.num_rows if chosen is None else int(chosen.shape[0]))
        bounds = [0, *(end for _, end in _equal_parts(place.total, size))]

        def draw() -> tuple[Tensor, list[int]]:
            order = torch.randperm(place.total, generator=generator)
            if place.alone:
                return order, bounds
            here = order.numpy() - place.first
            # What lies before this rank's becomes huge without a sign. NumPy takes a third of the
            # time that torch takes: this is for every rank as long as all rows of all ranks.
            (mine,) = (here.view(np.uint64) < place.count).nonzero()
            return torch.from_numpy(here[mine]), np.searchsorted(mine, bounds).tolist()

        drawn: Iterable[tuple[Tensor, list[int]]] = (draw() for _ in range(count))
        if device.type != "cpu":
            orders, parts = zip(*drawn, strict=True)
            drawn = zip(to_device(torch.stack(orders), device).unbind(), parts, strict=True)
        for order, ends in drawn:
            yield Order(order if chosen is None else chosen[order], ends)

    def minibatches(
        self,
        size: int,
        *,
        by: Literal["steps", "rows"],
        generator: torch.Generator | None = None,
        order: Order | None = None,
    ) -> Iterator[Minibatch]:
        """Visit every valid step (or every row) once, in random order.

        The count is cut into equal parts of at most `size`, so that no part is left over with a
        handful of steps. Under ranks these are this rank's parts of the minibatches of all, and
        some may be empty.

        Args:
            size: Largest number of steps (or rows) in one part, of all ranks together.
            by: "steps" shuffles single steps and drops invalid ones; "rows" keeps whole rows with
                their states.
            generator: Source of the order, on the CPU.
            order: The order itself, one of `orders`.
        """
        if self.advantages is None or self.returns is None:
            raise ConfigError("the rollout has no advantages yet; call compute_gae first")
        if size < 1:
            raise ConfigError(f"minibatch_size must be at least 1, not {size}")
        if by not in ("steps", "rows"):
            raise ConfigError(f'batch_by must be "steps" or "rows", not {by!r}')
        if order is None:
            assert generator is not None, "give an order or a generator of one"
            order = next(self.orders(1, size=size, by=by, generator=generator))
        yield from self._rows(order) if by == "rows" else self._steps(order)

    def _steps(self, found: Order) -> Iterator[Minibatch]:
        device, order = self.rewards.device, found.places
        count = int(order.shape[0])
        # The small fields are shuffled once an epoch and then sliced; only observations, which may
        # be large, are gathered for each part, so that a rollout of images is never held twice.
        assert self.advantages is not None and self.returns is not None
        actions = self.actions.flatten(0, 1)[order]
        mask = None if self.action_mask is None else self.action_mask.flatten(0, 1)[order]
        logprobs, values, advantages, returns = (
            field.reshape(-1)[order]
            for field in (self.logprobs, self.values, self.advantages, self.returns)
        )
        all_valid = torch.ones(count, dtype=torch.bool, device=device)
        obs = map_tree(lambda x: x.flatten(0, 1), self.obs)
        for begin, end in pairwise(found.bounds):
            index = order[begin:end]
            yield Minibatch(
                obs=map_tree(lambda x, index=index: x[index], obs),  # type: ignore[misc]
                actions=actions[begin:end],
                logprobs=logprobs[begin:end],
                values=values[begin:end],
                advantages=advantages[begin:end],
                returns=returns[begin:end],
                valid=all_valid[begin:end],
                action_mask=None if mask is None else mask[begin:end],
            )

    def _rows(self, order: Order) -> Iterator[Minibatch]:
        for begin, end in pairwise(order.bounds):
            index = order.places[begin:end]
            yield Minibatch(
                **{
                    field.name: map_tree(
                        lambda x, index=index: x[index],  # type: ignore[misc]
                        getattr(self, field.name),
                    )
                    for field in fields(Minibatch)
                }
            )

    def cut(self, length: int, states: Tree) -> "Rollout":
        """Rows of `length` steps instead of T, for truncated backpropagation through time.

        Args:
            length: Steps a new row; divides T.
            states: Recurrent state before each new row, a tree of tensors `[R, T / length, ...]`.

        Returns:
            A rollout of `R * T / length` rows that shares memory; `last_values` and
            `bootstrap_values` are dropped because the advantages must already stand.
        """
        if self.num_steps % length:
            raise ConfigError(
                f"sequence_length {length} does not divide num_steps {self.num_steps}"
            )
        shape = (self.num_rows * self.num_steps // length, length)

        def fold(x: Tensor) -> Tensor:
            return x.reshape(*shape, *x.shape[2:])

        kept: dict[str, Any] = {"last_values": self.last_values, "bootstrap_values": None}
        kept["valid_steps"] = self.valid_steps  # the same places in the same order
        kept["initial_state"] = map_tree(lambda x: x.flatten(0, 1), states)
        for field in fields(self):
            if field.name not in kept:
                kept[field.name] = map_tree(fold, getattr(self, field.name))
        return Rollout(**kept)


def _equal_parts(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Begin and end of as few parts of at most `size` as there can be, of nearly equal lengths."""
    parts = -(-count // size)
    for part in range(parts):
        yield count * part // parts, count * (part + 1) // parts


class Cuts:
    """Episodes that were cut within a step, whose last observations are valued later."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self._obs: list[Arrays] = []
        self._states: list[Tree] = []

    def __bool__(self) -> bool:
        return bool(self.places)

    def add(
        self, rows: NDArray[np.int64], t: int, num_steps: int, obs: Arrays, state: Tree
    ) -> None:
        """Episodes of these rows were cut at step t; `obs` and `state` are those of all rows."""
        self.places += [int(row) * num_steps + t for row in rows]
        self._obs.append(map_arrays(np.array, rows_of(obs, rows)))
        # Slices: rows by number would cross to the device.
        self._states += [map_tree(lambda x, row=row: x[row : row + 1], state) for row in rows]  # type: ignore[misc]

    def obs(self) -> Arrays:
        """The last observations, `[K, ...]`."""
        return join_trees(self._obs, np.concatenate)

    def state(self) -> Tree:
        """The recurrent states with which they are valued, `[K, ...]`, or None."""
        return join_trees(self._states, torch.cat)

"""A population: several seeds of one PPO run in one process, for cheap native environments.

Start-up is paid once, and the spread over seeds shows during training. The members share nothing:
member k is exactly the run with seed + k. The run's player is the member with the best evaluation.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from playout.agents.ppo.trainer import PPOTrainer
from playout.agents.runs import ranks
from playout.agents.runs.console import counted
from playout.agents.runs.trainer import Trainer
from playout.agents.vector.actions import leaves
from playout.agents.vector.sources import Source


class Population(Trainer):
    """Trains its members in turn."""

    title, unit, best_metric = "PPO population", "steps", "eval/mean_reward"
    evaluates_together = True

    def __init__(self, members: list[PPOTrainer]) -> None:
        self.members = members
        self.evaluations: list[float | None] = [None] * len(members)
        self.measured: list[int] = []  # members whose last evaluation is of what they are now

    @property
    def progress(self) -> tuple[int, int]:
        """Steps of all members, done and planned."""
        parts = [member.progress for member in self.members]
        done = sum(
            total if member.finished else steps
            for member, (steps, total) in zip(self.members, parts, strict=True)
        )
        return done, sum(total for _, total in parts)

    @property
    def finished(self) -> bool:
        """Whether every member is."""
        return all(member.finished for member in self.members)

    def update(self) -> dict[str, float]:
        """One update of every member that is not finished; means over them."""
        self.running = [k for k, member in enumerate(self.members) if not member.finished]
        found = [self.members[k].update() for k in self.running]
        self.measured = [k for k in self.measured if k not in self.running]
        metrics: dict[str, float] = {}
        for key in sorted({key for one in found for key in one}):
            values = [one[key] for one in found if key in one]
            metrics[key] = float(np.mean(values))
        metrics["population/running"] = float(len(self.running))
        return metrics

    def evaluate(self) -> dict[str, float]:
        """Evaluations of the members that have one due: the best, the median and the worst.

        The best is the measure of a checkpoint: what a member scored before it learned on does not
        count. Median and worst are of the last evaluation of each.
        """
        due = False
        for k in self.running:
            found = self.members[k].evaluate()
            if "eval/mean_reward" in found:
                self.evaluations[k] = found["eval/mean_reward"]
                self.measured.append(k)
                due = True
        known = [value for value in self.evaluations if value is not None]
        if not due:
            return {}
        return {
            "eval/mean_reward": max(self._scores(self.measured))[0],
            "eval/median_reward": float(np.median(known)),
            "eval/worst_reward": min(known),
            "population/solved": float(sum(member.solved for member in self.members)),
        }

    @property
    def best(self) -> int:
        """The member with the best evaluation, of those measured as they are now if there are any.

        The first among equals.
        """
        known = self._scores(self.measured) or self._scores(range(len(self.members)))
        return -max(known)[1] if known else 0

    def _scores(self, members: Iterable[int]) -> list[tuple[float, int]]:
        """Last evaluations of members that have one, each with the member's number, negated."""
        found = ((self.evaluations[k], -k) for k in members)
        return [(value, k) for value, k in found if value is not None]

    def stop_soon(self) -> None:
        """Every member takes note."""
        for member in self.members:
            member.stop_soon()

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """How many are done, and the spread."""
        shown = {"solved": f"{sum(m.solved for m in self.members)}/{len(self.members)}"}
        if "rollout/ep_rew_mean" in metrics:
            shown["return"] = f"{metrics['rollout/ep_rew_mean']:.1f}"
        return shown

    def summary(self) -> str:
        """One line a member."""
        lines = [f"seed {member.seed}: {member.summary()}" for member in self.members]
        return "\n".join(lines)

    def state_dict(self) -> dict[str, Any]:
        """Every member's state; the best member's model and statistics stand in front."""
        states = [member.state_dict() for member in self.members]
        best = states[self.best]
        return {
            "model": best["model"],
            "normalizer": best["normalizer"],
            "spaces": best["spaces"],
            "members": states,
            "evaluations": list(self.evaluations),
            "measured": list(self.measured),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for member, own in zip(self.members, state["members"], strict=True):
            member.load_state_dict(own)
        self.evaluations = list(state["evaluations"])
        over = [k for k, member in enumerate(self.members) if member.finished]
        self.measured = list(state.get("measured", over))  # earlier versions kept none

    def rank_state(self) -> dict[str, Any]:
        """What every member has on this rank."""
        states = [member.rank_state() for member in self.members]
        return {"parts": states} if any(states) else {}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Continue from `rank_state`."""
        for member, own in zip(self.members, state.get("parts", ()), strict=False):
            member.load_rank_state(own)

    def deal_rank_states(self, parts: Sequence[dict[str, Any]]) -> str:
        """Every member begins new episodes."""
        lost = [member.deal_rank_states(parts) for member in self.members]
        return lost[0]

    def close(self) -> None:
        """Close all environments."""
        for member in self.members:
            member.close()


def bound_advice(actions: spaces.Space[Any], *, wrapped: bool = True) -> str:
    """A sentence where an untaught policy, whose actions are around 0, can only play their bounds.

    Args:
        actions: One environment's, clipped at their bounds.
        wrapped: Whether the environment takes wrappers.

    Returns:
        Nothing where 0 is among the actions, or where they have no middle.
    """
    for part in leaves(actions):
        if not isinstance(part, spaces.Box) or not part.is_bounded():
            continue
        outside = (part.low > 0) | (part.high < 0)
        if outside.any():
            low, high = part.low[outside][0], part.high[outside][0]
            middle = "--squash"
            if wrapped and part is actions:
                middle += " or --wrappers rescale_action"
            return (
                f"actions go from {low:g} to {high:g} and a new policy begins around 0, at their "
                f"bound: {middle} begins in their middle"
            )
    return ""


def note_of(source: Source, members: Sequence[PPOTrainer], *, advise: bool = False) -> str:
    """What a run of so many seeds computes, and where, in a line; with `advise` perhaps another."""
    lines = [_computes(source, members)]
    if advise:
        wrapped = source.kind in ("id", "single")
        lines.append(bound_advice(members[0].envs.action_space, wrapped=wrapped))
    return "\n".join(filter(None, lines))


def _computes(source: Source, members: Sequence[PPOTrainer]) -> str:
    first = members[0]
    envs = first.envs
    if len(members) > 1:
        return f"{envs.description}, {len(members)} seeds; {first.machine}"
    parts = [envs.description]
    if envs.native and not source.text.startswith("playout/"):
        parts[0] += f" twin of {source.text} (--no-native for the original)"
    parts.append(first.machine)
    if ranks.world() > 1:
        parts.append(
            f"rank {ranks.rank()} of {ranks.world()} ranks, "
            f"{counted(first.collect.num_envs, 'environment')} in all"
        )
    if first.stop:
        parts.append(f"until {first.threshold:g} is confirmed")
    if not envs.resumable:
        parts.append("its state cannot be saved, so a resumed run is not byte-exact")
    return "; ".join(parts)

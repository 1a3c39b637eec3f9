"""Group-relative policy optimisation (Shao et al. 2024): a prompt's other responses as baseline.

The advantage of an episode is its score less the mean score of the episodes of the same task and
seed, in deviations of that group; every token of the policy's has it. There is no value head. The
published variants differ in the baseline, in what the loss is a mean of, in the clipping and in
where KL counts (config.py's VARIANTS). Sampling, scoring and the update are trainer.py's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from playout.agents.ppo.loss import LossVariant
from playout.agents.runs import ranks
from playout.agents.runs.devices import fetch, to_device
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.config import GRPOConfig
from playout.rlhf.online.engine import EpisodeEngine
from playout.rlhf.online.episode import Episode
from playout.rlhf.online.episodes import Episodes, score_or_mark, score_texts
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.trainer import OnlineTrainer
from torch import Tensor

__all__ = ["GRPOTrainer", "group_advantages", "grouped_advantages"]


def group_advantages(scores: Tensor, group: int, *, scale: bool = True) -> Tensor:
    """Scores [R], `group` consecutive ones to a prompt, relative to their group."""
    grouped = scores.view(-1, group)
    centered = grouped - grouped.mean(1, keepdim=True)
    if scale:
        centered = centered / (grouped.std(1, keepdim=True) + 1e-4)
    return centered.reshape(-1)


def grouped_advantages(
    scores: Tensor, groups: Tensor, *, baseline: str = "group", scale: bool = True
) -> Tensor:
    """Scores [R] relative to their groups, of whatever sizes; a group of one has advantage 0.

    Args:
        scores: float32 [R].
        groups: int64 [R], the group of each.
        baseline: The mean of the group; of the others in it (leave_one_out); or, for best, 1 for
            the best of a group whose scores differ (the first of equals), 0 for the others.
        scale: Divide by the group's deviation.
    """
    if not len(scores):
        return scores
    found = _by_group(scores, groups)
    places, sizes = found.places, found.sizes[found.places]
    if baseline == "best":
        at_best = (scores == found.best[places]) & (found.best > found.least)[places]
        rows = torch.arange(len(scores), device=scores.device)
        first = torch.full((len(found.sizes),), len(scores), device=scores.device)
        first.scatter_reduce_(0, places, torch.where(at_best, rows, len(scores)), "amin")
        return (rows == first[places]).float()
    centered = scores - found.means[places]
    if baseline == "leave_one_out":  # s - (total - s) / (n - 1) = (s - mean) n / (n - 1)
        centered = centered * (sizes / (sizes - 1).clamp(min=1))
    if scale:
        centered = centered / (found.variances[places].sqrt() + 1e-4)
    return torch.where(sizes > 1, centered, 0.0)


class _Groups(NamedTuple):
    """What scores are in each of G groups; all but `places` float32 [G]."""

    places: Tensor
    """int64 [R], the number of each score's group."""
    sizes: Tensor
    means: Tensor
    variances: Tensor
    """Unbiased; 0 of one score."""
    least: Tensor
    best: Tensor


def _by_group(scores: Tensor, groups: Tensor) -> _Groups:
    """Scores [R] group by group, in as many operations for many groups as for few."""
    named, places = groups.unique(return_inverse=True)

    def filled(value: float) -> Tensor:
        return torch.full((len(named),), value, device=scores.device)

    sizes = filled(0.0).index_add_(0, places, torch.ones_like(scores))
    means = filled(0.0).index_add_(0, places, scores) / sizes
    squares = filled(0.0).index_add_(0, places, (scores - means[places]).square())
    return _Groups(
        places,
        sizes,
        means,
        squares / sizes * (sizes / (sizes - 1).clamp(min=1)),
        filled(torch.inf).scatter_reduce_(0, places, scores, "amin"),
        filled(-torch.inf).scatter_reduce_(0, places, scores, "amax"),
    )


class GRPOTrainer(OnlineTrainer):
    """Rounds of sampling groups, scoring them and `ppo_update`."""

    title = "grpo"
    config: GRPOConfig

    def make_policy(self, model: Transformer) -> LanguagePolicy:
        """The model alone."""
        return LanguagePolicy(
            model, temperature=self.config.temperature, values=False, dtype=self.dtype
        )

    @property
    def group(self) -> int:
        """Episodes of one task and seed."""
        return self.config.group

    @property
    def score_kl_coef(self) -> float:
        """What KL costs in the score."""
        return self.kl_coef if self.config.settled.kl_in == "score" else 0.0

    @property
    def loss_variant(self) -> LossVariant | None:
        """What the variant changes in the loss; None where nothing."""
        settled = self.config.settled
        found = LossVariant(
            clip_coef_high=settled.clip_high,
            mean_over_rows=settled.average != "tokens",
            ref_kl_coef=self.kl_coef if settled.kl_in == "loss" else 0.0,
        )
        return None if found == LossVariant() else found

    def _play(self, engine: EpisodeEngine, number: int) -> list[Episode]:
        """Whole groups; with `resample`, others in place of those that are all alike.

        Behind them come the others' episodes that failed, which are told of like any.
        """
        config, group = self.config, self.config.group
        played, failed = super()._play(engine, number), list[Episode]()
        for again in range(config.resample):
            alike = self._alike(played)
            if not alike:
                break
            # Rounds that no run has give them tasks, seeds and streams of their own.
            beyond = config.updates + number * config.resample + again
            fresh = engine.run(self._requests(beyond)[: len(alike) * group])
            useless = set(self._alike(fresh))
            rows = [range(at, at + group) for at in range(0, len(fresh), group)]
            useful = [
                part
                for place, part in enumerate(rows)
                if place not in useless and not any(fresh[row].error for row in part)
            ]
            for place, part in zip(alike, useful, strict=False):
                played[place * group : (place + 1) * group] = [fresh[row] for row in part]
            failed += [episode for episode in fresh if episode.error]
        return played + failed

    def _alike(self, played: Sequence[Episode]) -> list[int]:
        """Numbers of the groups without a failure whose episodes all got the same reward."""
        group, alike = self.config.group, []
        if self.config.on_failure == "skip":
            given = iter(score_or_mark(self.reward, played)[0].tolist())
        else:
            good = [episode for episode in played if not episode.error]
            given = iter(score_texts(self.reward, good)[0].tolist() if good else ())
        for place in range(len(played) // group):
            members = played[place * group : (place + 1) * group]
            got = {
                (next(given) + one.total, str(one.role_rewards), self._cuts(one))
                for one in members
                if not one.error
            }
            if len(got) == 1 and not any(one.error for one in members):
                alike.append(place)
        return alike

    def _cuts(self, one: Episode) -> tuple[str, ...] | int:
        """What an episode loses by cut answers: by the roles that wrote them, or their number."""
        if not self.cut_penalty:
            return 0
        cut = [turn for turn, ended in enumerate(one.answer_ended) if not ended]
        return tuple(sorted(one.roles[turn] for turn in cut)) if one.roles else len(cut)

    def update(self) -> dict[str, float]:
        """One round."""
        episodes = self.collect(self.updates)
        rollout = episodes.rollout
        # The sum of a row's rewards is its score less the KL and the penalty for no end.
        whole = rollout.rewards.sum(1)
        relative = self._advantages(whole, episodes)
        rollout.advantages = relative[:, None] * rollout.valid
        rollout.returns = rollout.values
        rollout.weights = self._weights(episodes)
        scores = episodes.scores
        if self.cut_penalty:
            cuts = to_device((episodes.rows.cuts & episodes.rows.valid).sum(1), whole.device)
            scores = scores - self.cut_penalty * cuts
        spread = _spread(scores, to_device(episodes.groups, whole.device))
        learned = self.learn(episodes)
        return learned | self._merged(episodes, fetch({"reward": whole.mean(), **spread}))

    def _merged(self, episodes: Episodes, found: dict[str, float]) -> dict[str, float]:
        """A mean over rows and means over groups, of all ranks."""
        if ranks.world() == 1:
            return found
        whole = ranks.merge_metrics({"reward": found.pop("reward")}, weight=len(episodes.scores))
        return whole | ranks.merge_metrics(found, weight=len(episodes.groups.unique()))

    def _full(self, episodes: Episodes) -> bool:
        """Whether every group here has all its episodes, one row each."""
        groups = ranks.share(self.config.batch // self.config.group, "groups")
        whole = len(episodes.scores) == len(groups) * self.config.group
        return whole and not any(episode.roles for episode in episodes.episodes)

    def _advantages(self, whole: Tensor, episodes: Episodes) -> Tensor:
        """Of each row, [R]."""
        config, settled = self.config, self.config.settled
        groups = to_device(episodes.groups, whole.device)
        if config.whole_only:
            complete = to_device(~(episodes.rows.cuts & episodes.rows.valid).any(1), whole.device)
            episodes.rollout.valid = episodes.rollout.valid & complete[:, None]
            if settled.baseline == "best":  # of the whole ones: each other is a group of its own
                alone = -1 - torch.arange(len(whole), device=whole.device)
                groups = torch.where(complete, groups, alone)
        if settled.baseline == "group" and self._full(episodes):
            return group_advantages(whole, config.group, scale=settled.scaled)
        found = grouped_advantages(whole, groups, baseline=settled.baseline, scale=settled.scaled)
        if settled.baseline == "best":  # the others teach nothing, and are no part of a mean
            episodes.rollout.valid = episodes.rollout.valid & (found > 0)[:, None]
        return found

    def _weights(self, episodes: Episodes) -> Tensor | None:
        """How much each token counts in the loss, [R, T]; None where each as much."""
        average, valid = self.config.settled.average, episodes.rollout.valid
        if average == "tokens":
            return None
        if average == "sums":
            return valid.float()
        if average == "constant":
            return valid.float() / self.config.max_new_tokens
        return valid.float() / valid.sum(1, keepdim=True).clamp(min=1)


def _spread(scores: Tensor, groups: Tensor) -> dict[str, Tensor]:
    """How far scores differ within groups: the mean deviation, and the share of equal groups."""
    if not len(scores):
        return {"reward_std": scores.new_zeros(()), "frac_reward_zero_std": scores.new_ones(())}
    found = _by_group(scores, groups)
    # The deviation of equal scores may be some last bit.
    equal = (found.best == found.least).float()
    return {
        "reward_std": found.variances.sqrt().nan_to_num().mean(),
        "frac_reward_zero_std": equal.mean(),
    }

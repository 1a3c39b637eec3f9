"""Episodes with scores and KL, laid out as the rollout that agents' learner takes.

Every token pays for its KL; the environment's rewards come with the last token of their turn, a
reward function's score with the last of all. Where the environment cuts an episode, what would
follow is valued for the role that would go on. Of another role no place says what its last answer
led to: PPO leaves that answer out, and values what came before by where it began. Episodes are
engine.py's, their rows rows.py's, advantages agents' or grpo.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from playout.agents.ppo.rollout import Rollout
from playout.agents.runs import ranks
from playout.agents.runs.devices import fetch, pack_to_device, to_device
from playout.errors import ConfigError, DataError
from playout.rlhf.generation.responses import Responses
from playout.rlhf.model.reference import Reference
from playout.rlhf.online.config import ESTIMATORS
from playout.rlhf.online.episode import Episode
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.rewards import (
    RewardFunction,
    RewardInputs,
    WeightedRewards,
    checked_rewards,
    faults_of_rewards,
)
from playout.rlhf.online.rows import TokenRows, lay_out
from torch import Tensor

__all__ = [
    "Episodes",
    "episode_metrics",
    "episodes_of",
    "kl_estimate",
    "no_episodes",
    "score_episodes",
    "score_or_mark",
    "score_texts",
]


def kl_estimate(logprobs: Tensor, reference: Tensor, estimator: str) -> Tensor:
    """A token's share of KL(policy, reference) (Schulman 2020).

    k1 is the log-ratio, unbiased and of either sign; k3 adds the ratio's own mean zero part, so
    it is never negative.
    """
    if estimator not in ESTIMATORS:
        raise ConfigError(f"the KL estimator must be k1 or k3, not {estimator!r}")
    log_ratio = reference - logprobs
    return -log_ratio if estimator == "k1" else log_ratio.exp() - 1 - log_ratio


@dataclass(slots=True)
class Episodes:
    """E episodes in R rows with everything that learning and reports need."""

    episodes: Sequence[Episode]
    rows: TokenRows
    rollout: Rollout
    scores: Tensor
    """float32 [R], what the environment and the reward function gave in all."""
    kl: Tensor
    """float32 [R, T] per token by the chosen estimator, 0 where not valid."""
    log_ratio: Tensor
    """float32 [R, T], log policy - log reference; its sum a row is the k1 estimate."""
    entropies: Tensor
    """float32 [R, T]."""
    columns: dict[str, Tensor] = field(default_factory=dict)
    """float32 [E], the rewards of several functions by their names."""
    groups: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """int64 [R], which rows are compared with each other: same task, seed and role."""
    seconds: dict[str, float] = field(default_factory=lambda: {"model": 0.0, "environment": 0.0})
    """Time spent in the model and in environments while the episodes were played."""


def no_episodes(
    policy: LanguagePolicy, reference: Reference, *, whiten: bool = False, pad: int = 0
) -> Episodes:
    """What a rank has whose episodes have all failed: no rows.

    It takes part in what ranks do together in `score_episodes`, whose arguments these are.
    """
    device = policy.model.device
    for lent in (policy.whole(), reference.whole()):
        with lent:
            pass
    if whiten:
        _moments(torch.zeros(0, device=device))
    false, zero = torch.zeros(0, 1, dtype=torch.bool), torch.zeros(0, 1)
    number, ids = torch.zeros(0, dtype=torch.long), torch.full((0, 1), pad)
    rows = TokenRows(
        obs=ids,
        actions=ids,
        valid=false,
        last=false,
        cuts=false,
        rewards=zero,
        logprobs=zero,
        turns=torch.zeros_like(ids),
        episode=number,
        role=number,
        num_roles=1,
        continues=false[:, 0],
        unresolved=false,
    )
    obs, zero, false = ids.to(device), zero.to(device), false.to(device)
    rollout = Rollout(
        obs=obs,
        actions=obs,
        logprobs=zero,
        values=zero,
        rewards=zero,
        terminations=false,
        truncations=false,
        valid=false,
        last_values=zero[:, 0],
        ref_logprobs=zero,
    )
    return Episodes([], rows, rollout, zero[:, 0], zero, zero, zero, groups=number)


def episodes_of(responses: Responses) -> list[Episode]:
    """Responses to single prompts as episodes of one turn."""
    generation, found = responses.generation, []
    for row, (prompt, answer) in enumerate(
        zip(responses.prompts, responses.responses, strict=True)
    ):
        read, wrote = generation.prompts[row], generation.response(row, stop=True)
        ended = bool(generation.finished[row])
        found.append(
            Episode(
                task=None,
                seed=0,
                prompt=prompt,
                answers=[answer],
                rewards=[0.0],
                tokens=[*read, *wrote],
                mask=[False] * len(read) + [True] * len(wrote),
                turns=[0] * (len(read) + len(wrote)),
                logprobs=[0.0] * len(read) + generation.logprobs[row, : len(wrote)].tolist(),
                answer_ended=[ended],
                ended=ended,
            )
        )
    return found


def score_texts(
    reward: RewardFunction | None, episodes: Sequence[Episode]
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a reward function gives episodes, float32 [E], and the columns of several functions."""
    if reward is None:
        return torch.zeros(len(episodes)), {}
    inputs = RewardInputs.of(episodes)
    if isinstance(reward, WeightedRewards):
        columns = reward.columns(inputs)
        return reward.total(columns), columns
    return checked_rewards(reward, inputs), {}


def score_or_mark(
    reward: RewardFunction | None, episodes: Sequence[Episode]
) -> tuple[Tensor, dict[str, Tensor]]:
    """`score_texts` of the episodes without an error; those that get no reward are given one.

    A function that raises, or returns what is no finite number, is asked for each episode alone,
    and once more for all that are left.
    """
    good = [episode for episode in episodes if not episode.error]
    try:
        return score_texts(reward, good) if good else (torch.zeros(0), {})
    except DataError:
        assert reward is not None
        for episode, fault in zip(good, faults_of_rewards(reward, good), strict=True):
            episode.error = fault
    good = [episode for episode in good if not episode.error]
    return score_texts(reward, good) if good else (torch.zeros(0), {})


@torch.no_grad()
def score_episodes(
    policy: LanguagePolicy,
    reference: Reference,
    episodes: Sequence[Episode] | Responses,
    reward: RewardFunction | None,
    *,
    given: tuple[Tensor, dict[str, Tensor]] | None = None,
    kl_coef: float,
    estimator: str = "k1",
    missing_end: float = 0.0,
    whiten: bool = False,
    pad: int = 0,
) -> Episodes:
    """Score episodes of `policy` and lay them out as a rollout, without advantages yet.

    Args:
        policy: The policy that played them, as it was then.
        reference: What it should stay near to.
        episodes: What happened, without errors; or responses to single prompts.
        reward: Its number is given at the last token of an episode, besides what the environment
            gave; None leaves it at that.
        given: What the reward gave, where it was asked before (`score_or_mark`).
        kl_coef: Times a token's KL is taken from its reward.
        estimator: k1 or k3.
        missing_end: Taken from the reward of every answer that was cut before it ended.
        whiten: Divide rewards by their deviation over all valid tokens, those of other ranks
            too, their mean kept.
        pad: Fills the rows.
    """
    if isinstance(episodes, Responses):
        episodes = episodes_of(episodes)
    rows = lay_out(episodes, pad)
    scored, columns = score_texts(reward, episodes) if given is None else given
    unfinished = (rows.cuts & rows.last).any(1)
    obs, actions, valid, last, unresolved, unfinished, scores, earned, cuts, *few = pack_to_device(
        [
            *(rows.obs, rows.actions, rows.valid, rows.last, rows.unresolved, unfinished),
            *(scored[rows.episode], rows.rewards, rows.cuts & ~rows.last),
            *([] if rows.allowed is None else [rows.allowed]),
        ],
        policy.model.device,
    )
    # What was sampled under constraints is learned as the choice that it was.
    allowed = few[0] if few else None
    bootstrap = None
    with policy.whole():
        logprobs, entropies, values = policy.assess(obs, actions, valid, allowed=allowed)
        if bool(rows.continues.any()):
            bootstrap = _values_after(policy, rows, episodes, pad)
    with reference.whole():
        theirs = reference.logprobs(
            obs, actions, valid, temperature=policy.temperature, allowed=allowed
        )
    kl = kl_estimate(logprobs, theirs, estimator) * valid
    final = scores - missing_end * unfinished.float()
    rewards = -kl_coef * kl + last * final[:, None] + (earned - missing_end * cuts.float())
    if whiten:
        middle, spread = _moments(rewards[valid])
        rewards = ((rewards - middle) / (spread + 1e-8) + middle) * valid
    truncations = torch.zeros_like(valid)
    if bootstrap is not None:
        truncations = last & to_device(rows.continues, valid.device)[:, None]
        bootstrap = bootstrap * truncations
    learned = valid
    if policy.value_head is not None and bool(rows.unresolved.any()):
        learned = valid & ~unresolved
        before, begin = _before(learned, unresolved)
        truncations = truncations | before
        known = values.gather(1, begin[:, None]) * before
        bootstrap = known if bootstrap is None else bootstrap + known
    rollout = Rollout(
        obs=obs,
        actions=actions,
        logprobs=logprobs,
        values=values,
        rewards=rewards,
        terminations=last & ~truncations,
        truncations=truncations,
        valid=learned,
        last_values=torch.zeros(len(obs), device=obs.device),
        bootstrap_values=bootstrap,
        ref_logprobs=theirs,
        allowed=allowed,
    )
    log_ratio = (logprobs - theirs) * valid
    total = scores + earned.sum(1)
    return Episodes(episodes, rows, rollout, total, kl, log_ratio, entropies, columns)


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of numbers [N] and those of all other ranks."""
    if ranks.world() == 1:
        return values.mean(), values.std(correction=0)
    count, total = ranks.sums([len(values), float(values.sum(dtype=torch.float64))])
    mean = total / max(count, 1.0)
    (squares,) = ranks.sums([float((values.double() - mean).square().sum())])
    return values.new_tensor(mean), values.new_tensor((squares / max(count, 1.0)) ** 0.5)


def _values_after(
    policy: LanguagePolicy, rows: TokenRows, episodes: Sequence[Episode], pad: int
) -> Tensor:
    """The value of what follows each row's last token, [R, 1], 0 where nothing is to follow."""
    ids = torch.nn.functional.pad(rows.obs, (0, 1), value=pad)
    asked = torch.zeros(ids.shape, dtype=torch.bool)
    for row, (number, goes_on) in enumerate(
        zip(rows.episode.tolist(), rows.continues.tolist(), strict=True)
    ):
        tokens = episodes[number].tokens
        ids[row, : len(tokens)] = torch.tensor(tokens)
        asked[row, len(tokens) - 1] = goes_on
    obs, valid = pack_to_device([ids, asked], policy.model.device)
    _, _, values = policy.assess(obs, torch.full_like(obs, pad), valid)
    return values.sum(1, keepdim=True)


def _before(learned: Tensor, unresolved: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows with an unresolved answer: the last step before it, and the step where it begins.

    Both masks are bool [R, T]; so is the first result, with nothing where nothing comes before, and
    the second is int64 [R].
    """
    steps = torch.arange(learned.shape[1], device=learned.device)
    begin = unresolved.int().argmax(1)
    last = torch.where(learned, steps, -1).amax(1)
    return (steps == last[:, None]) & unresolved.any(1, keepdim=True), begin


def episode_metrics(found: Episodes, kl_coef: float) -> dict[str, float]:
    """Means a row under TRL's names, over all ranks."""
    rows, logprobs = found.rows, found.rollout.logprobs
    penalty = -(kl_coef * found.kl.sum(1))
    # All that the policy wrote, also where a variant learns from a part of it. Generation and
    # training compute the same log-probabilities by different kernels.
    parts = [rows.logprobs[rows.valid], rows.valid]
    sampled, valid = pack_to_device(parts, logprobs.device)
    trained = logprobs[valid]
    ends = [ended for episode in found.episodes for ended in episode.answer_ended]
    gap = (sampled - trained).abs()
    merge, rewards = ranks.merge_metrics, {f"rewards/{n}": c for n, c in found.columns.items()}
    by_token = ("policy/entropy_avg", "val/sampling_gap", "val/sampling_gap_max")
    means = fetch(
        {
            "objective/kl": found.log_ratio.sum(1).mean(),
            "objective/entropy": -(logprobs * valid).sum(1).mean(),
            "objective/non_score_reward": penalty.mean(),
            "objective/scores": found.scores.mean(),
            "objective/rlhf_reward": (found.scores + penalty).mean(),
            "policy/entropy_avg": found.entropies[valid].mean(),
            "val/num_eos_tokens": float(sum(ends)),
            "val/mean_length": float(rows.lengths.float().mean()),
            "val/sampling_gap": gap.mean(),
            "val/sampling_gap_max": gap.max() if len(gap) else gap.sum(),
            **{name: column.mean() for name, column in rewards.items()},
        }
    )
    if ranks.world() == 1:
        return means
    tokens = merge({name: means.pop(name) for name in by_token}, weight=len(gap))
    episodes = merge({name: means.pop(name) for name in rewards}, weight=len(found.episodes))
    rest = merge(means, weight=len(found.scores), summed=("val/num_eos_tokens",))
    return rest | tokens | episodes

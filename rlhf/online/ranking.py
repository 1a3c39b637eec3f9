"""Preferences made by a policy: responses or episodes, ranked, kept as a file of pairs.

What DPO learns from where nobody has voted. Votes of people are data/records.py's.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.errors import ConfigError, DataError, EnvironmentFault
from playout.rlhf.data.batches import batch_of
from playout.rlhf.data.messages import Prompt
from playout.rlhf.data.records import Preference, prompt_key
from playout.rlhf.environments.environment import EnvironmentFactory
from playout.rlhf.environments.prompts import episode_seed
from playout.rlhf.generation.responses import sample_responses
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.engine import EpisodeEngine, EpisodeRequest, all_failed, describe
from playout.rlhf.online.episode import Episode
from playout.rlhf.online.episodes import episodes_of, score_or_mark, score_texts
from playout.rlhf.online.rewards import RewardFunction

__all__ = ["rank_episodes", "rank_samples", "write_preferences"]


def rank_samples(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    reward: RewardFunction,
    *,
    samples: int = 4,
    max_new_tokens: int,
    seed: int,
    dtype: torch.dtype,
    tasks: Sequence[Any] | None = None,
    stop: Sequence[str] = (),
    told: Callable[[int], object] = lambda done: None,
) -> list[Preference]:
    """The best and the worst of some sampled responses to each prompt, by a reward.

    Responses that were cut before they ended are left out: a pair file cannot say so.

    Args:
        model: The policy.
        tokenizer: Its tokenizer.
        prompts: Equal ones are asked once, where no tasks tell them apart.
        reward: Ranks the responses.
        samples: Responses a prompt.
        max_new_tokens: Longest response.
        seed: Of all random numbers.
        dtype: Of matrix products.
        tasks: What belongs to each prompt, for reward functions that ask for it.
        stop: Texts that end a response.
        told: Is given how many responses are there, from time to time.
    """
    if samples < 2:
        raise ConfigError(f"ranking needs at least 2 samples a prompt, not {samples}")
    alike = {prompt_key(prompt): prompt for prompt in prompts}
    asked = list(alike.values()) if tasks is None else prompts
    found: list[list[tuple[float, str]]] = [[] for _ in asked]
    for draw in range(samples):
        answers = sample_responses(
            model,
            tokenizer,
            asked,
            max_new_tokens=max_new_tokens,
            seed=seed,
            dtype=dtype,
            stop=stop,
            streams=range(draw * len(asked), (draw + 1) * len(asked)),
        )
        told((draw + 1) * len(asked))
        episodes = episodes_of(answers)
        if tasks is not None:
            for episode, task in zip(episodes, tasks, strict=True):
                episode.task = task
        scores = score_texts(reward, episodes)[0].tolist()
        ended = answers.generation.finished.tolist()
        for ranked, text, score, end in zip(found, answers.responses, scores, ended, strict=True):
            if end and text.strip():
                ranked.append((score, text))
    pairs = []
    for prompt, ranked in zip(asked, found, strict=True):
        ranked.sort()
        if len(ranked) > 1 and ranked[0][0] < ranked[-1][0]:
            (low, worst), (high, best) = ranked[0], ranked[-1]
            pairs.append(Preference(prompt, best, worst, margin=round(high - low, 4)))
    if not pairs:
        raise DataError("the samples of every prompt are alike; there is nothing to rank")
    return pairs


def rank_episodes(
    engine: EpisodeEngine,
    factory: EnvironmentFactory,
    reward: RewardFunction | None,
    *,
    count: int,
    samples: int = 4,
    seed: int = 0,
    skip: bool = False,
    told: Callable[[int], object] = lambda over: None,
) -> list[Preference]:
    """Pairs from the best and the worst of some episodes of each task and seed.

    A pair is what was read up to the first answer in which the two episodes differ, and both
    answers. With roles, two episodes are compared by what the role got in all that wrote these
    answers. Where that is not the first answer, what was read is a conversation, which only a model
    with a chat template can be asked again; of other models such pairs are left out, as are cut
    answers.

    Args:
        engine: Plays with the policy.
        factory: Of the environment.
        reward: Besides what the environment gives; none if None.
        count: Tasks to make pairs of.
        samples: Episodes a task.
        seed: Of the tasks' order and of the environments.
        skip: Go on without episodes in which the environment or the reward failed.
        told: Is given how many episodes are over, from time to time.

    Raises:
        EnvironmentFault: An environment failed, and failures are not skipped; or all episodes did.
        DataError: The reward function failed, likewise; or there is nothing to rank.
    """
    if samples < 2:
        raise ConfigError(f"ranking needs at least 2 samples a prompt, not {samples}")
    tasks = factory.tasks("train")
    order = None if tasks is None else batch_of(len(tasks), min(count, len(tasks)), 0, seed=seed)
    requests = [
        EpisodeRequest(
            factory,
            None if tasks is None or order is None else tasks[order[number % len(order)]],
            episode_seed(seed, number),
            number * samples + draw,
        )
        for number in range(count)
        for draw in range(samples)
    ]
    played = engine.run(requests, told=told)
    given, _ = score_or_mark(reward, played) if skip else (None, None)
    failed = [episode for episode in played if episode.error]
    if failed and (not skip or len(failed) == len(played)):
        fault = describe(failed[0])
        raise EnvironmentFault(all_failed(len(played), "to rank", fault) if skip else fault)
    if given is None:
        given, _ = score_texts(reward, played)
    scores = iter(given.tolist())
    pairs = []
    for first in range(0, len(played), samples):
        group = [(one, next(scores)) for one in played[first : first + samples] if not one.error]
        pair = _pair_of(group, as_user=engine.as_user)
        if pair is not None:
            pairs.append(pair)
    if not pairs:
        raise DataError(
            "of no task do two episodes differ in reward by answers that ended; there is nothing "
            "to rank (raise --max-new-tokens, --samples or --num-pairs)"
        )
    return pairs


def _pair_of(group: Sequence[tuple[Episode, float]], *, as_user: bool) -> Preference | None:
    """The pair of a task's episodes, each with what a reward function gave it; None without one.

    Of all the best and the worst; with roles, of all pairs the two that lie farthest apart.
    """
    found, largest = None, 0.0
    candidates = list(combinations(group, 2))
    if candidates and not any(episode.roles for episode, _ in group):
        totals = [(episode.total + given, number) for number, (episode, given) in enumerate(group)]
        candidates = [(group[max(totals)[1]], group[min(totals)[1]])]
    for (one, given), (other, other_given) in candidates:
        turn = _parting(one, other)
        if turn is None:
            continue
        margin = (_got(one, turn) + given) - (_got(other, turn) + other_given)
        best, worst = (one, other) if margin > 0 else (other, one)
        pair = _pair(best, worst, as_user=as_user) if abs(margin) > largest else None
        if pair is not None:
            largest = abs(margin)
            found = Preference(*pair, margin=round(largest, 4))
    return found


def _got(episode: Episode, turn: int) -> float:
    """What the episode gave in all to whoever answered at a turn."""
    return episode.role_totals[episode.roles[turn]] if episode.roles else episode.total


def _parting(one: Episode, other: Episode) -> int | None:
    """The turn of the first answers that differ; None where the environment differed before."""
    for turn, (first, second) in enumerate(zip(one.answers, other.answers, strict=False)):
        if one.roles[turn : turn + 1] != other.roles[turn : turn + 1]:
            return None
        if first != second:
            return turn
        if one.replies[turn : turn + 1] != other.replies[turn : turn + 1]:
            return None  # the environment drew differently
    return None


def _pair(best: Episode, worst: Episode, *, as_user: bool = True) -> tuple[Prompt, str, str] | None:
    """What was read before the first answers that differ, and these; None where it cannot be."""
    turn = _parting(best, worst)
    if turn is None:
        return None
    good, bad = best.answers[turn], worst.answers[turn]
    whole = best.answer_ended[turn] and worst.answer_ended[turn]
    if not whole or not good.strip() or not bad.strip():
        return None
    if turn == 0:
        return best.prompt, good, bad
    said = [best.prompt, *([] if as_user else best.replies[:turn])]
    if any(isinstance(part, str) for part in said):  # what is read as it stands is no message
        return None
    before = replace(best, answers=best.answers[:turn], replies=best.replies[:turn])
    return before.messages, good, bad


def write_preferences(path: Path, pairs: Sequence[Preference]) -> None:
    """Pairs as JSON lines that `read_preferences` reads."""
    lines = [
        json.dumps(
            {"prompt": p.prompt, "chosen": p.first, "rejected": p.second, "margin": p.margin},
            ensure_ascii=False,
        )
        for p in pairs
    ]
    replace_file(path, ("\n".join(lines) + "\n").encode())

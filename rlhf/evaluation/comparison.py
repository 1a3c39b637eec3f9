"""Two policies and what a comparison of them needs, found from the run of the one that learned.

Scores and win rates are judge.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs.directory import RunDir
from playout.agents.runs.reporting import as_word
from playout.errors import RunError
from playout.rlhf.data.datasets import Datasets, hold_out_pairs
from playout.rlhf.data.messages import Prompt, as_messages
from playout.rlhf.data.records import read_preferences
from playout.rlhf.environments.prompts import (
    fitting,
    prompts_of,
    read_prompt_tasks,
    room_check,
    split_prompt_tasks,
)
from playout.rlhf.evaluation.evaluator import PolicyEvaluator
from playout.rlhf.generation.conversation import Truncate
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import held_type
from playout.rlhf.model.folder import IMPROVING, load_model, model_folder
from playout.rlhf.model.transformer import Transformer, pick_dtype
from playout.rlhf.online.rewards import load_reward, trust_reward
from playout.rlhf.stages.bases import own_base, own_reward_models
from playout.rlhf.stages.run import is_finished
from playout.rlhf.stages.sizes import response_length

__all__ = ["Comparison", "comparison_of", "own_prompts"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A policy, its opponent, and the prompts and scorers of their answers."""

    folder: Path
    policy: Transformer
    opponent: Transformer
    evaluator: PolicyEvaluator


def comparison_of(
    path: Path,
    *,
    opponent: Path | None = None,
    reward: str = "",
    prompts: str = "",
    num_prompts: int = 256,
    seed: int = 0,
    max_new_tokens: int = 0,
    stop: Sequence[str] = (),
    truncate: Truncate = "error",
    device: torch.device | None = None,
    dtype: str = "auto",
    weights: str = "float32",
) -> Comparison:
    """The comparison of the policy in `path` with another; what is not given is its run's.

    Args:
        path: A stage that improved a policy, or a whole pipeline.
        opponent: By default the policy that it started from.
        reward: By default the reward that it learned from.
        prompts: File of prompts; by default the held-out ones of its own.
        num_prompts: At most so many.
        seed: Of the answers.
        max_new_tokens: Longest answer; 0 takes the run's.
        stop: Texts that end an answer; by default the run's.
        truncate: What is cut of a prompt that leaves no room for an answer.
        device: Where everything computes; the processor if None.
        dtype: Of matrix products.
        weights: One of `HELD`.
    """
    run = RunDir.open(path)
    if run.kind == "rlhf.all":
        stages = [path / name for name in IMPROVING if is_finished(path / name)]
        if not stages:
            raise RunError(f"{path} has no finished rlhf, grpo or dpo stage yet")
        run = RunDir.open(stages[0])
    held = held_type(weights)
    policy, tokenizer = load_model(model_folder(run.path), device=device, weights=held)
    base = opponent if opponent is not None else run.config.get("base")
    if not base:
        raise RunError(f"{run.path} did not start from a policy; name one to compare with")
    command = f"playout rlhf judge {as_word(run.path)}"
    if opponent is None:
        instead = f"name another: {command} OPPONENT"
        base = own_base(run, str(base), ["sft", "pretrain"], instead=instead)
    other, other_tokenizer = load_model(str(base), ["sft", "pretrain"], device=device, weights=held)
    if not other_tokenizer.same_vocabulary(tokenizer):
        raise RunError(f"{base} and {run.path} do not share a tokenizer")
    named = reward or run.config.get("reward")
    if not named:
        raise RunError(f"{run.path} learned from no reward; name one with --reward")
    parts = ""
    if not reward:
        trust_reward(str(named), run.path)
        instead = f"name another: {command} --reward RUN"
        named = own_reward_models(run, str(named), instead=instead)
        parts = str(run.config.get("reward_weights") or "")
    scorer = load_reward(
        str(named), weights_of_rewards=parts, dtype=dtype, device=device, weights=held
    )
    source = str(run.config.get("material", "files"))
    longest = response_length(run.config)
    room = policy.config.max_position_embeddings - longest
    if prompts:
        rows: list[dict[str, Any]] | None = read_prompt_tasks(prompts, mixed=True)
    else:
        sides = own_prompts(run, tokenizer, room)
        rows = None if sides is None else sides[1]
    if rows is not None and not rows:
        raise RunError(f"{run.path} held out no prompt with room for an answer; give --prompts")
    rows = None if rows is None else rows[:num_prompts]
    asked: list[Prompt] = (
        [*Datasets(source).prompts()[1]] if rows is None else [row["prompt"] for row in rows]
    )
    if not prompts and _asks_as_user(run, tokenizer):  # as they were in training
        asked = [as_messages(prompt) for prompt in asked]
    evaluator = PolicyEvaluator(
        tokenizer,
        asked[:num_prompts],
        scorer,
        None if source == "files" else Datasets(source).judge(),
        max_new_tokens=max_new_tokens or longest,
        temperature=float(run.config.get("temperature", 1.0)),
        stop=tuple(stop or run.config.get("stop", ())),
        seed=seed + 101,
        dtype=pick_dtype(dtype, device),
        tasks=rows,
        truncate=truncate,
    )
    return Comparison(run.path, policy, other, evaluator)


def _asks_as_user(run: RunDir, tokenizer: Tokenizer) -> bool:
    """Whether a plain prompt of its own was a user's message to a run."""
    if run.config.get("measured_on") == "pairs":
        return tokenizer.template is not None and not run.config.get("plain", True)
    return bool(run.config.get("asked") == "user")


def own_prompts(
    run: RunDir, tokenizer: Tokenizer, room: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """Rows of the prompts of its own that a run learned from, and that it held out.

    None where it took those of playout; the same list twice where there were too few. Of pairs
    only prompts of up to `room` tokens are there.
    """
    config, is_dpo = run.config, run.kind == "rlhf.dpo"
    kept = str(run.path / str(config["rows"])) if config.get("rows") else ""
    file = str(config.get("prompts") or "")
    if not file and config.get("material") == "files":
        file = str(config.get("preferences" if is_dpo else "data") or "")
        if is_dpo:
            pairs = read_preferences(kept or file)
            check = room_check(tokenizer, room, as_user=_asks_as_user(run, tokenizer))
            if config.get("measured_on") != "pairs":
                return split_prompt_tasks(fitting(prompts_of(pairs), check))
            train, held = (fitting(prompts_of(p), check) for p in hold_out_pairs(pairs))
            return train, held
    if not is_dpo:  # whose rows are pairs
        file = kept or file
    return split_prompt_tasks(read_prompt_tasks(file)) if file else None

"""Seconds that TRL's trainers take for a step of PPO, GRPO, DPO and reward modelling.

Each trainer runs a few steps and the time between the ends of two steps counts, so that building
it does not. Models come from a Hugging Face folder that the comparison wrote.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer
from trl.experimental.ppo import PPOConfig, PPOTrainer

BATCH, PROMPT, ANSWER, GROUP = 64, 16, 48, 8


class Clock(TrainerCallback):
    """Remembers when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer."""
        self.ends.append(time.perf_counter())


def _common(folder: str, bf16: bool) -> dict[str, Any]:
    return {
        "output_dir": f"{folder}/trl",
        "per_device_train_batch_size": BATCH,
        "bf16": bf16,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "gradient_checkpointing": False,
        "learning_rate": 1e-4,
    }


def _seconds(trainer: Any, clock: Clock) -> float:
    trainer.train()
    return min(b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False))


def _models(folder: str, count: int) -> list[Any]:
    return [AutoModelForCausalLM.from_pretrained(f"{folder}/policy") for _ in range(count)]


def _scorers(folder: str, count: int) -> list[Any]:
    return [
        AutoModelForSequenceClassification.from_pretrained(f"{folder}/reward") for _ in range(count)
    ]


def ppo(folder: str, prompts: Sequence[Sequence[int]], *, bf16: bool) -> float:
    """A step of 64 samples, four epochs, with its own value model and a reward model."""
    policy, reference = _models(folder, 2)
    reward, value = _scorers(folder, 2)
    clock = Clock()
    arguments = PPOConfig(
        **_common(folder, bf16),
        total_episodes=2 * BATCH,
        num_mini_batches=2,
        num_ppo_epochs=4,
        response_length=ANSWER,
        local_rollout_forward_batch_size=BATCH,
        num_sample_generations=0,
        temperature=1.0,
    )
    trainer = PPOTrainer(
        args=arguments,
        processing_class=_tokenizer(folder),
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": [list(p) for p in prompts]}),
        callbacks=[clock],
    )
    return _seconds(trainer, clock)


def grpo(
    folder: str, prompts: Sequence[str], reward: Callable[[list[str]], list[float]], *, bf16: bool
) -> float:
    """A step of 64 samples, 8 a prompt, one epoch."""
    clock = Clock()
    arguments = GRPOConfig(
        **_common(folder, bf16),
        num_generations=GROUP,
        max_completion_length=ANSWER,
        max_steps=3,
        beta=0.05,
        temperature=1.0,
    )
    trainer = GRPOTrainer(
        model=_models(folder, 1)[0],
        reward_funcs=lambda prompts, completions, **_: reward(
            [p + c for p, c in zip(prompts, completions, strict=True)]
        ),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
        processing_class=_tokenizer(folder),
        callbacks=[clock],
    )
    return _seconds(trainer, clock)


def dpo(folder: str, pairs: Sequence[tuple[str, str, str]], *, bf16: bool) -> float:
    """A step of 64 pairs."""
    clock = Clock()
    arguments = DPOConfig(**_common(folder, bf16), max_steps=3, beta=0.1)
    policy, reference = _models(folder, 2)
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=arguments,
        train_dataset=_pairs(pairs, with_prompt=True),
        processing_class=_tokenizer(folder),
        callbacks=[clock],
    )
    return _seconds(trainer, clock)


def reward(folder: str, pairs: Sequence[tuple[str, str, str]], *, bf16: bool) -> float:
    """A step of 64 pairs."""
    clock = Clock()
    arguments = RewardConfig(**_common(folder, bf16), max_steps=3)
    trainer = RewardTrainer(
        model=_scorers(folder, 1)[0],
        args=arguments,
        train_dataset=_pairs(pairs, with_prompt=False),
        processing_class=_tokenizer(folder),
        callbacks=[clock],
    )
    return _seconds(trainer, clock)


def _tokenizer(folder: str) -> Any:
    return AutoTokenizer.from_pretrained(f"{folder}/policy", padding_side="left")


def _pairs(pairs: Sequence[tuple[str, str, str]], *, with_prompt: bool) -> Dataset:
    columns = {"prompt": [p for p, _, _ in pairs]} if with_prompt else {}
    start = [""] * len(pairs) if with_prompt else [p for p, _, _ in pairs]
    columns["chosen"] = [s + c for s, (_, c, _) in zip(start, pairs, strict=True)]
    columns["rejected"] = [s + r for s, (_, _, r) in zip(start, pairs, strict=True)]
    return Dataset.from_dict(columns)


def decode(model: Any, ids: torch.Tensor, new_tokens: int) -> None:
    """Hugging Face's generate with its dynamic cache."""
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=True,
        top_k=0,
        top_p=1.0,
        pad_token_id=0,
    )

"""Direct preference optimisation (Rafailov et al. 2023): a policy from pairs, without a reward.

The policy's log-ratio to the reference plays the reward, and the pairs' likelihood is maximised;
the variant `ipo` (Azar et al. 2023) regresses that lead instead. The reference is asked once a
pair. Pairs come from data/records.py or are sampled and ranked by `rank_samples`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from playout.errors import ConfigError, DataError
from playout.rlhf.data.batches import batch_of, pad_right
from playout.rlhf.data.records import Preference
from playout.rlhf.evaluation.prompts import PolicyEvaluator
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.huggingface import write_atomically
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.episodes import respond
from playout.rlhf.online.policy import Reference, logprobs_of
from playout.rlhf.online.rewards import RewardFunction, checked
from playout.rlhf.stage import pick_dtype
from playout.rlhf.supervised.sft import encode_prompts
from playout.rlhf.supervised.trainer import LearnConfig, StepsTrainer
from torch import Tensor
from torch.nn import functional as F

__all__ = ["DPOConfig", "DPOTrainer", "dpo_loss", "rank_samples", "write_preferences"]

KINDS = ("dpo", "ipo")


@dataclass(frozen=True, slots=True)
class DPOConfig:
    """The size and strength of a run."""

    steps: int = 120
    """Gradient steps."""
    batch: int = 32
    """Pairs a step."""
    beta: float = 0.1
    """How dear it is to leave the reference: larger stays nearer."""
    kind: str = "dpo"
    """dpo (logistic) or ipo (squared)."""
    label_smoothing: float = 0.0
    """Share of labels taken to be wrong."""
    learn: LearnConfig = field(default_factory=lambda: LearnConfig(learning_rate=1e-4))
    """Optimisation."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind must be dpo or ipo, not {self.kind!r}")
        if not self.beta > 0 or not 0 <= self.label_smoothing < 0.5:
            raise ConfigError("beta must be above 0 and label_smoothing from 0 to below 0.5")


def dpo_loss(lead: Tensor, target: Tensor, config: DPOConfig) -> Tensor:
    """Mean loss of pairs.

    Args:
        lead: [B], log-ratio (policy over reference) of the first response less the second's.
        target: [B], share of votes for the first; a tie is half a vote for each.
        config: Settings.
    """
    if config.kind == "ipo":
        return (lead - (2 * target - 1) / (2 * config.beta)).square().mean()
    target = target * (1 - 2 * config.label_smoothing) + config.label_smoothing
    return F.binary_cross_entropy_with_logits(config.beta * lead, target)


class DPOTrainer(StepsTrainer):
    """Minimises `dpo_loss` over pairs."""

    title, unit, best_metric = "dpo", "pairs", "eval/objective"
    shown = (
        ("train/loss", "loss"),
        ("rewards/accuracies", "pairs right"),
        ("eval/reward", "reward"),
    )

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        pairs: Sequence[Preference],
        config: DPOConfig,
        *,
        seed: int,
        evaluator: PolicyEvaluator | None = None,
        folder: Path | None = None,
    ) -> None:
        """Set up.

        Args:
            model: The fine-tuned policy to improve; with adapters, only these learn.
            tokenizer: Its tokenizer.
            pairs: What people or a reward prefer.
            config: Settings.
            seed: Of the order.
            evaluator: Measures on held-out prompts; no evaluation if None.
            folder: The run, for tables of samples; none if None.
        """
        self.model, self.tokenizer, self.config, self.seed = model, tokenizer, config, seed
        self.evaluator, self.folder = evaluator, folder
        self.dtype = pick_dtype(config.learn.dtype)
        self.rows, self.targets = self._encode(pairs)
        self.reference = Reference(model, dtype=self.dtype)
        self._theirs: dict[int, tuple[float, float]] = {}
        self._prepare({"model": model}, config.learn, steps=config.steps, units=config.batch)

    def _encode(self, pairs: Sequence[Preference]) -> tuple[list[tuple[Any, Any]], Tensor]:
        """((ids, prompt length) of both responses) a pair, and the shares of votes."""
        context, end = self.model.config.max_position_embeddings, [self.tokenizer.end_id]
        prompts = encode_prompts(self.tokenizer, [pair.prompt for pair in pairs])
        first = self.tokenizer.encode_batch([pair.first for pair in pairs])
        second = self.tokenizer.encode_batch([pair.second for pair in pairs])
        rows, shares = [], []
        for pair, prompt, a, b in zip(pairs, prompts, first, second, strict=True):
            votes = pair.wins + pair.losses + pair.ties
            fits = len(prompt) + max(len(a), len(b)) < context
            if votes > 0 and a != b and fits:
                start = len(prompt)
                rows.append((([*prompt, *a, *end], start), ([*prompt, *b, *end], start)))
                shares.append((pair.wins + pair.ties / 2) / votes)
        if not rows:
            raise DataError(
                f"no pair can be used: their texts are equal or longer than {context} tokens"
            )
        return rows, torch.tensor(shares)

    def _tensors(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the first responses, then of the second: obs, actions, valid [2 B, T]."""
        rows = [self.rows[i][side] for side in (0, 1) for i in chosen]
        ids, lengths = pad_right([ids for ids, _ in rows], self.tokenizer.pad_id)
        starts = torch.tensor([start for _, start in rows])
        places = torch.arange(1, ids.shape[1])
        valid = (places >= starts[:, None]) & (places < lengths[:, None])
        return ids[:, :-1], ids[:, 1:], valid

    def _reference(self, chosen: Sequence[int], tensors: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The reference's log-probability of every row, [2 B]; computed once a pair."""
        missing = [place for place, i in enumerate(chosen) if i not in self._theirs]
        if missing:
            rows = torch.tensor(missing + [place + len(chosen) for place in missing])
            obs, actions, valid = (tensor[rows] for tensor in tensors)
            sums = self.reference.logprobs(obs, actions, valid, rows=len(rows)).sum(1).tolist()
            for place, a, b in zip(
                missing, sums[: len(missing)], sums[len(missing) :], strict=True
            ):
                self._theirs[chosen[place]] = a, b
        return torch.tensor([self._theirs[i][side] for side in (0, 1) for i in chosen])

    def update(self) -> dict[str, float]:
        """One step."""
        config = self.config
        chosen = batch_of(len(self.rows), config.batch, self.learner.steps, seed=self.seed)
        tensors = self._tensors(chosen)
        theirs = self._reference(chosen, tensors)
        logprobs, _, _ = logprobs_of(self.model, *tensors, dtype=self.dtype)
        sums = logprobs.sum(1)
        first, second = (sums - theirs).chunk(2)
        lead, target = first - second, self.targets[chosen]
        loss = dpo_loss(lead, target, config)
        metrics = {"train/loss": float(loss.detach()), **self.learner.step(loss)}
        with torch.no_grad():
            # Whichever response the votes favour is the chosen one.
            turned = target >= 0.5
            better = config.beta * torch.where(turned, first, second)
            worse = config.beta * torch.where(turned, second, first)
            ours, others = sums.detach().chunk(2)
            metrics |= {
                "rewards/chosen": float(better.mean()),
                "rewards/rejected": float(worse.mean()),
                "rewards/margins": float((better - worse).mean()),
                "rewards/accuracies": float((better > worse).float().mean()),
                "logps/chosen": float(torch.where(turned, ours, others).mean()),
                "logps/rejected": float(torch.where(turned, others, ours).mean()),
                "lr": self.learner.optimizer.lr,
            }
        return metrics

    def evaluate(self) -> dict[str, float]:
        """Reward, judge and KL on held-out prompts, and a table of samples."""
        if self.evaluator is None:
            return {}
        return self.evaluator.metrics(
            self.model, self.reference, folder=self.folder, step=self.learner.steps
        )


def rank_samples(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    reward: RewardFunction,
    *,
    samples: int = 4,
    max_new_tokens: int,
    seed: int,
    dtype: torch.dtype,
) -> list[Preference]:
    """The best and the worst of some sampled responses to each prompt, by a reward.

    Responses that were cut before they ended are left out: a pair file cannot say so.
    """
    if samples < 2:
        raise ConfigError(f"ranking needs at least 2 samples a prompt, not {samples}")
    unique = list(dict.fromkeys(prompts))
    found: dict[str, list[tuple[float, str]]] = {prompt: [] for prompt in unique}
    for draw in range(samples):
        answers = respond(
            model,
            tokenizer,
            unique,
            max_new_tokens=max_new_tokens,
            seed=seed,
            dtype=dtype,
            streams=range(draw * len(unique), (draw + 1) * len(unique)),
        )
        scores = checked(reward, answers.texts).tolist()
        ended = answers.generation.finished.tolist()
        for prompt, text, score, end in zip(unique, answers.responses, scores, ended, strict=True):
            if end and text.strip():
                found[prompt].append((score, text))
    pairs = []
    for prompt, ranked in found.items():
        ranked.sort()
        if len(ranked) > 1 and ranked[0][0] < ranked[-1][0]:
            (low, worst), (high, best) = ranked[0], ranked[-1]
            pairs.append(Preference(prompt, best, worst, margin=round(high - low, 4)))
    if not pairs:
        raise DataError("the samples of every prompt are alike; there is nothing to rank")
    return pairs


def write_preferences(path: Path, pairs: Sequence[Preference]) -> None:
    """Pairs as JSON lines that `data.read_preferences` reads."""
    lines = [
        json.dumps(
            {"prompt": p.prompt, "chosen": p.first, "rejected": p.second, "margin": p.margin},
            ensure_ascii=False,
        )
        for p in pairs
    ]
    write_atomically(path, ("\n".join(lines) + "\n").encode())

"""Direct preference optimisation (Rafailov et al. 2023): a policy from pairs, without a reward.

The policy's log-ratio to the reference plays the reward, and the pairs' likelihood is maximised;
the variant `ipo` (Azar et al. 2023) regresses that lead instead. The reference is asked once a
pair, and its answers are part of a checkpoint: asked again in another batch they could end in
other bits. Pairs come from data/records.py or online/ranking.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs import ranks
from playout.agents.runs.devices import fetch, pack_to_device
from playout.errors import ConfigError, DataError
from playout.rlhf.data.batches import batch_of, pad_right
from playout.rlhf.data.encoding import Truncate, encode_pairs, fit_pairs, row_length
from playout.rlhf.data.records import Preference, prompt_key
from playout.rlhf.evaluation.evaluator import Evaluator
from playout.rlhf.evaluation.samples import write_answers
from playout.rlhf.generation.conversation import ConversationFormat, conversation_format
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.reference import Reference, sequence_logprobs
from playout.rlhf.model.transformer import Transformer, pick_dtype
from playout.rlhf.supervised.trainer import (
    LearnConfig,
    SupervisedTrainer,
    own_part,
    portions,
)
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DPOConfig", "DPOTrainer", "dpo_loss"]

KINDS = ("dpo", "ipo")


@dataclass(frozen=True, slots=True)
class DPOConfig:
    """The size and strength of a run."""

    steps: int = 120
    """Gradient steps."""
    batch: int = 32
    """Pairs a step."""
    beta: float = 0.1
    """Weight of the log-ratio to the reference: a larger one stays nearer to it."""
    kind: str = "dpo"
    """dpo (logistic) or ipo (squared)."""
    label_smoothing: float = 0.0
    """Share of labels taken to be wrong; ipo takes them as they are."""
    max_new_tokens: int = 32
    """Of the answers shown where pairs are held out."""
    max_length: int = 0
    """Longest prompt with an answer in tokens; 0 for the context."""
    truncate: Truncate = "right"
    """What becomes of longer ones; see `fit_pairs`."""
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


def _is_clear(target: Tensor) -> Tensor:
    """1 where the votes favour a response, 0 where there are as many for either."""
    return (target != 0.5).float()


class DPOTrainer(SupervisedTrainer):
    """Minimises `dpo_loss` over pairs."""

    title, unit, best_metric = "dpo", "pairs", "eval/objective"
    records = "pairs a step"
    shown = (
        ("train/loss", "loss"),
        ("rewards/accuracies", "pairs right"),
        ("eval/reward", "reward"),
        ("eval/accuracies", "held out"),
    )

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        pairs: Sequence[Preference],
        config: DPOConfig,
        *,
        seed: int,
        evaluator: Evaluator | None = None,
        heldout: Sequence[Preference] = (),
        folder: Path | None = None,
        weights: torch.dtype = torch.float32,
        talk: ConversationFormat | None = None,
    ) -> None:
        """Set up.

        Args:
            model: The fine-tuned policy to improve; with adapters, only these learn.
            tokenizer: Its tokenizer.
            pairs: What people or a reward prefer.
            config: Settings.
            seed: Of the order.
            evaluator: Measures on held-out prompts, where there is a reward.
            heldout: Pairs to measure on in place of an evaluator.
            folder: The run, for tables of samples; none if None.
            weights: Of the reference's copy, float32 or bfloat16.
            talk: How prompts become tokens; as the tokenizer's model does it if None.
        """
        self.model, self.tokenizer, self.config, self.seed = model, tokenizer, config, seed
        self.evaluator, self.folder = evaluator, folder
        self.dtype = pick_dtype(config.learn.dtype, model.device)
        self.talk = talk or conversation_format(tokenizer)
        self.rows, self.targets = self._encode(pairs)
        self.heldout = self._encode(heldout) if heldout and heldout is not pairs else None
        if heldout is pairs:  # what is cut of them is said once
            self.heldout = self.rows, self.targets
        self.prompts = list({prompt_key(pair.prompt): pair.prompt for pair in heldout}.values())
        if self.heldout is not None:
            self.best_metric = "eval/neg_loss"
        self.reference = Reference(model, dtype=self.dtype, weights=weights)
        # Log-probabilities of both responses under the reference, where it has been asked.
        self.reference_logprobs = torch.zeros(len(self.rows), 2, device=model.device)
        self.reference_known = torch.zeros(len(self.rows), dtype=torch.bool)
        self._asking = True
        size = min(config.batch, len(self.rows))
        parts = {"model": model}
        self._prepare(parts, config.learn, steps=config.steps, units=size, size=size)

    def _encode(self, pairs: Sequence[Preference]) -> tuple[list[tuple[Any, Any]], Tensor]:
        """((ids, prompt length) of both responses) a pair, and the shares of votes."""
        context = self.model.config.max_position_embeddings
        limit = row_length(self.config.max_length, context, context, 0, own=False)
        encoded = fit_pairs(encode_pairs(self.talk, pairs), limit, self.config.truncate)
        rows, shares = [], []
        for pair, fitted in zip(pairs, encoded, strict=True):
            votes = pair.wins + pair.losses + pair.ties
            if votes > 0 and fitted is not None:
                rows.append(fitted)
                shares.append((pair.wins + pair.ties / 2) / votes)
        if not rows:
            raise DataError(
                f"no pair can be used: their texts are equal or longer than {limit} tokens"
            )
        return rows, torch.tensor(shares)

    def _tensors(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the first responses, then of the second: obs, actions, valid [2 B, T]."""
        return self._tensors_of([self.rows[i] for i in chosen])

    def _tensors_of(self, pairs: Sequence[tuple[Any, Any]]) -> tuple[Tensor, Tensor, Tensor]:
        rows = [pair[side] for side in (0, 1) for pair in pairs]
        ids, lengths = pad_right([ids for ids, _ in rows], self.tokenizer.pad_id)
        starts = torch.tensor([start for _, start in rows])
        places = torch.arange(1, ids.shape[1])
        valid = (places >= starts[:, None]) & (places < lengths[:, None])
        return ids[:, :-1], ids[:, 1:], valid

    def _reference_sums(
        self, chosen: Sequence[int], tensors: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """The reference's log-probability of every row, [2 B]; computed once a pair."""
        known, device = self.reference_known, self.model.device
        missing = [place for place, i in enumerate(chosen) if not known[i]]
        if self.sharded:  # all ranks ask, or none
            missing = list(range(len(chosen))) if self._asking else []
        asked = [chosen[place] for place in missing]
        rows, places, wanted = pack_to_device(
            [
                torch.tensor(missing + [place + len(chosen) for place in missing]),
                torch.tensor(asked),
                torch.tensor(chosen),
            ],
            device,
        )
        if missing:
            obs, actions, valid = (tensor[rows] for tensor in tensors)
            sums = self.reference.logprobs(obs, actions, valid, rows=len(rows)).sum(1)
            told = sums.view(2, -1).T
            if self.sharded:  # what was said before stands
                before = known[asked].to(device)[:, None]
                told = torch.where(before, self.reference_logprobs[places], told)
            self.reference_logprobs[places] = told
            known[asked] = True
        return self.reference_logprobs[wanted].T.flatten()

    def update(self) -> dict[str, float]:
        """One step."""
        config = self.config
        chosen = batch_of(len(self.rows), config.batch, self.learner.steps, seed=self.seed)
        own = own_part(range(len(chosen)), self.records)
        parts = portions([chosen[place] for place in own], config.learn.microbatch)
        shares = [len(part) / len(chosen) for part in parts]
        unknown = {i: chosen.index(i) in own for i in chosen if not self.reference_known[i]}
        self._asking = bool(unknown)
        # Of a step's pairs that are no ties, as many as are to be in a part of its size.
        clear = max(1, int(_is_clear(self.targets[chosen]).sum()))
        found = self._step(shares, lambda number: self._loss(parts[number], clear * shares[number]))
        if ranks.world() > 1 and unknown:
            self._tell_all(unknown)
        return {**found, "lr": found["train/learning_rate"]}

    def _tell_all(self, asked: Mapping[int, bool]) -> None:
        """Every rank learns what the reference said on another, and asks for no pair again.

        Args:
            asked: Pairs that were new in this step, and whether this rank's answer is the one that
                counts: of a pair that came twice, the first one's is.
        """
        pairs, mine = list(asked), torch.tensor(list(asked.values()))
        table = self.reference_logprobs
        told = torch.where(mine.to(table.device)[:, None], table[pairs], 0.0)
        table[pairs] = ranks.add_(told)
        self.reference_known[pairs] = True

    def _loss(
        self, chosen: Sequence[int], clear: float
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Mean over some pairs, and what shows in the log: sums over those that are no ties.

        Args:
            chosen: Numbers of the pairs.
            clear: What these sums are divided by.
        """
        config = self.config
        parts = [*self._tensors(chosen), self.targets[chosen]]
        obs, actions, valid, target = pack_to_device(parts, self.model.device)
        tensors = obs, actions, valid
        theirs = self._reference_sums(chosen, tensors)
        logprobs, _, _ = sequence_logprobs(self.model, *tensors, dtype=self.dtype)
        sums = logprobs.sum(1)
        first, second = (sums - theirs).chunk(2)
        loss = dpo_loss(first - second, target, config)
        with torch.no_grad():
            # Whichever response the votes favour is the chosen one; of a tie neither is.
            preferred, counts = target > 0.5, _is_clear(target)
            better = config.beta * torch.where(preferred, first, second)
            worse = config.beta * torch.where(preferred, second, first)
            ours, others = sums.detach().chunk(2)
            right = (better > worse).float() - 0.5
            metrics: dict[str, Tensor | float] = {
                "train/loss": loss.detach(),
                "rewards/chosen": (better * counts).sum() / clear,
                "rewards/rejected": (worse * counts).sum() / clear,
                "rewards/margins": ((better - worse) * counts).sum() / clear,
                "rewards/accuracies": 0.5 + (right * counts).sum() / clear,
                "logps/chosen": (torch.where(preferred, ours, others) * counts).sum() / clear,
                "logps/rejected": (torch.where(preferred, others, ours) * counts).sum() / clear,
            }
        return loss, metrics

    @property
    def networks(self) -> list[nn.Module]:
        """The policy and its reference."""
        return [self.model, self.reference.model]

    def evaluate(self) -> dict[str, float]:
        """Reward, judge and KL on held-out prompts, or what held-out pairs say; and samples."""
        if self.evaluator is None:
            return {} if self.heldout is None else self._measure_pairs(*self.heldout)
        return self.evaluator.metrics(
            self.model, self.reference, folder=self.folder, step=self.learner.steps
        )

    @torch.no_grad()
    def _measure_pairs(self, rows: list[tuple[Any, Any]], targets: Tensor) -> dict[str, float]:
        """Loss; of pairs that are no ties, margin and the share in the order of the votes."""
        totals = {"loss": 0.0, "accuracies": 0.5, "margins": 0.0}
        clear = max(1, int(_is_clear(targets).sum()))
        for start in range(0, len(rows), self.config.batch):
            part = rows[start : start + self.config.batch]
            wanted = targets[start : start + len(part)]
            tensors = tuple(pack_to_device([*self._tensors_of(part), wanted], self.model.device))
            obs, actions, valid, target = tensors
            ours, _, _ = sequence_logprobs(self.model, obs, actions, valid, dtype=self.dtype)
            theirs = self.reference.logprobs(obs, actions, valid, rows=len(obs))
            first, second = (ours.sum(1) - theirs.sum(1)).chunk(2)
            lead = first - second
            won = self.config.beta * torch.where(target > 0.5, lead, -lead)
            counts = _is_clear(target)
            found = fetch(
                {
                    "loss": dpo_loss(lead, target, self.config),
                    "accuracies": (((won > 0).float() - 0.5) * counts).sum(),
                    "margins": (won * counts).sum(),
                }
            )
            totals["loss"] += found["loss"] * len(part) / len(rows)
            for name in ("accuracies", "margins"):
                totals[name] += found[name] / clear
        write_answers(
            self.folder,
            self.learner.steps,
            self.model,
            self.talk,
            self.prompts,
            max_new_tokens=self.config.max_new_tokens,
            dtype=self.dtype,
        )
        measured = {f"eval/{name}": value for name, value in totals.items()}
        return {**measured, "eval/neg_loss": -measured["eval/loss"]}

    def state_dict(self) -> dict[str, Any]:
        """Weights, moments, and what the reference has said."""
        return {
            **super().state_dict(),
            "reference": {
                "logprobs": self.reference_logprobs.clone(),
                "known": self.reference_known.clone(),
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; older states lack the reference, which is asked again."""
        super().load_state_dict(state)
        if "reference" in state:
            self.reference_logprobs.copy_(state["reference"]["logprobs"])
            self.reference_known.copy_(state["reference"]["known"])

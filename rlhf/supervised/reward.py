"""A reward model from preferences: a Transformer with a number a text, fitted to votes.

The score of a text is read at its last real token. After training, scores are shifted and scaled to
mean 0 and deviation 1 on the reference policy's samples. The likelihood of votes is
bradley_terry.py's, which texts are compared data/comparisons.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from playout.agents.runs import ranks
from playout.agents.runs.devices import pack_to_device
from playout.agents.runs.directory import RunDir
from playout.errors import CheckpointError, ConfigError, RunError
from playout.rlhf.data.batches import pad_right
from playout.rlhf.data.comparisons import Comparisons, Pairs, RatedPairs
from playout.rlhf.data.encoding import Truncate, row_length, say_lengths
from playout.rlhf.data.messages import Message, Prompt
from playout.rlhf.evaluation.statistics import bootstrap, calibration_error, pair_accuracy, wilson
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import hold_weights
from playout.rlhf.model.checkpoints.configs import class_name, read_json
from playout.rlhf.model.folder import export_model, is_scorer, model_folder
from playout.rlhf.model.heads import ScalarHead, scores
from playout.rlhf.model.huggingface import from_pretrained, load_heads
from playout.rlhf.model.sharding import place_beside
from playout.rlhf.model.transformer import Transformer, autocast, pick_dtype
from playout.rlhf.supervised.bradley_terry import preference_loss, win_probability
from playout.rlhf.supervised.text_scores import encode_texts, predict_scores
from playout.rlhf.supervised.trainer import (
    LearnConfig,
    SupervisedTrainer,
    freeze_below,
    own_part,
    portions,
)
from torch import Tensor, nn

__all__ = ["RewardConfig", "RewardModel", "RewardTrainer"]


class Conversation(Protocol):
    """What a model of conversations reads of an episode."""

    @property
    def messages(self) -> Sequence[Message]:
        """The whole conversation; the policy is the assistant."""


# Ties get weight exp(-2) at first: rarer than wins, and free to move.
LOG_TIE = -2.0


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """The size of a reward run."""

    steps: int = 400
    """Gradient steps."""
    batch: int = 64
    """Texts a step; every two of them are a pair if they are rated."""
    length: int = 128
    """Longest text in tokens."""
    stretch: bool = False
    """Read as much as the longest text has, up to a limit; else `length` holds."""
    truncate: Truncate = "right"
    """What becomes of longer texts; where they are cut, their last token is kept."""
    center: float = 1e-3
    """Pulls the mean squared score towards 0, which pairs leave open."""
    train_layers: int = 0
    """Only so many layers at the top are trained; 0 trains all."""
    learn: LearnConfig = field(default_factory=lambda: LearnConfig(learning_rate=5e-4))
    """Optimisation."""


class RewardModel:
    """A trained reward model: texts in, scores out; itself a reward function."""

    def __init__(
        self,
        model: Transformer,
        head: ScalarHead,
        tokenizer: Tokenizer,
        *,
        mean: float = 0.0,
        std: float = 1.0,
        length: int = 128,
        truncate: str = "right",
        in_turns: bool = False,
        published: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Wrap a model.

        Args:
            model: A Transformer.
            head: A number a token.
            tokenizer: Of the model.
            mean: Of the scores that are to become 0.
            std: Of the scores, to become 1.
            length: Longest text in tokens.
            truncate: Which end of a longer text is cut.
            in_turns: It learned from conversations, so episodes are scored as such.
            published: Others trained it, and it reads texts as its tokenizer writes them.
            dtype: Of matrix products.
        """
        self.model, self.head, self.tokenizer = model, head, tokenizer
        self.mean, self.std, self.length, self.dtype = mean, std, length, dtype
        self.truncate, self.in_turns, self.published = truncate, in_turns, published

    @torch.no_grad()
    def __call__(
        self, texts: Sequence[Prompt], episodes: Sequence[Conversation] | None = None
    ) -> list[float]:
        """A score a text: mean 0, deviation 1 on the samples it was normalised on.

        Args:
            texts: Plain texts, or conversations (lists of messages).
            episodes: What the texts came from; a model of conversations reads their messages.
        """
        if episodes is not None and self.in_turns:
            texts = [list(episode.messages) for episode in episodes]
        return self.scaled(self.raw(texts))

    def scaled(self, values: Sequence[float]) -> list[float]:
        """What `raw` gives, with mean 0 and deviation 1 on those samples."""
        return [(value - self.mean) / self.std for value in values]

    def raw(self, texts: Sequence[Prompt], sizes: list[int] | None = None) -> list[float]:
        """Scores as the head gives them; for `sizes` see `encode_texts`."""
        if not texts:
            return []
        rows = encode_texts(
            self.tokenizer, texts, self.length, truncate=self.truncate,
            published=self.published, sizes=sizes,
        )  # fmt: skip
        pad = self.tokenizer.pad_id
        return predict_scores(self.model, self.head, rows, pad=pad, dtype=self.dtype).tolist()  # type: ignore[no-any-return]

    def normalise(self, texts: Sequence[Prompt]) -> None:
        """Make these texts' scores have mean 0 and deviation 1."""
        found = np.asarray(self.raw(texts))
        if len(found) < 2 or not found.std() > 1e-6:
            raise ConfigError("scores cannot be normalised: all texts have the same one")
        self.mean, self.std = float(found.mean()), float(found.std())

    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder (sequence classification) with the normalisation in it."""
        names = "mean", "std", "length", "truncate", "in_turns"
        extra = {"num_labels": 1, "playout_reward": {name: getattr(self, name) for name in names}}
        export_model(
            folder,
            self.model,
            self.tokenizer,
            heads={"score": self.head},
            architecture=class_name(self.model.config, "ForSequenceClassification"),
            extra=extra,
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        dtype: str = "auto",
        device: torch.device | None = None,
        weights: torch.dtype = torch.float32,
    ) -> "RewardModel":
        """The reward model of a stage, a pipeline or a folder, on a device."""
        device = device or torch.device("cpu")
        folder = reward_folder(path)
        if not is_scorer(folder):
            raise RunError(
                f"{path} writes text and gives it no score; how likely texts are under it says "
                "playout rlhf perplexity"
            )
        model, tokenizer = from_pretrained(folder), Tokenizer.load(folder)
        tokenizer.check_model(model.config)
        head = ScalarHead(model.config)
        load_heads(folder, {"score": head})
        kept: Any = read_json(folder / "config.json").get("playout_reward")
        published = kept is None  # which learned from conversations where there is a template
        kept = {"in_turns": tokenizer.template is not None} if published else kept
        try:
            mean, std = float(kept.get("mean", 0.0)), float(kept.get("std", 1.0))
            length = int(kept.get("length", model.config.max_position_embeddings))
        except (AttributeError, TypeError, ValueError):
            raise CheckpointError(f"{folder}/config.json: playout_reward is malformed") from None
        model.requires_grad_(False)
        return cls(
            hold_weights(model.to(device), weights),
            head.to(device),
            tokenizer,
            mean=mean,
            std=std,
            length=length,
            truncate=str(kept.get("truncate", "right")),
            in_turns=kept.get("in_turns") is True,
            published=published,
            dtype=pick_dtype(dtype, device),
        )


def reward_folder(path: str | Path) -> Path:
    """The folder of the reward model behind a path."""
    path = Path(path)
    inside = path / "reward" if (path / "reward").is_dir() else path
    kind = RunDir.open(inside).kind if RunDir.is_run(inside) else "rlhf.reward"
    if kind not in ("rlhf.reward", "rlhf.all"):
        stage = kind.removeprefix("rlhf.")
        raise RunError(f"{path} is a run of {stage}; scores need a run of `playout rlhf reward`")
    return model_folder(inside, ["reward"])


class RewardTrainer(SupervisedTrainer):
    """Maximum likelihood of votes."""

    title, unit, best_metric = "reward", "texts", "eval/accuracy"
    shown = (("train/loss", "loss"), ("eval/accuracy", "pairs right"))

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        comparisons: tuple[Comparisons, Comparisons],
        config: RewardConfig,
        *,
        seed: int,
    ) -> None:
        """Set up.

        Args:
            model: A pretrained Transformer, decoder or encoder.
            tokenizer: Its tokenizer.
            comparisons: To learn from, and held out.
            config: Size of the run; ConfigError where a step of rated texts has none to compare.
            seed: Of head and order.
        """
        if config.batch < 2 and isinstance(comparisons[0], RatedPairs):
            raise ConfigError("rated texts are compared with each other: a step needs two of them")
        self.config, self.seed = config, seed
        dtype = pick_dtype(config.learn.dtype, model.device)
        head = place_beside(ScalarHead(model.config, seed=seed + 1), model)
        sizes = [
            [len(row) for row in encode_texts(tokenizer, side.texts, 0, where=side.where)]
            for side in comparisons
        ]
        length = row_length(
            0 if config.stretch else config.length,
            config.length,
            model.config.max_position_embeddings,
            max(max(side) for side in sizes),
            own=config.stretch,
        )
        self.train, self.test = (
            _fitted(side, size, length, config.truncate)
            for side, size in zip(comparisons, sizes, strict=True)
        )
        self.reward = RewardModel(
            model,
            head,
            tokenizer,
            length=length,
            truncate="left" if config.truncate == "left" else "right",
            in_turns=any(not isinstance(text, str) for text in self.train.texts),
            dtype=dtype,
        )
        self.rows = encode_texts(tokenizer, self.train.texts, length, truncate=config.truncate)
        self.has_ties = bool((self.train.all_pairs().votes[:, 2] > 0).any())
        self.log_tie = nn.Parameter(torch.tensor(LOG_TIE, device=model.device))
        if config.train_layers:
            freeze_below(model, config.train_layers)
        self._prepare(
            {"model": model, "head": head},
            config.learn,
            steps=config.steps,
            units=config.batch,
            size=self.train.most_texts(config.batch),
            extra=[self.log_tie] if self.has_ties else [],
        )

    def update(self) -> dict[str, float]:
        """One step."""
        pairs = self.train.batch(self.config.batch, self.learner.steps, seed=self.seed)
        columns = pairs.first, pairs.second, pairs.votes, pairs.margins
        pairs = Pairs(pairs.texts, *pack_to_device(columns, self.reward.model.device))
        # As many texts for every rank: the last ones read the first text again, for nothing.
        texts = [*pairs.texts, *pairs.texts[:1] * (-len(pairs.texts) % ranks.world())]
        parts = portions(own_part(texts, self.records), self.config.learn.microbatch)
        if len(parts) == ranks.world() == 1:
            return self._step([1.0], lambda _: self._loss(self._scores(pairs.texts), pairs))
        # Every text may be compared with every other: the loss is differentiated by their scores
        # first, then these by the weights, part by part.
        with torch.no_grad(), self._dropout():
            own = torch.cat([self._scores(part) for part in parts])
        place = ranks.share(len(texts), self.records)
        found = own.new_zeros(len(texts))
        found[place.start : place.stop] = own
        ranks.add_(found).requires_grad_()
        loss, metrics = self._loss(found[: len(pairs.texts)], pairs)
        asked = [found, self.log_tie] if self.has_ties else [found]
        grad, *tie_grads = torch.autograd.grad(loss, asked)
        grads = grad[place.start : place.stop].split([len(part) for part in parts])
        # What every rank computes alike counts once.
        once = 1.0 / ranks.world()

        def loss_of(number: int) -> tuple[Tensor, dict[str, Tensor | float]]:
            part = (self._scores(parts[number]) * grads[number]).sum()
            if number:
                return part, {}
            shown = {name: value * once for name, value in metrics.items()}
            return part + sum(self.log_tie * (one * once) for one in tie_grads), shown

        return self._step([1.0] * len(parts), loss_of)

    def _scores(self, chosen: Sequence[int]) -> Tensor:
        """Of some texts of the source, with gradients."""
        device, pad = self.reward.model.device, self.reward.tokenizer.pad_id
        ids, lengths = pack_to_device(pad_right([self.rows[i] for i in chosen], pad), device)
        with autocast(self.reward.dtype, device):
            return scores(self.reward.model, self.reward.head, ids, lengths)

    def _loss(self, found: Tensor, pairs: Pairs) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Of the scores of the texts of `pairs`, and what shows in the log."""
        tie = self.log_tie if self.has_ties else None
        loss, lead = preference_loss(found, pairs, log_tie=tie)
        with torch.no_grad():
            votes = (pairs.votes[:, 0] - pairs.votes[:, 1]).sign()
            clear = votes.abs().sum().clamp(min=1)  # ties have no winner, and count for nothing
            right = ((lead > 0) == (votes > 0)).float() - 0.5
            metrics: dict[str, Tensor | float] = {
                "train/loss": loss.detach(),
                "rewards/accuracies": 0.5 + (right * votes.abs()).sum() / clear,
                "rewards/margins": (lead * votes).sum() / clear,
            }
        return loss + self.config.center * found.square().mean(), metrics

    def evaluate(self) -> dict[str, float]:
        """Accuracy and calibration on held-out comparisons."""
        found = {k: v for k, v in self.measure(draws=0).items() if isinstance(v, float)}
        return {f"eval/{name}": value for name, value in found.items()}

    @torch.no_grad()
    def measure(self, *, draws: int = 100) -> dict[str, Any]:
        """What the model is worth on held-out comparisons, with intervals if `draws`.

        `accuracy` is the share of pairs ordered as the people order them (their mean ratings, or
        the majority of votes; a draw among them counts for nothing). `calibration_error` is the
        mean distance between predicted and observed shares of wins.
        """
        found = torch.tensor(self.reward.raw(self.test.texts))
        pairs = self.test.all_pairs()
        tie = self.log_tie.cpu() if self.has_ties else None
        loss, lead = preference_loss(found, pairs, log_tie=tie)
        wins, losses, _ = pairs.votes.unbind(-1)
        result: dict[str, Any] = {"loss": float(loss), "texts": float(len(found))}
        settled = wins + losses > 0
        share = (wins / (wins + losses))[settled]
        chance = win_probability(lead[settled])
        # Either text of a pair may be the first, so the curve is made symmetric.
        result["calibration_error"] = calibration_error(
            torch.cat([chance, 1 - chance]).numpy(), torch.cat([share, 1 - share]).numpy()
        )
        if isinstance(self.test, RatedPairs):
            means = self.test.means
            for name, gap in (("accuracy", 0.0), ("far_accuracy", 1.0)):
                result[name] = pair_accuracy(found.numpy(), means, gap=gap)
                if draws:
                    result[f"{name}_interval"] = bootstrap(
                        found.tolist(), means.tolist(), gap=gap, draws=draws
                    )
        else:
            clear = wins != losses
            right = ((lead > 0) == (wins > losses))[clear].float()
            result["accuracy"] = float(right.mean()) if len(right) else 0.5
            result["accuracy_interval"] = wilson(float(right.sum()), len(right))
        return result

    def state_dict(self) -> dict[str, Any]:
        """Weights and moments, and how likely ties are."""
        return {**super().state_dict(), "log_tie": self.log_tie.detach().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        super().load_state_dict(state)
        with torch.no_grad():
            self.log_tie.copy_(state["log_tie"])


def _fitted(
    comparisons: Comparisons, sizes: Sequence[int], limit: int, how: Truncate
) -> Comparisons:
    """Comparisons without the texts that are to be left out; what becomes of long ones is said."""
    long = [number for number, size in enumerate(sizes) if size > limit]
    say_lengths(sizes, long, limit, how, what="texts")
    return comparisons.without(long) if long and how == "drop" else comparisons

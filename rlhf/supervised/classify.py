"""Supervised text models: a class or a rating a text, read off its last token or all of them.

The same trainer serves a model from scratch and a pretrained one, decoder or encoder, so that the
table it fills says what pretraining is worth; tfidf.py gives the linear baseline beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from playout.agents.runs.devices import pack_to_device
from playout.errors import DataError
from playout.rlhf.data.batches import batch_of, pad_right
from playout.rlhf.data.encoding import Truncate, say_lengths
from playout.rlhf.data.records import Labelled, Rated
from playout.rlhf.evaluation.statistics import bootstrap, pair_accuracy, wilson
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.heads import Pool, ScalarHead, scores
from playout.rlhf.model.sharding import place_beside
from playout.rlhf.model.transformer import Transformer, TransformerConfig, autocast, pick_dtype
from playout.rlhf.supervised.text_scores import encode_texts, predict_scores
from playout.rlhf.supervised.tfidf import Features, logistic, ridge
from playout.rlhf.supervised.trainer import LearnConfig, SupervisedTrainer, own_part, portions
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "ClassifyConfig",
    "ClassifyTrainer",
    "TextTask",
    "fit_task",
    "linear_baseline",
    "longest_text",
    "make_task",
    "measure_predictions",
    "measured_row",
    "pool_of",
]


@dataclass(frozen=True, slots=True)
class ClassifyConfig:
    """The size of a classification run."""

    steps: int = 250
    """Gradient steps."""
    batch: int = 32
    """Texts a step."""
    length: int = 128
    """Longest text in tokens."""
    learn: LearnConfig = field(default_factory=lambda: LearnConfig(learning_rate=5e-4))
    """Optimisation."""
    truncate: Truncate = "right"
    """Which end of a longer text is cut; its last token is kept either way."""
    pool: Pool | Literal["auto"] = "auto"
    """What is read of a text, see `Pool`; auto: the mean of an encoder, the last of a decoder."""


@dataclass(frozen=True, slots=True)
class TextTask:
    """Texts with a number each: the index of a class, or a rating."""

    train: tuple[list[str], list[float]]
    test: tuple[list[str], list[float]]
    classes: tuple[str, ...]
    """Names of the classes; empty for ratings."""


def make_task(train: Sequence[Labelled | Rated], test: Sequence[Labelled | Rated]) -> TextTask:
    """The task that records pose.

    Raises:
        DataError: A side is empty, has nothing to tell apart, or a class that the other lacks.
    """
    if not train or not test:
        raise DataError("there are too few labelled texts to hold some out")
    names = sorted({item.label for item in train if isinstance(item, Labelled)})
    if names and len(names) < 2:
        raise DataError(f"every text has the label {names[0]!r}; there is nothing to tell apart")
    ratings = {item.mean for item in (*train, *test) if isinstance(item, Rated)}
    if len(ratings) == 1:
        raise DataError(
            f"every text has the rating {min(ratings):g}; there is nothing to tell apart"
        )

    def number(item: Labelled | Rated) -> float:
        if isinstance(item, Rated):
            return item.mean
        if item.label not in names:
            raise DataError(f"the label {item.label!r} occurs among the held-out texts only")
        return float(names.index(item.label))

    sides = [
        ([item.text for item in side], [number(item) for item in side]) for side in (train, test)
    ]
    return TextTask(sides[0], sides[1], tuple(names))


def longest_text(task: TextTask, tokenizer: Tokenizer) -> int:
    """Tokens of the longest text that is learned from."""
    return max(map(len, encode_texts(tokenizer, task.train[0], 0)))


def fit_task(task: TextTask, tokenizer: Tokenizer, length: int, truncate: Truncate) -> TextTask:
    """A task without the texts that are to be left out; what becomes of long ones is said.

    Args:
        task: What was given.
        tokenizer: Of the model.
        length: Tokens that a text may have.
        truncate: What becomes of longer ones; those that are cut are left to the trainer.

    Raises:
        DataError: A text is too long and `truncate` is error, or none is left.
    """
    fitted = []
    for (texts, numbers), what in ((task.train, "texts"), (task.test, "held-out texts")):
        sizes = [len(row) for row in encode_texts(tokenizer, texts, 0)]
        long = [number for number, size in enumerate(sizes) if size > length]
        say_lengths(sizes, long, length, truncate, what=what)
        kept = [*range(len(texts))]
        if truncate == "drop":
            kept = [number for number in kept if sizes[number] <= length]
        if not kept:
            raise DataError(f"all {len(texts)} {what} are longer than {length} tokens")
        fitted.append(([texts[n] for n in kept], [numbers[n] for n in kept]))
    return TextTask(fitted[0], fitted[1], task.classes)


def pool_of(named: Pool | Literal["auto"], shape: TransformerConfig) -> Pool:
    """What a model's head reads of a text.

    The last token of a decoder has seen all others. Of an encoder every token has, and it has
    learned of none that it will be read.
    """
    if named != "auto":
        return named
    return "last" if shape.causal else "mean"


class ClassifyTrainer(SupervisedTrainer):
    """Cross entropy for classes, squared error for ratings."""

    title, unit = "classify", "texts"

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        task: TextTask,
        config: ClassifyConfig,
        *,
        seed: int,
    ) -> None:
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.config, self.seed = config, seed
        pool = pool_of(config.pool, model.config)
        head = ScalarHead(model.config, max(1, len(task.classes)), seed=seed + 1, pool=pool)
        self.head = place_beside(head, model)
        length = min(config.length, model.config.max_position_embeddings)
        self.rows, self.test_rows = (
            encode_texts(tokenizer, side[0], length, truncate=config.truncate)
            for side in (task.train, task.test)
        )
        self.dtype = pick_dtype(config.learn.dtype, model.device)
        self.best_metric = "eval/accuracy" if task.classes else "eval/pair_accuracy"
        self.shown = (("train/loss", "loss"), (self.best_metric, "held out"))
        parts, size = {"model": model, "head": self.head}, min(config.batch, len(self.rows))
        self._prepare(parts, config.learn, steps=config.steps, units=size, size=size)

    def update(self) -> dict[str, float]:
        """One step."""
        chosen = batch_of(len(self.rows), self.config.batch, self.learner.steps, seed=self.seed)
        parts = portions(own_part(chosen, self.records), self.config.learn.microbatch)

        def loss_of(number: int) -> tuple[Tensor, dict[str, Tensor | float]]:
            loss = self._loss(parts[number])
            return loss, {"train/loss": loss.detach()}

        return self._step([len(part) / len(chosen) for part in parts], loss_of)

    def _loss(self, chosen: Sequence[int]) -> Tensor:
        """Mean over some texts."""
        device = self.model.device
        ids, lengths = pad_right([self.rows[i] for i in chosen], self.tokenizer.pad_id)
        wanted = torch.tensor([self.task.train[1][i] for i in chosen])
        ids, lengths, wanted = pack_to_device([ids, lengths, wanted], device)
        with autocast(self.dtype, device):
            found = scores(self.model, self.head, ids, lengths)
        if self.task.classes:
            return F.cross_entropy(found, wanted.long())
        return F.mse_loss(found, wanted)

    def predictions(self) -> np.ndarray[Any, Any]:
        """Scores of the held-out texts, [N] or [N, classes]."""
        found = predict_scores(
            self.model, self.head, self.test_rows, pad=self.tokenizer.pad_id, dtype=self.dtype
        )
        return found.numpy()

    def evaluate(self) -> dict[str, float]:
        """Accuracy of classes, or of the order of pairs."""
        return {
            f"eval/{k}": v for k, v in measure_predictions(self.predictions(), self.task).items()
        }


def measure_predictions(found: np.ndarray[Any, Any], task: TextTask) -> dict[str, float]:
    """What predictions of the held-out texts are worth."""
    wanted = np.asarray(task.test[1])
    if not task.classes:
        return {
            "pair_accuracy": pair_accuracy(found, wanted),
            "far_pair_accuracy": pair_accuracy(found, wanted, gap=1.0),
        }
    guess = found.argmax(-1)
    # F1 of the rarest class among them: accuracy flatters whoever never names it.
    present, counts = np.unique(wanted, return_counts=True)
    rare = present[counts.argmin()]
    hit = float(((guess == rare) & (wanted == rare)).sum())
    named = float((guess == rare).sum() + (wanted == rare).sum())
    return {"accuracy": float((guess == wanted).mean()), "f1": 2 * hit / named if named else 0.0}


def measured_row(
    name: str, model: str, found: np.ndarray[Any, Any], task: TextTask
) -> dict[str, Any]:
    """A row of the table: what a model's predictions are worth, with the 95 % interval."""
    values, count = measure_predictions(found, task), len(found)
    if task.classes:
        low, high = wilson(values["accuracy"] * count, count)
    else:
        low, high = bootstrap(found.tolist(), task.test[1])
    return {"task": name, "model": model, "texts": count, **values, "interval": [low, high]}


def linear_baseline(task: TextTask) -> np.ndarray[Any, Any]:
    """TF-IDF with ridge or logistic regression: scores of the held-out texts."""
    features = Features(task.train[0])
    x, test = features(task.train[0]), features(task.test[0])
    y = np.asarray(task.train[1])
    if not task.classes:
        weights, offset = ridge(x, y)
        return np.asarray(test @ weights + offset)
    columns = []
    for index in range(len(task.classes)):
        weights, offset = logistic(x, (y == index).astype(np.float64))
        columns.append(test @ weights + offset)
    return np.stack(columns, axis=1)

"""The texts of the study of paradigms: a Transformer tells spam, and good reviews from bad ones.

The same small model is left as it begins, learns how texts go on (next token), their classes, or
one after the other. Its features, means over a text's tokens, are read by the probes that read
those of pictures; TF-IDF stands beside them. Left out: trunks (trunks.py), pages (paradigms.py).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.pretraining.clusters import cluster_scores
from playout.agents.pretraining.data.dataset import some_rows
from playout.agents.pretraining.probes import MAX_CLUSTERED, MAX_ROWS, neighbour_accuracy
from playout.agents.pretraining.probes import linear_accuracy as read
from playout.benchmarks.studies.cases import CoreMinutes
from playout.benchmarks.studies.games.starts import NOTHING
from playout.benchmarks.studies.training.trunks import ALL, ARI, FEW, PIXELS, RIGHT, SHARES, Form
from playout.errors import ConfigError
from playout.rlhf.data.batches import Corpus, pad_right
from playout.rlhf.data.datasets import Datasets, choose_source
from playout.rlhf.data.records import Labelled
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.heads import mean_token
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.classify import (
    ClassifyConfig,
    ClassifyTrainer,
    TextTask,
    linear_baseline,
    make_task,
    measure_predictions,
)
from playout.rlhf.supervised.pretrain import PretrainConfig, PretrainTrainer
from playout.rlhf.supervised.text_scores import encode_texts
from playout.rlhf.supervised.trainer import LearnConfig

TASKS = {"spam": "messages' classes", "reviews": "reviews' classes"}
"""What a probe tells of each."""
NEXT, BOTH = "next token", "next token, then supervised"
WAYS = (NOTHING, NEXT, "supervised", BOTH, PIXELS)
"""How a model is taught; PIXELS stands for TF-IDF of the words themselves."""
LENGTH = 64
"""Tokens of a text, at most."""

Floats = npt.NDArray[np.float32]


@lru_cache(maxsize=4)
def task_of(what: str, source: str) -> tuple[TextTask, Tokenizer]:
    """Labelled texts, and a tokenizer of those to learn from.

    Args:
        what: "spam"; or "reviews", whose class is whether they are rated above the median.
        source: as `choose_source` takes it.
    """
    data = Datasets(choose_source(source))
    if what == "spam":
        task = make_task(*data.labelled())
    else:
        train, test = data.rated()
        middle = float(np.median([item.mean for item in train]))
        named = [
            [Labelled(item.text, "good" if item.mean > middle else "bad") for item in side]
            for side in (train, test)
        ]
        task = make_task(*named)
    return task, Tokenizer.train(task.train[0], vocab_size=512 if source == "synthetic" else 2048)


def model_of(tokenizer: Tokenizer, width: int, seed: int) -> Transformer:
    """A decoder of two layers that has learned nothing."""
    heads = max(1, width // 16)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=LENGTH,
    )
    return Transformer(config, seed=seed)


@torch.no_grad()
def features(model: Transformer, tokenizer: Tokenizer, texts: list[str]) -> Floats:
    """float32 [N, width]: the mean of the states of each text's tokens."""
    rows, parts = encode_texts(tokenizer, texts, LENGTH), []
    for start in range(0, len(rows), 256):
        ids, lengths = pad_right(rows[start : start + 256], tokenizer.pad_id)
        parts.append(mean_token(model(ids), lengths))
    return torch.cat(parts).numpy()


def labelled(numbers: npt.NDArray[np.int64], share: float, seed: int) -> npt.NDArray[np.int64]:
    """Rows of a share of each class, at least one, and at most MAX_ROWS in all."""
    rng = np.random.default_rng([seed, 41])
    parts = []
    for number in np.unique(numbers):
        rows = rng.permutation(np.flatnonzero(numbers == number))
        parts.append(rows[: max(1, round(share * len(rows)))])
    return some_rows(np.sort(np.concatenate(parts)), MAX_ROWS, seed=seed)


def words_alone(task: TextTask, seed: int) -> dict[str, Any]:
    """The row of TF-IDF with logistic regression, with the labels of that seed."""
    texts, numbers = task.train
    found: dict[str, Any] = {"paradigm": "the words themselves (TF-IDF)"}
    for name, share in zip((FEW, ALL), SHARES, strict=True):
        rows = labelled(np.array(numbers, np.int64), share, seed)
        part = [texts[row] for row in rows], [numbers[row] for row in rows]
        one = TextTask(part, task.test, task.classes)
        found[name] = measure_predictions(linear_baseline(one), one)["accuracy"]
    return found | {ARI: None}


def taught(
    way: str, task: TextTask, tokenizer: Tokenizer, form: Form, seed: int
) -> tuple[Transformer, float | None]:
    """A model after the form's steps of each objective, and classes right, if it learned them."""
    model, right = model_of(tokenizer, form.width, seed), None
    if way in (NEXT, BOTH):
        corpus = Corpus.of(tokenizer, task.train[0])
        settings = PretrainConfig(
            steps=form.steps, rows=form.batch, length=LENGTH, learn=LearnConfig(2e-3)
        )
        reader = PretrainTrainer(model, corpus, corpus, settings, seed=seed)
        while not reader.finished:
            reader.update()
    if way in ("supervised", BOTH):
        config = ClassifyConfig(form.steps, form.batch, LENGTH, LearnConfig(1e-3))
        trainer = ClassifyTrainer(model, tokenizer, task, config, seed=seed)
        while not trainer.finished:
            trainer.update()
        right = trainer.evaluate()["eval/accuracy"]
    return model.eval(), right


def told(what: str, way: str, form: Form, seed: int) -> tuple[dict[str, Any], None]:
    """The row of a way to teach; texts have no maps.

    Args:
        what: of TASKS.
        way: of WAYS.
        form: see Form.
        seed: of all that is random.
    """
    task, tokenizer = task_of(what, form.texts)
    if way == PIXELS:
        return words_alone(task, seed), None
    taken = CoreMinutes()
    model, right = taught(way, task, tokenizer, form, seed)
    minutes = taken()
    numbers, wanted = (np.array(side[1], np.int64) for side in (task.train, task.test))
    seen, asked = (features(model, tokenizer, side[0]) for side in (task.train, task.test))
    few, every = (labelled(numbers, share, seed) for share in SHARES)
    count = len(task.classes)
    row: dict[str, Any] = {
        "paradigm": "none (fresh weights)" if way == NOTHING else way,
        "labels used": 0 if right is None else len(numbers),
        "minutes": minutes,
    }
    for name, rows in ((FEW, few), (ALL, every)):
        row[name] = read(seen[rows], numbers[rows], asked, wanted, count, seed=seed)
    row["5 neighbours"] = neighbour_accuracy(seen[every], numbers[every], asked, wanted, count)
    rows = some_rows(np.arange(len(wanted)), MAX_CLUSTERED)
    try:
        row[ARI] = cluster_scores(asked[rows], wanted[rows], count, seed=seed)["ari"]
    except ConfigError:  # scikit-learn is not there
        row[ARI] = None
    row[RIGHT] = right
    print(f"{what}, {row['paradigm']}, seed {seed}: {row[FEW]:.3f}", flush=True)
    return row, None

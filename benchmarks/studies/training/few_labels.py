"""What does reading text first buy a classifier? Pretrained and fresh models on 100 labels or more.

A small Transformer learns which messages are spam, and how people rated sentences of reviews, from
100, from 1,000 and from all labels: as it begins, after next tokens (a decoder), or after masked
ones (an encoder). Few labels are drawn several times, since which ones are known decides much. A
larger decoder, which has read twice as long, has all labels only. Whatever is read holds no
held-out text. TF-IDF stands beside them.

    python -m playout.benchmarks.studies.training.few_labels --quick
    python -m playout.benchmarks.studies.training.few_labels --seeds 0 1 2
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from playout.benchmarks.studies.cases import (
    difference_of_seeds,
    mean_of_seeds,
    side_by_side,
    study_parser,
)
from playout.benchmarks.studies.page import Page, compared, with_half
from playout.benchmarks.studies.training.fresh import fresh_model
from playout.rlhf.data.batches import Corpus
from playout.rlhf.data.corpora import RATED
from playout.rlhf.data.datasets import Datasets, choose_source
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.heads import MaskedTokenHead
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.supervised.classify import (
    ClassifyConfig,
    ClassifyTrainer,
    TextTask,
    linear_baseline,
    make_task,
    measure_predictions,
)
from playout.rlhf.supervised.pretrain import MaskedTrainer, PretrainConfig, PretrainTrainer
from playout.rlhf.supervised.trainer import LearnConfig

TASKS = {"ratings": "pair_accuracy", "spam": "accuracy"}
"""What is told apart, and what counts: pairs in the order of their ratings, or classes right."""
FRESH = {"next": "decoder, fresh", "masked": "encoder, fresh"}
READ = {
    "next": "decoder, next tokens first",
    "masked": "encoder, masked tokens first",
    "larger": "larger decoder, next tokens first",
}
WORDS = "TF-IDF"
COMMAND = "python -m playout.benchmarks.studies.training.few_labels"
LENGTH = 64
"""Tokens of a text, at most; rows of pretraining are twice as long."""


@dataclass(frozen=True, slots=True)
class Form:
    """What all seeds share.

    Attributes:
        source: Of the texts, as `choose_source` takes it.
        read: Data sets that are read before, besides the messages; none: the made-up ones.
        width: Of the models.
        layers: Of the models.
        vocabulary: Of their tokenizer.
        steps: Of reading next tokens.
        masked_steps: Of reading masked ones: a step has a target only where something is hidden.
        mask: Share of the tokens that are hidden.
        rows: A step of reading.
        counts: Labels (0 stands for all), steps of learning from them, and how often so many are
            drawn: one row has the mean of these draws.
        batch: Labelled texts a step.
        rate: Learning rate of learning from labels, the best of 1e-4 to 4e-3 for what has read;
            from fresh weights rates from 1e-3 on do alike.
    """

    source: str = "real"
    read: tuple[str, ...] = ("film-reviews", *RATED)
    width: int = 64
    layers: int = 2
    vocabulary: int = 4096
    steps: int = 3000
    masked_steps: int = 6000
    mask: float = 0.3
    rows: int = 16
    counts: tuple[tuple[int, int, int], ...] = ((100, 150, 8), (1000, 400, 3), (0, 1000, 1))
    batch: int = 32
    rate: float = 1e-3


LARGER = Form(width=128, layers=4, steps=6000, counts=((0, 1000, 1),), rate=5e-4)
QUICK = Form("synthetic", (), 32, 2, 384, 60, 60, 0.3, 8, ((100, 30, 2), (0, 60, 1)), 16)
QUICK_LARGER = replace(QUICK, width=48, layers=3, steps=80, counts=((0, 60, 1),))


@lru_cache(maxsize=1)
def material(form: Form) -> tuple[dict[str, TextTask], list[str], Tokenizer]:
    """The tasks, the texts to read before, and a tokenizer of those."""
    data = Datasets(choose_source(form.source))
    tasks = {"ratings": make_task(*data.rated()), "spam": make_task(*data.labelled())}
    held_out = {" ".join(text.split()) for task in tasks.values() for text in task.test[0]}
    texts = data.texts(form.read)[0] + tasks["spam"].train[0]
    texts = [text for text in texts if " ".join(text.split()) not in held_out]
    return tasks, texts, Tokenizer.train(texts, vocab_size=form.vocabulary)


def fresh(form: Form, tokenizer: Tokenizer, kind: str, seed: int) -> Transformer:
    """A decoder or an encoder that has learned nothing."""
    return fresh_model(
        tokenizer,
        width=form.width,
        layers=form.layers,
        context=2 * LENGTH,
        seed=seed,
        causal=kind != "masked",
    )


def read(form: Form, model: Transformer, kind: str, seed: int) -> float:
    """Teaches a model how texts go on, or what is hidden in them; gives the last loss, in nats."""
    _, texts, tokenizer = material(form)
    config = PretrainConfig(
        steps=form.masked_steps if kind == "masked" else form.steps,
        rows=form.rows,
        length=2 * LENGTH,
        mask=form.mask,
        learn=LearnConfig(learning_rate=2e-3, weight_decay=0.1),
    )
    trainer: PretrainTrainer | MaskedTrainer
    if kind != "masked":
        corpus = Corpus.of(tokenizer, texts)
        trainer = PretrainTrainer(model, corpus, corpus, config, seed=seed)
    else:
        head = MaskedTokenHead(model.config, seed=seed + 1)
        trainer = MaskedTrainer(model, head, tokenizer, (texts, texts), config, seed=seed)
    losses = []
    while not trainer.finished:
        losses.append(trainer.update()["train/loss"])
    return float(np.mean(losses[-100:]))


def labelled(task: TextTask, count: int, seed: int, draw: int = 0) -> TextTask:
    """A task with so many of its labels (0: all); fewer ones are among more ones of a draw."""
    order = np.random.default_rng([seed, 53, draw]).permutation(len(task.train[0]))
    rows = order[: count or len(order)]
    return replace(task, train=([task.train[0][i] for i in rows], [task.train[1][i] for i in rows]))


def case(form: Form, kind: str, reads: bool, seed: int) -> list[dict[str, Any]]:
    """A row for each task and number of labels.

    Args:
        form: See Form.
        kind: Of READ; or WORDS, which reads nothing.
        reads: Whether it is taught by text alone before.
        seed: Of first weights, of all orders and of which labels are known.
    """
    tasks, _, tokenizer = material(form)
    begun = None if kind == WORDS else fresh(form, tokenizer, kind, seed)
    loss = read(form, begun, kind, seed) if reads and begun is not None else None
    rows = []
    for name, measure in TASKS.items():
        for count, steps, draws in form.counts:
            config = ClassifyConfig(steps, form.batch, LENGTH, LearnConfig(form.rate))
            right = []
            for draw in range(draws):
                task = labelled(tasks[name], count, seed, draw)
                if begun is None:
                    right.append(measure_predictions(linear_baseline(task), task)[measure])
                    continue
                model = copy.deepcopy(begun)
                trainer = ClassifyTrainer(model, tokenizer, task, config, seed=seed + 100 * draw)
                while not trainer.finished:
                    trainer.update()
                right.append(trainer.evaluate()[f"eval/{measure}"])
            found = float(np.mean(right))
            way = WORDS if begun is None else (READ if reads else FRESH)[kind]
            row = {"task": name, "labels": len(task.train[0]), "model": way, "seed": seed}
            row |= {"all": not count, "draws": draws, "right": found, "loss of reading": loss}
            rows.append(row)
            print(f"{name}, {row['labels']} labels, {way}, seed {seed}: {found:.3f}", flush=True)
    return rows


Numbers = dict[str, tuple[float, float]]
"""Per cent right by model: the mean over seeds, and half of its 95 % interval."""


def compare(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Numbers], list[str]]:
    """Per cent right by task and labels, and what reading bought in sentences."""
    found, said = {}, []
    for task, labels in dict.fromkeys((row["task"], row["labels"]) for row in rows):
        here = [row for row in rows if (row["task"], row["labels"]) == (task, labels)]
        right = {
            model: [100 * row["right"] for row in here if row["model"] == model]
            for model in dict.fromkeys(row["model"] for row in here)
        }
        name = f"{task}, {labels:,} labels"
        found[name] = {model: mean_of_seeds(values) for model, values in right.items()}
        for kind, begun in FRESH.items():
            mean, half = difference_of_seeds(right[READ[kind]], right[begun])
            said.append(f"{name}: {READ[kind]}, {compared(mean, half, f'the {begun}', 'points')}")
        if larger := right.get(READ["larger"]):
            mean, half = difference_of_seeds(larger, right[WORDS])
            said.append(f"{name}: {READ['larger']}, {compared(mean, half, WORDS, 'points')}")
    return found, said


def claims_of(found: dict[str, Numbers], seeds: int) -> list[dict[str, Any]]:
    """The table as tools/report.py reads it, and the larger decoder beside TF-IDF."""
    beside = [
        {
            "claim": f"{name}: {READ['larger']} ({seeds} seeds)",
            "ours": numbers[READ["larger"]][0],
            "peer": numbers[WORDS][0],
            "peer_name": WORDS,
            "unit": "%",
            "ratio": numbers[READ["larger"]][0] / numbers[WORDS][0],
            "target": 1.0,
            "command": COMMAND,
        }
        for name, numbers in found.items()
        if READ["larger"] in numbers and name.startswith("ratings")
    ]
    return beside + [
        {
            "claim": f"{name}: {model}",
            "row": f"{name} ({seeds} seeds)",
            "column": model,
            "ours": {"median": mean, "min": mean - half, "max": mean + half},
            "unit": "%",
            "command": COMMAND,
        }
        for name, numbers in found.items()
        for model, (mean, half) in numbers.items()
    ]


def main(quick: bool = False, seeds: Sequence[int] = (), folder: Path | None = None) -> int:
    """Run the study and write its page.

    Args:
        quick: Tiny models on made-up texts; says nothing about the method.
        seeds: Three by default, one in the quick form.
        folder: For the page and what is kept of cases.
    """
    form, larger = (QUICK, QUICK_LARGER) if quick else (Form(), LARGER)
    seeds = tuple(seeds or ((0,) if quick else (0, 1, 2)))
    folder = folder or Path("runs/few-labels")
    ways = [(kind, reads) for kind in FRESH for reads in (True, False)] + [(WORDS, False)]
    cases = [(larger, "larger", True, seed) for seed in seeds]
    cases += [(form, kind, reads, seed) for seed in seeds for kind, reads in ways]
    found = side_by_side(case, cases, kept=folder / "cases.jsonl")
    rows = [row for part in found[len(seeds) :] + found[: len(seeds)] for row in part]
    right, said = compare(rows)
    draws = ", ".join(f"{many} (of {count or 'all'} labels)" for count, _, many in form.counts)
    page = Page("Few labels", __doc__.split("\n", 1)[0], quick=quick)
    page.text(
        f"Held-out pairs of ratings in the right order, and messages told rightly, in %, over "
        f"{len(seeds)} seeds with 95 % intervals. Models are {form.width} wide with {form.layers} "
        f"layers; a decoder reads {form.steps:,} steps of {form.rows * 2 * LENGTH:,} tokens "
        f"before, an encoder {form.masked_steps:,} with {form.mask:.0%} of them hidden. The larger "
        f"decoder is {larger.width} wide with {larger.layers} layers and reads {larger.steps:,}. "
        f"Numbers are means of {draws} draws of which labels are known."
    )
    names = dict.fromkeys(model for numbers in right.values() for model in numbers)
    table = [
        {
            "": name,
            **{
                model: with_half(*numbers[model], "{:.1f}") if model in numbers else ""
                for model in names
            },
        }
        for name, numbers in right.items()
    ]
    page.table(table, "Right, of held-out texts, in %")
    page.findings(said)
    print("\n".join(said))
    print(f"wrote {page.write(folder)}")
    if not quick:
        payload = {"rows": rows, "claims": claims_of(right, len(seeds))}
        settings = {**asdict(form), "seeds": list(seeds)}
        print(f"wrote {page.publish(folder, 'few_labels', payload, **settings)}")
    return 0


if __name__ == "__main__":
    given = study_parser(__doc__).parse_args()
    raise SystemExit(main(given.quick, given.seeds, given.folder))

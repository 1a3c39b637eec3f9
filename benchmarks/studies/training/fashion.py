"""What a trunk of pictures reaches on Fashion-MNIST: all labels, a hundredth of them, and none.

Supervised runs as a person makes them, the whole test side told apart; runs that learned how near
pictures are alike, fine-tuned on 1 % of the labels beside fresh weights, and their clusters beside
those of pixels; the bound of a variational autoencoder beside a plain PyTorch one of fully
connected layers; and epochs beside a plain PyTorch loop on the same network. Cases run side by
side, one a core.

    python -m playout.benchmarks.studies.training.fashion --seeds 0 1 2 [--quick]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import playout
import torch
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Augmentation, Split
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.data.sources import load
from playout.agents.pretraining.probes import probe
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import Trunk, new_trunk
from playout.agents.runs.metrics import read_rows
from playout.benchmarks.studies.cases import (
    difference_of_seeds,
    kept_run,
    mean_of_seeds,
    side_by_side,
    study_parser,
)
from playout.benchmarks.studies.page import Page, with_half
from playout.benchmarks.studies.training.trunks import all_held_out
from playout.benchmarks.tools.measuring import Rate, measure, processor, short
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

COMMAND = "python -m playout.benchmarks.studies.training.fashion --seeds 0 1 2"
FEW = 0.01
"""Share of the labels."""
FRESH, TAUGHT = "fresh weights", "contrastive"
PLAIN = "plain PyTorch"
BOUND_BATCH = 128
"""Pictures a step of both autoencoders, as PyTorch's own example has it."""
PEOPLE = 83.5
"""Per cent of the classes that people tell right (H. Xiao et al., "Fashion-MNIST", 2017)."""


@dataclass(frozen=True, slots=True)
class Form:
    """Sizes of a form of the study.

    Attributes:
        data: As pretrain-trunk takes it.
        classifier: Network of supervised runs ...
        minutes: ... and how long each takes.
        network: Of what learns without labels, and of what is timed.
        alone: Epochs without labels.
        bound_epochs: Of both autoencoders.
        timed: Steps in a round, and rounds.
    """

    data: str
    classifier: str
    minutes: float
    network: str
    alone: float
    bound_epochs: int
    timed: tuple[int, int]


FULL = Form("fashion-mnist", "resnet-8", 20.0, "impala", 4.0, 5, (100, 7))
QUICK = Form("digits", "resnet-8", 0.2, "grid", 4.0, 3, (25, 3))


@lru_cache(maxsize=1)
def data_of(name: str) -> Split:
    """Read once, for all processes."""
    return load(name)


def supervised(form: Form, seed: int, folder: Path) -> dict[str, float]:
    """What a supervised run tells of the whole test side, and the minutes that it took."""
    mirrored = Augmentation(flip=True) if form.data == FULL.data else Augmentation()
    settings = {"network": form.classifier, "minutes": form.minutes, "seed": seed, "threads": 1,
                "optimizer": "muon", "augment": mirrored}  # fmt: skip
    run = kept_run(folder / f"supervised-{seed}", playout.pretrain_trunk, form.data, settings)
    found = playout.evaluate(run.path)
    minutes = [*read_rows(run.path)][-1]["time/elapsed"] / 60
    return {"right": float(found["eval/accuracy"]), "minutes": minutes}


def alone(form: Form, seed: int, folder: Path) -> dict[str, float]:
    """Fine-tuned on few labels, from a trunk without any and from fresh weights; clusters."""
    data = data_of(form.data)
    augment = Augmentation(crop=0.3, flip=form.data == FULL.data)
    settings = {"objective": TAUGHT, "network": form.network, "epochs": form.alone, "seed": seed,
                "threads": 1, "partner": "neighbour", "hide": 0.0, "augment": augment}  # fmt: skip
    run = kept_run(folder / f"{TAUGHT}-{seed}", playout.pretrain_trunk, form.data, settings)
    trunks = {TAUGHT: playout.load(run.path).trunk, FRESH: fresh(form, seed)}
    found = {}
    for name, trunk in trunks.items():
        (row,) = probe(trunk, data, "finetune", shares=(FEW,), seed=seed)["rows"]
        found[name] = float(row["accuracy"])
    clusters = probe(trunks[TAUGHT], data, "clusters", seed=seed)
    return {**found, **{f"ARI, {key}": float(clusters[key]["ari"]) for key in ("trunk", "pixels")}}


def fresh(form: Form, seed: int) -> Trunk:
    """One that has learned nothing."""
    return new_trunk(data_of(form.data).train, network=form.network, size="base", seed=seed)


class PlainAutoencoder(nn.Module):
    """A variational autoencoder of fully connected layers, as Kingma and Welling 2014 have it."""

    def __init__(self, pixels: int, latent: int, hidden: int = 400) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent)
        )
        self.decode = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels))

    def bound(self, x: Tensor) -> Tensor:
        """Nats a picture that the bound leaves unexplained, [N], of pictures [N, pixels]."""
        mean, log_variance = self.encode(x).chunk(2, dim=1)
        logits = self.decode(mean + torch.randn_like(mean) * (log_variance / 2).exp())
        drawn = functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        normal = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
        found: Tensor = drawn + normal
        return found


def loader(data: Pictures, batch: int) -> DataLoader[tuple[Tensor, ...]]:
    """PyTorch's own, of bytes in memory."""
    both = TensorDataset(torch.tensor(data.pixels), torch.tensor(data.labels))
    return DataLoader(both, batch_size=batch, shuffle=True, drop_last=True)


def bound(form: Form, seed: int, folder: Path) -> dict[str, float]:
    """Nats a held-out picture by our autoencoder and by the plain one, after as many steps."""
    data, config = data_of(form.data), PretrainConfig(objective="vae", batch=BOUND_BATCH)
    trunk = fresh(form, seed)
    steps = form.bound_epochs * (len(data.train) // config.batch)
    trainer = PretrainTrainer(trunk, data, config, steps=steps, seed=seed)
    try:
        while not trainer.finished:
            trainer.update()
        ours = -all_held_out(trainer)["elbo"]
    finally:
        trainer.close()
    torch.manual_seed(seed)
    train, test = data.train, data.test
    assert isinstance(train, Pictures) and isinstance(test, Pictures)
    net = PlainAutoencoder(int(np.prod(train.shape)), config.latent)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(form.bound_epochs):
        for pixels, _ in loader(train, config.batch):
            optimizer.zero_grad()
            net.bound(pixels.flatten(1).float() / 255).mean().backward()
            optimizer.step()
    with torch.no_grad():
        theirs = net.bound(torch.from_numpy(test.pixels).flatten(1).float() / 255).mean()
    return {"ours": float(ours), PLAIN: float(theirs)}


def speeds(form: Form) -> dict[str, list[float]]:
    """Pictures learned from a second, by our trainer and by a plain loop, turn about: all runs.

    This process has one core, which our thread that prepares batches shares.
    """
    steps, rounds = form.timed
    config = PretrainConfig(augment=Augmentation(shift=0.0))
    trainer = PretrainTrainer(fresh(form, 0), data_of(form.data), config, steps=1_000_000)
    trainer.steps_an_update = steps

    def ours() -> float:
        trainer.update()
        return steps * config.batch

    try:
        found = measure({"playout": ours, PLAIN: plain_steps(form, steps)}, repeats=rounds)
    finally:
        trainer.close()
    return {name: [*rate.runs] for name, rate in found.items()}


def plain_steps(form: Form, steps: int) -> Callable[[], float]:
    """The same network in a loop as PyTorch's tutorials have it."""
    train, batch = data_of(form.data).train, PretrainConfig().batch
    assert isinstance(train, Pictures)
    trunk = fresh(form, 0)
    head = nn.Linear(trunk.num_features, len(train.classes))
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        while True:
            yield from loader(train, batch)

    coming = batches()

    def run() -> float:
        for _ in range(steps):
            pixels, labels = next(coming)
            optimizer.zero_grad()
            logits = head(trunk.vector(pixels.float() / 255))
            functional.cross_entropy(logits, labels).backward()
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
        return steps * batch

    return run


def case(what: str, form: Form, seed: int, folder: Path) -> dict[str, Any]:
    """A part of the study, wherever this process is, and on which processor."""
    begun = time.monotonic()
    found = PARTS[what](form, seed, folder)
    print(f"{what}, seed {seed}: {found}, {time.monotonic() - begun:.0f} s", flush=True)
    return {**found, "processor": processor()}


PARTS: Mapping[str, Callable[[Form, int, Path], dict[str, float]]] = {
    "supervised": supervised,
    "alone": alone,
    "bound": bound,
}


Rows = Sequence[Mapping[str, Any]]


def claim(text: str, ours: Any, unit: str, **more: Any) -> dict[str, Any]:
    """What was found beside what is wanted, as tools/report.py reads it."""
    return {"claim": text, "ours": ours, "unit": unit, "command": COMMAND, **more}


def column(rows: Rows, key: str, scale: float = 1.0) -> list[float]:
    """A number a seed."""
    return [scale * row[key] for row in rows]


def elsewhere(rows: Rows) -> str:
    """Other processors than this one, on which parts of a folder were measured; mostly none."""
    others = sorted({row.get("processor", processor()) for row in rows} - {processor()})
    return "".join(f"; on {name}" for name in others)


def claims_of(found: Mapping[str, Rows], rates: Mapping[str, Rate]) -> list[dict[str, Any]]:
    """Those of the parts that were measured, and of speed."""
    claims = []
    if rows := found.get("supervised"):
        right, minutes = column(rows, "right", 100), max(column(rows, "minutes"))
        claims.append(claim(
            f"classes of Fashion-MNIST's 10,000 test pictures, all labels, {FULL.classifier}, at "
            f"most {minutes:.0f} minutes on one core", float(np.mean(right)), "%", target=93.5,
            note=f"{with_half(*mean_of_seeds(right), '{:.2f}')} over {len(right)} seeds; people "
            f"{PEOPLE}{elsewhere(rows)}",
        ))  # fmt: skip
    if rows := found.get("alone"):
        few, scratch = column(rows, TAUGHT, 100), column(rows, FRESH, 100)
        more, half = difference_of_seeds(few, scratch)
        groups, pixels = (float(np.mean(column(rows, f"ARI, {x}"))) for x in ("trunk", "pixels"))
        claims += [
            claim(
                "points more by fine-tuning on 1 % of the labels, from a trunk that learned near "
                "pictures to be alike instead of from fresh weights", more, "points", target=5,
                note=f"{with_half(more, half, '{:.1f}')}: {np.mean(few):.1f} and "
                f"{np.mean(scratch):.1f} %{elsewhere(rows)}",
            ),
            claim(
                "ARI of k-means more on features of that trunk than on pixels", groups - pixels, "",
                target=0.1, note=f"{groups:.3f} and {pixels:.3f}",
            ),
        ]  # fmt: skip
    if rows := found.get("bound"):
        ours, theirs = (float(np.mean(column(rows, key))) for key in ("ours", PLAIN))
        claims.append(claim(
            "nats a held-out picture by the variational autoencoder, fewer are better", ours,
            "nats", peer=theirs, peer_name="fully connected layers in plain PyTorch",
            ratio=theirs / ours, target=0.95,
        ))  # fmt: skip
    return [*claims, claim(
        "pictures learned from a second, on one core", rates["playout"], "pictures/s",
        peer=rates[PLAIN], peer_name="a plain PyTorch loop on the same network",
        ratio=rates["playout"].over(rates[PLAIN]), target=1,
    )]  # fmt: skip


def sentence(claim: Mapping[str, Any]) -> str:
    """A claim as the page tells it."""
    peer = f"; {claim['peer_name']}: {shown_number(claim['peer'])}" if "peer" in claim else ""
    note = f" ({claim['note']})" if "note" in claim else ""
    return f"{claim['claim']}: {shown_number(claim['ours'])} {claim['unit']}{note}{peer}."


def shown_number(value: Any) -> str:
    """A number, or a rate, in a sentence."""
    return short(value) if isinstance(value, float) else str(value)


def main(
    quick: bool = False,
    seeds: tuple[int, ...] = (),
    folder: Path | None = None,
    parts: Sequence[str] = tuple(PARTS),
) -> int:
    """Runs the study, or some of its parts, and writes its page."""
    torch.set_num_threads(1)
    form, seeds = (QUICK, seeds or (0,)) if quick else (FULL, seeds or (0, 1, 2))
    folder = folder or Path("runs") / ("fashion-quick" if quick else "fashion")
    folder.mkdir(parents=True, exist_ok=True)
    data_of(form.data)
    cases = [(what, form, seed, folder) for what in parts for seed in seeds]
    results = iter(side_by_side(case, cases, kept=folder / "cases.jsonl"))
    found = {what: [next(results) for _ in seeds] for what in parts}
    (runs,) = side_by_side(speeds, [(form,)])
    rates = {name: Rate.of(of_one) for name, of_one in runs.items()}
    page = Page(
        "What a trunk of pictures reaches",
        f"On {form.data}, one core a run: with all labels, with a hundredth, with none?",
        quick=quick,
    )
    for what, rows in found.items():
        page.table([{"seed": s, **row} for s, row in zip(seeds, rows, strict=True)], what)
    claims = claims_of(found, rates)
    page.findings([sentence(one) for one in claims])
    print(f"wrote {page.write(folder)}")
    if not quick:
        payload = {**found, "claims": claims}
        print(f"wrote {page.publish(folder, 'fashion', payload, seeds=list(seeds))}")
    return 0


if __name__ == "__main__":
    parser = study_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS])
    given = parser.parse_args()
    raise SystemExit(main(given.quick, tuple(given.seeds), given.folder, given.parts))

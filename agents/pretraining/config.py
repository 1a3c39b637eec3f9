"""Every setting of pretraining a trunk. No torch, so that `--help` stays quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter

from playout.agents.optim.names import check_optimizer
from playout.agents.pretraining.data.dataset import Augmentation
from playout.errors import ConfigError

OBJECTIVES = (
    "supervised",
    "autoencoder",
    "vae",
    "masked",
    "rotation",
    "patches",
    "colour",
    "contrastive",
    "next",
)

CHANNELS = "channels"
"""The pattern that removes instead of setting to zero."""

_AUGMENTATIONS = (
    "augment.shift",
    "augment.flip",
    "augment.erase",
    "augment.crop",
    "augment.symmetries",
)
_LABELS_ALONE = ("loss", "label_smoothing", "mixup", "balance")
_OF = {
    **dict.fromkeys(
        (*_LABELS_ALONE, "labels", "dropout", "teacher", "teacher_temperature", "label_weight"),
        ("supervised",),
    ),
    "latent": ("autoencoder", "vae"),
    "beta": ("vae",),
    "mask": ("masked",),
    "patch": ("masked",),
    "pairs": ("contrastive",),
    "temperature": ("contrastive",),
    "hide": ("contrastive",),
    "partner": ("contrastive",),
}
"""Settings that only some objectives read."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How a trunk is taught."""

    objective: str = "supervised"
    """supervised, autoencoder, vae, masked, rotation, patches, colour, contrastive, or of positions
    next: the one after the next move."""
    network: str = "auto"
    """Of pictures: impala, impala-2x (auto), impala-4x, resnet-8 (normalised), grid or nature; of
    positions a resnet."""
    size: str = "base"
    """Of a board's network, as for self-play: tiny to large, or CHANNELSxBLOCKS."""
    epochs: float = 10.0
    """Passes over the data, where no --minutes are given."""
    batch: int = 256
    """Pictures, or positions, a gradient step."""
    optimizer: str = "adamw"
    """sgd, momentum, adam, adamw or muon (for convolutions, with adamw for the rest)."""
    learning_rate: float = 0.0
    """At its highest, after a warm-up and before a cosine; 0: what suits the optimiser."""
    weight_decay: float = 0.05
    """Of matrices and convolutions, decoupled, times the learning rate; adam has none."""
    warmup: float = 0.05
    """Share of training in which the learning rate rises."""
    trunk_rate: float = 1.0
    """With --init: the share of the learning rate for weights below the heads that were begun from;
    0 leaves them as they are."""
    max_grad_norm: float = 5.0
    """Gradients are clipped to it; 0 leaves them as they are."""
    labels: float = 1.0
    """Share of the labels to learn from, of supervised."""
    balance: bool = False
    """Weigh classes by how rare they are, of supervised; of positions outcomes, beside moves."""
    loss: str = "cross_entropy"
    """cross_entropy, mse, mae (bears wrong labels) or focal (for rare classes), of supervised; of
    positions that of the outcome, beside the cross entropy of moves."""
    label_smoothing: float = 0.0
    """Share of a label spread over all classes, of supervised; of positions, of what is to be
    played over all moves, and of the outcome towards a draw."""
    mixup: float = 0.0
    """Blend pairs of pictures by Beta(mixup, mixup), of supervised pictures; 0 does not."""
    teacher: str = ""
    """Run of pretrain-trunk or alphazero whose answers supervised imitates (distillation), as its
    best checkpoint gives them."""
    teacher_temperature: float = 2.0
    """At which a teacher's classes are imitated."""
    label_weight: float = 0.1
    """Of the labels beside a teacher's classes."""
    sparsity: float = 0.0
    """Share of the trunk's weights that go before the first step."""
    pattern: str = "unstructured"
    """Which: the smallest of a layer (unstructured) or two of every four (2:4) become zero and stay
    there; of a board's network from --init whole channels inside its blocks are removed (channels),
    and it is smaller and faster for it."""
    dropout: float = 0.0
    """Before the head, of supervised pictures."""
    latent: int = 32
    """Numbers between the halves of autoencoder and vae."""
    beta: float = 1.0
    """Weight of the KL of vae."""
    mask: float = 0.5
    """Share of the patches that masked hides."""
    patch: int = 0
    """Side of what masked hides; 0: a seventh of a picture, a cell of a board."""
    pairs: str = "infonce"
    """infonce, with the rest of the batch as negatives, or vicreg without any, of contrastive."""
    temperature: float = 0.5
    """Of infonce."""
    hide: float = 0.25
    """Share of each view that contrastive hides."""
    partner: str = "itself"
    """What contrastive shows as the second view: the same picture, or position, once more (itself),
    or one of the 15 that are nearest to it by their own numbers (neighbour)."""
    patience: int = 0
    """Stop after so many evaluations without a better one; 0 goes on."""
    augment: Augmentation = field(default_factory=Augmentation)
    """How data change from one epoch to the next."""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise ConfigError(f"unknown objective {self.objective!r}; known are {known}")
        check_optimizer(self.optimizer)
        for name in ("epochs", "batch"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"--{name} must be positive, not {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "max_grad_norm", "patience", "trunk_rate"):
            if getattr(self, name) < 0:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"--warmup must be from 0 to below 1, not {self.warmup}")
        if not 0 < self.labels <= 1:
            raise ConfigError(f"--labels must be above 0 and at most 1, not {self.labels}")

    def refuse_unused(self, *, pictures: bool, begun: bool = False) -> None:
        """Raises ConfigError for a setting that would do nothing.

        Args:
            pictures: whether the data are pictures; else positions of a game.
            begun: whether the trunk is one of an earlier run.
        """
        if self.pattern == CHANNELS and self.sparsity and (pictures or not begun):
            raise ConfigError(
                f"--pattern {CHANNELS} removes channels of a board network that --init names"
            )
        plain = PretrainConfig()
        why: dict[str, str] = {}
        if not begun:
            why["trunk_rate"] = "without --init"
        if self.optimizer == "adam":
            why["weight_decay"] = "with --optimizer adam"
        if not self.sparsity:
            why["pattern"] = "without --sparsity"
        if not self.teacher:
            why |= dict.fromkeys(("teacher_temperature", "label_weight"), "without --teacher")
        else:
            why |= dict.fromkeys(_LABELS_ALONE, "beside --teacher")
            if not pictures:
                taught = ("labels", "teacher_temperature", "label_weight")
                why |= dict.fromkeys(taught, "beside --teacher, of positions")
        *of_pictures, of_positions = _AUGMENTATIONS
        if pictures:
            why |= dict.fromkeys(("size", of_positions), "with pictures")
        else:
            why |= dict.fromkeys(("mixup", "dropout", *of_pictures), "with positions")
        if self.objective == "vae":
            why |= dict.fromkeys(_AUGMENTATIONS, "with --objective vae")
        if self.pairs == "vicreg":
            why["temperature"] = "with --pairs vicreg"
        for name, objectives in _OF.items():
            if self.objective not in objectives:
                why[name] = f"with --objective {self.objective}"
        for name, reason in why.items():
            value = attrgetter(name)
            if value(self) != value(plain):
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag} does nothing {reason}: leave it out")

    @property
    def peak_rate(self) -> float:
        """The learning rate at its highest."""
        rates = {"sgd": 0.1, "momentum": 0.02, "muon": 4e-3}
        return self.learning_rate or rates.get(self.optimizer, 1e-3)

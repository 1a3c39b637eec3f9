"""The objective that settings name, for a trunk and its data."""

from __future__ import annotations

import numpy as np
import torch
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Dataset, check_labels, some_rows
from playout.agents.pretraining.data.positions import DRAW, Positions
from playout.agents.pretraining.objectives.contrastive import Contrastive
from playout.agents.pretraining.objectives.distillation import (
    DistilledClasses,
    DistilledOutcomes,
)
from playout.agents.pretraining.objectives.following import Following
from playout.agents.pretraining.objectives.labels import Classes, Outcomes
from playout.agents.pretraining.objectives.objective import Objective
from playout.agents.pretraining.objectives.pretext import Colour, Patches, Rotation, turn
from playout.agents.pretraining.objectives.reconstruction import (
    RECONSTRUCTING,
    Autoencoder,
    Masked,
    VariationalAutoencoder,
)
from playout.agents.pretraining.trunk import Trunk
from playout.errors import ConfigError

LOOKED_AT = 1024
"""Positions whose planes are looked at before something is drawn from them."""


def make_objective(
    trunk: Trunk, data: Dataset, config: PretrainConfig, *, seed: int = 0
) -> Objective:
    """The objective of the settings with fresh heads.

    Raises:
        ConfigError: it does not suit the data. DataError: it needs labels that are not there.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        match config.objective:
            case "autoencoder":
                return Autoencoder(trunk, latent=config.latent)
            case "vae":
                return VariationalAutoencoder(trunk, latent=config.latent, beta=config.beta)
            case "masked":
                return Masked(trunk, mask=config.mask, patch=config.patch)
            case "rotation":
                return Rotation(trunk)
            case "patches":
                return Patches(trunk)
            case "colour":
                return Colour(trunk)
            case "next":
                return Following(trunk)
            case "contrastive":
                return Contrastive(
                    trunk,
                    kind=config.pairs,
                    temperature=config.temperature,
                    hide=config.hide,
                    partner=config.partner,
                )
        check_labels(data)
        if isinstance(data, Positions):
            draws = bool((data.labels == DRAW).any())
            if config.teacher:
                return DistilledOutcomes(trunk, teacher=config.teacher, game=data.game, draws=draws)
            return Outcomes(
                trunk,
                loss=config.loss,
                label_smoothing=config.label_smoothing,
                class_weights=_weights(data) if config.balance else None,
                draws=draws,
            )
        if config.teacher:
            return DistilledClasses(
                trunk,
                data.classes,
                teacher=config.teacher,
                temperature=config.teacher_temperature,
                label_weight=config.label_weight,
                dropout=config.dropout,
            )
        return Classes(
            trunk,
            len(data.classes),
            loss=config.loss,
            label_smoothing=config.label_smoothing,
            class_weights=_weights(data) if config.balance else None,
            mixup=config.mixup,
            dropout=config.dropout,
        )


def must_teach(data: Dataset, config: PretrainConfig) -> None:
    """Raises ConfigError where the objective of a new run could teach nothing.

    What is drawn is told by chances, which numbers below 0 or above 1 are not. No network could
    tell the turns of a game whose boards, turned, are boards of it that are as likely, with or
    without symmetries as augmentation.
    """
    if not isinstance(data, Positions):
        return
    if config.objective in (*RECONSTRUCTING, Following.name):
        shown = data.images(some_rows(np.arange(len(data)), LOOKED_AT))
        if shown.min() < 0 or shown.max() > 1:
            raise ConfigError(
                f"{data.game} shows numbers from {shown.min():g} to {shown.max():g}: --objective "
                f"{config.objective} draws planes from 0 to 1; bring them there in observe(), or "
                "choose another objective"
            )
    if config.objective != "rotation":
        return
    rows = np.arange(min(len(data), 64))
    views = [torch.from_numpy(view) for view in data.views(rows)]
    upright, *_ = views
    for kind in range(1, Rotation.kinds_of(data.shape)):
        turned = turn(upright, torch.full((len(rows),), kind))
        if any(torch.equal(turned, view) for view in views):
            raise ConfigError(
                f"{data.game} has no upright: a turned board is one of its symmetries, which "
                "--objective rotation could not tell; choose another objective"
            )


def _weights(data: Dataset) -> torch.Tensor:
    """float32 [K]: the mean count of a class over its own; classes without a picture weigh 0."""
    counts = np.bincount(data.labels[data.labels >= 0], minlength=len(data.classes))
    mean = counts.sum() / max(1, (counts > 0).sum())
    return torch.tensor(np.where(counts > 0, mean / np.maximum(counts, 1), 0), dtype=torch.float32)
